//! Tasks of an event loop, which here is the test itself.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::stores::{Place, on_both};
use common::*;
use taskloom_engine::{Count, EngineOptions, Outcome, Stop};
use taskloom_model::{Code, Options, RetryPolicy, State};

fn with_host(max_in_flight: usize) -> (Arc<taskloom_engine::Engine>, Host) {
    let engine = memory(EngineOptions { max_in_flight, ..options(1) });
    let host = Host::default();
    engine.start().unwrap();
    engine.set_loop(Some(Arc::new(host.clone())));
    // To set a loop wakes it: there may be tasks already.
    host.0.wait_for(1);
    assert_eq!(take(&engine).len(), 0);
    (Arc::new(engine), host)
}

fn done(text: &str) -> Outcome {
    Outcome::success(text.as_bytes())
}

#[test]
fn a_loop_takes_its_tasks_and_completes_them() {
    let (engine, host) = with_host(10);
    let entry = register_async(&engine, "async", Options::default());
    let handle = submit(&engine, &entry, "1");
    assert_eq!(host.0.len(), 2);
    let mut started = take(&engine);
    assert_eq!(started.len(), 1);
    let started = started.remove(0);
    assert_eq!(started.entry.name().as_str(), "async");
    assert_eq!(payload(&started.attempt), b"1");
    assert_state(&handle, State::Running);
    started.completion.complete(done("2"));
    assert_eq!(result(&handle), "2");
}

#[test]
fn a_loop_is_woken_once_until_it_has_looked() {
    let (engine, host) = with_host(1_000);
    let entry = register_async(&engine, "async", Options::default());
    let wakes = host.0.len();
    let handles: Vec<_> = (0..100).map(|_| submit(&engine, &entry, "1")).collect();
    assert_eq!(host.0.len(), wakes + 1);
    let started = take(&engine);
    assert_eq!(started.len(), 100);
    submit(&engine, &entry, "1");
    assert_eq!(host.0.len(), wakes + 2);
    started.into_iter().for_each(|started| started.completion.complete(done("1")));
    assert!(handles.iter().all(|handle| result(handle) == "1"));
}

#[test]
fn a_loop_takes_no_more_than_it_may() {
    let (engine, host) = with_host(2);
    let entry = register_async(&engine, "async", Options::default());
    let handles: Vec<_> = (0..5).map(|_| submit(&engine, &entry, "1")).collect();
    let mut started = take(&engine);
    assert_eq!((started.len(), take(&engine).len()), (2, 0));
    let wakes = host.0.len();
    started.remove(0).completion.complete(done("1"));
    assert_eq!(host.0.len(), wakes + 1, "there is room again");
    started.extend(take(&engine));
    assert_eq!((started.len(), take(&engine).len()), (2, 0));
    while !started.is_empty() {
        started.remove(0).completion.complete(done("1"));
        started.extend(take(&engine));
    }
    assert!(handles.iter().all(|handle| result(handle) == "1"));
}

#[test]
fn tasks_wait_for_a_loop() {
    let engine = started(1);
    let entry = register_async(&engine, "async", Options::default());
    let handle = submit(&engine, &entry, "1");
    let host = Host::default();
    engine.set_loop(Some(Arc::new(host.clone())));
    host.0.wait_for(1);
    take(&engine).remove(0).completion.complete(done("1"));
    assert_eq!(result(&handle), "1");
}

#[test]
fn a_completion_that_is_dropped_is_a_lost_handler() {
    let (engine, _) = with_host(1);
    let entry = register_async(&engine, "async", Options::default());
    let handle = submit(&engine, &entry, "1");
    drop(take(&engine));
    assert_eq!(failure(&handle), Code::TaskFailed);
    assert_eq!(errors(&handle)[0].0, "HandlerLost");
    submit(&engine, &entry, "2");
    assert_eq!(take(&engine).len(), 1, "its place is free again");
}

#[test]
fn any_thread_may_complete() {
    let (engine, _) = with_host(100);
    let entry = register_async(&engine, "async", Options::default());
    let handles: Vec<_> = (0..50).map(|number| submit(&engine, &entry, &number.to_string())).collect();
    std::thread::scope(|scope| {
        for started in take(&engine) {
            scope.spawn(move || {
                let outcome = Outcome::success(payload(&started.attempt));
                started.completion.complete(outcome);
            });
        }
    });
    for (number, handle) in handles.iter().enumerate() {
        assert_eq!(result(handle), number.to_string());
    }
}

