//! Options and settings from JSON. `node/src/options.ts` has given each its plain form: durations are seconds, times are
//! `{"at": microseconds}`, names are in snake case.

use serde_json::Value as Json;
use taskloom_bridge::{Settings, Value, set_option, settings_from};
use taskloom_model::{Options, Result};

use crate::failures::parsed;

/// What a submit says.
#[derive(Default)]
pub(crate) struct Said {
    /// The task's options.
    pub(crate) options: Options,
    /// Of a child: whether it outlives a parent that is cancelled.
    pub(crate) detached: bool,
    /// Of a name: whether it need not have been registered anywhere.
    pub(crate) allow_unknown: bool,
}

/// Reads what a submit says.
pub(crate) fn said_in(line: &str) -> Result<Said> {
    said_of(&parsed(line)?)
}

/// The same, from JSON that was read already.
fn said_of(json: &Json) -> Result<Said> {
    let mut said = Said::default();
    for (name, value) in json.as_object().into_iter().flatten() {
        match (name.as_str(), value) {
            ("detached", Json::Bool(given)) => said.detached = *given,
            ("allow_unknown", Json::Bool(given)) => said.allow_unknown = *given,
            _ => set_option(&mut said.options, name, &value_of(value))?,
        }
    }
    Ok(said)
}

/// Options of a task, from JSON that was read already.
pub(crate) fn options_of(json: &Json) -> Result<Options> {
    said_of(json).map(|said| said.options)
}

/// Settings of an application.
pub(crate) fn settings(url: &str, json: &Json) -> Result<Settings> {
    let values: Vec<_> = json
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| *name != "threads")
        .map(|(name, value)| (name.clone(), value_of(value)))
        .collect();
    let mut settings = settings_from(url, &values)?;
    // Handlers of JavaScript run in its own environments. A worker of the engine is what waits for a thread of the pool.
    settings.workers =
        Some(json["threads"].as_u64().and_then(|size| usize::try_from(size).ok()).unwrap_or(1));
    Ok(settings)
}

/// A value of an option.
pub(crate) fn value_of(json: &Json) -> Value {
    match json {
        Json::Null => Value::None,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Value::Int(whole),
            None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(items) => {
            let texts: Option<Vec<_>> = items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
            texts.map_or_else(|| Value::Other("array".into()), Value::Texts)
        }
        Json::Object(fields) => {
            if let Some(at) = fields.get("at").and_then(Json::as_i64) {
                return Value::At(at);
            }
            let number = |name: &str| fields.get(name).and_then(Json::as_f64);
            if let (Some(base), Some(factor), Some(cap)) = (number("base"), number("factor"), number("cap")) {
                return Value::Retry { base, factor, cap };
            }
            let weights: Option<Vec<_>> =
                fields.iter().map(|(name, value)| Some((name.clone(), value.as_i64()?))).collect();
            let pairs: Option<Vec<_>> =
                fields.iter().map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect();
            match (weights, pairs) {
                (_, Some(pairs)) => Value::Pairs(pairs),
                (Some(weights), None) => Value::Weights(weights),
                (None, None) => Value::Other("object".into()),
            }
        }
    }
}
