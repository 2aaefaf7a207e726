//! Limits in memory: who holds the slots of each gate, and who waits in front of it.
//!
//! # What it owns
//! The limits that are set; of each gate that matters now, the running tasks that hold its slots, its bucket, and the
//! tasks that wait; and the times at which gates open by themselves. What a gate lets through is the model's business
//! ([`GateRow`]).
//!
//! # Invariants
//! * All is under one lock, and so is every change of a task that has a gate to pass: what a strand counts as queued
//!   is what its tasks' rows say. Tasks without a key, in a store without limits, never touch it: one relaxed load.
//! * Under it a task's own lock is taken, and the alarm list's; nobody who holds those asks for this one.
//! * Who holds slots and who waits is noted by id and weakly: a task that goes away leaves nothing behind that counts.
//! * A limit that is set for the first time finds the tasks that run by looking at all. One that was claimed in that very
//!   moment, by a worker that had seen no limit yet, is not counted.
//!
//! A task that a closed handler's or queue's gate holds up was popped from its lane by a worker, and is kept here; its
//! row stays `queued`. When the gate opens it is told of as a task that has become eligible.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard};
use taskloom_model::{
    Effects, Error, Gate, GateRow, Limit, LimitFor, LimitRow, Limits, Name, Operation, Priority, Spec, State,
    TaskId, Timestamp, WINDOW, WaitingFor, next_due,
};

use super::MemoryStore;
use crate::{Change, Task};

#[derive(Default)]
pub(super) struct Gates {
    /// A limit is set.
    limited: AtomicBool,
    /// Something about a key has changed, and its windows are to be filled.
    touched: AtomicBool,
    /// An alarm was set, of which nobody was told yet.
    alarmed: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Default)]
pub(super) struct Inner {
    pub(super) limits: Limits,
    gates: HashMap<Gate, Standing>,
    alarms: BTreeSet<(Timestamp, Gate)>,
    /// Keys about which something has changed.
    touched: BTreeSet<Gate>,
}

/// A gate that matters now.
#[derive(Default)]
struct Standing {
    row: GateRow,
    /// Who holds its slots.
    running: HashSet<TaskId>,
    /// Its entry among the alarms.
    alarm: Option<Timestamp>,
    /// Tasks that it holds up, which are queued otherwise: in their order.
    held: BTreeMap<(Reverse<Priority>, Timestamp, TaskId), Weak<Task>>,
    /// Of a key: its tasks in each line.
    strands: BTreeMap<(Name, Name, Priority), Strand>,
}

/// Tasks with one key, of one queue, handler and priority.
#[derive(Default)]
struct Strand {
    queued: HashSet<TaskId>,
    waiting: BTreeMap<(Timestamp, TaskId), Weak<Task>>,
}

fn strand_of(spec: &Spec) -> (Name, Name, Priority) {
    (spec.queue, spec.name, spec.priority)
}

impl Strand {
    fn is_empty(&self) -> bool {
        self.queued.is_empty() && self.waiting.is_empty()
    }
}

impl Standing {
    fn room(&self, limit: &Limit, now: Timestamp) -> u32 {
        self.row.room(limit, count(self.running.len()), now)
    }

    fn strand(&mut self, spec: &Spec) -> &mut Strand {
        self.strands.entry(strand_of(spec)).or_default()
    }

    fn is_idle(&self, now: Timestamp) -> bool {
        self.running.is_empty()
            && self.held.is_empty()
            && self.row.idle_at(now).is_none()
            && self.strands.values().all(Strand::is_empty)
    }
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// Waits for room under its key, and for nothing else: not for a time of its own, to which it was put off.
fn waits_for_room(task: &Task) -> bool {
    task.with_row(|row| {
        (row.state, row.waiting_for, row.eligible) == (State::Pending, WaitingFor::Key, Timestamp::MAX)
    })
}

impl Gates {
    /// The lock, if a task has a gate to pass.
    pub(super) fn of(&self, spec: &Spec) -> Option<MutexGuard<'_, Inner>> {
        if spec.key().is_some() {
            return Some(self.inner.lock());
        }
        if !self.limited.load(Ordering::Relaxed) {
            return None;
        }
        Some(self.inner.lock()).filter(|inner| inner.limits.concern(spec))
    }

    /// Whether nothing is limited, and no key waits to be seen to: then a task without a key has nothing to pass.
    #[inline]
    pub(super) fn are_open(&self) -> bool {
        !self.limited.load(Ordering::Relaxed) && !self.touched.load(Ordering::Relaxed)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }
}

