//! How long to wait before the next attempt.

use std::time::Duration;

use crate::{Code, Error};

/// The waits between attempts: `base × factor^(failures − 1)`, at most `cap`, and of that a random part ("full
/// jitter"), so that tasks which failed together do not come back together.
///
/// ```
/// use std::time::Duration;
/// let policy = taskloom_model::RetryPolicy::default();
/// assert_eq!(policy.ceiling(3), Duration::from_secs(4));
/// assert_eq!(policy.backoff(3, 0.25), Duration::from_secs(1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    /// The longest wait after the first failure.
    pub base: Duration,
    /// By how much it grows with each failure; at least 1.
    pub factor: f64,
    /// The longest wait of all.
    pub cap: Duration,
}

impl Default for RetryPolicy {
    /// 1 s, doubled, at most 30 s.
    fn default() -> Self {
        Self { base: Duration::from_secs(1), factor: 2.0, cap: Duration::from_secs(30) }
    }
}

impl RetryPolicy {
    /// The longest wait after this many failures.
    pub fn ceiling(&self, failures: u32) -> Duration {
        if self.base.is_zero() {
            return Duration::ZERO; // and not 0 × ∞
        }
        let growth = self.factor.powi(i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX));
        let seconds = (self.base.as_secs_f64() * growth).min(self.cap.as_secs_f64());
        Duration::try_from_secs_f64(seconds).unwrap_or(self.cap)
    }

    /// The wait after this many failures, where `chance` is uniform in `0..1`.
    pub fn backoff(&self, failures: u32, chance: f64) -> Duration {
        self.ceiling(failures).mul_f64(chance.clamp(0.0, 1.0))
    }

    /// Refuses a policy that makes no sense.
    pub fn validate(&self) -> Result<(), Error> {
        if !self.factor.is_finite() || self.factor < 1.0 {
            return Err(Error::new(
                Code::InvalidOption,
                format!("retry factor is {}; it must be a number of at least 1", self.factor),
            )
            .hint("1 waits equally long each time, 2 doubles the wait after every failure"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn grows_to_the_cap() {
        let policy = RetryPolicy::default();
        let waits: Vec<_> = (1..=7).map(|failures| policy.ceiling(failures).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(policy.ceiling(u32::MAX), policy.cap);
        assert_eq!(RetryPolicy { base: Duration::ZERO, ..policy }.ceiling(u32::MAX), Duration::ZERO);
    }

    #[test]
    fn refuses_a_factor_below_one() {
        for factor in [0.5, -1.0, f64::NAN, f64::INFINITY] {
            let error = RetryPolicy { factor, ..RetryPolicy::default() }.validate().unwrap_err();
            assert_eq!(error.code(), Code::InvalidOption);
        }
    }

    proptest! {
        #[test]
        fn never_beyond_the_cap(base in 0u64..1u64 << 40, factor in 1.0..100.0f64, cap in 0u64..1u64 << 40, failures: u32, chance in 0.0..=1.0f64) {
            let policy = RetryPolicy { base: Duration::from_micros(base), factor, cap: Duration::from_micros(cap) };
            // One nanosecond of rounding in the conversion through a float is allowed for every 2^52 of it.
            prop_assert!(policy.backoff(failures, chance) <= policy.cap + Duration::from_micros(1));
        }
    }
}
