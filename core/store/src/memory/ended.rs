//! Tasks that have ended: how many are kept, and which of them go.
//!
//! The newest are kept, and stand in a line; when there are more than are to be kept, the oldest go. Where somebody
//! [tidies up](crate::Store::tidy), those who end tasks leave it to that one, and help only if it does not keep up.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use taskloom_model::Timestamp;

use super::{Ended, Kept, MemoryStore};
use crate::Task;

/// How many ended tasks more than are to be kept may stand in line where somebody tidies up: if that one does not keep
/// up, those who end tasks help.
const SLACK: usize = 8_192;

/// There, they look every so many tasks whether they are to help.
const LOOK_EVERY: usize = 64;

impl MemoryStore {
    /// A task has ended: it no longer counts, and the oldest ended one may be forgotten.
    pub(super) fn retire(&self, task: &Arc<Task>, now: Timestamp) {
        if let Some(scheduled) = task.spec().scheduled() {
            self.schedules.ended(scheduled, task, now);
        }
        self.retire_plain(task, now);
    }

    /// Whether somebody forgets the ended tasks that are too many, so that those who end tasks need not look each time.
    pub(super) fn is_tidied(&self) -> bool {
        self.tidied.load(Ordering::Relaxed) && self.options.keep_finished > 0
    }

    /// The same for many that no schedule has submitted, where somebody tidies up.
    pub(super) fn retire_all(&self, tasks: Vec<Weak<Task>>, now: Timestamp) {
        let (ended, many) = (&self.workers.0, tasks.len());
        let count = ended.count.fetch_add(many, Ordering::Relaxed).wrapping_add(many);
        ended.kept.push(Kept::Lot(tasks));
        let len = count.wrapping_sub(self.forgotten.0.load(Ordering::Relaxed));
        if len > self.options.keep_finished.saturating_add(SLACK) {
            self.forget_oldest(2 * many, now);
        }
    }

    /// The same for one that no schedule has submitted.
    #[inline]
    pub(super) fn retire_plain(&self, task: &Arc<Task>, now: Timestamp) {
        let ended = &self.workers.0;
        let keep = self.options.keep_finished;
        let count = ended.count.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let tidied = self.tidied.load(Ordering::Relaxed);
        if tidied && keep > 0 && !count.is_multiple_of(LOOK_EVERY) {
            ended.kept.push(Kept::One(Arc::downgrade(task)));
            return;
        }
        let len = count.wrapping_sub(self.forgotten.0.load(Ordering::Relaxed));
        if keep == 0 && len == 1 && !self.is_needed(task, now) {
            self.forgotten.0.fetch_add(1, Ordering::Relaxed);
            self.tasks.remove(task);
            return;
        }
        ended.kept.push(Kept::One(Arc::downgrade(task)));
        let (slack, come) = if tidied { (SLACK, LOOK_EVERY) } else { (0, 1) };
        if len > keep.saturating_add(slack) {
            // One has come, so one goes; a second one goes where needed ones had made the line longer.
            self.forget_oldest(2 * come, now);
        }
    }

    /// Forgets ended tasks that are too many, looking at so many at most; whether all that it looked at were.
    pub(super) fn forget_oldest(&self, limit: usize, now: Timestamp) -> bool {
        (0..limit).all(|_| self.forget_one(now).is_some())
    }

    /// The same for whoever tidies up: the memory of those tasks is used again.
    pub(super) fn recycle_oldest(&self, limit: usize, now: Timestamp) -> bool {
        let mut count = 0;
        let gone = (0..limit).map_while(|_| self.forget_one(now)).inspect(|_| count += 1).flatten();
        Task::recycle(gone);
        count == limit
    }

    /// Looks at the oldest ended task, if they are too many, and takes it out of the table unless it is needed.
    fn forget_one(&self, now: Timestamp) -> Option<Option<Arc<Task>>> {
        let ended = &self.workers.0;
        // Counted first, or several who look at once would all take one.
        let keep = self.options.keep_finished;
        let count = ended.count.load(Ordering::Relaxed);
        let one_more = |forgotten: usize| {
            // It may be ahead of the count that was read.
            let len = count.wrapping_sub(forgotten).cast_signed().max(0).cast_unsigned();
            (len > keep).then(|| forgotten.wrapping_add(1))
        };
        let forgotten = &self.forgotten.0;
        forgotten.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        let Some(oldest) = ended.oldest() else {
            // It has been counted and is about to come.
            forgotten.fetch_sub(1, Ordering::Relaxed);
            return None;
        };
        let Some(task) = oldest.upgrade() else { return Some(None) };
        if self.is_needed(&task, now) {
            // To the end of the line, which is one longer for as long.
            ended.kept.push(Kept::One(oldest));
            forgotten.fetch_sub(1, Ordering::Relaxed);
            return Some(None);
        }
        // One that was started over is not found: its new generation gets a place when it ends.
        self.tasks.remove(&task);
        Some(Some(task))
    }

    /// Whether an attempt of its parent may still ask for it, or a submit that finds its unique key taken.
    pub(super) fn is_needed(&self, task: &Task, now: Timestamp) -> bool {
        let spec = task.spec();
        spec.unique().and_then(|unique| unique.until).is_some_and(|until| until > now)
            || spec
                .parent()
                .and_then(|parent| self.tasks.get(parent.id))
                .is_some_and(|parent| !parent.state().is_terminal())
    }
}

impl Ended {
    /// Takes the oldest one out of the line.
    fn oldest(&self) -> Option<Weak<Task>> {
        let mut first = self.first.lock();
        loop {
            if let Some(next) = first.next() {
                return Some(next);
            }
            match self.kept.pop()? {
                Kept::One(task) => return Some(task),
                Kept::Lot(tasks) => *first = tasks.into_iter(),
            }
        }
    }
}
