//! One transaction: what a batch does inside it, and what the caller sees after it.
//!
//! # What it owns
//! * the statements, prepared once per transaction and run thousands of times;
//! * a [`Touched`] for each task that the transaction changed or looked at: its row as the transaction has it, and the
//!   tasks in memory that will show it. Two changes of one task in one batch therefore see each other, and no `Task`
//!   is written to before the commit;
//! * the answers, kept apart from the batch until then.
//!
//! # Invariants
//! * Every row comes from [`taskloom_model::apply`] on the row as this transaction has it. The one shortcut is
//!   [`schema::REPORT`]: the end of an attempt is worked out on the caller's copy and written only if the stored row
//!   is that copy. If it is not, the stored row is read and decides.
//! * `due` is the row's [`next_due`] whenever a row is written.
//! * A task that has settled in memory is never written to again (see `Task`): a copy that is out of date for good
//!   stays so, and whoever asks for the task gets a new one.
//!
//! # Failure
//! A refusal is a verdict, and leaves no trace in the transaction. So does a commit on a row that makes no sense: it
//! must not hold up the others. (A claim or a time that comes upon such a row fails as a whole. Left out, the row
//! would be forgotten; it has to be put right by hand.) A [`Fault`] ends it: the transaction is rolled
//! back by whoever began it, and neither the batch nor any task has been touched.

use std::sync::Arc;

use hashbrown::{HashMap, HashTable};
use rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE;
use rusqlite::{CachedStatement, Connection, OptionalExtension};
use taskloom_model::{
    Code, Effects, Error, Fence, Operation, Row, Spec, State, TaskId, Timestamp, WaitingFor, apply, next_due,
};
use taskloom_store::{Batch, Change, Commit, Residents, Task};

use crate::failure::Place;
use crate::rows::{self, Attempt, Fault};
use crate::{codec, schema};

mod claim;
mod many;
mod publish;

pub(crate) use claim::is_anything_ready;

/// A task that the transaction has looked at or changed.
struct Touched {
    /// Its key, if it was needed.
    seq: Option<i64>,
    /// As the transaction has it.
    row: Row,
    home: Home,
    /// Other tasks in memory with the same id.
    twins: Vec<Arc<Task>>,
}

impl Touched {
    fn id(&self) -> TaskId {
        self.home.spec().id
    }

    /// Lets a task in memory show the row after the commit.
    fn show_to(&mut self, task: &Arc<Task>) {
        let held = matches!(&self.home, Home::Held(known) if Arc::ptr_eq(known, task));
        if !held && !self.twins.iter().any(|twin| Arc::ptr_eq(twin, task)) {
            self.twins.push(Arc::clone(task));
        }
    }
}

/// Where the row goes after the commit.
enum Home {
    /// To a task that somebody holds.
    Held(Arc<Task>),
    /// To a task that is yet to be made.
    Read(Box<Spec>),
}

impl Home {
    fn spec(&self) -> &Spec {
        match self {
            Self::Held(task) => task.spec(),
            Self::Read(spec) => spec,
        }
    }
}

/// Statements, prepared when they are first needed.
#[derive(Default)]
struct Statements<'c>([Option<CachedStatement<'c>>; 12]);

/// Their places.
#[derive(Clone, Copy)]
enum Sql {
    Insert,
    InsertPlain,
    TakeBack,
    Step,
    Move,
    Change,
    Report,
    Finish,
    RowById,
    SeqById,
    RowBySeq,
    TaskBySeq,
}

impl Sql {
    fn text(self) -> &'static str {
        match self {
            Self::Insert => schema::INSERT,
            Self::InsertPlain => schema::INSERT_PLAIN,
            Self::Step => schema::STEP,
            Self::TakeBack => schema::TAKE_BACK,
            Self::Move => schema::MOVE,
            Self::Change => schema::CHANGE,
            Self::Report => schema::REPORT,
            Self::Finish => schema::FINISH,
            Self::RowById => schema::ROW_BY_ID,
            Self::SeqById => schema::SEQ_BY_ID,
            Self::RowBySeq => schema::ROW_BY_SEQ,
            Self::TaskBySeq => schema::TASK_BY_SEQ,
        }
    }
}

impl<'c> Statements<'c> {
    fn get(&mut self, conn: &'c Connection, sql: Sql) -> Result<&mut CachedStatement<'c>, rusqlite::Error> {
        let place = &mut self.0[sql as usize];
        match place {
            Some(statement) => Ok(statement),
            None => Ok(place.insert(conn.prepare_cached(sql.text())?)),
        }
    }
}

/// The inside of a transaction.
pub(crate) struct Writing<'c> {
    conn: &'c Connection,
    place: &'c Place,
    residents: &'c dyn Residents,
    now: Timestamp,
    statements: Statements<'c>,
    touched: Vec<Touched>,
    /// Places in `touched` of what commits have touched.
    by_id: HashTable<usize>,
    /// What this batch inserted, if it also claims.
    fresh: Option<HashMap<TaskId, Arc<Task>>>,
    inserts: Vec<Result<(), Error>>,
    verdicts: Vec<Result<Effects, Error>>,
    spawned: Vec<Change>,
    claimed: Vec<usize>,
    changed: Vec<(usize, Effects)>,
}

