//! Ids and jitter, from an injected seed.
//!
//! Each thread draws from a generator of its own, so that submitters do not meet. The generators are seeded from the
//! engine's seed in the order in which threads first ask; with one thread, as in the simulator, the same seed gives
//! the same ids.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};

use fastrand::Rng;
use taskloom_model::{TaskId, Timestamp};

/// The source of ids and jitter of one engine.
pub(crate) struct Chance {
    /// Which of this process's engines it belongs to: two may have the same seed.
    engine: u64,
    seed: u64,
    streams: AtomicU64,
}

thread_local! {
    /// The generator, and the number of the engine that it belongs to.
    static RNG: RefCell<Option<(u64, Rng)>> = const { RefCell::new(None) };
}

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        static ENGINES: AtomicU64 = AtomicU64::new(0);
        Self { engine: ENGINES.fetch_add(1, Ordering::Relaxed), seed, streams: AtomicU64::new(0) }
    }

    fn with<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        RNG.with_borrow_mut(|slot| {
            if !matches!(slot, Some((engine, _)) if *engine == self.engine) {
                let stream = self.streams.fetch_add(1, Ordering::Relaxed);
                *slot = Some((
                    self.engine,
                    Rng::with_seed(self.seed ^ stream.wrapping_mul(0xD1B5_4A32_D192_ED03)),
                ));
            }
            let (_, rng) = slot.as_mut().expect("set above");
            draw(rng)
        })
    }

    /// A version 7 id for a task submitted at `now`. The twelve bits after the milliseconds tell the fraction, so ids
    /// sort by time down to a quarter of a microsecond.
    pub(crate) fn id(&self, now: Timestamp) -> TaskId {
        let micros = u64::try_from(now.micros()).unwrap_or(0);
        let fraction = (micros % 1000) * 4096 / 1000;
        let mut chance = [0; 10];
        chance[..2].copy_from_slice(&(fraction as u16).to_be_bytes());
        chance[2..].copy_from_slice(&self.with(|rng| rng.u64(..)).to_be_bytes());
        TaskId::from_parts(micros / 1000, chance)
    }

    /// Uniform in `0..1`.
    pub(crate) fn unit(&self) -> f64 {
        self.with(Rng::f64)
    }
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
        assert_ne!(chance.id(now), chance.id(now));
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
