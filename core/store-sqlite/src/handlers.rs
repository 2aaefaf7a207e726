//! Which handlers there are on a file: by name, in any process, now or ever.
//!
//! `handlers` has every name that some process has registered, so that a task for a name that nobody ever heard of can be
//! refused, and one for another process's accepted. `serving` says which of the owners runs the tasks of a name; what an
//! owner has there goes with it. So a queued task that nobody could run is found: its name is served by no owner.

use rusqlite::{Connection, params};
use taskloom_model::{Name, OwnerId, Timestamp};
use taskloom_store::Unserved;

use crate::rows::Fault;
use crate::write::Runs;

/// The step that makes the tables. A name that a task was accepted for had been registered by somebody.
pub(crate) const STEP: &str = "
CREATE TABLE handlers (
    name TEXT PRIMARY KEY,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE serving (
    owner INTEGER NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (owner, name)
) STRICT, WITHOUT ROWID;
INSERT INTO handlers SELECT name, min(created), max(created) FROM tasks GROUP BY name;
";

const NOTE: &str = "INSERT INTO handlers (name, first, last) VALUES (?1, ?2, ?2) \
     ON CONFLICT (name) DO UPDATE SET last = max(last, ?2)";
const SERVE: &str = "INSERT OR IGNORE INTO serving (owner, name) VALUES (?1, ?2)";
const STRIKE_OFF: &str = "DELETE FROM serving WHERE owner = ?1";
const NAMES: &str = "SELECT name FROM handlers ORDER BY name";
const IS_KNOWN: &str = "SELECT EXISTS (SELECT 1 FROM handlers WHERE name = ?1)";
const IS_SERVED: &str = "SELECT EXISTS (SELECT 1 FROM owners CROSS JOIN serving ON serving.owner = owners.id AND serving.name = ?1)";
const WAITING: &str =
    "SELECT count(*), min(eligible) FROM tasks INDEXED BY ready WHERE state = 1 AND queue = ?1 AND name = ?2";

/// Notes that an owner has handlers of these names; if it `serves`, that it runs the tasks of these and of no others.
pub(crate) fn note(
    conn: &Connection,
    owner: OwnerId,
    names: &[Name],
    serves: bool,
    now: Timestamp,
) -> Result<(), Fault> {
    let mut note = conn.prepare_cached(NOTE)?;
    let mut serve = conn.prepare_cached(SERVE)?;
    if serves {
        strike_off(conn, owner)?;
    }
    for name in names {
        note.execute(params![name.as_str(), now.micros()])?;
        if serves {
            serve.execute(params![owner.get().cast_signed(), name.as_str()])?;
        }
    }
    Ok(())
}

/// An owner has gone.
pub(crate) fn strike_off(conn: &Connection, owner: OwnerId) -> Result<(), Fault> {
    conn.prepare_cached(STRIKE_OFF)?.execute([owner.get().cast_signed()])?;
    Ok(())
}

/// All names that were ever registered.
pub(crate) fn names(conn: &Connection) -> Result<Vec<String>, Fault> {
    let mut statement = conn.prepare_cached(NAMES)?;
    let names = statement.query_map([], |stored| stored.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

/// Whether a name was ever registered.
pub(crate) fn is_known(conn: &Connection, name: &str) -> Result<bool, Fault> {
    Ok(conn.prepare_cached(IS_KNOWN)?.query_row([name], |stored| stored.get(0))?)
}

/// Queued tasks that no owner serves, by name. Costs a search for each queue and handler that has a backlog, and counts
/// those that are told of.
pub(crate) fn unserved(conn: &Connection) -> Result<Vec<Unserved>, Fault> {
    let mut found: Vec<Unserved> = Vec::new();
    let mut runs = Runs::all(conn)?;
    while let Some((queue, name)) = runs.next_pair()? {
        if conn.prepare_cached(IS_SERVED)?.query_row([&name], |stored| stored.get(0))? {
            continue;
        }
        let (count, since): (i64, i64) = conn
            .prepare_cached(WAITING)?
            .query_row([&queue, &name], |stored| Ok((stored.get(0)?, stored.get(1)?)))?;
        let (count, since) = (count.cast_unsigned(), Timestamp::from_micros(since));
        match found.iter_mut().find(|known| known.name == name) {
            Some(known) => {
                known.count += count;
                known.since = known.since.min(since);
            }
            None => found.push(Unserved { name, count, since }),
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}
