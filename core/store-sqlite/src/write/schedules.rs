//! A change of a schedule, and the end of a task that one submitted.

use std::sync::Arc;

use rusqlite::OptionalExtension;
use taskloom_model::{
    Effects, Error, Row, ScheduleEffects, ScheduleRow, Spec, TaskId, apply_schedule, next_due,
};
use taskloom_store::{ScheduleChange, Task};

use super::{Sql, Told, Writing};
use crate::codec;
use crate::rows::Fault;
use crate::schedules;

impl Writing<'_> {
    /// Makes a change of a schedule. Whatever can be refused is tried before anything is written.
    pub(crate) fn change_schedule(
        &mut self,
        change: &ScheduleChange,
    ) -> Result<Result<ScheduleEffects, Error>, Fault> {
        let mut row = match schedules::one(self.conn, &change.name, self.place)? {
            Ok(row) => row,
            Err(damage) => return Ok(Err(damage)),
        };
        let prepared = apply_schedule(change.operation.clone(), &change.name, &mut row, self.now)
            .and_then(|effects| Ok((effects, change.task_for(&effects)?)))
            .and_then(|(effects, task)| {
                let spec = row.as_ref().map(|row| codec::encode_schedule(&row.spec)).transpose()?;
                Ok((effects, task, spec))
            });
        let (mut effects, task, spec) = match prepared {
            Ok(prepared) => prepared,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if let Some(task) = task {
            match self.insert_firing(task, row.as_mut())? {
                Ok(true) => {}
                Ok(false) => effects.submit_for = None,
                Err(refusal) => return Ok(Err(refusal)),
            }
        }
        if let Some(old) = effects.replaces {
            self.cancel_if_unfinished(old)?;
        }
        match (row, spec) {
            (Some(row), Some(spec)) if effects.changed => schedules::write(self.conn, &row, &spec)?,
            (None, _) => schedules::remove(self.conn, &change.name)?,
            _ => {}
        }
        Ok(Ok(effects))
    }

    /// Inserts the task of a firing; false if the tick was fired before, and that one's task still lives.
    fn insert_firing(
        &mut self,
        task: &Arc<Task>,
        row: Option<&mut ScheduleRow>,
    ) -> Result<Result<bool, Error>, Fault> {
        let inserted = match self.insert(std::slice::from_ref(task))? {
            Ok(inserted) => inserted,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let Some(row) = row else { return Ok(Ok(true)) };
        if let Some((_, other)) = inserted.stand_ins.first() {
            row.found(match other {
                Told::Task(task) => task.id(),
                Told::Place(place) => self.touched[*place].id(),
            });
            return Ok(Ok(false));
        }
        // It may wait for its key, and not be what it was admitted as.
        let (to, due) = match self.known(task.id()) {
            Some(place) => (self.touched[place].row.state, next_due(task.spec(), &self.touched[place].row)),
            None => task.with_row(|row| (row.state, next_due(task.spec(), row))),
        };
        self.told.push((Told::Task(Arc::clone(task)), Effects { from: None, to, left: None, due }));
        if to.is_terminal() {
            // Expired as it came: nobody will tell of its end.
            row.live = None;
            row.failures += u64::from(ScheduleRow::is_failure(to));
        }
        Ok(Ok(true))
    }

    fn cancel_if_unfinished(&mut self, id: TaskId) -> Result<(), Fault> {
        let statement = self.statements.get(self.conn, Sql::UnfinishedById)?;
        let seq = statement.query_row([id.as_bytes().as_slice()], |stored| stored.get(0)).optional()?;
        let Some(seq) = seq else { return Ok(()) };
        let place = self.find(seq, id)?;
        if self.cancel(place, ScheduleEffects::REPLACED.into())? {
            self.cancel_children(place)?;
        }
        Ok(())
    }

    /// A task has changed: if that was the end of one that a schedule submitted, its schedule is told.
    pub(super) fn tell_schedule(&self, spec: &Spec, before: &Row, after: &Row) -> Result<(), Fault> {
        let Some(scheduled) = spec.scheduled() else { return Ok(()) };
        if after.state.is_terminal() && !before.state.is_terminal() {
            let failed = ScheduleRow::is_failure(after.state);
            self.conn.prepare_cached(schedules::ENDED)?.execute(rusqlite::params![
                scheduled.schedule,
                spec.id.as_bytes(),
                failed
            ])?;
        }
        Ok(())
    }
}
