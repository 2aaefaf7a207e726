//! Options by name, from values of any language: what the bindings are handed, and what a row of an outbox says.
//!
//! The names and the units are those of Python: spans are seconds. Whoever reads options has names of its own beside
//! these, such as an `id`, and makes [`Value`]s of what its language has.

use std::time::Duration;

use crate::{Code, Error, OnConflict, Options, Rate, Result, RetryPolicy, Timestamp, When, nearest};

/// The options of a submit that have the same meaning wherever they are written.
pub const NAMES: &[&str] = &[
    "queue",
    "priority",
    "delay",
    "eta",
    "expires",
    "timeout",
    "deadline",
    "retries",
    "retry",
    "max_crashes",
    "version",
    "tags",
    "unique_key",
    "unique_for",
    "on_conflict",
    "key",
    "concurrency",
    "rate",
    "metadata",
    "correlation_id",
    "traceparent",
];

/// How many characters of a value a message shows.
const LONGEST: usize = 60;

/// A value, whichever language it comes from.
#[derive(Clone, Debug)]
pub enum Value {
    /// Nothing: the option is not set.
    None,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number; durations are in seconds.
    Float(f64),
    /// A text.
    Text(String),
    /// A point in time, in microseconds since the epoch.
    At(i64),
    /// A retry policy: base and cap in seconds.
    Retry {
        /// The longest wait after the first failure.
        base: f64,
        /// By how much it grows.
        factor: f64,
        /// The longest wait of all.
        cap: f64,
    },
    /// Texts.
    Texts(Vec<String>),
    /// Texts by key.
    Pairs(Vec<(String, String)>),
    /// Numbers by name.
    Weights(Vec<(String, i64)>),
    /// Something else; its type's name.
    Other(String),
    /// Something else, as JSON.
    Json(String),
}

impl Value {
    /// What it is, for messages; cut short.
    pub fn describe(&self) -> String {
        let mut text = self.whole();
        if let Some((end, _)) = text.char_indices().nth(LONGEST) {
            text.truncate(end);
            text.push('…');
        }
        text
    }

    fn whole(&self) -> String {
        match self {
            Self::None => "nothing".into(),
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            // With its point, also if nothing is behind it: that may be what is wrong.
            Self::Float(value) => format!("{value:?}"),
            Self::Text(value) => format!("{value:?}"),
            Self::At(micros) => Timestamp::from_micros(*micros).to_string(),
            Self::Retry { .. } => "a retry policy".into(),
            Self::Texts(texts) => format!("{texts:?}"),
            Self::Pairs(_) => "a mapping to texts".into(),
            Self::Weights(_) => "a mapping to numbers".into(),
            Self::Other(kind) => format!("a value of type {kind}"),
            Self::Json(text) => text.clone(),
        }
    }

    /// The error for a value that an option cannot have, and what it must be.
    pub fn wrong(&self, name: &str, wanted: &str) -> Error {
        Error::new(Code::InvalidOption, format!("{name} is {}; it must be {wanted}", self.describe()))
    }

