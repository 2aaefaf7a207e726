//! What a pending task costs: allocations and bytes, with a payload of 100 bytes, handle included.
//!
//! Counted by the allocator itself (bytes as the caller asked for them, without the allocator's own overhead), so
//! the figures are exact and the same on every run.
#![allow(unsafe_code, reason = "a counting allocator implements GlobalAlloc, which is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use taskloom_engine::Stop;

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed to the system's allocator unchanged; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is ours too.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`, and the pointer came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const TASKS: usize = 1_000_000;

fn main() {
    let (engine, entry) = taskloom_benches::engine(2);
    let mut handles = Vec::with_capacity(TASKS);
    let (allocations, live) = (ALLOCATIONS.load(Ordering::Relaxed), LIVE.load(Ordering::Relaxed));
    for _ in 0..TASKS {
        let payload = vec![b' '; 100].into_boxed_slice();
        handles.push(engine.submit(&entry, entry.admission(), payload, None, false).expect("there is room"));
    }
    let per_task = |before: usize, after: usize| (after - before) as f64 / TASKS as f64;
    let allocations = per_task(allocations, ALLOCATIONS.load(Ordering::Relaxed));
    let bytes = per_task(live, LIVE.load(Ordering::Relaxed)) + size_of_val(&handles[0]) as f64;
    println!(
        "pending task, 100-byte payload: {allocations:.3} allocations, {bytes:.0} bytes (floors: 3, 400)"
    );
    engine.stop(Stop::Within(std::time::Duration::ZERO));
    assert!(allocations <= 3.0, "more than three allocations for each pending task");
    assert!(bytes <= 400.0, "more than 400 bytes for each pending task");
}
