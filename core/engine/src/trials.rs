//! Suspects, and how they are tried: alone.
//!
//! When a process dies, all that it had begun counts one crash more, since nobody can say which of it was to blame. So
//! the innocent would fail together with the task that kills, if they ran beside it as often as that takes. A task whose
//! next crash would be its last, and not its first, is therefore a *suspect*: this process sets it aside when it has
//! claimed it, and *tries* it: nothing else begins on its threads and loops until it has ended. If the process dies then,
//! it alone has crashed ([`taskloom_store::Store::note_begun`]), and what was still under way from before is given back at
//! no cost.
//!
//! Tasks of a pool of foreign workers are neither: what kills such a worker does not kill this process, and the pool tries
//! its own suspects. Nor is there a trial on a resident store, which dies with its process, nor in an engine that is
//! driven, in which one handler runs at a time.
//!
//! # The order
//! *Open* → a suspect was claimed → *clearing*: nothing begins ([`crate::queues::Queues::shut`]), until what runs has ended;
//! for [`PATIENCE`] at most, since what has run for so long is unlikely to kill the process now → *called*: the suspect is
//! there for a worker, or for the loop → *tried*, from its begin to its end, for [`TRIAL`] at most; longer than that, it goes on in
//! company, and what then happens to the process is counted for all. The next suspect follows at once, if trials have not
//! taken [`BOUT`] yet; otherwise this process is open for as long as it was shut, so that others have half of its time at
//! least.
//!
//! # Why nobody waits for ever
//! An attempt that waits for another task does not run: neither is it waited for, nor is it tried any longer, so a parent
//! and its child may both be suspects. All else has a limit of time: an attempt that waits for what cannot begin meanwhile, and
//! says nothing of it, waits for [`PATIENCE`] and [`TRIAL`] at most.
//!
//! # Invariants
//! * Whoever takes a task shows it before it looks whether the queues are shut: a worker by the lock of its seat, a loop by
//!   a place in flight. Whoever clears shuts them first and looks then. So a begin is waited for, or does not happen.
//! * The lock of the state comes after that of a seat and that of a loop's view. So under it no seat is waited for
//!   ([`crate::running::Running::is_any_thread_busy`] tries), and no code of a user's runs.
//! * Whatever may end a phase calls [`Trials::step`], where it finds the queues shut; for the limits, the timers do. Where
//!   they are not, all of this costs one load for each task.
//!
//! # Failure
//! What is set aside was claimed and has not begun. When this process dies or ends it goes back, at no cost.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use taskloom_model::{Fence, Name, TaskId};
use taskloom_store::Task;

use crate::core::{Core, route_of};
use crate::queues::Route;

/// For so long a suspect waits for what runs to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// For so long it has the process to itself.
const TRIAL: Duration = Duration::from_secs(5);

/// After this time of trials others have their turn.
const BOUT: Duration = Duration::from_secs(5);

/// The suspects of a process.
#[derive(Default)]
pub(crate) struct Trials(Mutex<Docket>);

#[derive(Default)]
struct Docket {
    waiting: VecDeque<Arc<Task>>,
    phase: Phase,
    /// Since when the queues are shut.
    shut_since: Duration,
    /// Until when they stay open.
    open_until: Duration,
    /// The engine ends: there are no trials any more.
    closed: bool,
}

#[derive(Clone, Copy, Default)]
enum Phase {
    #[default]
    Open,
    Clearing,
    Called {
        id: TaskId,
        since: Duration,
    },
    Tried {
        id: TaskId,
        fence: Fence,
        place: usize,
        since: Duration,
    },
}

/// What is told when the lock is free again.
#[derive(Default)]
struct Told {
    called: Option<Route>,
    opened: bool,
}

/// Whether another crash would end a task that has crashed before.
pub(crate) fn is_suspect(task: &Task) -> bool {
    let most = task.spec().max_crashes;
    task.with_row(|row| row.crashes > 0 && row.crashes.saturating_add(1) >= most)
}

impl Trials {
    /// Sets a claimed task aside if it is to be tried; otherwise it is given back to the caller.
    pub(crate) fn set_aside(&self, core: &Arc<Core>, task: Arc<Task>, route: Route) -> Option<Arc<Task>> {
        if route == Route::Pooled || core.driver.is_some() || !core.is_open() || !is_suspect(&task) {
            return Some(task);
        }
        {
            let mut docket = self.0.lock();
            if docket.closed {
                return Some(task);
            }
            if let Phase::Called { id, .. } = docket.phase
                && id == task.id()
            {
                // Taken by one who could not run it: its handler was replaced by one of another kind.
                docket.phase = Phase::Clearing;
            }
            docket.waiting.push_back(task);
        }
        self.step(core);
        None
    }

    /// Does what can be done now.
    pub(crate) fn step(&self, core: &Arc<Core>) {
        let mut told = Told::default();
        let wait = self.0.lock().go_on(core, &mut told);
        self.tell(core, &told, wait);
    }

    /// The same, for the timers: how long to wait before the next call, if nothing else happens.
    pub(crate) fn step_in_time(&self, core: &Arc<Core>) -> Duration {
        let mut told = Told::default();
        let wait = self.0.lock().go_on(core, &mut told);
        // They know.
        self.tell(core, &told, Duration::MAX);
        wait
    }

    /// An attempt begins, and is noted at that place: whether it is the one that is tried.
    pub(crate) fn begins(&self, core: &Core, task: &Task, fence: Fence, place: usize) -> bool {
        if !core.queues.are_shut() {
            return false;
        }
        let mut docket = self.0.lock();
        match docket.phase {
            Phase::Called { id, since } if id == task.id() => {
                docket.phase = Phase::Tried { id, fence, place, since };
                true
            }
            _ => false,
        }
    }

