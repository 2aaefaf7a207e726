//! A worker thread's life: take a task, run it, report, and sleep when there is nothing to take.
//!
//! A worker takes one task at a time. It stays inside its foreign runtime while there is more to take and leaves it
//! only to sleep. Its report is made before it takes the next task, so no result waits for a task behind it.
//!
//! *When those who wait are woken.* A worker in a foreign runtime holds its lock (Python's GIL), and whoever wakes up
//! would at once wait for that. So a task that ended in memory is settled when the worker has let go of the runtime to
//! sleep, or, if there is a next task, just before that one begins, whichever comes first.
//!
//! *When a task counts as taken.* From the pop until the attempt is written down its worker holds the lock of its own
//! seat, which it has to take for that anyway; see [`crate::running`] for what that is good for. So in between it calls
//! nothing that could ask who runs, and no code of a user's.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use taskloom_model::{Fence, Timestamp};
use taskloom_store::Task;
use taskloom_sync::Spin;

use crate::beginning::{Begun, Note, begin};
use crate::core::Core;
use crate::events::EventKind;
use crate::handler::{Attempt, Handler, HandlerEntry, Home, Outcome};
use crate::meter::Recorder;
use crate::queues::{Route, View};
use crate::running::{Place, Seat};

thread_local! {
    /// The engine whose worker this thread is, and the thread's number there.
    static HERE: RefCell<Option<(Arc<Home>, usize)>> = const { RefCell::new(None) };
}

/// The engine whose worker the calling thread is, and the thread's number there.
pub(crate) fn here() -> Option<(Arc<Home>, usize)> {
    HERE.with_borrow(Clone::clone)
}

/// The calling thread's number, if it is a worker of this engine.
pub(crate) fn number_in(core: &Arc<Core>) -> Option<usize> {
    HERE.with_borrow(|here| match here {
        Some((home, number)) if Arc::ptr_eq(&home.core, core) => Some(*number),
        _ => None,
    })
}

/// The time by the clock of the engine whose handler runs on the calling thread; `None` outside of one.
pub fn time_here() -> Option<Timestamp> {
    here().map(|(home, _)| home.core.clock.now())
}

/// Runs a worker thread until the pool no longer wants it.
pub(crate) fn live(core: &Arc<Core>, number: usize) {
    let home = Arc::new(Home { core: Arc::clone(core) });
    HERE.set(Some((Arc::clone(&home), number)));
    let seat = core.running.add_seat(number);
    let mut worker = Worker::new(number, home, seat);
    core.runtime.attached(&mut || worker.work());
    drop(worker);
    HERE.set(None);
}

/// Runs one task that was claimed by hand, on the calling thread, as a worker of its own would.
pub(crate) fn run_one(core: &Arc<Core>, task: Arc<Task>) {
    Worker::guest(core).run_claimed(task);
}

pub(crate) struct Worker {
    number: usize,
    /// Whether it is no thread of the pool's, but whoever calls it.
    is_guest: bool,
    home: Arc<Home>,
    seat: Arc<Seat>,
    view: View,
    /// The handler that ran last: most often the next task's too.
    last: Option<Arc<HandlerEntry>>,
    /// The one before, until no lock is held: if it was replaced, its end is its user's business.
    before: Option<Arc<HandlerEntry>>,
    /// The registry's epoch when it was looked up.
    epoch: usize,
    /// What the next attempt refers to the engine by: the last one's, so that nothing is counted up and down.
    spare: Option<Arc<Home>>,
    /// The task that ended last, if it is still to be settled.
    ended: Option<Arc<Task>>,
    /// Its report waits in the inbox of the committer, for whom this worker is to write it: see [`crate::own_write`].
    holds: bool,
    /// How long it has lately waited for the next task.
    spin: Spin,
    recorder: Recorder,
    /// Attempts that have ended here.
    ends: u32,
    /// When the last one did, if nothing has happened since: then the next one begins at that time, and the clock need
    /// not be read again.
    now: Option<Timestamp>,
}

/// Where a shared store notes what is begun: worker threads have these places by their numbers, and event loops the next
/// ones, in turn. A number that comes round again takes the place of what began there long ago; should that still run
/// when the process dies, it is not held to have crashed.
pub(crate) const WORKER_PLACES: usize = 1_024;

/// So many attempts end on a worker, or on event loops, before it has somebody see what is to be forgotten.
pub(crate) const TIDY_EVERY: u32 = 512;

impl Drop for Worker {
    fn drop(&mut self) {
        self.settle();
        self.hand_over();
        self.home.core.running.remove_seat(&self.seat);
        if self.is_guest {
            self.home.core.pool.guest_leaves(self.number);
        }
    }
}

