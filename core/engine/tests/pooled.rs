//! Tasks of a pool of foreign workers, which here is the test itself.

mod common;

use std::cell::RefCell;
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

/// Takes so many, however many looks that needs: on a file they have to be claimed first.
fn take_all(engine: &Engine, count: usize) -> Vec<Started> {
    let taken = RefCell::new(Vec::new());
    eventually("the pool has them", || {
        let left = count - taken.borrow().len();
        taken.borrow_mut().extend(take_some(engine, left));
        taken.borrow().len() == count
    });
    taken.into_inner()
}

fn take_one(engine: &Engine) -> Started {
    take_all(engine, 1).remove(0)
}

#[test]
fn a_pool_takes_as_many_as_it_says() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let engine = &timed.engine;
        engine.set_pool(Some(Arc::new(Host::default())));
        let entry = register_pooled(engine, "pooled", Options::default());
        assert!(!engine.has_pooled());
        let handles: Vec<_> = (0..5).map(|_| submit(engine, &entry, "1")).collect();
        eventually("they can be taken", || engine.has_pooled());
        assert!(take_some(engine, 0).is_empty(), "it is asked before the first");
        let taken = take_all(engine, 5);
        assert!(!engine.has_pooled());
        assert!(take(engine).is_empty(), "a loop has no part in them");
        taken.into_iter().for_each(|one| one.completion.complete(Outcome::success(*b"2")));
        assert!(handles.iter().all(|handle| result(handle) == "2"));
        engine.set_pool(None);
    });
}

#[test]
fn a_worker_that_dies_costs_a_crash_and_its_task_runs_again() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let engine = &timed.engine;
        engine.set_pool(Some(Arc::new(Host::default())));
        let entry = register_pooled(engine, "pooled", Options { max_crashes: Some(2), ..Options::default() });
        let handle = submit(engine, &entry, "1");
        take_one(engine).completion.crash("was killed by signal 9");
        let again = take_one(engine);
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
        engine.set_pool(None);
    });
}

#[test]
fn one_that_dies_after_its_attempt_was_called_off_changes_nothing() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let engine = &timed.engine;
        engine.set_pool(Some(Arc::new(Host::default())));
        let entry = register_pooled(engine, "pooled", Options::default());
        let handle = submit(engine, &entry, "1");
        let taken = take_one(engine);
        assert!(handle.cancel(None).unwrap());
        taken.completion.crash("was killed");
        assert_state(&handle, State::Cancelled);
        assert_eq!(handle.task().with_row(|row| row.crashes), 0);
        engine.set_pool(None);
    });
}

#[test]
fn what_was_not_begun_goes_back_at_no_cost() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let engine = &timed.engine;
        engine.set_pool(Some(Arc::new(Host::default())));
        let entry = register_pooled(engine, "pooled", Options::default());
        let handle = submit(engine, &entry, "1");
        take_one(engine).completion.give_back();
        let again = take_one(engine);
        assert_eq!(handle.task().with_row(|row| (row.crashes, row.failures)), (0, 0));
        again.completion.complete(Outcome::success(*b"2"));
        assert_eq!(result(&handle), "2");
        engine.set_pool(None);
    });
}
