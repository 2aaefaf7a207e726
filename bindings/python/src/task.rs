//! `Task`: a registered function, and ways to call and submit it.

use std::borrow::Cow;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple, PyType};
use taskloom_engine::{Engine, HandlerEntry, Input, NewTask};
use taskloom_model::{Admission, Code, Error, Options, Version};

use crate::app::{NativeApp, read_options};
use crate::children;
use crate::context::NativeAttempt;
use crate::errors::{helper_in, shorten, to_python};
use crate::ffi::{self, HangOnUnwind};
use crate::handle::{Ready, TaskHandle};
use crate::host::Variables;
use crate::place::Place;
use crate::plan::Plan;
use crate::port::Port;
use crate::reference::Reference;
use crate::variables::copy_current;
use crate::waiting::on_main_thread;

/// A registered function with the options that its submits have. `options(…)` makes another one for the same function.
#[pyclass(frozen, subclass, dict, weakref, module = "taskloom")]
pub(crate) struct Task {
    app: Py<NativeApp>,
    function: Py<PyAny>,
    plan: Py<Plan>,
    name: String,
    /// What this object's submits say beyond the handler's own options.
    own: Options,
    /// The version of the handler whose options those are; the newest if it is not said.
    version: Option<Version>,
    /// Children that it submits outlive a cancelled parent.
    detached: bool,
    /// What makes a key of a submit's arguments.
    key_of: Option<Py<PyAny>>,
    /// Arguments and results are passed as they are.
    by_reference: bool,
    /// The user's transaction that its submits are rows of.
    tx: Option<Py<PyAny>>,
    /// An [`Entrance`], once there is one.
    bound: Place,
}

/// The way into the engine of the moment. An object of Python, so that a submit counts its reference under the global
/// lock, and without an instruction that all cores hear of.
#[pyclass(frozen, name = "_Entrance", module = "taskloom._native")]
struct Entrance {
    /// Weak, so that a stopped engine closes its store.
    engine: Weak<Engine>,
    entry: Arc<HandlerEntry>,
    admission: Admission,
}

impl Task {
    pub(crate) fn new(app: Py<NativeApp>, function: Py<PyAny>, plan: Py<Plan>, name: String) -> Self {
        let by_reference = app.get().by_reference();
        Self {
            app,
            function,
            plan,
            name,
            own: Options::default(),
            version: None,
            detached: false,
            key_of: None,
            by_reference,
            tx: None,
            bound: Place::new(None),
        }
    }

    /// The task of one version of its handler.
    pub(crate) fn of_version(mut self, version: Version) -> Self {
        self.version = Some(version);
        self
    }

    /// The task of a handler whose submits get a key from this function of their arguments.
    pub(crate) fn with_keys(mut self, key_of: Option<Py<PyAny>>) -> Self {
        self.key_of = key_of;
        self
    }

    /// The key of a call, unless the options say one.
    pub(crate) fn key(
        &self,
        py: Python<'_>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Option<String>> {
        match &self.key_of {
            Some(key_of) if self.own.key.is_none() => {
                ffi::call_with(key_of.bind(py), (args, kwargs))?.extract()
            }
            _ => Ok(None),
        }
    }

    /// What a call is admitted as.
    fn admission<'a>(
        &self,
        py: Python<'_>,
        bound: &'a Entrance,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Cow<'a, Admission>> {
        match self.key(py, args, kwargs)? {
            None => Ok(Cow::Borrowed(&bound.admission)),
            Some(key) => bound.admission.with_key(key).map(Cow::Owned).map_err(|error| to_python(py, &error)),
        }
    }

    /// The app that it belongs to.
    pub(crate) fn app(&self) -> &Py<NativeApp> {
        &self.app
    }

