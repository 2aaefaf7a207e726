//! Options of apps, handlers and submits, and what an operator does.

#![allow(clippy::disallowed_methods, reason = "users give points in time by the system's clock")]

mod common;

use std::time::{Duration, SystemTime};

use common::{LONG, Signal, on_each_store, until};
use taskloom::{
    App, Code, Context, Durability, Filter, OnConflict, Priority, RetryPolicy, State, TaskError, TaskId,
    WaitingFor,
};

type Nothing = Result<(), TaskError>;

#[test]
fn every_option_of_a_submit_is_found_on_the_task() {
    on_each_store(App::builder, |app| {
        app.task("noop", |_: u32, _: &Context| -> Nothing { Ok(()) }).version("1.2.0").register().unwrap();
        let now = SystemTime::now();
        let id: TaskId = "0190b0a0-0000-7000-8000-000000000007".parse().unwrap();
        let handle = app
            .build("noop")
            .input(&7)
            .id(id)
            .queue("slow")
            .priority(Priority::Critical)
            .eta(now + Duration::from_secs(100))
            .expires_at(now + Duration::from_secs(200))
            .deadline_at(now + Duration::from_secs(300))
            .timeout(Duration::from_secs(5))
            .retries(4)
            .retry(RetryPolicy { factor: 3.0, ..RetryPolicy::default() })
            .max_crashes(9)
            .tag("a")
            .tags(["b", "c"])
            .unique_key("key")
            .unique_for(Duration::from_secs(60))
            .on_conflict(OnConflict::Reject)
            .metadata("initiator", "bob")
            .metadata("initiator", "ada")
            .correlation_id("req-1")
            .traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
            .version("1.2.0")
            .submit()
            .unwrap();
        let info = app.get(id).unwrap().unwrap().info();
        assert_eq!((info.id, info.name.as_str(), info.queue.as_str()), (handle.id(), "noop", "slow"));
        assert_eq!((info.priority, info.state), (Priority::Critical, State::Pending));
        assert_eq!((info.waiting_for, info.retries, info.max_crashes), (WaitingFor::Eta, 4, 9));
        assert_eq!((info.retry.factor, info.timeout), (3.0, Some(Duration::from_secs(5))));
        let after = |at: Option<SystemTime>| at.unwrap().duration_since(now).unwrap().as_secs_f64().round();
        assert_eq!((after(info.eta), after(info.expires), after(info.deadline)), (100.0, 200.0, 300.0));
        assert_eq!((info.version.as_deref(), info.unique_key.as_deref()), (Some("1.2.0"), Some("key")));
        assert_eq!((info.tags.len(), info.metadata.as_slice()), (3, handle.metadata()));
        assert_eq!(info.metadata, [("initiator".to_owned(), "ada".to_owned())]);
        assert!(info.correlation_id.as_deref() == Some("req-1") && info.traceparent.is_some());
        assert_eq!((info.input::<u32>().unwrap(), info.attempt, info.parent), (7, 0, None));
        let again = app.build("noop").input(&7).unique_key("key").on_conflict(OnConflict::Reject).submit();
        assert_eq!(again.unwrap_err().code(), Code::DuplicateKey);
        for (builder, code) in [
            (app.build("nope"), Code::UnknownHandler),
            (app.build("noop").version("9"), Code::UnknownHandler),
            (app.build("noop").version("x"), Code::InvalidOption),
            (app.build("noop").detached(), Code::InvalidOption),
            (app.build("noop").timeout(Duration::ZERO), Code::InvalidOption),
        ] {
            assert_eq!(builder.submit().unwrap_err().code(), code);
        }
        let unsayable = std::collections::HashMap::from([((1, 2), 3)]);
        assert_eq!(app.submit("noop", &unsayable).unwrap_err().code(), Code::NotEncodable);
    });
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    for (builder, url) in [
        (App::builder().workers(0), "memory:"),
        (App::builder().max_in_flight(0), "memory:"),
        (App::builder().capacity(0), "memory:"),
        (App::builder().queues([]), "memory:"),
        (App::builder().queues(["a", "a"]), "memory:"),
        (App::builder().queues(["a b"]), "memory:"),
        (App::builder().weighted_queues([("a", 0)]), "memory:"),
        (App::builder().capacity(5), "sqlite:/nowhere/tasks.db"),
    ] {
        let error = builder.open(url).unwrap_err();
        assert_eq!(error.code(), Code::InvalidOption, "{error}");
    }
    assert_eq!(App::open("memory:name").unwrap_err().code(), Code::NotAvailable);
    let app = App::builder().queues(["a"]).open("memory:").unwrap();
    app.task("noop", |_: (), _: &Context| -> Nothing { Ok(()) }).queue("a").register().unwrap();
    assert_eq!(app.build("noop").queue("b").submit().unwrap_err().code(), Code::InvalidOption);
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("tasks.db").display());
    let builder = App::builder().durability(Durability::Process).retention(Duration::from_secs(60));
    assert!(builder.open(&url).unwrap().health().ok);
}

