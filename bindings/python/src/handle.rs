//! `TaskHandle`: a submitted task, as its submitter sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pyo3::exceptions::{PyStopIteration, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyInt, PyList, PyString, PyType};
use taskloom_engine::Handle;
use taskloom_model::{Code, Error, Row};
use taskloom_store::Task;

use crate::callbacks::call_soon;
use crate::context::metadata_of;
use crate::decode::decode_any;
use crate::encode::with_buffer;
use crate::errors::{helper_in, raise, shorten, to_python};
use crate::ffi::{self, HangOnUnwind};
use crate::host::exception_of;
use crate::info::info_of;
use crate::plan::Plan;
use crate::port::Port;
use crate::reference::Reference;
use crate::testing::wait_driven;
use crate::waiting::on_main_thread;

/// How often a wait on the main thread looks for Ctrl-C.
const SIGNALS: Duration = Duration::from_millis(50);

/// Whether an event loop was ever made to run handlers: only then can a wait block the loop that must end it.
pub(crate) static LOOPS_EXIST: AtomicBool = AtomicBool::new(false);

/// A submitted task. See `TaskHandle` in `taskloom/_native.pyi`.
///
/// The memory of those that die is used again, up to two megabytes of it. A new one then lies where the one before it was
/// followed by it last time, and not among the arguments of other calls; nor does the collector count it.
#[pyclass(frozen, module = "taskloom", freelist = 32768)]
pub(crate) struct TaskHandle {
    handle: Handle,
    plan: Option<Py<Plan>>,
}

impl TaskHandle {
    pub(crate) fn new(handle: Handle, plan: Option<Py<Plan>>) -> Self {
        Self { handle, plan }
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    fn row<T>(&self, look: impl FnOnce(&Row) -> T) -> T {
        self.handle.task().with_row(look)
    }

    /// The row as it is now, whichever process changed it.
    fn row_now<T>(&self, py: Python<'_>, look: impl FnOnce(&Row) -> T) -> T {
        self.refresh(py);
        self.row(look)
    }

    fn refresh(&self, py: Python<'_>) {
        if self.handle.may_be_stale() {
            // The store may be waiting for the disk.
            HangOnUnwind::around(|| py.detach(|| self.handle.refresh()));
        }
    }

    /// Calls `observer` once when the task has ended.
    pub(crate) fn observe(&self, py: Python<'_>, observer: impl FnOnce(&Arc<Task>) + Send + 'static) {
        if self.handle.may_be_stale() {
            // It looks at the store, which may be waiting for the disk.
            HangOnUnwind::around(|| py.detach(|| self.handle.observe(observer)));
        } else {
            self.handle.observe(observer);
        }
    }

    /// The outcome of a task that has ended.
    fn value(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if let Some(reference) = Reference::of(self.handle.task())
            && let Some(result) = reference.result(py)
        {
            return Ok(result);
        }
        with_buffer(|bytes| match self.handle.read_outcome(bytes) {
            Ok(()) => match &self.plan {
                Some(plan) => plan.get().decode_result(py, bytes),
                None => decode_any(py, bytes),
            },
            Err(error) => Err(self.exception(py, &error)),
        })
    }

    /// The exception for a task that did not succeed. `_failures.outcome` makes it, of the parts.
    fn exception(&self, py: Python<'_>, error: &Error) -> PyErr {
        if !matches!(error.code(), Code::TaskFailed | Code::TaskTimedOut | Code::TaskCancelled) {
            return to_python(py, error);
        }
        let make = || -> PyResult<PyErr> {
            let reason = self.row(|row| row.history.as_ref().and_then(|history| history.reason.clone()));
            let cause = exception_of(py, self.handle.task());
            let outcome = helper_in(py, "taskloom._failures", "outcome")?;
            let class = format!("{:?}", error.kind());
            let made = ffi::call_with(&outcome, (class, error.message(), self.errors(py)?, reason, cause))?;
            Ok(PyErr::from_value(made))
        };
        make().unwrap_or_else(|error| error)
    }
}

#[pymethods]
impl TaskHandle {
    #[getter]
    fn id(&self) -> String {
        self.handle.id().to_string()
    }

    #[getter]
    fn name(&self) -> &'static str {
        self.handle.task().spec().name.as_str()
    }

