//! Unique keys: at most one task that has not ended has one.

mod common;

use std::collections::HashSet;
use std::sync::Arc;

use common::stores::on_both;
use common::*;
use taskloom_engine::{Attempt, Engine, Handle, HandlerEntry, Outcome, Result};
use taskloom_model::{Code, OnConflict, Options, State};

fn keyed(on_conflict: OnConflict) -> Options {
    Options { unique_key: Some("key".into()), on_conflict: Some(on_conflict), ..Options::default() }
}

fn try_many(engine: &Engine, entry: &HandlerEntry, options: Options, count: usize) -> Result<Vec<Handle>> {
    let admission = engine.admission(&options)?;
    let payloads = (0..count).map(|number| (number.to_string().into_bytes().into(), None));
    engine.submit_many(entry, &admission, payloads, false)
}

#[test]
fn return_gives_the_handle_of_the_task_that_has_the_key() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let slow = gated(&timed.engine, "slow", Options::default());
        let first = submit_with(&timed.engine, &slow.entry, keyed(OnConflict::Return), "first");
        slow.begun.wait_for(1);
        let second = submit_with(&timed.engine, &slow.entry, keyed(OnConflict::Return), "second");
        assert_eq!(second.id(), first.id());
        let many = try_many(&timed.engine, &slow.entry, keyed(OnConflict::Return), 3).unwrap();
        assert!(many.iter().all(|handle| handle.id() == first.id()));
        slow.gate.open();
        assert_eq!((result(&second), result(&many[2])), ("first".into(), "first".into()));
        assert_eq!(slow.begun.len(), 1);
        // It has ended, and the key is free.
        let third = submit_with(&timed.engine, &slow.entry, keyed(OnConflict::Return), "third");
        assert_eq!(result(&third), "third");
    });
}

#[test]
fn of_many_submitted_at_once_with_one_key_there_is_one() {
    on_both(|place| {
        let timed = place.timed(1);
        let echo = register(&timed.engine, "echo", echo);
        let many = try_many(&timed.engine, &echo, keyed(OnConflict::Return), 5).unwrap();
        assert!(many.iter().all(|handle| handle.id() == many[0].id()));
        assert_eq!(timed.engine.counts().unwrap().unfinished(), 1);
        let code = try_many(&timed.engine, &echo, keyed(OnConflict::Reject), 2).unwrap_err().code();
        assert_eq!(code, Code::DuplicateKey);
        assert_eq!(timed.engine.counts().unwrap().unfinished(), 1);
        timed.engine.start().unwrap();
        assert!(many.iter().all(|handle| result(handle) == "0"));
    });
}

#[test]
fn replace_cancels_the_task_that_has_the_key() {
    on_both(|place| {
        let timed = place.timed(2).started();
        let slow = gated(&timed.engine, "slow", Options::default());
        let first = submit_with(&timed.engine, &slow.entry, keyed(OnConflict::Replace), "first");
        let attempt = slow.begun.wait_for(1).remove(0);
        let second = submit_with(&timed.engine, &slow.entry, keyed(OnConflict::Replace), "second");
        assert_ne!(second.id(), first.id());
        let error = outcome(&first).unwrap_err();
        assert_eq!(error.code(), Code::TaskCancelled);
        assert!(error.message().contains("unique key"), "{error}");
        assert!(attempt.is_cancelled());
        assert_eq!(timed.interrupts.wait_for(1), [(first.id(), attempt.fence())]);
        slow.begun.wait_for(2);
        let many = try_many(&timed.engine, &slow.entry, keyed(OnConflict::Replace), 2).unwrap();
        assert_eq!([failure(&second), failure(&many[0])], [Code::TaskCancelled; 2]);
        slow.gate.open();
        assert_eq!(result(&many[1]), "1");
    });
}

#[test]
fn replace_takes_the_place_of_what_has_not_begun() {
    on_both(|place| {
        let timed = place.timed(1);
        let echo = register(&timed.engine, "echo", echo);
        let first = submit_with(&timed.engine, &echo, keyed(OnConflict::Replace), "first");
        let second = submit_with(&timed.engine, &echo, keyed(OnConflict::Replace), "second");
        assert_state(&first, State::Cancelled);
        assert_eq!(failure(&first), Code::TaskCancelled);
        timed.engine.start().unwrap();
        assert_eq!(result(&second), "second");
    });
}

