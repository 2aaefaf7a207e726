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
use std::time::Duration;

use parking_lot::Mutex;
use taskloom_model::{
    Admission, Code, Effects, Error, Fence, Name, Operation, OwnerId, Parent, Result, Spec, State, TaskId,
    Timestamp, admit, admit_plain, next_due,
};
use taskloom_model::{
    Bytes,
    planted::{self, Bug},
};
use taskloom_store::{Capability, Change, HostData, Live, Residents, Store, Task};
use taskloom_sync::{Sleepers, fork_generation};

use crate::absence::Absence;
use crate::ahead::Ahead;
use crate::announce::Hooks;
use crate::chance::Chance;
use crate::committer::Committer;
use crate::driver::Driver;
use crate::edge::Clock;
use crate::events::Events;
use crate::handler::{Handler, HandlerEntry};
use crate::loops::Loops;
use crate::meter::Meters;
use crate::needed::NeededTasks;
use crate::notes::Notes;
use crate::others::Others;
use crate::pool::Pool;
use crate::queues::{Queue, Queues, Route, Served};
use crate::reach::Reach;
use crate::registry::Registry;
use crate::reports::{Crashes, Told};
use crate::room::Room;
use crate::running::Running;
use crate::runtime::Runtime;
use crate::shutdown::Stopping;
use crate::submitting::NewTask;
use crate::timers::Timers;
use crate::trials::Trials;
use crate::wanted::Wanted;

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
    pub(crate) reach: Reach,
    pub(crate) pool: Pool,
    /// Whether a worker spins for the next task. One at a time: a second one would only keep a core from a thread that
    /// has something to do.
    pub(crate) spinning: AtomicBool,
    pub(crate) loops: Loops,
    /// The same for a pool of foreign workers.
    pub(crate) pooled: Loops,
    /// What attempts wait for, wherever they are.
    pub(crate) wanted: Wanted,
    /// What attempts wait for on a loop or in such a pool.
    pub(crate) needed: NeededTasks,
    pub(crate) running: Running,
    pub(crate) timers: Timers,
    pub(crate) committer: Committer,
    pub(crate) events: Events,
    pub(crate) meters: Arc<Meters>,
    pub(crate) hooks: Hooks,
    pub(crate) stopping: Stopping,
    pub(crate) others: Others,
    pub(crate) absence: Absence,
    pub(crate) ahead: Ahead,
    pub(crate) trials: Trials,
    /// Tasks of a durable store that somebody in this process holds. Unused on a resident store, which holds all.
    pub(crate) live: Live,
    /// Progress and log on their way to a durable store.
    pub(crate) told: Mutex<HashMap<TaskId, Told>>,
    pub(crate) crashes: Crashes,
    /// What handlers note beside their results.
    pub(crate) notes: Notes,
    /// Submitters that wait for room.
    pub(crate) room: Room,
    pub(crate) wait_when_full: bool,
    pub(crate) require_metadata: Vec<String>,
    pub(crate) retention: Option<Duration>,
    pub(crate) name: Option<String>,
    pub(crate) registry: Registry,
    /// What it has in the place of threads, if it is driven.
    pub(crate) driver: Option<Driver>,
    owner: AtomicU64,
    pub(crate) late_reports: AtomicU64,
    phase: AtomicU8,
    process: u32,
    generation: u32,
}

/// What a [`Core`] is made of.
pub(crate) struct Parts {
    pub(crate) store: Box<dyn Store>,
    pub(crate) owner: OwnerId,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) seed: u64,
    pub(crate) workers: usize,
    pub(crate) max_in_flight: usize,
    pub(crate) queues: Served,
    pub(crate) wait_when_full: bool,
    pub(crate) require_metadata: Vec<String>,
    pub(crate) retention: Option<Duration>,
    pub(crate) name: Option<String>,
    pub(crate) driver: Option<Driver>,
}

impl Core {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            capability: parts.store.capability(),
            clock: parts.clock,
            runtime: parts.runtime,
            chance: Chance::new(parts.seed),
            queues: Queues::new(parts.queues),
            crashes: Crashes::default(),
            notes: Notes::default(),
            room: Room::default(),
            wait_when_full: parts.wait_when_full,
            require_metadata: parts.require_metadata,
            retention: parts.retention,
            name: parts.name,
            sleepers: Sleepers::new(),
            reach: Reach::default(),
            pool: Pool::new(parts.workers),
            spinning: AtomicBool::new(false),
            loops: Loops::new(Route::Asynchronous, parts.max_in_flight),
            pooled: Loops::new(Route::Pooled, usize::MAX),
            wanted: Wanted::default(),
            needed: NeededTasks::default(),
            running: Running::default(),
            timers: Timers::default(),
            committer: Committer::new(parts.store.capability().resident),
            events: Events::new(parts.seed),
            meters: Meters::new(parts.workers),
            hooks: Hooks::default(),
            stopping: Stopping::default(),
            others: Others::default(),
            absence: Absence::default(),
            ahead: Ahead::default(),
            trials: Trials::default(),
            live: Live::default(),
            store: parts.store.into(),
            told: Mutex::default(),
            registry: Registry::default(),
            driver: parts.driver,
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

