//! A one-shot event for a crowd.
//!
//! A [`Latch`](crate::Latch) is one byte, and wakes who waits for it one by one, each by a system call. Where many wait
//! for the same thing, such as the commit of the transaction that their requests are part of, most of what that costs is
//! these calls: each wakes a thread that runs at once, often in the place of the one that is still waking others. A bell
//! wakes a few by one call, and each of those the next few before it goes on: so whoever rings it is done at once, and the
//! crowd gets to its feet on all cores.
//!
//! ```text
//!   SILENT ──wait──▶ AWAITED ──ring──▶ RUNG
//!     └───────────────ring─────────────▲
//! ```
//!
//! # Invariants
//!
//! * A thread takes a *ticket*, one more to be woken, and only then sleeps, in `AWAITED`, which the [`Futex`] checks as one
//!   step with falling asleep.
//! * `ring` is one exchange. It calls the system only if that found `AWAITED`: nobody can be asleep otherwise.
//! * Once it was rung, whoever wakes others hands in as many tickets first. Each who has taken one wakes a few when its wait
//!   is over, for as long as there are tickets.
//!
//! Hence no lost wake-up. A waiter either made the word `AWAITED` before the exchange, which makes the ringer call, or finds
//! `RUNG`; and one that is about to sleep in `AWAITED` is refused once the exchange has happened. Of those who are asleep
//! then, there are never more than tickets: each has taken one, and a ticket is handed in only to wake one of them, or when
//! nobody is asleep any more. And if some are still asleep, the last call has woken somebody, or was refused to nobody: it
//! is that one's turn to call next.
//!
//! # Ordering
//!
//! `ring` publishes with `Release`, and a wait that returns has read with `Acquire`: what was written before the bell was
//! rung is visible to whoever has waited for it. Between taking a ticket and reading the word there is fence W, and between
//! writing (or having read) `RUNG` and counting the tickets fence R: so either the word is seen or the ticket is.
//!
//! # Failure
//!
//! Nothing here panics. A bell that is never rung leaves its waiters asleep, so whoever owes it rings it when dropped.

use std::fmt;

use crate::primitive::{AtomicU32, Futex, Ordering, fence};

/// How many are woken by one call. (Loom could not go through more.)
const FEW: u32 = if cfg!(loom) { 1 } else { 4 };

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
pub struct Bell {
    word: Futex,
    /// How many are yet to be woken.
    tickets: AtomicU32,
}

impl Bell {
    /// Creates a bell that was not rung.
    pub fn new() -> Bell {
        Bell { word: Futex::new(SILENT), tickets: AtomicU32::new(0) }
    }

    /// Wakes whoever waits, and lets nobody wait any more. Later calls do nothing.
    pub fn ring(&self) {
        if self.word.word().swap(RUNG, Ordering::Release) == AWAITED {
            self.wake_some();
        }
    }

    /// Wakes a few, if anybody is left to be woken.
    fn wake_some(&self) {
        fence(Ordering::SeqCst); // fence R
        let take = |tickets: u32| (tickets > 0).then(|| tickets.saturating_sub(FEW));
        if let Ok(before) = self.tickets.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            self.word.wake(before.min(FEW));
        }
    }

    /// Whether it was rung. If so, everything written before is visible.
    pub fn is_rung(&self) -> bool {
        self.word.word().load(Ordering::Acquire) == RUNG
    }

    /// Blocks until it is rung.
    pub fn wait(&self) {
        if self.is_rung() {
            return;
        }
        let word = self.word.word();
        self.tickets.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst); // fence W
        loop {
            match word.load(Ordering::Acquire) {
                RUNG => return self.wake_some(),
                SILENT => {
                    // If it fails, somebody else waits or the bell was rung: the next round tells which.
                    let _ = word.compare_exchange(SILENT, AWAITED, Ordering::Relaxed, Ordering::Relaxed);
                }
                _ => self.word.sleep_while(AWAITED),
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
