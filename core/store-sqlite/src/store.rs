//! The store.
//!
//! # What it owns
//! Two connections to one file: one writes, one reads, each behind a lock. SQLite lets one connection write at a time
//! in any case; a lock in the process is what waits in line without polling. Reads run beside a write on what was
//! committed before it.
//!
//! # Invariants
//! * Everything that changes rows is one `BEGIN IMMEDIATE … COMMIT`: between reading a row and writing it nobody else
//!   can have changed it.
//! * Locks are taken in this order: writer, reader, shown. `shown` is held over a commit and the replacing of rows in
//!   memory that follows, and over a read whose row goes to a task that somebody holds. So a row in memory never goes
//!   back to an older one, which would make a running attempt look lost.
//! * No lock is held while the caller's code runs, but for [`Residents::resident`].
//!
//! # Failure
//! Whatever fails inside a transaction, a panic included, rolls it back: the store, the batch and the tasks in memory
//! are as before, and the next call starts afresh. A batch that failed can therefore be handed in again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use rusqlite::{Connection, OptionalExtension, params};
use taskloom_model::{
    Code, Error, LimitRow, Name, OwnerId, ScheduleEffects, ScheduleOperation, ScheduleRow, State, TaskId,
    Timestamp,
};
use taskloom_store::{
    Batch, Capability, Change, Counts, DueSchedules, Filter, GateNews, Late, Nobody, Owner, Residents,
    ScheduleChange, Store, Task, Unserved, struck_off,
};

use crate::damage::Damage;
use crate::failure::Place;
use crate::forks::{self, OpenHere};
use crate::handlers;
use crate::limits::{self, Known};
use crate::listing::{self, Found};
use crate::news::News;
use crate::presence::Presence;
use crate::rows::{self, Fault};
use crate::sweeping::{self, Old, Sweeps};
use crate::turns::Turns;
use crate::whereabouts::Whereabouts;
use crate::write::{Writing, is_anything_ready, next_gate, paused};
use crate::{counting, open, schedules, schema};

/// What an acknowledged task outlives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// A power cut: each commit waits for the disk.
    #[default]
    Disk,
    /// The end of the process, however violent, but not of the machine: the newest commits can be lost then. The
    /// file is never damaged.
    Process,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug)]
pub struct SqliteOptions {
    /// What an acknowledged task outlives.
    pub durability: Durability,
    /// How long a call waits while another process writes before it fails.
    pub busy_timeout: Duration,
    /// Whether the file is made if there is none. If not, that is [`Code::NoStore`].
    pub create: bool,
    /// The SQLite VFS that all input and output goes through, by its registered name; the system's. Tests that drop
    /// writes or fail them come in here.
    pub vfs: Option<&'static str>,
}

impl Default for SqliteOptions {
    /// Safe from a power cut; waits for 10 s; makes the file.
    fn default() -> Self {
        Self {
            durability: Durability::default(),
            busy_timeout: Duration::from_secs(10),
            create: true,
            vfs: None,
        }
    }
}

/// Tasks in a file.
#[derive(Debug)]
pub struct SqliteStore {
    place: Place,
    writer: Mutex<Connection>,
    reader: Mutex<Connection>,
    shown: Mutex<()>,
    sweeps: Sweeps,
    presence: Presence,
    news: News,
    turns: Turns,
    limits: Known,
    /// What is new about gates and was not asked for yet.
    gate_news: Mutex<GateNews>,
    whereabouts: Whereabouts,
    damage: Damage,
    /// After the connections, which it outlives.
    _open_here: OpenHere,
}

