//! Limits in the file: slots, buckets, and who waits for a key. See [`taskloom_model::Limits`] for what they mean.
//!
//! `slots` has a row for each running task at each gate with a limit (and each key) that it has passed, so slots are
//! counted and never go wrong by one; `gates` has the buckets and shutters, of gates that have something to remember,
//! and when one is to be looked at. Only tasks with a key, or in a line with a limit, touch either.
//!
//! Within a transaction a gate is read when it is first met, kept in [`Gates`] and written at the end, when the windows
//! of all keys about which something changed are filled. Which limits there are is asked in each transaction that needs it
//! ([`crate::limits`]).

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashMap;
use rusqlite::{Connection, OptionalExtension, ToSql, params};
use taskloom_model::{
    Effects, Gate, GateRow, Limit, LimitFor, LimitRow, Limits, Name, Operation, Row, Spec, State, TaskId,
    Timestamp, WINDOW, apply,
};
use taskloom_store::GateNews;

use super::{Told, Writing};
use crate::raw_text::RawText;
use crate::rows::{self, Fault};
use crate::{limits, schema};

/// What a transaction knows of gates.
#[derive(Default)]
pub(super) struct Gates {
    limits: Option<Arc<Limits>>,
    met: HashMap<Gate, Met>,
    /// Keys about which something has changed.
    touched: BTreeSet<Gate>,
    /// Lines that have something back.
    pub(super) news: GateNews,
}

/// A gate in this transaction.
struct Met {
    row: GateRow,
    running: u32,
    due: Option<Timestamp>,
    /// As it is stored.
    stored: Option<(GateRow, Option<Timestamp>)>,
}

/// Where a task stands.
struct Standing {
    id: TaskId,
    queue: Name,
    name: Name,
    priority: u8,
    key: Option<(Gate, Limit)>,
}

impl Standing {
    fn of(limits: &Limits, spec: &Spec) -> Self {
        let Spec { id, queue, name, priority, .. } = spec;
        Self { id: *id, queue: *queue, name: *name, priority: priority.number(), key: limits.of_key(spec) }
    }
}

/// Makes a queued task wait for its key.
fn close(spec: &Spec, row: &mut Row, now: Timestamp) -> Result<(), Fault> {
    let close = Operation::CloseKey { until: None };
    apply(close, spec, row, now).map(drop).map_err(|error| Fault::Task(spec.id, error))
}

/// A queue, a handler and a priority, of which some task waits for a key. A row may be damaged, and name neither.
type Strand = (RawText, RawText, u8);

/// What became of a claim.
pub(super) enum Passed {
    /// All gates are open.
    Through,
    /// The task waits for its key.
    KeyClosed,
    /// Its line is closed: nobody behind it in the same line comes through either.
    LineClosed,
}

const fn kind(gate: &Gate) -> u8 {
    match gate {
        Gate::Queue(_) => 0,
        Gate::Handler(_) => 1,
        Gate::Key(_) => 2,
    }
}

fn name(gate: &Gate) -> &str {
    match gate {
        Gate::Queue(name) | Gate::Handler(name) => name.as_str(),
        Gate::Key(key) => key,
    }
}

/// The gate of a stored row, if there can be such a one.
fn gate_of(kind: i64, name: &RawText) -> Option<Gate> {
    let name = name.as_str()?;
    match kind {
        0 => Some(Gate::Queue(Name::new(name))),
        1 => Some(Gate::Handler(Name::new(name))),
        2 => Some(Gate::Key(name.to_owned())),
        _ => None,
    }
}

