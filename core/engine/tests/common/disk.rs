//! A store whose rows live elsewhere: a "disk" that outlives the engines over it, can be made to fail, and can be
//! held up. It keeps the contract of [`taskloom_store::Store`] and no more.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use taskloom_model::{
    Code, Effects, Error, LimitRow, Name, Operation, OwnerId, Row, ScheduleEffects, ScheduleRow, Spec, State,
    TaskId, Timestamp, apply, next_due,
};
use taskloom_store::{
    Batch, Capability, Change, Claim, Commit, Counts, Filter, Late, Owner, Residents, ScheduleChange, Store,
    Task, struck_off,
};

use super::{Gate, Log};

/// What is on the disk, and how it behaves.
#[derive(Default)]
pub struct Disk {
    rows: Mutex<Rows>,
    /// Every write passes it first.
    pub gate: Gate,
    /// (inserts, commits, size of the claim) of every write that got to the disk.
    pub writes: Log<(usize, usize, usize)>,
    /// Writes that were tried and failed.
    pub failed: Log<()>,
    /// Tells that a write waits at the gate.
    pub arrived: Log<()>,
    /// How many writes will fail.
    failing: Mutex<usize>,
    panics: Mutex<bool>,
    joins: Mutex<bool>,
    corrupt: Mutex<Option<TaskId>>,
    /// What happens in the moment in which the next attempt begins.
    meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

#[derive(Default)]
struct Rows {
    tasks: BTreeMap<TaskId, (Spec, Row)>,
    owners: Vec<Owner>,
    paused: BTreeSet<Name>,
    last_owner: u64,
}

impl Disk {
    /// An empty one, that lets writes through.
    pub fn new() -> Arc<Self> {
        let disk = Arc::new(Self::default());
        disk.gate.open();
        disk
    }

    pub fn store(self: &Arc<Self>) -> Box<dyn Store> {
        Box::new(OnDisk(Arc::clone(self)))
    }

    /// The next writes fail: so many.
    pub fn fail(&self, times: usize) {
        *self.failing.lock() = times;
    }

    /// The next write panics.
    pub fn panic_next(&self) {
        *self.panics.lock() = true;
    }

    /// A write of one insert waits until something joins it.
    pub fn join_late(&self) {
        *self.joins.lock() = true;
    }

    /// Every write that touches this task fails for good.
    pub fn corrupt(&self, id: TaskId) {
        *self.corrupt.lock() = Some(id);
    }

    /// The next attempt has been begun, and is about to be noted: then this happens.
    pub fn meanwhile(&self, happens: impl FnOnce() + Send + 'static) {
        *self.meanwhile.lock() = Some(Box::new(happens));
    }

    fn touches_corrupt(&self, batch: &Batch) -> bool {
        let corrupt = *self.corrupt.lock();
        let mut inserted = batch.inserts.iter().flat_map(|insert| &insert.tasks);
        let mut changed = batch.commits.iter().map(|commit| &commit.task);
        corrupt.is_some_and(|id| inserted.any(|task| task.id() == id) || changed.any(|task| task.id() == id))
    }

    pub fn row(&self, id: TaskId) -> Row {
        self.rows.lock().tasks[&id].1.clone()
    }

    pub fn states(&self) -> Vec<State> {
        self.rows.lock().tasks.values().map(|(_, row)| row.state).collect()
    }

    pub fn owners(&self) -> Vec<OwnerId> {
        self.rows.lock().owners.iter().map(|owner| owner.id).collect()
    }

    /// As another process would: strikes an owner off.
    pub fn bury(&self, owner: OwnerId, now: Timestamp) {
        let mut rows = self.rows.lock();
        rows.owners.retain(|known| known.id != owner);
        for (spec, row) in rows.tasks.values_mut() {
            apply(Operation::Lose { owner }, spec, row, now).unwrap();
        }
    }

    /// As another process would: claims a task that is queued.
    pub fn claim(&self, id: TaskId, owner: OwnerId, now: Timestamp) {
        let mut rows = self.rows.lock();
        let (spec, row) = rows.tasks.get_mut(&id).unwrap();
        apply(Operation::Claim { owner }, spec, row, now).unwrap();
    }

    fn begin_write(&self) -> Result<(), Error> {
        self.arrived.add(());
        self.gate.pass();
        assert!(!std::mem::take(&mut *self.panics.lock()), "the store has a bug");
        let mut failing = self.failing.lock();
        if *failing > 0 {
            *failing -= 1;
            self.failed.add(());
            return Err(Error::new(Code::StoreFailed, "the disk is full"));
        }
        Ok(())
    }
}

struct OnDisk(Arc<Disk>);

/// One write: the tasks in memory that show what it changed.
struct Writing<'a> {
    rows: &'a mut Rows,
    residents: &'a dyn Residents,
    now: Timestamp,
    shown: Vec<Arc<Task>>,
}

