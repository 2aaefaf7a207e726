//! What an operator does: lists, bulk cancels, sweeps, and runs by hand.

mod common;

use std::sync::Arc;

use common::stores::{File, Place, on_both};
use common::*;
use taskloom_engine::{Attempt, EngineOptions, Handle, Outcome, Stop};
use taskloom_model::{Code, Limit, LimitFor, Name, Options, RetryPolicy, State, TaskId, When};
use taskloom_store::Filter;

fn tagged(tag: &str) -> Options {
    Options { tags: vec![tag.into()], ..Options::default() }
}

fn ids(handles: &[Handle]) -> Vec<TaskId> {
    handles.iter().map(Handle::id).collect()
}

fn retries(count: u32) -> Options {
    let retry = Some(RetryPolicy { base: seconds(100), factor: 1.0, cap: seconds(100) });
    Options { retries: Some(count), retry, ..Options::default() }
}

#[test]
fn tasks_are_listed_page_by_page_and_by_what_they_are() {
    on_both(|place| {
        let timed = place.timed(1);
        let (echo, other) = (register(&timed.engine, "echo", echo), register(&timed.engine, "other", echo));
        let all: Vec<_> = (0..25)
            .map(|number| submit_with(&timed.engine, &echo, tagged(["even", "odd"][number % 2]), "1"))
            .collect();
        let last = submit(&timed.engine, &other, "1");
        assert!(all[3].cancel(None).unwrap());
        let list = |filter: Filter| ids(&timed.engine.list(&filter).unwrap());
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = list(Filter { after, limit: 10, ..Filter::default() });
            after = page.last().copied();
            seen.extend_from_slice(&page);
            if page.len() < 10 {
                break;
            }
        }
        let mut expected = ids(&all);
        expected.push(last.id());
        expected.sort();
        assert_eq!(seen, expected, "in the order of their ids, each once");
        assert_eq!(list(Filter { tag: Some("odd".into()), ..Filter::default() }).len(), 12);
        let unfinished = Filter { tag: Some("odd".into()), unfinished: true, ..Filter::default() };
        assert_eq!(list(unfinished).len(), 11);
        assert_eq!(list(Filter { state: Some(State::Cancelled), ..Filter::default() }), [all[3].id()]);
        assert_eq!(list(Filter { name: Some(Name::new("other")), ..Filter::default() }), [last.id()]);
        assert_eq!(list(Filter { queue: Some(Name::new("nobody")), ..Filter::default() }), []);
    });
}

#[test]
fn a_listed_task_can_be_waited_for() {
    on_both(|place| {
        let timed = place.timed(1);
        let echo = register(&timed.engine, "echo", echo);
        drop(submit(&timed.engine, &echo, "1"));
        let handle = timed.engine.list(&Filter::default()).unwrap().remove(0);
        timed.engine.start().unwrap();
        assert_eq!(result(&handle), "1");
    });
}

#[test]
fn many_are_cancelled_by_tag_and_by_queue() {
    on_both(|place| {
        let timed = place.timed(2).started();
        let slow = gated(&timed.engine, "slow", Options::default());
        let mail = Options { queue: Some("mail".into()), ..Options::default() };
        let running = submit_with(&timed.engine, &slow.entry, tagged("a"), "1");
        let attempt = slow.begun.wait_for(1).remove(0);
        let later = Options { eta: Some(When::In(seconds(60))), ..tagged("a") };
        let pending = submit_with(&timed.engine, &slow.entry, later, "2");
        let other = submit_with(&timed.engine, &slow.entry, tagged("b"), "3");
        let mailed = submit_with(&timed.engine, &slow.entry, mail, "4");

        let by_tag = Filter { tag: Some("a".into()), limit: 1, ..Filter::default() };
        assert_eq!(timed.engine.cancel_all(&by_tag, Some("enough")).unwrap(), 2);
        for handle in [&running, &pending] {
            let error = outcome(handle).unwrap_err();
            assert!(error.code() == Code::TaskCancelled && error.message().contains("enough"), "{error}");
        }
        assert!(attempt.is_cancelled());
        assert_eq!(timed.engine.cancel_all(&by_tag, None).unwrap(), 0, "they have ended");
        let by_queue = Filter { queue: Some(Name::new("mail")), ..Filter::default() };
        assert_eq!(timed.engine.cancel_all(&by_queue, None).unwrap(), 1);
        assert_eq!(failure(&mailed), Code::TaskCancelled);
        slow.gate.open();
        assert_eq!(result(&other), "3");
    });
}

