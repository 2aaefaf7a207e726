//! Time zones by name.

use std::sync::OnceLock;

use jiff::tz::{TimeZone, TimeZoneDatabase};

use crate::{Code, Error, Result, Timestamp, nearest};

/// A time zone of the IANA database that is compiled in.
///
/// ```
/// use taskloom_model::{Timestamp, Zone};
/// let rome = Zone::named("Europe/Rome")?;
/// assert_eq!(rome.offset(Timestamp::from_micros(1_774_746_000_000_000)), 7_200); // the clock has just gone forward
/// assert_eq!(Zone::named("Europe/Rom").unwrap_err().hint_text(), Some("did you mean \"Europe/Rome\"?"));
/// # Ok::<(), taskloom_model::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Zone {
    name: String,
    pub(super) zone: TimeZone,
}

fn database() -> &'static TimeZoneDatabase {
    static DATABASE: OnceLock<TimeZoneDatabase> = OnceLock::new();
    DATABASE.get_or_init(TimeZoneDatabase::bundled)
}

impl Zone {
    /// The zone of this name; upper and lower case are alike.
    ///
    /// Errors: `InvalidSchedule` with the nearest name.
    pub fn named(name: &str) -> Result<Self> {
        if let Ok(zone) = database().get(name) {
            let name = zone.iana_name().unwrap_or(name).to_owned();
            return Ok(Self { name, zone });
        }
        let known: Vec<String> = database().available().map(|known| known.to_string()).collect();
        let error = Error::new(Code::InvalidSchedule, format!("there is no time zone {name:?}"));
        // Whoever knows the city and not the continent is helped too.
        let city = |known: &&String| {
            known.rsplit('/').next().is_some_and(|city| city.eq_ignore_ascii_case(&name.replace(' ', "_")))
        };
        let near = nearest(name, known.iter().map(String::as_str))
            .or_else(|| known.iter().find(city).map(String::as_str));
        Err(match near {
            Some(near) => error.hint(format!("did you mean {near:?}?")),
            None => error.hint("zones have names of the IANA database, such as \"Europe/Rome\" or \"UTC\""),
        })
    }

    /// Its name, as the database writes it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How far its clocks are ahead of UTC at a time, in seconds.
    pub fn offset(&self, at: Timestamp) -> i32 {
        instant(at).map_or(0, |at| self.zone.to_offset(at).seconds())
    }
}

/// A time as jiff has it; none beyond the year 9999.
pub(super) fn instant(at: Timestamp) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_microsecond(at.micros()).ok()
}

pub(super) fn timestamp(at: jiff::Timestamp) -> Timestamp {
    Timestamp::from_micros(at.as_microsecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_or_corrected() {
        assert_eq!(Zone::named("europe/rome").unwrap().name(), "Europe/Rome");
        assert_eq!(Zone::named("UTC").unwrap().name(), "UTC");
        for (wrong, hint) in [
            ("Europe/Roma", "\"Europe/Rome\""),
            ("Rome", "\"Europe/Rome\""),
            ("new york", "\"America/New_York\""),
            ("Middle-earth/Shire", "IANA"),
            ("", "IANA"),
            ("../etc/passwd", "IANA"),
        ] {
            let error = Zone::named(wrong).unwrap_err();
            assert_eq!(error.code(), Code::InvalidSchedule);
            assert!(error.hint_text().unwrap().contains(hint), "{wrong}: {error}");
        }
    }
}
