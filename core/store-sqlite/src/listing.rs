//! Lists of tasks, in the order of their ids.
//!
//! # Two ways to go
//! The index of ids has the order, and each row is one lookup from it. Where many tasks fit a filter, that is the way: the
//! list is full after a few steps. Where few fit (the failed ones among a million that succeeded), it would go to every row by
//! way of the index, which takes four times as long as reading them in the order in which they lie. So the index is followed
//! for a stretch, and if the list is not full then, what is beyond it is found by one pass over the table, of which only the
//! first are kept.
//!
//! An index of states would answer at once, and every task that starts or ends would have to keep it.

use std::sync::Arc;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params_from_iter};
use taskloom_model::{State, TaskId, Timestamp};
use taskloom_store::{Filter, Residents, Task};

use crate::rows::{self, Fault};
use crate::schema;

/// How many ids are looked at for each task that is wanted before the table is read instead.
const WALKED: usize = 200;

/// The shortest and the longest stretch.
const STRETCH: std::ops::RangeInclusive<usize> = 10_000..=100_000;

/// A task, and whether somebody in this process holds it.
pub(crate) type Found = (Arc<Task>, bool);

/// The tasks that a filter fits.
pub(crate) fn list(
    conn: &Connection,
    filter: &Filter,
    residents: &dyn Residents,
) -> Result<Vec<Found>, Fault> {
    let stretch = filter.limit.saturating_mul(WALKED).clamp(*STRETCH.start(), *STRETCH.end());
    within(conn, filter, residents, stretch)
}

/// Where a list begins and ends, as SQLite compares ids.
struct Range {
    from: Vec<u8>,
    to: Vec<u8>,
}

fn within(
    conn: &Connection,
    filter: &Filter,
    residents: &dyn Residents,
    stretch: usize,
) -> Result<Vec<Found>, Fault> {
    // Before every id, and after.
    let (mut from, mut to) = (Vec::new(), vec![u8::MAX; 17]);
    if filter.newest_first {
        std::mem::swap(&mut from, &mut to);
    }
    if let Some(after) = filter.after {
        from = after.as_bytes().to_vec();
    }
    let mut found = Vec::new();
    let whole = Range { from, to };
    let narrows = !filter.takes_any_state() || filter.queue.is_some() || filter.name.is_some();
    let end = if filter.changed_since.is_some() || !narrows || filter.limit == 0 {
        None
    } else {
        end_of_stretch(conn, filter, &whole.from, stretch)?
    };
    let scans = filter.changed_since.is_some();
    let Some(end) = end else {
        read(conn, filter, residents, &whole, scans, &mut found)?;
        return Ok(found);
    };
    let first = Range { from: whole.from, to: end.clone() };
    read(conn, filter, residents, &first, false, &mut found)?;
    if found.len() < filter.limit {
        read(conn, filter, residents, &Range { from: end, to: whole.to }, true, &mut found)?;
    }
    Ok(found)
}

/// The id so many places on, if there is one.
fn end_of_stretch(
    conn: &Connection,
    filter: &Filter,
    from: &[u8],
    stretch: usize,
) -> Result<Option<Vec<u8>>, rusqlite::Error> {
    let sql = if filter.newest_first { schema::PLACE_NEWEST_FIRST } else { schema::PLACE };
    let places = i64::try_from(stretch).unwrap_or(i64::MAX);
    conn.prepare_cached(sql)?.query_row((from, places), |stored| stored.get(0)).optional()
}

