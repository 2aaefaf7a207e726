//! Waiting, at the end of an app, until callbacks and subscribers have been told what there is to tell.
//!
//! They run on threads of their own, so that nothing waits for them while an app runs. But whoever leaves its block, and
//! perhaps ends the program, wants the last lines too. So a stop waits for them, for a few seconds at most: one that
//! blocks must not hold up the end for ever. On such a thread itself there is nothing to wait for but oneself.

use std::cell::Cell;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use pyo3::prelude::*;

use crate::callbacks;
use crate::events::Listener;
use crate::handle::wait_for;

thread_local! {
    /// Whether this thread calls callbacks or a subscriber.
    static TELLS: Cell<bool> = const { Cell::new(false) };
}

static LOCK: Mutex<()> = Mutex::new(());
static CHANGED: Condvar = Condvar::new();

/// Notes that the calling thread is one that callbacks or a subscriber are called on.
pub(crate) fn tells_here() {
    TELLS.set(true);
}

/// One of those threads has come to the end of what it had to tell.
pub(crate) fn changed() {
    let _guard = LOCK.lock();
    CHANGED.notify_all();
}

/// Waits until these listeners have ended and all callbacks of this moment have been called; at most so many seconds.
#[pyfunction(name = "_await_told")]
pub(crate) fn await_told(py: Python<'_>, listeners: Vec<Py<Listener>>, seconds: f64) -> PyResult<()> {
    let Ok(limit) = Duration::try_from_secs_f64(seconds) else { return Ok(()) };
    let asked = callbacks::asked();
    let all_told =
        || callbacks::called() >= asked && listeners.iter().all(|listener| !listener.get().is_reading());
    if TELLS.get() || limit.is_zero() || all_told() {
        return Ok(());
    }
    let wait = |slice: Option<Duration>| {
        let mut guard = LOCK.lock();
        if !all_told() {
            CHANGED.wait_for(&mut guard, slice.unwrap_or(limit));
        }
        Ok(all_told())
    };
    wait_for(py, Some(limit), wait).map(drop)
}