    /// Refuses a task whose submits are rows of a transaction, where that makes no sense.
    pub(crate) fn check_no_tx(&self, py: Python<'_>, what: &str) -> PyResult<()> {
        if self.tx.is_none() {
            return Ok(());
        }
        let error = Error::new(Code::InvalidOption, format!("tx is given, and {what}"));
        Err(to_python(py, &error.hint("leave tx out")))
    }

    /// A submit inside the user's own transaction: what `taskloom.outbox` makes of it.
    fn enqueue(
        slf: &Bound<'_, Self>,
        how: &str,
        call: (&Bound<'_, PyAny>, Option<&Bound<'_, PyDict>>),
    ) -> PyResult<Py<PyAny>> {
        let enqueue = helper_in(slf.py(), "taskloom.outbox._enqueue", how)?;
        Ok(ffi::call_with(&enqueue, (slf, &slf.get().tx, call.0, call.1))?.unbind())
    }

    /// The name of its handler.
    pub(crate) fn handler(&self) -> &str {
        &self.name
    }

    /// Whether it was registered with this app.
    pub(crate) fn is_of(&self, app: &Bound<'_, NativeApp>) -> bool {
        self.app.as_ptr() == app.as_ptr()
    }

    /// What its submits say beyond the handler's own options.
    pub(crate) fn own_options(&self) -> Options {
        let mut own = self.own.clone();
        own.version = own.version.or(self.version);
        own
    }

    /// A call as a payload.
    pub(crate) fn encode(
        &self,
        py: Python<'_>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Box<[u8]>> {
        Ok(self.plan.get().encode_call(py, args, kwargs)?.into_boxed_slice())
    }

    /// Refuses what only a child can be, where there is no parent.
    pub(crate) fn check_detached(&self, py: Python<'_>) -> PyResult<()> {
        if self.detached {
            let error =
                Error::new(Code::InvalidOption, "detached is for children, and this task has no parent");
            return Err(to_python(py, &error.hint("submit it with ctx.submit(…), or leave detached out")));
        }
        Ok(())
    }

