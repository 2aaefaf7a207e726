//! Tasks of foreign event loops.
//!
//! The engine never calls into a loop. It wakes the loop's [`LoopHost`], at most once until the loop has come to look,
//! and the loop takes as many tasks as there are free places (`max_in_flight`), each with a one-shot [`Completion`].
//!
//! A pool of foreign workers (child processes, say) takes its tasks in the same way, by a second one of these. It says
//! itself how many it wants ([`Loops::take_while`]), and how an attempt ended whose worker died ([`Completion::crash`]).
//!
//! # Invariants
//! * `in_flight` counts completions that were handed out and not used up. A completion that is dropped unused reports
//!   `HandlerLost`: no attempt ends without an outcome, unless it was called off before.
//! * The lock of the view is held from the pop of a task until its attempt is written down, as the lock of a seat is by
//!   a worker; no code of a user's runs under it.
//! * No wake is lost: a submitter pushes, then raises `woken` and calls the host if it was down; the loop lowers
//!   `woken`, then looks into the lanes, with a `SeqCst` read-modify-write on either side. So either the submitter
//!   finds the flag down and calls, or the loop looks after the push.
//! * Nor is one lost where all places are taken: the loop lowers `woken`, passes a fence and reads `in_flight`; whoever
//!   gives a place back lowers `in_flight`, passes a fence and counts the tasks. Either the loop finds the place, or
//!   the tasks that it left behind are counted, and the loop is woken.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering, fence};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, RwLock};
use taskloom_model::{Fence, Timestamp};
use taskloom_store::Task;

use crate::core::{Core, route_of};
use crate::handler::{Attempt, HandlerEntry, Home, Outcome};
use crate::meter::{Count, Recorder};
use crate::queues::{Route, View};
use crate::worker::{Over, TIDY_EVERY, WORKER_PLACES, begin};

/// A foreign event loop, or a pool of foreign workers.
pub trait LoopHost: Send + Sync {
    /// There may be tasks to take: have the loop call [`crate::Engine::take`] soon, or the pool
    /// [`crate::Engine::take_pooled`]. Called on any thread; must not
    /// block.
    fn wake(&self);

    /// For the host of an engine that is [driven](crate::Drive::Driven): lets its handlers go on, on the calling thread,
    /// until none can without time going by. How long it may be until one can, by the engine's clock: zero if others
    /// should have a turn first, `Duration::MAX` if none will by itself.
    ///
    /// It may be called by one of those handlers, and then has nothing to do.
    fn step(&self) -> Duration {
        Duration::MAX
    }
}

/// A task that was handed to a loop.
pub struct Started {
    /// Its handler.
    pub entry: Arc<HandlerEntry>,
    /// What its handler may ask and tell.
    pub attempt: Attempt,
    /// Where its outcome goes.
    pub completion: Completion,
}

/// The event loop's side of an engine.
pub(crate) struct Loops {
    route: Route,
    host: RwLock<Option<Arc<dyn LoopHost>>>,
    woken: AtomicBool,
    /// Tasks that were claimed by hand: they come before all others, whatever their queue.
    by_hand: Mutex<VecDeque<Arc<Task>>>,
    in_flight: AtomicUsize,
    /// How often a place was taken.
    taken: AtomicUsize,
    /// How many attempts have ended.
    ended: AtomicU32,
    max_in_flight: usize,
    /// Places of attempts that wait for another task.
    lent: AtomicUsize,
    view: Mutex<View>,
    /// For the attempts on loops, and for the thread that commits.
    recorder: Mutex<Option<Recorder>>,
    idle: Mutex<()>,
    became_idle: Condvar,
}

/// How many places there are for what is begun on loops.
const PLACES: usize = 4_096;

impl Loops {
    /// Where the next attempt is noted, beyond the worker threads' places.
    fn place(&self) -> usize {
        let first = WORKER_PLACES + if self.route == Route::Pooled { PLACES } else { 0 };
        first + self.taken.load(Ordering::Relaxed) % PLACES
    }

