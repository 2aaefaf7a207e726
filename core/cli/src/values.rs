//! Values on the command line: what they may be, and what is said of others.

use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use taskloom_model::{Priority, State, TaskId, Timestamp, When};

/// Words for units, and how many seconds they mean.
const UNITS: [(&[&str], f64); 6] = [
    (&["ms", "millisecond", "milliseconds"], 1e-3),
    (&["s", "sec", "second", "seconds", ""], 1.0),
    (&["m", "min", "minute", "minutes"], 60.0),
    (&["h", "hour", "hours"], 3600.0),
    (&["d", "day", "days"], 86_400.0),
    (&["w", "week", "weeks"], 604_800.0),
];

/// A span of time: `90`, `1.5h`, `3 days`, `1h30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = |why: &str| format!("{why}; say 30s, 1.5h, 2 days or 1h30m (a number alone is in seconds)");
    let mut rest = text.trim();
    let mut seconds = 0.0;
    if rest.is_empty() {
        return Err(wrong("it is empty"));
    }
    if rest.starts_with('-') {
        return Err(wrong("it is below zero"));
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..end].parse().map_err(|_| wrong("there is no number where one should be"))?;
        rest = rest[end..].trim_start();
        let end = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
        let unit = rest[..end].to_lowercase();
        let known = UNITS.iter().find(|(words, _)| words.contains(&unit.as_str()));
        let (_, factor) = known.ok_or_else(|| wrong(&format!("{unit:?} is no unit")))?;
        seconds += number * factor;
        rest = rest[end..].trim_start();
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong("it is too long"))
}

/// A point in time with its zone, as RFC 3339 writes it; or a span from now.
pub(crate) fn when(text: &str) -> Result<When, String> {
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(When::At(Timestamp::from_micros(at.as_microsecond())));
    }
    if text.contains('-') && text.parse::<jiff::civil::DateTime>().is_ok() {
        return Err("it has no time zone; add Z or an offset, as in 2026-03-01T08:00:00+01:00".to_owned());
    }
    duration(text)
        .map(When::In)
        .map_err(|_| "say a time such as 2026-03-01T08:00:00Z, or a span from now such as 10m".to_owned())
}

/// The id of a task.
pub(crate) fn id(text: &str) -> Result<TaskId, String> {
    text.parse().map_err(|_| "it is not a UUID; `taskloom tasks list` shows ids".to_owned())
}

/// `KEY=VALUE`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("say KEY=VALUE".to_owned()),
    }
}

/// A state, by its word.
pub(crate) fn state() -> impl TypedValueParser<Value = State> {
    PossibleValuesParser::new(State::ALL.iter().map(|state| state.as_str()))
        .try_map(|word| word.parse::<State>())
}

/// A priority, by its word.
pub(crate) fn priority() -> impl TypedValueParser<Value = Priority> {
    PossibleValuesParser::new(Priority::ALL.iter().map(|priority| priority.as_str()))
        .try_map(|word| word.parse::<Priority>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        for (text, millis) in [
            ("90", 90_000),
            ("1.5h", 5_400_000),
            ("3 days", 259_200_000),
            ("1h30m", 5_400_000),
            ("250 ms", 250),
            ("2w", 1_209_600_000),
            ("0", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "h", "5 parsecs", "-1s", "1..2", "99999999999999999999999d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_have_a_zone() {
        assert_eq!(when("1970-01-01T00:00:01Z"), Ok(When::At(Timestamp::from_micros(1_000_000))));
        assert_eq!(when("1970-01-01T01:00:01+01:00"), Ok(When::At(Timestamp::from_micros(1_000_000))));
        assert_eq!(when("10m"), Ok(When::In(Duration::from_secs(600))));
        assert!(when("2026-03-01T08:00:00").unwrap_err().contains("no time zone"));
        assert!(when("tomorrow").is_err());
    }
}
