//! Done callbacks: functions of the user that are called when a task has ended.
//!
//! They run one after the other on a thread of their own, so that a slow one holds up neither a worker nor the
//! committer. The thread is started by the first callback and lives as long as the process; one that raises is
//! reported through `sys.unraisablehook`, and the next one is called.

use std::sync::mpsc::{Sender, channel};

use parking_lot::Mutex;
use pyo3::prelude::*;

use crate::ffi::{self, HangOnUnwind};

type Call = (Py<PyAny>, Py<PyAny>);

static CALLS: Mutex<Option<(u32, Sender<Call>)>> = Mutex::new(None);

/// Has `function(argument)` called soon.
pub(crate) fn call_soon(function: Py<PyAny>, argument: Py<PyAny>) {
    let mut calls = CALLS.lock();
    // The thread of a parent process is not ours.
    let process = std::process::id();
    if calls.as_ref().is_none_or(|(owner, _)| *owner != process) {
        let (sender, receiver) = channel::<Call>();
        let life = move || {
            for (function, argument) in receiver {
                HangOnUnwind::around(|| {
                    Python::attach(|py| {
                        if let Err(error) = ffi::call_with(function.bind(py), (argument,)) {
                            ffi::report(py, error, Some(function.bind(py)));
                        }
                        drop(function);
                    });
                });
            }
        };
        // If there is no thread, the channel is closed and the callback is dropped below.
        let _ = taskloom_engine::spawn_thread("taskloom-callbacks", life);
        *calls = Some((process, sender));
    }
    if let Some((_, sender)) = calls.as_ref() {
        let _ = sender.send((function, argument));
    }
}
