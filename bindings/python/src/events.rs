//! Events for Python: subscriptions whose reader is a thread of ours, an iterator, or an event loop.
//!
//! # Threads
//! `App.on` has a thread of its own for each subscription: it waits outside Python, takes what is there in batches, and
//! hands each batch to `_events.dispatch`. So a slow subscriber holds up nobody but itself; what it misses it is told.
//! The thread ends with its subscription, which ends with its engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::exceptions::PyBaseException;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PyString};
use taskloom_engine::{Engine, Event, Subscription, SubscriptionOptions, catalog, check_own_name};
use taskloom_model::Timestamp;

use crate::app::NativeApp;
use crate::decode::decode_any;
use crate::entry::{self, Entry};
use crate::errors::{helper_in, to_python};
use crate::ffi;
use crate::handle::{seconds, wait_for};
use crate::signal::Signal;
use crate::told;

/// How many events are handed to Python at once.
const BATCH: usize = 512;

/// A fact about a task, a queue, a worker or the engine.
#[pyclass(frozen, name = "Event", module = "taskloom")]
pub(crate) struct PyEvent(Arc<Event>);

impl PyEvent {
    pub(crate) fn event(&self) -> Arc<Event> {
        Arc::clone(&self.0)
    }
}

#[pymethods]
impl PyEvent {
    #[getter]
    fn name<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        PyString::new(py, self.0.name())
    }

    #[getter]
    fn id(&self) -> String {
        self.0.id.to_string()
    }

    #[getter]
    fn time(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        static WHEN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let when =
            WHEN.get_or_try_init(py, || Ok::<_, PyErr>(helper_in(py, "taskloom._info", "_time")?.unbind()))?;
        // Behind a guard: subscribers ask on threads that the end of the interpreter tears down.
        Ok(ffi::call_with(when.bind(py), (Timestamp::micros(self.0.time),))?.unbind())
    }

    #[getter]
    fn task_id(&self) -> Option<String> {
        self.0.task.map(|id| id.to_string())
    }

    #[getter]
    fn data(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        decode_any(py, self.0.data.as_bytes())
    }

    fn to_json(&self) -> String {
        self.0.to_json().into()
    }

    fn __repr__(&self) -> String {
        format!("<Event {}>", self.0.to_json())
    }
}

/// The reader's end of a subscription.
#[pyclass(frozen, name = "_Subscription", module = "taskloom._native")]
pub(crate) struct PySubscription {
    subscription: Arc<Subscription>,
    /// Wakes an event loop; made when the first one asks.
    signal: Mutex<Option<Arc<Signal>>>,
}

#[pymethods]
impl PySubscription {
    /// Events that are there, without waiting.
    fn drain(&self) -> Vec<PyEvent> {
        if let Some(signal) = self.signal.lock().as_ref() {
            signal.clear();
        }
        let mut events = Vec::new();
        self.subscription.drain(&mut events, BATCH);
        if events.len() == BATCH {
            // There may be more, and the next edge is far.
            if let Some(signal) = self.signal.lock().as_ref() {
                signal.raise();
            }
        }
        events.into_iter().map(PyEvent).collect()
    }