#[test]
fn a_sweep_by_hand_forgets_what_ended_long_ago() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let echo = register(&timed.engine, "echo", echo);
        let old = submit(&timed.engine, &echo, "1");
        assert_eq!(result(&old), "1");
        timed.advance(seconds(100));
        let new = submit(&timed.engine, &echo, "2");
        assert_eq!(result(&new), "2");
        let (old_id, new_id) = (old.id(), new.id());
        assert_eq!(timed.engine.sweep(seconds(50)).unwrap(), 1);
        assert_eq!(timed.engine.sweep(seconds(50)).unwrap(), 0);
        assert_eq!(result(&old), "1", "a handle that is held keeps its result");
        drop(old);
        assert!(timed.engine.get(old_id).unwrap().is_none());
        assert_eq!(result(&timed.engine.get(new_id).unwrap().unwrap()), "2");
        assert!(!timed.engine.cancel(old_id, None).unwrap());
    });
}

#[test]
fn a_sweep_forgets_more_than_a_batch_and_leaves_what_lives() {
    on_both(|place| {
        let timed = place.timed(1);
        let echo = register(&timed.engine, "echo", echo);
        let payloads = (0..1_203).map(|_| ((*b"1").into(), None));
        timed.engine.submit_many(&echo, echo.admission(), payloads, false).unwrap();
        assert_eq!(timed.engine.purge(Name::new("default")).unwrap(), 1_203);
        submit(&timed.engine, &echo, "1");
        timed.advance(seconds(100));
        assert_eq!(timed.engine.sweep(seconds(50)).unwrap(), 1_203);
        assert_eq!(timed.engine.counts().unwrap().unfinished(), 1);
    });
}

#[test]
fn a_durable_store_forgets_after_its_time() {
    let options = EngineOptions { retention: Some(seconds(3600)), ..options(1) };
    let place = Place::File(File::new());
    let timed = place.timed_with(options);
    let echo = register(&timed.engine, "echo", echo);
    let payloads = (0..1_203).map(|_| ((*b"1").into(), None));
    timed.engine.submit_many(&echo, echo.admission(), payloads, false).unwrap();
    timed.engine.purge(Name::new("default")).unwrap();
    let count = || timed.engine.counts().unwrap().get(State::Cancelled);
    timed.advance(seconds(3599));
    assert_eq!(count(), 1_203);
    // It looks once a minute, and then batch after batch.
    timed.advance(seconds(60));
    let mut batches = 0;
    for _ in 0..2_000 {
        let before = count();
        timed.advance(std::time::Duration::from_millis(50));
        batches += usize::from(count() < before);
        assert!(before - count() <= 500, "a batch in each step");
    }
    assert_eq!(count(), 0);
    assert!(batches >= 2);
}

#[test]
fn without_a_retention_a_durable_store_forgets_nothing() {
    let place = Place::File(File::new());
    let timed = place.timed_with(EngineOptions { retention: None, ..options(1) });
    let echo = register(&timed.engine, "echo", echo);
    submit(&timed.engine, &echo, "1").cancel(None).unwrap();
    timed.advance(seconds(365 * 24 * 3600));
    assert_eq!(timed.engine.counts().unwrap().get(State::Cancelled), 1);
}

#[test]
fn a_task_is_run_by_hand_on_an_engine_that_was_not_started() {
    on_both(|place| {
        let timed = place.timed(1);
        let echo = register(&timed.engine, "echo", echo);
        let (one, two) = (submit(&timed.engine, &echo, "1"), submit(&timed.engine, &echo, "2"));
        let by_hand = timed.engine.run_now(two.id()).unwrap();
        assert_eq!(by_hand.id(), two.id());
        assert!(in_time("a wait without a limit", move || by_hand.wait(None).unwrap()));
        assert_eq!(result(&two), "2");
        assert_state(&one, State::Queued);
        let engine = Arc::clone(&timed.engine);
        in_time("the stop", move || engine.stop(Stop::Finish));
    });
}

#[test]
fn a_task_is_run_by_hand_whatever_it_waits_for() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let flaky = register_with(&timed.engine, "flaky", retries(1), |attempt: &Attempt| {
            match attempt.fence().attempt {
                1 => Outcome::failure("Bad", ""),
                _ => echo(attempt),
            }
        });
        let slow = gated(&timed.engine, "slow", Options::default());
        let echo = register(&timed.engine, "echo", echo);
        for _ in 0..10 {
            let later = Options { eta: Some(When::In(seconds(3600))), ..Options::default() };
            let delayed = submit_with(&timed.engine, &echo, later, "delayed");
            timed.engine.run_now(delayed.id()).unwrap();
            assert_eq!(result(&delayed), "delayed");
        }
        let retrying = submit(&timed.engine, &flaky, "again");
        eventually("it failed", || retrying.state() == State::Retrying);
        timed.engine.run_now(retrying.id()).unwrap();
        assert_eq!(result(&retrying), "again");
        timed.engine.pause(Name::new("default")).unwrap();
        let paused = submit(&timed.engine, &echo, "paused");
        timed.engine.run_now(paused.id()).unwrap();
        assert_eq!(result(&paused), "paused");
        timed.engine.resume(Name::new("default")).unwrap();

        // All workers are busy.
        submit(&timed.engine, &slow.entry, "1");
        slow.begun.wait_for(1);
        let queued = submit(&timed.engine, &echo, "queued");
        timed.engine.run_now(queued.id()).unwrap();
        assert_eq!(result(&queued), "queued");
        slow.gate.open();
        queued.task().with_row(|row| assert_eq!((row.attempt, row.failures), (1, 0)));
        eventually("no guest is left", || timed.engine.worker_counts() == (1, 0, 0, 0));
    });
}

