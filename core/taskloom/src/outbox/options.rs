//! A row's options: a JSON object whose keys and units are those of Python's options, since plain SQL writes them too.
//!
//! Spans are seconds. `eta`, `expires` and `deadline` are points in time (ISO 8601 with a zone), or spans from the row's
//! `created`; `delay` is only the latter. What this module writes has points in time.

use std::time::Duration;

use serde_json::{Map, Value as Json, json};
use taskloom_model::by_name::{self, Value};
use taskloom_model::{Code, Error, OnConflict, Options, Result, RetryPolicy, Timestamp, When};

/// Options as a row has them, and whether an unknown handler is allowed.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Read {
    pub(super) options: Options,
    pub(super) allow_unknown: bool,
}

/// Reads the options of a row that was made at `created`.
pub(super) fn read(text: &str, created: Timestamp) -> Result<Read> {
    let values: Json = serde_json::from_str(text).map_err(|error| {
        Error::new(Code::InvalidOption, format!("the row's options are no JSON: {error}"))
            .hint("an object such as {\"queue\": \"img\", \"retries\": 3}, or NULL")
    })?;
    let Json::Object(values) = values else {
        let shown = Value::Json(values.to_string()).describe();
        return Err(Error::new(Code::InvalidOption, format!("the row's options are {shown}"))
            .hint("an object such as {\"queue\": \"img\", \"retries\": 3}, or NULL"));
    };
    let mut read = Read::default();
    for (name, json) in &values {
        set(&mut read, name, json)?;
    }
    read.options = resolved(read.options, created);
    Ok(read)
}

fn set(read: &mut Read, name: &str, json: &Json) -> Result<()> {
    let value = value_of(name, json)?;
    let is_number = matches!(value, Value::Int(_) | Value::Float(_));
    // A row is relayed later: a span from its creation is a point in time as good as any.
    let known = if name == "eta" && is_number { "delay" } else { name };
    if by_name::set(&mut read.options, known, &value)? {
        return Ok(());
    }
    match (name, &value) {
        ("allow_unknown", Value::None) => {}
        ("allow_unknown", Value::Bool(allowed)) => read.allow_unknown = *allowed,
        ("allow_unknown", _) => return Err(value.wrong(name, "true or false")),
        ("id", _) => {
            return Err(Error::new(Code::InvalidOption, "the row's options have an id")
                .hint("a task has the id of its row: write it into the column id"));
        }
        _ => return Err(by_name::unknown("option", name, &[by_name::NAMES, &["allow_unknown"]].concat())),
    }
    Ok(())
}

/// A value of JSON, as options know it.
fn value_of(name: &str, json: &Json) -> Result<Value> {
    let other = || Value::Json(json.to_string());
    Ok(match json {
        Json::Null => Value::None,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Value::Int(whole),
            None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(time) if matches!(name, "eta" | "expires" | "deadline") => {
            let at = time.parse().map_err(|_: Error| {
                Value::Text(time.clone())
                    .wrong(name, "a point in time, or seconds from the row's creation")
                    .hint("ISO 8601 with its zone, such as \"2030-01-31T09:30:00Z\"")
            });
            Value::At(Timestamp::micros(at?))
        }
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(items) => {
            let texts: Option<_> = items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
            texts.map_or_else(other, Value::Texts)
        }
        Json::Object(_) if name == "retry" => retry(json)?,
        Json::Object(fields) => {
            let pair = |(key, value): (&String, &Json)| Some((key.clone(), value.as_str()?.to_owned()));
            fields.iter().map(pair).collect::<Option<_>>().map_or_else(other, Value::Pairs)
        }
    })
}

/// A retry policy, of which each part may be left out.
fn retry(json: &Json) -> Result<Value> {
    let usual = RetryPolicy::default();
    let (mut base, mut factor, mut cap) = (usual.base.as_secs_f64(), usual.factor, usual.cap.as_secs_f64());
    for (name, part) in json.as_object().into_iter().flatten() {
        let place = match name.as_str() {
            "base" => &mut base,
            "factor" => &mut factor,
            "cap" => &mut cap,
            _ => {
                let wanted = "an object such as {\"base\": 1, \"factor\": 2, \"cap\": 30}";
                return Err(Value::Json(json.to_string()).wrong("retry", wanted));
            }
        };
        let number = || Value::Json(part.to_string()).wrong(&format!("retry {name}"), "a number");
        *place = part.as_f64().ok_or_else(number)?;
    }
    Ok(Value::Retry { base, factor, cap })
}

/// Writes options that were resolved ([`resolved`]); `None` if nothing is set. The id is the row's.
pub(super) fn write(options: &Options, allow_unknown: bool) -> Option<String> {
    let mut values = Map::new();
    let mut put = |name: &str, value: Option<Json>| {
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
    put("metadata", (!metadata.is_empty()).then_some(Json::Object(metadata)));
    put("correlation_id", options.correlation_id.as_ref().map(|id| json!(id)));
    put("traceparent", options.traceparent.as_ref().map(|parent| json!(parent)));
    put("allow_unknown", allow_unknown.then_some(Json::Bool(true)));
    (!values.is_empty()).then(|| Json::Object(values).to_string())
}

/// The same with points in time where there were spans from now.
pub(super) fn resolved(mut options: Options, now: Timestamp) -> Options {
    for when in [&mut options.eta, &mut options.expires, &mut options.deadline] {
        *when = when.map(|when| When::At(when.resolve(now)));
    }
    options
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
            by_name::NAMES.iter().filter(|name| !written.contains(&format!("\"{name}\":"))).collect();
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
            (r#"{"queueue": "x"}"#, "there is no option queueue"),
            (r#"{"queueue": null}"#, "there is no option queueue"),
            (r#"{"id": "x"}"#, "the row's options have an id"),
            (r#"{"queue": 5}"#, "queue is 5; it must be a text"),
            (r#"{"retries": -1}"#, "retries is -1; it must be a whole number from 0"),
            (r#"{"timeout": "3s"}"#, "timeout is \"3s\"; it must be a duration"),
            (r#"{"eta": "tomorrow"}"#, "eta is \"tomorrow\"; it must be a point in time"),
            (r#"{"eta": true}"#, "eta is true; it must be a point in time"),
            (r#"{"delay": 1, "eta": 1}"#, "delay and eta are both given"),
            (r#"{"retry": {"bas": 1}}"#, "retry is {\"bas\":1}; it must be an object such as"),
            (r#"{"tags": "a"}"#, "tags is \"a\"; it must be a list of texts"),
            (r#"{"metadata": {"a": 1}}"#, "metadata is {\"a\":1}; it must be a mapping from texts to texts"),
            (r#"{"on_conflict": "x"}"#, "on_conflict is \"x\"; it must be \"return\""),
            (r#"{"allow_unknown": 1}"#, "allow_unknown is 1; it must be true or false"),
        ] {
            let error = read(text, NOW).unwrap_err();
            assert!(error.message().starts_with(message), "{text}: {error}");
        }
    }
}
