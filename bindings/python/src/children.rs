//! Python's half of the pool of child processes (`@app.task(executor="process")`): what a child is started with, and
//! what its handlers ask of this process. The pool itself is [`taskloom_bridge::children`], the child's end is
//! [`crate::child`], what both import is `taskloom._children` and `taskloom._child`.
//!
//! Tasks and results pass by here without the global lock. It is taken to start a child, to tell it of a handler, and to
//! look at a task for a handler that asks how it is.

use std::process::Command;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use taskloom_bridge::children::wire::{Broken, Fields, Outgoing};
use taskloom_bridge::children::{
    Pool, PooledHandler, Reply, Trade, give, read_options, write_error, write_options,
};
use taskloom_engine::{Attempt, Engine, Handle};
use taskloom_model::{Code, Error, Options, Result};
use taskloom_store::Task;

use crate::entry;
use crate::errors::helper_in;
use crate::ffi;
use crate::handle::TaskHandle;
use crate::handler::Parts;
use crate::host::{keep_pickled, pickled_of};

/// What a handler in a child asks; `taskloom._remote` has the same numbers.
mod ask {
    pub(super) const SUBMIT: u8 = 1;
    pub(super) const WAIT: u8 = 2;
    pub(super) const LOOK: u8 = 3;
    pub(super) const CANCEL: u8 = 4;
    pub(super) const SAVE: u8 = 5;
    pub(super) const LOAD: u8 = 6;
    pub(super) const PUBLISH: u8 = 7;
    pub(super) const NOTE: u8 = 8;
}

/// How a child is to be submitted.
pub(crate) const DETACHED: u8 = 1;
const ALLOW_UNKNOWN: u8 = 2;

/// What the pool asks of Python.
pub(crate) struct PythonTrade;

