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
//! # Invariants
//! Nobody who is attached to Python waits at the door: the one who is in it waits for them. The door's own lock is held
//! for moments, never over a wait for Python.

use std::sync::atomic::{AtomicIsize, Ordering};

use parking_lot::{Condvar, Mutex};
use pyo3::prelude::*;

use crate::ffi::HangOnUnwind;
use crate::runtime::stay_if_leaving;

struct Door {
    /// The process that this is about: a forked child begins anew.
    process: u32,
    taken: bool,
    closed: bool,
}

static DOOR: Mutex<Door> = Mutex::new(Door { process: 0, taken: false, closed: false });
static FREE: Condvar = Condvar::new();

/// How many threads are in the door, or inside and not in users' code. One that a fork has carried into a child may
/// make it less than none there.
static INSIDE: AtomicIsize = AtomicIsize::new(0);

/// A thread's stay. It is over when this is dropped.
pub(crate) struct Entry(());

impl Entry {
    /// Waits for the door; None if it was shut.
    fn begin() -> Option<Self> {
        let mut door = DOOR.lock();
        let process = std::process::id();
        if door.process != process {
            *door = Door { process, taken: false, closed: false };
            INSIDE.store(0, Ordering::SeqCst);
        }
        while door.taken && !door.closed {
            FREE.wait(&mut door);
        }
        if door.closed {
            return None;
        }
        door.taken = true;
        INSIDE.fetch_add(1, Ordering::SeqCst);
        Some(Self(()))
    }

    /// Lets the next one into the door.
    fn pass() {
        DOOR.lock().taken = false;
        FREE.notify_one();
    }

    /// Runs users' code. The interpreter may end meanwhile, and then this does not return.
    pub(crate) fn host<T>(&self, py: Python<'_>, body: impl FnOnce() -> T) -> T {
        INSIDE.fetch_sub(1, Ordering::SeqCst);
        let value = body();
        stay_if_leaving(py);
        INSIDE.fetch_add(1, Ordering::SeqCst);
        value
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        INSIDE.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Attaches the calling thread, which is not attached, and counts it until `body` drops its entry. None if Python is at
/// its end.
pub(crate) fn enter<T>(body: impl FnOnce(Python<'_>, Entry) -> T) -> Option<T> {
    let entry = Entry::begin()?;
    let mut body = Some((body, entry));
    let value = HangOnUnwind::around(|| {
        Python::try_attach(|py| {
            Entry::pass();
            body.take().map(|(body, entry)| body(py, entry))
        })
    });
    if body.is_some() {
        // Python has ended although nobody has shut the door.
        Entry::pass();
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
    let mut door = DOOR.lock();
    door.process = std::process::id();
    door.closed = true;
    FREE.notify_all();
}

/// Whether no thread is on its way in, or inside where the interpreter must not end.
pub(crate) fn is_empty() -> bool {
    INSIDE.load(Ordering::SeqCst) <= 0
}
