//! The timer service: everything that happens at a time.
//!
//! It asks the store for tasks whose time has come (eta, backoff, expiry, deadline) and the table of running attempts
//! for those that take too long, keeps the process's lease, sweeps what a durable store has kept for long enough, and,
//! for a runtime in which one thread at a time runs, forgets the ended tasks that a memory store keeps no longer. [`step`] does all that once and says when it wants to
//! be called again. The thread around it only waits; an engine that is *stepped* has no such thread, and a test calls
//! [`crate::Engine::step`] instead, after it has turned the clock; one that is *driven* ([`crate::driver`]) has none at all.
//!
//! Two numbers say when the next time comes, as far as anybody knows: one on the clock of the day, one on the clock
//! that only goes forward. Whoever sets a time lowers the number and wakes the thread only if it became lower, so a
//! million delayed tasks cost a million comparisons and hardly a wake-up. The step first raises the numbers to
//! "never", then looks, then lowers them to what it found: a time set meanwhile is kept.
//!
//! Clocks jump. The thread never waits longer than [`SAFETY`], so a time that a jump has brought nearer is late by no
//! more than that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use taskloom_model::{Code, Error, Operation, Result, Timestamp};

use crate::core::Core;
use crate::events::EventKind;
use crate::leases::Leases;
use crate::retention::Retention;
use crate::running::Due;
use crate::scheduler::Scheduler;
use crate::{edge, shutdown};

/// The longest wait of a thread. A virtual clock does not jump by itself, and whoever drives an engine waits for nothing.
pub(crate) const SAFETY: Duration = Duration::from_secs(10);

/// How many ended tasks are looked at in one step, to forget those that are too many.
const TIDY: usize = 1_024;

/// How many due tasks are taken in one call to the store.
const BATCH: usize = 256;

pub(crate) struct Timers {
    next: AtomicI64,
    watch: AtomicU64,
    state: Mutex<State>,
    poked: Condvar,
    /// One step at a time, whoever steps.
    leases: Mutex<Leases>,
    /// An owner may have died.
    observe: AtomicBool,
    retention: Mutex<Retention>,
    scheduler: Mutex<Scheduler>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct State {
    running: bool,
    stopping: bool,
    poked: bool,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            next: AtomicI64::new(i64::MAX),
            watch: AtomicU64::new(u64::MAX),
            state: Mutex::default(),
            poked: Condvar::new(),
            leases: Mutex::default(),
            observe: AtomicBool::new(false),
            retention: Mutex::default(),
            scheduler: Mutex::default(),
            thread: Mutex::new(None),
        }
    }
}

impl Timers {
    /// A task's time comes at `due`.
    pub(crate) fn set(&self, due: Timestamp) {
        if self.next.load(Ordering::Relaxed) > due.micros()
            && self.next.fetch_min(due.micros(), Ordering::AcqRel) > due.micros()
        {
            self.look_now();
        }
    }

    /// A running attempt has taken too long at this moment of the monotonic clock.
    pub(crate) fn watch(&self, deadline: Duration) {
        let micros = u64::try_from(deadline.as_micros()).unwrap_or(u64::MAX);
        if self.watch.load(Ordering::Relaxed) > micros
            && self.watch.fetch_min(micros, Ordering::AcqRel) > micros
        {
            self.look_now();
        }
    }

    /// An owner of the store may have died: whether one has is looked at now, and not at the next beat.
    pub(crate) fn observe_owners(&self) {
        self.observe.store(true, Ordering::Release);
        self.look_now();
    }

    /// Something may be due now.
    pub(crate) fn look_now(&self) {
        let mut state = self.state.lock();
        state.poked = true;
        if state.running {
            self.poked.notify_one();
        }
    }

    /// Whether something came up since the last time this was asked.
    pub(crate) fn was_poked(&self) -> bool {
        std::mem::take(&mut self.state.lock().poked)
    }

    pub(crate) fn start(&self, core: &Arc<Core>) -> Result<()> {
        {
            let mut state = self.state.lock();
            if state.running || state.stopping {
                return Ok(());
            }
            state.running = true;
        }
        let own = Arc::clone(core);
        let life = move || {
            let _guard = Dying(&own);
            own.timers.live(&own);
        };
        match edge::spawn("taskloom-timer".into(), life) {
            Ok(handle) => {
                *self.thread.lock() = Some(handle);
                Ok(())
            }
            Err(error) => {
                self.state.lock().running = false;
                Err(Error::new(Code::StoreFailed, "the system would not start the timer thread")
                    .caused_by(error))
            }
        }
    }

    pub(crate) fn stop(&self) {
        self.state.lock().stopping = true;
        self.poked.notify_all();
        edge::join(&self.thread);
    }