    /// The engine, opened if need be, with our options made ready for it.
    fn bound<'py>(&self, py: Python<'py>) -> PyResult<(Arc<Engine>, Bound<'py, Entrance>)> {
        self.check_detached(py)?;
        self.bound_as_child(py)
    }

    /// The same, for a submit that may be a child's.
    fn bound_as_child<'py>(&self, py: Python<'py>) -> PyResult<(Arc<Engine>, Bound<'py, Entrance>)> {
        if let Some(bound) = self.bound.get(py)
            && let Ok(bound) = bound.cast_into::<Entrance>()
            && let Some(engine) = bound.get().engine.upgrade()
            && !engine.is_stopped()
        {
            return Ok((engine, bound));
        }
        let engine = self.app.get().engine(py)?;
        let make = || {
            let mut own = self.own.clone();
            own.version = own.version.or(self.version);
            let entry = match own.version {
                Some(version) => engine.handler_version(&self.name, version)?,
                None => engine.handler(&self.name)?,
            };
            let admission = engine.admission_for(&own, &entry)?;
            Ok(Entrance { engine: Arc::downgrade(&engine), entry, admission })
        };
        let bound = Bound::new(py, make().map_err(|error| to_python(py, &error))?)?;
        drop(self.bound.put(Some(bound.clone().into_any().unbind())));
        Ok((engine, bound))
    }

    /// A call as a task's payload and host data.
    fn input(
        &self,
        py: Python<'_>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
        variables: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Input> {
        if self.by_reference {
            return Ok((Default::default(), Some(Reference::boxed(args, kwargs, variables))));
        }
        let payload = self.plan.get().encode_call(py, args, kwargs)?.into_boxed_slice();
        Ok((payload.into(), Variables::boxed(variables)))
    }

    /// One item of `submit_many`: a tuple is positional, a dict keyword arguments, anything else the one argument.
    fn item(&self, item: &Bound<'_, PyAny>, variables: Option<Bound<'_, PyAny>>) -> PyResult<NewTask> {
        let py = item.py();
        let call = |args: &Bound<'_, PyTuple>, kwargs: Option<&Bound<'_, PyDict>>| {
            let (payload, host) = self.input(py, args, kwargs, variables)?;
            Ok(NewTask { payload, host: host.into(), key: self.key(py, args, kwargs)? })
        };
        if let Ok(args) = item.cast::<PyTuple>() {
            call(args, None)
        } else if let Ok(kwargs) = item.cast::<PyDict>() {
            call(&PyTuple::empty(py), Some(kwargs))
        } else {
            call(&PyTuple::new(py, [item])?, None)
        }
    }

    fn submit_here<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, TaskHandle>> {
        let (payload, host) = self.input(py, args, kwargs, copy_current(py)?)?;
        let (engine, bound) = self.bound(py)?;
        let bound = bound.get();
        let admission = self.admission(py, bound, args, kwargs)?;
        let inside = self.app.get().on_its_loop();
        if !inside && must_hear_signals(&engine) {
            let submit = |patience: &mut dyn FnMut() -> bool| {
                engine.submit_while(&bound.entry, &admission, (payload, host), false, patience)
            };
            return self.accepted(py, hearing_signals(py, submit)?);
        }
        let submit = || engine.submit(&bound.entry, &admission, payload, host, inside);
        // In memory nothing is waited for, unless for room; on a file, the disk is.
        let handle = if engine.may_wait() { HangOnUnwind::around(|| py.detach(submit)) } else { submit() };
        handle.map_err(|error| to_python(py, &error)).and_then(|handle| self.accepted(py, handle))
    }

    /// Refuses what can be gone through, and is the arguments of one call: its keys, its letters would be a task each.
    fn check_many(&self, items: &Bound<'_, PyAny>) -> PyResult<()> {
        let is_one = items.is_instance_of::<PyDict>()
            || items.is_instance_of::<PyString>()
            || items.is_instance_of::<PyBytes>();
        if !is_one {
            return Ok(());
        }
        let message = format!("{}: submit_many takes a list of calls, and got {}", self.name, shorten(items));
        let hint = "pass a list, also of one: a dict in it is keyword arguments, a tuple positional ones, anything else \
                    the one argument";
        Err(to_python(items.py(), &Error::new(Code::InvalidPayload, message).hint(hint)))
    }

    fn submit_many_here<'py>(
        &self,
        py: Python<'py>,
        items: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyList>> {
        let mut payloads = Vec::with_capacity(items.len().unwrap_or(0));
        let context = copy_current(py)?;
        for item in items.try_iter()? {
            payloads.push(self.item(&item?, context.clone())?);
        }
        let (engine, bound) = self.bound(py)?;
        let bound = bound.get();
        let inside = self.app.get().on_its_loop();
        let handles = if !inside && must_hear_signals(&engine) {
            let payloads = payloads.into_iter();
            hearing_signals(py, |patience| {
                engine.submit_many_while(&bound.entry, &bound.admission, payloads, false, patience)
            })?
        } else {
            let submit = || engine.submit_many(&bound.entry, &bound.admission, payloads.into_iter(), inside);
            let handles =
                if engine.may_wait() { HangOnUnwind::around(|| py.detach(submit)) } else { submit() };
            handles.map_err(|error| to_python(py, &error))?
        };
        self.app.get().submitted(py)?;
        let handles =
            handles.into_iter().map(|handle| self.wrap(py, handle)).collect::<PyResult<Vec<_>>>()?;
        PyList::new(py, handles)
    }

    /// What was just submitted, as its submitter sees it.
    fn accepted<'py>(
        &self,
        py: Python<'py>,
        handle: taskloom_engine::Handle,
    ) -> PyResult<Bound<'py, TaskHandle>> {
        self.app.get().submitted(py)?;
        self.wrap(py, handle)
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
    fn _app(&self, py: Python<'_>) -> Py<NativeApp> {
        self.app.clone_ref(py)
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
        Ok(ffi::call_with(&call, (&self.function, args, kwargs))?.unbind())
    }

    #[pyo3(signature = (*args, **kwargs))]
    fn submit(
        slf: &Bound<'_, Self>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        if slf.get().tx.is_some() {
            return Self::enqueue(slf, "submit", (args, kwargs));
        }
        Ok(slf.get().submit_here(slf.py(), args, kwargs)?.into_any().unbind())
    }

    fn submit_many<'py>(slf: &Bound<'py, Self>, items: &Bound<'py, PyAny>) -> PyResult<Py<PyAny>> {
        slf.get().check_many(items)?;
        if slf.get().tx.is_some() {
            return Self::enqueue(slf, "submit_many", (items, None));
        }
        Ok(slf.get().submit_many_here(slf.py(), items)?.into_any().unbind())
    }

    #[pyo3(signature = (*args, **kwargs))]
    fn submit_async(
        slf: &Bound<'_, Self>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        let (py, own) = (slf.py(), slf.get());
        if own.tx.is_some() {
            return Self::enqueue(slf, "submit_async", (args, kwargs));
        }
        let (engine, bound) = own.bound(py)?;
        let bound = bound.get();
        if !engine.is_durable() {
            let handle = own.submit_here(py, args, kwargs)?;
            let handle = handle.into_any().unbind();
            return Ok(Ready::new(Ok(handle)).into_pyobject(py)?.into_any().unbind());
        }
        let (payload, host) = own.input(py, args, kwargs, copy_current(py)?)?;
        let outcome = Arc::new(Mutex::new(None));
        let port: Bound<'_, Port> =
            ffi::call_with(&helper_in(py, "taskloom._loop", "port")?, ())?.cast_into()?;
        let pending = Accepted { outcome: Arc::clone(&outcome), task: slf.clone().unbind() };
        let pending = Py::new(py, pending)?;
        let future = helper_in(py, "taskloom._loop", "await_accepted")?;
        let (future, then): (Py<PyAny>, Py<PyAny>) =
            ffi::call_with(&future, (pending.clone_ref(py),))?.extract()?;
        let (key, arrivals) = port.get().expect(then);
        let reply = Box::new(move |verdict| {
            *outcome.lock() = Some(verdict);
            arrivals.arrive(key);
        });
        let inside = own.app.get().on_its_loop();
        let payloads = std::iter::once((payload, host));
        let admission = own.admission(py, bound, args, kwargs)?;
        let submit = || engine.submit_then(&bound.entry, &admission, payloads, inside, reply);
        submit().map_err(|error| to_python(py, &error))?;
        Ok(future)
    }

    #[pyo3(signature = (**options))]
    fn options(&self, py: Python<'_>, options: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let given = options.map(|options| options.get_item("detached")).transpose()?.flatten();
        let detached = match given.filter(|value| !value.is_none()) {
            Some(value) => value.extract::<bool>().map_err(|_| {
                let message = format!("detached is {}; it must be True or False", shorten(&value));
                to_python(py, &Error::new(Code::InvalidOption, message))
            })?,
            None => self.detached,
        };
        let options = options.map(|options| options.copy()).transpose()?;
        let mut tx = self.tx.as_ref().map(|tx| tx.clone_ref(py));
        if let Some(options) = &options {
            if options.contains("detached")? {
                options.del_item("detached")?;
            }
            if let Some(given) = options.get_item("tx")? {
                options.del_item("tx")?;
                if !given.is_none() {
                    ffi::call_with(&helper_in(py, "taskloom.outbox._enqueue", "check")?, (&given,))?;
                    tx = Some(given.unbind());
                }
            }
        }
        let own = read_options(py, options.as_ref())?;
        let own = own.over(&self.own);
        // Said now, not at the submit: a wrong option is the fault of this line. Times are resolved at the submit.
        own.validate().map_err(|error| to_python(py, &error))?;
        Ok(Self {
            app: self.app.clone_ref(py),
            function: self.function.clone_ref(py),
            plan: self.plan.clone_ref(py),
            name: self.name.clone(),
            own,
            version: self.version,
            detached,
            key_of: self.key_of.as_ref().map(|function| function.clone_ref(py)),
            by_reference: self.by_reference,
            tx,
            bound: Place::new(None),
        })
    }

    /// Submits a child of the task that an attempt runs.
    fn _submit_child<'py>(
        &self,
        py: Python<'py>,
        attempt: &Bound<'py, NativeAttempt>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, TaskHandle>> {
        self.check_no_tx(py, "a child of a task is no row of a transaction")?;
        let (payload, host) = self.input(py, args, kwargs, copy_current(py)?)?;
        let (engine, bound) = self.bound_as_child(py)?;
        let bound = bound.get();
        let attempt = attempt.get().attempt_itself();
        taskloom_bridge::check_child(attempt, &engine, &self.name).map_err(|error| to_python(py, &error))?;
        let admission = self.admission(py, bound, args, kwargs)?;
        let submit = || attempt.submit(&bound.entry, &admission, payload, host, self.detached);
        let handle = HangOnUnwind::around(|| py.detach(submit)).map_err(|error| to_python(py, &error))?;
        self.accepted(py, handle)
    }

    /// A call of it as a child process asks its parent to submit it as a child of a task.
    fn _asked<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let payload = self.plan.get().encode_call(py, args, kwargs)?;
        let key = self.key(py, args, kwargs)?;
        let flags = u8::from(self.detached) * children::DETACHED;
        let asked = children::call(&self.name, flags, key.as_deref(), &self.own_options(), &payload);
        Ok(PyBytes::new(py, &asked))
    }

    /// A result of it, of its JSON.
    fn _decode_result(&self, py: Python<'_>, data: &[u8]) -> PyResult<Py<PyAny>> {
        self.plan.get().decode_result(py, data)
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
        visit.call(&self.plan)?;
        self.tx.iter().try_for_each(|tx| visit.call(tx))?;
        self.key_of.iter().try_for_each(|function| visit.call(function))
    }
}

