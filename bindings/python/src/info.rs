//! A task with every field, and an engine in figures, as Python's own containers. `taskloom` makes classes of them.

use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use taskloom_engine::{Count, Figures, Health, Snapshot, Stats};
use taskloom_model::{State, Timestamp};
use taskloom_store::{Counts, Task};

use crate::context::metadata_of;

/// Every field of a task. Times are microseconds since the epoch.
pub(crate) fn info_of<'py>(py: Python<'py>, task: &Task) -> PyResult<Bound<'py, PyDict>> {
    let spec = task.spec();
    let row = task.with_row(Clone::clone);
    let rare = spec.rare.as_deref();
    let info = PyDict::new(py);
    info.set_item("id", spec.id.to_string())?;
    info.set_item("name", spec.name.as_str())?;
    info.set_item("queue", spec.queue.as_str())?;
    info.set_item("priority", spec.priority.as_str())?;
    info.set_item("state", row.state.as_str())?;
    let waiting = (row.state == State::Pending).then(|| row.waiting_for.as_str());
    info.set_item("waiting_for", waiting)?;
    info.set_item("version", spec.version())?;
    info.set_item("attempt", row.attempt)?;
    info.set_item("failures", row.failures)?;
    info.set_item("crashes", row.crashes)?;
    info.set_item("generation", row.generation)?;
    info.set_item("retries", spec.retries)?;
    info.set_item("max_crashes", spec.max_crashes)?;
    info.set_item("timeout", spec.timeout().map(|timeout| timeout.as_secs_f64()))?;
    info.set_item("tags", spec.tags())?;
    info.set_item("metadata", metadata_of(py, task)?)?;
    info.set_item("key", spec.key())?;
    info.set_item("unique_key", spec.unique().map(|unique| unique.key.as_str()))?;
    info.set_item("correlation_id", rare.and_then(|rare| rare.correlation_id.as_deref()))?;
    info.set_item("traceparent", rare.and_then(|rare| rare.traceparent.as_deref()))?;
    info.set_item("parent", spec.parent().map(|parent| parent.id.to_string()))?;
    info.set_item("schedule", spec.scheduled().map(|scheduled| scheduled.schedule.as_str()))?;
    info.set_item("tick", spec.scheduled().map(|scheduled| scheduled.tick.micros()))?;
    info.set_item("children", row.history.as_ref().map_or(0, |history| history.children))?;
    let reason = row.history.as_ref().and_then(|history| history.reason.as_deref());
    info.set_item("reason", reason)?;
    info.set_item("created", spec.created.micros())?;
    info.set_item("updated", row.updated.micros())?;
    let never = row.eligible == Timestamp::MAX;
    info.set_item("eligible", (!never).then(|| row.eligible.micros()))?;
    for (name, time) in [
        ("started", row.started),
        ("finished", row.finished),
        ("eta", spec.eta()),
        ("expires", spec.expires()),
        ("deadline", spec.deadline()),
    ] {
        info.set_item(name, time.map(Timestamp::micros))?;
    }
    Ok(info)
}

fn counts<'py>(py: Python<'py>, counts: &Counts) -> PyResult<Bound<'py, PyDict>> {
    let all = PyDict::new(py);
    for state in State::ALL {
        all.set_item(state.as_str(), counts.get(*state))?;
    }
    Ok(all)
}

fn seconds(span: Option<Duration>) -> Option<f64> {
    span.map(|span| span.as_secs_f64())
}

fn latency<'py>(py: Python<'py>, snapshot: &Snapshot) -> PyResult<Bound<'py, PyDict>> {
    let all = PyDict::new(py);
    all.set_item("count", snapshot.count())?;
    all.set_item("mean", seconds(snapshot.mean()))?;
    all.set_item("min", seconds(snapshot.min()))?;
    all.set_item("max", seconds(snapshot.max()))?;
    for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)] {
        all.set_item(name, seconds(snapshot.quantile(quantile)))?;
    }
    Ok(all)
}

fn figures<'py>(py: Python<'py>, figures: &Figures) -> PyResult<Bound<'py, PyDict>> {
    let all = PyDict::new(py);
    all.set_item("started", figures.started())?;
    for (name, count) in [
        ("succeeded", Count::Succeeded),
        ("failed", Count::Failed),
        ("retried", Count::Retried),
        ("timed_out", Count::TimedOut),
        ("cancelled", Count::Cancelled),
        ("expired", Count::Expired),
        ("released", Count::Released),
        ("late", Count::Late),
    ] {
        all.set_item(name, figures.of(count))?;
    }
    let [second, ten, sixty] = figures.per_second();
    all.set_item("throughput", (second, ten, sixty))?;
    all.set_item("wait", latency(py, &figures.wait)?)?;
    all.set_item("run", latency(py, &figures.run)?)?;
    Ok(all)
}

/// An engine in figures.
pub(crate) fn stats_of<'py>(py: Python<'py>, stats: &Stats) -> PyResult<Bound<'py, PyDict>> {
    let all = PyDict::new(py);
    all.set_item("at", stats.at.micros())?;
    all.set_item("tasks", counts(py, &stats.tasks)?)?;
    all.set_item("total", figures(py, &stats.total)?)?;
    let queues = PyDict::new(py);
    for queue in &stats.queues {
        let one = PyDict::new(py);
        one.set_item("tasks", counts(py, &queue.tasks)?)?;
        one.set_item("paused", queue.paused)?;
        one.set_item("figures", figures(py, &queue.figures)?)?;
        queues.set_item(queue.name.as_str(), one)?;
    }
    all.set_item("queues", queues)?;
    let handlers = PyDict::new(py);
    for handler in &stats.handlers {
        handlers.set_item(handler.name.as_str(), figures(py, &handler.figures)?)?;
    }
    all.set_item("handlers", handlers)?;
    let running = PyList::empty(py);
    for attempt in &stats.running {
        let one = PyDict::new(py);
        one.set_item("worker", attempt.worker)?;
        one.set_item("id", attempt.task.to_string())?;
        one.set_item("name", attempt.name.as_str())?;
        one.set_item("attempt", attempt.attempt)?;
        one.set_item("running_for", attempt.running_for.as_secs_f64())?;
        one.set_item("stuck", attempt.stuck)?;
        running.append(one)?;
    }
    all.set_item("running", running)?;
    for (name, value) in [
        ("workers", stats.workers),
        ("away", stats.away),
        ("stuck", stats.stuck),
        ("in_flight", stats.in_flight),
        ("subscribers", stats.subscribers),
    ] {
        all.set_item(name, value)?;
    }
    all.set_item("late_reports", stats.late_reports)?;
    let registry = PyDict::new(py);
    registry.set_item("names", stats.registry.names)?;
    registry.set_item("handlers", stats.registry.handlers)?;
    registry.set_item("namespaces", stats.registry.namespaces.clone())?;
    registry.set_item("last_registration", stats.registry.last_registration.map(Timestamp::micros))?;
    all.set_item("registry", registry)?;
    Ok(all)
}

/// ok, ready, problems, warnings, and queued tasks that nobody runs: name, count, since (microseconds since the epoch).
pub(crate) type HealthParts = (bool, bool, Vec<String>, Vec<String>, Vec<(String, u64, i64)>);

/// Whether all is well.
pub(crate) fn health_of(health: Health) -> HealthParts {
    let unserved = health.unserved.into_iter().map(|tasks| (tasks.name, tasks.count, tasks.since.micros()));
    (health.ok, health.ready, health.problems, health.warnings, unserved.collect())
}
