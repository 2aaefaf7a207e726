//! How many worker threads there are.
//!
//! The pool wants `target` threads that can take tasks. A thread that waits for another task (it *lends* its place),
//! or is *stuck* in a handler that was called off, cannot: it is absent, and another is started in its place. When it
//! comes back there is one too many, and whichever thread next looks between two tasks leaves. So a parent that waits
//! for its child on a pool of one does not wait for ever, and a handler that never returns costs a thread, not the
//! pool.
//!
//! *Crowds.* What threads wait for comes before other tasks ([`crate::wanted`]). But one that need wait no longer may take a
//! while to be back, on few processors, and meanwhile those who stand in begin the next parents. So where more than
//! [`CROWD`] threads for each worker wait, nothing is taken from the lanes before those are back whose wait is over: that is
//! certain to come.
//!
//! # Invariants
//! * Only a living thread is absent, once, whatever its reasons: a thread can be stuck while it waits.
//! * `surplus` says whether more threads can take tasks than are wanted. It is written wherever one of the counts
//!   changes, under their lock; between tasks a worker only loads it.
//! * A thread that leaves is counted until it has left its foreign runtime too, so that whoever waits for the pool to
//!   be empty may tear that runtime down.
//! * While the engine drains, idle threads leave. Whoever pushes a task then looks whether there is a thread for it
//!   ([`Pool::fill`]), after the push; a thread leaves only if, under the lock, the lanes are still empty. So one of
//!   the two sees the other.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Condvar, Mutex, MutexGuard};
use taskloom_model::{Code, Error, Result};
use taskloom_store::Task;

use crate::core::Core;
use crate::queues::Route;
use crate::{edge, worker};

/// More threads than this, for each worker, that wait for tasks are a crowd.
const CROWD: usize = 8;

/// The worker threads of an engine.
pub(crate) struct Pool {
    counts: Mutex<Counts>,
    changed: Condvar,
    surplus: AtomicBool,
    crowd: AtomicBool,
}

struct Counts {
    /// How many can take tasks, if all is well; none before the start.
    target: usize,
    configured: usize,
    /// Threads that exist and mean to go on.
    alive: usize,
    /// Threads on their way out.
    leaving: usize,
    /// Ever started: the number of the newest.
    started: usize,
    /// Of those alive, the ones that cannot take tasks now, by number.
    absent: HashMap<usize, Absence>,
}

#[derive(Default)]
struct Absence {
    /// What it waits for.
    waits: Vec<Option<Arc<Task>>>,
    stuck: bool,
}

impl Counts {
    fn able(&self) -> usize {
        self.alive - self.absent.len()
    }
}

impl Pool {
    pub(crate) fn new(workers: usize) -> Self {
        let absent = HashMap::new();
        let counts = Counts { target: 0, configured: workers, alive: 0, leaving: 0, started: 0, absent };
        Self {
            counts: Mutex::new(counts),
            changed: Condvar::new(),
            surplus: AtomicBool::new(false),
            crowd: AtomicBool::new(false),
        }
    }

    /// Starts the threads.
    pub(crate) fn start(&self, core: &Arc<Core>) -> Result<()> {
        {
            let mut counts = self.counts.lock();
            counts.target = counts.configured;
        }
        self.fill(core)
    }

    /// Starts as many threads as are missing, if it was ever started.
    pub(crate) fn fill(&self, core: &Arc<Core>) -> Result<()> {
        if core.driver.is_some() {
            // Whoever drives it is all the threads that it has.
            return Ok(());
        }
        loop {
            let number = {
                let mut counts = self.counts.lock();
                if counts.able() >= counts.target || core.is_stopped() {
                    return Ok(());
                }
                counts.alive += 1;
                counts.started += 1;
                counts.started
            };
            let own = Arc::clone(core);
            let life = move || {
                let _guard = Present { core: &own, number };
                worker::live(&own, number);
            };
            if let Err(error) = edge::spawn(format!("taskloom-worker-{number}"), life) {
                self.change(|counts| counts.alive -= 1);
                return Err(Error::new(Code::StoreFailed, "the system would not start a worker thread")
                    .hint("lower workers=, or raise the limit of threads (ulimit -u)")
                    .caused_by(error));
            }
        }
    }

    // ── absence ─────────────────────────────────────────────────────────────────────────────────────────────────

    /// Runs `wait`, during which this worker cannot take tasks: another thread takes its place.
    pub(crate) fn lend<T>(
        &self,
        core: &Arc<Core>,
        number: usize,
        task: Option<&Arc<Task>>,
        wait: impl FnOnce() -> T,
    ) -> T {
        self.change(|counts| counts.absent.entry(number).or_default().waits.push(task.cloned()));
        if core.queues.are_shut() {
            core.trials.waits(core, core.running.on_thread(number));
        }
        if let Some(task) = task {
            core.run_awaited(task);
        }
        let wanted = task.and_then(|task| {
            core.claim_wanted(task);
            core.wants(task)
        });
        // Without a replacement the engine is short of one thread, which is no reason to fail the task that waits.
        let _ = self.fill(core);
        let value = wait();
        if let Some(task) = task {
            core.no_longer_wants(wanted, task);
        }
        let mut was_crowd = false;
        self.change(|counts| {
            was_crowd = self.crowd.load(Ordering::Relaxed);
            if let Some(absence) = counts.absent.get_mut(&number) {
                absence.waits.pop();
            }
            counts.absent.retain(|_, absence| absence.stuck || !absence.waits.is_empty());
        });
        if was_crowd {
            core.sleepers.notify_all();
        }
        value
    }