/// Whether a submit here may wait for room for as long as it takes, on the thread that must hear Ctrl-C.
fn must_hear_signals(engine: &Engine) -> bool {
    engine.may_wait() && !engine.is_durable() && !engine.is_driven() && on_main_thread()
}

/// Submits on this thread, which hears of Ctrl-C while it waits for room. Then nothing was submitted.
fn hearing_signals<T: Send>(
    py: Python<'_>,
    submit: impl FnOnce(&mut dyn FnMut() -> bool) -> taskloom_model::Result<T> + Send,
) -> PyResult<T> {
    let mut raised = None;
    let mut patience = || {
        raised = Python::attach(|py| py.check_signals()).err();
        raised.is_none()
    };
    let submitted = HangOnUnwind::around(|| py.detach(|| submit(&mut patience)));
    match raised {
        Some(interrupt) => Err(interrupt),
        None => submitted.map_err(|error| to_python(py, &error)),
    }
}

/// A submit that waits for its commit.
#[pyclass(frozen, name = "_Accepted", module = "taskloom._native")]
pub(crate) struct Accepted {
    outcome: Arc<Mutex<Option<taskloom_model::Result<Vec<taskloom_engine::Handle>>>>>,
    task: Py<Task>,
}

#[pymethods]
impl Accepted {
    /// The handle, or why the task was not accepted.
    fn result<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, TaskHandle>>> {
        let outcome = self.outcome.lock().take();
        match outcome {
            Some(Err(error)) => Err(to_python(py, &error)),
            Some(Ok(handles)) => {
                handles.into_iter().next().map(|handle| self.task.get().wrap(py, handle)).transpose()
            }
            None => Ok(None),
        }
    }
}
