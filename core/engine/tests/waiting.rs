//! Waiting for a task: inside a handler, outside, without an end, and not at all.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use common::*;
use taskloom_engine::{Attempt, Engine, HandlerEntry, Outcome, Stop};
use taskloom_model::{Code, State};
use taskloom_store::{MemoryOptions, Task};

/// A handler that submits tasks for itself, `width` of them one after the other, until its payload is 0.
fn nested(engine: &Arc<Engine>, width: usize) -> Arc<HandlerEntry> {
    let me: Arc<OnceLock<(Weak<Engine>, Arc<HandlerEntry>)>> = Arc::default();
    let own = Arc::clone(&me);
    let entry = register(engine, "nested", move |attempt: &Attempt| {
        let depth = number(attempt);
        if depth > 0 {
            let (engine, entry) = own.get().unwrap();
            let engine = engine.upgrade().unwrap();
            for _ in 0..width {
                let child = submit(&engine, entry, &(depth - 1).to_string());
                assert!(child.wait(None).unwrap());
                assert_eq!(child.state(), State::Succeeded);
            }
        }
        echo(attempt)
    });
    assert!(me.set((Arc::downgrade(engine), Arc::clone(&entry))).is_ok());
    entry
}

#[test]
fn a_parent_waits_for_its_child_on_a_pool_of_one() {
    let engine = started(1);
    let entry = nested(&engine, 1);
    for depth in ["1", "5"] {
        assert_eq!(result(&submit(&engine, &entry, depth)), depth);
    }
    eventually("the pool has its size back", || engine.worker_counts() == (1, 0, 0, 0));
}

#[test]
fn a_parent_that_waits_again_and_again_is_served() {
    let engine = started(1);
    let entry = nested(&engine, 7);
    let handles: Vec<_> = (0..8).map(|_| submit(&engine, &entry, "3")).collect();
    assert!(handles.iter().all(|handle| result(handle) == "3"));
    eventually("the pool has its size back", || engine.worker_counts() == (1, 0, 0, 0));
}

#[test]
fn a_parent_may_wait_for_a_task_of_another_engine() {
    let (here, there) = (started(1), started(1));
    let echo_there = register(&there, "echo", echo);
    let far = Arc::clone(&there);
    let entry = register(&here, "far", move |attempt: &Attempt| {
        let child = submit(&far, &echo_there, "far");
        assert!(child.wait(None).unwrap());
        echo(attempt)
    });
    let handles: Vec<_> = (0..20).map(|_| submit(&here, &entry, "near")).collect();
    assert!(handles.iter().all(|handle| result(handle) == "near"));
    eventually("the pools have their sizes back", || {
        here.worker_counts().0 == 1 && there.worker_counts().0 == 1
    });
}

#[test]
fn a_wait_that_nobody_could_end_is_refused() {
    let engine = memory(options(1));
    let entry = register(&engine, "echo", echo);
    let handle = submit(&engine, &entry, "1");
    let error = handle.wait(None).unwrap_err();
    assert_eq!(error.code(), Code::WouldDeadlock);
    assert!(error.to_string().contains("start"), "{error}");
    assert!(!handle.wait(Some(Duration::from_millis(1))).unwrap());
    assert_eq!(handle.outcome().unwrap_err().code(), Code::WaitTimeout);
    engine.start().unwrap();
    assert_eq!(result(&handle), "1");
}

#[test]
fn a_handle_outlives_its_engine() {
    let engine = started(1);
    let entry = register(&engine, "echo", echo);
    let (done, waiting) = (submit(&engine, &entry, "1"), Gate::default());
    assert_eq!(result(&done), "1");
    let door = waiting.clone();
    let held = register(&engine, "held", move |attempt: &Attempt| {
        door.pass();
        echo(attempt)
    });
    let held = submit(&engine, &held, "");
    drop((engine, entry));
    assert_eq!(result(&done), "1");
    assert_eq!(failure(&held), Code::ShutDown);
    assert!(held.wait(None).unwrap());
    waiting.open();
}

