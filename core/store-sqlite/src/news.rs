//! Hearing of what other processes do to the file, without polling.
//!
//! Every commit, by whatever program, writes to the write-ahead log, and the system tells who watches that file. The
//! event comes *before* the commit can be seen: SQLite writes the log first, and then shared memory, which no event tells
//! of. So after an event the file is looked at on a short ladder, from 50 µs to 20 ms. Most commits are seen on one of its
//! first rungs. A disk may take longer than all of them for the sync in between. But whoever commits holds the lock on the
//! file until that is over: so at the end of the ladder the lock is tried, and as long as somebody has it, the looks go on
//! ([`LATE`] apart). Had nobody, then what was written is either seen now or was given up.
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
    /// A wait has ended before it was clear what an event had been about.
    unclear: AtomicBool,
    watch: Box<dyn Watch>,
}

impl News {
    /// Watches a store's file. Its log exists, since a connection has it open.
    pub(crate) fn of(store: &Path, owners: &Path) -> Self {
        let mut log = store.as_os_str().to_owned();
        log.push("-wal");
        Self {
            version: AtomicI64::new(0),
            changed: AtomicBool::new(false),
            written: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            unclear: AtomicBool::new(false),
            watch: watch(Path::new(&log), owners),
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

    /// Waits until there is news, somebody ends the wait, or for so long.
    pub(crate) fn wait(&self, writer: &Mutex<Connection>, limit: Duration) -> Heard {
        let unclear = self.unclear.swap(false, Ordering::AcqRel);
        let event = self.watch.wait(if unclear { Duration::ZERO } else { limit });
        let mut heard = Heard { changes: self.changed.swap(false, Ordering::AcqRel), deaths: event.owners };
        if !(event.log || unclear) || heard.changes {
            return heard;
        }
        let mut written = self.seen.load(Ordering::Relaxed);
        let mut rungs = LADDER.iter();
        let mut late = Duration::ZERO;
        loop {
            let rung = rungs.next();
            // A transaction of ours has looked at its beginning, and the next rung makes sure; so nobody who writes finds
            // the connection taken.
            let ours = self.written.load(Ordering::Relaxed);
            let quiet = ours == written;
            written = ours;
            let conn = if quiet || rung.is_none() { writer.try_lock() } else { None };
            // A file that cannot be read is the concern of whoever reads it next. And if somebody here is writing, or about
            // to, it is clear: what came before them they see themselves.
            let clear = match (rung, conn) {
                (Some(_), Some(conn)) => self.look(&conn).is_ok(),
                (None, Some(conn)) => self.is_clear(&conn).unwrap_or(true),
                (_, None) => true,
            };
            if self.changed.swap(false, Ordering::AcqRel) {
                heard.changes = true;
                break;
            }
            if rung.is_none() && (clear || late >= limit) {
                self.unclear.store(!clear, Ordering::Release);
                break;
            }
            let pause = rung.copied().unwrap_or(LATE);
            late += pause;
            let meanwhile = self.watch.wait_on(pause, quiet);
            heard.deaths |= meanwhile.owners;
            if meanwhile.roused || heard.deaths {
                self.unclear.store(true, Ordering::Release);
                break;
            }
            // From the foot again, unless it was we who wrote.
            if meanwhile.log && self.written.load(Ordering::Relaxed) == written {
                rungs = LADDER.iter();
            }
        }
        self.seen.store(written, Ordering::Relaxed);
        heard
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

    /// Waits for an event, for so long at most.
    fn wait(&self, limit: Duration) -> Event;

    /// The same, between two looks; it may leave the log's events for later.
    fn wait_on(&self, limit: Duration, log: bool) -> Event;
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
