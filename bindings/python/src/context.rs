//! What `taskloom.Context` is made of.

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use taskloom_engine::{Attempt, LentPlace, Needed};
use taskloom_store::Task;

use crate::app::read_options;
use crate::current;
use crate::errors::to_python;
use crate::ffi::HangOnUnwind;
use crate::handle::TaskHandle;

/// One attempt, as its handler sees it.
#[pyclass(frozen, name = "Attempt", module = "taskloom._native")]
pub(crate) struct NativeAttempt(Attempt);

impl NativeAttempt {
    pub(crate) fn new(attempt: Attempt) -> Self {
        Self(attempt)
    }

    pub(crate) fn attempt_itself(&self) -> &Attempt {
        &self.0
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

    /// The time by the app's clock, in microseconds since the epoch.
    #[getter]
    fn now(&self) -> i64 {
        self.0.now().micros()
    }

    fn progress(&self, py: Python<'_>, value: f64, message: Option<String>) -> PyResult<()> {
        py.detach(|| self.0.progress(value, message)).map_err(|error| to_python(py, &error))
    }

    fn log(&self, py: Python<'_>, level: &str, message: String) -> PyResult<()> {
        py.detach(|| self.0.log(level, message)).map_err(|error| to_python(py, &error))
    }

    #[getter]
    fn tags(&self) -> Vec<String> {
        self.0.task().spec().tags().to_vec()
    }

    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        metadata_of(py, self.0.task())
    }

    #[getter]
    fn schedule(&self) -> Option<(String, i64)> {
        let scheduled = self.0.task().spec().scheduled()?;
        Some((scheduled.schedule.clone(), scheduled.tick.micros()))
    }

    #[getter]
    fn correlation_id(&self) -> Option<String> {
        self.0.task().spec().rare.as_ref().and_then(|rare| rare.correlation_id.clone())
    }

    /// Microseconds since the epoch at which the task must have ended.
    #[getter]
    fn deadline(&self) -> Option<i64> {
        self.0.task().spec().deadline().map(taskloom_model::Timestamp::micros)
    }

    /// Publishes an event of the user's own; `data` is JSON.
    fn publish(&self, py: Python<'_>, name: &str, data: &str) -> PyResult<()> {
        self.0.publish(name, data).map_err(|error| to_python(py, &error))
    }

    /// Notes something beside the result; `value` is JSON.
    fn note_result(&self, py: Python<'_>, key: &str, value: &str) -> PyResult<()> {
        self.0.note_result(key, value).map_err(|error| to_python(py, &error))
    }

    /// For a handler on an event loop that is about to wait for another task: lends its place in flight.
    fn lend_place(&self, py: Python<'_>, awaited: &Bound<'_, TaskHandle>) -> Lent {
        let handle = awaited.get().handle();
        let lent = HangOnUnwind::around(|| py.detach(|| (self.0.lend_place(), handle.needed())));
        Lent(Mutex::new(Some(lent)))
    }

    fn save_checkpoint(&self, py: Python<'_>, value: Option<Vec<u8>>) -> PyResult<()> {
        let value = value.map(Vec::into_boxed_slice);
        py.detach(|| self.0.save_checkpoint(value)).map_err(|error| to_python(py, &error))
    }

    /// Submits a child by its handler's name; `payload` is the JSON of the arguments.
    fn submit_by_name(
        &self,
        py: Python<'_>,
        name: &str,
        payload: Vec<u8>,
        allow_unknown: bool,
        detached: bool,
        options: &Bound<'_, PyDict>,
    ) -> PyResult<TaskHandle> {
        let options = read_options(py, Some(options))?;
        let payload = payload.into_boxed_slice();
        let submit = || self.0.submit_by_name(name, allow_unknown, &options, payload.into(), detached);
        let handle = HangOnUnwind::around(|| py.detach(submit)).map_err(|error| to_python(py, &error))?;
        Ok(TaskHandle::new(handle, None))
    }

    fn load_checkpoint<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.0.checkpoint().map(|bytes| PyBytes::new(py, &bytes))
    }
}

/// The place in flight of an attempt that waits.
#[pyclass(frozen, name = "_Lent", module = "taskloom._native")]
pub(crate) struct Lent(Mutex<Option<(LentPlace, Option<Needed>)>>);

#[pymethods]
impl Lent {
    /// The wait is over.
    fn take_back(&self) {
        self.0.lock().take();
    }
}

/// A task's metadata as a dict.
pub(crate) fn metadata_of<'py>(py: Python<'py>, task: &Task) -> PyResult<Bound<'py, PyDict>> {
    let metadata = PyDict::new(py);
    if let Some(rare) = &task.spec().rare {
        for (key, value) in &rare.metadata {
            metadata.set_item(key, value)?;
        }
    }
    Ok(metadata)
}

/// The attempt whose blocking handler runs on this thread, if any.
#[pyfunction]
#[pyo3(name = "_current_attempt")]
pub(crate) fn current_attempt() -> Option<NativeAttempt> {
    current::attempt().map(NativeAttempt)
}
