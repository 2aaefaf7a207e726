//! What a pending task costs, one that is eligible and one that is delayed: allocations and bytes, with a payload of 100
//! bytes, handle included.
//!
//! Counted by the allocator itself (bytes as the caller asked for them, without the allocator's own overhead), so
//! the figures are exact and the same on every run.
#![allow(unsafe_code, reason = "a counting allocator implements GlobalAlloc, which is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use taskloom_engine::Stop;
use taskloom_model::{Options, When};

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
    measure("pending task", None, (3.0, 400.0));
    // Its time, and its place among the alarms.
    measure("delayed task", Some(When::In(Duration::from_secs(3600))), (4.0, 450.0));
}

fn measure(what: &str, eta: Option<When>, floors: (f64, f64)) {
    let (engine, entry) = taskloom_benches::engine(2);
    let admission =
        engine.admission(&Options { eta, ..Options::default() }).expect("options that make sense");
    let mut handles = Vec::with_capacity(TASKS);
    let (allocations, live) = (ALLOCATIONS.load(Ordering::Relaxed), LIVE.load(Ordering::Relaxed));
    for _ in 0..TASKS {
        let payload = vec![b' '; 100].into_boxed_slice();
        handles.push(engine.submit(&entry, &admission, payload.into(), None, false).expect("there is room"));
    }
    let per_task = |before: usize, after: usize| (after - before) as f64 / TASKS as f64;
    let allocations = per_task(allocations, ALLOCATIONS.load(Ordering::Relaxed));
    let bytes = per_task(live, LIVE.load(Ordering::Relaxed)) + size_of_val(&handles[0]) as f64;
    println!(
        "{what}, 100-byte payload: {allocations:.3} allocations, {bytes:.0} bytes (floors: {}, {})",
        floors.0, floors.1
    );
    engine.stop(Stop::Within(Duration::ZERO));
    assert!(allocations <= floors.0, "more than {} allocations for each {what}", floors.0);
    assert!(bytes <= floors.1, "more than {} bytes for each {what}", floors.1);
}