impl Worker {
    fn new(number: usize, home: Arc<Home>, seat: Arc<Seat>) -> Self {
        let recorder = home.core.meters.recorder(number);
        Self {
            number,
            is_guest: false,
            home,
            seat,
            view: View::default(),
            last: None,
            before: None,
            epoch: 0,
            spare: None,
            ended: None,
            holds: false,
            spin: Spin::new(),
            recorder,
            ends: 0,
            now: None,
        }
    }

    /// A worker that is run on the threads of others.
    pub(crate) fn guest(core: &Arc<Core>) -> Self {
        let number = core.pool.guest();
        let home = Arc::new(Home { core: Arc::clone(core) });
        let mut worker = Self::new(number, home, core.running.add_seat(number));
        worker.is_guest = true;
        worker
    }

    /// Runs a task that was claimed by hand, on the calling thread.
    pub(crate) fn run_claimed(&mut self, task: Arc<Task>) {
        let (home, seat) = (Arc::clone(&self.home), Arc::clone(&self.seat));
        let mut task = Some(task);
        self.visit(|worker| {
            if let Some(task) = task.take() {
                worker.run(&home, task, true, seat.place());
            }
        });
    }

    /// Runs the next task on the calling thread; whether there was one.
    pub(crate) fn run_next(&mut self) -> bool {
        let (home, seat) = (Arc::clone(&self.home), Arc::clone(&self.seat));
        let mut ran = false;
        self.visit(|worker| {
            let place = seat.place();
            if let Some(task) = home.core.queues.pop(Route::Blocking, &mut worker.view) {
                worker.run(&home, task, false, place);
                ran = true;
            }
        });
        ran
    }

    /// Makes the calling thread this worker for as long as `work` takes; it may be another one already.
    fn visit(&mut self, mut work: impl FnMut(&mut Self)) {
        let home = Arc::clone(&self.home);
        let before = HERE.replace(Some((Arc::clone(&home), self.number)));
        home.core.runtime.attached(&mut || {
            work(self);
            (self.before, self.now) = (None, None);
            self.settle();
        });
        HERE.set(before);
    }

    fn work(&mut self) {
        let home = Arc::clone(&self.home);
        let core = &home.core;
        let seat = Arc::clone(&self.seat);
        let mut sleeper = core.sleepers.enlist();
        loop {
            if core.pool.has_surplus() || core.is_stopped() {
                self.now = None;
                self.settle();
                self.hand_over();
                if core.pool.leave(core) {
                    if core.queues.are_shut() {
                        core.trials.step(core);
                    }
                    return;
                }
            }
            if self.before.is_some() {
                self.hand_over();
                self.before = None;
            }
            let place = seat.place();
            if let Some(task) = self.next(core) {
                self.hand_over();
                if !core.capability.resident {
                    core.reach.took(Route::Blocking);
                }
                self.spin.ended();
                // Counted, not guessed: a wake for nothing costs two switches, and a fight for the GIL.
                sleeper.found(|| core.queues.len(Route::Blocking) > 0);
                self.run(&home, task, false, place);
                continue;
            }
            drop(place);
            if core.queues.are_shut() {
                // Its seat may have looked taken to whoever looked before.
                core.trials.step(core);
            }
            if !core.is_open() {
                // Draining, and nothing left to take: this thread is done.
                self.settle();
                self.hand_over();
                if core.pool.retire(core) {
                    return;
                }
            } else if self.spin.is_worth_it()
                && !core.pool.awaits_return(core)
                && !core.spinning.swap(true, Ordering::Relaxed)
            {
                self.now = None;
                let (ended, holds, spin) = (&mut self.ended, &mut self.holds, &mut self.spin);
                // Still searching, so submitters wake nobody; and outside the runtime, so nobody waits for us.
                sleeper.search();
                core.committer.look_again(core);
                core.runtime.detached(&mut || {
                    if let Some(ended) = ended.take() {
                        ended.settle();
                    }
                    if std::mem::take(holds) {
                        core.committer.write_held(core);
                    }
                    spin.until(|| !core.queues.is_empty(Route::Blocking) || !core.is_open());
                });
                core.spinning.store(false, Ordering::Relaxed);
            } else {
                self.now = None;
                // Let go of before the sleep, which may be long.
                let mut ended = self.ended.take();
                let holds = &mut self.holds;
                self.spin.sleeps();
                sleeper.sleep(
                    || {
                        !core.queues.is_empty(Route::Blocking) && !core.pool.awaits_return(core)
                            || !core.is_open()
                            || core.pool.has_surplus()
                    },
                    |park| {
                        // Now that it counts as idle: see `reach`.
                        core.committer.look_again(core);
                        core.runtime.detached(&mut || {
                            if let Some(ended) = ended.take() {
                                ended.settle();
                            }
                            if std::mem::take(holds) {
                                core.committer.write_held(core);
                            }
                            park();
                        });
                    },
                );
                // If it did not come to a park, it was not settled there.
                if let Some(ended) = ended {
                    ended.settle();
                }
                self.hand_over();
            }
        }
    }

