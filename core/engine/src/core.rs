//! What all parts of an engine share, and what follows from each change of a task.
//!
//! # Effects follow the commit
//! Every change goes through [`Core::change`] or the committer, and only when the store has committed it does
//! [`Core::follow`] act on its effects: put the task into a lane and wake a worker, settle it, set the timer, tell the
//! worker whose attempt was called off. Nothing is told that a crash could take back.
//!
//! # Phases
//! `Open` → `Draining` → `Stopped`, never back. While draining, only handlers may submit. When stopped, no attempt
//! begins and no report is taken; whoever waits is told `ShutDown`. Whoever makes a task known looks at the phase
//! after that, and the end settles all that are known after it has set the phase: no submit that meets the end is
//! forgotten.
//!
//! # Fork
//! Threads do not survive a fork, and two processes must not share a file descriptor of a database. The core knows
//! the process that it was made in; in another one every entry point answers `Forked`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use taskloom_model::{
    Admission, Code, Effects, Error, Fence, Name, Operation, OwnerId, Progress, Result, State, TaskId, admit,
    nearest,
};
use taskloom_store::{Capability, Change, HostData, Live, Residents, Store, Task};
use taskloom_sync::{Sleepers, fork_generation};

use crate::ahead::Ahead;
use crate::chance::Chance;
use crate::committer::Committer;
use crate::edge::Clock;
use crate::handler::{Handler, HandlerEntry, Outcome, oversized};
use crate::loops::Loops;
use crate::pool::Pool;
use crate::queues::{Queue, Queues, Route};
use crate::running::Running;
use crate::runtime::Runtime;
use crate::shutdown::Stopping;
use crate::timers::Timers;

const OPEN: u8 = 0;
const DRAINING: u8 = 1;
const STOPPED: u8 = 2;

/// The shared heart of an engine.
pub(crate) struct Core {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) capability: Capability,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) chance: Chance,
    pub(crate) queues: Queues,
    pub(crate) sleepers: Sleepers,
    pub(crate) pool: Pool,
    /// Whether a worker spins for the next task. One at a time: a second one would only keep a core from a thread that
    /// has something to do.
    pub(crate) spinning: AtomicBool,
    pub(crate) loops: Loops,
    pub(crate) running: Running,
    pub(crate) timers: Timers,
    pub(crate) committer: Committer,
    pub(crate) stopping: Stopping,
    pub(crate) ahead: Ahead,
    /// Tasks of a durable store that somebody in this process holds. Unused on a resident store, which holds all.
    pub(crate) live: Live,
    /// Progress on its way to a durable store: the newest of each task.
    pub(crate) progress: Mutex<HashMap<TaskId, Told>>,
    handlers: RwLock<HashMap<Name, Arc<HandlerEntry>>>,
    owner: AtomicU64,
    late_reports: AtomicU64,
    phase: AtomicU8,
    process: u32,
    generation: u32,
}

/// Progress that an attempt has told.
type Told = (Arc<Task>, Fence, Progress);

/// What a [`Core`] is made of.
pub(crate) struct Parts {
    pub(crate) store: Box<dyn Store>,
    pub(crate) owner: OwnerId,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) seed: u64,
    pub(crate) workers: usize,
    pub(crate) max_in_flight: usize,
}

