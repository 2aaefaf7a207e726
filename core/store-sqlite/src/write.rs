//! One transaction: what a batch does inside it, and what the caller sees after it.
//!
//! # What it owns
//! * the statements, prepared once per transaction and run thousands of times;
//! * a [`Touched`] for each task that the transaction changed or looked at: its row as the transaction has it, and the
//!   tasks in memory that will show it. Two changes of one task in one batch therefore see each other, and no `Task`
//!   is written to before the commit;
//! * the answers, kept apart from the batch until then: verdicts, the tasks that stand in for others, consequences.
//!
//! # Invariants
//! * Every row comes from [`taskloom_model::apply`] on the row as this transaction has it. The one shortcut is
//!   [`schema::REPORT`]: the end of an attempt is worked out on the caller's copy and written only if the stored row
//!   is that copy. If it is not, the stored row is read and decides.
//! * `due` is the row's [`next_due`] whenever a row is written.
//! * How an insert goes is decided before anything of it is written, and keys change hands when nothing can refuse it
//!   any more. What follows from a change (the cancels of who was replaced, and of children) comes after it.
//! * A task that has settled in memory is never written to again (see `Task`): a copy that is out of date for good
//!   stays so, and whoever asks for the task gets a new one. Nor is one that was started over: a replay gives the
//!   new generation a place of its own in `touched`.
//!
//! # Failure
//! A refusal is a verdict, and leaves no trace in the transaction. So does a commit on a row that makes no sense: it
//! must not hold up the others. Claims, times and burials, which go through many rows, leave such a row out, as it is,
//! and note it ([`crate::damage`]). A [`Fault`] ends it: the transaction is rolled back by whoever began it, and neither
//! the batch nor any task has been touched.

use std::sync::Arc;

use hashbrown::{HashMap, HashTable};
use rusqlite::{CachedStatement, Connection, OptionalExtension};
use taskloom_model::{
    Code, Effects, Error, Fence, Operation, Row, Spec, State, TaskId, Timestamp, WaitingFor, apply, next_due,
};
use taskloom_store::{Batch, Commit, GateNews, Late, Residents, Task, struck_off};

use crate::failure::Place;
use crate::limits::Known;
use crate::rows::{self, Attempt, Fault};
use crate::schema;
use gates::{Gates, Passed};

mod claim;
mod family;
mod gates;
mod insert;
mod keys;
mod many;
mod publish;
mod schedules;

pub(crate) use claim::{Runs, is_anything_ready, paused};
pub(crate) use gates::next_gate;

/// A task that the transaction has looked at or changed.
struct Touched {
    /// Its key, if it was needed.
    seq: Option<i64>,
    /// As the transaction has it.
    row: Row,
    home: Home,
    /// Other tasks in memory with the same id.
    twins: Vec<Arc<Task>>,
    /// There is a new generation of it, in another place.
    superseded: bool,
}

impl Touched {
    fn new(seq: Option<i64>, row: Row, home: Home) -> Self {
        Self { seq, row, home, twins: Vec::new(), superseded: false }
    }

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

    /// Makes a task in memory the one that is told of.
    fn bring_home(&mut self, task: Arc<Task>) {
        if matches!(&self.home, Home::Held(known) if Arc::ptr_eq(known, &task)) {
            return;
        }
        self.twins.retain(|twin| !Arc::ptr_eq(twin, &task));
        if let Home::Held(other) = std::mem::replace(&mut self.home, Home::Held(task)) {
            self.twins.push(other);
        }
    }
}

/// A task of which is told after the commit.
enum Told {
    /// This one.
    Task(Arc<Task>),
    /// The one at a place in `touched`.
    Place(usize),
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
struct Statements<'c>([Option<CachedStatement<'c>>; 15]);

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
    UnfinishedById,
    KeyHolder,
    GiveKey,
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
            Self::UnfinishedById => schema::UNFINISHED_BY_ID,
            Self::KeyHolder => schema::KEY_HOLDER,
            Self::GiveKey => schema::GIVE_KEY,
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
    /// What this batch inserted, if it may come upon that by itself.
    fresh: Option<HashMap<TaskId, Arc<Task>>>,
    inserts: Vec<Result<(), Error>>,
    /// Which task stands in where: the insert, and its place there.
    stand_ins: Vec<(usize, usize, Told)>,
    verdicts: Vec<Result<Effects, Error>>,
    /// Changes that followed from others, or from the time.
    told: Vec<(Told, Effects)>,
    claimed: Vec<usize>,
    known: &'c Known,
    gates: Gates,
    /// Rows that were left out since they make no sense, by their keys.
    damaged: Vec<i64>,
}