#[test]
fn a_task_of_a_loop_is_called_off_like_any_other() {
    let timed = Timed::memory(1).started();
    timed.engine.set_loop(Some(Arc::new(Host::default())));
    let limited = Options { timeout: Some(seconds(10)), ..Options::default() };
    let entry = register_async(&timed.engine, "async", limited);
    let handles = [submit(&timed.engine, &entry, "1"), submit(&timed.engine, &entry, "2")];
    let started = take(&timed.engine);
    assert!(timed.engine.cancel(handles[0].id(), None).unwrap());
    let fence = started[0].attempt.fence();
    assert_eq!(timed.interrupts.all(), [(handles[0].id(), fence)]);
    timed.advance(seconds(10));
    assert_eq!([failure(&handles[0]), failure(&handles[1])], [Code::TaskCancelled, Code::TaskTimedOut]);
    assert_eq!(timed.interrupts.all().last().map(|(id, _)| *id), Some(handles[1].id()));
    assert!(started.iter().all(|started| started.attempt.is_cancelled()));
    started.into_iter().for_each(|started| started.completion.complete(done("late")));
    assert_eq!(timed.engine.worker_counts().3, 2, "both reports are refused");
    let told = timed.interrupts.len();
    timed.advance(seconds(100));
    assert_eq!(timed.interrupts.len(), told, "nobody is told after the end");
}

#[test]
fn a_task_that_was_called_off_in_its_lane_is_skipped() {
    let (engine, _) = with_host(10);
    let entry = register_async(&engine, "async", Options::default());
    let handles: Vec<_> = (0..3).map(|number| submit(&engine, &entry, &number.to_string())).collect();
    assert!(engine.cancel(handles[1].id(), None).unwrap());
    let started = take(&engine);
    let taken: Vec<_> = started.iter().map(|started| payload(&started.attempt)).collect();
    assert_eq!(taken, [b"0", b"2"]);
}

#[test]
fn a_graceful_stop_waits_for_the_loop() {
    let (engine, _) = with_host(1);
    let entry = register_async(&engine, "async", Options::default());
    let handles = [submit(&engine, &entry, "1"), submit(&engine, &entry, "2")];
    let first = take(&engine).remove(0);
    let own = Arc::clone(&engine);
    let stopping = aside(move || own.stop(Stop::Finish));
    until_it_drains(&engine, &entry);
    assert!(!engine.is_stopped());
    first.completion.complete(done("1"));
    // The loop was woken for the second, by the stop or by the place that has become free.
    take(&engine).remove(0).completion.complete(done("2"));
    in_time("the stop", move || stopping.join().unwrap());
    assert_eq!(handles.each_ref().map(result), ["1", "2"]);
    assert_eq!(take(&engine).len(), 0);
}

#[test]
fn while_it_drains_a_loop_and_the_threads_feed_each_other() {
    let (engine, _) = with_host(1);
    let own = Arc::downgrade(&engine);
    let entry = register_async(&engine, "async", Options::default());
    let inner = Arc::clone(&entry);
    // A task on a thread hands one to the loop, which hands one to a thread, and so on.
    let blocking = register(&engine, "blocking", move |attempt| {
        let engine = own.upgrade().unwrap();
        let left = number(attempt);
        if left > 0 {
            engine
                .submit(&inner, inner.admission(), left.to_string().into_bytes().into(), None, true)
                .unwrap();
        }
        echo(attempt)
    });
    submit(&engine, &entry, "20");
    let mut started = take(&engine);
    let own = Arc::clone(&engine);
    let stopping = aside(move || own.stop(Stop::Finish));
    until_it_drains(&engine, &entry);
    let last = loop {
        let current = started.remove(0);
        let left: u32 = number(&current.attempt) - 1;
        let payload = left.to_string().into_bytes().into();
        let last = engine.submit(&blocking, blocking.admission(), payload, None, true).unwrap();
        // The loop's handler waits for the thread, as `await child` does.
        assert_eq!(result(&last), left.to_string());
        current.completion.complete(done("1"));
        if left == 0 {
            break last;
        }
        while started.is_empty() {
            started.extend(take(&engine));
        }
    };
    in_time("the stop", move || stopping.join().unwrap());
    assert_state(&last, State::Succeeded);
    assert_eq!(engine.counts().unwrap().unfinished(), 0);
}

