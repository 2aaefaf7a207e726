//! Done callbacks: functions of the user that are called when a task has ended.
//!
//! They run one after the other on a thread of their own, so that a slow one holds up neither a worker nor the
//! committer. The thread is started by the first callback and lives as long as the process; one that raises is
//! reported through `sys.unraisablehook`, and the next one is called.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};

use parking_lot::Mutex;
use pyo3::prelude::*;

use crate::entry;
use crate::ffi;
use crate::told;

/// Makes a function, and what it is to be called with.
type Call = Box<dyn FnOnce(Python<'_>) -> Option<(Py<PyAny>, Py<PyAny>)> + Send>;

/// How many callbacks were ever asked for, and how many have been called.
static ASKED: AtomicU64 = AtomicU64::new(0);
static CALLED: AtomicU64 = AtomicU64::new(0);

/// How many callbacks were asked for so far.
pub(crate) fn asked() -> u64 {
    ASKED.load(Ordering::SeqCst)
}

/// How many of them have been called: they are called in their order.
pub(crate) fn called() -> u64 {
    CALLED.load(Ordering::SeqCst)
}

static CALLS: Mutex<Option<(u32, Sender<Call>)>> = Mutex::new(None);

/// Has a function called soon. Needs no Python, and waits for nothing.
pub(crate) fn call_soon(make: impl FnOnce(Python<'_>) -> Option<(Py<PyAny>, Py<PyAny>)> + Send + 'static) {
    let mut calls = CALLS.lock();
    // The thread of a parent process is not ours.
    let process = std::process::id();
    if calls.as_ref().is_none_or(|(owner, _)| *owner != process) {
        let (sender, receiver) = channel::<Call>();
        // What a parent process asked for is its own business.
        CALLED.store(ASKED.load(Ordering::SeqCst), Ordering::SeqCst);
        let life = move || {
            told::tells_here();
            for make in receiver {
                // At the end of the program nobody is left to be called.
                let _ = entry::visit(|py, entry| {
                    let Some((function, argument)) = make(py) else { return };
                    entry.host(py, || {
                        if let Err(error) = ffi::call_with(function.bind(py), (argument,)) {
                            ffi::report(py, error, Some(function.bind(py)));
                        }
                        drop(function);
                    });
                });
                if CALLED.fetch_add(1, Ordering::SeqCst) + 1 >= asked() {
                    told::changed();
                }
            }
        };
        // If there is no thread, the channel is closed and the callback is dropped below.
        let _ = taskloom_engine::spawn_thread("taskloom-callbacks", life);
        *calls = Some((process, sender));
    }
    if let Some((_, sender)) = calls.as_ref() {
        ASKED.fetch_add(1, Ordering::SeqCst);
        if sender.send(Box::new(make)).is_err() {
            CALLED.fetch_add(1, Ordering::SeqCst);
        }
    }
}
