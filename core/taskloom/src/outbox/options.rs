//! A row's options: a JSON object whose keys and units are those of Python's options, since plain SQL writes them too.
//!
//! Spans are seconds. `eta`, `expires` and `deadline` are points in time (ISO 8601 with a zone), or spans from the row's
//! `created`; `delay` is only the latter. What this module writes has points in time.

use std::time::Duration;

use serde_json::{Map, Value, json};
use taskloom_model::{Code, Error, OnConflict, Options, Result, RetryPolicy, Timestamp, When, nearest};

const NAMES: &[&str] = &[
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
    "allow_unknown",
];

/// Options as a row has them, and whether an unknown handler is allowed.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Read {
    pub(super) options: Options,
    pub(super) allow_unknown: bool,
}

/// Reads the options of a row that was made at `created`.
pub(super) fn read(text: &str, created: Timestamp) -> Result<Read> {
    let values: Value = serde_json::from_str(text).map_err(|error| {
        Error::new(Code::InvalidOption, format!("the row's options are no JSON: {error}"))
            .hint("an object such as {\"queue\": \"img\", \"retries\": 3}, or NULL")
    })?;
    let Value::Object(values) = values else {
        return Err(Error::new(Code::InvalidOption, format!("the row's options are {}", shown(&values)))
            .hint("an object such as {\"queue\": \"img\", \"retries\": 3}, or NULL"));
    };
    let mut read = Read::default();
    for (name, value) in &values {
        if !value.is_null() {
            set(&mut read, name, value, created)?;
        } else if !NAMES.contains(&name.as_str()) {
            return Err(unknown(name));
        }
    }
    Ok(read)
}

fn set(read: &mut Read, name: &str, value: &Value, created: Timestamp) -> Result<()> {
    let options = &mut read.options;
    match name {
        "queue" => options.queue = Some(text(name, value)?),
        "priority" => options.priority = Some(text(name, value)?.parse()?),
        "delay" | "eta" if options.eta.is_some() => {
            return Err(Error::new(Code::InvalidOption, "delay and eta are both given")
                .hint("use delay for seconds from the row's creation, eta for a point in time"));
        }
        "delay" => options.eta = Some(When::At(created + span(name, value)?)),
        "eta" => options.eta = Some(when(name, value, created)?),
        "expires" => options.expires = Some(when(name, value, created)?),
        "deadline" => options.deadline = Some(when(name, value, created)?),
        "timeout" => options.timeout = Some(span(name, value)?),
        "retries" => options.retries = Some(count(name, value, 0, u64::from(u32::MAX))? as u32),
        "retry" => options.retry = Some(retry(value)?),
        "max_crashes" => options.max_crashes = Some(count(name, value, 1, u64::from(u8::MAX))? as u8),
        "version" => options.version = Some(text(name, value)?.parse()?),
        "tags" => options.tags = texts(name, value)?,
        "unique_key" => options.unique_key = Some(text(name, value)?),
        "unique_for" => options.unique_for = Some(span(name, value)?),
        "on_conflict" => {
            options.on_conflict = Some(match value.as_str() {
                Some("return") => OnConflict::Return,
                Some("replace") => OnConflict::Replace,
                Some("reject") => OnConflict::Reject,
                _ => return Err(wrong(name, value, "\"return\", \"replace\" or \"reject\"")),
            });
        }
        "key" => options.key = Some(text(name, value)?),
        "concurrency" => options.concurrency = Some(count(name, value, 1, u64::from(u32::MAX))? as u32),
        "rate" => options.rate = Some(text(name, value)?.parse()?),
        "metadata" => options.metadata = pairs(name, value)?,
        "correlation_id" => options.correlation_id = Some(text(name, value)?),
        "traceparent" => options.traceparent = Some(text(name, value)?),
        "allow_unknown" => {
            read.allow_unknown = value.as_bool().ok_or_else(|| wrong(name, value, "true or false"))?;
        }
        "id" => {
            return Err(Error::new(Code::InvalidOption, "the row's options have an id")
                .hint("a task has the id of its row: write it into the column id"));
        }
        _ => return Err(unknown(name)),
    }
    Ok(())
}

