//! What `taskloom.Context` is made of.

use std::cell::RefCell;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use taskloom_engine::Attempt;

use crate::errors::to_python;

thread_local! {
    /// The attempt whose blocking handler runs on this thread.
    pub(crate) static CURRENT: RefCell<Option<Attempt>> = const { RefCell::new(None) };
}

/// One attempt, as its handler sees it.
#[pyclass(frozen, name = "Attempt", module = "taskloom._native")]
pub(crate) struct NativeAttempt(Attempt);

impl NativeAttempt {
    pub(crate) fn new(attempt: Attempt) -> Self {
        Self(attempt)
    }
}

#[pymethods]
impl NativeAttempt {
    #[getter]
    fn id(&self) -> String {
        self.0.task().id().to_string()
    }

    #[getter]
    fn name(&self) -> &'static str {
        self.0.task().spec().name.as_str()
    }

    #[getter]
    fn queue(&self) -> &'static str {
        self.0.task().spec().queue.as_str()
    }

    #[getter]
    fn attempt(&self) -> u32 {
        self.0.fence().attempt
    }

    #[getter]
    fn failures(&self) -> u32 {
        self.0.task().with_row(|row| row.failures)
    }

    #[getter]
    fn cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Seconds that the attempt may still take.
    #[getter]
    fn time_left(&self) -> Option<f64> {
        self.0.time_left().map(|span| span.as_secs_f64())
    }

    fn progress(&self, py: Python<'_>, value: f64, message: Option<String>) -> PyResult<()> {
        py.detach(|| self.0.progress(value, message)).map_err(|error| to_python(py, &error))
    }

    fn save_checkpoint(&self, py: Python<'_>, value: Option<Vec<u8>>) -> PyResult<()> {
        let value = value.map(Vec::into_boxed_slice);
        py.detach(|| self.0.save_checkpoint(value)).map_err(|error| to_python(py, &error))
    }

    fn load_checkpoint<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.0.checkpoint().map(|bytes| PyBytes::new(py, &bytes))
    }
}

/// The attempt whose blocking handler runs on this thread, if any.
#[pyfunction]
#[pyo3(name = "_current_attempt")]
pub(crate) fn current_attempt() -> Option<NativeAttempt> {
    CURRENT.with_borrow(|current| current.clone().map(NativeAttempt))
}
