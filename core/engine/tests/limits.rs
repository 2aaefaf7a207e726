//! Limits with real workers: how many run at once, how many start in a period, who waits for whom.

mod common;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use common::stores::on_both;
use common::*;
use parking_lot::Mutex;
use taskloom_engine::{Attempt, Engine, Handle, HandlerEntry, Outcome};
use taskloom_model::{Code, Limit, LimitFor, Name, Options, Rate, State, WaitingFor};

fn keyed(key: &str, concurrency: Option<u32>) -> Options {
    Options { key: Some(key.into()), concurrency, ..Options::default() }
}

fn at_once(concurrency: u32) -> Limit {
    Limit { concurrency: Some(concurrency), rate: None }
}

fn many(engine: &Engine, entry: &HandlerEntry, options: &Options, count: usize) -> Vec<Handle> {
    let admission = engine.admission(&options.over(entry.options())).unwrap();
    let payloads = (0..count).map(|number| (number.to_string().into_bytes().into(), None));
    engine.submit_many(entry, &admission, payloads, false).unwrap()
}

/// How many run under each key, and how many did at the most.
#[derive(Clone, Default)]
struct Running(Arc<Mutex<HashMap<String, (u32, u32)>>>);

impl Running {
    fn around(&self, attempt: &Attempt) -> Outcome {
        let key = attempt.task().spec().key().unwrap_or_default().to_owned();
        {
            let mut all = self.0.lock();
            let (now, most) = all.entry(key.clone()).or_default();
            *now += 1;
            *most = (*most).max(*now);
        }
        // Long enough for the others to get in if they may.
        for _ in 0..200 {
            std::thread::yield_now();
        }
        if let Some((now, _)) = self.0.lock().get_mut(&key) {
            *now -= 1;
        }
        echo(attempt)
    }

    fn most(&self, key: &str) -> u32 {
        self.0.lock()[key].1
    }
}

#[test]
fn no_more_run_at_once_than_may() {
    on_both(|place| {
        let timed = place.timed(8).started();
        let running = Running::default();
        let own = running.clone();
        let options = Options { concurrency: Some(3), ..Options::default() };
        let entry = register_with(&timed.engine, "job", options, move |attempt| own.around(attempt));
        let handles = many(&timed.engine, &entry, &Options::default(), 300);
        handles.iter().for_each(|handle| drop(result(handle)));
        assert!((1..=3).contains(&running.most("")), "{} at once", running.most(""));
        assert_eq!(timed.engine.limits().unwrap().len(), 1);
    });
}

#[test]
fn no_more_run_under_a_key_than_may_and_keys_do_not_wait_for_each_other() {
    on_both(|place| {
        let timed = place.timed(8).started();
        let running = Running::default();
        let own = running.clone();
        let entry = register(&timed.engine, "job", move |attempt: &Attempt| own.around(attempt));
        let mut handles = Vec::new();
        for number in 0..40 {
            for key in ["a", "b"] {
                let limit = if key == "a" { 1 } else { 2 };
                handles.push(submit_with(
                    &timed.engine,
                    &entry,
                    keyed(key, Some(limit)),
                    &number.to_string(),
                ));
            }
        }
        handles.iter().for_each(|handle| drop(result(handle)));
        assert_eq!(running.most("a"), 1);
        assert!((1..=2).contains(&running.most("b")));
    });
}

#[test]
fn ten_thousand_of_one_tenant_do_not_hold_up_anothers_one() {
    on_both(|place| {
        let timed = place.timed(1);
        let order: Log<String> = Log::default();
        let log = order.clone();
        let entry = register(&timed.engine, "job", move |attempt: &Attempt| {
            log.add(attempt.task().spec().key().unwrap().to_owned());
            echo(attempt)
        });
        let crowd = many(&timed.engine, &entry, &keyed("crowd", None), 10_000);
        let one = submit_with(&timed.engine, &entry, keyed("one", None), "1");
        timed.engine.start().unwrap();
        result(&one);
        let before = order.all().iter().position(|key| key == "one").unwrap();
        // A claim of a file takes a lane's worth ahead of the worker.
        assert!(before < 1_000, "{before} of the crowd went first");
        assert!(!place.is_memory() || before <= 8, "{before} of the crowd went first");
        crowd.iter().for_each(|handle| drop(result(handle)));
    });
}

