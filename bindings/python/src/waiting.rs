//! Waiting for whichever of many tasks ends next.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::OnceLock;
use std::thread::ThreadId;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use pyo3::prelude::*;

use crate::handle::{TaskHandle, seconds, wait_for};

static MAIN: OnceLock<ThreadId> = OnceLock::new();

/// Whether the calling thread is the one on which Python runs signal handlers. If the module was first imported on
/// another thread, nobody knows, and every thread counts as the main one.
pub(crate) fn on_main_thread() -> bool {
    MAIN.get().is_none_or(|main| *main == std::thread::current().id())
}

/// Tells the module, at import, whether the importing thread is the main one.
#[pyfunction]
#[pyo3(name = "_imported_on_main_thread")]
pub(crate) fn imported_on_main_thread() {
    // A second import on the same thread says the same.
    let _ = MAIN.set(std::thread::current().id());
}

#[derive(Default)]
struct Arrived {
    indexes: Mutex<VecDeque<usize>>,
    more: Condvar,
}

/// Indexes of tasks, in the order in which the tasks end.
#[pyclass(frozen, module = "taskloom._native")]
pub(crate) struct Waiter(Arc<Arrived>);

#[pymethods]
impl Waiter {
    #[new]
    fn new() -> Self {
        Self(Arc::default())
    }

    /// Has `index` come when the task has ended.
    fn add(&self, handle: &Bound<'_, TaskHandle>, index: usize) {
        let arrived = Arc::clone(&self.0);
        handle.get().handle().task().observe(move |_| {
            arrived.indexes.lock().push_back(index);
            arrived.more.notify_one();
        });
    }

    /// The next index; None if none comes in time.
    fn next(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Option<usize>> {
        if let Some(index) = self.0.indexes.lock().pop_front() {
            return Ok(Some(index));
        }
        let timeout = seconds(timeout)?;
        let come = |slice: Option<Duration>| {
            let mut indexes = self.0.indexes.lock();
            while indexes.is_empty() {
                match slice {
                    Some(slice) => {
                        if self.0.more.wait_for(&mut indexes, slice).timed_out() {
                            break;
                        }
                    }
                    None => self.0.more.wait(&mut indexes),
                }
            }
            Ok(!indexes.is_empty())
        };
        wait_for(py, timeout, come)?;
        Ok(self.0.indexes.lock().pop_front())
    }
}