    /// The next task for this thread, which holds its seat.
    fn next(&mut self, core: &Core) -> Option<Arc<Task>> {
        core.wanted.next(core, Route::Blocking).or_else(|| {
            if core.pool.awaits_return(core) {
                return None;
            }
            core.queues.pop(Route::Blocking, &mut self.view)
        })
    }

    /// Runs a task; `claimed` says that it need not be claimed even on a resident store.
    fn run(&mut self, home: &Arc<Home>, task: Arc<Task>, claimed: bool, place: Place<'_>) {
        if let Some(version) = task.spec().version() {
            if let Some(entry) = home.core.registry.find(task.spec().name, Some(version)) {
                self.run_by(home, &entry, task, claimed, place);
            }
            return;
        }
        if let Some(entry) = self.entry(home, &task) {
            self.run_by(home, &entry, task, claimed, place);
            self.last = Some(entry);
        }
    }

    fn run_by(
        &mut self,
        home: &Arc<Home>,
        entry: &Arc<HandlerEntry>,
        task: Arc<Task>,
        claimed: bool,
        mut place: Place<'_>,
    ) {
        let core = &home.core;
        let Handler::Blocking(handler) = &entry.handler else {
            // Its handler was replaced by an asynchronous one while it waited.
            drop(place);
            core.enqueue(task);
            return;
        };
        if entry.aside.is_unserved() {
            drop(place);
            core.set_aside(entry, task, claimed);
            return;
        }
        let note = Note {
            place: self.number % WORKER_PLACES,
            at_once: true,
            write: move |current| *place = Some(current),
        };
        let own = self.spare.take().unwrap_or_else(|| Arc::clone(home));
        let mut begun = match begin(own, task, claimed, self.now.take(), entry, note) {
            Ok(begun) => begun,
            Err(over) => {
                over.end(core);
                return;
            }
        };
        core.follow_all(&mut begun.let_in);
        self.settle();
        begun.attempt.task.fetch_next();
        let may_run = begun.may_run();
        let Begun { attempt, started, waited, .. } = begun;
        let (queue, name) = (attempt.task.spec().queue, entry.name);
        self.recorder.started(queue, name, waited);
        let outcome = may_run.then(|| {
            core.announce_start(&attempt.task, attempt.fence, waited);
            catch_unwind(AssertUnwindSafe(|| handler.run(&attempt)))
                .unwrap_or_else(|panic| Outcome::failure("panic", panic_message(&*panic)))
        });
        let replaced = self.seat.leave();
        let Attempt { home: own, task, fence, .. } = attempt;
        core.trials.ended(core, task.id(), fence);
        self.spare = Some(own);
        let Some(mut outcome) = outcome else {
            core.give_back_begun(task, fence);
            self.came_back(core, replaced);
            return;
        };
        let now = core.clock.now();
        self.ends = self.ends.wrapping_add(1);
        if self.ends.is_multiple_of(TIDY_EVERY) && core.runtime.is_serial() {
            core.timers.look_now();
        }
        let ran = now.since(started);
        let recorder = &mut self.recorder;
        let mut count = |how| recorder.ended(queue, name, how, ran, now);
        let short = match &mut outcome {
            Outcome::Succeeded { result, metadata: None } => {
                core.report_success(&task, fence, result, now, &mut count)
            }
            _ => None,
        };
        self.ended = match short {
            Some(verdict) => verdict.is_ok().then_some(task),
            None => {
                let held = (!self.is_guest && replaced.is_none()).then_some(&mut self.holds);
                core.report(task, fence, outcome, now, count, held)
            }
        };
        self.now = Some(now);
        self.came_back(core, replaced);
    }

    /// This thread had been given up in the attempt that has ended now, if in one at all.
    #[inline]
    fn came_back(&self, core: &Core, replaced: Option<(Arc<Task>, Fence)>) {
        if let Some((task, fence)) = replaced {
            core.pool.came_back(self.number);
            core.announce_worker(EventKind::WorkerRecovered, &task, self.number, fence.attempt);
        }
    }

    /// Has the committer write what this worker holds.
    fn hand_over(&mut self) {
        if std::mem::take(&mut self.holds) {
            self.home.core.committer.call();
        }
    }

    fn settle(&mut self) {
        if let Some(ended) = self.ended.take() {
            ended.settle();
        }
    }

    /// The newest version of a task's handler, until it is given back.
    fn entry(&mut self, home: &Home, task: &Task) -> Option<Arc<HandlerEntry>> {
        let spec = task.spec();
        let registry = &home.core.registry;
        let epoch = registry.epoch();
        if self.epoch != epoch || self.last.as_ref().is_none_or(|entry| entry.name != spec.name) {
            self.before = std::mem::replace(&mut self.last, registry.find(spec.name, None));
            self.epoch = epoch;
        }
        self.last.take()
    }
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a message".to_owned()
    }
}
