//! Awaiting: how outcomes reach the futures of an event loop.
//!
//! A handle is no future. Awaiting it makes a private future of the running loop and registers it with the loop's
//! [`Port`]. When the task settles, on whatever thread, the future's number is put on the port's list and the loop is
//! woken, once for however many outcomes come before it looks. The loop then sets the futures that nobody has
//! cancelled. So cancelling an await leaves the task alone, and a loop that is closed is simply never asked again: its
//! port goes with it.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use crate::signal::Signal;

pub(crate) struct Arrivals {
    signal: Signal,
    keys: Mutex<Vec<u64>>,
}

impl Arrivals {
    /// Something that was waited for has come. Called on any thread.
    pub(crate) fn arrive(&self, key: u64) {
        self.keys.lock().push(key);
        self.signal.raise();
    }
}

/// One event loop's port.
#[pyclass(frozen, weakref, module = "taskloom._native")]
pub(crate) struct Port {
    arrivals: Arc<Arrivals>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    last: u64,
    /// What was given with each key: a function to call, on the loop, when it has come.
    entries: HashMap<u64, Py<PyAny>>,
}

impl Port {
    /// Keeps `then`, to be called on the loop once the key that comes back has arrived.
    pub(crate) fn expect(&self, then: Py<PyAny>) -> (u64, Arc<Arrivals>) {
        let mut waiting = self.waiting.lock();
        waiting.last += 1;
        let key = waiting.last;
        waiting.entries.insert(key, then);
        (key, Arc::clone(&self.arrivals))
    }
}

#[pymethods]
impl Port {
    #[new]
    fn new() -> PyResult<Self> {
        let arrivals = Arrivals { signal: Signal::new()?, keys: Mutex::default() };
        Ok(Self { arrivals: Arc::new(arrivals), waiting: Mutex::default() })
    }

    /// What the loop is to watch for reading.
    fn fileno(&self) -> i32 {
        self.arrivals.signal.fileno()
    }

    /// What to call now.
    fn arrived(&self) -> Vec<Py<PyAny>> {
        self.arrivals.signal.clear();
        let keys = std::mem::take(&mut *self.arrivals.keys.lock());
        let mut waiting = self.waiting.lock();
        keys.iter().filter_map(|key| waiting.entries.remove(key)).collect()
    }

    // The lock is only ever held by a thread that is attached and stays so, so the collector need not wait for it.

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.waiting.lock().entries.values().try_for_each(|then| visit.call(then))
    }

    fn __clear__(&self) {
        // Dropped without the lock: what they hold may come back here as it goes.
        let entries = std::mem::take(&mut self.waiting.lock().entries);
        drop(entries);
    }
}
