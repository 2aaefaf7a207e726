//! The contract of a store.
//!
//! # What a store owns
//! The rows of all tasks, who claims them (owners), and the ids that are taken. It runs no thread and reads no
//! clock: it is told `now`.
//!
//! # What it guarantees
//! * **Atomic.** All of a [`Batch`] is one transaction: its inserts, its commits with the tasks that they spawn, and
//!   its claim, which sees them. If [`Store::write`] returns an error, nothing of the batch happened, and its inserts
//!   and commits are still in it, to be tried again. One insert or
//!   commit that is refused (its verdict says why) does not harm the others; an insert of several tasks is accepted
//!   or refused as a whole.
//! * **Compare and set.** A commit is applied, by [`taskloom_model::apply`], to the row as the *store* has it, not
//!   as the caller believes it to be. So a report about an attempt that no longer counts is refused, whoever sends it.
//! * **Durable before told.** When a call returns, a durable store has it on disk. Only then are the rows in the
//!   caller's [`Task`]s replaced, so no one can see what could still be lost.
//! * **Times.** [`Store::elapse`] tells the tasks whose time has come, and when the next one's does.
//! * **Unique keys.** Among the tasks of one handler at most one that has not ended has a unique key; one with
//!   `unique_for` keeps it until that time even when it has ended. An insert whose key is taken goes by the new task's
//!   `on_conflict`: the task that has the key stands in [`Insert::tasks`] in the new one's place; or it is cancelled, as
//!   a consequence, and the new one inserted; or the insert is refused with `DuplicateKey`. A task that has ended but
//!   keeps its key is not cancelled: the new one takes the key over from it.
//! * **Children.** A commit of [`Operation::Spawn`] with the child as what it spawns is refused with `DuplicateId` if
//!   the child exists: its id follows from its parent's ([`taskloom_model::TaskId::child`]). When a task becomes
//!   cancelled, so do its children that have not ended and are not detached, and theirs, as consequences of the same
//!   commit. A finished child is not swept while its parent has not ended.
//! * **Replays.** A commit of [`Operation::Replay`] leaves its task with the outcome that it has; its verdict says that
//!   nothing moved there. The new generation is another [`Task`] with the same id, and a consequence of the commit:
//!   whoever asks for the id from then on finds that one, and what is asked for through the old one is done to it; but
//!   not a claim, which hands out the very task that it names (`IllegalTransition`). A replay brings no other tasks
//!   along (`NotSupported`).
//! * **Paused queues** are left out of claims.
//! * **Limits** ([`taskloom_model::Limits`]) hold for all processes. A claim takes slots and tokens; slots come back in the
//!   transaction in which a task leaves `running`. A claim of one task whose key is closed succeeds as a change to
//!   `pending`, and of one whose line is closed as no change at all. Whoever comes into a queue beyond its strand's window
//!   is `pending` instead; those that are let in when there is room are consequences of the change that made it, or
//!   changes of [`Store::elapse`] where time did.
//! * **Schedules.** [`Store::change_schedule`] applies [`taskloom_model::apply_schedule`] to the row as the store has it,
//!   and inserts the task of a firing, and cancels the one whose place it takes, in the same transaction. When a task
//!   that a schedule submitted ends, [`ScheduleOperation::Ended`] is applied to its schedule in that very transaction,
//!   whoever ends it.
//! * **Owners.** [`Store::join`] gives each process a number that was never given out before. [`Store::bury`] takes
//!   everything away from one that died, and from then on it gets nothing more: its claims find no tasks, and a commit
//!   of [`Operation::Claim`] in its name is refused with `LeaseLost`. Who is dead for the others may only have been slow,
//!   and what it claimed afterwards nobody would ever take from it.
//!
//! # Two ways to keep rows
//! A *resident* store ([`Capability::resident`]) keeps its rows in the [`Task`]s themselves; claiming a known task is
//! then a commit of [`Operation::Claim`] without any search. Others keep rows in a file or a server; the `Task`s are
//! this process's copies. When such a store reads a row it first asks [`Residents`] for a copy that somebody here
//! already holds, so that one task is one `Task` in a process and a handle sees what a worker did.
//!
//! [`ScheduleOperation::Ended`]: taskloom_model::ScheduleOperation::Ended

use std::sync::Arc;
use std::time::Duration;

use taskloom_model::{
    Bytes, Code, Effects, Error, Fence, LimitRow, Name, Operation, OwnerId, ScheduleEffects, ScheduleRow,
    State, TaskId, Timestamp,
};

pub use self::batch::{Batch, Change, Claim, Commit, Insert};
pub use self::filter::{Counts, Filter};
pub use self::owners::{News, Owner, Unserved, struck_off};
pub use self::schedules::{DueSchedules, ScheduleChange};
use crate::Task;

