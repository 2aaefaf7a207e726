//! What an operator does: look at tasks, cancel many, pause queues, sweep, run one now.

use std::sync::Arc;
use std::time::Duration;

use taskloom_model::{Code, Error, Name, Operation, Result, State, TaskId};
use taskloom_store::{Filter, Task};

use crate::core::{Core, fence_of};
use crate::events::EventKind;
use crate::handler::Handler;
use crate::{Engine, Handle, edge, worker};

/// How many tasks of a durable store are handled at once.
const PAGE: usize = 500;

impl Engine {
    /// Tasks by filter, in the order of their ids, which is that of their submission.
    pub fn list(&self, filter: &Filter) -> Result<Vec<Handle>> {
        let core = &self.core;
        core.check_process()?;
        let tasks = core.store.list(filter, &core.live)?;
        Ok(tasks.into_iter().map(|task| Handle::new(core.hold(task), core)).collect())
    }

    /// The children of a task, in the order in which it submitted them; those that were swept are left out.
    pub fn children(&self, task: &Task) -> Result<Vec<Handle>> {
        self.core.check_process()?;
        self.core.children(task)
    }

    /// Cancels every task that has not ended and that a filter fits (its `limit` and `unfinished` do not count); how
    /// many were cancelled.
    pub fn cancel_all(&self, filter: &Filter, reason: Option<&str>) -> Result<usize> {
        self.cancel_where(filter, reason, |_| true)
    }

    /// Cancels everything in a queue that is not running; how many were.
    pub fn purge(&self, queue: Name) -> Result<usize> {
        let filter = Filter { queue: Some(queue), ..Filter::default() };
        // A task that this process has claimed ahead is running to the store, and not to anybody else.
        let owner = self.core.owner();
        let count = self.cancel_where(&filter, Some("its queue was purged"), |task| {
            task.state() != State::Running || task.is_ahead(owner)
        })?;
        self.core.publish_plain(EventKind::QueuePurged, |data| {
            data.text("queue", queue.as_str()).count("count", count as u64)
        });
        Ok(count)
    }

    fn cancel_where(
        &self,
        filter: &Filter,
        reason: Option<&str>,
        which: impl Fn(&Task) -> bool,
    ) -> Result<usize> {
        let core = &self.core;
        core.check_process()?;
        if core.is_stopped() {
            return Ok(0);
        }
        let resident = core.capability.resident;
        let limit = if resident { usize::MAX } else { PAGE };
        let mut filter = Filter { unfinished: true, limit, ..filter.clone() };
        let mut cancelled = 0;
        loop {
            let tasks = core.store.list(&filter, &core.live)?;
            let last = tasks.last().map(|task| task.id());
            let count = tasks.len();
            let cancel = |task| (task, Operation::Cancel { reason: reason.map(Into::into) });
            let changes: Vec<_> =
                tasks.into_iter().filter(|task| which(task)).map(|task| cancel(core.hold(task))).collect();
            for verdict in core.committer.change_all(core, changes) {
                match verdict {
                    Ok(effects) => cancelled += usize::from(effects.moved()),
                    Err(error) if error.code().is_retryable() => return Err(error),
                    // It ended in this moment.
                    Err(_) => {}
                }
            }
            if count < limit {
                return Ok(cancelled);
            }
            filter.after = last;
        }
    }

    /// Pauses a queue: none of its tasks begins, in any process, until it is resumed. What runs goes on. Whether that
    /// was new.
    pub fn pause(&self, queue: Name) -> Result<bool> {
        let core = &self.core;
        core.check_process()?;
        let new = core.store.set_paused(queue, true)?;
        core.queues.set_paused(queue, true);
        core.give_back_queue(queue);
        if new {
            core.publish_plain(EventKind::QueuePaused, |data| data.text("queue", queue.as_str()));
        }
        Ok(new)
    }

    /// Lets a paused queue go on; whether it was paused.
    pub fn resume(&self, queue: Name) -> Result<bool> {
        let core = &self.core;
        core.check_process()?;
        let new = core.store.set_paused(queue, false)?;
        core.go_on(queue);
        if new {
            core.publish_plain(EventKind::QueueResumed, |data| data.text("queue", queue.as_str()));
        }
        Ok(new)
    }

    /// The queues that are paused.
    pub fn paused(&self) -> Result<Vec<Name>> {
        self.core.store.paused()
    }

    /// Forgets tasks that ended longer ago than this; how many.
    pub fn sweep(&self, older_than: Duration) -> Result<usize> {
        let core = &self.core;
        core.check_process()?;
        let before = core.clock.now() - older_than;
        let mut swept = 0;
        loop {
            let count = core.store.sweep(before, PAGE)?;
            swept += count;
            if count < PAGE {
                return Ok(swept);
            }
        }
    }

