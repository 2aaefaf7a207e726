//! What is done to a store, step by step, and what the store promised when a step was done.
//!
//! # What it owns
//! A [`Step`] is plain data, ids and times included, so that a recorded list of steps can be run again on a new file
//! and has to lead to the same content. A [`World`] runs them: it has the store, the tasks in memory as an engine has
//! them, and now and then a reader that holds an old snapshot.
//!
//! # Invariants
//! * A step that the store refuses for a reason of its own (an attempt that no longer counts, say) has been done, and
//!   changed nothing. Any other error is a failure: the step can be run again.
//! * What a step returns is what an engine would tell its users: each task that was accepted, with the state that it
//!   is in from then on. Whatever is lost later, this was promised.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use taskloom_model::{
    Admission, Code, Effects, Error, Name, Operation, Options, OwnerId, Parent, Row, State, TaskId,
    Timestamp, admit,
};
use taskloom_store::{Batch, Change, Claim, Commit, Filter, Insert, Nobody, Residents, Store, Task};
use taskloom_store_sqlite::{Durability, SqliteOptions, SqliteStore};

/// The handler of all tasks.
pub(crate) const JOB: &str = "job";

/// A task to insert.
#[derive(Clone, Debug)]
pub(crate) struct New {
    pub(crate) id: TaskId,
    pub(crate) payload: usize,
    pub(crate) options: Options,
    pub(crate) parent: Option<Parent>,
}

/// A change, with tasks that it spawns.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) task: TaskId,
    pub(crate) operation: Operation,
    pub(crate) spawn: Vec<New>,
}

/// One thing that is done.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Inserts tasks, all or none.
    Insert(Vec<New>),
    /// Makes one change.
    Change(Planned),
    /// A whole batch.
    Write { inserts: Vec<Vec<New>>, commits: Vec<Planned>, claim: Option<(OwnerId, usize)> },
    /// Times come.
    Elapse,
    /// A process joins.
    Join,
    /// Its heart beats.
    Beat(OwnerId),
    /// It is dead.
    Bury(OwnerId),
    /// The queue is paused, or goes on.
    Pause(bool),
    /// Tasks that ended before this time are forgotten.
    Sweep(Timestamp),
    /// The log goes into the database, in one of SQLite's ways.
    Checkpoint(&'static str),
    /// A reader begins to hold on to what it sees, or lets go.
    Hold(bool),
    /// The store is closed and opened again.
    Reopen,
}

/// A step and its time.
#[derive(Clone, Debug)]
pub(crate) struct At {
    pub(crate) now: Timestamp,
    pub(crate) step: Step,
}

/// What the store said of a task: the state that it is in, or that it is forgotten.
pub(crate) type Promise = (TaskId, Option<State>);

/// A store under test and its surroundings.
pub(crate) struct World {
    path: PathBuf,
    options: SqliteOptions,
    store: Option<SqliteStore>,
    reader: Option<Connection>,
    tasks: Held,
}

/// The tasks in memory.
#[derive(Default)]
struct Held(HashMap<TaskId, Arc<Task>>);

impl Residents for Held {
    fn resident(&self, id: TaskId) -> Option<Arc<Task>> {
        self.0.get(&id).cloned()
    }
}

impl Held {
    /// A task that a step makes: the same one if the step is run again, as with an engine that hands a batch in again.
    fn make(&mut self, new: &New, now: Timestamp) -> Arc<Task> {
        let make = || {
            let admission = Admission::new(&new.options).unwrap();
            let payload = vec![b'p'; new.payload].into_boxed_slice();
            let (mut spec, row, _) = admit(&admission, new.id, Name::new(JOB), payload.into(), now).unwrap();
            if let Some(parent) = &new.parent {
                spec.rare.get_or_insert_default().parent = Some(parent.clone());
            }
            Task::new(spec, row, None)
        };
        Arc::clone(self.0.entry(new.id).or_insert_with(make))
    }

    fn make_all(&mut self, new: &[New], now: Timestamp) -> Vec<Arc<Task>> {
        new.iter().map(|new| self.make(new, now)).collect()
    }
}

