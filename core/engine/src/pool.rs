//! How many worker threads there are.
//!
//! The pool wants `target` threads that can take tasks. A thread that waits for another task, or is stuck in a
//! handler that was called off, cannot: it is *away*, and another is started in its place. When it comes back there
//! is one too many, and whichever thread next looks between two tasks leaves. So a parent that waits for its child
//! on a pool of one does not wait for ever, and a handler that never returns costs a thread, not the pool.
//!
//! All counts are under one lock, which a worker takes only when it starts, leaves, goes away or comes back; what it
//! looks at between tasks is one relaxed load (`surplus`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use taskloom_model::{Code, Error, Result};

use crate::core::Core;
use crate::{edge, worker};

/// The worker threads of an engine.
pub(crate) struct Pool {
    counts: Mutex<Counts>,
    changed: Condvar,
    surplus: AtomicBool,
}

struct Counts {
    /// How many can take tasks, if all is well; none before the start.
    target: usize,
    configured: usize,
    /// Threads that exist.
    alive: usize,
    /// Of those, how many cannot take tasks now.
    away: usize,
    /// Ever started, for their names.
    started: usize,
}

impl Pool {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            counts: Mutex::new(Counts { target: 0, configured: workers, alive: 0, away: 0, started: 0 }),
            changed: Condvar::new(),
            surplus: AtomicBool::new(false),
        }
    }

    /// Starts the threads, or starts anew those that have left while draining.
    pub(crate) fn start(&self, core: &Arc<Core>) -> Result<()> {
        {
            let mut counts = self.counts.lock();
            counts.target = counts.configured;
        }
        self.fill(core)
    }

    /// Starts as many threads as are missing.
    fn fill(&self, core: &Arc<Core>) -> Result<()> {
        loop {
            let number = {
                let mut counts = self.counts.lock();
                if counts.alive - counts.away >= counts.target {
                    return Ok(());
                }
                counts.alive += 1;
                counts.started += 1;
                counts.started
            };
            let own = Arc::clone(core);
            let life = move || {
                let _guard = Present(&own);
                worker::live(&own);
            };
            if let Err(error) = edge::spawn(format!("taskloom-worker-{number}"), life) {
                self.counts.lock().alive -= 1;
                return Err(Error::new(Code::StoreFailed, "the system would not start a worker thread")
                    .hint("lower workers=, or raise the limit of threads (ulimit -u)")
                    .caused_by(error));
            }
        }
    }

    /// The calling worker cannot take tasks for a while: another thread takes its place.
    pub(crate) fn go_away(&self, core: &Arc<Core>) {
        self.counts.lock().away += 1;
        // Without a replacement the engine is short of one thread, which is no reason to fail the task that waits.
        let _ = self.fill(core);
    }

    /// A thread that was away can take tasks again.
    pub(crate) fn came_back(&self) {
        let mut counts = self.counts.lock();
        counts.away -= 1;
        self.tell_surplus(&counts);
    }

    fn tell_surplus(&self, counts: &Counts) {
        self.surplus.store(counts.alive - counts.away > counts.target, Ordering::Relaxed);
    }

    /// Whether there is a thread too many.
    pub(crate) fn has_surplus(&self) -> bool {
        self.surplus.load(Ordering::Relaxed)
    }

    /// The calling worker offers to leave; whether it shall.
    pub(crate) fn leave(&self, stopped: bool) -> bool {
        let mut counts = self.counts.lock();
        let leaves = stopped || counts.alive - counts.away > counts.target;
        if leaves {
            self.gone(&mut counts);
        }
        leaves
    }

    /// The calling worker leaves, since there is nothing more to do.
    pub(crate) fn retire(&self) {
        self.gone(&mut self.counts.lock());
    }

    fn gone(&self, counts: &mut Counts) {
        counts.alive -= 1;
        self.tell_surplus(counts);
        LEFT.set(true);
        self.changed.notify_all();
    }

    /// Waits until no thread is left, or until the deadline; whether none is. Threads that are stuck do not count.
    pub(crate) fn wait_empty(&self, deadline: Option<Instant>) -> bool {
        let mut counts = self.counts.lock();
        while counts.alive > counts.away {
            match deadline {
                Some(deadline) => {
                    if self.changed.wait_until(&mut counts, deadline).timed_out() {
                        return counts.alive <= counts.away;
                    }
                }
                None => self.changed.wait(&mut counts),
            }
        }
        true
    }

    /// (threads, of which away)
    pub(crate) fn size(&self) -> (usize, usize) {
        let counts = self.counts.lock();
        (counts.alive, counts.away)
    }

    /// Whether it was ever started.
    pub(crate) fn was_started(&self) -> bool {
        self.counts.lock().target > 0
    }

    /// How many threads it was made for.
    pub(crate) fn configured(&self) -> usize {
        self.counts.lock().configured
    }
}

thread_local! {
    /// Whether this thread has been struck off already.
    static LEFT: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Strikes a thread off however it ends.
struct Present<'a>(&'a Arc<Core>);

impl Drop for Present<'_> {
    fn drop(&mut self) {
        if !LEFT.get() {
            self.0.pool.retire();
        }
    }
}
