//! The end of a pool that is in the child process: tasks come in through a socket and results go out.
//!
//! # Threads
//! *The main thread* runs handlers, one after the other, and Python alone (`taskloom._child`). *The reader* takes frames
//! from the socket; it never needs the global lock, so a handler that keeps that for an hour does not keep the child from
//! hearing that a task behind it is called back, or that its parent has died. *The flusher* sends results that the main
//! thread has not got around to sending, at most `link::LINGER` after they exist, whatever runs then.
//!
//! # Invariants
//! * A task is in the inbox until the main thread takes it, and `current` from then until its outcome is written. Both
//!   are under one lock: so a task that is called back either has not begun, and never will here, or is left alone.
//! * Whoever sends holds `sending` from the moment when it takes what is pending until all of it is written: frames keep
//!   their order.
//! * If the parent goes, the reader ends the process at once (SIGKILL, to itself): nobody is left who could take a
//!   result. On Linux the kernel does the same when the thread that started this process ends.
//!
//! # Interrupts
//! As on any worker thread ([`crate::runtime`]): the main thread has a slot there.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use taskloom_bridge::children::wire::{Outgoing, up};
use taskloom_engine::{Clock, SystemClock};

pub(crate) use self::job::Job;
use self::link::{Event, Link};
use crate::ffi::HangOnUnwind;
use crate::plan::Plan;
use crate::runtime::interruptible;
use crate::variables::{EmptyContext, run_in};

mod job;
mod link;

/// Results of so many bytes are sent at once.
const MUCH: usize = 32 << 10;

/// Whether it imports what its handlers need.
static IMPORTS: AtomicBool = AtomicBool::new(false);

/// Whether this process is a child that imports what its handlers need.
pub(crate) fn is_importing() -> bool {
    IMPORTS.load(Ordering::Relaxed)
}

/// The child's end of the socket, as `taskloom._child` uses it.
#[pyclass(frozen, name = "_ChildPort", module = "taskloom._native")]
pub(crate) struct ChildPort(Arc<Link>);

#[pymethods]
impl ChildPort {
    /// Takes the socket from the place of standard input. `parent` is the process that has started this one.
    #[new]
    fn new(parent: i32) -> PyResult<Self> {
        #[cfg(target_os = "linux")]
        {
            let signal = Some(rustix::process::Signal::KILL);
            let _ = rustix::process::set_parent_process_death_signal(signal);
        }
        let is_parent = rustix::process::getppid().is_some_and(|own| own.as_raw_nonzero().get() == parent);
        if !is_parent {
            return Err(PyRuntimeError::new_err("the process that has started this one is gone"));
        }
        let socket = std::io::stdin().as_fd().try_clone_to_owned()?;
        Link::open(UnixStream::from(socket)).map(Self).map_err(PyOSError::new_err)
    }

