//! Schedules. `App.cron`, `App.every`, `App.at` and `app.schedules` in Python call these.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use taskloom_bridge::{change_schedule, new_schedule};
use taskloom_model::{CatchUp, Code, Cron, Error, Overlap, Rule, ScheduleRow, Timestamp, Zone};

use crate::app::{NativeApp, read_values};
use crate::errors::to_python;
use crate::ffi::HangOnUnwind;
use crate::handle::TaskHandle;
use crate::operating::ask;
use crate::task::Task;

/// Makes a schedule of a task. `values` are its rule, its settings and the options of what it submits; the arguments of
/// that are checked and encoded as those of a submit.
#[pyfunction(name = "_put_schedule")]
pub(crate) fn put_schedule(
    py: Python<'_>,
    app: &Bound<'_, NativeApp>,
    task: &Bound<'_, Task>,
    name: &str,
    values: &Bound<'_, PyDict>,
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
) -> PyResult<()> {
    let own = task.get();
    if !own.is_of(app) {
        let error =
            Error::new(Code::InvalidSchedule, format!("task {:?} belongs to another app", own.handler()));
        return Err(to_python(
            py,
            &error.hint("make the schedule with the app that the task was registered with"),
        ));
    }
    own.check_no_tx(py, "what a schedule submits is no row of a transaction")?;
    let payload = own.encode(py, args, kwargs)?;
    let mut options = own.own_options();
    options.key = options.key.or(own.key(py, args, kwargs)?);
    let values = read_values(py, Some(values))?;
    let bridge = app.get().bridge();
    let put = || {
        let spec = new_schedule(name, own.handler(), payload, options, &values)?;
        bridge.schedule(spec)
    };
    // If there is an engine, this may wait for the disk.
    HangOnUnwind::around(|| py.detach(put)).map_err(|error| to_python(py, &error))
}

/// The payload of a task with these arguments.
#[pyfunction(name = "_encode_for")]
pub(crate) fn encode_for<'py>(
    py: Python<'py>,
    task: &Bound<'py, Task>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyBytes>> {
    Ok(PyBytes::new(py, &task.get().encode(py, args, kwargs)?))
}

/// All schedules, by name.
#[pyfunction(name = "_schedules")]
pub(crate) fn schedules<'py>(
    py: Python<'py>,
    app: &Bound<'py, NativeApp>,
) -> PyResult<Vec<Bound<'py, PyDict>>> {
    let rows = ask(app.get(), py, |engine| engine.schedules())?;
    rows.iter().map(|row| fields(py, row)).collect()
}

/// The schedule of this name.
#[pyfunction(name = "_schedule")]
pub(crate) fn schedule<'py>(
    py: Python<'py>,
    app: &Bound<'py, NativeApp>,
    name: &str,
) -> PyResult<Option<Bound<'py, PyDict>>> {
    let row = ask(app.get(), py, |engine| engine.schedule(name))?;
    row.map(|row| fields(py, &row)).transpose()
}

/// Changes a schedule; `payload` is the JSON of the arguments, None: as they were.
#[pyfunction(name = "_update_schedule")]
pub(crate) fn update_schedule<'py>(
    py: Python<'py>,
    app: &Bound<'py, NativeApp>,
    name: &str,
    values: &Bound<'py, PyDict>,
    payload: Option<Vec<u8>>,
) -> PyResult<Bound<'py, PyDict>> {
    let values = read_values(py, Some(values))?;
    let row = ask(app.get(), py, |engine| {
        let mut verdict = Ok(());
        let updated = engine.update_schedule(name, |spec| {
            let mut changed = spec.clone();
            verdict = change_schedule(&mut changed, &values);
            if verdict.is_ok() {
                if let Some(payload) = payload {
                    changed.template.payload = payload.into();
                }
                *spec = changed;
            }
        });
        verdict.and(updated)
    })?;
    fields(py, &row)
}

/// Lets a schedule fire, or stops it; whether that was new.
#[pyfunction(name = "_set_schedule_enabled")]
pub(crate) fn set_schedule_enabled(
    py: Python<'_>,
    app: &Bound<'_, NativeApp>,
    name: &str,
    enabled: bool,
) -> PyResult<bool> {
    ask(
        app.get(),
        py,
        |engine| {
            if enabled { engine.enable_schedule(name) } else { engine.disable_schedule(name) }
        },
    )
}

