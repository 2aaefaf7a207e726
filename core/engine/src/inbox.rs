//! What waits to be written: the next group.
//!
//! # What it owns
//! * what submitters, workers and timers have handed in since the last transaction began;
//! * the bell that is rung when all of that is answered. Whoever waits for an answer sleeps on it: one call to the system
//!   wakes a whole group, and none is woken that is still to wait.
//!
//! # Gathering
//! Those who submit one task after the other come back the moment their last one is committed. If the first of them were
//! written alone, the others would have to wait for two syncs of the disk: for its, and for theirs. So small inserts join the
//! transaction that is being written until it commits, so that nobody's way here and nobody's row have to wait for each other
//! ([`Inbox::late`]). And after a transaction for which many waited the next one is not committed before most of them have
//! come back, or as much time has passed as the last one took ([`Inbox::is_open`]). Whoever comes then would have waited
//! for as long if they had come a moment earlier. If they do not come back, the next group is expected to be as small as this
//! one was. A request that comes alone never waits for company, nor does a group while something is in the inbox for which
//! nobody waits here: a worker's report may be what somebody else waits for.
//!
//! The thread that writes sleeps meanwhile, and is not called for each one that comes, but when there are [`HANDFUL`]
//! to write.

use std::sync::Arc;
use std::time::{Duration, Instant};

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

/// Whoever writes sleeps until so many have come.
const HANDFUL: usize = 16;

/// A transaction that has so many inserts takes in no others: whoever is in it waits for all of it, and so do other
/// processes.
pub(crate) const FULL: usize = 256;

/// Nor does it take in an insert of more tasks than this.
const SMALL: usize = 16;

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
    /// How many wait for what is in here.
    waiting: usize,
    /// How many wait for what is being written.
    inside: usize,
    /// How many waited for the last transaction, and how long it took.
    last: (usize, Duration),
    /// Something is in here for which nobody waits.
    mixed: bool,
    /// Groups that joined the one that is being written.
    joined: Vec<Group>,
    /// Whoever writes sleeps until more have come.
    pub(crate) gathering: bool,
    /// Until when the transaction that is being written waits for others, if it does, and how long it has.
    pub(crate) open_until: Option<Instant>,
    pub(crate) rested: Duration,
}

