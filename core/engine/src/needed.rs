//! What attempts wait for that are not on a worker thread: those on an event loop, and those of a pool of foreign
//! workers. (What worker threads wait for, [`crate::pool`] knows.)
//!
//! While the engine of a shared store drains it claims nothing more, but for this: the attempt could not end before the
//! task that it waits for has ended, and the engine could not before the attempt has.
//!
//! An attempt says what it waits for ([`Needed`]), or only that it waits, and lends its place
//! ([`crate::Attempt::lend_place`]): then it may be for any of its children.
//!
//! # Invariants
//! * A task is in a list for as long as it has a guard. It is put there before it is looked at whether the engine drains,
//!   and the engine drains before the lists are read: so one of the two sees the other.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use taskloom_model::TaskId;
use taskloom_store::Task;

use crate::core::Core;
use crate::queues::Route;

/// Tasks, each with the number of those who hold it here.
#[derive(Default)]
struct Counted(Mutex<HashMap<TaskId, (Arc<Task>, usize)>>);

impl Counted {
    fn add(&self, task: &Arc<Task>) {
        self.0.lock().entry(task.id()).or_insert_with(|| (Arc::clone(task), 0)).1 += 1;
    }

    fn remove(&self, task: &Arc<Task>) {
        if let Entry::Occupied(mut entry) = self.0.lock().entry(task.id()) {
            entry.get_mut().1 -= 1;
            if entry.get().1 == 0 {
                // The caller's own is the last to go, without the lock.
                entry.remove();
            }
        }
    }

    fn has(&self, id: TaskId) -> bool {
        self.0.lock().contains_key(&id)
    }

    fn all(&self) -> Vec<Arc<Task>> {
        self.0.lock().values().map(|(task, _)| Arc::clone(task)).collect()
    }
}

/// What is waited for, and the tasks whose attempts wait for a child of theirs.
#[derive(Default)]
pub(crate) struct NeededTasks {
    tasks: Counted,
    parents: Counted,
}

impl NeededTasks {
    /// Whether an attempt may wait for a task.
    pub(crate) fn has(&self, task: &Task) -> bool {
        self.tasks.has(task.id()) || task.spec().parent().is_some_and(|parent| self.parents.has(parent.id))
    }
}

impl Core {
    /// While the engine drains: claims what attempts wait for.
    pub(crate) fn run_needed(self: &Arc<Self>) {
        self.needed.tasks.all().iter().for_each(|task| self.run_awaited(task));
        self.needed.parents.all().iter().for_each(|parent| self.run_children(parent));
    }

    /// An attempt of this task waits, perhaps for a child of its own.
    pub(crate) fn waits_for_children(self: &Arc<Self>, parent: &Arc<Task>) {
        if !self.capability.resident {
            self.needed.parents.add(parent);
            self.run_children(parent);
        }
    }

    /// It does so no longer.
    pub(crate) fn waits_no_longer(&self, parent: &Arc<Task>) {
        if !self.capability.resident {
            self.needed.parents.remove(parent);
        }
    }

    fn run_children(self: &Arc<Self>, parent: &Arc<Task>) {
        if self.is_open() || self.is_stopped() {
            return;
        }
        // A store that cannot be read now leaves them to the deadline of the shutdown.
        for child in self.children(parent).unwrap_or_default() {
            self.run_awaited(child.task());
        }
    }
}

/// An attempt waits for a task: until this is dropped it is run here, even while the engine drains. See
/// [`Handle::needed`](crate::Handle::needed).
#[must_use = "dropping it says that nobody waits any more"]
pub struct Needed {
    core: Weak<Core>,
    task: Arc<Task>,
    /// Who runs it here, where it comes first meanwhile.
    route: Option<Route>,
}

impl Needed {
    pub(crate) fn new(core: &Arc<Core>, task: &Arc<Task>) -> Self {
        if !core.capability.resident {
            core.needed.tasks.add(task);
            core.run_awaited(task);
        }
        Self { core: Arc::downgrade(core), task: Arc::clone(task), route: core.wants(task) }
    }
}

impl Drop for Needed {
    fn drop(&mut self) {
        if let Some(core) = self.core.upgrade() {
            core.no_longer_wants(self.route, &self.task);
            if !core.capability.resident {
                core.needed.tasks.remove(&self.task);
            }
        }
    }
}