    /// Runs one task now, by hand: whatever it waits for (a time, a backoff, a paused queue, workers), and even if the
    /// engine was not started. A blocking handler gets a thread of its own; an asynchronous one goes to the event loop
    /// before all others. Returns when the attempt has begun, or will as soon as the loop takes it.
    ///
    /// Errors: `UnknownTask`; `UnknownHandler` if its handler is not registered here; `IllegalTransition` if it runs
    /// or has ended.
    pub fn run_now(&self, id: TaskId) -> Result<Handle> {
        let core = &self.core;
        core.check_open(false)?;
        let task = core.find(id)?.ok_or_else(|| Error::new(Code::UnknownTask, format!("no task {id}")))?;
        let task = core.hold(task);
        let entry = core.registry.named(task.spec().name.as_str(), task.spec().version())?;
        if !task.is_ahead(core.owner()) && !self.claim_by_hand(&task)? {
            return Ok(Handle::new(task, core));
        }
        match &entry.handler {
            Handler::Asynchronous(_) => core.loops.take_by_hand(Arc::clone(&task)),
            Handler::Blocking(_) => {
                let (own, one) = (Arc::clone(core), Arc::clone(&task));
                edge::spawn("taskloom-run-now".into(), move || worker::run_one(&own, one)).map_err(
                    |error| {
                        core.give_back(Arc::clone(&task));
                        Error::new(Code::StoreFailed, "the system would not start a thread").caused_by(error)
                    },
                )?;
            }
        }
        Ok(Handle::new(task, core))
    }

    /// Claims a task that waits, whatever it waits for; false if somebody else has begun it in this moment.
    fn claim_by_hand(&self, task: &Arc<Task>) -> Result<bool> {
        let core = &self.core;
        let (state, attempt) = task.with_row(|row| (row.state, row.attempt));
        if state == State::Running || state.is_terminal() {
            let message = format!("task {} is {state}, and cannot be run now", task.id());
            return Err(Error::new(Code::IllegalTransition, message)
                .hint("only a task that waits can be run by hand"));
        }
        let operations = [Operation::Hasten, Operation::Claim { owner: core.owner() }];
        let changes = operations.map(|operation| (Arc::clone(task), operation));
        // In one transaction, so that nobody claims it in between.
        for verdict in core.committer.change_all(core, changes.into()) {
            if let Err(error) = verdict {
                let (state, now) = task.with_row(|row| (row.state, row.attempt));
                return if state == State::Running || now > attempt { Ok(false) } else { Err(error) };
            }
        }
        Ok(true)
    }
}

impl Handle {
    /// The task's children, in the order in which it submitted them; those that were swept are left out. None once its
    /// engine is gone.
    pub fn children(&self) -> Result<Vec<Self>> {
        match self.core() {
            Some(core) => core.children(self.task()),
            None => Ok(Vec::new()),
        }
    }
}

impl Core {
    fn children(self: &Arc<Self>, task: &Task) -> Result<Vec<Handle>> {
        let count = task.with_row(|row| row.history.as_ref().map_or(0, |history| history.children));
        let mut children = Vec::new();
        for ordinal in 0..count {
            if let Some(child) = self.find(task.id().child(ordinal))? {
                children.push(Handle::new(self.hold(child), self));
            }
        }
        Ok(children)
    }

    /// Gives back what this process has claimed from a queue and not begun.
    pub(crate) fn give_back_queue(self: &Arc<Self>, queue: Name) {
        if self.capability.resident {
            return;
        }
        let mut released = Vec::new();
        for task in self.queues.take_all(queue) {
            if let Some(fence) = fence_of(&task) {
                released.push((task, Operation::Release { fence }));
            }
        }
        self.committer.give_back_unbegun(self, released);
    }

    /// A paused queue may be served again.
    pub(crate) fn go_on(self: &Arc<Self>, queue: Name) {
        self.queues.set_paused(queue, false);
        self.committer.ask_for_more();
        self.sleepers.notify_all();
        self.loops.wake();
    }

    /// Pauses here what another process has paused, and the other way round.
    pub(crate) fn follow_pauses(self: &Arc<Self>) {
        let Ok(paused) = self.store.paused() else { return };
        let here = self.queues.paused();
        for queue in paused.iter().filter(|queue| !here.contains(queue)) {
            self.queues.set_paused(*queue, true);
            self.give_back_queue(*queue);
        }
        for queue in here.iter().filter(|queue| !paused.contains(queue)) {
            self.go_on(*queue);
        }
    }
}
