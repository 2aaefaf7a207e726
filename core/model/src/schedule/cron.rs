//! Cron expressions, and what daylight saving time does to them.
//!
//! [`croner`] reads expressions and finds the wall-clock times that match, as if there were no time zones. Which
//! instants those are is decided here, since its own rule covers single values only:
//!
//! * **Fixed**: hour and minute hold no wildcard and no step (`30 2 * * *`, `0,30 2-4 * * *`). Each matching
//!   wall-clock time happens once. One that the clock skips in spring happens at the end of the gap, where several
//!   that fall together are one; one that comes twice in autumn happens the first time. Seen as a map from wall-clock
//!   times to instants this never goes backwards, which is what the searches below rest on.
//! * **Elapsed**: hour or minute holds a wildcard or a step (`*/15 * * * *`). It happens at every instant whose
//!   wall-clock time matches: what is skipped does not happen, what comes twice happens twice, and time between two
//!   firings is as long as the clock on the wall takes to get there.
//!
//! # Never
//! An expression that matches no day of 28 years (every month length on every weekday) is refused when it is read. One
//! that matches only times which a zone's clock always skips is found by looking [`HORIZON`] ahead.

use croner::Weekday;
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::{DateTime, date};
use jiff::tz::{AmbiguousOffset, Offset};
use jiff::{SignedDuration, Timestamp as Instant};

use super::zone::{Zone, instant, timestamp};
use crate::{Code, Error, Result, Timestamp};

/// How far ahead a firing is looked for: 100 years, in which every leap day falls on every weekday.
const HORIZON: SignedDuration = SignedDuration::from_hours(100 * 366 * 24);

const NICKNAMES: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

const FIELDS: [&str; 6] = ["second", "minute", "hour", "day of month", "month", "day of week"];

/// A cron expression in a time zone.
///
/// ```
/// use taskloom_model::{Cron, Timestamp};
/// let nightly = Cron::new("30 2 * * *", "Europe/Rome")?;
/// // 2026-03-28 12:00 UTC; in the following night there is no 02:30.
/// let next = nightly.after(Timestamp::from_micros(1_774_699_200_000_000)).unwrap();
/// assert_eq!(next.to_string(), "2026-03-29T01:00:00.000000Z"); // 03:00, the end of the gap
/// # Ok::<(), taskloom_model::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Cron {
    cron: croner::Cron,
    zone: Zone,
    fixed: bool,
}

impl Cron {
    /// Reads an expression of five fields (minute, hour, day of month, month, day of week), or six with the second
    /// first, or a nickname such as `@daily`.
    ///
    /// Errors: `InvalidSchedule` for an expression that cannot be read, says which field is wrong; that matches no day
    /// there is; or whose zone does not exist.
    pub fn new(expression: &str, zone: &str) -> Result<Self> {
        let zone = Zone::named(zone)?;
        let plain = expand(expression)?;
        let fields: Vec<&str> = plain.split_whitespace().collect();
        check_fields(expression, &fields)?;
        let cron = parser().parse(&plain).map_err(|cause| invalid(expression, &fields, &cause))?;
        let is_fixed = |field: &str| !field.contains(['*', '/', '?']);
        let (minute, hour) = (fields[fields.len() - 5], fields[fields.len() - 4]);
        let own = Self { cron, zone, fixed: is_fixed(minute) && is_fixed(hour) };
        if !own.matches_a_day() {
            return Err(Error::new(
                Code::InvalidSchedule,
                format!("the cron expression {expression:?} never fires: no date fits it"),
            )
            .hint("check day and month against each other: there is no 30 February, for one"));
        }
        Ok(own)
    }

    /// Its zone.
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// The first firing after a time; none within a hundred years.
    pub fn after(&self, time: Timestamp) -> Option<Timestamp> {
        let time = instant(time)?;
        let found = if self.fixed { self.fixed_after(time) } else { self.elapsed_after(time) };
        found.map(timestamp)
    }

    /// The last firing at or before a time; none within a hundred years.
    pub fn until(&self, time: Timestamp) -> Option<Timestamp> {
        let time = instant(time)?;
        let found = if self.fixed { self.fixed_until(time) } else { self.elapsed_until(time) };
        found.map(timestamp)
    }

    /// The first firings after a time.
    ///
    /// Errors: `InvalidSchedule` if there is none: all its times are skipped by the clock of its zone.
    pub fn firings(&self, time: Timestamp, count: usize) -> Result<Vec<Timestamp>> {
        let firings: Vec<_> =
            std::iter::successors(self.after(time), |last| self.after(*last)).take(count).collect();
        if firings.is_empty() && count > 0 {
            let pattern = self.cron.pattern.as_str();
            return Err(Error::new(
                Code::InvalidSchedule,
                format!("the cron expression {pattern:?} never fires in {} after {time}", self.zone.name()),
            )
            .hint("the clock skips these times; a single hour and minute would fire at the end of the gap"));
        }
        Ok(firings)
    }

