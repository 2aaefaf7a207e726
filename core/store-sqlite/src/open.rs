//! Opening the file: whose it is, which version it has, and how SQLite is to treat it.
//!
//! # Invariants
//! * Nothing is written before the header has said that the file is ours, or that it is empty.
//! * Several processes may open the same new or older file at once; see [`crate::tables`].
//! * Nobody is locked out: the journal is a write-ahead log in normal locking mode, so other processes and SQL
//!   clients read at any time and write in turn.
//! * No file is opened whose locks another SQLite library in this process could drop ([`crate::locks`]).

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};
use taskloom_model::{Code, Error};

use crate::failure::Place;
use crate::{Durability, SqliteOptions, locks, obstacle, tables};

/// Pages in the log before a commit moves them into the database: 40 MB. The default of 1,000 would move them, and
/// sync the database, every few batches.
const CHECKPOINT_AFTER: i64 = 10_000;

/// Memory for pages, at most, of the connection that writes: 16 MB hold the part of a backlog that is worked on.
const CACHE_KIB: i64 = 16_384;

/// How often the switch to a write-ahead log is tried. Each failure waits for whoever was in the way.
const TRIES: usize = 100;

/// Opens the connection that writes, and makes the tables if there are none.
pub(crate) fn writer(place: &Place, options: SqliteOptions) -> Result<Connection, Error> {
    if !options.create && !place.path.exists() {
        return Err(none(place, "there is no such file"));
    }
    if let Some(obstacle) = obstacle::at(&place.path) {
        return Err(place.obstructed("open", obstacle));
    }
    locks::prepare(&place.path)?;
    lock_and_fill(place, options).map_err(|error| locks::refusal(&place.path).unwrap_or(error))
}

fn lock_and_fill(place: &Place, options: SqliteOptions) -> Result<Connection, Error> {
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if options.create {
        flags |= OpenFlags::SQLITE_OPEN_CREATE;
    }
    let conn = connect(place, flags)?;
    let version = tables::version(&conn, place)?;
    if version == 0 && !options.create {
        return Err(none(place, "the file is empty"));
    }
    write_ahead(&conn).map_err(|cause| place.failed("open", cause))?;
    if version < tables::NEWEST {
        tables::bring_up_to_date(&conn, place)?;
    }
    let synchronous = match options.durability {
        Durability::Disk => "FULL",
        Durability::Process => "NORMAL",
    };
    configure(&conn, synchronous).map_err(|cause| place.failed("open", cause))?;
    // Another VFS may keep its files elsewhere.
    if place.vfs.is_none() {
        locks::check(&place.path)?;
    }
    Ok(conn)
}

/// The store is not there, and is not to be made.
fn none(place: &Place, why: &str) -> Error {
    Error::new(Code::NoStore, format!("there is no SQLite store {}: {why}", place.path.display()))
}

/// Opens the connection that reads.
pub(crate) fn reader(place: &Place) -> Result<Connection, Error> {
    let conn = connect(place, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.pragma_update(None, "query_only", true).map_err(|cause| place.failed("open", cause))?;
    Ok(conn)
}

fn connect(place: &Place, flags: OpenFlags) -> Result<Connection, Error> {
    let open = || {
        let conn = match place.vfs {
            Some(vfs) => Connection::open_with_flags_and_vfs(&place.path, flags, vfs)?,
            None => Connection::open_with_flags(&place.path, flags)?,
        };
        conn.busy_timeout(place.busy_timeout)?;
        // Else SQLite would compile a statement anew whenever another queue is bound to it, in search of a better plan.
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        conn.set_prepared_statement_cache_capacity(64);
        Ok(conn)
    };
    open().map_err(|cause| place.failed("open", cause))
}

/// Switches the file to a write-ahead log, for good. Two processes that do this at once can be in each other's way
/// in a manner that SQLite's busy handler does not wait out: it reports a deadlock at once.
fn write_ahead(conn: &Connection) -> Result<(), rusqlite::Error> {
    let mut tries = 0;
    loop {
        let switched = switch(conn);
        tries += 1;
        match &switched {
            Err(cause) if cause.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && tries < TRIES => {
                // Taking the lock for a moment does wait until the other is done.
                conn.execute_batch("BEGIN IMMEDIATE; ROLLBACK")?;
            }
            _ => return switched,
        }
    }
}

/// Steps the statement to its end: SQLite commits the switch only there, after the row that tells the new mode, and
/// rusqlite forgets what becomes of a statement that is left before.
fn switch(conn: &Connection) -> Result<(), rusqlite::Error> {
    let mut statement = conn.prepare("PRAGMA journal_mode = WAL")?;
    let mut told = statement.query([])?;
    let mut mode = String::new();
    while let Some(stored) = told.next()? {
        mode = stored.get(0)?;
    }
    if mode == "wal" {
        return Ok(());
    }
    let why = format!("it cannot be switched to a write-ahead log, and stays in mode {mode:?}");
    Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_IOERR), Some(why)))
}

fn configure(conn: &Connection, synchronous: &str) -> Result<(), rusqlite::Error> {
    conn.pragma_update(None, "synchronous", synchronous)?;
    conn.pragma_update(None, "cache_size", -CACHE_KIB)?;
    conn.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_AFTER)
}