#[test]
fn a_full_store_refuses_or_waits() {
    let app = App::builder().capacity(2).open("memory:").unwrap();
    app.task("noop", |_: u32, _: &Context| -> Nothing { Ok(()) }).register().unwrap();
    app.submit_many("noop", &[1, 2]).unwrap();
    assert_eq!(app.submit("noop", &3).unwrap_err().code(), Code::QueueFull);

    let app = App::builder().capacity(2).workers(1).wait_when_full().open("memory:").unwrap();
    app.task("noop", |_: u32, _: &Context| -> Nothing { Ok(()) }).register().unwrap();
    let running = app.start().unwrap();
    for n in 0..200 {
        app.submit("noop", &n).unwrap();
    }
    running.stop();
    assert_eq!(app.stats().unwrap().tasks.get(State::Succeeded), 200);
}

#[test]
fn queues_are_served_in_order() {
    let app = App::builder().workers(1).queues(["first", "second"]).open("memory:").unwrap();
    let signal = Signal::new();
    let sender = signal.sender();
    app.task("note", move |_: (), context: &Context| -> Nothing {
        Ok(sender.send(context.queue().to_owned())?)
    })
    .queue("second")
    .register()
    .unwrap();
    for queue in ["second", "second", "first", "first"] {
        app.build("note").queue(queue).submit().unwrap();
    }
    app.start().unwrap().stop();
    assert_eq!(signal.rest(), ["first", "first", "second", "second"]);
}

#[test]
fn versions_live_side_by_side_and_can_be_replaced() {
    on_each_store(App::builder, |app| {
        let register = |version: &str, replace: bool, answer: u32| {
            let handler = move |_: (), _: &Context| -> Result<u32, TaskError> { Ok(answer) };
            let registration = app.task("img/resize", handler).version(version);
            if replace { registration.replace().register() } else { registration.register() }
        };
        register("1.0", false, 1).unwrap();
        register("1.10", false, 110).unwrap();
        assert_eq!(register("1.0.0", false, 0).unwrap_err().code(), Code::HandlerExists);
        assert_eq!(register("one", false, 0).unwrap_err().code(), Code::InvalidOption);
        let running = app.start().unwrap();
        let run = |version: Option<&str>| {
            let builder = app.build("img/resize");
            let builder = match version {
                Some(version) => builder.version(version),
                None => builder,
            };
            builder.submit().unwrap().wait_for::<u32>(LONG).unwrap()
        };
        assert_eq!((run(None), run(Some("1")), run(Some("1.10.0"))), (110, 1, 110));
        register("1.10", true, 111).unwrap();
        assert_eq!(run(None), 111);
        let handlers = app.handlers();
        assert_eq!((handlers.len(), handlers[1].version.to_string()), (2, "1.10.0".into()));
        running.stop();
    });
}

#[test]
fn what_an_operator_does() {
    on_each_store(App::builder, |app| {
        app.task("noop", |_: (), _: &Context| -> Nothing { Ok(()) }).register().unwrap();
        let later = Duration::from_secs(3600);
        for tag in ["a", "a", "b"] {
            app.build("noop").queue("slow").tag(tag).delay(later).submit().unwrap();
        }
        let all = app.list(&Filter::new().queue("slow").name("noop").unfinished()).unwrap();
        let rest = app.list(&Filter::new().after(all[0].id()).limit(1)).unwrap();
        assert_eq!((all.len(), rest[0].id()), (3, all[1].id()));
        assert!(app.cancel(all[0].id(), Some("by hand")).unwrap());
        assert!(!app.cancel(all[0].id(), None).unwrap());
        assert_eq!(app.get(all[0].id()).unwrap().unwrap().info().reason.as_deref(), Some("by hand"));
        assert_eq!(app.cancel_all(&Filter::new().tag("a"), None).unwrap(), 1);
        assert_eq!(app.purge("slow").unwrap(), 1);
        assert_eq!(app.list(&Filter::new().state(State::Cancelled)).unwrap().len(), 3);
        assert!(app.pause("slow").unwrap() && !app.pause("slow").unwrap());
        assert_eq!(app.paused().unwrap(), ["slow"]);
        assert!(app.resume("slow").unwrap() && !app.resume("slow").unwrap());
        assert_eq!(app.pause("no such\nname").unwrap_err().code(), Code::InvalidOption);
        assert_eq!(app.sweep(later).unwrap(), 0);
        drop(all);
        until(|| {
            app.sweep(Duration::ZERO).unwrap() == 3 || app.stats().unwrap().tasks.get(State::Cancelled) == 0
        });
        let stats = app.stats().unwrap();
        assert_eq!((stats.tasks.unfinished(), stats.registry.handlers), (0, 1));
        let handle = app.build("noop").delay(later).submit().unwrap();
        app.run_now(handle.id()).unwrap().wait_for::<()>(LONG).unwrap();
        assert_eq!(app.run_now(handle.id()).unwrap_err().code(), Code::IllegalTransition);
    });
}

