//! Lists of tasks, in the order of their ids.
//!
//! # Ways to go
//! The index of ids has the order, and each row is one lookup from it. Where many tasks fit a filter, that is the way: the
//! list is full after a few steps. Where few fit (those of one handler among a million of another), it would go to every row
//! by way of the index, which takes four times as long as reading them in the order in which they lie. So the index is
//! followed for a stretch, and if the list is not full then, what is beyond it is found by one pass over the table, of which
//! only the first are kept.
//!
//! Two kinds of tasks have indexes of their own, which say at once that there are few or none. *Dead* ones are in one by
//! state and id: the runs of the states that are wanted are read, each until it has filled the list, and merged. *Queued*
//! ones are in that of claims, which has another order: if there are few, they take the place of the pass over the table.
//!
//! An index of all states, or of handlers and queues, would answer the rest at once, and every task would have to keep it.
//!
//! # Rows that make no sense
//! One row that somebody has damaged must not keep the others from being seen. It is left out and named, by its key, for
//! [`crate::damage`] to tell of.

use std::cmp::Ordering;
use std::sync::Arc;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};
use taskloom_model::{Code, Error, State, TaskId, Timestamp};
use taskloom_store::{Filter, Residents, Task};

use crate::rows::{self, Fault};
use crate::schema;

/// The columns behind those of a task.
const ID: usize = schema::ROW_COLUMNS + schema::SPEC_COLUMNS;
const SEQ: usize = ID + 1;

/// How many ids are looked at for each task that is wanted before the table is read instead.
const WALKED: usize = 200;

/// The shortest and the longest stretch.
const STRETCH: std::ops::RangeInclusive<usize> = 10_000..=100_000;

/// If no more tasks are queued than this, it is quicker to look at each than to read the table.
const FEW_QUEUED: i64 = 20_000;

/// Where tasks are looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// By their ids, in order.
    Ids,
    /// Among those in one dead state, in order.
    Dead(State),
    /// In the whole table.
    Table,
    /// Among those that are queued.
    Queued,
}

impl Way {
    /// Whether the statement finds all, puts them in order, and has a limit.
    fn sorts(self) -> bool {
        matches!(self, Self::Table | Self::Queued)
    }
}

/// A part of a list.
pub(crate) struct Page {
    /// In the order that was asked for, with their keys.
    pub(crate) found: Vec<(i64, Found)>,
    /// Rows that were left out since they make no sense, by their keys.
    pub(crate) damaged: Vec<i64>,
    /// The id that was looked at last, as it is stored: the next part begins behind it.
    pub(crate) last: Option<Vec<u8>>,
    /// Whether there is no next part.
    pub(crate) is_all: bool,
}

/// A task that was found.
pub(crate) enum Found {
    /// Somebody here holds it, and its row is not read yet.
    Held(Arc<Task>),
    /// As it is stored.
    Read(Arc<Task>),
}

impl Found {
    fn id(&self) -> TaskId {
        match self {
            Self::Held(task) | Self::Read(task) => task.id(),
        }
    }
}

/// The tasks that a filter fits, `wanted` of them at most, behind an id as it is stored.
pub(crate) fn page(
    conn: &Connection,
    filter: &Filter,
    after: Option<&[u8]>,
    wanted: usize,
    residents: &dyn Residents,
) -> Result<Page, Fault> {
    let stretch = wanted.saturating_mul(WALKED).clamp(*STRETCH.start(), *STRETCH.end());
    within(conn, filter, after, wanted, residents, stretch)
}

/// Where a list begins and ends, as SQLite compares ids.
struct Range {
    from: Vec<u8>,
    to: Vec<u8>,
}

fn within(
    conn: &Connection,
    filter: &Filter,
    after: Option<&[u8]>,
    wanted: usize,
    residents: &dyn Residents,
    stretch: usize,
) -> Result<Page, Fault> {
    // Before every id, and after.
    let (mut from, mut to) = (Vec::new(), vec![u8::MAX; 17]);
    if filter.newest_first {
        std::mem::swap(&mut from, &mut to);
    }
    if let Some(after) = after {
        from = after.to_vec();
    }
    let mut page = Page { found: Vec::new(), damaged: Vec::new(), last: None, is_all: false };
    let whole = Range { from, to };
    if filter.dead || filter.state.is_some_and(State::is_dead) {
        return dead(conn, filter, wanted, residents, &whole);
    }
    let narrows = !filter.takes_any_state() || filter.queue.is_some() || filter.name.is_some();
    let end = if filter.changed_since.is_some() || !narrows || wanted == 0 {
        None
    } else {
        end_of_stretch(conn, filter, &whole.from, stretch)?
    };
    let Some(end) = end else {
        let way = if filter.changed_since.is_some() { Way::Table } else { Way::Ids };
        page.is_all = read(conn, filter, wanted, residents, &whole, way, &mut page)?;
        return Ok(page);
    };
    let first = Range { from: whole.from, to: end.clone() };
    if read(conn, filter, wanted, residents, &first, Way::Ids, &mut page)? {
        let rest = Range { from: end, to: whole.to };
        let way = if filter.state == Some(State::Queued) && has_few_queued(conn)? {
            Way::Queued
        } else {
            Way::Table
        };
        page.is_all = read(conn, filter, wanted, residents, &rest, way, &mut page)?;
    }
    Ok(page)
}

