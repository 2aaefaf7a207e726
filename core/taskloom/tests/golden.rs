//! Payloads as other languages write them, read and written back by a Rust handler.

use std::time::Duration;

use serde_json::Value;
use taskloom::{App, Context, TaskError};

#[test]
fn payloads_go_through_a_handler_unchanged() {
    let text = include_str!("../../../tests/golden/payloads.json");
    let records: Vec<Value> = serde_json::from_str(text).unwrap();
    assert!(records.len() > 20);
    let app = App::open("memory:").unwrap();
    app.task("echo", |value: Value, _: &Context| -> Result<Value, TaskError> { Ok(value) })
        .register()
        .unwrap();
    let running = app.start().unwrap();
    for record in &records {
        let json = record["json"].as_str().unwrap();
        let value: Value = serde_json::from_str(json).unwrap();
        let back: Value = app.submit("echo", &value).unwrap().wait_for(Duration::from_secs(30)).unwrap();
        assert_eq!(back, value, "{json}");
        if value.is_f64() {
            let (sent, came): (f64, f64) = (json.parse().unwrap(), back.as_f64().unwrap());
            assert_eq!(sent.to_bits(), came.to_bits(), "{json}");
        }
    }
    running.stop();
}
