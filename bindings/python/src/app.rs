//! The native half of `taskloom.App`.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread::ThreadId;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use taskloom_bridge::children::{POOL_SETTINGS, take_pool_settings};
use taskloom_bridge::{App, HandlerFactory, Registration, Value, set_option, settings_beside};
use taskloom_engine::{Engine, Handle, Handler, Hook, LoopHost, Stop};
use taskloom_model::{Code, Error, Options, State};

use crate::child::is_importing;
use crate::errors::{helper_in, to_python};
use crate::ffi::{self, HangOnUnwind};
use crate::handle::{LOOPS_EXIST, TaskHandle, seconds, wait_for};
use crate::handler::{AsyncHandler, BlockingHandler, Hooks, Parts};
use crate::ids::GivenId;
use crate::lane::{AsyncLane, Lane};
use crate::plan::Plan;
use crate::processes::Processes;
use crate::runtime::{PyRuntime, Shared};
use crate::task::Task;
use crate::testing::Mode;
use crate::waiting::on_main_thread;

/// What `taskloom.App` is derived from.
///
/// # Collecting it
/// An app holds its handlers, and a handler often holds its app (as a global, or in its closure). So the collector is
/// shown the handlers. Each is one reference, however many engines and threads share it (`Arc<Parts>`). But those may
/// call it at any time, and the collector must not take apart what will be called. When it finds that only the cycle
/// itself still refers to an app, it finalizes it (`App.__del__`), which stops the engine, and then looks once more:
/// now the handlers are shown only if there is no thread and no job left that could call them. Otherwise they stay, for
/// a later round. What is shown changes only while attached, or from "not shown" to "shown", since the collector must
/// not be shown less in the middle of a round.
#[pyclass(frozen, subclass, weakref, name = "_App", module = "taskloom._native")]
pub(crate) struct NativeApp {
    app: Arc<App>,
    runtime: Arc<PyRuntime>,
    /// The ways to event loops that there have been.
    lanes: Mutex<Vec<Weak<Lane>>>,
    /// It was finalized, and stopped for good.
    abandoned: AtomicBool,
    /// It was used again all the same.
    revived: AtomicBool,
    handlers: Mutex<Vec<Arc<Parts>>>,
    /// The thread of the event loop that runs `async def` handlers.
    loop_thread: Mutex<Option<ThreadId>>,
    /// Whether it is in testing mode: looked at by every submit.
    is_testing: AtomicBool,
    mode: Mutex<Option<Arc<Mode>>>,
    processes: Processes,
    /// It was made by a module that a child process imported for its handlers.
    is_of_parent: bool,
}

impl NativeApp {
    pub(crate) fn engine(&self, py: Python<'_>) -> PyResult<Arc<Engine>> {
        self.note_use();
        self.check_not_in_child(py)?;
        // Opening a file may wait for the disk.
        HangOnUnwind::around(|| py.detach(|| self.app.engine())).map_err(|error| to_python(py, &error))
    }

    /// Refuses what makes no sense in a child process: to use an app while that imports its handlers, and one that is in
    /// the memory of its parent.
    fn check_not_in_child(&self, py: Python<'_>) -> PyResult<()> {
        if !self.is_of_parent {
            return Ok(());
        }
        let url = &self.app.settings().url;
        let error = if is_importing() {
            Error::new(
                Code::InChild,
                format!("a child process imports this module to find its handlers, and the module uses App({url:?})"),
            )
            .hint("put what starts the app and submits to it under `if __name__ == \"__main__\":`")
        } else if url.starts_with("memory:") {
            Error::new(
                Code::InChild,
                format!("App({url:?}) is in the memory of the process that started this child, which cannot reach it"),
            )
            .hint("submit with ctx.submit(task, …), which asks that process, or keep the tasks in a file")
        } else {
            return Ok(());
        };
        Err(to_python(py, &error))
    }

    /// Its child processes.
    pub(crate) fn processes(&self) -> &Processes {
        &self.processes
    }

    fn note_use(&self) {
        if self.abandoned.load(Ordering::Relaxed) {
            self.revived.store(true, Ordering::Relaxed);
        }
    }

    /// A handle whose result is read as the handler's hints say, if it is one of ours.
    pub(crate) fn wrap(&self, py: Python<'_>, handle: Handle) -> TaskHandle {
        let handlers = self.handlers.lock();
        let known = Self::parts(&handlers, handle.task().spec().name.as_str());
        TaskHandle::new(handle, known.map(|parts| parts.plan.clone_ref(py)))
    }

    /// Whether arguments and results are passed as they are.
    pub(crate) fn by_reference(&self) -> bool {
        self.app.settings().by_reference
    }

    /// The application behind it.
    pub(crate) fn bridge(&self) -> &Arc<App> {
        &self.app
    }

