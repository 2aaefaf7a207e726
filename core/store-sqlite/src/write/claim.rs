//! Claims: which of the eligible tasks come first.
//!
//! The index `ready` is a run of tasks for each queue and handler, in the order of the queue. A claim steps from run
//! to run, leaves out queues that it did not ask for or that are paused, and takes what comes first in the others. So it costs a search
//! for each queue and handler that has a backlog, and nothing for the length of any: a hundred thousand tasks for a
//! process that is not there hold nobody up.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hashbrown::HashSet;
use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row};
use taskloom_model::{Operation, TaskId};
use taskloom_store::Claim;

use super::gates::Passed;
use super::{Home, Touched, Writing};
use crate::rows::{self, Fault};
use crate::schema;

/// Columns of [`schema::RUN`].
const PAYLOAD: usize = schema::ROW_COLUMNS + schema::SPEC_COLUMNS - 1;
const SEQ: usize = schema::ROW_COLUMNS + schema::SPEC_COLUMNS;

/// Queued tasks of one queue for one handler.
struct Run {
    queue: String,
    name: String,
}

/// The runs that a claim asks for.
struct Runs<'c, 'a> {
    in_queue: CachedStatement<'c>,
    queue: CachedStatement<'c>,
    at: Run,
    /// Whether the runs of that queue are asked for.
    wanted: bool,
    claim: &'a Claim,
    names: HashSet<&'static str>,
    paused: HashSet<String>,
}

impl<'c, 'a> Runs<'c, 'a> {
    fn of(claim: &'a Claim, conn: &'c Connection) -> Result<Self, Fault> {
        Ok(Self {
            in_queue: conn.prepare_cached(schema::NEXT_IN_QUEUE)?,
            queue: conn.prepare_cached(schema::NEXT_QUEUE)?,
            // Before the first: no queue is without a name.
            at: Run { queue: String::new(), name: String::new() },
            wanted: false,
            claim,
            names: claim.names.iter().map(|name| name.as_str()).collect(),
            paused: paused(conn)?.into_iter().collect(),
        })
    }

    fn next(&mut self) -> Result<Option<Run>, Fault> {
        let read = |stored: &Row<'_>| Ok(Run { queue: stored.get(0)?, name: stored.get(1)? });
        loop {
            let mut next = None;
            if self.wanted {
                next = self.in_queue.query_row([&self.at.queue, &self.at.name], read).optional()?;
            }
            if next.is_none() {
                next = self.queue.query_row([&self.at.queue], read).optional()?;
            }
            let Some(run) = next else { return Ok(None) };
            self.at = Run { queue: run.queue.clone(), name: run.name.clone() };
            let queues = &self.claim.queues;
            self.wanted = (queues.is_empty() || queues.iter().any(|queue| queue.as_str() == run.queue))
                && !self.paused.contains(&run.queue);
            if self.wanted && self.names.contains(run.name.as_str()) {
                return Ok(Some(run));
            }
        }
    }
}

