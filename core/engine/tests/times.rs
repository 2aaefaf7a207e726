//! What happens at a time: delays, backoffs, expiries, timeouts. The clock is turned by hand.

mod common;

use std::time::Duration;

use common::*;
use taskloom_engine::{Attempt, Failed, Outcome, Stop};
use taskloom_model::{Code, Options, RetryPolicy, State, Timestamp, When};

fn after(delay: u64) -> Options {
    Options { eta: Some(When::In(seconds(delay))), ..Options::default() }
}

fn expiring(span: u64) -> Options {
    Options { expires: Some(When::In(seconds(span))), ..Options::default() }
}

fn timeout(span: u64, retries: u32) -> Options {
    let retry = Some(RetryPolicy { base: Duration::ZERO, ..RetryPolicy::default() });
    Options { timeout: Some(seconds(span)), retries: Some(retries), retry, ..Options::default() }
}

#[test]
fn a_delayed_task_waits_for_its_time() {
    let timed = Timed::memory(1).started();
    let echo = register(&timed.engine, "echo", echo);
    let handle = submit_with(&timed.engine, &echo, after(60), "1");
    assert_state(&handle, State::Pending);
    assert_eq!(timed.step(), seconds(10), "nobody waits longer than that: clocks jump");
    timed.advance(seconds(55));
    assert_state(&handle, State::Pending);
    assert_eq!(timed.step(), seconds(5));
    timed.advance(seconds(5));
    assert_eq!(result(&handle), "1");
    assert_eq!(timed.step(), seconds(10));
}

#[test]
fn an_eta_in_the_past_means_now() {
    let timed = Timed::memory(1).started();
    let echo = register(&timed.engine, "echo", echo);
    let past = When::At(Timestamp::from_micros(START - 5_000_000));
    let handle = submit_with(&timed.engine, &echo, Options { eta: Some(past), ..Options::default() }, "1");
    assert_eq!(result(&handle), "1");
}

#[test]
fn delayed_tasks_come_in_the_order_of_their_times() {
    let timed = Timed::memory(1).started();
    let order = Log::default();
    let log = order.clone();
    let note = register(&timed.engine, "note", move |attempt: &Attempt| {
        log.add(number(attempt));
        echo(attempt)
    });
    let delays = [7, 3, 900, 1, 5];
    let handles = delays.map(|delay| submit_with(&timed.engine, &note, after(delay), &delay.to_string()));
    timed.advance(seconds(1000));
    handles.iter().for_each(|handle| drop(result(handle)));
    assert_eq!(order.all(), [1, 3, 5, 7, 900]);
}

#[test]
fn more_tasks_than_one_step_takes_come_due_together() {
    let timed = Timed::memory(2).started();
    let echo = register(&timed.engine, "echo", echo);
    let handles: Vec<_> = (0..1_000).map(|_| submit_with(&timed.engine, &echo, after(5), "1")).collect();
    timed.clock.advance(seconds(5));
    assert_eq!(timed.engine.step(), Duration::ZERO, "there is more");
    timed.step();
    assert!(handles.iter().all(|handle| result(handle) == "1"));
}

#[test]
fn a_failure_waits_for_its_backoff() {
    let timed = Timed::memory(1).started();
    let retry = Some(RetryPolicy { base: seconds(100), factor: 1.0, cap: seconds(100) });
    let options = Options { retries: Some(2), retry, ..Options::default() };
    let bad =
        register_with(&timed.engine, "bad", options, |attempt: &Attempt| match attempt.fence().attempt {
            1 => Outcome::failure("Bad", ""),
            2 => Outcome::Failed(Failed {
                kind: "Busy".into(),
                message: String::new(),
                backtrace: String::new(),
                permanent: false,
                retry_after: Some(seconds(5_000)),
            }),
            _ => echo(attempt),
        });
    let handle = submit(&timed.engine, &bad, "1");
    eventually("it failed", || handle.state() == State::Retrying);
    let wait = handle.task().with_row(|row| row.eligible.since(Timestamp::from_micros(START)));
    assert!(wait > Duration::ZERO && wait < seconds(100), "{wait:?}: full jitter");
    timed.advance(wait - Duration::from_micros(1));
    assert_state(&handle, State::Retrying);
    timed.advance(Duration::from_micros(1));
    // The second failure asks for more than the cap.
    eventually("it failed again", || handle.task().with_row(|row| row.failures == 2));
    timed.advance(seconds(4_999));
    assert_state(&handle, State::Retrying);
    timed.advance(seconds(1));
    assert_eq!(result(&handle), "1");
}

