//! What an operator does with an application. `App`'s methods in Python call these.

use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use taskloom_bridge::{self as bridge, Limit, limit_for};
use taskloom_engine::Engine;
use taskloom_model::{Code, Error, Name, Result, Timestamp};
use taskloom_store::Filter;

use crate::app::{NativeApp, read_options};
use crate::children::figures;
use crate::errors::to_python;
use crate::ffi::HangOnUnwind;
use crate::handle::TaskHandle;
use crate::ids::GivenId;
use crate::info::{HealthParts, health_of, stats_of};

/// Asks the engine outside Python: the answer may wait for the disk.
pub(crate) fn ask<T: Send>(
    app: &NativeApp,
    py: Python<'_>,
    what: impl FnOnce(&Arc<Engine>) -> Result<T> + Send,
) -> PyResult<T> {
    let engine = app.engine(py)?;
    HangOnUnwind::around(|| py.detach(|| what(&engine))).map_err(|error| to_python(py, &error))
}

fn parsed<T: std::str::FromStr<Err = taskloom_model::Error>>(
    py: Python<'_>,
    text: Option<&str>,
) -> PyResult<Option<T>> {
    text.map(str::parse).transpose().map_err(|error| to_python(py, &error))
}

/// Tasks by filter.
#[pyfunction(name = "_list")]
#[pyo3(signature = (app, *, state, queue, name, tag, unfinished, limit, after))]
#[expect(clippy::too_many_arguments, reason = "called from one place, which is ours")]
pub(crate) fn list(
    py: Python<'_>,
    app: &Bound<'_, NativeApp>,
    state: Option<&str>,
    queue: Option<&str>,
    name: Option<&str>,
    tag: Option<String>,
    unfinished: bool,
    limit: usize,
    after: Option<GivenId>,
) -> PyResult<Vec<TaskHandle>> {
    let filter = Filter {
        state: parsed(py, state)?,
        queue: queue.map(Name::new),
        name: name.map(Name::new),
        tag,
        unfinished,
        after: after.map(|id| id.0),
        limit,
        ..Filter::default()
    };
    let app = app.get();
    let found = ask(app, py, |engine| engine.list(&filter))?;
    Ok(found.into_iter().map(|handle| app.wrap(py, handle)).collect())
}

/// Cancels by filter; how many were.
#[pyfunction(name = "_cancel_all")]
#[pyo3(signature = (app, *, queue, name, tag, reason))]
pub(crate) fn cancel_all(
    py: Python<'_>,
    app: &Bound<'_, NativeApp>,
    queue: Option<&str>,
    name: Option<&str>,
    tag: Option<String>,
    reason: Option<&str>,
) -> PyResult<usize> {
    let filter = Filter { queue: queue.map(Name::new), name: name.map(Name::new), tag, ..Filter::default() };
    ask(app.get(), py, |engine| engine.cancel_all(&filter, reason))
}

/// Pauses a queue, or lets it go on; whether that was new.
#[pyfunction(name = "_set_paused")]
pub(crate) fn set_paused(
    py: Python<'_>,
    app: &Bound<'_, NativeApp>,
    queue: &str,
    paused: bool,
) -> PyResult<bool> {
    let queue = Name::new(queue);
    ask(app.get(), py, |engine| if paused { engine.pause(queue) } else { engine.resume(queue) })
}

/// Sets a limit, or takes it back; whether that was new.
#[pyfunction(name = "_limit")]
#[pyo3(signature = (app, *, name, queue, key, concurrency, rate))]
pub(crate) fn limit(
    py: Python<'_>,
    app: &Bound<'_, NativeApp>,
    name: Option<&str>,
    queue: Option<&str>,
    key: Option<String>,
    concurrency: Option<&Bound<'_, PyAny>>,
    rate: Option<&Bound<'_, PyAny>>,
) -> PyResult<bool> {
    let what = limit_for(name, queue, key);
    // As the options of a submit are read, and refused.
    let given = PyDict::new(py);
    given.set_item("concurrency", concurrency)?;
    given.set_item("rate", rate)?;
    let limit = read_options(py, Some(&given))?.limit();
    ask(app.get(), py, |engine| engine.limit(what, limit))
}

/// The limits that are set: handler, queue, key, concurrency, rate, whether the handler declares it.
#[pyfunction(name = "_limits")]
pub(crate) fn limits<'py>(py: Python<'py>, app: &Bound<'py, NativeApp>) -> PyResult<Bound<'py, PyList>> {
    let all = PyList::empty(py);
    for limit in ask(app.get(), py, |engine| bridge::limits(engine))? {
        let Limit { name, queue, key, concurrency, rate, declared } = limit;
        all.append((name, queue, key, concurrency, rate, declared))?;
    }
    Ok(all)
}

