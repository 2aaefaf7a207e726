//! Random commands, given to two stores at once.
//!
//! The memory store keeps its rows in the tasks and runs the rules of the model on them; it is simple enough to be
//! believed. [`compare`] gives a store under test and a memory store the same random commands (batches with groups,
//! changes, spawned tasks, children, unique keys and claims; times that come; queues that are paused; limits of keys, queues
//! and handlers; schedules; processes that join and die; sweeps, discards) and compares everything that can be seen after each: answers, rows, counts, lists, owners.
//!
//! The commands are the same in every run unless `PROPTEST_RNG_SEED` says otherwise; `PROPTEST_CASES` says how many
//! sequences there are. A failure is shrunk to few commands and printed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestError, TestRng, TestRunner};
use taskloom_model::{
    Admission, Failure, Fence, Limit, LimitFor, LimitRow, LogLine, Name, OnConflict, Operation, Options,
    OwnerId, Parent, Priority, Progress, Rate, SetBy, State, TaskId, Timestamp, WaitingFor, When, admit,
    next_due,
};
use taskloom_store::{Claim, MemoryOptions, MemoryStore, Nobody, Store, Task};

use crate::VirtualClock;

mod scheduling;
mod side;

use scheduling::{Scheduling, scheduling};
use side::{Admitted, Plan, Planned, Side, effects, see, text};

const QUEUES: [&str; 3] = ["default", "a", "b"];
const NAMES: [&str; 2] = ["job", "chore"];

/// The handler of children. No claim asks for it, since their ids do not grow in the order of arrival, and a store may
/// go by either; they are claimed one by one.
const CHILD: &str = "child";

/// A task to insert, with its turn under one of a few keys if there is a `line`; `twin` gives it the id of one that exists, `key` a unique key: which, on which conflict, for how
/// many seconds.
#[derive(Clone, Debug)]
struct New {
    kind: u8,
    queue: u8,
    name: u8,
    priority: u8,
    twin: Option<prop::sample::Index>,
    key: Option<(u8, u8, u8)>,
    line: Option<(u8, u8)>,
}

/// A change to ask for, of one of the tasks that exist, through the task that is held or through a fresh copy.
#[derive(Clone, Debug)]
struct Wish {
    task: prop::sample::Index,
    fresh: bool,
    operation: u8,
    owner: prop::sample::Index,
    late: u8,
    spawn: Vec<New>,
    child: Child,
}

/// What a wish to submit a child submits.
#[derive(Clone, Debug)]
struct Child {
    new: New,
    ordinal: u32,
    detached: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Write { inserts: Vec<Vec<New>>, wishes: Vec<Wish>, claim: Option<(prop::sample::Index, u8, usize)> },
    Pass(u32),
    Elapse,
    Join,
    Beat(prop::sample::Index),
    Bury(prop::sample::Index),
    Sweep(u32, usize),
    Discard(prop::sample::Index, usize, u8),
    Pause(u8, bool),
    Limit(u8, Option<u8>, u8),
    Line(u8, u8),
    Schedule(Scheduling),
}

fn new() -> impl Strategy<Value = New> {
    let twin = prop::option::weighted(0.05, any::<prop::sample::Index>());
    let key = prop::option::weighted(0.3, (0..2u8, 0..3u8, 0..3u8));
    let line = prop::option::weighted(0.4, (0..3u8, 0..4u8));
    (0..8u8, 0..3u8, 0..2u8, 0..4u8, twin, key, line).prop_map(
        |(kind, queue, name, priority, twin, key, line)| New { kind, queue, name, priority, twin, key, line },
    )
}

/// The limits that tasks bring along, and that operators set.
fn limit(number: u8) -> Limit {
    let rate = |text: &str, burst| text.parse::<Rate>().ok().map(|rate| rate.with_burst(burst));
    match number {
        0 => Limit { concurrency: Some(1), rate: None },
        1 => Limit { concurrency: Some(2), rate: rate("2/s", 2) },
        2 => Limit { concurrency: None, rate: rate("1/s", 1) },
        _ => Limit::default(),
    }
}

