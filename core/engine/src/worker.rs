//! A worker thread's life: take a task, run it, report, and sleep when there is nothing to take.
//!
//! A worker takes one task at a time. It stays inside its foreign runtime while there is more to take and leaves it
//! only to sleep. Its report is made before it takes the next task, so no result waits for a task behind it.
//!
//! *When those who wait are woken.* A worker in a foreign runtime holds its lock (Python's GIL), and whoever wakes up
//! would at once wait for that. So a task that ended in memory is settled when the worker has let go of the runtime to
//! sleep, or, if there is a next task, just before that one begins, whichever comes first.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use taskloom_model::{Operation, Timestamp, next_due};
use taskloom_store::{Commit, Task};
use taskloom_sync::Spin;

use crate::ahead::came_too_late;
use crate::core::Core;
use crate::handler::{Attempt, Handler, HandlerEntry, Home, Outcome};
use crate::queues::{Route, View};
use crate::running::{Current, Seat};

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

/// Runs a worker thread until the pool no longer wants it.
pub(crate) fn live(core: &Arc<Core>, number: usize) {
    let home = Arc::new(Home { core: Arc::clone(core) });
    HERE.set(Some((Arc::clone(&home), number)));
    let seat = core.running.add_seat(number);
    let mut worker =
        Worker { number, home, seat, view: View::default(), last: None, ended: None, spin: Spin::new() };
    core.runtime.attached(&mut || worker.work());
    drop(worker);
    HERE.set(None);
}

struct Worker {
    number: usize,
    home: Arc<Home>,
    seat: Arc<Seat>,
    view: View,
    /// The handler that ran last: most often the next task's too.
    last: Option<Arc<HandlerEntry>>,
    /// The task that ended last, if it is still to be settled.
    ended: Option<Arc<Task>>,
    /// How it has fared with spinning for the next task.
    spin: Spin,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.settle();
        self.home.core.running.remove_seat(&self.seat);
    }
}

impl Worker {
    fn work(&mut self) {
        let home = Arc::clone(&self.home);
        let core = &home.core;
        let mut sleeper = core.sleepers.enlist();
        loop {
            if core.pool.has_surplus() || core.is_stopped() {
                self.settle();
                if core.pool.leave(core) {
                    return;
                }
            }
            match core.queues.pop(Route::Blocking, &mut self.view) {
                Some(task) => {
                    self.spin.ended();
                    // Counted, not guessed: a wake for nothing costs two switches, and a fight for the GIL.
                    sleeper.found(|| core.queues.len(Route::Blocking) > 0);
                    self.run(task);
                }
                None if !core.is_open() => {
                    // Draining, and nothing left to take: this thread is done.
                    self.settle();
                    if core.pool.retire(core) {
                        return;
                    }
                }
                None if self.spin.is_worth_it() && !core.spinning.swap(true, Ordering::Relaxed) => {
                    core.committer.look_again();
                    // Still searching, so submitters wake nobody; and outside the runtime, so nobody waits for us.
                    sleeper.search();
                    let (ended, spin) = (self.ended.take(), &mut self.spin);
                    core.runtime.detached(&mut || {
                        if let Some(ended) = &ended {
                            ended.settle();
                        }
                        spin.until(|| !core.queues.is_empty(Route::Blocking) || !core.is_open());
                    });
                    core.spinning.store(false, Ordering::Relaxed);
                }
                None => {
                    core.committer.look_again();
                    let ended = self.ended.take();
                    self.spin.sleeps();
                    sleeper.sleep(
                        || {
                            !core.queues.is_empty(Route::Blocking)
                                || !core.is_open()
                                || core.pool.has_surplus()
                        },
                        |park| {
                            core.runtime.detached(&mut || {
                                if let Some(ended) = &ended {
                                    ended.settle();
                                }
                                park();
                            });
                        },
                    );
                    // If it did not come to a park, it was not settled there.
                    if let Some(ended) = ended {
                        ended.settle();
                    }
                }
            }
        }
    }

    fn run(&mut self, task: Arc<Task>) {
        let home = Arc::clone(&self.home);
        let core = &home.core;
        let Some(entry) = self.entry(&task) else { return };
        let Handler::Blocking(handler) = &entry.handler else { return };
        let Some(attempt) = begin(&home, task, |current| self.seat.take(current)) else { return };
        self.settle();
        let outcome = attempt.may_run().then(|| {
            catch_unwind(AssertUnwindSafe(|| handler.run(&attempt)))
                .unwrap_or_else(|panic| Outcome::failure("panic", panic_message(&*panic)))
        });
        let replaced = self.seat.leave();
        match outcome {
            Some(outcome) => self.ended = core.report(attempt.task, attempt.fence, outcome),
            None => core.give_back(attempt.task),
        }
        if replaced {
            core.pool.came_back(self.number);
        }
    }

    fn settle(&mut self) {
        if let Some(ended) = self.ended.take() {
            ended.settle();
        }
    }

    fn entry(&mut self, task: &Task) -> Option<Arc<HandlerEntry>> {
        let name = task.spec().name;
        if self.last.as_ref().is_none_or(|entry| entry.name != name) {
            self.last = self.home.core.handler(name);
        }
        self.last.clone()
    }
}

/// Begins an attempt and hands it to `note`, which writes down that it is in progress. On a resident store it is
/// claimed here; on others it was when it was fetched. `None` if the task is not to be run any more: it was cancelled
/// or expired while it waited.
///
/// Whoever has begun one asks [`Attempt::may_run`] before the handler does anything.
pub(crate) fn begin(home: &Arc<Home>, task: Arc<Task>, note: impl FnOnce(Current)) -> Option<Attempt> {
    let core = &home.core;
    let (owner, resident) = (core.owner(), core.capability.resident);
    let timed = task.spec().rare.is_some();
    let now = if resident || timed { core.clock.now() } else { Timestamp::MAX };
    if resident {
        if timed && task.with_row(|row| next_due(task.spec(), row)).is_some_and(|due| due <= now) {
            // It expired, and the timers would say so a moment later.
            let _ = core.change(&task, Operation::Elapse);
        }
        let commit =
            Commit { task: Arc::clone(&task), operation: Operation::Claim { owner }, spawn: Vec::new() };
        core.store.commit(commit, &mut Vec::new(), now).ok()?;
    }
    if !resident && timed && came_too_late(core, &task, now) {
        return None;
    }
    let fence = task.begin(owner)?;
    let deadline = task.spec().timeout().map(|timeout| core.clock.monotonic() + timeout);
    note(Current::new(Arc::clone(&task), fence, deadline));
    if let Some(deadline) = deadline {
        core.timers.watch(deadline);
    }
    Some(Attempt { home: Arc::clone(home), task, fence, deadline })
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
