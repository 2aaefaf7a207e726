//! How tasks come in: one, many, and the children of a running one.
//!
//! Where a task has a unique key that is taken, the store may answer with the task that has it; that one's handle is
//! returned then, and the new task is forgotten.

use std::sync::Arc;

use taskloom_model::{Admission, Bytes, Code, Error, Operation, Parent, Result};
use taskloom_store::{Batch, Commit, HostData, Insert, Keepsake, Task};

use crate::answer::{Answer, Reply};
use crate::core::{Core, Special, birth};
use crate::handler::{Attempt, HandlerEntry};
use crate::{Engine, Handle, driver};

/// A task's payload, and what its language leaves with it.
pub type Input = (Bytes, Option<HostData>);

/// One of many tasks that are submitted at once.
pub struct NewTask {
    /// Its payload.
    pub payload: Bytes,
    /// What its language leaves with it.
    pub host: Keepsake,
    /// The key that it has, if that is its own.
    pub key: Option<String>,
}

impl From<Input> for NewTask {
    fn from((payload, host): Input) -> Self {
        Self { payload, host: host.into(), key: None }
    }
}

impl Engine {
    /// Submits one task. When it returns, the task is as durable as the store.
    ///
    /// `inside` says that the call comes from a handler, which may submit while the engine drains; a worker thread of
    /// this engine is recognised without it.
    pub fn submit(
        &self,
        entry: &HandlerEntry,
        admission: &Admission,
        payload: Bytes,
        host: Option<HostData>,
        inside: bool,
    ) -> Result<Handle> {
        self.submit_while(entry, admission, (payload, host), inside, &mut || true)
    }

    /// Like [`Engine::submit`]. Where that waits for room in a memory store, `patience` is asked every now and then, on
    /// this thread and without any lock, whether to go on waiting. If it says no, nothing was submitted, and the error is
    /// `QueueFull`.
    pub fn submit_while(
        &self,
        entry: &HandlerEntry,
        admission: &Admission,
        (payload, host): Input,
        inside: bool,
        patience: &mut dyn FnMut() -> bool,
    ) -> Result<Handle> {
        let core = &self.core;
        if !core.is_open() || !core.capability.resident {
            core.check_open(inside || self.on_worker())?;
        } else {
            core.check_process()?;
        }
        let (task, effects) =
            core.build(entry, admission, NewTask { payload, host: host.into(), key: None })?;
        if !core.capability.resident {
            let (answer, reply) = Answer::new();
            let bell = core.committer.insert(core, vec![task], true, reply);
            let task = answer.wait_in(bell.as_deref())?.pop().expect("an insert keeps its length");
            core.settle_if_stopped(&task);
            return Ok(Handle::new(task, core));
        }
        if task.spec().unique().is_some() {
            let task = self.insert_here(vec![task], inside, patience, |tasks| Arc::clone(&tasks[0]))?;
            return Ok(Handle::new(task, core));
        }
        self.in_its_time(inside, patience, || {
            core.store.insert(std::slice::from_ref(&task), task.spec().created)
        })?;
        core.accepted(&task, effects, entry);
        Ok(Handle::new(task, core))
    }

    /// Submits many tasks of one handler at once: all or none, in one transaction.
    pub fn submit_many(
        &self,
        entry: &HandlerEntry,
        admission: &Admission,
        payloads: impl Iterator<Item = impl Into<NewTask>>,
        inside: bool,
    ) -> Result<Vec<Handle>> {
        self.submit_many_while(entry, admission, payloads, inside, &mut || true)
    }