/// The queues that are paused, by name. Asked with each claim, so that all processes obey at once; there are few.
pub(crate) fn paused(conn: &Connection) -> Result<Vec<String>, Fault> {
    let mut statement = conn.prepare_cached(schema::PAUSED)?;
    let found = statement.query_map([], |stored| stored.get(0))?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// Whether a claim would get anything.
pub(crate) fn is_anything_ready(claim: &Claim, conn: &Connection) -> Result<bool, Fault> {
    Ok(Runs::of(claim, conn)?.next()?.is_some())
}

impl Writing<'_> {
    /// Takes eligible tasks: the queues in their order, or all as if they were one.
    pub(super) fn claim(&mut self, claim: &Claim) -> Result<(), Fault> {
        let mut wanted = Vec::new();
        let mut runs = Runs::of(claim, self.conn)?;
        while let Some(run) = runs.next()? {
            wanted.push(run);
        }
        drop(runs);
        if claim.queues.is_empty() {
            return self.take(&wanted.iter().collect::<Vec<_>>(), claim);
        }
        for queue in &*claim.queues {
            let runs: Vec<_> = wanted.iter().filter(|run| run.queue == queue.as_str()).collect();
            self.take(&runs, claim)?;
        }
        Ok(())
    }

    /// Takes the first tasks of several runs as if they were one, in rounds: what a round claims, or moves out of the
    /// way, may let others in.
    fn take(&mut self, runs: &[&Run], claim: &Claim) -> Result<(), Fault> {
        while self.take_some(runs, claim)? {}
        Ok(())
    }

    /// One round; whether another one may get more. All are read before any is changed, since a change would move what
    /// the statement stands on.
    fn take_some(&mut self, runs: &[&Run], claim: &Claim) -> Result<bool, Fault> {
        let room = claim.limit - self.claimed.len();
        if room == 0 {
            return Ok(false);
        }
        let runs = self.open_runs(runs, room)?;
        let places = match &*runs {
            [] => return Ok(false),
            [(run, most)] => self.read_run(run, *most)?,
            runs => {
                let first = self.first_of(runs, room)?;
                first.into_iter().map(|(seq, id)| self.look_at(seq, id)).collect::<Result<_, _>>()?
            }
        };
        let mut again = false;
        for place in places {
            match self.pass(place)? {
                Passed::Through => {
                    self.apply(place, Operation::Claim { owner: claim.owner })?;
                    self.claimed.push(place);
                }
                // Out of the way of those behind it.
                Passed::KeyClosed => again = true,
                // Two lines share a queue's gate, which one of them has closed to the other.
                Passed::LineClosed => again = true,
            }
        }
        // Those that were claimed may let the next ones of their keys in.
        again |= self.refill()? > 0;
        Ok(again)
    }

    /// The runs that may be claimed from, and how much of each.
    fn open_runs<'r>(&mut self, runs: &[&'r Run], room: usize) -> Result<Vec<(&'r Run, usize)>, Fault> {
        let mut open = Vec::with_capacity(runs.len());
        for run in runs {
            let most = self.line_room(&run.queue, &run.name)?.min(room);
            if most > 0 {
                open.push((*run, most));
            }
        }
        Ok(open)
    }

    /// The first tasks of one run: all that is known of them is read on the way.
    fn read_run(&mut self, run: &Run, room: usize) -> Result<Vec<usize>, Fault> {
        let (mut places, mut without_payload) = (Vec::new(), Vec::new());
        let mut statement = self.conn.prepare_cached(schema::RUN)?;
        let mut run = statement.query([&run.queue, &run.name])?;
        while places.len() < room
            && let Some(stored) = run.next()?
        {
            let (seq, id) = (stored.get(SEQ)?, rows::read_id(stored, SEQ + 1)?);
            if let Some(place) = self.known(id) {
                self.touched[place].seq = Some(seq);
                places.push(place);
                continue;
            }
            let damaged = |error| Fault::Task(id, error);
            let row = rows::read_row(stored).map_err(damaged)?;
            let place = self.touched.len();
            let home = match self.held(id) {
                Some(task) => Home::Held(task),
                None => {
                    if stored.get_ref(PAYLOAD)? == ValueRef::Null {
                        without_payload.push(place);
                    }
                    Home::Read(Box::new(rows::read_spec(id, stored).map_err(damaged)?))
                }
            };
            self.touched.push(Touched { seq: Some(seq), row, home, twins: Vec::new() });
            places.push(place);
        }
        for place in without_payload {
            let touched = &mut self.touched[place];
            if let Home::Read(spec) = &mut touched.home {
                let mut statement = self.conn.prepare_cached(schema::PAYLOAD)?;
                spec.payload =
                    statement.query_row([touched.seq], |stored| stored.get::<_, Vec<u8>>(0))?.into();
            }
        }
        Ok(places)
    }

    /// The first tasks of several runs, which are each in order: a run is left as soon as it has nothing better.
    fn first_of(&self, runs: &[(&Run, usize)], room: usize) -> Result<Vec<(i64, TaskId)>, Fault> {
        let mut statement = self.conn.prepare_cached(schema::PLACES)?;
        // The worst of the best so far is on top.
        let mut best: BinaryHeap<(Reverse<i64>, i64, i64, TaskId)> = BinaryHeap::new();
        for (run, most) in runs {
            let mut run = statement.query([&run.queue, &run.name])?;
            let mut left = *most;
            while left > 0
                && let Some(stored) = run.next()?
            {
                left -= 1;
                let id = rows::read_id(stored, 3)?;
                let key = (Reverse(stored.get(0)?), stored.get(1)?, stored.get(2)?, id);
                if best.len() == room {
                    match best.peek() {
                        Some(worst) if key < *worst => best.pop(),
                        _ => break,
                    };
                }
                best.push(key);
            }
        }
        Ok(best.into_sorted_vec().into_iter().map(|(_, _, seq, id)| (seq, id)).collect())
    }
}
