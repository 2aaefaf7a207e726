//! The scheduler: submits the tasks of schedules when their time comes.
//!
//! It is a part of the timer service: [`Scheduler::step`] does what is due and says when it wants to be called again. It
//! asks the store which schedules are due, which on a file costs one step down an index, so it keeps no list that
//! could be out of date, and hears of what other processes do to schedules by looking again when there is news.
//!
//! # Once
//! Every process that is started steps, and nobody is in charge: a firing is one change in the store, which compares
//! the tick with the row and inserts the task. Of several who try, one makes it; the others are refused and look again.
//! What decides between overlapping and missed ticks is [`taskloom_model::apply_schedule`], inside that change.
//!
//! # Clocks that jump
//! Forwards: what was passed over counts as missed, and catch-up decides; that costs a few searches, however far it
//! went. Backwards: what has been fired is not fired again. That the clock went back is seen by comparing it with the
//! last step's; then, and in the first step, each schedule is looked at whose next tick may have become absurd.
//!
//! # Failure
//! A store that fails is asked again soon; the row has not moved, so nothing is lost. So is a firing that is refused
//! (a memory store without room). A schedule that cannot be read (a newer version wrote it) is left to those who can.

use std::sync::Arc;
use std::time::Duration;

use taskloom_model::{
    Admission, Code, Name, OnConflict, Result, ScheduleEffects, ScheduleOperation, ScheduleRow, Scheduled,
    Timestamp, Unique, admit,
};
use taskloom_store::{ScheduleChange, Task};

use crate::core::Core;
use crate::events::EventKind;

/// How many schedules are fired in one step.
const BATCH: usize = 64;

/// How long it waits if a firing was refused, or the store failed.
const PAUSE: Duration = Duration::from_secs(1);

/// Clocks of the day are put right by less than this all the time.
const SLACK: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(crate) struct Scheduler {
    /// The time of the last step.
    seen: Option<Timestamp>,
}

impl Scheduler {
    /// Fires what is due, and says how long to wait before the next call; `Duration::MAX` if nothing is planned.
    pub(crate) fn step(&mut self, core: &Arc<Core>, now: Timestamp) -> Duration {
        if !core.capability.schedules || !core.is_open() {
            return Duration::MAX;
        }
        let went_back = self.seen.is_none_or(|seen| now + SLACK < seen);
        if went_back && core.rebase_schedules(now).is_err() {
            return PAUSE;
        }
        self.seen = Some(now);
        let Ok(due) = core.store.due_schedules(BATCH, now) else { return PAUSE };
        let mut wait = due.next.map_or(Duration::MAX, |next| next.since(now));
        for row in due.rows {
            wait = wait.min(match core.fire(&row, now) {
                Ok(Some(again)) => again.since(now),
                Ok(None) => Duration::MAX,
                // Somebody was faster: the row is another by now.
                Err(error) if error.code() == Code::LeaseLost => Duration::ZERO,
                Err(_) => PAUSE,
            });
        }
        wait
    }
}

impl Core {
    /// Fires a schedule that is due; when it is due again.
    fn fire(self: &Arc<Self>, row: &ScheduleRow, now: Timestamp) -> Result<Option<Timestamp>> {
        let Some(due) = row.due_now(now)? else { return Ok(row.look_at()) };
        let task = self.firing(row, due.tick, now)?;
        let operation =
            ScheduleOperation::Fire { tick: due.tick, task: task.id(), chance: self.chance.unit() };
        let (effects, _) = self.change_schedule(&row.spec.name, operation, Some(&task), now)?;
        Ok(effects.due)
    }

    /// The task of a firing.
    pub(crate) fn firing(&self, row: &ScheduleRow, tick: Timestamp, now: Timestamp) -> Result<Arc<Task>> {
        let template = &row.spec.template;
        let admission = Admission::new(&template.options)?;
        let (id, name) = (self.chance.id(now), Name::new(&template.handler));
        let (mut spec, first, _) = admit(&admission, id, name, template.payload.clone().into(), now)?;
        let scheduled = Scheduled { schedule: row.spec.name.clone(), tick };
        let rare = spec.rare.get_or_insert_default();
        rare.unique =
            Some(Unique { key: scheduled.unique_key(), until: None, on_conflict: OnConflict::Return });
        rare.scheduled = Some(scheduled);
        Ok(Task::new(spec, first, None))
    }

