//! How tasks come into a memory store: all of an insert, or none of it.
//!
//! First everything that can refuse it is looked at ([`MemoryStore::prepare`]), then it is done, or given up: a commit
//! that spawns makes its change in between, which may be refused. A task is findable a moment before its insert is
//! decided; nobody knows its id by then. What it was admitted as is therefore looked at before it is findable:
//! afterwards somebody may have cancelled it already.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;
use taskloom_model::{Code, Effects, Error, Name, OnConflict, Row, Timestamp, Unique, WaitingFor, next_due};

use super::keys::Keys;
use super::{Accepted, MemoryStore};
use crate::{Change, Insert, Task};

/// An insert that nothing can refuse any more.
pub(super) struct Prepared<'s> {
    /// Those of its tasks that are new.
    pub(super) added: Vec<Arc<Task>>,
    /// What is to be done about some of them.
    noted: Noted,
    /// Where in the insert another task stands in.
    stand_ins: Vec<(usize, Arc<Task>)>,
    /// Whose keys are taken over.
    replaced: Vec<Arc<Task>>,
    /// Held until the keys are given.
    keys: Option<MutexGuard<'s, Keys>>,
}

impl Prepared<'_> {
    /// Of an insert of one task: the task that stands in for it.
    pub(super) fn stand_in(&self) -> Option<&Arc<Task>> {
        self.stand_ins.first().map(|(_, holder)| holder)
    }
}

/// Of the tasks of an insert, those that take more than being there.
#[derive(Default)]
pub(super) struct Noted {
    /// They had ended when they were admitted.
    ended: Vec<Arc<Task>>,
    /// Something happens to them at a time.
    due: Vec<(Timestamp, Arc<Task>)>,
    /// They have a key.
    keyed: Vec<Arc<Task>>,
}

impl Noted {
    pub(super) fn is_empty(&self) -> bool {
        self.ended.is_empty() && self.due.is_empty() && self.keyed.is_empty()
    }
}

impl MemoryStore {
    /// Adds tasks, all or none.
    pub(super) fn add(&self, tasks: &[Arc<Task>]) -> Result<Noted, Error> {
        let mut noted = Noted::default();
        // A plain one asks for none of this.
        for task in tasks.iter().filter(|task| !task.is_plain()) {
            let look = |row: &Row| (row.state, row.waiting_for, next_due(task.spec(), row));
            let (state, waiting_for, due) = task.with_row(look);
            if waiting_for == WaitingFor::Dependencies {
                return Err(Error::new(
                    Code::NotSupported,
                    "the memory store does not keep dependencies yet",
                ));
            }
            if state.is_terminal() {
                noted.ended.push(Arc::clone(task));
            }
            if let Some(due) = due {
                noted.due.push((due, Arc::clone(task)));
            }
            if task.spec().key().is_some() {
                noted.keyed.push(Arc::clone(task));
            }
        }
        self.reserve(tasks.len())?;
        let added = self.tasks.insert_all(tasks);
        if let Some(task) = tasks.get(added) {
            self.take_back(&tasks[..added]);
            self.submitters.0.count.fetch_sub(tasks.len() - added, Ordering::Relaxed);
            return Err(exists(task));
        }
        Ok(noted)
    }

    /// Forgets tasks that were added and not yet begun to count for anything.
    fn take_back(&self, tasks: &[Arc<Task>]) {
        for task in tasks {
            self.tasks.remove(task);
        }
        self.submitters.0.count.fetch_sub(tasks.len(), Ordering::Relaxed);
    }

    /// Sees to the times of tasks that were added for good, to those that had ended by then, and to those with keys.
    pub(super) fn settle_in(&self, noted: Noted, now: Timestamp) {
        for (due, task) in noted.due {
            self.alarms.set(due, &task);
        }
        for task in noted.ended {
            self.retire(&task, now);
        }
        for task in noted.keyed {
            self.enter_new(&task, now);
        }
    }

    pub(super) fn insert_all(
        &self,
        insert: &mut Insert,
        consequences: &mut Vec<Change>,
        now: Timestamp,
    ) -> Result<(), Error> {
        if insert.tasks.iter().any(|task| task.spec().unique().is_some()) {
            let prepared = self.prepare(&insert.tasks, now)?;
            self.complete(prepared, &mut insert.tasks, consequences, now);
            return Ok(());
        }
        let noted = self.add(&insert.tasks)?;
        self.settle_in(noted, now);
        Ok(())
    }