fn child() -> impl Strategy<Value = Child> {
    let detached = prop::bool::weighted(0.2);
    (new(), 0..3u32, detached).prop_map(|(new, ordinal, detached)| Child { new, ordinal, detached })
}

fn wish() -> impl Strategy<Value = Wish> {
    let spawn = prop_oneof![4 => Just(Vec::new()), 1 => prop::collection::vec(new(), 1..3)];
    let late = prop_oneof![6 => Just(0u8), 1 => Just(1), 1 => Just(2)];
    let index = any::<prop::sample::Index>;
    (index(), any::<bool>(), 0..28u8, index(), late, spawn, child()).prop_map(
        |(task, fresh, operation, owner, late, spawn, child)| Wish {
            task,
            fresh,
            operation,
            owner,
            late,
            spawn,
            child,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let groups = prop::collection::vec(prop::collection::vec(new(), 0..4), 0..3);
    let claim = prop::option::of((any::<prop::sample::Index>(), 0..5u8, 0..6usize));
    prop_oneof![
        10 => (groups, prop::collection::vec(wish(), 0..6), claim)
            .prop_map(|(inserts, wishes, claim)| Step::Write { inserts, wishes, claim }),
        3 => prop_oneof![Just(0u32), 1..3_000_000u32, Just(60_000_000)].prop_map(Step::Pass),
        3 => Just(Step::Elapse),
        1 => Just(Step::Join),
        1 => any::<prop::sample::Index>().prop_map(Step::Beat),
        1 => any::<prop::sample::Index>().prop_map(Step::Bury),
        1 => (0..20u32, 0..5usize).prop_map(|(ago, limit)| Step::Sweep(ago, limit)),
        1 => (any::<prop::sample::Index>(), 0..9usize, 0..4u8)
            .prop_map(|(first, count, states)| Step::Discard(first, count, states)),
        1 => (0..3u8, any::<bool>()).prop_map(|(queue, paused)| Step::Pause(queue, paused)),
        1 => (0..3u8, prop::option::weighted(0.3, 0..2u8), 0..4u8)
            .prop_map(|(key, name, number)| Step::Limit(key, name, number)),
        1 => (0..5u8, 0..4u8).prop_map(|(line, number)| Step::Line(line, number)),
        3 => scheduling().prop_map(Step::Schedule),
    ]
}

/// Gives random commands to the stores that `fresh` makes and to memory stores, and panics where they differ.
pub fn compare(fresh: impl Fn() -> Arc<dyn Store>) {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    let seeded = std::env::var_os("PROPTEST_RNG_SEED").is_some();
    let mut runner = if seeded {
        TestRunner::new(config)
    } else {
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
    };
    let sequences = prop::collection::vec(step(), 1..40);
    let outcome = runner.run(&sequences, |steps| {
        let mut pair = Pair::new(fresh());
        for step in &steps {
            pair.run(step)?;
        }
        Ok(())
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, steps)) => panic!("{reason}\nafter these commands: {steps:#?}"),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}

struct Pair {
    tried: Side,
    known: Side,
    clock: VirtualClock,
    owners: Vec<OwnerId>,
    ids: u128,
}

impl Pair {
    fn new(store: Arc<dyn Store>) -> Self {
        let options = MemoryOptions { capacity: usize::MAX >> 1, keep_finished: usize::MAX };
        let known = Side { store: Arc::new(MemoryStore::new(options)), held: HashMap::new() };
        let tried = Side { store, held: HashMap::new() };
        let mut pair = Self { tried, known, clock: VirtualClock::default(), owners: Vec::new(), ids: 0 };
        pair.join();
        pair
    }

    fn join(&mut self) {
        let now = self.clock.now();
        let owner = self.known.store.join("process", now).unwrap();
        assert_eq!(self.tried.store.join("process", now).unwrap(), owner, "numbers are given out one by one");
        self.owners.push(owner);
    }

    fn run(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let now = self.clock.now();
        let queued = self.known.tasks().into_iter().filter(|task| task.state() == State::Queued);
        let queued: HashSet<_> = queued.map(|task| task.id()).collect();
        let both = [&self.tried.store, &self.known.store];
        match step {
            Step::Write { inserts, wishes, claim } => {
                let plan = self.plan(inserts, wishes, claim.as_ref());
                let (tried, known) =
                    (self.tried.write(&plan, &queued, now)?, self.known.write(&plan, &queued, now)?);
                prop_assert_eq!(tried, known);
            }
            Step::Pass(micros) => {
                self.clock.advance(Duration::from_micros((*micros).into()));
            }
            Step::Elapse => {
                let mut told = Vec::new();
                for store in both {
                    let mut changes = Vec::new();
                    let next = store.elapse(usize::MAX >> 1, &Nobody, &mut changes, now).unwrap();
                    let rows = self.known.tasks();
                    let due =
                        rows.iter().filter_map(|task| task.with_row(|row| next_due(task.spec(), row))).min();
                    told.push((effects(&changes, &queued), next, due));
                }
                let (known, tried) = (told.pop().unwrap(), told.pop().unwrap());
                prop_assert_eq!(&tried.0, &known.0);
                // A time that no longer counts may still be told, but none may be kept silent.
                for next in [tried.1, known.1] {
                    prop_assert!(
                        known.2.is_none_or(|due| next.is_some_and(|next| next <= due)),
                        "{next:?} {known:?}"
                    );
                }
            }
            Step::Join => self.join(),
            Step::Pause(queue, paused) => {
                let queue = Name::new(QUEUES[usize::from(*queue)]);
                let new = both.map(|store| store.set_paused(queue, *paused).unwrap());
                prop_assert_eq!(new[0], new[1]);
            }
            Step::Limit(key, name, number) => {
                let key = format!("line {key}");
                let what = match name {
                    Some(name) => LimitFor::HandlerKey(Name::new(NAMES[usize::from(*name)]), key),
                    None => LimitFor::Key(key),
                };
                self.set_limit(what, *number, &queued)?;
            }
            Step::Line(line, number) => {
                let line = usize::from(*line);
                let what = match QUEUES.get(line) {
                    Some(queue) => LimitFor::Queue(Name::new(queue)),
                    None => LimitFor::Handler(Name::new(NAMES[line - QUEUES.len()])),
                };
                self.set_limit(what, *number, &queued)?;
            }
            Step::Schedule(step) => self.schedule(step, &queued)?,
            Step::Beat(index) => {
                let owner = *index.get(&self.owners);
                let beat = both.map(|store| store.beat(owner).map_err(|error| text(&error)));
                prop_assert_eq!(&beat[0], &beat[1]);
            }
            Step::Bury(index) => {
                let owner = *index.get(&self.owners);
                let told = both.map(|store| {
                    let mut changes = Vec::new();
                    store.bury(owner, &Nobody, &mut changes, now).unwrap();
                    effects(&changes, &queued)
                });
                prop_assert_eq!(&told[0], &told[1]);
            }
            Step::Discard(first, count, states) => {
                let ids: Vec<_> = self.known.tasks().iter().map(|task| task.id()).collect();
                let first = if ids.is_empty() { 0 } else { first.index(ids.len()) };
                let ids: Vec<_> = ids.into_iter().skip(first).take(*count).collect();
                let states = match states {
                    0 => &[State::Failed, State::Queued][..],
                    1 => &[State::Cancelled, State::Expired, State::TimedOut],
                    2 => &[],
                    _ => State::ALL,
                };
                let gone = both.map(|store| store.discard(&ids, states, now).unwrap());
                prop_assert_eq!(gone[0], gone[1]);
            }
            Step::Sweep(ago, limit) => {
                let before = Timestamp::from_micros(now.micros() - i64::from(*ago) * 1_000_000);
                // Which ones are forgotten is up to the store unless it forgets them all.
                let old = self.known.tasks();
                let old =
                    old.iter().filter(|task| task.with_row(|row| row.finished.is_some_and(|at| at < before)));
                let limit = if old.count() <= *limit { *limit } else { usize::MAX >> 1 };
                let swept = both.map(|store| store.sweep(before, limit).unwrap());
                prop_assert_eq!(swept[0], swept[1]);
            }
        }
        prop_assert_eq!(see(&self.tried), see(&self.known));
        Ok(())
    }

    fn set_limit(&self, what: LimitFor, number: u8, queued: &HashSet<TaskId>) -> Result<(), TestCaseError> {
        let row = LimitRow { what, by: SetBy::Operator, limit: limit(number) };
        let told = [&self.tried.store, &self.known.store].map(|store| {
            let mut changes = Vec::new();
            let new = store.set_limit(row.clone(), &mut changes, self.clock.now()).unwrap();
            (new, effects(&changes, queued), store.limits().unwrap().len())
        });
        prop_assert_eq!(&told[0], &told[1]);
        Ok(())
    }

    fn plan(
        &mut self,
        inserts: &[Vec<New>],
        wishes: &[Wish],
        claim: Option<&(prop::sample::Index, u8, usize)>,
    ) -> Plan {
        let tasks = self.known.tasks();
        let mut group = |news: &Vec<New>| news.iter().map(|new| self.admit(new, &tasks)).collect::<Vec<_>>();
        let inserts = inserts.iter().map(&mut group).collect();
        // Whether what comes with a change is let in before or after it is up to the store, so those have no keys.
        let free = |new: &New| New { line: None, ..new.clone() };
        let spawned: Vec<_> =
            wishes.iter().map(|wish| group(&wish.spawn.iter().map(free).collect())).collect();
        let mut commits = Vec::new();
        for (wish, spawn) in wishes.iter().zip(spawned) {
            if !tasks.is_empty() {
                let task = wish.task.get(&tasks);
                let operation = self.operation(wish, task);
                let spawn = match operation {
                    Operation::Spawn { .. } => vec![self.admit_child(&wish.child, task.id())],
                    // One that meets a closed gate is another change; nobody brings tasks along with a claim.
                    Operation::Claim { .. } => Vec::new(),
                    _ => spawn,
                };
                commits.push(Planned { id: task.id(), fresh: wish.fresh, operation, spawn });
            }
        }
        let claim = claim.map(|(owner, queues, limit)| {
            let queues: &[&str] =
                [&[][..], &["default"], &["b", "a"], &["a", "default", "b"], &["none"]][usize::from(*queues)];
            let list = |texts: &[&str]| texts.iter().map(|text| Name::new(text)).collect();
            let names: &[&str] = if limit % 2 == 0 { &NAMES } else { &NAMES[..1] };
            Claim { owner: *owner.get(&self.owners), queues: list(queues), names: list(names), limit: *limit }
        });
        Plan { inserts, commits, claim }
    }

    fn admit(&mut self, new: &New, tasks: &[Arc<Task>]) -> Admitted {
        let later = |seconds| Some(When::In(Duration::from_secs(seconds)));
        let mut options = match new.kind {
            0 => Options { eta: later(2), ..Options::default() },
            1 => Options { expires: later(3), retries: Some(2), ..Options::default() },
            2 => Options { deadline: later(4), retries: Some(1), ..Options::default() },
            3 => Options { eta: later(1), expires: later(2), deadline: later(5), ..Options::default() },
            4 => Options { expires: Some(When::At(Timestamp::from_micros(1))), ..Options::default() },
            5 => Options {
                retries: Some(3),
                timeout: Some(Duration::from_secs(1)),
                max_crashes: Some(1),
                ..Options::default()
            },
            _ => Options { retries: Some(u32::from(new.kind) - 6), ..Options::default() },
        };
        options.queue = Some(QUEUES[usize::from(new.queue)].into());
        if new.priority.is_multiple_of(2) {
            options.tags = vec!["even".into()];
        }
        if let Some((key, on_conflict, seconds)) = new.key {
            options.unique_key = Some(format!("key {key}"));
            options.on_conflict = [OnConflict::Return, OnConflict::Replace, OnConflict::Reject]
                .get(usize::from(on_conflict))
                .copied();
            options.unique_for = (seconds > 0).then(|| Duration::from_secs(seconds.into()));
        }
        if let Some((key, own)) = new.line {
            let Limit { concurrency, rate } = limit(own);
            options = Options { key: Some(format!("line {key}")), concurrency, rate, ..options };
        }
        options.priority = Some(Priority::ALL[usize::from(new.priority)]);
        // New ids grow, as those of an engine do: order of arrival and order of ids are one.
        self.ids += 1;
        let id = match &new.twin {
            Some(index) if !tasks.is_empty() => index.get(tasks).id(),
            _ => TaskId::from_bytes(self.ids.to_be_bytes()),
        };
        let payload = format!("[{}]", self.ids).into_bytes().into();
        let admission = Admission::new(&options).unwrap();
        let name = Name::new(NAMES[usize::from(new.name)]);
        let (spec, row, _) = admit(&admission, id, name, payload, self.clock.now()).unwrap();
        (spec, row)
    }

    fn admit_child(&mut self, child: &Child, parent: TaskId) -> Admitted {
        let Child { new, ordinal, detached } = child.clone();
        let (mut spec, row) = self.admit(&New { line: None, ..new }, &[]);
        spec.id = parent.child(ordinal);
        spec.name = Name::new(CHILD);
        spec.rare.get_or_insert_default().parent = Some(Parent { id: parent, ordinal, detached });
        (spec, row)
    }

    /// An operation that is often right: the fence is the running attempt's unless it is to be late.
    fn operation(&self, wish: &Wish, task: &Task) -> Operation {
        let (attempt, running) = task.with_row(|row| (row.attempt, row.owner));
        let any = *wish.owner.get(&self.owners);
        let fence = match wish.late {
            0 => Fence { owner: running.unwrap_or(any), attempt },
            1 => Fence { owner: any, attempt },
            _ => Fence { owner: running.unwrap_or(any), attempt: attempt + 1 },
        };
        let now = self.clock.now();
        let message = Some("so far".to_owned());
        let until = Some(now + Duration::from_secs(1));
        let reason: Option<Box<str>> = Some("because".into());
        let failure = Box::new(Failure {
            kind: "E".into(),
            message: "m".into(),
            backtrace: String::new(),
            attempt,
            at: now,
        });
        match wish.operation {
            0 => Operation::Fail { fence, failure, permanent: true, retry_after: None, chance: 0.0 },
            1 | 2 => Operation::Fail { fence, failure, permanent: false, retry_after: None, chance: 0.5 },
            3 => {
                let retry_after = Some(Duration::from_secs(2));
                Operation::Fail { fence, failure, permanent: false, retry_after, chance: 0.5 }
            }
            4 => Operation::TimeOut { fence, chance: 0.25 },
            5 => Operation::Suspend { fence, waiting_for: WaitingFor::Signal, until: None },
            6 => Operation::Suspend { fence, waiting_for: WaitingFor::Sleep, until },
            7 => Operation::Release { fence },
            8 => Operation::Progress { fence, progress: Progress { value: 0.3, message, at: now } },
            9 => Operation::Checkpoint { fence, value: Some(Box::new(*b"{}")) },
            10 => Operation::Checkpoint { fence, value: None },
            11 if wish.child.ordinal == 0 => Operation::Crash { fence, cause: "fell over".into() },
            11 => Operation::Lose { owner: running.unwrap_or(any) },
            12 => Operation::Elapse,
            13 => Operation::Wake,
            14 => Operation::CloseKey { until },
            15 => Operation::Cancel { reason },
            16 => Operation::Skip { reason },
            17 => Operation::Resolve { result: b"0".into() },
            18 => Operation::Replay,
            19..=21 => Operation::Claim { owner: any },
            22 => {
                let line = |message: &str| LogLine {
                    at: now,
                    level: "info".into(),
                    message: message.into(),
                    attempt,
                };
                Operation::Log { fence, lines: vec![line("one"), line("two\0")], dropped: 0 }
            }
            23 => Operation::Postpone {
                fence,
                key: format!("line {}", wish.late).into(),
                until: now + Duration::from_secs(1),
            },
            24..=26 => Operation::Spawn { fence, ordinal: wish.child.ordinal },
            _ => Operation::Succeed { fence, result: b"1".into(), metadata: Some(Box::new([0xFF])) },
        }
    }
}
