//! Schedules as rows that operations change, like tasks.
//!
//! A store runs [`apply_schedule`] inside its transaction, on the row as it has it, and inserts the task of a firing
//! in the same one. So a tick is fired once, whoever races for it: firing names the tick that is expected, and moves
//! the row on in the same change. What becomes of the tasks is told to the row by [`ScheduleOperation::Ended`], in
//! the transaction in which a task ends, so the row knows whether its last task lives, and counts failures exactly.
//!
//! # One at a time
//! With [`Overlap::Queue`] a tick that comes while the last task lives is put into `waiting`, and submitted when that
//! has ended. So are missed ticks that are made up for by [`CatchUp::All`] under [`Overlap::Skip`]: each of them was
//! asked for, and they must not be left out because of one another.

use std::time::Duration;

use super::ticks::{CatchUp, Overlap, Rule, Ticks};
use crate::planted::{self, Bug};
use crate::{Admission, Code, Error, Options, Result, State, TaskId, Timestamp, When, check_name};

/// How many ticks may wait for the task of an earlier one; those that come then are left out.
pub const MAX_WAITING: usize = 1_000;

/// The tasks that a schedule submits.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// The name of their handler.
    pub handler: String,
    /// Their payload.
    pub payload: Box<[u8]>,
    /// Their options, complete: any process can submit them, whether or not it has the handler.
    pub options: Options,
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
    /// What it submits.
    pub template: Template,
}

impl ScheduleSpec {
    /// A schedule without bounds and with the usual policies.
    pub fn new(name: impl Into<String>, rule: Rule, template: Template) -> Self {
        Self {
            name: name.into(),
            rule,
            overlap: Overlap::default(),
            catch_up: CatchUp::default(),
            jitter: Duration::ZERO,
            start: None,
            end: None,
            template,
        }
    }

    /// Refuses a schedule that makes no sense, or that would never fire if it were made at `now`.
    pub fn validate(&self, now: Timestamp) -> Result<()> {
        self.check_template()?;
        if self.has_a_tick(now)? { Ok(()) } else { Err(self.never_fires(now)) }
    }

    /// Refuses names that cannot be, and options that make no sense for what is submitted again and again.
    fn check_template(&self) -> Result<()> {
        check_name("schedule", &self.name)?;
        check_name("handler", &self.template.handler)?;
        let options = &self.template.options;
        let refused = [
            ("id", options.id.is_some(), "each firing has an id of its own"),
            (
                "unique_key",
                options.unique_key.is_some(),
                "each firing has a unique key of its own: schedule and tick",
            ),
            ("delay", options.eta.is_some(), "the rule says when; jitter delays by chance"),
            ("expires", matches!(options.expires, Some(When::At(_))), "give it as a time from the firing on"),
            (
                "deadline",
                matches!(options.deadline, Some(When::At(_))),
                "give it as a time from the firing on",
            ),
            ("depends_on", !options.depends_on.is_empty(), "leave it out"),
        ];
        if let Some((option, _, hint)) = refused.into_iter().find(|(_, is_set, _)| *is_set) {
            return Err(Error::new(
                Code::InvalidSchedule,
                format!(
                    "schedule {:?}: the option {option} makes no sense for tasks that come again and again",
                    self.name
                ),
            )
            .hint(hint));
        }
        Admission::new(options).map(drop)
    }

    /// Whether it fires at all: some day, or, if its end is past by now, some day before that. A program says what its
    /// schedules are each time that it starts, also when one of them is over.
    fn has_a_tick(&self, now: Timestamp) -> Result<bool> {
        let ticks = Ticks::new(self, now)?;
        Ok(ticks.first(now).is_some()
            || match (self.end, &self.rule, self.start) {
                (None, ..) => false,
                // From when on it would have counted, nobody knows.
                (Some(end), Rule::Every(_), None) => end < now,
                (Some(end), ..) => ticks.until(end).is_some(),
            })
    }

    fn never_fires(&self, now: Timestamp) -> Error {
        let bounds = match (self.start, self.end) {
            (None, None) => String::new(),
            (Some(start), None) => format!(" from {start} on"),
            (None, Some(end)) => format!(" until {end}"),
            (Some(start), Some(end)) => format!(" from {start} until {end}"),
        };
        Error::new(
            Code::InvalidSchedule,
            format!(
                "schedule {:?} would never fire: {} has no time after {now}{bounds}",
                self.name, self.rule
            ),
        )
        .hint("check the rule against its zone, and against start and end; to stop a schedule, disable or remove it")
    }