    /// Whether the calling thread is the one that looks at times.
    pub(crate) fn is_here(&self) -> bool {
        let thread = self.thread.lock();
        thread.as_ref().is_some_and(|thread| thread.thread().id() == std::thread::current().id())
    }

    fn live(&self, core: &Arc<Core>) {
        loop {
            let wait = step(core, core.clock.now(), core.clock.monotonic()).min(SAFETY);
            let mut state = self.state.lock();
            if state.stopping {
                state.running = false;
                return;
            }
            if !state.poked && !wait.is_zero() {
                self.poked.wait_for(&mut state, wait);
            }
            state.poked = false;
        }
    }
}

/// Ends everything if the timer thread panics: without it half of the engine's promises would be void.
struct Dying<'a>(&'a Arc<Core>);

impl Drop for Dying<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            shutdown::die(self.0);
        }
    }
}

/// Does everything that is due, and says how long it is until something will be.
pub(crate) fn step(core: &Arc<Core>, now: Timestamp, monotonic: Duration) -> Duration {
    let timers = &core.timers;
    let mut leases = match &core.driver {
        None => timers.leases.lock(),
        // Where one thread does it all, whoever finds a step under way is called by that very step.
        Some(_) => match timers.leases.try_lock() {
            Some(leases) => leases,
            None => return Duration::MAX,
        },
    };
    timers.next.store(i64::MAX, Ordering::Release);
    timers.watch.store(u64::MAX, Ordering::Release);

    let mut changes = Vec::new();
    let next = core.store.elapse(BATCH, &core.live, &mut changes, now);
    core.follow_all(&mut changes);
    if core.hear_of_gates() {
        core.committer.ask_for_more();
    }
    let expiry = core.ahead.step(core, now);
    let next = next.map(|next| [next, expiry].into_iter().flatten().min());
    let until_next = match next {
        Ok(Some(next)) => {
            timers.next.fetch_min(next.micros(), Ordering::AcqRel);
            next.since(now)
        }
        Ok(None) => Duration::MAX,
        // The store fails; it is asked again soon.
        Err(_) => Duration::from_secs(1),
    };

    let mut due = Vec::new();
    let watch = core.running.step(monotonic, &mut due);
    if let Some(watch) = watch {
        timers.watch.fetch_min(u64::try_from(watch.as_micros()).unwrap_or(u64::MAX), Ordering::AcqRel);
    }
    attend(core, due);
    let until_watch = watch.map_or(Duration::MAX, |watch| watch.saturating_sub(monotonic));

    let until_firing = timers.scheduler.lock().step(core, now);
    if until_firing < SAFETY {
        timers.next.fetch_min((now + until_firing).micros(), Ordering::AcqRel);
    }

    let until_beat = if core.capability.durable {
        leases.step(core, timers.observe.swap(false, Ordering::AcqRel), now, monotonic)
    } else {
        Duration::MAX
    };
    let until_look = core.reach.step(core, monotonic).min(core.trials.step_in_time(core));
    if until_look < SAFETY {
        let at = u64::try_from((monotonic + until_look).as_micros()).unwrap_or(u64::MAX);
        timers.watch.fetch_min(at, Ordering::AcqRel);
    }
    // Bounded, since others wait for their time.
    let mut untidy = false;
    if core.runtime.is_serial() {
        core.runtime.tidying(&mut || untidy = core.store.tidy(TIDY, now));
    }
    if untidy {
        return Duration::ZERO;
    }

    let until_sweep = timers.retention.lock().step(core, now, monotonic);
    until_next.min(until_watch).min(until_firing).min(until_beat).min(until_look).min(until_sweep)
}

fn attend(core: &Arc<Core>, due: Vec<Due>) {
    let mut timeouts = Vec::new();
    for due in due {
        match due {
            Due::TimeOut(task, fence) => {
                timeouts.push((task, Operation::TimeOut { fence, chance: core.chance.unit() }));
            }
            Due::Remind(task, fence) => {
                if core.running.contains(&task, fence) {
                    core.runtime.interrupt(&task, fence);
                }
            }
            Due::Replace(task, fence) => {
                let mut stuck = 0;
                let note = |number| {
                    stuck = number;
                    core.pool.is_stuck(number);
                };
                if core.running.give_up(&task, fence, note) {
                    core.announce_worker(EventKind::WorkerStuck, &task, stuck, fence.attempt);
                    // Without a replacement the pool is one short until the handler ends.
                    let _ = core.pool.fill(core);
                }
            }
            Due::Lend(task, fence) => {
                if core.running.give_up_place(&task, fence, || core.loops.add_place()) {
                    core.loops.look_for_more(core);
                }
            }
        }
    }
    // Refused if the attempt has just ended: then there is nothing to time out. If the store fails, they are due
    // again soon.
    let _ = core.committer.change_all(core, timeouts);
}