mod batch;
mod filter;
mod owners;
mod schedules;

/// What a store can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Rows live in the tasks themselves.
    pub resident: bool,
    /// What was accepted outlives the process.
    pub durable: bool,
    /// It keeps dependencies between tasks.
    pub dependencies: bool,
    /// It keeps schedules.
    pub schedules: bool,
}

/// The tasks that somebody in this process holds.
pub trait Residents: Sync {
    /// The one with this id.
    fn resident(&self, id: TaskId) -> Option<Arc<Task>>;
}

/// No task is held.
#[derive(Clone, Copy, Debug)]
pub struct Nobody;

impl Residents for Nobody {
    fn resident(&self, _: TaskId) -> Option<Arc<Task>> {
        None
    }
}

/// What is new about the gates of a store whose tasks wait there as rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GateNews {
    /// Slots or tokens came back: there may be more to claim.
    pub opened: bool,
    /// One opens by itself then.
    pub due: Option<Timestamp>,
}

/// Refuses tasks with unique keys.
pub(crate) fn refuse_unique(tasks: &[Arc<Task>]) -> Result<(), Error> {
    match tasks.iter().find(|task| task.spec().unique().is_some()) {
        Some(task) => Err(Error::new(
            Code::NotSupported,
            format!("task {} has a unique key, and has to be inserted by a batch", task.id()),
        )),
        None => Ok(()),
    }
}

/// A task that has ended well, by which attempt, and its result, if that is known.
pub type FreeEnd<'a> = (&'a Arc<Task>, Fence, Option<&'a mut Bytes>);

/// Inserts that have come since this was last asked, and what time it is. Called inside a transaction: it must not wait.
pub type Late<'a> = dyn FnMut() -> (Vec<Insert>, Timestamp) + 'a;

/// A place where tasks live. See the module's essay for what it guarantees.
pub trait Store: Send + Sync {
    /// What kind of store it is, in one word: `memory`, `sqlite`.
    fn kind(&self) -> &'static str;

    /// What it can do.
    fn capability(&self) -> Capability;

    /// Makes all changes of a batch in one transaction and fills in what became of them.
    fn write(&self, batch: &mut Batch, residents: &dyn Residents, now: Timestamp) -> Result<(), Error>;

    /// As [`Store::write`], for a store that writes in transactions and can take more into one that is under way: when all
    /// of the batch's inserts are in, it asks for those that have come meanwhile, until there are none, and adds them to the
    /// batch's. Whatever becomes of the transaction then becomes of them too.
    fn write_with(
        &self,
        batch: &mut Batch,
        late: &mut Late<'_>,
        residents: &dyn Residents,
        now: Timestamp,
    ) -> Result<(), Error> {
        let _ = late;
        self.write(batch, residents, now)
    }

    /// Inserts tasks, all or none. A shorter way for a batch of one insert of tasks without unique keys; those that
    /// have one are refused with `NotSupported`, since what became of them could not be told.
    fn insert(&self, tasks: &[Arc<Task>], now: Timestamp) -> Result<(), Error> {
        refuse_unique(tasks)?;
        let insert = Insert { tasks: tasks.to_vec(), verdict: None };
        let mut batch = Batch { inserts: vec![insert], ..Batch::default() };
        self.write(&mut batch, &Nobody, now)?;
        batch.inserts.pop().and_then(|insert| insert.verdict).unwrap_or(Ok(()))
    }

    /// Makes one change that brings no tasks with it. A shorter way for [`Store::commit`], and on a resident store one
    /// that shares nothing: workers do it twice for every task.
    fn change(
        &self,
        task: &Arc<Task>,
        operation: Operation,
        consequences: &mut Vec<Change>,
        now: Timestamp,
    ) -> Result<Effects, Error> {
        let commit = Commit { task: Arc::clone(task), operation, spawn: Vec::new() };
        self.commit(commit, consequences, now)
    }

    /// Claims a task that was eligible from the first and has nothing to pass, and calls `note` with the attempt's fence
    /// and since when the task was eligible, before anybody can change it again. The attempt counts as begun. `note` must
    /// not look at the task, nor at the store.
    ///
    /// None if it takes more than that, or if the store is not resident: then it is for [`Store::change`] and
    /// [`Task::begin`].
    fn claim_freely(
        &self,
        task: &Arc<Task>,
        owner: OwnerId,
        now: Timestamp,
        note: &mut dyn FnMut(Fence, Timestamp),
    ) -> Option<Result<(), Error>> {
        let _ = (task, owner, now, note);
        None
    }

