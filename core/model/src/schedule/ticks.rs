//! When a rule fires.
//!
//! [`Ticks`] is a rule made ready: parsed, and bounded by the schedule's start and end. Everything here is arithmetic
//! on times that are passed in.

use std::time::Duration;

use super::cron::Cron;
use super::row::ScheduleSpec;
use crate::{Code, Error, Result, Timestamp};

/// The shortest interval of a schedule.
pub const MIN_INTERVAL: Duration = Duration::from_millis(1);

/// A firing that comes later than this after its time counts as missed.
pub const LATE: Duration = Duration::from_secs(60);

/// How many missed firings [`CatchUp::All`] may make up for.
pub const MAX_CATCH_UP: u32 = 1_000;

/// When a schedule fires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// By a cron expression, in a time zone.
    Cron {
        /// Five or six fields, or a nickname.
        expression: String,
        /// The zone's IANA name.
        tz: String,
    },
    /// At a fixed interval: from the schedule's start if it has one, else from when it was made.
    Every(Duration),
    /// At one time.
    Once(Timestamp),
}

impl Rule {
    /// What kind of rule it is, in one word: `cron`, `every`, `once`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Cron { .. } => "cron",
            Self::Every(_) => "every",
            Self::Once(_) => "once",
        }
    }
}

impl std::fmt::Display for Rule {
    /// The expression with its zone, `every 60s`, or the time.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cron { expression, tz } => write!(f, "{expression} {tz}"),
            Self::Every(interval) => write!(f, "every {}s", interval.as_secs_f64()),
            Self::Once(at) => write!(f, "once {at}"),
        }
    }
}

/// What happens when a firing comes while the last one's task still lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Overlap {
    /// The firing is left out.
    #[default]
    Skip,
    /// The firing waits in line until that task has ended.
    Queue,
    /// That task is cancelled.
    Replace,
}

/// What happens to the firings that nobody was there for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CatchUp {
    /// They are left out.
    None,
    /// The newest one is made up for.
    #[default]
    Last,
    /// Up to so many of the newest are, one after the other.
    All(u32),
}

#[derive(Clone, Debug)]
enum Ready {
    Cron(Box<Cron>),
    Every { anchor: Timestamp, micros: i64 },
    Once(Timestamp),
}

/// The times at which a schedule fires.
///
/// ```
/// use taskloom_model::{Rule, Ticks, Timestamp};
/// let rule = Rule::Cron { expression: "0 0 29 2 *".into(), tz: "UTC".into() };
/// let ticks = Ticks::of_rule(&rule, Timestamp::from_micros(1))?;
/// let next = ticks.following(Timestamp::from_micros(1_800_000_000_000_000), 2);
/// assert_eq!(next[0].to_string(), "2028-02-29T00:00:00.000000Z");
/// assert_eq!(next[1].to_string(), "2032-02-29T00:00:00.000000Z");
/// # Ok::<(), taskloom_model::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Ticks {
    ready: Ready,
    start: Option<Timestamp>,
    end: Option<Timestamp>,
    jitter: Duration,
    catch_up: CatchUp,
}

impl Ticks {
    /// Makes a schedule's rule ready. `anchor` is from when on an interval counts.
    ///
    /// Errors: `InvalidSchedule` for a rule that makes no sense.
    pub fn new(spec: &ScheduleSpec, anchor: Timestamp) -> Result<Self> {
        if let (Some(start), Some(end)) = (spec.start, spec.end)
            && end < start
        {
            return Err(Error::new(
                Code::InvalidSchedule,
                format!("schedule {:?} ends at {end}, before it starts at {start}", spec.name),
            )
            .hint("start must not be later than end"));
        }
        match spec.catch_up {
            CatchUp::All(count) if count == 0 || count > MAX_CATCH_UP => {
                return Err(Error::new(
                    Code::InvalidSchedule,
                    format!("catch_up is {count}; at most that many missed firings are made up for, 1 to {MAX_CATCH_UP}"),
                )
                .hint("to make up for none, say so: catch_up=\"none\""));
            }
            _ => {}
        }
        let ticks = Self::of_rule(&spec.rule, spec.start.unwrap_or(anchor))?;
        let (start, end) = (spec.start, spec.end);
        Ok(Self { start, end, jitter: spec.jitter, catch_up: spec.catch_up, ..ticks })
    }

    /// Makes a rule ready that has no bounds.
    ///
    /// Errors: `InvalidSchedule` for a rule that makes no sense.
    pub fn of_rule(rule: &Rule, anchor: Timestamp) -> Result<Self> {
        let ready = match rule {
            Rule::Cron { expression, tz } => Ready::Cron(Box::new(Cron::new(expression, tz)?)),
            Rule::Every(interval) => Ready::Every { anchor, micros: micros_of(*interval)? },
            Rule::Once(at) => Ready::Once(*at),
        };
        Ok(Self { ready, start: None, end: None, jitter: Duration::ZERO, catch_up: CatchUp::default() })
    }

