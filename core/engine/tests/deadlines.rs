//! Deadlines: the time that a task may take in total, from its submit.

mod common;

use common::stores::on_both;
use common::*;
use taskloom_engine::{Attempt, Count, Handle, Outcome};
use taskloom_model::{Code, Options, RetryPolicy, State, Timestamp, When};

fn within(span: u64) -> Options {
    Options { deadline: Some(When::In(seconds(span))), ..Options::default() }
}

fn assert_passed(handle: &Handle, attempt: u32) {
    let error = outcome(handle).unwrap_err();
    assert_eq!(error.code(), Code::TaskTimedOut);
    assert!(error.message().contains("deadline"), "{error}");
    handle.task().with_row(|row| assert_eq!((row.state, row.attempt), (State::TimedOut, attempt)));
}

#[test]
fn a_deadline_passes_while_a_task_waits() {
    on_both(|place| {
        let timed = place.timed(1);
        let echo = register(&timed.engine, "echo", echo);
        let queued = submit_with(&timed.engine, &echo, within(10), "1");
        let later = Options { eta: Some(When::In(seconds(5))), ..within(10) };
        let pending = submit_with(&timed.engine, &echo, later, "2");
        let kept = submit_with(&timed.engine, &echo, within(11), "3");
        timed.advance(seconds(9));
        assert_state(&queued, State::Queued);
        timed.advance(seconds(1));
        assert_passed(&queued, 0);
        assert_passed(&pending, 0);
        timed.engine.start().unwrap();
        assert_eq!(result(&kept), "3");
    });
}

#[test]
fn a_deadline_calls_off_what_runs_and_no_retry_follows() {
    on_both(|place| {
        let timed = place.timed(2).started();
        let retry = Some(RetryPolicy { base: std::time::Duration::ZERO, ..RetryPolicy::default() });
        let options = Options { retries: Some(5), retry, timeout: Some(seconds(60)), ..within(10) };
        let slow = gated(&timed.engine, "slow", options);
        let handle = submit(&timed.engine, &slow.entry, "1");
        let attempt = slow.begun.wait_for(1).remove(0);
        assert_eq!(attempt.time_left(), Some(seconds(10)), "the nearer of the two limits");
        timed.advance(seconds(9));
        assert!(!attempt.is_cancelled());
        assert_eq!(attempt.time_left(), Some(seconds(1)));
        timed.advance(seconds(1));
        assert_passed(&handle, 1);
        assert!(attempt.is_cancelled());
        assert_eq!(timed.interrupts.all(), [(handle.id(), attempt.fence())]);
        timed.advance(seconds(3600));
        slow.gate.open();
        eventually("its report is refused", || timed.engine.worker_counts().3 == 1);
        assert_passed(&handle, 1);
        assert_eq!(slow.begun.len(), 1);
    });
}

#[test]
fn a_deadline_without_a_timeout_is_the_time_that_is_left() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let slow = gated(&timed.engine, "slow", within(10));
        let handle = submit(&timed.engine, &slow.entry, "1");
        let attempt = slow.begun.wait_for(1).remove(0);
        timed.advance(seconds(4));
        assert_eq!(attempt.time_left(), Some(seconds(6)));
        slow.gate.open();
        assert_eq!(result(&handle), "1");
    });
}

#[test]
fn a_deadline_passes_while_a_task_waits_for_its_retry() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let retry = Some(RetryPolicy { base: seconds(1_000), factor: 1.0, cap: seconds(1_000) });
        let options = Options { retries: Some(1), ..within(10) };
        let bad = register_with(&timed.engine, "bad", Options { retry, ..options }, |attempt: &Attempt| {
            match attempt.fence().attempt {
                1 => Outcome::Failed(taskloom_engine::Failed {
                    kind: "Busy".into(),
                    message: String::new(),
                    backtrace: String::new(),
                    permanent: false,
                    retry_after: Some(seconds(500)),
                }),
                _ => echo(attempt),
            }
        });
        let handle = submit(&timed.engine, &bad, "1");
        eventually("it failed", || handle.state() == State::Retrying);
        timed.advance(seconds(10));
        assert_passed(&handle, 1);
    });
}

#[test]
fn a_worker_that_comes_too_late_does_not_begin() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let block = gated(&timed.engine, "block", Options::default());
        let note = gated(&timed.engine, "note", Options::default());
        note.gate.open();
        submit(&timed.engine, &block.entry, "1");
        block.begun.wait_for(1);
        let late = submit_with(&timed.engine, &note.entry, within(5), "late");
        let after = submit(&timed.engine, &note.entry, "after");
        // The clock goes on, and no timer has looked when the worker pops it.
        timed.clock.advance(seconds(5));
        block.gate.open();
        assert_eq!(result(&after), "after");
        timed.step();
        // A store that claims ahead counts the claim, which is the fence, though nothing came of it.
        assert_passed(&late, if place.is_memory() { 0 } else { 1 });
        assert_eq!(note.begun.len(), 1, "only the other one began");
        let figures = timed.engine.stats().unwrap().total;
        assert_eq!((figures.of(Count::TimedOut), figures.of(Count::Released), figures.started()), (1, 0, 2));
    });
}

#[test]
fn a_deadline_before_the_eta_is_refused() {
    on_both(|place| {
        let timed = place.timed(1);
        let echo = register(&timed.engine, "echo", echo);
        let at = |seconds: i64| Some(When::At(Timestamp::from_micros(START + seconds * 1_000_000)));
        for (eta, deadline) in
            [(at(10), at(10)), (Some(When::In(seconds(10))), at(9)), (at(10), Some(When::In(seconds(5))))]
        {
            let written = if matches!(eta, Some(When::In(_))) { "delay" } else { "eta" };
            let options = Options { eta, deadline, ..Options::default() };
            let error = try_submit(&timed.engine, &echo, options, "1").unwrap_err();
            assert_eq!(error.code(), Code::InvalidOption);
            assert!(error.message().contains("deadline") && error.message().contains(written), "{error}");
        }
    });
}
