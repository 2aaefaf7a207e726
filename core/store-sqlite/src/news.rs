//! Hearing of what other processes do to the file, without polling.
//!
//! Every commit, by whatever program, writes to the write-ahead log, and the system tells who watches that file. The
//! event comes *before* the commit can be seen: SQLite writes the log first, and then shared memory, which no event tells
//! of. So after an event the file is looked at on a short ladder, from 50 µs to 20 ms. Most commits are seen on one of its
//! first rungs. A disk may take longer than all of them for the sync in between. But whoever commits holds the lock on the
//! file until that is over: so at the end of the ladder the lock is tried, and as long as somebody has it, the looks go on
//! ([`LATE`] apart). Had nobody, then all that events have told of is either seen now or was given up: it is *clear*.
//!
//! Until it is clear, no wait sleeps for the next event ([`News::unclear`]). A commit that is seen is no reason to: the
//! event may have been that of the next one, whose sync has just begun.
//!
//! Our own commits cause events too. What tells them apart is SQLite's `data_version`, as the connection that writes has
//! it: it changes when another connection has committed. Since it is asked of that connection, which one thread at a
//! time may use, whoever looks does not wait for it: where a transaction is being written, that transaction looks itself
//! ([`News::look`] is called at its beginning), and speaks up. So a process that writes all the time hears of others as
//! well as one that sleeps.
//!
//! The directory of the owners ([`crate::presence`]) is watched too: a process that dies, however it does, closes its
//! file there, and that is an event.
//!
//! Where the system has no such events, the file is looked at every 20 ms.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, ErrorCode};
use taskloom_store::News as Heard;

/// After an event the file is looked at so long after the last look, each time.
const LADDER: [Duration; 9] = {
    const fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }
    [
        micros(50),
        micros(100),
        micros(200),
        micros(400),
        micros(800),
        micros(2_000),
        micros(5_000),
        micros(10_000),
        micros(20_000),
    ]
};

/// After the ladder it is looked at so often, as long as somebody is still writing.
const LATE: Duration = Duration::from_millis(50);

const DATA_VERSION: &str = "SELECT data_version FROM pragma_data_version";

/// What a store has heard of others.
#[derive(Debug)]
pub(crate) struct News {
    /// `data_version` of the connection that writes, when it was last asked.
    version: AtomicI64,
    /// Others have committed, and nobody has been told yet.
    changed: AtomicBool,
    /// Transactions of ours so far, and when a wait last looked.
    written: AtomicU64,
    seen: AtomicU64,
    /// An event has been read, and what it was about may yet be committed.
    unclear: AtomicBool,
    watch: Box<dyn Watch>,
}

impl News {
    /// Watches a store's file. Its log exists, since a connection has it open.
    pub(crate) fn of(store: &Path, owners: &Path) -> Self {
        let mut log = store.as_os_str().to_owned();
        log.push("-wal");
        Self::told_by(watch(Path::new(&log), owners))
    }

    fn told_by(watch: Box<dyn Watch>) -> Self {
        Self {
            version: AtomicI64::new(0),
            changed: AtomicBool::new(false),
            written: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            unclear: AtomicBool::new(false),
            watch,
        }
    }

