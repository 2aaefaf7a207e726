//! Rows of the file to rows of the model, and back.
//!
//! Whatever the file says that the model does not know is `CorruptRow`: no default ever stands in for it, since the
//! next change would write the default down.

use std::io;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::types::FromSql;
use rusqlite::{CachedStatement, Row as Stored, params};
use taskloom_model::{
    Code, Error, Fence, Name, OwnerId, Priority, Rare, Row, Spec, State, TaskId, Timestamp, WaitingFor,
    next_due,
};
use taskloom_store::Task;

use crate::codec;
use crate::schema::ROW_COLUMNS;

/// Why a statement could not do its work.
pub(crate) enum Fault {
    /// SQLite failed.
    Sqlite(rusqlite::Error),
    /// This task's row makes no sense.
    Task(TaskId, Error),
    /// A file beside the store's could not be made or locked.
    Beside(PathBuf, io::Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(cause: rusqlite::Error) -> Self {
        Self::Sqlite(cause)
    }
}

/// A value of one column.
fn column<T: FromSql>(stored: &Stored<'_>, index: usize) -> Result<T, Error> {
    stored.get(index).map_err(|cause| {
        let name = stored.as_ref().column_name(index).unwrap_or("a column").to_owned();
        Error::new(Code::CorruptRow, format!("its {name} cannot be read: {cause}")).caused_by(cause)
    })
}

fn time(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

/// A state from its number.
pub(crate) fn read_state(stored: &Stored<'_>, index: usize) -> Result<State, Error> {
    State::from_number(column(stored, index)?)
}

/// An id from its sixteen bytes.
pub(crate) fn read_id(stored: &Stored<'_>, index: usize) -> Result<TaskId, rusqlite::Error> {
    stored.get(index).map(TaskId::from_bytes)
}

/// A row from the first columns of a statement.
pub(crate) fn read_row(stored: &Stored<'_>) -> Result<Row, Error> {
    let state = read_state(stored, 0)?;
    let owner: Option<i64> = column(stored, 7)?;
    let history: Option<&str> = text(stored, 12)?;
    match owner {
        None if state == State::Running => {
            return Err(Error::new(Code::CorruptRow, "it runs, and has no owner"));
        }
        Some(owner) if state != State::Running => {
            return Err(Error::new(Code::CorruptRow, format!("it is {state}, and has an owner, {owner}")));
        }
        _ => {}
    }
    Ok(Row {
        state,
        waiting_for: WaitingFor::from_number(column(stored, 1)?)?,
        crashes: column(stored, 2)?,
        generation: column(stored, 3)?,
        attempt: column(stored, 4)?,
        failures: column(stored, 5)?,
        unmet: column(stored, 6)?,
        owner: match owner {
            None => None,
            Some(number) => Some(read_owner(number)?),
        },
        eligible: time(column(stored, 8)?),
        updated: time(column(stored, 9)?),
        started: column::<Option<i64>>(stored, 10)?.map(time),
        finished: column::<Option<i64>>(stored, 11)?.map(time),
        history: history.map(codec::decode_history).transpose()?.map(Box::new),
        result: column::<Option<Vec<u8>>>(stored, 13)?.into(),
    })
}

/// Whether a task has a tag, from the columns of [`read_spec`] and those before.
pub(crate) fn has_tag(stored: &Stored<'_>, tag: &str) -> Result<bool, Error> {
    let rare = text(stored, ROW_COLUMNS + 7)?.map(codec::decode_rare).transpose()?;
    Ok(rare.is_some_and(|(_, rare)| rare.tags.iter().any(|known| known == tag)))
}

/// A spec from the columns after those of a row.
pub(crate) fn read_spec(id: TaskId, stored: &Stored<'_>) -> Result<Spec, Error> {
    const AT: usize = ROW_COLUMNS;
    let name = |index| Ok::<_, Error>(Name::new(text(stored, index)?.unwrap_or_default()));
    let timeout: Option<i64> = column(stored, AT + 4)?;
    let (eta, rare) = match text(stored, AT + 7)? {
        Some(json) => codec::decode_rare(json)?,
        None => (None, Rare::default()),
    };
    Ok(Spec {
        id,
        queue: name(AT)?,
        name: name(AT + 1)?,
        priority: Priority::from_number(column(stored, AT + 2)?)?,
        created: time(column(stored, AT + 3)?),
        timeout_micros: timeout.and_then(|micros| NonZeroU64::new(micros.cast_unsigned())),
        retries: column(stored, AT + 5)?,
        max_crashes: column(stored, AT + 6)?,
        eta,
        rare: (rare != Rare::default()).then(|| Box::new(rare)),
        payload: column::<Option<Vec<u8>>>(stored, AT + 8)?.unwrap_or_default().into(),
    })
}

/// A task from the columns of a row and those of a spec.
pub(crate) fn read_task(id: TaskId, stored: &Stored<'_>) -> Result<Arc<Task>, Error> {
    Ok(Task::new(read_spec(id, stored)?, read_row(stored)?, None))
}

/// A text, read in place.
fn text<'a>(stored: &'a Stored<'_>, index: usize) -> Result<Option<&'a str>, Error> {
    let value = stored.get_ref(index).ok().and_then(|value| value.as_str_or_null().ok());
    value.ok_or_else(|| {
        let name = stored.as_ref().column_name(index).unwrap_or("a column").to_owned();
        Error::new(Code::CorruptRow, format!("its {name} is not text"))
    })
}

/// An owner's number.
pub(crate) fn read_owner(number: i64) -> Result<OwnerId, Error> {
    u64::try_from(number)
        .ok()
        .and_then(OwnerId::new)
        .ok_or_else(|| Error::new(Code::CorruptRow, format!("owner {number} cannot be")))
}

fn micros(time: Option<Timestamp>) -> Option<i64> {
    time.map(Timestamp::micros)
}

fn number(owner: Option<OwnerId>) -> Option<i64> {
    owner.map(|owner| owner.get().cast_signed())
}

/// The row's history as it is stored.
pub(crate) fn history(row: &Row) -> Result<Option<String>, Error> {
    row.history.as_deref().map(codec::encode_history).transpose()
}

/// What is stored of a task beside its plain columns.
#[derive(Default)]
pub(crate) struct Beside<'a> {
    pub(crate) rare: Option<&'a str>,
    pub(crate) history: Option<&'a str>,
    /// The unique key, if it is the task's from the beginning.
    pub(crate) key: Option<&'a str>,
}

/// Runs [`crate::schema::INSERT`].
pub(crate) fn insert(
    statement: &mut CachedStatement<'_>,
    spec: &Spec,
    row: &Row,
    beside: &Beside<'_>,
) -> Result<(), rusqlite::Error> {
    statement.execute(params![
        spec.id.as_bytes().as_slice(),
        micros(next_due(spec, row)),
        row.state.number(),
        row.waiting_for.number(),
        row.crashes,
        row.generation,
        row.attempt,
        row.failures,
        row.unmet,
        number(row.owner),
        row.eligible.micros(),
        row.updated.micros(),
        micros(row.started),
        micros(row.finished),
        beside.history,
        row.result.as_deref(),
        spec.queue.as_str(),
        spec.name.as_str(),
        spec.priority.number(),
        spec.created.micros(),
        spec.timeout_micros.map(|span| span.get().cast_signed()),
        spec.retries,
        spec.max_crashes,
        beside.rare,
        &*spec.payload,
        beside.key,
        micros(spec.unique().and_then(|unique| unique.until)),
        spec.parent().map(|parent| parent.id.as_bytes().as_slice()),
        spec.key(),
    ])?;
    Ok(())
}

/// Whether [`insert_plain`] says all that there is to say.
pub(crate) fn is_plain_insert(spec: &Spec, row: &Row) -> bool {
    spec.rare.is_none()
        && spec.eta.is_none()
        && spec.timeout_micros.is_none()
        && *row
            == Row {
                state: State::Queued,
                waiting_for: WaitingFor::Nothing,
                crashes: 0,
                generation: 0,
                attempt: 0,
                failures: 0,
                unmet: 0,
                owner: None,
                eligible: spec.created,
                updated: spec.created,
                started: None,
                finished: None,
                result: Default::default(),
                history: None,
            }
}

/// Runs [`crate::schema::INSERT_PLAIN`].
pub(crate) fn insert_plain(statement: &mut CachedStatement<'_>, spec: &Spec) -> Result<(), rusqlite::Error> {
    statement.execute(params![
        spec.id.as_bytes().as_slice(),
        spec.created.micros(),
        spec.queue.as_str(),
        spec.name.as_str(),
        spec.priority.number(),
        spec.retries,
        spec.max_crashes,
        &*spec.payload,
    ])?;
    Ok(())
}

/// Whether [`update_step`] says all that has changed, if the task's alarm has not.
pub(crate) fn is_step(before: &Row, after: &Row) -> bool {
    (before.waiting_for, before.crashes, before.generation, before.failures, before.unmet)
        == (after.waiting_for, after.crashes, after.generation, after.failures, after.unmet)
        && (before.eligible, before.finished) == (after.eligible, after.finished)
        && (&before.result, &before.history) == (&after.result, &after.history)
}

/// Runs [`crate::schema::STEP`].
pub(crate) fn update_step(
    statement: &mut CachedStatement<'_>,
    seq: i64,
    row: &Row,
) -> Result<usize, rusqlite::Error> {
    statement.execute(params![
        seq,
        row.state.number(),
        row.attempt,
        number(row.owner),
        row.updated.micros(),
        micros(row.started),
    ])
}

/// Runs [`crate::schema::MOVE`].
pub(crate) fn update_state(
    statement: &mut CachedStatement<'_>,
    seq: i64,
    due: Option<Timestamp>,
    row: &Row,
) -> Result<usize, rusqlite::Error> {
    statement.execute(params![
        seq,
        row.state.number(),
        row.waiting_for.number(),
        row.crashes,
        row.generation,
        row.attempt,
        row.failures,
        row.unmet,
        number(row.owner),
        row.eligible.micros(),
        row.updated.micros(),
        micros(row.started),
        micros(row.finished),
        micros(due),
    ])
}

/// Runs [`crate::schema::CHANGE`].
pub(crate) fn update_all(
    statement: &mut CachedStatement<'_>,
    seq: i64,
    due: Option<Timestamp>,
    row: &Row,
    history: Option<&str>,
) -> Result<usize, rusqlite::Error> {
    statement.execute(params![
        seq,
        row.state.number(),
        row.waiting_for.number(),
        row.crashes,
        row.generation,
        row.attempt,
        row.failures,
        row.unmet,
        number(row.owner),
        row.eligible.micros(),
        row.updated.micros(),
        micros(row.started),
        micros(row.finished),
        micros(due),
        history,
        row.result.as_deref(),
    ])
}

/// Which attempt of which task a report is about.
#[derive(Clone, Copy)]
pub(crate) struct Attempt {
    pub(crate) id: TaskId,
    pub(crate) fence: Fence,
}

/// Runs [`crate::schema::REPORT`].
pub(crate) fn update_attempt(
    statement: &mut CachedStatement<'_>,
    of: Attempt,
    due: Option<Timestamp>,
    row: &Row,
    history: Option<&str>,
) -> Result<usize, rusqlite::Error> {
    statement.execute(params![
        of.id.as_bytes().as_slice(),
        number(Some(of.fence.owner)),
        of.fence.attempt,
        row.state.number(),
        row.waiting_for.number(),
        row.crashes,
        row.failures,
        number(row.owner),
        row.eligible.micros(),
        row.updated.micros(),
        micros(row.finished),
        micros(due),
        history,
        row.result.as_deref(),
    ])
}

/// Runs [`crate::schema::FINISH`].
pub(crate) fn finish_attempt(
    statement: &mut CachedStatement<'_>,
    of: Attempt,
    row: &Row,
) -> Result<usize, rusqlite::Error> {
    statement.execute(params![
        of.id.as_bytes().as_slice(),
        number(Some(of.fence.owner)),
        of.fence.attempt,
        row.state.number(),
        row.updated.micros(),
        row.result.as_deref(),
    ])
}
