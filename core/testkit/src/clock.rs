//! A clock that stands still until it is told otherwise.
//!
//! It owns one number and has no invariant beyond that: it goes backwards if it is set backwards, as wall clocks do.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use taskloom_model::Timestamp;

/// A clock that is turned by hand, from any thread.
///
/// ```
/// use std::time::Duration;
/// let clock = taskloom_testkit::VirtualClock::default();
/// let before = clock.now();
/// clock.advance(Duration::from_secs(3600));
/// assert_eq!(clock.now().since(before), Duration::from_secs(3600));
/// ```
#[derive(Debug)]
pub struct VirtualClock(AtomicI64);

impl VirtualClock {
    /// A clock that shows this time.
    pub const fn new(now: Timestamp) -> Self {
        Self(AtomicI64::new(now.micros()))
    }

    /// The time that it shows.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::Relaxed))
    }

    /// Turns it on by a span; returns the new time.
    pub fn advance(&self, span: Duration) -> Timestamp {
        let later = |now| Some((Timestamp::from_micros(now) + span).micros());
        let before =
            self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later).unwrap_or_else(|now| now);
        Timestamp::from_micros(before) + span
    }

    /// Turns it to a time, forwards or backwards.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.micros(), Ordering::Relaxed);
    }
}

impl Default for VirtualClock {
    /// Shows 2026-01-01T00:00:00Z.
    fn default() -> Self {
        Self::new(Timestamp::from_micros(1_767_225_600_000_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_turned_by_hand() {
        let clock = VirtualClock::default();
        assert_eq!(clock.now().to_string(), "2026-01-01T00:00:00.000000Z");
        assert_eq!(clock.advance(Duration::from_millis(1)), clock.now());
        clock.set(Timestamp::from_micros(5));
        assert_eq!(clock.now().micros(), 5);
        assert_eq!(clock.advance(Duration::MAX), Timestamp::MAX);
        assert_eq!(clock.now(), Timestamp::MAX);
    }
}
