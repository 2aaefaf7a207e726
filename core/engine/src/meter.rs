//! What happened, counted: how many attempts, how they ended, how long they waited and ran.
//!
//! # What it owns
//! A [`Meter`] for each pair of a queue and a handler. A queue's figures are the sum over its handlers, a handler's the
//! sum over its queues; so a worker writes each fact down once.
//!
//! # What recording costs
//! Two relaxed additions when an attempt starts, four when it ends, to memory that no other worker writes to. A worker
//! keeps a [`Recorder`], which remembers the meter of the task before: most often the next one's too. Nothing takes a
//! lock, except to find a meter that the recorder did not use last.
//!
//! # When an end is counted
//! That an attempt ended, and how long it ran, is known when its handler returns. How it ended counts only if the report
//! is taken: otherwise it is late, and not a success or a failure too. On a resident store the worker knows a moment
//! later; on others it is known with the commit, and counted by the thread that commits.
//!
//! # Shards
//! If all workers added to the same counters, the cache line would travel between cores for every task. So a meter has
//! one set of [`Cells`] for each shard, a worker writes to its own, and a reader adds them up. That memory (5 KB a set)
//! would be wasted on a handler that runs once an hour: a meter begins with one set for everybody, and a worker is given
//! its own only when that has seen [`BUSY`] attempts.
//!
//! # Bounds
//! At most [`MAX_METERS`] pairs, those beyond are counted together under [`OTHER`]; at most [`MAX_SHARDS`] shards. An
//! app with 50 handlers, 10 of them busy on 8 workers, uses 0.7 MB.
//!
//! # What a reader sees
//! Each number is right, but they are read one after the other while workers go on: two that belong together may differ
//! by what happened meanwhile. Counters only grow. Nothing here can fail.

mod figures;
mod histogram;
mod rate;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::RwLock;
use taskloom_model::{Name, Timestamp};

pub use figures::Figures;
pub use histogram::Snapshot;
use histogram::bump;

use histogram::Histogram;
use rate::Rate;

/// How many pairs of queue and handler are counted apart.
pub const MAX_METERS: usize = 1024;

/// The queue and the handler under which the pairs beyond [`MAX_METERS`] are counted.
pub const OTHER: &str = "(other)";

/// How many shards there are at most.
const MAX_SHARDS: usize = 32;

/// After how many facts a meter counts as busy.
const BUSY: u64 = 4096;

/// What can be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Count {
    /// An attempt succeeded.
    Succeeded,
    /// An attempt failed, for good or not.
    Failed,
    /// An attempt that failed or took too long will be followed by another.
    Retried,
    /// An attempt took too long, or a deadline passed.
    TimedOut,
    /// A task was cancelled.
    Cancelled,
    /// A task was not started in time.
    Expired,
    /// An attempt stopped at no cost: suspended, or given back.
    Released,
    /// A report came too late. How that attempt ended is counted nowhere else.
    Late,
}

const COUNTS: usize = 8;

/// One set of counters, alone on its lines of cache.
#[repr(align(128))]
#[derive(Default)]
struct Cells {
    counts: [AtomicU64; COUNTS],
    wait: Histogram,
    run: Histogram,
    ended: Rate,
}

/// What happened to the tasks of one handler in one queue.
pub struct Meter {
    shared: Cells,
    /// How often `shared` was used.
    uses: AtomicU64,
    own: Box<[OnceLock<Box<Cells>>]>,
}

impl Meter {
    fn new(shards: usize) -> Self {
        let own = (0..shards).map(|_| OnceLock::new()).collect();
        Self { shared: Cells::default(), uses: AtomicU64::new(0), own }
    }

    /// Where a thread counts, and whether it is alone there. A thread beyond the shards shares one with another; what
    /// the two write in the same instant may be counted once.
    #[inline]
    fn cells(&self, shard: usize) -> (&Cells, bool) {
        match self.own[shard].get() {
            Some(own) => (own, true),
            None => self.first(shard),
        }
    }

    #[cold]
    fn first(&self, shard: usize) -> (&Cells, bool) {
        if self.uses.fetch_add(1, Ordering::Relaxed) < BUSY {
            return (&self.shared, false);
        }
        (self.own[shard].get_or_init(Box::default), true)
    }

    fn add_to(&self, figures: &mut Figures, now: Timestamp) {
        figures.add(&self.shared, now);
        self.own.iter().filter_map(OnceLock::get).for_each(|cells| figures.add(cells, now));
    }
}