#[test]
fn stopping_at_once_lets_go_of_the_loop() {
    let (engine, _) = with_host(10);
    let entry = register_async(&engine, "async", Options::default());
    let handles = [submit(&engine, &entry, "1"), submit(&engine, &entry, "2")];
    let mut started = take(&engine);
    engine.stop(Stop::Within(Duration::ZERO));
    assert!(started.iter().all(|started| started.attempt.is_cancelled()));
    started.remove(0).completion.complete(done("late"));
    drop(started);
    assert_eq!(handles.each_ref().map(failure), [Code::ShutDown, Code::ShutDown]);
    assert_eq!(engine.worker_counts().3, 2);
}

#[test]
fn a_loop_that_went_away_does_not_hold_up_the_end() {
    let (engine, _) = with_host(10);
    let entry = register_async(&engine, "async", Options::default());
    let handle = submit(&engine, &entry, "1");
    let own = Arc::clone(&engine);
    let stopping = aside(move || own.stop(Stop::Finish));
    until_it_drains(&engine, &entry);
    engine.set_loop(None);
    in_time("the stop", move || stopping.join().unwrap());
    assert_eq!(failure(&handle), Code::ShutDown);
}

#[test]
fn an_attempt_that_was_called_off_can_be_abandoned_and_is_not_late() {
    on_both(|place| {
        let timed = place.timed(1).started();
        timed.engine.set_loop(Some(Arc::new(Host::default())));
        let entry = register_async(&timed.engine, "task", Options::default());
        let cancelled = submit(&timed.engine, &entry, "1");
        let one = take_one(&timed.engine);
        one.attempt.note_result("key", "1").unwrap();
        assert!(cancelled.cancel(None).unwrap());
        one.completion.abandon();
        let lost = submit(&timed.engine, &entry, "2");
        // Nobody called this one off, so it must not be left without an outcome.
        take_one(&timed.engine).completion.abandon();
        assert_eq!(failure(&lost), Code::TaskFailed);
        assert_eq!(errors(&lost)[0].0, "HandlerLost");
        let stats = timed.engine.stats().unwrap();
        assert_eq!((stats.late_reports, stats.in_flight, stats.running.len()), (0, 0, 0));
        let count = |count| stats.total.of(count);
        assert_eq!([Count::Cancelled, Count::Failed, Count::Late].map(count), [1, 1, 0]);
        assert_eq!((stats.total.started(), stats.total.ended()), (2, 2));
        timed.engine.set_loop(None);
    });
}

#[test]
fn what_ran_on_a_loop_that_ends_is_given_back_at_no_cost() {
    on_both(|place| {
        let timed = place.timed(1).started();
        timed.engine.set_loop(Some(Arc::new(Host::default())));
        let entry = register_async(&timed.engine, "task", Options::default());
        let handle = submit(&timed.engine, &entry, "1");
        let first = take_one(&timed.engine);
        assert_eq!(first.attempt.fence().attempt, 1);
        first.completion.give_back();
        let again = take_one(&timed.engine);
        assert_eq!(again.attempt.fence().attempt, 2);
        assert_eq!(again.attempt.task().with_row(|row| (row.failures, row.crashes)), (0, 0));
        again.completion.complete(done("2"));
        assert_eq!(result(&handle), "2");

        // One that was called off is nobody's to give back.
        let cancelled = submit(&timed.engine, &entry, "3");
        let late = take_one(&timed.engine);
        assert!(cancelled.cancel(None).unwrap());
        late.completion.give_back();
        assert_eq!(failure(&cancelled), Code::TaskCancelled);
        assert_eq!(timed.engine.stats().unwrap().in_flight, 0);
        timed.engine.set_loop(None);
    });
}

