//! How long a process that ended by itself is waited for before the next one takes its place.

use std::time::Duration;

/// When to start again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backoff {
    /// The longest wait after the first end.
    pub(crate) first: Duration,
    /// The longest wait of all.
    pub(crate) most: Duration,
    /// How long a process must have been ready for its end to count as a first one again.
    pub(crate) healthy: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            most: Duration::from_secs(30),
            healthy: Duration::from_secs(10),
        }
    }
}

impl Backoff {
    /// How long to wait after so many ends in a row, at least one. `chance` is from 0 to 1: the wait lies between a half and
    /// the whole of its bound, so that the processes of many machines do not come back at the same moment.
    pub(crate) fn delay(&self, ends: u32, chance: f64) -> Duration {
        let doublings = ends.saturating_sub(1).min(31);
        let bound = self.first.saturating_mul(1 << doublings).min(self.most);
        bound.mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0))
    }

    /// The longest wait after so many ends in a row.
    #[cfg(test)]
    pub(crate) fn bound(&self, ends: u32) -> Duration {
        self.delay(ends, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_its_bound() {
        let backoff = Backoff::default();
        let bounds: Vec<u64> =
            (1..=11).map(|ends| u64::try_from(backoff.bound(ends).as_millis()).unwrap()).collect();
        assert_eq!(bounds, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
        assert_eq!(backoff.bound(u32::MAX), backoff.most);
    }

    #[test]
    fn chance_takes_at_most_a_half() {
        let backoff = Backoff::default();
        assert_eq!(backoff.delay(1, 0.0), Duration::from_millis(50));
        assert_eq!(backoff.delay(1, 0.5), Duration::from_millis(75));
        assert_eq!(backoff.delay(1, 7.0), Duration::from_millis(100));
    }
}
