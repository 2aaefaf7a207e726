//! Options by name, from values of any language.

use std::time::Duration;

use taskloom::Durability;
use taskloom_engine::Served;
use taskloom_model::{
    Code, Error, Name, OnConflict, Options, Rate, Result, RetryPolicy, Timestamp, When, check_name, nearest,
};

use crate::Settings;

/// A value as a binding hands it over.
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
}

impl Value {
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::None => "nothing".into(),
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
            Self::Text(value) => format!("{value:?}"),
            Self::At(micros) => Timestamp::from_micros(*micros).to_string(),
            Self::Retry { .. } => "a retry policy".into(),
            Self::Texts(texts) => format!("{texts:?}"),
            Self::Pairs(_) => "a mapping to texts".into(),
            Self::Weights(_) => "a mapping to numbers".into(),
            Self::Other(kind) => format!("a value of type {kind}"),
        }
    }

    pub(crate) fn wrong(&self, name: &str, wanted: &str) -> Error {
        Error::new(Code::InvalidOption, format!("{name} is {}; it must be {wanted}", self.describe()))
    }

    pub(crate) fn text(&self, name: &str) -> Result<String> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            other => Err(other.wrong(name, "a text")),
        }
    }

    fn texts(&self, name: &str) -> Result<Vec<String>> {
        match self {
            Self::Texts(texts) => Ok(texts.clone()),
            Self::Text(_) => {
                Err(self.wrong(name, "a list of texts").hint(format!("write {name}=[{}]", self.describe())))
            }
            other => Err(other.wrong(name, "a list of texts")),
        }
    }

    fn pairs(&self, name: &str) -> Result<Vec<(String, String)>> {
        match self {
            Self::Pairs(pairs) => Ok(pairs.clone()),
            other => Err(other.wrong(name, "a mapping from texts to texts")),
        }
    }

    pub(crate) fn count(&self, name: &str, least: i64, most: i64) -> Result<i64> {
        match self {
            Self::Int(count) if (least..=most).contains(count) => Ok(*count),
            other => Err(other.wrong(name, &format!("a whole number from {least} to {most}"))),
        }
    }

    pub(crate) fn span(&self, name: &str) -> Result<Duration> {
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

    fn when(&self, name: &str) -> Result<When> {
        match self {
            Self::At(micros) => Ok(When::At(Timestamp::from_micros(*micros))),
            other => other.span(name).map(When::In),
        }
    }
}

/// The options of a submit that are available, for messages.
pub(crate) const AVAILABLE: &[&str] = &[
    "id",
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
    "metadata",
    "correlation_id",
    "traceparent",
    "key",
    "concurrency",
    "rate",
    "detached",
    "tx",
];

/// Options that this version knows of and refuses.
const LATER: &[&str] = &["depends_on", "requires", "agent", "executor", "allow_unknown"];

/// Settings of an application that this version knows of and refuses.
const SETTINGS_LATER: &[&str] = &["lease"];

const SETTINGS: &[&str] = &[
    "workers",
    "max_in_flight",
    "queues",
    "capacity",
    "on_full",
    "payloads",
    "durability",
    "retention",
    "require_metadata",
    "name",
];

fn unknown(what: &str, name: &str, available: &[&str], later: &[&str]) -> Error {
    if later.contains(&name) {
        return Error::new(Code::NotAvailable, format!("the {what} {name} is not available in this version"))
            .hint(format!("leave it out; there are: {}", available.join(", ")));
    }
    let error = Error::new(Code::InvalidOption, format!("there is no {what} {name}"));
    match nearest(name, available.iter().copied()) {
        Some(near) => error.hint(format!("did you mean {near}?")),
        None => error.hint(format!("there are: {}", available.join(", "))),
    }
}