/// Calls Python on a thread that keeps a child, and says what went wrong in words.
fn with_python<T>(call: impl FnOnce(Python<'_>) -> PyResult<T>) -> std::result::Result<T, String> {
    let called = entry::visit(|py, entry| {
        entry.host(py, || {
            call(py).map_err(|error| {
                let name = error.get_type(py).name().map(|name| name.to_string()).unwrap_or_default();
                let said = ffi::text_of(error.value(py)).unwrap_or_default();
                format!("{name}: {said}")
            })
        })
    });
    called.unwrap_or_else(|| Err("Python is at its end".into()))
}

impl Trade for PythonTrade {
    fn brief(&self) -> std::result::Result<(Command, Vec<u8>), String> {
        let (arguments, brief): (Vec<String>, Vec<u8>) =
            with_python(|py| ffi::call_with(&helper_in(py, "taskloom._children", "brief")?, ())?.extract())?;
        let (program, arguments) = arguments.split_first().ok_or("there is no interpreter to start")?;
        let mut command = Command::new(program);
        command.args(arguments);
        Ok((command, brief))
    }

    fn recipe(&self, handler: &PooledHandler) -> std::result::Result<Vec<u8>, String> {
        let parts = handler.own.downcast_ref::<Arc<Parts>>().ok_or("it is no handler of Python's")?;
        with_python(|py| {
            let recipe = helper_in(py, "taskloom._children", "recipe")?;
            let plan = parts.plan.get();
            let rules = parts.retry_rules.as_ref().map(|rules| rules.clone_ref(py));
            ffi::call_with(&recipe, (plan.name(), &parts.function, &parts.middleware, rules))?.extract()
        })
    }

    fn answer(&self, engine: &Arc<Engine>, attempt: &Attempt, what: u8, body: &[u8], reply: Reply) {
        let mut fields = Fields(body);
        let answered = match what {
            ask::SUBMIT => submit(engine, attempt, &mut fields),
            ask::WAIT => return wait(engine, &mut fields, reply),
            ask::LOOK => look(engine, &mut fields),
            ask::CANCEL => cancel(engine, &mut fields),
            ask::SAVE => save(attempt, &mut fields),
            ask::LOAD => Ok(load(attempt)),
            ask::PUBLISH => publish(attempt, &mut fields),
            ask::NOTE => note(attempt, &mut fields),
            _ => Err(broken(Broken)),
        };
        give(reply, answered);
    }

    fn failed(&self, task: &Arc<Task>, exception: &[u8]) {
        keep_pickled(task, exception);
    }
}

fn broken(_: Broken) -> Error {
    Error::new(Code::NotSupported, "the child asks what this process cannot read")
        .hint("a child is started with the package of its parent; was that replaced while it ran?")
}

/// A submit that a child process asks for, of a handler by its name; `payload` is the JSON of the arguments.
#[pyfunction(name = "_child_call")]
pub(crate) fn child_call<'py>(
    py: Python<'py>,
    name: &str,
    payload: &[u8],
    allow_unknown: bool,
    detached: bool,
    options: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyBytes>> {
    let flags = if allow_unknown { ALLOW_UNKNOWN } else { 0 } | (u8::from(detached) * DETACHED);
    Ok(PyBytes::new(py, &call(name, flags, None, &crate::app::read_options(py, Some(options))?, payload)))
}

/// A submit as a child process asks for it.
pub(crate) fn call(name: &str, flags: u8, key: Option<&str>, options: &Options, payload: &[u8]) -> Vec<u8> {
    let mut out = Outgoing::default();
    out.text(name);
    out.u8(flags);
    out.maybe(key, Outgoing::text);
    write_options(&mut out, options);
    out.bytes(payload);
    out.take()
}

fn submit(engine: &Arc<Engine>, attempt: &Attempt, fields: &mut Fields<'_>) -> Result<Vec<u8>> {
    let name = fields.text().map_err(broken)?;
    let flags = fields.u8().map_err(broken)?;
    let key = fields.maybe(Fields::text).map_err(broken)?;
    let options = read_options(fields).map_err(broken)?;
    let payload = fields.bytes().map_err(broken)?;
    let entry = match options.version {
        Some(version) => engine.handler_version(name, version)?,
        None => engine.handler_anywhere(name, flags & ALLOW_UNKNOWN != 0)?,
    };
    let mut admission = engine.admission_for(&options, &entry)?;
    if let Some(key) = key {
        admission = admission.with_key(key.to_owned())?;
    }
    let handle = attempt.submit(&entry, &admission, payload.into(), None, flags & DETACHED != 0)?;
    Ok(handle.id().to_string().into_bytes())
}

fn handle(engine: &Arc<Engine>, fields: &mut Fields<'_>) -> Result<Handle> {
    let id = fields.text().map_err(broken)?.parse()?;
    engine.get(id)?.ok_or_else(|| Error::new(Code::UnknownTask, format!("no task {id}")))
}

/// Answers when the task has ended.
fn wait(engine: &Arc<Engine>, fields: &mut Fields<'_>, reply: Reply) {
    let handle = match handle(engine, fields) {
        Ok(handle) => handle,
        Err(error) => return give(reply, Err(error)),
    };
    if !handle.is_done() {
        reply.lend(handle.needed());
    }
    let own = handle.clone();
    handle.observe(move |_| reply.give(true, outcome(&own)));
}

/// How a task has ended.
fn outcome(handle: &Handle) -> Vec<u8> {
    let (mut out, mut result) = (Outgoing::default(), Vec::new());
    match handle.read_outcome(&mut result) {
        Ok(()) => {
            out.u8(1);
            out.bytes(&result);
        }
        Err(error) => {
            out.u8(0);
            out.bytes(&write_error(&error));
            let (errors, reason) = handle.task().with_row(|row| {
                let reason = row.history.as_ref().and_then(|history| history.reason.clone());
                (row.errors().to_vec(), reason)
            });
            out.u32(errors.len() as u32);
            for error in errors {
                out.text(&error.kind);
                out.text(&error.message);
                out.text(&error.backtrace);
                out.u32(error.attempt);
                out.i64(error.at.micros());
            }
            out.maybe(reason.as_deref(), Outgoing::text);
            out.maybe(pickled_of(handle.task()), |out, exception| out.bytes(&exception));
        }
    }
    out.take()
}

fn look(engine: &Arc<Engine>, fields: &mut Fields<'_>) -> Result<Vec<u8>> {
    let handle = handle(engine, fields)?;
    with_python(|py| {
        let handle = Py::new(py, TaskHandle::new(handle, None))?;
        ffi::call_with(&helper_in(py, "taskloom._children", "look")?, (handle,))?.extract()
    })
    .map_err(|trouble| Error::new(Code::NotSupported, trouble))
}

fn cancel(engine: &Arc<Engine>, fields: &mut Fields<'_>) -> Result<Vec<u8>> {
    let handle = handle(engine, fields)?;
    let reason = fields.maybe(Fields::text).map_err(broken)?;
    Ok(vec![handle.cancel(reason)?.into()])
}

fn save(attempt: &Attempt, fields: &mut Fields<'_>) -> Result<Vec<u8>> {
    let value = fields.maybe(Fields::bytes).map_err(broken)?;
    attempt.save_checkpoint(value.map(Into::into))?;
    Ok(Vec::new())
}

fn load(attempt: &Attempt) -> Vec<u8> {
    let mut out = Outgoing::default();
    out.maybe(attempt.checkpoint(), |out, value| out.bytes(&value));
    out.take()
}

fn publish(attempt: &Attempt, fields: &mut Fields<'_>) -> Result<Vec<u8>> {
    attempt.publish(fields.text().map_err(broken)?, fields.text().map_err(broken)?)?;
    Ok(Vec::new())
}

fn note(attempt: &Attempt, fields: &mut Fields<'_>) -> Result<Vec<u8>> {
    attempt.note_result(fields.text().map_err(broken)?, fields.text().map_err(broken)?)?;
    Ok(Vec::new())
}

/// The pool in figures, for `taskloom._monitor`.
pub(crate) fn figures<'py>(py: Python<'py>, pool: &Pool) -> PyResult<Bound<'py, PyAny>> {
    let stats = pool.stats();
    let children: Vec<_> = stats
        .children
        .iter()
        .map(|child| {
            let memory = child.pid.and_then(taskloom_bridge::children::memory_of);
            let running = child.running.map(|id| id.to_string());
            (child.number, child.pid, child.doing.as_str(), child.tasks, child.in_hand, running, memory)
        })
        .collect();
    let make = helper_in(py, "taskloom._children", "figures")?;
    let totals = (stats.size, stats.started, stats.crashed, stats.killed, stats.retired, stats.trouble);
    ffi::call_with(&make, (totals, children))
}
