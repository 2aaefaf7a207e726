//! Python around the engine's worker threads: attaching, letting go, interrupting.
//!
//! # Interrupts
//! A handler whose attempt was called off gets an exception in its own thread (`PyThreadState_SetAsyncExc`). It must
//! never land in the next task, nor in our own code. Each worker thread has a [`Slot`] that names the attempt whose
//! handler runs *at this moment*. The interrupter raises the exception only while it is attached, and only if the slot
//! names that very attempt. The worker empties the slot, attached too, as soon as the handler has returned, and takes
//! back an exception that was left with the thread but not raised yet. Between the handler's return and that moment the
//! thread runs no Python, so the exception cannot be raised there. One thread at a time is attached: what a slot says
//! needs no other lock.
//!
//! The interrupter is a thread of its own, because to interrupt one must attach, and the engine's services must not
//! wait for the GIL. It is started by the first interrupt.
//!
//! # The end of the interpreter
//! A thread that runs Python while the interpreter ends is torn down (see [`crate::ffi`]). Handlers are called behind a
//! guard, but around them we run Python too, through pyo3, which is not: to convert arguments, to describe an
//! exception. So at exit, after the engines were stopped, [`leave_python`] shuts a gate: a worker that comes out of its
//! handler from then on stays where it is, and those that were outside of one are waited for until they sleep, are in a
//! handler, or are gone. A worker that wakes says so before it asks for the interpreter's lock, and looks at the gate
//! then: either it is waited for until it is attached, or it sleeps on. Everything else is changed by threads that are
//! attached, so nothing slips through. Threads of ours that are no workers have a door of their own ([`crate::entry`]),
//! by which workers come in too.

use std::cell::RefCell;
use std::ffi::c_ulong;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::prelude::*;
use taskloom_bridge::children::Pool;
use taskloom_engine::Runtime;
use taskloom_model::{Fence, TaskId};
use taskloom_store::Task;

use crate::entry;
use crate::errors::interrupt_class;
use crate::ffi::{self, HangOnUnwind};
use crate::lane::Lane;
use crate::place;

type Running = (TaskId, u32);

/// A worker thread's place, as the interrupter sees it.
struct Slot {
    thread: c_ulong,
    process: u32,
    /// Not attached.
    asleep: AtomicBool,
    /// The attempt whose handler runs: its task's id in two halves, and its number, which is zero if there is none.
    task: [AtomicU64; 2],
    attempt: AtomicU32,
    /// Whether an exception was left with the thread for this attempt.
    armed: AtomicBool,
}

fn halves(id: TaskId) -> [u64; 2] {
    let (head, tail) = id.as_bytes().split_at(8);
    [head, tail].map(|half| u64::from_ne_bytes(half.try_into().expect("half of sixteen bytes")))
}

impl Slot {
    fn new() -> Self {
        Self {
            thread: ffi::thread_ident(),
            process: std::process::id(),
            asleep: AtomicBool::new(true),
            task: Default::default(),
            attempt: AtomicU32::new(0),
            armed: AtomicBool::new(false),
        }
    }

    /// A handler begins.
    fn begin(&self, _: Python<'_>, (id, attempt): Running) {
        for (own, half) in self.task.iter().zip(halves(id)) {
            own.store(half, Ordering::Relaxed);
        }
        self.attempt.store(attempt, Ordering::Relaxed);
    }

    /// Raises an exception in the handler of this attempt, if that is what runs; whether it is.
    fn interrupt(&self, py: Python<'_>, (id, attempt): Running, class: &Bound<'_, PyAny>) -> bool {
        let task = [0, 1].map(|half| self.task[half].load(Ordering::Relaxed));
        let runs = self.attempt.load(Ordering::Relaxed) == attempt && task == halves(id);
        if runs && ffi::raise_in(py, self.thread, class) {
            self.armed.store(true, Ordering::Relaxed);
        }
        runs
    }

    /// The handler has returned.
    fn end(&self, py: Python<'_>) {
        self.attempt.store(0, Ordering::Relaxed);
        if self.armed.load(Ordering::Relaxed) {
            self.armed.store(false, Ordering::Relaxed);
            ffi::take_back(py, self.thread);
        }
    }

