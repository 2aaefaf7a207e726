//! New tasks: all of an insert, or none of it.

use std::sync::Arc;

use rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE;
use taskloom_model::{Code, Error, Row, WaitingFor};
use taskloom_store::Task;

use super::keys::{Decided, Holder};
use super::{Home, Sql, Told, Touched, Writing};
use crate::codec;
use crate::rows::{self, Beside, Fault};

/// What an insert that was accepted leaves to be done.
pub(super) struct Inserted {
    /// Where in the insert another task stands in, in order.
    pub(super) stand_ins: Vec<(usize, Told)>,
    /// Places of the tasks whose unique keys were taken over.
    pub(super) replaced: Vec<usize>,
}

impl Inserted {
    /// Whether this one of its tasks is new.
    pub(super) fn is_new(&self, index: usize) -> bool {
        self.stand_ins.binary_search_by_key(&index, |(index, _)| *index).is_err()
    }
}

impl Writing<'_> {
    /// Inserts tasks, all or none.
    pub(super) fn insert(&mut self, tasks: &[Arc<Task>]) -> Result<Result<Inserted, Error>, Fault> {
        let keys = if tasks.iter().any(|task| task.spec().unique().is_some()) {
            match self.decide(tasks) {
                Ok(Ok(keys)) => keys,
                Ok(Err(refusal)) => return Ok(Err(refusal)),
                // The row of somebody who has a key makes no sense.
                Err(Fault::Task(id, damage)) => return Ok(Err(self.place.corrupt(id, damage))),
                Err(fault) => return Err(fault),
            }
        } else {
            Decided::default()
        };
        let (mut inserted, mut waiting) = (Vec::new(), Vec::new());
        for (index, task) in tasks.iter().enumerate() {
            if !keys.is_new(index) {
                continue;
            }
            let done = self.insert_one(task, keys.given_at_once(index, task))?;
            if let Ok(Some(row)) = done {
                // It waits for its key, and is not what it was admitted as.
                waiting.push((task, self.conn.last_insert_rowid(), row));
            } else if let Err(refusal) = done {
                // Taken back one by one: a savepoint would cost every group that is not refused.
                for (_, seq) in inserted {
                    self.statements.get(self.conn, Sql::TakeBack)?.execute([seq])?;
                }
                return Ok(Err(refusal));
            }
            if tasks.len() > 1 || !keys.is_empty() {
                inserted.push((index, self.conn.last_insert_rowid()));
            }
        }
        if let Some(fresh) = &mut self.fresh {
            let new = tasks.iter().enumerate().filter(|(index, _)| keys.is_new(*index));
            fresh.extend(new.map(|(_, task)| (task.id(), Arc::clone(task))));
        }
        for (task, seq, row) in waiting {
            let home = Home::Held(Arc::clone(task));
            self.remember(Touched::new(Some(seq), row, home));
        }
        self.hand_over(keys, tasks, &inserted).map(Ok)
    }

    /// Gives the keys that were taken over to their new holders; what is left to be done.
    fn hand_over(
        &mut self,
        keys: Decided<'_>,
        tasks: &[Arc<Task>],
        inserted: &[(usize, i64)],
    ) -> Result<Inserted, Fault> {
        // Asked for what was inserted only.
        let seq_of = |index: usize| match inserted.binary_search_by_key(&index, |(index, _)| *index) {
            Ok(place) => Ok(inserted[place].1),
            Err(_) => Err(rusqlite::Error::QueryReturnedNoRows),
        };
        for (key, taken) in &keys.taken {
            if let Some(from) = taken.from {
                self.give_key(from, None)?;
                self.give_key(seq_of(taken.by)?, Some(key.1))?;
            }
        }
        let mut replaced = Vec::with_capacity(keys.replaced.len());
        for holder in keys.replaced {
            replaced.push(match holder {
                Holder::Stored { seq, id, .. } => self.find(seq, id)?,
                Holder::New(index) => self.find(seq_of(index)?, tasks[index].id())?,
            });
        }
        Ok(Inserted { stand_ins: keys.stand_ins, replaced })
    }

    /// Inserts one; its row, if it is not the one that it was admitted with.
    fn insert_one(
        &mut self,
        task: &Arc<Task>,
        key: Option<&str>,
    ) -> Result<Result<Option<Row>, Error>, Fault> {
        let spec = task.spec();
        let mut row = task.with_row(Row::clone);
        if row.waiting_for == WaitingFor::Dependencies {
            let message = format!("task {}: the SQLite store does not keep dependencies yet", spec.id);
            return Ok(Err(Error::new(Code::NotSupported, message)));
        }
        let waits = self.admit(spec, &mut row)?;
        let rare = match (spec.eta, spec.rare.as_deref()) {
            (None, None) => Ok(None),
            (eta, Some(rare)) => codec::encode_rare(eta, rare).map(Some),
            (eta, None) => codec::encode_rare(eta, &taskloom_model::Rare::default()).map(Some),
        };
        let rare = match rare {
            Ok(rare) => rare,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let history = match rows::history(&row) {
            Ok(history) => history,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let inserted = if rows::is_plain_insert(spec, &row) {
            rows::insert_plain(self.statements.get(self.conn, Sql::InsertPlain)?, spec)
        } else {
            let statement = self.statements.get(self.conn, Sql::Insert)?;
            let beside = Beside { rare: rare.as_deref(), history: history.as_deref(), key };
            rows::insert(statement, spec, &row, &beside)
        };
        match inserted {
            Ok(()) => Ok(Ok(waits.then_some(row))),
            // Exactly this: another constraint, such as a trigger that somebody added, may have ended the transaction.
            // (It is the id. Whoever had the key was asked for it, or gives it up afterwards.)
            Err(rusqlite::Error::SqliteFailure(cause, _))
                if cause.extended_code == SQLITE_CONSTRAINT_UNIQUE =>
            {
                Ok(Err(Error::new(Code::DuplicateId, format!("a task with the id {} exists", spec.id))
                    .hint("ids are for good: leave the id out to have one made")))
            }
            Err(cause) => Err(cause.into()),
        }
    }
}
