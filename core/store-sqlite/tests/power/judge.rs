//! Opens what a power cut has left, as the next process would, and says what it finds.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use taskloom_model::{Admission, Name, Row, State, TaskId, Timestamp, admit};
use taskloom_store::{Batch, Claim, Nobody, Store, Task};
use taskloom_store_sqlite::{SqliteOptions, SqliteStore};
use tempfile::TempDir;

use crate::contents::{broken_promise, damage, digest, sound_tasks};
use crate::disk::Files;
use crate::life::{Content, clear, fill};
use crate::steps::{JOB, connect};

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A content that is as good as promised: its number.
    Good(usize),
    /// An older content: it, and the one that was promised.
    Lost(usize, usize),
    /// Something that the store never held.
    Never(String),
    /// A file that cannot be opened, or that SQLite calls damaged.
    Damaged(String),
}

/// Which contents there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// The one that was promised.
    pub(crate) from: usize,
    /// The one that was being made.
    pub(crate) to: usize,
}

/// A place to open files in.
pub(crate) struct Judge {
    folder: TempDir,
    judged: usize,
    garbage: Vec<u8>,
}

/// A directory in memory if there is one: nothing here depends on the disk of the machine.
pub(crate) fn folder() -> TempDir {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

impl Judge {
    pub(crate) fn new() -> Self {
        Self {
            folder: folder(),
            judged: 0,
            garbage: (0..32_768_u32).map(|place| (place * 31 + 7) as u8).collect(),
        }
    }

    /// Opens what is left. It must be one of `contents` within the bounds.
    pub(crate) fn judge(&mut self, files: &Files, contents: &[Content], bounds: Bounds) -> Found {
        clear(self.folder.path());
        fill(self.folder.path(), files);
        let path = self.folder.path().join("tasks.db");
        self.judged += 1;
        if self.judged.is_multiple_of(2) {
            // The shared memory of those who were there is a file as well, and can hold anything.
            std::fs::write(path.with_extension("db-shm"), &self.garbage).unwrap();
        }
        let found = open(&path, contents, bounds);
        match found {
            // Not each time: it costs as much as all the rest.
            Found::Good(_) if self.judged.is_multiple_of(16) => match works_on(&path) {
                Ok(()) => found,
                Err(why) => Found::Damaged(format!("it does not work on: {why}")),
            },
            _ => found,
        }
    }
}

fn open(path: &Path, contents: &[Content], bounds: Bounds) -> Found {
    let options = SqliteOptions { busy_timeout: Duration::from_millis(20), ..SqliteOptions::default() };
    let store = match SqliteStore::open(path, options) {
        Ok(store) => store,
        Err(error) => return Found::Damaged(format!("it does not open: {error}")),
    };
    let read = || {
        let conn = connect(path, None)?;
        Ok::<_, rusqlite::Error>((damage(&conn)?, digest(&conn)?, conn))
    };
    let (damage, digest, conn) = match read() {
        Ok(read) => read,
        Err(cause) => return Found::Damaged(cause.to_string()),
    };
    if let Some(damage) = damage {
        return Found::Damaged(damage);
    }
    let same = |number: &usize| contents[*number].digest == digest;
    let number = match (bounds.from..=bounds.to).rev().find(same) {
        Some(number) => number,
        None => match (0..bounds.from).rev().find(same) {
            Some(older) => return Found::Lost(older, bounds.from),
            None => return Found::Never("its content is none that was ever committed".into()),
        },
    };
    let tasks = match sound_tasks(&store, &conn) {
        Ok(tasks) => tasks,
        Err(why) => return Found::Never(why),
    };
    match broken_promise(&tasks, contents[number].told.clone()) {
        Some(why) => Found::Never(why),
        None => Found::Good(number),
    }
}

/// Whether a task can be inserted, claimed, and found after the store was closed.
fn works_on(path: &Path) -> Result<(), String> {
    let now = Timestamp::from_micros(1_767_225_600_000_000);
    let id = TaskId::from_bytes([0xFF; 16]);
    let (spec, row, _) = admit(&Admission::default(), id, Name::new(JOB), Default::default(), now)
        .map_err(|error| error.to_string())?;
    let task = Task::new(spec, row, None);
    let work = || {
        let store = SqliteStore::open(path, SqliteOptions::default())?;
        store.insert(&[Arc::clone(&task)], now)?;
        let owner = store.join("me", now)?;
        let claim = Claim { owner, queues: [].into(), names: [Name::new(JOB)].into(), limit: usize::MAX };
        store.set_paused(Name::new("default"), false)?;
        store.write(&mut Batch { claim: Some(claim), ..Batch::default() }, &Nobody, now)?;
        drop(store);
        let found = SqliteStore::open(path, SqliteOptions::default())?.get(id, &Nobody)?;
        Ok(found.map(|found| found.with_row(Row::clone).state))
    };
    match work() {
        Ok(Some(State::Running)) => {}
        Ok(other) => return Err(format!("the new task is {other:?}")),
        Err::<_, taskloom_model::Error>(error) => return Err(error.to_string()),
    }
    let conn = connect(path, None).map_err(|cause| cause.to_string())?;
    damage(&conn).map_err(|cause| cause.to_string())?.map_or(Ok(()), Err)
}