#[test]
fn a_run_by_hand_begins_before_it_returns_and_may_fail_as_any() {
    on_both(|place| {
        let timed = place.timed(1);
        let slow = gated(&timed.engine, "slow", retries(1));
        let handle = submit(&timed.engine, &slow.entry, "1");
        let again = timed.engine.run_now(handle.id()).unwrap();
        assert_state(&again, State::Running);
        let attempt = slow.begun.wait_for(1).remove(0);
        let error = timed.engine.run_now(handle.id()).unwrap_err();
        assert_eq!(error.code(), Code::IllegalTransition);
        assert!(error.message().contains("running"), "{error}");
        assert!(handle.cancel(None).unwrap());
        assert!(attempt.is_cancelled());
        slow.gate.open();
        eventually("its report is refused", || timed.engine.worker_counts().3 == 1);
        let error = timed.engine.run_now(handle.id()).unwrap_err();
        assert!(error.message().contains("cancelled"), "{error}");
        let code = timed.engine.run_now(TaskId::from_bytes([7; 16])).unwrap_err().code();
        assert_eq!(code, Code::UnknownTask);
    });
}

#[test]
fn an_asynchronous_task_is_run_by_hand_though_its_queue_is_paused() {
    on_both(|place| {
        let timed = place.timed(1);
        timed.engine.set_loop(Some(Arc::new(Host::default())));
        let entry = register_async(&timed.engine, "task", Options::default());
        timed.engine.pause(Name::new("default")).unwrap();
        let handles = [submit(&timed.engine, &entry, "1"), submit(&timed.engine, &entry, "2")];
        assert!(take(&timed.engine).is_empty());
        timed.engine.run_now(handles[1].id()).unwrap();
        let mut started = take(&timed.engine);
        assert_eq!(started.len(), 1);
        started.remove(0).completion.complete(Outcome::success(*b"2"));
        assert_eq!(result(&handles[1]), "2");
        assert!(take(&timed.engine).is_empty());
        assert_state(&handles[0], State::Queued);
        timed.engine.set_loop(None);
    });
}

#[test]
fn only_a_handler_that_is_registered_here_runs_by_hand() {
    let (file, clock) = (File::new(), HandClock::new());
    let here = file.timed(&clock, options(1));
    let echo = register(&here.engine, "echo", echo);
    let handle = submit(&here.engine, &echo, "1");
    let there = file.timed(&clock, options(1));
    assert_eq!(there.engine.run_now(handle.id()).unwrap_err().code(), Code::UnknownHandler);
    assert_state(&there.engine.get(handle.id()).unwrap().unwrap(), State::Queued);
    register(&there.engine, "echo", common::echo);
    assert_eq!(result(&there.engine.run_now(handle.id()).unwrap()), "1");
}

#[test]
fn names_that_cannot_be_are_refused() {
    on_both(|place| {
        let timed = place.timed(1);
        let engine = &timed.engine;
        for name in ["*", "", "a b"] {
            let queue = Name::new(name);
            let of_queue = Filter { queue: Some(queue), ..Filter::default() };
            let of_handler = Filter { name: Some(queue), ..Filter::default() };
            let limit = Limit { concurrency: Some(1), rate: None };
            for (call, verdict) in [
                ("pause", engine.pause(queue).map(drop)),
                ("resume", engine.resume(queue).map(drop)),
                ("purge", engine.purge(queue).map(drop)),
                ("limit", engine.limit(LimitFor::Queue(queue), limit).map(drop)),
                ("list", engine.list(&of_queue).map(drop)),
                ("list by handler", engine.list(&of_handler).map(drop)),
                ("cancel", engine.cancel_all(&of_queue, None).map(drop)),
                ("replay", engine.replay_all(&of_queue).map(drop)),
                ("discard", engine.discard_all(&of_queue).map(drop)),
            ] {
                let error = verdict.expect_err(call);
                assert_eq!(error.code(), Code::InvalidOption, "{call}: {error}");
                assert!(error.message().contains(&format!("{name:?}")), "{call}: {error}");
            }
        }
        assert_eq!(engine.paused().unwrap(), []);
        assert_eq!(engine.limits().unwrap(), []);
    });
}
