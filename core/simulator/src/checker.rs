//! The rules, checked from outside.
//!
//! The checker is told of every change of every row, in the order in which the store made them, of every attempt that
//! began, and of what was acknowledged. From that it keeps its own idea of each task, and says where what it is told does not
//! follow from it:
//!
//! * nothing acknowledged is lost: it is on the disk, and at the end of all it has ended ([`Checker::finish`]);
//! * exactly one terminal state per generation: what has ended stays as it is, unless an operator starts it over;
//! * only the attempt that owns a task reports about it (the fence), and attempts are numbered without gaps;
//! * no attempt begins twice, none before the task's time, and in calm none late;
//! * a failure spends a retry, each of them once, and a task fails when they are spent and not before;
//! * of the tasks with one unique key at most one has not ended;
//! * a tick of a schedule fires once;
//! * of a handler with a limit no more run at once than it allows;
//! * a parent that is cancelled takes its children with it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use taskloom_model::{Name, Operation, OwnerId, Row, Spec, State, TaskId, Timestamp};

use crate::trace::{Event, Trace};

/// A task that waits for nothing begins at the latest this long after it became eligible: when a process next looks at a
/// store that it shares.
const LATE: Duration = Duration::from_secs(11);

/// A task, as the checker believes it to be.
#[derive(Clone, Debug)]
struct Life {
    name: Name,
    state: State,
    attempt: u32,
    owner: Option<OwnerId>,
    failures: u32,
    crashes: u8,
    retries: u32,
    max_crashes: u8,
    /// Not before this.
    not_before: Timestamp,
    key: Option<(String, String)>,
    acknowledged: bool,
    /// The attempts that have begun.
    began: u32,
}

/// What a commit asked for, as far as the rules need it.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    name: &'static str,
    by: Option<(OwnerId, u32)>,
    permanent: bool,
    retry_after: Option<Duration>,
    is_replay: bool,
}

impl Asked {
    /// Of an operation.
    pub fn of(operation: &Operation) -> Self {
        let (permanent, retry_after) = match operation {
            Operation::Fail { permanent, retry_after, .. } => (*permanent, *retry_after),
            _ => (false, None),
        };
        Self {
            name: operation.name(),
            by: operation.fence().map(|fence| (fence.owner, fence.attempt)),
            permanent,
            retry_after,
            is_replay: matches!(operation, Operation::Replay | Operation::Resolve { .. }),
        }
    }
}

/// See the module's essay.
#[derive(Debug, Default)]
pub struct Checker {
    lives: BTreeMap<TaskId, Life>,
    keys: BTreeMap<(String, String), BTreeSet<TaskId>>,
    /// Keys that the transaction has to do with.
    touched: Vec<(String, String)>,
    begun: HashSet<(TaskId, u32)>,
    /// Those that are not detached, by parent.
    children: BTreeMap<TaskId, Vec<TaskId>>,
    /// Cancelled in this transaction.
    cancelled: Vec<TaskId>,
    ticks: BTreeSet<(String, Timestamp)>,
    /// How many may run at once, and how many do.
    limits: BTreeMap<&'static str, (u32, u32)>,
    /// The latest time that any clock has shown: one that was set back makes nothing early.
    latest: Option<Timestamp>,
    calm: bool,
    open: usize,
    wrong: Option<String>,
    /// What happened.
    pub trace: Trace,
    /// How many attempts began.
    pub attempts: u64,
    /// How many changes were refused by a fence: late reports.
    pub fenced: u64,
}

impl Checker {
    /// For a day on which nothing is late, or one on which things may be.
    pub fn new(calm: bool) -> Self {
        Self { calm, ..Self::default() }
    }

    /// Of a handler no more are to run at once.
    pub fn limit(&mut self, handler: &'static str, most: u32) {
        self.limits.insert(handler, (most, 0));
    }

    /// How many ticks have fired.
    pub fn fired(&self) -> usize {
        self.ticks.len()
    }

    /// What is wrong, if anything is: the first of it, and what happened before it.
    pub fn verdict(&self) -> Option<&str> {
        self.wrong.as_deref()
    }

    fn wrong(&mut self, what: String) {
        if self.wrong.is_none() {
            // Now, and not when somebody asks: much may happen until then.
            self.wrong = Some(format!("{what}\nthe last that happened:\n{}", self.trace.tail()));
        }
    }

    /// The clock shows this.
    pub fn time(&mut self, now: Timestamp) {
        self.latest = self.latest.max(Some(now));
    }

