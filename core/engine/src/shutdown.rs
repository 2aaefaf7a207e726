//! How an engine ends.
//!
//! 1. Nobody but handlers may submit any more (`Draining`).
//! 2. A resident store's eligible tasks are run to the end, as a thread pool does; on a durable store what is claimed
//!    but not begun is given back, and what runs may finish.
//! 3. At the deadline, what still runs is called off: given back on a durable store, left without an outcome in memory.
//! 4. The engine is `Stopped`: its services end, in the order in which they feed each other (timers, then the
//!    committer, which first writes all that was handed in).
//! 5. Whoever still waits for a task hears `ShutDown`.
//!
//! A worker thread that is stuck in a handler is not waited for; when it returns, its report is refused and it ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use taskloom_model::Operation;
use taskloom_store::Filter;

use crate::core::Core;
use crate::edge;
use crate::queues::{Route, View};
use crate::worker;

/// How to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Finish first, for as long as it takes.
    Finish,
    /// Finish first, but take no longer than this; zero calls off everything at once.
    Within(Duration),
}

/// Stops an engine. A second call waits for nothing and finds nothing to do.
pub(crate) fn stop(core: &Arc<Core>, how: Stop) {
    if core.check_process().is_err() {
        // A forked child: the threads are the parent's, and so is the store. Here is nothing to stop.
        core.mark_stopped();
        return;
    }
    core.drain();
    let deadline = match how {
        Stop::Finish => None,
        Stop::Within(span) => edge::deadline_in(span),
    };
    let on_worker = worker::home().is_some_and(|home| Arc::ptr_eq(&home.core, core));
    if on_worker {
        // A handler stops its own engine: it must not wait for itself.
        core.pool.go_away(core);
    }
    if !core.capability.resident {
        give_back_unbegun(core);
    }
    finish(core, deadline);
    for (task, fence) in core.running.all() {
        if !core.capability.resident {
            // Refused if it has just ended; then there is nothing to give back.
            let _ = core.change(&task, Operation::Release { fence });
        }
        core.runtime.interrupt(&task, fence);
    }
    core.mark_stopped();
    core.sleepers.notify_all();
    core.timers.stop();
    core.committer.stop();
    if !core.capability.resident {
        let mut changes = Vec::new();
        // If the store fails here, the next process finds us dead after a lease.
        let _ = core.store.bury(core.owner(), &core.live, &mut changes, core.clock.now());
    }
    settle_the_rest(core);
    core.loops.set_host(None);
    if on_worker {
        core.pool.came_back();
    }
}

/// Waits until there is nothing left to run, or until the deadline.
fn finish(core: &Arc<Core>, deadline: Option<Instant>) {
    loop {
        core.sleepers.notify_all();
        core.loops.wake();
        let in_time = core.pool.wait_empty(deadline) && core.loops.wait_idle(core, deadline);
        let blocking_left = core.pool.was_started() && !core.queues.is_empty(Route::Blocking);
        let async_left = core.loops.has_host() && !core.queues.is_empty(Route::Asynchronous);
        if !in_time || !(blocking_left || async_left) {
            return;
        }
        // A handler on a loop has submitted more for the threads, which had gone.
        if blocking_left && core.pool.start(core).is_err() {
            return;
        }
    }
}

/// Gives back what this process claimed and has not begun.
fn give_back_unbegun(core: &Arc<Core>) {
    let mut view = View::default();
    for route in [Route::Blocking, Route::Asynchronous] {
        while let Some(task) = core.queues.pop(route, &mut view) {
            if let Some(fence) = worker::begin(core, &task) {
                // Refused if it was cancelled meanwhile.
                let _ = core.change(&task, Operation::Release { fence });
            }
        }
    }
}

/// Lets everybody who waits know that nothing more will happen.
fn settle_the_rest(core: &Core) {
    if core.capability.resident {
        let all = Filter { limit: usize::MAX, ..Filter::default() };
        for task in core.store.list(&all, &core.live).unwrap_or_default() {
            task.settle();
        }
    } else {
        core.live.all().iter().for_each(|task| task.settle());
    }
}
