//! Sweeping out what ended long ago, in batches, as part of the timer service.
//!
//! A durable store keeps ended tasks for a time; a memory store keeps the newest and sweeps by itself. One batch is
//! swept in each step until nothing is left to sweep, so that no transaction is long. Engines that share a store each
//! sweep by their own retention: a task goes when it is too old for any of those that are started. A step looks at a
//! bounded number of rows, so that it does not hold up what else this thread does.
//!
//! Then the rows are looked through, a stretch in each step, for what cannot be ([`taskloom_store::Store::examine`]), which `health` tells of.

use std::sync::Arc;
use std::time::Duration;

use taskloom_model::Timestamp;

use crate::core::Core;

/// How often it looks.
const INTERVAL: Duration = Duration::from_secs(60);

/// The pause between two batches.
const PAUSE: Duration = Duration::from_millis(50);

/// How many are swept in a batch.
const BATCH: usize = 500;

#[derive(Default)]
pub(crate) struct Retention {
    next: Duration,
    /// The rows are being looked through.
    examining: bool,
}

impl Retention {
    /// Sweeps a batch if it is time to, and says how long to wait before the next call.
    pub(crate) fn step(&mut self, core: &Arc<Core>, now: Timestamp, monotonic: Duration) -> Duration {
        if !core.capability.durable {
            return Duration::MAX;
        }
        if monotonic < self.next {
            return self.next - monotonic;
        }
        // If the store fails, the next look finds the same.
        if !self.examining {
            let sweep = |age| core.store.sweep_some(now - age, BATCH);
            let more = core.retention.map(sweep).is_some_and(|swept| swept.is_ok_and(|(_, more)| more));
            self.examining = !more;
        } else {
            self.examining = core.store.examine().unwrap_or(false);
            if !self.examining {
                self.next = monotonic + INTERVAL;
                return INTERVAL;
            }
        }
        let wait = PAUSE;
        self.next = monotonic + wait;
        wait
    }
}