    /// Ends a task well that has nothing to pass, as its worker says: what [`Store::change`] does, and nothing follows from
    /// it. `result` is taken.
    ///
    /// None if it takes more than that, or if the store is not resident: then `result` is left, for [`Store::change`].
    fn succeed_freely(
        &self,
        task: &Arc<Task>,
        fence: Fence,
        result: &mut Bytes,
        now: Timestamp,
    ) -> Option<Result<(), Error>> {
        let _ = (task, fence, result, now);
        None
    }

    /// The same of many, in their order; each costs less than by itself. Of one without a result nothing is known.
    fn succeed_all_freely(
        &self,
        ended: &mut dyn Iterator<Item = FreeEnd<'_>>,
        now: Timestamp,
    ) -> Vec<Option<Result<(), Error>>> {
        ended.map(|(task, fence, result)| self.succeed_freely(task, fence, result?, now)).collect()
    }

    /// Makes one change. A shorter way for a batch of one commit.
    fn commit(
        &self,
        commit: Commit,
        consequences: &mut Vec<Change>,
        now: Timestamp,
    ) -> Result<Effects, Error> {
        let mut batch = Batch { commits: vec![commit], ..Batch::default() };
        self.write(&mut batch, &Nobody, now)?;
        consequences.append(&mut batch.consequences);
        batch
            .verdicts
            .pop()
            .unwrap_or_else(|| Err(Error::new(Code::StoreFailed, "the store gave no verdict")))
    }

