//! Tasks whose arguments and results are passed as they are (`App(payloads="reference")`).
//!
//! Nothing is encoded, checked or converted: the handler gets the very objects of the submit, and whoever asks for the
//! result the very object that was returned. That is what a thread pool does, and it is only for memory. The objects are
//! the task's own host data. Arguments are let go of when no further attempt needs them; a result lives as long as the
//! task is kept (a handle holds it, and so does the store, for the newest 10,000).

use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use taskloom_store::{HostData, Task};

use crate::host::Variables;

/// What a task by reference carries.
pub(crate) struct Reference {
    call: Mutex<Option<Call>>,
    result: Mutex<Option<Py<PyAny>>>,
    pub(crate) variables: Option<Variables>,
}

type Call = (Py<PyTuple>, Option<Py<PyDict>>);

impl Reference {
    /// As a task's host data.
    pub(crate) fn boxed(
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
        variables: Option<Py<PyAny>>,
    ) -> HostData {
        let call = (args.clone().unbind(), kwargs.map(|kwargs| kwargs.clone().unbind()));
        Box::new(Self {
            call: Mutex::new(Some(call)),
            result: Mutex::new(None),
            variables: variables.map(Variables::new),
        })
    }

    /// What a task carries, if it is one by reference.
    pub(crate) fn of(task: &Arc<Task>) -> Option<&Self> {
        task.host().and_then(|host| host.downcast_ref())
    }

    /// The arguments.
    pub(crate) fn call<'py>(
        &self,
        py: Python<'py>,
    ) -> Option<(Bound<'py, PyTuple>, Option<Bound<'py, PyDict>>)> {
        let call = self.call.lock();
        let (args, kwargs) = call.as_ref()?;
        Some((args.bind(py).clone(), kwargs.as_ref().map(|kwargs| kwargs.bind(py).clone())))
    }

    /// Keeps what the handler returned.
    pub(crate) fn keep(&self, result: Py<PyAny>) {
        *self.result.lock() = Some(result);
    }

    /// What the handler returned.
    pub(crate) fn result(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.result.lock().as_ref().map(|result| result.clone_ref(py))
    }

    /// No further attempt will need the arguments.
    pub(crate) fn forget(&self) {
        // Dropped without the lock: what they hold may come back here as it goes.
        let call = self.call.lock().take();
        drop(call);
    }
}
