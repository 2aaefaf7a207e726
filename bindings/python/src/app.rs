//! The native half of `taskloom.App`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::ThreadId;

use parking_lot::Mutex;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyString, PyTuple};
use taskloom_bridge::{App, Value, set_option, settings_from};
use taskloom_engine::{Engine, Handler, LoopHost, Stop};
use taskloom_model::{Options, State, TaskId};

use crate::errors::{helper_in, to_python};
use crate::ffi::HangOnUnwind;
use crate::handle::{LOOPS_EXIST, TaskHandle, seconds};
use crate::handler::{AsyncHandler, BlockingHandler, Parts};
use crate::lane::AsyncLane;
use crate::plan::Plan;
use crate::runtime::{PyRuntime, Shared};
use crate::task::Task;

/// What `taskloom.App` is derived from.
#[pyclass(frozen, subclass, weakref, name = "_App", module = "taskloom._native")]
pub(crate) struct NativeApp {
    app: App,
    runtime: Arc<PyRuntime>,
    handlers: Mutex<Vec<Arc<Parts>>>,
    /// The thread of the event loop that runs `async def` handlers.
    loop_thread: Mutex<Option<ThreadId>>,
}

impl NativeApp {
    pub(crate) fn engine(&self, py: Python<'_>) -> PyResult<Arc<Engine>> {
        // Opening a file may wait for the disk.
        HangOnUnwind::around(|| py.detach(|| self.app.engine())).map_err(|error| to_python(py, &error))
    }

    /// Whether the calling thread runs our event loop, and may be inside a handler.
    pub(crate) fn on_its_loop(&self) -> bool {
        self.loop_thread.lock().is_some_and(|thread| thread == std::thread::current().id())
    }
}

#[pymethods]
impl NativeApp {
    #[new]
    #[pyo3(signature = (url, settings))]
    fn new(py: Python<'_>, url: &str, settings: &Bound<'_, PyDict>) -> PyResult<Self> {
        let settings = settings_from(url, &read_values(py, Some(settings))?).map_err(|error| to_python(py, &error))?;
        let runtime = Arc::new(PyRuntime::default());
        let app = App::new(settings, Arc::new(Shared(Arc::clone(&runtime))));
        Ok(Self { app, runtime, handlers: Mutex::default(), loop_thread: Mutex::new(None) })
    }

    #[getter]
    fn url(&self) -> &str {
        &self.app.settings().url
    }

