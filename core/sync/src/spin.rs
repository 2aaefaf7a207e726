//! Spinning a moment before sleeping, where waits have lately been short.
//!
//! To wake a sleeping thread on an idle core takes tens of microseconds on some machines, which is far more than most
//! of what one waits for. To spin helps there, and only there: where the thread that is waited for shares our core, or
//! the wait is a long one, every turn is wasted. Nobody can tell beforehand, but how long the last waits took tells
//! well enough.
//!
//! [`Spin`] belongs to one thread. It is told of every wait, whether it was spent spinning or asleep, and keeps a
//! moving average. A wait spins if that is below [`SHORT`], and for no longer than [`LIMIT`]. The measure is of the waits themselves, and not of how spinning has
//! fared: two threads that wait for each other would otherwise talk each other out of it (each sleeps, so the other
//! waits for a wake-up, which takes longer than it had spun) and never find back. A wait that ends with a wake-up is
//! still a short one.
//!
//! It never yields to the scheduler: beside busy threads a yield can cost a whole time slice.

use std::time::{Duration, Instant};

/// How long a wait spins at most. Where the one that is waited for is kept from running by the spinning itself, all of
/// it is lost, on both sides.
const LIMIT: Duration = Duration::from_micros(50);

/// Waits that are shorter on average are worth spinning: some two wake-ups.
const SHORT: Duration = Duration::from_micros(100);

/// A longer wait counts as this long, so that a few short ones outweigh it.
const LONGEST: Duration = Duration::from_micros(800);

/// Turns between two looks at the clock.
const TURNS: u32 = 16;

/// One thread's experience with its waits.
#[derive(Clone, Debug)]
pub struct Spin {
    /// The moving average of the last waits.
    lately: Duration,
    /// When the wait began that is under way, if it has been noted.
    since: Option<Instant>,
}

impl Default for Spin {
    fn default() -> Spin {
        Spin::new()
    }
}

impl Spin {
    /// Without experience: the first wait spins.
    pub const fn new() -> Spin {
        Spin { lately: Duration::ZERO, since: None }
    }

    /// Whether the wait that is about to begin should spin. Not again if it has spun in vain.
    pub fn is_worth_it(&self) -> bool {
        self.since.is_none() && self.lately < SHORT
    }

    /// Spins until `ready`, a moment at most; whether it was. If not, the wait goes on, and [`Spin::ended`] has to be
    /// called when it is over.
    ///
    /// ```
    /// let mut spin = taskloom_sync::Spin::new();
    /// assert!(spin.is_worth_it() && spin.until(|| true));
    /// assert!(spin.is_worth_it() && !spin.until(|| false));
    /// assert!(!spin.is_worth_it(), "this wait has spun");
    /// spin.ended();
    /// ```
    pub fn until(&mut self, ready: impl Fn() -> bool) -> bool {
        if ready() {
            self.note(Duration::ZERO);
            return true;
        }
        let start = now();
        loop {
            for _ in 0..TURNS {
                std::hint::spin_loop();
                if ready() {
                    self.note(start.elapsed());
                    return true;
                }
            }
            if start.elapsed() >= LIMIT {
                self.since = Some(start);
                return false;
            }
        }
    }

    /// The wait goes on asleep, or begins so.
    pub fn sleeps(&mut self) {
        self.since.get_or_insert_with(now);
    }

    /// The wait is over.
    pub fn ended(&mut self) {
        if let Some(since) = self.since.take() {
            self.note(since.elapsed());
        }
    }

    fn note(&mut self, wait: Duration) {
        self.since = None;
        self.lately = (self.lately + wait.min(LONGEST)) / 2;
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "it measures its own waits; nothing that anybody sees depends on it"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wait that took so long.
    fn wait(spin: &mut Spin, took: Duration) {
        spin.since = now().checked_sub(took);
        spin.ended();
    }

    #[test]
    fn long_waits_make_it_sleep_and_short_ones_make_it_spin_again() {
        let mut spin = Spin::new();
        assert!(spin.is_worth_it());
        wait(&mut spin, Duration::from_secs(60));
        assert!(!spin.is_worth_it());
        let mut waits = 0;
        while !spin.is_worth_it() {
            wait(&mut spin, Duration::from_micros(20));
            waits += 1;
        }
        assert!((2..=6).contains(&waits), "{waits}");
        assert!(spin.until(|| true) && spin.is_worth_it());
    }

    #[test]
    fn a_wait_that_spun_in_vain_sleeps_and_is_counted_once() {
        let mut spin = Spin::new();
        assert!(!spin.until(|| false));
        assert!(!spin.is_worth_it());
        spin.sleeps();
        spin.ended();
        let lately = spin.lately;
        assert!(lately >= LIMIT / 2);
        spin.ended();
        assert_eq!(spin.lately, lately);
    }
}
