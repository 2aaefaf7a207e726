//! The sum of what several sets of counters hold.

use std::sync::atomic::Ordering;
use std::time::Duration;

use taskloom_model::Timestamp;

use super::histogram::Snapshot;
use super::{COUNTS, Cells, Count};

/// What happened, as it was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    counts: [u64; COUNTS],
    /// How long attempts waited, from when they were eligible until they started.
    pub wait: Snapshot,
    /// How long attempts ran.
    pub run: Snapshot,
    /// Attempts that ended in the last whole second.
    pub last_second: u64,
    /// Attempts that ended in the last ten whole seconds.
    pub last_10: u64,
    /// Attempts that ended in the last sixty whole seconds.
    pub last_60: u64,
}

impl Figures {
    /// How many of these there were.
    pub fn of(&self, count: Count) -> u64 {
        self.counts[count as usize]
    }

    /// How many attempts started.
    pub fn started(&self) -> u64 {
        self.wait.count()
    }

    /// How many attempts ended, one way or another.
    pub fn ended(&self) -> u64 {
        self.run.count()
    }

    /// Attempts that ended per second, over the last 1, 10 and 60 seconds.
    pub fn per_second(&self) -> [f64; 3] {
        [self.last_second as f64, self.last_10 as f64 / 10.0, self.last_60 as f64 / 60.0]
    }

    /// How long an attempt ran on average.
    pub fn mean_run(&self) -> Option<Duration> {
        self.run.mean()
    }

    /// Adds what another one holds.
    pub fn merge(&mut self, other: &Self) {
        for (own, other) in self.counts.iter_mut().zip(&other.counts) {
            *own += other;
        }
        self.wait.merge(&other.wait);
        self.run.merge(&other.run);
        self.last_second += other.last_second;
        self.last_10 += other.last_10;
        self.last_60 += other.last_60;
    }

    pub(super) fn add(&mut self, cells: &Cells, now: Timestamp) {
        for (own, cell) in self.counts.iter_mut().zip(&cells.counts) {
            *own += cell.load(Ordering::Relaxed);
        }
        cells.wait.add_to(&mut self.wait);
        cells.run.add_to(&mut self.run);
        let [last_second, last_10, last_60] = cells.ended.last([1, 10, 60], now);
        self.last_second += last_second;
        self.last_10 += last_10;
        self.last_60 += last_60;
    }
}
