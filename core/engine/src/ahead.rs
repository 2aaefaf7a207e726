//! Tasks that were claimed ahead of the workers and expire if none comes in time.
//!
//! To the store a task that waits in a lane is running, and does not expire. So this process watches those that would:
//! when the time comes before a worker does, the task is given back and expires in the same transaction. Worker and
//! timer cannot both have it, since [`Task::begin`] lets only one of them begin the attempt.
//!
//! The list holds what is in the lanes, which is not much, and what has left them since the last look.
//!
//! A task that ends so shows one attempt more than it would on a resident store, which claims when a worker is there:
//! the claim is counted, though no attempt began. It is not taken back, since the number is the fence. If the next claim
//! had it again, a late report about this one, by a process that was struck off meanwhile, would be about that one too.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use taskloom_model::{Operation, Timestamp};
use taskloom_store::Task;

use crate::core::Core;

/// How long the list may get before it is cleaned up outside the usual looks.
const MANY: usize = 4096;

#[derive(Default)]
pub(crate) struct Ahead(Mutex<Vec<(Timestamp, Weak<Task>)>>);

impl Ahead {
    /// A task goes into a lane of a store that claims ahead.
    pub(crate) fn add(&self, core: &Core, task: &Arc<Task>) {
        let Some(expires) = live(task, task.spec().expires()) else { return };
        {
            let mut list = self.0.lock();
            if list.len() >= MANY && list.len() == list.capacity() {
                list.retain(|(_, task)| task.strong_count() > 0);
            }
            list.push((expires, Arc::downgrade(task)));
        }
        core.timers.set(expires);
    }

    /// Gives back what has expired, and returns when the next one does.
    pub(crate) fn step(&self, core: &Arc<Core>, now: Timestamp) -> Option<Timestamp> {
        let owner = core.owner();
        // Kept until the lock is free: a task that dies takes its host's data with it, which may have to wait for the
        // host.
        let mut seen = Vec::new();
        let mut next: Option<Timestamp> = None;
        self.0.lock().retain(|(expires, task)| {
            let Some(task) = task.upgrade() else { return false };
            let ahead = task.is_ahead(owner);
            let expired = *expires <= now;
            if ahead && !expired {
                next = [next, Some(*expires)].into_iter().flatten().min();
            }
            seen.push((task, ahead && expired));
            ahead && !expired
        });
        for (task, expired) in seen {
            if expired {
                expire(core, task, now);
            }
        }
        next
    }
}

/// Lets a claimed task whose time is over end, unless it has begun.
fn expire(core: &Arc<Core>, task: Arc<Task>, now: Timestamp) {
    if let Some((fence, _)) = task.begin(core.owner()) {
        // The committer settles it.
        let _ =
            core.committer.report(core, task, [Operation::Release { fence }, Operation::Elapse], now, None);
    }
}

/// For a worker that has come upon a claimed task: whether it came too late, and the task expires or is timed out.
pub(crate) fn came_too_late(core: &Arc<Core>, task: &Arc<Task>, now: Timestamp) -> bool {
    let spec = task.spec();
    let late = [spec.expires(), spec.deadline()]
        .into_iter()
        .any(|limit| live(task, limit).is_some_and(|limit| limit <= now));
    if late {
        expire(core, Arc::clone(task), now);
    }
    late
}

/// A limit of a task that was claimed and has not begun, unless an operator has started it over since.
fn live(task: &Task, limit: Option<Timestamp>) -> Option<Timestamp> {
    let limit = limit?;
    let replayed = task.with_row(|row| row.history.as_ref().and_then(|history| history.replayed));
    replayed.is_none_or(|replayed| limit > replayed).then_some(limit)
}
