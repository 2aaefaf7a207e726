//! What finds its tasks by itself: times, dead owners. (Claims are next door.)

use std::sync::Arc;

use taskloom_model::{Effects, Fence, Operation, OwnerId, TaskId, Timestamp, apply, next_due};
use taskloom_store::Task;

use super::gates::next_gate;
use super::{Home, Sql, Told, Touched, Writing};
use crate::presence::Begun;
use crate::rows::{self, Fault};
use crate::schema;

impl Writing<'_> {
    /// Tells tasks that their time has come; when the next one's does.
    pub(crate) fn elapse(&mut self, limit: usize) -> Result<Option<Timestamp>, Fault> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let due = self.list(schema::DUE, rusqlite::params![self.now.micros(), limit])?;
        self.open_gates()?;
        self.change(due, &Operation::Elapse)?;
        self.close_gates()?;
        let next: Option<i64> =
            self.conn.prepare_cached(schema::NEXT_DUE)?.query_row([], |stored| stored.get(0))?;
        let gate = next_gate(self.conn)?;
        Ok([next.map(Timestamp::from_micros), gate].into_iter().flatten().min())
    }

    /// Takes everything from an owner.
    pub(crate) fn bury(&mut self, owner: OwnerId, begun: Option<&Begun>) -> Result<(), Fault> {
        let number = owner.get().cast_signed();
        for (seq, id) in self.list(schema::OWNED, [number])? {
            let place = self.look_at(seq, id)?;
            let attempt = self.touched[place].row.attempt;
            let operation = if begun.is_some_and(|begun| !begun.contains(&(id, attempt))) {
                Operation::Release { fence: Fence { owner, attempt } }
            } else {
                Operation::Lose { owner }
            };
            self.change_one(place, operation)?;
        }
        self.conn.prepare_cached(schema::STRIKE_OFF)?.execute([number])?;
        self.close_gates()
    }

    pub(super) fn list(
        &self,
        sql: &str,
        parameters: impl rusqlite::Params,
    ) -> Result<Vec<(i64, TaskId)>, Fault> {
        let mut statement = self.conn.prepare_cached(sql)?;
        let found =
            statement.query_map(parameters, |stored| Ok((stored.get(0)?, rows::read_id(stored, 1)?)))?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    fn change(&mut self, tasks: Vec<(i64, TaskId)>, operation: &Operation) -> Result<(), Fault> {
        for (seq, id) in tasks {
            let place = self.look_at(seq, id)?;
            self.change_one(place, operation.clone())?;
        }
        Ok(())
    }

    fn change_one(&mut self, place: usize, operation: Operation) -> Result<(), Fault> {
        let effects = self.apply(place, operation)?;
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
        self.touched.push(Touched { seq: Some(seq), row, home, twins: Vec::new() });
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
        fresh.or_else(|| self.residents.resident(id)).filter(|task| !task.is_settled())
    }
}