    /// Decides about an insert, and adds its new tasks.
    pub(super) fn prepare(&self, tasks: &[Arc<Task>], now: Timestamp) -> Result<Prepared<'_>, Error> {
        let unique = tasks.iter().any(|task| task.spec().unique().is_some());
        let keys = unique.then(|| self.keys.lock());
        // What tasks of this very insert have taken: it hides what the store says of the key.
        let mut taken: HashMap<(Name, &str), &Arc<Task>> = HashMap::new();
        let (mut added, mut stand_ins, mut replaced) = (Vec::new(), Vec::new(), Vec::new());
        for (index, task) in tasks.iter().enumerate() {
            if let (Some(unique), Some(keys)) = (task.spec().unique(), &keys) {
                let name = task.spec().name;
                let holder = match taken.get(&(name, unique.key.as_str())) {
                    Some(other) => Some(Arc::clone(other)).filter(|other| has_key(other, now)),
                    None => keys.holder(name, &unique.key, now),
                };
                match (holder, unique.on_conflict) {
                    (Some(holder), OnConflict::Return) => {
                        stand_ins.push((index, holder));
                        continue;
                    }
                    (Some(holder), OnConflict::Reject) => {
                        return Err(unique.refusal(holder.state(), holder.id()));
                    }
                    (Some(holder), OnConflict::Replace) => replaced.push(holder),
                    (None, _) => {}
                }
                taken.insert((name, unique.key.as_str()), task);
            }
            added.push(Arc::clone(task));
        }
        let noted = self.add(&added)?;
        Ok(Prepared { added, noted, stand_ins, replaced, keys })
    }

    /// Does what was prepared.
    pub(super) fn complete(
        &self,
        prepared: Prepared<'_>,
        tasks: &mut [Arc<Task>],
        consequences: &mut Vec<Change>,
        now: Timestamp,
    ) {
        let Prepared { added, noted, stand_ins, replaced, keys } = prepared;
        if let Some(mut keys) = keys {
            for task in &added {
                keys.give(task, now);
            }
        }
        for (index, holder) in stand_ins {
            tasks[index] = holder;
        }
        self.settle_in(noted, now);
        for holder in replaced {
            self.replace(&holder, consequences, now);
        }
    }

    /// Gives up what was prepared.
    pub(super) fn abandon(&self, prepared: &Prepared<'_>) {
        self.take_back(&prepared.added);
    }

    pub(super) fn reserve(&self, count: usize) -> Result<(), Error> {
        let Accepted { count: accepted, ended_then } = &self.submitters.0;
        let before = accepted.fetch_add(count, Ordering::Relaxed);
        // Counts that wrap around still have the right difference; a task that ends in this moment may make it negative.
        let unfinished = |ended: usize| before.wrapping_sub(ended).cast_signed().max(0).cast_unsigned();
        if unfinished(ended_then.load(Ordering::Relaxed)) + count <= self.options.capacity {
            return Ok(());
        }
        let ended = self.workers.0.count.load(Ordering::Relaxed);
        ended_then.store(ended, Ordering::Relaxed);
        let unfinished = unfinished(ended);
        if unfinished + count <= self.options.capacity {
            return Ok(());
        }
        accepted.fetch_sub(count, Ordering::Relaxed);
        Err(self.no_room(count, unfinished))
    }

    /// Why so many tasks are not taken: there may be room later, or there never will be.
    #[cold]
    fn no_room(&self, count: usize, unfinished: usize) -> Error {
        let capacity = self.options.capacity;
        if count > 1 && count > capacity {
            return Error::new(
                Code::BatchTooLarge,
                format!(
                    "a batch of {count} can never fit: the memory store takes {capacity} unfinished tasks"
                ),
            )
            .hint("submit it in smaller parts, or raise the capacity");
        }
        Error::new(
            Code::QueueFull,
            format!("the memory store holds {unfinished} unfinished tasks and takes {capacity}"),
        )
        .hint("submit more slowly, start more workers, or raise the capacity")
    }
}

/// Why a task is not added.
#[cold]
pub(super) fn exists(task: &Task) -> Error {
    Error::new(Code::DuplicateId, format!("a task with the id {} exists", task.id()))
        .hint("ids are for good: leave the id out to have one made")
}

fn has_key(task: &Task, now: Timestamp) -> bool {
    let until = task.spec().unique().and_then(|unique| unique.until);
    Unique::is_kept(until, task.state(), now)
}

/// What is told of a task that comes with a change.
pub(super) fn birth(task: &Task) -> Effects {
    task.with_row(|row| Effects { from: None, to: row.state, left: None, due: next_due(task.spec(), row) })
}
