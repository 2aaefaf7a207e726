//! An end that comes once, and that hardly anybody has left word for.
//!
//! Whoever wants to be told of the end leaves word where the caller keeps such things, under the caller's lock. Who brings
//! the end about takes that lock only if somebody may have been there: for most tasks nobody was, and to take a lock for each
//! of them is a good part of what it costs to end one.
//!
//! # What it owns
//! One byte and its meaning:
//!
//! ```text
//!   OPEN ──watch──▶ WATCHED ──end──▶ ENDED
//!     └─────────────end──────────────▲
//! ```
//!
//! # Invariants
//! * Of those who call [`Ending::end`] one is told that it was the first.
//! * There is one byte, so all see its steps in one order. A watcher whose [`Ending::watch`] says that it is not over yet has
//!   moved it to `WATCHED` before the end, and so sends the one who ends it to the lock; which that one gets when the word is left,
//!   since the watcher holds it from before its step until after. A watcher that comes later is told that it is over.
//!
//! # Ordering
//! What is left under the lock is published by the lock. The byte carries nothing with it, so all of its steps are relaxed.
//!
//! # Failure
//! There is none. A watcher that leaves no word after all costs whoever ends it a look in vain.

use std::fmt;

use crate::primitive::{AtomicU8, Ordering};

const OPEN: u8 = 0;
const WATCHED: u8 = 1;
const ENDED: u8 = 2;

/// See the module.
///
/// # Examples
///
/// ```
/// use std::sync::Mutex;
/// use taskloom_sync::Ending;
///
/// let (ending, words) = (Ending::new(), Mutex::new(Vec::new()));
/// {
///     let mut words = words.lock().unwrap();
///     if ending.watch() {
///         words.push("tell me");
///     }
/// }
/// let told = match ending.end() {
///     Some(true) => std::mem::take(&mut *words.lock().unwrap()),
///     _ => Vec::new(),
/// };
/// assert_eq!(told, ["tell me"]);
/// assert!(!ending.watch() && ending.end().is_none());
/// ```
pub struct Ending(AtomicU8);

impl Ending {
    /// One that has not come.
    pub fn new() -> Self {
        Self(AtomicU8::new(OPEN))
    }

    /// Somebody who holds the lock under which word is left is about to leave some: whether that will be found. If not, it
    /// is over.
    pub fn watch(&self) -> bool {
        let seen = self.0.compare_exchange(OPEN, WATCHED, Ordering::Relaxed, Ordering::Relaxed);
        seen != Err(ENDED)
    }

    /// It ends. Nothing if it had; otherwise whether somebody may have left word, which is then to be looked for under the
    /// lock.
    #[inline]
    pub fn end(&self) -> Option<bool> {
        match self.0.compare_exchange(OPEN, ENDED, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => Some(false),
            Err(WATCHED) => (self.0.swap(ENDED, Ordering::Relaxed) == WATCHED).then_some(true),
            Err(_) => None,
        }
    }

    /// Whether it has come.
    pub fn has_come(&self) -> bool {
        self.0.load(Ordering::Relaxed) == ENDED
    }
}

impl Default for Ending {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ending").field(&self.has_come()).finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_byte_and_ends_once() {
        assert_eq!(size_of::<Ending>(), 1);
        let quiet = Ending::new();
        assert!(!quiet.has_come());
        assert_eq!((quiet.end(), quiet.end(), quiet.watch()), (Some(false), None, false));
        let watched = Ending::new();
        assert!(watched.watch() && watched.watch() && !watched.has_come());
        assert_eq!((watched.end(), watched.end(), watched.watch()), (Some(true), None, false));
        assert!(watched.has_come());
    }
}
