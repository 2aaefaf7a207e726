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

use taskloom_model::{Fence, Operation, State};
use taskloom_store::{Commit, Task};

use crate::core::Core;
use crate::handler::{Attempt, Handler, HandlerEntry, Home, Outcome};
use crate::queues::{Route, View};
use crate::running::{Current, Seat};

thread_local! {
    /// The engine whose worker this thread is.
    static HOME: RefCell<Option<Arc<Home>>> = const { RefCell::new(None) };
}

/// The engine whose worker the calling thread is.
pub(crate) fn home() -> Option<Arc<Home>> {
    HOME.with_borrow(Clone::clone)
}

/// Runs a worker thread until the pool no longer wants it.
pub(crate) fn live(core: &Arc<Core>) {
    let home = Arc::new(Home { core: Arc::clone(core) });
    HOME.set(Some(Arc::clone(&home)));
    let seat = core.running.add_seat();
    let mut worker = Worker { home, seat, view: View::default(), last: None, ended: None };
    core.runtime.attached(&mut || worker.work());
    core.running.remove_seat(&worker.seat);
    HOME.set(None);
}

struct Worker {
    home: Arc<Home>,
    seat: Arc<Seat>,
    view: View,
    /// The handler that ran last: most often the next task's too.
    last: Option<Arc<HandlerEntry>>,
    /// The task that ended last, if it is still to be settled.
    ended: Option<Arc<Task>>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.settle();
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
                if core.pool.leave(core.is_stopped()) {
                    return;
                }
                continue;
            }
            match core.queues.pop(Route::Blocking, &mut self.view) {
                Some(task) => {
                    // Counted, not guessed: a wake for nothing costs two switches, and a fight for the GIL.
                    sleeper.found(|| core.queues.len(Route::Blocking) > 0);
                    if self.run(task) {
                        core.pool.came_back();
                    }
                }
                None if !core.is_open() => {
                    // Draining, and nothing left to take: this thread is done.
                    self.settle();
                    core.pool.retire();
                    return;
                }
                None => sleeper.sleep(
                    || !core.queues.is_empty(Route::Blocking) || !core.is_open() || core.pool.has_surplus(),
                    |park| {
                        let ended = self.ended.take();
                        core.runtime.detached(&mut || {
                            if let Some(ended) = &ended {
                                ended.settle();
                            }
                            park();
                        });
                    },
                ),
            }
        }
    }

    /// Runs one task; whether this thread was replaced meanwhile.
    fn run(&mut self, task: Arc<Task>) -> bool {
        let home = Arc::clone(&self.home);
        let core = &home.core;
        let Some(fence) = begin(core, &task) else { return false };
        let Some(entry) = self.entry(&task) else { return false };
        let Handler::Blocking(handler) = &entry.handler else { return false };
        let deadline = task.spec().timeout().map(|timeout| core.clock.monotonic() + timeout);
        self.seat.take(Current::new(Arc::clone(&task), fence, deadline));
        if let Some(deadline) = deadline {
            core.timers.watch(deadline);
        }
        self.settle();
        let attempt = Attempt { home: Arc::clone(&self.home), task, fence };
        let outcome = catch_unwind(AssertUnwindSafe(|| handler.run(&attempt)))
            .unwrap_or_else(|panic| Outcome::failure("panic", panic_message(&*panic)));
        let replaced = self.seat.leave();
        self.ended = core.report(attempt.task, fence, outcome);
        replaced
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

/// Begins an attempt: claims the task on a resident store; on others it was claimed when it was fetched. `None` if
/// the task is no longer to be run (it was cancelled while it waited, say).
pub(crate) fn begin(core: &Core, task: &Arc<Task>) -> Option<Fence> {
    let owner = core.owner();
    if core.capability.resident {
        let commit = Commit { task: Arc::clone(task), operation: Operation::Claim { owner }, spawn: Vec::new() };
        core.store.commit(commit, &mut Vec::new(), core.clock.now()).ok()?;
    }
    task.with_row(|row| match (row.state, row.owner) {
        (State::Running, Some(holder)) if holder == owner => Some(Fence { owner, attempt: row.attempt }),
        _ => None,
    })
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
