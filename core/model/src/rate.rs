//! How many may start in a period: a bucket of tokens, reckoned from one time.
//!
//! A bucket holds `burst` tokens and gains one every `per / count`. It is not counted up by anybody: all there is to
//! remember is when it will be full again (the *generic cell rate algorithm*), so a bucket that nobody uses costs
//! nothing and needs no timer.

use std::fmt;
use std::num::IntErrorKind;
use std::str::FromStr;
use std::time::Duration;

use crate::{Code, Error, Timestamp};

/// So many starts in a period.
///
/// ```
/// use std::time::Duration;
/// use taskloom_model::Rate;
/// let rate: Rate = "10/s".parse()?;
/// assert_eq!(rate, Rate::new(10, Duration::from_secs(1))?);
/// assert_eq!("3/5m".parse::<Rate>()?.per, Duration::from_secs(300));
/// assert_eq!("10/s+20".parse::<Rate>()?.burst, 20);
/// # Ok::<(), taskloom_model::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Starts.
    pub count: u32,
    /// In this time.
    pub per: Duration,
    /// Starts that may come at once after a pause.
    pub burst: u32,
}

/// What a bucket that was given no size holds: what comes in in so many milliseconds. A timer that is late by less
/// than that loses nothing.
const USUAL_BURST_MILLIS: u128 = 10;

/// The words for a period, and how many milliseconds they mean.
const UNITS: [(&[&str], u64); 5] = [
    (&["ms", "millisecond", "milliseconds"], 1),
    (&["s", "sec", "second", "seconds"], 1_000),
    (&["m", "min", "minute", "minutes"], 60_000),
    (&["h", "hour", "hours"], 3_600_000),
    (&["d", "day", "days"], 86_400_000),
];

fn usual_burst(count: u32, per: Duration) -> u32 {
    let in_that = u128::from(count) * USUAL_BURST_MILLIS / per.as_millis().max(1);
    u32::try_from(in_that).unwrap_or(u32::MAX).clamp(1, count.max(1))
}

impl Rate {
    /// A rate with the usual burst: what comes in 10 ms, and at least one.
    pub fn new(count: u32, per: Duration) -> Result<Self, Error> {
        let rate = Self { count, per, burst: usual_burst(count, per) };
        rate.validate().map(|()| rate)
    }

    /// The same rate with another burst.
    #[must_use]
    pub const fn with_burst(self, burst: u32) -> Self {
        Self { burst, ..self }
    }

    /// Refuses a rate that lets nothing through, or has no period.
    pub fn validate(&self) -> Result<(), Error> {
        self.checked(self)
    }

    /// The same; `shown` is the rate as it was written.
    fn checked(&self, shown: impl fmt::Display) -> Result<(), Error> {
        let wrong = if self.count == 0 {
            "it lets nothing through"
        } else if self.burst == 0 {
            "its burst is 0, so it lets nothing through"
        } else if self.per < Duration::from_millis(1) {
            "its period is shorter than a millisecond"
        } else if self.per > Duration::from_secs(366 * 86_400) {
            "its period is longer than a year"
        } else {
            return Ok(());
        };
        Err(Error::new(Code::InvalidOption, format!("rate {shown}: {wrong}"))
            .hint("say how many may start in which time, such as 10/s or 100/5m; to stop a queue, pause it"))
    }

    /// Microseconds from token to token; never less than there are.
    fn interval(self) -> i64 {
        let micros = self.per.as_micros().div_ceil(u128::from(self.count.max(1)));
        i64::try_from(micros).unwrap_or(i64::MAX)
    }

    /// How long an empty bucket takes to be full.
    fn depth(self) -> i64 {
        self.interval().saturating_mul(self.burst.into())
    }

    /// When the bucket is full, as far as that can be: a clock that was set back must not close it for hours.
    fn full_at(self, full_at: Timestamp, now: Timestamp) -> i64 {
        full_at.micros().clamp(now.micros(), now.micros().saturating_add(self.depth()))
    }

    /// How many tokens there are, of a bucket that is full at `full_at`.
    pub fn tokens(self, full_at: Timestamp, now: Timestamp) -> u32 {
        let missing = (self.full_at(full_at, now) - now.micros()) as u64;
        let missing = missing.div_ceil(self.interval().unsigned_abs().max(1));
        self.burst.saturating_sub(u32::try_from(missing).unwrap_or(u32::MAX))
    }

    /// When there is a token; a time that has come if there is one.
    pub fn next_token(self, full_at: Timestamp, now: Timestamp) -> Timestamp {
        Timestamp::from_micros(self.full_at(full_at, now) - self.depth() + self.interval())
    }

    /// A token is taken: when the bucket is full then.
    #[must_use]
    pub fn take(self, full_at: Timestamp, now: Timestamp) -> Timestamp {
        Timestamp::from_micros(self.full_at(full_at, now).saturating_add(self.interval()))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.per.as_millis();
        let unit = UNITS.iter().rev().find(|(_, unit)| millis.is_multiple_of(u128::from(*unit)));
        let (words, unit) = unit.unwrap_or(&UNITS[0]);
        match millis / u128::from(*unit) {
            1 => write!(f, "{}/{}", self.count, words[0])?,
            number => write!(f, "{}/{number}{}", self.count, words[0])?,
        }
        if self.burst == usual_burst(self.count, self.per) { Ok(()) } else { write!(f, "+{}", self.burst) }
    }
}

impl FromStr for Rate {
    type Err = Error;

