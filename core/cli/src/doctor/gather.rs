//! What a doctor looks at.

use std::path::Path;

use taskloom_model::{Error, Name, Result, Row, Spec, State, Timestamp};
use taskloom_store::{Counts, Filter, Nobody, Owner, Store, Unserved};

use crate::session::Session;

/// How many tasks of one kind are looked at one by one.
const LOOKED_AT: usize = 10_000;

/// What is known of a store, and of those who work on it, at one moment.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) now: Timestamp,
    pub(super) version: &'static str,
    pub(super) runtime: String,
    pub(super) kind: &'static str,
    pub(super) place: String,
    /// Bytes of the store's file, and of the log beside it.
    pub(super) size: Option<(u64, u64)>,
    /// Bytes that are free where the file is.
    pub(super) free: Option<u64>,
    pub(super) check: Result<()>,
    pub(super) damaged: Vec<Error>,
    pub(super) owners: Vec<Owner>,
    pub(super) queues: Vec<(Name, Counts)>,
    pub(super) paused: Vec<Name>,
    pub(super) unserved: Vec<Unserved>,
    pub(super) running: Vec<(Spec, Row)>,
    /// Those that wait for a time, or for their backoff.
    pub(super) waiting: Vec<(Spec, Row)>,
    /// When the newest task was submitted.
    pub(super) newest: Option<Timestamp>,
}

/// Looks at everything.
///
/// Errors: those of opening the store, and of reading it.
pub(super) fn gather(session: &Session<'_>) -> Result<Facts> {
    let store = session.store()?;
    let file = session.file();
    while store.examine()? {}
    let newest = store.list(&Filter { newest_first: true, limit: 1, ..Filter::default() }, &Nobody)?;
    let queues = store.queue_counts()?;
    let mut counts = Counts::default();
    queues.iter().for_each(|(_, some)| counts.add_all(*some));
    let mut waiting = in_state(&*store, &counts, State::Pending)?;
    waiting.extend(in_state(&*store, &counts, State::Retrying)?);
    Ok(Facts {
        now: session.now(),
        version: env!("CARGO_PKG_VERSION"),
        runtime: session.host.runtime(),
        kind: store.kind(),
        place: file.as_deref().map_or_else(|| session.url().map(str::to_owned), |file| Ok(shown(file)))?,
        size: file.as_deref().map(|file| (size_of(file), size_of(&beside(file, "-wal")))),
        free: file.as_deref().and_then(free),
        check: store.check(),
        damaged: store.damaged()?,
        owners: store.owners()?,
        queues,
        paused: store.paused()?,
        unserved: store.unserved()?,
        running: in_state(&*store, &counts, State::Running)?,
        waiting,
        newest: newest.first().map(|task| task.spec().created),
    })
}

fn shown(file: &Path) -> String {
    std::path::absolute(file).unwrap_or_else(|_| file.to_owned()).display().to_string()
}

fn beside(file: &Path, suffix: &str) -> std::path::PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn size_of(file: &Path) -> u64 {
    std::fs::metadata(file).map_or(0, |about| about.len())
}

/// The first tasks in a state; none are looked for where there are none.
fn in_state(store: &dyn Store, counts: &Counts, state: State) -> Result<Vec<(Spec, Row)>> {
    if counts.get(state) == 0 {
        return Ok(Vec::new());
    }
    let limit = LOOKED_AT.min(usize::try_from(counts.get(state)).unwrap_or(LOOKED_AT));
    let filter = Filter { state: Some(state), limit, ..Filter::default() };
    let tasks = store.list(&filter, &Nobody)?;
    Ok(tasks.iter().map(|task| (task.spec().clone(), task.with_row(Clone::clone))).collect())
}

/// Bytes that are free for us where a file is.
#[cfg(unix)]
fn free(file: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(file).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(not(unix))]
fn free(_: &Path) -> Option<u64> {
    None
}
