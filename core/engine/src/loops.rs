//! Tasks of foreign event loops.
//!
//! The engine never calls into a loop. It wakes the loop's [`LoopHost`], at most once until the loop has come to look,
//! and the loop takes as many tasks as there are free places (`max_in_flight`), each with a one-shot [`Completion`].
//!
//! # Invariants
//! * `in_flight` counts completions that were handed out and not used up. A completion that is dropped unused reports
//!   `HandlerLost`: no attempt ends without an outcome.
//! * No wake is lost: a submitter pushes, then raises `woken` and calls the host if it was down; the loop lowers
//!   `woken`, then looks into the lanes, with a `SeqCst` read-modify-write on either side. So either the submitter
//!   finds the flag down and calls, or the loop looks after the push.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex, RwLock};
use taskloom_model::Fence;
use taskloom_store::Task;

use crate::core::Core;
use crate::handler::{Attempt, Failed, HandlerEntry, Home, Outcome};
use crate::queues::{Route, View};
use crate::running::Current;
use crate::worker::begin;

/// A foreign event loop.
pub trait LoopHost: Send + Sync {
    /// There may be tasks to take: have the loop call [`crate::Engine::take`] soon. Called on any thread; must not
    /// block.
    fn wake(&self);
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
    host: RwLock<Option<Arc<dyn LoopHost>>>,
    woken: AtomicBool,
    in_flight: AtomicUsize,
    max_in_flight: usize,
    view: Mutex<View>,
    idle: Mutex<()>,
    became_idle: Condvar,
}

impl Loops {
    pub(crate) fn new(max_in_flight: usize) -> Self {
        Self {
            host: RwLock::new(None),
            woken: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            max_in_flight,
            view: Mutex::default(),
            idle: Mutex::new(()),
            became_idle: Condvar::new(),
        }
    }

    pub(crate) fn set_host(&self, host: Option<Arc<dyn LoopHost>>) {
        *self.host.write() = host;
        self.woken.store(false, Ordering::SeqCst);
        self.wake();
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

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Takes tasks for the loop, at most as many as there is room for.
    pub(crate) fn take(&self, core: &Arc<Core>, home: &Arc<Home>, started: &mut Vec<Started>) {
        self.woken.swap(false, Ordering::SeqCst);
        let mut view = self.view.lock();
        while !core.is_stopped() && self.reserve() {
            // The place is taken before the task is popped, so that at no moment a task is in neither.
            let Some((entry, task, fence)) = next(core, &mut view) else {
                self.release(core);
                return;
            };
            let deadline = task.spec().timeout().map(|timeout| core.clock.monotonic() + timeout);
            core.running.begin_on_loop(Current::new(Arc::clone(&task), fence, deadline));
            if let Some(deadline) = deadline {
                core.timers.watch(deadline);
            }
            let attempt = Attempt { home: Arc::clone(home), task: Arc::clone(&task), fence };
            let completion = Completion { home: Arc::clone(home), task: Some(task), fence };
            started.push(Started { entry, attempt, completion });
        }
    }

    /// Takes a place, if there is one. Only the loop takes places, one thread at a time.
    fn reserve(&self) -> bool {
        let free = self.in_flight() < self.max_in_flight;
        if free {
            self.in_flight.fetch_add(1, Ordering::AcqRel);
        }
        free
    }

    fn release(&self, core: &Core) {
        let before = self.in_flight.fetch_sub(1, Ordering::AcqRel);
        if before == 1 {
            let _guard = self.idle.lock();
            self.became_idle.notify_all();
        }
        if !core.queues.is_empty(Route::Asynchronous) {
            self.wake();
        }
    }

    /// Waits until nothing is in flight or waits for the loop, or until the deadline; whether that is so.
    pub(crate) fn wait_idle(&self, core: &Core, deadline: Option<Instant>) -> bool {
        let mut guard = self.idle.lock();
        let busy = || self.in_flight() > 0 || self.has_host() && !core.queues.is_empty(Route::Asynchronous);
        while busy() {
            match deadline {
                Some(deadline) => {
                    if self.became_idle.wait_until(&mut guard, deadline).timed_out() {
                        return !busy();
                    }
                }
                None => self.became_idle.wait(&mut guard),
            }
        }
        true
    }
}

/// The next task that is still to be run.
fn next(core: &Core, view: &mut View) -> Option<(Arc<HandlerEntry>, Arc<Task>, Fence)> {
    loop {
        let task = core.queues.pop(Route::Asynchronous, view)?;
        if let Some(entry) = core.handler(task.spec().name)
            && let Some(fence) = begin(core, &task)
        {
            return Some((entry, task, fence));
        }
    }
}

/// Where the outcome of an attempt on a loop goes, once.
#[must_use = "dropping a completion fails the attempt with HandlerLost"]
pub struct Completion {
    home: Arc<Home>,
    task: Option<Arc<Task>>,
    fence: Fence,
}

impl Completion {
    /// Reports the outcome.
    pub fn complete(mut self, outcome: Outcome) {
        self.end(outcome);
    }

    fn end(&mut self, outcome: Outcome) {
        let Some(task) = self.task.take() else { return };
        let core = &self.home.core;
        core.running.end_on_loop(task.id(), self.fence);
        if let Some(ended) = core.report(task, self.fence, outcome) {
            ended.settle();
        }
        core.loops.release(core);
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        self.end(Outcome::Failed(Failed {
            kind: "HandlerLost".into(),
            message: "the handler went away without an outcome (its event loop was closed, or its future dropped)".into(),
            backtrace: String::new(),
            permanent: false,
            retry_after: None,
        }));
    }
}
