//! What a pause and a purge promise, with many threads that begin tasks in that very moment.

mod common;

use std::collections::HashSet;
use std::sync::Arc;

use common::stores::{Place, on_both};
use common::*;
use taskloom_engine::{Attempt, Engine, Handle, HandlerEntry, Stop};
use taskloom_model::{Name, Options, State, TaskId};

/// How often each race is run, and with how many tasks: enough to meet every window many times.
fn rounds(place: &Place) -> (usize, usize) {
    if place.is_memory() { (60, 200) } else { (12, 200) }
}

/// A handler that notes that it began, and takes no time.
fn noting(engine: &Engine) -> (Arc<HandlerEntry>, Log<TaskId>) {
    let log: Log<TaskId> = Log::default();
    let own = log.clone();
    let entry = register(engine, "note", move |attempt: &Attempt| {
        own.add(attempt.task().id());
        echo(attempt)
    });
    (entry, log)
}

fn many(engine: &Engine, entry: &Arc<HandlerEntry>, count: usize) -> Vec<Handle> {
    let payloads = (0..count).map(|_| ((*b"1").into(), None));
    engine.submit_many(entry, entry.admission(), payloads, false).unwrap()
}

/// What has begun by now, as everybody can see, in this round: it runs, or its handler has been there.
fn begun(engine: &Engine, log: &Log<TaskId>, before: usize) -> HashSet<TaskId> {
    // In this order: what leaves the one meanwhile is in the other.
    let running: Vec<_> = engine.stats().unwrap().running.iter().map(|running| running.task).collect();
    log.all().split_off(before).into_iter().chain(running).collect()
}

#[test]
fn nothing_begins_once_a_pause_has_returned() {
    on_both(|place| {
        let timed = place.timed(4).started();
        let queue = Name::new("default");
        let (entry, log) = noting(&timed.engine);
        let (rounds, count) = rounds(place);
        for round in 0..rounds {
            let past = log.len();
            let handles = many(&timed.engine, &entry, count);
            log.wait_for(past + 1 + round % (count / 2));
            timed.engine.pause(queue).unwrap();
            let before = begun(&timed.engine, &log, past);
            for handle in handles.iter().filter(|handle| before.contains(&handle.id())) {
                assert_eq!(result(handle), "1");
            }
            let after = begun(&timed.engine, &log, past);
            assert!(
                after.is_subset(&before),
                "{} began in a paused queue",
                after.difference(&before).count()
            );
            timed.engine.resume(queue).unwrap();
            assert!(handles.iter().all(|handle| result(handle) == "1"));
        }
    });
}

#[test]
fn a_purge_cancels_what_has_not_begun_and_nothing_else() {
    on_both(|place| {
        let timed = place.timed(4).started();
        let queue = Name::new("default");
        let (entry, log) = noting(&timed.engine);
        let (rounds, count) = rounds(place);
        for round in 0..rounds {
            let past = log.len();
            let handles = many(&timed.engine, &entry, count);
            log.wait_for(past + 1 + round % (count / 2));
            let purges: Vec<_> = (0..3)
                .map(|_| {
                    let engine = Arc::clone(&timed.engine);
                    aside(move || engine.purge(queue).unwrap())
                })
                .collect();
            let cancelled: usize = purges.into_iter().map(|purge| purge.join().unwrap()).sum();
            let begun = begun(&timed.engine, &log, past);
            let (gone, left): (Vec<_>, Vec<_>) =
                handles.iter().partition(|handle| handle.state() == State::Cancelled);
            assert_eq!(gone.len(), cancelled, "each that was cancelled is counted once");
            assert!(
                left.iter().all(|handle| begun.contains(&handle.id())),
                "one was left, and has not begun"
            );
            assert!(left.iter().all(|handle| result(handle) == "1"), "what began runs to its end");
            let noted: HashSet<_> = log.all().into_iter().collect();
            assert!(
                !gone.iter().any(|handle| noted.contains(&handle.id())),
                "one was cancelled that had begun"
            );
        }
        assert_eq!(timed.engine.worker_counts().3, 0, "nobody reported too late");
    });
}

#[test]
fn a_purge_of_a_queue_that_was_just_paused_leaves_nothing() {
    on_both(|place| {
        let timed = place.timed(4).started();
        let queue = Name::new("default");
        let (entry, log) = noting(&timed.engine);
        let (rounds, count) = rounds(place);
        for round in 0..rounds {
            let past = log.len();
            let handles = many(&timed.engine, &entry, count);
            log.wait_for(past + 1 + round % (count / 2));
            timed.engine.pause(queue).unwrap();
            timed.engine.purge(queue).unwrap();
            let left = begun(&timed.engine, &log, past);
            for handle in &handles {
                let is_gone = handle.state() == State::Cancelled;
                assert!(is_gone || left.contains(&handle.id()), "{handle:?} is left");
            }
            timed.engine.resume(queue).unwrap();
            handles.iter().for_each(|handle| drop(outcome(handle)));
        }
    });
}

#[test]
fn what_comes_during_a_purge_runs_after_it() {
    on_both(|place| {
        let timed = place.timed(2).started();
        let queue = Name::new("default");
        let echo = register(&timed.engine, "echo", echo);
        let (_, count) = rounds(place);
        let engine = Arc::clone(&timed.engine);
        let purges = aside(move || (0..count).map(|_| engine.purge(queue).unwrap()).sum::<usize>());
        let handles: Vec<_> = (0..count).map(|_| submit(&timed.engine, &echo, "1")).collect();
        let purged = purges.join().unwrap();
        let cancelled = handles.iter().filter(|handle| outcome(handle).is_err()).count();
        assert_eq!(cancelled, purged);
        let engine = Arc::clone(&timed.engine);
        in_time("the stop", move || engine.stop(Stop::Finish));
    });
}

#[test]
fn a_loop_takes_nothing_from_a_queue_that_is_paused_or_purged_meanwhile() {
    on_both(|place| {
        let timed = place.timed(1).started();
        timed.engine.set_loop(Some(Arc::new(Host::default())));
        let queue = Name::new("default");
        let entry = register_async(&timed.engine, "task", Options::default());
        let (rounds, _) = rounds(place);
        for round in 0..rounds {
            let handles = many(&timed.engine, &entry, 20);
            let engine = Arc::clone(&timed.engine);
            let taking = aside(move || take(&engine));
            if round % 2 == 0 {
                timed.engine.pause(queue).unwrap();
            }
            let cancelled = timed.engine.purge(queue).unwrap();
            let running = timed.engine.stats().unwrap().running.len();
            let started = taking.join().unwrap();
            if round % 2 == 0 {
                assert_eq!(started.len(), running, "one began in a paused queue");
                assert_eq!(cancelled + running, handles.len());
            }
            for one in started {
                let handle = handles.iter().find(|handle| handle.id() == one.attempt.task().id()).unwrap();
                one.completion.complete(taskloom_engine::Outcome::success(*b"1"));
                assert_eq!(result(handle), "1");
            }
            timed.engine.resume(queue).unwrap();
            timed.engine.purge(queue).unwrap();
        }
        timed.engine.set_loop(None);
    });
}