/// All meters of one engine.
pub struct Meters {
    shards: usize,
    meters: RwLock<HashMap<(Name, Name), Arc<Meter>>>,
}

impl Meters {
    /// For so many threads that record. More may: they share.
    pub fn new(threads: usize) -> Arc<Self> {
        let shards = (threads + 1).clamp(1, MAX_SHARDS).next_power_of_two();
        Arc::new(Self { shards, meters: RwLock::default() })
    }

    // ── recording ───────────────────────────────────────────────────────────────────────────────────────────────

    /// What a thread records through. Threads whose numbers differ by less than the number of shards do not meet.
    pub fn recorder(self: &Arc<Self>, thread: usize) -> Recorder {
        Recorder { meters: Arc::clone(self), shard: thread & (self.shards - 1), last: None }
    }

    /// Counts one, on behalf of nobody in particular: a timer, an operator. Workers have a [`Recorder`].
    pub fn count(&self, queue: Name, handler: Name, count: Count) {
        // Not where a recorder may be alone.
        self.meter(queue, handler).shared.counts[count as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn meter(&self, queue: Name, handler: Name) -> Arc<Meter> {
        if let Some(meter) = self.meters.read().get(&(queue, handler)) {
            return Arc::clone(meter);
        }
        let mut meters = self.meters.write();
        let key = match meters.len() {
            // One place is kept for the others.
            0..MAX_METERS => (queue, handler),
            _ if meters.contains_key(&(queue, handler)) => (queue, handler),
            _ => (Name::new(OTHER), Name::new(OTHER)),
        };
        Arc::clone(meters.entry(key).or_insert_with(|| Arc::new(Meter::new(self.shards))))
    }

    // ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────

    /// The figures of a queue.
    pub fn queue(&self, queue: Name, now: Timestamp) -> Figures {
        self.sum(now, |key| key.0 == queue)
    }

    /// The figures of a handler.
    pub fn handler(&self, handler: Name, now: Timestamp) -> Figures {
        self.sum(now, |key| key.1 == handler)
    }

    /// The figures of everything.
    pub fn total(&self, now: Timestamp) -> Figures {
        self.sum(now, |_| true)
    }

    /// The figures of each pair of a queue and a handler, in the order of their names.
    pub fn all(&self, now: Timestamp) -> Vec<(Name, Name, Figures)> {
        let mut all: Vec<_> = self
            .some(|_| true)
            .into_iter()
            .map(|((queue, handler), meter)| {
                let mut figures = Figures::default();
                meter.add_to(&mut figures, now);
                (queue, handler, figures)
            })
            .collect();
        all.sort_by_key(|(queue, handler, _)| (*queue, *handler));
        all
    }

    fn sum(&self, now: Timestamp, wanted: impl Fn(&(Name, Name)) -> bool) -> Figures {
        let mut figures = Figures::default();
        self.some(wanted).iter().for_each(|(_, meter)| meter.add_to(&mut figures, now));
        figures
    }

    /// Some of the meters, taken out of the lock: adding them up takes a while.
    fn some(&self, wanted: impl Fn(&(Name, Name)) -> bool) -> Vec<((Name, Name), Arc<Meter>)> {
        let meters = self.meters.read();
        meters.iter().filter(|(key, _)| wanted(key)).map(|(key, meter)| (*key, Arc::clone(meter))).collect()
    }
}

/// What one thread records through.
pub struct Recorder {
    meters: Arc<Meters>,
    shard: usize,
    last: Option<((Name, Name), Arc<Meter>)>,
}

impl Recorder {
    /// An attempt started, so long after it became eligible.
    #[inline]
    pub fn started(&mut self, queue: Name, handler: Name, waited: Duration) {
        match self.cells(queue, handler) {
            (cells, true) => cells.wait.record_alone(waited),
            (cells, false) => cells.wait.record(waited),
        }
    }

    /// An attempt ended, after it ran so long. How is not counted if it came too late, or if that is not known yet.
    #[inline]
    pub fn ended(&mut self, queue: Name, handler: Name, how: Option<Count>, ran: Duration, now: Timestamp) {
        let (cells, alone) = self.cells(queue, handler);
        let count = how.map(|how| &cells.counts[how as usize]);
        if alone {
            if let Some(count) = count {
                bump(count, 1);
            }
            cells.run.record_alone(ran);
            cells.ended.add_alone(now);
        } else {
            if let Some(count) = count {
                count.fetch_add(1, Ordering::Relaxed);
            }
            cells.run.record(ran);
            cells.ended.add(now);
        }
    }

    /// Counts something else: that there will be another attempt, that a report came too late.
    #[inline]
    pub fn count(&mut self, queue: Name, handler: Name, count: Count) {
        let (cells, alone) = self.cells(queue, handler);
        let count = &cells.counts[count as usize];
        if alone {
            bump(count, 1);
        } else {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[inline]
    fn cells(&mut self, queue: Name, handler: Name) -> (&Cells, bool) {
        let key = (queue, handler);
        if self.last.as_ref().is_none_or(|(last, _)| *last != key) {
            self.last = Some((key, self.meters.meter(queue, handler)));
        }
        let (_, meter) = self.last.as_ref().expect("set above");
        meter.cells(self.shard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000 + 500_000)
    }

    #[test]
    fn queues_and_handlers_are_sums_over_pairs() {
        let meters = Meters::new(4);
        let (a, b) = (Name::new("a"), Name::new("b"));
        let mut recorder = meters.recorder(0);
        for (queue, handler) in [(a, a), (a, b), (b, b)] {
            recorder.started(queue, handler, Duration::from_micros(100));
            recorder.ended(queue, handler, Some(Count::Succeeded), Duration::from_millis(5), at(100));
        }
        meters.count(b, b, Count::Expired);
        recorder.count(b, b, Count::Late);
        let figures = |figures: Figures| (figures.started(), figures.of(Count::Succeeded));
        assert_eq!(figures(meters.queue(a, at(101))), (2, 2));
        assert_eq!(figures(meters.queue(b, at(101))), (1, 1));
        assert_eq!(figures(meters.handler(a, at(101))), (1, 1));
        assert_eq!(figures(meters.handler(b, at(101))), (2, 2));
        let total = meters.total(at(101));
        assert_eq!((total.of(Count::Expired), total.of(Count::Late), total.of(Count::Failed)), (1, 1, 0));
        assert_eq!(total.ended(), 3);
        assert_eq!((total.last_second, total.last_10, total.last_60), (3, 3, 3));
        assert_eq!(total.run.min(), Some(Duration::from_millis(5)));
        let names: Vec<_> = meters
            .all(at(101))
            .iter()
            .map(|(queue, handler, _)| (queue.as_str(), handler.as_str()))
            .collect();
        assert_eq!(names, [("a", "a"), ("a", "b"), ("b", "b")]);
    }

    #[test]
    fn nothing_is_lost_between_threads_and_shards() {
        const EACH: usize = 20_000;
        let meters = Meters::new(2);
        let name = Name::new("busy");
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let mut recorder = meters.recorder(thread);
                scope.spawn(move || {
                    for micros in 0..EACH as u64 {
                        recorder.started(name, name, Duration::from_micros(micros));
                        let ran = Duration::from_micros(micros);
                        recorder.ended(name, name, Some(Count::Failed), ran, at(7));
                    }
                });
            }
        });
        let figures = meters.total(at(8));
        assert_eq!(figures.started(), 4 * EACH as u64);
        assert_eq!((figures.of(Count::Failed), figures.ended()), (4 * EACH as u64, 4 * EACH as u64));
        assert_eq!(figures.last_second, 4 * EACH as u64);
        assert_eq!(figures.run.max(), Some(Duration::from_micros(EACH as u64 - 1)));
        let meter = meters.meter(name, name);
        assert!(meter.own.iter().all(|own| own.get().is_some()), "it was busy");
    }

    #[test]
    fn a_quiet_meter_has_one_set_of_cells() {
        let meters = Meters::new(8);
        let name = Name::new("quiet");
        for thread in 0..8 {
            meters.recorder(thread).started(name, name, Duration::ZERO);
        }
        assert!(meters.meter(name, name).own.iter().all(|own| own.get().is_none()));
        assert!(size_of::<Cells>() < 6 << 10, "{}", size_of::<Cells>());
    }

    #[test]
    fn pairs_beyond_the_bound_are_counted_together() {
        let meters = Meters::new(1);
        let queue = Name::new("q");
        for number in 0..MAX_METERS + 10 {
            meters.count(queue, Name::new(&format!("handler-{number}")), Count::Expired);
        }
        meters.count(queue, Name::new("handler-3"), Count::Expired);
        assert_eq!(meters.all(at(1)).len(), MAX_METERS + 1);
        assert_eq!(meters.handler(Name::new("handler-3"), at(1)).of(Count::Expired), 2);
        assert_eq!(meters.handler(Name::new(OTHER), at(1)).of(Count::Expired), 10);
        assert_eq!(meters.total(at(1)).of(Count::Expired), MAX_METERS as u64 + 11);
    }
}
