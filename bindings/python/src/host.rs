//! What Python keeps with a task: the context variables of its submit, and the exception that it ended with.
//!
//! Both are dropped as early as can be. The context goes when the task has ended; the exception is kept without its
//! traceback (whose text is kept anyway), since frames would keep alive whatever the handler had in its hands.

use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::intern;
use pyo3::prelude::*;
use taskloom_store::{HostData, Task};

pub(crate) struct PyHost {
    context: Mutex<Option<Py<PyAny>>>,
    exception: Mutex<Option<Py<PyAny>>>,
}

impl PyHost {
    /// `context` is None if no variable was set.
    pub(crate) fn boxed(context: Option<Py<PyAny>>) -> HostData {
        Box::new(Self { context: Mutex::new(context), exception: Mutex::new(None) })
    }

    pub(crate) fn of(task: &Arc<Task>) -> Option<&Self> {
        task.host().and_then(|host| host.downcast_ref())
    }

    /// A context for an attempt: a copy of its own, as the submit left the variables.
    pub(crate) fn context_copy<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let context = self.context.lock().as_ref().map(|context| context.clone_ref(py));
        context.map(|context| context.into_bound(py).call_method0(intern!(py, "copy"))).transpose()
    }

    /// No further attempt will need it.
    pub(crate) fn forget_context(&self) {
        self.context.lock().take();
    }

    pub(crate) fn keep_exception(&self, exception: Py<PyAny>) {
        *self.exception.lock() = Some(exception);
    }

    pub(crate) fn exception(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.exception.lock().as_ref().map(|exception| exception.clone_ref(py))
    }
}