impl Writing<'_> {
    fn insert(&mut self, tasks: &[Arc<Task>]) -> Result<(), Error> {
        for (place, task) in tasks.iter().enumerate() {
            let taken = self.rows.tasks.contains_key(&task.id());
            if taken || tasks[..place].iter().any(|other| other.id() == task.id()) {
                return Err(Error::new(
                    Code::DuplicateId,
                    format!("a task with the id {} exists", task.id()),
                ));
            }
        }
        for task in tasks {
            let row = task.with_row(Clone::clone);
            self.rows.tasks.insert(task.id(), (task.spec().clone(), row));
            self.shown.push(Arc::clone(task));
        }
        Ok(())
    }

    fn apply(&mut self, id: TaskId, operation: Operation) -> Result<Effects, Error> {
        let Some((spec, row)) = self.rows.tasks.get_mut(&id) else {
            return Err(Error::new(Code::UnknownTask, format!("no task {id}")));
        };
        let mut next = row.clone();
        let effects = apply(operation, spec, &mut next, self.now)?;
        *row = next;
        Ok(effects)
    }

    fn commit(&mut self, commit: &Commit, consequences: &mut Vec<Change>) -> Result<Effects, Error> {
        self.shown.push(Arc::clone(&commit.task));
        let effects = self.apply(commit.task.id(), commit.operation.clone())?;
        self.insert(&commit.spawn)?;
        for task in &commit.spawn {
            let (to, due) = task.with_row(|row| (row.state, next_due(task.spec(), row)));
            let effects = Effects { from: None, to, left: None, due };
            consequences.push(Change { task: Arc::clone(task), effects });
        }
        Ok(effects)
    }

    fn claim(&mut self, claim: &Claim) -> Vec<Arc<Task>> {
        if !self.rows.owners.iter().any(|owner| owner.id == claim.owner) {
            return Vec::new();
        }
        let wanted = |spec: &Spec| {
            claim.names.contains(&spec.name)
                && !self.rows.paused.contains(&spec.queue)
                && (claim.queues.is_empty() || claim.queues.contains(&spec.queue))
        };
        let mut ready: Vec<_> = self
            .rows
            .tasks
            .iter()
            .filter(|(_, (spec, row))| row.state == State::Queued && wanted(spec))
            .map(|(id, (spec, row))| (Reverse(spec.priority), row.eligible, *id))
            .collect();
        ready.sort();
        ready.truncate(claim.limit);
        let claimed = ready.into_iter().map(|(.., id)| {
            self.apply(id, Operation::Claim { owner: claim.owner }).unwrap();
            self.task(id)
        });
        claimed.collect()
    }

    /// The task in memory with this id, made if need be.
    fn task(&mut self, id: TaskId) -> Arc<Task> {
        let known = self.shown.iter().find(|task| task.id() == id && !task.is_settled()).cloned();
        let held = known.or_else(|| self.residents.resident(id).filter(|task| !task.is_settled()));
        let task = held.unwrap_or_else(|| {
            let (spec, row) = self.rows.tasks[&id].clone();
            Task::new(spec, row, None)
        });
        self.shown.push(Arc::clone(&task));
        task
    }

    /// Everybody who shows a row that was written shows it as it is now.
    fn show(self) {
        for task in self.shown {
            if let Some((_, row)) = self.rows.tasks.get(&task.id()) {
                for copy in [self.residents.resident(task.id()), Some(task)].into_iter().flatten() {
                    if !copy.is_final() {
                        copy.replace_row(row.clone());
                    }
                }
            }
        }
    }
}

