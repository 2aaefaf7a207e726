//! The app's own helper threads: the one that runs hooks, and one for each subscriber.
//!
//! They run users' code that is no task: it may block, panic, or never return, and no task may suffer for it. So a
//! helper is never joined without a limit. When an app stops, it waits a while for its helpers to take what is left; one
//! that does not come to an end goes on alone, and ends when its user's code does.
//!
//! # Invariants
//! * A panic is caught, so that the thread lives on. It is explained on standard error once for each piece of user code:
//!   one that always panics would fill a log otherwise. (Rust's own panic message is printed each time, as always.)
//! * A helper that stops its own app does not wait for itself.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ThreadId;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use taskloom_engine::{Clock, SystemClock, spawn_thread};
use taskloom_model::{Code, Error, Result};

#[derive(Debug, Default)]
struct Life {
    /// Which thread it is, once it is there; and whether it has ended.
    state: Mutex<(Option<ThreadId>, bool)>,
    ended: Condvar,
}

/// The helper threads of an app.
#[derive(Debug, Default)]
pub(crate) struct Helpers(Mutex<Vec<Arc<Life>>>);

impl Helpers {
    /// Starts one.
    pub(crate) fn start(&self, name: &str, body: impl FnOnce() + Send + 'static) -> Result<()> {
        struct Ends(Arc<Life>);
        impl Drop for Ends {
            fn drop(&mut self) {
                self.0.state.lock().1 = true;
                self.0.ended.notify_all();
            }
        }
        let life = Arc::new(Life::default());
        {
            let mut lives = self.0.lock();
            lives.retain(|life| !life.state.lock().1);
            lives.push(Arc::clone(&life));
        }
        let ends = Ends(life);
        spawn_thread(name, move || {
            ends.0.state.lock().0 = Some(std::thread::current().id());
            body();
            drop(ends);
        })
        .map_err(no_thread)
    }

    /// Whether any has not ended.
    pub(crate) fn are_running(&self) -> bool {
        self.0.lock().iter().any(|life| !life.state.lock().1)
    }

    /// Waits until all have ended, but for the calling thread; for at most so long.
    pub(crate) fn wait(&self, span: Duration) {
        let me = std::thread::current().id();
        let give_up = SystemClock.monotonic() + span;
        let lives = self.0.lock().clone();
        for life in lives {
            let mut state = life.state.lock();
            while !state.1 && state.0 != Some(me) {
                let left = give_up.saturating_sub(SystemClock.monotonic());
                if left.is_zero() {
                    return;
                }
                life.ended.wait_for(&mut state, left);
            }
        }
    }
}

/// The system would not start a thread.
pub(crate) fn no_thread(error: std::io::Error) -> Error {
    Error::new(Code::StoreFailed, "the system would not start a thread").caused_by(error)
}

/// Calls user code that is no task. `told` says whether a panic of it has been explained already.
pub(crate) fn guarded(told: &AtomicBool, what: impl FnOnce() -> String, call: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(call)).is_err() && !told.swap(true, Ordering::Relaxed) {
        eprintln!(
            "taskloom: {} panicked; no task is affected, and it will be called again (told once)",
            what()
        );
    }
}
