//! SQLite, through rusqlite.
//!
//! It is the store's own SQLite, of which a program has one; the user's database is another file, and nothing here opens
//! the store's.
//!
//! # How a commit is heard of
//! `PRAGMA data_version` says whether another connection has committed: a look at shared memory, some microseconds. While
//! something has happened lately it is looked at every millisecond at first and every ten later, otherwise every 30 ms. A
//! submit through the same app wakes the relay, so that it is looking when the commit comes.

use std::time::Duration;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Savepoint, Statement as Prepared, ToSql, Transaction};
use taskloom_engine::{Clock, SystemClock};
use taskloom_model::{Code, Error, Result};

use super::{LOOK, failed, not_inserted};
use crate::outbox::driver::{Connect, Driver, Value};
use crate::outbox::inserting::Insert;
use crate::outbox::wake::Wake;
use crate::outbox::{Dialect, Placeholders, Row, Statement};

/// The shortest and the longest pause between two looks while something has happened lately.
const FIRST: Duration = Duration::from_millis(1);
const SLOWER: Duration = Duration::from_millis(10);

/// The pause between two looks otherwise: with what follows it, less than the 50 ms within which a task is to start.
const SELDOM: Duration = Duration::from_millis(30);

/// For how long that is.
const LATELY: Duration = Duration::from_secs(2);

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Text(bytes) => ValueRef::Text(bytes),
        }))
    }
}

fn value(found: ValueRef<'_>) -> Value {
    match found {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Real(number) => Value::Text(number.to_string().into_bytes()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Value::Text(bytes.to_vec()),
    }
}

fn text(statement: Statement) -> String {
    statement.text(Dialect::Sqlite, Placeholders::Question)
}

impl Insert for Connection {
    fn insert(&self, rows: &[Row]) -> Result<()> {
        let inserted = (|| {
            let mut statement = self.prepare(&text(Statement::Insert))?;
            rows.iter().try_for_each(|row| bound(&mut statement, &arguments(row))?.raw_execute().map(drop))
        })();
        inserted.map_err(not_inserted)
    }
}

impl Insert for Transaction<'_> {
    fn insert(&self, rows: &[Row]) -> Result<()> {
        Connection::insert(self, rows)
    }
}

impl Insert for Savepoint<'_> {
    fn insert(&self, rows: &[Row]) -> Result<()> {
        Connection::insert(self, rows)
    }
}

/// The columns of [`Statement::Insert`].
fn arguments(row: &Row) -> Vec<Value> {
    vec![
        Value::text(&row.id),
        Value::text(&row.name),
        Value::Text(row.payload.clone()),
        row.options.clone().map_or(Value::Null, Value::Text),
        Value::Integer(row.created),
    ]
}

fn bound<'s, 'c>(
    statement: &'s mut Prepared<'c>,
    arguments: &[Value],
) -> rusqlite::Result<&'s mut Prepared<'c>> {
    for (place, argument) in arguments.iter().enumerate() {
        statement.raw_bind_parameter(place + 1, argument)?;
    }
    Ok(statement)
}

/// Marks functions that open connections of rusqlite.
#[derive(Debug)]
pub enum Rusqlite {}

impl<F, E> Connect<Rusqlite> for F
where
    F: Fn() -> std::result::Result<Connection, E> + Send + Sync + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    const IS_ASYNC: bool = false;

    fn open(&self) -> Result<Box<dyn Driver>> {
        let connection = self().map_err(|error| failed("cannot open the outbox's database", error))?;
        Ok(Box::new(Sqlite { connection, version: 0, active: None, pause: FIRST }))
    }
}

struct Sqlite {
    connection: Connection,
    version: i64,
    /// When something happened last.
    active: Option<Duration>,
    pause: Duration,
}

fn trouble(error: rusqlite::Error) -> Error {
    failed("the outbox's database", error)
}

impl Sqlite {
    fn look(&self) -> Result<i64> {
        let version = self
            .connection
            .prepare_cached("PRAGMA data_version")
            .and_then(|mut pragma| pragma.query_row([], |row| row.get(0)));
        version.map_err(trouble)
    }
}

impl Driver for Sqlite {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn take_over(&mut self) -> Result<()> {
        if self.connection.path().is_none_or(str::is_empty) {
            let message = "the outbox is to be relayed from a SQLite database in memory, of which every connection has its own";
            return Err(Error::new(Code::InvalidOption, message).hint(
                "let connect open the file that the program writes to: || rusqlite::Connection::open(\"shop.db\")",
            ));
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<()> {
        self.rollback()?;
        self.run("BEGIN IMMEDIATE")
    }

    fn commit(&mut self) -> Result<()> {
        self.run("COMMIT")
    }

    fn rollback(&mut self) -> Result<()> {
        if self.connection.is_autocommit() { Ok(()) } else { self.run("ROLLBACK") }
    }

    fn execute(&mut self, statement: Statement, arguments: &[Vec<Value>]) -> Result<u64> {
        let changed = || {
            let mut prepared = self.connection.prepare_cached(&text(statement))?;
            let each = arguments.iter().map(|each| bound(&mut prepared, each)?.raw_execute());
            each.sum::<rusqlite::Result<usize>>()
        };
        changed().map(|count| count as u64).map_err(trouble)
    }

    fn fetch(&mut self, statement: Statement, arguments: &[Value]) -> Result<Vec<Vec<Value>>> {
        let found = || {
            let mut prepared = self.connection.prepare_cached(&text(statement))?;
            let columns = prepared.column_count();
            let mut rows = bound(&mut prepared, arguments)?.raw_query();
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.push(
                    (0..columns)
                        .map(|place| row.get_ref(place).map(value))
                        .collect::<rusqlite::Result<_>>()?,
                );
            }
            Ok(found)
        };
        found().map_err(trouble)
    }

    fn run(&mut self, text: &str) -> Result<()> {
        self.connection.execute_batch(text).map_err(trouble)
    }

    fn watch(&mut self) -> Result<()> {
        self.version = self.look()?;
        Ok(())
    }

    fn wait(&mut self, wake: &Wake) -> Result<()> {
        let end = SystemClock.monotonic() + LOOK;
        loop {
            let (version, now) = (self.look()?, SystemClock.monotonic());
            if version != self.version {
                (self.version, self.active, self.pause) = (version, Some(now), FIRST);
                return Ok(());
            }
            if now >= end {
                return Ok(());
            }
            let is_lately = self.active.is_some_and(|active| now - active < LATELY);
            let pause = if is_lately { self.pause } else { SELDOM };
            self.pause = (self.pause * 2).min(SLOWER);
            if wake.wait(pause) {
                // A commit is near. The table is not looked at before it has come: a lock would wait for its transaction.
                (self.active, self.pause) = (Some(SystemClock.monotonic()), FIRST);
                if wake.is_over() {
                    return Ok(());
                }
            }
        }
    }
}
