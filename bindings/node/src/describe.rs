//! Tasks and figures as JSON. Times and spans are in milliseconds, names in camel case: JavaScript takes them as they
//! are.

use std::time::Duration;

use serde_json::{Map, Value, json};
use taskloom_cli::parts::{self, counts};
use taskloom_engine::{Count, Engine, Figures, Handler, Health, Snapshot, Stats};
use taskloom_model::{Failure, State, Timestamp};
use taskloom_store::Task;

/// A time as JavaScript counts it.
pub(crate) fn millis(time: Timestamp) -> f64 {
    time.micros() as f64 / 1e3
}

fn span(span: Option<Duration>) -> Option<f64> {
    span.map(|span| span.as_secs_f64() * 1e3)
}

/// The errors of attempts.
pub(crate) fn failures(errors: &[Failure]) -> Value {
    parts::failures(errors, millis)
}

/// JSON that somebody stored, as JSON.
pub(crate) fn raw(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or(Value::Null)
}

/// Every field of a task.
pub(crate) fn task(task: &Task) -> Value {
    let spec = task.spec();
    let row = task.with_row(Clone::clone);
    let rare = spec.rare.as_deref();
    let history = row.history.as_deref();
    json!({
        "id": spec.id.to_string(),
        "name": spec.name.as_str(),
        "queue": spec.queue.as_str(),
        "priority": spec.priority.as_str(),
        "state": row.state.as_str(),
        "waitingFor": (row.state == State::Pending).then(|| row.waiting_for.as_str()),
        "version": spec.version(),
        "attempt": row.attempt,
        "failures": row.failures,
        "crashes": row.crashes,
        "generation": row.generation,
        "retries": spec.retries,
        "maxCrashes": spec.max_crashes,
        "timeout": span(spec.timeout()),
        "tags": spec.tags(),
        "metadata": parts::metadata(spec),
        "key": spec.key(),
        "uniqueKey": spec.unique().map(|unique| unique.key.as_str()),
        "correlationId": rare.and_then(|rare| rare.correlation_id.as_deref()),
        "traceparent": rare.and_then(|rare| rare.traceparent.as_deref()),
        "parent": spec.parent().map(|parent| parent.id.to_string()),
        "schedule": spec.scheduled().map(|scheduled| scheduled.schedule.as_str()),
        "tick": spec.scheduled().map(|scheduled| millis(scheduled.tick)),
        "children": history.map_or(0, |history| history.children),
        "reason": history.and_then(|history| history.reason.as_deref()),
        "created": millis(spec.created),
        "updated": millis(row.updated),
        "eligible": (row.eligible != Timestamp::MAX).then(|| millis(row.eligible)),
        "started": row.started.map(millis),
        "finished": row.finished.map(millis),
        "eta": spec.eta().map(millis),
        "expires": spec.expires().map(millis),
        "deadline": spec.deadline().map(millis),
        "errors": failures(row.errors()),
        "progress": parts::progress(history, millis),
        "log": parts::log(history, millis),
        "resultMetadata": parts::result_metadata(history),
    })
}

fn latency(snapshot: &Snapshot) -> Value {
    let at = |quantile| span(snapshot.quantile(quantile));
    json!({
        "count": snapshot.count(),
        "mean": span(snapshot.mean()),
        "min": span(snapshot.min()),
        "max": span(snapshot.max()),
        "p50": at(0.5),
        "p90": at(0.9),
        "p95": at(0.95),
        "p99": at(0.99),
    })
}

fn figures(figures: &Figures) -> Value {
    let [second, ten, sixty] = figures.per_second();
    json!({
        "started": figures.started(),
        "succeeded": figures.of(Count::Succeeded),
        "failed": figures.of(Count::Failed),
        "retried": figures.of(Count::Retried),
        "timedOut": figures.of(Count::TimedOut),
        "cancelled": figures.of(Count::Cancelled),
        "expired": figures.of(Count::Expired),
        "released": figures.of(Count::Released),
        "late": figures.of(Count::Late),
        "throughput": {"second": second, "tenSeconds": ten, "minute": sixty},
        "wait": latency(&figures.wait),
        "run": latency(&figures.run),
    })
}

/// An engine in figures.
pub(crate) fn stats(stats: &Stats) -> Value {
    let queues: Map<String, Value> = stats
        .queues
        .iter()
        .map(|queue| {
            let one = json!({
                "tasks": counts(&queue.tasks),
                "paused": queue.paused,
                "figures": figures(&queue.figures),
            });
            (queue.name.as_str().to_owned(), one)
        })
        .collect();
    let handlers: Map<String, Value> = stats
        .handlers
        .iter()
        .map(|handler| (handler.name.as_str().to_owned(), figures(&handler.figures)))
        .collect();
    let running: Vec<Value> = stats
        .running
        .iter()
        .map(|attempt| {
            json!({
                "id": attempt.task.to_string(),
                "name": attempt.name.as_str(),
                "attempt": attempt.attempt,
                "runningFor": attempt.running_for.as_secs_f64() * 1e3,
            })
        })
        .collect();
    json!({
        "at": millis(stats.at),
        "tasks": counts(&stats.tasks),
        "total": figures(&stats.total),
        "queues": queues,
        "handlers": handlers,
        "running": running,
        "inFlight": stats.in_flight,
        "lateReports": stats.late_reports,
        "subscribers": stats.subscribers,
        "registry": {
            "names": stats.registry.names,
            "handlers": stats.registry.handlers,
            "namespaces": stats.registry.namespaces,
            "lastRegistration": stats.registry.last_registration.map(millis),
        },
    })
}

/// Whether all is well.
pub(crate) fn health(health: &Health) -> Value {
    let unserved: Vec<Value> = health
        .unserved
        .iter()
        .map(|tasks| json!({"name": tasks.name, "count": tasks.count, "since": millis(tasks.since)}))
        .collect();
    json!({
        "ok": health.ok,
        "ready": health.ready,
        "problems": health.problems,
        "warnings": health.warnings,
        "unserved": unserved,
    })
}

/// What is registered.
pub(crate) fn handlers(engine: &Engine) -> Value {
    let one = |entry: &std::sync::Arc<taskloom_engine::HandlerEntry>| {
        json!({
            "name": entry.name().as_str(),
            "version": entry.version().to_string(),
            "kind": match entry.handler() {
                Handler::Blocking(_) => "blocking",
                Handler::Asynchronous(_) => "async",
                Handler::Pooled(_) => "pooled",
            },
            "queue": entry.admission().queue().as_str(),
            "retries": entry.options().retries.unwrap_or(0),
            "registered": millis(entry.registered()),
        })
    };
    engine.handlers().iter().map(one).collect()
}

/// Every kind of event.
pub(crate) fn catalog() -> Value {
    let one = |info: &taskloom_engine::EventInfo| {
        json!({
            "name": info.name,
            "category": info.category.to_string(),
            "description": info.description,
            "fired": info.fired,
            "schema": raw(info.schema().as_bytes()),
            "example": raw(info.example.as_bytes()),
        })
    };
    taskloom_engine::catalog().iter().map(one).collect()
}
