//! Hooks, subscribers and middleware: told in order, and harmless whatever they do.

mod common;

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use common::{LONG, Signal, block_on, on_each_store, until};
use taskloom::{App, Code, Context, RetryPolicy, Returned, State, TaskError, TaskInfo};

fn at_once() -> RetryPolicy {
    RetryPolicy { base: Duration::ZERO, ..RetryPolicy::default() }
}

#[test]
fn hooks_hear_how_attempts_end() {
    on_each_store(App::builder, |app| {
        let signal = Signal::new();
        let tell = |what: &'static str| {
            let sender = signal.sender();
            move |task: &TaskInfo| {
                let last = task.errors.last().map(|error| error.message.clone());
                sender.send((what, task.state, task.attempt, last)).unwrap();
            }
        };
        app.task("flaky", |bad: u32, context: &Context| -> Result<u32, TaskError> {
            match context.attempt() {
                attempt if attempt <= bad => Err(TaskError::new(format!("no {attempt}"))),
                attempt => Ok(attempt),
            }
        })
        .retries(2)
        .retry(at_once())
        .on_success(tell("success"))
        .on_retry(tell("retry"))
        .on_failure(tell("failure"))
        .register()
        .unwrap();
        let running = app.start().unwrap();
        app.submit("flaky", &1).unwrap().wait_for::<u32>(LONG).unwrap();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(signal.wait(), ("retry", State::Retrying, 1, text("no 1")));
        assert_eq!(signal.wait(), ("success", State::Succeeded, 2, text("no 1")));
        assert!(app.submit("flaky", &9).unwrap().wait_for::<u32>(LONG).is_err());
        assert_eq!(signal.wait(), ("retry", State::Retrying, 1, text("no 1")));
        assert_eq!(signal.wait(), ("retry", State::Retrying, 2, text("no 2")));
        assert_eq!(signal.wait(), ("failure", State::Failed, 3, text("no 3")));
        running.stop();
        assert!(signal.rest().is_empty());
    });
}

#[test]
fn a_hook_may_panic_block_and_submit() {
    on_each_store(App::builder, |app| {
        let (signal, gate) = (Signal::new(), Signal::new());
        let (sender, weak) = (signal.sender(), app.downgrade());
        let go_on = Mutex::new(gate);
        let release = go_on.lock().unwrap().sender();
        app.task("again", |n: u32, _: &Context| -> Result<u32, TaskError> { Ok(n) })
            .on_success(move |task| {
                let n: u32 = task.result().unwrap();
                sender.send(n).unwrap();
                match n {
                    1 => panic!("a hook's own fault"),
                    2 => go_on.lock().unwrap().wait(),
                    3 => drop(weak.upgrade().unwrap().submit("again", &4).unwrap()),
                    _ => {}
                }
            })
            .register()
            .unwrap();
        let running = app.start().unwrap();
        for n in [1, 2, 3] {
            // The task does not wait for the hook that blocks.
            assert_eq!(app.submit("again", &n).unwrap().wait_for::<u32>(LONG).unwrap(), n);
        }
        assert_eq!((signal.wait(), signal.wait()), (1, 2));
        assert!(signal.rest().is_empty());
        release.send(()).unwrap();
        assert_eq!((signal.wait(), signal.wait()), (3, 4));
        running.stop();
    });
}

#[test]
fn what_is_left_for_hooks_is_told_before_a_graceful_stop_returns() {
    let app = App::open("memory:").unwrap();
    let seen = Arc::new(Mutex::new(0));
    let own = Arc::clone(&seen);
    app.task("noop", |_: u32, _: &Context| -> Result<(), TaskError> { Ok(()) })
        .on_success(move |_| *own.lock().unwrap() += 1)
        .register()
        .unwrap();
    let heard = Arc::new(Mutex::new(0));
    let own = Arc::clone(&heard);
    app.on("task.succeeded", move |_| *own.lock().unwrap() += 1).unwrap().forever();
    app.submit_many("noop", &(0..500).collect::<Vec<u32>>()).unwrap();
    app.start().unwrap().stop();
    assert_eq!((*seen.lock().unwrap(), *heard.lock().unwrap()), (500, 500));
}

#[test]
fn a_subscriber_may_panic_block_submit_and_leave() {
    on_each_store(App::builder, |app| {
        let (signal, other) = (Signal::new(), Signal::new());
        let (sender, weak) = (signal.sender(), app.downgrade());
        app.task("noop", |n: u32, _: &Context| -> Result<u32, TaskError> { Ok(n) }).register().unwrap();
        let mut count = 0;
        let subscriber = app
            .on("task.succeeded", move |event| {
                count += 1;
                sender.send(count).unwrap();
                match count {
                    1 => panic!("a subscriber's own fault"),
                    2 => {
                        let handle = weak.upgrade().unwrap().submit("noop", &2).unwrap();
                        handle.wait_for::<u32>(LONG).unwrap();
                    }
                    _ => assert!(event.data::<serde_json::Value>().unwrap()["duration"].is_number()),
                }
            })
            .unwrap();
        let sender = other.sender();
        let _other = app.on("task.*", move |event| drop(sender.send(event.name().to_owned()))).unwrap();
        let running = app.start().unwrap();
        for _ in 0..2 {
            app.submit("noop", &1).unwrap().wait_for::<u32>(LONG).unwrap();
        }
        assert_eq!((signal.wait(), signal.wait(), signal.wait()), (1, 2, 3));
        drop(subscriber);
        app.submit("noop", &1).unwrap().wait_for::<u32>(LONG).unwrap();
        running.stop();
        assert!(signal.rest().is_empty());
        let names = other.rest();
        assert_eq!(names.iter().filter(|name| *name == "task.succeeded").count(), 4, "{names:?}");
    });
}