    /// Waits for the next event; None when the time is over or the subscription has ended.
    #[pyo3(signature = (timeout = None))]
    fn next(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Option<PyEvent>> {
        let timeout = seconds(timeout)?;
        let wait = |slice: Option<Duration>| {
            let deadline = slice.and_then(taskloom_engine::deadline_after);
            self.subscription.wait(deadline);
            Ok(!self.subscription.is_empty() || self.subscription.is_ended())
        };
        wait_for(py, timeout, wait)?;
        let mut events = Vec::with_capacity(1);
        self.subscription.drain(&mut events, 1);
        Ok(events.pop().map(PyEvent))
    }

    /// What a loop is to watch for reading.
    fn fileno(&self) -> PyResult<i32> {
        let mut signal = self.signal.lock();
        if signal.is_none() {
            let own = Arc::new(Signal::new()?);
            let raise = Arc::clone(&own);
            self.subscription.set_waker(Some(Arc::new(move || raise.raise())));
            *signal = Some(own);
        }
        Ok(signal.as_ref().map_or(-1, |signal| signal.fileno()))
    }

    /// Whether there is something to drain.
    #[getter]
    fn ready(&self) -> bool {
        !self.subscription.is_empty()
    }

    #[getter]
    fn ended(&self) -> bool {
        self.subscription.is_ended()
    }

    #[getter]
    fn dropped(&self) -> u64 {
        self.subscription.dropped()
    }

    fn close(&self) {
        self.subscription.close();
    }
}

fn subscribe(py: Python<'_>, engine: &Engine, pattern: &str, capacity: usize) -> PyResult<Arc<Subscription>> {
    let options = SubscriptionOptions { capacity, ..SubscriptionOptions::default() };
    engine.subscribe(pattern, options).map(Arc::new).map_err(|error| to_python(py, &error))
}

/// Subscribes, for a reader that asks by itself.
#[pyfunction(name = "_subscribe")]
pub(crate) fn subscribe_reader(
    py: Python<'_>,
    app: &Bound<'_, NativeApp>,
    pattern: &str,
    capacity: usize,
) -> PyResult<PySubscription> {
    let engine = app.get().engine(py)?;
    Ok(PySubscription { subscription: subscribe(py, &engine, pattern, capacity)?, signal: Mutex::new(None) })
}

/// A subscriber that is called by a thread of its own, with each engine that the app opens.
#[pyclass(frozen, name = "_Listener", module = "taskloom._native")]
pub(crate) struct Listener(Arc<Listening>);

struct Listening {
    pattern: String,
    capacity: usize,
    /// `dispatch(events)`; None once it is closed.
    dispatch: Mutex<Option<Py<PyAny>>>,
    current: Mutex<Option<Arc<Subscription>>>,
    /// Its app was finalized: it ends, and for good.
    abandoned: AtomicBool,
    /// How many threads there are that may call `dispatch`.
    reading: AtomicUsize,
}

/// A thread that may call `dispatch`.
struct Reading(Arc<Listening>);

impl Reading {
    fn new(listening: &Arc<Listening>) -> Self {
        listening.reading.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(listening))
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.reading.fetch_sub(1, Ordering::SeqCst);
        told::changed();
    }
}

impl Listener {
    /// Whether a thread may still call its subscriber.
    pub(crate) fn is_reading(&self) -> bool {
        self.0.reading.load(Ordering::SeqCst) > 0
    }
}

#[pymethods]
impl Listener {
    /// Events that it missed in the engine of the moment.
    #[getter]
    fn dropped(&self) -> u64 {
        self.0.current.lock().as_ref().map_or(0, |subscription| subscription.dropped())
    }

    /// Nobody can reach its app any more. Called by `App.__del__`.
    fn _abandon(&self) {
        self.0.abandoned.store(true, Ordering::SeqCst);
        if let Some(subscription) = self.0.current.lock().take() {
            subscription.close();
        }
    }

    // The lock is held for an instant, never over a call into Python.

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // As with an app's handlers (see `NativeApp`): the collector must see that only the cycle refers to it, but must
        // not take apart what a thread may still call.
        if self.0.abandoned.load(Ordering::SeqCst) && self.0.reading.load(Ordering::SeqCst) > 0 {
            return Ok(());
        }
        self.0.dispatch.lock().as_ref().map_or(Ok(()), |dispatch| visit.call(dispatch))
    }

    fn __clear__(&self) {
        self.close();
    }

    fn close(&self) {
        let dispatch = self.0.dispatch.lock().take();
        if let Some(subscription) = self.0.current.lock().take() {
            subscription.close();
        }
        drop(dispatch);
    }
}

impl Listening {
    fn begin(self: &Arc<Self>, engine: &Engine) -> taskloom_model::Result<()> {
        if self.dispatch.lock().is_none() || self.abandoned.load(Ordering::SeqCst) {
            return Ok(());
        }
        let options = SubscriptionOptions { capacity: self.capacity, ..SubscriptionOptions::default() };
        let subscription = Arc::new(engine.subscribe(&self.pattern, options)?);
        *self.current.lock() = Some(Arc::clone(&subscription));
        let own = Reading::new(self);
        let life = move || {
            told::tells_here();
            own.0.read(&subscription);
        };
        // Without a thread nobody listens; the engine works all the same.
        let _ = taskloom_engine::spawn_thread("taskloom-events", life);
        Ok(())
    }