impl Writing<'_> {
    fn limits(&mut self) -> Result<Arc<Limits>, Fault> {
        if let Some(limits) = &self.gates.limits {
            return Ok(Arc::clone(limits));
        }
        let limits = self.known.read(self.conn)?;
        Ok(Arc::clone(self.gates.limits.insert(limits)))
    }

    fn meet(&mut self, gate: &Gate) -> Result<&mut Met, Fault> {
        if !self.gates.met.contains_key(gate) {
            let at = params![kind(gate), name(gate)];
            let running = self.conn.prepare_cached(schema::SLOTS)?.query_row(at, |stored| stored.get(0))?;
            let stored = self
                .conn
                .prepare_cached(schema::GATE)?
                .query_row(at, |stored| Ok((stored.get(0)?, stored.get(1)?, stored.get(2)?)))
                .optional()?
                .map(|(full_at, shut_until, due): (i64, i64, Option<i64>)| {
                    let time = Timestamp::from_micros;
                    let row = GateRow { full_at: time(full_at), shut_until: time(shut_until) };
                    (row, due.map(time))
                });
            let (row, due) = stored.unwrap_or_default();
            self.gates.met.insert(gate.clone(), Met { row, running, due, stored });
        }
        Ok(self.gates.met.get_mut(gate).expect("it was just met"))
    }

    fn room(&mut self, gate: &Gate, limit: &Limit) -> Result<u32, Fault> {
        let now = self.now;
        let met = self.meet(gate)?;
        Ok(met.row.room(limit, met.running, now))
    }

    /// How many tasks of a line may be claimed now, as far as its queue and handler are concerned.
    pub(super) fn line_room(&mut self, queue: &str, name: &str) -> Result<usize, Fault> {
        let limits = self.limits()?;
        if limits.is_empty() {
            return Ok(usize::MAX);
        }
        let mut most = usize::MAX;
        for (gate, limit) in limits.of_line(Name::new(queue), Name::new(name)) {
            let room = self.room(&gate, &limit)?;
            if room == 0 {
                self.wake_at_opening(&gate, &limit)?;
            }
            most = most.min(usize::try_from(room).unwrap_or(usize::MAX));
        }
        Ok(most)
    }

    /// Has a closed gate looked at when time opens it.
    fn wake_at_opening(&mut self, gate: &Gate, limit: &Limit) -> Result<(), Fault> {
        let now = self.now;
        let met = self.meet(gate)?;
        if let Some(opens) = met.row.opens(limit, met.running, now)
            && met.due.is_none_or(|due| due > opens || due <= now)
        {
            met.due = Some(opens);
        }
        Ok(())
    }

    /// Whether a task has any gate to pass.
    pub(super) fn is_limited(&mut self, spec: &Spec) -> Result<bool, Fault> {
        Ok(self.limits()?.concern(spec))
    }

    /// Where a task stands that the transaction has looked at, if it has any gate to pass.
    fn standing(&mut self, place: usize) -> Result<Option<Standing>, Fault> {
        let limits = self.limits()?;
        let spec = self.touched[place].home.spec();
        Ok(limits.concern(spec).then(|| Standing::of(&limits, spec)))
    }

    /// A new task that would be queued waits for its key instead, if it has to.
    pub(super) fn admit(&mut self, spec: &Spec, row: &mut Row) -> Result<bool, Fault> {
        if spec.key().is_none() || row.state != State::Queued {
            return Ok(false);
        }
        let standing = Standing::of(&*self.limits()?, spec);
        let waits = self.has_to_wait(&standing)?;
        if waits {
            close(spec, row, self.now)?;
        }
        Ok(waits)
    }

    /// Whether a task that becomes queued has to wait for its key instead.
    fn has_to_wait(&mut self, standing: &Standing) -> Result<bool, Fault> {
        let Some((gate, limit)) = &standing.key else { return Ok(false) };
        let window = self.room(gate, limit)?.min(WINDOW);
        let queued =
            self.queued(gate, &(standing.queue.as_str(), standing.name.as_str(), standing.priority))?;
        self.gates.touched.insert(gate.clone());
        Ok(queued >= window)
    }

    /// Whether a task's key lets nobody through.
    pub(super) fn has_no_room(&mut self, spec: &Spec) -> Result<bool, Fault> {
        match self.limits()?.of_key(spec) {
            Some((gate, limit)) => Ok(self.room(&gate, &limit)? == 0),
            None => Ok(false),
        }
    }

    /// How many tasks of a strand are queued, counted up to the window.
    fn queued<T: ToSql>(&self, gate: &Gate, (queue, handler, priority): &(T, T, u8)) -> Result<u32, Fault> {
        let at = params![name(gate), queue, handler, priority, WINDOW];
        Ok(self.conn.prepare_cached(schema::STRAND_QUEUED)?.query_row(at, |stored| stored.get(0))?)
    }

    /// Sees to the gates of a task whose row is about to change: it may be another row then.
    pub(super) fn at_gates(&mut self, place: usize, row: &mut Row) -> Result<(), Fault> {
        let before = self.touched[place].row.state;
        if before == row.state {
            return Ok(());
        }
        let Some(standing) = self.standing(place)? else { return Ok(()) };
        if before == State::Running {
            self.give_back(&standing)?;
        }
        if let Some((gate, _)) = &standing.key {
            self.gates.touched.insert(gate.clone());
            if self.known(standing.id).is_none() {
                // Its key may let it in again within the transaction.
                self.index(place);
            }
        }
        if row.state == State::Queued && self.has_to_wait(&standing)? {
            close(self.touched[place].home.spec(), row, self.now)?;
        }
        Ok(())
    }

    /// A running task gives its slots back.
    fn give_back(&mut self, standing: &Standing) -> Result<(), Fault> {
        let lines = [Gate::Queue(standing.queue), Gate::Handler(standing.name)];
        let key = standing.key.iter().map(|(gate, _)| gate.clone());
        for gate in lines.into_iter().chain(key) {
            let at = params![kind(&gate), name(&gate), standing.id.as_bytes().as_slice()];
            if self.conn.prepare_cached(schema::GIVE_SLOT_BACK)?.execute(at)? == 0 {
                continue;
            }
            if let Some(met) = self.gates.met.get_mut(&gate) {
                met.running = met.running.saturating_sub(1);
            }
            if !matches!(gate, Gate::Key(_)) {
                self.gates.news.opened = true;
            }
        }
        Ok(())
    }

    /// Puts all tasks with a key off.
    pub(super) fn shut_key(&mut self, key: &str, until: Timestamp) -> Result<(), Fault> {
        let gate = Gate::Key(key.to_owned());
        self.meet(&gate)?.row.shut(until);
        self.gates.touched.insert(gate);
        Ok(())
    }

    /// Takes slots and tokens for a task that is to be claimed, or closes its key to it.
    pub(super) fn pass(&mut self, place: usize) -> Result<Passed, Fault> {
        let Some(Standing { id, queue, name: handler, key, .. }) = self.standing(place)? else {
            return Ok(Passed::Through);
        };
        let lines: Vec<_> = self.limits()?.of_line(queue, handler).collect();
        for (gate, limit) in &lines {
            if self.room(gate, limit)? == 0 {
                self.wake_at_opening(gate, limit)?;
                return Ok(Passed::LineClosed);
            }
        }
        if let Some((gate, limit)) = &key
            && self.room(gate, limit)? == 0
        {
            self.gates.touched.insert(gate.clone());
            self.apply(place, Operation::CloseKey { until: None })?;
            return Ok(Passed::KeyClosed);
        }
        let now = self.now;
        for (gate, limit) in lines.iter().chain(&key) {
            let at = params![kind(gate), name(gate), id.as_bytes().as_slice()];
            let new = self.conn.prepare_cached(schema::TAKE_SLOT)?.execute(at)?;
            let met = self.meet(gate)?;
            met.row.take(limit, now);
            met.running += u32::from(new > 0);
        }
        Ok(Passed::Through)
    }

    /// Fills the windows of the keys about which something has changed; how many tasks were let in.
    pub(super) fn refill(&mut self) -> Result<usize, Fault> {
        let mut let_in = 0;
        for gate in std::mem::take(&mut self.gates.touched) {
            let_in += self.refill_key(&gate)?;
        }
        // What letting in has touched is full now.
        self.gates.touched.clear();
        Ok(let_in)
    }

    fn refill_key(&mut self, gate: &Gate) -> Result<usize, Fault> {
        let limits = self.limits()?;
        let (mut let_in, mut closed) = (0, None);
        let mut at: Option<Strand> = None;
        while let Some(strand) = self.next_strand(gate, at.as_ref())? {
            if let Some(place) = self.first_waiting(gate, &strand)? {
                let limit = limits.of_key(self.touched[place].home.spec()).map(|(_, limit)| limit);
                let limit = limit.unwrap_or_default();
                let room = self.room(gate, &limit)?;
                if room == 0 {
                    closed = Some(limit);
                }
                let window = room.min(WINDOW);
                let queued = self.queued(gate, &strand)?;
                let_in += self.let_in(gate, &strand, window.saturating_sub(queued))?;
            }
            at = Some(strand);
        }
        let now = self.now;
        let met = self.meet(gate)?;
        met.due = match closed {
            Some(limit) => met.row.opens(&limit, met.running, now),
            None => None,
        };
        // To be forgotten then.
        met.due = met.due.or_else(|| met.row.idle_at(now));
        Ok(let_in)
    }

    /// The first of a strand's tasks that wait, of those that make sense.
    fn first_waiting(&mut self, gate: &Gate, strand: &Strand) -> Result<Option<usize>, Fault> {
        while let Some((seq, id)) = self.waiting(gate, strand, 1)?.pop() {
            let place = self.look_at(seq, id);
            if let Some(place) = self.sound(seq, place)? {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// Lets so many of a strand's tasks into their queue; how many there were. Rows that make no sense are left out.
    fn let_in(&mut self, gate: &Gate, strand: &Strand, limit: u32) -> Result<usize, Fault> {
        let mut let_in = 0;
        while let_in < limit {
            let known = self.damaged.len();
            for (seq, id) in self.waiting(gate, strand, limit - let_in)? {
                let place = self.find(seq, id);
                let Some(place) = self.sound(seq, place)? else { continue };
                let effects = self.wake_into_queue(place);
                let Some(effects) = self.sound(seq, effects)? else { continue };
                self.told.push((Told::Place(place), effects));
                let_in += 1;
            }
            // Others may come in the places of those.
            if self.damaged.len() == known {
                break;
            }
        }
        Ok(let_in as usize)
    }

    /// Lets a task that waits for its key into its queue.
    fn wake_into_queue(&mut self, place: usize) -> Result<Effects, Fault> {
        let touched = &self.touched[place];
        let (id, mut row) = (touched.id(), touched.row.clone());
        let refused = |error| Fault::Task(id, error);
        let effects = apply(Operation::Wake, touched.home.spec(), &mut row, self.now).map_err(refused)?;
        let history = rows::history(&row).map_err(refused)?;
        self.store_as_is(place, row, history)?;
        Ok(effects)
    }

    /// The first strand with waiting tasks after this one.
    fn next_strand(&self, gate: &Gate, at: Option<&Strand>) -> Result<Option<Strand>, Fault> {
        let key = name(gate);
        let read = |stored: &rusqlite::Row<'_>| Ok((stored.get(0)?, stored.get(1)?, stored.get(2)?));
        let find = |sql, parameters: &[&dyn ToSql]| {
            self.conn.prepare_cached(sql)?.query_row(parameters, read).optional()
        };
        let Some((queue, handler, priority)) = at else {
            return Ok(find(schema::STRAND_IN_KEY, &[&key, &""])?);
        };
        if let Some(next) = find(schema::STRAND_IN_NAME, &[&key, queue, handler, priority])? {
            return Ok(Some(next));
        }
        if let Some(next) = find(schema::STRAND_IN_QUEUE, &[&key, queue, handler])? {
            return Ok(Some(next));
        }
        Ok(find(schema::STRAND_IN_KEY, &[&key, queue])?)
    }

    /// The first of a strand's tasks that wait, but for those that are known to make no sense.
    fn waiting(
        &mut self,
        gate: &Gate,
        (queue, handler, priority): &Strand,
        limit: u32,
    ) -> Result<Vec<(i64, TaskId)>, Fault> {
        let most = i64::from(limit) + i64::try_from(self.damaged.len()).unwrap_or(0);
        let mut found =
            self.list(schema::STRAND_WAITING, params![name(gate), queue, handler, priority, most])?;
        found.retain(|(seq, _)| !self.damaged.contains(seq));
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(found)
    }

    /// Opens the gates whose time has come.
    pub(super) fn open_gates(&mut self) -> Result<(), Fault> {
        let due: Vec<(i64, RawText)> = {
            let mut statement = self.conn.prepare_cached(schema::GATES_DUE)?;
            let found =
                statement.query_map([self.now.micros()], |stored| Ok((stored.get(0)?, stored.get(1)?)))?;
            found.collect::<Result<_, _>>()?
        };
        for (kind, name) in due {
            let Some(gate) = gate_of(kind, &name) else {
                // Somebody has damaged it: no task asks for a gate of such a name.
                self.conn.prepare_cached(schema::FORGET_GATE)?.execute(params![kind, name])?;
                continue;
            };
            self.meet(&gate)?.due = None;
            if matches!(gate, Gate::Key(_)) {
                self.gates.touched.insert(gate);
            } else {
                self.gates.news.opened = true;
            }
        }
        Ok(())
    }

    /// At the end of a transaction: fills windows, and writes what gates remember.
    pub(crate) fn close_gates(&mut self) -> Result<(), Fault> {
        self.refill()?;
        for (gate, met) in &self.gates.met {
            let (kind, name) = (kind(gate), name(gate));
            if let Some(due) = met.due {
                let next = self.gates.news.due;
                self.gates.news.due = Some(next.map_or(due, |next| next.min(due)));
            }
            let row = Some((met.row, met.due))
                .filter(|(row, due)| due.is_some() || row.idle_at(self.now).is_some());
            match row {
                same if same == met.stored => {}
                None => {
                    self.conn.prepare_cached(schema::FORGET_GATE)?.execute(params![kind, name])?;
                }
                Some((row, due)) => {
                    let (full_at, shut_until) = (row.full_at.micros(), row.shut_until.micros());
                    let due = due.map(Timestamp::micros);
                    self.conn
                        .prepare_cached(schema::WRITE_GATE)?
                        .execute(params![kind, name, full_at, shut_until, due])?;
                }
            }
        }
        Ok(())
    }

    /// Sets a limit; whether that was new.
    pub(crate) fn set_limit(&mut self, row: &LimitRow) -> Result<bool, Fault> {
        let mut limits = (*self.limits()?).clone();
        if !limits.set(row.clone()) {
            return Ok(false);
        }
        limits::write(self.conn, row)?;
        self.gates.limits = Some(Arc::new(limits.clone()));
        self.gates.news.opened = true;
        match &row.what {
            LimitFor::Key(key) | LimitFor::HandlerKey(_, key) => {
                self.gates.touched.insert(Gate::Key(key.clone()));
            }
            LimitFor::Queue(name) => {
                let limited = limits.get(row.what.clone()).is_some();
                self.count_line(&Gate::Queue(*name), schema::SLOTS_OF_QUEUE, limited)?;
            }
            LimitFor::Handler(name) => {
                let limited = limits.get(row.what.clone()).is_some();
                self.count_line(&Gate::Handler(*name), schema::SLOTS_OF_HANDLER, limited)?;
            }
        }
        Ok(true)
    }

    /// Gives the running tasks of a line their slots, if it has a limit now; or forgets it.
    fn count_line(&mut self, gate: &Gate, sql: &str, limited: bool) -> Result<(), Fault> {
        let at = params![kind(gate), name(gate)];
        self.conn.prepare_cached(schema::FORGET_SLOTS)?.execute(at)?;
        if limited {
            self.conn.prepare_cached(sql)?.execute(at)?;
        } else {
            self.conn.prepare_cached(schema::FORGET_GATE)?.execute(at)?;
        }
        self.gates.met.remove(gate);
        Ok(())
    }
}

/// When the next gate opens by itself.
pub(crate) fn next_gate(conn: &Connection) -> Result<Option<Timestamp>, rusqlite::Error> {
    let next: Option<i64> = conn.prepare_cached(schema::NEXT_GATE)?.query_row([], |stored| stored.get(0))?;
    Ok(next.map(Timestamp::from_micros))
}

#[cfg(test)]
mod tests {
    use rusqlite::types::{FromSql, ValueRef};

    use super::*;

    #[test]
    fn gates_go_round() {
        for gate in [Gate::Queue(Name::new("q")), Gate::Handler(Name::new("h")), Gate::Key("k".into())] {
            let stored = RawText::column_result(ValueRef::Text(name(&gate).as_bytes())).unwrap();
            assert_eq!(gate_of(kind(&gate).into(), &stored), Some(gate));
        }
    }
}
