//! The lane of async handlers in testing mode: it turns only when the engine is driven, on the thread that drives.
//!
//! # What it owns
//! The [`Job`]s that are not over, by number; the line of those that were woken, oldest first; and a tokio runtime of one
//! thread, which is nobody's but the driver's: handlers are polled in its context, so that what they spawn and the timers
//! and sockets that they use find it.
//!
//! # Invariants
//! * A job is in the line as often as it was woken, and polled in that order; so the same wakes give the same run.
//! * No lock is held while a job is polled or dropped. A handler that drives the engine comes here again and finds that
//!   somebody is at it.
//! * The engine holds the lane, and lets go of it when it stops; the jobs that are left go with it.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use taskloom_engine::LoopHost;
use taskloom_model::Result;
use tokio::runtime::{Builder, Handle as Tokio, Runtime};

use crate::app::WeakApp;
use crate::attempts::Attempts;
use crate::helpers::no_thread;
use crate::lane::Job;

/// The jobs that were woken.
#[derive(Default)]
struct Line(Mutex<VecDeque<u64>>);

/// Wakes one job.
struct Ticket {
    number: u64,
    line: Arc<Line>,
}

impl Wake for Ticket {
    fn wake(self: Arc<Self>) {
        self.line.0.lock().push_back(self.number);
    }
}

/// See the module's essay.
pub(crate) struct DrivenLane {
    app: WeakApp,
    attempts: Arc<Attempts>,
    woken: AtomicBool,
    at_work: AtomicBool,
    line: Arc<Line>,
    jobs: Mutex<Jobs>,
    /// Taken only by the drop.
    runtime: Option<Runtime>,
}

#[derive(Default)]
struct Jobs {
    made: u64,
    by_number: HashMap<u64, Pin<Box<Job>>>,
}

impl DrivenLane {
    pub(crate) fn new(app: WeakApp, attempts: Arc<Attempts>) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(no_thread)?;
        Ok(Self {
            app,
            attempts,
            woken: AtomicBool::new(false),
            at_work: AtomicBool::new(false),
            line: Arc::default(),
            jobs: Mutex::default(),
            runtime: Some(runtime),
        })
    }

    /// Takes what there is to begin; whether there was anything.
    fn take(&self) -> bool {
        let mut started = Vec::new();
        if self.woken.swap(false, Ordering::Relaxed)
            && let Some(app) = self.app.upgrade()
        {
            app.shared.engine.take(&mut started);
        }
        let any = !started.is_empty();
        for started in started {
            let job = Box::pin(Job::new(&self.app, &self.attempts, started));
            let mut jobs = self.jobs.lock();
            jobs.made += 1;
            let number = jobs.made;
            jobs.by_number.insert(number, job);
            self.line.0.lock().push_back(number);
        }
        any
    }

    /// Polls the job that was woken first; whether there was one.
    fn poll(&self) -> bool {
        let Some(number) = self.line.0.lock().pop_front() else { return false };
        let job = self.jobs.lock().by_number.remove(&number);
        let Some(mut job) = job else { return true };
        let waker = Waker::from(Arc::new(Ticket { number, line: Arc::clone(&self.line) }));
        if job.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            self.jobs.lock().by_number.insert(number, job);
        }
        true
    }

    /// Lets what the handlers have spawned go on for a moment.
    fn turn(&self) {
        // On a thread of another runtime tokio does not allow it.
        if let Some(runtime) = &self.runtime
            && Tokio::try_current().is_err()
        {
            runtime.block_on(tokio::task::yield_now());
        }
    }
}

impl LoopHost for DrivenLane {
    fn wake(&self) {
        self.woken.store(true, Ordering::Relaxed);
    }

    fn step(&self) -> Duration {
        if self.at_work.swap(true, Ordering::Relaxed) {
            return Duration::MAX;
        }
        let mut any = false;
        loop {
            let mut more = self.take();
            {
                let _context = self.runtime.as_ref().map(Runtime::enter);
                while self.poll() {
                    more = true;
                }
            }
            if !self.jobs.lock().by_number.is_empty() {
                self.turn();
            }
            any |= more;
            if !more && self.line.0.lock().is_empty() {
                break;
            }
        }
        self.at_work.store(false, Ordering::Relaxed);
        if any { Duration::ZERO } else { Duration::MAX }
    }
}

impl Drop for DrivenLane {
    fn drop(&mut self) {
        let jobs = std::mem::take(&mut self.jobs.get_mut().by_number);
        if let Some(runtime) = self.runtime.take() {
            {
                let _context = runtime.enter();
                drop(jobs);
            }
            runtime.shutdown_background();
        }
    }
}