#[test]
fn a_task_that_nobody_serves_expires() {
    let timed = Timed::memory(1);
    let echo = register(&timed.engine, "echo", echo);
    let (kept, lost) = (
        submit_with(&timed.engine, &echo, expiring(9), "1"),
        submit_with(&timed.engine, &echo, expiring(5), "2"),
    );
    timed.advance(seconds(4));
    assert_state(&lost, State::Queued);
    timed.advance(seconds(1));
    assert_eq!(failure(&lost), Code::TaskExpired);
    timed.engine.start().unwrap();
    assert_eq!(result(&kept), "1");
}

#[test]
fn an_expired_task_is_not_run_though_a_worker_comes_first() {
    let timed = Timed::memory(1).started();
    let block = gated(&timed.engine, "block", Options::default());
    let note = gated(&timed.engine, "note", Options::default());
    note.gate.open();
    submit(&timed.engine, &block.entry, "");
    block.begun.wait_for(1);
    let late = submit_with(&timed.engine, &note.entry, expiring(5), "late");
    let after_it = submit(&timed.engine, &note.entry, "after");
    // The clock goes on, and no timer has looked when the worker pops it.
    timed.clock.advance(seconds(5));
    block.gate.open();
    assert_eq!(result(&after_it), "after");
    assert_eq!(failure(&late), Code::TaskExpired);
    assert_eq!(note.begun.len(), 1);
}

#[test]
fn a_task_that_would_expire_at_once_does() {
    let timed = Timed::memory(1).started();
    let note = gated(&timed.engine, "note", Options::default());
    let past = Options { expires: Some(When::At(Timestamp::from_micros(START))), ..Options::default() };
    assert_eq!(failure(&submit_with(&timed.engine, &note.entry, past, "1")), Code::TaskExpired);
    assert_eq!(note.begun.len(), 0);
}

#[test]
fn an_attempt_that_takes_too_long_is_timed_out() {
    let timed = Timed::memory(1).started();
    let slow = gated(&timed.engine, "slow", timeout(10, 0));
    let handle = submit(&timed.engine, &slow.entry, "1");
    let attempt = slow.begun.wait_for(1).remove(0);
    assert_eq!(attempt.time_left(), Some(seconds(10)));
    timed.advance(seconds(9));
    assert_state(&handle, State::Running);
    assert_eq!(attempt.time_left(), Some(seconds(1)));
    assert!(!attempt.is_cancelled());
    timed.advance(seconds(1));
    // Its handler is still at it.
    let error = outcome(&handle).unwrap_err();
    assert_eq!(error.code(), Code::TaskTimedOut);
    assert!(error.message().contains("10 s"), "{error}");
    assert!(attempt.is_cancelled());
    assert_eq!(timed.interrupts.all(), [(handle.id(), attempt.fence())]);
    assert_eq!(timed.engine.worker_counts(), (1, 0, 0, 0));
    slow.gate.open();
    eventually("its report is refused", || timed.engine.worker_counts().3 == 1);
    assert_eq!(failure(&handle), Code::TaskTimedOut);
}

#[test]
fn a_timeout_is_a_failure_and_is_retried() {
    let timed = Timed::memory(2).started();
    let slow = gated(&timed.engine, "slow", timeout(10, 1));
    let handle = submit(&timed.engine, &slow.entry, "1");
    slow.begun.wait_for(1);
    timed.advance(seconds(10));
    // The second worker takes the next attempt, while the first one's handler goes on.
    timed.step();
    slow.begun.wait_for(2);
    assert_state(&handle, State::Running);
    slow.gate.open();
    assert_eq!(result(&handle), "1");
    eventually("the first report is refused", || timed.engine.worker_counts().3 == 1);
    assert_eq!(errors(&handle)[0].0, "TaskTimedOut");
    handle.task().with_row(|row| assert_eq!((row.attempt, row.failures), (2, 1)));
}

