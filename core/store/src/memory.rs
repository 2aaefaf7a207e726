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
//! * Of the finished tasks those are kept beyond their number that somebody may still ask for by id: children whose
//!   parent has not ended, and tasks that keep a unique key.
//!
//! # Failure
//! There is no I/O, so nothing fails but by the rules. What the process loses when it ends is everything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::vec;

use crossbeam_queue::SegQueue;
use parking_lot::Mutex;
use taskloom_model::{
    Bytes, Code, Effects, Error, Fence, LimitRow, Name, Operation, OwnerId, Parent, Row, ScheduleEffects,
    ScheduleRow, State, TaskId, Timestamp, Unique, apply, next_due,
};

use crate::contract::{refuse_unique, struck_off};
use crate::due::Alarms;
use crate::{
    Batch, Capability, Change, Commit, Counts, DueSchedules, Filter, FreeEnd, GateNews, Owner, Registry,
    Residents, ScheduleChange, Store, Task,
};

mod claim;
mod ended;
mod gates;
mod insert;
mod keys;
mod plain;
mod schedules;

use gates::Gates;
use keys::Keys;
use schedules::Schedules;

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
    /// How many ended tasks were taken out of the line of those that are kept, or never stood there.
    forgotten: Apart<AtomicUsize>,
    /// Somebody calls [`Store::tidy`] now and then.
    tidied: AtomicBool,
    keys: Mutex<Keys>,
    gates: Gates,
    schedules: Schedules,
    paused: Mutex<BTreeSet<Name>>,
    owners: Mutex<Vec<Owner>>,
    last_owner: AtomicU64,
    /// Somebody was struck off, so that claimers are looked up.
    buried: AtomicBool,
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
    /// The ended tasks that are kept, oldest first: as many as have ended and were not forgotten. Weak, so that a task that
    /// is swept is gone at once; its place in the line stays until its turn comes.
    kept: SegQueue<Kept>,
    /// Those of a lot that has been begun.
    first: Mutex<vec::IntoIter<Weak<Task>>>,
}

/// What stands in the line of ended tasks.
enum Kept {
    One(Weak<Task>),
    /// Tasks that have ended together, in their order.
    Lot(Vec<Weak<Task>>),
}

impl MemoryStore {
    /// An empty store.
    pub fn new(options: MemoryOptions) -> Self {
        Self { options, ..Self::default() }
    }

    fn cancel_as_consequence(
        &self,
        task: &Arc<Task>,
        reason: Box<str>,
        consequences: &mut Vec<Change>,
        now: Timestamp,
    ) -> bool {
        let cancel = Operation::Cancel { reason: Some(reason) };
        let Ok(effects) = self.apply(task, cancel, consequences, now) else {
            return false;
        };
        if effects.moved() {
            consequences.push(Change { task: Arc::clone(task), effects });
        }
        effects.moved()
    }

    fn replace(&self, holder: &Arc<Task>, consequences: &mut Vec<Change>, now: Timestamp) {
        // Does nothing if it has ended, since it was found or before, and only kept the key.
        if self.cancel_as_consequence(holder, Unique::TAKEN_OVER.into(), consequences, now) {
            self.cancel_children(holder, consequences, now);
        }
    }

    /// Cancels what a task that was cancelled has submitted, and what that has. (No recursion: families may be deep.)
    fn cancel_children(&self, task: &Arc<Task>, consequences: &mut Vec<Change>, now: Timestamp) {
        let ordinals =
            |task: &Task| task.with_row(|row| 0..row.history.as_ref().map_or(0, |history| history.children));
        let mut line = vec![(Arc::clone(task), ordinals(task))];
        while let Some((parent, left)) = line.last_mut() {
            let id = parent.id();
            let Some(ordinal) = left.next() else {
                line.pop();
                continue;
            };
            if let Some(child) = self.tasks.get(id.child(ordinal))
                && child.spec().parent().is_some_and(|parent| parent.takes_along(id))
                && self.cancel_as_consequence(&child, Parent::reason(id), consequences, now)
            {
                let left = ordinals(&child);
                line.push((child, left));
            }
        }
    }

    fn apply(
        &self,
        task: &Arc<Task>,
        operation: Operation,
        consequences: &mut Vec<Change>,
        now: Timestamp,
    ) -> Result<Effects, Error> {
        if let Operation::Claim { owner } = operation
            && !self.may_claim(owner)
        {
            return Err(struck_off(owner));
        }
        // Any attempt may shut a key.
        let postponed = matches!(operation, Operation::Postpone { .. });
        let gates = self.gates.of(task.spec()).or_else(|| postponed.then(|| self.gates.lock()));
        match gates {
            None => self.apply_plainly(task, operation, now),
            Some(mut inner) => self.apply_at_gates(&mut inner, task, operation, consequences, now),
        }
    }