    pub(crate) fn runtime(&self) -> &Arc<PyRuntime> {
        &self.runtime
    }

    /// It goes into testing mode, or out of it.
    pub(crate) fn set_mode(&self, mode: Option<Arc<Mode>>) {
        self.is_testing.store(mode.is_some(), Ordering::Relaxed);
        let old = std::mem::replace(&mut *self.mode.lock(), mode);
        drop(old);
    }

    /// Something was submitted to it.
    pub(crate) fn submitted(&self, py: Python<'_>) -> PyResult<()> {
        if !self.is_testing.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mode = self.mode.lock().clone();
        mode.map_or(Ok(()), |mode| mode.submitted(py))
    }

    fn parts<'a>(handlers: &'a [Arc<Parts>], name: &str) -> Option<&'a Arc<Parts>> {
        handlers.iter().rev().find(|parts| parts.plan.get().name() == name)
    }

    /// Whether nothing is left that could call a handler. Once stopped for good, it never becomes false again.
    fn is_quiet(&self) -> bool {
        let lanes = self.lanes.lock().iter().all(|lane| lane.strong_count() == 0);
        let told = || self.handlers.lock().iter().all(|parts| parts.untold.load(Ordering::SeqCst) == 0);
        // Hooks are asked for by the runtime's threads, so they are counted when those have ended.
        self.runtime.is_empty() && lanes && self.processes.is_quiet() && told()
    }

    /// Whether the calling thread runs our event loop, and may be inside a handler.
    pub(crate) fn on_its_loop(&self) -> bool {
        LOOPS_EXIST.load(Ordering::Relaxed)
            && self.loop_thread.lock().is_some_and(|thread| thread == std::thread::current().id())
    }
}

#[pymethods]
impl NativeApp {
    #[new]
    #[pyo3(signature = (url, settings))]
    fn new(py: Python<'_>, url: &str, settings: &Bound<'_, PyDict>) -> PyResult<Self> {
        let mut values = read_values(py, Some(settings))?;
        let pool = take_pool_settings(&mut values).map_err(|error| to_python(py, &error))?;
        let settings = settings_beside(url, &values, POOL_SETTINGS)
            .and_then(|settings| settings.check_place().map(|()| settings))
            .map_err(|error| to_python(py, &error))?;
        let runtime = Arc::new(PyRuntime::default());
        let app = Arc::new(App::new(settings, Arc::new(Shared(Arc::clone(&runtime)))));
        Ok(Self {
            app,
            runtime,
            lanes: Mutex::default(),
            abandoned: AtomicBool::new(false),
            revived: AtomicBool::new(false),
            handlers: Mutex::default(),
            loop_thread: Mutex::new(None),
            is_testing: AtomicBool::new(false),
            mode: Mutex::new(None),
            processes: Processes::new(pool),
            is_of_parent: is_importing(),
        })
    }

    #[getter]
    fn url(&self) -> &str {
        &self.app.settings().url
    }

    /// Whether arguments and results are passed as they are.
    #[getter]
    fn _by_reference(&self) -> bool {
        self.by_reference()
    }

    /// Registers a function, and returns the `Task` for it.
    ///
    /// `hooks` are what to call with the handle on success, retry and failure; each may be None. `middleware` is the
    /// app's list of functions around each execution, which may still grow. `retry_rules` are of
    /// `taskloom._retry_rules`, `key_of` is of `taskloom._keys`.
    #[pyo3(signature = (function, plan, context, name, is_async, in_child, options, replace, hooks, middleware, retry_rules, key_of))]
    #[expect(clippy::too_many_arguments, reason = "called from one place, which is ours")]
    fn _register(
        slf: &Bound<'_, Self>,
        function: Py<PyAny>,
        plan: Py<Plan>,
        context: Py<PyAny>,
        name: String,
        is_async: bool,
        in_child: bool,
        options: Option<&Bound<'_, PyDict>>,
        replace: bool,
        hooks: [Option<Py<PyAny>>; 3],
        middleware: Py<PyList>,
        retry_rules: Option<Py<PyAny>>,
        key_of: Option<Py<PyAny>>,
    ) -> PyResult<Task> {
        let py = slf.py();
        let mut options = read_options(py, options)?;
        // A handler's version is its own; a submit that says nothing takes the newest.
        let version = options.version.take();
        options.per_key = key_of.is_some();
        let hooks = hooks.iter().any(Option::is_some).then_some(hooks);
        let parts = Arc::new(Parts {
            function: function.clone_ref(py),
            plan: plan.clone_ref(py),
            context,
            version: version.unwrap_or_default(),
            hooks,
            middleware,
            retry_rules,
            key_of: key_of.as_ref().map(|function| function.clone_ref(py)),
            untold: AtomicUsize::new(0),
        });
        let own = Arc::clone(&parts);
        let hook = parts.hooks.as_ref().map(|_| Arc::new(Hooks(Arc::clone(&parts))) as Arc<dyn Hook>);
        let make: HandlerFactory = if in_child {
            Box::new(slf.get().processes.add(&parts))
        } else if is_async {
            Box::new(move || Handler::Asynchronous(Arc::new(AsyncHandler(Arc::clone(&own)))))
        } else {
            Box::new(move || Handler::Blocking(Box::new(BlockingHandler(Arc::clone(&own)))))
        };
        let registration =
            Registration { name: name.clone(), version: parts.version, replace, options, make, hook };
        slf.get().app.register(registration).map_err(|error| to_python(py, &error))?;
        let old = {
            let mut handlers = slf.get().handlers.lock();
            let same = |other: &Arc<Parts>| other.plan.get().name() == name && other.version == parts.version;
            let old = handlers.iter().position(same).map(|place| handlers.remove(place));
            handlers.push(Arc::clone(&parts));
            old
        };
        drop(old);
        let task = Task::new(slf.clone().unbind(), function, plan, name).with_keys(key_of);
        Ok(match version {
            Some(version) => task.of_version(version),
            None => task,
        })
    }