/// Sets one option of a submit by its name.
///
/// Errors: `InvalidOption` naming the option and its value, `NotAvailable` for one that is not built yet.
pub fn set_option(options: &mut Options, name: &str, value: &Value) -> Result<()> {
    if matches!(value, Value::None) {
        return if AVAILABLE.contains(&name) || LATER.contains(&name) {
            Ok(())
        } else {
            Err(unknown("option", name, AVAILABLE, LATER))
        };
    }
    match name {
        "id" => options.id = Some(value.text(name)?.parse()?),
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
        "detached" => {
            return Err(Error::new(
                Code::InvalidOption,
                "detached is for children, and this task has no parent",
            )
            .hint("submit it with ctx.submit(…), or leave detached out"));
        }
        "tx" => {
            return Err(Error::new(
                Code::InvalidOption,
                "tx is for the submit of one task, inside a transaction",
            )
            .hint("write task.options(tx=connection).submit(…)"));
        }
        "executor" => {
            return Err(Error::new(Code::InvalidOption, "executor is the handler's, and not a submit's")
                .hint("say it where the handler is registered: @app.task(executor=\"process\")"));
        }
        other => return Err(unknown("option", other, AVAILABLE, LATER)),
    }
    Ok(())
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

/// Settings of an application, by name.
///
/// Errors: as [`set_option`].
pub fn settings_from(url: &str, values: &[(String, Value)]) -> Result<Settings> {
    settings_beside(url, values, &[])
}

/// The same, for a binding that has taken out settings of its own; `beside` are their names, for messages.
pub fn settings_beside(url: &str, values: &[(String, Value)], beside: &[&str]) -> Result<Settings> {
    change(Settings { url: url.to_owned(), ..Settings::default() }, values, beside)
}

/// Settings with some of them changed, by name.
///
/// Errors: as [`set_option`].
pub fn change_settings(settings: Settings, values: &[(String, Value)]) -> Result<Settings> {
    change(settings, values, &[])
}

fn change(mut settings: Settings, values: &[(String, Value)], beside: &[&str]) -> Result<Settings> {
    for (name, value) in values {
        if matches!(value, Value::None) {
            continue;
        }
        match name.as_str() {
            "workers" => settings.workers = Some(value.count(name, 1, 10_000)? as usize),
            "max_in_flight" => settings.max_in_flight = Some(value.count(name, 1, 1_000_000)? as usize),
            "queues" => settings.queues = served(name, value)?,
            "capacity" => settings.capacity = Some(value.count(name, 1, i64::MAX)? as usize),
            "on_full" => {
                settings.wait_when_full = match value.text(name)?.as_str() {
                    "raise" => false,
                    "wait" => true,
                    _ => return Err(value.wrong(name, "\"raise\" or \"wait\"")),
                };
            }
            "payloads" => {
                settings.by_reference = match value.text(name)?.as_str() {
                    "json" => false,
                    "reference" => true,
                    _ => return Err(value.wrong(name, "\"json\" or \"reference\"")),
                };
            }
            "retention" => settings.retention = Some(value.span(name)?),
            "require_metadata" => settings.require_metadata = value.texts(name)?,
            "name" => settings.name = Some(value.text(name)?),
            "durability" => {
                settings.durability = match value.text(name)?.as_str() {
                    "disk" => Durability::Disk,
                    "process" => Durability::Process,
                    _ => return Err(value.wrong(name, "\"disk\" or \"process\"")),
                };
            }
            other => {
                return Err(unknown("setting", other, &[SETTINGS, beside].concat(), SETTINGS_LATER));
            }
        }
    }
    Ok(settings)
}

/// The queues that an application serves.
fn served(name: &str, value: &Value) -> Result<Served> {
    let checked = |queue: &str| {
        check_name("queue", queue)?;
        Ok::<_, Error>(Name::new(queue))
    };
    let none = || {
        Error::new(Code::InvalidOption, format!("{name} names no queue, so nothing would ever run"))
            .hint("leave it out to serve every queue")
    };
    match value {
        Value::Texts(names) if names.is_empty() => Err(none()),
        Value::Texts(names) => {
            Ok(Served::InOrder(names.iter().map(|queue| checked(queue)).collect::<Result<_>>()?))
        }
        Value::Weights(weights) if weights.is_empty() => Err(none()),
        Value::Weights(weights) => {
            let weight = |(queue, weight): &(String, i64)| match u32::try_from(*weight) {
                Ok(weight @ 1..=1_000) => Ok((checked(queue)?, weight)),
                _ => Err(Error::new(
                    Code::InvalidOption,
                    format!("{name}[{queue:?}] is {weight}; a weight is a whole number from 1 to 1000"),
                )),
            };
            Ok(Served::ByWeight(weights.iter().map(weight).collect::<Result<_>>()?))
        }
        other => Err(other.wrong(name, "a list of queues, or a mapping from queues to their weights")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, value: Value) -> Result<Options> {
        let mut options = Options::default();
        set_option(&mut options, name, &value)?;
        options.validate()?;
        Ok(options)
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
            ("timeout", Value::Float(-1.0), "timeout is -1; it must be a duration of at least 0 seconds"),
            (
                "timeout",
                Value::Float(f64::NAN),
                "timeout is NaN; it must be a duration of at least 0 seconds",
            ),
            (
                "delay",
                Value::Float(1e30),
                "delay is 1000000000000000000000000000000; it must be a duration of less",
            ),
            ("timeout", Value::Text("3s".into()), "timeout is \"3s\"; it must be a duration"),
            ("timeout", Value::Int(0), "timeout is 0: every attempt would time out at once"),
            ("retries", Value::Int(-1), "retries is -1; it must be a whole number from 0"),
            ("retries", Value::Bool(true), "retries is true; it must be a whole number"),
            ("priority", Value::Text("hihg".into()), "priority \"hihg\" is not known"),
            ("eta", Value::Int(3), "eta is 3; it must be a point in time"),
            ("id", Value::Text("x".into()), "id \"x\" is not a UUID"),
            ("prioritty", Value::Int(1), "there is no option prioritty"),
            ("tags", Value::Text("a".into()), "tags is \"a\"; it must be a list of texts"),
            ("on_conflict", Value::Text("x".into()), "on_conflict is \"x\"; it must be \"return\""),
            ("depends_on", Value::Texts(vec![]), "the option depends_on is not available in this version"),
            ("rate", Value::Int(10), "rate is 10; it must be a text"),
            ("rate", Value::Text("10/fortnight".into()), "rate \"10/fortnight\": \"fortnight\" is no unit"),
            ("concurrency", Value::Int(0), "concurrency is 0; it must be a whole number from 1"),
            ("key", Value::Text(String::new()), "key \"\" is empty"),
        ] {
            let error = set(name, value).unwrap_err();
            assert!(error.message().starts_with(message), "{error}");
        }
        let hint = set("prioritty", Value::Int(1)).unwrap_err();
        assert_eq!(hint.hint_text(), Some("did you mean priority?"));
    }

    #[test]
    fn settings() {
        let settings = settings_from("memory:", &[("workers".into(), Value::Int(2))]).unwrap();
        assert_eq!(settings.workers, Some(2));
        for (name, value, code) in [
            ("workers", Value::Int(0), Code::InvalidOption),
            ("durability", Value::Text("tape".into()), Code::InvalidOption),
            ("wrokers", Value::Int(2), Code::InvalidOption),
            ("lease", Value::Int(3), Code::NotAvailable),
            ("queues", Value::Texts(vec![]), Code::InvalidOption),
            ("queues", Value::Weights(vec![("a".into(), 0)]), Code::InvalidOption),
            ("on_full", Value::Text("drop".into()), Code::InvalidOption),
        ] {
            assert_eq!(settings_from("memory:", &[(name.into(), value)]).unwrap_err().code(), code);
        }
    }
}
