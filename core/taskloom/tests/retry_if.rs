//! A handler's own function of an error decides whether there is another attempt, and after how long.

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{LONG, on_each_store, until};
use taskloom::{Again, App, Context, Error, Handle, RetryPolicy, State, TaskError};

type Asked = Arc<Mutex<Vec<(String, u32)>>>;

const NEVER: RetryPolicy =
    RetryPolicy { base: Duration::from_secs(3600), factor: 1.0, cap: Duration::from_secs(3600) };

fn at_once() -> RetryPolicy {
    RetryPolicy { base: Duration::ZERO, ..RetryPolicy::default() }
}

fn fail(kind: String) -> Result<u32, TaskError> {
    match kind.as_str() {
        "permanent" => Err(TaskError::permanent("no")),
        "delayed" => Err(TaskError::new("no").retry_after(Duration::ZERO)),
        "panic" => panic!("a handler's own fault"),
        _ => Err(TaskError::new("no").of_kind(&kind)),
    }
}

/// What a function that answers by the kind says, and a note of what it was asked.
fn by_kind(asked: &Asked) -> impl Fn(&TaskError, u32) -> Again + Send + Sync + 'static {
    let asked = Arc::clone(asked);
    move |error, failures| {
        asked.lock().unwrap().push((error.kind().to_owned(), failures));
        match error.kind() {
            "Yes" => Again::Yes,
            "At once" => Again::After(Duration::ZERO),
            "Later" => Again::After(Duration::from_secs(3600)),
            "Panic" => panic!("a rule's own fault"),
            _ => Again::No,
        }
    }
}

fn registered(app: &App, asked: &Asked, policy: RetryPolicy) -> &'static [&'static str] {
    let blocking = app.task("blocking", |kind: String, _: &Context| fail(kind));
    blocking.retries(2).retry(policy).retry_if(by_kind(asked)).register().unwrap();
    #[cfg(feature = "async")]
    {
        let handler = |kind: String, _: Context| async move {
            tokio::task::yield_now().await;
            fail(kind)
        };
        let task = app.task_async("async", handler);
        task.retries(2).retry(policy).retry_if(by_kind(asked)).register().unwrap();
        &["blocking", "async"]
    }
    #[cfg(not(feature = "async"))]
    &["blocking"]
}

fn ended(app: &App, name: &str, kind: &str) -> Result<Handle, Error> {
    let handle = app.submit(name, kind)?;
    assert!(handle.wait_for::<u32>(LONG).is_err());
    assert_eq!(handle.state(), State::Failed, "{name} {kind}: {:?}", handle.info());
    Ok(handle)
}

#[test]
fn it_decides_in_both_kinds_of_handlers() {
    on_each_store(App::builder, |app| {
        let asked = Asked::default();
        let names = registered(app, &asked, at_once());
        let running = app.start().unwrap();
        for name in names {
            // After the last failure there is nothing to decide.
            let cases = [("Yes", 3, 2), ("At once", 3, 2), ("No", 1, 1), ("Panic", 3, 2)];
            for (kind, attempts, questions) in cases {
                assert_eq!(ended(app, name, kind).unwrap().errors().len(), attempts, "{name} {kind}");
                let wanted: Vec<_> = (1..=questions).map(|failures| (kind.to_owned(), failures)).collect();
                assert_eq!(std::mem::take(&mut *asked.lock().unwrap()), wanted);
            }
        }
        running.stop();
    });
}

#[test]
fn errors_that_say_what_follows_and_panics_are_none_of_its_business() {
    on_each_store(App::builder, |app| {
        let asked = Asked::default();
        let names = registered(app, &asked, at_once());
        let running = app.start().unwrap();
        for name in names {
            for (kind, attempts) in [("permanent", 1), ("delayed", 3), ("panic", 3)] {
                assert_eq!(ended(app, name, kind).unwrap().errors().len(), attempts, "{name} {kind}");
            }
        }
        running.stop();
        assert!(asked.lock().unwrap().is_empty());
    });
}

#[test]
fn its_wait_takes_the_place_of_the_backoff() {
    on_each_store(App::builder, |app| {
        let asked = Asked::default();
        let names = registered(app, &asked, NEVER);
        let running = app.start().unwrap();
        for name in names {
            let later = app.build(name).input("Later").retry(at_once()).submit().unwrap();
            assert_eq!(ended(app, name, "At once").unwrap().errors().len(), 3);
            until(|| later.state() == State::Retrying);
            assert!(later.wait_for::<u32>(Duration::from_millis(100)).is_err());
            assert_eq!(later.state(), State::Retrying);
            later.cancel(None).unwrap();
        }
        running.stop();
    });
}

#[test]
fn a_bool_or_a_duration_will_do_and_middleware_errors_count() {
    let app = App::open("memory:").unwrap();
    app.middleware(|_, next| async move {
        let answer = next.run().await;
        answer.map_err(|error| TaskError::new(error.message()).of_kind("Wrapped"))
    });
    let handler = |kind: String, _: &Context| fail(kind);
    app.task("bool", handler)
        .retries(1)
        .retry(NEVER)
        .retry_if(|error, _| error.kind() != "Wrapped")
        .register()
        .unwrap();
    app.task("span", handler).retries(1).retry(NEVER).retry_if(|_, _| Duration::ZERO).register().unwrap();
    let running = app.start().unwrap();
    assert_eq!(ended(&app, "bool", "Any").unwrap().errors().len(), 1);
    assert_eq!(ended(&app, "span", "Any").unwrap().errors().len(), 2);
    running.stop();
}

#[test]
fn timeouts_are_retried_whatever_it_says() {
    on_each_store(App::builder, |app| {
        let asked = Asked::default();
        app.task("slow", |_: (), context: &Context| -> Result<u32, TaskError> {
            while context.attempt() == 1 && !context.is_cancelled() {
                std::thread::yield_now();
            }
            if context.attempt() == 1 { Err(TaskError::new("too late")) } else { Ok(context.attempt()) }
        })
        .retries(1)
        .retry(at_once())
        .timeout(Duration::from_millis(20))
        .retry_if(by_kind(&asked))
        .register()
        .unwrap();
        let running = app.start().unwrap();
        assert_eq!(app.submit("slow", &()).unwrap().wait_for::<u32>(LONG).unwrap(), 2);
        running.stop();
        assert!(asked.lock().unwrap().is_empty());
    });
}
