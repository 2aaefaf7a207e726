//! A request that comes alone is written by the thread that made it.
//!
//! To wake the committer's thread, and to be woken by it, takes as long as many a sync of the disk. So where nobody is
//! writing, and the last transaction had no company in it either, the thread that waits for an answer writes on the spot, as
//! the committer would. Where many come at once they are left to the committer, which makes one transaction of them.
//!
//! A worker waits for no answer to its report. But if there is no other task for it to take, it has nothing better to do
//! than to write it: it *holds* the report, and writes it when it has left its foreign runtime to wait for the next task. In
//! between nothing is called that could take long or wait for that report: if it comes upon a task after all, or upon code of
//! a user's, it calls the committer instead. Nobody is kept waiting by a worker that writes: whatever becomes eligible
//! meanwhile does so in a transaction, and that would have to wait for this one in any case.
//!
//! What follows from a write runs where it was written, as it would on the committer's thread; a panic there is the
//! service's, and ends the engine.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::committer::{Committer, Here, Turn, die};
use crate::core::Core;
use crate::queues::Route;

impl Committer {
    /// Whether the last transaction had no company in it.
    fn is_quiet(&self) -> bool {
        self.company.load(Ordering::Relaxed) <= 1
    }

    /// Writes what has been handed in on the calling thread, if nobody else is at it and it is likely to be alone; whether
    /// it did.
    pub(crate) fn write_here(&self, core: &Arc<Core>) -> bool {
        if !self.is_quiet() {
            return false;
        }
        let Some(writing) = self.writing.try_lock() else { return false };
        let here = Here::new(core);
        // Its panic has been printed, and is the service's: the caller hears that the engine has ended.
        let died = catch_unwind(AssertUnwindSafe(|| self.turn(core, Turn::Prompt))).is_err();
        drop((here, writing));
        if died {
            die(core);
            self.arrived.notify_all();
            return true;
        }
        // Others may have come meanwhile, and what a store that failed has left is tried again.
        if self.inbox.lock().has_work(core) {
            self.arrived.notify_one();
        }
        true
    }

    /// Whether a worker that reports may hold the report, since it is likely to be free to write it in a moment.
    pub(crate) fn may_hold(&self, core: &Core) -> bool {
        self.is_quiet() && core.driver.is_none() && core.queues.is_empty(Route::Blocking)
    }

    /// Writes a report that the calling worker holds, or has it written if somebody else is at it.
    pub(crate) fn write_held(&self, core: &Arc<Core>) {
        if !self.write_here(core) {
            self.call();
        }
    }

    /// Has what was put in written by the committer's thread.
    pub(crate) fn call(&self) {
        self.arrived.notify_one();
    }
}
