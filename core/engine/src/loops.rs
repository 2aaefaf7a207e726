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
//! * The lock of the taker is held from the pop of a task until its attempt is written down, as the lock of a seat is by
//!   a worker; no code of a user's runs under it. Plain tasks are written down in the moments of their claims, many under
//!   one lock.
//! * No wake is lost: a submitter pushes, passes a `SeqCst` fence (that of the lanes' push), then looks at `woken`, and if
//!   it is down raises it and calls the host; the loop lowers `woken`, passes a fence, then looks into the lanes. So either
//!   the submitter finds the flag down and calls, or the loop looks after the push. The list of those claimed by hand does
//!   the same with its length.
//! * Nor is one lost where all places are taken: the loop lowers `woken`, passes a fence and reads `in_flight`; whoever
//!   gives a place back lowers `in_flight`, passes a fence and counts the tasks. Either the loop finds the place, or
//!   the tasks that it left behind are counted, and the loop is woken.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering, fence};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, RwLock};
use taskloom_store::Task;

use crate::completion::Completion;
use crate::core::Core;
use crate::handler::{Attempt, HandlerEntry};
use crate::meter::{Count, Recorder};
use crate::queues::Route;
use crate::taking::Taker;
use crate::worker::WORKER_PLACES;

/// A foreign event loop, or a pool of foreign workers.
pub trait LoopHost: Send + Sync {
    /// There may be tasks to take: have the loop call [`crate::Engine::take`] soon, or the pool
    /// [`crate::Engine::take_pooled`]. Called on any thread; must not
    /// block.
    fn wake(&self);

    /// How many tasks it can run at once, if that is known to it alone.
    fn places(&self) -> usize {
        usize::MAX
    }

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

impl Started {
    pub(crate) fn of(entry: &Arc<HandlerEntry>, completion: Completion) -> Self {
        Self { entry: Arc::clone(entry), attempt: completion.attempt().clone(), completion }
    }
}

/// The event loop's side of an engine.
pub(crate) struct Loops {
    pub(crate) route: Route,
    host: RwLock<Option<Arc<dyn LoopHost>>>,
    woken: AtomicBool,
    /// Tasks that were claimed by hand: they come before all others, whatever their queue.
    by_hand: Mutex<VecDeque<Arc<Task>>>,
    /// How many these are; written under their lock.
    by_hand_len: AtomicUsize,
    in_flight: AtomicUsize,
    /// How often a place was taken.
    taken: AtomicUsize,
    /// How many attempts have ended.
    ended: AtomicU32,
    max_in_flight: usize,
    /// The same, as the host says it.
    places: AtomicUsize,
    /// Places of attempts that wait for another task, or do not end although they were called off.
    lent: AtomicUsize,
    pub(crate) taker: Mutex<Taker>,
    /// For the attempts on loops, and for the thread that commits.
    recorder: Mutex<Option<Recorder>>,
    idle: Mutex<()>,
    became_idle: Condvar,
}

/// How many places there are for what is begun on loops.
const PLACES: usize = 4_096;

/// So many attempts end on a loop before it has somebody see what is to be forgotten: to wake a thread takes as long as ten
/// tasks do.
const FORGET_EVERY: u32 = 4_096;

impl Loops {
    /// Where an attempt is noted, beyond the worker threads' places, by the number of its place in flight.
    pub(crate) fn place(&self, number: usize) -> usize {
        let first = WORKER_PLACES + if self.route == Route::Pooled { PLACES } else { 0 };
        first + number % PLACES
    }

    pub(crate) fn new(route: Route, max_in_flight: usize) -> Self {
        Self {
            route,
            host: RwLock::new(None),
            woken: AtomicBool::new(false),
            by_hand: Mutex::default(),
            by_hand_len: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            ended: AtomicU32::new(0),
            max_in_flight,
            places: AtomicUsize::new(usize::MAX),
            lent: AtomicUsize::new(0),
            taker: Mutex::default(),
            recorder: Mutex::new(None),
            idle: Mutex::new(()),
            became_idle: Condvar::new(),
        }
    }

