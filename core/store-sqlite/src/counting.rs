//! How many tasks there are, by queue and state, past rows in a state that there is not.

use rusqlite::Connection;
use taskloom_model::Name;
use taskloom_store::Counts;

use crate::rows::{self, Fault};
use crate::schema;

/// How many tasks of each queue are in each state.
pub(crate) struct Counted {
    pub(crate) queues: Vec<(Name, Counts)>,
    /// Rows in a state that there is not, by their keys.
    pub(crate) damaged: Vec<i64>,
}

/// Counts.
pub(crate) fn count(conn: &Connection) -> Result<Counted, Fault> {
    let mut statement = conn.prepare_cached(schema::COUNTS)?;
    let mut groups = statement.query([])?;
    let mut queues: Vec<(Name, Counts)> = Vec::new();
    let mut damaged = false;
    while let Some(stored) = groups.next()? {
        let Ok(state) = rows::read_state(stored, 1) else {
            damaged = true;
            continue;
        };
        let queue: String = stored.get(0)?;
        if queues.last().is_none_or(|(last, _)| last.as_str() != queue) {
            queues.push((Name::new(&queue), Counts::default()));
        }
        if let Some((_, counts)) = queues.last_mut() {
            counts.add(state, stored.get::<_, i64>(2)?.cast_unsigned());
        }
    }
    if !damaged {
        return Ok(Counted { queues, damaged: Vec::new() });
    }
    let mut statement = conn.prepare_cached(schema::STATELESS)?;
    let found = statement.query_map([], |stored| stored.get(0))?;
    Ok(Counted { queues, damaged: found.collect::<Result<_, _>>()? })
}