impl<'c> Writing<'c> {
    pub(crate) fn new(
        conn: &'c Connection,
        place: &'c Place,
        known: &'c Known,
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
            stand_ins: Vec::new(),
            verdicts: Vec::new(),
            told: Vec::new(),
            claimed: Vec::new(),
            known,
            gates: Gates::default(),
            damaged: Vec::new(),
        }
    }

    /// What is new about gates, once all is committed.
    pub(crate) fn gate_news(&self) -> GateNews {
        self.gates.news
    }

    /// Rows that were left out since they make no sense.
    pub(crate) fn damaged(&self) -> &[i64] {
        &self.damaged
    }

    /// Goes on without a row that makes no sense.
    fn sound<T>(&mut self, seq: i64, outcome: Result<T, Fault>) -> Result<Option<T>, Fault> {
        match outcome {
            Ok(found) => Ok(Some(found)),
            Err(Fault::Task(..)) => {
                self.damaged.push(seq);
                Ok(None)
            }
            Err(fault) => Err(fault),
        }
    }

    /// Does everything that a batch asks for, and leaves the batch alone, but for the inserts that it gets meanwhile.
    pub(crate) fn run(&mut self, batch: &mut Batch, late: &mut Late<'_>) -> Result<(), Fault> {
        self.fresh = may_find_its_own(batch).then(HashMap::new);
        loop {
            self.insert_all(batch)?;
            let (more, now) = late();
            if more.is_empty() {
                break;
            }
            self.now = self.now.max(now);
            batch.inserts.extend(more);
            if self.fresh.is_none() && may_find_its_own(batch) {
                // What came before has no unique keys, by which alone inserts come upon each other.
                self.fresh = Some(HashMap::new());
            }
        }
        for commit in &batch.commits {
            let verdict = self.commit(commit)?;
            self.verdicts.push(verdict);
        }
        if let Some(claim) = &batch.claim {
            self.refill()?;
            self.claim(claim)?;
        }
        self.close_gates()
    }

    /// Makes the inserts of a batch that have not been made yet.
    fn insert_all(&mut self, batch: &Batch) -> Result<(), Fault> {
        for (number, insert) in batch.inserts.iter().enumerate().skip(self.inserts.len()) {
            let verdict = match self.insert(&insert.tasks)? {
                Ok(inserted) => {
                    let stand_ins = inserted.stand_ins.into_iter();
                    self.stand_ins.extend(stand_ins.map(|(index, other)| (number, index, other)));
                    self.replace(inserted.replaced)?;
                    Ok(())
                }
                Err(refusal) => Err(refusal),
            };
            self.inserts.push(verdict);
        }
        Ok(())
    }

    /// Makes one change, and inserts what it spawns.
    fn commit(&mut self, commit: &Commit) -> Result<Result<Effects, Error>, Fault> {
        let task = &commit.task;
        let replayed = matches!(commit.operation, Operation::Replay);
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
        if replayed && !commit.spawn.is_empty() {
            return Ok(Err(task.spec().replay_with_others()));
        }
        let mut row = self.touched[place].row.clone();
        if let Operation::Claim { owner } = commit.operation {
            if !self.is_owner(owner)? {
                return Ok(Err(struck_off(owner)));
            }
            if task.with_row(|shown| shown.generation) != row.generation {
                return Ok(Err(task.is_older()));
            }
        }
        let mut effects = match apply(commit.operation.clone(), task.spec(), &mut row, self.now) {
            Ok(effects) => effects,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if matches!(commit.operation, Operation::Claim { .. }) {
            match self.pass(place)? {
                Passed::Through => {}
                Passed::KeyClosed | Passed::LineClosed => {
                    let row = &self.touched[place].row;
                    (effects.to, effects.due) = (row.state, next_due(task.spec(), row));
                    return Ok(Ok(effects));
                }
            }
        }
        if let (Operation::Hasten, Some(own)) = (&commit.operation, task.spec().key_limit())
            && self.touched[place].row.waiting_for == WaitingFor::Key
            && self.has_no_room(task.spec())?
        {
            return Ok(Err(own.no_room(task.id())));
        }
        // Whatever can be refused is tried before anything is written that could not be taken back.
        let history = match rows::history(&row) {
            Ok(history) => history,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let inserted = match self.insert(&commit.spawn)? {
            Ok(inserted) => inserted,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if replayed
            && let Some(unique) = task.spec().unique()
            && let Err(refusal) = self.regain_key(place, unique)?
        {
            return Ok(Err(refusal));
        }
        let place = if replayed { self.new_generation(place) } else { place };
        if matches!(commit.operation, Operation::Hasten) {
            self.store_as_is(place, row, history)?;
        } else {
            self.store(place, row, history)?;
        }
        let row = &self.touched[place].row;
        (effects.to, effects.due) = (row.state, next_due(task.spec(), row));
        if replayed {
            self.told.push((Told::Place(place), effects));
            return Ok(Ok(effects.as_replayed()));
        }
        if let Operation::Postpone { key, until, .. } = &commit.operation {
            self.shut_key(key, *until)?;
        }
        for (index, task) in commit.spawn.iter().enumerate() {
            if inserted.is_new(index) {
                let (to, due) = task.with_row(|row| (row.state, next_due(task.spec(), row)));
                let effects = Effects { from: None, to, left: None, due };
                self.told.push((Told::Task(Arc::clone(task)), effects));
            }
        }
        self.replace(inserted.replaced)?;
        if effects.moved() && effects.to == State::Cancelled {
            self.cancel_children(place)?;
        }
        Ok(Ok(effects))
    }

    /// A task is about to be started over: those in memory will show what became of it, and a new one the rest; its
    /// place.
    fn new_generation(&mut self, ended: usize) -> usize {
        let touched = &mut self.touched[ended];
        touched.superseded = true;
        let home = Home::Read(Box::new(touched.home.spec().clone()));
        let (seq, row, id) = (touched.seq, touched.row.clone(), touched.id());
        let new = self.touched.len();
        self.touched.push(Touched::new(seq, row, home));
        let touched = &self.touched;
        if let Some(place) = self.by_id.find_mut(id.table_hash(), |place| touched[*place].id() == id) {
            *place = new;
        }
        new
    }

    /// The short way for the end of an attempt: believes the caller's copy, and compares and sets. `None` if the
    /// copy is not what is stored, or may not be.
    fn report(&mut self, task: &Arc<Task>, operation: &Operation) -> Result<Option<Effects>, Fault> {
        let Some(fence) = operation.fence() else { return Ok(None) };
        let Some(before) = task.with_row(|row| is_plain(row, fence).then(|| row.clone())) else {
            return Ok(None);
        };
        let (spec, mut row) = (task.spec(), before.clone());
        if matches!(operation, Operation::Postpone { .. }) || self.is_limited(spec)? {
            return Ok(None);
        }
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
        self.tell_schedule(spec, &before, &row)?;
        self.remember(Touched::new(None, row, Home::Held(Arc::clone(task))));
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
        Ok(Some(self.remember(Touched::new(Some(seq), row, home))))
    }

    /// Where a task is that a commit of this batch has touched.
    fn known(&self, id: TaskId) -> Option<usize> {
        self.by_id.find(id.table_hash(), |place| self.touched[*place].id() == id).copied()
    }

    /// Makes a task findable for the rest of the batch; its place.
    fn remember(&mut self, touched: Touched) -> usize {
        let place = self.touched.len();
        self.touched.push(touched);
        self.index(place);
        place
    }

    fn index(&mut self, place: usize) {
        let touched = &self.touched;
        let hash = |place: &usize| touched[*place].id().table_hash();
        self.by_id.insert_unique(hash(&place), place, hash);
    }

    /// The key of a task.
    fn seq(&mut self, place: usize) -> Result<i64, Fault> {
        let touched = &mut self.touched[place];
        if let Some(seq) = touched.seq {
            return Ok(seq);
        }
        let id = touched.id();
        let statement = self.statements.get(self.conn, Sql::SeqById)?;
        let seq = statement.query_row([id.as_bytes().as_slice()], |stored| stored.get(0))?;
        Ok(*touched.seq.insert(seq))
    }

    /// Writes a task's new row, or the one that its gates make of it.
    fn store(&mut self, place: usize, mut row: Row, history: Option<String>) -> Result<(), Fault> {
        self.at_gates(place, &mut row)?;
        self.store_as_is(place, row, history)
    }

    /// Writes a task's new row, if it is one.
    fn store_as_is(&mut self, place: usize, row: Row, history: Option<String>) -> Result<(), Fault> {
        if self.touched[place].row == row {
            return Ok(());
        }
        let seq = self.seq(place)?;
        let touched = &mut self.touched[place];
        let due = next_due(touched.home.spec(), &row);
        let alarm_stays = due == next_due(touched.home.spec(), &touched.row);
        if alarm_stays && rows::is_step(&touched.row, &row) {
            rows::update_step(self.statements.get(self.conn, Sql::Step)?, seq, &row)?;
        } else if touched.row.history == row.history && touched.row.result == row.result {
            rows::update_state(self.statements.get(self.conn, Sql::Move)?, seq, due, &row)?;
        } else {
            let statement = self.statements.get(self.conn, Sql::Change)?;
            rows::update_all(statement, seq, due, &row, history.as_deref())?;
        }
        let before = std::mem::replace(&mut touched.row, row);
        let touched = &self.touched[place];
        self.tell_schedule(touched.home.spec(), &before, &touched.row)
    }
}

/// Whether a batch may come upon tasks that it has inserted itself without being handed them.
fn may_find_its_own(batch: &Batch) -> bool {
    let unique = |tasks: &[Arc<Task>]| tasks.iter().any(|task| task.spec().unique().is_some());
    batch.claim.is_some()
        || batch.inserts.iter().any(|insert| unique(&insert.tasks))
        || batch.commits.iter().any(|commit| {
            matches!(commit.operation, Operation::Cancel { .. } | Operation::DependencyEnded { .. })
                || unique(&commit.spawn)
        })
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
