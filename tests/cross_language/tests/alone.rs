//! The peer in Rust by itself. That there is a test of it has its program built with all others, before those in Python
//! start it beside peers in other languages.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

#[test]
fn it_does_what_it_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let mut peer = Command::new(env!("CARGO_BIN_EXE_taskloom-peer"))
        .arg(format!("sqlite:{}", folder.path().join("tasks.db").display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = peer.stdin.take().unwrap();
    let mut lines = BufReader::new(peer.stdout.take().unwrap()).lines();
    let mut ask = |question: Value| -> Value {
        writeln!(input, "{question}").unwrap();
        serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap()
    };
    assert_eq!(ask(json!({"ask": "serve", "names": ["echo"]})), json!({"answer": null}));
    let asked = json!({"text": "a", "number": 1.5, "list": [null]});
    let id = ask(json!({"ask": "submit", "name": "echo", "input": asked}))["answer"].clone();
    let seen = ask(json!({"ask": "wait", "id": id}));
    assert_eq!(seen["answer"]["result"], json!({"by": "rust", "text": "a", "number": 1.5, "list": [null]}));
    let refused = ask(json!({"ask": "submit", "name": "ecoh", "input": null}));
    assert_eq!(refused["error"], json!("TL1101"));
    drop(input);
    assert!(peer.wait().unwrap().success());
}
