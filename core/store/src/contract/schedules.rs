//! One change of one schedule, and schedules whose time has come.

use std::sync::Arc;

use taskloom_model::{Code, Error, ScheduleEffects, ScheduleOperation, ScheduleRow, Timestamp};

use crate::Task;

/// One change of one schedule.
#[derive(Clone, Debug)]
pub struct ScheduleChange {
    /// Its name.
    pub name: String,
    /// The change.
    pub operation: ScheduleOperation,
    /// The task to insert if the change submits one: its id is the one that the operation names.
    pub task: Option<Arc<Task>>,
}

impl ScheduleChange {
    /// A change that submits nothing.
    pub fn new(name: impl Into<String>, operation: ScheduleOperation) -> Self {
        Self { name: name.into(), operation, task: None }
    }

    /// The task to insert. `StoreFailed` if it is missing, which is a mistake of the caller's.
    pub fn task_for(&self, effects: &ScheduleEffects) -> Result<Option<&Arc<Task>>, Error> {
        match (effects.submit_for, &self.task) {
            (None, _) => Ok(None),
            (Some(_), Some(task)) => Ok(Some(task)),
            (Some(tick), None) => Err(Error::new(
                Code::StoreFailed,
                format!("schedule {:?} fires for {tick}, and there is no task to insert", self.name),
            )),
        }
    }
}

/// Schedules whose time has come.
#[derive(Clone, Debug, Default)]
pub struct DueSchedules {
    /// As they are.
    pub rows: Vec<ScheduleRow>,
    /// When the next one is due.
    pub next: Option<Timestamp>,
}
