//! The memory store: the reference implementation of the contract, and the fastest.
//!
//! # What it owns
//! A [`Registry`] of all tasks, whose rows are the truth (the store is *resident*); the alarm list; the count of
//! unfinished tasks, which is bounded; and the line of finished ones, of which the newest are kept.
//!
//! # Invariants
//! * A change of one task happens under that task's own lock, by the rules of the model. There is no lock over
//!   several tasks, so a batch is atomic in its outcome (inserts are checked before the first one is made, and taken
//!   back if one turns out to be a duplicate) but not isolated: another thread can see half of it.
//! * The number of unfinished tasks is the difference of two counts, `accepted` and `ended`, each on a cache line of
//!   its own, since submitters write the one and workers the other. `accepted` is raised before a task becomes
//!   findable and `ended` when it has ended, so the difference can be too high for a moment, never too low, and the
//!   bound holds. Submitters keep the value of `ended` that they read last beside `accepted`, and read it anew only when
//!   there seems to be no room.
//! * A claim by query looks at every task: the engine never does that on a resident store, since its lanes hold the
//!   eligible tasks in order; the query is there for completeness and for the conformance suite.
//!
//! # Failure
//! There is no I/O, so nothing fails but by the rules. What the process loses when it ends is everything.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam_queue::SegQueue;
use parking_lot::Mutex;
use taskloom_model::{
    Code, Effects, Error, Operation, OwnerId, ScheduleEffects, ScheduleOperation, ScheduleRow, State, TaskId,
    Timestamp, WaitingFor, next_due,
};

use crate::due::Alarms;
use crate::{
    Batch, Capability, Change, Claim, Commit, Counts, Filter, Owner, Registry, Residents, Store, Task,
};

/// Bounds of a memory store.
#[derive(Clone, Copy, Debug)]
pub struct MemoryOptions {
    /// How many unfinished tasks it takes before it answers `QueueFull`.
    pub capacity: usize,
    /// How many finished tasks it keeps for those who ask by id.
    pub keep_finished: usize,
}

impl Default for MemoryOptions {
    /// A million unfinished, ten thousand finished.
    fn default() -> Self {
        Self { capacity: 1_000_000, keep_finished: 10_000 }
    }
}

/// Tasks in the memory of this process.
#[derive(Default)]
pub struct MemoryStore {
    options: MemoryOptions,
    tasks: Registry,
    alarms: Alarms,
    submitters: Apart<Accepted>,
    workers: Apart<Ended>,
    owners: Mutex<Vec<Owner>>,
    last_owner: AtomicU64,
}

/// On a cache line of its own (two, as they are fetched in pairs).
#[derive(Default)]
#[repr(align(128))]
struct Apart<T>(T);

/// What submitters write.
#[derive(Default)]
struct Accepted {
    count: AtomicUsize,
    /// The count of ended tasks as a submitter last read it.
    ended_then: AtomicUsize,
}

/// What workers write.
#[derive(Default)]
struct Ended {
    count: AtomicUsize,
    /// The ended tasks that are kept, oldest first.
    kept: SegQueue<Arc<Task>>,
    kept_len: AtomicUsize,
}

impl MemoryStore {
    /// An empty store.
    pub fn new(options: MemoryOptions) -> Self {
        Self { options, ..Self::default() }
    }

    fn add(&self, tasks: &[Arc<Task>]) -> Result<(), Error> {
        for task in tasks {
            if task.with_row(|row| row.waiting_for == WaitingFor::Dependencies) {
                return Err(Error::new(
                    Code::NotSupported,
                    "the memory store does not keep dependencies yet",
                ));
            }
        }
        self.reserve(tasks.len())?;
        for (index, task) in tasks.iter().enumerate() {
            if !self.tasks.insert(task) {
                for added in &tasks[..index] {
                    self.tasks.remove(added);
                }
                self.submitters.0.count.fetch_sub(tasks.len(), Ordering::Relaxed);
                return Err(Error::new(
                    Code::DuplicateId,
                    format!("a task with the id {} exists", task.id()),
                )
                .hint("ids are for good: leave the id out to have one made"));
            }
        }
        for task in tasks {
            let (due, ended) = task.with_row(|row| (next_due(task.spec(), row), row.state.is_terminal()));
            if let Some(due) = due {
                self.alarms.set(due, task);
            }
            if ended {
                self.retire(task);
            }
        }
        Ok(())
    }

