//! A task as its owner may look at it: every field, at one moment.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use taskloom_model::{
    Code, Error, Priority, Result, RetryPolicy, Row, Spec, State, TaskId, Timestamp, WaitingFor,
};
use taskloom_store::Task;

use crate::execute::decode;
use crate::time::system_time;

/// Why an attempt did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskFailure {
    /// The error's type in its own language.
    pub kind: String,
    /// Its message.
    pub message: String,
    /// Where it was raised, or what caused it, as its language prints it; may be empty.
    pub backtrace: String,
    /// Which attempt, from one.
    pub attempt: u32,
    /// When.
    pub at: SystemTime,
}

/// How far a task said it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// From 0 to 1.
    pub value: f64,
    /// What it was doing.
    pub message: Option<String>,
    /// When it said so.
    pub at: SystemTime,
}

/// A line of a task's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How serious, in the words of the handler's language: `info`, `warning`…
    pub level: String,
    /// What.
    pub message: String,
    /// Which attempt, from one.
    pub attempt: u32,
    /// When.
    pub at: SystemTime,
}

/// A task at one moment: what was asked for, and what has become of it. Nothing in it changes any more.
///
/// ```
/// use taskloom::{App, Context, State, TaskError};
/// let app = App::open("memory:")?;
/// app.task("double", |n: u32, _: &Context| -> Result<u32, TaskError> { Ok(n * 2) }).queue("sums").register()?;
/// let running = app.start()?;
/// let handle = app.build("double").input(&21).tag("demo").submit()?;
/// handle.wait::<u32>()?;
/// let info = handle.info();
/// assert_eq!((info.state, info.attempt, info.queue.as_str()), (State::Succeeded, 1, "sums"));
/// assert_eq!((info.input::<u32>()?, info.result::<u32>()?), (21, 42));
/// assert!(info.tags == ["demo"] && info.finished >= info.started);
/// running.stop();
/// # Ok::<(), taskloom::Error>(())
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct TaskInfo {
    task: Arc<Task>,
    /// Its id.
    pub id: TaskId,
    /// The handler that runs it.
    pub name: String,
    /// The queue that it waits in.
    pub queue: String,
    /// Its place in the queue.
    pub priority: Priority,
    /// Where it is in its life.
    pub state: State,
    /// Why it is pending, if it is.
    pub waiting_for: WaitingFor,
    /// How often it was claimed.
    pub attempt: u32,
    /// Handler errors and timeouts so far; a replay begins at zero.
    pub failures: u32,
    /// Workers that it lost; a replay begins at zero.
    pub crashes: u8,
    /// How often it was replayed.
    pub generation: u16,
    /// How many failures are followed by another attempt.
    pub retries: u32,
    /// The waits between attempts.
    pub retry: RetryPolicy,
    /// How many lost workers make it fail.
    pub max_crashes: u8,
    /// How long one attempt may take.
    pub timeout: Option<Duration>,
    /// When it was accepted.
    pub created: SystemTime,
    /// When it last changed.
    pub updated: SystemTime,
    /// From when on it may run.
    pub eligible: SystemTime,
    /// When the last attempt was claimed.
    pub started: Option<SystemTime>,
    /// When it ended.
    pub finished: Option<SystemTime>,
    /// When it asked to start, if that was later than its submission.
    pub eta: Option<SystemTime>,
    /// It must have started by then.
    pub expires: Option<SystemTime>,
    /// It must have ended by then.
    pub deadline: Option<SystemTime>,
    /// The version of its handler that it asks for.
    pub version: Option<String>,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// The key that it may have to itself.
    pub unique_key: Option<String>,
    /// The key under which it takes turns with other tasks.
    pub key: Option<String>,
    /// Free facts that it was submitted with.
    pub metadata: Vec<(String, String)>,
    /// What ties the tasks of one request together.
    pub correlation_id: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// The task that submitted it, if one did.
    pub parent: Option<TaskId>,
    /// Whether it outlives a parent that is cancelled.
    pub detached: bool,
    /// The schedule that submitted it, if one did.
    pub schedule: Option<String>,
    /// For which time that schedule did: what its rule says, however late the task runs.
    pub tick: Option<SystemTime>,
    /// How many children it has had.
    pub children: u32,
    /// Why it was cancelled or skipped.
    pub reason: Option<String>,
    /// Every attempt's error, oldest first.
    pub errors: Vec<TaskFailure>,
    /// How far it said it was, oldest first.
    pub progress: Vec<Progress>,
    /// What its handler logged, oldest first.
    pub log: Vec<LogLine>,
    /// How many lines were dropped from the log to keep it within its bounds.
    pub log_dropped: u32,
    result_metadata: Option<Box<[u8]>>,
}

impl TaskInfo {
    pub(crate) fn of(task: &Arc<Task>) -> Self {
        task.with_row(|row| Self::from_parts(task, task.spec(), row))
    }

