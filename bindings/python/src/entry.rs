//! The way into Python for threads of the library's own, and the end of it.
//!
//! # Why they do not simply attach
//! A thread that waits for the interpreter's lock while the interpreter ends is in danger of its life, and the program
//! with it. It notices the end only when it wakes. One that has asked for the lock before then takes its request back,
//! on CPython 3.10 from an interpreter that may have been freed meanwhile: a thread that is slow to wake ends a program
//! that was done with a segmentation fault. One that comes later still makes a state for itself in an interpreter that is
//! gone. pyo3 looks whether Python has ended and attaches then; in between it may end.
//!
//! So there is one door. At most one thread at a time is in it, which is to say that it waits for the interpreter's
//! lock; the others wait at the door, where nothing can happen to them. (It also keeps the peace: of a thousand threads
//! of subscribers that wake for one event, all would press for the interpreter's lock, and hold up those who work.)
//! [`close`] shuts the door for good, and [`is_empty`] says when nobody is on the way in any more.
//!
//! # Inside
//! A thread that has come in is counted until it is out again, except while it runs users' code ([`Entry::host`]): that
//! may take for ever, is called behind a guard (see [`crate::ffi`]), and if it returns after the door was shut, the
//! thread stays where it is. Workers are counted only until they are in; then each has its own slot
//! (see [`crate::runtime`]).
//!
//! # Forks
//! A child that a process forks has a door of its own. That of its parent may be locked there for ever, and the threads
//! that waited at it still stand in its line, though they are gone.
//!
//! # Invariants
//! Nobody who is attached to Python waits at the door: the one who is in it waits for them. The door's own lock is held
//! for moments, never over a wait for Python.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Condvar, Mutex};
use pyo3::prelude::*;
use taskloom_engine::fork_generation;

use crate::ffi::HangOnUnwind;
use crate::runtime::stay_if_leaving;

/// The door of one process.
struct Door {
    /// Of which generation of forks the process is.
    generation: u32,
    state: Mutex<State>,
    free: Condvar,
    /// How many threads are in the door, or inside and not in users' code.
    inside: AtomicUsize,
    /// That of a child, and of its child: here is where they look.
    next: OnceLock<Box<Door>>,
}

#[derive(Default)]
struct State {
    taken: bool,
    closed: bool,
}

impl Door {
    fn new(generation: u32) -> Self {
        Self {
            generation,
            state: Mutex::default(),
            free: Condvar::new(),
            inside: AtomicUsize::new(0),
            next: OnceLock::new(),
        }
    }

    /// That of this process.
    fn here() -> &'static Self {
        static FIRST: OnceLock<Box<Door>> = OnceLock::new();
        let here = fork_generation();
        let mut door = &FIRST;
        loop {
            let found = door.get_or_init(|| Box::new(Self::new(here)));
            if found.generation == here {
                return found;
            }
            door = &found.next;
        }
    }

    /// Lets the next one in.
    fn pass(&self) {
        self.state.lock().taken = false;
        self.free.notify_one();
    }
}

/// A thread's stay. It is over when this is dropped.
pub(crate) struct Entry(&'static Door);

impl Entry {
    /// Waits for the door; None if it was shut.
    fn begin() -> Option<Self> {
        let door = Door::here();
        let mut state = door.state.lock();
        while state.taken && !state.closed {
            door.free.wait(&mut state);
        }
        if state.closed {
            return None;
        }
        state.taken = true;
        door.inside.fetch_add(1, Ordering::SeqCst);
        Some(Self(door))
    }

    /// Runs users' code. The interpreter may end meanwhile, and then this does not return.
    pub(crate) fn host<T>(&self, py: Python<'_>, body: impl FnOnce() -> T) -> T {
        self.0.inside.fetch_sub(1, Ordering::SeqCst);
        let value = body();
        stay_if_leaving(py);
        self.0.inside.fetch_add(1, Ordering::SeqCst);
        value
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Attaches the calling thread, which is not attached, and counts it until `body` drops its entry. None if Python is at
/// its end.
pub(crate) fn enter<T>(body: impl FnOnce(Python<'_>, Entry) -> T) -> Option<T> {
    let entry = Entry::begin()?;
    let door = entry.0;
    let mut body = Some((body, entry));
    let value = HangOnUnwind::around(|| {
        Python::try_attach(|py| {
            door.pass();
            body.take().map(|(body, entry)| body(py, entry))
        })
    });
    if body.is_some() {
        // Python has ended although nobody has shut the door.
        door.pass();
    }
    value.flatten()
}

/// The same for a thread that comes for one thing, and counts until it is out.
pub(crate) fn visit<T>(body: impl FnOnce(Python<'_>, &Entry) -> T) -> Option<T> {
    let (value, _entry) = enter(|py, entry| {
        let value = body(py, &entry);
        (value, entry)
    })?;
    Some(value)
}

/// Shuts the door.
pub(crate) fn close() {
    let door = Door::here();
    door.state.lock().closed = true;
    door.free.notify_all();
}

/// Whether no thread is on its way in, or inside where the interpreter must not end.
pub(crate) fn is_empty() -> bool {
    Door::here().inside.load(Ordering::SeqCst) == 0
}