    /// Like [`Engine::submit_many`], with `patience` as in [`Engine::submit_while`].
    pub fn submit_many_while(
        &self,
        entry: &HandlerEntry,
        admission: &Admission,
        payloads: impl Iterator<Item = impl Into<NewTask>>,
        inside: bool,
        patience: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<Handle>> {
        if self.core.capability.resident {
            return self
                .submit_here(entry, admission, payloads, inside, patience, |tasks| self.handles_of(tasks));
        }
        let (answer, reply) = Answer::new();
        let reply = Box::new(move |verdict| reply.give(verdict));
        self.hand_over(entry, admission, payloads, inside, true, reply)?;
        answer.wait()
    }

    /// Like [`Engine::submit_many`], but returns at once; `reply` is told, on any thread, when the tasks are accepted
    /// or refused.
    ///
    /// An error is returned where it can be known at once, and `reply` is not called then. On a memory store it has all
    /// happened when this returns, and where that store is full, an engine that waits for room waits here.
    pub fn submit_then(
        &self,
        entry: &HandlerEntry,
        admission: &Admission,
        payloads: impl Iterator<Item = impl Into<NewTask>>,
        inside: bool,
        reply: Box<dyn FnOnce(Result<Vec<Handle>>) + Send>,
    ) -> Result<()> {
        if self.core.capability.resident {
            let handles = |tasks: &_| self.handles_of(tasks);
            reply(Ok(self.submit_here(entry, admission, payloads, inside, &mut || true, handles)?));
            return Ok(());
        }
        self.hand_over(entry, admission, payloads, inside, false, reply)
    }

    /// Hands tasks to the committer. `waits`: the calling thread waits for the reply.
    fn hand_over(
        &self,
        entry: &HandlerEntry,
        admission: &Admission,
        payloads: impl Iterator<Item = impl Into<NewTask>>,
        inside: bool,
        waits: bool,
        reply: Box<dyn FnOnce(Result<Vec<Handle>>) + Send>,
    ) -> Result<()> {
        let core = &self.core;
        core.check_open(inside || self.on_worker())?;
        let (tasks, _) = core.build_all(entry, admission, payloads)?;
        let weak = Arc::downgrade(core);
        let handle = move |task| Handle::weak(task, weak.clone());
        let tell = move |verdict: Result<Vec<Arc<Task>>>| {
            reply(verdict.map(|tasks| tasks.into_iter().map(handle).collect()));
        };
        core.committer.insert(core, tasks, waits, Reply::new(Box::new(tell)));
        Ok(())
    }

    /// Submits many tasks to a resident store, as [`Engine::submit_many_while`] does. What came of it is shown to `accepted`
    /// in place of handles ([`Engine::handle_of`] makes them where they are wanted). Some of them may run by then.
    pub fn submit_here<T>(
        &self,
        entry: &HandlerEntry,
        admission: &Admission,
        payloads: impl Iterator<Item = impl Into<NewTask>>,
        inside: bool,
        patience: &mut dyn FnMut() -> bool,
        accepted: impl FnOnce(&[Arc<Task>]) -> T,
    ) -> Result<T> {
        let core = &self.core;
        core.check_open(inside || self.on_worker())?;
        let (tasks, special) = core.build_all(entry, admission, payloads)?;
        if tasks.iter().any(|task| task.spec().unique().is_some()) {
            return self.insert_here(tasks, inside, patience, accepted);
        }
        self.in_its_time(inside, patience, || core.store.insert(&tasks, core.clock.now()))?;
        Ok(core.all_accepted(tasks, special, entry, accepted))
    }

    /// A handle for a task of this engine.
    pub fn handle_of(&self, task: Arc<Task>) -> Handle {
        Handle::new(task, &self.core)
    }

    fn handles_of(&self, tasks: &[Arc<Task>]) -> Vec<Handle> {
        tasks.iter().map(|task| self.handle_of(Arc::clone(task))).collect()
    }

    /// Inserts tasks that may not be what comes of it into a resident store.
    fn insert_here<T>(
        &self,
        mut tasks: Vec<Arc<Task>>,
        inside: bool,
        patience: &mut dyn FnMut() -> bool,
        accepted: impl FnOnce(&[Arc<Task>]) -> T,
    ) -> Result<T> {
        let core = &self.core;
        let meant = tasks.clone();
        let mut consequences = Vec::new();
        self.in_its_time(inside, patience, || {
            let insert = Insert { tasks: std::mem::take(&mut tasks), verdict: None };
            let mut batch = Batch { inserts: vec![insert], ..Batch::default() };
            core.store.write(&mut batch, &core.live, core.clock.now())?;
            let insert = batch.inserts.pop().expect("a store leaves the inserts in the batch");
            let refused = matches!(insert.verdict, Some(Err(_)));
            tasks = if refused { meant.clone() } else { insert.tasks };
            consequences.append(&mut batch.consequences);
            insert.verdict.unwrap_or(Ok(()))
        })?;
        // First those whose key was taken away: who waits for one hears of it before its successor runs.
        core.follow_all(&mut consequences);
        for (task, meant) in tasks.iter().zip(&meant) {
            if Arc::ptr_eq(task, meant) {
                core.arrived(task);
            }
        }
        Ok(accepted(&tasks))
    }

    /// Makes an insert; where the store is full, when there is room, if this engine waits for that. What an empty store
    /// has no room for, it never will have.
    fn in_its_time(
        &self,
        inside: bool,
        patience: &mut dyn FnMut() -> bool,
        mut insert: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        let core = &self.core;
        let (mut quiet, mut empty) = (0u32, false);
        loop {
            match insert() {
                Err(error)
                    if error.code() == Code::QueueFull
                        && core.wait_when_full
                        && !empty
                        && !inside
                        && !self.on_worker()
                        && core.pool.was_started() =>
                {
                    if let Some(driver) = &core.driver {
                        // Room is made by running what there is, here.
                        driver::rest(core, driver, &|| false)?;
                        empty = true;
                    } else if !core.room.wait() {
                        quiet += 1;
                        // The store counts one by one, so it is asked less and less.
                        if quiet.is_power_of_two() || quiet.is_multiple_of(64) {
                            empty = core.store.counts()?.unfinished() == 0;
                        }
                    }
                    core.check_open(false)?;
                    if !patience() {
                        return Err(error);
                    }
                }
                verdict => return verdict,
            }
        }
    }
}

impl Core {
    /// Builds tasks of one handler that come in together, and so at one time; and what came of the admission of those that
    /// are not plain, by their places.
    fn build_all(
        &self,
        entry: &HandlerEntry,
        admission: &Admission,
        payloads: impl Iterator<Item = impl Into<NewTask>>,
    ) -> Result<(Vec<Arc<Task>>, Special)> {
        let (mut tasks, mut special) = (Vec::with_capacity(payloads.size_hint().0), Vec::new());
        let now = self.clock.now();
        for new in payloads {
            let (task, effects) = self.build_at(entry, admission, new.into(), now)?;
            if let Some(effects) = effects {
                special.push((tasks.len(), effects));
            }
            tasks.push(task);
        }
        Ok((tasks, special))
    }

