//! Tasks whose arguments and results are passed as they are (`App(payloads="reference")`).
//!
//! Nothing is encoded, checked or converted: the handler gets the very objects of the submit, and whoever asks for the
//! result the very object that was returned. That is what a thread pool does, and it is only for memory. The objects are
//! the task's own host data. Arguments are let go of when no further attempt needs them; a result lives as long as the
//! task is kept (a handle holds it, and so does the store, for the newest 10,000).
//!
//! A handler that returns when its attempt counts no longer leaves its result here all the same. So a task that ends
//! otherwise than well *disowns* it, before whoever waits hears of the end: then no result is shown, whenever it comes.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use taskloom_store::{HostData, Task};

use crate::host::Variables;
use crate::place::Place;

/// What a task by reference carries.
pub(crate) struct Reference {
    args: Place,
    kwargs: Place,
    result: Place,
    pub(crate) variables: Variables,
    disowned: AtomicBool,
}

type Call<'py> = (Bound<'py, PyTuple>, Option<Bound<'py, PyDict>>);

impl Reference {
    /// As a task's host data.
    pub(crate) fn boxed(
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
        variables: Option<Bound<'_, PyAny>>,
    ) -> HostData {
        Box::new(Self {
            args: Place::new(Some(args.clone().into_any().unbind())),
            kwargs: Place::new(kwargs.map(|kwargs| kwargs.clone().into_any().unbind())),
            result: Place::new(None),
            variables: Variables::new(variables),
            disowned: AtomicBool::new(false),
        })
    }

    /// What a task carries, if it is one by reference.
    pub(crate) fn of(task: &Task) -> Option<&Self> {
        task.host()
    }

    /// The arguments.
    pub(crate) fn call<'py>(&self, py: Python<'py>) -> PyResult<Option<Call<'py>>> {
        let Some(args) = self.args.get(py) else { return Ok(None) };
        let kwargs = self.kwargs.get(py).map(Bound::cast_into).transpose()?;
        Ok(Some((args.cast_into()?, kwargs)))
    }

    /// Keeps what the handler returned.
    pub(crate) fn keep(&self, result: Py<PyAny>) {
        drop(self.result.put(Some(result)));
    }

    /// What the handler returned, of a task that has settled; if that is its result.
    #[inline]
    pub(crate) fn result(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        if self.disowned.load(Ordering::Acquire) {
            return None;
        }
        self.result.get(py).map(Bound::unbind)
    }

    /// The task has ended, and not with what its handler returned or may return yet.
    pub(crate) fn disown(&self) {
        self.disowned.store(true, Ordering::Release);
        drop(self.result.take());
    }

    /// No further attempt will need the arguments and the context variables.
    pub(crate) fn forget(&self) {
        drop(self.args.take());
        drop(self.kwargs.take());
        self.variables.forget();
    }
}
