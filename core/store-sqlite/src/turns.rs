//! Taking turns at the write lock with other processes.
//!
//! SQLite has no queue for its write lock: who finds it taken tries again after a while. A process that commits all the
//! time lets go of it for microseconds only, and another that tries every now and then may not get it for a second.
//!
//! So who waits says so: it holds a shared lock on the file `want` in the directory of the owners, and tries every
//! half millisecond. And who is about to begin a transaction looks first, for the price of two system calls, whether
//! anybody else wants to: then it waits a moment, until whoever it is has had its turn. A courtesy, no more: nothing is
//! lost where it fails, and no process can hold up the others with it for longer than [`COURTESY`] each time.
//!
//! The locks are those of a process, so two stores in one process do not see each other's wishes. They share its
//! cores anyway.
#![allow(clippy::disallowed_methods, reason = "waiting for a lock that only polling can get takes real time")]

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction, TransactionBehavior};

/// How often the write lock is tried.
const TRY: Duration = Duration::from_micros(500);

/// How long who wants it is waited for, at most.
const COURTESY: Duration = Duration::from_millis(5);

/// Where wishes are made known.
#[derive(Debug)]
pub(crate) struct Turns {
    want: Option<Arc<File>>,
    limit: Duration,
}

/// A wait for the write lock.
struct Waiting {
    want: Option<Arc<File>>,
    until: Instant,
    said: bool,
}

impl Waiting {
    fn withdraw(&mut self) {
        if let (Some(want), true) = (&self.want, std::mem::take(&mut self.said)) {
            wish::withdraw(want);
        }
    }
}

/// A turn at the write lock.
pub(crate) struct Turn(());

impl Drop for Turn {
    fn drop(&mut self) {
        WAITING.take().iter_mut().for_each(Waiting::withdraw);
    }
}

thread_local! {
    /// SQLite calls a function without any argument of ours.
    static WAITING: RefCell<Option<Waiting>> = const { RefCell::new(None) };
}

impl Turns {
    /// Without the file there are no wishes, and who waits gets the lock when it gets it.
    pub(crate) fn of(owners: &Path, limit: Duration) -> Self {
        let open = || -> io::Result<File> {
            std::fs::create_dir_all(owners)?;
            File::options().create(true).truncate(false).read(true).write(true).open(owners.join("want"))
        };
        Self { want: open().ok().map(Arc::new), limit }
    }

    /// Has a connection wait in this manner.
    pub(crate) fn take_part(conn: &mut Connection) -> Result<(), rusqlite::Error> {
        conn.busy_handler(Some(wait))
    }

    /// Begins a transaction that writes. Everything in it may wait for locks too, until the guard is dropped.
    pub(crate) fn begin<'c>(&self, conn: &'c Connection) -> Result<(Transaction<'c>, Turn), rusqlite::Error> {
        self.let_others();
        WAITING.set(Some(Waiting {
            want: self.want.clone(),
            until: Instant::now() + self.limit,
            said: false,
        }));
        let turn = Turn(());
        let transaction = Transaction::new_unchecked(conn, TransactionBehavior::Immediate)?;
        WAITING.with_borrow_mut(|waiting| waiting.as_mut().map(Waiting::withdraw));
        Ok((transaction, turn))
    }

    /// Waits a moment if another process wants its turn.
    fn let_others(&self) {
        let Some(want) = &self.want else { return };
        if !wish::is_anybodys(want) {
            return;
        }
        let until = Instant::now() + COURTESY;
        while Instant::now() < until {
            std::thread::sleep(TRY);
            if !wish::is_anybodys(want) {
                return;
            }
        }
    }
}

/// Called by SQLite when a lock is taken: whether to try again.
fn wait(_: i32) -> bool {
    WAITING.with_borrow_mut(|waiting| {
        // Outside of a wait of ours nobody wants to wait.
        let Some(waiting) = waiting else { return false };
        if Instant::now() >= waiting.until {
            return false;
        }
        if let (Some(want), false) = (&waiting.want, waiting.said) {
            waiting.said = wish::say(want);
        }
        std::thread::sleep(TRY);
        true
    })
}

#[cfg(unix)]
mod wish {
    use std::fs::File;

    use rustix::fs::{FlockOperation, fcntl_lock};

    pub(super) fn say(want: &File) -> bool {
        fcntl_lock(want, FlockOperation::NonBlockingLockShared).is_ok()
    }

    pub(super) fn withdraw(want: &File) {
        // Whatever stays behind goes with the process.
        let _ = fcntl_lock(want, FlockOperation::NonBlockingUnlock);
    }

    /// Whether another process has said so: then nobody can have the file alone.
    pub(super) fn is_anybodys(want: &File) -> bool {
        match fcntl_lock(want, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                withdraw(want);
                false
            }
            Err(_) => true,
        }
    }
}

#[cfg(not(unix))]
mod wish {
    use std::fs::File;

    pub(super) fn say(_: &File) -> bool {
        false
    }

    pub(super) fn withdraw(_: &File) {}

    pub(super) fn is_anybodys(_: &File) -> bool {
        false
    }
}
