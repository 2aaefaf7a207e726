//! Schedules as Rust users make and see them.

#![allow(clippy::disallowed_methods, reason = "users give points in time by the system's clock")]

mod common;

use std::time::{Duration, SystemTime};

use common::{Signal, on_each_store};
use taskloom::{
    App, CatchUp, Code, Context, Overlap, Priority, RetryPolicy, Rule, State, TaskError, next_firings,
};

type Nothing = Result<(), TaskError>;

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn everything_that_is_said_is_found_again() {
    on_each_store(App::builder, |app| {
        app.task("report", |_: u32, _: &Context| -> Nothing { Ok(()) })
            .version("1.2.0")
            .retries(9)
            .register()
            .unwrap();
        let now = SystemTime::now();
        let made = app
            .cron("0 3 * * *")
            .name("nightly")
            .tz("europe/rome")
            .overlap(Overlap::Replace)
            .catch_up(CatchUp::All(7))
            .jitter(HOUR)
            .start(now)
            .end(now + HOUR * 10_000)
            .input(&5)
            .queue("night")
            .priority(Priority::Low)
            .timeout(HOUR)
            .deadline(HOUR * 2)
            .expires(HOUR)
            .retries(3)
            .retry(RetryPolicy { factor: 3.0, ..RetryPolicy::default() })
            .tags(["a", "b"])
            .metadata("initiator", "ada")
            .version("1.2.0")
            .schedule("report")
            .unwrap();
        assert_eq!(app.schedules().get("nightly").unwrap().unwrap(), made);
        assert_eq!(made.rule, Rule::Cron { expression: "0 3 * * *".into(), tz: "Europe/Rome".into() });
        assert_eq!((made.overlap, made.catch_up, made.jitter), (Overlap::Replace, CatchUp::All(7), HOUR));
        assert!(made.start.is_some() && made.end > made.start && made.next > made.start);
        assert_eq!((made.handler.as_str(), made.input.as_slice()), ("report", &b"5"[..]));
        let options = made.options;
        assert_eq!((options.queue.as_deref(), options.priority), (Some("night"), Some(Priority::Low)));
        assert_eq!((options.retries, options.tags.len(), options.metadata.len()), (Some(3), 2, 1));
        assert_eq!(app.schedules().next("nightly", 3).unwrap().len(), 3);
        assert_eq!(app.schedules().next("nightly", 1).unwrap(), [made.next.unwrap()]);
    });
}

#[test]
fn it_fires_and_says_for_what() {
    on_each_store(App::builder, |app| {
        let told = Signal::new();
        let tell = told.sender();
        app.task("note", move |n: u32, context: &Context| -> Result<u32, TaskError> {
            let _ = tell.send((n, context.schedule().map(str::to_owned), context.tick()));
            Ok(n)
        })
        .register()
        .unwrap();
        app.every(Duration::from_millis(5)).name("often").input(&7).schedule("note").unwrap();
        let running = app.start().unwrap();
        let first = told.wait();
        assert_eq!((first.0, first.1.as_deref()), (7, Some("often")));
        assert!(told.wait().2 > first.2);
        app.schedules().remove("often").unwrap();
        app.at(SystemTime::now() - HOUR).input(&8).schedule("note").unwrap();
        while told.wait().0 != 8 {}
        let handle = app.schedules().trigger("note").unwrap();
        assert_eq!(handle.wait::<u32>().unwrap(), 8);
        let info = handle.info();
        assert_eq!((info.state, info.schedule.as_deref()), (State::Succeeded, Some("note")));
        assert!(info.tick.is_some() && info.unique_key.is_some());
        assert_eq!(app.schedules().get("note").unwrap().unwrap().runs, 2);
        running.stop();
    });
}

#[test]
fn a_name_stands_for_one_schedule() {
    let app = App::open("memory:").unwrap();
    for name in ["work", "other"] {
        app.task(name, |_: Option<u32>, _: &Context| -> Nothing { Ok(()) }).register().unwrap();
    }
    let often = || app.every(HOUR).name("often").input(&1);
    often().schedule("work").unwrap();
    for (second, words) in [
        (often().schedule("other"), "every 3600 s for \"other\""),
        (app.every(2 * HOUR).name("often").input(&1).schedule("work"), "every 7200 s for \"work\""),
        (app.cron("@daily").name("often").input(&1).schedule("work"), "cron \"@daily\""),
        (often().input(&2).schedule("work"), "with the input 2"),
        (often().overlap(Overlap::Queue).schedule("work"), "every 3600 s for \"work\""),
    ] {
        let error = second.unwrap_err();
        assert_eq!(error.code(), Code::InvalidSchedule);
        assert!(error.message().contains("two schedules of the name \"often\""), "{error}");
        assert!(error.message().contains(words), "{error}");
    }
    // As a program does that is set up again.
    app.schedules().update("often", |spec| spec.overlap = Overlap::Queue).unwrap();
    often().schedule("work").unwrap();
    app.schedules().remove("often").unwrap();
    often().schedule("other").unwrap();
    assert_eq!(app.schedules().list().unwrap().len(), 1);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let app = App::open("memory:").unwrap();
    app.task("noop", |_: (), _: &Context| -> Nothing { Ok(()) }).register().unwrap();
    let now = SystemTime::now();
    for (refused, code, words) in [
        (app.cron("0 0 30 2 *").schedule("noop"), Code::InvalidSchedule, "never fires"),
        (app.cron("@daily").tz("Mars/Olympus").schedule("noop"), Code::InvalidSchedule, "no time zone"),
        (app.every(Duration::ZERO).schedule("noop"), Code::InvalidSchedule, "the interval is 0 seconds"),
        (app.every(HOUR).tz("UTC").schedule("noop"), Code::InvalidSchedule, "is by every"),
        (
            app.every(HOUR).start(now).end(now - HOUR).schedule("noop"),
            Code::InvalidSchedule,
            "before it starts",
        ),
        (app.every(HOUR).schedule("nope"), Code::UnknownHandler, "nope"),
        (app.every(HOUR).name("two words").schedule("noop"), Code::InvalidOption, "two words"),
    ] {
        let error = refused.unwrap_err();
        assert!(error.code() == code && error.message().contains(words), "{error}");
    }
    assert!(app.schedules().list().unwrap().is_empty());
    let error = app.schedules().trigger("nope").unwrap_err();
    assert_eq!(error.code(), Code::UnknownSchedule);
    let error = next_firings("*/30 2 * 3 SUNL", "Europe/Rome", now, 1).unwrap_err();
    assert!(error.message().contains("never fires in Europe/Rome"), "{error}");
}