    fn matches_a_day(&self) -> bool {
        let pattern = &self.cron.pattern;
        let mut day = date(2000, 1, 1);
        for _ in 0..28 * 366 {
            let (month, weekday) = (day.month() as u32, day.weekday().to_sunday_zero_offset() as u32);
            let weekday = Weekday::from_days_from_sunday(weekday);
            if pattern.month_match(month).unwrap_or(false)
                && pattern.day_match(day.year().into(), month, day.day() as u32, weekday).unwrap_or(false)
            {
                return true;
            }
            match day.tomorrow() {
                Ok(tomorrow) => day = tomorrow,
                Err(_) => return false,
            }
        }
        false
    }

    /// The next matching wall-clock time; `inclusive`: perhaps this one.
    fn wall_after(&self, wall: DateTime, inclusive: bool) -> Option<DateTime> {
        self.cron.find_next_occurrence(&wall, inclusive).ok()
    }

    /// The last matching wall-clock time up to this one.
    fn wall_until(&self, wall: DateTime) -> Option<DateTime> {
        self.cron.find_previous_occurrence(&wall, true).ok()
    }

    // ── fixed: each wall-clock time once ────────────────────────────────────────────────────────────────────────

    /// The instant of a wall-clock time.
    fn once(&self, wall: DateTime) -> Option<Instant> {
        let zone = &self.zone.zone;
        match zone.to_ambiguous_timestamp(wall).offset() {
            AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
                offset.to_timestamp(wall).ok()
            }
            AmbiguousOffset::Gap { after, .. } => {
                // With the offset that comes after it, a skipped time is an instant before the change.
                let before = after.to_timestamp(wall).ok()?;
                zone.following(before)
                    .find(|change| change.offset() == after)
                    .map(|change| change.timestamp())
            }
        }
    }

    fn fixed_after(&self, time: Instant) -> Option<Instant> {
        let mut wall = self.zone.zone.to_datetime(time);
        loop {
            wall = self.wall_after(wall, false)?;
            // Not so for what has come once already and comes a second time now.
            let at = self.once(wall)?;
            if at > time {
                return (at.duration_since(time) <= HORIZON).then_some(at);
            }
        }
    }

    fn fixed_until(&self, time: Instant) -> Option<Instant> {
        let zone = &self.zone.zone;
        let wall = zone.to_datetime(time);
        let latest = match zone.to_ambiguous_timestamp(wall).offset() {
            // All of the wall-clock times that come twice have come once.
            AmbiguousOffset::Fold { before, after } if zone.to_offset(time) == after => {
                let change = self.change_until(time)?;
                before.to_datetime(change).checked_sub(SignedDuration::from_secs(1)).ok()?
            }
            _ => wall,
        };
        self.once(self.wall_until(latest)?)
    }

    // ── elapsed: each instant whose wall-clock time matches ─────────────────────────────────────────────────────

    /// The next change of the clock after a time.
    fn change_after(&self, time: Instant, offset: Offset) -> Option<Instant> {
        let mut changes = self.zone.zone.following(time);
        changes.find(|change| change.offset() != offset).map(|change| change.timestamp())
    }

    /// The last change of the clock at or before a time.
    fn change_until(&self, time: Instant) -> Option<Instant> {
        let offset = self.zone.zone.to_offset(time);
        let mut first = None;
        for change in self.zone.zone.preceding(time.checked_add(SignedDuration::from_nanos(1)).ok()?) {
            if change.offset() != offset {
                break;
            }
            first = Some(change.timestamp());
        }
        first
    }

    /// From one change of the clock to the next, in each of which wall-clock time goes as time does.
    fn elapsed_after(&self, time: Instant) -> Option<Instant> {
        let limit = time.checked_add(HORIZON).unwrap_or(Instant::MAX);
        let (mut from, mut inclusive) = (time, false);
        while from <= limit {
            let offset = self.zone.zone.to_offset(from);
            let wall = self.wall_after(offset.to_datetime(from), inclusive)?;
            let at = offset.to_timestamp(wall).ok()?;
            match self.change_after(from, offset) {
                Some(change) if at >= change => (from, inclusive) = (change, true),
                _ => return Some(at),
            }
        }
        None
    }

    fn elapsed_until(&self, time: Instant) -> Option<Instant> {
        let limit = time.checked_sub(HORIZON).unwrap_or(Instant::MIN);
        let mut from = time;
        while from >= limit {
            let offset = self.zone.zone.to_offset(from);
            let wall = self.wall_until(offset.to_datetime(from))?;
            let at = offset.to_timestamp(wall).ok()?;
            match self.change_until(from) {
                Some(change) if at < change => {
                    from = change.checked_sub(SignedDuration::from_secs(1)).ok()?
                }
                _ => return Some(at),
            }
        }
        None
    }
}

fn parser() -> CronParser {
    CronParser::builder().seconds(Seconds::Optional).year(Year::Optional).build()
}

