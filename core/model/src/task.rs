//! What a task is: its [`Spec`], which never changes, and its [`Row`], which operations change.
//!
//! A million pending tasks must fit into memory, so both are laid out for size: what most tasks have is inline,
//! what few have is behind one box ([`Rare`], [`History`]).

use std::num::NonZeroU64;
use std::time::Duration;

use crate::{
    Bytes, Code, Error, Limit, Name, Priority, RetryPolicy, Returned, State, TaskId, Timestamp, WaitingFor,
};

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
    pub payload: Bytes,
    /// Microseconds that an attempt may take.
    pub timeout_micros: Option<NonZeroU64>,
    /// Not before this time. Here, since a million tasks may have one and nothing else.
    pub eta: Option<Timestamp>,
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
    /// Why nothing is submitted together with a replay: if both have the same unique key, it would be open who gets it.
    pub fn replay_with_others(&self) -> Error {
        Error::new(
            Code::NotSupported,
            format!("task {} cannot be replayed and spawn others at once", self.id),
        )
    }

    /// Whether it asks for nothing but to be run: no time, no limit, nothing that few tasks have.
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.rare.is_none() && self.eta.is_none() && self.timeout_micros.is_none()
    }

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

    /// The key that it may have to itself.
    pub fn unique(&self) -> Option<&Unique> {
        self.rare.as_ref().and_then(|rare| rare.unique.as_ref())
    }

    /// The key under which it waits its turn.
    pub fn key(&self) -> Option<&str> {
        self.key_limit().map(|limit| limit.key.as_str())
    }

    /// The same, with the limit that it brings along.
    pub fn key_limit(&self) -> Option<&KeyLimit> {
        self.rare.as_ref().and_then(|rare| rare.key.as_ref())
    }

    /// The version of its handler that it asks for.
    pub fn version(&self) -> Option<&str> {
        self.rare.as_ref().and_then(|rare| rare.version.as_deref())
    }

    /// The task that submitted it.
    pub fn parent(&self) -> Option<&Parent> {
        self.rare.as_ref().and_then(|rare| rare.parent.as_ref())
    }

    /// Which firing of a schedule it is, if it is one.
    pub fn scheduled(&self) -> Option<&Scheduled> {
        self.rare.as_ref().and_then(|rare| rare.scheduled.as_ref())
    }

    /// Words to find it by.
    pub fn tags(&self) -> &[String] {
        self.rare.as_ref().map_or(&[], |rare| &rare.tags)
    }

    /// It must have ended by then.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.rare.as_ref().and_then(|rare| rare.deadline)
    }

    /// When it asks to start, if that is later than its submission.
    pub fn eta(&self) -> Option<Timestamp> {
        self.eta
    }
}

/// The part of a [`Spec`] that most tasks do without.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rare {
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
    /// The schedule that submitted it.
    pub scheduled: Option<Scheduled>,
}

/// Which firing of a schedule a task is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduled {
    /// The schedule's name.
    pub schedule: String,
    /// The tick: the time that the rule says. One that was triggered by hand has the time at which that was.
    pub tick: Timestamp,
}

impl Scheduled {
    /// The unique key of the firing.
    pub fn unique_key(&self) -> String {
        format!("schedule {} {}", self.schedule, self.tick)
    }
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

impl Parent {
    /// Whether the child goes when its parent, the task with this id, is cancelled.
    pub fn takes_along(&self, cancelled: TaskId) -> bool {
        self.id == cancelled && !self.detached
    }

    /// Why a child is cancelled.
    pub fn reason(cancelled: TaskId) -> Box<str> {
        format!("its parent {cancelled} was cancelled").into()
    }
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

impl Unique {
    /// Why a task is cancelled whose key another one takes.
    pub const TAKEN_OVER: &str = "another task took its unique key";

    /// Whether a task that was given its key until some time still has it.
    pub fn is_kept(until: Option<Timestamp>, state: State, now: Timestamp) -> bool {
        !state.is_terminal() || until.is_some_and(|until| until > now)
    }

    /// Why a new task is refused.
    pub fn refusal(&self, state: State, holder: TaskId) -> Error {
        self.is_taken(state, holder).hint(
            "wait for it, or ask for it with on_conflict=\"return\", or replace it with on_conflict=\"replace\"",
        )
    }

