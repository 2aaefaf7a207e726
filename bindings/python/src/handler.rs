//! Python functions as handlers: calling them, and what their returning or raising means.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};
use taskloom_engine::{Attempt, Blocking, Failed, Handle, Hook, Moment, Outcome};
use taskloom_model::Version;

use crate::callbacks::call_soon;
use crate::context::NativeAttempt;
use crate::current;
use crate::errors::helper_in;
use crate::ffi;
use crate::handle::TaskHandle;
use crate::host::{Variables, forget_inputs, keep_exception};
use crate::plan::Plan;
use crate::reference::Reference;
use crate::retry_rules::verdict;
use crate::runtime::interruptible;
use crate::testing::note_interrupt;
use crate::variables::{EmptyContext, run_in};

/// What a registered function is run with.
pub(crate) struct Parts {
    pub(crate) function: Py<PyAny>,
    pub(crate) plan: Py<Plan>,
    /// `Context`, to be called with a [`NativeAttempt`].
    pub(crate) context: Py<PyAny>,
    pub(crate) version: Version,
    /// What is called on success, retry and failure.
    pub(crate) hooks: Option<[Option<Py<PyAny>>; 3]>,
    /// The app's functions around each execution.
    pub(crate) middleware: Py<PyList>,
    /// What decides by the exception whether there is another attempt.
    pub(crate) retry_rules: Option<Py<PyAny>>,
    /// What makes a key of a submit's arguments.
    pub(crate) key_of: Option<Py<PyAny>>,
    /// How many hooks are still to be called: until then nobody may take them apart.
    pub(crate) untold: AtomicUsize,
}

impl Parts {
    /// What to call with the arguments: the function, or the middleware around it.
    pub(crate) fn callable<'py>(&self, py: Python<'py>, attempt: &Attempt) -> PyResult<Bound<'py, PyAny>> {
        let function = self.function.bind(py);
        let middleware = self.middleware.bind(py);
        if middleware.is_empty() {
            return Ok(function.clone());
        }
        let around = helper_in(py, "taskloom._middleware", "around")?;
        ffi::call_with(&around, (middleware, function, NativeAttempt::new(attempt.clone())))
    }
}

type Arguments<'py> = (Bound<'py, PyTuple>, Option<Bound<'py, PyDict>>);

impl Parts {
    /// The arguments of an attempt.
    pub(crate) fn arguments<'py>(&self, py: Python<'py>, attempt: &Attempt) -> PyResult<Arguments<'py>> {
        self.arguments_of(py, attempt, Reference::of(attempt.task()))
    }

    fn arguments_of<'py>(
        &self,
        py: Python<'py>,
        attempt: &Attempt,
        reference: Option<&Reference>,
    ) -> PyResult<Arguments<'py>> {
        let task = attempt.task();
        let context = |py| {
            ffi::call_with(self.context.bind(py), (NativeAttempt::new(attempt.clone()),)).map(Bound::unbind)
        };
        let by_reference = reference.map(|reference| reference.call(py)).transpose()?.flatten();
        let Some((args, kwargs)) = by_reference else {
            return self.plan.get().decode_call(py, &task.spec().payload, context);
        };
        if !self.plan.get().takes_context() {
            return Ok((args, kwargs));
        }
        let with = helper_in(py, "taskloom._call", "with_context")?;
        ffi::call_with(&with, (&self.function, args, kwargs, context(py)?))?.extract()
    }
}

/// The hooks of a handler. They are called one after the other on the thread of callbacks.
pub(crate) struct Hooks(pub(crate) Arc<Parts>);

impl Hook for Hooks {
    fn tell(&self, handle: &Handle, moment: Moment) {
        if self.hook(moment).is_none() {
            return;
        }
        // Who tells must not wait for Python: what Python needs is made where it is called.
        let (own, handle) = (Untold::new(&self.0), handle.clone());
        call_soon(move |py| {
            let hook = own.0.hook(moment)?.clone_ref(py);
            let handle = Py::new(py, TaskHandle::new(handle, Some(own.0.0.plan.clone_ref(py)))).ok()?;
            Some((hook, handle.into_any()))
        });
    }
}

/// Hooks of which one waits to be called. Only here does it have a reference that the collector cannot see.
struct Untold(Hooks);

impl Untold {
    fn new(parts: &Arc<Parts>) -> Self {
        parts.untold.fetch_add(1, Ordering::SeqCst);
        Self(Hooks(Arc::clone(parts)))
    }
}

