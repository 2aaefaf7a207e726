//! What an app leaves behind: no thread. In a process of its own, since it counts all of them.
#![cfg(all(feature = "async", target_os = "linux"))]

mod common;

use common::{LONG, Signal, block_on, threads, until};
use std::future::pending;
use std::time::Duration;
use taskloom::{App, Context, TaskError};

#[test]
fn no_thread_outlives_its_app() {
    assert_eq!(threads("taskloom"), 0);
    for round in 0..12 {
        let app = App::open("memory:").unwrap();
        let begun = Signal::new();
        let sender = begun.sender();
        app.task_async("endless", move |_: (), _: Context| {
            let sender = sender.clone();
            async move {
                sender.send(()).unwrap();
                pending::<()>().await;
                Ok::<_, TaskError>(())
            }
        })
        .register()
        .unwrap();
        app.task("noop", |_: (), _: &Context| -> Result<(), TaskError> { Ok(()) })
            .on_success(|_| {})
            .register()
            .unwrap();
        app.on("task.*", |_| {}).unwrap().forever();
        let running = app.start().unwrap();
        app.submit("noop", &()).unwrap().wait_for::<()>(LONG).unwrap();
        app.submit("endless", &()).unwrap();
        begun.wait();
        assert!(threads("taskloom") > 3);
        match round % 3 {
            0 => running.stop_within(Duration::ZERO),
            1 => running.stop_within(Duration::from_millis(5)),
            _ => block_on(async { running.stop_within(Duration::ZERO) }),
        }
        drop(app);
        // The threads of hooks and subscribers end by themselves.
        until(|| threads("taskloom") == 0);
    }
}