    /// Whether another spec fires at the same times.
    fn has_rule_of(&self, other: &Self) -> bool {
        (&self.rule, self.start, self.end) == (&other.rule, other.start, other.end)
    }
}

/// What operations change.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleRow {
    /// What was asked for.
    pub spec: ScheduleSpec,
    /// Whether it fires.
    pub enabled: bool,
    /// When it was made.
    pub created: Timestamp,
    /// From when on an interval counts.
    pub anchor: Timestamp,
    /// Its next tick; none once it has fired for the last time.
    pub next: Option<Timestamp>,
    /// When the task of its next tick is submitted: later than the tick by the jitter.
    pub due: Option<Timestamp>,
    /// Its last tick, or when it was last triggered by hand.
    pub last: Option<Timestamp>,
    /// Its last task.
    pub last_task: Option<TaskId>,
    /// Its last task, while that lives.
    pub live: Option<TaskId>,
    /// Ticks that wait for the end of that.
    pub waiting: Vec<Timestamp>,
    /// How many tasks it submitted.
    pub runs: u64,
    /// How many of its tasks failed, timed out or expired.
    pub failures: u64,
    /// How many firings were left out because an earlier one's task still lived.
    pub skipped: u64,
}

/// What is to be done about a schedule that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// For which tick.
    pub tick: Timestamp,
    how: How,
    /// Ticks that are made up for after it.
    rest: Vec<Timestamp>,
    following: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// Its time has come.
    Fire {
        /// It is made up for, as one of several that are asked for.
        made_up: bool,
    },
    /// It came too late.
    Miss,
    /// What it waited for has ended.
    Release,
}

impl ScheduleRow {
    /// When it must be looked at; a past time if that is now.
    pub fn look_at(&self) -> Option<Timestamp> {
        if !self.enabled {
            None
        } else if self.live.is_none() && !self.waiting.is_empty() {
            self.waiting.first().copied()
        } else {
            self.due
        }
    }

    /// Its ticks.
    pub fn ticks(&self) -> Result<Ticks> {
        Ticks::new(&self.spec, self.anchor)
    }

    /// The next times at which it fires, by its rule; none if it is disabled.
    pub fn firings(&self, count: usize) -> Result<Vec<Timestamp>> {
        let Some(next) = self.next.filter(|_| self.enabled) else { return Ok(Vec::new()) };
        let ticks = self.ticks()?;
        Ok(std::iter::successors(Some(next), |last| ticks.after(*last)).take(count).collect())
    }

    /// What is to be done now, if anything is.
    pub fn due_now(&self, now: Timestamp) -> Result<Option<Due>> {
        if self.look_at().is_none_or(|at| at > now) {
            return Ok(None);
        }
        if self.live.is_none()
            && let Some(tick) = self.waiting.first()
        {
            return Ok(Some(Due { tick: *tick, how: How::Release, rest: Vec::new(), following: self.next }));
        }
        let Some(next) = self.next else { return Ok(None) };
        let ticks = self.ticks()?;
        let mut plan = ticks.plan(next, now);
        if self.spec.overlap == Overlap::Replace {
            // Each would take the place of the one before it.
            plan.drain(..plan.len().saturating_sub(1));
        }
        let following = ticks.after(now.max(next));
        Ok(Some(if plan.is_empty() {
            Due { tick: next, how: How::Miss, rest: Vec::new(), following }
        } else {
            let tick = plan.remove(0);
            let is_asked_for = matches!(self.spec.catch_up, CatchUp::All(_));
            let made_up = is_asked_for && (!plan.is_empty() || ticks.is_late(tick, now));
            Due { tick, how: How::Fire { made_up }, rest: plan, following }
        }))
    }

    /// Whether its next tick cannot be right, since the clock has been set back.
    pub fn is_astray(&self, now: Timestamp) -> bool {
        let Some(next) = self.next.filter(|next| self.enabled && *next > now) else { return false };
        self.ticks().is_ok_and(|ticks| ticks.is_astray(next, self.last, now))
    }

    /// Its task for a tick was there already: the tick was fired once before, and this task of it still lives.
    pub fn found(&mut self, task: TaskId) {
        self.last_task = Some(task);
        self.live = Some(task);
        self.runs = self.runs.saturating_sub(1);
    }

    /// Whether the end of one of its tasks counts as a failure. A cancel does not: somebody wanted it.
    pub fn is_failure(end: State) -> bool {
        matches!(end, State::Failed | State::TimedOut | State::Expired)
    }

