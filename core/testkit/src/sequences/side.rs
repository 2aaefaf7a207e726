//! One of the two stores that are compared: what a batch answers, and what can be seen of it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use proptest::prelude::*;
use taskloom_model::{Effects, Error, Name, Operation, Row, ScheduleRow, Spec, State, TaskId, Timestamp};
use taskloom_store::{Batch, Change, Claim, Commit, Counts, Filter, Insert, Nobody, Owner, Store, Task};

/// A store, and the tasks in memory that show its rows.
pub(super) struct Side {
    pub(super) store: Arc<dyn Store>,
    pub(super) held: HashMap<TaskId, Arc<Task>>,
}

/// What a batch answered, as it can be compared.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    /// The tasks that each group came to, or why it was refused.
    inserts: Vec<Result<Vec<TaskId>, String>>,
    verdicts: Vec<Result<Effects, String>>,
    claimed: Vec<TaskId>,
    consequences: Vec<(TaskId, Effects)>,
}

/// The code and the message.
pub(super) fn text(error: &Error) -> String {
    format!("{:?}: {}", error.code(), error.message())
}

impl Side {
    pub(super) fn write(
        &mut self,
        plan: &Plan,
        queued: &HashSet<TaskId>,
        now: Timestamp,
    ) -> Result<Answer, TestCaseError> {
        let make = |(spec, row): &Admitted| Task::new(spec.clone(), row.clone(), None);
        let insert =
            |group: &Vec<Admitted>| Insert { tasks: group.iter().map(make).collect(), verdict: None };
        let inserts: Vec<_> = plan.inserts.iter().map(insert).collect();
        let mut commits = Vec::new();
        for Planned { id, fresh, operation, spawn } in &plan.commits {
            let task = if *fresh { self.get(*id)? } else { Arc::clone(&self.held[id]) };
            let spawn = spawn.iter().map(make).collect();
            commits.push(Commit { task, operation: operation.clone(), spawn });
        }
        let changed: Vec<_> = commits.iter().map(|commit| Arc::clone(&commit.task)).collect();
        let mut batch = Batch { inserts, commits, claim: plan.claim.clone(), ..Batch::default() };
        self.store
            .write(&mut batch, &Nobody, now)
            .map_err(|error| fail(format!("the batch failed: {error}")))?;
        let mut inserts = Vec::new();
        let mut told: Vec<_> = batch.consequences.iter().map(|change| &change.task).collect();
        for Insert { tasks, verdict } in &batch.inserts {
            match verdict.as_ref().unwrap() {
                Ok(()) => {
                    told.extend(tasks);
                    inserts.push(Ok(tasks.iter().map(|task| task.id()).collect()));
                }
                Err(error) => inserts.push(Err(text(error))),
            }
        }
        let shown = changed.iter().filter(|task| !task.is_final());
        told.retain(|task| !task.is_superseded());
        for task in shown.chain(told.iter().copied()).chain(&batch.claimed) {
            let stored = self.get(task.id())?.with_row(Row::clone);
            // One that has settled, has ended or was started over keeps the outcome that its handles are told.
            if changed.iter().any(|own| Arc::ptr_eq(own, task)) && !task.may_show(stored.generation) {
                continue;
            }
            prop_assert_eq!(task.with_row(Row::clone), stored, "the caller's task shows what was committed");
        }
        for task in changed.iter().chain(told).chain(&batch.claimed) {
            self.held.insert(task.id(), Arc::clone(task));
        }
        Ok(Answer {
            inserts,
            verdicts: batch.verdicts.iter().map(|verdict| verdict.as_ref().copied().map_err(text)).collect(),
            claimed: batch.claimed.iter().map(|task| task.id()).collect(),
            consequences: batch
                .consequences
                .iter()
                .filter(|change| !is_told_anew(change, queued))
                .map(|change| (change.task.id(), change.effects))
                .collect(),
        })
    }

    fn get(&self, id: TaskId) -> Result<Arc<Task>, TestCaseError> {
        self.store
            .get(id, &Nobody)
            .map_err(|error| fail(error.to_string()))?
            .ok_or_else(|| fail(format!("{id} is gone")))
    }

    pub(super) fn tasks(&self) -> Vec<Arc<Task>> {
        self.store.list(&Filter { limit: usize::MAX, ..Filter::default() }, &Nobody).unwrap()
    }
}

pub(super) fn fail(reason: String) -> TestCaseError {
    TestCaseError::fail(reason)
}

/// A task before it is one.
pub(super) type Admitted = (Spec, Row);

/// A batch before there are tasks for it.
pub(super) struct Plan {
    pub(super) inserts: Vec<Vec<Admitted>>,
    pub(super) commits: Vec<Planned>,
    pub(super) claim: Option<Claim>,
}

/// A commit of it.
pub(super) struct Planned {
    pub(super) id: TaskId,
    pub(super) fresh: bool,
    pub(super) operation: Operation,
    pub(super) spawn: Vec<Admitted>,
}

/// Everything that can be seen of a store.
#[derive(Debug, PartialEq)]
pub(super) struct View {
    tasks: Vec<Admitted>,
    counts: Counts,
    queues: Vec<(Name, Counts)>,
    paused: Vec<Name>,
    owners: Vec<Owner>,
    schedules: Vec<ScheduleRow>,
    some: Vec<Vec<TaskId>>,
}

/// What changes did, whatever their order: tasks that are due at the same time come in any. `queued` were so before: where
/// a line opens, a resident store tells anew of those that were held up in it, and others let them be found.
pub(super) fn effects(changes: &[Change], queued: &HashSet<TaskId>) -> Vec<(TaskId, Effects, Row)> {
    let told = |change: &Change| (change.task.id(), change.effects, change.task.with_row(Row::clone));
    let mut told: Vec<_> = changes.iter().filter(|change| !is_told_anew(change, queued)).map(told).collect();
    told.sort_by_key(|(id, ..)| *id);
    told
}

fn is_told_anew(change: &Change, queued: &HashSet<TaskId>) -> bool {
    let Effects { from, to, .. } = change.effects;
    (from, to) == (Some(State::Pending), State::Queued) && queued.contains(&change.task.id())
}

pub(super) fn see(side: &Side) -> View {
    let tasks = side.tasks().iter().map(|task| (task.spec().clone(), task.with_row(Row::clone))).collect();
    let all = Filter { limit: 3, ..Filter::default() };
    let filters = [
        Filter { state: Some(State::Queued), queue: Some(Name::new("a")), ..all.clone() },
        Filter { tag: Some("even".into()), ..all.clone() },
        Filter { tag: Some("even".into()), unfinished: true, name: Some(Name::new("job")), ..all },
    ];
    let list = |filter| side.store.list(filter, &Nobody).unwrap().iter().map(|task| task.id()).collect();
    View {
        tasks,
        counts: side.store.counts().unwrap(),
        queues: side.store.queue_counts().unwrap(),
        paused: side.store.paused().unwrap(),
        owners: side.store.owners().unwrap(),
        schedules: side.store.schedules().unwrap(),
        some: filters.iter().map(list).collect(),
    }
}
