//! What finds its tasks by itself: claims, times, dead owners.

use std::sync::Arc;

use hashbrown::HashSet;
use taskloom_model::{Effects, Operation, OwnerId, TaskId, Timestamp, apply};
use taskloom_store::{Claim, Task};

use super::{Home, Sql, Touched, Writing};
use crate::rows::{self, Fault};
use crate::schema;

/// Columns of [`schema::READY`].
const NAME: usize = schema::ROW_COLUMNS + 1;
const PAYLOAD: usize = schema::ROW_COLUMNS + schema::SPEC_COLUMNS - 1;
const SEQ: usize = schema::ROW_COLUMNS + schema::SPEC_COLUMNS;

impl Writing<'_> {
    /// Takes eligible tasks: the queues in their order, each in the order of its index.
    pub(super) fn claim(&mut self, claim: &Claim) -> Result<(), Fault> {
        let names: HashSet<&str> = claim.names.iter().map(|name| name.as_str()).collect();
        for queue in &*claim.queues {
            let room = claim.limit - self.claimed.len();
            if room == 0 {
                break;
            }
            let found = self.find_ready(queue.as_str(), &names, room)?;
            for (place, whole) in found {
                if !whole {
                    self.read_payload(place)?;
                }
                self.apply(place, Operation::Claim { owner: claim.owner })?;
                self.claimed.push(place);
            }
        }
        Ok(())
    }

    /// The first tasks of a queue that the handlers are here for: their places, and whether they have their payload.
    /// All are read before the first one is changed, since a change would move the cursor.
    fn find_ready(
        &mut self,
        queue: &str,
        names: &HashSet<&str>,
        room: usize,
    ) -> Result<Vec<(usize, bool)>, Fault> {
        let mut found = Vec::new();
        let mut statement = self.conn.prepare_cached(schema::READY)?;
        let mut ready = statement.query([queue])?;
        while found.len() < room
            && let Some(stored) = ready.next()?
        {
            if !names.contains(stored.get_ref(NAME)?.as_str().map_err(rusqlite::Error::from)?) {
                continue;
            }
            let (seq, id) = (stored.get(SEQ)?, rows::read_id(stored, SEQ + 1)?);
            if let Some(place) = self.place(id) {
                self.touched[place].seq = Some(seq);
                found.push((place, true));
                continue;
            }
            let damaged = |error| Fault::Task(id, error);
            let row = rows::read_row(stored).map_err(damaged)?;
            let (home, whole) = match self.held(id) {
                Some(task) => (Home::Held(task), true),
                None => {
                    let spec = rows::read_spec(id, stored).map_err(damaged)?;
                    (Home::Read(Box::new(spec)), stored.get_ref(PAYLOAD)? != rusqlite::types::ValueRef::Null)
                }
            };
            self.touched.push(Touched { seq: Some(seq), row, home, twins: Vec::new() });
            found.push((self.touched.len() - 1, whole));
        }
        Ok(found)
    }

    /// Reads a payload that was too large to be read on the way.
    fn read_payload(&mut self, place: usize) -> Result<(), Fault> {
        let touched = &mut self.touched[place];
        if let Home::Read(spec) = &mut touched.home {
            let mut statement = self.conn.prepare_cached(schema::PAYLOAD)?;
            spec.payload = statement.query_row([touched.seq], |stored| stored.get::<_, Vec<u8>>(0))?.into();
        }
        Ok(())
    }

    /// Tells tasks that their time has come; when the next one's does.
    pub(crate) fn elapse(&mut self, limit: usize) -> Result<Option<Timestamp>, Fault> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let due = self.list(schema::DUE, rusqlite::params![self.now.micros(), limit])?;
        self.change(due, &Operation::Elapse)?;
        let next: Option<i64> =
            self.conn.prepare_cached(schema::NEXT_DUE)?.query_row([], |stored| stored.get(0))?;
        Ok(next.map(Timestamp::from_micros))
    }

    /// Takes everything from an owner.
    pub(crate) fn bury(&mut self, owner: OwnerId) -> Result<(), Fault> {
        let number = owner.get().cast_signed();
        let orphans = self.list(schema::OWNED, [number])?;
        self.change(orphans, &Operation::Lose { owner })?;
        self.conn.prepare_cached(schema::STRIKE_OFF)?.execute([number])?;
        Ok(())
    }

    fn list(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<Vec<(i64, TaskId)>, Fault> {
        let mut statement = self.conn.prepare_cached(sql)?;
        let found =
            statement.query_map(parameters, |stored| Ok((stored.get(0)?, rows::read_id(stored, 1)?)))?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    fn change(&mut self, tasks: Vec<(i64, TaskId)>, operation: &Operation) -> Result<(), Fault> {
        for (seq, id) in tasks {
            let place = self.look_at(seq, id)?;
            let effects = self.apply(place, operation.clone())?;
            if effects.moved() {
                self.changed.push((place, effects));
            }
        }
        Ok(())
    }

    /// Applies an operation that cannot be refused: the task was found because it is in the state for it.
    fn apply(&mut self, place: usize, operation: Operation) -> Result<Effects, Fault> {
        let touched = &self.touched[place];
        let (id, mut row) = (touched.id(), touched.row.clone());
        let refused = |error| Fault::Task(id, error);
        let effects = apply(operation, touched.home.spec(), &mut row, self.now).map_err(refused)?;
        let history = rows::history(&row).map_err(refused)?;
        self.store(place, row, history)?;
        Ok(effects)
    }

    /// Reads a task that was found, or finds that the batch has touched it; its place.
    fn look_at(&mut self, seq: i64, id: TaskId) -> Result<usize, Fault> {
        if let Some(place) = self.place(id) {
            self.touched[place].seq = Some(seq);
            return Ok(place);
        }
        let held = self.held(id);
        let sql = if held.is_some() { Sql::RowBySeq } else { Sql::TaskBySeq };
        let statement = self.statements.get(self.conn, sql)?;
        let (row, home) = statement.query_row([seq], |stored| {
            let home = match held {
                Some(task) => Ok(Home::Held(task)),
                None => rows::read_spec(id, stored).map(|spec| Home::Read(Box::new(spec))),
            };
            Ok((rows::read_row(stored), home))
        })?;
        let row = row.map_err(|error| Fault::Task(id, error))?;
        let home = home.map_err(|error| Fault::Task(id, error))?;
        self.touched.push(Touched { seq: Some(seq), row, home, twins: Vec::new() });
        Ok(self.touched.len() - 1)
    }

    /// The task in memory that shows this id, unless nothing more may happen to it there.
    fn held(&self, id: TaskId) -> Option<Arc<Task>> {
        let fresh = self.fresh.as_ref().and_then(|fresh| fresh.get(&id)).cloned();
        fresh.or_else(|| self.residents.resident(id)).filter(|task| !task.is_settled())
    }
}
