//! Chooses what is done next: a mix of everything that a store can be asked for, with payloads and results of all
//! sizes, so that pages are split, overflow, and are freed again.

use std::time::Duration;

use taskloom_model::{
    Failure, Fence, OnConflict, Operation, Options, OwnerId, Parent, Progress, Row, State, TaskId, Timestamp,
    WaitingFor, When,
};
use taskloom_store::{Store, Task};

use crate::chance::Chance;
use crate::steps::{At, New, Planned, Step, World};

const BEGINNING: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

/// Chooses steps.
pub(crate) struct Planner {
    chance: Chance,
    now: Timestamp,
    ids: u128,
    /// Whether readers hold checkpoints up.
    holds: bool,
}

impl Planner {
    pub(crate) fn new(seed: u64, holds: bool) -> Self {
        Self { chance: Chance::new(seed), now: BEGINNING, ids: 0, holds }
    }

    /// What is always first.
    pub(crate) fn opening(&self) -> At {
        At { now: self.now, step: Step::Reopen }
    }

    /// A step that others chose, after a while.
    pub(crate) fn at(&mut self, step: Step) -> At {
        self.now = self.now + Duration::from_millis(100 + self.chance.below(2000) as u64);
        At { now: self.now, step }
    }

    /// What to do next, given what is there.
    pub(crate) fn next(&mut self, world: &World) -> At {
        let step = self.step(world);
        self.at(step)
    }

    fn step(&mut self, world: &World) -> Step {
        let owners: Vec<OwnerId> = world.store().owners().unwrap().iter().map(|owner| owner.id).collect();
        let Some(owner) = self.chance.pick(&owners).copied() else { return Step::Join };
        match self.chance.below(100) {
            0..20 => {
                let count = if self.chance.percent(60) { 1 } else { 1 + self.chance.below(6) };
                Step::Insert((0..count).map(|_| self.task()).collect())
            }
            20..36 => Step::Write {
                inserts: vec![],
                commits: vec![],
                claim: Some((owner, 1 + self.chance.below(4))),
            },
            36..60 => match self.change(world) {
                Some(change) => Step::Change(change),
                None => Step::Insert(vec![self.task()]),
            },
            60..74 => self.batch(world, owner),
            74..78 => Step::Elapse,
            78..80 => Step::Join,
            80..82 => Step::Beat(owner),
            82..83 => Step::Bury(owner),
            83..85 => Step::Pause(self.chance.percent(30)),
            85..88 => Step::Sweep(self.now),
            88..95 => {
                let ways = ["PASSIVE", "FULL", "RESTART", "TRUNCATE"];
                Step::Checkpoint(ways[self.chance.below(ways.len())])
            }
            95..98 if self.holds => Step::Hold(self.chance.percent(50)),
            _ => Step::Reopen,
        }
    }

    fn batch(&mut self, world: &World, owner: OwnerId) -> Step {
        let inserts = (0..self.chance.below(3))
            .map(|_| (0..1 + self.chance.below(3)).map(|_| self.task_with_key()).collect())
            .collect();
        let mut commits: Vec<Planned> = Vec::new();
        for _ in 0..self.chance.below(4) {
            // Two changes of one task in a batch would need the planner to know what comes of the first.
            let change = self.change(world);
            commits.extend(change.filter(|new| commits.iter().all(|other| other.task != new.task)));
        }
        let claim = self.chance.percent(60).then_some((owner, 1 + self.chance.below(3)));
        Step::Write { inserts, commits, claim }
    }

    /// Mostly small; some do not fit into a page.
    fn size(&mut self) -> usize {
        match self.chance.below(10) {
            0 => 4000 + self.chance.below(9000),
            1 | 2 => self.chance.below(1500),
            _ => self.chance.below(60),
        }
    }

    fn task(&mut self) -> New {
        self.ids += 1;
        // In no order, as ids of one millisecond are.
        let id = TaskId::from_bytes(((self.ids * 7919 % 1009) << 64 | self.ids).to_be_bytes());
        let within = |seconds| Some(When::In(Duration::from_secs(seconds)));
        let options = match self.chance.below(10) {
            0..5 => Options::default(),
            5..8 => Options { retries: Some(2), ..Options::default() },
            8 => Options { eta: within(1 + self.chance.below(10) as u64), ..Options::default() },
            _ => Options {
                expires: within(5),
                deadline: within(20),
                timeout: Some(Duration::from_secs(1)),
                tags: vec!["rare".into()],
                ..Options::default()
            },
        };
        New { id, payload: self.size(), options, parent: None }
    }

    fn task_with_key(&mut self) -> New {
        let mut new = self.task();
        if self.chance.percent(40) {
            new.options.unique_key = Some(format!("key {}", self.chance.below(3)));
            let ways = [OnConflict::Return, OnConflict::Replace, OnConflict::Reject];
            new.options.on_conflict = self.chance.pick(&ways).copied();
        }
        new
    }

    /// Something that can happen to a task that has not ended: mostly to one that runs.
    fn change(&mut self, world: &World) -> Option<Planned> {
        let tasks = world.list();
        let runs = |task: &&std::sync::Arc<Task>| task.state() == State::Running;
        let running: Vec<_> = tasks.iter().filter(runs).collect();
        let waiting: Vec<_> = tasks.iter().filter(|task| !task.state().is_terminal()).collect();
        let wanted = if self.chance.percent(85) && !running.is_empty() { &running } else { &waiting };
        let task = *self.chance.pick(wanted)?;
        let row = task.with_row(Row::clone);
        let Some(owner) = row.owner else {
            let operation = Operation::Cancel { reason: Some("not wanted".into()) };
            return Some(Planned { task: task.id(), operation, spawn: vec![] });
        };
        let fence = Fence { owner, attempt: row.attempt };
        let mut spawn = Vec::new();
        let operation = match self.chance.below(20) {
            0..9 => {
                let result = vec![b'1'; self.size() + 1].into_boxed_slice();
                Operation::Succeed { fence, result: result.into(), metadata: None }
            }
            9..13 => {
                let failure = Box::new(Failure {
                    kind: "ValueError".into(),
                    message: "no good".into(),
                    backtrace: "in a line\n".repeat(self.size() / 10),
                    attempt: row.attempt,
                    at: self.now,
                });
                let permanent = self.chance.percent(20);
                Operation::Fail { fence, failure, permanent, retry_after: None, chance: 0.5 }
            }
            13 => {
                Operation::Progress { fence, progress: Progress { value: 0.5, message: None, at: self.now } }
            }
            14 => Operation::Checkpoint { fence, value: Some(vec![b'c'; self.size()].into()) },
            15 => Operation::Release { fence },
            16 => {
                let until = Some(self.now + Duration::from_secs(3));
                Operation::Suspend { fence, waiting_for: WaitingFor::Sleep, until }
            }
            17 | 18 => {
                let ordinal = row.history.as_ref().map_or(0, |history| history.children);
                let mut child = self.task();
                child.id = task.id().child(ordinal);
                child.parent = Some(Parent { id: task.id(), ordinal, detached: false });
                spawn.push(child);
                Operation::Spawn { fence, ordinal }
            }
            _ => Operation::Cancel { reason: None },
        };
        Some(Planned { task: task.id(), operation, spawn })
    }
}