    /// Whether that was new.
    pub(crate) fn drain(&self) -> bool {
        self.phase.fetch_max(DRAINING, Ordering::AcqRel) == OPEN
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

    /// The handler of a task, as far as this process has it.
    pub(crate) fn handler_of(&self, task: &Task) -> Option<Arc<HandlerEntry>> {
        let spec = task.spec();
        self.registry.find(spec.name, spec.version())
    }

    /// Adds the names of all handlers that take this route and whose tasks are to be claimed.
    pub(crate) fn handler_names(&self, route: Route, names: &mut Vec<Name>) {
        self.registry.names(|entry| route_of(entry) == route, names);
    }

    /// Tells a shared store which handlers there are here, if it has not been told. Whoever looks for one there may do
    /// without; so a store that fails is told another time.
    pub(crate) fn note_handlers(&self) {
        if self.capability.resident || !self.registry.take_unnoted() {
            return;
        }
        let (names, unserved) = self.registry.all_names();
        let (serves, now) = (self.pool.was_started(), self.clock.now());
        let note = |names: &[Name], serves| self.store.note_handlers(self.owner(), names, serves, now);
        let others = if unserved.is_empty() { Ok(()) } else { note(&unserved, false) };
        if others.and_then(|()| note(&names, serves)).is_err() {
            self.registry.forget_noted();
        }
    }

    /// There is a handler that wants to be told of its tasks.
    pub(crate) fn note_hook(&self) {
        self.hooks.expect();
    }

    // ── submitting ──────────────────────────────────────────────────────────────────────────────────────────────

    /// Builds a task, without telling anybody.
    pub(crate) fn build(
        &self,
        entry: &HandlerEntry,
        admission: &Admission,
        new: NewTask,
    ) -> Result<(Arc<Task>, Effects)> {
        let (task, effects) = self.build_at(entry, admission, new, self.clock.now())?;
        Ok((task, effects.unwrap_or(PLAIN_BIRTH)))
    }

    /// The same for one that comes in now, together with others; a plain one has no effects but [`PLAIN_BIRTH`].
    pub(crate) fn build_at(
        &self,
        entry: &HandlerEntry,
        admission: &Admission,
        new: NewTask,
        now: Timestamp,
    ) -> Result<(Arc<Task>, Option<Effects>)> {
        let id = admission.id().unwrap_or_else(|| self.chance.id(now));
        if admission.is_short(&new.payload) && new.key.is_none() && self.takes_any() {
            let (spec, row) = admit_plain(admission, id, entry.name, new.payload, now);
            return Ok((Task::plain(spec, row, new.host), None));
        }
        let (mut spec, row, effects) = admit(admission, id, entry.name, new.payload, now)?;
        if let Some(key) = new.key {
            spec.rare.get_or_insert_default().key = Some(admission.key(key)?);
        }
        self.check_demands(&spec)?;
        Ok((Task::new(spec, row, new.host), Some(effects)))
    }

    /// Refuses a task that lacks what this engine demands of each, or asks for a version that nobody could ever run.
    #[inline]
    fn check_demands(&self, spec: &Spec) -> Result<()> {
        if spec.rare.is_none() && self.takes_any() {
            return Ok(());
        }
        self.check_all_demands(spec)
    }

    /// Whether this engine demands nothing of a task that has nothing special.
    #[inline]
    fn takes_any(&self) -> bool {
        self.require_metadata.is_empty() && *self.queues.served() == Served::All
    }

    fn check_all_demands(&self, spec: &Spec) -> Result<()> {
        let metadata = spec.rare.as_ref().map_or(&[][..], |rare| &rare.metadata);
        self.check_metadata(metadata)?;
        self.check_served(spec.queue)?;
        if self.capability.resident
            && let Some(version) = spec.version()
        {
            self.registry.named(spec.name.as_str(), Some(version))?;
        }
        Ok(())
    }

    /// Refuses a queue that nobody would ever serve: of a store that no other process sees.
    pub(crate) fn check_served(&self, queue: Name) -> Result<()> {
        let served = self.queues.served();
        if !self.capability.resident || served.has(queue) {
            return Ok(());
        }
        let names: Vec<_> = served.names().iter().map(|name| name.as_str()).collect();
        let error = Error::new(
            Code::InvalidOption,
            format!("queue {:?} is not served by this app, which alone sees its store", queue.as_str()),
        );
        Err(error.hint(match taskloom_model::nearest(queue.as_str(), names.iter().copied()) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("it serves {}; add the queue to queues=…", names.join(", ")),
        }))
    }

