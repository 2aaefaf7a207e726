//! What a task is: its [`Spec`], which never changes, and its [`Row`], which operations change.
//!
//! A million pending tasks must fit into memory, so both are laid out for size: what most tasks have is inline,
//! what few have is behind one box ([`Rare`], [`History`]).

use std::num::NonZeroU64;
use std::time::Duration;

use crate::{Name, Priority, RetryPolicy, State, TaskId, Timestamp, WaitingFor};

/// The queue of tasks that name none.
pub const DEFAULT_QUEUE: &str = "default";

/// How many lost workers make a task a poison task.
pub const DEFAULT_MAX_CRASHES: u8 = 3;

/// What was asked for. It is the same for every attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Its id.
    pub id: TaskId,
    /// The handler that runs it.
    pub name: Name,
    /// The line that it waits in.
    pub queue: Name,
    /// When it was accepted.
    pub created: Timestamp,
    /// The arguments, encoded.
    pub payload: Box<[u8]>,
    /// Microseconds that an attempt may take.
    pub timeout_micros: Option<NonZeroU64>,
    /// What few tasks have.
    pub rare: Option<Box<Rare>>,
    /// How many failures are followed by another attempt.
    pub retries: u32,
    /// How many lost workers make it fail.
    pub max_crashes: u8,
    /// Its place in the queue.
    pub priority: Priority,
}

impl Spec {
    /// How long an attempt may take.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout_micros.map(|micros| Duration::from_micros(micros.get()))
    }

    /// The waits between its attempts.
    pub fn retry(&self) -> RetryPolicy {
        self.rare.as_ref().and_then(|rare| rare.retry).unwrap_or_default()
    }

    /// It must have started by then.
    pub fn expires(&self) -> Option<Timestamp> {
        self.rare.as_ref().and_then(|rare| rare.expires)
    }

    /// It must have ended by then.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.rare.as_ref().and_then(|rare| rare.deadline)
    }

    /// When it asks to start, if that is later than its submission.
    pub fn eta(&self) -> Option<Timestamp> {
        self.rare.as_ref().and_then(|rare| rare.eta)
    }
}

/// The part of a [`Spec`] that most tasks do without.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rare {
    /// Not before this time.
    pub eta: Option<Timestamp>,
    /// Not started by then: expired.
    pub expires: Option<Timestamp>,
    /// Not ended by then: timed out.
    pub deadline: Option<Timestamp>,
    /// Waits other than the usual.
    pub retry: Option<RetryPolicy>,
    /// The handler's version that it asks for.
    pub version: Option<String>,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// At most one live task with this key.
    pub unique: Option<Unique>,
    /// The key whose limits it obeys.
    pub key: Option<KeyLimit>,
    /// Tasks that must end well first.
    pub depends_on: Vec<TaskId>,
    /// What a worker must be capable of.
    pub requires: Vec<String>,
    /// The one agent that may run it.
    pub agent: Option<String>,
    /// Free facts: initiator, reason, source system, the user's own.
    pub metadata: Vec<(String, String)>,
    /// Ties tasks of one request together.
    pub correlation_id: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// The task that submitted it.
    pub parent: Option<Parent>,
}

/// A task's place among the children of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The parent.
    pub id: TaskId,
    /// Which of its children: a retry of the parent finds the same child by it.
    pub ordinal: u32,
    /// Whether it outlives a cancelled parent.
    pub detached: bool,
}

/// At most one live task with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unique {
    /// The key.
    pub key: String,
    /// Until then, even when the task has ended.
    pub until: Option<Timestamp>,
    /// What a second submit does.
    pub on_conflict: OnConflict,
}

/// What a submit does when its unique key is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnConflict {
    /// Return the task that has it.
    #[default]
    Return,
    /// Cancel that task and take its place.
    Replace,
    /// Fail with `Duplicate`.
    Reject,
}

/// Limits shared by all tasks with a key.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyLimit {
    /// The key.
    pub key: String,
    /// How many may run at once.
    pub concurrency: Option<u32>,
    /// How many may start in a period.
    pub rate: Option<Rate>,
}

/// So many starts in a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Starts.
    pub count: u32,
    /// In this time.
    pub per: Duration,
    /// Starts that may come at once after a pause.
    pub burst: u32,
}

/// A process that runs tasks: a number that no other process of its store has, or had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerId(pub NonZeroU64);

impl OwnerId {
    /// From the number that a store gave out; zero is nobody.
    pub const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

/// What operations change.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Where it is in its life.
    pub state: State,
    /// Why it is pending.
    pub waiting_for: WaitingFor,
    /// Lost workers in this generation.
    pub crashes: u8,
    /// How often it was replayed.
    pub generation: u16,
    /// Claims so far, over all generations: the fence against late reports.
    pub attempt: u32,
    /// Handler errors and timeouts in this generation.
    pub failures: u32,
    /// Dependencies that have not ended well yet.
    pub unmet: u32,
    /// Whose attempt is running.
    pub owner: Option<OwnerId>,
    /// From when on it may run.
    pub eligible: Timestamp,
    /// The last change.
    pub updated: Timestamp,
    /// When the last attempt was claimed.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// What its handler returned, encoded.
    pub result: Option<Box<[u8]>>,
    /// What few tasks have.
    pub history: Option<Box<History>>,
}

impl Row {
    /// The part that few tasks have, made if need be.
    pub fn history_mut(&mut self) -> &mut History {
        self.history.get_or_insert_default()
    }

    /// All errors of all attempts, oldest first.
    pub fn errors(&self) -> &[Failure] {
        self.history.as_ref().map_or(&[], |history| &history.errors)
    }
}

/// The part of a [`Row`] that most tasks do without.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// Every attempt's error.
    pub errors: Vec<Failure>,
    /// What the handler saved to go on from.
    pub checkpoint: Option<Box<[u8]>>,
    /// How far it says it is.
    pub progress: Option<Progress>,
    /// Why it was cancelled or skipped.
    pub reason: Option<String>,
    /// When an operator last started it over.
    pub replayed: Option<Timestamp>,
    /// What the handler noted beside its result, encoded.
    pub result_metadata: Option<Box<[u8]>>,
}

/// Why an attempt did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The error's type in its own language.
    pub kind: String,
    /// Its message.
    pub message: String,
    /// Where it was raised, as its language prints it.
    pub backtrace: String,
    /// Which attempt.
    pub attempt: u32,
    /// When.
    pub at: Timestamp,
}

/// How far a task says it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// From 0 to 1.
    pub value: f64,
    /// What it is doing.
    pub message: Option<String>,
    /// When it said so.
    pub at: Timestamp,
}

/// The layouts that the memory figures rest on.
const _: () = {
    assert!(size_of::<Spec>() <= 80);
    assert!(size_of::<Row>() <= 88);
};
