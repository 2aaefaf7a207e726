//! Waiting for whichever of many tasks ends next.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use pyo3::prelude::*;
use taskloom_engine::Handle;

use crate::errors::to_python;
use crate::ffi;
use crate::handle::{TaskHandle, seconds, wait_for};
use crate::testing::drive;

/// The main thread, as CPython names it; 0 while nobody knows.
static MAIN: AtomicU64 = AtomicU64::new(0);

/// Whether the calling thread is the one on which Python runs signal handlers. If the module was first imported on
/// another thread, nobody knows, and every thread counts as the main one.
pub(crate) fn on_main_thread() -> bool {
    match MAIN.load(Ordering::Relaxed) {
        0 => true,
        main => main == ffi::thread_ident(),
    }
}

/// Tells the module that the calling thread is the main one: at import, and in a forked child.
#[pyfunction]
#[pyo3(name = "_imported_on_main_thread")]
pub(crate) fn imported_on_main_thread() {
    MAIN.store(ffi::thread_ident(), Ordering::Relaxed);
}

#[derive(Default)]
struct Arrived {
    indexes: Mutex<VecDeque<usize>>,
    more: Condvar,
}

/// Indexes of tasks, in the order in which the tasks end.
#[pyclass(frozen, module = "taskloom._native")]
pub(crate) struct Waiter {
    arrived: Arc<Arrived>,
    /// What is waited for, without those at the front that have ended.
    pending: Mutex<VecDeque<Handle>>,
}

impl Waiter {
    /// The first that has not ended.
    fn first(&self) -> Option<Handle> {
        let mut pending = self.pending.lock();
        while pending.front().is_some_and(Handle::is_done) {
            pending.pop_front();
        }
        pending.front().cloned()
    }
}

#[pymethods]
impl Waiter {
    #[new]
    fn new() -> Self {
        Self { arrived: Arc::default(), pending: Mutex::default() }
    }

    /// Has `index` come when the task has ended.
    fn add(&self, handle: &Bound<'_, TaskHandle>, index: usize) -> PyResult<()> {
        if !handle.get().handle().is_done() {
            handle.get().handle().check_process().map_err(|error| to_python(handle.py(), &error))?;
        }
        let arrived = Arc::clone(&self.arrived);
        self.pending.lock().push_back(handle.get().handle().clone());
        handle.get().observe(handle.py(), move |_| {
            arrived.indexes.lock().push_back(index);
            arrived.more.notify_one();
        });
        Ok(())
    }

    /// The next index; None if none comes in time.
    fn next(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Option<usize>> {
        let arrived = &*self.arrived;
        if let Some(index) = arrived.indexes.lock().pop_front() {
            return Ok(Some(index));
        }
        let timeout = seconds(timeout)?;
        if let Some(first) = self.first().filter(Handle::is_driven) {
            drive(py, || first.wait(timeout))?;
            return Ok(arrived.indexes.lock().pop_front());
        }
        let come = |slice: Option<Duration>| {
            let mut indexes = arrived.indexes.lock();
            while indexes.is_empty() {
                match slice {
                    Some(slice) => {
                        if arrived.more.wait_for(&mut indexes, slice).timed_out() {
                            break;
                        }
                    }
                    None => arrived.more.wait(&mut indexes),
                }
            }
            !indexes.is_empty()
        };
        wait_for(py, timeout, |slice| match self.first() {
            Some(first) => {
                if timeout.is_none() {
                    first.check_waitable()?;
                }
                Ok(first.lending(|| come(slice)))
            }
            // All have ended; the last are about to arrive.
            None => Ok(come(slice)),
        })?;
        Ok(arrived.indexes.lock().pop_front())
    }
}