impl MemoryStore {
    /// Makes a change of a task that has gates to pass.
    pub(super) fn apply_at_gates(
        &self,
        inner: &mut Inner,
        task: &Arc<Task>,
        operation: Operation,
        consequences: &mut Vec<Change>,
        now: Timestamp,
    ) -> Result<Effects, Error> {
        if matches!(operation, Operation::Claim { .. }) && task.state() == State::Queued {
            return self.claim_at_gates(inner, task, operation, now);
        }
        let hastened = matches!(operation, Operation::Hasten);
        if hastened {
            inner.check_room_for(task, now)?;
        }
        let postponed = match &operation {
            Operation::Postpone { key, until, .. } => Some((Gate::Key(key.to_string()), *until)),
            _ => None,
        };
        let waited = waits_for_room(task);
        let mut effects = self.apply_plainly(task, operation, now)?;
        inner.left(task, &effects, waited);
        if effects.moved() {
            self.touch(inner, task.spec());
            for gate in [Gate::Queue(task.spec().queue), Gate::Handler(task.spec().name)] {
                self.release(inner, &gate, consequences, now);
            }
        }
        if effects.ready() {
            self.enter(inner, task, hastened, &mut effects, now);
        }
        if let Some((gate, until)) = postponed {
            inner.gates.entry(gate.clone()).or_default().row.shut(until);
            inner.touched.insert(gate);
            self.gates.touched.store(true, Ordering::Relaxed);
        }
        Ok(effects)
    }

    /// The windows of a task's key are to be filled when the change is complete.
    fn touch(&self, inner: &mut Inner, spec: &Spec) {
        if let Some(key) = spec.key() {
            inner.touched.insert(Gate::Key(key.to_owned()));
            self.gates.touched.store(true, Ordering::Relaxed);
        }
    }

    /// A change is complete: fills the windows of the keys that it has touched.
    pub(super) fn refill(&self, consequences: &mut Vec<Change>, now: Timestamp) {
        if !self.gates.touched.load(Ordering::Relaxed) {
            return;
        }
        let mut inner = self.gates.lock();
        self.gates.touched.store(false, Ordering::Relaxed);
        for gate in std::mem::take(&mut inner.touched) {
            self.refill_key(&mut inner, &gate, consequences, now);
        }
    }

    /// Sees to a task with a key that was inserted.
    pub(super) fn enter_new(&self, task: &Arc<Task>, now: Timestamp) {
        let mut effects = Effects { from: None, to: State::Queued, left: None, due: None };
        self.enter_as(task, &mut effects, now);
    }

    /// Sees to a task that nobody has known before; what it comes to is put into `effects`.
    pub(super) fn enter_as(&self, task: &Arc<Task>, effects: &mut Effects, now: Timestamp) {
        let Some(mut inner) = self.gates.of(task.spec()) else { return };
        if task.state() == State::Queued {
            self.enter(&mut inner, task, false, effects, now);
        }
    }

    /// A task is queued now: if it has a key it may stay so only within its strand's window, unless it is `hastened`.
    fn enter(
        &self,
        inner: &mut Inner,
        task: &Arc<Task>,
        hastened: bool,
        effects: &mut Effects,
        now: Timestamp,
    ) {
        let spec = task.spec();
        let Some((gate, limit)) = inner.limits.of_key(spec) else { return };
        let state = inner.gates.entry(gate.clone()).or_default();
        let window = state.room(&limit, now).min(WINDOW);
        let strand = state.strand(spec);
        if hastened || count(strand.queued.len()) < window {
            strand.queued.insert(task.id());
        } else if let Ok(closed) = self.apply_plainly(task, Operation::CloseKey { until: None }, now) {
            strand.waiting.insert((spec.created, task.id()), Arc::downgrade(task));
            (effects.to, effects.due) = (closed.to, closed.due);
            let opens = state.row.opens(&limit, count(state.running.len()), now);
            if state.alarm.is_none() {
                self.set_alarm(inner, &gate, opens);
            }
        }
        self.touch(inner, spec);
    }