    /// The first tick after a time.
    pub fn after(&self, time: Timestamp) -> Option<Timestamp> {
        // The start itself may be a tick.
        let time = match self.start {
            Some(start) if start > time => start - Duration::from_micros(1),
            _ => time,
        };
        let tick = match &self.ready {
            Ready::Cron(cron) => cron.after(time)?,
            Ready::Every { anchor, micros } => {
                let passed = time.micros().saturating_sub(anchor.micros());
                // Ticks are counted from the anchor, which is one itself if the time is before it.
                let count = if passed < 0 { 0 } else { passed / micros + 1 };
                Timestamp::from_micros(anchor.micros().checked_add(count.checked_mul(*micros)?)?)
            }
            Ready::Once(at) => Some(*at).filter(|at| *at > time)?,
        };
        self.end.is_none_or(|end| tick <= end).then_some(tick)
    }

    /// The last tick at or before a time.
    pub fn until(&self, time: Timestamp) -> Option<Timestamp> {
        let time = self.end.map_or(time, |end| end.min(time));
        let tick = match &self.ready {
            Ready::Cron(cron) => cron.until(time)?,
            Ready::Every { anchor, micros } => {
                let passed = time.micros().saturating_sub(anchor.micros());
                if passed < 0 {
                    return None;
                }
                Timestamp::from_micros(anchor.micros() + passed / micros * micros)
            }
            Ready::Once(at) => Some(*at).filter(|at| *at <= time)?,
        };
        self.start.is_none_or(|start| tick >= start).then_some(tick)
    }

    /// The first ticks after a time.
    pub fn following(&self, time: Timestamp, count: usize) -> Vec<Timestamp> {
        std::iter::successors(self.after(time), |last| self.after(*last)).take(count).collect()
    }

    /// The first tick of a schedule that is made, or given this rule, at `now`. A single time that is past is one too,
    /// as a past eta is: it is due at once.
    pub fn first(&self, now: Timestamp) -> Option<Timestamp> {
        match self.ready {
            Ready::Once(at) => {
                let within =
                    self.start.is_none_or(|start| at >= start) && self.end.is_none_or(|end| at <= end);
                within.then_some(at)
            }
            _ => self.after(now),
        }
    }

    /// When the task of a tick is submitted: `chance`, uniform in `0..1`, of the jitter later, but before the next tick.
    pub fn due(&self, tick: Timestamp, chance: f64) -> Timestamp {
        if self.jitter.is_zero() {
            return tick;
        }
        let room = self.after(tick).map_or(self.jitter, |next| next.since(tick).min(self.jitter));
        tick + room.mul_f64(chance.clamp(0.0, 1.0))
    }

    /// Which of the ticks from `next` up to `now` are to be fired, oldest first, `next` being one that has not been.
    ///
    /// The newest one, if it is not later than [`LATE`] (beside the jitter), is simply due; the others were missed, and
    /// [`CatchUp`] says what becomes of them.
    pub fn plan(&self, next: Timestamp, now: Timestamp) -> Vec<Timestamp> {
        let Some(newest) = self.until(now).filter(|newest| *newest >= next) else {
            // The tick itself, should the rule not know of it any more (the zone's rules have changed).
            return if next <= now && self.is_wanted(next, now) { vec![next] } else { Vec::new() };
        };
        let most = match self.catch_up {
            CatchUp::All(most) => most.max(1) as usize,
            CatchUp::Last | CatchUp::None => 1,
        };
        if !self.is_wanted(newest, now) {
            return Vec::new();
        }
        let earlier = |tick: &Timestamp| {
            self.until(*tick - Duration::from_micros(1)).filter(|earlier| *earlier >= next)
        };
        let mut ticks: Vec<_> = std::iter::successors(Some(newest), earlier).take(most).collect();
        ticks.reverse();
        ticks
    }

    /// Whether a tick that has not been fired counts as missed.
    pub(super) fn is_late(&self, tick: Timestamp, now: Timestamp) -> bool {
        now.since(tick) > LATE + self.jitter
    }

    fn is_wanted(&self, tick: Timestamp, now: Timestamp) -> bool {
        self.catch_up != CatchUp::None || !self.is_late(tick, now)
    }

    /// Whether `next` cannot be right: the clock has been set back since it was worked out.
    ///
    /// An interval is time that passes, so it begins anew. A cron tick that has been fired is not fired again when the
    /// clock comes by it a second time, unless it was set back by more than a day: then the time it was set back from
    /// was wrong, and to wait until it comes again could be to wait for years.
    pub(super) fn is_astray(&self, next: Timestamp, last: Option<Timestamp>, now: Timestamp) -> bool {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        // Two threads read the clock in one order, and use what they have read in another.
        const SLACK: Duration = Duration::from_secs(1);
        match &self.ready {
            Ready::Every { micros, .. } => {
                let interval = Duration::from_micros(micros.unsigned_abs());
                self.start.is_none_or(|start| start <= now) && next > now + interval + SLACK
            }
            Ready::Cron(_) => last.is_some_and(|last| last > now + DAY),
            Ready::Once(_) => false,
        }
    }
}

fn micros_of(interval: Duration) -> Result<i64> {
    if interval < MIN_INTERVAL {
        return Err(Error::new(
            Code::InvalidSchedule,
            format!("the interval is {} seconds; it must be at least 0.001", interval.as_secs_f64()),
        )
        .hint("work that goes on all the time belongs into a loop, not into a schedule"));
    }
    i64::try_from(interval.as_micros())
        .map_err(|_| Error::new(Code::InvalidSchedule, "the interval is longer than any clock can tell"))
}