#[test]
fn a_stuck_thread_is_replaced_and_shown() {
    let timed = Timed::memory(1).started();
    let slow = gated(&timed.engine, "slow", timeout(10, 0));
    let echo = register(&timed.engine, "echo", echo);
    let stuck = submit(&timed.engine, &slow.entry, "1");
    let next = submit(&timed.engine, &echo, "2");
    slow.begun.wait_for(1);
    timed.advance(seconds(10));
    assert_eq!(failure(&stuck), Code::TaskTimedOut);
    assert_eq!(timed.engine.worker_counts(), (1, 0, 0, 0), "it has a moment to come back");
    timed.advance(Duration::from_millis(199));
    timed.advance(Duration::from_millis(1));
    assert_eq!(result(&next), "2");
    assert_eq!(timed.engine.worker_counts(), (2, 1, 1, 0));
    slow.gate.open();
    eventually("the pool is back to its size", || timed.engine.worker_counts() == (1, 0, 0, 1));
    assert_eq!(result(&submit(&timed.engine, &echo, "3")), "3");
}

#[test]
fn a_thread_that_is_stuck_while_it_waits_is_away_once() {
    let timed = Timed::memory(1).started();
    let child = gated(&timed.engine, "child", Options::default());
    let (own, inner) = (std::sync::Arc::downgrade(&timed.engine), std::sync::Arc::clone(&child.entry));
    let parent = register_with(&timed.engine, "parent", timeout(10, 0), move |attempt: &Attempt| {
        let handle = submit(&own.upgrade().unwrap(), &inner, "child");
        handle.wait(None).unwrap();
        echo(attempt)
    });
    let handle = submit(&timed.engine, &parent, "1");
    child.begun.wait_for(1);
    assert_eq!(timed.engine.worker_counts(), (2, 1, 0, 0));
    timed.advance(seconds(10));
    assert_eq!(failure(&handle), Code::TaskTimedOut);
    timed.advance(seconds(1));
    assert_eq!(timed.engine.worker_counts(), (2, 1, 1, 0));
    child.gate.open();
    eventually("the pool is back to its size", || timed.engine.worker_counts() == (1, 0, 0, 1));
}

#[test]
fn a_stuck_thread_does_not_hold_up_the_end() {
    let timed = Timed::memory(1).started();
    let slow = gated(&timed.engine, "slow", timeout(10, 0));
    submit(&timed.engine, &slow.entry, "1");
    slow.begun.wait_for(1);
    timed.advance(seconds(10));
    timed.advance(seconds(1));
    let engine = std::sync::Arc::clone(&timed.engine);
    in_time("a graceful stop", move || engine.stop(Stop::Finish));
    assert_eq!(timed.engine.worker_counts(), (1, 1, 1, 0));
    slow.gate.open();
    eventually("the last thread has gone", || timed.engine.worker_counts() == (0, 0, 0, 1));
}

#[test]
fn an_attempt_that_ends_in_time_leaves_nothing_behind() {
    let timed = Timed::memory(1).started();
    let quick = register_with(&timed.engine, "quick", timeout(10, 0), echo);
    assert_eq!(result(&submit(&timed.engine, &quick, "1")), "1");
    timed.advance(seconds(1_000));
    assert_eq!(timed.interrupts.len(), 0);
    assert_eq!(timed.engine.worker_counts(), (1, 0, 0, 0));
}

#[test]
fn the_thread_watches_the_time_too() {
    let engine = started(1);
    let slow =
        gated(&engine, "slow", Options { timeout: Some(Duration::from_millis(1)), ..Options::default() });
    let echo = register(&engine, "echo", echo);
    let soon = Options { eta: Some(When::In(Duration::from_millis(1))), ..Options::default() };
    assert_eq!(result(&submit_with(&engine, &echo, soon, "1")), "1");
    assert_eq!(failure(&submit(&engine, &slow.entry, "")), Code::TaskTimedOut);
    // Only a new thread can run this.
    assert_eq!(result(&submit(&engine, &echo, "2")), "2");
    assert_eq!(engine.worker_counts(), (2, 1, 1, 0));
    slow.gate.open();
}