#[test]
fn checkpoints_retries_and_errors() {
    on_each_store(App::builder, |app| {
        app.task("resume", |_: (), context: &Context| -> Result<u32, TaskError> {
            let done: u32 = context.load_checkpoint()?.unwrap_or(0);
            assert_eq!((done + 1, done), (context.attempt(), context.failures()));
            context.save_checkpoint(&(done + 1))?;
            assert_eq!(context.load_checkpoint::<String>().unwrap_err().code(), Code::WrongType);
            match done {
                0 => Err(TaskError::new("first").retry_after(Duration::ZERO)),
                1 => Err(TaskError::new("second").of_kind("Second").retry_after(SystemTime::now())),
                _ => {
                    context.clear_checkpoint()?;
                    assert_eq!(context.load_checkpoint::<u32>()?, None);
                    Ok(done)
                }
            }
        })
        .retries(5)
        .register()
        .unwrap();
        app.task("limits", |_: (), context: &Context| -> Result<(bool, bool), TaskError> {
            let left = context.time_left();
            Ok((left.is_some_and(|left| left <= LONG), context.deadline().is_some()))
        })
        .register()
        .unwrap();
        let running = app.start().unwrap();
        let handle = app.submit("resume", &()).unwrap();
        assert_eq!(handle.wait_for::<u32>(LONG).unwrap(), 2);
        let kinds: Vec<_> = handle.errors().into_iter().map(|error| (error.kind, error.attempt)).collect();
        assert_eq!(kinds, [("TaskError".to_owned(), 1), ("Second".to_owned(), 2)]);
        let limits = |builder: taskloom::TaskBuilder| {
            builder.submit().unwrap().wait_for::<(bool, bool)>(LONG).unwrap()
        };
        assert_eq!(limits(app.build("limits")), (false, false));
        assert_eq!(limits(app.build("limits").timeout(LONG)), (true, true));
        assert_eq!(limits(app.build("limits").deadline(LONG)), (true, true));
        running.stop();
    });
}

#[test]
fn children_go_with_their_parent_unless_detached() {
    on_each_store(
        || App::builder().workers(2),
        |app| {
            let signal = Signal::new();
            let sender = signal.sender();
            app.task("leaf", |_: (), _: &Context| -> Nothing { Ok(()) }).register().unwrap();
            app.task("parent", move |_: (), context: &Context| -> Nothing {
                let later = Duration::from_secs(3600);
                let taken = context.build("leaf").delay(later).submit()?;
                let left = context.build("leaf").delay(later).detached().submit()?;
                let refused = context.build("leaf").unique_key("a").submit();
                assert_eq!(refused.unwrap_err().code(), Code::InvalidOption);
                let _ = sender.send((taken, left));
                taken_is_cancelled(context);
                Ok(())
            })
            .register()
            .unwrap();
            let running = app.start().unwrap();
            let parent = app.submit("parent", &()).unwrap();
            let (taken, left) = signal.wait();
            assert_eq!(parent.children().unwrap().len(), 2);
            assert!(parent.cancel(None).unwrap());
            assert_eq!(taken.wait_for::<()>(LONG).unwrap_err().code(), Code::TaskCancelled);
            assert_eq!(left.state(), State::Pending);
            assert!(left.info().detached);
            left.cancel(None).unwrap();
            running.stop();
        },
    );
}

/// Waits, as a handler does that looks now and then.
fn taken_is_cancelled(context: &Context) {
    until(|| context.is_cancelled());
}

#[derive(serde::Serialize)]
struct Report {
    rows: Vec<Share>,
}

#[derive(serde::Serialize)]
struct Share {
    share: Option<f64>,
}

/// JSON has no such numbers, and `null` would be another payload.
#[test]
fn a_number_that_is_none_is_refused_by_its_place() {
    on_each_store(App::builder, |app| {
        app.task("noop", |_: serde_json::Value, _: &Context| -> Nothing { Ok(()) }).register().unwrap();
        app.task("mean", |_: (), _: &Context| -> Result<[f64; 2], TaskError> { Ok([0.5, f64::NAN]) })
            .register()
            .unwrap();
        let report = |share| Report { rows: vec![Share { share: None }, Share { share: Some(share) }] };
        app.submit("noop", &report(0.5)).unwrap();
        for (share, shown) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf"), (f64::NEG_INFINITY, "-inf")] {
            let error = app.submit("noop", &report(share)).unwrap_err();
            assert_eq!(error.code(), Code::NotEncodable);
            assert_eq!(
                error.message(),
                format!("the input for noop at $.rows[1].share: {shown} is not JSON")
            );
            assert!(app.submit_many("noop", &[report(0.5), report(share)]).is_err());
            assert!(app.build("noop").input(&share).submit().is_err());
        }
        assert_eq!(app.list(&Filter::new()).unwrap().len(), 1);
        let running = app.start().unwrap();
        let handle = app.submit("mean", &()).unwrap();
        let error = handle.wait::<[f64; 2]>().unwrap_err();
        assert!(error.message().contains("at $[1]: NaN is not JSON"), "{error}");
        running.stop();
    });
}
