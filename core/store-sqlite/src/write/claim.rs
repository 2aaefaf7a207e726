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
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};
use taskloom_model::{Name, Operation, OwnerId, TaskId};
use taskloom_store::Claim;

use super::gates::Passed;
use super::{Home, Touched, Writing};
use crate::raw_text::RawText;
use crate::rows::{self, Fault};
use crate::schema;

/// Columns of [`schema::RUN`].
const PAYLOAD: usize = schema::ROW_COLUMNS + schema::SPEC_COLUMNS - 1;
const SEQ: usize = schema::ROW_COLUMNS + schema::SPEC_COLUMNS;

/// How many rows of a run whose queue or handler has no name are told of in one go.
const NAMELESS: i64 = 100;

/// Queued tasks of one queue for one handler.
struct Run {
    queue: String,
    name: String,
}

/// Where a walk over the runs stands: what is stored there may be no text.
#[derive(Clone, Default)]
struct At {
    queue: RawText,
    name: RawText,
}

impl At {
    fn run(&self) -> Option<Run> {
        Some(Run { queue: self.queue.as_str()?.to_owned(), name: self.name.as_str()?.to_owned() })
    }
}

/// The runs that there are, from one to the next.
pub(crate) struct Runs<'c> {
    in_queue: CachedStatement<'c>,
    queue: CachedStatement<'c>,
    at: At,
    /// Whether there may be more in that queue that are of interest.
    stay: bool,
    /// Those that were left out since nobody could ask for them by name: somebody has damaged their rows.
    nameless: Vec<At>,
}

impl<'c> Runs<'c> {
    pub(crate) fn all(conn: &'c Connection) -> Result<Self, Fault> {
        Ok(Self {
            in_queue: conn.prepare_cached(schema::NEXT_IN_QUEUE)?,
            queue: conn.prepare_cached(schema::NEXT_QUEUE)?,
            // Before the first: no queue is without a name.
            at: At::default(),
            stay: false,
            nameless: Vec::new(),
        })
    }

    /// Queue and handler of the next one.
    pub(crate) fn next_pair(&mut self) -> Result<Option<(String, String)>, Fault> {
        Ok(self.next()?.map(|run| (run.queue, run.name)))
    }

    fn next(&mut self) -> Result<Option<Run>, Fault> {
        let read = |stored: &Row<'_>| Ok(At { queue: stored.get(0)?, name: stored.get(1)? });
        loop {
            let mut next = None;
            if self.stay {
                next = self.in_queue.query_row([&self.at.queue, &self.at.name], read).optional()?;
            }
            if next.is_none() {
                next = self.queue.query_row([&self.at.queue], read).optional()?;
            }
            let Some(at) = next else { return Ok(None) };
            self.at = at;
            self.stay = true;
            match self.at.run() {
                Some(run) => return Ok(Some(run)),
                None => self.nameless.push(self.at.clone()),
            }
        }
    }

    /// Rows of the runs that were left out, by their keys.
    fn damaged(&self, conn: &Connection) -> Result<Vec<i64>, Fault> {
        let mut damaged = Vec::new();
        for At { queue, name } in &self.nameless {
            let mut statement = conn.prepare_cached(schema::IN_RUN)?;
            let found = statement.query_map(params![queue, name, NAMELESS], |stored| stored.get(0))?;
            damaged.extend(found.collect::<Result<Vec<i64>, _>>()?);
        }
        Ok(damaged)
    }

    /// Goes on with the next queue.
    fn leave_queue(&mut self) {
        self.stay = false;
    }
}

/// The runs that a claim asks for.
struct Wanted<'c, 'a> {
    runs: Runs<'c>,
    claim: &'a Claim,
    names: HashSet<&'static str>,
    paused: HashSet<String>,
}

impl<'c, 'a> Wanted<'c, 'a> {
    fn of(claim: &'a Claim, conn: &'c Connection) -> Result<Self, Fault> {
        Ok(Self {
            runs: Runs::all(conn)?,
            claim,
            names: claim.names.iter().map(|name| name.as_str()).collect(),
            paused: paused(conn)?.into_iter().collect(),
        })
    }

    fn next(&mut self) -> Result<Option<Run>, Fault> {
        while let Some(run) = self.runs.next()? {
            let queues = &self.claim.queues;
            let is_asked_for = queues.is_empty() || queues.iter().any(|queue| queue.as_str() == run.queue);
            if !is_asked_for || self.paused.contains(&run.queue) {
                self.runs.leave_queue();
            } else if self.names.contains(run.name.as_str()) {
                return Ok(Some(run));
            }
        }
        Ok(None)
    }
}

/// The queues that are paused, by name. Asked with each claim, so that all processes obey at once; there are few.
pub(crate) fn paused(conn: &Connection) -> Result<Vec<String>, Fault> {
    let mut statement = conn.prepare_cached(schema::PAUSED)?;
    let found = statement.query_map([], |stored| stored.get::<_, RawText>(0))?;
    let names = found.collect::<Result<Vec<_>, _>>()?;
    // A queue whose name is no text has no tasks that could be claimed.
    Ok(names.iter().filter_map(RawText::as_str).map(str::to_owned).collect())
}

/// Whether a claim would get anything, and rows that make no sense which were in its way.
pub(crate) fn is_anything_ready(claim: &Claim, conn: &Connection) -> Result<(bool, Vec<i64>), Fault> {
    let mut wanted = Wanted::of(claim, conn)?;
    let ready = wanted.next()?.is_some();
    Ok((ready, wanted.runs.damaged(conn)?))
}

