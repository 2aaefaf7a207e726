//! Points in time.

use std::fmt;
use std::num::NonZeroI64;
use std::str::FromStr;
use std::time::Duration;

use crate::{Code, Error};

/// A point in time: microseconds since the Unix epoch, UTC.
///
/// The value zero is not used (the epoch itself reads as one microsecond later), which makes an
/// `Option<Timestamp>` eight bytes: a pending task carries several.
///
/// ```
/// use std::time::Duration;
/// use taskloom_model::Timestamp;
/// let t = Timestamp::from_micros(1_000_000);
/// assert_eq!((t + Duration::from_secs(1)).micros(), 2_000_000);
/// assert_eq!(t.to_string(), "1970-01-01T00:00:01.000000Z");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(NonZeroI64);

impl Timestamp {
    /// The latest time that can be told.
    pub const MAX: Self = Self(NonZeroI64::MAX);

    /// From microseconds since the epoch; zero becomes one.
    pub const fn from_micros(micros: i64) -> Self {
        match NonZeroI64::new(micros) {
            Some(value) => Self(value),
            None => Self(NonZeroI64::new(1).unwrap()),
        }
    }

    /// Microseconds since the epoch.
    pub const fn micros(self) -> i64 {
        self.0.get()
    }

    /// How long it is from `earlier` to this time; zero if `earlier` is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.micros().saturating_sub(earlier.micros())).unwrap_or(0))
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;

    /// Saturates at [`Timestamp::MAX`].
    fn add(self, span: Duration) -> Self {
        let micros = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        Self::from_micros(self.micros().saturating_add(micros))
    }
}

impl std::ops::Sub<Duration> for Timestamp {
    type Output = Self;

    /// Saturates at the earliest time that can be told.
    fn sub(self, span: Duration) -> Self {
        let micros = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        Self::from_micros(self.micros().saturating_sub(micros))
    }
}

impl fmt::Display for Timestamp {
    /// ISO 8601, UTC, with microseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.micros();
        let (days, in_day) = (micros.div_euclid(86_400_000_000), micros.rem_euclid(86_400_000_000));
        let (year, month, day) = civil_from_days(days);
        let (seconds, fraction) = (in_day / 1_000_000, in_day % 1_000_000);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:06}Z")
    }
}

impl FromStr for Timestamp {
    type Err = Error;

    /// ISO 8601 with a zone, which is `Z` or how far its clocks are from UTC.
    fn from_str(text: &str) -> Result<Self, Error> {
        let read: jiff::Timestamp = text.parse().map_err(|_| {
            Error::new(Code::InvalidOption, format!("{text:?} is not a point in time"))
                .hint("write it as ISO 8601 with its zone, such as \"2030-01-31T09:30:00Z\"")
        })?;
        Ok(Self::from_micros(read.as_microsecond()))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Days since the epoch → proleptic Gregorian date. Eras of 400 years have 146,097 days; a year is taken to begin
/// in March, so that the leap day is its last one.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_iso_8601() {
        for (micros, text) in [
            (1_709_164_800_000_000, "2024-02-29T00:00:00.000000Z"),
            (1_798_675_199_999_999, "2026-12-30T23:59:59.999999Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
        ] {
            assert_eq!(Timestamp::from_micros(micros).to_string(), text);
        }
    }

    #[test]
    fn reads_what_it_prints() {
        for micros in [1_709_164_800_000_000, 1_798_675_199_999_999, -1] {
            let time = Timestamp::from_micros(micros);
            assert_eq!(time.to_string().parse::<Timestamp>().unwrap(), time);
        }
        let zoned: Timestamp = "2030-01-31T10:30:00+01:00".parse().unwrap();
        assert_eq!(zoned.to_string(), "2030-01-31T09:30:00.000000Z");
        for bad in ["", "2030-01-31", "2030-01-31T09:30:00", "tomorrow", "2030-02-31T09:30:00Z"] {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad}");
        }
    }

    #[test]
    fn zero_is_one_microsecond_and_sums_saturate() {
        assert_eq!(Timestamp::from_micros(0).micros(), 1);
        assert_eq!(Timestamp::MAX + Duration::from_secs(1), Timestamp::MAX);
        assert_eq!(size_of::<Option<Timestamp>>(), 8);
    }
}