    /// Makes a change, whatever limits there are.
    fn apply_plainly(
        &self,
        task: &Arc<Task>,
        operation: Operation,
        now: Timestamp,
    ) -> Result<Effects, Error> {
        // A claim leaves a task's alarms as they are: its expiry is void then, its deadline was set before. So does what
        // a handler tells of itself, as often as it likes.
        let keeps_alarms = matches!(
            operation,
            Operation::Claim { .. }
                | Operation::Progress { .. }
                | Operation::Log { .. }
                | Operation::Spawn { .. }
                | Operation::Checkpoint { .. }
        );
        let effects = task.apply(operation, now)?;
        if let Some(due) = effects.due
            && !keeps_alarms
        {
            self.alarms.set(due, task);
        }
        if !effects.from.is_some_and(State::is_terminal) && effects.to.is_terminal() {
            self.retire(task, now);
        }
        Ok(effects)
    }

    fn make(
        &self,
        task: &Arc<Task>,
        operation: Operation,
        spawn: Vec<Arc<Task>>,
        consequences: &mut Vec<Change>,
        now: Timestamp,
    ) -> Result<Effects, Error> {
        // The caller's may be of an older generation. A worker that comes upon one must not claim another.
        let claims = matches!(operation, Operation::Claim { .. });
        let newest = if task.is_superseded() && !claims { self.tasks.get(task.id()) } else { None };
        let task = newest.as_ref().unwrap_or(task);
        let effects = match (matches!(operation, Operation::Replay), spawn.is_empty()) {
            (false, true) => self.apply(task, operation, consequences, now)?,
            (false, false) => self.apply_and_spawn(task, operation, spawn, consequences, now)?,
            (true, true) => self.replay(task, consequences, now)?,
            (true, false) => return Err(task.spec().replay_with_others()),
        };
        if effects.moved() && effects.to == State::Cancelled {
            self.cancel_children(task, consequences, now);
        }
        Ok(effects)
    }

    fn apply_and_spawn(
        &self,
        task: &Arc<Task>,
        operation: Operation,
        mut spawn: Vec<Arc<Task>>,
        consequences: &mut Vec<Change>,
        now: Timestamp,
    ) -> Result<Effects, Error> {
        // Tried on a copy: what is refused is refused before an id or a key is looked at.
        apply(operation.clone(), task.spec(), &mut task.with_row(Row::clone), now)?;
        let prepared = self.prepare(&spawn, now)?;
        let born: Vec<_> = prepared.added.iter().map(|task| insert::birth(task)).collect();
        let effects = match self.apply(task, operation, consequences, now) {
            Ok(effects) => effects,
            Err(late) => {
                self.abandon(&prepared);
                return Err(late);
            }
        };
        let told = prepared.added.iter().zip(born);
        consequences.extend(told.map(|(task, effects)| Change { task: Arc::clone(task), effects }));
        self.complete(prepared, &mut spawn, consequences, now);
        Ok(effects)
    }

    /// Starts a task over: a new one takes its place, which needs its unique key again.
    fn replay(
        &self,
        task: &Arc<Task>,
        consequences: &mut Vec<Change>,
        now: Timestamp,
    ) -> Result<Effects, Error> {
        let (id, spec) = (task.id(), task.spec());
        let tried = apply(Operation::Replay, spec, &mut task.with_row(Row::clone), now)?;
        let mut keys = spec.unique().map(|unique| (unique, self.keys.lock()));
        if let Some((unique, keys)) = &keys
            && let Some(holder) = keys.holder(spec.name, &unique.key, now)
            && holder.id() != id
        {
            return Err(unique.replay_refusal(holder.state(), holder.id()));
        }
        let replaced = self.tasks.replace(id, |ended| ended.start_over(now));
        let (new, mut effects) = replaced.ok_or_else(|| {
            Error::new(Code::UnknownTask, format!("no task has the id {id}"))
                .hint("a task that ended is forgotten after a while")
        })??;
        if let Some((_, keys)) = &mut keys {
            keys.give(&new, now);
        }
        drop(keys);
        // Its place in the line of finished tasks stays behind.
        self.submitters.0.count.fetch_add(1, Ordering::Relaxed);
        if let Some(due) = effects.due {
            self.alarms.set(due, &new);
        }
        self.enter_as(&new, &mut effects, now);
        consequences.push(Change { task: new, effects });
        Ok(tried.as_replayed())
    }
}

