//! Opening the file: whose it is, which version it has, and how SQLite is to treat it.
//!
//! # Invariants
//! * Nothing is written before the header has said that the file is ours, or that it is empty.
//! * Several processes may make the same new file at once: the tables are made in one exclusive transaction, and
//!   whoever comes second finds them.
//! * Nobody is locked out: the journal is a write-ahead log in normal locking mode, so other processes and SQL
//!   clients read at any time and write in turn.

use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use taskloom_model::{Code, Error};

use crate::failure::Place;
use crate::schema::{APPLICATION_ID, CREATE, VERSION};
use crate::{Durability, SqliteOptions};

/// Pages in the log before a commit moves them into the database: 40 MB. The default of 1,000 would move them, and
/// sync the database, every few batches.
const CHECKPOINT_AFTER: i64 = 10_000;

/// Memory for pages, at most, of the connection that writes: 16 MB hold the part of a backlog that is worked on.
const CACHE_KIB: i64 = 16_384;

/// How often the switch to a write-ahead log is tried. Each failure waits for whoever was in the way.
const TRIES: usize = 100;

/// Opens the connection that writes, and makes the tables if there are none.
pub(crate) fn writer(place: &Place, options: SqliteOptions) -> Result<Connection, Error> {
    check_directory(&place.path)?;
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = connect(place, flags)?;
    let exists = is_ours(&conn, place)?;
    write_ahead(&conn).map_err(|cause| place.failed("open", cause))?;
    if !exists {
        create(&conn, place)?;
    }
    let synchronous = match options.durability {
        Durability::Disk => "FULL",
        Durability::Process => "NORMAL",
    };
    configure(&conn, synchronous).map_err(|cause| place.failed("open", cause))?;
    Ok(conn)
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

/// SQLite would only say that it cannot open the file.
fn check_directory(path: &Path) -> Result<(), Error> {
    match path.parent() {
        Some(parent) if !parent.is_dir() => Err(Error::new(
            Code::StoreFailed,
            format!(
                "cannot open the SQLite store {}: {} is not a directory",
                path.display(),
                parent.display()
            ),
        )
        .hint("make the directory first, or name a file in one that exists")),
        _ => Ok(()),
    }
}

/// Whether the file has our tables; false if it is empty. Refuses what is not ours, and what is too new for us.
fn is_ours(conn: &Connection, place: &Place) -> Result<bool, Error> {
    let header = "SELECT (SELECT application_id FROM pragma_application_id), \
                  (SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_schema)";
    // One statement, so that all three are of one moment.
    let (application, version, things): (i32, i32, i64) = conn
        .query_row(header, [], |stored| Ok((stored.get(0)?, stored.get(1)?, stored.get(2)?)))
        .map_err(|cause| place.failed("open", cause))?;
    match (application, version) {
        (APPLICATION_ID, VERSION) => Ok(true),
        (APPLICATION_ID, newer) if newer > VERSION => Err(Error::new(
            Code::NewerSchema,
            format!(
                "the SQLite store {} has tables of version {newer}; this program knows {VERSION}",
                place.path.display()
            ),
        )
        .hint("a newer version of Taskloom wrote it: upgrade this process")),
        (0, 0) if things == 0 => Ok(false),
        (0, _) => Err(place.not_a_database("it is a database of another program")),
        (other, _) => Err(place
            .not_a_database(&format!("it is a database of another program (its application_id is {other})"))),
    }
}

/// Makes the tables, unless somebody else is faster.
fn create(conn: &Connection, place: &Place) -> Result<(), Error> {
    let failed = |cause| place.failed("create", cause);
    conn.execute_batch("BEGIN IMMEDIATE").map_err(failed)?;
    let created = match is_ours(conn, place) {
        Ok(true) => Ok(()),
        Ok(false) => conn
            .execute_batch(&format!(
                "{CREATE} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};"
            ))
            .map_err(failed),
        Err(error) => Err(error),
    };
    created.and_then(|()| conn.execute_batch("COMMIT").map_err(failed)).inspect_err(|_| {
        // The connection is about to be closed, which rolls back too: nothing depends on this.
        let _ = conn.execute_batch("ROLLBACK");
    })
}

/// Switches the file to a write-ahead log, for good. Two processes that do this at once can be in each other's way
/// in a manner that SQLite's busy handler does not wait out: it reports a deadlock at once.
fn write_ahead(conn: &Connection) -> Result<(), rusqlite::Error> {
    let mut tries = 0;
    loop {
        let switched = conn.pragma_update(None, "journal_mode", "WAL");
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

fn configure(conn: &Connection, synchronous: &str) -> Result<(), rusqlite::Error> {
    conn.pragma_update(None, "synchronous", synchronous)?;
    conn.pragma_update(None, "cache_size", -CACHE_KIB)?;
    conn.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_AFTER)
}