    /// A task that was taken is not to be run any more.
    pub(crate) fn is_over(&self, core: &Arc<Core>, task: TaskId) {
        self.next_if(core, |phase| matches!(phase, Phase::Called { id, .. } if *id == task));
    }

    /// An attempt has ended.
    pub(crate) fn ended(&self, core: &Arc<Core>, task: TaskId, attempt: Fence) {
        self.next_if(
            core,
            |phase| matches!(phase, Phase::Tried { id, fence, .. } if *id == task && *fence == attempt),
        );
    }

    fn next_if(&self, core: &Arc<Core>, is_it: impl Fn(&Phase) -> bool) {
        if !core.queues.are_shut() {
            return;
        }
        let mut told = Told::default();
        let mut docket = self.0.lock();
        if is_it(&docket.phase) {
            docket.acquit(core);
            docket.phase = Phase::Clearing;
            if docket.is_long(core) {
                docket.open(core, &mut told);
            }
        }
        let wait = docket.go_on(core, &mut told);
        drop(docket);
        self.tell(core, &told, wait);
    }

    /// An attempt waits for another task from now on. If it is the one that is tried, others may begin.
    pub(crate) fn waits(&self, core: &Arc<Core>, task: Option<TaskId>) {
        if !core.queues.are_shut() {
            return;
        }
        let mut told = Told::default();
        let mut docket = self.0.lock();
        if matches!(docket.phase, Phase::Tried { id, .. } if Some(id) == task) {
            docket.open(core, &mut told);
        }
        let wait = docket.go_on(core, &mut told);
        drop(docket);
        self.tell(core, &told, wait);
    }

    /// Takes out what has not begun, of one queue or of all.
    pub(crate) fn take(&self, core: &Arc<Core>, queue: Option<Name>) -> Vec<Arc<Task>> {
        let is_wanted = |task: &Arc<Task>| queue.is_none_or(|queue| task.spec().queue == queue);
        let mut docket = self.0.lock();
        let (mut taken, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut docket.waiting).into_iter().partition(is_wanted);
        docket.waiting = left.into();
        let called = core.queues.uncall(is_wanted);
        drop(docket);
        if let Some(task) = called {
            let id = task.id();
            taken.push(task);
            self.is_over(core, id);
        } else if !taken.is_empty() {
            // It may have been the last one.
            self.step(core);
        }
        taken
    }

    /// The engine ends, and what has not begun is given back.
    pub(crate) fn close(&self, core: &Arc<Core>) -> Vec<Arc<Task>> {
        self.0.lock().closed = true;
        let taken = self.take(core, None);
        let mut told = Told::default();
        let mut docket = self.0.lock();
        if core.queues.are_shut() {
            docket.open(core, &mut told);
        }
        drop(docket);
        self.tell(core, &told, Duration::MAX);
        taken
    }

    fn tell(&self, core: &Arc<Core>, told: &Told, wait: Duration) {
        if wait < Duration::MAX {
            core.timers.watch(core.clock.monotonic().saturating_add(wait));
        }
        if told.opened {
            core.sleepers.notify_all();
            core.loops.wake();
            core.committer.look_again(core);
        }
        match told.called {
            Some(Route::Asynchronous) => core.loops.wake(),
            Some(Route::Blocking | Route::Pooled) => core.sleepers.notify_all(),
            None => {}
        }
    }
}

impl Docket {
    fn go_on(&mut self, core: &Arc<Core>, told: &mut Told) -> Duration {
        let now = core.clock.monotonic();
        loop {
            match self.phase {
                Phase::Open if self.waiting.is_empty() || self.closed => return Duration::MAX,
                Phase::Open if now < self.open_until => return self.open_until - now,
                Phase::Open => {
                    core.queues.shut();
                    (self.phase, self.shut_since) = (Phase::Clearing, now);
                    told.opened = false;
                }
                Phase::Clearing => {
                    let limit = self.shut_since + PATIENCE;
                    if self.waiting.is_empty() {
                        self.open(core, told);
                    } else if now < limit && others_run(core) {
                        return limit - now;
                    } else if let Some(task) = self.waiting.pop_front() {
                        let route = core.handler_of(&task).map_or(Route::Blocking, |entry| route_of(&entry));
                        self.phase = Phase::Called { id: task.id(), since: now };
                        core.queues.call(route, task);
                        told.called = Some(route);
                    }
                }
                Phase::Called { since, .. } | Phase::Tried { since, .. } => {
                    let limit = since + TRIAL;
                    if now < limit {
                        return limit - now;
                    }
                    // It goes on in company; or nobody came to take it.
                    self.open(core, told);
                }
            }
        }
    }

    /// Whether trials have taken their time.
    fn is_long(&self, core: &Core) -> bool {
        core.clock.monotonic() >= self.shut_since + BOUT
    }

    /// The one that is tried is no longer the only one to blame.
    fn acquit(&self, core: &Core) {
        if let Phase::Tried { id, fence, place, .. } = self.phase {
            core.store.note_begun(fence.owner, place, Some((id, fence.attempt)), false);
        }
    }

    /// Others may begin, for as long as they could not.
    fn open(&mut self, core: &Core, told: &mut Told) {
        self.acquit(core);
        if let Some(task) = core.queues.uncall(|_| true) {
            self.waiting.push_front(task);
        }
        let now = core.clock.monotonic();
        self.phase = Phase::Open;
        self.open_until = now + now.saturating_sub(self.shut_since);
        core.queues.open();
        *told = Told { opened: true, called: None };
    }
}

/// Whether anything is in progress that could kill this process, and does not wait for another task.
fn others_run(core: &Core) -> bool {
    core.running.is_any_thread_busy(|number| core.pool.is_absent(number)) || core.loops.is_at_work()
}
