//! A store that processes share, in memory.
//!
//! # What it owns
//! [`Disk`] is what a file would be: a memory store, whose rules are the model's, with the rows in tasks of its own; a list of
//! what is eligible, in the order of claims; and what processes have noted of what they began. A [`Connection`] is one
//! process's opening of it: a [`Store`] that is not resident, so the engine goes the way that it goes on a file. What it
//! hands out are copies, one for each task that somebody in its process holds.
//!
//! In the other mode (`resident`) a connection is the memory store itself, as users' tests have it.
//!
//! # Faults
//! A connection can be made to fail for a time ([`Connection::fail_until`]), and can be cut for ever
//! ([`Connection::cut`]): then nothing that its process still does reaches the disk, as after a kill.
//!
//! Every change is told to the [`Checker`], under the lock that makes it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use taskloom_model::{
    Code, Effects, Error, Fence, LimitRow, Name, Operation, OwnerId, ScheduleEffects, ScheduleRow, State,
    TaskId, Timestamp,
};
use taskloom_store::{
    Batch, Capability, Change, Claim, Commit, Counts, DueSchedules, Filter, GateNews, Insert, MemoryOptions,
    MemoryStore, News, Nobody, Owner, Residents, ScheduleChange, Store, Task,
};

use crate::checker::{Asked, Checker};
use crate::copies::{Copies, show};

/// The place of an eligible task in the order of claims.
type Place = (Reverse<u8>, Timestamp, u64, TaskId);

#[derive(Default)]
struct Tables {
    ready: BTreeSet<Place>,
    places: HashMap<TaskId, Place>,
    arrivals: HashMap<TaskId, u64>,
    begun: HashMap<OwnerId, BTreeMap<usize, (TaskId, u32)>>,
    gone: BTreeSet<OwnerId>,
}

/// What outlives the processes.
pub struct Disk {
    memory: MemoryStore,
    resident: bool,
    tables: Mutex<Tables>,
    changes: AtomicU64,
    deaths: AtomicU64,
    checker: Arc<Mutex<Checker>>,
}

impl Disk {
    /// An empty one. `resident`: of one engine, whose tasks are the rows.
    pub fn new(resident: bool, checker: Arc<Mutex<Checker>>) -> Arc<Self> {
        // It forgets nothing: a task that was finished twice is to be seen.
        let options = MemoryOptions { capacity: usize::MAX / 2, keep_finished: usize::MAX / 2 };
        Arc::new(Self {
            memory: MemoryStore::new(options),
            resident,
            tables: Mutex::default(),
            changes: AtomicU64::new(0),
            deaths: AtomicU64::new(0),
            checker,
        })
    }

