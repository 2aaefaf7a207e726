//! An application in testing mode, as a binding drives it: its engine has no threads, and a clock that the test turns.
//!
//! Times are microseconds, as a binding hands them over: since the epoch, or of a clock that only goes forward.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use taskloom_engine::{Clock, Engine, Handle, Runtime, Submits, VirtualClock};
use taskloom_model::{Result, Timestamp};

use crate::App;

/// The mode, from its begin until [`App::end_testing`].
pub struct Testing {
    engine: Arc<Engine>,
    clock: Arc<VirtualClock>,
    submits: Mutex<Submits>,
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

impl Testing {
    /// Puts an application into the mode. The clock begins at `start`, or at the present.
    ///
    /// Errors: those of [`App::begin_testing`].
    pub fn begin(app: &App, start: Option<i64>, seed: u64, runtime: Arc<dyn Runtime>) -> Result<Self> {
        let clock = Arc::new(VirtualClock::new(start.map_or_else(App::present, Timestamp::from_micros)));
        let engine = app.begin_testing(Arc::clone(&clock), seed, runtime)?;
        let submits = Mutex::new(Submits::of(&engine)?);
        Ok(Self { engine, clock, submits })
    }

    /// The engine that is driven.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Whether the mode has ended.
    pub fn is_over(&self) -> bool {
        self.engine.is_stopped()
    }

    /// Runs what can be run; how long it is until more can, if ever.
    pub fn drain(&self) -> Result<Option<u64>> {
        Ok(self.engine.drain()?.map(micros))
    }

    /// Turns the clock on, stopping wherever something is due.
    pub fn advance(&self, span: u64) -> Result<()> {
        self.engine.advance(Duration::from_micros(span))
    }

    /// Turns the clock to a time: forward as by [`Testing::advance`], or back.
    pub fn set_time(&self, at: i64) -> Result<()> {
        self.engine.set_time(Timestamp::from_micros(at))
    }

    /// Turns the clock on, and nothing else.
    pub fn turn(&self, span: u64) {
        self.clock.advance(Duration::from_micros(span));
    }

    /// The time of day on the clock.
    pub fn now(&self) -> i64 {
        self.clock.now().micros()
    }

    /// The time on the clock that only goes forward.
    pub fn monotonic(&self) -> u64 {
        micros(self.clock.monotonic())
    }

    /// What was submitted, oldest first, but for so many that are known already.
    pub fn submitted_after(&self, known: usize) -> Result<Vec<Handle>> {
        let mut submits = self.submits.lock();
        let all = submits.all(&self.engine)?;
        Ok(all.get(known..).unwrap_or_default().to_vec())
    }
}
