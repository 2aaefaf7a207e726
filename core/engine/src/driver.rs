//! An engine without threads: one that is *driven*, by whoever made it.
//!
//! Under a virtual clock nothing happens by itself. The thread that drives steps every service ([`SERVICES`]) and runs
//! the handlers, until nothing is left that could go on at the time that the clock shows ([`rest`]); then it turns the
//! clock to the next time at which something is due, and so on. So the same submits at the same times, with the same
//! seed, give the same run: users' tests and the simulator are built on that.
//!
//! # The order
//! Services are stepped first, so what is due is eligible before anything runs. Then blocking handlers run one at a time,
//! each to its end, in the order of the lanes: queues as they are served, in a queue by priority, then by when tasks
//! became eligible, then by when they were submitted. Asynchronous handlers are let go on by their host
//! ([`crate::LoopHost::step`]) with the services.
//!
//! # A handler that drives
//! Whoever waits for a task of a driven engine drives it meanwhile: a handler that waits for its child runs the child
//! on its own stack. For each such depth there is a worker of its own. One thread drives at a time; another that waits
//! for a task waits until that one rests.
//!
//! # What it owns
//! The clock, and the workers that are not in use. A worker holds the engine's core, which holds this; so the end of the
//! engine has to take them away ([`Driver::leave`]).

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, ReentrantMutex};
use taskloom_model::{Code, Error, Result, Timestamp};
use taskloom_store::Task;

use crate::core::Core;
use crate::events::{EventKind, Subscription, SubscriptionOptions};
use crate::queues::Route;
use crate::timers;
use crate::virtual_clock::VirtualClock;
use crate::worker::Worker;
use crate::{Engine, Handle};

/// Who does the work of an engine.
#[derive(Clone, Debug, Default)]
pub enum Drive {
    /// Threads of its own.
    #[default]
    Threads,
    /// Threads run its handlers, but none watches the time: whoever made the engine calls [`Engine::step`].
    Stepped,
    /// No thread at all: whoever made the engine calls [`Engine::drain`] and [`Engine::advance`], or waits for a task.
    /// It goes by this clock.
    Driven(Arc<VirtualClock>),
}

/// Does what is due, and says how long it may be until it is to be stepped again: zero if there is more to do at once,
/// [`Duration::MAX`] if nothing is due unless something else happens.
type Service = fn(&Arc<Core>) -> Duration;

/// What a driver steps, in this order. A service that has a thread of its own where there are threads has a line here; what
/// only waits for a time goes with the timers ([`crate::timers`]).
const SERVICES: &[Service] = &[
    |core| core.others.step(core),
    |core| timers::step(core, core.clock.now(), core.clock.monotonic()),
    |core| core.committer.step(core),
    |core| core.loops.step(),
];

/// Every so many attempts at one and the same time there must be fewer tasks left than the last time, or it is taken that
/// there is no end to them.
const MANY: usize = 100_000;

/// So many attempts are run before the services are stepped again.
const SPELL: usize = 64;

/// What a driven engine has in the place of threads.
pub(crate) struct Driver {
    clock: Arc<VirtualClock>,
    at_work: ReentrantMutex<()>,
    idle: Mutex<Vec<Worker>>,
}

impl Driver {
    pub(crate) fn new(clock: Arc<VirtualClock>) -> Self {
        Self { clock, at_work: ReentrantMutex::new(()), idle: Mutex::default() }
    }

    /// Runs `work` with a worker that nobody else uses.
    fn with_worker<T>(&self, core: &Arc<Core>, work: impl FnOnce(&mut Worker) -> T) -> T {
        let idle = self.idle.lock().pop();
        let mut worker = idle.unwrap_or_else(|| Worker::guest(core));
        let value = work(&mut worker);
        self.idle.lock().push(worker);
        value
    }

    /// Runs a task that was claimed by hand.
    pub(crate) fn run_claimed(&self, core: &Arc<Core>, task: Arc<Task>) {
        let _at_work = self.at_work.lock();
        self.with_worker(core, |worker| worker.run_claimed(task));
    }

    /// Runs eligible tasks, a few at most, until `enough`; how many.
    fn run(&self, core: &Arc<Core>, enough: &dyn Fn() -> bool) -> usize {
        let mut ran = 0;
        while ran < SPELL
            && !enough()
            && !core.runtime.is_interrupted()
            && !core.queues.is_empty(Route::Blocking)
            && self.with_worker(core, Worker::run_next)
        {
            ran += 1;
        }
        ran
    }

    /// The engine ends: the workers let go of it.
    pub(crate) fn leave(&self) {
        let idle = std::mem::take(&mut *self.idle.lock());
        drop(idle);
    }
}

/// Does everything that can be done without time going by, until `enough`; how long it may be until more can be done.
pub(crate) fn rest(core: &Arc<Core>, driver: &Driver, enough: &dyn Fn() -> bool) -> Result<Duration> {
    let _at_work = driver.at_work.lock();
    let (mut time, mut ran, mut left) = (core.clock.monotonic(), 0, u64::MAX);
    while !core.is_stopped() {
        let wait = SERVICES.iter().map(|service| service(core)).min().unwrap_or(Duration::MAX);
        let more = driver.run(core, enough);
        if core.runtime.is_interrupted() {
            return Err(Error::new(Code::WouldDeadlock, "whoever drives the engine was interrupted"));
        }
        if enough() {
            return Ok(Duration::ZERO);
        }
        if more == 0 && !core.timers.was_poked() && !wait.is_zero() {
            return Ok(wait);
        }
        ran += more;
        if core.clock.monotonic() != time {
            // A handler has turned it.
            (time, ran, left) = (core.clock.monotonic(), 0, u64::MAX);
        }
        if ran >= MANY {
            ran = 0;
            let before = std::mem::replace(&mut left, core.store.counts()?.unfinished());
            if left >= before {
                let now = core.clock.now();
                return Err(Error::new(
                    Code::WouldDeadlock,
                    format!("another {MANY} attempts have run at {now}, and there are no fewer tasks left"),
                )
                .hint("a task that submits itself anew needs a delay, or this has no end"));
            }
        }
    }
    Ok(Duration::MAX)
}

