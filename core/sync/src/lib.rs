//! Taskloom's hot path: what a submitter and a worker touch for every task, and nothing else.
//!
//! | module          | owns                                                                               |
//! |-----------------|------------------------------------------------------------------------------------|
//! | [`Lanes`]       | where runnable work waits: four FIFO queues and one byte that says which hold work |
//! | [`SerialLanes`] | the same for one taker at a time, who fetches in lots                              |
//! | [`Sleepers`]    | who must be woken for it: at most one worker per burst, the rest by a cascade      |
//! | [`Latch`]       | how somebody waits for one outcome: a byte, set once                               |
//! | [`Bell`]        | how a crowd waits for one event: all are woken at once                             |
//! | [`Ending`]      | whether anybody has left word for an end, without a lock if nobody has             |
//! | [`Spin`]        | whether to spin a moment before sleeping                                           |
//! | [`Nursery`]     | memory for what a thread is about to make, fetched ahead of time                   |
//!
//! They know nothing of each other, of tasks, of Python or of time. They meet in the caller's loop:
//!
//! ```
//! use std::sync::atomic::{AtomicBool, Ordering};
//! use taskloom_sync::{Lanes, Latch, Sleepers};
//!
//! let (lanes, sleepers, stop, done) = (Lanes::new(), Sleepers::new(), AtomicBool::new(false), Latch::new());
//! std::thread::scope(|scope| {
//!     scope.spawn(|| {
//!         let mut me = sleepers.enlist();
//!         while !stop.load(Ordering::Relaxed) {
//!             match lanes.pop() {
//!                 Some(task) => {
//!                     me.found(|| !lanes.is_empty());
//!                     assert_eq!(task, "a task");
//!                     done.set();
//!                 }
//!                 None => me.sleep(
//!                     || !lanes.is_empty() || stop.load(Ordering::Relaxed),
//!                     |park| park(), // a Python worker lets go of the GIL around this call
//!                 ),
//!             }
//!         }
//!     });
//!     lanes.push(1, "a task");
//!     sleepers.notify_one();
//!     done.wait();
//!     stop.store(true, Ordering::Relaxed);
//!     sleepers.notify_all();
//! });
//! ```
//!
//! # The one idea
//!
//! Each protocol by which somebody waits for work or for an outcome is a Dekker handshake: *I write mine, then read yours; you write yours, then read mine*. With
//! a `SeqCst` fence between the write and the read on either side, one of the two must see the other. That is what
//! lets the common path be a fence and a load instead of a lock. Every module says what is written, what is read,
//! and which fence stands between. We use fences and not `SeqCst` accesses, because the argument then needs only
//! the order of the fences, and because fences are what loom models.
//!
//! # Checking
//!
//! The atomics come through one private module, `primitive`, so that `tests/loom.rs` runs these same sources under
//! the loom model checker:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release -p taskloom-sync --test loom
//! ```

mod bell;
mod ending;
#[cfg(not(loom))]
mod fork;
#[cfg(not(loom))]
mod futex;
mod lanes;
mod latch;
mod nursery;
mod primitive;
mod serial_lanes;
mod sleepers;
mod spin;
#[cfg(not(loom))]
mod spot;

pub use bell::Bell;
pub use ending::Ending;
#[cfg(not(loom))]
pub use fork::fork_generation;
pub use lanes::Lanes;
pub use latch::Latch;
pub use nursery::{Blank, Nursery, Step, Stock};
pub use serial_lanes::SerialLanes;
pub use sleepers::{Sleeper, Sleepers};
pub use spin::Spin;