/// Submits a task of a schedule now.
#[pyfunction(name = "_trigger_schedule")]
pub(crate) fn trigger_schedule(
    py: Python<'_>,
    app: &Bound<'_, NativeApp>,
    name: &str,
) -> PyResult<TaskHandle> {
    let app = app.get();
    let handle = ask(app, py, |engine| engine.trigger_schedule(name))?;
    Ok(app.wrap(py, handle))
}

/// Takes a schedule away.
#[pyfunction(name = "_remove_schedule")]
pub(crate) fn remove_schedule(py: Python<'_>, app: &Bound<'_, NativeApp>, name: &str) -> PyResult<()> {
    ask(app.get(), py, |engine| engine.remove_schedule(name))?;
    app.get().bridge().forget_schedule(name);
    Ok(())
}

/// The next times of a schedule, in microseconds since the epoch.
#[pyfunction(name = "_schedule_firings")]
pub(crate) fn schedule_firings(
    py: Python<'_>,
    app: &Bound<'_, NativeApp>,
    name: &str,
    count: usize,
) -> PyResult<Vec<i64>> {
    let times = ask(app.get(), py, |engine| engine.next_firings(name, count))?;
    Ok(times.into_iter().map(Timestamp::micros).collect())
}

/// The next times of a cron expression, in microseconds since the epoch.
#[pyfunction(name = "_next_firings")]
pub(crate) fn next_firings(
    py: Python<'_>,
    expression: &str,
    tz: &str,
    start: i64,
    count: usize,
) -> PyResult<Vec<i64>> {
    let find = || Cron::new(expression, tz)?.firings(Timestamp::from_micros(start), count);
    let times = py.detach(find).map_err(|error| to_python(py, &error))?;
    Ok(times.into_iter().map(Timestamp::micros).collect())
}

/// A zone's name as the database writes it, and how far its clocks are ahead of UTC at a time, in seconds.
#[pyfunction(name = "_zone")]
pub(crate) fn zone(py: Python<'_>, name: &str, at: i64) -> PyResult<(String, i32)> {
    let zone = Zone::named(name).map_err(|error| to_python(py, &error))?;
    let offset = zone.offset(Timestamp::from_micros(at));
    Ok((zone.name().to_owned(), offset))
}

/// Every field of a schedule. Times are microseconds since the epoch, spans are seconds.
fn fields<'py>(py: Python<'py>, row: &ScheduleRow) -> PyResult<Bound<'py, PyDict>> {
    let spec = &row.spec;
    let (mut cron, mut tz, mut every, mut at) = (None, None, None, None);
    match &spec.rule {
        Rule::Cron { expression, tz: zone } => (cron, tz) = (Some(expression), Some(zone)),
        Rule::Every(interval) => every = Some(interval.as_secs_f64()),
        Rule::Once(time) => at = Some(time.micros()),
    }
    let all = PyDict::new(py);
    all.set_item("name", &spec.name)?;
    all.set_item("task", &spec.template.handler)?;
    all.set_item("payload", PyBytes::new(py, &spec.template.payload))?;
    all.set_item("queue", spec.template.options.queue.as_deref().unwrap_or(taskloom_model::DEFAULT_QUEUE))?;
    all.set_item("cron", cron)?;
    all.set_item("tz", tz)?;
    all.set_item("every", every)?;
    all.set_item("at", at)?;
    all.set_item(
        "overlap",
        match spec.overlap {
            Overlap::Skip => "skip",
            Overlap::Queue => "queue",
            Overlap::Replace => "replace",
        },
    )?;
    match spec.catch_up {
        CatchUp::None => all.set_item("catch_up", "none")?,
        CatchUp::Last => all.set_item("catch_up", "last")?,
        CatchUp::All(most) => all.set_item("catch_up", most)?,
    }
    all.set_item("jitter", spec.jitter.as_secs_f64())?;
    all.set_item("enabled", row.enabled)?;
    all.set_item("runs", row.runs)?;
    all.set_item("failures", row.failures)?;
    all.set_item("skipped", row.skipped)?;
    all.set_item("waiting", row.waiting.len())?;
    all.set_item("last_task", row.last_task.map(|id| id.to_string()))?;
    for (name, time) in [
        ("start", spec.start),
        ("end", spec.end),
        ("created", Some(row.created)),
        ("next", row.next),
        ("last", row.last),
    ] {
        all.set_item(name, time.map(Timestamp::micros))?;
    }
    Ok(all)
}
