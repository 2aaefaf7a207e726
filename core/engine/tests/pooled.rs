//! Tasks of a pool of foreign workers, which here is the test itself.

mod common;

use std::sync::Arc;

use common::stores::on_both;
use common::*;
use taskloom_engine::{Engine, Handler, HandlerEntry, Outcome, Started};
use taskloom_model::{Code, Options, State};

fn register_pooled(engine: &Engine, name: &str, options: Options) -> Arc<HandlerEntry> {
    engine.register(name, options, Handler::Pooled(Arc::new(()))).unwrap()
}

/// Takes at most so many.
fn take_some(engine: &Engine, most: usize) -> Vec<Started> {
    let mut taken = Vec::new();
    engine.take_pooled(&mut |one| {
        taken.extend(one);
        taken.len() < most
    });
    taken
}

/// Runs a test over both stores, with an engine whose pool is the test, and a task of that.
fn with_pool(options: Options, test: impl Fn(&Engine, &Arc<HandlerEntry>)) {
    on_both(|place| {
        let timed = place.timed(1).started();
        timed.engine.set_pool(Some(Arc::new(Host::default())));
        test(&timed.engine, &register_pooled(&timed.engine, "pooled", options.clone()));
        timed.engine.set_pool(None);
    });
}

#[test]
fn a_pool_takes_as_many_as_it_says() {
    with_pool(Options::default(), |engine, entry| {
        assert!(!engine.has_pooled());
        let handles: Vec<_> = (0..5).map(|_| submit(engine, entry, "1")).collect();
        eventually("they can be taken", || engine.has_pooled());
        assert!(take_some(engine, 0).is_empty(), "it is asked before the first");
        let taken = take_pooled(engine, 5);
        assert!(!engine.has_pooled());
        assert!(take(engine).is_empty(), "a loop has no part in them");
        taken.into_iter().for_each(|one| one.completion.complete(Outcome::success(*b"2")));
        assert!(handles.iter().all(|handle| result(handle) == "2"));
    });
}

#[test]
fn a_worker_that_dies_costs_a_crash_and_its_task_runs_again() {
    with_pool(Options { max_crashes: Some(2), ..Options::default() }, |engine, entry| {
        let handle = submit(engine, entry, "1");
        take_pooled(engine, 1).remove(0).completion.crash("was killed by signal 9");
        let again = take_pooled(engine, 1).remove(0);
        assert_eq!(again.attempt.fence().attempt, 2);
        assert_eq!(handle.task().with_row(|row| (row.crashes, row.failures)), (1, 0));
        again.completion.crash("was killed by signal 11");
        let error = outcome(&handle).unwrap_err();
        assert_eq!(error.code(), Code::TaskFailed);
        let (kind, message) = handle.task().with_row(|row| {
            let last = row.errors().last().unwrap();
            (last.kind.clone(), last.message.clone())
        });
        assert_eq!(kind, "HandlerLost");
        assert!(message.ends_with("the last one was killed by signal 11"), "{message}");
    });
}

#[test]
fn one_that_dies_after_its_attempt_was_called_off_changes_nothing() {
    with_pool(Options::default(), |engine, entry| {
        let handle = submit(engine, entry, "1");
        let taken = take_pooled(engine, 1).remove(0);
        assert!(handle.cancel(None).unwrap());
        taken.completion.crash("was killed");
        assert_state(&handle, State::Cancelled);
        assert_eq!(handle.task().with_row(|row| row.crashes), 0);
    });
}

#[test]
fn what_was_not_begun_goes_back_at_no_cost() {
    with_pool(Options::default(), |engine, entry| {
        let handle = submit(engine, entry, "1");
        take_pooled(engine, 1).remove(0).completion.give_back();
        let again = take_pooled(engine, 1).remove(0);
        assert_eq!(handle.task().with_row(|row| (row.crashes, row.failures)), (0, 0));
        again.completion.complete(Outcome::success(*b"2"));
        assert_eq!(result(&handle), "2");
    });
}