    fn reserve(&self, count: usize) -> Result<(), Error> {
        let Accepted { count: accepted, ended_then } = &self.submitters.0;
        let before = accepted.fetch_add(count, Ordering::Relaxed);
        // Counts that wrap around still have the right difference; a task that ends in this moment may make it negative.
        let unfinished = |ended: usize| before.wrapping_sub(ended).cast_signed().max(0).cast_unsigned();
        if unfinished(ended_then.load(Ordering::Relaxed)) + count <= self.options.capacity {
            return Ok(());
        }
        let ended = self.workers.0.count.load(Ordering::Relaxed);
        ended_then.store(ended, Ordering::Relaxed);
        let unfinished = unfinished(ended);
        if unfinished + count <= self.options.capacity {
            return Ok(());
        }
        accepted.fetch_sub(count, Ordering::Relaxed);
        Err(Error::new(
            Code::QueueFull,
            format!(
                "the memory store holds {unfinished} unfinished tasks and takes {}",
                self.options.capacity
            ),
        )
        .hint("submit more slowly, start more workers, or raise the capacity"))
    }

    /// A task has ended: it no longer counts, and the oldest ended one may be forgotten.
    fn retire(&self, task: &Arc<Task>) {
        let ended = &self.workers.0;
        ended.count.fetch_add(1, Ordering::Relaxed);
        if self.options.keep_finished == 0 {
            self.tasks.remove(task);
            return;
        }
        ended.kept.push(Arc::clone(task));
        if ended.kept_len.fetch_add(1, Ordering::Relaxed) >= self.options.keep_finished
            && let Some(oldest) = ended.kept.pop()
        {
            ended.kept_len.fetch_sub(1, Ordering::Relaxed);
            // One that was started over lives; it gets a new place when it ends again.
            if oldest.state().is_terminal() {
                self.tasks.remove(&oldest);
            }
        }
    }

    fn change(&self, task: &Arc<Task>, operation: Operation, now: Timestamp) -> Result<Effects, Error> {
        let claiming = matches!(operation, Operation::Claim { .. });
        let effects = task.apply(operation, now)?;
        // A claim leaves a task's alarms as they are: its expiry is void then, its deadline was set before.
        if let Some(due) = effects.due
            && !claiming
        {
            self.alarms.set(due, task);
        }
        match (effects.from.is_some_and(State::is_terminal), effects.to.is_terminal()) {
            (false, true) => self.retire(task),
            // An operator starts it over. Its place in the line of finished tasks stays behind.
            (true, false) => {
                self.submitters.0.count.fetch_add(1, Ordering::Relaxed);
            }
            (false, false) | (true, true) => {}
        }
        Ok(effects)
    }

    fn make(&self, commit: Commit, consequences: &mut Vec<Change>, now: Timestamp) -> Result<Effects, Error> {
        if commit.spawn.is_empty() {
            return self.change(&commit.task, commit.operation, now);
        }
        self.add(&commit.spawn)?;
        let verdict = self.change(&commit.task, commit.operation, now);
        for task in commit.spawn {
            if verdict.is_ok() {
                let effects = task.with_row(|row| Effects {
                    from: None,
                    to: row.state,
                    left: None,
                    due: next_due(task.spec(), row),
                });
                consequences.push(Change { task, effects });
            } else if self.tasks.remove(&task) && !task.state().is_terminal() {
                // One that had expired at once is no longer counted.
                self.submitters.0.count.fetch_sub(1, Ordering::Relaxed);
            }
        }
        verdict
    }

    fn claim(&self, claim: &Claim, claimed: &mut Vec<Arc<Task>>, now: Timestamp) {
        let mut eligible = Vec::new();
        self.tasks.for_each(|task| {
            let spec = task.spec();
            let place = if claim.queues.is_empty() {
                Some(0)
            } else {
                claim.queues.iter().position(|queue| *queue == spec.queue)
            };
            if let Some(place) = place
                && claim.names.contains(&spec.name)
            {
                let (state, since) = task.with_row(|row| (row.state, row.eligible));
                if state == State::Queued {
                    eligible.push((place, Reverse(spec.priority), since, spec.id, Arc::clone(task)));
                }
            }
        });
        eligible.sort_by_key(|(place, priority, since, id, _)| (*place, *priority, *since, *id));
        for (.., task) in eligible {
            if claimed.len() == claim.limit {
                break;
            }
            if self.change(&task, Operation::Claim { owner: claim.owner }, now).is_ok() {
                claimed.push(task);
            }
        }
    }
}

impl Store for MemoryStore {
    fn capability(&self) -> Capability {
        Capability { resident: true, durable: false, dependencies: false, schedules: false }
    }

    fn write(&self, batch: &mut Batch, _: &dyn Residents, now: Timestamp) -> Result<(), Error> {
        for insert in &mut batch.inserts {
            insert.verdict = Some(self.add(&insert.tasks));
        }
        for commit in batch.commits.drain(..) {
            batch.verdicts.push(self.make(commit, &mut batch.consequences, now));
        }
        if let Some(claim) = batch.claim.take() {
            self.claim(&claim, &mut batch.claimed, now);
        }
        Ok(())
    }