    fn read(&self, subscription: &Subscription) {
        let mut events = Vec::new();
        while !subscription.is_ended() || !subscription.is_empty() {
            subscription.wait(None);
            if subscription.drain(&mut events, BATCH) == 0 {
                continue;
            }
            let told = entry::visit(|py, entry| {
                let dispatch = self.dispatch.lock().as_ref().map(|dispatch| dispatch.clone_ref(py));
                let Some(dispatch) = dispatch else { return false };
                Self::hand_over(py, entry, dispatch.bind(py), &mut events);
                true
            });
            if told != Some(true) {
                return;
            }
        }
    }

    fn hand_over(py: Python<'_>, entry: &Entry, dispatch: &Bound<'_, PyAny>, events: &mut Vec<Arc<Event>>) {
        let batch: PyResult<Vec<_>> = events.drain(..).map(|event| Bound::new(py, PyEvent(event))).collect();
        let batch = batch.and_then(|batch| PyList::new(py, batch));
        entry.host(py, || {
            if let Err(error) = batch.and_then(|batch| ffi::call_with(dispatch, (batch,))) {
                ffi::report(py, error, Some(dispatch));
            }
        });
    }
}

/// Has `dispatch(events)` called for events that fit a pattern.
#[pyfunction(name = "_listen")]
pub(crate) fn listen(
    py: Python<'_>,
    app: &Bound<'_, NativeApp>,
    pattern: &str,
    capacity: usize,
    dispatch: Py<PyAny>,
) -> PyResult<Listener> {
    // Said now, whether or not there is an engine.
    taskloom_engine::Pattern::new(pattern).map_err(|error| to_python(py, &error))?;
    let listening = Arc::new(Listening {
        pattern: pattern.to_owned(),
        capacity,
        dispatch: Mutex::new(Some(dispatch)),
        current: Mutex::new(None),
        abandoned: AtomicBool::new(false),
        reading: AtomicUsize::new(0),
    });
    let weak = Arc::downgrade(&listening);
    app.get().bridge().on_open(Box::new(move |engine| {
        if let Some(listening) = weak.upgrade() {
            // The pattern is fine, and the engine has just been opened.
            let _ = listening.begin(engine);
        }
    }));
    Ok(Listener(listening))
}

/// Hands an exception that has nowhere to go to `sys.unraisablehook`, as the interpreter itself does. What the hook
/// raises the interpreter prints.
#[pyfunction(name = "_report")]
pub(crate) fn report(py: Python<'_>, error: Bound<'_, PyBaseException>, object: &Bound<'_, PyAny>) {
    ffi::report(py, PyErr::from_value(error.into_any()), Some(object));
}

/// Publishes an event of the user's own; `data` is JSON.
#[pyfunction(name = "_publish")]
pub(crate) fn publish(py: Python<'_>, app: &Bound<'_, NativeApp>, name: &str, data: &str) -> PyResult<()> {
    let engine = app.get().engine(py)?;
    engine.publish(name, None, data).map_err(|error| to_python(py, &error))
}

/// Publishes that a handler keeps its event loop from turning. Nothing happens if there is no engine.
#[pyfunction(name = "_loop_blocked")]
pub(crate) fn loop_blocked(
    py: Python<'_>,
    app: &Bound<'_, NativeApp>,
    name: &str,
    task_id: &str,
    seconds: f64,
) -> PyResult<()> {
    let task = task_id.parse().map_err(|error| to_python(py, &error))?;
    if let Some(engine) = app.get().bridge().current() {
        let blocked = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        engine.publish_blocked(task, name, blocked);
    }
    Ok(())
}

/// Refuses a name that an event of the user's cannot have.
#[pyfunction(name = "_check_event_name")]
pub(crate) fn check_event_name(py: Python<'_>, name: &str) -> PyResult<()> {
    check_own_name(name).map_err(|error| to_python(py, &error))
}

/// The catalogue: name, category, description, who fires it, JSON Schema, example.
#[pyfunction(name = "_event_catalog")]
pub(crate) fn event_catalog() -> Vec<(&'static str, String, &'static str, &'static str, String, &'static str)>
{
    catalog()
        .iter()
        .map(|info| {
            (info.name, info.category.to_string(), info.description, info.fired, info.schema(), info.example)
        })
        .collect()
}