    /// What follows from the insert of a task whose handler is not at hand.
    fn arrived(self: &Arc<Self>, task: &Arc<Task>) {
        self.follow(task, birth(task), false);
        self.settle_if_stopped(task);
    }
}

impl Attempt {
    /// Submits a child of this task: when it returns, the child is as durable as the store.
    ///
    /// Children are keyed by the order in which an attempt submits them: a later attempt that submits again finds the
    /// ones that an earlier attempt submitted. Cancelling the parent cancels its children that have not ended, unless
    /// they are `detached`.
    ///
    /// Errors: those of a submit; `LeaseLost` if the attempt is over; `InvalidOption` if the child is given an id or a
    /// unique key; `DuplicateId` if an earlier attempt submitted a task of another handler in this place.
    pub fn submit(
        &self,
        entry: &HandlerEntry,
        admission: &Admission,
        payload: Bytes,
        host: Option<HostData>,
        detached: bool,
    ) -> Result<Handle> {
        let core = &self.home.core;
        core.check_open(true)?;
        if admission.id().is_some() {
            return Err(Error::new(Code::InvalidOption, "a child task cannot be given an id").hint(
                "leave the id out: it follows from the parent's, so that a retry finds the same child",
            ));
        }
        if admission.has_unique_key() {
            return Err(Error::new(Code::InvalidOption, "a child task cannot be given a unique key")
                .hint("it is unique by its place among its parent's children; leave the key out"));
        }
        let ordinal = self.next_child();
        let id = self.task.id().child(ordinal);
        let parent = Parent { id: self.task.id(), ordinal, detached };
        let child = core.build_child(entry, admission, payload, host, id, parent)?;
        if !core.capability.resident {
            // Findable before it is committed, so that whoever claims it makes no second copy.
            core.live.adopt(Arc::clone(&child));
        }
        let operation = Operation::Spawn { fence: self.fence, ordinal };
        let commit = Commit { task: Arc::clone(&self.task), operation, spawn: vec![Arc::clone(&child)] };
        if let Err(error) = core.committer.commit(core, commit) {
            core.live.forget(&child);
            if error.code() != Code::DuplicateId {
                // A handler may try again, and its next attempt must count as this one did.
                self.task.give_back_child(self.fence.attempt, ordinal);
                return Err(error);
            }
            let known = core.find(id)?.ok_or(error)?;
            let (name, wanted) = (known.spec().name, entry.name);
            if name != wanted {
                return Err(Error::new(
                    Code::DuplicateId,
                    format!("child {ordinal} of task {} is a task of {name:?}, not of {wanted:?}", self.task.id()),
                )
                .hint("children are keyed by the order in which they are submitted: submit the same ones in each attempt"));
            }
            return Ok(Handle::new(core.hold(known), core));
        }
        core.settle_if_stopped(&child);
        Ok(Handle::new(child, core))
    }
}
