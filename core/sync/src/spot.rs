//! A byte that threads can park on: the futex of this crate, and the home of its only `unsafe`.
//!
//! Owns one `AtomicU8` and, through `parking_lot_core`, the queue of threads that wait at its address. The queue
//! lives in a process-wide table; the byte itself stays one byte, which is what makes a latch per task affordable.
//!
//! # Invariants
//!
//! * A thread is queued only while, under the bucket lock, the byte still had the expected value.
//! * [`Spot::store_and_unpark_all`] changes the byte and empties the queue under that same lock. So no thread is
//!   queued for a value that is gone: that would be a lost wake-up.
//!
//! # The byte may die at once
//!
//! The moment the new value is visible, a thread that merely polls may return and free the memory that the byte is
//! in. The usual sequence, store and then `unpark_all`, would go on to use the dead address as a key: harmless to
//! memory, since a key is only compared and never dereferenced, but it could wake whoever parks on a new lock at
//! the reused address. We store *inside* the bucket lock instead, after the queue was emptied: from the store on,
//! nothing reads the byte and nothing looks up the address. What remains is waking threads that were already taken
//! from the queue, by handles that live in those threads.
//!
//! # Failure
//!
//! The closures given to `parking_lot_core` load or store one atomic: they cannot panic. If the parking lot itself
//! panics (out of memory while growing its table) it aborts the process.

// Parking on an address is unsafe because another user of the same key could be disturbed. Nothing else here is.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use parking_lot_core::{DEFAULT_PARK_TOKEN, DEFAULT_UNPARK_TOKEN, FilterOp, ParkResult, park, unpark_filter};

/// See the module.
pub(crate) struct Spot(AtomicU8);

impl Spot {
    pub(crate) fn new(value: u8) -> Self {
        Spot(AtomicU8::new(value))
    }

    /// The byte itself, for the paths that need no queue.
    #[inline]
    pub(crate) fn byte(&self) -> &AtomicU8 {
        &self.0
    }

    fn key(&self) -> usize {
        std::ptr::from_ref(&self.0).addr()
    }

    /// Parks this thread if the byte is `expected`. Returns false if the deadline passed first.
    ///
    /// True promises nothing about the byte: the caller looks again. The load that decides may be relaxed, as the
    /// bucket lock orders it with [`Spot::store_and_unpark_all`].
    pub(crate) fn park_while(&self, expected: u8, deadline: Option<Instant>) -> bool {
        let validate = || self.0.load(Ordering::Relaxed) == expected;
        // SAFETY: the key is the address of our own byte, which `&self` keeps alive while we are queued and which
        // nobody else parks on. The closures touch one atomic: they neither unwind nor call the parking lot.
        let result = unsafe { park(self.key(), validate, || {}, |_, _| {}, DEFAULT_PARK_TOKEN, deadline) };
        result != ParkResult::TimedOut
    }

    /// Gives the byte its new value and wakes every thread parked on it, as one step.
    ///
    /// The store (`Release`) is the last access to `self`.
    pub(crate) fn store_and_unpark_all(&self, value: u8) {
        let publish = |_| {
            self.0.store(value, Ordering::Release);
            DEFAULT_UNPARK_TOKEN
        };
        // SAFETY: the key is ours, as above, and is looked up before `publish` runs, that is, while the byte is
        // still unset and hence alive. The closures neither unwind nor call the parking lot.
        unsafe { unpark_filter(self.key(), |_| FilterOp::Unpark, publish) };
    }
}
