//! What is done for many tasks of an event loop takes memory for the lot, and none for each.
#![allow(unsafe_code, reason = "a counting allocator implements GlobalAlloc, which is an unsafe trait")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use common::*;
use taskloom_engine::{Completion, NewTask};
use taskloom_model::{Bytes, Options, State};
use taskloom_store::Note;

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed to the system's allocator unchanged; counting does not allocate, and asks nothing of a
// thread whose variables are gone.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`, which is ours too.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, and the pointer came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often this thread has asked for memory meanwhile.
fn counted<T>(what: impl FnOnce() -> T) -> (T, usize) {
    let before = COUNT.get();
    let done = what();
    (done, COUNT.get() - before)
}

#[test]
fn a_task_of_a_lot_takes_its_own_memory_and_no_other() {
    const TASKS: usize = 1_000;
    /// What a lot may take besides: its lists, which grow by doubling.
    const LOT: usize = 60;
    let engine = started(1);
    engine.set_loop(Some(Arc::new(Host::default())));
    let entry = register_async(&engine, "async", Options::default());
    let note = |number| NewTask { payload: Bytes::from(*b"1"), host: Note::new(1, number).into(), key: None };
    // The first round has the tables grow.
    for round in 0..3 {
        let tasks = (0..TASKS as u32).map(note);
        let accepted = |tasks: &[_]| assert_eq!(tasks.len(), TASKS);
        let (_, submitted) = counted(|| {
            engine.submit_here(&entry, entry.admission(), tasks, true, &mut || true, accepted).unwrap();
        });
        let mut ended = Vec::with_capacity(TASKS);
        let ((), taken) = counted(|| {
            engine.take_each(&mut |_, run| ended.extend(run.map(|one| (one, Bytes::from(*b"2")))));
        });
        assert_eq!(ended.len(), TASKS);
        let ((), told) = counted(|| Completion::succeed_all(&mut ended));
        if round > 0 {
            assert!(submitted <= TASKS + LOT, "{submitted} pieces of memory for {TASKS} submits");
            assert!(taken <= LOT, "{taken} pieces of memory for {TASKS} starts");
            // Where nobody tidies up each ended task stands in line by itself.
            assert!(told <= TASKS / 8 + LOT, "{told} pieces of memory for {TASKS} ends");
        }
    }
    assert_eq!(engine.counts().unwrap().get(State::Succeeded), 3 * TASKS as u64);
}
