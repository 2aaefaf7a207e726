//! Cancelling, in every state.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use taskloom_engine::{Attempt, Outcome};
use taskloom_model::{Code, Options, RetryPolicy, State, TaskId, When};

#[test]
fn what_has_not_begun_never_begins() {
    let timed = Timed::memory(1).started();
    let block = gated(&timed.engine, "block", Options::default());
    submit(&timed.engine, &block.entry, "");
    block.begun.wait_for(1);
    let later = Options { eta: Some(When::In(seconds(60))), ..Options::default() };
    let pending = submit_with(&timed.engine, &block.entry, later, "pending");
    let queued = submit(&timed.engine, &block.entry, "queued");
    let last = submit(&timed.engine, &block.entry, "last");
    for (handle, state) in [(&pending, State::Pending), (&queued, State::Queued)] {
        assert_state(handle, state);
        assert!(timed.engine.cancel(handle.id(), Some("not wanted")).unwrap());
        let error = outcome(handle).unwrap_err();
        assert_eq!(error.code(), Code::TaskCancelled);
        assert!(error.message().contains("not wanted"), "{error}");
        assert!(!timed.engine.cancel(handle.id(), None).unwrap(), "it has ended");
    }
    block.gate.open();
    timed.advance(seconds(60));
    assert_eq!(result(&last), "last");
    assert_eq!(block.begun.len(), 2);
    assert_eq!(timed.interrupts.len(), 0);
}

#[test]
fn what_waits_for_its_retry_is_not_retried() {
    let timed = Timed::memory(1).started();
    let retry = Some(RetryPolicy { base: seconds(100), factor: 1.0, cap: seconds(100) });
    let options = Options { retries: Some(1), retry, ..Options::default() };
    let bad = register_with(&timed.engine, "bad", options, |_: &Attempt| Outcome::failure("Bad", ""));
    let handle = submit(&timed.engine, &bad, "");
    eventually("it failed", || handle.state() == State::Retrying);
    assert!(timed.engine.cancel_task(handle.task(), None).unwrap());
    let error = outcome(&handle).unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::TaskCancelled, "bad was cancelled"));
    timed.advance(seconds(1000));
    handle.task().with_row(|row| assert_eq!((row.state, row.attempt), (State::Cancelled, 1)));
}

#[test]
fn what_has_ended_is_left_alone() {
    let engine = started(1);
    let echo = register(&engine, "echo", echo);
    let bad = register(&engine, "bad", |_: &Attempt| Outcome::failure("Bad", ""));
    for handle in [submit(&engine, &echo, "1"), submit(&engine, &bad, "1")] {
        let _ = outcome(&handle);
        let state = handle.state();
        assert!(!engine.cancel(handle.id(), Some("too late")).unwrap());
        assert_state(&handle, state);
    }
    assert!(!engine.cancel(TaskId::from_bytes([3; 16]), None).unwrap(), "there is no such task");
}

#[test]
fn a_running_handler_is_interrupted_until_it_ends() {
    let timed = Timed::memory(1).started();
    let slow = gated(&timed.engine, "slow", Options::default());
    let echo = register(&timed.engine, "echo", echo);
    let handle = submit(&timed.engine, &slow.entry, "1");
    let attempt = slow.begun.wait_for(1).remove(0);
    assert!(timed.engine.cancel(handle.id(), Some("enough")).unwrap());
    assert_eq!(failure(&handle), Code::TaskCancelled);
    assert!(attempt.is_cancelled());
    let call = (handle.id(), attempt.fence());
    assert_eq!(timed.interrupts.all(), [call], "at once");
    timed.step();
    assert_eq!(timed.interrupts.len(), 1);
    // Again and again, ever more seldom, and at last once a second.
    for calls in 2..=4 {
        timed.advance(Duration::from_millis(20 << (calls - 2)));
        assert_eq!(timed.interrupts.len(), calls);
    }
    for calls in 5..=12 {
        timed.advance(seconds(1));
        assert_eq!(timed.interrupts.len(), calls);
    }
    assert!(timed.interrupts.all().iter().all(|told| *told == call));
    // Then it ends, and is not told again.
    slow.gate.open();
    eventually("it ended", || timed.engine.worker_counts() == (1, 0, 0, 1));
    timed.advance(seconds(100));
    assert_eq!(result(&submit(&timed.engine, &echo, "2")), "2");
    timed.advance(seconds(100));
    assert_eq!(timed.interrupts.len(), 12);
    assert_eq!(failure(&handle), Code::TaskCancelled);
}

#[test]
fn the_next_task_of_a_thread_is_not_interrupted_for_the_last_one() {
    let timed = Timed::memory(1).started();
    let slow = gated(&timed.engine, "slow", Options::default());
    let (first, second) = (submit(&timed.engine, &slow.entry, "1"), submit(&timed.engine, &slow.entry, "2"));
    slow.begun.wait_for(1);
    assert!(timed.engine.cancel(first.id(), None).unwrap());
    slow.gate.open();
    assert_eq!(result(&second), "2");
    timed.advance(seconds(1));
    assert!(timed.interrupts.all().iter().all(|(id, _)| *id == first.id()));
    assert_eq!(timed.engine.worker_counts(), (1, 0, 0, 1));
}

#[test]
fn a_cancel_that_meets_the_beginning_is_not_missed() {
    // Whoever cancels in the moment between the claim and the first line of the handler must either keep it from
    // beginning or reach it.
    let timed = Timed::memory(2).started();
    let polite = register(&timed.engine, "polite", |attempt: &Attempt| {
        while !attempt.is_cancelled() {
            std::hint::spin_loop();
        }
        echo(attempt)
    });
    for _ in 0..2_000 {
        let handle = submit(&timed.engine, &polite, "");
        assert!(timed.engine.cancel_task(handle.task(), None).unwrap());
        assert_eq!(failure(&handle), Code::TaskCancelled);
    }
    eventually("all have ended", || {
        timed.step();
        timed.engine.worker_counts().0 == 2 && timed.engine.worker_counts().1 == 0
    });
}

#[test]
fn an_observer_may_cancel_and_submit() {
    let engine = started(1);
    let slow = gated(&engine, "slow", Options::default());
    slow.gate.open();
    let echo = register(&engine, "echo", echo);
    let later = Options { eta: Some(When::In(seconds(3600))), ..Options::default() };
    let (first, victim) =
        (submit_with(&engine, &echo, later.clone(), ""), submit_with(&engine, &echo, later, ""));
    let (own, id, follower) = (Arc::downgrade(&engine), victim.id(), Log::default());
    let log = follower.clone();
    first.task().observe(move |_| {
        let engine = own.upgrade().unwrap();
        assert!(engine.cancel(id, Some("after the first")).unwrap());
        log.add(submit(&engine, &echo, "follower"));
    });
    assert!(engine.cancel(first.id(), None).unwrap());
    assert_eq!(failure(&victim), Code::TaskCancelled);
    assert_eq!(result(&follower.all()[0]), "follower");
}
