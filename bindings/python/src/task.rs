//! `Task`: a registered function, and ways to call and submit it.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyTuple, PyType};
use taskloom_engine::{Engine, HandlerEntry};
use taskloom_model::{Admission, Options};

use crate::app::{NativeApp, read_options};
use crate::errors::{helper_in, to_python};
use crate::ffi::{self, HangOnUnwind};
use crate::handle::{Ready, TaskHandle};
use crate::host::Variables;
use crate::plan::Plan;
use crate::port::Port;

/// A registered function with the options that its submits have. `options(…)` makes another one for the same function.
#[pyclass(frozen, subclass, dict, weakref, module = "taskloom")]
pub(crate) struct Task {
    app: Py<NativeApp>,
    function: Py<PyAny>,
    plan: Py<Plan>,
    name: String,
    /// What this object's submits say beyond the handler's own options.
    own: Options,
    bound: Mutex<Option<Arc<Entrance>>>,
}

/// The way into the engine of the moment.
struct Entrance {
    /// Weak, so that a stopped engine closes its store.
    engine: Weak<Engine>,
    entry: Arc<HandlerEntry>,
    admission: Admission,
}

/// The context variables of this moment, copied; None if there are none, as in most programs, where a thousand empty
/// contexts would only give the garbage collector work.
fn variables(py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
    static COPY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let copy =
        COPY.get_or_try_init(py, || py.import("contextvars")?.getattr("copy_context").map(Bound::unbind))?;
    let now = copy.bind(py).call0()?;
    Ok(if now.len()? > 0 { Some(now.unbind()) } else { None })
}

impl Task {
    pub(crate) fn new(app: Py<NativeApp>, function: Py<PyAny>, plan: Py<Plan>, name: String) -> Self {
        Self { app, function, plan, name, own: Options::default(), bound: Mutex::new(None) }
    }

    /// The engine, opened if need be, with our options made ready for it.
    fn bound(&self, py: Python<'_>) -> PyResult<(Arc<Engine>, Arc<Entrance>)> {
        if let Some(bound) = self.bound.lock().as_ref()
            && let Some(engine) = bound.engine.upgrade()
            && !engine.is_stopped()
        {
            return Ok((engine, Arc::clone(bound)));
        }
        let engine = self.app.get().engine(py)?;
        let make = || {
            let entry = engine.handler(&self.name)?;
            let admission = engine.admission(&self.own.over(entry.options()))?;
            Ok(Arc::new(Entrance { engine: Arc::downgrade(&engine), entry, admission }))
        };
        let bound = make().map_err(|error| to_python(py, &error))?;
        *self.bound.lock() = Some(Arc::clone(&bound));
        Ok((engine, bound))
    }

    /// The payload of one item of `submit_many`: a tuple is positional, a dict keyword arguments, anything else the
    /// one argument.
    fn encode_item(&self, item: &Bound<'_, PyAny>) -> PyResult<Box<[u8]>> {
        let py = item.py();
        let plan = self.plan.get();
        let payload = if let Ok(args) = item.cast::<PyTuple>() {
            plan.encode_call(py, args, None)
        } else if let Ok(kwargs) = item.cast::<PyDict>() {
            plan.encode_call(py, &PyTuple::empty(py), Some(kwargs))
        } else {
            plan.encode_call(py, &PyTuple::new(py, [item])?, None)
        };
        payload.map(Vec::into_boxed_slice)
    }

    fn wrap<'py>(
        &self,
        py: Python<'py>,
        handle: taskloom_engine::Handle,
    ) -> PyResult<Bound<'py, TaskHandle>> {
        let handle = Bound::new(py, TaskHandle::new(handle, Some(self.plan.clone_ref(py))))?;
        // It holds the plan, which its task shows to the collector, and bytes.
        ffi::untrack(&handle);
        Ok(handle)
    }
}

#[pymethods]
impl Task {
    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    #[getter]
    fn __wrapped__(&self, py: Python<'_>) -> Py<PyAny> {
        self.function.clone_ref(py)
    }

    #[pyo3(signature = (*args, **kwargs))]
    fn __call__(
        &self,
        py: Python<'_>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        let call = helper_in(py, "taskloom._call", "call_here")?;
        Ok(call.call1((&self.function, args, kwargs))?.unbind())
    }

    #[pyo3(signature = (*args, **kwargs))]
    fn submit<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, TaskHandle>> {
        let payload = self.plan.get().encode_call(py, args, kwargs)?.into_boxed_slice();
        let host = Variables::boxed(variables(py)?);
        let (engine, bound) = self.bound(py)?;
        let inside = self.app.get().on_its_loop();
        let submit = || engine.submit(&bound.entry, &bound.admission, payload, host, inside);
        // In memory nothing is waited for; on a file, the disk is.
        let handle = if engine.is_durable() { HangOnUnwind::around(|| py.detach(submit)) } else { submit() };
        handle.map_err(|error| to_python(py, &error)).and_then(|handle| self.wrap(py, handle))
    }

