//! Tasks, queues and schedules as JSON. These shapes are part of the contract (docs/command-line.md): names may be added,
//! and none changes its meaning. Times are in UTC as RFC 3339 writes them, spans are in seconds.

use std::time::Duration;

use serde_json::{Value, json};
use taskloom_model::{CatchUp, DEFAULT_QUEUE, Overlap, Row, Rule, ScheduleRow, Spec, State, Timestamp};
use taskloom_store::Task;

use crate::parts;
pub(crate) use crate::parts::{counts, stored};

/// A time.
pub(crate) fn time(at: Timestamp) -> Value {
    if at == Timestamp::MAX { Value::Null } else { at.to_string().into() }
}

fn optional(at: Option<Timestamp>) -> Value {
    at.map_or(Value::Null, time)
}

fn seconds(span: Option<Duration>) -> Value {
    span.map_or(Value::Null, |span| span.as_secs_f64().into())
}

/// A task in a list.
pub(crate) fn summary(spec: &Spec, row: &Row) -> Value {
    let history = row.history.as_deref();
    json!({
        "id": spec.id.to_string(),
        "name": spec.name.as_str(),
        "queue": spec.queue.as_str(),
        "priority": spec.priority.as_str(),
        "state": row.state.as_str(),
        "waiting_for": (row.state == State::Pending).then(|| row.waiting_for.as_str()),
        "attempt": row.attempt,
        "failures": row.failures,
        "crashes": row.crashes,
        "generation": row.generation,
        "retries": spec.retries,
        "tags": spec.tags(),
        "created": time(spec.created),
        "updated": time(row.updated),
        "eligible": time(row.eligible),
        "started": optional(row.started),
        "finished": optional(row.finished),
        "reason": history.and_then(|history| history.reason.as_deref()),
        "error": row.errors().last().map(|last| json!({"type": last.kind, "message": last.message})),
        "progress": history.and_then(|history| history.newest_progress()).map(|newest| newest.value),
    })
}

/// Everything about a task.
pub(crate) fn task(task: &Task) -> Value {
    let spec = task.spec();
    let row = task.with_row(Clone::clone);
    let rare = spec.rare.as_deref();
    let history = row.history.as_deref();
    let mut all = summary(spec, &row);
    let more = json!({
        "version": spec.version(),
        "input": stored(&spec.payload),
        "result": row.result.as_deref().map(stored),
        "result_metadata": parts::result_metadata(history),
        "max_crashes": spec.max_crashes,
        "timeout": seconds(spec.timeout()),
        "eta": optional(spec.eta()),
        "expires": optional(spec.expires()),
        "deadline": optional(spec.deadline()),
        "metadata": parts::metadata(spec),
        "unique_key": spec.unique().map(|unique| unique.key.as_str()),
        "key": spec.key(),
        "correlation_id": rare.and_then(|rare| rare.correlation_id.as_deref()),
        "traceparent": rare.and_then(|rare| rare.traceparent.as_deref()),
        "parent": spec.parent().map(|parent| parent.id.to_string()),
        "children": history.map_or(0, |history| history.children),
        "schedule": spec.scheduled().map(|scheduled| scheduled.schedule.as_str()),
        "tick": optional(spec.scheduled().map(|scheduled| scheduled.tick)),
        "owner": row.owner.map(|owner| owner.get()),
        "errors": parts::failures(row.errors(), time),
        "progress": parts::progress(history, time),
        "log": parts::log(history, time),
        "log_dropped": history.map_or(0, |history| history.log_dropped),
    });
    if let (Value::Object(all), Value::Object(more)) = (&mut all, more) {
        all.extend(more);
    }
    all
}

/// The word for what happens when a firing comes while the last one's task runs.
pub(crate) fn overlap(overlap: Overlap) -> &'static str {
    match overlap {
        Overlap::Skip => "skip",
        Overlap::Queue => "queue",
        Overlap::Replace => "replace",
    }
}

/// A schedule.
pub(crate) fn schedule(row: &ScheduleRow) -> Value {
    let spec = &row.spec;
    let (mut cron, mut tz, mut every, mut at) = (None, None, None, None);
    match &spec.rule {
        Rule::Cron { expression, tz: zone } => (cron, tz) = (Some(expression), Some(zone)),
        Rule::Every(interval) => every = Some(interval.as_secs_f64()),
        Rule::Once(time) => at = Some(*time),
    }
    json!({
        "name": spec.name,
        "task": spec.template.handler,
        "input": stored(&spec.template.payload),
        "queue": spec.template.options.queue.as_deref().unwrap_or(DEFAULT_QUEUE),
        "cron": cron,
        "tz": tz,
        "every": every,
        "at": optional(at),
        "overlap": overlap(spec.overlap),
        "catch_up": match spec.catch_up {
            CatchUp::None => json!("none"),
            CatchUp::Last => json!("last"),
            CatchUp::All(most) => json!(most),
        },
        "jitter": spec.jitter.as_secs_f64(),
        "start": optional(spec.start),
        "end": optional(spec.end),
        "enabled": row.enabled,
        "created": time(row.created),
        "next": optional(row.next),
        "last": optional(row.last),
        "last_task": row.last_task.map(|id| id.to_string()),
        "runs": row.runs,
        "failures": row.failures,
        "skipped": row.skipped,
        "waiting": row.waiting.len(),
    })
}