/// Who waits for the answer to what is put in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waits {
    /// The thread that puts it in.
    Here,
    /// Somebody who is told, such as a coroutine.
    Elsewhere,
    /// Nobody.
    Nobody,
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

    /// Something was put in. A thread that is about to wait for the answer does so on what is returned.
    pub(crate) fn put_in(&mut self, waits: Waits) -> Option<Arc<Bell>> {
        if waits == Waits::Nobody {
            self.hurry();
            return None;
        }
        self.waiting += 1;
        if self.inserts.last().is_some_and(|(insert, _)| insert.tasks.len() > SMALL) {
            // It must wait for the next transaction in any case.
            self.hurry();
        }
        (waits == Waits::Here).then(|| Arc::clone(self.bell.get_or_insert_default()))
    }

    /// Something was put in for which nobody waits.
    pub(crate) fn hurry(&mut self) {
        self.mixed = true;
    }

    /// The group begins to be written: who waits for it, to be told when all of it is answered.
    pub(crate) fn close(&mut self) -> Group {
        self.mixed = false;
        let group = self.group();
        self.inside = group.waiting;
        group
    }

    fn group(&mut self) -> Group {
        Group { bell: self.bell.take(), waiting: std::mem::take(&mut self.waiting) }
    }

    /// Inserts that may join the group that is being written, which has so many by now.
    pub(crate) fn late(&mut self, so_far: usize) -> Vec<(Insert, Reply<Vec<Arc<Task>>>)> {
        let is_small = |(insert, _): &(Insert, _)| insert.tasks.len() <= SMALL;
        if self.hurries() || so_far >= FULL || !self.inserts.iter().all(is_small) {
            return Vec::new();
        }
        if !self.inserts.is_empty() {
            let joined = self.group();
            self.inside += joined.waiting;
            self.joined.push(joined);
        }
        std::mem::take(&mut self.inserts)
    }

    /// Whether something is in here that is not to wait for others.
    fn hurries(&self) -> bool {
        self.mixed || self.poked || self.stopping || !self.commits.is_empty()
    }

    /// A group was written, with those that joined it, and it took so long, waits for them included. All of them are to
    /// be told.
    pub(crate) fn written(&mut self, group: Group, took: Duration) -> Groups {
        let mut groups = Groups(std::mem::take(&mut self.joined));
        groups.0.push(group);
        self.last = (groups.waiting(), took.saturating_sub(std::mem::take(&mut self.rested)));
        groups
    }

    /// For how long the transaction that begins may be kept open for others, in all.
    pub(crate) fn patience(&self) -> Duration {
        self.last.1.min(PATIENCE)
    }

    /// Whether the transaction that is being written should be kept open: more are likely to come.
    pub(crate) fn is_open(&self) -> bool {
        let (came, _) = self.last;
        // One in eight may have gone elsewhere.
        came >= GROUP && self.inside + self.waiting < came - came / 8 && !self.hurries()
    }

    /// Whether whoever writes has nothing to do until more have come.
    pub(crate) fn rests(&self) -> bool {
        self.waiting < HANDFUL && self.is_open()
    }

    /// Whether the thread that writes is to be told that something was put in.
    pub(crate) fn calls(&self) -> bool {
        !self.gathering || !self.rests()
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

/// All those who wait for one transaction.
pub(crate) struct Groups(Vec<Group>);

impl Groups {
    /// How many threads they are.
    pub(crate) fn waiting(&self) -> usize {
        self.0.iter().map(|group| group.waiting).sum()
    }
}

#[cfg(test)]
mod tests {
    use taskloom_model::{Admission, Name, TaskId, Timestamp, admit};

    use super::*;
    use crate::answer::Answer;

    const TOOK: Duration = Duration::from_micros(300);

    /// An inbox after a transaction for which so many waited.
    fn after(waited: usize) -> Inbox {
        let mut inbox = Inbox::default();
        let bells: Vec<_> = (0..waited).filter_map(|_| inbox.put_in(Waits::Here)).collect();
        let group = inbox.close();
        assert!(bells.iter().all(|bell| !bell.is_rung()));
        drop(inbox.written(group, TOOK));
        assert!(bells.iter().all(|bell| bell.is_rung()));
        inbox
    }

    fn insert(tasks: usize) -> (Insert, Reply<Vec<Arc<Task>>>) {
        let task = || {
            let (id, now) = (TaskId::from_bytes([1; 16]), Timestamp::from_micros(0));
            let (spec, row, _) =
                admit(&Admission::default(), id, Name::new("job"), Default::default(), now).unwrap();
            Task::new(spec, row, None)
        };
        let tasks = (0..tasks).map(|_| task()).collect();
        (Insert { tasks, verdict: None }, Answer::new().1)
    }

    #[test]
    fn most_of_those_who_waited_are_waited_for() {
        let mut inbox = after(64);
        assert_eq!(inbox.patience(), TOOK);
        inbox.put_in(Waits::Here);
        let _first = inbox.close();
        for come in 1..56 {
            assert!(inbox.is_open(), "{come} have come");
            inbox.inserts.push(insert(1));
            inbox.put_in(if come % 5 == 0 { Waits::Elsewhere } else { Waits::Here });
            inbox.gathering = true;
            let handful = come % HANDFUL == 0;
            assert_eq!(inbox.calls(), handful || come == 55);
            if handful {
                assert_eq!(inbox.late(come - HANDFUL).len(), HANDFUL);
            }
        }
        assert!(!inbox.is_open(), "the others may come with the next one");
        assert_eq!(inbox.late(48).len(), 7);
    }

    #[test]
    fn nobody_waits_for_company_who_had_none() {
        for waited in [0, 1, GROUP - 1] {
            let mut inbox = after(waited);
            inbox.put_in(Waits::Here);
            let _first = inbox.close();
            assert!(!inbox.is_open(), "{waited}");
        }
    }

    #[test]
    fn what_others_wait_for_hurries() {
        let hurries: [fn(&mut Inbox); 3] =
            [Inbox::hurry, |inbox| inbox.poked = true, |inbox| inbox.stopping = true];
        for hurry in hurries {
            let mut inbox = after(64);
            let _first = inbox.close();
            inbox.put_in(Waits::Here);
            inbox.inserts.push(insert(1));
            assert!(inbox.is_open());
            hurry(&mut inbox);
            assert!(!inbox.is_open());
            assert!(inbox.late(0).is_empty(), "nor does anybody go before it");
        }
    }

    #[test]
    fn small_inserts_join_until_it_is_full() {
        let mut inbox = Inbox::default();
        let group = inbox.close();
        let bell = inbox.put_in(Waits::Here).unwrap();
        inbox.inserts.push(insert(SMALL));
        assert!(inbox.late(FULL).is_empty());
        assert_eq!(inbox.late(FULL - 1).len(), 1);
        inbox.inserts.push(insert(SMALL + 1));
        assert!(inbox.late(1).is_empty());
        assert!(!bell.is_rung());
        let groups = inbox.written(group, TOOK);
        assert_eq!(groups.waiting(), 1);
        drop(groups);
        assert!(bell.is_rung());
        assert_eq!(inbox.inserts.len(), 1, "it is the next one's");
    }
}