    /// A number that grows with every change.
    pub fn version(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Whether a task is on it: what ended long ago is swept.
    pub fn has(&self, id: TaskId) -> bool {
        matches!(self.memory.get(id, &Nobody), Ok(Some(_)))
    }

    /// A process opens it.
    pub fn connect(self: &Arc<Self>, process: u32) -> Arc<Connection> {
        Arc::new(Connection {
            disk: Arc::clone(self),
            process,
            seen: AtomicU64::new(0),
            seen_deaths: AtomicU64::new(0),
            owner: AtomicU64::new(0),
            is_cut: AtomicBool::new(false),
            fails_until: AtomicI64::new(i64::MIN),
        })
    }

    /// Puts a task where it belongs among the eligible ones, or takes it out.
    fn place(&self, task: &Task) {
        if self.resident {
            return;
        }
        let mut tables = self.tables.lock();
        let tables = &mut *tables;
        let id = task.id();
        if let Some(old) = tables.places.remove(&id) {
            tables.ready.remove(&old);
        }
        let (state, eligible) = task.with_row(|row| (row.state, row.eligible));
        if state == State::Queued {
            let next = tables.arrivals.len() as u64;
            let arrival = *tables.arrivals.entry(id).or_insert(next);
            let place = (Reverse(task.spec().priority.number()), eligible, arrival, id);
            tables.ready.insert(place);
            tables.places.insert(id, place);
        }
    }
}

/// One process's opening of a [`Disk`].
pub struct Connection {
    disk: Arc<Disk>,
    process: u32,
    seen: AtomicU64,
    seen_deaths: AtomicU64,
    owner: AtomicU64,
    is_cut: AtomicBool,
    fails_until: AtomicI64,
}

impl Connection {
    /// Nothing of what its process does from now on reaches the disk. `noticed`: others are told at once that it has died.
    pub fn cut(&self, noticed: bool) {
        self.is_cut.store(true, Ordering::Relaxed);
        if noticed && let Some(owner) = OwnerId::new(self.owner.load(Ordering::Relaxed)) {
            self.disk.tables.lock().gone.insert(owner);
            self.disk.deaths.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Every write fails until then.
    pub fn fail_until(&self, until: Timestamp) {
        self.fails_until.store(until.micros(), Ordering::Relaxed);
    }

    fn check(&self, now: Timestamp) -> Result<(), Error> {
        if self.is_cut.load(Ordering::Relaxed) {
            return Err(Error::new(Code::CorruptRow, "the process is dead"));
        }
        if now.micros() < self.fails_until.load(Ordering::Relaxed) {
            return Err(Error::new(Code::StoreFailed, "the disk is full"));
        }
        Ok(())
    }

    fn wrote(&self) {
        let version = self.disk.changes.fetch_add(1, Ordering::Relaxed) + 1;
        // One's own changes are no news, unless others have come in between.
        let _ = self.seen.compare_exchange(version - 1, version, Ordering::Relaxed, Ordering::Relaxed);
        self.disk.checker.lock().committed();
    }

    /// The copy of a row that this process shows.
    fn shown(&self, row: &Arc<Task>, copies: &Copies<'_>) -> Arc<Task> {
        if self.disk.resident { Arc::clone(row) } else { copies.of(row) }
    }

    /// The transaction is over: every copy that it knows shows what came of it.
    fn show_all(&self, copies: &Copies<'_>) {
        if self.disk.resident {
            return;
        }
        for (id, known) in &*copies.known.borrow() {
            if let Ok(Some(row)) = self.disk.memory.get(*id, &Nobody) {
                known.iter().for_each(|copy| show(&row, copy));
            }
        }
    }

    fn tell(&self, task: &Arc<Task>, asked: Option<Asked>, from: State, now: Timestamp) {
        self.disk.place(task);
        task.with_row(|row| {
            self.disk.checker.lock().changed(self.process, task.id(), asked, from, row, now);
        });
    }

    /// Tells of tasks that came into being, and of what followed.
    fn tell_all(&self, changes: &[Change], now: Timestamp) {
        for Change { task, effects } in changes {
            match effects.from {
                Some(from) => self.tell(task, None, from, now),
                None => self.born(task, now),
            }
        }
    }

    fn born(&self, task: &Arc<Task>, now: Timestamp) {
        if !self.disk.resident {
            let mut tables = self.disk.tables.lock();
            let next = tables.arrivals.len() as u64;
            tables.arrivals.entry(task.id()).or_insert(next);
        }
        self.disk.place(task);
        task.with_row(|row| self.disk.checker.lock().inserted(self.process, task.spec(), row, now));
    }

    fn insert_one(
        &self,
        insert: &mut Insert,
        copies: &Copies<'_>,
        consequences: &mut Vec<Change>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let rows: Vec<_> = insert.tasks.iter().map(|task| self.row_for(task)).collect();
        let mut batch =
            Batch { inserts: vec![Insert { tasks: rows.clone(), verdict: None }], ..Batch::default() };
        self.disk.memory.write(&mut batch, &Nobody, now)?;
        let done = batch.inserts.remove(0);
        let verdict = done.verdict.unwrap_or(Ok(()));
        if verdict.is_ok() {
            for (place, row) in done.tasks.iter().enumerate() {
                if Arc::ptr_eq(row, &rows[place]) {
                    self.born(row, now);
                } else {
                    // Another one stands in its place.
                    insert.tasks[place] = self.shown(row, copies);
                }
            }
        }
        self.follow(batch.consequences, copies, consequences, now);
        verdict
    }

    /// The row of a task that is to be inserted.
    fn row_for(&self, task: &Arc<Task>) -> Arc<Task> {
        if self.disk.resident {
            Arc::clone(task)
        } else {
            Task::new(task.spec().clone(), task.with_row(Clone::clone), None)
        }
    }

    fn commit_one(
        &self,
        commit: Commit,
        copies: &Copies<'_>,
        consequences: &mut Vec<Change>,
        now: Timestamp,
    ) -> Result<Effects, Error> {
        let Commit { task, operation, spawn } = commit;
        let row = if self.disk.resident {
            Some(Arc::clone(&task))
        } else {
            self.disk.memory.get(task.id(), &Nobody)?
        };
        let Some(row) = row else {
            return Err(Error::new(Code::UnknownTask, format!("no task has the id {}", task.id())));
        };
        if task.is_superseded() && matches!(operation, Operation::Claim { .. }) {
            return Err(task.is_older());
        }
        let replays = matches!(operation, Operation::Replay);
        let (asked, from) = (Asked::of(&operation), row.state());
        let born: Vec<_> = spawn.iter().map(|task| self.row_for(task)).collect();
        let mut followed = Vec::new();
        let made = Commit { task: Arc::clone(&row), operation, spawn: born };
        match self.disk.memory.commit(made, &mut followed, now) {
            Ok(effects) => {
                if replays && !self.disk.resident {
                    copies.supersede(&row);
                }
                self.tell(&row, Some(asked), from, now);
                self.follow(followed, copies, consequences, now);
                Ok(effects)
            }
            Err(error) => {
                self.disk.checker.lock().refused();
                self.follow(followed, copies, consequences, now);
                Err(error)
            }
        }
    }

    fn follow(
        &self,
        followed: Vec<Change>,
        copies: &Copies<'_>,
        consequences: &mut Vec<Change>,
        now: Timestamp,
    ) {
        self.tell_all(&followed, now);
        consequences.extend(
            followed
                .into_iter()
                .map(|Change { task, effects }| Change { task: self.shown(&task, copies), effects }),
        );
    }

    fn claim(
        &self,
        claim: &Claim,
        copies: &Copies<'_>,
        claimed: &mut Vec<Arc<Task>>,
        consequences: &mut Vec<Change>,
        now: Timestamp,
    ) {
        let paused = self.disk.memory.paused().unwrap_or_default();
        let queues: Vec<Option<Name>> = match &*claim.queues {
            [] => vec![None],
            queues => queues.iter().copied().map(Some).collect(),
        };
        let mut let_in = true;
        while let_in {
            let_in = false;
            let ready: Vec<TaskId> = self.disk.tables.lock().ready.iter().map(|place| place.3).collect();
            for (queue, id) in queues.iter().flat_map(|queue| ready.iter().map(move |id| (queue, id))) {
                if claimed.len() >= claim.limit {
                    return;
                }
                let Ok(Some(row)) = self.disk.memory.get(*id, &Nobody) else { continue };
                let spec = row.spec();
                let wanted = queue.is_none_or(|queue| queue == spec.queue)
                    && claim.names.contains(&spec.name)
                    && !paused.contains(&spec.queue)
                    && row.state() == State::Queued;
                if !wanted {
                    continue;
                }
                let operation = Operation::Claim { owner: claim.owner };
                let (asked, from) = (Asked::of(&operation), row.state());
                let mut followed = Vec::new();
                if self.disk.memory.change(&row, operation, &mut followed, now).is_ok() {
                    self.tell(&row, Some(asked), from, now);
                    if row.state() == State::Running {
                        claimed.push(self.shown(&row, copies));
                    }
                }
                let_in |= !followed.is_empty();
                self.follow(followed, copies, consequences, now);
            }
        }
    }
}

/// A connection as an engine takes it.
pub struct Opened(pub Arc<Connection>);

impl Store for Opened {
    fn kind(&self) -> &'static str {
        "simulated"
    }

    fn capability(&self) -> Capability {
        let resident = self.0.disk.resident;
        Capability { resident, durable: !resident, ..self.0.disk.memory.capability() }
    }

    fn write(&self, batch: &mut Batch, residents: &dyn Residents, now: Timestamp) -> Result<(), Error> {
        let own = &*self.0;
        own.check(now)?;
        let copies = Copies::new(residents);
        for insert in &batch.inserts {
            insert.tasks.iter().for_each(|task| copies.add(task));
        }
        for commit in &batch.commits {
            copies.add(&commit.task);
            commit.spawn.iter().for_each(|task| copies.add(task));
        }
        for insert in &mut batch.inserts {
            insert.verdict = Some(own.insert_one(insert, &copies, &mut batch.consequences, now));
        }
        for commit in batch.commits.drain(..) {
            batch.verdicts.push(own.commit_one(commit, &copies, &mut batch.consequences, now));
        }
        if let Some(claim) = batch.claim.take() {
            own.claim(&claim, &copies, &mut batch.claimed, &mut batch.consequences, now);
        }
        own.show_all(&copies);
        // A claim that got nothing is no news to anybody.
        if !(batch.inserts.is_empty() && batch.verdicts.is_empty() && batch.claimed.is_empty()) {
            own.wrote();
        }
        Ok(())
    }

    fn commit(
        &self,
        commit: Commit,
        consequences: &mut Vec<Change>,
        now: Timestamp,
    ) -> Result<Effects, Error> {
        self.0.check(now)?;
        let copies = Copies::new(&Nobody);
        copies.add(&commit.task);
        commit.spawn.iter().for_each(|task| copies.add(task));
        let made = self.0.commit_one(commit, &copies, consequences, now);
        self.0.show_all(&copies);
        self.0.wrote();
        made
    }

    fn elapse(
        &self,
        limit: usize,
        residents: &dyn Residents,
        changes: &mut Vec<Change>,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, Error> {
        self.0.check(now)?;
        let mut elapsed = Vec::new();
        let next = self.0.disk.memory.elapse(limit, &Nobody, &mut elapsed, now)?;
        if !elapsed.is_empty() {
            self.0.follow(elapsed, &Copies::new(residents), changes, now);
            self.0.wrote();
        }
        Ok(next)
    }

    fn get(&self, id: TaskId, residents: &dyn Residents) -> Result<Option<Arc<Task>>, Error> {
        Ok(self.0.disk.memory.get(id, &Nobody)?.map(|row| self.0.shown(&row, &Copies::new(residents))))
    }

    fn list(&self, filter: &Filter, residents: &dyn Residents) -> Result<Vec<Arc<Task>>, Error> {
        let rows = self.0.disk.memory.list(filter, &Nobody)?;
        let copies = Copies::new(residents);
        Ok(rows.iter().map(|row| self.0.shown(row, &copies)).collect())
    }

    fn queue_counts(&self) -> Result<Vec<(Name, Counts)>, Error> {
        self.0.disk.memory.queue_counts()
    }

    fn set_paused(&self, queue: Name, paused: bool) -> Result<bool, Error> {
        let new = self.0.disk.memory.set_paused(queue, paused);
        self.0.wrote();
        new
    }

    fn paused(&self) -> Result<Vec<Name>, Error> {
        self.0.disk.memory.paused()
    }

    fn sweep(&self, before: Timestamp, limit: usize) -> Result<usize, Error> {
        self.0.disk.memory.sweep(before, limit)
    }

    fn discard(&self, ids: &[TaskId], states: &[State], now: Timestamp) -> Result<usize, Error> {
        self.0.disk.memory.discard(ids, states, now)
    }

    fn join(&self, name: &str, now: Timestamp) -> Result<OwnerId, Error> {
        self.0.check(now)?;
        let owner = self.0.disk.memory.join(name, now)?;
        self.0.owner.store(owner.get(), Ordering::Relaxed);
        Ok(owner)
    }

    fn beat(&self, owner: OwnerId) -> Result<(), Error> {
        if self.0.is_cut.load(Ordering::Relaxed) {
            return Err(Error::new(Code::StoreFailed, "the process is dead"));
        }
        self.0.disk.memory.beat(owner)
    }

    fn note_begun(&self, owner: OwnerId, place: usize, begun: Option<(TaskId, u32)>, _alone: bool) {
        // An engine that is driven tries nobody.
        let mut tables = self.0.disk.tables.lock();
        let places = tables.begun.entry(owner).or_default();
        if let Some(begun) = begun {
            places.insert(place, begun);
        }
    }

    fn owners(&self) -> Result<Vec<Owner>, Error> {
        let mut owners = self.0.disk.memory.owners()?;
        let tables = self.0.disk.tables.lock();
        owners.iter_mut().for_each(|owner| owner.gone = tables.gone.contains(&owner.id));
        Ok(owners)
    }

    fn bury(
        &self,
        owner: OwnerId,
        residents: &dyn Residents,
        changes: &mut Vec<Change>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let own = &*self.0;
        own.check(now)?;
        let copies = &Copies::new(residents);
        let begun = own.disk.tables.lock().begun.remove(&owner);
        let running = Filter { state: Some(State::Running), limit: usize::MAX, ..Filter::default() };
        for row in own.disk.memory.list(&running, &Nobody)? {
            let attempt = row.with_row(|row| (row.owner == Some(owner)).then_some(row.attempt));
            let Some(attempt) = attempt else { continue };
            let unbegun =
                begun.as_ref().is_some_and(|begun| !begun.values().any(|it| *it == (row.id(), attempt)));
            let operation = if unbegun {
                Operation::Release { fence: Fence { owner, attempt } }
            } else {
                Operation::Lose { owner }
            };
            let (asked, from) = (Asked::of(&operation), row.state());
            let effects = own.disk.memory.change(&row, operation, &mut Vec::new(), now)?;
            own.tell(&row, Some(asked), from, now);
            changes.push(Change { task: own.shown(&row, copies), effects });
        }
        own.disk.memory.bury(owner, &Nobody, &mut Vec::new(), now)?;
        own.wrote();
        Ok(())
    }

    fn await_news(&self, _: Duration) -> News {
        let (changes, deaths) = (&self.0.disk.changes, &self.0.disk.deaths);
        let (now, died) = (changes.load(Ordering::Relaxed), deaths.load(Ordering::Relaxed));
        News {
            changes: self.0.seen.swap(now, Ordering::Relaxed) != now,
            deaths: self.0.seen_deaths.swap(died, Ordering::Relaxed) != died,
        }
    }

    fn set_limit(&self, row: LimitRow, changes: &mut Vec<Change>, now: Timestamp) -> Result<bool, Error> {
        self.0.check(now)?;
        let mut followed = Vec::new();
        let new = self.0.disk.memory.set_limit(row, &mut followed, now)?;
        self.0.follow(followed, &Copies::new(&Nobody), changes, now);
        self.0.wrote();
        Ok(new)
    }

    fn limits(&self) -> Result<Vec<LimitRow>, Error> {
        self.0.disk.memory.limits()
    }

    fn gate_news(&self) -> GateNews {
        self.0.disk.memory.gate_news()
    }

    fn change_schedule(
        &self,
        change: ScheduleChange,
        residents: &dyn Residents,
        changes: &mut Vec<Change>,
        now: Timestamp,
    ) -> Result<ScheduleEffects, Error> {
        self.0.check(now)?;
        let copies = Copies::new(residents);
        let task = change.task.as_ref().map(|task| {
            copies.add(task);
            self.0.row_for(task)
        });
        let mut followed = Vec::new();
        let change = ScheduleChange { task, ..change };
        let effects = self.0.disk.memory.change_schedule(change, &Nobody, &mut followed, now)?;
        self.0.follow(followed, &copies, changes, now);
        self.0.show_all(&copies);
        self.0.wrote();
        Ok(effects)
    }

    fn schedules(&self) -> Result<Vec<ScheduleRow>, Error> {
        self.0.disk.memory.schedules()
    }

    fn due_schedules(&self, limit: usize, now: Timestamp) -> Result<DueSchedules, Error> {
        self.0.disk.memory.due_schedules(limit, now)
    }
}
