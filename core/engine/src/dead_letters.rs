//! Dead letters: tasks that failed, timed out, were cancelled or expired, and what an operator does about them.
//!
//! # Replay
//! A replay leaves the task that ended as it is: whoever holds a handle of it keeps its outcome. The store makes another
//! task with the same id, its new generation, and tells of it as a consequence; from there on it goes the way of any
//! task that becomes eligible. The engine that replays settles its copy of the old one, in case it had not heard of its
//! end: another process may have ended it.
//!
//! The store is written here and not by the committer, as it is where times come: nobody else has a stake in these
//! tasks, so there is nothing that would have to be in one transaction with it.
//!
//! # Many
//! Those that a filter fits are handled page by page, in the order of their ids, each id once: one that fails again
//! meanwhile is not started over again. What is not dead when its turn comes is left out.

use std::collections::HashMap;
use std::sync::Arc;

use taskloom_model::{Code, Effects, Error, Operation, Result, State, TaskId};
use taskloom_store::{Batch, Commit, Filter, Task};

use crate::core::Core;
use crate::operating::{PAGE, check_filter};
use crate::{Engine, Handle};

impl Engine {
    /// Starts a dead letter over: a new generation with the same id, without failures and crashes, and without an expiry
    /// or a deadline that has passed; its errors, log and checkpoint are kept. The handle is the new generation's; older
    /// ones keep their outcome. Children that the task has submitted are not replayed with it, and are found again.
    ///
    /// Errors: `UnknownTask`; `IllegalTransition` if the task has not ended, has succeeded or was skipped;
    /// `DuplicateKey` if another task has its unique key now; `ShutDown`; `StoreFailed`.
    pub fn replay(&self, id: TaskId) -> Result<Handle> {
        let core = &self.core;
        core.check_open(false)?;
        let task = core.hold(core.find(id)?.ok_or_else(|| unknown(id))?);
        let (mut verdicts, mut new) = core.start_over(vec![Arc::clone(&task)])?;
        match verdicts.pop() {
            Some(Err(error)) if error.code() == Code::IllegalTransition => Err(not_dead(&task, "replayed")),
            Some(Err(error)) => Err(error),
            _ => new.remove(&id).map(|task| Handle::new(task, core)).ok_or_else(|| unknown(id)),
        }
    }

    /// Starts over every dead letter that a filter fits (its `limit`, `unfinished` and `dead` do not count); how many.
    /// One whose unique key another task has now is left as it is.
    ///
    /// Errors: `InvalidOption` for a state in which no dead letter is; `ShutDown`; `StoreFailed`.
    pub fn replay_all(&self, filter: &Filter) -> Result<usize> {
        let core = &self.core;
        core.check_open(false)?;
        check_filter(filter)?;
        if let Some(state) = filter.state.filter(|state| !state.is_dead()) {
            return Err(no_dead_state(state, "replayed"));
        }
        let filter = Filter { dead: true, unfinished: false, ..filter.clone() };
        core.page_by_page(filter, |tasks| {
            let tasks = tasks.into_iter().map(|task| core.hold(task)).collect();
            let (verdicts, _) = core.start_over(tasks)?;
            Ok(verdicts.iter().filter(|verdict| verdict.is_ok()).count())
        })
    }

    /// Forgets a task that has ended, however it did, now. Handles that are held keep its outcome.
    ///
    /// Errors: `UnknownTask`; `IllegalTransition` if it has not ended, or may still be asked for: its parent has not
    /// ended, or it keeps its unique key; `StoreFailed`.
    pub fn discard(&self, id: TaskId) -> Result<()> {
        let core = &self.core;
        core.check_process()?;
        let task = core.store.get(id, &core.live)?.ok_or_else(|| unknown(id))?;
        if !task.state().is_terminal() {
            return Err(not_dead(&task, "discarded"));
        }
        if core.store.discard(&[id], State::ALL, core.clock.now())? == 0 {
            let message =
                format!("task {id} has ended, and may still be asked for: it cannot be discarded yet");
            return Err(Error::new(Code::IllegalTransition, message)
                .hint("a task is kept until its parent has ended, and for as long as unique_for says"));
        }
        Ok(())
    }

