//! What attempts wait for comes first.
//!
//! An attempt that waits for a task lends its place, and whoever stands in for it might begin the next one that will wait,
//! and so on: thousands of parents before the first child, each with a thread or a child process of its own. So what is
//! waited for is run before anything else in the lanes, whatever its queue and its priority. Then those who wait are
//! about as many as there are places, for each level of parents of parents; not as many as there are parents.
//!
//! It is a matter of order alone: where nothing that is waited for can be run here now (it has a time of its own, an event
//! loop or another process runs it), the lanes are served as ever. So nobody can wait for ever because of it; and nor does it
//! bound those who wait for what others run.
//!
//! # What it owns
//! For each route the tasks that attempts of this process wait for, once for each who waits, the newest first. A task stays
//! there for as long as it is waited for, so it comes first again when it is tried again. It is in a lane, too; whoever
//! pops it there later finds that it has begun. Hence what is taken from a lane to be given back is begun first
//! ([`Core::take_back`]): of those who hold the same task only one can do that.
//!
//! # Failure
//! There is none: a task that is not found here is found in its lane.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use taskloom_model::{Fence, Operation, State};
use taskloom_store::Task;

use crate::core::{Core, route_of};
use crate::handler::HandlerEntry;
use crate::queues::Route;
use crate::trials::is_suspect;

/// So many are looked at whenever somebody looks for a task; the others have their turn the next times.
const LOOK: usize = 8;

/// The tasks that are waited for.
#[derive(Default)]
pub(crate) struct Wanted([OfRoute; 3]);

#[derive(Default)]
struct OfRoute {
    tasks: Mutex<VecDeque<Arc<Task>>>,
    /// How many these are; written under their lock.
    count: AtomicUsize,
}

impl Wanted {
    /// Takes the next one that can be run by this route now. Whoever calls this holds the lock under which it begins it.
    pub(crate) fn next(&self, core: &Core, route: Route) -> Option<Arc<Task>> {
        let of = &self.0[route as usize];
        if of.count.load(Ordering::Relaxed) == 0 || core.queues.are_shut_to(route) {
            return None;
        }
        let mut tasks = of.tasks.lock();
        for _ in 0..LOOK.min(tasks.len()) {
            tasks.rotate_left(1);
            if let Some(task) = tasks.back().filter(|task| can_begin(core, task)) {
                return Some(Arc::clone(task));
            }
        }
        None
    }

    fn add(&self, route: Route, task: &Arc<Task>) {
        let of = &self.0[route as usize];
        let mut tasks = of.tasks.lock();
        tasks.push_front(Arc::clone(task));
        of.count.store(tasks.len(), Ordering::Relaxed);
    }

    fn remove(&self, route: Route, task: &Arc<Task>) {
        let of = &self.0[route as usize];
        let mut tasks = of.tasks.lock();
        let place = tasks.iter().position(|other| Arc::ptr_eq(other, task));
        let removed = place.and_then(|place| tasks.remove(place));
        of.count.store(tasks.len(), Ordering::Relaxed);
        drop(tasks);
        drop(removed);
    }
}

/// Whether a task could be begun here now, had it been popped from its lane.
fn can_begin(core: &Core, task: &Arc<Task>) -> bool {
    let is_there = if core.capability.resident {
        task.state() == State::Queued
    } else {
        task.is_ahead(core.owner()) && !is_suspect(task)
    };
    let can_run = |entry: &HandlerEntry| !entry.aside.is_unserved();
    is_there
        && core.queues.queue(task.spec().queue).is_open()
        && core.handler_of(task).is_none_or(|entry| can_run(&entry))
}

impl Core {
    /// Somebody waits for a task from now on; for how long, [`Core::no_longer_wants`] says. The route that runs it here.
    pub(crate) fn wants(self: &Arc<Self>, task: &Arc<Task>) -> Option<Route> {
        if self.driver.is_some() || task.is_settled() {
            return None;
        }
        let route = route_of(&*self.handler_of(task)?);
        self.wanted.add(route, task);
        Some(route)
    }

    pub(crate) fn no_longer_wants(&self, route: Option<Route>, task: &Arc<Task>) {
        if let Some(route) = route {
            self.wanted.remove(route, task);
        }
    }

    /// For a worker thread that is about to wait for a task: claims it, if it would have to wait in the store for what is
    /// in the lanes before it.
    pub(crate) fn claim_wanted(self: &Arc<Self>, task: &Arc<Task>) {
        if !self.capability.resident
            && self.is_open()
            && task.state() == State::Queued
            && self.queues.len(Route::Blocking) > 0
            && self.queues.queue(task.spec().queue).is_open()
            && self.handler_of(task).is_some_and(|entry| route_of(&entry) == Route::Blocking)
            // Refused if somebody was faster.
            && self
                .change(task, Operation::Claim { owner: self.owner() })
                .is_ok_and(|effects| effects.to == State::Running)
        {
            self.enqueue(Arc::clone(task));
        }
    }

    /// For whoever has taken a task from a lane to give it back: the fence to do it by, unless it has begun meanwhile.
    pub(crate) fn take_back(&self, task: &Task) -> Option<Fence> {
        task.begin(self.owner()).map(|(fence, _)| fence)
    }
}
