//! Tasks of `async def` handlers on their way to an event loop.
//!
//! The engine wakes the [`Lane`]; the lane makes its socket readable, once until the loop has looked; the loop's reader
//! callback calls `take` and gets a batch of [`Job`]s. Everything on the loop's side is Python (`_loop.py`).

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use taskloom_engine::{Attempt, Completion, Engine, Handler, LoopHost};
use taskloom_model::TaskId;

use crate::context::NativeAttempt;
use crate::ffi::{self, HangOnUnwind};
use crate::handle::TaskHandle;
use crate::handler::{AsyncHandler, failed, succeeded};
use crate::host::Variables;
use crate::signal::Signal;
use crate::testing::note_interrupt;

/// The engine's way to an event loop.
pub(crate) struct Lane {
    signal: Signal,
    /// `cancel(id, attempt)` of the Python side; must be safe to call from any thread.
    cancel: Py<PyAny>,
    /// In testing mode, where no loop turns by itself: lets the handlers go on.
    step: Option<Py<PyAny>>,
}

impl LoopHost for Lane {
    fn wake(&self) {
        self.signal.raise();
    }

    fn step(&self) -> Duration {
        let Some(step) = &self.step else { return Duration::MAX };
        let wait = HangOnUnwind::around(|| {
            Python::attach(|py| {
                let wait = ffi::call_with(step.bind(py), ()).and_then(|wait| wait.extract::<i64>());
                wait.unwrap_or_else(|error| {
                    note_interrupt(py, &error);
                    ffi::report(py, error, Some(step.bind(py)));
                    -1
                })
            })
        });
        u64::try_from(wait).map_or(Duration::MAX, Duration::from_micros)
    }
}

impl Lane {
    pub(crate) fn cancel(&self, py: Python<'_>, (id, attempt): (TaskId, u32)) {
        let called = ffi::call_with(self.cancel.bind(py), (id.to_string(), attempt));
        if let Err(error) = called {
            ffi::report(py, error, None);
        }
    }
}

/// The event loop's end of the lane.
#[pyclass(frozen, module = "taskloom._native")]
pub(crate) struct AsyncLane {
    lane: Arc<Lane>,
    engine: Weak<Engine>,
}

impl AsyncLane {
    pub(crate) fn new(engine: &Arc<Engine>, cancel: Py<PyAny>, step: Option<Py<PyAny>>) -> PyResult<Self> {
        let lane = Arc::new(Lane { signal: Signal::new()?, cancel, step });
        Ok(Self { lane, engine: Arc::downgrade(engine) })
    }

    pub(crate) fn lane(&self) -> &Arc<Lane> {
        &self.lane
    }
}

#[pymethods]
impl AsyncLane {
    /// What the loop is to watch for reading.
    fn fileno(&self) -> i32 {
        self.lane.signal.fileno()
    }

    /// Whether this lane's loop runs the task.
    fn runs(&self, handle: &Bound<'_, TaskHandle>) -> bool {
        self.engine.upgrade().is_some_and(|engine| engine.runs_on_loop(handle.get().handle()))
    }

    /// Tasks to start, as many as there are places for.
    fn take(&self) -> Vec<Job> {
        self.lane.signal.clear();
        let Some(engine) = self.engine.upgrade() else { return Vec::new() };
        let mut started = Vec::new();
        engine.take(&mut started);
        started
            .into_iter()
            .map(|started| Job {
                _lane: Arc::clone(&self.lane),
                attempt: started.attempt,
                completion: Mutex::new(Some(started.completion)),
                handler: match started.entry.handler() {
                    Handler::Asynchronous(handler) => Arc::clone(handler).downcast::<AsyncHandler>().ok(),
                    Handler::Blocking(_) | Handler::Pooled(_) => None,
                },
            })
            .collect()
    }
}

/// One attempt of an `async def` handler.
#[pyclass(frozen, module = "taskloom._native")]
pub(crate) struct Job {
    /// As long as there is one, its handler may still be called; see `NativeApp::is_quiet`.
    _lane: Arc<Lane>,
    attempt: Attempt,
    completion: Mutex<Option<Completion>>,
    handler: Option<Arc<AsyncHandler>>,
}

#[pymethods]
impl Job {
    /// The task's id and the attempt's number: what `cancel` is called with.
    #[getter]
    fn key(&self) -> (String, u32) {
        (self.attempt.task().id().to_string(), self.attempt.fence().attempt)
    }

    /// The context variables of the submit, copied for this attempt.
    fn context<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        Variables::copy_of(py, self.attempt.task())
    }

    /// Calls the handler with its arguments; the coroutine that it returns.
    fn call(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let handler = self.handler.as_ref().ok_or_else(|| PyRuntimeError::new_err("not an async handler"))?;
        let parts = &handler.0;
        let attempt = &self.attempt;
        let (args, kwargs) = parts.arguments(py, attempt)?;
        parts.callable(py, attempt)?.call(args, kwargs.as_ref()).map(Bound::unbind)
    }

    /// What `Context` is made from.
    fn attempt(&self) -> NativeAttempt {
        NativeAttempt::new(self.attempt.clone())
    }

    /// The handler returned.
    fn succeed(&self, value: &Bound<'_, PyAny>) {
        if let (Some(completion), Some(handler)) = (self.completion.lock().take(), &self.handler) {
            let py = value.py();
            let outcome = succeeded(py, &handler.0, &self.attempt, value);
            // Settling may run observers, and none of that needs Python.
            completion.complete(outcome);
        }
    }

    /// The handler raised.
    fn fail(&self, error: &Bound<'_, PyAny>) {
        let completion = self.completion.lock().take();
        if let Some(completion) = completion {
            let py = error.py();
            let parts = self.handler.as_ref().map(|handler| &*handler.0);
            completion.complete(failed(py, parts, &self.attempt, PyErr::from_value(error.clone())));
        }
    }
}
