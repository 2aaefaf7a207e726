//! The step of a relay: from rows to verdicts.

use std::collections::HashMap;
use std::sync::Arc;

use taskloom_engine::{Engine, HandlerEntry, Relayed};
use taskloom_model::{Admission, Code, Error, Kind, Result, Version};

use super::{Row, Submission};
use crate::App;
use crate::submit::in_place;

/// What became of a row.
#[derive(Debug)]
pub enum Verdict {
    /// Its task is in the store, now or already: the row is to be deleted.
    Done,
    /// It cannot become a task: the row is to be kept and marked with this.
    Refused(Error),
    /// Not now: the row is to be left as it is, and to be tried again.
    Later(Error),
}

/// A handler, as rows name it: name, version, whether it may be unknown.
type Wanted = (String, Option<Version>, bool);

/// Handlers that were looked up already: to ask the store for one of elsewhere may take a read.
type Known = HashMap<Wanted, std::result::Result<Arc<HandlerEntry>, Error>>;

/// Submits what rows ask for, each under its row's id: a verdict for each, in their order. A task with that id which is
/// there already was made by the same row before, so that is no error.
///
/// Errors: `ShutDown`, `Forked`; then nothing was submitted.
pub fn relay(engine: &Engine, rows: &[Row]) -> Result<Vec<Verdict>> {
    let mut known = Known::new();
    let read: Vec<_> = rows.iter().map(|row| read(engine, row, &mut known)).collect();
    let mut good = Vec::new();
    for (entry, admission, payload) in read.iter().flatten() {
        good.push(Relayed { entry, admission: admission.clone(), payload: payload.clone() });
    }
    let mut verdicts = engine.submit_each(good)?.into_iter();
    Ok(read
        .into_iter()
        .map(|read| match read.and_then(|_| verdicts.next().expect("a verdict for each")) {
            Ok(()) => Verdict::Done,
            Err(error) if error.code() == Code::DuplicateId => Verdict::Done,
            Err(error) if error.code().is_retryable() || error.kind() == Kind::ShutDown => {
                Verdict::Later(error)
            }
            // The store's own trouble is not the row's.
            Err(error) if error.kind() == Kind::StoreError => Verdict::Later(error),
            Err(error) => Verdict::Refused(error),
        })
        .collect())
}

impl App {
    /// The step of a relay: submits what rows of an outbox ask for, each under its row's id; a verdict for each, in their
    /// order. What is to be done with the rows is said there. Those that are refused are published (`outbox.refused`).
    ///
    /// Errors: `ShutDown`, `Forked`; then nothing was submitted.
    pub fn relay(&self, rows: &[Row]) -> Result<Vec<Verdict>> {
        let engine = &self.shared.engine;
        let verdicts = in_place(engine.is_durable(), || relay(engine, rows))?;
        for (row, verdict) in rows.iter().zip(&verdicts) {
            if let Verdict::Refused(error) = verdict {
                engine.publish_refused_row(&row.id, &row.name, error.code().as_str(), error.message());
            }
        }
        self.submitted()?;
        Ok(verdicts)
    }
}

fn read(engine: &Engine, row: &Row, known: &mut Known) -> Result<(Arc<HandlerEntry>, Admission, Box<[u8]>)> {
    let Submission { name, payload, options, allow_unknown } = row.read()?;
    let wanted = (name, options.version, allow_unknown);
    if !known.contains_key(&wanted) {
        let found = find(engine, &wanted);
        known.insert(wanted.clone(), found);
    }
    let entry = known[&wanted].as_ref().map_err(Error::duplicate)?;
    let admission = engine.admission_for(&options, entry)?;
    Ok((Arc::clone(entry), admission, payload))
}

fn find(engine: &Engine, (name, version, allow_unknown): &Wanted) -> Result<Arc<HandlerEntry>> {
    match version {
        Some(version) if engine.has_handler(name) => engine.handler_version(name, *version),
        _ => engine.handler_anywhere(name, *allow_unknown),
    }
}