impl<'c> Writing<'c> {
    pub(crate) fn new(
        conn: &'c Connection,
        place: &'c Place,
        residents: &'c dyn Residents,
        now: Timestamp,
    ) -> Self {
        Self {
            conn,
            place,
            residents,
            now,
            statements: Statements::default(),
            touched: Vec::new(),
            by_id: HashTable::new(),
            fresh: None,
            inserts: Vec::new(),
            verdicts: Vec::new(),
            spawned: Vec::new(),
            claimed: Vec::new(),
            changed: Vec::new(),
        }
    }

    /// Does everything that a batch asks for, and leaves the batch alone.
    pub(crate) fn run(&mut self, batch: &Batch) -> Result<(), Fault> {
        self.fresh = batch.claim.is_some().then(HashMap::new);
        for insert in &batch.inserts {
            let verdict = self.insert(&insert.tasks)?;
            self.inserts.push(verdict);
        }
        for commit in &batch.commits {
            let verdict = self.commit(commit)?;
            self.verdicts.push(verdict);
        }
        match &batch.claim {
            Some(claim) => self.claim(claim),
            None => Ok(()),
        }
    }

    /// Inserts tasks, all or none.
    fn insert(&mut self, tasks: &[Arc<Task>]) -> Result<Result<(), Error>, Fault> {
        let mut inserted = Vec::new();
        for task in tasks {
            if let Err(refusal) = self.insert_one(task)? {
                // Taken back one by one: a savepoint would cost every group that is not refused.
                for seq in inserted {
                    self.statements.get(self.conn, Sql::TakeBack)?.execute([seq])?;
                }
                return Ok(Err(refusal));
            }
            if tasks.len() > 1 {
                inserted.push(self.conn.last_insert_rowid());
            }
        }
        if let Some(fresh) = &mut self.fresh {
            fresh.extend(tasks.iter().map(|task| (task.id(), Arc::clone(task))));
        }
        Ok(Ok(()))
    }

