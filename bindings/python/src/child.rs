//! The end of a pool that is in the child process: tasks come in through a socket and results go out.
//!
//! # Threads
//! *The main thread* runs handlers, one after the other, and Python alone (`taskloom._child`). *The reader* takes frames
//! from the socket; it never needs the global lock, so a handler that keeps that for an hour does not keep the child from
//! hearing that a task behind it is called back, or that its parent has died. *The flusher* sends results that the main
//! thread has not got around to sending, at most [`LINGER`] after they exist, whatever runs then.
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

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use taskloom_bridge::children::wire::{Broken, Fields, Incoming, Outgoing, down, up};
use taskloom_engine::{Clock, SystemClock};
use taskloom_model::TaskId;

use crate::ffi::HangOnUnwind;
use crate::plan::Plan;
use crate::runtime::{PyRuntime, interruptible};
use crate::variables::{EmptyContext, run_in};

/// A result waits no longer than this for others to go with it.
const LINGER: Duration = Duration::from_micros(100);

/// Results of so many bytes are sent at once.
const MUCH: usize = 32 << 10;

/// Whether it imports what its handlers need.
static IMPORTS: AtomicBool = AtomicBool::new(false);

/// Whether this process is a child that imports what its handlers need.
pub(crate) fn is_importing() -> bool {
    IMPORTS.load(Ordering::Relaxed)
}

/// What a task brings that few handlers ask for.
#[derive(Default)]
struct Rare {
    tags: Vec<String>,
    metadata: Vec<(String, String)>,
    correlation_id: Option<String>,
    schedule: Option<(String, i64)>,
}

/// A task that this child is to run.
#[pyclass(frozen, name = "_ChildJob", module = "taskloom._native")]
pub(crate) struct Job {
    seq: u64,
    /// The number of its handler.
    #[pyo3(get)]
    handler: u32,
    id: TaskId,
    #[pyo3(get)]
    attempt: u32,
    #[pyo3(get)]
    failures: u32,
    #[pyo3(get)]
    is_last: bool,
    payload: Vec<u8>,
    #[pyo3(get)]
    queue: String,
    /// When it has taken too long, on the monotonic clock.
    ends: Option<Duration>,
    #[pyo3(get)]
    deadline: Option<i64>,
    rare: Option<Rare>,
    cancelled: AtomicBool,
}

#[pymethods]
impl Job {
    #[getter]
    fn id(&self) -> String {
        self.id.to_string()
    }

    #[getter]
    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    #[getter]
    fn time_left(&self) -> Option<f64> {
        self.ends.map(|ends| ends.saturating_sub(SystemClock.monotonic()).as_secs_f64())
    }

    #[getter]
    fn tags(&self) -> Vec<String> {
        self.rare.as_ref().map(|rare| rare.tags.clone()).unwrap_or_default()
    }

    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let metadata = PyDict::new(py);
        for (key, value) in self.rare.iter().flat_map(|rare| &rare.metadata) {
            metadata.set_item(key, value)?;
        }
        Ok(metadata)
    }

    #[getter]
    fn correlation_id(&self) -> Option<String> {
        self.rare.as_ref().and_then(|rare| rare.correlation_id.clone())
    }

    #[getter]
    fn schedule(&self) -> Option<(String, i64)> {
        self.rare.as_ref().and_then(|rare| rare.schedule.clone())
    }
}

fn read_job(fields: &mut Fields<'_>) -> Result<Job, Broken> {
    let (seq, handler) = (fields.u64()?, fields.u32()?);
    let (head, tail) = (fields.u64()?, fields.u64()?);
    let mut id = [0; 16];
    id[..8].copy_from_slice(&head.to_be_bytes());
    id[8..].copy_from_slice(&tail.to_be_bytes());
    let (attempt, failures, is_last) = (fields.u32()?, fields.u32()?, fields.u8()? != 0);
    let payload = fields.bytes()?.to_vec();
    let queue = fields.text()?.to_owned();
    let left = fields.maybe(Fields::f64)?;
    let ends = left.map(|left| {
        let span = Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX);
        SystemClock.monotonic().saturating_add(span)
    });
    let deadline = fields.maybe(Fields::i64)?;
    let rare = fields.maybe(|fields| {
        Ok(Rare {
            tags: (0..fields.u32()?).map(|_| fields.text().map(str::to_owned)).collect::<Result<_, _>>()?,
            metadata: (0..fields.u32()?)
                .map(|_| Ok((fields.text()?.to_owned(), fields.text()?.to_owned())))
                .collect::<Result<_, _>>()?,
            correlation_id: fields.maybe(Fields::text)?.map(str::to_owned),
            schedule: fields.maybe(|fields| Ok((fields.text()?.to_owned(), fields.i64()?)))?,
        })
    })?;
    Ok(Job {
        seq,
        handler,
        id: TaskId::from_bytes(id),
        attempt,
        failures,
        is_last,
        payload,
        queue,
        ends,
        deadline,
        rare,
        cancelled: AtomicBool::new(false),
    })
}