impl Store for OnDisk {
    fn kind(&self) -> &'static str {
        "disk"
    }

    fn capability(&self) -> Capability {
        Capability { resident: false, durable: true, dependencies: false, schedules: false }
    }

    fn write(&self, batch: &mut Batch, residents: &dyn Residents, now: Timestamp) -> Result<(), Error> {
        self.0.begin_write()?;
        if self.0.touches_corrupt(batch) {
            return Err(Error::new(Code::CorruptRow, "this row makes no sense"));
        }
        let mut rows = self.0.rows.lock();
        let size =
            (batch.inserts.len(), batch.commits.len(), batch.claim.as_ref().map_or(0, |claim| claim.limit));
        let mut writing = Writing { rows: &mut rows, residents, now, shown: Vec::new() };
        for insert in &mut batch.inserts {
            insert.verdict = Some(writing.insert(&insert.tasks));
        }
        for commit in batch.commits.drain(..) {
            batch.verdicts.push(writing.commit(&commit, &mut batch.consequences));
        }
        if let Some(claim) = batch.claim.take() {
            batch.claimed = writing.claim(&claim);
        }
        writing.show();
        self.0.writes.add(size);
        Ok(())
    }

    fn write_with(
        &self,
        batch: &mut Batch,
        late: &mut Late<'_>,
        residents: &dyn Residents,
        now: Timestamp,
    ) -> Result<(), Error> {
        while *self.0.joins.lock() && batch.inserts.len() == 1 {
            batch.inserts.extend(late().0);
            std::thread::yield_now();
        }
        self.write(batch, residents, now)
    }

    fn elapse(
        &self,
        limit: usize,
        residents: &dyn Residents,
        changes: &mut Vec<Change>,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, Error> {
        let mut rows = self.0.rows.lock();
        let mut times: Vec<_> =
            rows.tasks.values().filter_map(|(spec, row)| Some((next_due(spec, row)?, spec.id))).collect();
        times.sort();
        let mut writing = Writing { rows: &mut rows, residents, now, shown: Vec::new() };
        let due: Vec<_> = times.iter().filter(|(at, _)| *at <= now).take(limit).map(|(_, id)| *id).collect();
        for id in &due {
            let effects = writing.apply(*id, Operation::Elapse)?;
            if effects.moved() {
                changes.push(Change { task: writing.task(*id), effects });
            }
        }
        writing.show();
        Ok(rows.tasks.values().filter_map(|(spec, row)| next_due(spec, row)).min())
    }

    fn get(&self, id: TaskId, residents: &dyn Residents) -> Result<Option<Arc<Task>>, Error> {
        let mut rows = self.0.rows.lock();
        if !rows.tasks.contains_key(&id) {
            return Ok(None);
        }
        let mut writing = Writing { rows: &mut rows, residents, now: Timestamp::MAX, shown: Vec::new() };
        let task = residents.resident(id).unwrap_or_else(|| writing.task(id));
        writing.show();
        Ok(Some(task))
    }

    fn list(&self, _: &Filter, _: &dyn Residents) -> Result<Vec<Arc<Task>>, Error> {
        Err(Error::new(Code::NotSupported, "no test lists"))
    }

    fn queue_counts(&self) -> Result<Vec<(Name, Counts)>, Error> {
        let mut counts: BTreeMap<Name, Counts> = BTreeMap::new();
        for (spec, row) in self.0.rows.lock().tasks.values() {
            counts.entry(spec.queue).or_default().add(row.state, 1);
        }
        Ok(counts.into_iter().collect())
    }

    fn set_paused(&self, queue: Name, paused: bool) -> Result<bool, Error> {
        let set = &mut self.0.rows.lock().paused;
        Ok(if paused { set.insert(queue) } else { set.remove(&queue) })
    }

    fn paused(&self) -> Result<Vec<Name>, Error> {
        Ok(self.0.rows.lock().paused.iter().copied().collect())
    }

    fn set_limit(&self, row: LimitRow, _: &mut Vec<Change>, _: Timestamp) -> Result<bool, Error> {
        match row.limit.is_none() {
            true => Ok(false),
            false => Err(Error::new(Code::NotSupported, "no limits")),
        }
    }

    fn limits(&self) -> Result<Vec<LimitRow>, Error> {
        Ok(Vec::new())
    }

    fn sweep(&self, _: Timestamp, _: usize) -> Result<usize, Error> {
        Ok(0)
    }

    fn discard(&self, _: &[TaskId], _: &[State], _: Timestamp) -> Result<usize, Error> {
        Ok(0)
    }

    fn join(&self, name: &str, _: Timestamp) -> Result<OwnerId, Error> {
        let mut rows = self.0.rows.lock();
        rows.last_owner += 1;
        let id = OwnerId::new(rows.last_owner).unwrap();
        rows.owners.push(Owner { id, name: name.to_owned(), beats: 0, gone: false });
        Ok(id)
    }

    fn beat(&self, owner: OwnerId) -> Result<(), Error> {
        match self.0.rows.lock().owners.iter_mut().find(|known| known.id == owner) {
            Some(known) => known.beats += 1,
            None => return Err(struck_off(owner)),
        }
        Ok(())
    }

    fn note_begun(&self, _: OwnerId, _: usize, begun: Option<(TaskId, u32)>, _: bool) {
        let happens = begun.and_then(|_| self.0.meanwhile.lock().take());
        if let Some(happens) = happens {
            happens();
        }
    }

    fn owners(&self) -> Result<Vec<Owner>, Error> {
        Ok(self.0.rows.lock().owners.clone())
    }

    fn bury(
        &self,
        owner: OwnerId,
        residents: &dyn Residents,
        changes: &mut Vec<Change>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let mut rows = self.0.rows.lock();
        rows.owners.retain(|known| known.id != owner);
        let orphans: Vec<_> =
            rows.tasks.iter().filter(|(_, (_, row))| row.owner == Some(owner)).map(|(id, _)| *id).collect();
        let mut writing = Writing { rows: &mut rows, residents, now, shown: Vec::new() };
        for id in orphans {
            let effects = writing.apply(id, Operation::Lose { owner })?;
            if effects.moved() {
                changes.push(Change { task: writing.task(id), effects });
            }
        }
        writing.show();
        Ok(())
    }

    fn change_schedule(
        &self,
        change: ScheduleChange,
        _: &dyn Residents,
        _: &mut Vec<Change>,
        _: Timestamp,
    ) -> Result<ScheduleEffects, Error> {
        Err(Error::new(Code::NotSupported, format!("schedule {:?}: not kept yet", change.name)))
    }

    fn schedules(&self) -> Result<Vec<ScheduleRow>, Error> {
        Err(Error::new(Code::NotSupported, "schedules are not kept yet"))
    }
}