    /// A thread that runs one task by hand comes in, and gets a number. It never takes tasks from the lanes, so it
    /// counts as absent from the first.
    pub(crate) fn guest(&self) -> usize {
        let mut counts = self.counts.lock();
        counts.alive += 1;
        counts.started += 1;
        let number = counts.started;
        counts.absent.entry(number).or_default().waits.push(None);
        self.changed(&counts);
        number
    }

    /// Such a thread leaves.
    pub(crate) fn guest_leaves(&self, number: usize) {
        self.change(|counts| {
            counts.alive -= 1;
            counts.absent.remove(&number);
        });
    }

    /// Whether a thread cannot take tasks now.
    pub(crate) fn is_absent(&self, number: usize) -> bool {
        self.counts.lock().absent.contains_key(&number)
    }

    /// Whether there is a crowd, and one of it is about to be back.
    pub(crate) fn awaits_return(&self, core: &Core) -> bool {
        let over = |absence: &Absence| absence.waits.iter().flatten().any(|task| task.is_settled());
        self.crowd.load(Ordering::Relaxed) && core.is_open() && self.counts.lock().absent.values().any(over)
    }

    /// What the workers wait for.
    pub(crate) fn awaited(&self) -> Vec<Arc<Task>> {
        let counts = self.counts.lock();
        counts.absent.values().flat_map(|absence| absence.waits.iter().flatten().cloned()).collect()
    }

    /// A thread does not come back from its handler. The caller sees to it that this cannot come after
    /// [`Pool::came_back`], and then calls [`Pool::fill`].
    pub(crate) fn is_stuck(&self, number: usize) {
        self.change(|counts| counts.absent.entry(number).or_default().stuck = true);
    }

    /// A thread that was stuck has come back.
    pub(crate) fn came_back(&self, number: usize) {
        self.change(|counts| {
            counts.absent.remove(&number);
        });
    }

    // ── leaving ─────────────────────────────────────────────────────────────────────────────────────────────────

    /// Whether there is a thread too many.
    pub(crate) fn has_surplus(&self) -> bool {
        self.surplus.load(Ordering::Relaxed)
    }

    /// The calling worker offers to leave; whether it shall.
    pub(crate) fn leave(&self, core: &Core) -> bool {
        let mut counts = self.counts.lock();
        let leaves = core.is_stopped() || counts.able() > counts.target;
        if leaves {
            self.gone(&mut counts);
        }
        leaves
    }

    /// The calling worker leaves an engine that drains, unless there is something to take after all.
    pub(crate) fn retire(&self, core: &Core) -> bool {
        let mut counts = self.counts.lock();
        let leaves = core.queues.is_empty(Route::Blocking);
        if leaves {
            self.gone(&mut counts);
        }
        leaves
    }

    fn gone(&self, counts: &mut MutexGuard<'_, Counts>) {
        counts.alive -= 1;
        counts.leaving += 1;
        LEAVING.set(true);
        self.changed(counts);
    }

    fn change(&self, make: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.lock();
        make(&mut counts);
        self.changed(&counts);
    }

    fn changed(&self, counts: &Counts) {
        self.surplus.store(counts.able() > counts.target, Ordering::Relaxed);
        self.crowd.store(counts.absent.len() > CROWD * counts.configured, Ordering::Relaxed);
        self.changed.notify_all();
    }

    /// Makes whoever waits for the pool to be empty look at the deadline again.
    pub(crate) fn look_again(&self) {
        self.change(|_| ());
    }

    /// Waits until no thread is left but those that are stuck and the caller's own, or until the deadline of the
    /// shutdown. How many threads were ever started, if none is left.
    pub(crate) fn wait_empty(&self, core: &Core, myself: Option<usize>) -> Option<usize> {
        let mut counts = self.counts.lock();
        loop {
            let excused = |(number, absence): (&usize, &Absence)| absence.stuck || Some(*number) == myself;
            let excused = counts.absent.iter().filter(|entry| excused(*entry)).count();
            if counts.alive + counts.leaving <= excused {
                return Some(counts.started);
            }
            match core.stopping.deadline() {
                Some(deadline) => {
                    if self.changed.wait_until(&mut counts, deadline).timed_out() {
                        return None;
                    }
                }
                None => self.changed.wait(&mut counts),
            }
        }
    }

    // ── figures ─────────────────────────────────────────────────────────────────────────────────────────────────

    /// (threads, of which cannot take tasks now)
    pub(crate) fn size(&self) -> (usize, usize) {
        let counts = self.counts.lock();
        (counts.alive, counts.absent.len())
    }

    /// How many threads were ever started.
    pub(crate) fn ever_started(&self) -> usize {
        self.counts.lock().started
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
    /// Whether this thread is on its way out.
    static LEAVING: Cell<bool> = const { Cell::new(false) };
}

/// Strikes a thread off however it ends.
struct Present<'a> {
    core: &'a Arc<Core>,
    number: usize,
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        let pool = &self.core.pool;
        if LEAVING.get() {
            pool.change(|counts| counts.leaving -= 1);
        } else {
            // It died of a panic outside any handler. The pool keeps its size.
            pool.change(|counts| {
                counts.alive -= 1;
                counts.absent.remove(&self.number);
            });
            let _ = pool.fill(self.core);
        }
    }
}