/// Opens a plain connection, as another program would.
pub(crate) fn connect(path: &Path, vfs: Option<&str>) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    match vfs {
        Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs),
        None => Connection::open_with_flags(path, flags),
    }
}

/// Whether an error is the store's answer and not its failure.
fn is_refusal(error: &Error) -> bool {
    matches!(
        error.code(),
        Code::LeaseLost
            | Code::IllegalTransition
            | Code::UnknownTask
            | Code::DuplicateId
            | Code::DuplicateKey
            | Code::NotSupported
    )
}

fn accepted<T>(said: Result<T, Error>) -> Result<Option<T>, Error> {
    match said {
        Ok(done) => Ok(Some(done)),
        Err(error) if is_refusal(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn of_sqlite(cause: rusqlite::Error) -> Error {
    Error::new(Code::StoreFailed, cause.to_string())
}

fn promises(tasks: &[Arc<Task>]) -> impl Iterator<Item = Promise> + '_ {
    tasks.iter().map(|task| (task.id(), Some(task.state())))
}

fn told(changes: &[Change]) -> impl Iterator<Item = Promise> + '_ {
    changes.iter().map(|change| (change.task.id(), Some(change.effects.to)))
}

impl World {
    /// Nothing is opened yet: that is the first step.
    pub(crate) fn new(path: &Path, durability: Durability, vfs: &'static str) -> Self {
        // Nobody holds a lock for long, so whoever has to wait is up against a bug.
        let options = SqliteOptions {
            durability,
            busy_timeout: Duration::from_millis(20),
            vfs: Some(vfs),
            ..SqliteOptions::default()
        };
        Self { path: path.into(), options, store: None, reader: None, tasks: Held::default() }
    }

    pub(crate) fn store(&self) -> &SqliteStore {
        self.store.as_ref().expect("the store is open")
    }

    /// Everything that is stored.
    pub(crate) fn list(&self) -> Vec<Arc<Task>> {
        self.store().list(&Filter { limit: usize::MAX, ..Filter::default() }, &Nobody).unwrap()
    }

    /// The rows that tasks in memory show.
    pub(crate) fn rows(&self) -> HashMap<TaskId, Row> {
        self.tasks.0.iter().map(|(id, task)| (*id, task.with_row(Row::clone))).collect()
    }

    /// The task in memory that a change goes by.
    fn held(&mut self, id: TaskId) -> Result<Option<Arc<Task>>, Error> {
        if let Some(task) = self.tasks.0.get(&id) {
            return Ok(Some(Arc::clone(task)));
        }
        let found = self.store().get(id, &Nobody)?;
        self.tasks.0.extend(found.iter().map(|task| (id, Arc::clone(task))));
        Ok(found)
    }

    fn commit(&mut self, planned: &Planned, now: Timestamp) -> Result<Option<Commit>, Error> {
        let spawn = self.tasks.make_all(&planned.spawn, now);
        let operation = planned.operation.clone();
        Ok(self.held(planned.task)?.map(|task| Commit { task, operation, spawn }))
    }

    /// Runs a step: what was promised by it.
    pub(crate) fn run(&mut self, at: &At) -> Result<Vec<Promise>, Error> {
        let now = at.now;
        match &at.step {
            Step::Insert(new) => {
                let tasks = self.tasks.make_all(new, now);
                let inserted = accepted(self.store().insert(&tasks, now))?;
                Ok(inserted.map(|()| promises(&tasks).collect()).unwrap_or_default())
            }
            Step::Change(planned) => {
                let Some(commit) = self.commit(planned, now)? else { return Ok(Vec::new()) };
                let (id, mut changes) = (commit.task.id(), Vec::new());
                let effects = accepted(self.store().commit(commit, &mut changes, now))?;
                Ok(effects.map(|effects| (id, Some(effects.to))).into_iter().chain(told(&changes)).collect())
            }
            Step::Write { inserts, commits, claim } => self.write(inserts, commits, *claim, now),
            Step::Elapse => {
                let mut changes = Vec::new();
                self.store().elapse(8, &self.tasks, &mut changes, now)?;
                Ok(told(&changes).collect())
            }
            Step::Join => self.store().join("a process", now).map(|_| Vec::new()),
            Step::Beat(owner) => accepted(self.store().beat(*owner)).map(|_| Vec::new()),
            Step::Bury(owner) => {
                let mut changes = Vec::new();
                self.store().bury(*owner, &self.tasks, &mut changes, now)?;
                Ok(told(&changes).collect())
            }
            Step::Pause(paused) => self.store().set_paused(Name::new("default"), *paused).map(|_| Vec::new()),
            Step::Sweep(before) => self.sweep(*before),
            Step::Checkpoint(how) => self.checkpoint(how).map(|()| Vec::new()).map_err(of_sqlite),
            Step::Hold(on) => self.hold(*on).map(|()| Vec::new()).map_err(of_sqlite),
            Step::Reopen => self.reopen().map(|()| Vec::new()),
        }
    }

    fn write(
        &mut self,
        inserts: &[Vec<New>],
        commits: &[Planned],
        claim: Option<(OwnerId, usize)>,
        now: Timestamp,
    ) -> Result<Vec<Promise>, Error> {
        let inserts = inserts
            .iter()
            .map(|new| Insert { tasks: self.tasks.make_all(new, now), verdict: None })
            .collect();
        let commits = commits.iter().filter_map(|planned| self.commit(planned, now).transpose());
        let mut batch = Batch { inserts, commits: commits.collect::<Result<_, _>>()?, ..Batch::default() };
        batch.claim = claim.map(|(owner, limit)| Claim {
            owner,
            limit,
            queues: [].into(),
            names: [Name::new(JOB)].into(),
        });
        let changed: Vec<TaskId> = batch.commits.iter().map(|commit| commit.task.id()).collect();
        self.store().write(&mut batch, &self.tasks, now)?;
        let mut promised = Vec::new();
        for insert in batch.inserts {
            if accepted(insert.verdict.expect("the store decides"))?.is_some() {
                promised.extend(promises(&insert.tasks));
            }
        }
        for (id, verdict) in changed.into_iter().zip(batch.verdicts) {
            promised.extend(accepted(verdict)?.map(|effects: Effects| (id, Some(effects.to))));
        }
        promised.extend(told(&batch.consequences));
        promised.extend(promises(&batch.claimed));
        self.tasks.0.extend(batch.claimed.into_iter().map(|task| (task.id(), task)));
        Ok(promised)
    }

    fn sweep(&mut self, before: Timestamp) -> Result<Vec<Promise>, Error> {
        let all = Filter { limit: usize::MAX, ..Filter::default() };
        let ids = |tasks: Vec<Arc<Task>>| tasks.iter().map(|task| task.id()).collect::<Vec<_>>();
        let known = ids(self.store().list(&all, &Nobody)?);
        self.store().sweep(before, 10)?;
        // Looking does not belong to the step: what it shows has been promised, whether the look succeeds or not.
        let left = self.store().list(&all, &Nobody).map(ids)?;
        let gone: Vec<TaskId> = known.into_iter().filter(|id| !left.contains(id)).collect();
        self.tasks.0.retain(|id, _| !gone.contains(id));
        Ok(gone.into_iter().map(|id| (id, None)).collect())
    }

    /// By another program's connection, as the store's own does it only after ten thousand pages.
    fn checkpoint(&self, how: &str) -> Result<(), rusqlite::Error> {
        let conn = connect(&self.path, self.options.vfs)?;
        if self.options.durability == Durability::Process {
            conn.pragma_update(None, "synchronous", "NORMAL")?;
        }
        // Its answer says whether somebody was in its way; that it is right to give way is not tested here.
        conn.query_row(&format!("PRAGMA wal_checkpoint({how})"), [], |_| Ok(()))
    }

    fn hold(&mut self, on: bool) -> Result<(), rusqlite::Error> {
        self.reader = None;
        if on {
            let conn = connect(&self.path, self.options.vfs)?;
            conn.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema")?;
            self.reader = Some(conn);
        }
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), Error> {
        self.store = None;
        self.tasks.0.clear();
        self.store = Some(SqliteStore::open(&self.path, self.options)?);
        Ok(())
    }
}
