//! Notices that a handler keeps an environment from turning, and says which one.
//!
//! While handlers run in an environment, JavaScript moves a counter (its *pulse*) with each turn of its loop that the
//! package sees, and writes down the job whose synchronous part runs at this moment. A thread of the process looks at
//! the pulses four times a second, and sleeps where nothing runs. An environment that was asked to come, by a call
//! that it has not answered for a while, is blocked. If a job is written down it is named; otherwise it is the
//! continuation of one of those in flight, and those are named.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// An environment's sign of life.
#[derive(Default)]
pub(crate) struct Pulse {
    /// The job whose synchronous part runs, plus one; zero if none.
    pub(crate) running: AtomicU32,
    /// Moved by each turn.
    pub(crate) turns: AtomicU64,
}

impl Pulse {
    /// The loop turns.
    pub(crate) fn beat(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
        self.running.store(0, Ordering::Relaxed);
    }
}