    fn submit_many<'py>(&self, py: Python<'py>, items: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
        let mut payloads = Vec::with_capacity(items.len().unwrap_or(0));
        let context = variables(py)?;
        for item in items.try_iter()? {
            let host = Variables::boxed(context.as_ref().map(|context| context.clone_ref(py)));
            payloads.push((self.encode_item(&item?)?, host));
        }
        let (engine, bound) = self.bound(py)?;
        let inside = self.app.get().on_its_loop();
        let submit = || engine.submit_many(&bound.entry, &bound.admission, payloads.into_iter(), inside);
        let handles = if engine.is_durable() { HangOnUnwind::around(|| py.detach(submit)) } else { submit() };
        let handles = handles.map_err(|error| to_python(py, &error))?;
        let handles =
            handles.into_iter().map(|handle| self.wrap(py, handle)).collect::<PyResult<Vec<_>>>()?;
        PyList::new(py, handles)
    }

    #[pyo3(signature = (*args, **kwargs))]
    fn submit_async(
        slf: &Bound<'_, Self>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        let (py, own) = (slf.py(), slf.get());
        let (engine, bound) = own.bound(py)?;
        if !engine.is_durable() {
            let handle = own.submit(py, args, kwargs)?;
            let handle = handle.into_any().unbind();
            return Ok(Ready::new(Ok(handle)).into_pyobject(py)?.into_any().unbind());
        }
        let payload = own.plan.get().encode_call(py, args, kwargs)?.into_boxed_slice();
        let host = Variables::boxed(variables(py)?);
        let outcome = Arc::new(Mutex::new(None));
        let port: Bound<'_, Port> = helper_in(py, "taskloom._loop", "port")?.call0()?.cast_into()?;
        let pending = Py::new(py, Accepted { outcome: Arc::clone(&outcome), handle: Mutex::new(None) })?;
        let future = helper_in(py, "taskloom._loop", "await_accepted")?;
        let (future, then): (Py<PyAny>, Py<PyAny>) = future.call1((pending.clone_ref(py),))?.extract()?;
        let (key, arrivals) = port.get().expect(then);
        let reply = Box::new(move |verdict| {
            *outcome.lock() = Some(verdict);
            arrivals.arrive(key);
        });
        let inside = own.app.get().on_its_loop();
        let payloads = std::iter::once((payload, host));
        let submit = || engine.submit_then(&bound.entry, &bound.admission, payloads, inside, reply);
        let handles = submit().map_err(|error| to_python(py, &error))?;
        let handle = handles.into_iter().next().map(|handle| own.wrap(py, handle)).transpose()?;
        *pending.get().handle.lock() = handle.map(Bound::unbind);
        Ok(future)
    }

    #[pyo3(signature = (**options))]
    fn options(&self, py: Python<'_>, options: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let own = read_options(py, options)?;
        let own = own.over(&self.own);
        // Said now, not at the submit: a wrong option is the fault of this line. Times are resolved at the submit.
        own.validate().map_err(|error| to_python(py, &error))?;
        Ok(Self {
            app: self.app.clone_ref(py),
            function: self.function.clone_ref(py),
            plan: self.plan.clone_ref(py),
            name: self.name.clone(),
            own,
            bound: Mutex::new(None),
        })
    }

    #[classmethod]
    fn __class_getitem__(cls: &Bound<'_, PyType>, _item: &Bound<'_, PyAny>) -> Py<PyType> {
        cls.clone().unbind()
    }

    fn __repr__(&self) -> String {
        format!("<Task {}>", self.name)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.app)?;
        visit.call(&self.function)?;
        visit.call(&self.plan)
    }
}

/// A submit that waits for its commit.
#[pyclass(frozen, name = "_Accepted", module = "taskloom._native")]
pub(crate) struct Accepted {
    outcome: Arc<Mutex<Option<taskloom_model::Result<()>>>>,
    handle: Mutex<Option<Py<TaskHandle>>>,
}

#[pymethods]
impl Accepted {
    /// The handle, or why the task was not accepted.
    fn result(&self, py: Python<'_>) -> PyResult<Option<Py<TaskHandle>>> {
        match self.outcome.lock().take() {
            Some(Err(error)) => Err(to_python(py, &error)),
            _ => Ok(self.handle.lock().take()),
        }
    }
}
