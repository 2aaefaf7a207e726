//! How long things took: counts by duration, in buckets whose width grows with the duration.
//!
//! Every power of two of microseconds is cut into eight buckets, so a bucket is at most an eighth as wide as its lower
//! bound, and a quantile is told as the middle of its bucket: off by no more than a sixteenth (6.25 %) and half a
//! microsecond. Below 16 µs each microsecond has a bucket of its own. Durations of more than 2³⁷ µs (38 hours) are
//! counted as that, but the sum and the maximum are right.
//!
//! All is relaxed: each addition stands for itself, and a reader that comes between two of one record sees a sum that is
//! one duration ahead of the buckets. A histogram counts no more than 2⁶⁴ of anything; a sum of microseconds lasts for
//! half a million years of running.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Each power of two is cut into two to the power of this.
const BITS: u32 = 3;

/// The power of two at which buckets end.
const TOP: u32 = 37;

const BUCKETS: usize = ((TOP - BITS + 1) << BITS) as usize;

/// Counts of durations, written by many threads.
pub(super) struct Histogram {
    sum: AtomicU64,
    min: AtomicU64,
    max: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            sum: AtomicU64::new(0),
            min: AtomicU64::new(u64::MAX),
            max: AtomicU64::new(0),
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
        }
    }
}

impl Histogram {
    /// Counts a duration.
    #[inline]
    pub(super) fn record(&self, span: Duration) {
        let micros = micros_of(span);
        self.buckets[bucket_of(micros)].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(micros, Ordering::Relaxed);
        self.bound(micros);
    }

    /// The same, for the only thread that records here: no locked instruction.
    pub(super) fn record_alone(&self, span: Duration) {
        let micros = micros_of(span);
        bump(&self.buckets[bucket_of(micros)], 1);
        bump(&self.sum, micros);
        self.bound(micros);
    }

    fn bound(&self, micros: u64) {
        // Both are rare after the first few: a load that nobody else's write disturbs.
        if micros < self.min.load(Ordering::Relaxed) {
            self.min.fetch_min(micros, Ordering::Relaxed);
        }
        if micros > self.max.load(Ordering::Relaxed) {
            self.max.fetch_max(micros, Ordering::Relaxed);
        }
    }

    /// Adds what is counted here.
    pub(super) fn add_to(&self, snapshot: &mut Snapshot) {
        for (place, bucket) in self.buckets.iter().enumerate() {
            let count = bucket.load(Ordering::Relaxed);
            if count > 0 {
                snapshot.bucket(place, count);
            }
        }
        snapshot.sum = snapshot.sum.wrapping_add(self.sum.load(Ordering::Relaxed));
        snapshot.min = snapshot.min.min(self.min.load(Ordering::Relaxed));
        snapshot.max = snapshot.max.max(self.max.load(Ordering::Relaxed));
    }
}

#[inline]
fn bucket_of(micros: u64) -> usize {
    if micros < 1 << BITS {
        return micros as usize;
    }
    let power = micros.ilog2();
    if power >= TOP {
        return BUCKETS - 1;
    }
    let shift = power - BITS;
    // The leading one stands for the bucket's row: the row after as many as there are powers below.
    ((shift as usize) << BITS) + (micros >> shift) as usize
}

/// The least and the greatest number of microseconds in a bucket.
fn bounds(bucket: usize) -> (u64, u64) {
    let row = bucket >> BITS;
    if row == 0 {
        return (bucket as u64, bucket as u64);
    }
    let shift = row - 1;
    let lower = ((bucket & ((1 << BITS) - 1)) as u64 + (1 << BITS)) << shift;
    (lower, lower + (1 << shift) - 1)
}

/// A histogram as it was read, or the sum of several.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Up to the last that is not empty.
    buckets: Vec<u64>,
    count: u64,
    sum: u64,
    min: u64,
    max: u64,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self { buckets: Vec::new(), count: 0, sum: 0, min: u64::MAX, max: 0 }
    }
}

impl Snapshot {
    /// How many durations.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How long all of them took together.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum)
    }

    /// The shortest.
    pub fn min(&self) -> Option<Duration> {
        (self.count > 0).then(|| Duration::from_micros(self.min))
    }

    /// The longest.
    pub fn max(&self) -> Option<Duration> {
        (self.count > 0).then(|| Duration::from_micros(self.max))
    }

    /// The average.
    pub fn mean(&self) -> Option<Duration> {
        self.sum.checked_div(self.count).map(Duration::from_micros)
    }

    /// The duration that this part of all of them did not exceed: 0.5 is the median, 0.99 what one in a hundred
    /// exceeds. Off by no more than 6.25 % and half a microsecond; `q` beyond 0..1 is taken as the nearer of these.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        if self.count == 0 {
            return None;
        }
        let rank = ((q.clamp(0.0, 1.0) * self.count as f64).ceil() as u64).clamp(1, self.count);
        let mut seen = 0;
        let bucket = self.buckets.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        let (lower, upper) = bounds(bucket);
        // While workers go on, the extremes can be behind the buckets.
        Some(Duration::from_micros((lower + (upper - lower) / 2).min(self.max).max(self.min.min(self.max))))
    }

    /// Each bucket that is not empty: the greatest duration that belongs to it, and how many there are.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        let filled = self.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        filled.map(|(bucket, count)| (Duration::from_micros(bounds(bucket).1), *count))
    }

    /// Adds what another one holds.
    pub fn merge(&mut self, other: &Self) {
        for (place, count) in other.buckets.iter().enumerate().filter(|(_, count)| **count > 0) {
            self.bucket(place, *count);
        }
        self.sum = self.sum.wrapping_add(other.sum);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    fn bucket(&mut self, place: usize, count: u64) {
        if self.buckets.len() <= place {
            self.buckets.resize(place + 1, 0);
        }
        self.buckets[place] += count;
        self.count += count;
    }
}