/// Dead tasks: the first of each state, merged. None of them can be behind one that was left out, since a state of which
/// there are more has filled the list by itself.
fn dead(
    conn: &Connection,
    filter: &Filter,
    wanted: usize,
    residents: &dyn Residents,
    range: &Range,
) -> Result<Page, Fault> {
    let mut all = Page { found: Vec::new(), damaged: Vec::new(), last: None, is_all: true };
    let mut found = Vec::new();
    for state in State::ALL.iter().copied().filter(|state| state.is_dead()) {
        if filter.state.is_some_and(|only| only != state) {
            continue;
        }
        let mut page = Page { found: Vec::new(), damaged: Vec::new(), last: None, is_all: false };
        all.is_all &= read(conn, filter, wanted, residents, range, Way::Dead(state), &mut page)?;
        all.damaged.append(&mut page.damaged);
        all.last = [all.last, page.last].into_iter().flatten().max_by(|a, b| order(filter, a, b));
        found.append(&mut page.found);
    }
    found.sort_by(|(_, a), (_, b)| order(filter, a.id().as_bytes(), b.id().as_bytes()));
    if found.len() > wanted {
        found.truncate(wanted);
        all.is_all = false;
    }
    if !all.is_all
        && let Some((_, last)) = found.last()
    {
        all.last = Some(last.id().as_bytes().to_vec());
    }
    all.found = found;
    Ok(all)
}

/// The order of a list, for two ids as they are stored.
fn order(filter: &Filter, a: &[u8], b: &[u8]) -> Ordering {
    if filter.newest_first { b.cmp(a) } else { a.cmp(b) }
}

fn has_few_queued(conn: &Connection) -> Result<bool, rusqlite::Error> {
    let queued: i64 =
        conn.prepare_cached(schema::QUEUED)?.query_row([FEW_QUEUED + 1], |stored| stored.get(0))?;
    Ok(queued <= FEW_QUEUED)
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

/// Adds the tasks of a range until there are as many as are wanted; whether there are no more in it.
fn read(
    conn: &Connection,
    filter: &Filter,
    wanted: usize,
    residents: &dyn Residents,
    range: &Range,
    way: Way,
    page: &mut Page,
) -> Result<bool, Fault> {
    let (both, state) = match way {
        Way::Ids => (schema::LIST, filter.state),
        Way::Dead(state) => (schema::LIST_DEAD, Some(state)),
        Way::Table => (schema::LIST_SCANNING, filter.state),
        Way::Queued => (schema::LIST_QUEUED, filter.state),
    };
    let sql = both[usize::from(filter.newest_first)];
    let text = |name: Option<&str>| name.map_or(Value::Null, |name| Value::Text(name.to_owned()));
    let mut values = vec![
        Value::Blob(range.from.clone()),
        state.map_or(Value::Null, |state| Value::Integer(state.number().into())),
        text(filter.queue.map(|queue| queue.as_str())),
        text(filter.name.map(|name| name.as_str())),
        Value::Integer(filter.unfinished.into()),
        Value::Integer(filter.tag.is_some().into()),
        Value::Integer(filter.dead.into()),
        filter.changed_since.map_or(Value::Null, |since: Timestamp| Value::Integer(since.micros())),
        Value::Blob(range.to.clone()),
    ];
    let mut limit = -1;
    if way.sorts() {
        // A tag is not seen by the statement: of those that have any, all are kept.
        let missing = wanted - page.found.len();
        limit = if filter.tag.is_some() { -1 } else { i64::try_from(missing).unwrap_or(-1) };
        values.push(Value::Integer(limit));
    }
    let mut statement = conn.prepare_cached(sql)?;
    let mut stored = statement.query(params_from_iter(values))?;
    let mut seen = 0_i64;
    while page.found.len() < wanted {
        let Some(stored) = stored.next()? else { return Ok(limit < 0 || seen < limit) };
        seen += 1;
        page.last = Some(stored.get(ID)?);
        let seq = stored.get(SEQ)?;
        match look(stored, filter, residents) {
            Ok(found) => page.found.extend(found.map(|found| (seq, found))),
            Err(_) => page.damaged.push(seq),
        }
    }
    Ok(false)
}

/// What a row is, if the filter fits it and it makes sense.
fn look(stored: &Row<'_>, filter: &Filter, residents: &dyn Residents) -> Result<Option<Found>, Error> {
    let id = rows::read_id(stored, ID)
        .map_err(|cause| Error::new(Code::CorruptRow, "its id is none").caused_by(cause))?;
    if let Some(tag) = &filter.tag
        && !rows::has_tag(stored, tag)?
    {
        return Ok(None);
    }
    Ok(Some(match residents.resident(id) {
        Some(held) => Found::Held(held),
        None => Found::Read(rows::read_task(id, stored)?),
    }))
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
        conn.execute_batch(schema::DEAD_STEP).unwrap();
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
        let after = filter.after.as_ref().map(|id| id.as_bytes().as_slice());
        let page = match within(conn, filter, after, filter.limit, &Nobody, stretch) {
            Ok(page) => page,
            Err(Fault::Sqlite(cause)) => panic!("{cause}"),
            Err(Fault::Task(_, cause)) => panic!("{cause}"),
            Err(Fault::Beside(..)) => panic!("nothing is beside it"),
        };
        assert!(page.damaged.is_empty());
        page.found.iter().map(|(_, found)| found.id()).collect()
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
            Filter { dead: true, limit: 9, ..Filter::default() },
            Filter { dead: true, state: Some(State::Cancelled), limit: 5, ..Filter::default() },
            Filter { dead: true, state: Some(State::Queued), ..Filter::default() },
            Filter { dead: true, unfinished: true, ..Filter::default() },
            Filter { state: Some(State::Queued), ..Filter::default() },
            Filter {
                state: Some(State::Queued),
                queue: Some(Name::new("mail")),
                limit: 2,
                ..Filter::default()
            },
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