    fn go_on_at(&mut self, next: Option<Timestamp>, ticks: &Ticks, chance: f64) {
        self.next = next;
        self.due = next.map(|next| ticks.due(next, chance));
    }

    fn begin(&mut self, tick: Timestamp, task: TaskId) {
        self.last = Some(tick);
        self.last_task = Some(task);
        self.live = Some(task);
        self.runs += 1;
    }
}

/// A change of one schedule. `chance` is uniform in `0..1`, for the jitter.
#[derive(Clone, Debug, PartialEq)]
pub enum ScheduleOperation {
    /// Make it, or give it what is asked for now; its history stays, and its next tick too, unless its rule is another.
    Put {
        /// What is asked for.
        spec: Box<ScheduleSpec>,
        /// For the jitter.
        chance: f64,
    },
    /// The same, of one that exists. Another rule, start or end that has no tick from now on is refused: whoever writes it
    /// does not know that it is over, as a program does that has been started again.
    Update {
        /// What is asked for.
        spec: Box<ScheduleSpec>,
        /// For the jitter.
        chance: f64,
    },
    /// Let it fire, from now on.
    Enable {
        /// For the jitter.
        chance: f64,
    },
    /// Stop it from firing.
    Disable,
    /// Take it away.
    Remove,
    /// It is due.
    Fire {
        /// For which tick; refused unless that is the one that is due.
        tick: Timestamp,
        /// The task to submit for it, if one is to be submitted.
        task: TaskId,
        /// For the jitter of the next one.
        chance: f64,
    },
    /// Submit a task now, by hand; whatever its last one does, and the next tick stays.
    Trigger {
        /// The task to submit.
        task: TaskId,
    },
    /// One of its tasks has ended. Stores make this change by themselves, in the transaction of the end.
    Ended {
        /// Which.
        task: TaskId,
        /// Whether it failed, timed out or expired.
        failed: bool,
    },
    /// The clock has been set back: work out the next tick anew, if it cannot be right.
    Rebase {
        /// For the jitter.
        chance: f64,
    },
}

impl ScheduleEffects {
    /// Why a task is cancelled whose place the next one takes.
    pub const REPLACED: &str = "the next firing of its schedule took its place";
}

/// Why a firing was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skipped {
    /// The task of an earlier one still lived.
    Overlap,
    /// Nobody was there in time.
    Missed,
}

impl Skipped {
    /// In one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Overlap => "overlap",
            Self::Missed => "missed",
        }
    }
}

/// What follows from a change of a schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScheduleEffects {
    /// Insert the task for this tick in the same commit.
    pub submit_for: Option<Timestamp>,
    /// Cancel this task in the same commit.
    pub replaces: Option<TaskId>,
    /// A tick was left out.
    pub skipped: Option<Skipped>,
    /// The tick was put into line.
    pub waits: bool,
    /// The row is not as it was.
    pub changed: bool,
    /// The row is new.
    pub created: bool,
    /// When the schedule must be looked at again.
    pub due: Option<Timestamp>,
}

/// Applies one operation to a schedule (`None`: it does not exist) at `now`. On an error nothing has changed.
///
/// Errors: `UnknownSchedule`; `InvalidSchedule`; `LeaseLost` for a firing that is not due, most often because another
/// process was faster.
pub fn apply_schedule(
    operation: ScheduleOperation,
    name: &str,
    row: &mut Option<ScheduleRow>,
    now: Timestamp,
) -> Result<ScheduleEffects> {
    let mut effects = ScheduleEffects { changed: true, ..ScheduleEffects::default() };
    match operation {
        ScheduleOperation::Put { spec, chance } => match row {
            Some(known) => effects.changed = put(known, *spec, now, chance, Over::IsFine)?,
            None => {
                *row = Some(make(*spec, now, chance)?);
                effects.created = true;
            }
        },
        ScheduleOperation::Update { spec, chance } => {
            effects.changed = put(known(row, name)?, *spec, now, chance, Over::IsRefused)?;
        }
        ScheduleOperation::Enable { chance } => {
            let row = known(row, name)?;
            effects.changed = !row.enabled;
            if !row.enabled {
                let ticks = row.ticks()?;
                // A single time that was missed meanwhile is past, as any other tick is.
                row.go_on_at(ticks.after(now), &ticks, chance);
                row.enabled = true;
            }
        }
        ScheduleOperation::Disable => {
            let row = known(row, name)?;
            effects.changed = row.enabled;
            row.enabled = false;
            row.waiting.clear();
        }
        ScheduleOperation::Remove => {
            known(row, name)?;
            *row = None;
        }
        ScheduleOperation::Fire { tick, task, chance } => {
            fire(known(row, name)?, tick, task, chance, now, &mut effects)?;
        }
        ScheduleOperation::Trigger { task } => {
            known(row, name)?.begin(now, task);
            effects.submit_for = Some(now);
        }
        ScheduleOperation::Ended { task, failed } => {
            let row = known(row, name)?;
            let was_last = row.live == Some(task);
            if was_last {
                row.live = None;
            }
            row.failures += u64::from(failed);
            effects.changed = was_last || failed;
        }
        ScheduleOperation::Rebase { chance } => {
            let row = known(row, name)?;
            effects.changed = row.is_astray(now);
            if effects.changed {
                row.anchor = now;
                let ticks = row.ticks()?;
                row.go_on_at(ticks.after(now), &ticks, chance);
            }
        }
    }
    effects.due = row.as_ref().and_then(ScheduleRow::look_at);
    Ok(effects)
}

