//! Schedules among the random commands: put, changed, taken away, and fired with a task.
//!
//! Their tasks are tasks like all others to the commands around: they are claimed, they end, they are cancelled and
//! forgotten; and the rows of the schedules must hear of that in the same way in both stores.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use taskloom_model::{
    CatchUp, Options, Overlap, Rule, ScheduleEffects, ScheduleOperation, ScheduleSpec, Scheduled, TaskId,
    Template, Timestamp, Unique,
};
use taskloom_store::{Change, Nobody, ScheduleChange, Store, Task};

use super::side::{Admitted, effects, text};
use super::{NAMES, New, Pair, new};

const SCHEDULES: [&str; 2] = ["minutely", "nightly"];

/// What is to be done with a schedule.
#[derive(Clone, Debug)]
pub(super) struct Scheduling {
    schedule: u8,
    operation: u8,
    /// What it asks for, in numbers.
    asks: (u8, u8, u8, u8),
    chance: u8,
    task: New,
}

pub(super) fn scheduling() -> impl Strategy<Value = Scheduling> {
    let asks = (0..4u8, 0..3u8, 0..3u8, 0..3u8);
    (0..2u8, 0..14u8, asks, 0..4u8, new()).prop_map(|(schedule, operation, asks, chance, task)| Scheduling {
        schedule,
        operation,
        asks,
        chance,
        task,
    })
}

/// What a store told, as it can be compared.
type Told = Result<(ScheduleEffects, Vec<(TaskId, taskloom_model::Effects, taskloom_model::Row)>), String>;

impl Pair {
    pub(super) fn schedule(
        &mut self,
        step: &Scheduling,
        queued: &HashSet<TaskId>,
    ) -> Result<(), TestCaseError> {
        let now = self.clock.now();
        let name = SCHEDULES[usize::from(step.schedule)];
        let chance = f64::from(step.chance) / 4.0;
        let spec = || Box::new(asked_for(name, step, now));
        let mut task = None;
        let operation = match step.operation {
            0 | 1 => ScheduleOperation::Put { spec: spec(), chance },
            2 => ScheduleOperation::Update { spec: spec(), chance },
            3 => ScheduleOperation::Enable { chance },
            4 => ScheduleOperation::Disable,
            5 => ScheduleOperation::Remove,
            6 => ScheduleOperation::Rebase { chance },
            7 => {
                let fired = self.firing(name, now, &step.task);
                let operation = ScheduleOperation::Trigger { task: fired.0.id };
                task = Some(fired);
                operation
            }
            _ => {
                // The tick that is due, or one that is not.
                let due = self.known.store.schedule(name).unwrap();
                let due = due.and_then(|row| row.due_now(now).unwrap());
                let tick = due.map_or(now, |due| due.tick);
                let fired = self.firing(name, tick, &step.task);
                let operation = ScheduleOperation::Fire { tick, task: fired.0.id, chance };
                task = Some(fired);
                operation
            }
        };
        let mut told: Vec<Told> = Vec::new();
        for side in [&mut self.tried, &mut self.known] {
            let task = task.as_ref().map(|(spec, row)| Task::new(spec.clone(), row.clone(), None));
            let change = ScheduleChange { name: name.into(), operation: operation.clone(), task };
            let mut changes: Vec<Change> = Vec::new();
            let verdict = side.store.change_schedule(change, &Nobody, &mut changes, now);
            told.push(
                verdict.map(|verdict| (verdict, effects(&changes, queued))).map_err(|error| text(&error)),
            );
            side.held.extend(changes.into_iter().map(|change| (change.task.id(), change.task)));
        }
        prop_assert_eq!(&told[0], &told[1]);
        let due = |store: &Arc<dyn Store>| {
            let due = store.due_schedules(1, now).unwrap();
            (due.rows, due.next)
        };
        prop_assert_eq!(due(&self.tried.store), due(&self.known.store));
        Ok(())
    }

    /// The task of a firing, as an engine makes it.
    fn firing(&mut self, name: &str, tick: Timestamp, new: &New) -> Admitted {
        // Its unique key is its tick's.
        let (mut spec, row) = self.admit(&New { twin: None, key: None, ..new.clone() }, &[]);
        let scheduled = Scheduled { schedule: name.into(), tick };
        let rare = spec.rare.get_or_insert_default();
        rare.unique =
            Some(Unique { key: scheduled.unique_key(), until: None, on_conflict: Default::default() });
        rare.scheduled = Some(scheduled);
        (spec, row)
    }
}

fn asked_for(name: &str, step: &Scheduling, now: Timestamp) -> ScheduleSpec {
    let (rule, overlap, catch_up, bounds) = step.asks;
    let handler = NAMES[usize::from(rule) % NAMES.len()].into();
    let template = Template { handler, payload: Box::new(*b"{}"), options: Options::default() };
    let rule = match rule {
        0 => Rule::Every(Duration::from_secs(1)),
        1 => Rule::Every(Duration::from_millis(700)),
        2 => Rule::Once(now + Duration::from_secs(2)),
        _ => Rule::Cron { expression: "*/3 * * * * *".into(), tz: "UTC".into() },
    };
    let mut spec = ScheduleSpec::new(name, rule, template);
    spec.overlap = [Overlap::Skip, Overlap::Queue, Overlap::Replace][usize::from(overlap)];
    spec.catch_up = [CatchUp::None, CatchUp::Last, CatchUp::All(3)][usize::from(catch_up)];
    spec.jitter = Duration::from_millis(if step.chance == 3 { 300 } else { 0 });
    if bounds == 1 {
        spec.end = Some(now + Duration::from_secs(20));
    }
    spec
}