    /// Applies [`Operation::Elapse`] to at most `limit` tasks whose time has come, earliest first, and says when the
    /// next time comes (possibly at once, if there are more).
    fn elapse(
        &self,
        limit: usize,
        residents: &dyn Residents,
        changes: &mut Vec<Change>,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, Error>;

    /// The task with this id.
    fn get(&self, id: TaskId, residents: &dyn Residents) -> Result<Option<Arc<Task>>, Error>;

    /// Tasks by filter, in the order of their ids, or the other way round. Stored rows that make no sense are left out, and
    /// [told of](Store::damaged).
    fn list(&self, filter: &Filter, residents: &dyn Residents) -> Result<Vec<Arc<Task>>, Error>;

    /// How many tasks of each queue are in each state, for the queues that have any, by name. Rows in a state that there
    /// is not are left out, and [told of](Store::damaged).
    fn queue_counts(&self) -> Result<Vec<(Name, Counts)>, Error>;

    /// How many tasks are in each state.
    fn counts(&self) -> Result<Counts, Error> {
        let mut sum = Counts::default();
        for (_, counts) in self.queue_counts()? {
            sum.add_all(counts);
        }
        Ok(sum)
    }

    /// How many more tasks it takes before it answers `QueueFull`; `None` if it has no bound. Others may be about to insert
    /// some.
    fn room(&self) -> Option<usize> {
        None
    }

    /// Pauses a queue, or lets it go on: for all processes, until somebody says otherwise. Whether that was new.
    fn set_paused(&self, queue: Name, paused: bool) -> Result<bool, Error>;

    /// The queues that are paused, by name.
    fn paused(&self) -> Result<Vec<Name>, Error>;

    /// Sets a limit, or takes it away if it limits nothing: for all processes, until it is set again. Whether that was
    /// new. What it lets through is told in `changes`.
    fn set_limit(&self, row: LimitRow, changes: &mut Vec<Change>, now: Timestamp) -> Result<bool, Error>;

    /// The limits that are set.
    fn limits(&self) -> Result<Vec<LimitRow>, Error>;

    /// What is new about gates, for stores that do not tell of it otherwise.
    fn gate_news(&self) -> GateNews {
        GateNews::default()
    }

    /// Forgets ended tasks that are more than a store keeps of them, looking at so many at most; whether there may be
    /// more. For stores that keep a number of tasks; they forget by themselves where nobody calls this, and leave it to
    /// the caller, within bounds, once somebody has: to forget a task costs memory accesses that a worker need not wait
    /// for.
    fn tidy(&self, limit: usize, now: Timestamp) -> bool {
        let _ = (limit, now);
        false
    }

    /// Forgets at most `limit` tasks that ended before `before`; how many it forgot.
    fn sweep(&self, before: Timestamp, limit: usize) -> Result<usize, Error>;

    /// As [`Store::sweep`], for a sweep that takes its time: a store that has to look for such tasks looks at no more than
    /// some thousands, and the next call goes on from there. How many it forgot, and whether it has not been through all
    /// of them yet.
    fn sweep_some(&self, before: Timestamp, limit: usize) -> Result<(usize, bool), Error> {
        let forgotten = self.sweep(before, limit)?;
        Ok((forgotten, forgotten >= limit))
    }

    /// Forgets those of these tasks that have ended in one of these states; how many it forgot. As with a sweep, one is
    /// kept that may still be asked for: a child whose parent has not ended, and a task that keeps its unique key.
    fn discard(&self, ids: &[TaskId], states: &[State], now: Timestamp) -> Result<usize, Error>;

    /// Notes that an owner has handlers of these names; if it `serves`, that it runs their tasks, and those of no other
    /// names. What it serves is forgotten with it, the names are not.
    fn note_handlers(
        &self,
        owner: OwnerId,
        names: &[Name],
        serves: bool,
        now: Timestamp,
    ) -> Result<(), Error> {
        let _ = (owner, names, serves, now);
        Ok(())
    }

    /// Whether any process ever noted a handler of this name.
    fn knows_handler(&self, name: &str) -> Result<bool, Error> {
        let _ = name;
        Ok(false)
    }

    /// All names of handlers that any process ever noted.
    fn known_handlers(&self) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    /// Queued tasks that no owner serves, by name.
    fn unserved(&self) -> Result<Vec<Unserved>, Error> {
        Ok(Vec::new())
    }

    /// Whether what is written would be found again: of a file, that it is still where it was opened. Asked often; it
    /// must cost next to nothing.
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Looks for rows that cannot be and that no other call comes upon, in the next stretch of all there are; whether there
    /// are more. (After the last, it begins anew.)
    fn examine(&self) -> Result<bool, Error> {
        Ok(false)
    }

    /// What is wrong with the rows that were found to make no sense, by [`Store::examine`] or on the way, and still do
    /// not: an error for each. They are left alone, and nothing else is held up by them.
    fn damaged(&self) -> Result<Vec<Error>, Error> {
        Ok(Vec::new())
    }

    /// Makes this process an owner.
    fn join(&self, name: &str, now: Timestamp) -> Result<OwnerId, Error>;

    /// Moves an owner's heartbeat on. Refused with `LeaseLost` if it [was struck off](struck_off).
    fn beat(&self, owner: OwnerId) -> Result<(), Error>;

    /// Notes what an owner has begun: the attempt at one of its places (the first time, that there is none yet). By it
    /// [`Store::bury`] tells what a process that died had begun from what it had only claimed. It must cost next to
    /// nothing, and need not outlive the machine. Where nothing was ever noted, all that was claimed counts as begun.
    ///
    /// An attempt that is noted as begun `alone` has crashed alone, if the owner dies before anything else is noted at that
    /// place: whatever else the owner had begun counts as if it had not.
    fn note_begun(&self, owner: OwnerId, place: usize, begun: Option<(TaskId, u32)>, alone: bool) {
        let _ = (owner, place, begun, alone);
    }

    /// All owners that have joined and were not buried.
    fn owners(&self) -> Result<Vec<Owner>, Error>;

    /// Takes everything from an owner that died or leaves, and strikes it off: applies [`Operation::Lose`] to each task
    /// that it runs, and [`Operation::Release`] to those that it had claimed and, as it noted, not begun.
    fn bury(
        &self,
        owner: OwnerId,
        residents: &dyn Residents,
        changes: &mut Vec<Change>,
        now: Timestamp,
    ) -> Result<(), Error>;

    /// Waits until other processes have done something, for so long at most, or until [`Store::rouse`]. For stores that
    /// are shared; one thread at a time.
    fn await_news(&self, limit: Duration) -> News {
        let _ = limit;
        News::default()
    }

    /// Ends [`Store::await_news`], now or when it is called next.
    fn rouse(&self) {}

    /// Changes a schedule, and inserts the task of a firing in the same transaction. If the unique key of that is taken,
    /// the tick was fired before: the row shows the task that has it, and `submit_for` is empty. That the task has come
    /// into being, and what followed from it, is told in `changes`.
    ///
    /// If nothing changes, nothing is written.
    fn change_schedule(
        &self,
        change: ScheduleChange,
        residents: &dyn Residents,
        changes: &mut Vec<Change>,
        now: Timestamp,
    ) -> Result<ScheduleEffects, Error>;

    /// All schedules, by name.
    fn schedules(&self) -> Result<Vec<ScheduleRow>, Error>;

    /// The schedule of this name.
    fn schedule(&self, name: &str) -> Result<Option<ScheduleRow>, Error> {
        Ok(self.schedules()?.into_iter().find(|row| row.spec.name == name))
    }

    /// At most `limit` schedules that are to be looked at now, earliest first; and when the next one is, of those that
    /// were not listed.
    fn due_schedules(&self, limit: usize, now: Timestamp) -> Result<DueSchedules, Error> {
        let mut due = DueSchedules::default();
        let mut rows = self.schedules()?;
        rows.retain(|row| row.look_at().is_some());
        rows.sort_by_key(ScheduleRow::look_at);
        for row in rows {
            if due.rows.len() < limit && row.look_at().is_some_and(|at| at <= now) {
                due.rows.push(row);
            } else {
                due.next = row.look_at();
                break;
            }
        }
        Ok(due)
    }
}