/// Drives the engine until a task settles; whether it has. Without `patience`, a task that does not is an error.
pub(crate) fn wait_for(core: &Arc<Core>, driver: &Driver, task: &Arc<Task>, patience: bool) -> Result<bool> {
    rest(core, driver, &|| task.is_settled())?;
    if task.is_settled() || patience {
        return Ok(task.is_settled());
    }
    let state = task.state();
    Err(Error::new(
        Code::WouldDeadlock,
        format!(
            "task {} would never end: it is {state}, and the clock stands still at {}",
            task.id(),
            core.clock.now()
        ),
    )
    .hint(
        "turn the clock: in Python `t.advance(hours=1)`, in Rust `testing.advance(…)`; or resume its queue",
    ))
}

/// The tasks that come into being from now on, in that order, kept for whoever asks.
pub struct Submits {
    events: Subscription,
    handles: Vec<Handle>,
}

impl Submits {
    /// Notes an engine's, from now on. For tests: it holds every one of them.
    pub fn of(engine: &Engine) -> Result<Self> {
        let options = SubscriptionOptions { capacity: usize::MAX, name: Some("submits".into()) };
        Ok(Self { events: engine.subscribe(EventKind::TaskSubmitted.name(), options)?, handles: Vec::new() })
    }

    /// All so far, if the engine is the one that they were noted of. A store that sweeps may have forgotten some before
    /// they were asked for.
    pub fn all(&mut self, engine: &Engine) -> Result<&[Handle]> {
        let mut events = Vec::new();
        self.events.drain(&mut events, usize::MAX);
        for id in events.iter().filter_map(|event| event.task) {
            self.handles.extend(engine.get(id)?);
        }
        Ok(&self.handles)
    }
}

impl Engine {
    fn driver(&self) -> Result<&Driver> {
        self.core.check_process()?;
        self.core.driver.as_ref().ok_or_else(|| {
            Error::new(Code::NotTesting, "this engine goes by the real clock, which nobody can turn").hint(
                "turn the clock of an app that is in testing mode: in Python `with app.testing() as t`, in Rust \
                 `App::testing()`",
            )
        })
    }

    /// Does everything that can be done without time going by: runs what is eligible, and what becomes so by that, on the
    /// calling thread. How long it may be until something is due, by the engine's clock; `None` if nothing will be.
    ///
    /// Errors: `NotTesting` if the engine is not [driven](Drive::Driven); `WouldDeadlock` if there is no end to it.
    pub fn drain(&self) -> Result<Option<Duration>> {
        let wait = rest(&self.core, self.driver()?, &|| false)?;
        Ok((wait < Duration::MAX).then_some(wait))
    }

    /// Turns the clock on by a span, and stops at every time at which something is due, in order, to let it happen.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::time::Duration;
    /// use taskloom_engine::{Drive, Engine, EngineOptions, Handler, Outcome, VirtualClock};
    /// use taskloom_model::{Options, State, When};
    ///
    /// let drive = Drive::Driven(Arc::new(VirtualClock::default()));
    /// let store = Box::new(taskloom_store::MemoryStore::default());
    /// let engine = Engine::new(store, EngineOptions { drive, ..EngineOptions::default() })?;
    /// let later = Options { eta: Some(When::In(Duration::from_secs(60))), ..Options::default() };
    /// let handler = Handler::Blocking(Box::new(|_: &_| Outcome::success(*b"null")));
    /// let entry = engine.register("later", later, handler)?;
    /// engine.start()?;
    /// let handle = engine.submit(&entry, entry.admission(), Default::default(), None, false)?;
    /// engine.advance(Duration::from_secs(59))?;
    /// assert_eq!(handle.state(), State::Pending);
    /// engine.advance(Duration::from_secs(1))?;
    /// assert_eq!(handle.state(), State::Succeeded);
    /// # Ok::<(), taskloom_engine::Error>(())
    /// ```
    ///
    /// Errors: those of [`Engine::drain`]; the clock then stands where it came to.
    pub fn advance(&self, span: Duration) -> Result<()> {
        let driver = self.driver()?;
        let mut left = span;
        loop {
            let wait = rest(&self.core, driver, &|| false)?;
            if wait > left || self.core.is_stopped() {
                driver.clock.advance(left);
                return Ok(());
            }
            // What is due between two microseconds is due at the next.
            let wait = wait.max(Duration::from_micros(1));
            driver.clock.advance(wait);
            left = left.saturating_sub(wait);
        }
    }

    /// Turns the clock to a time. A later one is come to as by [`Engine::advance`]; to an earlier one the clock of the
    /// day is set back, as an operator would set it, while timeouts and leases go on.
    ///
    /// Errors: those of [`Engine::drain`].
    pub fn set_time(&self, at: Timestamp) -> Result<()> {
        let driver = self.driver()?;
        let now = self.core.clock.now();
        if at >= now {
            return self.advance(at.since(now));
        }
        driver.clock.jump(at);
        self.core.timers.look_now();
        rest(&self.core, driver, &|| false).map(drop)
    }

    /// Whether it is [driven](Drive::Driven).
    pub fn is_driven(&self) -> bool {
        self.core.driver.is_some()
    }

    /// The time by the engine's clock.
    pub fn now(&self) -> Timestamp {
        self.core.clock.now()
    }
}