#[test]
fn events_can_be_awaited_until_the_end() {
    let app = App::open("memory:").unwrap();
    app.task("noop", |_: (), context: &Context| -> Result<(), TaskError> {
        Ok(context.publish("order.paid", &[1])?)
    })
    .register()
    .unwrap();
    let mut events = app.events_async("order.*").unwrap();
    let mut polled = app.events("order.*").unwrap();
    assert!(polled.try_next().is_none());
    let running = app.start().unwrap();
    let handle = app.submit("noop", &()).unwrap();
    block_on(async {
        let event = events.next().await.unwrap();
        assert_eq!((event.task_id(), event.data::<Vec<u32>>().unwrap()), (Some(handle.id()), vec![1]));
        let wait = tokio::time::timeout(Duration::from_millis(1), events.next());
        assert!(wait.await.is_err());
    });
    running.stop();
    assert!(block_on(events.next()).is_none());
    assert_eq!(polled.by_ref().count(), 1);
    assert_eq!(app.on("*", |_| {}).unwrap_err().code(), Code::ShutDown);
    assert_eq!(app.events("taks.*").unwrap_err().code(), Code::InvalidOption);
}

#[test]
fn middleware_goes_around_both_kinds_of_handlers() {
    on_each_store(App::builder, |app| {
        let seen = Arc::new(Mutex::new(Vec::new()));
        for name in ["outer", "inner"] {
            let seen = Arc::clone(&seen);
            app.middleware(move |context, next| {
                let seen = Arc::clone(&seen);
                async move {
                    seen.lock().unwrap().push(format!("{name} before {}", context.name()));
                    let answer = next.run().await;
                    seen.lock().unwrap().push(format!("{name} after {}", answer.is_ok()));
                    answer
                }
            });
        }
        app.middleware(|context, next| async move {
            match context.metadata("answer") {
                Some(own) => Ok(Returned::new(own)?),
                None => next.run().await,
            }
        });
        app.task("blocking", |n: u32, _: &Context| -> Result<u32, TaskError> {
            n.checked_sub(1).ok_or_else(|| TaskError::permanent("too small"))
        })
        .register()
        .unwrap();
        let names = [
            "blocking",
            #[cfg(feature = "async")]
            "async",
        ];
        #[cfg(feature = "async")]
        {
            app.task_async("async", |n: u32, _: Context| async move {
                tokio::task::yield_now().await;
                n.checked_sub(1).ok_or_else(|| TaskError::permanent("too small"))
            })
            .register()
            .unwrap();
        }
        let running = app.start().unwrap();
        for name in names {
            assert_eq!(app.submit(name, &5).unwrap().wait_for::<u32>(LONG).unwrap(), 4);
            let before = format!("before {name}");
            let wanted = [
                format!("outer {before}"),
                format!("inner {before}"),
                "inner after true".into(),
                "outer after true".into(),
            ];
            assert_eq!(*seen.lock().unwrap(), wanted);
            assert!(app.submit(name, &0).unwrap().wait_for::<u32>(LONG).is_err());
            assert_eq!(seen.lock().unwrap().last().unwrap(), "outer after false");
            let short = app.build(name).input(&0).metadata("answer", "own").submit().unwrap();
            assert_eq!(short.wait_for::<String>(LONG).unwrap(), "own");
            seen.lock().unwrap().clear();
        }
        running.stop();
    });
}

#[test]
fn a_hook_that_blocks_does_not_hold_up_a_hasty_stop() {
    let app = App::open("memory:").unwrap();
    let begun = Signal::new();
    let (sender, gate) = (begun.sender(), Arc::new(Mutex::new(())));
    let own = Arc::clone(&gate);
    let closed = gate.lock().unwrap();
    app.task("noop", |_: (), _: &Context| -> Result<(), TaskError> { Ok(()) })
        .on_success(move |_| {
            sender.send(()).unwrap();
            drop(own.lock());
        })
        .register()
        .unwrap();
    let running = app.start().unwrap();
    app.submit("noop", &()).unwrap().wait_for::<()>(LONG).unwrap();
    begun.wait();
    running.stop_within(Duration::from_millis(10));
    drop(closed);
    until(|| Arc::strong_count(&gate) <= 2);
}