    /// Refuses metadata without an entry that this engine demands of every task.
    pub(crate) fn check_metadata(&self, metadata: &[(String, String)]) -> Result<()> {
        let lacks = |key: &&String| !metadata.iter().any(|(own, _)| own == *key);
        let Some(key) = self.require_metadata.iter().find(lacks) else { return Ok(()) };
        Err(Error::new(
            Code::MissingMetadata,
            format!("this app wants to know the {key:?} of every task, in its metadata"),
        )
        .hint(format!("pass it with the task's options: metadata={{\"{key}\": …}}")))
    }

    /// Builds a task that a running one submits.
    pub(crate) fn build_child(
        &self,
        entry: &HandlerEntry,
        admission: &Admission,
        payload: Bytes,
        host: Option<HostData>,
        id: TaskId,
        parent: Parent,
    ) -> Result<Arc<Task>> {
        let now = self.clock.now();
        let (mut spec, row, _) = admit(admission, id, entry.name, payload, now)?;
        self.check_demands(&spec)?;
        spec.rare.get_or_insert_default().parent = Some(parent);
        Ok(Task::new(spec, row, host))
    }

    /// The copy of a task that everybody here shows.
    pub(crate) fn hold(&self, task: Arc<Task>) -> Arc<Task> {
        let task = if self.capability.resident { task } else { self.live.adopt(task) };
        self.settle_if_stopped(&task);
        task
    }

