//! Schedules in the file: their table and its statements. What a change of one does is in [`crate::write`].
//!
//! `due` is [`ScheduleRow::look_at`], so that whether a schedule is due is one step down an index. `waiting` is a JSON
//! array of microseconds; NULL if nothing waits. What is asked for is JSON in `spec` (see [`crate::codec`]).
//!
//! # The end of a task
//! When a task that a schedule submitted ends, [`ENDED`] changes the schedule's row in that transaction. It says in SQL
//! what [`ScheduleOperation::Ended`](taskloom_model::ScheduleOperation::Ended) says in the model, so that a schedule's
//! row that makes no sense does not keep a task from ending; the conformance suite holds the two against each other.

use rusqlite::{Connection, OptionalExtension, Row as Stored, params};
use taskloom_model::{Code, Error, ScheduleRow, TaskId, Timestamp};
use taskloom_store::DueSchedules;

use crate::codec;
use crate::failure::Place;
use crate::rows::Fault;

/// A step of [`crate::tables`].
pub(crate) const CREATE: &str = "
CREATE TABLE schedules (
    name TEXT PRIMARY KEY,
    due INTEGER,
    enabled INTEGER NOT NULL,
    created INTEGER NOT NULL,
    anchor INTEGER NOT NULL,
    next INTEGER,
    next_due INTEGER,
    last INTEGER,
    last_task BLOB,
    live BLOB,
    waiting TEXT,
    runs INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    skipped INTEGER NOT NULL,
    handler TEXT NOT NULL,
    payload BLOB NOT NULL,
    spec TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX schedule_alarm ON schedules (due) WHERE due IS NOT NULL;
CREATE VIEW taskloom_schedules AS SELECT
    name,
    coalesce(spec ->> '$.rule.cron.expression',
        'every ' || (spec ->> '$.rule.every.secs' + spec ->> '$.rule.every.nanos' / 1e9) || 's',
        'once') AS rule,
    spec ->> '$.rule.cron.tz' AS tz,
    handler,
    enabled,
    runs,
    failures,
    skipped,
    strftime('%Y-%m-%dT%H:%M:%S', next / 1000000, 'unixepoch') || printf('.%06dZ', next % 1000000) AS next,
    strftime('%Y-%m-%dT%H:%M:%S', last / 1000000, 'unixepoch') || printf('.%06dZ', last % 1000000) AS last,
    CAST(payload AS TEXT) AS payload
FROM schedules;
";

macro_rules! columns {
    () => {
        "name, due, enabled, created, anchor, next, next_due, last, last_task, live, waiting, runs, failures, \
         skipped, handler, payload, spec"
    };
}

const ALL: &str = concat!("SELECT ", columns!(), " FROM schedules ORDER BY name");
const ONE: &str = concat!("SELECT ", columns!(), " FROM schedules WHERE name = ?1");
const DUE: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM schedules INDEXED BY schedule_alarm WHERE due <= ?1 ORDER BY due, name LIMIT ?2"
);
const NEXT_DUE: &str = "SELECT min(due) FROM schedules INDEXED BY schedule_alarm WHERE due IS NOT NULL";
const NEXT_AFTER: &str = "SELECT due FROM schedules INDEXED BY schedule_alarm WHERE due IS NOT NULL \
     ORDER BY due, name LIMIT 1 OFFSET ?1";
const WRITE: &str = concat!(
    "INSERT OR REPLACE INTO schedules (",
    columns!(),
    ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)"
);
const REMOVE: &str = "DELETE FROM schedules WHERE name = ?1";

/// Nothing is written where nothing changes.
pub(crate) const ENDED: &str = "UPDATE schedules SET failures = failures + ?3, \
     due = CASE WHEN live IS ?2 AND enabled AND waiting IS NOT NULL THEN waiting ->> 0 ELSE due END, \
     live = CASE WHEN live IS ?2 THEN NULL ELSE live END WHERE name = ?1 AND (live IS ?2 OR ?3 > 0)";

fn column<T: rusqlite::types::FromSql>(stored: &Stored<'_>, index: usize) -> Result<T, Error> {
    stored.get(index).map_err(|cause| {
        let name = stored.as_ref().column_name(index).unwrap_or("a column").to_owned();
        Error::new(Code::CorruptRow, format!("its {name} cannot be read: {cause}")).caused_by(cause)
    })
}

fn read(stored: &Stored<'_>) -> Result<ScheduleRow, Error> {
    let time = |index| Ok::<_, Error>(column::<Option<i64>>(stored, index)?.map(Timestamp::from_micros));
    let task = |index| Ok::<_, Error>(column::<Option<[u8; 16]>>(stored, index)?.map(TaskId::from_bytes));
    let sure = |index| Ok::<_, Error>(Timestamp::from_micros(column(stored, index)?));
    let count = |index| Ok::<_, Error>(i64::cast_unsigned(column(stored, index)?));
    let waiting: Option<String> = column(stored, 10)?;
    let waiting: Vec<i64> = match waiting {
        Some(text) => serde_json::from_str(&text).map_err(|cause| {
            Error::new(Code::CorruptRow, format!("what waits cannot be read: {cause}")).caused_by(cause)
        })?,
        None => Vec::new(),
    };
    let payload: Vec<u8> = column(stored, 15)?;
    let spec: String = column(stored, 16)?;
    Ok(ScheduleRow {
        spec: codec::decode_schedule(&spec, column(stored, 0)?, column(stored, 14)?, payload.into())?,
        enabled: column(stored, 2)?,
        created: sure(3)?,
        anchor: sure(4)?,
        next: time(5)?,
        due: time(6)?,
        last: time(7)?,
        last_task: task(8)?,
        live: task(9)?,
        waiting: waiting.into_iter().map(Timestamp::from_micros).collect(),
        runs: count(11)?,
        failures: count(12)?,
        skipped: count(13)?,
    })
}