/// Microseconds, without the wide division of `Duration::as_micros`.
fn micros_of(span: Duration) -> u64 {
    span.as_secs().saturating_mul(1_000_000).saturating_add(u64::from(span.subsec_micros()))
}

/// Adds to a counter that nobody else writes.
pub(super) fn bump(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(micros: &[u64]) -> Snapshot {
        let histogram = Histogram::default();
        micros.iter().for_each(|micros| histogram.record(Duration::from_micros(*micros)));
        let mut snapshot = Snapshot::default();
        histogram.add_to(&mut snapshot);
        snapshot
    }

    #[test]
    fn buckets_join_without_a_gap() {
        let mut next = 0;
        for bucket in 0..BUCKETS {
            let (lower, upper) = bounds(bucket);
            assert_eq!(lower, next);
            assert_eq!((bucket_of(lower), bucket_of(upper)), (bucket, bucket));
            assert!((upper - lower) as f64 <= lower as f64 / 8.0, "bucket {bucket} is too wide");
            next = upper + 1;
        }
        assert_eq!(next, 1 << TOP);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        assert!(Duration::from_micros(next) > Duration::from_hours(24));
    }

    #[test]
    fn an_empty_one_has_nothing_to_say() {
        let empty = Snapshot::default();
        assert_eq!((empty.count(), empty.sum()), (0, Duration::ZERO));
        assert_eq!((empty.min(), empty.max(), empty.mean(), empty.quantile(0.5)), (None, None, None, None));
    }

    #[test]
    fn one_duration_is_every_quantile() {
        for micros in [0, 1, 7, 8, 9, 1000, 123_456_789, 1 << 40] {
            let one = of(&[micros]);
            for q in [-1.0, 0.0, 0.5, 1.0, 2.0, f64::NAN] {
                assert_eq!(one.quantile(q), Some(Duration::from_micros(micros)), "{q}");
            }
            assert_eq!(one.mean(), Some(Duration::from_micros(micros)));
        }
    }

    /// A generator of numbers that are the same in every run (Knuth's MMIX constants).
    struct Numbers(u64);

    impl Numbers {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // The upper bits are the good ones.
            self.0 >> 24
        }
    }

    /// Durations of all magnitudes up to a day.
    fn durations(numbers: &mut Numbers, count: u64) -> Vec<u64> {
        (0..count)
            .map(|_| {
                let magnitude = numbers.next() % 37;
                (numbers.next() % (1 << magnitude)).min(86_400_000_000)
            })
            .collect()
    }

    #[test]
    fn quantiles_are_within_their_error() {
        let mut numbers = Numbers(0x7A5C);
        for round in 0..300 {
            let count = 1 + numbers.next() % 400;
            let mut micros = durations(&mut numbers, count);
            let snapshot = of(&micros);
            micros.sort_unstable();
            assert_eq!(snapshot.count(), micros.len() as u64);
            assert_eq!(snapshot.sum(), Duration::from_micros(micros.iter().sum()));
            assert_eq!(snapshot.min(), micros.first().map(|least| Duration::from_micros(*least)));
            assert_eq!(snapshot.max(), micros.last().map(|most| Duration::from_micros(*most)));
            for q in [0.0, 0.01, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1.0] {
                let rank = ((q * micros.len() as f64).ceil() as usize).clamp(1, micros.len());
                let exact = micros[rank - 1] as f64;
                let told = snapshot.quantile(q).unwrap().as_micros() as f64;
                assert!(
                    (told - exact).abs() <= exact / 16.0 + 0.5,
                    "round {round}, q {q}: {told} for {exact}"
                );
            }
        }
    }

    #[test]
    fn a_merge_is_the_histogram_of_both() {
        let mut numbers = Numbers(3);
        for _ in 0..100 {
            let (one, other) = (durations(&mut numbers, 50), durations(&mut numbers, 70));
            let both: Vec<_> = one.iter().chain(&other).copied().collect();
            let mut merged = of(&one);
            merged.merge(&of(&other));
            assert_eq!(merged, of(&both));
            merged.merge(&Snapshot::default());
            assert_eq!(merged, of(&both));
            let listed: u64 = merged.buckets().map(|(_, count)| count).sum();
            assert_eq!(listed, merged.count());
        }
    }
}
