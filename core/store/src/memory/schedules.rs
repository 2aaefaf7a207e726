//! Schedules in memory.
//!
//! The rows are under one lock, held while a change is worked out and the task of a firing is added, so two who race
//! for a tick come one after the other. It is let go before anything is done that can end a task: the end of a task
//! asks for it, perhaps with the lock on the gates in hand. (Whoever holds it may ask for the lock on unique keys; nobody
//! does so the other way round.)
//!
//! The time at which the next schedule is due is kept beside the rows, so that asking whether one is costs a load.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;
use taskloom_model::{
    Error, ScheduleEffects, ScheduleOperation, ScheduleRow, Scheduled, Timestamp, apply_schedule,
};

use super::{MemoryStore, insert};
use crate::{Change, DueSchedules, ScheduleChange, Task};

pub(super) struct Schedules {
    rows: Mutex<BTreeMap<String, ScheduleRow>>,
    /// When the first of them is to be looked at, in microseconds; the largest number if none is.
    first: AtomicI64,
}

impl Default for Schedules {
    fn default() -> Self {
        Self { rows: Mutex::default(), first: AtomicI64::new(i64::MAX) }
    }
}

impl Schedules {
    pub(super) fn all(&self) -> Vec<ScheduleRow> {
        self.rows.lock().values().cloned().collect()
    }

    pub(super) fn get(&self, name: &str) -> Option<ScheduleRow> {
        self.rows.lock().get(name).cloned()
    }

    pub(super) fn due(&self, limit: usize, now: Timestamp) -> DueSchedules {
        let first = self.first.load(Ordering::Acquire);
        if first > now.micros() {
            let next = (first != i64::MAX).then(|| Timestamp::from_micros(first));
            return DueSchedules { rows: Vec::new(), next };
        }
        let rows = self.rows.lock();
        let mut times: Vec<_> = rows.values().filter_map(|row| Some((row.look_at()?, row))).collect();
        times.sort_by_key(|(at, _)| *at);
        let due = times.iter().take(limit).take_while(|(at, _)| *at <= now).count();
        DueSchedules {
            rows: times[..due].iter().map(|(_, row)| (*row).clone()).collect(),
            next: times.get(due).map(|(at, _)| *at),
        }
    }

    /// A task that one of them submitted has ended.
    pub(super) fn ended(&self, scheduled: &Scheduled, task: &Task, now: Timestamp) {
        let mut rows = self.rows.lock();
        let Some(row) = rows.remove(&scheduled.schedule) else { return };
        let mut row = Some(row);
        let operation =
            ScheduleOperation::Ended { task: task.id(), failed: ScheduleRow::is_failure(task.state()) };
        // Nothing about the end of a task can be refused of a schedule that exists.
        let _ = apply_schedule(operation, &scheduled.schedule, &mut row, now);
        if let Some(row) = row {
            rows.insert(scheduled.schedule.clone(), row);
        }
        self.note_first(&rows);
    }

    fn note_first(&self, rows: &BTreeMap<String, ScheduleRow>) {
        let first = rows.values().filter_map(ScheduleRow::look_at).min();
        self.first.store(first.map_or(i64::MAX, Timestamp::micros), Ordering::Release);
    }
}

impl MemoryStore {
    pub(super) fn change_a_schedule(
        &self,
        change: ScheduleChange,
        changes: &mut Vec<Change>,
        now: Timestamp,
    ) -> Result<ScheduleEffects, Error> {
        let mut rows = self.schedules.rows.lock();
        let mut row = rows.get(&change.name).cloned();
        let mut effects = apply_schedule(change.operation.clone(), &change.name, &mut row, now)?;
        let mut tasks: Vec<_> = change.task_for(&effects)?.into_iter().cloned().collect();
        let prepared = if tasks.is_empty() { None } else { Some(self.prepare(&tasks, now)?) };
        // Looked at before anybody can find it.
        let births: Vec<_> = prepared
            .iter()
            .flat_map(|prepared| &prepared.added)
            .map(|task| Change { task: Arc::clone(task), effects: insert::birth(task) })
            .collect();
        if let Some(prepared) = &prepared
            && let Some(holder) = prepared.stand_in()
            && let Some(row) = &mut row
        {
            row.found(holder.id());
            effects.submit_for = None;
        }
        match row {
            Some(row) => rows.insert(change.name, row),
            None => rows.remove(&change.name),
        };
        self.schedules.note_first(&rows);
        drop(rows);
        changes.extend(births);
        if let Some(prepared) = prepared {
            self.complete(prepared, &mut tasks, changes, now);
        }
        if let Some(old) = effects.replaces.and_then(|old| self.tasks.get(old))
            && self.cancel_as_consequence(&old, ScheduleEffects::REPLACED.into(), changes, now)
        {
            self.cancel_children(&old, changes, now);
        }
        self.refill(changes, now);
        Ok(effects)
    }
}
