//! Whoever is on the way back joins the transaction that is being written.
//!
//! See [`crate::inbox`] for who is waited for, and why. The wait is inside the transaction, so that whoever writes can
//! insert the rows of those who are here while the others are coming: on few cores that is most of the work. It ends when
//! most are here, when something comes for which nobody waits here, or when its time is over, and is never longer than
//! [`Inbox::patience`](crate::inbox::Inbox::patience) in all: for so long at most other processes wait for the lock on the
//! file. Only the committer's own thread waits; a transaction with reports in it waits for nobody.

use std::sync::Arc;
use std::time::Duration;

use taskloom_store::{Insert, Task};

use crate::answer::Reply;
use crate::committer::Committer;
use crate::core::Core;
use crate::inbox::{FULL, Inbox};

impl Inbox {
    /// A transaction begins, which may wait for others or not.
    pub(crate) fn begin(&mut self, may_wait: bool) {
        self.open_until = if may_wait { crate::edge::deadline_in(self.patience()) } else { None };
        self.rested = Duration::ZERO;
    }
}

impl Committer {
    /// What has come since the transaction began that is being written, if it may have it too: `so_far` inserts are in it.
    pub(crate) fn late(&self, core: &Core, so_far: usize) -> Vec<(Insert, Reply<Vec<Arc<Task>>>)> {
        let mut inbox = self.inbox.lock();
        if let Some(until) = inbox.open_until
            && so_far < FULL
            && inbox.rests()
        {
            let began = core.clock.monotonic();
            inbox.gathering = true;
            while inbox.rests() {
                if self.arrived.wait_until(&mut inbox, until).timed_out() {
                    inbox.open_until = None;
                    break;
                }
            }
            inbox.gathering = false;
            inbox.rested += core.clock.monotonic().saturating_sub(began);
        }
        inbox.late(so_far)
    }
}