/// Adds the tasks of a range until there are as many as are wanted.
fn read(
    conn: &Connection,
    filter: &Filter,
    residents: &dyn Residents,
    range: &Range,
    scans: bool,
    found: &mut Vec<Found>,
) -> Result<(), Fault> {
    let sql = match (filter.newest_first, scans) {
        (false, false) => schema::LIST,
        (true, false) => schema::LIST_NEWEST_FIRST,
        (false, true) => schema::LIST_SCANNING,
        (true, true) => schema::LIST_SCANNING_NEWEST_FIRST,
    };
    let text = |name: Option<&str>| name.map_or(Value::Null, |name| Value::Text(name.to_owned()));
    let mut values = vec![
        Value::Blob(range.from.clone()),
        filter.state.map_or(Value::Null, |state: State| Value::Integer(state.number().into())),
        text(filter.queue.map(|queue| queue.as_str())),
        text(filter.name.map(|name| name.as_str())),
        Value::Integer(filter.unfinished.into()),
        Value::Integer(filter.tag.is_some().into()),
        Value::Integer(filter.dead.into()),
        filter.changed_since.map_or(Value::Null, |since: Timestamp| Value::Integer(since.micros())),
        Value::Blob(range.to.clone()),
    ];
    if scans {
        // A tag is not seen by the statement: of those that have any, all are kept.
        let missing = filter.limit - found.len();
        let limit = if filter.tag.is_some() { -1 } else { i64::try_from(missing).unwrap_or(-1) };
        values.push(Value::Integer(limit));
    }
    let mut statement = conn.prepare_cached(sql)?;
    let mut stored = statement.query(params_from_iter(values))?;
    while found.len() < filter.limit
        && let Some(stored) = stored.next()?
    {
        let id: TaskId = rows::read_id(stored, schema::ROW_COLUMNS + schema::SPEC_COLUMNS)?;
        if let Some(tag) = &filter.tag
            && !rows::has_tag(stored, tag).map_err(|error| Fault::Task(id, error))?
        {
            continue;
        }
        found.push(match residents.resident(id) {
            Some(held) => (held, true),
            None => {
                let spec = rows::read_spec(id, stored).map_err(|error| Fault::Task(id, error))?;
                let row = rows::read_row(stored).map_err(|error| Fault::Task(id, error))?;
                (Task::new(spec, row, None), false)
            }
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use taskloom_model::Name;
    use taskloom_store::Nobody;

    use super::*;

    /// A table of tasks whose ids are not in the order in which they lie.
    fn table() -> Connection {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(schema::CREATE).unwrap();
        for number in 0..400_u32 {
            let id = TaskId::from_parts(u64::from(number * 7 % 400), [number as u8; 10]);
            let state = match number % 50 {
                0 => 5,
                1 => 7,
                2 => 1,
                _ => 4,
            };
            conn.execute(
                "INSERT INTO tasks (id, state, waiting_for, crashes, generation, attempt, failures, unmet, eligible, \
                 updated, queue, name, priority, created, retries, max_crashes, rare, payload) \
                 VALUES (?1, ?2, 0, 0, 0, 1, 0, 0, 1, ?3, ?4, 'job', 1, 1, 0, 3, ?5, x'7b7d')",
                rusqlite::params![
                    id.as_bytes().as_slice(),
                    state,
                    number,
                    if number % 3 == 0 { "mail" } else { "default" },
                    (number % 100 < 2).then_some(r#"{"v":1,"tags":["seldom"]}"#),
                ],
            )
            .unwrap();
        }
        conn
    }

    fn ids(conn: &Connection, filter: &Filter, stretch: usize) -> Vec<TaskId> {
        let found = match within(conn, filter, &Nobody, stretch) {
            Ok(found) => found,
            Err(Fault::Sqlite(cause)) => panic!("{cause}"),
            Err(Fault::Task(_, cause)) => panic!("{cause}"),
            Err(Fault::Beside(..)) => panic!("nothing is beside it"),
        };
        found.iter().map(|(task, _)| task.id()).collect()
    }

    /// However far the index is followed, a list is the same.
    #[test]
    fn both_ways_lead_to_the_same_list() {
        let conn = table();
        let middle = ids(&conn, &Filter { limit: 200, ..Filter::default() }, 1_000)[199];
        let failed = Filter { state: Some(State::Failed), ..Filter::default() };
        for filter in [
            failed.clone(),
            Filter { limit: 3, ..failed.clone() },
            Filter { dead: true, ..Filter::default() },
            Filter { unfinished: true, limit: usize::MAX, ..Filter::default() },
            Filter { queue: Some(Name::new("mail")), state: Some(State::Cancelled), ..Filter::default() },
            Filter { name: Some(Name::new("nobody")), ..Filter::default() },
            Filter { tag: Some("seldom".into()), dead: true, limit: 2, ..Filter::default() },
            Filter { changed_since: Some(Timestamp::from_micros(390)), ..failed.clone() },
            Filter { changed_since: Some(Timestamp::from_micros(350)), ..Filter::default() },
            Filter { limit: 0, ..failed },
        ] {
            for newest_first in [false, true] {
                for after in [None, Some(middle)] {
                    let filter = Filter { newest_first, after, ..filter.clone() };
                    let all = ids(&conn, &filter, usize::MAX / 2);
                    for stretch in [0, 1, 7, 60, 399, 400] {
                        assert_eq!(ids(&conn, &filter, stretch), all, "{filter:?} {stretch}");
                    }
                    assert!(all.is_sorted_by(|a, b| if newest_first { a > b } else { a < b }));
                }
            }
        }
        assert_eq!(ids(&conn, &Filter { dead: true, ..Filter::default() }, 5).len(), 16);
    }
}