impl SqliteStore {
    /// Opens a file, and makes it if there is none, unless it is told not to.
    ///
    /// Fails with `Forked` if the file was open in the process that this one was forked from, `StoreFailed` if it cannot
    /// be opened or made, `NoStore` if it is not there and is not to be made, `NotADatabase` if it is not Taskloom's, and
    /// `NewerSchema` if a newer version made it.
    pub fn open(path: &Path, options: SqliteOptions) -> Result<Self, Error> {
        // An absolute path never looks like one of SQLite's `file:` URIs, and outlives a change of directory.
        let path = std::path::absolute(path).map_err(|cause| {
            Error::new(Code::StoreFailed, format!("cannot open the SQLite store {path:?}: {cause}"))
                .hint("name a file")
        })?;
        let place = Place { path: path.into(), busy_timeout: options.busy_timeout, vfs: options.vfs };
        forks::check(&place.path)?;
        let mut writer = open::writer(&place, options)?;
        Turns::take_part(&mut writer).map_err(|cause| place.failed("open", cause))?;
        let reader = Mutex::new(open::reader(&place)?);
        let open_here = forks::note(&place.path);
        let presence = Presence::of(&place.path);
        let news = News::of(&place.path, presence.directory());
        let turns = Turns::of(presence.directory(), options.busy_timeout);
        let whereabouts = match place.vfs {
            None => Whereabouts::of(&place.path),
            Some(_) => Whereabouts::unknown(),
        };
        Ok(Self {
            place,
            writer: Mutex::new(writer),
            reader,
            shown: Mutex::new(()),
            sweeps: Sweeps::default(),
            presence,
            news,
            turns,
            limits: Known::default(),
            gate_news: Mutex::default(),
            whereabouts,
            damage: Damage::default(),
            _open_here: open_here,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.place.path
    }

    /// Runs `work` in a transaction and commits it. The guard keeps readers from showing older rows.
    fn transact<'s, T>(
        &'s self,
        conn: &Connection,
        work: impl FnOnce() -> Result<T, Fault>,
    ) -> Result<(T, MutexGuard<'s, ()>), Error> {
        let failed = |cause| self.failed("write to", cause);
        let (transaction, _turn) = self.turns.begin(conn).map_err(failed)?;
        self.news.look_and_tell(conn).map_err(failed)?;
        let done = work().map_err(|fault| self.error("write to", fault))?;
        self.whereabouts.check()?;
        let shown = self.shown.lock();
        transaction.commit().map_err(failed)?;
        Ok((done, shown))
    }

    /// A transaction is committed: keeps what is new about gates, and which rows made no sense, until somebody asks.
    fn hear_of(&self, writing: &Writing<'_>) {
        self.damage.note(writing.damaged());
        let news = writing.gate_news();
        if news != GateNews::default() {
            let mut kept = self.gate_news.lock();
            kept.opened |= news.opened;
            kept.due = [kept.due, news.due].into_iter().flatten().min();
        }
    }

    /// SQLite failed, perhaps since the file is not there any more.
    fn failed(&self, doing: &str, cause: rusqlite::Error) -> Error {
        self.whereabouts.check().err().unwrap_or_else(|| self.place.failed(doing, cause))
    }

    fn error(&self, doing: &str, fault: Fault) -> Error {
        match fault {
            Fault::Sqlite(cause) => self.failed(doing, cause),
            Fault::Task(id, cause) => self.place.corrupt(id, cause),
            Fault::Beside(path, cause) => self.place.beside(&path, cause),
        }
    }

    /// Reads on the connection for it.
    fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T, Error> {
        work(&self.reader.lock()).map_err(|fault| self.error("read", fault))
    }

    /// What is stored, as the task that somebody here holds, if that may still change; else as a new one.
    fn show(&self, held: Arc<Task>) -> Result<Option<Arc<Task>>, Fault> {
        let conn = self.reader.lock();
        let _shown = self.shown.lock();
        let id = held.id();
        let mut statement = conn.prepare_cached(schema::TASK_BY_ID)?;
        let found = statement
            .query_row([id.as_bytes().as_slice()], |stored| {
                let row = match rows::read_row(stored) {
                    Ok(row) => row,
                    Err(error) => return Ok(Err(error)),
                };
                if held.with_row(|shown| *shown == row) {
                    return Ok(Ok(Arc::clone(&held)));
                }
                match held.replace_row(row) {
                    None => Ok(Ok(Arc::clone(&held))),
                    Some(row) => Ok(rows::read_spec(id, stored).map(|spec| Task::new(spec, row, None))),
                }
            })
            .optional()?;
        found.transpose().map_err(|error| Fault::Task(id, error))
    }
}

impl SqliteStore {
    /// What a stretch of the table has to be forgotten.
    fn old(&self, before: Timestamp, limit: usize, from: i64) -> Result<Old, Error> {
        self.read(|conn| sweeping::find(conn, before, limit, from))
    }

