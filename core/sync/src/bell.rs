//! A one-shot event for a crowd.
//!
//! A [`Latch`](crate::Latch) is one byte, and wakes who waits for it one by one, each by a system call. Where many wait
//! for the same thing, such as the commit of the transaction that their requests are part of, most of what that costs is
//! these calls: each wakes a thread that runs at once, often in the place of the one that is still waking others. A bell
//! is four bytes, and wakes all of them by one call.
//!
//! ```text
//!   SILENT ──wait──▶ AWAITED ──ring──▶ RUNG
//!     └───────────────ring─────────────▲
//! ```
//!
//! # Invariants
//!
//! * A thread sleeps only in `AWAITED`, which the [`Futex`] checks as one step with falling asleep.
//! * `ring` is one exchange. It calls the system only if that found `AWAITED`: nobody can be asleep otherwise.
//!
//! Hence no lost wake-up: a waiter either made the word `AWAITED` before the exchange, which makes the ringer call, or
//! finds `RUNG`; and one that is about to sleep in `AWAITED` is refused once the exchange has happened.
//!
//! # Ordering
//!
//! `ring` publishes with `Release`, and a wait that returns has read with `Acquire`: what was written before the bell was
//! rung is visible to whoever has waited for it.
//!
//! # Failure
//!
//! Nothing here panics. A bell that is never rung leaves its waiters asleep, so whoever owes it rings it when dropped.

use std::fmt;

use crate::primitive::{Futex, Ordering};

const SILENT: u32 = 0;
const AWAITED: u32 = 1;
const RUNG: u32 = 2;

/// An event that happens once, and that many threads wait for.
///
/// # Examples
///
/// ```
/// let bell = taskloom_sync::Bell::new();
/// std::thread::scope(|scope| {
///     for _ in 0..3 {
///         scope.spawn(|| bell.wait());
///     }
///     bell.ring();
/// });
/// bell.wait();
/// ```
pub struct Bell(Futex);

impl Bell {
    /// Creates a bell that was not rung.
    pub fn new() -> Bell {
        Bell(Futex::new(SILENT))
    }

    /// Wakes whoever waits, and lets nobody wait any more. Later calls do nothing.
    pub fn ring(&self) {
        if self.0.word().swap(RUNG, Ordering::Release) == AWAITED {
            self.0.wake_all();
        }
    }

    /// Whether it was rung. If so, everything written before is visible.
    pub fn is_rung(&self) -> bool {
        self.0.word().load(Ordering::Acquire) == RUNG
    }

    /// Blocks until it is rung.
    pub fn wait(&self) {
        let word = self.0.word();
        loop {
            match word.load(Ordering::Acquire) {
                RUNG => return,
                SILENT => {
                    // If it fails, somebody else waits or the bell was rung: the next round tells which.
                    let _ = word.compare_exchange(SILENT, AWAITED, Ordering::Relaxed, Ordering::Relaxed);
                }
                _ => self.0.sleep_while(AWAITED),
            }
        }
    }
}

impl Default for Bell {
    fn default() -> Bell {
        Bell::new()
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bell").field(&self.is_rung()).finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn rung_before_the_wait_it_returns_at_once() {
        let bell = Bell::new();
        assert!(!bell.is_rung());
        bell.ring();
        bell.ring();
        bell.wait();
        assert!(bell.is_rung());
    }

    #[test]
    fn wakes_a_crowd_and_publishes() {
        for _ in 0..100 {
            let (bell, data, waiting) = (Bell::new(), AtomicUsize::new(0), AtomicUsize::new(0));
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        waiting.fetch_add(1, Ordering::Relaxed);
                        bell.wait();
                        assert_eq!(data.load(Ordering::Relaxed), 7);
                    });
                }
                // Half of them at least are asleep, or on their way.
                while waiting.load(Ordering::Relaxed) < 4 {
                    std::thread::yield_now();
                }
                data.store(7, Ordering::Relaxed);
                bell.ring();
            });
        }
    }
}