    /// What follows from the insert of a task.
    pub(crate) fn accepted(self: &Arc<Self>, task: &Arc<Task>, effects: Effects, entry: &HandlerEntry) {
        // Its key may hold it up.
        let effects = if task.spec().key().is_some() { birth(task) } else { effects };
        self.hear_of_key(task);
        // Before a worker can find it: that it was submitted is told before that it started.
        if effects.to.is_terminal() || self.wants_changes() {
            self.announce(task, &effects, false);
        }
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

    /// The same of many that came together, with what came of the admission of those that are not plain, by their places.
    /// They are shown to `show` before they are given away.
    pub(crate) fn all_accepted<T>(
        self: &Arc<Self>,
        tasks: Vec<Arc<Task>>,
        special: Special,
        entry: &HandlerEntry,
        show: impl FnOnce(&[Arc<Task>]) -> T,
    ) -> T {
        let Some(first) = tasks.first() else { return show(&tasks) };
        let (route, queue) = (route_of(entry), first.spec().queue);
        // One by one to threads: each of them is woken for one.
        if !special.is_empty()
            || route == Route::Blocking
            || queue != entry.admission.queue()
            || self.wants_changes()
        {
            let mut special = special.into_iter().peekable();
            for (place, task) in tasks.iter().enumerate() {
                let effects =
                    special.next_if(|(of, _)| *of == place).map_or(PLAIN_BIRTH, |(_, effects)| effects);
                self.accepted(task, effects, entry);
            }
            return show(&tasks);
        }
        let shown = show(&tasks);
        if self.is_stopped() {
            // The end may not have seen them. If it comes later, it finds them in the store.
            tasks.iter().for_each(|task| task.settle());
        }
        // They have one admission, and so one queue and one priority.
        entry.queue.push_all(route, first.spec().priority.number(), tasks);
        match route {
            Route::Pooled => self.pooled.wake(),
            Route::Blocking | Route::Asynchronous => self.loops.wake(),
        }
        shown
    }

    /// Settles a task that became known while the engine ended, which may not have seen it.
    pub(crate) fn settle_if_stopped(&self, task: &Arc<Task>) {
        if self.is_stopped() {
            task.settle();
        }
    }

    fn push(self: &Arc<Self>, task: Arc<Task>, route: Route, queue: &Queue) {
        queue.push(route, task.spec().priority.number(), task);
        match route {
            Route::Blocking => {
                self.sleepers.notify_one();
                if !self.is_open() {
                    // The threads may have left. If none can be started, the task is left without an outcome.
                    let _ = self.pool.fill(self);
                }
            }
            Route::Asynchronous => self.loops.wake(),
            Route::Pooled => self.pooled.wake(),
        }
    }

    /// Puts a task that this process may run into its lane.
    pub(crate) fn enqueue(self: &Arc<Self>, task: Arc<Task>) {
        let can_run = |entry: &Arc<HandlerEntry>| self.capability.resident || !entry.aside.is_unserved();
        let Some(entry) = self.handler_of(&task).filter(can_run) else {
            // Claimed for its name, but it asks for a version that only another process has: see `registry`.
            self.registry.is_stray(task.spec().name);
            self.give_back(task);
            return;
        };
        let queue = self.queues.queue(task.spec().queue);
        let route = route_of(&entry);
        if self.capability.resident {
            self.push(task, route, &queue);
            return;
        }
        self.ahead.add(self, &task);
        if let Some(task) = self.trials.set_aside(self, task, route) {
            self.push(task, route, &queue);
        }
    }

    /// An attempt on a loop, or in a pool, is in progress no longer.
    pub(crate) fn end_on_loop(self: &Arc<Self>, task: &Arc<Task>, fence: Fence) {
        self.end_many_on_loop(std::iter::once((task, fence)));
        self.trials.ended(self, task.id(), fence);
    }

    /// Attempts on a loop, or in a pool, are in progress no longer. Those that had been given up take their places back.
    pub(crate) fn end_many_on_loop<'t>(&self, many: impl Iterator<Item = (&'t Arc<Task>, Fence)>) {
        (0..self.running.end_on_loop(many)).for_each(|_| self.loops.take_back());
    }

    // ── changes ─────────────────────────────────────────────────────────────────────────────────────────────────

    /// Makes a change, waits until it is committed, and lets its effects follow.
    pub(crate) fn change(self: &Arc<Self>, task: &Arc<Task>, operation: Operation) -> Result<Effects> {
        self.committer.change(self, task, operation)
    }

    /// What follows from a committed change. `by_its_worker`: the worker itself reported it, and need not be told
    /// that its attempt is over.
    pub(crate) fn follow(self: &Arc<Self>, task: &Arc<Task>, effects: Effects, by_its_worker: bool) {
        self.hear_of_key(task);
        if !effects.moved() {
            return;
        }
        self.announce(task, &effects, by_its_worker);
        if effects.to.is_terminal() {
            task.settle();
        } else if planted::is(Bug::LostWakeUp)
            && effects.to == State::Queued
            && task.id().as_bytes()[15].is_multiple_of(8)
        {
            // Nobody hears of it.
        } else if effects.to == State::Queued && !self.is_stopped() {
            if self.capability.resident {
                self.enqueue(Arc::clone(task));
            } else {
                // One that asks for a version is none of this process's business unless it has that.
                if task.spec().version().is_none()
                    || self.handler_of(task).is_some_and(|entry| !entry.aside.is_unserved())
                {
                    self.committer.ask_for_more();
                }
                if !self.is_open() && self.is_awaited(task) {
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
            && self.running.call_off(task, fence)
        {
            self.runtime.interrupt(task, fence);
            // The timer sees to reminders, and to a thread that does not come back.
            self.timers.look_now();
        }
    }

    #[inline]
    pub(crate) fn follow_all(self: &Arc<Self>, changes: &mut Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        for change in changes.drain(..) {
            self.follow(&change.task, change.effects, false);
        }
    }

    /// Whether a running handler waits for this task.
    fn is_awaited(&self, task: &Arc<Task>) -> bool {
        self.needed.has(task) || self.pool.awaited().iter().any(|awaited| Arc::ptr_eq(awaited, task))
    }

    /// A running handler waits for this task. While a shared store's engine drains it claims nothing, but what a running handler
    /// waits for must run, or the handler would never end.
    pub(crate) fn run_awaited(self: &Arc<Self>, task: &Arc<Task>) {
        let draining = !self.is_open() && !self.is_stopped();
        if !self.capability.resident
            && draining
            && task.state() == State::Queued
            && self.handler_of(task).is_some()
            && self.change(task, Operation::Claim { owner: self.owner() }).is_ok()
        {
            self.enqueue(Arc::clone(task));
        }
    }

    /// The task with this id, wherever it is.
    pub(crate) fn find(&self, id: TaskId) -> Result<Option<Arc<Task>>> {
        self.check_process()?;
        if !self.capability.resident
            && let Some(task) = self.live.resident(id)
            // One that has ended may have been started over since, or forgotten. One that was never claimed may not be
            // committed yet, and may never be.
            && (task.with_row(|row| !row.state.is_terminal() && row.attempt > 0) || self.is_stopped())
        {
            return Ok(Some(task));
        }
        self.store.get(id, &self.live)
    }
}

/// What came of the admission of those of many tasks that are not plain, by their places.
pub(crate) type Special = Vec<(usize, Effects)>;

/// What came of the admission of a task that asks for nothing but to be run.
const PLAIN_BIRTH: Effects = Effects { from: None, to: State::Queued, left: None, due: None };

/// What is told of a task that comes into being.
pub(crate) fn birth(task: &Task) -> Effects {
    task.with_row(|row| Effects { from: None, to: row.state, left: None, due: next_due(task.spec(), row) })
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
        Handler::Pooled(_) => Route::Pooled,
    }
}