    #[getter]
    fn queue(&self) -> &'static str {
        self.handle.task().spec().queue.as_str()
    }

    #[getter]
    fn state(&self, py: Python<'_>) -> &'static str {
        self.row_now(py, |row| row.state).as_str()
    }

    fn done(&self, py: Python<'_>) -> bool {
        self.refresh(py);
        self.handle.is_done()
    }

    #[getter]
    fn attempt(&self, py: Python<'_>) -> u32 {
        self.row_now(py, |row| row.attempt)
    }

    #[getter]
    fn failures(&self, py: Python<'_>) -> u32 {
        self.row_now(py, |row| row.failures)
    }

    /// What `Progress` is made of in Python: `(value, message, seconds since the epoch)` of each step.
    #[getter]
    fn progress(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let told = self.row_now(py, |row| row.history.as_ref().map(|history| history.progress.clone()));
        let steps: Vec<_> = told
            .into_iter()
            .flatten()
            .map(|told| (told.value, told.message, told.at.micros() as f64 / 1e6))
            .collect();
        if steps.is_empty() {
            return Ok(None);
        }
        let make = helper_in(py, "taskloom._info", "_progress")?;
        Ok(Some(ffi::call_with(&make, (steps,))?.unbind()))
    }

    /// The lines that its handlers logged.
    #[getter]
    fn log<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let lines = self.row_now(py, |row| row.history.as_ref().map(|history| history.log.clone()));
        let make = helper_in(py, "taskloom._info", "LogLine")?;
        let when = helper_in(py, "taskloom._info", "_time")?;
        let list = PyList::empty(py);
        for line in lines.into_iter().flatten() {
            let at = ffi::call_with(&when, (line.at.micros(),))?;
            list.append(ffi::call_with(&make, (at, line.level, line.message, line.attempt))?)?;
        }
        Ok(list)
    }

    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        metadata_of(py, self.handle.task())
    }

    #[getter]
    fn tags(&self) -> Vec<String> {
        self.handle.task().spec().tags().to_vec()
    }

    /// What the handler noted beside its result.
    #[getter]
    fn result_metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let noted =
            self.row_now(py, |row| row.history.as_ref().and_then(|history| history.result_metadata.clone()));
        match noted {
            Some(json) => Ok(decode_any(py, &json)?.into_bound(py)),
            None => Ok(PyDict::new(py).into_any()),
        }
    }

    #[getter]
    fn children(&self, py: Python<'_>) -> PyResult<Vec<Self>> {
        let children = HangOnUnwind::around(|| py.detach(|| self.handle.children()))
            .map_err(|error| to_python(py, &error))?;
        Ok(children.into_iter().map(|handle| Self::new(handle, None)).collect())
    }

    /// Every field, for `TaskInfo`.
    fn _info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.refresh(py);
        info_of(py, self.handle.task())
    }

    fn info(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        let make = helper_in(slf.py(), "taskloom._info", "_task_info")?;
        Ok(ffi::call_with(&make, (slf,))?.unbind())
    }

    #[getter]
    fn errors<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let errors = self.row_now(py, |row| row.errors().to_vec());
        let make = helper_in(py, "taskloom._failures", "AttemptError")?;
        let list = PyList::empty(py);
        for error in errors {
            let at = error.at.micros() as f64 / 1e6;
            list.append(ffi::call_with(
                &make,
                (error.kind, error.message, error.backtrace, error.attempt, at),
            )?)?;
        }
        Ok(list)
    }

    #[pyo3(signature = (timeout = None))]
    fn result(slf: &Bound<'_, Self>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        let own = slf.get();
        // Also of a task that has ended: what is wrong is wrong every time.
        let timeout = seconds(timeout)?;
        if !own.handle.is_done() {
            Self::wait(slf, timeout)?;
        }
        own.value(slf.py())
    }

    #[pyo3(signature = (reason = None))]
    fn cancel(&self, py: Python<'_>, reason: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        if let Some(wrong) = reason.filter(|reason| !reason.is_instance_of::<PyString>()) {
            let message = format!("reason is {}; it must be a text", shorten(wrong));
            return Err(raise(py, "InvalidOptions", "TL1001", message, None));
        }
        let reason = reason.map(|reason| reason.extract::<&str>()).transpose()?;
        py.detach(|| self.handle.cancel(reason)).map_err(|error| to_python(py, &error))
    }

    fn add_done_callback(slf: &Bound<'_, Self>, function: Py<PyAny>) -> PyResult<()> {
        if !function.bind(slf.py()).is_callable() {
            return Err(PyTypeError::new_err("add_done_callback takes a function of the handle"));
        }
        let own = slf.clone().unbind();
        slf.get().observe(slf.py(), move |_| call_soon(move |_| Some((function, own.into_any()))));
        Ok(())
    }

    fn __await__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let own = slf.get();
        if own.handle.is_done() {
            return Ok(Ready::new(own.value(py)).into_pyobject(py)?.into_any().unbind());
        }
        own.check_waitable(py)?;
        let future = ffi::call_with(&helper_in(py, "taskloom._loop", "await_handle")?, (slf,))?;
        Ok(ffi::call_with(&future.getattr("__await__")?, ())?.unbind())
    }

    /// Whether its app is in testing mode.
    #[getter]
    fn _is_driven(&self) -> bool {
        self.handle.is_driven()
    }

    /// Has `then` called on the port's loop when the task has ended.
    fn _expect(&self, port: &Bound<'_, Port>, then: Py<PyAny>) {
        let (key, arrivals) = port.get().expect(then);
        self.observe(port.py(), move |_| arrivals.arrive(key));
    }

    #[classmethod]
    fn __class_getitem__(cls: &Bound<'_, PyType>, _item: &Bound<'_, PyAny>) -> Py<PyType> {
        cls.clone().unbind()
    }

    fn __repr__(&self) -> String {
        format!(
            "<TaskHandle {} {} {}>",
            self.handle.task().spec().name,
            self.handle.id(),
            self.handle.state()
        )
    }
}

