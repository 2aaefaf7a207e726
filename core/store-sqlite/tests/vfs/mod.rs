//! A layer between SQLite and the system, for tests: it writes down what SQLite asks of the disk, and fails on demand.
//!
//! # What it owns
//! A [`Shim`] is an SQLite VFS under a name of its own. Everything goes on to the system's VFS, so files, locks and
//! shared memory are real; on the way each write, truncation, sync, creation and deletion of the database, its log and
//! its journal is noted, in order and with its bytes ([`Event`]), and a call can be refused ([`Fault`]).
//!
//! # Invariants
//! * Only what succeeded is noted, and that a sync failed. A write that failed half-way is noted with the half that was
//!   written.
//! * Events are in the order in which the calls returned: one lock is held over nothing but the noting, and the tests
//!   use the files from one thread at a time.
//! * Memory mapped files would be read behind its back, so it says that it has none. Shared memory is not noted: the
//!   `-shm` file says nothing after a power cut, since whoever comes first makes it anew.
//!
//! # Failure
//! A shim is registered for good and its memory is never given back: SQLite may hold a pointer to it for as long as
//! the process lives. There are a handful in each test binary.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Condvar, Mutex};

mod calls;

/// A file by the last part of its name: all of them are in one directory.
pub(crate) type FileName = Arc<str>;

/// Something that was done to the disk, or that the test notes in between.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A file is there that was not.
    Create(FileName),
    /// Bytes were written.
    Write { file: FileName, at: usize, bytes: Arc<[u8]> },
    /// A file got this length.
    Truncate { file: FileName, length: usize },
    /// What was written to the file so far is to outlive a power cut.
    Sync(FileName),
    /// That was asked for, and failed: nobody knows what will outlive it.
    SyncFailed(FileName),
    /// A file is gone.
    Delete {
        file: FileName,
        /// Whether that is to outlive a power cut.
        synced: bool,
    },
    /// The test's own: so many steps have been acknowledged.
    Acknowledged(usize),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(file) => write!(f, "{file} is made"),
            Self::Write { file, at, bytes } => write!(f, "{} bytes at {at} of {file}", bytes.len()),
            Self::Truncate { file, length } => write!(f, "{file} is cut to {length}"),
            Self::Sync(file) => write!(f, "{file} is synced"),
            Self::SyncFailed(file) => write!(f, "{file} cannot be synced"),
            Self::Delete { file, synced: true } => write!(f, "{file} is deleted for sure"),
            Self::Delete { file, synced: false } => write!(f, "{file} is deleted"),
            Self::Acknowledged(step) => write!(f, "step {step} is acknowledged"),
        }
    }
}

/// What SQLite asks of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Open,
    Delete,
    Access,
    Read,
    Write,
    Truncate,
    Sync,
    Size,
    Lock,
    MapShared,
    LockShared,
}

/// Which calls fail, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    /// Calls of this kind.
    pub(crate) call: Call,
    /// SQLite's code for the failure.
    pub(crate) code: i32,
    /// From the how-manieth on, counted from 1.
    pub(crate) nth: usize,
    /// Whether all after that fail too.
    pub(crate) lasts: bool,
    /// Whether a write that fails has written the first half of its bytes.
    pub(crate) halfway: bool,
}

/// What becomes of a call.
#[derive(Clone, Copy)]
enum Verdict {
    Pass,
    Fail(i32),
    FailHalfway(i32),
}

#[derive(Default)]
struct Inside {
    /// What was noted, while somebody wants it.
    events: Option<Vec<Event>>,
    fault: Option<Fault>,
    /// Calls of the fault's kind so far.
    calls: usize,
    /// How many of them failed.
    failed: usize,
    /// Calls of this kind do not return, and how many are waiting.
    held: Option<(Call, usize)>,
}

/// An SQLite VFS that records and fails.
pub(crate) struct Shim {
    name: &'static str,
    inside: Mutex<Inside>,
    /// Somebody waits in a call, or may go on.
    held_changed: Condvar,
}

impl Shim {
    /// A new one, registered under a name that no other has.
    pub(crate) fn new() -> &'static Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = Box::leak(format!("taskloom-shim-{number}").into_boxed_str());
        let shim = Box::leak(Box::new(Self { name, inside: Mutex::default(), held_changed: Condvar::new() }));
        calls::register(shim);
        shim
    }

    /// What it is registered as.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Sets what fails from now on; counts anew.
    pub(crate) fn set_fault(&self, fault: Option<Fault>) {
        let mut inside = self.inside.lock();
        (inside.fault, inside.calls, inside.failed) = (fault, 0, 0);
    }

    /// How many calls have failed since the fault was set.
    pub(crate) fn failed(&self) -> usize {
        self.inside.lock().failed
    }

    /// From now on calls of this kind wait, before they do anything, until [`Shim::let_go`].
    pub(crate) fn hold(&self, call: Call) {
        self.inside.lock().held = Some((call, 0));
    }

    /// Waits until somebody waits in such a call.
    pub(crate) fn await_held(&self) {
        let mut inside = self.inside.lock();
        while inside.held.is_some_and(|(_, waiting)| waiting == 0) {
            self.held_changed.wait(&mut inside);
        }
    }

    /// Lets them go on.
    pub(crate) fn let_go(&self) {
        self.inside.lock().held = None;
        self.held_changed.notify_all();
    }

    /// Runs `work` while nothing fails, and nothing is counted.
    pub(crate) fn calmly<T>(&self, work: impl FnOnce() -> T) -> T {
        let fault = self.inside.lock().fault.take();
        let done = work();
        self.inside.lock().fault = fault;
        done
    }

    /// Begins to write down what happens.
    pub(crate) fn record(&self) {
        self.inside.lock().events = Some(Vec::new());
    }

    /// Ends that; what happened.
    pub(crate) fn recorded(&self) -> Vec<Event> {
        self.inside.lock().events.take().unwrap_or_default()
    }

    /// Notes something.
    pub(crate) fn note(&self, event: Event) {
        if let Some(events) = &mut self.inside.lock().events {
            events.push(event);
        }
    }

    /// What is to become of a call.
    fn judge(&self, call: Call) -> Verdict {
        let mut inside = self.inside.lock();
        if let Some((held, waiting)) = &mut inside.held
            && *held == call
        {
            *waiting += 1;
            self.held_changed.notify_all();
            while inside.held.is_some() {
                self.held_changed.wait(&mut inside);
            }
        }
        let inside = &mut *inside;
        let Some(fault) = inside.fault.filter(|fault| fault.call == call) else { return Verdict::Pass };
        inside.calls += 1;
        if inside.calls == fault.nth || (fault.lasts && inside.calls > fault.nth) {
            inside.failed += 1;
            if fault.halfway { Verdict::FailHalfway(fault.code) } else { Verdict::Fail(fault.code) }
        } else {
            Verdict::Pass
        }
    }
}