/// What the main thread is to do next.
enum Event {
    Brief(Vec<u8>),
    Prepare(u32, bool, Vec<u8>),
    Task(Job),
}

type Answer = (u64, bool, Vec<u8>);

#[derive(Default)]
struct Inbox {
    events: VecDeque<Event>,
    stopping: bool,
    /// The attempt that runs: its number in the socket, and its task's.
    current: Option<(u64, TaskId, u32)>,
    /// It was called off.
    called_off: bool,
    /// The answer that the main thread waits for, or any other thread of the handler.
    answers: Vec<Answer>,
    requests: u64,
}

struct Port {
    socket: UnixStream,
    inbox: Mutex<Inbox>,
    arrived: Condvar,
    pending: Mutex<Outgoing>,
    /// There is something to send.
    filled: Condvar,
    sending: Mutex<()>,
    runtime: Arc<PyRuntime>,
}

/// Nobody is left who could take a result.
fn die() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    std::process::abort()
}

impl Port {
    /// Sends what is pending.
    fn flush(&self) {
        let _sending = self.sending.lock();
        let bytes = self.pending.lock().take();
        if !bytes.is_empty() && (&self.socket).write_all(&bytes).is_err() {
            die();
        }
    }

    /// Writes a frame, to be sent soon.
    fn write(&self, kind: u8, fields: impl FnOnce(&mut Outgoing)) -> usize {
        let mut pending = self.pending.lock();
        let was_empty = pending.is_empty();
        pending.frame(kind, fields);
        let len = pending.len();
        drop(pending);
        if was_empty {
            self.filled.notify_one();
        }
        len
    }

    fn flusher(&self) {
        let mut pending = self.pending.lock();
        loop {
            while pending.is_empty() {
                self.filled.wait(&mut pending);
            }
            drop(pending);
            std::thread::park_timeout(LINGER);
            self.flush();
            pending = self.pending.lock();
        }
    }