    fn from_parts(task: &Arc<Task>, spec: &Spec, row: &Row) -> Self {
        let time = |at: Option<Timestamp>| at.map(system_time);
        let rare = spec.rare.as_deref();
        let history = row.history.as_deref();
        let parent = spec.parent();
        Self {
            task: Arc::clone(task),
            id: spec.id,
            name: spec.name.as_str().to_owned(),
            queue: spec.queue.as_str().to_owned(),
            priority: spec.priority,
            state: row.state,
            waiting_for: row.waiting_for,
            attempt: row.attempt,
            failures: row.failures,
            crashes: row.crashes,
            generation: row.generation,
            retries: spec.retries,
            retry: spec.retry(),
            max_crashes: spec.max_crashes,
            timeout: spec.timeout(),
            created: system_time(spec.created),
            updated: system_time(row.updated),
            eligible: system_time(row.eligible),
            started: time(row.started),
            finished: time(row.finished),
            eta: time(spec.eta()),
            expires: time(spec.expires()),
            deadline: time(spec.deadline()),
            version: spec.version().map(str::to_owned),
            tags: spec.tags().to_vec(),
            unique_key: spec.unique().map(|unique| unique.key.clone()),
            key: spec.key().map(str::to_owned),
            metadata: rare.map(|rare| rare.metadata.clone()).unwrap_or_default(),
            correlation_id: rare.and_then(|rare| rare.correlation_id.clone()),
            traceparent: rare.and_then(|rare| rare.traceparent.clone()),
            parent: parent.map(|parent| parent.id),
            detached: parent.is_some_and(|parent| parent.detached),
            schedule: spec.scheduled().map(|scheduled| scheduled.schedule.clone()),
            tick: time(spec.scheduled().map(|scheduled| scheduled.tick)),
            children: history.map_or(0, |history| history.children),
            reason: history.and_then(|history| history.reason.clone()),
            errors: errors(row),
            progress: progress(row),
            log: log(row),
            log_dropped: history.map_or(0, |history| history.log_dropped),
            result_metadata: history.and_then(|history| history.result_metadata.clone()),
        }
    }

    /// What it was submitted with.
    ///
    /// Errors: `WrongType` if it is not a `T`.
    pub fn input<T: DeserializeOwned>(&self) -> Result<T> {
        decode("the input", &self.task.spec().payload)
    }

    /// What its handler returned, if it has succeeded.
    ///
    /// Errors: `IllegalTransition` if it has not; `WrongType` if it is not a `T`.
    pub fn result<T: DeserializeOwned>(&self) -> Result<T> {
        if self.state != State::Succeeded {
            return Err(Error::new(
                Code::IllegalTransition,
                format!("task {} is {}, and has no result", self.id, self.state),
            ));
        }
        self.task.with_row(|row| decode("the result", row.result.as_deref().unwrap_or_default()))
    }

    /// What its handler noted beside the result, under a key ([`Context::result_metadata`](crate::Context::result_metadata)).
    ///
    /// Errors: `WrongType` if it is not a `T`.
    pub fn result_metadata<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        noted(self.result_metadata.as_deref(), key)
    }
}

impl fmt::Debug for TaskInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskInfo")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("queue", &self.queue)
            .field("state", &self.state)
            .field("attempt", &self.attempt)
            .field("errors", &self.errors)
            .finish_non_exhaustive()
    }
}

/// An entry of what a handler noted beside its result.
pub(crate) fn noted<T: DeserializeOwned>(json: Option<&[u8]>, key: &str) -> Result<Option<T>> {
    let Some(json) = json else { return Ok(None) };
    let mut notes: serde_json::Map<String, serde_json::Value> = decode("the metadata of the result", json)?;
    let Some(value) = notes.remove(key) else { return Ok(None) };
    serde_json::from_value(value).map(Some).map_err(|error| {
        let wanted = std::any::type_name::<T>();
        Error::new(Code::WrongType, format!("result metadata {key:?} is not a {wanted}: {error}"))
            .caused_by(error)
    })
}

pub(crate) fn errors(row: &Row) -> Vec<TaskFailure> {
    let own = |failure: &taskloom_model::Failure| TaskFailure {
        kind: failure.kind.clone(),
        message: failure.message.clone(),
        backtrace: failure.backtrace.clone(),
        attempt: failure.attempt,
        at: system_time(failure.at),
    };
    row.errors().iter().map(own).collect()
}

pub(crate) fn one_progress(progress: &taskloom_model::Progress) -> Progress {
    Progress { value: progress.value, message: progress.message.clone(), at: system_time(progress.at) }
}

pub(crate) fn progress(row: &Row) -> Vec<Progress> {
    row.history.iter().flat_map(|history| &history.progress).map(one_progress).collect()
}

pub(crate) fn log(row: &Row) -> Vec<LogLine> {
    let own = |line: &taskloom_model::LogLine| LogLine {
        level: line.level.clone(),
        message: line.message.clone(),
        attempt: line.attempt,
        at: system_time(line.at),
    };
    row.history.iter().flat_map(|history| &history.log).map(own).collect()
}