    /// Forgets rows, in one transaction; how many there were.
    fn forget(&self, before: Timestamp, seqs: &[i64]) -> Result<usize, Error> {
        if seqs.is_empty() {
            return Ok(0);
        }
        let conn = self.writer.lock();
        let (forgotten, _) = self.transact(&conn, || sweeping::forget(&conn, before, seqs))?;
        Ok(forgotten)
    }
}

impl Store for SqliteStore {
    fn kind(&self) -> &'static str {
        "sqlite"
    }

    fn capability(&self) -> Capability {
        Capability { resident: false, durable: true, dependencies: false, schedules: true }
    }

    fn write(&self, batch: &mut Batch, residents: &dyn Residents, now: Timestamp) -> Result<(), Error> {
        self.write_with(batch, &mut || (Vec::new(), now), residents, now)
    }

    fn write_with(
        &self,
        batch: &mut Batch,
        late: &mut Late<'_>,
        residents: &dyn Residents,
        now: Timestamp,
    ) -> Result<(), Error> {
        if let (Some(claim), true, true) = (&batch.claim, batch.inserts.is_empty(), batch.commits.is_empty())
        {
            // Asked without the lock on the file, since an idle worker asks often.
            let (ready, damaged) = self.read(|conn| is_anything_ready(claim, conn))?;
            self.damage.note(&damaged);
            if !ready {
                batch.claim = None;
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        let conn = self.writer.lock();
        let mut writing = Writing::new(&conn, &self.place, &self.limits, residents, now);
        let ((), _shown) = self.transact(&conn, || writing.run(batch, late))?;
        self.hear_of(&writing);
        writing.answer(batch);
        Ok(())
    }

    fn elapse(
        &self,
        limit: usize,
        residents: &dyn Residents,
        changes: &mut Vec<Change>,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, Error> {
        let next = self.read(|conn| {
            let next = conn
                .prepare_cached(schema::NEXT_DUE)?
                .query_row([], |stored| stored.get::<_, Option<i64>>(0))?;
            Ok([next.map(Timestamp::from_micros), next_gate(conn)?].into_iter().flatten().min())
        })?;
        if next.is_none_or(|next| next > now) {
            return Ok(next);
        }
        let conn = self.writer.lock();
        let mut writing = Writing::new(&conn, &self.place, &self.limits, residents, now);
        let (next, _shown) = self.transact(&conn, || writing.elapse(limit))?;
        self.hear_of(&writing);
        writing.tell(changes);
        Ok(next)
    }

    fn get(&self, id: TaskId, residents: &dyn Residents) -> Result<Option<Arc<Task>>, Error> {
        if let Some(held) = residents.resident(id) {
            return self.show(held).map_err(|fault| self.error("read", fault));
        }
        self.read(|conn| {
            let mut statement = conn.prepare_cached(schema::TASK_BY_ID)?;
            let found = statement
                .query_row([id.as_bytes().as_slice()], |stored| Ok(rows::read_task(id, stored)))
                .optional()?;
            found.transpose().map_err(|error| Fault::Task(id, error))
        })
    }

    fn list(&self, filter: &Filter, residents: &dyn Residents) -> Result<Vec<Arc<Task>>, Error> {
        let mut tasks = Vec::new();
        let mut after = filter.after.map(|id| id.as_bytes().to_vec());
        // Rows that make no sense are left out, and others come in their places.
        while tasks.len() < filter.limit {
            let most = filter.limit - tasks.len();
            let page = self.read(|conn| listing::page(conn, filter, after.as_deref(), most, residents))?;
            let mut damaged = page.damaged;
            for (seq, found) in page.found {
                match found {
                    Found::Read(task) => tasks.push(task),
                    // Read once more, by itself: only then may its row be shown.
                    Found::Held(held) => match self.show(held) {
                        Ok(shown) => tasks.extend(shown),
                        Err(Fault::Task(..)) => damaged.push(seq),
                        Err(fault) => return Err(self.error("read", fault)),
                    },
                }
            }
            self.damage.note(&damaged);
            after = page.last.or(after);
            if page.is_all {
                break;
            }
        }
        Ok(tasks)
    }

    fn queue_counts(&self) -> Result<Vec<(Name, Counts)>, Error> {
        let counted = self.read(counting::count)?;
        self.damage.note(&counted.damaged);
        Ok(counted.queues)
    }

    fn set_paused(&self, queue: Name, paused: bool) -> Result<bool, Error> {
        let conn = self.writer.lock();
        let (changed, _) = self.transact(&conn, || {
            let sql = if paused { schema::PAUSE } else { schema::RESUME };
            Ok(conn.prepare_cached(sql)?.execute([queue.as_str()])?)
        })?;
        Ok(changed > 0)
    }

    fn paused(&self) -> Result<Vec<Name>, Error> {
        Ok(self.read(paused)?.iter().map(|name| Name::new(name)).collect())
    }

    fn set_limit(&self, row: LimitRow, changes: &mut Vec<Change>, now: Timestamp) -> Result<bool, Error> {
        row.limit.validate()?;
        // Most often a handler declares what it did when the last process started.
        let known = self.read(|conn| self.limits.read(conn))?;
        if !(*known).clone().set(row.clone()) {
            return Ok(false);
        }
        let conn = self.writer.lock();
        let mut writing = Writing::new(&conn, &self.place, &self.limits, &Nobody, now);
        let (new, _shown) = self.transact(&conn, || {
            let new = writing.set_limit(&row)?;
            writing.close_gates()?;
            Ok(new)
        })?;
        self.hear_of(&writing);
        writing.tell(changes);
        Ok(new)
    }

    fn limits(&self) -> Result<Vec<LimitRow>, Error> {
        self.read(limits::read_all)
    }

    fn gate_news(&self) -> GateNews {
        std::mem::take(&mut *self.gate_news.lock())
    }

    fn sweep(&self, before: Timestamp, limit: usize) -> Result<usize, Error> {
        let seqs = self.sweeps.by_hand(limit, |limit, from| self.old(before, limit, from))?;
        self.forget(before, &seqs)
    }

    fn sweep_some(&self, before: Timestamp, limit: usize) -> Result<(usize, bool), Error> {
        let (seqs, more) = self.sweeps.by_the_clock(|from| self.old(before, limit, from))?;
        Ok((self.forget(before, &seqs)?, more))
    }

    fn discard(&self, ids: &[TaskId], states: &[State], now: Timestamp) -> Result<usize, Error> {
        let wanted = states.iter().filter(|state| state.is_terminal());
        let wanted = wanted.fold(0_i64, |wanted, state| wanted | 1 << state.number());
        let conn = self.writer.lock();
        let (count, _) = self.transact(&conn, || {
            let mut discard = conn.prepare_cached(schema::DISCARD)?;
            let mut count = 0;
            for id in ids {
                count += discard.execute(params![now.micros(), id.as_bytes().as_slice(), wanted])?;
            }
            Ok(count)
        })?;
        Ok(count)
    }

    fn check(&self) -> Result<(), Error> {
        self.whereabouts.check()
    }

    fn note_handlers(
        &self,
        owner: OwnerId,
        names: &[Name],
        serves: bool,
        now: Timestamp,
    ) -> Result<(), Error> {
        let conn = self.writer.lock();
        self.transact(&conn, || handlers::note(&conn, owner, names, serves, now)).map(drop)
    }

    fn knows_handler(&self, name: &str) -> Result<bool, Error> {
        self.read(|conn| handlers::is_known(conn, name))
    }

    fn known_handlers(&self) -> Result<Vec<String>, Error> {
        self.read(handlers::names)
    }

    fn unserved(&self) -> Result<Vec<Unserved>, Error> {
        self.read(handlers::unserved)
    }

    fn examine(&self) -> Result<bool, Error> {
        self.read(|conn| self.damage.search(conn))
    }

    fn damaged(&self) -> Result<Vec<Error>, Error> {
        self.read(|conn| self.damage.tell(conn, &self.place))
    }

    fn join(&self, name: &str, now: Timestamp) -> Result<OwnerId, Error> {
        // Else the owner's file would be made in a directory that has gone.
        self.whereabouts.check()?;
        let conn = self.writer.lock();
        let mut new = None;
        let joined = self.transact(&conn, || {
            conn.prepare_cached(schema::JOIN)?.execute(params![name, now.micros()])?;
            let number = rows::read_owner(conn.last_insert_rowid())
                .map_err(|error| self.place.corrupt_somewhere(error));
            let Ok(owner) = number else { return Ok(number) };
            // Before anybody can see that there is such an owner: it must not be taken for dead.
            self.presence
                .hold(owner)
                .map_err(|cause| Fault::Beside(self.presence.directory().into(), cause))?;
            new = Some(owner);
            Ok(Ok(owner))
        });
        match joined {
            Ok((owner, _)) => owner,
            Err(error) => {
                if let Some(owner) = new {
                    self.presence.forget(owner);
                }
                Err(error)
            }
        }
    }

    fn beat(&self, owner: OwnerId) -> Result<(), Error> {
        let conn = self.writer.lock();
        let (moved, _) = self.transact(&conn, || {
            Ok(conn.prepare_cached(schema::BEAT)?.execute([owner.get().cast_signed()])?)
        })?;
        if moved == 0 {
            return Err(struck_off(owner));
        }
        Ok(())
    }

    fn note_begun(&self, owner: OwnerId, place: usize, begun: Option<(TaskId, u32)>, alone: bool) {
        self.presence.note(owner, place, begun, alone);
    }

    fn owners(&self) -> Result<Vec<Owner>, Error> {
        let found = self.read(|conn| {
            let mut statement = conn.prepare_cached(schema::OWNERS)?;
            let found =
                statement.query_map([], |stored| Ok((stored.get(0)?, stored.get(1)?, stored.get(2)?)))?;
            Ok(found.collect::<Result<Vec<(i64, String, i64)>, _>>()?)
        })?;
        let owner = |(number, name, beats)| {
            let id = rows::read_owner(number).map_err(|error| self.place.corrupt_somewhere(error))?;
            Ok(Owner { id, name, beats: i64::cast_unsigned(beats), gone: self.presence.is_gone(id) })
        };
        found.into_iter().map(owner).collect()
    }

    fn bury(
        &self,
        owner: OwnerId,
        residents: &dyn Residents,
        changes: &mut Vec<Change>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let conn = self.writer.lock();
        let mut writing = Writing::new(&conn, &self.place, &self.limits, residents, now);
        let begun = self.presence.begun(owner);
        let ((), _shown) = self.transact(&conn, || writing.bury(owner, begun.as_ref()))?;
        self.hear_of(&writing);
        writing.tell(changes);
        self.presence.forget(owner);
        Ok(())
    }

    fn await_news(&self, limit: Duration) -> taskloom_store::News {
        self.news.wait(&self.writer, limit)
    }

    fn rouse(&self) {
        self.news.rouse();
    }

    fn change_schedule(
        &self,
        change: ScheduleChange,
        residents: &dyn Residents,
        changes: &mut Vec<Change>,
        now: Timestamp,
    ) -> Result<ScheduleEffects, Error> {
        if let ScheduleOperation::Put { spec, .. } = &change.operation
            && self.schedule(&change.name)?.is_some_and(|row| row.spec == **spec)
        {
            // What every process says when it starts: most often nobody has to be kept from writing.
            return Ok(ScheduleEffects::default());
        }
        let conn = self.writer.lock();
        let mut writing = Writing::new(&conn, &self.place, &self.limits, residents, now);
        let (verdict, _shown) = self.transact(&conn, || {
            let verdict = writing.change_schedule(&change)?;
            writing.close_gates()?;
            Ok(verdict)
        })?;
        self.hear_of(&writing);
        writing.tell(changes);
        verdict
    }

    fn schedules(&self) -> Result<Vec<ScheduleRow>, Error> {
        self.read(|conn| schedules::all(conn, &self.place))?
    }

    fn schedule(&self, name: &str) -> Result<Option<ScheduleRow>, Error> {
        self.read(|conn| schedules::one(conn, name, &self.place))?
    }

    fn due_schedules(&self, limit: usize, now: Timestamp) -> Result<DueSchedules, Error> {
        self.read(|conn| schedules::due(conn, limit, now, &self.place))
    }
}

#[cfg(test)]
mod tests;
