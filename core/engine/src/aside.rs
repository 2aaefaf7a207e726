//! Handlers that are registered, but that nobody can run at present, and the tasks that wait for somebody who can.
//!
//! What runs a handler may go away and come back while its engine goes on: an environment of JavaScript that ends and is
//! started anew, an app that is stopped beside others on the same engine. Its tasks are no failures meanwhile, and its
//! submits are accepted.
//!
//! * On a resident store whoever takes such a task from its lane sets it *aside*, with its handler. It is queued as before:
//!   it can be cancelled, it expires, and [`crate::Engine::health`] tells of it. When the handler is served again, or
//!   another of its name is registered, it goes back into its lane.
//! * On other stores the name is left out of claims, and what was claimed already is given back: another process may have
//!   the handler. The store is told that this one does not serve it.
//!
//! # Invariants
//! * A task is set aside only while its handler is unserved: both are looked at under the handler's lock. So none is left
//!   here once the handler is served.
//! * Nor is one left with a handler that is not the one to run it any more: whoever sets it aside looks once more, and
//!   whoever brings another handler looks at all of its name.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use taskloom_model::{Name, State, Timestamp};
use taskloom_store::{Task, Unserved};

use crate::core::Core;
use crate::handler::HandlerEntry;

/// The tasks of one handler for as long as nobody can run them.
#[derive(Default)]
pub(crate) struct Aside {
    /// Written under the lock of the tasks.
    is_unserved: AtomicBool,
    tasks: Mutex<Vec<Arc<Task>>>,
}

impl Aside {
    /// Whether nobody can run the handler's tasks.
    #[inline]
    pub(crate) fn is_unserved(&self) -> bool {
        self.is_unserved.load(Ordering::Relaxed)
    }

    /// Whether that was new.
    fn set(&self, is_unserved: bool) -> bool {
        let _tasks = self.tasks.lock();
        self.is_unserved.swap(is_unserved, Ordering::Relaxed) != is_unserved
    }

    /// Keeps a task, unless the handler is served by now.
    fn keep(&self, task: Arc<Task>) -> Result<(), Arc<Task>> {
        let mut tasks = self.tasks.lock();
        if !self.is_unserved() {
            return Err(task);
        }
        let mut over = Vec::new();
        if tasks.len() == tasks.capacity() {
            // What has ended meanwhile must not pile up.
            let (queued, ended) = tasks.drain(..).partition(|task| task.state() == State::Queued);
            (*tasks, over) = (queued, ended);
        }
        tasks.push(task);
        drop(tasks);
        // Dropped without the lock: what dies with a task may run code of a user's.
        drop(over);
        Ok(())
    }

    fn take(&self) -> Vec<Arc<Task>> {
        std::mem::take(&mut *self.tasks.lock())
    }

    /// How many wait here, and since when the first of them could have been run.
    fn waiting(&self) -> Option<(u64, Timestamp)> {
        let tasks = self.tasks.lock();
        // One that was tried again after it had ended may be here twice.
        let queued = tasks.iter().filter(|task| task.state() == State::Queued);
        let eligible: HashMap<_, _> =
            queued.map(|task| (task.id(), task.with_row(|row| row.eligible))).collect();
        Some((eligible.len() as u64, eligible.values().min().copied()?))
    }
}

impl Core {
    /// Says whether somebody can run a handler's tasks from now on.
    pub(crate) fn set_served(self: &Arc<Self>, entry: &HandlerEntry, served: bool) {
        if !entry.aside.set(!served) {
            return;
        }
        self.registry.changed();
        self.bring_back(entry.name);
        if served {
            self.committer.ask_for_more();
        } else {
            // What was claimed is found, and given back.
            self.sleepers.notify_all();
            self.loops.wake();
            self.pooled.wake();
        }
    }

    /// Sets a task aside that was taken from its lane, or `claimed` by hand, for a handler that nobody can run. No lock is
    /// held.
    pub(crate) fn set_aside(self: &Arc<Self>, entry: &HandlerEntry, task: Arc<Task>, claimed: bool) {
        if claimed || !self.capability.resident {
            self.trials.is_over(self, task.id());
            if task.spec().version().is_some() {
                self.registry.is_stray(entry.name);
            }
            self.give_back(task);
            return;
        }
        let own = Arc::clone(&task);
        match entry.aside.keep(task) {
            Err(task) => self.enqueue(task),
            Ok(()) if self.handler_of(&own).is_some_and(|now| !std::ptr::eq(&*now, entry)) => {
                self.enqueue_all(entry.aside.take());
            }
            Ok(()) => {}
        }
    }

    /// The handlers of a name are others than before, or others can run: what was set aside is looked at again.
    pub(crate) fn bring_back(self: &Arc<Self>, name: Name) {
        for entry in self.registry.versions(name) {
            self.enqueue_all(entry.aside.take());
        }
    }

    /// A handler was replaced.
    pub(crate) fn bring_back_from(self: &Arc<Self>, replaced: &HandlerEntry) {
        replaced.aside.set(false);
        self.enqueue_all(replaced.aside.take());
    }

    fn enqueue_all(self: &Arc<Self>, tasks: Vec<Arc<Task>>) {
        tasks.into_iter().for_each(|task| self.enqueue(task));
    }

    /// What was set aside, by name.
    pub(crate) fn all_aside(&self) -> Vec<Unserved> {
        let mut all: Vec<Unserved> = Vec::new();
        // They come by name.
        for entry in self.registry.all() {
            let Some((count, since)) = entry.aside.waiting() else { continue };
            match all.last_mut().filter(|last| last.name == entry.name.as_str()) {
                Some(last) => (last.count, last.since) = (last.count + count, last.since.min(since)),
                None => all.push(Unserved { name: entry.name.as_str().to_owned(), count, since }),
            }
        }
        all
    }
}