/// Writes options that were resolved ([`resolved`]); `None` if nothing is set. The id is the row's.
pub(super) fn write(options: &Options, allow_unknown: bool) -> Option<String> {
    let mut values = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            values.insert(name.to_owned(), value);
        }
    };
    let time = |when: Option<When>| match when {
        Some(When::At(time)) => Some(json!(time.to_string())),
        Some(When::In(span)) => Some(json!(span.as_secs_f64())),
        None => None,
    };
    let seconds = |span: Option<Duration>| span.map(|span| json!(span.as_secs_f64()));
    put("queue", options.queue.as_ref().map(|queue| json!(queue)));
    put("priority", options.priority.map(|priority| json!(priority.to_string())));
    put("eta", time(options.eta));
    put("expires", time(options.expires));
    put("timeout", seconds(options.timeout));
    put("deadline", time(options.deadline));
    put("retries", options.retries.map(|retries| json!(retries)));
    put(
        "retry",
        options.retry.map(|RetryPolicy { base, factor, cap }| {
            json!({ "base": base.as_secs_f64(), "factor": factor, "cap": cap.as_secs_f64() })
        }),
    );
    put("max_crashes", options.max_crashes.map(|crashes| json!(crashes)));
    put("version", options.version.map(|version| json!(version.to_string())));
    put("tags", (!options.tags.is_empty()).then(|| json!(options.tags)));
    put("unique_key", options.unique_key.as_ref().map(|key| json!(key)));
    put("unique_for", seconds(options.unique_for));
    put(
        "on_conflict",
        options.on_conflict.map(|answer| {
            json!(match answer {
                OnConflict::Return => "return",
                OnConflict::Replace => "replace",
                OnConflict::Reject => "reject",
            })
        }),
    );
    put("key", options.key.as_ref().map(|key| json!(key)));
    put("concurrency", options.concurrency.map(|concurrency| json!(concurrency)));
    put("rate", options.rate.map(|rate| json!(rate.to_string())));
    let metadata: Map<_, _> =
        options.metadata.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    put("metadata", (!metadata.is_empty()).then_some(Value::Object(metadata)));
    put("correlation_id", options.correlation_id.as_ref().map(|id| json!(id)));
    put("traceparent", options.traceparent.as_ref().map(|parent| json!(parent)));
    put("allow_unknown", allow_unknown.then_some(Value::Bool(true)));
    (!values.is_empty()).then(|| Value::Object(values).to_string())
}

/// The same with points in time where there were spans from now.
pub(super) fn resolved(mut options: Options, now: Timestamp) -> Options {
    for when in [&mut options.eta, &mut options.expires, &mut options.deadline] {
        *when = when.map(|when| When::At(when.resolve(now)));
    }
    options
}

fn unknown(name: &str) -> Error {
    let error = Error::new(Code::InvalidOption, format!("there is no option {name} in an outbox"));
    match nearest(name, NAMES.iter().copied()) {
        Some(near) => error.hint(format!("did you mean {near}?")),
        None => error.hint(format!("there are: {}", NAMES.join(", "))),
    }
}

/// A value for messages, cut short.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn wrong(name: &str, value: &Value, wanted: &str) -> Error {
    Error::new(Code::InvalidOption, format!("{name} is {}; it must be {wanted}", shown(value)))
}

fn text(name: &str, value: &Value) -> Result<String> {
    value.as_str().map(str::to_owned).ok_or_else(|| wrong(name, value, "a text"))
}

fn count(name: &str, value: &Value, least: u64, most: u64) -> Result<u64> {
    let fits = value.as_u64().filter(|count| (least..=most).contains(count));
    fits.ok_or_else(|| wrong(name, value, &format!("a whole number from {least} to {most}")))
}

fn span(name: &str, value: &Value) -> Result<Duration> {
    let seconds = value.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| wrong(name, value, "a number of seconds, at least 0"))
}

fn when(name: &str, value: &Value, created: Timestamp) -> Result<When> {
    match value {
        Value::String(time) => time.parse().map(When::At).map_err(|_| {
            wrong(name, value, "a point in time")
                .hint("ISO 8601 with its zone, such as \"2030-01-31T09:30:00Z\"")
        }),
        Value::Number(_) => Ok(When::At(created + span(name, value)?)),
        _ => Err(wrong(name, value, "a point in time, or seconds from the row's creation")),
    }
}