impl TaskHandle {
    /// Refuses a wait that only the waiting thread could end.
    fn check_waitable(&self, py: Python<'_>) -> PyResult<()> {
        self.handle.check_waitable().map_err(|error| to_python(py, &error))
    }

    fn wait(slf: &Bound<'_, Self>, timeout: Option<Duration>) -> PyResult<()> {
        let (py, own) = (slf.py(), slf.get());
        if timeout.is_none() {
            own.check_waitable(py)?;
        }
        if LOOPS_EXIST.load(Ordering::Relaxed) {
            ffi::call_with(&helper_in(py, "taskloom._loop", "check_not_on_its_loop")?, (slf,))?;
        }
        if own.handle.is_driven() {
            return wait_driven(py, own, timeout).map(drop);
        }
        wait_for(py, timeout, |slice| own.handle.wait(slice)).map(|_| ())
    }
}

/// Waits outside Python, in slices on the main thread, so that Ctrl-C is heard; whether what was waited for has come.
pub(crate) fn wait_for(
    py: Python<'_>,
    timeout: Option<Duration>,
    wait: impl Fn(Option<Duration>) -> Result<bool, Error> + Sync,
) -> PyResult<bool> {
    let detached = |span: Option<Duration>| {
        HangOnUnwind::around(|| py.detach(|| wait(span))).map_err(|error| to_python(py, &error))
    };
    if !on_main_thread() {
        return detached(timeout);
    }
    let mut left = timeout;
    loop {
        let slice = left.map_or(SIGNALS, |left| left.min(SIGNALS));
        if detached(Some(slice))? {
            return Ok(true);
        }
        py.check_signals()?;
        if let Some(rest) = &mut left {
            *rest = rest.saturating_sub(slice);
            if rest.is_zero() {
                return Ok(false);
            }
        }
    }
}

/// A timeout in seconds, or as a timedelta.
pub(crate) fn seconds(value: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Duration>> {
    let Some(value) = value.filter(|value| !value.is_none()) else { return Ok(None) };
    let py = value.py();
    if let Ok(seconds) = value.cast_exact::<PyFloat>()
        && seconds.value() >= 0.0
    {
        return Ok(Duration::try_from_secs_f64(seconds.value()).ok());
    }
    if value.is_exact_instance_of::<PyInt>()
        && let Ok(seconds) = value.extract::<u32>()
    {
        return Ok(Some(Duration::from_secs(seconds.into())));
    }
    let seconds: f64 =
        ffi::call_with(&helper_in(py, "taskloom._options", "seconds")?, ("timeout", value))?.extract()?;
    // More than a Duration holds is for ever.
    Ok(Duration::try_from_secs_f64(seconds).ok())
}

/// An await that is over before it began.
#[pyclass(module = "taskloom._native")]
pub(crate) struct Ready(Option<PyResult<Py<PyAny>>>);

impl Ready {
    pub(crate) fn new(value: PyResult<Py<PyAny>>) -> Self {
        Self(Some(value))
    }
}

#[pymethods]
impl Ready {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&mut self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self.0.take() {
            // The value goes into a tuple of its own, or a result that is a tuple would be taken for the arguments.
            Some(Ok(value)) => Err(PyStopIteration::new_err((value,))),
            Some(Err(error)) => Err(error),
            None => Err(to_python(py, &Error::new(Code::InvalidOption, "this await is over"))),
        }
    }
}