impl Core {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            capability: parts.store.capability(),
            clock: parts.clock,
            runtime: parts.runtime,
            chance: Chance::new(parts.seed),
            queues: Queues::new(),
            sleepers: Sleepers::new(),
            pool: Pool::new(parts.workers),
            spinning: AtomicBool::new(false),
            loops: Loops::new(parts.max_in_flight),
            running: Running::default(),
            timers: Timers::default(),
            committer: Committer::new(parts.store.capability().resident),
            stopping: Stopping::default(),
            ahead: Ahead::default(),
            live: Live::default(),
            store: parts.store.into(),
            progress: Mutex::default(),
            handlers: RwLock::default(),
            owner: AtomicU64::new(parts.owner.get()),
            late_reports: AtomicU64::new(0),
            phase: AtomicU8::new(OPEN),
            process: std::process::id(),
            generation: fork_generation(),
        }
    }

    // ── phases ──────────────────────────────────────────────────────────────────────────────────────────────────

    pub(crate) fn is_open(&self) -> bool {
        self.phase.load(Ordering::Acquire) == OPEN
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.phase.load(Ordering::Acquire) == STOPPED
    }

    pub(crate) fn drain(&self) {
        self.phase.fetch_max(DRAINING, Ordering::AcqRel);
    }

    pub(crate) fn mark_stopped(&self) {
        self.phase.fetch_max(STOPPED, Ordering::AcqRel);
    }

    /// Refuses the call in a forked child, and once stopped. `inside`: the call comes from a handler, which may go on
    /// submitting while its engine drains.
    pub(crate) fn check_open(&self, inside: bool) -> Result<()> {
        self.check_process()?;
        match self.phase.load(Ordering::Acquire) {
            OPEN => Ok(()),
            DRAINING if inside => Ok(()),
            _ => Err(Error::new(Code::ShutDown, "the engine has been stopped")
                .hint("start it again before submitting, or submit before leaving its block")),
        }
    }

    pub(crate) fn check_process(&self) -> Result<()> {
        if self.generation == fork_generation() {
            return Ok(());
        }
        Err(Error::new(
            Code::Forked,
            format!("this engine lives in process {}, from which this one was forked", self.process),
        )
        .hint("a process may fork before its engine is first used: start or submit in the child only"))
    }

    // ── owner ───────────────────────────────────────────────────────────────────────────────────────────────────

    pub(crate) fn owner(&self) -> OwnerId {
        OwnerId::new(self.owner.load(Ordering::Acquire)).expect("owner numbers start at one")
    }

    pub(crate) fn set_owner(&self, owner: OwnerId) {
        self.owner.store(owner.get(), Ordering::Release);
    }

    // ── handlers ────────────────────────────────────────────────────────────────────────────────────────────────

    pub(crate) fn register(&self, entry: HandlerEntry) -> Result<Arc<HandlerEntry>> {
        let mut handlers = self.handlers.write();
        if handlers.contains_key(&entry.name) {
            return Err(Error::new(
                Code::HandlerExists,
                format!("a handler named {:?} exists", entry.name.as_str()),
            )
            .hint("give one of the two another name with name=…"));
        }
        let entry = Arc::new(entry);
        handlers.insert(entry.name, Arc::clone(&entry));
        drop(handlers);
        self.committer.ask_for_more();
        Ok(entry)
    }

    pub(crate) fn handler(&self, name: Name) -> Option<Arc<HandlerEntry>> {
        self.handlers.read().get(&name).cloned()
    }

    /// The handler with this name, or an error with the nearest one.
    pub(crate) fn handler_named(&self, name: &str) -> Result<Arc<HandlerEntry>> {
        if let Some(entry) = self.handler(Name::new(name)) {
            return Ok(entry);
        }
        let handlers = self.handlers.read();
        let error = Error::new(Code::UnknownHandler, format!("no handler {name:?}"));
        Err(match nearest(name, handlers.keys().map(|name| name.as_str())) {
            Some(near) => error.hint(format!("did you mean {near:?}?")),
            None if handlers.is_empty() => error.hint("register a handler first"),
            None => {
                let mut names: Vec<_> = handlers.keys().map(|name| name.as_str()).collect();
                names.sort_unstable();
                names.truncate(10);
                error.hint(format!("registered are: {}", names.join(", ")))
            }
        })
    }

    /// Adds the names of all handlers that take this route.
    pub(crate) fn handler_names(&self, route: Route, names: &mut Vec<Name>) {
        let handlers = self.handlers.read();
        names.extend(handlers.values().filter(|entry| route_of(entry) == route).map(|entry| entry.name));
    }

    // ── submitting ──────────────────────────────────────────────────────────────────────────────────────────────

    /// Builds a task, without telling anybody.
    pub(crate) fn build(
        &self,
        entry: &HandlerEntry,
        admission: &Admission,
        payload: Box<[u8]>,
        host: Option<HostData>,
    ) -> Result<(Arc<Task>, Effects)> {
        let now = self.clock.now();
        let id = admission.id().unwrap_or_else(|| self.chance.id(now));
        let (spec, row, effects) = admit(admission, id, entry.name, payload, now)?;
        Ok((Task::new(spec, row, host), effects))
    }

    /// What follows from the insert of a task.
    pub(crate) fn accepted(self: &Arc<Self>, task: &Arc<Task>, effects: Effects, entry: &HandlerEntry) {
        // On other stores the committer claims it, perhaps in the transaction of its insert.
        if effects.ready() && self.capability.resident {
            let queue = task.spec().queue;
            if queue == entry.admission.queue() {
                self.push(Arc::clone(task), route_of(entry), &entry.queue);
            } else {
                self.push(Arc::clone(task), route_of(entry), &self.queues.queue(queue));
            }
        }
        if let Some(due) = effects.due {
            self.timers.set(due);
        }
        self.settle_if_stopped(task);
    }

    /// Settles a task that became known while the engine ended, which may not have seen it.
    pub(crate) fn settle_if_stopped(&self, task: &Arc<Task>) {
        if self.is_stopped() {
            task.settle();
        }
    }

    fn push(self: &Arc<Self>, task: Arc<Task>, route: Route, queue: &Queue) {
        let priority = task.spec().priority.number();
        queue.lanes(route).push(priority, task);
        match route {
            Route::Blocking => {
                self.sleepers.notify_one();
                if !self.is_open() {
                    // The threads may have left. If none can be started, the task is left without an outcome.
                    let _ = self.pool.fill(self);
                }
            }
            Route::Asynchronous => self.loops.wake(),
        }
    }

    /// Puts a task that this process may run into its lane.
    pub(crate) fn enqueue(self: &Arc<Self>, task: Arc<Task>) {
        if let Some(entry) = self.handler(task.spec().name) {
            let queue = self.queues.queue(task.spec().queue);
            if !self.capability.resident {
                self.ahead.add(self, &task);
            }
            self.push(task, route_of(&entry), &queue);
        }
    }

    // ── changes ─────────────────────────────────────────────────────────────────────────────────────────────────

    /// Makes a change, waits until it is committed, and lets its effects follow.
    pub(crate) fn change(self: &Arc<Self>, task: &Arc<Task>, operation: Operation) -> Result<Effects> {
        self.committer.change(self, task, operation)
    }

    /// What follows from a committed change. `by_its_worker`: the worker itself reported it, and need not be told
    /// that its attempt is over.
    pub(crate) fn follow(self: &Arc<Self>, task: &Arc<Task>, effects: Effects, by_its_worker: bool) {
        if !effects.moved() {
            return;
        }
        if effects.to.is_terminal() {
            task.settle();
        } else if effects.to == State::Queued && !self.is_stopped() {
            if self.capability.resident {
                self.enqueue(Arc::clone(task));
            } else {
                self.committer.ask_for_more();
                if !self.is_open() && self.pool.awaited().iter().any(|awaited| Arc::ptr_eq(awaited, task)) {
                    self.run_awaited(task);
                }
            }
        }
        if let Some(due) = effects.due
            && effects.to != State::Running
        {
            self.timers.set(due);
        }
        if let Some(fence) = effects.left
            && !by_its_worker
            && self.running.contains(task, fence)
        {
            self.runtime.interrupt(task, fence);
            // The timer sees to reminders, and to a thread that does not come back.
            self.timers.look_now();
        }
    }

    pub(crate) fn follow_all(self: &Arc<Self>, changes: &mut Vec<Change>) {
        for change in changes.drain(..) {
            self.follow(&change.task, change.effects, false);
        }
    }

    /// Reports what came of an attempt. Nobody waits for the answer: a report that comes too late is counted.
    ///
    /// If that ended the task here and now, it is returned, committed but not settled: the caller must settle it, and
    /// may first do what would otherwise be in the way of those who wake up.
    #[must_use = "whoever waits for the task hears of its end when it is settled"]
    pub(crate) fn report(
        self: &Arc<Self>,
        task: Arc<Task>,
        fence: Fence,
        outcome: Outcome,
    ) -> Option<Arc<Task>> {
        let outcome = match outcome {
            Outcome::Succeeded { result, metadata } => match oversized(result.len()) {
                Some(failed) => Outcome::Failed(failed),
                None => Outcome::Succeeded { result, metadata },
            },
            failed @ Outcome::Failed(_) => failed,
        };
        let now = self.clock.now();
        let operation = outcome.into_operation(fence, now, || self.chance.unit());
        self.committer.report(self, task, [operation], now)
    }

    /// Gives back a task that was claimed and has not begun. Nobody waits for it.
    pub(crate) fn give_back(self: &Arc<Self>, task: Arc<Task>) {
        if let Some(fence) = fence_of(&task) {
            // It goes on, and so is not returned.
            let _ = self.committer.report(self, task, [Operation::Release { fence }], self.clock.now());
        }
    }

    pub(crate) fn count_late_report(&self) {
        self.late_reports.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn late_reports(&self) -> u64 {
        self.late_reports.load(Ordering::Relaxed)
    }

    /// Notes how far a task is: at once on a resident store, with the next batch on others.
    pub(crate) fn tell_progress(
        self: &Arc<Self>,
        task: &Arc<Task>,
        fence: Fence,
        progress: Progress,
    ) -> Result<()> {
        if self.capability.resident {
            return self.change(task, Operation::Progress { fence, progress }).map(|_| ());
        }
        if !task.is_current(fence) {
            return Err(Error::new(
                Code::LeaseLost,
                format!("attempt {} of task {} is over", fence.attempt, task.id()),
            ));
        }
        self.progress.lock().insert(task.id(), (Arc::clone(task), fence, progress));
        self.committer.poke(self);
        Ok(())
    }

    /// A worker waits for this task. While a shared store's engine drains it claims nothing, but what a running handler
    /// waits for must run, or the handler would never end.
    pub(crate) fn run_awaited(self: &Arc<Self>, task: &Arc<Task>) {
        let draining = !self.is_open() && !self.is_stopped();
        if !self.capability.resident
            && draining
            && task.state() == State::Queued
            && self.handler(task.spec().name).is_some()
            && self.change(task, Operation::Claim { owner: self.owner() }).is_ok()
        {
            self.enqueue(Arc::clone(task));
        }
    }

    /// The task with this id, wherever it is.
    pub(crate) fn find(&self, id: TaskId) -> Result<Option<Arc<Task>>> {
        if !self.capability.resident
            && let Some(task) = self.live.resident(id)
        {
            return Ok(Some(task));
        }
        self.store.get(id, &self.live)
    }
}

/// The fence of the attempt that a task is in, if it is in one.
pub(crate) fn fence_of(task: &Task) -> Option<Fence> {
    task.with_row(|row| match (row.state, row.owner) {
        (State::Running, Some(owner)) => Some(Fence { owner, attempt: row.attempt }),
        _ => None,
    })
}

impl Drop for Core {
    fn drop(&mut self) {
        if self.generation != fork_generation() {
            // The store's files and locks are the parent's. To close them here could take them from it.
            std::mem::forget(Arc::clone(&self.store));
        }
    }
}

/// Who runs a handler's tasks.
pub(crate) fn route_of(entry: &HandlerEntry) -> Route {
    match entry.handler {
        Handler::Blocking(_) => Route::Blocking,
        Handler::Asynchronous(_) => Route::Asynchronous,
    }
}