    /// A text.
    pub fn text(&self, name: &str) -> Result<String> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            other => Err(other.wrong(name, "a text")),
        }
    }

    /// A list of texts.
    pub fn texts(&self, name: &str) -> Result<Vec<String>> {
        match self {
            Self::Texts(texts) => Ok(texts.clone()),
            Self::Text(_) => {
                Err(self.wrong(name, "a list of texts").hint(format!("write {name}=[{}]", self.describe())))
            }
            other => Err(other.wrong(name, "a list of texts")),
        }
    }

    /// Texts by key.
    pub fn pairs(&self, name: &str) -> Result<Vec<(String, String)>> {
        match self {
            Self::Pairs(pairs) => Ok(pairs.clone()),
            other => Err(other.wrong(name, "a mapping from texts to texts")),
        }
    }

    /// A whole number within bounds.
    pub fn count(&self, name: &str, least: i64, most: i64) -> Result<i64> {
        match self {
            Self::Int(count) if (least..=most).contains(count) => Ok(*count),
            other => Err(other.wrong(name, &format!("a whole number from {least} to {most}"))),
        }
    }

    /// A span of time.
    pub fn span(&self, name: &str) -> Result<Duration> {
        let seconds = match self {
            Self::Int(seconds) => *seconds as f64,
            Self::Float(seconds) => *seconds,
            other => return Err(other.wrong(name, "a duration (seconds, or a timedelta)")),
        };
        Duration::try_from_secs_f64(seconds).map_err(|_| match seconds {
            seconds if seconds > 0.0 => {
                self.wrong(name, "a duration of less than 1e19 seconds").hint("leave it out for no limit")
            }
            _ => self.wrong(name, "a duration of at least 0 seconds"),
        })
    }

    /// A point in time, or a span.
    pub fn when(&self, name: &str) -> Result<When> {
        match self {
            Self::At(micros) => Ok(When::At(Timestamp::from_micros(*micros))),
            other => other.span(name).map(When::In),
        }
    }
}

/// The error for a name that is not among these.
pub fn unknown(what: &str, name: &str, available: &[&str]) -> Error {
    let error = Error::new(Code::InvalidOption, format!("there is no {what} {name}"));
    match nearest(name, available.iter().copied()) {
        Some(near) => error.hint(format!("did you mean {near}?")),
        None => error.hint(format!("there are: {}", available.join(", "))),
    }
}

/// Sets one of the options in [`NAMES`]; whether it is one.
///
/// Errors: `InvalidOption` naming the option and its value.
pub fn set(options: &mut Options, name: &str, value: &Value) -> Result<bool> {
    if matches!(value, Value::None) {
        return Ok(NAMES.contains(&name));
    }
    match name {
        "queue" => options.queue = Some(value.text(name)?),
        "priority" => options.priority = Some(value.text(name)?.parse()?),
        "delay" | "eta" if options.eta.is_some() => {
            return Err(Error::new(Code::InvalidOption, "delay and eta are both given")
                .hint("use delay for a time from now, eta for a point in time"));
        }
        "delay" => options.eta = Some(When::In(value.span(name)?)),
        "eta" => match value {
            Value::At(_) => options.eta = Some(value.when(name)?),
            other => {
                return Err(other.wrong(name, "a point in time").hint("for a time from now there is delay"));
            }
        },
        "expires" => options.expires = Some(value.when(name)?),
        "deadline" => options.deadline = Some(value.when(name)?),
        "version" => options.version = Some(value.text(name)?.parse()?),
        "tags" => options.tags = value.texts(name)?,
        "unique_key" => options.unique_key = Some(value.text(name)?),
        "unique_for" => options.unique_for = Some(value.span(name)?),
        "on_conflict" => {
            options.on_conflict = Some(match value.text(name)?.as_str() {
                "return" => OnConflict::Return,
                "replace" => OnConflict::Replace,
                "reject" => OnConflict::Reject,
                _ => return Err(value.wrong(name, "\"return\", \"replace\" or \"reject\"")),
            });
        }
        "key" => options.key = Some(value.text(name)?),
        "concurrency" => options.concurrency = Some(value.count(name, 1, i64::from(u32::MAX))? as u32),
        "rate" => options.rate = Some(rate(value)?),
        "metadata" => options.metadata = value.pairs(name)?,
        "correlation_id" => options.correlation_id = Some(value.text(name)?),
        "traceparent" => options.traceparent = Some(value.text(name)?),
        "timeout" => options.timeout = Some(value.span(name)?),
        "retries" => options.retries = Some(value.count(name, 0, i64::from(u32::MAX))? as u32),
        "max_crashes" => options.max_crashes = Some(value.count(name, 1, i64::from(u8::MAX))? as u8),
        "retry" => match value {
            Value::Retry { base, factor, cap } => {
                let base = Value::Float(*base).span("retry base")?;
                let cap = Value::Float(*cap).span("retry cap")?;
                options.retry = Some(RetryPolicy { base, factor: *factor, cap });
            }
            other => {
                return Err(other
                    .wrong(name, "a Retry(base, factor, cap)")
                    .hint("how often it is tried again is retries"));
            }
        },
        _ => return Ok(false),
    }
    Ok(true)
}