    /// Starts the engine's threads.
    fn _start(&self, py: Python<'_>) -> PyResult<()> {
        self.note_use();
        self.check_not_in_child(py)?;
        let start = || {
            let engine = self.app.start()?;
            self.processes.serve(&engine, &self.runtime);
            Ok(())
        };
        HangOnUnwind::around(|| py.detach(start)).map_err(|error| to_python(py, &error))
    }

    /// A handler for child processes has come to an app that runs.
    fn _serve_children(&self, py: Python<'_>) {
        if let Some(engine) = self.app.current() {
            HangOnUnwind::around(|| py.detach(|| self.processes.serve(&engine, &self.runtime)));
        }
    }

    /// Has the child processes end, and waits for that for so many seconds at most.
    fn _close_children(&self, py: Python<'_>, timeout: f64) {
        let patience = Duration::try_from_secs_f64(timeout.max(0.0)).unwrap_or(Duration::MAX);
        HangOnUnwind::around(|| py.detach(|| self.processes.close_within(patience)));
    }

    /// Stops; `timeout` is how long what runs may go on, None for as long as it takes.
    fn _stop(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let how = seconds(timeout)?.map_or(Stop::Finish, Stop::Within);
        if !on_main_thread() {
            HangOnUnwind::around(|| py.detach(|| self.app.stop(how)));
            return Ok(());
        }
        // The main thread listens for Ctrl-C meanwhile.
        let stopped = Arc::new((Mutex::new(false), Condvar::new()));
        let (app, tell) = (Arc::clone(&self.app), Arc::clone(&stopped));
        let stop = move || {
            app.stop(how);
            // Before anybody hears of it: whoever drops it last drops handlers, and only a thread that is attached to
            // Python does that at once.
            drop(app);
            *tell.0.lock() = true;
            tell.1.notify_all();
        };
        if taskloom_engine::spawn_thread("taskloom-stop", stop).is_err() {
            HangOnUnwind::around(|| py.detach(|| self.app.stop(how)));
            return Ok(());
        }
        let wait = |slice: Option<Duration>| {
            let mut done = stopped.0.lock();
            if !*done {
                match slice {
                    Some(slice) => drop(stopped.1.wait_for(&mut done, slice)),
                    None => stopped.1.wait(&mut done),
                }
            }
            Ok(*done)
        };
        let mut heard = Ok(());
        loop {
            match wait_for(py, None, wait) {
                Ok(true) => return heard,
                Ok(false) => {}
                Err(interrupt) => {
                    heard = Err(interrupt);
                    // That makes the other one end.
                    HangOnUnwind::around(|| py.detach(|| self.app.stop(Stop::Within(Duration::ZERO))));
                }
            }
        }
    }

    /// Nobody can reach it any more: stops at once. Called by `App.__del__`.
    fn _abandon(&self, py: Python<'_>) {
        self.abandoned.store(true, Ordering::Relaxed);
        self.set_mode(None);
        HangOnUnwind::around(|| {
            py.detach(|| {
                self.app.end_testing();
                self.app.stop(Stop::Within(Duration::ZERO));
                self.processes.close_within(Duration::ZERO);
            });
        });
    }

    /// Whether there is an engine that has work to lose.
    #[getter]
    fn _is_open(&self) -> bool {
        self.app.current().is_some()
    }