fn known<'r>(row: &'r mut Option<ScheduleRow>, name: &str) -> Result<&'r mut ScheduleRow> {
    row.as_mut().ok_or_else(|| {
        Error::new(Code::UnknownSchedule, format!("there is no schedule {name:?}"))
            .hint("app.schedules.list() shows what there is")
    })
}

fn make(spec: ScheduleSpec, now: Timestamp, chance: f64) -> Result<ScheduleRow> {
    spec.validate(now)?;
    let mut row = ScheduleRow {
        spec,
        enabled: true,
        created: now,
        anchor: now,
        next: None,
        due: None,
        last: None,
        last_task: None,
        live: None,
        waiting: Vec::new(),
        runs: 0,
        failures: 0,
        skipped: 0,
    };
    let ticks = row.ticks()?;
    row.go_on_at(ticks.first(now), &ticks, chance);
    Ok(row)
}

/// What is said to a rule whose last tick is past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    IsFine,
    IsRefused,
}

/// Whether that changed anything.
fn put(row: &mut ScheduleRow, spec: ScheduleSpec, now: Timestamp, chance: f64, over: Over) -> Result<bool> {
    if row.spec == spec {
        return Ok(false);
    }
    if row.spec.has_rule_of(&spec) {
        // Its bounds may be past by now, and its time too: it has had them.
        Ticks::new(&spec, row.anchor)?;
        spec.check_template()?;
        row.spec = spec;
        return Ok(true);
    }
    let fresh = make(spec, now, chance)?;
    if fresh.next.is_none() && over == Over::IsRefused {
        return Err(fresh.spec.never_fires(now));
    }
    row.spec = fresh.spec;
    (row.anchor, row.next, row.due) = (fresh.anchor, fresh.next, fresh.due);
    Ok(true)
}

fn fire(
    row: &mut ScheduleRow,
    tick: Timestamp,
    task: TaskId,
    chance: f64,
    now: Timestamp,
    effects: &mut ScheduleEffects,
) -> Result<()> {
    let Some(due) = row.due_now(now)?.filter(|due| due.tick == tick) else {
        return Err(Error::new(
            Code::LeaseLost,
            format!("schedule {:?} does not fire for {tick}: that is not what is due", row.spec.name),
        )
        .hint("another process fired it, or it was changed"));
    };
    if due.how == How::Release {
        row.waiting.remove(0);
        row.begin(tick, task);
        effects.submit_for = Some(tick);
        return Ok(());
    }
    let ticks = row.ticks()?;
    if !(planted::is(Bug::DoubleFiring) && chance < 0.5) {
        row.go_on_at(due.following, &ticks, chance);
    }
    let How::Fire { made_up } = due.how else {
        effects.skipped = Some(Skipped::Missed);
        return Ok(());
    };
    let waits = match (row.live, row.spec.overlap) {
        (None, _) => false,
        (Some(live), Overlap::Replace) => {
            effects.replaces = Some(live);
            false
        }
        (Some(_), Overlap::Queue) => row.waiting.len() < MAX_WAITING,
        (Some(_), Overlap::Skip) => made_up && row.waiting.len() < MAX_WAITING,
    };
    if waits {
        row.waiting.push(tick);
        effects.waits = true;
    } else if row.live.is_some() && effects.replaces.is_none() {
        row.skipped += 1;
        effects.skipped = Some(Skipped::Overlap);
    } else {
        row.begin(tick, task);
        effects.submit_for = Some(tick);
    }
    let room = MAX_WAITING.saturating_sub(row.waiting.len());
    row.waiting.extend(due.rest.into_iter().take(room));
    Ok(())
}

#[cfg(test)]
mod tests;
