//! A million pending tasks: they are accepted, run and released, and nothing of them is left behind.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::*;
use taskloom_engine::{Attempt, Engine, Outcome, Stop};
use taskloom_model::State;
use taskloom_store::{MemoryOptions, MemoryStore};

/// How many tasks. Each has its own payload.
const TASKS: usize = 1_000_000;

static ALIVE: AtomicUsize = AtomicUsize::new(0);

/// What a language leaves with a task: it lives as long as the task does.
struct Counted;

impl taskloom_store::Host for Counted {}

impl Counted {
    fn new() -> Self {
        ALIVE.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn a_million_tasks_come_and_go() {
    const KEPT: usize = 1_000;
    let store = MemoryStore::new(MemoryOptions { capacity: TASKS, keep_finished: KEPT });
    let engine = Engine::new(Box::new(store), options(2)).unwrap();
    let ran = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ran);
    let entry = register(&engine, "count", move |_: &Attempt| {
        count.fetch_add(1, Ordering::Relaxed);
        Outcome::success(*b"null")
    });

    let mut handles = Vec::with_capacity(TASKS);
    for number in 0..TASKS {
        let payload = number.to_string().into_bytes().into_boxed_slice();
        let host = Some(Box::new(Counted::new()) as _);
        handles.push(engine.submit(&entry, entry.admission(), payload.into(), host, false).unwrap());
    }
    assert_eq!(ALIVE.load(Ordering::Relaxed), TASKS);
    assert_eq!(engine.counts().unwrap().get(State::Queued), TASKS as u64);
    let full = engine.submit(&entry, entry.admission(), Default::default(), None, false).unwrap_err();
    assert_eq!(full.code(), taskloom_model::Code::QueueFull);

    engine.start().unwrap();
    for handle in &handles {
        assert!(handle.wait(Some(LONG)).unwrap());
    }
    assert_eq!(ran.load(Ordering::Relaxed), TASKS);
    assert_eq!(ALIVE.load(Ordering::Relaxed), TASKS, "each handle keeps its own task");

    // Let go of by their handles, all but those that are kept go too.
    drop(handles);
    assert_eq!(engine.counts().unwrap().get(State::Succeeded), KEPT as u64);
    engine.stop(Stop::Finish);
    // No worker has one in its hands any more.
    assert_eq!(ALIVE.load(Ordering::Relaxed), KEPT);
    drop((entry, engine));
    // A thread that has left may let go of the engine a moment later.
    eventually("nobody holds the store", || ALIVE.load(Ordering::Relaxed) == 0);
}
