//! What waits to be written: the next group.
//!
//! # What it owns
//! * what submitters, workers and timers have handed in since the last transaction began;
//! * the bell that is rung when all of that is answered. Whoever waits for an answer sleeps on it: one call to the system
//!   wakes a whole group, and none is woken that is still to wait.
//!
//! # Gathering
//! Threads that submit one task after the other come back the moment their last one is committed. The first of them
//! would be written alone, and the others would have to wait for two syncs of the disk: for its, and for theirs. So after a
//! transaction for which many waited the committer lets most of them come before it begins the next, for no longer than
//! the last one took ([`Inbox::patience`]). Whoever comes then would have waited for as long if they had come a moment
//! earlier. If they do not come back, the next group is expected to be as small as this one was. A request that comes
//! alone never waits for company, nor does a group with something in it for which no thread waits here: a worker's report
//! may be what somebody else waits for.

use std::sync::Arc;
use std::time::Duration;

use taskloom_store::{Commit, Insert, Task};
use taskloom_sync::Bell;

use crate::answer::Reply;
use crate::batch::Origin;
use crate::claims::{More, room};
use crate::core::Core;

/// A group is waited for only if the last one had so many members: smaller ones gain nothing.
const GROUP: usize = 8;

/// How long it is waited for, at most.
const PATIENCE: Duration = Duration::from_millis(1);

/// See the module.
#[derive(Default)]
pub(crate) struct Inbox {
    pub(crate) inserts: Vec<(Insert, Reply<Vec<Arc<Task>>>)>,
    pub(crate) commits: Vec<(Commit, Origin)>,
    /// Tasks that another process has ended.
    pub(crate) ended: Vec<Arc<Task>>,
    pub(crate) running: bool,
    pub(crate) stopping: bool,
    pub(crate) poked: bool,
    pub(crate) more: More,
    /// Rung when what is in here is answered; there is one as soon as somebody waits.
    bell: Option<Arc<Bell>>,
    /// How many threads wait for what is in here.
    waiting: usize,
    /// How many waited for the last transaction, and how long it took.
    last: (usize, Duration),
    /// Something is in here for which no thread waits.
    mixed: bool,
    /// The committer lets more come.
    pub(crate) gathering: bool,
}

impl Inbox {
    pub(crate) fn has_work(&self, core: &Core) -> bool {
        let something = !self.inserts.is_empty() || !self.commits.is_empty() || !self.ended.is_empty();
        something || self.poked || room(core, self.more).is_some()
    }

    /// Whether somebody waits for an answer.
    pub(crate) fn is_awaited(&self) -> bool {
        let waits = |(_, origin): &(Commit, Origin)| matches!(origin, Origin::Caller(_) | Origin::Unbegun(_));
        !self.inserts.is_empty() || self.commits.iter().any(waits)
    }

    /// A thread has put something in, and is about to wait for the answer: on this.
    pub(crate) fn wait(&mut self) -> Arc<Bell> {
        self.waiting += 1;
        Arc::clone(self.bell.get_or_insert_default())
    }

    /// Something was put in for which no thread waits.
    pub(crate) fn hurry(&mut self) {
        self.mixed = true;
    }

    /// The group begins to be written: who waits for it, to be told when all of it is answered.
    pub(crate) fn close(&mut self) -> Group {
        self.mixed = false;
        Group { bell: self.bell.take(), waiting: std::mem::take(&mut self.waiting) }
    }

    /// A group was written, and it took so long.
    pub(crate) fn written(&mut self, group: &Group, took: Duration) {
        self.last = (group.waiting, took);
    }

    /// For how long the committer should let more come, at most; `None` if it is to begin.
    pub(crate) fn patience(&self) -> Option<Duration> {
        let (came, took) = self.last;
        let few = came >= GROUP && self.waiting < came - came / 4;
        let hurries = self.waiting == 0 || self.mixed || self.poked || self.stopping;
        (few && !hurries).then_some(took.min(PATIENCE))
    }

    /// Whether the committer is to be told that something was put in.
    pub(crate) fn calls(&self) -> bool {
        !self.gathering || self.patience().is_none()
    }
}

/// Those who wait for a group. Told when it is dropped, however that comes about.
pub(crate) struct Group {
    bell: Option<Arc<Bell>>,
    waiting: usize,
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(bell) = &self.bell {
            bell.ring();
        }
    }
}