    /// Makes the calling thread's event loop the one that runs `async def` handlers. In testing mode `step` lets them go
    /// on, and says in how many microseconds they can again, or -1.
    #[pyo3(signature = (cancel, step = None))]
    fn _attach_loop(
        &self,
        py: Python<'_>,
        cancel: Py<PyAny>,
        step: Option<Py<PyAny>>,
    ) -> PyResult<AsyncLane> {
        LOOPS_EXIST.store(true, Ordering::Relaxed);
        let engine = self.engine(py)?;
        let lane = AsyncLane::new(&engine, cancel, step)?;
        self.runtime.set_lane(Arc::downgrade(lane.lane()));
        let mut lanes = self.lanes.lock();
        lanes.retain(|lane| lane.strong_count() > 0);
        lanes.push(Arc::downgrade(lane.lane()));
        drop(lanes);
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

    /// The task of this name, if it was registered here.
    fn _task(slf: &Bound<'_, Self>, name: &str) -> Option<Task> {
        let py = slf.py();
        let own = slf.get();
        let handlers = own.handlers.lock();
        let parts = Self::parts(&handlers, name)?;
        let (function, plan) = (parts.function.clone_ref(py), parts.plan.clone_ref(py));
        let key_of = parts.key_of.as_ref().map(|function| function.clone_ref(py));
        Some(Task::new(slf.clone().unbind(), function, plan, name.to_owned()).with_keys(key_of))
    }

    /// Submits by name; `payload` is the JSON of the arguments. The handler may be another process's.
    fn _submit_by_name(
        &self,
        py: Python<'_>,
        name: &str,
        payload: Vec<u8>,
        allow_unknown: bool,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<TaskHandle> {
        let options = read_options(py, options)?;
        let engine = self.engine(py)?;
        let inside = self.on_its_loop();
        let submit = || {
            let entry = engine.handler_anywhere(name, allow_unknown)?;
            let admission = engine.admission_for(&options, &entry)?;
            engine.submit(&entry, &admission, payload.into_boxed_slice().into(), None, inside)
        };
        let handle = HangOnUnwind::around(|| py.detach(submit)).map_err(|error| to_python(py, &error))?;
        self.submitted(py)?;
        Ok(TaskHandle::new(handle, None))
    }

    fn get(&self, py: Python<'_>, id: GivenId) -> PyResult<Option<TaskHandle>> {
        let GivenId(id) = id;
        let engine = self.engine(py)?;
        let found =
            HangOnUnwind::around(|| py.detach(|| engine.get(id))).map_err(|error| to_python(py, &error))?;
        Ok(found.map(|handle| self.wrap(py, handle)))
    }

    #[pyo3(signature = (id, reason = None))]
    fn _cancel(&self, py: Python<'_>, id: GivenId, reason: Option<&str>) -> PyResult<bool> {
        let GivenId(id) = id;
        let engine = self.engine(py)?;
        HangOnUnwind::around(|| py.detach(|| engine.cancel(id, reason)))
            .map_err(|error| to_python(py, &error))
    }

    /// How many tasks are in each state, and how the workers are.
    fn _counts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let engine = self.engine(py)?;
        let counts =
            HangOnUnwind::around(|| py.detach(|| engine.counts())).map_err(|error| to_python(py, &error))?;
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
        let abandoned = self.abandoned.load(Ordering::Relaxed);
        if !abandoned || !self.revived.load(Ordering::Relaxed) && self.is_quiet() {
            for parts in self.handlers.lock().iter() {
                visit.call(&parts.function)?;
                visit.call(&parts.plan)?;
                visit.call(&parts.context)?;
                visit.call(&parts.middleware)?;
                parts.hooks.iter().flatten().flatten().try_for_each(|hook| visit.call(hook))?;
                let own = parts.retry_rules.iter().chain(&parts.key_of);
                own.into_iter().try_for_each(|own| visit.call(own))?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        // Dropped without the lock: what they hold may come back here as it goes.
        let handlers = std::mem::take(&mut *self.handlers.lock());
        drop(handlers);
        self.processes.clear();
        self.app.forget();
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
pub(crate) fn read_values(
    py: Python<'_>,
    values: Option<&Bound<'_, PyDict>>,
) -> PyResult<Vec<(String, Value)>> {
    let Some(values) = values.filter(|values| !values.is_empty()) else { return Ok(Vec::new()) };
    let plain = ffi::call_with(&helper_in(py, "taskloom._options", "plain")?, (values,))?;
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
    } else if let Ok(texts) = value.cast::<PyList>() {
        Value::Texts(texts.extract()?)
    } else if let Ok(pairs) = value.cast::<PyDict>() {
        // `_options.plain` has seen to it that all values are of one kind.
        if pairs.values().iter().all(|value| value.is_instance_of::<PyInt>()) && !pairs.is_empty() {
            Value::Weights(
                pairs
                    .iter()
                    .map(|(key, value)| Ok((key.extract()?, value.extract()?)))
                    .collect::<PyResult<_>>()?,
            )
        } else {
            Value::Pairs(
                pairs
                    .iter()
                    .map(|(key, value)| Ok((key.extract()?, value.extract()?)))
                    .collect::<PyResult<_>>()?,
            )
        }
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