    /// What is to be done next: bytes (what there is to know), a tuple (how to make a handler), a job, or None: the end.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let event = if self.0.has_events() { self.0.next() } else { self.wait(py) };
        Ok(match event {
            None => None,
            Some(Event::Brief(bytes)) => Some(PyBytes::new(py, &bytes).into_any()),
            Some(Event::Prepare(number, good, recipe)) => {
                Some((number, good, PyBytes::new(py, &recipe)).into_pyobject(py)?.into_any())
            }
            Some(Event::Task(job)) => Some(Bound::new(py, job)?.into_any()),
        })
    }

    /// It is ready, or has made a handler.
    #[pyo3(signature = (number = None))]
    fn ready(&self, number: Option<u32>) {
        match number {
            None => self.0.write(up::READY, |_| {}),
            Some(number) => self.0.write(up::PREPARED, |out| out.u32(number)),
        };
        self.0.flush();
    }

    /// Notes that the process imports what its handlers need, or has done so.
    fn importing(&self, is_so: bool) {
        IMPORTS.store(is_so, Ordering::Relaxed);
    }

    /// Runs a handler, and writes its result. `context` makes the context. If it raises, so does this: `fail` is next.
    fn run(
        &self,
        py: Python<'_>,
        job: &Bound<'_, Job>,
        plan: &Bound<'_, Plan>,
        function: &Bound<'_, PyAny>,
        context: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let (own, plan) = (job.get(), plan.get());
        let begun = SystemClock.monotonic();
        let (args, kwargs) = plan.decode_call(py, &own.payload, |_| context.call0().map(Bound::unbind))?;
        let empty = EmptyContext::take(py)?;
        let value = interruptible(py, (own.id, own.attempt), || {
            run_in(empty.context(py), function, &args, kwargs.as_ref())
        });
        empty.give_back(py);
        let result = plan.encode_result(py, &value?)?;
        let len = self.0.write(up::DONE, |out| {
            out.u64(own.seq);
            out.u32(took(begun));
            out.bytes(&result);
        });
        self.over(py, len);
        Ok(())
    }

    /// A handler raised. `took` is how long it took, in seconds.
    #[pyo3(signature = (job, took, kind, message, backtrace, permanent, retry_after, pickled))]
    #[expect(clippy::too_many_arguments, reason = "called from one place, which is ours")]
    fn fail(
        &self,
        py: Python<'_>,
        job: &Bound<'_, Job>,
        took: f64,
        kind: &str,
        message: &str,
        backtrace: &str,
        permanent: bool,
        retry_after: Option<f64>,
        pickled: Option<&[u8]>,
    ) {
        let len = self.0.write(up::FAILED, |out| {
            out.u64(job.get().seq);
            out.u32((took * 1e6) as u32);
            out.text(kind);
            out.text(message);
            out.text(backtrace);
            out.u8(permanent.into());
            out.maybe(retry_after, Outgoing::f64);
            out.maybe(pickled, Outgoing::bytes);
        });
        self.over(py, len);
    }

    /// A handler put off its key.
    fn postpone(&self, py: Python<'_>, job: &Bound<'_, Job>, took: f64, key: &str, wait: f64) {
        let len = self.0.write(up::POSTPONED, |out| {
            out.u64(job.get().seq);
            out.u32((took * 1e6) as u32);
            out.text(key);
            out.f64(wait);
        });
        self.over(py, len);
    }

    /// Whether the attempt was called off.
    fn is_called_off(&self, job: &Bound<'_, Job>) -> bool {
        self.0.is_over(job.get().seq)
    }

    #[pyo3(signature = (job, value, message))]
    fn progress(&self, job: &Bound<'_, Job>, value: f64, message: Option<&str>) {
        self.0.write(up::PROGRESS, |out| {
            out.u64(job.get().seq);
            out.f64(value);
            out.maybe(message, Outgoing::text);
        });
    }

    fn log(&self, job: &Bound<'_, Job>, level: &str, message: &str) {
        self.0.write(up::LOG, |out| {
            out.u64(job.get().seq);
            out.text(level);
            out.text(message);
        });
    }

    /// Asks the parent, and waits for the answer: whether it is a good one, and what it is. None if the time is over
    /// (in seconds), or the attempt was called off.
    #[pyo3(signature = (job, what, body, timeout = None))]
    fn ask<'py>(
        &self,
        py: Python<'py>,
        job: &Bound<'py, Job>,
        what: u8,
        body: &[u8],
        timeout: Option<f64>,
    ) -> PyResult<Option<(bool, Bound<'py, PyBytes>)>> {
        let seq = job.get().seq;
        let span = timeout.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok());
        let answer = HangOnUnwind::around(|| py.detach(|| self.0.ask(seq, what, body, span)));
        Ok(answer.map(|(good, bytes)| (good, PyBytes::new(py, &bytes))))
    }
}

impl ChildPort {
    fn wait(&self, py: Python<'_>) -> Option<Event> {
        // Nothing is left to do: who waits for the results need not wait for the flusher.
        HangOnUnwind::around(|| {
            py.detach(|| {
                self.0.flush();
                self.0.next()
            })
        })
    }

    /// The outcome of the attempt is written.
    fn over(&self, py: Python<'_>, len: usize) {
        self.0.end();
        if len > MUCH {
            HangOnUnwind::around(|| py.detach(|| self.0.flush()));
        }
    }
}

fn took(begun: Duration) -> u32 {
    u32::try_from((SystemClock.monotonic() - begun).as_micros()).unwrap_or(u32::MAX)
}