impl Writing<'_> {
    /// Takes eligible tasks: the queues in their order, or all as if they were one.
    pub(super) fn claim(&mut self, claim: &Claim) -> Result<(), Fault> {
        if !self.is_owner(claim.owner)? {
            // It was struck off since it decided to.
            return Ok(());
        }
        let mut wanted = self.wanted(claim)?;
        if claim.queues.is_empty() {
            return self.take(&mut wanted, None, claim);
        }
        for queue in &*claim.queues {
            self.take(&mut wanted, Some(*queue), claim)?;
        }
        Ok(())
    }

    /// Whether an owner has joined and was not struck off.
    pub(super) fn is_owner(&self, owner: OwnerId) -> Result<bool, Fault> {
        let mut statement = self.conn.prepare_cached(schema::IS_OWNER)?;
        Ok(statement.query_row([owner.get().cast_signed()], |stored| stored.get(0))?)
    }

    /// The runs that a claim asks for.
    fn wanted(&mut self, claim: &Claim) -> Result<Vec<Run>, Fault> {
        let mut found = Vec::new();
        let mut wanted = Wanted::of(claim, self.conn)?;
        while let Some(run) = wanted.next()? {
            found.push(run);
        }
        self.damaged.extend(wanted.runs.damaged(self.conn)?);
        Ok(found)
    }

    /// Takes the first tasks of several runs as if they were one, in rounds: what a round claims, or moves out of the
    /// way, may let others in.
    fn take(&mut self, wanted: &mut Vec<Run>, queue: Option<Name>, claim: &Claim) -> Result<(), Fault> {
        loop {
            let runs = wanted.iter().filter(|run| queue.is_none_or(|queue| run.queue == queue.as_str()));
            let told = self.told.len();
            if !self.take_some(&runs.collect::<Vec<_>>(), claim)? {
                return Ok(());
            }
            if self.told.len() > told {
                // They may have been let into runs that were empty before.
                *wanted = self.wanted(claim)?;
            }
        }
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
            runs => self.read_first_of(runs, room)?,
        };
        let mut again = false;
        for (seq, place) in places {
            if self.touched[place].row.attempt == u32::MAX {
                // There is no attempt after it, so it must take no slots either.
                self.damaged.push(seq);
                continue;
            }
            let passed = self.pass(place);
            match self.sound(seq, passed)? {
                Some(Passed::Through) => {
                    let claimed = self.apply(place, Operation::Claim { owner: claim.owner });
                    if self.sound(seq, claimed)?.is_some() {
                        self.claimed.push(place);
                    }
                }
                // Out of the way of those behind it; or, if its line is closed, another line with the same queue's gate
                // has just closed it.
                Some(Passed::KeyClosed | Passed::LineClosed) => again = true,
                None => {}
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

    /// The first tasks of several runs, without those that make no sense.
    fn read_first_of(&mut self, runs: &[(&Run, usize)], room: usize) -> Result<Vec<(i64, usize)>, Fault> {
        loop {
            let known = self.damaged.len();
            let mut places = Vec::new();
            for (seq, id) in self.first_of(runs, room)? {
                let place = self.look_at(seq, id);
                places.extend(self.sound(seq, place)?.map(|place| (seq, place)));
            }
            // Others may come in the places of those.
            if self.damaged.len() == known {
                return Ok(places);
            }
        }
    }

    /// The first tasks of one run: all that is known of them is read on the way.
    fn read_run(&mut self, run: &Run, room: usize) -> Result<Vec<(i64, usize)>, Fault> {
        let (mut places, mut without_payload) = (Vec::new(), Vec::new());
        let mut statement = self.conn.prepare_cached(schema::RUN)?;
        let mut run = statement.query([&run.queue, &run.name])?;
        while places.len() < room
            && let Some(stored) = run.next()?
        {
            let seq = stored.get(SEQ)?;
            if self.damaged.contains(&seq) {
                continue;
            }
            let Ok(id) = rows::read_id(stored, SEQ + 1) else {
                self.damaged.push(seq);
                continue;
            };
            if let Some(place) = self.known(id) {
                self.touched[place].seq = Some(seq);
                places.push((seq, place));
                continue;
            }
            let Ok(row) = rows::read_row(stored) else {
                self.damaged.push(seq);
                continue;
            };
            let place = self.touched.len();
            let home = match self.held(id) {
                Some(task) => Home::Held(task),
                None => {
                    let Ok(spec) = rows::read_spec(id, stored) else {
                        self.damaged.push(seq);
                        continue;
                    };
                    if stored.get_ref(PAYLOAD)? == ValueRef::Null {
                        without_payload.push(place);
                    }
                    Home::Read(Box::new(spec))
                }
            };
            self.touched.push(Touched::new(Some(seq), row, home));
            places.push((seq, place));
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
    fn first_of(&mut self, runs: &[(&Run, usize)], room: usize) -> Result<Vec<(i64, TaskId)>, Fault> {
        let mut statement = self.conn.prepare_cached(schema::PLACES)?;
        // The worst of the best so far is on top.
        let mut best: BinaryHeap<(Reverse<i64>, i64, i64, TaskId)> = BinaryHeap::new();
        for (run, most) in runs {
            let mut run = statement.query([&run.queue, &run.name])?;
            let mut left = *most;
            while left > 0
                && let Some(stored) = run.next()?
            {
                let seq = stored.get(2)?;
                if self.damaged.contains(&seq) {
                    continue;
                }
                let Ok(id) = rows::read_id(stored, 3) else {
                    self.damaged.push(seq);
                    continue;
                };
                left -= 1;
                let key = (Reverse(stored.get(0)?), stored.get(1)?, seq, id);
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