/// Nicknames as the expressions that they stand for.
fn expand(expression: &str) -> Result<String> {
    let text = expression.trim();
    if !text.starts_with('@') {
        return Ok(text.to_owned());
    }
    let lower = text.to_lowercase();
    if let Some((_, plain)) = NICKNAMES.iter().find(|(name, _)| *name == lower) {
        return Ok((*plain).to_owned());
    }
    let names = NICKNAMES.map(|(name, _)| name);
    let error = Error::new(Code::InvalidSchedule, format!("there is no cron nickname {text:?}"));
    Err(match (lower.as_str(), crate::nearest(text, names)) {
        ("@reboot", _) => error.hint("a task for when the program starts is submitted when it starts"),
        (_, Some(near)) => error.hint(format!("did you mean {near}?")),
        (_, None) => error.hint(format!("there are {}", names.join(", "))),
    })
}

/// What croner would let pass.
fn check_fields(expression: &str, fields: &[&str]) -> Result<()> {
    let wrong = |what: String| Error::new(Code::InvalidSchedule, what);
    if !(5..=6).contains(&fields.len()) {
        return Err(wrong(format!(
            "the cron expression {expression:?} has {} fields; it must have five, or six with the second first",
            fields.len()
        ))
        .hint("minute hour day-of-month month day-of-week, as in \"0 3 * * *\""));
    }
    for (field, name) in fields.iter().zip(&FIELDS[6 - fields.len()..]) {
        if field.split(',').any(str::is_empty) {
            return Err(wrong(format!(
                "the cron expression {expression:?} is wrong in its {name} ({field:?}): a list has an empty place"
            )));
        }
        if field.contains('+') {
            return Err(wrong(format!(
                "the cron expression {expression:?} is wrong in its {name} ({field:?}): there is no \"+\""
            )));
        }
    }
    Ok(())
}

/// Says which field is wrong, by trying each of them among stars.
fn invalid(expression: &str, fields: &[&str], cause: &CronError) -> Error {
    let names = &FIELDS[6 - fields.len()..];
    for (place, (field, name)) in fields.iter().zip(names).enumerate() {
        let mut alone = vec!["*"; fields.len()];
        alone[place] = field;
        if let Err(cause) = parser().parse(&alone.join(" ")) {
            let why = reason(&cause);
            return Error::new(
                Code::InvalidSchedule,
                format!("the cron expression {expression:?} is wrong in its {name} ({field:?}): {why}"),
            )
            .hint(hint_for(name));
        }
    }
    Error::new(
        Code::InvalidSchedule,
        format!("the cron expression {expression:?} cannot be read: {}", reason(cause)),
    )
    .hint("minute hour day-of-month month day-of-week, as in \"0 3 * * *\"")
}

fn hint_for(field: &str) -> &'static str {
    match field {
        "second" | "minute" => "0 to 59, as in 5, 1,31, 10-20, */15 or 10-50/20",
        "hour" => "0 to 23, as in 3, 6,18, 9-17, */2 or 8-20/4",
        "day of month" => {
            "1 to 31, as in 1, 1,15, 10-20, */2; L is the last day, 15W the weekday nearest to the 15th"
        }
        "month" => "1 to 12 or JAN to DEC, as in 1, JAN,JUL, 6-8, */3",
        _ => {
            "0 to 7 (0 and 7 are Sunday) or SUN to SAT, as in MON-FRI; FRI#2 is the second Friday, FRIL the last"
        }
    }
}

fn reason(cause: &CronError) -> String {
    match cause {
        CronError::InvalidPattern(why)
        | CronError::IllegalCharacters(why)
        | CronError::ComponentError(why) => {
            let mut letters = why.trim_end_matches('.').chars();
            letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(low: u32, high: u32) -> impl Strategy<Value = String> {
        prop_oneof![
            Just("*".to_owned()),
            (low..=high).prop_map(|value| value.to_string()),
            (low..=high, low..=high).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
            (low..=high, low..=high).prop_map(|(a, b)| format!("{a},{b}")),
            (1..=high).prop_map(|step| format!("*/{step}")),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Forwards and backwards agree, whatever the expression, over both changes of the clock.
        #[test]
        fn searches_agree(
            minute in part(0, 59),
            hour in part(0, 5),
            weekday in part(0, 7),
            zone in prop::sample::select(vec!["Europe/Rome", "America/New_York", "Australia/Lord_Howe", "America/Santiago"]),
            day in 0i64..366,
            second in 0i64..86_400,
        ) {
            let cron = Cron::new(&format!("{minute} {hour} * * {weekday}"), zone).unwrap();
            let time = Timestamp::from_micros((1_767_225_600 + day * 86_400 + second) * 1_000_000);
            let next = cron.after(time).unwrap();
            prop_assert!(next > time);
            prop_assert_eq!(cron.until(next), Some(next));
            let before = cron.until(next - std::time::Duration::from_micros(1)).unwrap();
            prop_assert!(before <= time);
            prop_assert_eq!(cron.after(before), Some(next));
        }
    }
}
