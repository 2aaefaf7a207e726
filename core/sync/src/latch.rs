//! A one-byte, one-shot event.
//!
//! Owns the byte of a [`Spot`] and its meaning. It only ever moves forward:
//!
//! ```text
//!   OPEN ──wait──▶ WAITED ──set──▶ SET
//!     └──────────────set───────────▲
//! ```
//!
//! # Invariants
//!
//! * A thread parks only in `WAITED`, checked under the lock of its parking queue.
//! * `WAITED → SET` happens under that lock, together with the wake-up of all who are queued.
//! * `OPEN → SET` is a single compare-exchange. It fails if a waiter came first, so a setter that takes neither
//!   lock nor system call knows that nobody is parked.
//!
//! Hence no lost wake-up: a waiter either moves the byte to `WAITED` before the setter's exchange, which sends the
//! setter to the lock, or finds `SET`.
//!
//! # Ordering
//!
//! `set` publishes with `Release` on both paths; `is_set` and the waits that return true read with `Acquire`. What
//! was written before the *first* `set` is visible to whoever sees the latch set. The step to `WAITED` is relaxed,
//! as it carries no data.
//!
//! # Lifetime
//!
//! A latch may lie in the memory that it guards: a waiter may free it as soon as it sees it set, even though `set`
//! has not yet returned. The publishing write is `set`'s last access; see `spot` for how the wake-up does without
//! the address.
//!
//! # Failure
//!
//! Nothing here panics or is poisoned. A latch that is dropped unset leaves nobody behind, because waiting borrows
//! it. A waiter that times out leaves the byte in `WAITED`; the price is that `set` takes the slow path once.

use std::fmt;
use std::time::Instant;

use crate::primitive::{Ordering, Spot};

const OPEN: u8 = 0;
const WAITED: u8 = 1;
const SET: u8 = 2;

/// An event that happens once and that any number of threads can wait for.
///
/// It is one byte large.
///
/// # Examples
///
/// ```
/// let latch = taskloom_sync::Latch::new();
/// std::thread::scope(|scope| {
///     scope.spawn(|| latch.set());
///     latch.wait();
/// });
/// assert!(latch.is_set());
/// ```
pub struct Latch {
    spot: Spot,
}

impl Latch {
    /// Creates a latch that is not set.
    pub fn new() -> Latch {
        Latch { spot: Spot::new(OPEN) }
    }

    /// Whether it was set. If so, everything written before the first [`set`](Latch::set) is visible.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.spot.byte().load(Ordering::Acquire) == SET
    }

    /// Sets the latch and wakes every waiter. Later calls do nothing.
    ///
    /// Without waiters this is one atomic instruction.
    #[inline]
    pub fn set(&self) {
        // A failed exchange reads no data, so it may be relaxed. `WAITED` can only become `SET`.
        if let Err(WAITED) =
            self.spot.byte().compare_exchange(OPEN, SET, Ordering::Release, Ordering::Relaxed)
        {
            self.spot.store_and_unpark_all(SET);
        }
    }

    /// Blocks until the latch is set.
    pub fn wait(&self) {
        self.wait_for(None);
    }

    /// Blocks until the latch is set or the deadline has passed. Returns whether it is set.
    ///
    /// A deadline in the past makes this a poll.
    pub fn wait_until(&self, deadline: Instant) -> bool {
        self.wait_for(Some(deadline))
    }

    fn wait_for(&self, deadline: Option<Instant>) -> bool {
        let byte = self.spot.byte();
        loop {
            match byte.load(Ordering::Acquire) {
                SET => return true,
                OPEN => {
                    // If it fails, somebody else waits or the latch is set: the next round tells which.
                    let _ = byte.compare_exchange(OPEN, WAITED, Ordering::Relaxed, Ordering::Relaxed);
                }
                _ => {
                    if !self.spot.park_while(WAITED, deadline) {
                        // It may have been set in the instant between the time-out and now.
                        return self.is_set();
                    }
                }
            }
        }
    }
}

impl Default for Latch {
    fn default() -> Latch {
        Latch::new()
    }
}

impl fmt::Debug for Latch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Latch").field(&self.is_set()).finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    // The tests are an edge: they need a real deadline.
    #![allow(clippy::disallowed_methods)]

    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn is_one_byte() {
        assert_eq!(size_of::<Latch>(), 1);
    }

    #[test]
    fn set_before_wait_returns_at_once() {
        let latch = Latch::new();
        assert!(!latch.is_set());
        latch.set();
        latch.set();
        latch.wait();
        assert!(latch.is_set());
        assert!(latch.wait_until(Instant::now()));
    }

    #[test]
    fn deadline_passes_and_the_latch_still_works() {
        let latch = Latch::new();
        let deadline = Instant::now() + Duration::from_millis(2);
        assert!(!latch.wait_until(deadline));
        assert!(Instant::now() >= deadline);
        latch.set();
        assert!(latch.wait_until(deadline));
    }

    #[test]
    fn wakes_every_waiter_and_publishes() {
        for _ in 0..200 {
            let (latch, data) = (Latch::new(), AtomicUsize::new(0));
            std::thread::scope(|scope| {
                for i in 0..3 {
                    let (latch, data) = (&latch, &data);
                    scope.spawn(move || {
                        if i == 0 {
                            assert!(latch.wait_until(Instant::now() + Duration::from_secs(60)));
                        } else {
                            latch.wait();
                        }
                        assert_eq!(data.load(Ordering::Relaxed), 7);
                    });
                }
                data.store(7, Ordering::Relaxed);
                latch.set();
            });
        }
    }
}
