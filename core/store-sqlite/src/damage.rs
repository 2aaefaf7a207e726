//! Rows that make no sense: which ones are known, and the search for those that nobody comes upon.
//!
//! Another program may have written to the tables, or a disk may have. A row that cannot be is left alone: it is not
//! claimed, not changed, and not put right by a guess. The others must not suffer, so whatever goes through many rows
//! leaves such a one out and notes it here, and `health()` tells of it until it makes sense again or has gone.
//!
//! There are few limits, so those that make no sense are looked for when somebody asks.
//!
//! Some impossible states stop nobody and are met by nobody: a task that runs and has no owner, say, is in no index and
//! waits for ever. For these the table is looked through now and then, stretch by stretch ([`Damage::search`]).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension};
use taskloom_model::{Code, Error, TaskId};

use crate::failure::Place;
use crate::limits;
use crate::rows::{self, Fault};
use crate::schema;

/// How many are remembered. Whoever has more knows what to look for.
const MANY: usize = 1_000;

/// How many rows the search looks at in one go: some milliseconds.
const STRETCH: i64 = 20_000;

/// Rows that were found to make no sense, by their keys.
#[derive(Debug, Default)]
pub(crate) struct Damage {
    known: Mutex<BTreeSet<i64>>,
    /// Up to which row the search has come.
    searched: AtomicI64,
}

impl Damage {
    /// Somebody came upon these.
    pub(crate) fn note(&self, seqs: &[i64]) {
        if seqs.is_empty() {
            return;
        }
        let mut known = self.known.lock();
        for seq in seqs {
            if known.len() < MANY {
                known.insert(*seq);
            }
        }
    }

    /// Looks through the next stretch of the table; whether there is more of it.
    pub(crate) fn search(&self, conn: &Connection) -> Result<bool, Fault> {
        let from = self.searched.load(Ordering::Relaxed);
        let until: Option<i64> =
            conn.prepare_cached(schema::STRETCH)?.query_row([from, STRETCH], |stored| stored.get(0))?;
        let Some(until) = until else {
            self.searched.store(0, Ordering::Relaxed);
            return Ok(false);
        };
        let mut statement = conn.prepare_cached(schema::SUSPECT)?;
        let found = statement.query_map([from, until], |stored| stored.get(0))?;
        self.note(&found.collect::<Result<Vec<_>, _>>()?);
        self.searched.store(until, Ordering::Relaxed);
        Ok(true)
    }

    /// What is wrong with those that are known, each looked at again.
    pub(crate) fn tell(&self, conn: &Connection, place: &Place) -> Result<Vec<Error>, Fault> {
        let known: Vec<i64> = self.known.lock().iter().copied().collect();
        let mut told = Vec::new();
        for seq in known {
            match look(conn, seq, place)? {
                Some(error) => told.push(error),
                None => drop(self.known.lock().remove(&seq)),
            }
        }
        told.extend(limits::damaged(conn)?.into_iter().map(|error| place.corrupt_somewhere(error)));
        Ok(told)
    }
}

/// What is wrong with a row, if it is there and anything is.
fn look(conn: &Connection, seq: i64, place: &Place) -> Result<Option<Error>, Fault> {
    let mut statement = conn.prepare_cached(schema::TASK_AND_OWNER)?;
    let found = statement
        .query_row([seq], |stored| {
            let id: Option<TaskId> = rows::read_id(stored, schema::ROW_COLUMNS + schema::SPEC_COLUMNS).ok();
            let has_owner: bool = stored.get(schema::ROW_COLUMNS + schema::SPEC_COLUMNS + 1)?;
            let Some(id) = id else { return Ok((None, Err(no_id(seq)))) };
            let read = rows::read_spec(id, stored).and_then(|_| rows::read_row(stored));
            let read = read.and_then(|row| if has_owner { Ok(row) } else { Err(no_owner(&row)) });
            Ok((Some(id), read.map(drop)))
        })
        .optional()?;
    Ok(found.and_then(|(id, read)| read.err().map(|error| (id, error))).map(|(id, error)| match id {
        Some(id) => place.corrupt(id, error),
        None => place.corrupt_somewhere(error),
    }))
}

fn no_id(seq: i64) -> Error {
    Error::new(Code::CorruptRow, format!("the id of the one with seq {seq} is none"))
}

fn no_owner(row: &taskloom_model::Row) -> Error {
    let owner = row.owner.map_or(0, taskloom_model::OwnerId::get);
    Error::new(Code::CorruptRow, format!("it runs, and its owner, {owner}, is none of the processes here"))
}