    fn reader(&self) {
        let mut incoming = Incoming::default();
        let mut bytes = vec![0; 64 * 1024];
        loop {
            match (&self.socket).read(&mut bytes) {
                Ok(0) => break,
                Ok(count) => incoming.extend(&bytes[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => break,
            }
            while let Ok(Some((kind, fields))) = incoming.next_frame() {
                if self.hear(kind, Fields(fields)).is_err() {
                    die();
                }
            }
        }
        // If it was asked to end, it does so by itself.
        if !self.inbox.lock().stopping {
            die();
        }
    }

    fn hear(&self, kind: u8, mut fields: Fields<'_>) -> Result<(), Broken> {
        match kind {
            down::BRIEF => self.push(Event::Brief(fields.bytes()?.to_vec())),
            down::PREPARE => {
                let (number, good) = (fields.u32()?, fields.u8()? != 0);
                self.push(Event::Prepare(number, good, fields.bytes()?.to_vec()));
            }
            down::TASK => self.push(Event::Task(read_job(&mut fields)?)),
            down::CANCEL => self.called_off(fields.u64()?),
            down::RECALL => self.give_back(|_| true),
            down::REPLY => {
                let answer = (fields.u64()?, fields.u8()? != 0, fields.bytes()?.to_vec());
                self.inbox.lock().answers.push(answer);
                self.arrived.notify_all();
            }
            down::STOP => {
                self.inbox.lock().stopping = true;
                self.arrived.notify_all();
            }
            _ => return Err(Broken),
        }
        Ok(())
    }

    fn push(&self, event: Event) {
        let mut inbox = self.inbox.lock();
        inbox.events.push_back(event);
        drop(inbox);
        self.arrived.notify_all();
    }

    /// Gives back tasks that have not begun.
    fn give_back(&self, which: impl Fn(&Job) -> bool) {
        let mut returned = Vec::new();
        {
            let mut inbox = self.inbox.lock();
            let fits = |event: &Event| matches!(event, Event::Task(job) if which(job));
            inbox.events.retain(|event| {
                let fits = fits(event);
                if fits && let Event::Task(job) = event {
                    returned.push(job.seq);
                }
                !fits
            });
        }
        if !returned.is_empty() {
            self.write(up::RETURNED, |out| {
                out.u32(returned.len() as u32);
                returned.iter().for_each(|seq| out.u64(*seq));
            });
            self.flush();
        }
    }

    fn called_off(&self, seq: u64) {
        let mut inbox = self.inbox.lock();
        if let Some((_, id, attempt)) = inbox.current.filter(|(current, ..)| *current == seq) {
            inbox.called_off = true;
            drop(inbox);
            self.arrived.notify_all();
            self.runtime.interrupt_running((id, attempt));
        } else {
            drop(inbox);
            self.give_back(|job| job.seq == seq);
        }
    }

    /// Waits for what is to be done next.
    fn next(&self) -> Option<Event> {
        let mut inbox = self.inbox.lock();
        loop {
            if let Some(event) = inbox.events.pop_front() {
                if let Event::Task(job) = &event {
                    inbox.current = Some((job.seq, job.id, job.attempt));
                    inbox.called_off = false;
                }
                return Some(event);
            }
            if inbox.stopping {
                return None;
            }
            self.arrived.wait(&mut inbox);
        }
    }

    fn has_events(&self) -> bool {
        !self.inbox.lock().events.is_empty()
    }
}

/// The child's end of the socket, as `taskloom._child` uses it.
#[pyclass(frozen, name = "_ChildPort", module = "taskloom._native")]
pub(crate) struct ChildPort(Arc<Port>);

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
        let runtime = Arc::new(PyRuntime::default());
        runtime.enlist();
        let port = Arc::new(Port {
            socket: UnixStream::from(socket),
            inbox: Mutex::default(),
            arrived: Condvar::new(),
            pending: Mutex::default(),
            filled: Condvar::new(),
            sending: Mutex::new(()),
            runtime,
        });
        let (reader, flusher) = (Arc::clone(&port), Arc::clone(&port));
        taskloom_engine::spawn_thread("taskloom-reader", move || reader.reader())
            .map_err(PyOSError::new_err)?;
        taskloom_engine::spawn_thread("taskloom-flusher", move || flusher.flusher())
            .map_err(PyOSError::new_err)?;
        Ok(Self(port))
    }

    /// What is to be done next: bytes (what there is to know), a tuple (how to make a handler), a job, or None: the end.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let port = &self.0;
        let event = if port.has_events() { port.next() } else { self.wait(py) };
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
        let inbox = self.0.inbox.lock();
        !matches!(inbox.current, Some((seq, ..)) if seq == job.get().seq) || inbox.called_off
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
        let port = &self.0;
        let span = timeout.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok());
        let answer = HangOnUnwind::around(|| {
            py.detach(|| {
                let request = {
                    let mut inbox = port.inbox.lock();
                    inbox.requests += 1;
                    inbox.requests
                };
                port.write(up::REQUEST, |out| {
                    out.u64(request);
                    out.u64(seq);
                    out.u8(what);
                    out.bytes(body);
                });
                port.flush();
                let answer = port.answer(seq, request, span);
                if answer.is_none() {
                    port.write(up::GIVEN_UP, |out| out.u64(request));
                }
                answer
            })
        });
        Ok(answer.map(|(good, bytes)| (good, PyBytes::new(py, &bytes))))
    }
}

impl Port {
    fn answer(&self, seq: u64, request: u64, span: Option<Duration>) -> Option<(bool, Vec<u8>)> {
        let end = span.and_then(taskloom_engine::deadline_after);
        let mut inbox = self.inbox.lock();
        loop {
            if let Some(place) = inbox.answers.iter().position(|(own, ..)| *own == request) {
                let (_, good, bytes) = inbox.answers.swap_remove(place);
                return Some((good, bytes));
            }
            let is_over = !matches!(inbox.current, Some((current, ..)) if current == seq);
            if is_over || inbox.called_off {
                return None;
            }
            match end {
                Some(end) if self.arrived.wait_until(&mut inbox, end).timed_out() => return None,
                Some(_) => {}
                None => self.arrived.wait(&mut inbox),
            }
        }
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
        {
            let mut inbox = self.0.inbox.lock();
            inbox.current = None;
            // Nobody waits for these any more.
            inbox.answers.clear();
        }
        if len > MUCH {
            HangOnUnwind::around(|| py.detach(|| self.0.flush()));
        }
    }
}

fn took(begun: Duration) -> u32 {
    u32::try_from((SystemClock.monotonic() - begun).as_micros()).unwrap_or(u32::MAX)
}