    fn insert_one(&mut self, task: &Arc<Task>) -> Result<Result<(), Error>, Fault> {
        let spec = task.spec();
        let row = task.with_row(Row::clone);
        if row.waiting_for == WaitingFor::Dependencies {
            let message = format!("task {}: the SQLite store does not keep dependencies yet", spec.id);
            return Ok(Err(Error::new(Code::NotSupported, message)));
        }
        let rare = match spec.rare.as_deref().map(codec::encode_rare).transpose() {
            Ok(rare) => rare,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let history = match rows::history(&row) {
            Ok(history) => history,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let inserted = if rows::is_plain_insert(spec, &row) {
            rows::insert_plain(self.statements.get(self.conn, Sql::InsertPlain)?, spec)
        } else {
            let statement = self.statements.get(self.conn, Sql::Insert)?;
            rows::insert(statement, spec, &row, rare.as_deref(), history.as_deref())
        };
        match inserted {
            Ok(()) => Ok(Ok(())),
            // Exactly this: another constraint, such as a trigger that somebody added, may have ended the transaction.
            Err(rusqlite::Error::SqliteFailure(cause, _))
                if cause.extended_code == SQLITE_CONSTRAINT_UNIQUE =>
            {
                Ok(Err(Error::new(Code::DuplicateId, format!("a task with the id {} exists", spec.id))
                    .hint("ids are for good: leave the id out to have one made")))
            }
            Err(cause) => Err(cause.into()),
        }
    }

    /// Makes one change, and inserts what it spawns.
    fn commit(&mut self, commit: &Commit) -> Result<Result<Effects, Error>, Fault> {
        let task = &commit.task;
        let place = match self.known(task.id()) {
            Some(place) => place,
            None => {
                if commit.spawn.is_empty()
                    && let Some(effects) = self.report(task, &commit.operation)?
                {
                    return Ok(Ok(effects));
                }
                match self.read(task) {
                    Ok(Some(place)) => place,
                    Err(Fault::Task(id, damage)) => return Ok(Err(self.place.corrupt(id, damage))),
                    Err(fault) => return Err(fault),
                    Ok(None) => {
                        let message = format!("no task has the id {}", task.id());
                        return Ok(Err(Error::new(Code::UnknownTask, message)
                            .hint("a task that ended is forgotten after a while")));
                    }
                }
            }
        };
        self.touched[place].show_to(task);
        let mut row = self.touched[place].row.clone();
        let effects = match apply(commit.operation.clone(), task.spec(), &mut row, self.now) {
            Ok(effects) => effects,
            Err(refusal) => return Ok(Err(refusal)),
        };
        // Whatever can be refused is tried before anything is written that could not be taken back.
        let history = match rows::history(&row) {
            Ok(history) => history,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if let Err(refusal) = self.insert(&commit.spawn)? {
            return Ok(Err(refusal));
        }
        self.store(place, row, history)?;
        self.spawned.extend(commit.spawn.iter().map(|task| {
            let (to, due) = task.with_row(|row| (row.state, next_due(task.spec(), row)));
            Change { task: Arc::clone(task), effects: Effects { from: None, to, left: None, due } }
        }));
        Ok(Ok(effects))
    }

    /// The short way for the end of an attempt: believes the caller's copy, and compares and sets. `None` if the
    /// copy is not what is stored, or may not be.
    fn report(&mut self, task: &Arc<Task>, operation: &Operation) -> Result<Option<Effects>, Fault> {
        let Some(fence) = operation.fence() else { return Ok(None) };
        let Some(before) = task.with_row(|row| is_plain(row, fence).then(|| row.clone())) else {
            return Ok(None);
        };
        let (spec, mut row) = (task.spec(), before.clone());
        let Ok(effects) = apply(operation.clone(), spec, &mut row, self.now) else { return Ok(None) };
        let Ok(history) = rows::history(&row) else { return Ok(None) };
        let attempt = Attempt { id: spec.id, fence };
        let changed = if is_plain_end(&before, &row) && spec.deadline().is_none() {
            rows::finish_attempt(self.statements.get(self.conn, Sql::Finish)?, attempt, &row)?
        } else {
            let statement = self.statements.get(self.conn, Sql::Report)?;
            rows::update_attempt(statement, attempt, effects.due, &row, history.as_deref())?
        };
        if changed == 0 {
            return Ok(None);
        }
        self.remember(Touched { seq: None, row, home: Home::Held(Arc::clone(task)), twins: Vec::new() });
        Ok(Some(effects))
    }

    /// Reads the row of a task that a caller holds.
    fn read(&mut self, task: &Arc<Task>) -> Result<Option<usize>, Fault> {
        let id = task.id();
        let found = self
            .statements
            .get(self.conn, Sql::RowById)?
            .query_row([id.as_bytes().as_slice()], |stored| {
                Ok((rows::read_row(stored), stored.get(schema::ROW_COLUMNS)?))
            })
            .optional()?;
        let Some((row, seq)) = found else { return Ok(None) };
        let row = row.map_err(|error| Fault::Task(id, error))?;
        let home = Home::Held(Arc::clone(task));
        Ok(Some(self.remember(Touched { seq: Some(seq), row, home, twins: Vec::new() })))
    }

    /// Where a task is that a commit of this batch has touched.
    fn known(&self, id: TaskId) -> Option<usize> {
        self.by_id.find(id.table_hash(), |place| self.touched[*place].id() == id).copied()
    }

    /// Makes a task findable for the rest of the batch; its place.
    fn remember(&mut self, touched: Touched) -> usize {
        let (hash, place) = (touched.id().table_hash(), self.touched.len());
        self.touched.push(touched);
        let touched = &self.touched;
        self.by_id.insert_unique(hash, place, |place| touched[*place].id().table_hash());
        place
    }

    /// Writes a task's new row, if it is one.
    fn store(&mut self, place: usize, row: Row, history: Option<String>) -> Result<(), Fault> {
        let touched = &mut self.touched[place];
        if touched.row == row {
            return Ok(());
        }
        let due = next_due(touched.home.spec(), &row);
        let alarm_stays = due == next_due(touched.home.spec(), &touched.row);
        let seq = match touched.seq {
            Some(seq) => seq,
            None => {
                let id = touched.id();
                let statement = self.statements.get(self.conn, Sql::SeqById)?;
                let seq = statement.query_row([id.as_bytes().as_slice()], |stored| stored.get(0))?;
                *touched.seq.insert(seq)
            }
        };
        if alarm_stays && rows::is_step(&touched.row, &row) {
            rows::update_step(self.statements.get(self.conn, Sql::Step)?, seq, &row)?;
        } else if touched.row.history == row.history && touched.row.result == row.result {
            rows::update_state(self.statements.get(self.conn, Sql::Move)?, seq, due, &row)?;
        } else {
            let statement = self.statements.get(self.conn, Sql::Change)?;
            rows::update_all(statement, seq, due, &row, history.as_deref())?;
        }
        touched.row = row;
        Ok(())
    }
}

/// Whether a running row is determined by its fence: it has nothing that can change while the attempt runs.
fn is_plain(row: &Row, fence: Fence) -> bool {
    row.state == State::Running
        && row.owner == Some(fence.owner)
        && row.attempt == fence.attempt
        && row.history.is_none()
}

/// Whether an attempt ended its task and nothing else about it changed: most do.
fn is_plain_end(before: &Row, after: &Row) -> bool {
    after.finished == Some(after.updated)
        && after.owner.is_none()
        && after.history.is_none()
        && (after.waiting_for, after.crashes, after.failures, after.eligible)
            == (before.waiting_for, before.crashes, before.failures, before.eligible)
}