    /// Looks whether others have committed since the last look. On the connection that writes.
    pub(crate) fn look(&self, conn: &Connection) -> Result<(), rusqlite::Error> {
        let version = conn.prepare_cached(DATA_VERSION)?.query_row([], |stored| stored.get(0))?;
        let before = self.version.swap(version, Ordering::AcqRel);
        if before != version && before != 0 {
            self.changed.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// As [`News::look`], in a transaction: whoever waits is told.
    pub(crate) fn look_and_tell(&self, conn: &Connection) -> Result<(), rusqlite::Error> {
        self.written.fetch_add(1, Ordering::Relaxed);
        self.look(conn)?;
        if self.changed.load(Ordering::Acquire) {
            self.rouse();
        }
        Ok(())
    }

    /// Ends a wait, now or the next one.
    pub(crate) fn rouse(&self) {
        self.watch.rouse();
    }

    /// Looks whether others have committed, and whether one of them is about to: until nobody is writing, an event is not
    /// explained.
    fn is_clear(&self, conn: &Connection) -> Result<bool, rusqlite::Error> {
        match conn.execute_batch("BEGIN IMMEDIATE") {
            Ok(()) => {
                let looked = self.look(conn);
                conn.execute_batch("ROLLBACK")?;
                looked.map(|()| true)
            }
            // Nothing of ours waits for the lock on this thread, so it is not waited for.
            Err(cause) if cause.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                self.look(conn).map(|()| false)
            }
            Err(cause) => Err(cause),
        }
    }

    /// Waits until there is news, an event has turned out to be none, somebody ends the wait, or for about so long.
    pub(crate) fn wait(&self, writer: &Mutex<Connection>, limit: Duration) -> Heard {
        let unclear = self.unclear.swap(false, Ordering::AcqRel);
        let event = self.watch.wait(if unclear { Duration::ZERO } else { limit }, true);
        let mut heard = Heard { changes: self.changed.swap(false, Ordering::AcqRel), deaths: event.owners };
        if !self.watch.is_told() {
            // It will look again soon, whatever it sees now.
            self.look_if_free(writer);
            heard.changes |= self.changed.swap(false, Ordering::AcqRel);
        } else if unclear || event.log {
            let clear = !heard.changes && !event.roused && self.climb(writer, limit, &mut heard);
            self.unclear.store(!clear, Ordering::Release);
        }
        heard
    }

    /// Goes up the ladder until there is news, it is clear, somebody ends the wait, or for so long; whether it is clear.
    fn climb(&self, writer: &Mutex<Connection>, limit: Duration, heard: &mut Heard) -> bool {
        let mut rungs = LADDER.iter();
        let mut late = Duration::ZERO;
        loop {
            // A transaction of ours has looked at its beginning, and the next rung makes sure; so nobody who writes finds
            // the connection taken.
            let written = self.written.load(Ordering::Relaxed);
            let quiet = self.seen.swap(written, Ordering::Relaxed) == written;
            let rung = rungs.next();
            let mut clear = false;
            if rung.is_none() {
                match writer.try_lock() {
                    // A file that cannot be read is the concern of whoever reads it next.
                    Some(conn) => clear = self.is_clear(&conn).unwrap_or(true),
                    // Somebody here is writing, and sees what came before.
                    None => rungs = LADDER.iter(),
                }
            } else if quiet {
                self.look_if_free(writer);
            }
            if self.changed.swap(false, Ordering::AcqRel) {
                heard.changes = true;
                return clear;
            }
            if clear || late >= limit {
                return clear;
            }
            let pause = rung.copied().unwrap_or(LATE).min(limit - late);
            late += pause;
            let meanwhile = self.watch.wait(pause, quiet);
            heard.deaths |= meanwhile.owners;
            if meanwhile.roused || heard.deaths {
                return false;
            }
            // From the foot again, unless it was we who wrote.
            if meanwhile.log && self.written.load(Ordering::Relaxed) == written {
                rungs = LADDER.iter();
            }
        }
    }

    /// Whoever has the connection has looked, or will.
    fn look_if_free(&self, writer: &Mutex<Connection>) {
        if let Some(conn) = writer.try_lock() {
            // A file that cannot be read is the concern of whoever reads it next.
            let _ = self.look(&conn);
        }
    }
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, Default)]
struct Event {
    log: bool,
    owners: bool,
    roused: bool,
}

/// Hears of events.
trait Watch: std::fmt::Debug + Send + Sync {
    /// Ends a wait, now or the next one.
    fn rouse(&self);

    /// Waits for an event, for so long at most; it may leave the log's events for later.
    fn wait(&self, limit: Duration, log: bool) -> Event;

    /// Whether there are events of the log. If not, each wait is short.
    fn is_told(&self) -> bool;
}

#[cfg(target_os = "linux")]
fn watch(log: &Path, owners: &Path) -> Box<dyn Watch> {
    match inotify::Events::new(log, owners) {
        Ok(events) => Box::new(events),
        // The system gives each user so many, and no more.
        Err(_) => Box::new(polling::Polling::default()),
    }
}

#[cfg(not(target_os = "linux"))]
fn watch(_: &Path, _: &Path) -> Box<dyn Watch> {
    Box::new(polling::Polling::default())
}

#[cfg(target_os = "linux")]
mod inotify;
mod polling;

#[cfg(test)]
mod tests;