    fn claim_at_gates(
        &self,
        inner: &mut Inner,
        task: &Arc<Task>,
        operation: Operation,
        now: Timestamp,
    ) -> Result<Effects, Error> {
        let spec = task.spec();
        let lines: Vec<_> = inner.limits.of_line(spec.queue, spec.name).collect();
        for (gate, limit) in &lines {
            let state = inner.gates.entry(gate.clone()).or_default();
            if state.room(limit, now) == 0 {
                state.held.insert((Reverse(spec.priority), spec.created, spec.id), Arc::downgrade(task));
                let due = state.row.opens(limit, count(state.running.len()), now);
                self.set_alarm(inner, gate, due);
                let due = task.with_row(|row| next_due(spec, row));
                return Ok(Effects { from: Some(State::Queued), to: State::Queued, left: None, due });
            }
        }
        let key = inner.limits.of_key(spec);
        if let Some((gate, limit)) = &key {
            let state = inner.gates.entry(gate.clone()).or_default();
            if state.room(limit, now) == 0 {
                let effects = self.apply_plainly(task, Operation::CloseKey { until: None }, now)?;
                let strand = state.strand(spec);
                strand.queued.remove(&spec.id);
                strand.waiting.insert((spec.created, spec.id), Arc::downgrade(task));
                self.touch(inner, spec);
                return Ok(effects);
            }
        }
        let effects = self.apply_plainly(task, operation, now)?;
        for (gate, limit) in lines.iter().chain(&key) {
            let state = inner.gates.entry(gate.clone()).or_default();
            state.row.take(limit, now);
            state.running.insert(spec.id);
            // It may have been held up before, and be claimed now before the gate has let it go.
            state.held.remove(&(Reverse(spec.priority), spec.created, spec.id));
        }
        if let Some((gate, _)) = &key
            && let Some(state) = inner.gates.get_mut(gate)
        {
            state.strand(spec).queued.remove(&spec.id);
            self.touch(inner, spec);
        }
        Ok(effects)
    }

    /// Fills the windows of a key's strands, as far as its gate lets more through.
    fn refill_key(&self, inner: &mut Inner, gate: &Gate, consequences: &mut Vec<Change>, now: Timestamp) {
        let Inner { limits, gates, .. } = inner;
        let Some(state) = gates.get_mut(gate) else { return };
        let Standing { row, running, strands, .. } = state;
        let mut closed = None;
        for strand in strands.values_mut() {
            while let Some((place, waiting)) = strand.waiting.first_key_value() {
                let (place, waiting) = (*place, waiting.upgrade());
                let Some(task) = waiting.filter(|task| waits_for_room(task)) else {
                    strand.waiting.remove(&place);
                    continue;
                };
                let Some((_, limit)) = limits.of_key(task.spec()) else { break };
                let room = row.room(&limit, count(running.len()), now);
                if room == 0 {
                    closed = Some(limit);
                }
                if count(strand.queued.len()) >= room.min(WINDOW) {
                    break;
                }
                strand.waiting.remove(&place);
                if let Ok(effects) = self.apply_plainly(&task, Operation::Wake, now) {
                    strand.queued.insert(task.id());
                    consequences.push(Change { task, effects });
                }
            }
        }
        strands.retain(|_, strand| !strand.is_empty());
        let opens = closed.and_then(|limit| row.opens(&limit, count(running.len()), now));
        // Without somebody who waits it is looked at again when it can be forgotten.
        let alarm = opens.or_else(|| row.idle_at(now));
        self.set_alarm(inner, gate, alarm);
        inner.forget_if_idle(gate, now);
    }

    /// Opens the gates whose time has come.
    pub(super) fn open_gates(&self, changes: &mut Vec<Change>, now: Timestamp) {
        let mut inner = self.gates.lock();
        while let Some((_, gate)) = inner.alarms.first().filter(|(at, _)| *at <= now).cloned() {
            self.set_alarm(&mut inner, &gate, None);
            if matches!(gate, Gate::Key(_)) {
                inner.touched.insert(gate);
                self.gates.touched.store(true, Ordering::Relaxed);
            } else {
                self.release(&mut inner, &gate, changes, now);
            }
        }
    }

    /// Lets go of as many tasks as a line's gate lets through, the first ones first.
    fn release(&self, inner: &mut Inner, gate: &Gate, consequences: &mut Vec<Change>, now: Timestamp) {
        let limit = match gate {
            Gate::Queue(name) => inner.limits.get(LimitFor::Queue(*name)),
            Gate::Handler(name) => inner.limits.get(LimitFor::Handler(*name)),
            Gate::Key(_) => None,
        };
        let limit = limit.unwrap_or_default();
        let Some(state) = inner.gates.get_mut(gate) else { return };
        let room = state.room(&limit, now);
        let mut released = 0;
        while released < room
            && let Some((_, task)) = state.held.pop_first()
        {
            let Some(task) = task.upgrade().filter(|task| task.state() == State::Queued) else { continue };
            // To its queue it comes as one that had to wait.
            let effects = Effects { from: Some(State::Pending), to: State::Queued, left: None, due: None };
            consequences.push(Change { task, effects });
            released += 1;
        }
        let opens = state.row.opens(&limit, count(state.running.len()), now);
        let alarm = opens.filter(|_| !state.held.is_empty());
        let alarm = alarm.or_else(|| state.row.idle_at(now));
        self.set_alarm(inner, gate, alarm);
        inner.forget_if_idle(gate, now);
    }