    fn insert(&self, tasks: &[Arc<Task>], _: Timestamp) -> Result<(), Error> {
        self.add(tasks)
    }

    fn commit(
        &self,
        commit: Commit,
        consequences: &mut Vec<Change>,
        now: Timestamp,
    ) -> Result<Effects, Error> {
        self.make(commit, consequences, now)
    }

    fn elapse(
        &self,
        limit: usize,
        _: &dyn Residents,
        changes: &mut Vec<Change>,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, Error> {
        for _ in 0..limit {
            let task = match self.alarms.pop(now) {
                Ok(task) => task,
                Err(next) => return Ok(next),
            };
            let due = task.with_row(|row| next_due(task.spec(), row));
            match due {
                Some(due) if due > now => self.alarms.set(due, &task),
                Some(_) => {
                    let effects = self.change(&task, Operation::Elapse, now)?;
                    if effects.moved() {
                        changes.push(Change { task, effects });
                    }
                }
                None => {}
            }
        }
        Ok(Some(now))
    }

    fn get(&self, id: TaskId, _: &dyn Residents) -> Result<Option<Arc<Task>>, Error> {
        Ok(self.tasks.get(id))
    }

    fn list(&self, filter: &Filter, _: &dyn Residents) -> Result<Vec<Arc<Task>>, Error> {
        let mut found = Vec::new();
        self.tasks.for_each(|task| {
            let spec = task.spec();
            if filter.queue.is_none_or(|queue| queue == spec.queue)
                && filter.name.is_none_or(|name| name == spec.name)
                && filter.after.is_none_or(|after| spec.id > after)
                && filter.state.is_none_or(|state| state == task.state())
            {
                found.push(Arc::clone(task));
            }
        });
        found.sort_by_key(|task| task.id());
        found.truncate(filter.limit);
        Ok(found)
    }

    fn counts(&self) -> Result<Counts, Error> {
        let mut counts = Counts::default();
        self.tasks.for_each(|task| counts.add(task.state(), 1));
        Ok(counts)
    }

    fn sweep(&self, before: Timestamp, limit: usize) -> Result<usize, Error> {
        let mut old = Vec::new();
        self.tasks.for_each(|task| {
            if old.len() < limit && task.with_row(|row| row.finished.is_some_and(|at| at < before)) {
                old.push(Arc::clone(task));
            }
        });
        // Their places in the line of finished tasks come up later and find nothing left to forget.
        Ok(old.iter().filter(|task| self.tasks.remove(task)).count())
    }

    fn join(&self, name: &str, _: Timestamp) -> Result<OwnerId, Error> {
        let number = self.last_owner.fetch_add(1, Ordering::Relaxed) + 1;
        let id =
            OwnerId::new(number).ok_or_else(|| Error::new(Code::StoreFailed, "owner numbers are used up"))?;
        self.owners.lock().push(Owner { id, name: name.to_owned(), beats: 0 });
        Ok(id)
    }

    fn beat(&self, owner: OwnerId) -> Result<(), Error> {
        match self.owners.lock().iter_mut().find(|known| known.id == owner) {
            Some(known) => known.beats += 1,
            None => return Err(Error::new(Code::LeaseLost, format!("owner {} was struck off", owner.get()))),
        }
        Ok(())
    }

    fn owners(&self) -> Result<Vec<Owner>, Error> {
        Ok(self.owners.lock().clone())
    }

    fn bury(
        &self,
        owner: OwnerId,
        _: &dyn Residents,
        changes: &mut Vec<Change>,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.owners.lock().retain(|known| known.id != owner);
        let mut orphans = Vec::new();
        self.tasks.for_each(|task| {
            if task.with_row(|row| row.owner == Some(owner)) {
                orphans.push(Arc::clone(task));
            }
        });
        for task in orphans {
            let effects = self.change(&task, Operation::Lose { owner }, now)?;
            if effects.moved() {
                changes.push(Change { task, effects });
            }
        }
        Ok(())
    }

    fn change_schedule(
        &self,
        name: &str,
        _: ScheduleOperation,
        _: Option<Arc<Task>>,
        _: Timestamp,
    ) -> Result<ScheduleEffects, Error> {
        Err(Error::new(
            Code::NotSupported,
            format!("schedule {name:?}: the memory store does not keep schedules yet"),
        ))
    }

    fn schedules(&self) -> Result<Vec<ScheduleRow>, Error> {
        Err(Error::new(Code::NotSupported, "the memory store does not keep schedules yet"))
    }
}