    /// Changes a schedule and lets the effects follow; and whether the task has come into being.
    pub(crate) fn change_schedule(
        self: &Arc<Self>,
        name: &str,
        operation: ScheduleOperation,
        task: Option<&Arc<Task>>,
        now: Timestamp,
    ) -> Result<(ScheduleEffects, bool)> {
        if let (Some(task), false) = (task, self.capability.resident) {
            // Findable before it is committed, so that whoever claims it makes no second copy.
            self.live.adopt(Arc::clone(task));
        }
        let told = told_of(&operation);
        let change = ScheduleChange { name: name.to_owned(), operation, task: task.cloned() };
        let mut changes = Vec::new();
        let made = self.store.change_schedule(change, &self.live, &mut changes, now);
        let is_new = made.as_ref().is_ok_and(|effects| effects.submit_for.is_some());
        if let (Some(task), false) = (task, is_new || self.capability.resident) {
            self.live.forget(task);
        }
        let effects = made?;
        self.follow_all(&mut changes);
        self.announce_schedule(name, told, &effects, task.filter(|_| is_new));
        if let Some(due) = effects.due {
            self.timers.set(due);
        }
        Ok((effects, is_new))
    }

    fn rebase_schedules(self: &Arc<Self>, now: Timestamp) -> Result<()> {
        for row in self.store.schedules()? {
            if row.is_astray(now) {
                let operation = ScheduleOperation::Rebase { chance: self.chance.unit() };
                self.change_schedule(&row.spec.name, operation, None, now)?;
            }
        }
        Ok(())
    }

    fn announce_schedule(
        &self,
        name: &str,
        told: Option<EventKind>,
        effects: &ScheduleEffects,
        task: Option<&Arc<Task>>,
    ) {
        if let (Some(tick), Some(task)) = (effects.submit_for, task) {
            let by_hand = told == Some(EventKind::ScheduleFired);
            self.events.publish(EventKind::ScheduleFired, self.clock.now(), Some(task.id()), || {
                crate::events::json::Object::new()
                    .text("schedule", name)
                    .text("name", task.spec().name.as_str())
                    .plain("tick", tick)
                    .flag("by_hand", by_hand)
                    .build()
            });
        } else if let Some(skipped) = effects.skipped {
            self.publish_plain(EventKind::ScheduleSkipped, |data| {
                data.text("schedule", name).plain("why", skipped.as_str())
            });
        } else if let Some(kind) = told.filter(|_| effects.changed) {
            let kind = if effects.created { EventKind::ScheduleCreated } else { kind };
            self.publish_plain(kind, |data| {
                data.text("schedule", name).maybe_plain("next", effects.due.filter(|_| tells_next(kind)))
            });
        }
    }
}

/// Which event an operation is, if it is one whatever comes of it.
fn told_of(operation: &ScheduleOperation) -> Option<EventKind> {
    Some(match operation {
        ScheduleOperation::Put { .. } | ScheduleOperation::Update { .. } => EventKind::ScheduleUpdated,
        ScheduleOperation::Enable { .. } => EventKind::ScheduleEnabled,
        ScheduleOperation::Disable => EventKind::ScheduleDisabled,
        ScheduleOperation::Remove => EventKind::ScheduleRemoved,
        ScheduleOperation::Trigger { .. } => EventKind::ScheduleFired,
        ScheduleOperation::Rebase { .. } => EventKind::ScheduleUpdated,
        ScheduleOperation::Fire { .. } | ScheduleOperation::Ended { .. } => return None,
    })
}

fn tells_next(kind: EventKind) -> bool {
    matches!(kind, EventKind::ScheduleCreated | EventKind::ScheduleUpdated | EventKind::ScheduleEnabled)
}