    /// Has a gate looked at then, and at no other time.
    fn set_alarm(&self, inner: &mut Inner, gate: &Gate, at: Option<Timestamp>) {
        let Some(state) = inner.gates.get_mut(gate) else { return };
        if state.alarm == at {
            return;
        }
        let before = std::mem::replace(&mut state.alarm, at);
        if let Some(before) = before {
            inner.alarms.remove(&(before, gate.clone()));
        }
        if let Some(at) = at {
            inner.alarms.insert((at, gate.clone()));
            self.gates.alarmed.store(true, Ordering::Relaxed);
        }
    }

    /// When the next gate opens by itself.
    pub(super) fn next_gate(&self) -> Option<Timestamp> {
        self.gates.lock().alarms.first().map(|(at, _)| *at)
    }

    /// The same, if that is new since this was last asked.
    pub(super) fn new_alarm(&self) -> Option<Timestamp> {
        let new =
            self.gates.alarmed.load(Ordering::Relaxed) && self.gates.alarmed.swap(false, Ordering::Relaxed);
        new.then(|| self.next_gate()).flatten()
    }

    /// Sets a limit; whether that was new.
    pub(super) fn change_limit(&self, row: LimitRow, changes: &mut Vec<Change>, now: Timestamp) -> bool {
        let mut inner = self.gates.lock();
        let what = row.what.clone();
        // Every handler that is registered says that it has none.
        if !inner.limits.set(row) {
            return false;
        }
        let is_set = inner.limits.get(what.clone()).is_some();
        // From now on workers ask; or no longer, if this was the last.
        self.gates.limited.store(!inner.limits.is_empty(), Ordering::SeqCst);
        let gate = match what {
            LimitFor::Queue(name) => Gate::Queue(name),
            LimitFor::Handler(name) => Gate::Handler(name),
            LimitFor::Key(key) | LimitFor::HandlerKey(_, key) => {
                let gate = Gate::Key(key);
                inner.gates.entry(gate.clone()).or_default();
                self.refill_key(&mut inner, &gate, changes, now);
                return true;
            }
        };
        let running = |task: &Task| {
            let spec = task.spec();
            let here = match &gate {
                Gate::Queue(name) => spec.queue == *name,
                Gate::Handler(name) => spec.name == *name,
                Gate::Key(_) => false,
            };
            here && task.state() == State::Running
        };
        let state = inner.gates.entry(gate.clone()).or_default();
        // Without a limit nobody is told who leaves, so they are counted anew.
        state.running.clear();
        if is_set {
            self.tasks.for_each(|task| {
                if running(task) {
                    state.running.insert(task.id());
                }
            });
        }
        self.release(&mut inner, &gate, changes, now);
        true
    }
}

impl Inner {
    /// Takes a task out of the places that it has left.
    fn left(&mut self, task: &Task, effects: &Effects, waited: bool) {
        let spec = task.spec();
        let gates = [Gate::Queue(spec.queue), Gate::Handler(spec.name)];
        let key = spec.key().map(|key| Gate::Key(key.to_owned()));
        for gate in gates.iter().chain(&key) {
            let Some(state) = self.gates.get_mut(gate) else { continue };
            if effects.left.is_some() {
                state.running.remove(&spec.id);
            }
            if effects.from == Some(State::Queued) && effects.moved() {
                state.held.remove(&(Reverse(spec.priority), spec.created, spec.id));
                if let Some(strand) = state.strands.get_mut(&strand_of(spec)) {
                    strand.queued.remove(&spec.id);
                }
            }
            if waited
                && effects.moved()
                && let Some(strand) = state.strands.get_mut(&strand_of(spec))
            {
                strand.waiting.remove(&(spec.created, spec.id));
            }
        }
    }

    /// Forgets a gate about which there is nothing to know.
    fn forget_if_idle(&mut self, gate: &Gate, now: Timestamp) {
        if self.gates.get(gate).is_some_and(|state| state.alarm.is_none() && state.is_idle(now)) {
            self.gates.remove(gate);
        }
    }

    /// Refuses to run a task by hand while its key has no room.
    fn check_room_for(&self, task: &Task, now: Timestamp) -> Result<(), Error> {
        let spec = task.spec();
        let (Some((gate, limit)), Some(own)) = (self.limits.of_key(spec), spec.key_limit()) else {
            return Ok(());
        };
        let waits = task.with_row(|row| row.waiting_for == WaitingFor::Key);
        match self.gates.get(&gate) {
            Some(state) if waits && state.room(&limit, now) == 0 => Err(own.no_room(spec.id)),
            _ => Ok(()),
        }
    }
}
