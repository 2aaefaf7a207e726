//! A clock that stands still until it is turned.
//!
//! It owns two numbers: the time of day, and the time that only goes forward. [`VirtualClock::advance`] turns both, as
//! time does; [`VirtualClock::jump`] sets the time of day alone, as somebody does who corrects a wall clock.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use taskloom_model::Timestamp;

use crate::edge::Clock;

/// A clock that is turned by hand, from any thread.
///
/// ```
/// use std::time::Duration;
/// use taskloom_engine::{Clock, VirtualClock};
/// let clock = VirtualClock::default();
/// let before = clock.now();
/// clock.advance(Duration::from_secs(3600));
/// assert_eq!(clock.now().since(before), Duration::from_secs(3600));
/// clock.jump(before);
/// assert_eq!(clock.now(), before);
/// assert_eq!(clock.monotonic(), Duration::from_secs(3600));
/// ```
#[derive(Debug)]
pub struct VirtualClock {
    now: AtomicI64,
    /// In microseconds.
    monotonic: AtomicU64,
}

impl VirtualClock {
    /// A clock that shows this time.
    pub const fn new(now: Timestamp) -> Self {
        Self { now: AtomicI64::new(now.micros()), monotonic: AtomicU64::new(0) }
    }

    /// Turns it on by a span, to the latest time that can be told at most. Below a microsecond nothing is turned.
    pub fn advance(&self, span: Duration) {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let later = |now: u64| Some(now.saturating_add(micros));
        let _ = self.monotonic.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
        let later = |now| Some((Timestamp::from_micros(now) + span).micros());
        let _ = self.now.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
    }

    /// Sets the time of day, forwards or backwards, without any time having gone by.
    pub fn jump(&self, now: Timestamp) {
        self.now.store(now.micros(), Ordering::Relaxed);
    }
}

impl Default for VirtualClock {
    /// Shows 2026-01-01T00:00:00Z.
    fn default() -> Self {
        Self::new(Timestamp::from_micros(1_767_225_600_000_000))
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.now.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.monotonic.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_turned_by_hand() {
        let clock = VirtualClock::default();
        assert_eq!(clock.now().to_string(), "2026-01-01T00:00:00.000000Z");
        clock.advance(Duration::from_millis(1));
        assert_eq!(clock.now().to_string(), "2026-01-01T00:00:00.001000Z");
        assert_eq!(clock.monotonic(), Duration::from_millis(1));
        clock.jump(Timestamp::from_micros(5));
        assert_eq!((clock.now().micros(), clock.monotonic()), (5, Duration::from_millis(1)));
        clock.advance(Duration::MAX);
        assert_eq!(clock.now(), Timestamp::MAX);
        clock.advance(Duration::from_secs(1));
        assert_eq!(clock.now(), Timestamp::MAX);
    }
}
