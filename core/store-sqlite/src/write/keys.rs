//! Unique keys: how an insert goes, decided before anything of it is written.
//!
//! A key that is found to be free although it is in somebody's row is taken from that row at once. It says nothing
//! any more, so it does not matter what becomes of the insert.

use std::sync::Arc;

use hashbrown::HashMap;
use rusqlite::OptionalExtension;
use taskloom_model::{Error, Name, OnConflict, State, TaskId, Timestamp, Unique};
use taskloom_store::Task;

use super::{Home, Sql, Told, Writing};
use crate::rows::{self, Fault};

/// Who has a key.
pub(super) enum Holder {
    /// A stored task.
    Stored { seq: i64, id: TaskId, state: State },
    /// A task of the same insert: its index.
    New(usize),
}

/// A key that an insert takes.
pub(super) struct Taken {
    /// By which of its tasks: the last of those that take it.
    pub(super) by: usize,
    /// From whom, if somebody stored has it and is replaced.
    pub(super) from: Option<i64>,
}

/// How an insert goes.
#[derive(Default)]
pub(super) struct Decided<'a> {
    /// Where another task stands in, in order.
    pub(super) stand_ins: Vec<(usize, Told)>,
    /// Who is replaced, in order.
    pub(super) replaced: Vec<Holder>,
    pub(super) taken: HashMap<(Name, &'a str), Taken>,
}

impl Decided<'_> {
    /// Whether the insert is one without unique keys.
    pub(super) fn is_empty(&self) -> bool {
        self.stand_ins.is_empty() && self.taken.is_empty()
    }

    /// Whether this one of its tasks is to be inserted.
    pub(super) fn is_new(&self, index: usize) -> bool {
        self.stand_ins.binary_search_by_key(&index, |(index, _)| *index).is_err()
    }

    /// The key that a task is inserted with. (One that is taken over has to be given up first, and that only when
    /// nothing can refuse the insert any more.)
    pub(super) fn given_at_once<'t>(&self, index: usize, task: &'t Task) -> Option<&'t str> {
        let key = task.spec().unique()?.key.as_str();
        let taken = self.taken.get(&(task.spec().name, key))?;
        (taken.by == index && taken.from.is_none()).then_some(key)
    }
}

impl Writing<'_> {
    /// Decides how an insert goes, or why it is refused.
    pub(super) fn decide<'a>(&mut self, tasks: &'a [Arc<Task>]) -> Result<Result<Decided<'a>, Error>, Fault> {
        let mut decided = Decided::default();
        for (index, task) in tasks.iter().enumerate() {
            let Some(unique) = task.spec().unique() else { continue };
            let name = task.spec().name;
            let key = (name, unique.key.as_str());
            // What tasks of this very insert have taken hides what is stored.
            let holder = match decided.taken.get(&key) {
                Some(taken) => Some(Holder::New(taken.by)).filter(|_| has_key(&tasks[taken.by], self.now)),
                None => self.holder(name, &unique.key)?,
            };
            match (holder, unique.on_conflict) {
                (Some(holder), OnConflict::Return) => {
                    let other = match holder {
                        Holder::New(other) => Told::Task(Arc::clone(&tasks[other])),
                        Holder::Stored { seq, id, .. } => Told::Place(self.find_shown(seq, id)?),
                    };
                    decided.stand_ins.push((index, other));
                }
                (Some(Holder::New(other)), OnConflict::Reject) => {
                    let other = &tasks[other];
                    return Ok(Err(unique.refusal(other.state(), other.id())));
                }
                (Some(Holder::Stored { id, state, .. }), OnConflict::Reject) => {
                    return Ok(Err(unique.refusal(state, id)));
                }
                (Some(holder), OnConflict::Replace) => {
                    let from = match holder {
                        // Read now: if it cannot be, the insert can still be refused.
                        Holder::Stored { seq, id, .. } => self.find(seq, id).map(|_| Some(seq))?,
                        Holder::New(_) => None,
                    };
                    decided.replaced.push(holder);
                    decided.taken.entry(key).or_insert(Taken { by: index, from }).by = index;
                }
                (None, _) => decided.taken.entry(key).or_insert(Taken { by: index, from: None }).by = index,
            }
        }
        Ok(Ok(decided))
    }

    /// The stored task that has a key.
    fn holder(&mut self, name: Name, key: &str) -> Result<Option<Holder>, Fault> {
        let statement = self.statements.get(self.conn, Sql::KeyHolder)?;
        let found = statement
            .query_row([key, name.as_str()], |stored| {
                let state = rows::read_state(stored, 2);
                Ok((stored.get(0)?, rows::read_id(stored, 1)?, state, stored.get::<_, Option<i64>>(3)?))
            })
            .optional()?;
        let Some((seq, id, state, until)) = found else { return Ok(None) };
        let state = state.map_err(|error| Fault::Task(id, error))?;
        if Unique::is_kept(until.map(Timestamp::from_micros), state, self.now) {
            return Ok(Some(Holder::Stored { seq, id, state }));
        }
        self.give_key(seq, None)?;
        Ok(None)
    }

    /// Gives a key to a stored task, or takes it from it.
    pub(super) fn give_key(&mut self, seq: i64, key: Option<&str>) -> Result<(), Fault> {
        self.statements.get(self.conn, Sql::GiveKey)?.execute(rusqlite::params![seq, key])?;
        Ok(())
    }

    /// Gives a task that is started over its key again, unless somebody else has it.
    pub(super) fn regain_key(&mut self, place: usize, unique: &Unique) -> Result<Result<(), Error>, Fault> {
        let name = self.touched[place].home.spec().name;
        let own = self.seq(place)?;
        match self.holder(name, &unique.key) {
            Ok(Some(Holder::Stored { seq, id, state })) if seq != own => {
                Ok(Err(unique.replay_refusal(state, id)))
            }
            Ok(_) => self.give_key(own, Some(&unique.key)).map(Ok),
            Err(Fault::Task(id, damage)) => Ok(Err(self.place.corrupt(id, damage))),
            Err(fault) => Err(fault),
        }
    }

    /// As [`Writing::find`], for a task that is handed out: one that has settled in memory will do if it shows what is
    /// stored.
    fn find_shown(&mut self, seq: i64, id: TaskId) -> Result<usize, Fault> {
        let place = self.find(seq, id)?;
        let touched = &mut self.touched[place];
        if matches!(touched.home, Home::Read(_))
            && let Some(task) = self.residents.resident(id)
            && task.with_row(|row| *row == touched.row)
        {
            touched.home = Home::Held(task);
        }
        Ok(place)
    }
}

fn has_key(task: &Task, now: Timestamp) -> bool {
    let until = task.spec().unique().and_then(|unique| unique.until);
    Unique::is_kept(until, task.state(), now)
}
