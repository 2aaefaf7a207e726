//! Waiting for room in a store that is full.
//!
//! Whoever ends a task looks at one number, without a fence: whether anybody waits. So a wake-up can be missed in the
//! moment in which a submitter begins to wait; it looks again by itself after [`SAFETY`]. That is the price for costing
//! those who finish tasks nothing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// After this time a waiting submitter looks again, told or not.
const SAFETY: Duration = Duration::from_millis(20);

#[derive(Default)]
pub(crate) struct Room {
    waiting: AtomicUsize,
    lock: Mutex<()>,
    made: Condvar,
}

impl Room {
    /// A task has ended.
    pub(crate) fn made(&self) {
        if self.waiting.load(Ordering::Relaxed) > 0 {
            let _guard = self.lock.lock();
            self.made.notify_all();
        }
    }

    /// Makes everybody look again: the engine ends.
    pub(crate) fn look_again(&self) {
        let _guard = self.lock.lock();
        self.made.notify_all();
    }

    /// Waits a moment, until a task ends or the safety time is over; whether a task ended.
    pub(crate) fn wait(&self) -> bool {
        let mut guard = self.lock.lock();
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let quiet = self.made.wait_for(&mut guard, SAFETY).timed_out();
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        !quiet
    }
}
