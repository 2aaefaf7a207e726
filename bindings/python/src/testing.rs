//! An app in testing mode (`app.testing()`): its engine has no threads, and a clock that the test turns.
//!
//! Handlers run on the thread that drives: the one that advances the clock, drains, or waits for a result. `async def`
//! handlers run on an event loop that drives with it ([`crate::lane::Lane::step`] calls back into Python), or on the test's
//! own, which drives by itself.
//!
//! # Interrupts
//! On the driving thread an exception out of nowhere would land in the test. So a `def` handler that was called off is not
//! interrupted: it is told where it can have come to that, when it turns the clock (`taskloom.testing`). A coroutine is
//! cancelled, on the spot.
//!
//! Ctrl-C is raised in whatever runs on the main thread, and that may be a handler. It is the attempt's outcome, as any
//! exception is; but it is meant for the program. So it is noted ([`note_interrupt`]), the engine rests, and whoever drove
//! it raises `KeyboardInterrupt`.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use taskloom_bridge::Testing;
use taskloom_engine::{Handle, Runtime};
use taskloom_model::{Fence, Result};
use taskloom_store::Task;

use crate::app::NativeApp;
use crate::decode::decode_any;
use crate::errors::to_python;
use crate::ffi::HangOnUnwind;
use crate::handle::TaskHandle;
use crate::reference::Reference;
use crate::runtime::PyRuntime;

thread_local! {
    /// Whether this thread drives an engine.
    static DRIVES: Cell<bool> = const { Cell::new(false) };
}

/// Ctrl-C came while a handler ran.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// A handler raised this.
pub(crate) fn note_interrupt(py: Python<'_>, error: &PyErr) {
    if DRIVES.get() && error.is_instance_of::<PyKeyboardInterrupt>(py) {
        INTERRUPTED.store(true, Ordering::Relaxed);
    }
}

/// Drives an engine, on this thread.
pub(crate) fn drive<T: Send>(py: Python<'_>, work: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
    let before = DRIVES.replace(true);
    let value = HangOnUnwind::around(|| py.detach(work));
    DRIVES.set(before);
    if !before && INTERRUPTED.swap(false, Ordering::Relaxed) {
        return Err(PyKeyboardInterrupt::new_err(()));
    }
    value.map_err(|error| to_python(py, &error))
}

/// Python as a driven engine knows it.
struct Driven(Arc<PyRuntime>);

impl Runtime for Driven {
    fn attached(&self, life: &mut dyn FnMut()) {
        HangOnUnwind::around(|| Python::attach(|_| life()));
    }

    fn detached(&self, wait: &mut (dyn FnMut() + Send)) {
        HangOnUnwind::around(|| Python::attach(|py| py.detach(wait)));
    }

    fn is_interrupted(&self) -> bool {
        INTERRUPTED.load(Ordering::Relaxed)
    }

    fn interrupt(&self, task: &Arc<Task>, fence: Fence) {
        if let Some(lane) = self.0.lane() {
            HangOnUnwind::around(|| Python::attach(|py| lane.cancel(py, (task.id(), fence.attempt))));
        }
    }
}

/// What was submitted.
struct Kept {
    handle: Handle,
    /// The arguments of a task by reference, which lets go of its own.
    call: Option<(Py<PyTuple>, Option<Py<PyDict>>)>,
}

/// The mode, as the app knows it.
pub(crate) struct Mode {
    testing: Testing,
    inline: bool,
    kept: Mutex<Vec<Kept>>,
}

impl Mode {
    /// Looks at what has been submitted meanwhile.
    fn note(&self, py: Python<'_>) -> PyResult<()> {
        let mut kept = self.kept.lock();
        let new = self.testing.submitted_after(kept.len()).map_err(|error| to_python(py, &error))?;
        for handle in new {
            let call =
                Reference::of(handle.task()).map(|reference| reference.call(py)).transpose()?.flatten();
            let call = call.map(|(args, kwargs)| (args.unbind(), kwargs.map(Bound::unbind)));
            kept.push(Kept { handle, call });
        }
        Ok(())
    }