    /// Forgets every dead letter that a filter fits, or all that ended in its state (its `limit`, `unfinished` and `dead`
    /// do not count); how many. What may still be asked for is left: children whose parent has not ended, and tasks that
    /// keep their unique key.
    ///
    /// Errors: `InvalidOption` for a state in which no task has ended; `StoreFailed`.
    pub fn discard_all(&self, filter: &Filter) -> Result<usize> {
        let core = &self.core;
        core.check_process()?;
        check_filter(filter)?;
        if let Some(state) = filter.state.filter(|state| !state.is_terminal()) {
            return Err(no_dead_state(state, "discarded"));
        }
        let states: Vec<_> = match filter.state {
            Some(state) => vec![state],
            None => State::ALL.iter().copied().filter(|state| state.is_dead()).collect(),
        };
        let filter = Filter { dead: filter.state.is_none(), unfinished: false, ..filter.clone() };
        core.page_by_page(filter, |tasks| {
            let ids: Vec<_> = tasks.iter().map(|task| task.id()).collect();
            core.store.discard(&ids, &states, core.clock.now())
        })
    }
}

/// What came of each replay, and the tasks of the new generations.
type StartedOver = (Vec<Result<Effects>>, HashMap<TaskId, Arc<Task>>);

impl Core {
    /// Starts tasks over, and lets what follows follow.
    fn start_over(self: &Arc<Self>, tasks: Vec<Arc<Task>>) -> Result<StartedOver> {
        let replay = |task: &Arc<Task>| Commit {
            task: Arc::clone(task),
            operation: Operation::Replay,
            spawn: Vec::new(),
        };
        let mut batch = Batch { commits: tasks.iter().map(replay).collect(), ..Batch::default() };
        self.store.write(&mut batch, &self.live, self.clock.now())?;
        // Before a new one can end: whoever waits for an old one hears of that one's end first.
        tasks.iter().filter(|task| task.is_superseded()).for_each(Task::settle);
        let mut new = HashMap::new();
        for mut change in std::mem::take(&mut batch.consequences) {
            if change.effects.from.is_some_and(State::is_terminal) {
                change.task = self.hold(change.task);
                new.insert(change.task.id(), Arc::clone(&change.task));
            }
            self.follow(&change.task, change.effects, false);
        }
        if self.hear_of_gates() {
            self.committer.ask_for_more();
        }
        Ok((batch.verdicts, new))
    }

    /// Does something with all tasks that a filter fits, so many at a time; the sum.
    fn page_by_page(
        &self,
        mut filter: Filter,
        mut handle: impl FnMut(Vec<Arc<Task>>) -> Result<usize>,
    ) -> Result<usize> {
        let limit = if self.capability.resident { usize::MAX } else { PAGE };
        filter.limit = limit;
        let mut sum = 0;
        loop {
            let tasks = self.store.list(&filter, &self.live)?;
            let (count, last) = (tasks.len(), tasks.last().map(|task| task.id()));
            if count > 0 {
                sum += handle(tasks)?;
            }
            if count < limit {
                return Ok(sum);
            }
            filter.after = last;
        }
    }
}

fn unknown(id: TaskId) -> Error {
    Error::new(Code::UnknownTask, format!("no task {id}"))
        .hint("a task that ended is forgotten after a while")
}

fn not_dead(task: &Task, done: &str) -> Error {
    let (id, state) = (task.id(), task.state());
    let hint = match state {
        State::Succeeded | State::Skipped => "it ended as it should: submit another one instead",
        _ => "it has not ended: cancel it first, or wait for its end",
    };
    Error::new(Code::IllegalTransition, format!("task {id} is {state}, and cannot be {done}"))
        .hint(hint)
        .with("task", id)
}

fn no_dead_state(state: State, done: &str) -> Error {
    let hint = match done {
        "replayed" => "state is one of failed, timed_out, cancelled, expired; without one, all of them",
        _ => {
            "state is one of failed, timed_out, cancelled, expired, succeeded, skipped; without one, the first four"
        }
    };
    Error::new(Code::InvalidOption, format!("state is {state}, and no {state} task can be {done}")).hint(hint)
}