    /// Why a task that has ended is not started over.
    pub fn replay_refusal(&self, state: State, holder: TaskId) -> Error {
        self.is_taken(state, holder).hint("cancel that one first, or wait until it has ended")
    }

    fn is_taken(&self, state: State, holder: TaskId) -> Error {
        Error::new(Code::DuplicateKey, format!("{state} task {holder} has the unique key {:?}", self.key))
    }
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

/// The key that a task waits its turn under, with all others that have it.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyLimit {
    /// The key.
    pub key: String,
    /// The limit that the task knows of, unless an operator has set another.
    pub limit: Limit,
}

impl KeyLimit {
    /// Why a task is not run by hand that waits for its key.
    pub fn no_room(&self, task: TaskId) -> Error {
        let message = format!("task {task} waits for its key {:?}, which has no room now", self.key);
        Error::new(Code::IllegalTransition, message)
            .hint("limits hold for tasks that are run by hand too; raise the limit first")
    }
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
    pub result: Returned,
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
    /// How far it said it was, oldest first: at most [`MAX_PROGRESS`] of them, the newest always.
    pub progress: Vec<Progress>,
    /// What its handlers logged, oldest first: the newest lines, within [`MAX_LOG_LINES`] and [`MAX_LOG_BYTES`].
    pub log: Vec<LogLine>,
    /// How many lines were dropped from the log to keep it within its bounds.
    pub log_dropped: u32,
    /// How many children it has had. Their ids follow from its own; see [`TaskId::child`].
    pub children: u32,
    /// Why it was cancelled or skipped.
    pub reason: Option<String>,
    /// When an operator last started it over.
    pub replayed: Option<Timestamp>,
    /// What the handler noted beside its result, encoded.
    pub result_metadata: Option<Box<[u8]>>,
}

impl History {
    /// The newest progress.
    pub fn newest_progress(&self) -> Option<&Progress> {
        self.progress.last()
    }

    /// Adds progress, and drops the oldest if that makes too many.
    pub(crate) fn add_progress(&mut self, progress: Progress) {
        if self.progress.len() >= MAX_PROGRESS {
            self.progress.remove(0);
        }
        self.progress.push(progress);
    }

    /// Adds lines to the log, and drops the oldest that no longer have room.
    pub(crate) fn add_lines(&mut self, lines: impl IntoIterator<Item = LogLine>) {
        self.log.extend(lines.into_iter().map(LogLine::shortened));
        let mut bytes: usize = self.log.iter().map(|line| line.message.len()).sum();
        let mut drop = 0;
        while self.log.len() - drop > MAX_LOG_LINES || bytes > MAX_LOG_BYTES {
            bytes -= self.log[drop].message.len();
            drop += 1;
        }
        self.log.drain(..drop);
        self.log_dropped = self.log_dropped.saturating_add(u32::try_from(drop).unwrap_or(u32::MAX));
    }
}

/// How many steps of progress are kept with a task.
pub const MAX_PROGRESS: usize = 50;

/// How many lines of log are kept with a task.
pub const MAX_LOG_LINES: usize = 200;

/// How many bytes of log are kept with a task.
pub const MAX_LOG_BYTES: usize = 64 << 10;

/// How long one line of a task's log may be; a longer one is cut.
pub const MAX_LOG_LINE: usize = 8 << 10;

/// A line of a task's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When.
    pub at: Timestamp,
    /// How serious, in the words of the handler's language: `info`, `warning`…
    pub level: String,
    /// What.
    pub message: String,
    /// Which attempt.
    pub attempt: u32,
}

impl LogLine {
    /// The line, cut if it is too long to be kept.
    #[must_use]
    pub fn shortened(mut self) -> Self {
        const MARK: &str = "…";
        if self.message.len() > MAX_LOG_LINE {
            let end = self.message.floor_char_boundary(MAX_LOG_LINE - MARK.len());
            self.message.truncate(end);
            self.message.push_str(MARK);
            self.message.shrink_to_fit();
        }
        self
    }
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
    assert!(size_of::<Spec>() <= 88);
    assert!(size_of::<Row>() <= 88);
};