    /// A row came into being.
    pub fn inserted(&mut self, process: u32, spec: &Spec, row: &Row, now: Timestamp) {
        self.time(now);
        self.note(process, "insert", spec.id, None, row, now);
        let key = spec.unique().map(|unique| (spec.name.as_str().to_owned(), unique.key.clone()));
        if let Some(parent) = spec.parent().filter(|parent| !parent.detached) {
            self.children.entry(parent.id).or_default().push(spec.id);
        }
        if let Some(scheduled) = spec.rare.as_ref().and_then(|rare| rare.scheduled.as_ref())
            && !self.ticks.insert((scheduled.schedule.clone(), scheduled.tick))
        {
            self.wrong(format!("{:?} fired twice for {}", scheduled.schedule, scheduled.tick));
        }
        let life = Life {
            name: spec.name,
            state: row.state,
            attempt: row.attempt,
            owner: row.owner,
            failures: 0,
            crashes: 0,
            retries: spec.retries,
            max_crashes: spec.max_crashes,
            not_before: spec.eta().unwrap_or(Timestamp::from_micros(i64::MIN + 1)),
            key: key.clone(),
            acknowledged: false,
            began: 0,
        };
        self.open += usize::from(!row.state.is_terminal());
        if self.lives.insert(spec.id, life).is_some() {
            self.wrong(format!("{} was inserted twice", spec.id));
        }
        if let Some(key) = key {
            let held = self.keys.entry(key.clone()).or_default();
            if !row.state.is_terminal() {
                held.insert(spec.id);
                self.touched.push(key);
            }
        }
    }

    /// A row was changed: by an operation, or as what follows from another one's, or from the time.
    pub fn changed(
        &mut self,
        process: u32,
        id: TaskId,
        asked: Option<Asked>,
        from: State,
        row: &Row,
        now: Timestamp,
    ) {
        self.time(now);
        let what = asked.map_or("follow", |asked| asked.name);
        self.note(process, what, id, Some(from), row, now);
        let latest = self.latest;
        let Some(life) = self.lives.get_mut(&id) else {
            return self.wrong(format!("{id} was changed, and never inserted"));
        };
        // What a limit has held back stayed queued; that it may go on is told as if it came from waiting. Nothing has moved
        // by that, and what its row shows by now is told next.
        if asked.is_none() && (life.state, from) == (State::Queued, State::Pending) {
            return;
        }
        let before = (life.state, life.owner, life.attempt);
        let crashes_before = life.crashes;
        let mut wrong = Vec::new();
        if life.state != from {
            wrong.push(format!("it was {from}, and was last seen {}", life.state));
        }
        if from.is_terminal() && row.state != from && !asked.is_some_and(|asked| asked.is_replay) {
            wrong.push(format!("it had ended ({from}), and is {} now", row.state));
        }
        if let Some((owner, attempt)) = asked.and_then(|asked| asked.by)
            && before != (State::Running, Some(owner), attempt)
        {
            let (state, _, held) = before;
            wrong.push(format!("attempt {attempt} was let to {what}; it is {state}, attempt {held}"));
        }
        // One for whose handler there is no room steps back.
        if what == "claim" && row.state == State::Running {
            if from != State::Queued || row.attempt != life.attempt + 1 {
                wrong
                    .push(format!("attempt {} was claimed after {}, from {from}", row.attempt, life.attempt));
            }
            if latest.is_some_and(|latest| latest < life.not_before) {
                wrong.push(format!("it was claimed at {now}, before {}", life.not_before));
            }
        }
        if let Some(asked) = asked
            && matches!(what, "fail" | "time out")
        {
            life.failures += 1;
            let spent = asked.permanent || life.failures > life.retries;
            let told = (row.state == State::Retrying, spent);
            if told == (true, true) || told == (false, false) && row.state != State::Cancelled {
                wrong.push(format!(
                    "it is {} after {} failures with {} retries",
                    row.state, life.failures, life.retries
                ));
            }
            life.not_before = now + asked.retry_after.unwrap_or_default();
        }
        if what == "lose" || row.crashes != crashes_before {
            life.crashes += 1;
            let given_up = row.state == State::Failed;
            if given_up != (life.crashes >= life.max_crashes) {
                wrong.push(format!("it is {} after {} crashes", row.state, life.crashes));
            }
        }
        if asked.is_some_and(|asked| asked.is_replay) {
            (life.failures, life.crashes) = (0, 0);
            life.not_before = now;
        }
        if row.failures != life.failures {
            wrong.push(format!(
                "{} failures are on its row, and {} were reported",
                row.failures, life.failures
            ));
        }
        if let Some((most, running)) = self.limits.get_mut(life.name.as_str()) {
            match (life.state == State::Running, row.state == State::Running) {
                (false, true) => *running += 1,
                (true, false) => *running -= 1,
                _ => {}
            }
            if *running > *most {
                wrong.push(format!("{running} of {} run at once, and the limit is {most}", life.name));
            }
        }
        match (life.state.is_terminal(), row.state.is_terminal()) {
            (false, true) => self.open -= 1,
            (true, false) => self.open += 1,
            _ => {}
        }
        if row.state == State::Cancelled && from != State::Cancelled {
            self.cancelled.push(id);
        }
        (life.state, life.attempt, life.owner) = (row.state, row.attempt, row.owner);
        if let Some(key) = &life.key {
            let held = self.keys.get_mut(key).expect("a key is known since its task was inserted");
            if row.state.is_terminal() {
                held.remove(&id);
            } else if held.insert(id) {
                self.touched.push(key.clone());
            }
        }
        if !wrong.is_empty() {
            self.wrong(format!("{id}: {}", wrong.join("; ")));
        }
    }

