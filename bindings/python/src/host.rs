//! What Python keeps with a task: the context variables of its submit, and the exception that it ended with.
//!
//! Most tasks are submitted without any context variable set, and most do not fail, so a task carries nothing unless
//! there is something to carry. Variables are the task's own host data and are dropped when it has succeeded.
//! Exceptions stand in a table of the newest [`KEPT`], for those in this process who ask for the result; without their
//! tracebacks (whose text is kept with the task), since frames would keep alive whatever the handler had in its hands.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use taskloom_model::TaskId;
use taskloom_store::{Host, HostData, Task};

use crate::errors::helper_in;
use crate::ffi;
use crate::place::Place;
use crate::reference::Reference;

/// How many exceptions are kept.
const KEPT: usize = 1_000;

/// The context variables of a submit.
pub(crate) struct Variables(Place);

impl Variables {
    /// As a task's host data; nothing if no variable was set.
    pub(crate) fn boxed(context: Option<Bound<'_, PyAny>>) -> Option<HostData> {
        context.map(|context| Box::new(Self::new(Some(context))) as HostData)
    }

    pub(crate) fn new(context: Option<Bound<'_, PyAny>>) -> Self {
        Self(Place::new(context.map(Bound::unbind)))
    }

    /// A copy for one attempt, as the submit left the variables; None if there were none.
    pub(crate) fn copy_of<'py>(py: Python<'py>, task: &Task) -> PyResult<Option<Bound<'py, PyAny>>> {
        match task.host::<Self>() {
            Some(own) => own.copy(py),
            None => Reference::of(task).map_or(Ok(None), |reference| reference.variables.copy(py)),
        }
    }

    /// A copy, if there are any.
    pub(crate) fn copy<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0.get(py).map(|context| context.call_method0(intern!(py, "copy"))).transpose()
    }

    /// No further attempt will need them.
    pub(crate) fn forget(&self) {
        drop(self.0.take());
    }
}

impl Host for Variables {
    fn settled(&self) {
        self.forget();
    }
}

impl Host for Reference {
    fn ended(&self, succeeded: Option<u32>) {
        if succeeded.is_none() {
            self.disown();
        }
        self.forget();
    }
}

/// No further attempt will need the context variables of a task, nor the arguments of one by reference. A worker that
/// knows it says so while it is attached to Python; else it is known when the task settles.
pub(crate) fn forget_inputs(task: &Task) {
    if let Some(variables) = task.host::<Variables>() {
        variables.forget();
    } else if let Some(reference) = Reference::of(task) {
        reference.forget();
    }
}

/// An exception, or what a child process made of it.
enum Kept {
    Object(Py<PyAny>),
    Pickled(Arc<[u8]>),
}

#[derive(Default)]
struct Exceptions {
    by_task: HashMap<TaskId, Kept>,
    oldest_first: VecDeque<TaskId>,
}

static EXCEPTIONS: Mutex<Option<Exceptions>> = Mutex::new(None);

/// Keeps the exception that an attempt ended with, in the place of an earlier attempt's.
pub(crate) fn keep_exception(task: &Arc<Task>, exception: Py<PyAny>) {
    keep(task, Kept::Object(exception));
}

/// The same for one that a child process has pickled. It is unpickled if somebody asks for it.
pub(crate) fn keep_pickled(task: &Arc<Task>, exception: &[u8]) {
    keep(task, Kept::Pickled(exception.into()));
}

fn keep(task: &Arc<Task>, exception: Kept) {
    let mut dropped = None;
    {
        let mut all = EXCEPTIONS.lock();
        let all = all.get_or_insert_default();
        let before = all.by_task.insert(task.id(), exception);
        if before.is_none() {
            all.oldest_first.push_back(task.id());
            if all.oldest_first.len() > KEPT {
                dropped = all.oldest_first.pop_front().and_then(|oldest| all.by_task.remove(&oldest));
            }
        } else {
            dropped = before;
        }
    }
    // Not under the lock: an exception that dies may run code of the user.
    drop(dropped);
}

/// The exception that a task ended with, if it is still kept.
pub(crate) fn exception_of(py: Python<'_>, task: &Task) -> Option<Py<PyAny>> {
    let pickled = match EXCEPTIONS.lock().as_ref()?.by_task.get(&task.id())? {
        Kept::Object(exception) => return Some(exception.clone_ref(py)),
        Kept::Pickled(pickled) => Arc::clone(pickled),
    };
    // Not under the lock: unpickling runs code of the user.
    let load = helper_in(py, "taskloom._children", "unpickled").ok()?;
    let exception = ffi::call_with(&load, (PyBytes::new(py, &pickled),)).ok()?;
    (!exception.is_none()).then(|| exception.unbind())
}

/// The exception that a task ended with in a child process, as that has pickled it.
pub(crate) fn pickled_of(task: &Task) -> Option<Arc<[u8]>> {
    match EXCEPTIONS.lock().as_ref()?.by_task.get(&task.id())? {
        Kept::Pickled(pickled) => Some(Arc::clone(pickled)),
        Kept::Object(_) => None,
    }
}
