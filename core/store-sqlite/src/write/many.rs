//! What finds its tasks by itself: times, dead owners. (Claims are next door.)

use std::sync::Arc;

use taskloom_model::{Effects, Fence, Operation, OwnerId, TaskId, Timestamp, apply, next_due};
use taskloom_store::Task;

use super::gates::next_gate;
use super::{Home, Sql, Told, Touched, Writing};
use crate::handlers;
use crate::presence::Begun;
use crate::rows::{self, Fault};
use crate::schema;

impl Writing<'_> {
    /// Tells tasks that their time has come; when the next one's does.
    pub(crate) fn elapse(&mut self, limit: usize) -> Result<Option<Timestamp>, Fault> {
        let next = self.elapse_tasks(limit)?;
        self.close_gates()?;
        Ok([next, next_gate(self.conn)?].into_iter().flatten().min())
    }

    fn elapse_tasks(&mut self, limit: usize) -> Result<Option<Timestamp>, Fault> {
        self.open_gates()?;
        loop {
            let known = self.damaged.len();
            let wanted = limit.saturating_add(known);
            let most = i64::try_from(wanted).unwrap_or(i64::MAX);
            let due = self.list(schema::DUE, [self.now.micros(), most])?;
            let is_all = due.len() < wanted;
            let told = self.told.len();
            for (seq, id) in due {
                if !self.damaged.contains(&seq) {
                    self.change_one(seq, id, |_| Operation::Elapse)?;
                }
            }
            // Rows that make no sense may be in front of all others.
            if is_all || self.told.len() > told || self.damaged.len() == known {
                return self.next_due();
            }
        }
    }

    /// When the next task's time comes.
    fn next_due(&self) -> Result<Option<Timestamp>, Fault> {
        let mut statement = self.conn.prepare_cached(schema::ALL_DUE)?;
        let mut times = statement.query([])?;
        while let Some(stored) = times.next()? {
            if !self.damaged.contains(&stored.get(0)?) {
                return Ok(Some(Timestamp::from_micros(stored.get(1)?)));
            }
        }
        Ok(None)
    }

    /// Takes everything from an owner.
    pub(crate) fn bury(&mut self, owner: OwnerId, begun: Option<&Begun>) -> Result<(), Fault> {
        let number = owner.get().cast_signed();
        for (seq, id) in self.list(schema::OWNED, [number])? {
            self.change_one(seq, id, |attempt| {
                if begun.is_some_and(|begun| !begun.contains(&(id, attempt))) {
                    Operation::Release { fence: Fence { owner, attempt } }
                } else {
                    Operation::Lose { owner }
                }
            })?;
        }
        self.conn.prepare_cached(schema::STRIKE_OFF)?.execute([number])?;
        self.close_gates()?;
        handlers::strike_off(self.conn, owner)
    }

    /// Rows by key and id; those without an id are left out.
    pub(super) fn list(
        &mut self,
        sql: &str,
        parameters: impl rusqlite::Params,
    ) -> Result<Vec<(i64, TaskId)>, Fault> {
        let mut statement = self.conn.prepare_cached(sql)?;
        let mut stored = statement.query(parameters)?;
        let mut found = Vec::new();
        while let Some(stored) = stored.next()? {
            let seq = stored.get(0)?;
            match rows::read_id(stored, 1) {
                Ok(id) => found.push((seq, id)),
                Err(_) => self.damaged.push(seq),
            }
        }
        Ok(found)
    }

    /// Changes a row that was found, if it makes sense. What is done may depend on the attempt that it is in.
    fn change_one(
        &mut self,
        seq: i64,
        id: TaskId,
        operation: impl FnOnce(u32) -> Operation,
    ) -> Result<(), Fault> {
        let place = self.look_at(seq, id);
        let Some(place) = self.sound(seq, place)? else { return Ok(()) };
        let effects = self.apply(place, operation(self.touched[place].row.attempt));
        let Some(effects) = self.sound(seq, effects)? else { return Ok(()) };
        if effects.moved() {
            self.told.push((Told::Place(place), effects));
        }
        Ok(())
    }

    /// Applies an operation that cannot be refused: the task was found because it is in the state for it.
    pub(super) fn apply(&mut self, place: usize, operation: Operation) -> Result<Effects, Fault> {
        let touched = &self.touched[place];
        let (id, mut row) = (touched.id(), touched.row.clone());
        let refused = |error| Fault::Task(id, error);
        let mut effects = apply(operation, touched.home.spec(), &mut row, self.now).map_err(refused)?;
        let history = rows::history(&row).map_err(refused)?;
        self.store(place, row, history)?;
        let touched = &self.touched[place];
        (effects.to, effects.due) = (touched.row.state, next_due(touched.home.spec(), &touched.row));
        Ok(effects)
    }

    /// Reads a task that was found, or finds that the batch has touched it; its place.
    pub(super) fn look_at(&mut self, seq: i64, id: TaskId) -> Result<usize, Fault> {
        if let Some(place) = self.known(id) {
            self.touched[place].seq = Some(seq);
            return Ok(place);
        }
        let held = self.held(id);
        let sql = if held.is_some() { Sql::RowBySeq } else { Sql::TaskBySeq };
        let statement = self.statements.get(self.conn, sql)?;
        let (row, home) = statement.query_row([seq], |stored| {
            let home = match held {
                Some(task) => Ok(Home::Held(task)),
                None => rows::read_spec(id, stored).map(|spec| Home::Read(Box::new(spec))),
            };
            Ok((rows::read_row(stored), home))
        })?;
        let row = row.map_err(|error| Fault::Task(id, error))?;
        let home = home.map_err(|error| Fault::Task(id, error))?;
        self.touched.push(Touched::new(Some(seq), row, home));
        Ok(self.touched.len() - 1)
    }

    /// As [`Writing::look_at`], and makes the task findable for the rest of the batch. If somebody holds it, it is
    /// their task that is told of.
    pub(super) fn find(&mut self, seq: i64, id: TaskId) -> Result<usize, Fault> {
        let new = self.touched.len();
        let place = self.look_at(seq, id)?;
        if place == new {
            self.index(place);
        } else if let Some(task) = self.held(id) {
            self.touched[place].bring_home(task);
        }
        Ok(place)
    }

    /// The task in memory that shows this id, unless nothing more may happen to it there.
    pub(super) fn held(&self, id: TaskId) -> Option<Arc<Task>> {
        let fresh = self.fresh.as_ref().and_then(|fresh| fresh.get(&id)).cloned();
        fresh.or_else(|| self.residents.resident(id)).filter(|task| !task.is_final())
    }
}
