//! What attempts wait for that are not on a worker thread: those on an event loop, and those of a pool of foreign
//! workers. (What worker threads wait for, [`crate::pool`] knows.)
//!
//! While the engine of a shared store drains it claims nothing more, but for this: the attempt could not end before the
//! task that it waits for has ended, and the engine could not before the attempt has.
//!
//! # Invariants
//! * A task is in the list for as long as it has a guard. It is put there before it is looked at whether the engine drains, and
//!   the engine drains before the list is read: so one of the two sees the other.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use taskloom_model::TaskId;
use taskloom_store::Task;

use crate::core::Core;

/// The list: each task with the number of those who wait for it.
#[derive(Default)]
pub(crate) struct NeededTasks(Mutex<HashMap<TaskId, (Arc<Task>, usize)>>);

impl NeededTasks {
    pub(crate) fn all(&self) -> Vec<Arc<Task>> {
        self.0.lock().values().map(|(task, _)| Arc::clone(task)).collect()
    }

    pub(crate) fn has(&self, task: &Task) -> bool {
        self.0.lock().contains_key(&task.id())
    }
}

/// An attempt waits for a task: until this is dropped it is run here, even while the engine drains. See
/// [`Handle::needed`](crate::Handle::needed).
#[must_use = "dropping it says that nobody waits any more"]
pub struct Needed {
    core: Weak<Core>,
    task: Arc<Task>,
}

impl Needed {
    pub(crate) fn new(core: &Arc<Core>, task: &Arc<Task>) -> Self {
        core.needed.0.lock().entry(task.id()).or_insert_with(|| (Arc::clone(task), 0)).1 += 1;
        core.run_awaited(task);
        Self { core: Arc::downgrade(core), task: Arc::clone(task) }
    }
}

impl Drop for Needed {
    fn drop(&mut self) {
        let Some(core) = self.core.upgrade() else { return };
        let mut list = core.needed.0.lock();
        if let Some((_, waiting)) = list.get_mut(&self.task.id()) {
            *waiting -= 1;
            if *waiting == 0 {
                // The guard's own is the last to go, without the lock.
                list.remove(&self.task.id());
            }
        }
    }
}
