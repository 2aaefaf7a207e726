//! Spinning a moment before sleeping, where that has lately paid.
//!
//! To wake a sleeping thread on an idle core takes tens of microseconds on some machines, which is far more than most
//! of what one waits for. To spin helps there, and only there: where the thread that is waited for shares our core, or
//! the wait is a long one, every turn is wasted. Nobody can tell beforehand, but the last few times tell well enough.
//!
//! [`Spin`] belongs to one thread. As long as its spins end in success it spins each time. After a failure it skips a
//! number of waits before it tries again, twice as many after each further failure, up to [`RAREST`]. So a thread whose
//! waits are long pays for one spin in a thousand, and a chain of short ones is followed within microseconds.
//!
//! It never yields to the scheduler: beside busy threads a yield can cost a whole time slice.

/// Turns of one spin: some 10 to 30 microseconds.
const TURNS: u32 = 600;

/// The most waits that are skipped between two spins.
const RAREST: u32 = 1024;

/// One thread's experience with spinning.
#[derive(Clone, Debug)]
pub struct Spin {
    /// Waits to skip before the next spin.
    skip: u32,
    /// How many to skip after the next failure.
    penalty: u32,
}

impl Default for Spin {
    fn default() -> Spin {
        Spin::new()
    }
}

impl Spin {
    /// Without experience: the first wait spins.
    pub const fn new() -> Spin {
        Spin { skip: 0, penalty: 1 }
    }

    /// Whether the next wait should spin. Asking counts as a wait.
    pub fn is_worth_it(&mut self) -> bool {
        if self.skip == 0 {
            return true;
        }
        self.skip -= 1;
        false
    }

    /// Spins until `ready`, a moment at most; whether it was.
    ///
    /// ```
    /// let mut spin = taskloom_sync::Spin::new();
    /// assert!(spin.is_worth_it() && spin.until(|| true));
    /// assert!(spin.is_worth_it() && !spin.until(|| false));
    /// assert!(!spin.is_worth_it(), "after a failure the next wait does not spin");
    /// ```
    pub fn until(&mut self, ready: impl Fn() -> bool) -> bool {
        for _ in 0..TURNS {
            if ready() {
                self.penalty = 1;
                return true;
            }
            std::hint::spin_loop();
        }
        self.skip = self.penalty;
        self.penalty = (self.penalty * 2).min(RAREST);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_make_it_rare_and_a_success_makes_it_usual_again() {
        let mut spin = Spin::new();
        let mut spins = 0;
        for _ in 0..10_000 {
            if spin.is_worth_it() {
                spins += 1;
                assert!(!spin.until(|| false));
            }
        }
        // 1 + 2 + 4 + … + 1024 skipped, then one in 1,025.
        assert!((15..=25).contains(&spins), "{spins}");
        while !spin.is_worth_it() {}
        assert!(spin.until(|| true));
        assert!(spin.is_worth_it());
    }
}
