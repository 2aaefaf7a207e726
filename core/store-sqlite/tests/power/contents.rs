//! What is in a file, as a reader sees it that knows nothing of the store's code; and whether it can be.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use taskloom_model::{OwnerId, Row, State, TaskId, WaitingFor, next_due};
use taskloom_store::{Filter, Nobody, Store, Task};
use taskloom_store_sqlite::SqliteStore;

/// A number for everything that all tables hold, each value with its type and place.
pub(crate) fn digest(conn: &Connection) -> Result<u64, rusqlite::Error> {
    let mut hasher = DefaultHasher::new();
    let mut tables = conn.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")?;
    let tables: Vec<String> = tables.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for table in tables {
        table.hash(&mut hasher);
        let mut statement = conn.prepare(&format!("SELECT * FROM {table} ORDER BY 1"))?;
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            for column in 0..columns {
                match row.get_ref(column)? {
                    ValueRef::Null => 0.hash(&mut hasher),
                    ValueRef::Integer(value) => (1, value).hash(&mut hasher),
                    ValueRef::Real(value) => (2, value.to_bits()).hash(&mut hasher),
                    ValueRef::Text(value) => (3, value).hash(&mut hasher),
                    ValueRef::Blob(value) => (4, value).hash(&mut hasher),
                }
            }
        }
    }
    Ok(hasher.finish())
}

/// What SQLite finds wrong with the file, tables against indexes included.
pub(crate) fn damage(conn: &Connection) -> Result<Option<String>, rusqlite::Error> {
    let said: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    Ok((said != "ok").then_some(said))
}

/// All tasks, if each of them is in a state that can be.
pub(crate) fn sound_tasks(store: &SqliteStore, conn: &Connection) -> Result<Vec<Arc<Task>>, String> {
    let all = Filter { limit: usize::MAX, ..Filter::default() };
    let tasks = store.list(&all, &Nobody).map_err(|error| error.to_string())?;
    let owners = store.owners().map_err(|error| error.to_string())?;
    let owners: Vec<OwnerId> = owners.iter().map(|owner| owner.id).collect();
    let mut due = conn.prepare_cached("SELECT due FROM tasks WHERE id = ?1").map_err(|e| e.to_string())?;
    for task in &tasks {
        let stored: Option<i64> = due
            .query_row([task.id().as_bytes().as_slice()], |row| row.get(0))
            .map_err(|cause| cause.to_string())?;
        let row = task.with_row(Row::clone);
        let alarm = next_due(task.spec(), &row).map(|due| due.micros());
        if let Some(why) = impossible(&row, &owners) {
            return Err(format!("task {} {why}: {row:?}", task.id()));
        }
        if alarm != stored {
            return Err(format!("task {} is due at {stored:?} and should be at {alarm:?}", task.id()));
        }
    }
    let counted: u64 = {
        let counts = store.counts().map_err(|error| error.to_string())?;
        State::ALL.iter().map(|state| counts.get(*state)).sum()
    };
    if counted != tasks.len() as u64 {
        return Err(format!("there are {counted} tasks, and {} by their ids", tasks.len()));
    }
    Ok(tasks)
}

/// Why a row cannot be.
fn impossible(row: &Row, owners: &[OwnerId]) -> Option<&'static str> {
    let running = row.state == State::Running;
    if running != row.owner.is_some() {
        Some("runs without an owner, or is owned without running")
    } else if row.owner.is_some_and(|owner| !owners.contains(&owner)) {
        Some("is run by a process that never joined")
    } else if running && (row.attempt == 0 || row.started.is_none()) {
        Some("runs and was never claimed")
    } else if row.state.is_terminal() != row.finished.is_some() {
        Some("has ended at no time, or not ended at a time")
    } else if row.state == State::Succeeded && row.result.as_deref().is_none() {
        Some("succeeded without a result")
    } else if row.state == State::Queued && row.waiting_for != WaitingFor::Nothing {
        Some("is queued and waits")
    } else {
        None
    }
}

/// Whether the tasks that are there are those of which a store has told, each in the state that it told last.
pub(crate) fn broken_promise(
    tasks: &[Arc<Task>],
    promised: impl IntoIterator<Item = (TaskId, State)>,
) -> Option<String> {
    let states: HashMap<TaskId, State> = tasks.iter().map(|task| (task.id(), task.state())).collect();
    let mut count = 0;
    for (id, promised) in promised {
        count += 1;
        match states.get(&id) {
            Some(state) if *state == promised => {}
            Some(state) => return Some(format!("task {id} was {promised} and is {state}")),
            None => return Some(format!("task {id} was {promised} and is not there")),
        }
    }
    (count != tasks.len()).then(|| format!("{} tasks are there, {count} were told of", tasks.len()))
}
