//! What an operator does: look at tasks, cancel many, pause queues, sweep, run one now.
//!
//! A pause and a purge promise something about tasks that are about to begin. Both shut the queue and then wait until
//! every worker that took a task before it could see that has begun it ([`Core::wait_for_begins`]): a matter of moments,
//! in which no code of a user's runs. After that a task either runs or cannot begin here.

use std::sync::Arc;
use std::time::Duration;

use taskloom_model::{Code, Error, Name, Operation, Result, State, TaskId, check_name};
use taskloom_store::{Filter, Task};

use crate::core::Core;
use crate::events::EventKind;
use crate::handler::Handler;
use crate::{Engine, Handle, edge, worker};

/// How many tasks of a durable store are handled at once.
pub(crate) const PAGE: usize = 500;

impl Engine {
    /// Tasks by filter, in the order of their ids, which is that of their submission.
    ///
    /// Errors: `InvalidOption` for a name that no queue and no handler can have. So do all that take a filter.
    pub fn list(&self, filter: &Filter) -> Result<Vec<Handle>> {
        let core = &self.core;
        core.check_process()?;
        check_filter(filter)?;
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
        check_filter(filter)?;
        self.cancel_where(filter, reason, |_| true)
    }

    /// Cancels everything in a queue that is not running; how many were.
    ///
    /// While it does so, this process begins nothing of the queue. So each task that was in it at the call, and had not
    /// begun, is cancelled and counted, and none that had is touched. Only one that another process or
    /// [`Engine::run_now`] begins in this very moment may be called off. What another process has claimed ahead of its
    /// workers is running as far as can be seen from here, and stays; what is submitted meanwhile may stay too.
    ///
    /// Errors: `InvalidOption` for a name that no queue can have; `*` does not stand for all of them.
    pub fn purge(&self, queue: Name) -> Result<usize> {
        self.core.check_process()?;
        check_name("queue", queue.as_str())?;
        let shut = Shut::new(&self.core, queue);
        let filter = Filter { queue: Some(queue), ..Filter::default() };
        // A task that this process has claimed ahead is running to the store, and not to anybody else.
        let owner = self.core.owner();
        let count = self.cancel_where(&filter, Some("its queue was purged"), |task| {
            task.state() != State::Running || task.is_ahead(owner)
        })?;
        drop(shut);
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

    /// Pauses a queue until it is resumed. What runs goes on. Whether that was new.
    ///
    /// When it returns, no task of the queue begins in this process any more: each that had been taken from its lane is
    /// one that runs, as everybody can see. No process claims one either; what others have claimed ahead of their
    /// workers they may still begin until their next safety check, two seconds later at most.
    ///
    /// Errors: `InvalidOption` for a name that no queue can have; `*` does not stand for all of them.
    pub fn pause(&self, queue: Name) -> Result<bool> {
        let core = &self.core;
        core.check_process()?;
        check_name("queue", queue.as_str())?;
        let new = core.store.set_paused(queue, true)?;
        core.stop_taking(queue);
        if new {
            core.publish_plain(EventKind::QueuePaused, |data| data.text("queue", queue.as_str()));
        }
        Ok(new)
    }

    /// Lets a paused queue go on; whether it was paused.
    ///
    /// Errors: `InvalidOption` for a name that no queue can have; `*` does not stand for all of them.
    pub fn resume(&self, queue: Name) -> Result<bool> {
        let core = &self.core;
        core.check_process()?;
        check_name("queue", queue.as_str())?;
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
            Handler::Pooled(_) => core.pooled.take_by_hand(Arc::clone(&task)),
            Handler::Blocking(_) if let Some(driver) = &core.driver => {
                driver.run_claimed(core, Arc::clone(&task));
            }
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

/// Refuses names that no task can have: a filter with such a one would look as if there were nothing.
pub(crate) fn check_filter(filter: &Filter) -> Result<()> {
    let check = |what, name: Option<Name>| name.map_or(Ok(()), |name| check_name(what, name.as_str()));
    check("queue", filter.queue)?;
    check("handler", filter.name)
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
    /// Cancels a task that is at hand; whether it was or will be. Of one that has ended there may be a later generation,
    /// which is not meant.
    pub(crate) fn cancel_at_hand(self: &Arc<Self>, task: &Arc<Task>, reason: Option<&str>) -> Result<bool> {
        self.check_process()?;
        if self.is_stopped() || task.is_settled() || task.state().is_terminal() {
            return Ok(false);
        }
        let operation = Operation::Cancel { reason: reason.map(Into::into) };
        self.change(task, operation).map(|effects| effects.moved())
    }

    pub(crate) fn children(self: &Arc<Self>, task: &Task) -> Result<Vec<Handle>> {
        let count = task.with_row(|row| row.history.as_ref().map_or(0, |history| history.children));
        let mut children = Vec::new();
        for ordinal in 0..count {
            if let Some(child) = self.find(task.id().child(ordinal))? {
                children.push(Handle::new(self.hold(child), self));
            }
        }
        Ok(children)
    }

    /// A queue is paused: from now on nothing is begun here, and what was claimed ahead goes back.
    fn stop_taking(self: &Arc<Self>, queue: Name) {
        self.queues.set_paused(queue, true);
        self.wait_for_begins();
        self.give_back_queue(queue);
    }

    /// For whoever has shut a queue: waits for those who had taken a task from it before they could see that, until they
    /// have begun it, or found that it is over.
    fn wait_for_begins(&self) {
        self.running.wait_for_begins();
        self.loops.wait_for_begins();
        self.pooled.wait_for_begins();
    }

    /// Gives back what this process has claimed from a queue and not begun.
    pub(crate) fn give_back_queue(self: &Arc<Self>, queue: Name) {
        if self.capability.resident {
            return;
        }
        let mut released = Vec::new();
        for task in self.queues.take_all(queue).into_iter().chain(self.trials.take(self, Some(queue))) {
            if let Some(fence) = self.take_back(&task) {
                released.push((task, Operation::Release { fence }));
            }
        }
        if !released.is_empty() {
            self.committer.give_back_unbegun(self, released);
        }
    }

    /// A paused queue may be served again.
    pub(crate) fn go_on(self: &Arc<Self>, queue: Name) {
        self.queues.set_paused(queue, false);
        self.is_served_again();
    }

    fn is_served_again(self: &Arc<Self>) {
        self.committer.ask_for_more();
        self.sleepers.notify_all();
        self.loops.wake();
        self.pooled.wake();
        if !self.is_open() {
            // The threads may have found nothing to take, and left. If none can be started, what is left has no outcome.
            let _ = self.pool.fill(self);
        }
    }

    /// For the safety check: pauses here what another process has paused, and the other way round; and lets this
    /// process claim again what it had left to others.
    pub(crate) fn follow_pauses(self: &Arc<Self>) {
        self.registry.try_strays_again();
        let Ok(paused) = self.store.paused() else { return };
        let here = self.queues.paused();
        for queue in &paused {
            if !here.contains(queue) {
                self.stop_taking(*queue);
            } else if self.is_open() {
                // A claim that was under way when the queue was paused has brought these.
                self.give_back_queue(*queue);
            }
        }
        for queue in here.iter().filter(|queue| !paused.contains(queue)) {
            self.go_on(*queue);
        }
    }
}

/// A queue from which nothing is taken here for as long as this lives, since it is purged.
struct Shut<'a> {
    core: &'a Arc<Core>,
    queue: Name,
}

impl<'a> Shut<'a> {
    /// When this returns, what was taken from it before is in progress.
    fn new(core: &'a Arc<Core>, queue: Name) -> Self {
        core.queues.set_purged(queue, true);
        let shut = Self { core, queue };
        core.wait_for_begins();
        shut
    }
}

impl Drop for Shut<'_> {
    fn drop(&mut self) {
        self.core.queues.set_purged(self.queue, false);
        self.core.is_served_again();
    }
}