#[test]
fn an_observer_is_called_once() {
    let engine = started(2);
    let gate = Gate::default();
    let door = gate.clone();
    let entry = register(&engine, "gated", move |attempt: &Attempt| {
        door.pass();
        echo(attempt)
    });
    let calls = Log::<(&str, State)>::default();
    let observe = |handle: &taskloom_engine::Handle, when| {
        let calls = calls.clone();
        handle.task().observe(move |task: &Arc<Task>| calls.add((when, task.state())));
    };
    let handle = submit(&engine, &entry, "1");
    observe(&handle, "before");
    assert_eq!(calls.len(), 0);
    gate.open();
    calls.wait_for(1);
    assert_eq!(result(&handle), "1");
    observe(&handle, "after");
    assert_eq!(calls.all(), [("before", State::Succeeded), ("after", State::Succeeded)]);
}

#[test]
fn observers_that_race_with_the_end_are_called_once_each() {
    const TASKS: usize = 2_000;
    let engine = started(2);
    let entry = register(&engine, "echo", echo);
    let calls = Arc::new((0..TASKS).map(|_| AtomicUsize::new(0)).collect::<Vec<_>>());
    let all = Log::<()>::default();
    for index in 0..TASKS {
        let handle = submit(&engine, &entry, "1");
        let (calls, all) = (Arc::clone(&calls), all.clone());
        handle.task().observe(move |task| {
            assert!(task.is_settled());
            calls[index].fetch_add(1, Ordering::Relaxed);
            all.add(());
        });
    }
    all.wait_for(TASKS);
    engine.stop(Stop::Finish);
    assert!(calls.iter().all(|count| count.load(Ordering::Relaxed) == 1));
}

#[test]
fn an_observer_that_panics_harms_nobody() {
    let engine = started(1);
    let gate = Gate::default();
    let door = gate.clone();
    let entry = register(&engine, "gated", move |attempt: &Attempt| {
        door.pass();
        echo(attempt)
    });
    let handle = submit(&engine, &entry, "1");
    let calls = Log::<()>::default();
    let log = calls.clone();
    handle.task().observe(|_| panic!("an observer's own fault"));
    handle.task().observe(move |_| log.add(()));
    gate.open();
    calls.wait_for(1);
    assert_eq!(result(&submit(&engine, &entry, "2")), "2");
    assert_eq!(engine.worker_counts().0, 1);
}

#[test]
fn tasks_that_nobody_holds_are_forgotten() {
    const KEPT: usize = 10;
    let engine = bounded(2, MemoryOptions { keep_finished: KEPT, ..MemoryOptions::default() });
    engine.start().unwrap();
    let entry = register(&engine, "echo", echo);
    let tasks: Vec<Weak<Task>> =
        (0..1_000).map(|_| Arc::downgrade(submit(&engine, &entry, "some payload").task())).collect();
    let last = submit(&engine, &entry, "1");
    result(&last);
    let alive = || tasks.iter().filter(|task| task.strong_count() > 0).count();
    eventually("all but the newest are gone", || alive() <= KEPT);
    engine.stop(Stop::Finish);
    assert_eq!(alive(), KEPT - 1);
    drop(engine);
    eventually("the rest goes with the engine", || alive() == 0);
}

#[test]
fn a_worker_waits_for_a_while_and_goes_on() {
    let engine = started(1);
    let gate = Gate::default();
    let door = gate.clone();
    let slow = register(&engine, "slow", move |attempt: &Attempt| {
        door.pass();
        echo(attempt)
    });
    let own = Arc::downgrade(&engine);
    let entry = register(&engine, "impatient", move |_: &Attempt| {
        let child = submit(&own.upgrade().unwrap(), &slow, "");
        let ended = child.wait(Some(Duration::from_millis(1))).unwrap();
        assert_eq!(child.outcome().unwrap_err().code(), Code::WaitTimeout);
        Outcome::success(ended.to_string().into_bytes())
    });
    assert_eq!(result(&submit(&engine, &entry, "")), "false");
    gate.open();
    engine.stop(Stop::Finish);
    assert_eq!(engine.counts().unwrap().get(State::Succeeded), 2);
}
