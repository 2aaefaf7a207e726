//! How many tasks there are, by queue and state, past rows in a state that there is not, and in queues whose name is no text.

use rusqlite::Connection;
use taskloom_model::Name;
use taskloom_store::Counts;

use crate::raw_text::RawText;
use crate::rows::{self, Fault};
use crate::schema;

/// How many tasks of each queue are in each state.
pub(crate) struct Counted {
    pub(crate) queues: Vec<(Name, Counts)>,
    /// Rows that were left out, by their keys.
    pub(crate) damaged: Vec<i64>,
}

/// Counts.
pub(crate) fn count(conn: &Connection) -> Result<Counted, Fault> {
    let mut statement = conn.prepare_cached(schema::COUNTS)?;
    let mut groups = statement.query([])?;
    let mut queues: Vec<(Name, Counts)> = Vec::new();
    let (mut stateless, mut nameless): (bool, Vec<RawText>) = Default::default();
    while let Some(stored) = groups.next()? {
        let Ok(state) = rows::read_state(stored, 1) else {
            stateless = true;
            continue;
        };
        let name: RawText = stored.get(0)?;
        let Some(queue) = name.as_str() else {
            nameless.push(name);
            continue;
        };
        if queues.last().is_none_or(|(last, _)| last.as_str() != queue) {
            queues.push((Name::new(queue), Counts::default()));
        }
        if let Some((_, counts)) = queues.last_mut() {
            counts.add(state, stored.get::<_, i64>(2)?.cast_unsigned());
        }
    }
    let mut damaged = Vec::new();
    if stateless {
        let mut statement = conn.prepare_cached(schema::STATELESS)?;
        let found = statement.query_map([], |stored| stored.get(0))?;
        damaged = found.collect::<Result<_, _>>()?;
    }
    // A group for each state.
    nameless.dedup();
    for queue in nameless {
        let mut statement = conn.prepare_cached(schema::IN_QUEUE)?;
        let found = statement.query_map([queue], |stored| stored.get(0))?;
        damaged.extend(found.collect::<Result<Vec<i64>, _>>()?);
    }
    Ok(Counted { queues, damaged })
}