fn named(stored: &Stored<'_>, place: &Place) -> Result<Result<ScheduleRow, Error>, rusqlite::Error> {
    Ok(read(stored).map_err(|error| match stored.get::<_, String>(0) {
        Ok(name) => place.corrupt_schedule(&name, error),
        Err(_) => place.corrupt_somewhere(error),
    }))
}

/// All schedules, by name.
pub(crate) fn all(conn: &Connection, place: &Place) -> Result<Result<Vec<ScheduleRow>, Error>, Fault> {
    let mut statement = conn.prepare_cached(ALL)?;
    let found = statement.query_map([], |stored| named(stored, place))?;
    Ok(found.collect::<Result<Result<_, _>, _>>()?)
}

/// One of them.
pub(crate) fn one(
    conn: &Connection,
    name: &str,
    place: &Place,
) -> Result<Result<Option<ScheduleRow>, Error>, Fault> {
    let found = conn.prepare_cached(ONE)?.query_row([name], |stored| named(stored, place)).optional()?;
    Ok(found.transpose())
}

/// Those that are due. One that makes no sense is left out: it must not hold up the others.
pub(crate) fn due(
    conn: &Connection,
    limit: usize,
    now: Timestamp,
    place: &Place,
) -> Result<DueSchedules, Fault> {
    let next = |sql: &str, parameters: &[i64]| {
        let mut statement = conn.prepare_cached(sql)?;
        let next = statement
            .query_row(rusqlite::params_from_iter(parameters), |stored| stored.get::<_, Option<i64>>(0))
            .optional()?;
        Ok::<_, Fault>(next.flatten().map(Timestamp::from_micros))
    };
    let first = next(NEXT_DUE, &[])?;
    if first.is_none_or(|first| first > now) {
        return Ok(DueSchedules { rows: Vec::new(), next: first });
    }
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = conn.prepare_cached(DUE)?;
    let found = statement.query_map(params![now.micros(), limit], |stored| named(stored, place))?;
    let found: Vec<Result<ScheduleRow, Error>> = found.collect::<Result<_, _>>()?;
    let next = next(NEXT_AFTER, &[i64::try_from(found.len()).unwrap_or(i64::MAX)])?;
    Ok(DueSchedules { rows: found.into_iter().flatten().collect(), next })
}

/// Writes a row, new or not.
pub(crate) fn write(conn: &Connection, row: &ScheduleRow, spec: &str) -> Result<(), Fault> {
    let waiting: Vec<i64> = row.waiting.iter().map(|tick| tick.micros()).collect();
    let waiting = (!waiting.is_empty()).then(|| format!("{waiting:?}").replace(' ', ""));
    conn.prepare_cached(WRITE)?.execute(params![
        row.spec.name,
        row.look_at().map(Timestamp::micros),
        row.enabled,
        row.created.micros(),
        row.anchor.micros(),
        row.next.map(Timestamp::micros),
        row.due.map(Timestamp::micros),
        row.last.map(Timestamp::micros),
        row.last_task.as_ref().map(|id| id.as_bytes()),
        row.live.as_ref().map(|id| id.as_bytes()),
        waiting,
        row.runs.cast_signed(),
        row.failures.cast_signed(),
        row.skipped.cast_signed(),
        row.spec.template.handler,
        &*row.spec.template.payload,
        spec,
    ])?;
    Ok(())
}

/// Takes a schedule away.
pub(crate) fn remove(conn: &Connection, name: &str) -> Result<(), Fault> {
    conn.prepare_cached(REMOVE)?.execute([name])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a schedule is due is asked all the time.
    #[test]
    fn what_is_due_is_found_by_its_index() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(CREATE).unwrap();
        for (sql, expected) in [
            (DUE, "SEARCH schedules USING INDEX schedule_alarm (due<?)"),
            (NEXT_DUE, "SEARCH schedules USING COVERING INDEX schedule_alarm (due>?)"),
            (NEXT_AFTER, "SEARCH schedules USING COVERING INDEX schedule_alarm (due>?)"),
            (ONE, "SEARCH schedules USING PRIMARY KEY (name=?)"),
            (ENDED, "SEARCH schedules USING PRIMARY KEY (name=?)"),
        ] {
            let mut statement = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let parameters = rusqlite::params_from_iter(vec![1; statement.parameter_count()]);
            let steps = statement.query_map(parameters, |stored| stored.get::<_, String>(3)).unwrap();
            let plan = steps.collect::<Result<Vec<_>, _>>().unwrap().join("; ");
            assert_eq!(plan, expected, "{sql}");
        }
    }
}