#[test]
fn an_attempt_that_outlasts_its_time_ends_beside_the_next_one_of_its_task() {
    // Before it counts as one that does not end, and after.
    for waits in [Duration::ZERO, seconds(1)] {
        let place = Place::Memory;
        let timed = place.timed_with(EngineOptions { max_in_flight: 2, ..options(1) }).started();
        let engine = &timed.engine;
        engine.set_loop(Some(Arc::new(Host::default())));
        let retry = Some(RetryPolicy { base: Duration::ZERO, ..RetryPolicy::default() });
        let limited = Options { timeout: Some(seconds(10)), retries: Some(1), retry, ..Options::default() };
        let entry = register_async(engine, "async", limited);
        let handles: Vec<_> = (0..4).map(|_| submit(engine, &entry, "1")).collect();
        let mut first = take(engine);
        assert_eq!(first.len(), 2);
        timed.advance(seconds(10));
        first.remove(1).completion.complete(done("late"));
        let outlasts = first.remove(0);
        // Those that wait come before the next attempts.
        let mut next = Vec::new();
        while next.len() < 3 {
            timed.advance(seconds(1));
            let taken = take(engine);
            assert!(engine.stats().unwrap().in_flight <= 3, "two places, and one that was lent");
            next.extend(taken);
            if let Some(place) = next.iter().position(|one| one.attempt.task().id() != handles[0].id()) {
                next.swap_remove(place).completion.complete(done("2"));
            } else if !next.is_empty() {
                break;
            }
        }
        assert_eq!(next.len(), 1, "the second attempt of the task whose first goes on");
        assert_eq!(next[0].attempt.fence().attempt, 2);
        timed.advance(waits);
        let told = timed.interrupts.len();
        timed.advance(seconds(1));
        assert!(timed.interrupts.len() > told, "the first one is reminded");
        next.remove(0).completion.complete(done("3"));
        assert_eq!(result(&handles[0]), "3");
        outlasts.completion.complete(done("late"));
        assert!(engine.stats().unwrap().running.is_empty());
        assert!(engine.health().warnings.is_empty());
        let told = timed.interrupts.len();
        timed.advance(seconds(100));
        assert_eq!(timed.interrupts.len(), told, "nobody is told after the end");
        // And no place was won or lost.
        while !take(engine)
            .into_iter()
            .map(|one| one.completion.complete(done("4")))
            .collect::<Vec<_>>()
            .is_empty()
        {}
        let _more: Vec<_> = (0..4).map(|_| submit(engine, &entry, "1")).collect();
        let taken = take(engine);
        assert_eq!(taken.len(), 2);
        taken.into_iter().for_each(|one| one.completion.complete(done("5")));
    }
}

#[test]
fn one_that_does_not_end_gives_its_place_to_another() {
    let place = Place::Memory;
    let timed = place.timed_with(EngineOptions { max_in_flight: 1, ..options(1) }).started();
    let engine = &timed.engine;
    engine.set_loop(Some(Arc::new(Host::default())));
    let limited = Options { timeout: Some(seconds(10)), ..Options::default() };
    let entry = register_async(engine, "async", limited);
    let handles: Vec<_> = (0..3).map(|_| submit(engine, &entry, "1")).collect();
    let mut started = take(engine);
    assert_eq!(started.len(), 1);
    let stays = started.remove(0);
    timed.advance(seconds(10));
    assert_eq!(failure(&handles[0]), Code::TaskTimedOut);
    assert_eq!((take(engine).len(), engine.health().warnings.len()), (0, 0), "it may still end");
    timed.advance(seconds(1));
    let mut second = take(engine);
    assert_eq!(second.len(), 1, "its place goes to one other");
    let stuck: Vec<_> = engine.stats().unwrap().running.into_iter().filter(|one| one.stuck).collect();
    assert_eq!(stuck.iter().map(|one| one.task).collect::<Vec<_>>(), [handles[0].id()]);
    assert_eq!(
        engine.health().warnings,
        ["handlers on an event loop that do not end although they were called off: 1"]
    );
    stays.completion.complete(done("late"));
    assert_eq!(take(engine).len(), 0, "it has taken its place back, and left it");
    assert!(engine.health().warnings.is_empty());
    second.remove(0).completion.complete(done("2"));
    let mut third = take(engine);
    assert_eq!(third.len(), 1);
    third.remove(0).completion.complete(done("3"));
    assert_eq!((result(&handles[1]), result(&handles[2])), ("2".into(), "3".into()));
}