impl Drop for Untold {
    fn drop(&mut self) {
        self.0.0.untold.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Hooks {
    fn hook(&self, moment: Moment) -> Option<&Py<PyAny>> {
        let [on_success, on_retry, on_failure] = self.0.hooks.as_ref()?;
        match moment {
            Moment::Success => on_success,
            Moment::Retry => on_retry,
            Moment::Failure => on_failure,
        }
        .as_ref()
    }
}

/// A `def` handler, for a worker thread.
pub(crate) struct BlockingHandler(pub(crate) Arc<Parts>);

/// An `async def` handler, for an event loop.
pub(crate) struct AsyncHandler(pub(crate) Arc<Parts>);

impl Blocking for BlockingHandler {
    fn run(&self, attempt: &Attempt) -> Outcome {
        // The worker thread is attached already; this is a look at a thread-local count.
        Python::attach(|py| {
            let reference = Reference::of(attempt.task());
            current::during(attempt, || match (self.call(py, attempt, reference), reference) {
                (Ok(value), Some(reference)) => returned(reference, value),
                (Ok(value), None) => succeeded(py, &self.0, attempt, &value),
                (Err(error), _) => failed(py, Some(&self.0), attempt, error),
            })
        })
    }
}

impl BlockingHandler {
    fn call<'py>(
        &self,
        py: Python<'py>,
        attempt: &Attempt,
        reference: Option<&Reference>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let parts = &self.0;
        let task = attempt.task();
        let around =
            if parts.middleware.bind(py).is_empty() { None } else { Some(parts.callable(py, attempt)?) };
        let function = around.as_ref().unwrap_or_else(|| parts.function.bind(py));
        let (args, kwargs) = parts.arguments_of(py, attempt, reference)?;
        let running = (task.id(), attempt.fence().attempt);
        let run = |context: &Bound<'py, PyAny>| {
            interruptible(py, running, || run_in(context, function, &args, kwargs.as_ref()))
        };
        let own = match reference {
            Some(reference) => reference.variables.copy(py)?,
            None => Variables::copy_of(py, task)?,
        };
        if let Some(own) = own {
            return run(&own);
        }
        let empty = EmptyContext::take(py)?;
        let value = run(empty.context(py));
        empty.give_back(py);
        value
    }
}

/// The outcome of a handler that returned, of a task by reference.
fn returned(reference: &Reference, value: Bound<'_, PyAny>) -> Outcome {
    reference.keep(value.unbind());
    reference.forget();
    Outcome::Succeeded { result: Default::default(), metadata: None }
}

/// The outcome of a handler that returned.
pub(crate) fn succeeded(
    py: Python<'_>,
    parts: &Parts,
    attempt: &Attempt,
    value: &Bound<'_, PyAny>,
) -> Outcome {
    if let Some(reference) = Reference::of(attempt.task()) {
        return returned(reference, value.clone());
    }
    match parts.plan.get().encode_result(py, value) {
        Ok(result) => {
            forget_inputs(attempt.task());
            Outcome::Succeeded { result: result.into_boxed_slice().into(), metadata: None }
        }
        Err(error) => {
            // Another attempt would return the like of it again.
            let mut failure = describe(py, attempt, error.value(py).as_any());
            failure.permanent = true;
            keep(py, attempt, &error);
            Outcome::Failed(failure)
        }
    }
}

/// The outcome of a handler that raised.
pub(crate) fn failed(py: Python<'_>, parts: Option<&Parts>, attempt: &Attempt, error: PyErr) -> Outcome {
    note_interrupt(py, &error);
    if let Some((key, wait)) = postponed(py, attempt, error.value(py).as_any()) {
        return Outcome::Postponed { key, wait };
    }
    let task = attempt.task();
    let failures = task.with_row(|row| row.failures);
    let is_last = failures >= task.spec().retries;
    let rules = parts.and_then(|parts| parts.retry_rules.as_ref());
    // An attempt that was called off has had its verdict. Asked before the description takes the exception's frames.
    let said = rules
        .filter(|_| !is_last && !attempt.is_cancelled())
        .and_then(|rules| verdict(rules.bind(py), error.value(py).as_any(), failures + 1));
    let mut failure = describe(py, attempt, error.value(py).as_any());
    if let Some((permanent, wait)) = said {
        (failure.permanent, failure.retry_after) = (permanent, wait);
    }
    keep(py, attempt, &error);
    if failure.permanent || is_last {
        forget_inputs(task);
    }
    Outcome::Failed(failure)
}

/// The key that an exception puts off, and for how long, if it is a `RetryAfter` with one.
fn postponed(py: Python<'_>, attempt: &Attempt, error: &Bound<'_, PyAny>) -> Option<(String, Duration)> {
    let now = attempt.now().micros() as f64 / 1e6;
    let asked = helper_in(py, "taskloom._failures", "postponed")
        .and_then(|postponed| ffi::call_with(&postponed, (error, now))?.extract::<Option<(String, f64)>>());
    let (key, seconds) = asked.ok().flatten()?;
    Some((key, Duration::try_from_secs_f64(seconds).ok()?))
}

/// Keeps the exception for those in this process who ask for the result, without its frames.
fn keep(py: Python<'_>, attempt: &Attempt, error: &PyErr) {
    let value: &Bound<'_, PyBaseException> = error.value(py);
    keep_exception(attempt.task(), value.clone().into_any().unbind());
}

/// Type, message, traceback, and what the exception asks for. `_failures.describe` knows; if even that fails (an
/// exception whose `__str__` raises, say), the type's name must do.
fn describe(py: Python<'_>, attempt: &Attempt, error: &Bound<'_, PyAny>) -> Failed {
    type Described = (String, String, String, bool, Option<f64>);
    let described: PyResult<Described> =
        helper_in(py, "taskloom._failures", "describe").and_then(|describe| {
            ffi::call_with(&describe, (error, attempt.now().micros() as f64 / 1e6))?.extract()
        });
    match described {
        Ok((kind, message, backtrace, permanent, retry_after)) => Failed {
            kind,
            message,
            backtrace,
            permanent,
            retry_after: retry_after.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
        },
        Err(_) => Failed {
            kind: error
                .get_type()
                .name()
                .map_or_else(|_| "Exception".into(), |name: Bound<'_, PyString>| name.to_string()),
            message: "(the exception cannot be described)".into(),
            backtrace: String::new(),
            permanent: false,
            retry_after: None,
        },
    }
}
