//! Errors as JSON: ours on their way to JavaScript, and a handler's on their way in.

use std::time::Duration;

use serde_json::{Value, json};
use taskloom_engine::{Failed, Handle, Outcome};
use taskloom_model::{Code, Error, Result};

use crate::describe::failures;

/// An error as `node/src/errors.ts` reads it.
pub(crate) fn error_json(error: &Error) -> Value {
    json!({
        "kind": format!("{:?}", error.kind()),
        "code": error.code().as_str(),
        "message": error.message(),
        "hint": error.hint_text(),
        "task": error.context().iter().find(|(key, _)| *key == "task").map(|(_, value)| value),
    })
}

/// The error that a task ended with: with every attempt's own, and the reason if it was cancelled.
pub(crate) fn outcome_json(handle: &Handle, error: &Error) -> Value {
    let mut all = error_json(error);
    if matches!(error.code(), Code::TaskFailed | Code::TaskTimedOut | Code::TaskCancelled) {
        handle.task().with_row(|row| {
            all["errors"] = failures(row.errors());
            all["reason"] = row.history.as_ref().and_then(|history| history.reason.clone()).into();
        });
    }
    all
}

/// What a handler threw, as `node/src/failures.ts` describes it.
pub(crate) fn failed(line: &str) -> Outcome {
    let told: Value = serde_json::from_str(line).unwrap_or(Value::Null);
    let text = |name: &str| told[name].as_str().unwrap_or_default().to_owned();
    let retry_after = told["retryAfter"].as_f64().and_then(millis);
    if let (Some(key), Some(wait)) = (told["key"].as_str(), retry_after) {
        return Outcome::Postponed { key: key.to_owned(), wait };
    }
    Outcome::Failed(Failed {
        kind: text("type"),
        message: text("message"),
        backtrace: text("stack"),
        permanent: told["permanent"].as_bool().unwrap_or(false),
        retry_after,
    })
}

/// A span from milliseconds.
pub(crate) fn millis(millis: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(millis / 1e3).ok()
}

/// JSON of ours that cannot be read: a mistake of ours.
pub(crate) fn parsed(line: &str) -> Result<Value> {
    serde_json::from_str(line).map_err(|error| {
        Error::new(Code::InvalidOption, format!("what the package asked cannot be read: {error}"))
    })
}

/// An error of ours as one that JavaScript makes a class of.
pub(crate) fn thrown(error: Error) -> napi::Error {
    napi::Error::from_reason(error_json(&error).to_string())
}

pub(crate) fn no_app() -> Error {
    Error::new(Code::ShutDown, "this app is gone")
}