/// Cancels what waits in a queue; how many tasks.
#[pyfunction(name = "_purge")]
pub(crate) fn purge(py: Python<'_>, app: &Bound<'_, NativeApp>, queue: &str) -> PyResult<usize> {
    ask(app.get(), py, |engine| engine.purge(Name::new(queue)))
}

/// Replays one task, or dead letters by filter; how many.
#[pyfunction(name = "_replay")]
#[pyo3(signature = (app, id, *, state, queue, name, tag))]
pub(crate) fn replay(
    py: Python<'_>,
    app: &Bound<'_, NativeApp>,
    id: Option<GivenId>,
    state: Option<&str>,
    queue: Option<&str>,
    name: Option<&str>,
    tag: Option<String>,
) -> PyResult<usize> {
    if app.get().by_reference() {
        let message = "payloads=\"reference\": the arguments of a task are let go of when it ends, so it cannot be replayed";
        let error =
            Error::new(Code::NotSupported, message).hint("submit another one, or leave payloads as JSON");
        return Err(to_python(py, &error));
    }
    let (id, filter) = (id.map(|id| id.0), dead_letters(py, state, queue, name, tag)?);
    ask(app.get(), py, |engine| bridge::replay(engine, id, &filter))
}

/// Forgets one task that has ended, or dead letters by filter; how many.
#[pyfunction(name = "_discard")]
#[pyo3(signature = (app, id, *, state, queue, name, tag))]
pub(crate) fn discard(
    py: Python<'_>,
    app: &Bound<'_, NativeApp>,
    id: Option<GivenId>,
    state: Option<&str>,
    queue: Option<&str>,
    name: Option<&str>,
    tag: Option<String>,
) -> PyResult<usize> {
    let (id, filter) = (id.map(|id| id.0), dead_letters(py, state, queue, name, tag)?);
    ask(app.get(), py, |engine| bridge::discard(engine, id, &filter))
}

fn dead_letters(
    py: Python<'_>,
    state: Option<&str>,
    queue: Option<&str>,
    name: Option<&str>,
    tag: Option<String>,
) -> PyResult<Filter> {
    let (queue, name) = (queue.map(Name::new), name.map(Name::new));
    Ok(Filter { state: parsed(py, state)?, queue, name, tag, ..Filter::default() })
}

/// Forgets tasks that ended longer ago than so many seconds; how many.
#[pyfunction(name = "_sweep")]
pub(crate) fn sweep(py: Python<'_>, app: &Bound<'_, NativeApp>, older_than: f64) -> PyResult<usize> {
    let age = Duration::try_from_secs_f64(older_than).unwrap_or(Duration::MAX);
    ask(app.get(), py, |engine| engine.sweep(age))
}

/// Runs a task by hand.
#[pyfunction(name = "_run_now")]
pub(crate) fn run_now(py: Python<'_>, app: &Bound<'_, NativeApp>, id: GivenId) -> PyResult<TaskHandle> {
    let GivenId(id) = id;
    let app = app.get();
    let handle = ask(app, py, |engine| engine.run_now(id))?;
    Ok(app.wrap(py, handle))
}

/// The engine in figures.
#[pyfunction(name = "_stats")]
pub(crate) fn stats<'py>(py: Python<'py>, app: &Bound<'py, NativeApp>) -> PyResult<Bound<'py, PyDict>> {
    stats_of(py, &ask(app.get(), py, |engine| engine.stats())?)
}

/// The app's child processes in figures. None if there are none.
#[pyfunction(name = "_child_figures")]
pub(crate) fn child_figures<'py>(
    py: Python<'py>,
    app: &Bound<'py, NativeApp>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    app.get().processes().pool().map(|pool| figures(py, &pool)).transpose()
}

/// Whether all is well. None if there is no engine.
#[pyfunction(name = "_health")]
pub(crate) fn health(py: Python<'_>, app: &Bound<'_, NativeApp>) -> Option<HealthParts> {
    let engine = app.get().bridge().current()?;
    Some(HangOnUnwind::around(|| py.detach(|| health_of(engine.health()))))
}

/// The handlers: name, version, whether it is async, queue, retries, registered (microseconds since the epoch).
#[pyfunction(name = "_handlers")]
pub(crate) fn handlers<'py>(py: Python<'py>, app: &Bound<'py, NativeApp>) -> PyResult<Bound<'py, PyList>> {
    let all = PyList::empty(py);
    for entry in ask(app.get(), py, |engine| Ok(engine.handlers()))? {
        let is_async = matches!(entry.handler(), taskloom_engine::Handler::Asynchronous(_));
        let options = entry.options();
        all.append((
            entry.name().as_str(),
            entry.version().to_string(),
            is_async,
            entry.admission().queue().as_str(),
            options.retries.unwrap_or(0),
            Timestamp::micros(entry.registered()),
        ))?;
    }
    Ok(all)
}