    pub(crate) fn set_host(&self, host: Option<Arc<dyn LoopHost>>) {
        // The old one is dropped without the lock: it may have to wait for its runtime.
        self.places.store(host.as_ref().map_or(usize::MAX, |host| host.places()), Ordering::Release);
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
        if !self.woken.load(Ordering::SeqCst)
            && !self.woken.swap(true, Ordering::SeqCst)
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

    /// The host looks: whoever pushes from now on calls it again.
    pub(crate) fn look(&self) {
        self.woken.swap(false, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Waits until what a loop has taken from the lanes by now is in progress, or will not be: see
    /// [`crate::running::Running::wait_for_begins`].
    pub(crate) fn wait_for_begins(&self) {
        drop(self.taker.lock());
    }

    /// So many attempts have ended, and their places are free. A loop that only one thread can be inside has others forget
    /// what is no longer kept.
    pub(crate) fn ended(&self, core: &Arc<Core>, count: usize) {
        let before = self.ended.fetch_add(count as u32, Ordering::Relaxed);
        let is_due = before / FORGET_EVERY != before.wrapping_add(count as u32) / FORGET_EVERY;
        if is_due && core.runtime.is_serial() {
            core.timers.look_now();
        }
        self.release(core, count);
    }

    /// Counts on behalf of a thread that has no recorder of its own.
    pub(crate) fn count(&self, core: &Core, task: &Task, count: Count) {
        self.record(core, |recorder| recorder.count(task.spec().queue, task.spec().name, count));
    }

    pub(crate) fn record(&self, core: &Core, record: impl FnOnce(&mut Recorder)) {
        record(self.recorder.lock().get_or_insert_with(|| core.meters.recorder(0)));
    }

    /// Takes places, so many at most: how many, and the number of the first among all that were ever taken. Only the loop
    /// takes places, one thread at a time. A place is taken before a task is popped for it, so that at no moment a task is
    /// in neither.
    pub(crate) fn reserve(&self, most: usize) -> (usize, usize) {
        let all = self.max_in_flight.saturating_add(self.lent.load(Ordering::Acquire));
        let count = all.saturating_sub(self.in_flight()).min(most);
        if count == 0 {
            return (0, 0);
        }
        self.in_flight.fetch_add(count, Ordering::SeqCst);
        (count, self.taken.fetch_add(count, Ordering::SeqCst))
    }

    /// How many tasks could begin now.
    pub(crate) fn idle_hands(&self) -> usize {
        let most = self.max_in_flight.min(self.places.load(Ordering::Acquire));
        most.saturating_add(self.lent.load(Ordering::Acquire)).saturating_sub(self.in_flight())
    }

    /// Whether an attempt is in flight, or about to be, that does not wait for another task.
    pub(crate) fn is_at_work(&self) -> bool {
        self.in_flight.load(Ordering::SeqCst) > self.lent.load(Ordering::SeqCst)
    }

    /// Gives places back.
    pub(crate) fn release(&self, core: &Arc<Core>, count: usize) {
        let before = self.in_flight.fetch_sub(count, Ordering::AcqRel);
        if before == count {
            self.look_again();
        }
        fence(Ordering::SeqCst);
        if core.queues.are_shut() {
            core.trials.step(core);
        }
        if self.has_tasks(core) {
            self.wake();
        } else {
            // More may be claimed now: see `reach`.
            core.committer.look_again(core);
        }
    }

    /// Has the loop take a task that was claimed by hand.
    pub(crate) fn take_by_hand(&self, task: Arc<Task>) {
        let mut by_hand = self.by_hand.lock();
        by_hand.push_back(task);
        self.by_hand_len.store(by_hand.len(), Ordering::SeqCst);
        drop(by_hand);
        self.wake();
    }

    /// Takes the next task that was claimed by hand.
    pub(crate) fn next_by_hand(&self) -> Option<Arc<Task>> {
        if self.by_hand_len.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let mut by_hand = self.by_hand.lock();
        let next = by_hand.pop_front();
        self.by_hand_len.store(by_hand.len(), Ordering::SeqCst);
        next
    }

    /// Whether a task waits for the loop.
    pub(crate) fn has_tasks(&self, core: &Core) -> bool {
        self.by_hand_len.load(Ordering::SeqCst) > 0
            || !core.queues.is_empty(self.route) && core.queues.len(self.route) > 0
    }

    /// An attempt in flight waits for another task: its place goes to that one, or to any other.
    pub(crate) fn lend(&self, core: &Core) {
        self.add_place();
        self.look_for_more(core);
    }

    /// The first half of that, which may be done under a lock.
    pub(crate) fn add_place(&self) {
        self.lent.fetch_add(1, Ordering::AcqRel);
    }

    /// The other half.
    pub(crate) fn look_for_more(&self, core: &Core) {
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
