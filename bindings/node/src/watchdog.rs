//! Names the handler that keeps an environment from turning.
//!
//! An environment that does not turn runs no other handler and hears no result: from outside all of them look slow. So
//! each environment has a thread that asks it, every [`TICK`] while handlers run there, to come; it has not come for
//! [`LIMIT`] if a handler blocks it. JavaScript writes into words of its own, lent to us, which job's synchronous part
//! runs at each moment: that handler is to blame. If none is written there, but handlers are awaited, it may be a
//! continuation of one of those in flight, or code beside them, and that is what is said.
//!
//! # Invariants
//! * The thread is started by the first job, and sleeps where none has run for [`PATIENCE`] looks. Whoever begins a job
//!   looks at one flag.
//! * It is counted in looks as well as in turns, so that a process which was stopped blames nobody.
//! * The lent words are looked at under a lock, under which they are given back before the environment goes.
//! * The thread holds nothing of the environment while it waits, and ends with it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use taskloom_engine::spawn_thread;

use crate::port::{News, Port};
use crate::words::Lent;

/// How often it looks.
const TICK: Duration = Duration::from_millis(50);

/// So many looks without a turn, and the environment is blocked.
const LIMIT: u32 = 5;

/// So many looks at an environment where nothing runs, and the thread sleeps.
const PATIENCE: u32 = 40;

/// An environment's sign of life.
#[derive(Default)]
pub(crate) struct Pulse {
    /// Moved by each turn.
    turns: AtomicU64,
    /// The job whose synchronous part runs, plus one; and how many handlers are awaited.
    running: Mutex<Option<Lent>>,
    watched: AtomicBool,
    asleep: AtomicBool,
    ended: AtomicBool,
    guard: Mutex<()>,
    woken: Condvar,
}

/// A loop that is blocked, or was.
pub(crate) struct Blocked {
    /// The handler; those that may be to blame, if it cannot be told.
    pub(crate) handlers: Vec<&'static str>,
    /// Whether it is that one.
    pub(crate) is_sure: bool,
    /// For how long so far.
    pub(crate) span: Duration,
}

impl Pulse {
    /// JavaScript lends the words in which it says what runs.
    pub(crate) fn lend(&self, word: Lent) {
        *self.running.lock() = Some(word);
    }

    /// The loop turns.
    pub(crate) fn beat(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    /// A job begins in the environment.
    pub(crate) fn begin(&self, port: &Weak<Port>, own: &Arc<Self>) {
        if !self.watched.swap(true, Ordering::Relaxed) {
            let (port, own) = (port.clone(), Arc::clone(own));
            // Without a thread nothing is watched, and all else goes on.
            let _ = spawn_thread("taskloom-watchdog", move || watch(&port, &own));
        } else if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::SeqCst) {
            let _guard = self.guard.lock();
            self.woken.notify_all();
        }
    }

    /// The environment goes.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        *self.running.lock() = None;
        let _guard = self.guard.lock();
        self.woken.notify_all();
    }

    fn wait(&self, span: Duration) {
        let mut guard = self.guard.lock();
        if !self.ended.load(Ordering::SeqCst) {
            self.woken.wait_for(&mut guard, span);
        }
    }

    fn sleep(&self) {
        self.asleep.store(true, Ordering::SeqCst);
        let mut guard = self.guard.lock();
        while self.asleep.load(Ordering::SeqCst) && !self.ended.load(Ordering::SeqCst) {
            self.woken.wait(&mut guard);
        }
    }

    /// The job whose synchronous part runs, and how many handlers are awaited.
    fn running(&self) -> (Option<u32>, u32) {
        let [job, awaited] = self.running.lock().as_ref().map_or([0, 0], Lent::read);
        (job.checked_sub(1), awaited)
    }
}

fn watch(port: &Weak<Port>, pulse: &Pulse) {
    let (mut turns, mut looks, mut idle, mut told) = (0, 0, 0, false);
    while !pulse.ended.load(Ordering::SeqCst) {
        let Some(now) = port.upgrade() else { return };
        if now.in_flight() == 0 {
            (idle, looks, told) = (idle + 1, 0, false);
            drop(now);
            if idle >= PATIENCE {
                idle = 0;
                pulse.sleep();
            } else {
                pulse.wait(TICK);
            }
            continue;
        }
        idle = 0;
        let seen = pulse.turns.load(Ordering::Relaxed);
        if seen == turns {
            looks += 1;
        } else {
            (turns, looks, told) = (seen, 0, false);
        }
        if looks >= LIMIT && !told {
            told = true;
            blame(&now, pulse.running(), TICK * looks);
        }
        // Whoever turns is heard by the next look.
        now.ping();
        drop(now);
        pulse.wait(TICK);
    }
}

fn blame(port: &Port, (job, awaited): (Option<u32>, u32), span: Duration) {
    if job.is_none() && awaited == 0 {
        // Code that is none of ours.
        return;
    }
    let running = job.and_then(|job| {
        port.with_job(job, |job| {
            (job.attempt().task().spec().name.as_str(), job.attempt().task().id(), job.route.app)
        })
    });
    let is_sure = running.is_some();
    let blamed = running.map_or_else(|| port.in_flight_by_handler(), |one| vec![one]);
    for (handler, task, app) in &blamed {
        if let Some(engine) = port.app(*app).and_then(|seat| seat.running()) {
            engine.publish_blocked(*task, handler, span);
        }
    }
    let handlers = blamed.into_iter().map(|(handler, ..)| handler).collect();
    port.tell(News::Blocked(Blocked { handlers, span, is_sure }));
}
