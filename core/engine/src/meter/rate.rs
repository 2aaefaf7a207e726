//! How many things happened in each of the last sixty seconds.
//!
//! A ring of 64 words, one for each second: the upper half of a word says which second it counts, the lower half is the
//! count. Who finds another second in its word puts its own there, with one count; two who do that at once settle it by
//! compare-exchange. A thread that was held up for more than a minute between looking at the word and adding to it may
//! add to the wrong second. So may one whose clock jumps: then the rate is wrong for as long as the window is, and
//! nothing else.

use std::sync::atomic::{AtomicU64, Ordering};

use taskloom_model::Timestamp;

const SECONDS: usize = 64;

/// Counts by second, written by many threads.
pub(super) struct Rate([AtomicU64; SECONDS]);

impl Default for Rate {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; SECONDS])
    }
}

/// The second that a time lies in. The lower half of the number is enough: it comes round after 136 years.
fn second_of(now: Timestamp) -> u32 {
    now.micros().div_euclid(1_000_000) as u32
}

impl Rate {
    /// Counts one.
    #[inline]
    pub(super) fn add(&self, now: Timestamp) {
        let second = second_of(now);
        let word = &self.0[second as usize % SECONDS];
        let mut found = word.load(Ordering::Relaxed);
        while (found >> 32) as u32 != second {
            let first = u64::from(second) << 32 | 1;
            match word.compare_exchange_weak(found, first, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(other) => found = other,
            }
        }
        word.fetch_add(1, Ordering::Relaxed);
    }

    /// The same, for the only thread that counts here: no locked instruction.
    pub(super) fn add_alone(&self, now: Timestamp) {
        let second = second_of(now);
        let word = &self.0[second as usize % SECONDS];
        let found = word.load(Ordering::Relaxed);
        let count = if (found >> 32) as u32 == second { found + 1 } else { u64::from(second) << 32 | 1 };
        word.store(count, Ordering::Relaxed);
    }

    /// How many there were in the last so many whole seconds, for each of these windows; at most 60.
    pub(super) fn last<const N: usize>(&self, windows: [u32; N], now: Timestamp) -> [u64; N] {
        let second = second_of(now);
        let mut sums = [0; N];
        for word in &self.0 {
            let word = word.load(Ordering::Relaxed);
            let (counted, count) = ((word >> 32) as u32, word & 0xFFFF_FFFF);
            // The current second is 0 and does not count: it is not over.
            let age = second.wrapping_sub(counted);
            for (sum, window) in sums.iter_mut().zip(windows) {
                if (1..=window).contains(&age) {
                    *sum += count;
                }
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    #[test]
    fn counts_whole_seconds() {
        let rate = Rate::default();
        for second in 1000..1100 {
            (0..second % 7).for_each(|_| rate.add(at(second)));
            let expected = |window: i64| {
                ((second - window).max(1000)..second).map(|second| (second % 7) as u64).sum::<u64>()
            };
            assert_eq!(rate.last([1, 10, 60], at(second)), [expected(1), expected(10), expected(60)]);
        }
        assert_eq!(rate.last([1, 10, 60], at(1200)), [0, 0, 0], "all of it is too old");
    }

    #[test]
    fn a_clock_that_goes_back_harms_one_window() {
        let rate = Rate::default();
        rate.add(at(1150));
        assert_eq!(rate.last([60], at(1120)), [0], "the clock went back");
        rate.add(at(1120));
        assert_eq!(rate.last([1, 60], at(1121)), [1, 1]);
    }

    #[test]
    fn threads_lose_nothing_when_a_second_begins() {
        let rate = Rate::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..60_000).for_each(|i| rate.add(at(5000 + i / 1000))));
            }
        });
        // A thread may lag behind another by less than the ring is long.
        assert_eq!(rate.last([60], at(5060)), [240_000]);
    }
}
