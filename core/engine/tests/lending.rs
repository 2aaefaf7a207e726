//! Parents that wait lend their places, and there are not as many of them at a time as there are parents.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::stores::{Place, on_both};
use common::*;
use taskloom_engine::{Attempt, EngineOptions, Handle, Outcome};
use taskloom_model::{Options, RetryPolicy, State};

const WORKERS: usize = 2;

/// Eight threads that wait for each worker, whoever stands in for them, and some on their way out.
const THREADS: usize = 12 * WORKERS;

fn spawn(attempt: &Attempt, entry: &taskloom_engine::HandlerEntry, payload: &str) -> Handle {
    attempt.submit(entry, entry.admission(), payload.as_bytes().into(), None, false).unwrap()
}

/// Has so many parents wait for a child each, and these for one of their own, so many levels deep; how many threads
/// there were at most.
fn most_threads(place: &Place, parents: usize, levels: usize) -> usize {
    let timed = place.timed(WORKERS);
    let most = Arc::new(AtomicUsize::new(0));
    let mut entry = register(&timed.engine, "child", echo);
    for level in 0..levels {
        let (child, most, engine) = (Arc::clone(&entry), Arc::clone(&most), Arc::downgrade(&timed.engine));
        entry = register(&timed.engine, &format!("parent-{level}"), move |attempt: &Attempt| {
            let handle = spawn(attempt, &child, &String::from_utf8(payload(attempt)).unwrap());
            most.fetch_max(engine.upgrade().unwrap().worker_counts().0, Ordering::Relaxed);
            Outcome::success(result(&handle).into_bytes())
        });
    }
    let handles: Vec<_> =
        (0..parents).map(|number| submit(&timed.engine, &entry, &number.to_string())).collect();
    timed.engine.start().unwrap();
    for (number, handle) in handles.iter().enumerate() {
        assert_eq!(result(handle), number.to_string());
    }
    most.load(Ordering::Relaxed)
}

#[test]
fn parents_that_wait_are_few_at_a_time() {
    on_both(|place| {
        let parents = if place.is_memory() { 2_000 } else { 200 };
        let most = most_threads(place, parents, 1);
        assert!(most <= THREADS, "{most} threads");
    });
}

#[test]
fn so_are_parents_of_parents() {
    on_both(|place| {
        let most = most_threads(place, 100, 3);
        assert!(most <= THREADS, "{most} threads");
    });
}

#[test]
fn a_child_that_is_tried_again_comes_first_again() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let order = Log::default();
        let (log, again) = (order.clone(), order.clone());
        let beside = register(&timed.engine, "beside", move |attempt: &Attempt| {
            log.add("beside");
            echo(attempt)
        });
        let retry = Some(RetryPolicy { base: std::time::Duration::ZERO, ..RetryPolicy::default() });
        let options = Options { retries: Some(1), retry, ..Options::default() };
        let child = register_with(&timed.engine, "child", options, move |attempt: &Attempt| {
            again.add("child");
            if attempt.fence().attempt == 1 { Outcome::failure("Again", "") } else { echo(attempt) }
        });
        let parent = register(&timed.engine, "parent", move |attempt: &Attempt| {
            Outcome::success(result(&spawn(attempt, &child, "1")).into_bytes())
        });
        let handle = submit(&timed.engine, &parent, "1");
        eventually("it ended", || {
            timed.step();
            handle.is_done()
        });
        assert_eq!(result(&handle), "1");
        assert_eq!(result(&submit(&timed.engine, &beside, "2")), "2");
        assert_eq!(order.all(), ["child", "child", "beside"]);
    });
}

#[test]
fn a_paused_child_waits_and_others_go_on() {
    on_both(|place| {
        let timed = place.timed_with(EngineOptions { workers: 1, ..EngineOptions::default() }).started();
        timed.engine.pause("shut".into()).unwrap();
        let quick = register(&timed.engine, "quick", echo);
        let shut = Options { queue: Some("shut".into()), ..Options::default() };
        let child = register_with(&timed.engine, "child", shut, echo);
        let spawned = Log::default();
        let log = spawned.clone();
        let parent = register(&timed.engine, "parent", move |attempt: &Attempt| {
            let child = spawn(attempt, &child, "1");
            log.add(child.clone());
            Outcome::success(result(&child).into_bytes())
        });
        let parent = submit(&timed.engine, &parent, "1");
        let child = spawned.wait_for(1).remove(0);
        let others: Vec<_> = (0..20).map(|_| submit(&timed.engine, &quick, "2")).collect();
        assert!(others.iter().all(|handle| result(handle) == "2"));
        assert_state(&child, State::Queued);
        timed.engine.resume("shut".into()).unwrap();
        assert_eq!(result(&parent), "1");
    });
}