    /// Registers a function, and returns the `Task` for it.
    #[pyo3(signature = (function, plan, context, name, is_async, options))]
    fn _register(
        slf: &Bound<'_, Self>,
        function: Py<PyAny>,
        plan: Py<Plan>,
        context: Py<PyAny>,
        name: String,
        is_async: bool,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Task> {
        let py = slf.py();
        let options = read_options(py, options)?;
        let parts = Arc::new(Parts { function: function.clone_ref(py), plan: plan.clone_ref(py), context });
        let own = Arc::clone(&parts);
        let make = Box::new(move || {
            if is_async {
                Handler::Asynchronous(Arc::new(AsyncHandler(Arc::clone(&own))))
            } else {
                Handler::Blocking(Box::new(BlockingHandler(Arc::clone(&own))))
            }
        });
        slf.get().app.register(&name, options, make).map_err(|error| to_python(py, &error))?;
        slf.get().handlers.lock().push(parts);
        Ok(Task::new(slf.clone().unbind(), function, plan, name))
    }

    /// Starts the engine's threads.
    fn _start(&self, py: Python<'_>) -> PyResult<()> {
        HangOnUnwind::around(|| py.detach(|| self.app.start())).map(|_| ()).map_err(|error| to_python(py, &error))
    }

    /// Stops; `timeout` is how long what runs may go on, None for as long as it takes.
    fn _stop(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let how = seconds(timeout)?.map_or(Stop::Finish, Stop::Within);
        HangOnUnwind::around(|| py.detach(|| self.app.stop(how)));
        Ok(())
    }

    /// Whether there is an engine that has work to lose.
    #[getter]
    fn _is_open(&self) -> bool {
        self.app.current().is_some()
    }

    /// Makes the calling thread's event loop the one that runs `async def` handlers.
    fn _attach_loop(&self, py: Python<'_>, cancel: Py<PyAny>) -> PyResult<AsyncLane> {
        LOOPS_EXIST.store(true, Ordering::Relaxed);
        let engine = self.engine(py)?;
        let lane = AsyncLane::new(&engine, cancel)?;
        self.runtime.set_lane(Arc::downgrade(lane.lane()));
        *self.loop_thread.lock() = Some(std::thread::current().id());
        let host: Arc<dyn LoopHost> = Arc::clone(lane.lane()) as _;
        engine.set_loop(Some(host));
        Ok(lane)
    }

    /// The event loop no longer runs handlers.
    fn _detach_loop(&self) {
        *self.loop_thread.lock() = None;
        if let Some(engine) = self.app.current() {
            engine.set_loop(None);
        }
    }

    /// Submits by name; `payload` is the JSON of the arguments.
    fn _submit_by_name(
        &self,
        py: Python<'_>,
        name: &str,
        payload: Vec<u8>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<TaskHandle> {
        let options = read_options(py, options)?;
        let engine = self.engine(py)?;
        let inside = self.on_its_loop();
        let submit = || {
            let entry = engine.handler(name)?;
            let admission = engine.admission(&options.over(entry.options()))?;
            engine.submit(&entry, &admission, payload.into_boxed_slice(), None, inside)
        };
        let handle = HangOnUnwind::around(|| py.detach(submit)).map_err(|error| to_python(py, &error))?;
        Ok(TaskHandle::new(handle, None))
    }

    fn get(&self, py: Python<'_>, id: &str) -> PyResult<Option<TaskHandle>> {
        let id: TaskId = id.parse().map_err(|error| to_python(py, &error))?;
        let engine = self.engine(py)?;
        let found = HangOnUnwind::around(|| py.detach(|| engine.get(id))).map_err(|error| to_python(py, &error))?;
        Ok(found.map(|handle| TaskHandle::new(handle, None)))
    }

    #[pyo3(signature = (id, reason = None))]
    fn _cancel(&self, py: Python<'_>, id: &str, reason: Option<&str>) -> PyResult<bool> {
        let id: TaskId = id.parse().map_err(|error| to_python(py, &error))?;
        let engine = self.engine(py)?;
        HangOnUnwind::around(|| py.detach(|| engine.cancel(id, reason))).map_err(|error| to_python(py, &error))
    }

    /// How many tasks are in each state, and how the workers are.
    fn _counts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let engine = self.engine(py)?;
        let counts = HangOnUnwind::around(|| py.detach(|| engine.counts())).map_err(|error| to_python(py, &error))?;
        let (threads, away, stuck, late) = engine.worker_counts();
        let all = PyDict::new(py);
        for state in State::ALL {
            all.set_item(state.as_str(), counts.get(*state))?;
        }
        for (name, value) in [("threads", threads), ("away", away), ("stuck", stuck)] {
            all.set_item(name, value)?;
        }
        all.set_item("late_reports", late)?;
        Ok(all)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // While it has an engine, the engine's threads hold the handlers too, and nothing may be collected.
        if self.app.current().is_none()
            && let Some(handlers) = self.handlers.try_lock()
        {
            for parts in handlers.iter() {
                visit.call(&parts.function)?;
                visit.call(&parts.plan)?;
                visit.call(&parts.context)?;
            }
        }
        Ok(())
    }
}

/// Options of a submit from keyword arguments.
pub(crate) fn read_options(py: Python<'_>, values: Option<&Bound<'_, PyDict>>) -> PyResult<Options> {
    let mut options = Options::default();
    for (name, value) in read_values(py, values)? {
        set_option(&mut options, &name, &value).map_err(|error| to_python(py, &error))?;
    }
    Ok(options)
}

/// Plain values from Python ones. `_options.plain` has turned timedeltas into seconds, datetimes into
/// `("at", microseconds)` and retry policies into `("retry", base, factor, cap)`.
fn read_values(py: Python<'_>, values: Option<&Bound<'_, PyDict>>) -> PyResult<Vec<(String, Value)>> {
    let Some(values) = values.filter(|values| !values.is_empty()) else { return Ok(Vec::new()) };
    let plain = helper_in(py, "taskloom._options", "plain")?.call1((values,))?;
    let plain = plain.cast::<PyDict>()?;
    plain.iter().map(|(name, value)| Ok((name.extract()?, read_value(&value)?))).collect()
}

fn read_value(value: &Bound<'_, PyAny>) -> PyResult<Value> {
    Ok(if value.is_none() {
        Value::None
    } else if let Ok(value) = value.cast::<PyBool>() {
        Value::Bool(value.is_true())
    } else if value.is_instance_of::<PyInt>() {
        value.extract().map_or_else(|_| Value::Other("int".into()), Value::Int)
    } else if let Ok(value) = value.cast::<PyFloat>() {
        Value::Float(value.value())
    } else if value.is_instance_of::<PyString>() {
        Value::Text(value.extract()?)
    } else if let Ok(parts) = value.cast::<PyTuple>() {
        match parts.len() {
            2 => Value::At(parts.get_item(1)?.extract()?),
            _ => Value::Retry {
                base: parts.get_item(1)?.extract()?,
                factor: parts.get_item(2)?.extract()?,
                cap: parts.get_item(3)?.extract()?,
            },
        }
    } else {
        Value::Other(value.get_type().name()?.to_string())
    })
}
