//! Events at the borders: where tasks share a key, and where an engine ends while handlers report.

mod common;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use common::stores::on_both;
use common::watch::{Watch, data, names};
use common::*;
use taskloom_engine::{Attempt, Stop};
use taskloom_model::{OnConflict, Options};

#[test]
fn a_task_that_was_never_made_is_not_told_of() {
    on_both(|place| {
        let timed = place.timed(1);
        let watch = Watch::on(&timed.engine, "task.*");
        let echo = register(&timed.engine, "echo", echo);
        let keyed = |on_conflict| Options {
            unique_key: Some("key".into()),
            on_conflict: Some(on_conflict),
            ..Options::default()
        };
        let first = submit_with(&timed.engine, &echo, keyed(OnConflict::Return), "1");
        submit_with(&timed.engine, &echo, keyed(OnConflict::Return), "1");
        assert!(try_submit(&timed.engine, &echo, keyed(OnConflict::Reject), "1").is_err());
        let second = submit_with(&timed.engine, &echo, keyed(OnConflict::Replace), "1");
        let told = [watch.next(), watch.next(), watch.next()];
        assert_eq!((told[0].name(), told[0].task), ("task.submitted", Some(first.id())));
        let others: HashSet<_> = told[1..].iter().map(|event| (event.name(), event.task)).collect();
        let expected = [("task.cancelled", Some(first.id())), ("task.submitted", Some(second.id()))];
        assert_eq!(others, expected.into());
        let cancelled = told.iter().find(|event| event.name() == "task.cancelled").unwrap();
        assert_eq!(data(cancelled)["reason"], "another task took its unique key");
        assert!(watch.rest().is_empty());
    });
}

#[test]
fn the_family_of_a_cancelled_task_is_told_of() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let child = register(&timed.engine, "child", echo);
        let parent = gated(&timed.engine, "parent", Options::default());
        let handle = submit(&timed.engine, &parent.entry, "1");
        let attempt = parent.begun.wait_for(1).remove(0);
        let children: Vec<_> = (0..3)
            .map(|_| attempt.submit(&child, child.admission(), (*b"1").into(), None, false).unwrap().id())
            .collect();
        let watch = Watch::on(&timed.engine, "task.cancelled");
        assert!(handle.cancel(None).unwrap());
        let told: Vec<_> = (0..4).map(|_| watch.next().task.unwrap()).collect();
        assert_eq!(told[0], handle.id());
        assert_eq!(told[1..], children);
        parent.gate.open();
    });
}

#[test]
fn nothing_is_told_after_the_end_though_handlers_report_late() {
    on_both(|place| {
        for _ in 0..20 {
            let timed = place.timed(8).started();
            let begun = Log::default();
            let log = begun.clone();
            let stubborn = register(&timed.engine, "stubborn", move |attempt: &Attempt| {
                log.add(());
                eventually("it is called off", || attempt.is_cancelled());
                echo(attempt)
            });
            let watch = Watch::on(&timed.engine, "*");
            (0..8).for_each(|_| drop(submit(&timed.engine, &stubborn, "1")));
            begun.wait_for(8);
            let engine = Arc::clone(&timed.engine);
            let stops = [0, 1].map(|_| {
                let engine = Arc::clone(&engine);
                aside(move || engine.stop(Stop::Within(Duration::ZERO)))
            });
            for stop in stops {
                in_time("a stop", move || stop.join().unwrap());
            }
            eventually("all have reported", || timed.engine.worker_counts().3 == 8);
            let told = names(&watch.rest());
            assert_eq!(told.last().map(String::as_str), Some("engine.stopped"), "{told:?}");
            for once in ["engine.stopping", "engine.stopped"] {
                assert_eq!(told.iter().filter(|name| *name == once).count(), 1, "{told:?}");
            }
            assert_eq!(told.iter().filter(|name| *name == "task.released").count(), 8, "{told:?}");
        }
    });
}
