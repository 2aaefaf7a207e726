//! Ids and jitter, from an injected seed.
//!
//! Each thread draws from a generator of its own, so that submitters do not meet. The generators are seeded from the
//! engine's seed in the order in which threads first ask; with one thread, as in the simulator, the same seed gives
//! the same ids.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fastrand::Rng;
use parking_lot::Mutex;
use taskloom_model::{TaskId, Timestamp};

use crate::edge;

/// The source of ids and jitter of one engine.
pub(crate) struct Chance {
    /// Which of this process's engines it belongs to: two may have the same seed.
    engine: u64,
    seed: u64,
    streams: AtomicU64,
}

thread_local! {
    /// This thread's stream of the engine that it served last.
    static STREAM: RefCell<Option<Stream>> = const { RefCell::new(None) };
}

struct Stream {
    /// The number of the engine that it belongs to.
    engine: u64,
    rng: Rng,
    /// The time and the chance of the last id. The chance goes on from there, around the circle of 2⁶¹: so a thread's ids
    /// sort in their order even within a microsecond, and lie beside each other in tables ([`TaskId::table_hash`]).
    last: (u64, u64),
}

impl Stream {
    /// 62 bits for an id at this time.
    fn next(&mut self, micros: u64) -> u64 {
        let (time, last) = self.last;
        let mut chance = last + 1 + u64::from(self.rng.u32(..));
        if time != micros {
            // The uppermost bit is left for those that follow in the same microsecond.
            chance &= (1 << 61) - 1;
        }
        self.last = (micros, chance);
        chance
    }
}

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        static ENGINES: AtomicU64 = AtomicU64::new(0);
        Self { engine: ENGINES.fetch_add(1, Ordering::Relaxed), seed, streams: AtomicU64::new(0) }
    }

    fn with<T>(&self, draw: impl FnOnce(&mut Stream) -> T) -> T {
        STREAM.with_borrow_mut(|slot| {
            if slot.as_ref().is_none_or(|stream| stream.engine != self.engine) {
                let stream = self.streams.fetch_add(1, Ordering::Relaxed);
                let mut rng = Rng::with_seed(self.seed ^ stream.wrapping_mul(0xD1B5_4A32_D192_ED03));
                let last = (u64::MAX, rng.u64(..) >> 3);
                *slot = Some(Stream { engine: self.engine, rng, last });
            }
            draw(slot.as_mut().expect("set above"))
        })
    }

    /// A version 7 id for a task submitted at `now`. The twelve bits after the milliseconds tell the fraction, so ids
    /// sort by time down to the microsecond; those of one thread sort in the order in which it drew them.
    pub(crate) fn id(&self, now: Timestamp) -> TaskId {
        let micros = u64::try_from(now.micros()).unwrap_or(0);
        let fraction = (micros % 1000) * 4096 / 1000;
        TaskId::from_words(micros / 1000, fraction, self.with(|stream| stream.next(micros)))
    }

    /// Uniform in `0..1`.
    pub(crate) fn unit(&self) -> f64 {
        self.with(|stream| stream.rng.f64())
    }
}

/// An id for a task that this process submits without an engine, such as by an outbox.
///
/// A process that was forked draws from a source of its own: it must not make the ids that its parent makes.
pub fn fresh_id(now: Timestamp) -> TaskId {
    static SOURCE: Mutex<Option<(u32, Arc<Chance>)>> = Mutex::new(None);
    let process = std::process::id();
    let source = {
        let mut known = SOURCE.lock();
        match &*known {
            Some((owner, source)) if *owner == process => Arc::clone(source),
            _ => Arc::clone(&known.insert((process, Arc::new(Chance::new(edge::seed())))).1),
        }
    };
    source.id(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_and_differ() {
        let chance = Chance::new(1);
        let mut last = None;
        for micros in 1_700_000_000_000_000..1_700_000_000_003_000 {
            let id = chance.id(Timestamp::from_micros(micros));
            assert!(last.is_none_or(|last| last < id), "{last:?} {id}");
            assert_eq!(id.to_string().as_bytes()[14], b'7');
            last = Some(id);
        }
        let now = Timestamp::from_micros(5);
        let ids: Vec<_> = (0..10_000).map(|_| chance.id(now)).collect();
        assert!(ids.is_sorted_by(|a, b| a < b), "in the order in which they were drawn");
    }

    #[test]
    fn ids_of_one_thread_are_neighbours_in_tables() {
        let chance = Chance::new(1);
        let place = |id: TaskId| id.table_hash() & (u64::MAX >> 7);
        let start = 1_700_000_000_000_000;
        let ids = (start..start + 1_000).map(|micros| chance.id(Timestamp::from_micros(micros)));
        let places: Vec<_> = ids.map(place).collect();
        assert!(places.windows(2).all(|two| (0..4).contains(&two[1].wrapping_sub(two[0]))), "{places:?}");
        let tags: std::collections::HashSet<_> =
            (0..1_000).map(|_| chance.id(Timestamp::from_micros(start)).table_hash() >> 57).collect();
        assert_eq!(tags.len(), 128, "and what tells them apart is spread");
    }

    #[test]
    fn the_same_seed_gives_the_same_ids() {
        let now = Timestamp::from_micros(5_000_000);
        let draw = |seed| {
            let chance = Chance::new(seed);
            (0..10).map(|_| chance.id(now)).collect::<Vec<_>>()
        };
        assert_eq!(draw(0xABCD_0001), draw(0xABCD_0001));
        assert_ne!(draw(0xABCD_0001), draw(0xABCD_0002));
    }
}