    /// It sleeps no more, and asks for the interpreter's lock next. Does not return if Python is being left.
    fn wake(&self) {
        self.asleep.store(false, Ordering::SeqCst);
        // Either we see that it is left, or who leaves sees that we do not sleep: each writes before it looks.
        if LEAVING.load(Ordering::SeqCst) {
            self.asleep.store(true, Ordering::SeqCst);
            stay();
        }
    }

    /// Whether the interpreter may end under this thread.
    fn is_safe(&self) -> bool {
        self.process != std::process::id()
            || self.asleep.load(Ordering::SeqCst)
            || self.attempt.load(Ordering::Relaxed) != 0
    }
}

/// Every worker thread of this process.
static ALL: Mutex<Vec<Arc<Slot>>> = Mutex::new(Vec::new());

/// Whether the interpreter is about to end.
static LEAVING: AtomicBool = AtomicBool::new(false);

/// Makes the interpreter's end safe for worker threads, and them for it. See the module's essay.
#[pyfunction]
#[pyo3(name = "_leaving")]
pub(crate) fn leave_python(py: Python<'_>) {
    LEAVING.store(true, Ordering::SeqCst);
    entry::close();
    ffi::keep_what_is_freed(py);
    // Two seconds at most, or little more: handlers that do not end take turns with us at the GIL.
    let pauses = [1, 2, 4, 8, 15, 30].into_iter().chain(std::iter::repeat_n(50, 40));
    for pause in pauses.map(Duration::from_millis) {
        if entry::is_empty() && ALL.lock().iter().all(|slot| slot.is_safe()) {
            return;
        }
        py.detach(|| std::thread::park_timeout(pause));
    }
}

/// Where a thread stays when it may not run Python any more.
pub(crate) fn stay_if_leaving(py: Python<'_>) {
    if LEAVING.load(Ordering::Relaxed) {
        py.detach(|| stay());
    }
}

fn stay() -> ! {
    loop {
        std::thread::park();
    }
}

thread_local! {
    static SLOT: RefCell<Option<Arc<Slot>>> = const { RefCell::new(None) };
    static LAST: RefCell<Option<Last>> = const { RefCell::new(None) };
}

/// The last thing that a worker thread does, when it has let go of the engine: if it was the last to hold it, the
/// handlers went with it, and pyo3 drops Python objects only while attached.
struct Last(Arc<Slot>);

impl Drop for Last {
    fn drop(&mut self) {
        if !LEAVING.load(Ordering::Relaxed) {
            self.0.asleep.store(false, Ordering::Relaxed);
            // Attaching drops what waits for that. If the interpreter is gone, so is what waits.
            let _ = entry::visit(|_, _| ());
        }
        ALL.lock().retain(|other| !Arc::ptr_eq(other, &self.0));
    }
}

/// The Python side of an application's worker threads.
#[derive(Default)]
pub(crate) struct PyRuntime {
    slots: Mutex<Vec<Arc<Slot>>>,
    interrupter: Mutex<Option<Sender<Running>>>,
    /// The event loop's side, which interrupts its own tasks.
    lane: Mutex<Weak<Lane>>,
    /// The child processes, which interrupt their own.
    pool: Mutex<Weak<Pool>>,
}