fn retry(value: &Value) -> Result<RetryPolicy> {
    let wanted = "an object such as {\"base\": 1, \"factor\": 2, \"cap\": 30}";
    let values = value.as_object().ok_or_else(|| wrong("retry", value, wanted))?;
    let mut policy = RetryPolicy::default();
    for (name, part) in values {
        match name.as_str() {
            "base" => policy.base = span("retry base", part)?,
            "factor" => {
                policy.factor =
                    part.as_f64().ok_or_else(|| wrong("retry factor", part, "a number of at least 1"))?;
            }
            "cap" => policy.cap = span("retry cap", part)?,
            _ => return Err(wrong("retry", value, wanted)),
        }
    }
    Ok(policy)
}

fn texts(name: &str, value: &Value) -> Result<Vec<String>> {
    let list = || wrong(name, value, "a list of texts");
    let texts = value.as_array().ok_or_else(list)?;
    texts.iter().map(|text| text.as_str().map(str::to_owned).ok_or_else(list)).collect()
}

fn pairs(name: &str, value: &Value) -> Result<Vec<(String, String)>> {
    let object = || wrong(name, value, "an object of texts");
    let pairs = value.as_object().ok_or_else(object)?;
    let pair = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
    pairs.iter().map(|each| pair(each).ok_or_else(object)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_900_000_000_000_000);

    #[test]
    fn every_option_is_read_as_it_was_written() {
        let text = r#"{"queue": "img", "priority": "high", "eta": "2030-03-17T17:46:50Z", "expires": 60, "timeout": 1.5,
            "deadline": 3600, "retries": 3, "retry": {"base": 0.5, "factor": 3, "cap": 9}, "max_crashes": 2,
            "version": "1.2.3", "tags": ["a", "b"], "unique_key": "u", "unique_for": 7, "on_conflict": "replace",
            "key": "k", "concurrency": 2, "rate": "10/s+20", "metadata": {"who": "me"}, "correlation_id": "c",
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "allow_unknown": true}"#;
        let first = read(text, NOW).unwrap();
        assert_eq!(first.options.expires, Some(When::At(NOW + Duration::from_secs(60))));
        assert_eq!(first.options.metadata, [("who".to_owned(), "me".to_owned())]);
        assert!(first.allow_unknown);
        let written = write(&first.options, first.allow_unknown).unwrap();
        // Another time of creation: what is written is resolved.
        assert_eq!(read(&written, NOW + Duration::from_secs(5)).unwrap(), first);
        let missing: Vec<_> =
            NAMES.iter().filter(|name| !written.contains(&format!("\"{name}\":"))).collect();
        assert_eq!(missing, [&"delay"], "written as an eta");
    }

    #[test]
    fn nothing_is_nothing() {
        assert_eq!(write(&Options::default(), false), None);
        assert_eq!(read("{}", NOW).unwrap(), Read::default());
        assert_eq!(read(r#"{"queue": null}"#, NOW).unwrap(), Read::default());
        assert_eq!(
            read(r#"{"delay": 5}"#, NOW).unwrap().options.eta,
            Some(When::At(NOW + Duration::from_secs(5)))
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, message) in [
            ("", "the row's options are no JSON: EOF"),
            ("[1]", "the row's options are [1]"),
            (r#"{"queueue": "x"}"#, "there is no option queueue in an outbox"),
            (r#"{"queueue": null}"#, "there is no option queueue in an outbox"),
            (r#"{"id": "x"}"#, "the row's options have an id"),
            (r#"{"queue": 5}"#, "queue is 5; it must be a text"),
            (r#"{"retries": -1}"#, "retries is -1; it must be a whole number from 0"),
            (r#"{"timeout": "3s"}"#, "timeout is \"3s\"; it must be a number of seconds"),
            (r#"{"eta": "tomorrow"}"#, "eta is \"tomorrow\"; it must be a point in time"),
            (r#"{"eta": true}"#, "eta is true; it must be a point in time"),
            (r#"{"delay": 1, "eta": 1}"#, "delay and eta are both given"),
            (r#"{"retry": {"bas": 1}}"#, "retry is {\"bas\":1}; it must be an object such as"),
            (r#"{"tags": "a"}"#, "tags is \"a\"; it must be a list of texts"),
            (r#"{"metadata": {"a": 1}}"#, "metadata is {\"a\":1}; it must be an object of texts"),
            (r#"{"on_conflict": "x"}"#, "on_conflict is \"x\"; it must be \"return\""),
            (r#"{"allow_unknown": 1}"#, "allow_unknown is 1; it must be true or false"),
        ] {
            let error = read(text, NOW).unwrap_err();
            assert!(error.message().starts_with(message), "{text}: {error}");
        }
    }
}