impl Store for MemoryStore {
    fn kind(&self) -> &'static str {
        "memory"
    }

    fn capability(&self) -> Capability {
        Capability { resident: true, durable: false, dependencies: false, schedules: true }
    }

    fn room(&self) -> Option<usize> {
        let accepted = self.submitters.0.count.load(Ordering::Relaxed);
        let ended = self.workers.0.count.load(Ordering::Relaxed);
        Some(self.options.capacity.saturating_sub(accepted.wrapping_sub(ended)))
    }

    fn write(&self, batch: &mut Batch, _: &dyn Residents, now: Timestamp) -> Result<(), Error> {
        for insert in &mut batch.inserts {
            insert.verdict = Some(self.insert_all(insert, &mut batch.consequences, now));
        }
        for Commit { task, operation, spawn } in batch.commits.drain(..) {
            batch.verdicts.push(self.make(&task, operation, spawn, &mut batch.consequences, now));
        }
        self.refill(&mut batch.consequences, now);
        if let Some(claim) = batch.claim.take() {
            self.claim(&claim, &mut batch.claimed, &mut batch.consequences, now);
        }
        Ok(())
    }

    fn insert(&self, tasks: &[Arc<Task>], now: Timestamp) -> Result<(), Error> {
        if let [task] = tasks
            && task.is_plain()
        {
            return self.add_plain(task);
        }
        refuse_unique(tasks)?;
        let noted = self.add(tasks)?;
        if !noted.is_empty() {
            self.settle_in(noted, now);
        }
        Ok(())
    }

    fn commit(
        &self,
        commit: Commit,
        consequences: &mut Vec<Change>,
        now: Timestamp,
    ) -> Result<Effects, Error> {
        let verdict = self.make(&commit.task, commit.operation, commit.spawn, consequences, now);
        self.refill(consequences, now);
        verdict
    }

    fn change(
        &self,
        task: &Arc<Task>,
        operation: Operation,
        consequences: &mut Vec<Change>,
        now: Timestamp,
    ) -> Result<Effects, Error> {
        let operation = match operation {
            Operation::Succeed { fence, result, metadata: None } if self.is_free(task) => {
                return self.end_free(task, fence, result, now);
            }
            other => other,
        };
        let verdict = self.make(task, operation, Vec::new(), consequences, now);
        self.refill(consequences, now);
        verdict
    }

    fn claim_freely(
        &self,
        task: &Arc<Task>,
        owner: OwnerId,
        now: Timestamp,
        note: &mut dyn FnMut(Fence, Timestamp),
    ) -> Option<Result<(), Error>> {
        let freely = self.is_free(task) && !self.buried.load(Ordering::Relaxed);
        freely.then(|| task.claim(owner, now, note))
    }

    fn succeed_freely(
        &self,
        task: &Arc<Task>,
        fence: Fence,
        result: &mut Bytes,
        now: Timestamp,
    ) -> Option<Result<(), Error>> {
        self.is_free(task).then(|| self.end_free(task, fence, std::mem::take(result), now).map(drop))
    }

    fn succeed_all_freely(
        &self,
        ended: &mut dyn Iterator<Item = FreeEnd<'_>>,
        now: Timestamp,
    ) -> Vec<Option<Result<(), Error>>> {
        self.end_all_free(ended, now)
    }

    fn elapse(
        &self,
        limit: usize,
        _: &dyn Residents,
        changes: &mut Vec<Change>,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, Error> {
        self.open_gates(changes, now);
        for _ in 0..limit {
            let task = match self.alarms.pop(now) {
                Ok(task) => task,
                Err(next) => {
                    self.refill(changes, now);
                    return Ok([next, self.next_gate()].into_iter().flatten().min());
                }
            };
            let due = task.with_row(|row| next_due(task.spec(), row));
            match due {
                Some(due) if due > now => self.alarms.set(due, &task),
                Some(_) => {
                    let effects = self.apply(&task, Operation::Elapse, changes, now)?;
                    if effects.moved() {
                        changes.push(Change { task, effects });
                    }
                }
                None => {}
            }
        }
        self.refill(changes, now);
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
                && filter.is_after(spec.id)
                && filter.tag.as_ref().is_none_or(|tag| spec.tags().contains(tag))
                && (filter.takes_any_state() || filter.fits(task.state()))
                && filter.changed_since.is_none_or(|since| task.with_row(|row| row.updated) >= since)
            {
                found.push(Arc::clone(task));
            }
        });
        found.sort_by_key(|task| task.id());
        if filter.newest_first {
            found.reverse();
        }
        found.truncate(filter.limit);
        Ok(found)
    }

    fn queue_counts(&self) -> Result<Vec<(Name, Counts)>, Error> {
        let mut counts: BTreeMap<Name, Counts> = BTreeMap::new();
        self.tasks.for_each(|task| counts.entry(task.spec().queue).or_default().add(task.state(), 1));
        Ok(counts.into_iter().collect())
    }

    fn set_paused(&self, queue: Name, paused: bool) -> Result<bool, Error> {
        let mut set = self.paused.lock();
        Ok(if paused { set.insert(queue) } else { set.remove(&queue) })
    }

    fn paused(&self) -> Result<Vec<Name>, Error> {
        Ok(self.paused.lock().iter().copied().collect())
    }

    fn set_limit(&self, row: LimitRow, changes: &mut Vec<Change>, now: Timestamp) -> Result<bool, Error> {
        row.limit.validate()?;
        Ok(self.change_limit(row, changes, now))
    }

    fn gate_news(&self) -> GateNews {
        GateNews { opened: false, due: self.new_alarm() }
    }

    fn limits(&self) -> Result<Vec<LimitRow>, Error> {
        Ok(self.gates.lock().limits.rows().collect())
    }

    fn tidy(&self, limit: usize, now: Timestamp) -> bool {
        self.tidied.store(true, Ordering::Relaxed);
        self.recycle_oldest(limit, now)
    }

    fn sweep(&self, before: Timestamp, limit: usize) -> Result<usize, Error> {
        let mut old = Vec::new();
        self.tasks.for_each(|task| {
            if old.len() < limit
                && task.with_row(|row| row.finished.is_some_and(|at| at < before))
                && !self.is_needed(task, before)
            {
                old.push(Arc::clone(task));
            }
        });
        // Their places in the line of ended tasks come up later and find nothing left to forget.
        Ok(old.iter().filter(|task| self.tasks.remove(task)).count())
    }

    fn discard(&self, ids: &[TaskId], states: &[State], now: Timestamp) -> Result<usize, Error> {
        let dead = ids.iter().filter_map(|id| self.tasks.get(*id)).filter(|task| {
            let state = task.state();
            state.is_terminal() && states.contains(&state) && !self.is_needed(task, now)
        });
        Ok(dead.filter(|task| self.tasks.remove(task)).count())
    }

    fn join(&self, name: &str, _: Timestamp) -> Result<OwnerId, Error> {
        let number = self.last_owner.fetch_add(1, Ordering::Relaxed) + 1;
        let id =
            OwnerId::new(number).ok_or_else(|| Error::new(Code::StoreFailed, "owner numbers are used up"))?;
        self.owners.lock().push(Owner { id, name: name.to_owned(), beats: 0, gone: false });
        Ok(id)
    }

    fn beat(&self, owner: OwnerId) -> Result<(), Error> {
        match self.owners.lock().iter_mut().find(|known| known.id == owner) {
            Some(known) => known.beats += 1,
            None => return Err(struck_off(owner)),
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
        self.buried.store(true, Ordering::Relaxed);
        self.owners.lock().retain(|known| known.id != owner);
        let mut orphans = Vec::new();
        self.tasks.for_each(|task| {
            if task.with_row(|row| row.owner == Some(owner)) {
                orphans.push(Arc::clone(task));
            }
        });
        // In the order of their arrival, which is that in which their keys let them in again.
        orphans.sort_by_key(|task| (task.spec().created, task.id()));
        for task in orphans {
            let effects = self.apply(&task, Operation::Lose { owner }, changes, now)?;
            if effects.moved() {
                changes.push(Change { task, effects });
            }
        }
        self.refill(changes, now);
        Ok(())
    }

    fn change_schedule(
        &self,
        change: ScheduleChange,
        _: &dyn Residents,
        changes: &mut Vec<Change>,
        now: Timestamp,
    ) -> Result<ScheduleEffects, Error> {
        self.change_a_schedule(change, changes, now)
    }

    fn schedules(&self) -> Result<Vec<ScheduleRow>, Error> {
        Ok(self.schedules.all())
    }

    fn schedule(&self, name: &str) -> Result<Option<ScheduleRow>, Error> {
        Ok(self.schedules.get(name))
    }

    fn due_schedules(&self, limit: usize, now: Timestamp) -> Result<DueSchedules, Error> {
        Ok(self.schedules.due(limit, now))
    }
}
