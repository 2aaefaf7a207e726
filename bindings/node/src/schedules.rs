//! Schedules: from JSON to the bridge, and as JSON. Times and spans of what is shown are in milliseconds.

use serde_json::{Value as Json, json};
use taskloom_bridge::{Value, change_schedule, new_schedule};
use taskloom_engine::Engine;
use taskloom_model::{CatchUp, Cron, Options, Overlap, Result, Rule, ScheduleRow, ScheduleSpec, Timestamp};

use crate::describe::{self, millis};
use crate::options::value_of;

fn values(asked: &Json) -> Vec<(String, Value)> {
    let named = asked["values"].as_object().into_iter().flatten();
    named.map(|(name, value)| (name.clone(), value_of(value))).collect()
}

/// A new schedule of a handler: `name`, `handler`, `payload`, `values`.
pub(crate) fn made(asked: &Json) -> Result<ScheduleSpec> {
    let text = |name: &str| asked[name].as_str().unwrap_or_default();
    let payload = Box::from(text("payload").as_bytes());
    new_schedule(text("name"), text("handler"), payload, Options::default(), &values(asked))
}

/// Does what is asked of a schedule; nothing if it is none of that.
pub(crate) fn answer(engine: &Engine, what: &str, asked: &Json) -> Option<Result<Json>> {
    let name = asked["name"].as_str().unwrap_or_default();
    Some(match what {
        "schedules" => engine.schedules().map(|all| all.iter().map(shown).collect()),
        "schedule" => engine.schedule(name).map(|row| row.as_ref().map_or(Json::Null, shown)),
        "updateSchedule" => update(engine, name, asked),
        "enableSchedule" => engine.enable_schedule(name).map(Json::from),
        "disableSchedule" => engine.disable_schedule(name).map(Json::from),
        "triggerSchedule" => engine.trigger_schedule(name).map(|handle| describe::task(handle.task())),
        "removeSchedule" => engine.remove_schedule(name).map(|_| Json::Null),
        "scheduleFirings" => {
            let count = asked["count"].as_u64().map_or(5, |count| usize::try_from(count).unwrap_or(5));
            engine.next_firings(name, count).map(|times| times.into_iter().map(millis).collect())
        }
        _ => return None,
    })
}

fn update(engine: &Engine, name: &str, asked: &Json) -> Result<Json> {
    let values = values(asked);
    let mut verdict = Ok(());
    let updated = engine.update_schedule(name, |spec| {
        let mut changed = spec.clone();
        verdict = change_schedule(&mut changed, &values);
        if verdict.is_ok() {
            if let Some(payload) = asked["payload"].as_str() {
                changed.template.payload = Box::from(payload.as_bytes());
            }
            *spec = changed;
        }
    });
    verdict.and(updated).map(|row| shown(&row))
}

/// The next times of a cron expression, in milliseconds since the epoch.
pub(crate) fn firings(expression: &str, tz: &str, start: f64, count: u32) -> Result<Vec<f64>> {
    let start = Timestamp::from_micros((start * 1e3) as i64);
    let times = Cron::new(expression, tz)?.firings(start, count as usize)?;
    Ok(times.into_iter().map(millis).collect())
}

fn shown(row: &ScheduleRow) -> Json {
    let spec = &row.spec;
    let (mut cron, mut tz, mut every, mut at) = (None, None, None, None);
    match &spec.rule {
        Rule::Cron { expression, tz: zone } => (cron, tz) = (Some(expression), Some(zone)),
        Rule::Every(interval) => every = Some(interval.as_secs_f64() * 1e3),
        Rule::Once(time) => at = Some(millis(*time)),
    }
    json!({
        "name": spec.name,
        "task": spec.template.handler,
        "input": describe::raw(&spec.template.payload),
        "queue": spec.template.options.queue.as_deref().unwrap_or(taskloom_model::DEFAULT_QUEUE),
        "cron": cron,
        "tz": tz,
        "every": every,
        "at": at,
        "overlap": match spec.overlap {
            Overlap::Skip => "skip",
            Overlap::Queue => "queue",
            Overlap::Replace => "replace",
        },
        "catchUp": match spec.catch_up {
            CatchUp::None => json!("none"),
            CatchUp::Last => json!("last"),
            CatchUp::All(most) => json!(most),
        },
        "jitter": spec.jitter.as_secs_f64() * 1e3,
        "enabled": row.enabled,
        "runs": row.runs,
        "failures": row.failures,
        "skipped": row.skipped,
        "waiting": row.waiting.len(),
        "lastTask": row.last_task.map(|id| id.to_string()),
        "start": spec.start.map(millis),
        "end": spec.end.map(millis),
        "created": millis(row.created),
        "next": row.next.map(millis),
        "last": row.last.map(millis),
    })
}