    /// A transaction is over: what may be true only in the middle of one is not true now.
    pub fn committed(&mut self) {
        for parent in std::mem::take(&mut self.cancelled) {
            let lives = |id: &&TaskId| self.lives.get(id).is_some_and(|life| !life.state.is_terminal());
            let left = self.children.get(&parent).and_then(|children| children.iter().find(lives)).copied();
            if let Some(child) = left {
                self.wrong(format!("{parent} was cancelled, and its child {child} goes on"));
            }
        }
        for key in std::mem::take(&mut self.touched) {
            if let Some(held) = self.keys.get(&key).filter(|held| held.len() > 1) {
                let what = format!("the unique key {key:?} is held by {held:?}");
                self.wrong(what);
            }
        }
    }

    /// A report was refused.
    pub fn refused(&mut self) {
        self.fenced += 1;
    }

    /// Whoever submitted it was told that it is accepted.
    pub fn acknowledged(&mut self, id: TaskId) {
        match self.lives.get_mut(&id) {
            Some(life) => life.acknowledged = true,
            None => self.wrong(format!("{id} was acknowledged, and is not in the store")),
        }
    }

    /// A handler begins.
    pub fn began(&mut self, process: u32, id: TaskId, attempt: u32, eligible: Timestamp, now: Timestamp) {
        self.time(now);
        self.attempts += 1;
        self.trace.add(Event {
            at: now,
            process,
            what: "begin",
            task: Some(id),
            states: None,
            number: attempt.into(),
        });
        if !self.begun.insert((id, attempt)) {
            self.wrong(format!("attempt {attempt} of {id} began twice"));
        }
        let limited = self.lives.get(&id).is_some_and(|life| self.limits.contains_key(life.name.as_str()));
        if self.calm && !limited && now.since(eligible) > LATE {
            self.wrong(format!("{id} began at {now}, and was eligible at {eligible}: a wake-up was lost"));
        }
        let latest = self.latest;
        let Some(life) = self.lives.get_mut(&id) else {
            return self.wrong(format!("{id} began, and was never inserted"));
        };
        life.began = life.began.max(attempt);
        if attempt > life.attempt {
            let known = life.attempt;
            self.wrong(format!("attempt {attempt} of {id} began, and {known} were claimed"));
        } else if latest.is_some_and(|latest| latest < life.not_before) && attempt == life.attempt {
            let time = life.not_before;
            self.wrong(format!("attempt {attempt} of {id} began at {now}, before {time}"));
        }
    }

    /// How many tasks have not ended.
    pub fn open(&self) -> usize {
        self.open
    }

    /// There is no end to what happens at one time.
    pub fn restless(&mut self) {
        self.wrong("the engines never rest".to_owned());
    }

    /// A handle shows something else than the store has.
    pub fn disagree(&mut self, id: TaskId, shown: State) {
        let stored = self.state(id);
        self.wrong(format!("the handle of {id} shows {shown}, and the store has {stored:?}"));
    }

    /// All has had time to end.
    pub fn finish(&mut self) {
        let left = self.lives.iter().find(|(_, life)| !life.state.is_terminal());
        if let Some((id, life)) = left {
            let told = if life.acknowledged { "was acknowledged and " } else { "" };
            let what = format!("{id} {told}is {} for ever: {life:?}", life.state);
            self.wrong(what);
        }
    }

    /// What state a task is in.
    pub fn state(&self, id: TaskId) -> Option<State> {
        self.lives.get(&id).map(|life| life.state)
    }

    fn note(
        &mut self,
        process: u32,
        what: &'static str,
        id: TaskId,
        from: Option<State>,
        row: &Row,
        at: Timestamp,
    ) {
        let states = Some((from, row.state));
        self.trace.add(Event { at, process, what, task: Some(id), states, number: row.attempt.into() });
    }
}