    /// From `10/s`, `100/5m`, `1/day`: how many, in which time; and after a `+`, how many at once (`10/s+20`).
    fn from_str(text: &str) -> Result<Self, Error> {
        let shown: String = text.chars().take(50).collect();
        let wrong = |why: String| {
            Error::new(Code::InvalidOption, format!("rate {shown:?}: {why}"))
                .hint("say how many may start in which time, such as 10/s, 100/5m or 1/day")
        };
        let (plain, burst) = match text.split_once('+') {
            Some((plain, burst)) => (plain, Some(burst.trim())),
            None => (text, None),
        };
        let (count, period) = plain.split_once('/').ok_or_else(|| wrong("there is no /".into()))?;
        let whole = |digits: &str, what: &str| {
            digits.parse::<u32>().map_err(|error| match error.kind() {
                IntErrorKind::PosOverflow => wrong(format!("{what} {digits} is over {}", u32::MAX)),
                _ => wrong(format!("{what} {digits:?} is not a whole number")),
            })
        };
        let count = whole(count.trim(), "the count")?;
        let period = period.trim();
        let digits = period.find(|c: char| !c.is_ascii_digit()).unwrap_or(period.len());
        let (number, unit) = (&period[..digits], period[digits..].trim().to_lowercase());
        let number = if number.is_empty() { 1 } else { whole(number, "the period")? };
        let unit = UNITS
            .iter()
            .find(|(words, _)| words.contains(&unit.as_str()))
            .ok_or_else(|| wrong(format!("{unit:?} is no unit of time; the units are ms, s, m, h and d")))?;
        let per = Duration::from_millis(u64::from(number) * unit.1);
        let burst = burst.map_or(Ok(usual_burst(count, per)), |burst| whole(burst, "the burst"))?;
        let rate = Self { count, per, burst };
        rate.checked(format_args!("{shown:?}")).map(|()| rate)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(1_000_000_000_000 + micros)
    }

    #[test]
    fn reads_what_people_write() {
        for (text, count, millis, shown) in [
            ("10/s", 10, 1_000, "10/s"),
            ("10 / sec", 10, 1_000, "10/s"),
            ("100/5m", 100, 300_000, "100/5m"),
            ("1/day", 1, 86_400_000, "1/d"),
            ("7/250ms", 7, 250, "7/250ms"),
            ("60/60s", 60, 60_000, "60/m"),
            ("10/s+20", 10, 1_000, "10/s+20"),
            ("10/s + 1", 10, 1_000, "10/s"),
            ("5/2 Hours", 5, 7_200_000, "5/2h"),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!((rate.count, rate.per), (count, Duration::from_millis(millis)), "{text}");
            assert_eq!(rate.to_string(), shown);
            assert_eq!(rate.to_string().parse::<Rate>().unwrap(), rate);
        }
        for (text, words) in [
            ("10", "there is no /"),
            ("ten/s", "the count \"ten\" is not a whole number"),
            ("-1/s", "is not a whole number"),
            ("10/fortnight", "\"fortnight\" is no unit of time"),
            ("10/", "\"\" is no unit"),
            ("10/s+0", "its burst is 0"),
            ("10/s+x", "the burst \"x\" is not a whole number"),
            ("0/s", "it lets nothing through"),
            ("1/0s", "rate \"1/0s\": its period is shorter than a millisecond"),
            ("99999999999/s", "the count 99999999999 is over 4294967295"),
            ("1/400d", "longer than a year"),
            ("1/99999999999s", "the period 99999999999 is over 4294967295"),
        ] {
            let error = text.parse::<Rate>().unwrap_err();
            assert_eq!(error.code(), Code::InvalidOption);
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn the_usual_burst_covers_a_late_timer() {
        for (text, burst) in [("10/s", 1), ("1000/s", 10), ("1/h", 1), ("100000/s", 1000), ("1/ms", 1)] {
            assert_eq!(text.parse::<Rate>().unwrap().burst, burst, "{text}");
        }
    }

    #[test]
    fn lets_through_the_burst_and_then_the_rate() {
        let rate = "10/s".parse::<Rate>().unwrap().with_burst(3);
        let mut full_at = at(0);
        let mut starts = 0;
        // Whoever looks at every moment at which something could change.
        for step in 0..=300 {
            let now = at(step * SECOND / 10);
            while rate.tokens(full_at, now) > 0 {
                full_at = rate.take(full_at, now);
                starts += 1;
            }
            assert!(rate.next_token(full_at, now) > now);
        }
        assert_eq!(starts, 3 + 300);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_close_it_for_long() {
        let rate = "10/s".parse::<Rate>().unwrap();
        let full_at = rate.take(at(0), at(0));
        let hour_ago = at(-3_600 * SECOND);
        assert_eq!(rate.next_token(full_at, hour_ago).since(hour_ago), Duration::from_millis(100));
    }

    proptest! {
        #[test]
        fn never_more_than_it_says(
            count in 1u32..2_000, millis in 1u64..10_000, burst in 1u32..50, steps in prop::collection::vec(0i64..200_000, 1..200)
        ) {
            let rate = Rate { count, per: Duration::from_millis(millis), burst };
            let (mut now, mut full_at, mut starts) = (at(0), at(0), 0u64);
            for step in steps {
                now = Timestamp::from_micros(now.micros() + step);
                prop_assert_eq!(rate.tokens(full_at, now) > 0, rate.next_token(full_at, now) <= now);
                while rate.tokens(full_at, now) > 0 {
                    full_at = rate.take(full_at, now);
                    starts += 1;
                }
            }
            let elapsed = now.since(at(0)).as_secs_f64();
            let most = f64::from(burst) + elapsed * f64::from(count) * 1e3 / (millis as f64) + 1e-6;
            prop_assert!(starts as f64 <= most, "{} starts, at most {}", starts, most);
        }
    }
}