    pub(crate) fn new(route: Route, max_in_flight: usize) -> Self {
        Self {
            route,
            host: RwLock::new(None),
            woken: AtomicBool::new(false),
            by_hand: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            ended: AtomicU32::new(0),
            max_in_flight,
            lent: AtomicUsize::new(0),
            view: Mutex::default(),
            recorder: Mutex::new(None),
            idle: Mutex::new(()),
            became_idle: Condvar::new(),
        }
    }

    pub(crate) fn set_host(&self, host: Option<Arc<dyn LoopHost>>) {
        // The old one is dropped without the lock: it may have to wait for its runtime.
        let old = std::mem::replace(&mut *self.host.write(), host);
        drop(old);
        self.woken.store(false, Ordering::SeqCst);
        self.wake();
        self.look_again();
    }

    /// Whether there is a loop to run tasks.
    pub(crate) fn has_host(&self) -> bool {
        self.host.read().is_some()
    }

    /// Wakes the loop, unless it has been woken and has not looked yet.
    pub(crate) fn wake(&self) {
        if !self.woken.swap(true, Ordering::SeqCst)
            && let Some(host) = self.host.read().as_ref()
        {
            host.wake();
        }
    }

    /// For an engine that is driven: lets the loop's handlers go on.
    pub(crate) fn step(&self) -> Duration {
        // Not under the lock: a handler may come back here.
        let host = self.host.read().clone();
        host.map_or(Duration::MAX, |host| host.step())
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Takes tasks for the loop, at most as many as there is room for.
    pub(crate) fn take(&self, core: &Arc<Core>, home: &Arc<Home>, started: &mut Vec<Started>) {
        self.take_while(core, home, &mut |one| {
            started.extend(one);
            true
        });
    }

    /// Takes tasks for as long as there is room and `more` says so: asked before the first, and handed each.
    pub(crate) fn take_while(
        &self,
        core: &Arc<Core>,
        home: &Arc<Home>,
        more: &mut dyn FnMut(Option<Started>) -> bool,
    ) {
        self.woken.swap(false, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let mut over = Vec::new();
        let mut view = self.view.lock();
        let mut goes_on = more(None);
        while goes_on && !core.is_stopped() && self.reserve() {
            // The place is taken before the task is popped, so that at no moment a task is in neither.
            let Some((entry, attempt, started_at)) = self.next(core, home, &mut view, &mut over) else {
                self.release(core);
                break;
            };
            let (task, fence) = (Arc::clone(&attempt.task), attempt.fence);
            let (home, route) = (Arc::clone(home), self.route);
            let completion = Completion { home, route, task: Some(task), fence, started: started_at };
            goes_on = more(Some(Started { entry, attempt, completion }));
        }
        drop(view);
        over.into_iter().for_each(|over: Over| over.end(core));
    }

    /// Waits until what a loop has taken from the lanes by now is in progress, or will not be: see
    /// [`crate::running::Running::wait_for_begins`].
    pub(crate) fn wait_for_begins(&self) {
        drop(self.view.lock());
    }

    /// An attempt has ended. A loop that only one thread can be inside has others forget what is no longer kept.
    fn tidy(&self, core: &Core) {
        if self.ended.fetch_add(1, Ordering::Relaxed).is_multiple_of(TIDY_EVERY) && core.runtime.is_serial() {
            core.timers.look_now();
        }
    }

    /// Counts on behalf of a thread that has no recorder of its own.
    pub(crate) fn count(&self, core: &Core, task: &Task, count: Count) {
        self.record(core, |recorder| recorder.count(task.spec().queue, task.spec().name, count));
    }

    fn record(&self, core: &Core, record: impl FnOnce(&mut Recorder)) {
        record(self.recorder.lock().get_or_insert_with(|| core.meters.recorder(0)));
    }

    /// Takes a place, if there is one. Only the loop takes places, one thread at a time.
    fn reserve(&self) -> bool {
        let free = self.in_flight() < self.max_in_flight.saturating_add(self.lent.load(Ordering::Acquire));
        if free {
            self.in_flight.fetch_add(1, Ordering::SeqCst);
            self.taken.fetch_add(1, Ordering::SeqCst);
        }
        free
    }

    fn release(&self, core: &Core) {
        let before = self.in_flight.fetch_sub(1, Ordering::AcqRel);
        if before == 1 {
            self.look_again();
        }
        fence(Ordering::SeqCst);
        if self.has_tasks(core) {
            self.wake();
        }
    }

    /// Has the loop take a task that was claimed by hand.
    pub(crate) fn take_by_hand(&self, task: Arc<Task>) {
        self.by_hand.lock().push_back(task);
        self.wake();
    }

    /// Takes the next task that was claimed by hand.
    pub(crate) fn next_by_hand(&self) -> Option<Arc<Task>> {
        self.by_hand.lock().pop_front()
    }

    /// Whether a task waits for the loop.
    pub(crate) fn has_tasks(&self, core: &Core) -> bool {
        core.queues.len(self.route) > 0 || !self.by_hand.lock().is_empty()
    }

    /// An attempt in flight waits for another task: its place goes to that one, or to any other.
    pub(crate) fn lend(&self, core: &Core) {
        self.lent.fetch_add(1, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        if self.has_tasks(core) {
            self.wake();
        }
    }

    /// It goes on. For a moment there may be more in flight than places.
    pub(crate) fn take_back(&self) {
        self.lent.fetch_sub(1, Ordering::AcqRel);
    }

    /// Makes whoever waits for the loop to be idle look again.
    pub(crate) fn look_again(&self) {
        let _guard = self.idle.lock();
        self.became_idle.notify_all();
    }

    /// Whether something is in flight, or waits for the loop.
    pub(crate) fn is_busy(&self, core: &Core) -> bool {
        // A task that is taken while this looks is in flight after the first look, and no longer in a lane at the
        // second. So both count only if no place was taken meanwhile: whoever takes a task takes a place before.
        let taken = self.ever_taken();
        self.in_flight.load(Ordering::SeqCst) > 0
            || self.has_host() && self.has_tasks(core)
            || self.ever_taken() != taken
    }

    /// How often a place was taken.
    pub(crate) fn ever_taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }

    /// Waits until nothing is in flight or waits for the loop, or until the deadline of the shutdown; whether that is
    /// so.
    pub(crate) fn wait_idle(&self, core: &Core) -> bool {
        let mut guard = self.idle.lock();
        while self.is_busy(core) {
            match core.stopping.deadline() {
                Some(deadline) => {
                    if self.became_idle.wait_until(&mut guard, deadline).timed_out() {
                        return !self.is_busy(core);
                    }
                }
                None => self.became_idle.wait(&mut guard),
            }
        }
        true
    }
}

impl Loops {
    /// Begins the next task that is still to be run.
    fn next(
        &self,
        core: &Arc<Core>,
        home: &Arc<Home>,
        view: &mut View,
        over: &mut Vec<Over>,
    ) -> Option<(Arc<HandlerEntry>, Attempt, Timestamp)> {
        loop {
            let by_hand = self.next_by_hand();
            let claimed = by_hand.is_some();
            let Some(task) = by_hand.or_else(|| core.queues.pop(self.route, view)) else {
                core.committer.look_again();
                return None;
            };
            let Some(entry) = core.handler_of(&task) else { continue };
            if route_of(&entry) != self.route {
                // Its handler was replaced by one of another kind while it waited.
                core.enqueue(task);
                continue;
            }
            let note = |current| core.running.begin_on_loop(current);
            let begun = match begin(home, task, claimed, None, &entry, self.place(), note) {
                Ok(begun) => begun,
                Err(late) => {
                    over.push(late);
                    continue;
                }
            };
            let attempt = begun.attempt;
            let mut let_in = begun.let_in;
            core.follow_all(&mut let_in);
            if attempt.may_run() {
                self.record(core, |recorder| {
                    recorder.started(attempt.task.spec().queue, entry.name, begun.waited);
                });
                core.announce_start(&attempt.task, attempt.fence, begun.waited);
                return Some((entry, attempt, begun.started));
            }
            core.running.end_on_loop(attempt.task.id(), attempt.fence);
            core.give_back_begun(attempt.task, attempt.fence);
        }
    }
}

/// Where the outcome of an attempt on a loop goes, once.
#[must_use = "dropping a completion fails the attempt with HandlerLost"]
pub struct Completion {
    home: Arc<Home>,
    route: Route,
    task: Option<Arc<Task>>,
    fence: Fence,
    started: Timestamp,
}

impl Completion {
    /// Who hands such tasks out.
    fn loops(&self) -> &Loops {
        match self.route {
            Route::Pooled => &self.home.core.pooled,
            Route::Blocking | Route::Asynchronous => &self.home.core.loops,
        }
    }

    /// Reports the outcome.
    pub fn complete(mut self, outcome: Outcome) {
        self.end(outcome);
    }

    /// For a host that has ended the handler of an attempt because that was called off: there is no outcome, and so
    /// none that could come too late. If the attempt still counts, this fails it with `HandlerLost`, as a drop does.
    pub fn abandon(mut self) {
        let Some(task) = self.task.take_if(|task| !task.is_current(self.fence)) else { return };
        let core = &self.home.core;
        core.running.end_on_loop(task.id(), self.fence);
        drop((core.notes.take(task.id(), self.fence), core.hooks.take(&task, self.fence)));
        self.count(&task, None, core.clock.now());
        self.loops().release(core);
    }

    /// The worker that ran the attempt has died, and this process has not: counted towards `max_crashes`, and the task
    /// goes back or fails for good. `cause` says what it died of, as the end of a sentence (`was killed by signal 11`).
    pub fn crash(mut self, cause: &str) {
        let Some(task) = self.task.take() else { return };
        let core = &self.home.core;
        core.running.end_on_loop(task.id(), self.fence);
        drop(core.notes.take(task.id(), self.fence));
        self.count(&task, None, core.clock.now());
        if let Some(ended) = core.crash(task, self.fence, cause) {
            ended.settle();
        }
        self.loops().release(core);
    }

    /// For a host that ends while the attempt runs: there will be no outcome, and that is not the handler's fault. The
    /// task is given back at no cost, for whoever else can run it.
    pub fn give_back(mut self) {
        let Some(task) = self.task.take() else { return };
        let core = &self.home.core;
        core.running.end_on_loop(task.id(), self.fence);
        drop(core.notes.take(task.id(), self.fence));
        self.count(&task, None, core.clock.now());
        core.give_back_attempt(task, self.fence);
        self.loops().release(core);
    }

    fn end(&mut self, outcome: Outcome) {
        let Some(task) = self.task.take() else { return };
        let core = &self.home.core;
        core.running.end_on_loop(task.id(), self.fence);
        let now = core.clock.now();
        let (queue, name) = (task.spec().queue, task.spec().name);
        let ran = now.since(self.started);
        let count = |how| self.loops().record(core, |recorder| recorder.ended(queue, name, how, ran, now));
        if let Some(ended) = core.report(task, self.fence, outcome, now, count) {
            ended.settle();
        }
        self.loops().tidy(core);
        self.loops().release(core);
    }

    fn count(&self, task: &Task, how: Option<Count>, now: Timestamp) {
        let (core, spec) = (&self.home.core, task.spec());
        let ran = now.since(self.started);
        self.loops().record(core, |recorder| recorder.ended(spec.queue, spec.name, how, ran, now));
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        self.end(Outcome::failure(
            "HandlerLost",
            "the handler went away without an outcome (its event loop was closed, or its future dropped)",
        ));
    }
}
