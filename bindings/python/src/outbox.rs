//! The native half of the outbox: submits as rows, rows as tasks. `taskloom.outbox` brings the database drivers.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};
use taskloom_bridge::{Dialect, OutboxRow, Placeholders, Statement, Verdict, relay_rows};
use taskloom_model::{Code, Error, Result};

use crate::app::{NativeApp, read_options};
use crate::errors::to_python;
use crate::ffi::HangOnUnwind;
use crate::operating::ask;
use crate::task::Task;

/// A row as Python binds it: id, name, payload, options, created.
type Columns = (String, String, String, Option<String>, i64);

fn columns(row: OutboxRow) -> Columns {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("what we write is UTF-8");
    (row.id, row.name, text(row.payload), row.options.map(text), row.created)
}

fn made(py: Python<'_>, make: impl FnOnce() -> Result<OutboxRow> + Send) -> PyResult<Columns> {
    // If there is an engine, this may ask the store.
    HangOnUnwind::around(|| py.detach(make)).map(columns).map_err(|error| to_python(py, &error))
}

/// The row for a call of a task.
#[pyfunction(name = "_outbox_row")]
pub(crate) fn outbox_row(
    py: Python<'_>,
    task: &Bound<'_, Task>,
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
) -> PyResult<Columns> {
    let own = task.get();
    let app = own.app().get();
    if app.by_reference() {
        let message = "payloads=\"reference\" keeps arguments as objects, and an outbox takes JSON";
        let error = Error::new(Code::InvalidOption, message);
        return Err(to_python(py, &error.hint("leave payloads out, or leave tx out")));
    }
    own.check_detached(py)?;
    let payload = own.encode(py, args, kwargs)?;
    let mut options = own.own_options();
    options.key = options.key.or(own.key(py, args, kwargs)?);
    let bridge = app.bridge();
    made(py, || bridge.outbox_row(own.handler(), &payload, &options, false))
}

/// The row for a handler that is not registered here; `payload` is JSON.
#[pyfunction(name = "_outbox_row_by_name")]
pub(crate) fn outbox_row_by_name(
    py: Python<'_>,
    app: &Bound<'_, NativeApp>,
    name: &str,
    payload: Vec<u8>,
    allow_unknown: bool,
    options: Option<&Bound<'_, PyDict>>,
) -> PyResult<Columns> {
    let options = read_options(py, options)?;
    let bridge = app.get().bridge();
    made(py, || bridge.outbox_row(name, &payload, &options, allow_unknown))
}

/// A text or bytes, as a driver gives a column; anything else as its text.
fn bytes(value: &Bound<'_, PyAny>) -> PyResult<Option<Vec<u8>>> {
    if value.is_none() {
        return Ok(None);
    }
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Some(bytes.as_bytes().to_vec()));
    }
    let text = match value.cast::<PyString>() {
        Ok(text) => text.clone(),
        Err(_) => value.str()?,
    };
    Ok(Some(text.encode_utf8()?.as_bytes().to_vec()))
}

fn text(value: &Bound<'_, PyAny>) -> PyResult<String> {
    Ok(bytes(value)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default())
}

/// What is said of a row: nothing if it is done; else whether it is refused for good, the code, the message, the hint.
type Said = Option<(bool, &'static str, String, Option<String>)>;

/// Submits what rows (id, name, payload, options, created) ask for; what is to be said of each. Those that are refused are
/// published. Raises `ShutDown`.
#[pyfunction(name = "_outbox_relay")]
pub(crate) fn outbox_relay(
    py: Python<'_>,
    app: &Bound<'_, NativeApp>,
    rows: Vec<Bound<'_, PyTuple>>,
) -> PyResult<Vec<Said>> {
    let read = |row: &Bound<'_, PyTuple>| -> PyResult<OutboxRow> {
        Ok(OutboxRow {
            id: text(&row.get_item(0)?)?,
            name: text(&row.get_item(1)?)?,
            payload: bytes(&row.get_item(2)?)?.unwrap_or_default(),
            options: bytes(&row.get_item(3)?)?,
            created: row.get_item(4)?.extract().unwrap_or_default(),
        })
    };
    let rows = rows.iter().map(read).collect::<PyResult<Vec<_>>>()?;
    let verdicts = ask(app.get(), py, |engine| relay_rows(engine, &rows))?;
    app.get().submitted(py)?;
    let say = |verdict| match verdict {
        Verdict::Done => None,
        Verdict::Refused(error) => Some((true, error)),
        Verdict::Later(error) => Some((false, error)),
    };
    let said = |(for_good, error): (bool, Error)| {
        (for_good, error.code().as_str(), error.message().to_owned(), error.hint_text().map(str::to_owned))
    };
    Ok(verdicts.into_iter().map(|verdict| say(verdict).map(said)).collect())
}

/// Publishes what a relay has to tell, if there is an engine: that a row was refused (its id, the handler's name, code and
/// message), that it is interrupted (why), or that it goes on.
#[pyfunction(name = "_outbox_tell")]
pub(crate) fn outbox_tell(
    py: Python<'_>,
    app: &Bound<'_, NativeApp>,
    refused: Vec<(String, String, String, String)>,
    interrupted: Option<&str>,
) {
    let Some(engine) = app.get().bridge().current() else { return };
    HangOnUnwind::around(|| {
        py.detach(|| {
            match interrupted {
                Some(error) => engine.publish_relay_interrupted(error),
                None if refused.is_empty() => engine.publish_relay_resumed(),
                None => {}
            }
            for (row, name, code, message) in &refused {
                engine.publish_refused_row(row, name, code, message);
            }
        });
    });
}

/// Whether the app's store is in this process's memory only.
#[pyfunction(name = "_is_in_memory")]
pub(crate) fn is_in_memory(app: &Bound<'_, NativeApp>) -> bool {
    app.get().bridge().settings().url.starts_with("memory:")
}

/// The statements that make the table.
#[pyfunction(name = "_outbox_schema")]
pub(crate) fn outbox_schema(dialect: &str) -> Option<Vec<&'static str>> {
    dialect_named(dialect).map(|dialect| dialect.schema().to_vec())
}

/// The statements on the table, by name, with placeholders in a style.
#[pyfunction(name = "_outbox_statements")]
pub(crate) fn outbox_statements<'py>(
    py: Python<'py>,
    dialect: &str,
    style: &str,
) -> PyResult<Option<Bound<'py, PyDict>>> {
    let style = Placeholders::ALL.into_iter().find(|known| known.as_str() == style);
    let (Some(dialect), Some(style)) = (dialect_named(dialect), style) else { return Ok(None) };
    let texts = PyDict::new(py);
    for statement in Statement::ALL {
        texts.set_item(statement.as_str(), statement.text(dialect, style))?;
    }
    Ok(Some(texts))
}

fn dialect_named(name: &str) -> Option<Dialect> {
    Dialect::ALL.into_iter().find(|dialect| dialect.as_str() == name)
}
