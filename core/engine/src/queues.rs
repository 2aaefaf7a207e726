//! The lanes: eligible tasks of each queue, in memory.
//!
//! A queue has two sets of four priority lanes, one for tasks that a worker thread runs and one for those that an
//! event loop takes, so that neither ever has to step over the other's. On a resident store a lane holds tasks that
//! are `queued` and are claimed when popped; on others it holds tasks that this process has claimed already. A task
//! that was cancelled meanwhile stays where it is: whoever pops it finds out by its row.
//!
//! Queues come into being when they are first named and are never taken away, so the list only grows. Readers keep a
//! snapshot and look at a version number, one relaxed load, to see whether it is stale. A queue is in the list before
//! its first task is pushed, and the push is followed by the fence of the wake protocol: a worker that misses the new
//! version before it sleeps is woken after.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;
use taskloom_model::Name;
use taskloom_store::Task;
use taskloom_sync::Lanes;

/// Who runs a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// A worker thread.
    Blocking,
    /// An event loop.
    Asynchronous,
}

/// One queue's lanes.
pub(crate) struct Queue {
    blocking: Lanes<Arc<Task>>,
    asynchronous: Lanes<Arc<Task>>,
}

impl Queue {
    pub(crate) fn lanes(&self, route: Route) -> &Lanes<Arc<Task>> {
        match route {
            Route::Blocking => &self.blocking,
            Route::Asynchronous => &self.asynchronous,
        }
    }
}

type Snapshot = Arc<[Arc<Queue>]>;

/// All queues, in the order in which they were first named.
pub(crate) struct Queues {
    by_name: RwLock<HashMap<Name, Arc<Queue>>>,
    list: RwLock<Snapshot>,
    version: AtomicUsize,
}

impl Queues {
    pub(crate) fn new() -> Self {
        Self { by_name: RwLock::default(), list: RwLock::new(Arc::new([])), version: AtomicUsize::new(0) }
    }

    /// The queue with this name, made if need be.
    pub(crate) fn queue(&self, name: Name) -> Arc<Queue> {
        if let Some(queue) = self.by_name.read().get(&name) {
            return Arc::clone(queue);
        }
        let mut by_name = self.by_name.write();
        if let Some(queue) = by_name.get(&name) {
            return Arc::clone(queue);
        }
        let queue = Arc::new(Queue { blocking: Lanes::new(), asynchronous: Lanes::new() });
        by_name.insert(name, Arc::clone(&queue));
        let mut list = self.list.write();
        *list = list.iter().cloned().chain([Arc::clone(&queue)]).collect();
        self.version.fetch_add(1, Ordering::Release);
        queue
    }

    /// Whether no lane of this route holds a task. One load per queue, and it errs on the side of "there is one": lanes
    /// notice that they are empty when somebody pops in vain.
    pub(crate) fn is_empty(&self, route: Route) -> bool {
        self.list.read().iter().all(|queue| queue.lanes(route).is_empty())
    }

    /// How many tasks the lanes of this route hold.
    pub(crate) fn len(&self, route: Route) -> usize {
        self.list.read().iter().map(|queue| queue.lanes(route).len()).sum()
    }

    /// Takes the next task of this route: from the first queue that has one.
    pub(crate) fn pop(&self, route: Route, view: &mut View) -> Option<Arc<Task>> {
        let version = self.version.load(Ordering::Acquire);
        if view.version != version {
            view.list = Arc::clone(&self.list.read());
            view.version = version;
        }
        view.list.iter().find_map(|queue| queue.lanes(route).pop())
    }
}

/// A reader's snapshot of the list of queues.
pub(crate) struct View {
    list: Snapshot,
    version: usize,
}

impl Default for View {
    fn default() -> Self {
        Self { list: Arc::new([]), version: 0 }
    }
}
