//! What few tasks have, as JSON: the columns `rare` and `history`; and what is asked of a schedule, the column `spec`.
//!
//! # Format
//! One object each, with a version in `v` and the fields below under their own names; one that has no value is left
//! out. Times are microseconds since the epoch, ids are UUIDs in text, spans are `{"secs", "nanos"}`. Bytes that the
//! core carries without looking at them (a checkpoint, a handler's notes) are `{"text": …}`, or `{"hex": …}` where
//! they are not UTF-8, so that they come back byte for byte.
//!
//! # Failure
//! An unknown version, field or word is an error, never a default: a newer version wrote it, and guessing what it
//! meant would lose it at the next change. A version is raised whenever a field is added.
//!
//! The types here are deliberately not those of the model. What is on disk stays as it is when the model's fields are
//! renamed, and the compiler points here when it gets new ones.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use taskloom_model::{Code, Error, History, Rare, Rate, RetryPolicy, ScheduleSpec, Timestamp};

mod history;
mod rare;
mod schedule;

/// The version of the formats.
const VERSION: u32 = 1;

/// The JSON of a task's time and of its rare options.
pub(crate) fn encode_rare(eta: Option<Timestamp>, rare: &Rare) -> Result<String, Error> {
    encode("options", &rare::Stored::from_model(eta, rare))
}

/// A time and rare options from their JSON.
pub(crate) fn decode_rare(text: &str) -> Result<(Option<Timestamp>, Rare), Error> {
    decode::<rare::Stored>("options", text)?.into_model()
}

/// The JSON of a task's history.
pub(crate) fn encode_history(history: &History) -> Result<String, Error> {
    encode("history", &history::Stored::from_model(history))
}

/// A history from its JSON.
pub(crate) fn decode_history(text: &str) -> Result<History, Error> {
    decode::<history::Stored>("history", text)?.into_model()
}

/// The JSON of what is asked of a schedule.
pub(crate) fn encode_schedule(spec: &ScheduleSpec) -> Result<String, Error> {
    encode("rule and options", &schedule::Stored::from_model(spec))
}

/// What is asked of a schedule, from its JSON and the columns beside it.
pub(crate) fn decode_schedule(
    text: &str,
    name: String,
    handler: String,
    payload: Box<[u8]>,
) -> Result<ScheduleSpec, Error> {
    decode::<schedule::Stored>("rule and options", text)?.into_model(name, handler, payload)
}

fn encode(what: &str, stored: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(stored).map_err(|cause| {
        Error::new(Code::InvalidOption, format!("the {what} cannot be stored: {cause}"))
            .hint("numbers must be finite")
            .caused_by(cause)
    })
}

fn decode<'a, T: Deserialize<'a>>(what: &str, text: &'a str) -> Result<T, Error> {
    // serde would take a list for the fields in their order.
    if !text.trim_start().starts_with('{') {
        return Err(corrupt(format!("its {what} cannot be read: it is no JSON object")));
    }
    serde_json::from_str(text).map_err(|cause| corrupt(format!("its {what} cannot be read: {cause}")))
}

fn check_version(what: &str, version: u32) -> Result<(), Error> {
    if version == VERSION {
        return Ok(());
    }
    Err(corrupt(format!("its {what} are of version {version}; this program knows {VERSION}")))
}

fn corrupt(message: String) -> Error {
    Error::new(Code::CorruptRow, message)
        .hint("a newer version of Taskloom may have written it: upgrade this process")
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredRetry {
    base: Duration,
    #[serde(with = "finite")]
    factor: f64,
    cap: Duration,
}

impl StoredRetry {
    fn from_model(RetryPolicy { base, factor, cap }: RetryPolicy) -> Self {
        Self { base, factor, cap }
    }

    fn into_model(self) -> RetryPolicy {
        let Self { base, factor, cap } = self;
        RetryPolicy { base, factor, cap }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredRate {
    count: u32,
    per: Duration,
    burst: u32,
}

impl StoredRate {
    fn from_model(Rate { count, per, burst }: Rate) -> Self {
        Self { count, per, burst }
    }

    fn into_model(self) -> Rate {
        let Self { count, per, burst } = self;
        Rate { count, per, burst }
    }
}

/// A number that must be finite: JSON has no other, and serde_json would write `null`.
mod finite {
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &f64, out: S) -> Result<S::Ok, S::Error> {
        if value.is_finite() {
            return out.serialize_f64(*value);
        }
        Err(S::Error::custom(format!("{value} is not a number")))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<f64, D::Error> {
        f64::deserialize(input)
    }
}

/// Bytes that the core only carries.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Bytes {
    Text(String),
    Hex(String),
}

impl Bytes {
    fn from_model(bytes: &[u8]) -> Self {
        match str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Hex(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        }
    }

    fn into_model(self) -> Result<Box<[u8]>, Error> {
        let digits = match self {
            Self::Text(text) => return Ok(text.into_bytes().into()),
            Self::Hex(digits) => digits.into_bytes(),
        };
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
        digits
            .chunks(2)
            .map(|pair| match *pair {
                [high, low] => Some(digit(high)? << 4 | digit(low)?),
                _ => None,
            })
            .collect::<Option<_>>()
            .ok_or_else(|| corrupt("its bytes are not in hexadecimal".into()))
    }
}

#[cfg(test)]
mod tests;