    /// Something was submitted.
    pub(crate) fn submitted(&self, py: Python<'_>) -> PyResult<()> {
        self.note(py)?;
        if self.inline {
            drive(py, || self.testing.drain())?;
        }
        Ok(())
    }
}

/// The mode, as the test knows it. Times are microseconds: since the epoch, or of a clock that only goes forward.
#[pyclass(frozen, name = "_Testing", module = "taskloom._native")]
pub(crate) struct NativeTesting {
    app: Py<NativeApp>,
    mode: Arc<Mode>,
}

#[pymethods]
impl NativeTesting {
    /// Goes into testing mode, until `end`.
    #[new]
    fn begin(
        py: Python<'_>,
        app: &Bound<'_, NativeApp>,
        start: Option<i64>,
        seed: u64,
        inline: bool,
    ) -> PyResult<Self> {
        let own = app.get();
        let runtime = Arc::new(Driven(Arc::clone(own.runtime())));
        own.processes().set_inline(true);
        let begin = || {
            let testing = Testing::begin(own.bridge(), start, seed, runtime)?;
            Ok(Arc::new(Mode { testing, inline, kept: Mutex::default() }))
        };
        let mode = HangOnUnwind::around(|| py.detach(begin)).map_err(|error| {
            own.processes().set_inline(false);
            to_python(py, &error)
        })?;
        own.set_mode(Some(Arc::clone(&mode)));
        Ok(Self { app: app.clone().unbind(), mode })
    }

    /// Ends it: what runs is called off, and what has not run never will.
    fn end(&self, py: Python<'_>) -> PyResult<()> {
        self.mode.note(py)?;
        self.app.get().set_mode(None);
        HangOnUnwind::around(|| py.detach(|| self.app.get().bridge().end_testing()));
        self.app.get().processes().set_inline(false);
        Ok(())
    }

    /// Runs what can be run; how long it is until more can, if ever.
    fn drain(&self, py: Python<'_>) -> PyResult<Option<u64>> {
        let next = drive(py, || self.mode.testing.drain())?;
        self.mode.note(py)?;
        Ok(next)
    }

    /// Turns the clock on, stopping wherever something is due.
    fn advance(&self, py: Python<'_>, span: u64) -> PyResult<()> {
        drive(py, || self.mode.testing.advance(span))?;
        self.mode.note(py)
    }

    /// Turns the clock to a time: forward as by `advance`, or back.
    fn set_time(&self, py: Python<'_>, at: i64) -> PyResult<()> {
        drive(py, || self.mode.testing.set_time(at))?;
        self.mode.note(py)
    }

    /// Turns the clock on, and nothing else.
    fn turn(&self, span: u64) {
        self.mode.testing.turn(span);
    }

    /// Whether the mode has ended.
    #[getter]
    fn is_over(&self) -> bool {
        self.mode.testing.is_over()
    }

    #[getter]
    fn now(&self) -> i64 {
        self.mode.testing.now()
    }

    #[getter]
    fn monotonic(&self) -> u64 {
        self.mode.testing.monotonic()
    }

    /// Everything that was submitted: the handle; and the payload, decoded, or for a task by reference its arguments.
    fn submitted<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        if !self.is_over() {
            self.mode.note(py)?;
        }
        let app = self.app.get();
        let kept = self.mode.kept.lock();
        kept.iter()
            .map(|one| {
                let handle = Py::new(py, app.wrap(py, one.handle.clone()))?.into_any();
                let call = match &one.call {
                    Some((args, kwargs)) => {
                        let kwargs = kwargs.as_ref().map(|kwargs| kwargs.clone_ref(py));
                        (args.clone_ref(py), kwargs).into_pyobject(py)?.into_any().unbind()
                    }
                    None => decode_any(py, &one.handle.task().spec().payload)?,
                };
                PyTuple::new(
                    py,
                    [handle, one.call.is_some().into_pyobject(py)?.to_owned().into_any().unbind(), call],
                )
            })
            .collect()
    }
}

/// A handle of an engine that is driven: a wait for it drives.
pub(crate) fn wait_driven(py: Python<'_>, handle: &TaskHandle, timeout: Option<Duration>) -> PyResult<bool> {
    drive(py, || handle.handle().wait(timeout))
}