#[test]
fn reject_names_the_task_that_has_the_key() {
    on_both(|place| {
        let timed = place.timed(1);
        let (echo, other) = (register(&timed.engine, "echo", echo), register(&timed.engine, "other", echo));
        let first = submit_with(&timed.engine, &echo, keyed(OnConflict::Reject), "first");
        let error = try_submit(&timed.engine, &echo, keyed(OnConflict::Reject), "second").unwrap_err();
        assert_eq!(error.code(), Code::DuplicateKey);
        assert!(error.message().contains(&first.id().to_string()), "{error}");
        assert_eq!(timed.engine.counts().unwrap().unfinished(), 1);
        // The keys of another handler are its own.
        let second = submit_with(&timed.engine, &other, keyed(OnConflict::Reject), "second");
        timed.engine.start().unwrap();
        assert_eq!((result(&first), result(&second)), ("first".into(), "second".into()));
    });
}

#[test]
fn of_many_threads_that_submit_with_one_key_one_wins() {
    const THREADS: usize = 8;
    on_both(|place| {
        for on_conflict in [OnConflict::Return, OnConflict::Replace, OnConflict::Reject] {
            let timed = place.timed(1);
            let echo = register(&timed.engine, "echo", echo);
            let before = timed.engine.counts().unwrap();
            let submitted: Vec<_> = std::thread::scope(|scope| {
                let submitters: Vec<_> = (0..THREADS)
                    .map(|_| scope.spawn(|| try_submit(&timed.engine, &echo, keyed(on_conflict), "1")))
                    .collect();
                submitters.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let after = timed.engine.counts().unwrap();
            assert_eq!(after.unfinished(), 1, "{on_conflict:?}");
            let cancelled = after.get(State::Cancelled) - before.get(State::Cancelled);
            let accepted: Vec<_> = submitted.iter().filter_map(|submitted| submitted.as_ref().ok()).collect();
            let ids: HashSet<_> = accepted.iter().map(|handle| handle.id()).collect();
            assert_eq!(
                (accepted.len(), ids.len(), cancelled),
                match on_conflict {
                    OnConflict::Return => (THREADS, 1, 0),
                    OnConflict::Replace => (THREADS, THREADS, THREADS as u64 - 1),
                    OnConflict::Reject => (1, 1, 0),
                }
            );
            timed.engine.start().unwrap();
            let succeeded = accepted.iter().filter(|handle| outcome(handle).is_ok()).count();
            assert_eq!(succeeded, if on_conflict == OnConflict::Return { THREADS } else { 1 });
            let engine = Arc::clone(&timed.engine);
            in_time("the stop", move || engine.stop(taskloom_engine::Stop::Finish));
        }
    });
}

#[test]
fn a_key_can_be_kept_for_longer_than_its_task_lives() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let echo = register(&timed.engine, "echo", echo);
        let kept = |on_conflict| Options { unique_for: Some(seconds(60)), ..keyed(on_conflict) };
        let first = submit_with(&timed.engine, &echo, kept(OnConflict::Return), "first");
        assert_eq!(result(&first), "first");
        timed.advance(seconds(59));
        let again = submit_with(&timed.engine, &echo, kept(OnConflict::Return), "again");
        assert_eq!((again.id(), result(&again)), (first.id(), "first".into()));
        assert!(again.is_done(), "it ended before");
        let code = try_submit(&timed.engine, &echo, kept(OnConflict::Reject), "").unwrap_err().code();
        assert_eq!(code, Code::DuplicateKey);
        timed.advance(seconds(1));
        let second = submit_with(&timed.engine, &echo, kept(OnConflict::Return), "second");
        assert_eq!(result(&second), "second");
        // One that has ended is not cancelled, and gives the key up.
        let third = submit_with(&timed.engine, &echo, kept(OnConflict::Replace), "third");
        assert_eq!((result(&third), second.state()), ("third".into(), State::Succeeded));
    });
}

#[test]
fn a_task_that_waits_for_its_retry_keeps_its_key() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let retry = Some(taskloom_model::RetryPolicy { base: seconds(100), factor: 1.0, cap: seconds(100) });
        let options = Options { retries: Some(1), retry, ..keyed(OnConflict::Return) };
        let bad = register(&timed.engine, "bad", |_: &Attempt| Outcome::failure("Bad", ""));
        let first = submit_with(&timed.engine, &bad, options.clone(), "1");
        eventually("it failed", || first.state() == State::Retrying);
        assert_eq!(submit_with(&timed.engine, &bad, options.clone(), "1").id(), first.id());
        timed.advance(seconds(100));
        assert_eq!(failure(&first), Code::TaskFailed);
        assert_ne!(submit_with(&timed.engine, &bad, options, "1").id(), first.id());
    });
}