impl PyRuntime {
    /// Whether there is no worker thread.
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.lock().is_empty()
    }

    pub(crate) fn lane(&self) -> Option<Arc<Lane>> {
        self.lane.lock().upgrade()
    }

    pub(crate) fn set_lane(&self, lane: Weak<Lane>) {
        *self.lane.lock() = lane;
    }

    /// The pool of child processes, if there is one.
    pub(crate) fn pool(&self) -> Option<Arc<Pool>> {
        self.pool.lock().upgrade()
    }

    pub(crate) fn set_pool(&self, pool: Weak<Pool>) {
        *self.pool.lock() = pool;
    }

    /// Makes the calling thread one whose handlers can be interrupted: the main thread of a child process, which runs
    /// handlers and belongs to no engine.
    pub(crate) fn enlist(&self) {
        let slot = Arc::new(Slot::new());
        slot.asleep.store(false, Ordering::Relaxed);
        self.slots.lock().push(Arc::clone(&slot));
        SLOT.set(Some(slot));
    }

    /// Has an exception raised in the handler of this attempt, if that is what a thread runs. Does not block.
    pub(crate) fn interrupt_running(self: &Arc<Self>, running: Running) {
        let mut interrupter = self.interrupter.lock();
        let sender = interrupter.get_or_insert_with(|| {
            let (sender, orders) = channel();
            let runtime = Arc::downgrade(self);
            // Without the thread there are no interrupts, and handlers end when they end.
            let _ = taskloom_engine::spawn_thread("taskloom-interrupter", move || {
                Self::interrupter(&runtime, &orders);
            });
            sender
        });
        // A closed channel means that the thread could not be started.
        let _ = sender.send(running);
    }

    fn interrupt_now(slots: &[Arc<Slot>], lane: Option<Arc<Lane>>, running: Running) {
        // At the end of the program there is nothing left to interrupt.
        let _ = entry::visit(|py, _| {
            // Before any slot is looked at: the first time, this imports, and others may run meanwhile.
            let Ok(class) = interrupt_class(py) else { return };
            if slots.iter().any(|slot| slot.interrupt(py, running, class)) {
                return;
            }
            if let Some(lane) = lane {
                lane.cancel(py, running);
            }
        });
    }

    /// The interrupter thread: ends when the runtime is gone.
    fn interrupter(runtime: &Weak<Self>, orders: &Receiver<Running>) {
        for running in orders {
            let Some(runtime) = runtime.upgrade() else { return };
            let slots = runtime.slots.lock().clone();
            let lane = runtime.lane.lock().upgrade();
            drop(runtime);
            Self::interrupt_now(&slots, lane, running);
        }
    }
}

/// The runtime as the engine holds it.
pub(crate) struct Shared(pub(crate) Arc<PyRuntime>);

impl Runtime for Shared {
    fn attached(&self, life: &mut dyn FnMut()) {
        let slot = Arc::new(Slot::new());
        self.0.slots.lock().push(Arc::clone(&slot));
        ALL.lock().push(Arc::clone(&slot));
        SLOT.set(Some(Arc::clone(&slot)));
        // A worker that begins when the program has ended has nothing to do.
        let _ = entry::enter(|py, entry| {
            // Asleep it stays, if it is to stay.
            stay_if_leaving(py);
            slot.asleep.store(false, Ordering::SeqCst);
            drop(entry);
            life();
        });
        slot.asleep.store(true, Ordering::SeqCst);
        SLOT.set(None);
        LAST.set(Some(Last(Arc::clone(&slot))));
        self.0.slots.lock().retain(|other| !Arc::ptr_eq(other, &slot));
    }

    fn is_serial(&self) -> bool {
        true
    }

    fn tidying(&self, work: &mut dyn FnMut()) {
        place::together(work);
    }

    fn detached(&self, wait: &mut (dyn FnMut() + Send)) {
        SLOT.with_borrow(|slot| {
            HangOnUnwind::around(|| {
                Python::attach(|py| {
                    let Some(slot) = slot else { return py.detach(wait) };
                    slot.asleep.store(true, Ordering::SeqCst);
                    py.detach(|| {
                        wait();
                        slot.wake();
                    });
                    if LEAVING.load(Ordering::Relaxed) {
                        slot.asleep.store(true, Ordering::SeqCst);
                        stay_if_leaving(py);
                    }
                });
            });
        });
    }

    fn interrupt(&self, task: &Arc<Task>, fence: Fence) {
        let running = (task.id(), fence.attempt);
        if let Some(pool) = self.0.pool() {
            pool.interrupt(running.0, running.1);
        }
        self.0.interrupt_running(running);
    }
}

/// Runs a handler on this worker thread such that it, and nothing else, can be interrupted.
pub(crate) fn interruptible<T>(py: Python<'_>, running: Running, handler: impl FnOnce() -> T) -> T {
    // Held, since a handler may itself run tasks, as a guest.
    let slot = SLOT.with_borrow(Clone::clone);
    if let Some(slot) = &slot {
        slot.begin(py, running);
    }
    let value = handler();
    // If it is to stay here, it counts as in its handler.
    stay_if_leaving(py);
    if let Some(slot) = &slot {
        slot.end(py);
    }
    value
}