#[test]
fn a_rate_is_kept_whoever_works() {
    for workers in [1, 2, 8] {
        on_both(|place| {
            let timed = place.timed(workers).started();
            let starts: Log<()> = Log::default();
            let log = starts.clone();
            let rate: Rate = "10/s".parse().unwrap();
            let options = Options { rate: Some(rate.with_burst(5)), ..Options::default() };
            let entry = register_with(&timed.engine, "job", options, move |attempt: &Attempt| {
                log.add(());
                echo(attempt)
            });
            let handles = many(&timed.engine, &entry, &Options::default(), 400);
            starts.wait_for(5);
            for tenth in 1..=300 {
                timed.clock.advance(Duration::from_millis(100));
                // A worker may have asked a moment before the clock went on, and is told to come back now.
                eventually("the next one starts", || {
                    timed.step();
                    starts.len() >= 5 + tenth
                });
            }
            // Whatever could still come would have come before this.
            let free = register(&timed.engine, "free", echo);
            let barrier = many(&timed.engine, &free, &Options::default(), 50);
            barrier.iter().for_each(|handle| drop(result(handle)));
            assert_eq!(starts.len(), 305, "{workers} workers");
            handles[300..].iter().for_each(|handle| drop(timed.engine.cancel(handle.id(), None)));
        });
    }
}

#[test]
fn a_handler_can_put_its_key_off() {
    on_both(|place| {
        let timed = place.timed(2).started();
        let entry = register(&timed.engine, "call", |attempt: &Attempt| {
            match attempt.fence().attempt == 1 && payload(attempt) == b"first" {
                true => Outcome::Postponed { key: "api".into(), wait: seconds(30) },
                false => echo(attempt),
            }
        });
        let first = submit_with(&timed.engine, &entry, keyed("api", None), "first");
        let put_off = || first.task().with_row(|row| (row.state, row.waiting_for));
        eventually("it is put off", || put_off() == (State::Pending, WaitingFor::Key));
        let second = submit_with(&timed.engine, &entry, keyed("api", None), "second");
        let other = submit_with(&timed.engine, &entry, keyed("else", None), "other");
        assert_eq!(result(&other), "other");
        timed.advance(seconds(29));
        assert!(!second.state().is_terminal() && !first.state().is_terminal());
        timed.advance(seconds(1));
        assert_eq!((result(&first), result(&second)), ("first".into(), "second".into()));
        let (failures, attempt) = first.task().with_row(|row| (row.failures, row.attempt));
        assert_eq!((failures, attempt), (0, 2));
    });
}

#[test]
fn a_limit_can_be_changed_while_tasks_run() {
    on_both(|place| {
        let timed = place.timed(4).started();
        let job = gated(&timed.engine, "job", Options::default());
        let handles = many(&timed.engine, &job.entry, &Options::default(), 6);
        job.begun.wait_for(4);
        let handler = LimitFor::Handler(Name::new("job"));
        assert!(timed.engine.limit(handler.clone(), at_once(1)).unwrap());
        assert!(!timed.engine.limit(handler.clone(), at_once(1)).unwrap(), "nothing new");
        job.gate.open();
        handles.iter().for_each(|handle| drop(result(handle)));
        timed.engine.limit(handler, Limit::default()).unwrap();
        assert_eq!(timed.engine.limits().unwrap(), []);
    });
}

#[test]
fn limits_that_mean_nothing_are_refused() {
    let timed = Timed::memory(1);
    let entry = register(&timed.engine, "job", echo);
    let refused = |result: taskloom_engine::Result<bool>, code| {
        let error = result.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        error.to_string()
    };
    let unknown =
        refused(timed.engine.limit(LimitFor::Handler(Name::new("jbo")), at_once(1)), Code::UnknownHandler);
    assert!(unknown.contains("did you mean \"job\"?"), "{unknown}");
    refused(timed.engine.limit(LimitFor::Handler(entry.name()), at_once(0)), Code::InvalidOption);
    refused(timed.engine.limit(LimitFor::Key(String::new()), at_once(1)), Code::InvalidOption);
    let alone = Options { concurrency: Some(2), ..Options::default() };
    let error = alone.validate_submit(entry.options()).unwrap_err();
    assert!(error.to_string().contains("concurrency of a submit without a key"), "{error}");
}

#[test]
fn what_has_no_room_is_not_run_by_hand() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let job = gated(&timed.engine, "job", Options::default());
        let running = submit_with(&timed.engine, &job.entry, keyed("a", Some(1)), "1");
        job.begun.wait_for(1);
        let next = submit_with(&timed.engine, &job.entry, keyed("a", Some(1)), "2");
        let error = timed.engine.run_now(next.id()).unwrap_err();
        assert!(error.message().contains("waits for its key \"a\""), "{error}");
        job.gate.open();
        assert_eq!((result(&running), result(&next)), ("1".into(), "2".into()));
    });
}
