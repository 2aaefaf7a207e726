//! The parts of a task that are the same in JSON wherever it is told, but for how a time is written: by this command, and
//! to JavaScript by the npm package.

use serde_json::{Map, Value, json};
use taskloom_model::{Failure, History, Spec, State, Timestamp};
use taskloom_store::Counts;

/// JSON that somebody stored; what is none is text.
pub fn stored(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| String::from_utf8_lossy(bytes).into())
}

/// The errors of attempts.
pub fn failures<T: Into<Value>>(errors: &[Failure], time: impl Fn(Timestamp) -> T) -> Value {
    let one = |error: &Failure| {
        json!({
            "type": error.kind,
            "message": error.message,
            "traceback": error.backtrace,
            "attempt": error.attempt,
            "at": time(error.at).into(),
        })
    };
    errors.iter().map(one).collect()
}

/// What handlers have told of their progress, oldest first.
pub fn progress<T: Into<Value>>(history: Option<&History>, time: impl Fn(Timestamp) -> T) -> Value {
    let told = history.into_iter().flat_map(|history| &history.progress);
    told.map(|told| json!({"value": told.value, "message": told.message, "at": time(told.at).into()}))
        .collect()
}

/// The lines that handlers have logged, oldest first.
pub fn log<T: Into<Value>>(history: Option<&History>, time: impl Fn(Timestamp) -> T) -> Value {
    let lines = history.into_iter().flat_map(|history| &history.log);
    let one = |at: Value, level: &str, message: &str, attempt: u32| json!({"at": at, "level": level, "message": message, "attempt": attempt});
    lines.map(|line| one(time(line.at).into(), &line.level, &line.message, line.attempt)).collect()
}

/// What a submitter said about a task.
pub fn metadata(spec: &Spec) -> Value {
    let all = spec.rare.as_deref().into_iter().flat_map(|rare| &rare.metadata);
    all.map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect::<Map<_, _>>().into()
}

/// What a handler noted beside its result.
pub fn result_metadata(history: Option<&History>) -> Value {
    history.and_then(|history| history.result_metadata.as_deref()).map_or_else(|| json!({}), stored)
}

/// How many are in each state.
pub fn counts(counts: &Counts) -> Value {
    let one = |state: &State| (state.as_str().to_owned(), json!(counts.get(*state)));
    State::ALL.iter().map(one).collect::<Map<_, _>>().into()
}