/// A rate: a text such as `10/s`, with the burst after a `+` if it is not the usual one.
fn rate(value: &Value) -> Result<Rate> {
    let text = value.text("rate").map_err(|error| {
        error.hint(
            "say how many may start in which time, such as \"10/s\" or \"100/5m\"; with a burst, \"10/s+20\"",
        )
    })?;
    text.parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, value: Value) -> Result<Options> {
        let mut options = Options::default();
        assert!(super::set(&mut options, name, &value)?, "{name} is one");
        options.validate()?;
        Ok(options)
    }

    #[test]
    fn every_name_is_one() {
        let mut options = Options::default();
        for name in NAMES {
            assert!(super::set(&mut options, name, &Value::None).unwrap(), "{name}");
            let known = super::set(&mut options, name, &Value::Json("{}".into()));
            assert!(known.is_err() || known.unwrap(), "{name}");
        }
        assert!(!super::set(&mut options, "queueue", &Value::None).unwrap());
        assert!(!super::set(&mut options, "queueue", &Value::Int(1)).unwrap());
        assert_eq!(options, Options::default());
    }

    #[test]
    fn long_values_are_cut_short_in_messages() {
        let error = set("retries", Value::Text("ž".repeat(100))).unwrap_err();
        assert!(
            error.message().starts_with(&format!("retries is \"{}…; it must be", "ž".repeat(59))),
            "{error}"
        );
    }

    #[test]
    fn good_values() {
        assert_eq!(set("delay", Value::Float(1.5)).unwrap().eta, Some(When::In(Duration::from_millis(1500))));
        assert_eq!(set("retries", Value::Int(3)).unwrap().retries, Some(3));
        assert_eq!(set("queue", Value::None).unwrap(), Options::default());
    }

    #[test]
    fn bad_values_are_named() {
        for (name, value, message) in [
            ("timeout", Value::Float(-1.0), "timeout is -1.0; it must be a duration of at least 0 seconds"),
            (
                "timeout",
                Value::Float(f64::NAN),
                "timeout is NaN; it must be a duration of at least 0 seconds",
            ),
            ("delay", Value::Float(1e30), "delay is 1e30; it must be a duration of less"),
            ("timeout", Value::Text("3s".into()), "timeout is \"3s\"; it must be a duration"),
            ("timeout", Value::Int(0), "timeout is 0: every attempt would time out at once"),
            ("retries", Value::Int(-1), "retries is -1; it must be a whole number from 0"),
            ("retries", Value::Float(3.0), "retries is 3.0; it must be a whole number"),
            ("retries", Value::Bool(true), "retries is true; it must be a whole number"),
            ("priority", Value::Text("hihg".into()), "priority \"hihg\" is not known"),
            ("eta", Value::Int(3), "eta is 3; it must be a point in time"),
            ("tags", Value::Text("a".into()), "tags is \"a\"; it must be a list of texts"),
            ("on_conflict", Value::Text("x".into()), "on_conflict is \"x\"; it must be \"return\""),
            ("rate", Value::Int(10), "rate is 10; it must be a text"),
            ("rate", Value::Text("10/fortnight".into()), "rate \"10/fortnight\": \"fortnight\" is no unit"),
            ("concurrency", Value::Int(0), "concurrency is 0; it must be a whole number from 1"),
            ("key", Value::Text(String::new()), "key \"\" is empty"),
        ] {
            let error = set(name, value).unwrap_err();
            assert!(error.message().starts_with(message), "{error}");
        }
    }
}
