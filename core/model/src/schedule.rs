//! Schedules as rows that operations change, like tasks.
//!
//! What a rule's next time is belongs to the scheduler, which knows calendars and time zones. Here is only what a
//! store must guarantee: a tick fires once, because firing compares the tick with the row and moves the row on in
//! the same change.

use std::time::Duration;

use crate::{Code, Error, Timestamp};

/// When a schedule fires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// By a cron expression, in a time zone.
    Cron {
        /// Five or six fields.
        expression: String,
        /// Its IANA name.
        tz: String,
    },
    /// At a fixed interval.
    Every(Duration),
    /// At one time.
    Once(Timestamp),
}

/// What happens when a firing comes while the last one's task still lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overlap {
    /// The firing is left out.
    #[default]
    Skip,
    /// Both run.
    Queue,
    /// The older task is cancelled.
    Replace,
}

/// What happens to the firings that nobody was there for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CatchUp {
    /// They are left out.
    None,
    /// The newest one is made up for.
    #[default]
    Last,
    /// Up to so many of the newest are.
    All(u32),
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleSpec {
    /// Its name, unique in a store.
    pub name: String,
    /// When it fires.
    pub rule: Rule,
    /// What it does while its last task lives.
    pub overlap: Overlap,
    /// What it does about missed firings.
    pub catch_up: CatchUp,
    /// At most so much is added at random to each firing.
    pub jitter: Duration,
    /// No firing before it.
    pub start: Option<Timestamp>,
    /// No firing after it.
    pub end: Option<Timestamp>,
}

/// What operations change.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleRow {
    /// What was asked for.
    pub spec: ScheduleSpec,
    /// Whether it fires.
    pub enabled: bool,
    /// Its next tick; none once it has fired for the last time.
    pub next: Option<Timestamp>,
    /// Its last tick.
    pub last: Option<Timestamp>,
    /// How often it fired.
    pub runs: u64,
    /// How many of its tasks did not succeed.
    pub failures: u64,
}

/// A change of one schedule.
#[derive(Clone, Debug, PartialEq)]
pub enum ScheduleOperation {
    /// Make it, or give it another rule; its counts stay.
    Put {
        /// What is asked for.
        spec: ScheduleSpec,
        /// Its next tick.
        next: Option<Timestamp>,
    },
    /// Let it fire, from this tick on.
    Enable {
        /// Its next tick.
        next: Option<Timestamp>,
    },
    /// Stop it from firing.
    Disable,
    /// Take it away.
    Remove,
    /// A tick has come.
    Fire {
        /// The tick; refused unless it is the row's next one.
        tick: Timestamp,
        /// The tick after it.
        next: Option<Timestamp>,
    },
    /// Fire now, by hand; the next tick stays.
    Trigger,
    /// A task of it did not succeed.
    CountFailure,
}

/// What follows from a change of a schedule, once it is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScheduleEffects {
    /// Submit a task for this tick, with the schedule's name and the tick as its unique key, in the same commit.
    pub submit_for: Option<Timestamp>,
    /// When it must be looked at again.
    pub due: Option<Timestamp>,
}

/// Applies one operation to a schedule (`None`: it does not exist) at `now`. On an error nothing has changed.
pub fn apply_schedule(
    operation: ScheduleOperation,
    name: &str,
    row: &mut Option<ScheduleRow>,
    now: Timestamp,
) -> Result<ScheduleEffects, Error> {
    let missing = || Error::new(Code::InvalidOption, format!("no schedule {name:?}"));
    let mut submit_for = None;
    match operation {
        ScheduleOperation::Put { spec, next } => match row {
            Some(row) => {
                row.spec = spec;
                row.next = next;
            }
            None => *row = Some(ScheduleRow { spec, enabled: true, next, last: None, runs: 0, failures: 0 }),
        },
        ScheduleOperation::Enable { next } => {
            let row = row.as_mut().ok_or_else(missing)?;
            row.enabled = true;
            row.next = next;
        }
        ScheduleOperation::Disable => row.as_mut().ok_or_else(missing)?.enabled = false,
        ScheduleOperation::Remove => {
            row.take().ok_or_else(missing)?;
        }
        ScheduleOperation::Fire { tick, next } => {
            let row = row.as_mut().ok_or_else(missing)?;
            if !row.enabled || row.next != Some(tick) || tick > now {
                return Err(Error::new(
                    Code::LeaseLost,
                    format!("schedule {name:?} does not fire for {tick}: its next tick is {:?}", row.next),
                )
                .hint("another process fired it, or it was changed"));
            }
            row.last = Some(tick);
            row.next = next;
            row.runs += 1;
            submit_for = Some(tick);
        }
        ScheduleOperation::Trigger => {
            let row = row.as_mut().ok_or_else(missing)?;
            row.last = Some(now);
            row.runs += 1;
            submit_for = Some(now);
        }
        ScheduleOperation::CountFailure => row.as_mut().ok_or_else(missing)?.failures += 1,
    }
    let due = row.as_ref().filter(|row| row.enabled).and_then(|row| row.next);
    Ok(ScheduleEffects { submit_for, due })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Timestamp = Timestamp::from_micros(60_000_000);
    const NEXT: Timestamp = Timestamp::from_micros(120_000_000);

    fn every_minute() -> ScheduleSpec {
        ScheduleSpec {
            name: "minutely".into(),
            rule: Rule::Every(Duration::from_secs(60)),
            overlap: Overlap::default(),
            catch_up: CatchUp::default(),
            jitter: Duration::ZERO,
            start: None,
            end: None,
        }
    }

    #[test]
    fn a_tick_fires_once() {
        let mut row = None;
        let put = ScheduleOperation::Put { spec: every_minute(), next: Some(TICK) };
        assert_eq!(apply_schedule(put, "minutely", &mut row, TICK).unwrap().due, Some(TICK));
        let fire = ScheduleOperation::Fire { tick: TICK, next: Some(NEXT) };
        let effects = apply_schedule(fire.clone(), "minutely", &mut row, TICK).unwrap();
        assert_eq!(effects, ScheduleEffects { submit_for: Some(TICK), due: Some(NEXT) });
        assert_eq!(apply_schedule(fire, "minutely", &mut row, TICK).unwrap_err().code(), Code::LeaseLost);
        assert_eq!(row.unwrap().runs, 1);
    }

    #[test]
    fn a_disabled_or_missing_schedule_does_not_fire() {
        let mut row = None;
        let fire = ScheduleOperation::Fire { tick: TICK, next: None };
        assert_eq!(
            apply_schedule(fire.clone(), "x", &mut row, TICK).unwrap_err().code(),
            Code::InvalidOption
        );
        let put = ScheduleOperation::Put { spec: every_minute(), next: Some(TICK) };
        apply_schedule(put, "minutely", &mut row, TICK).unwrap();
        apply_schedule(ScheduleOperation::Disable, "minutely", &mut row, TICK).unwrap();
        assert!(apply_schedule(fire, "minutely", &mut row, TICK).is_err());
        let enable = ScheduleOperation::Enable { next: Some(NEXT) };
        assert_eq!(apply_schedule(enable, "minutely", &mut row, TICK).unwrap().due, Some(NEXT));
        let trigger = apply_schedule(ScheduleOperation::Trigger, "minutely", &mut row, TICK).unwrap();
        assert_eq!((trigger.submit_for, trigger.due), (Some(TICK), Some(NEXT)));
        apply_schedule(ScheduleOperation::Remove, "minutely", &mut row, TICK).unwrap();
        assert_eq!(row, None);
    }
}
