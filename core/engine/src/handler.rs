//! Handlers, what they are given, and what they give back.
//!
//! A blocking handler runs on a worker thread and returns its [`Outcome`]. An asynchronous one belongs to a foreign
//! event loop: the engine hands the loop a [`crate::Started`] task with a one-shot [`crate::Completion`], to be used
//! whenever the outcome is there.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use taskloom_model::{
    Admission, Bytes, Code, Failure, Fence, LogLine, Name, Operation, Options, Progress, Timestamp, Version,
};
use taskloom_store::Task;

use crate::announce::Hook;
use crate::aside::Aside;
use crate::core::Core;
use crate::queues::Queue;
use crate::{Error, Result};

/// Something that runs tasks on a worker thread.
pub trait Blocking: Send + Sync {
    /// Runs one attempt. A panic is an outcome too.
    fn run(&self, attempt: &Attempt) -> Outcome;
}

impl<F: Fn(&Attempt) -> Outcome + Send + Sync> Blocking for F {
    fn run(&self, attempt: &Attempt) -> Outcome {
        self(attempt)
    }
}

/// How a handler runs.
pub enum Handler {
    /// On a worker thread.
    Blocking(Box<dyn Blocking>),
    /// On an event loop that takes its tasks itself; the value is the loop's own.
    Asynchronous(Arc<dyn Any + Send + Sync>),
    /// In a pool of foreign workers, such as child processes, that takes its tasks itself; the value is the pool's own.
    Pooled(Arc<dyn Any + Send + Sync>),
}

/// A registered handler.
pub struct HandlerEntry {
    pub(crate) name: Name,
    pub(crate) version: Version,
    pub(crate) registered: Timestamp,
    pub(crate) options: Options,
    pub(crate) admission: Admission,
    pub(crate) queue: Arc<Queue>,
    pub(crate) handler: Handler,
    pub(crate) hook: Option<Arc<dyn Hook>>,
    /// What waits for it while nobody can run it.
    pub(crate) aside: Aside,
}

impl HandlerEntry {
    /// Its name.
    pub fn name(&self) -> Name {
        self.name
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// When it was registered.
    pub fn registered(&self) -> Timestamp {
        self.registered
    }

    /// The options of its tasks where a submit says nothing else.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Its options made ready.
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// How it runs.
    pub fn handler(&self) -> &Handler {
        &self.handler
    }
}

/// What came of an attempt.
#[derive(Debug)]
pub enum Outcome {
    /// The handler returned this, encoded.
    Succeeded {
        /// The result.
        result: Bytes,
        /// What it noted beside it, encoded.
        metadata: Option<Box<[u8]>>,
    },
    /// The handler failed.
    Failed(Failed),
    /// The handler met a limit from outside: the task waits, at no cost, and so do all that have this key.
    Postponed {
        /// The key.
        key: String,
        /// For how long.
        wait: Duration,
    },
    /// What ran the handler died, and this process lives: a crash, and no failure.
    Lost {
        /// What it died of, as in "was killed by signal 9".
        cause: String,
    },
    /// The handler did not come to an end, and that is neither its fault nor a crash: the task is given back at no cost.
    GivenBack,
}

impl Outcome {
    /// A result without notes.
    pub fn success(result: impl Into<Bytes>) -> Self {
        Self::Succeeded { result: result.into(), metadata: None }
    }

    /// A failure that is retried while retries are left.
    pub fn failure(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Failed(Failed {
            kind: kind.into(),
            message: message.into(),
            backtrace: String::new(),
            permanent: false,
            retry_after: None,
        })
    }

    /// What it means for the task.
    pub(crate) fn into_operation(
        self,
        fence: Fence,
        now: Timestamp,
        chance: impl FnOnce() -> f64,
    ) -> Operation {
        match self {
            Self::Succeeded { result, metadata } => Operation::Succeed { fence, result, metadata },
            Self::Postponed { key, wait } => {
                Operation::Postpone { fence, key: key.into(), until: now + wait }
            }
            Self::Lost { cause } => Operation::Crash { fence, cause: cause.into() },
            Self::GivenBack => Operation::Release { fence },
            Self::Failed(failed) => Operation::Fail {
                fence,
                failure: Box::new(Failure {
                    kind: failed.kind,
                    message: failed.message,
                    backtrace: failed.backtrace,
                    attempt: fence.attempt,
                    at: now,
                }),
                permanent: failed.permanent,
                retry_after: failed.retry_after,
                chance: chance(),
            },
        }
    }
}

/// Why an attempt failed.
#[derive(Clone, Debug)]
pub struct Failed {
    /// The error's type in its own language.
    pub kind: String,
    /// Its message.
    pub message: String,
    /// Where it was raised.
    pub backtrace: String,
    /// Whether another attempt would be pointless.
    pub permanent: bool,
    /// The wait that it asks for.
    pub retry_after: Option<Duration>,
}

/// A worker's own reference to the engine. Attempts count their references here, so that the workers do not all
/// write to the one counter of the engine for every task.
pub(crate) struct Home {
    pub(crate) core: Arc<Core>,
}

/// A task being run: what a handler may ask and tell while it works.
///
/// It may be kept beyond the attempt's end; what it tells then is refused with `LeaseLost`.
#[derive(Clone)]
pub struct Attempt {
    pub(crate) home: Arc<Home>,
    pub(crate) task: Arc<Task>,
    pub(crate) fence: Fence,
    /// On the monotonic clock.
    pub(crate) deadline: Option<Duration>,
}

impl Attempt {
    /// The task.
    pub fn task(&self) -> &Arc<Task> {
        &self.task
    }

    /// Whose attempt it is, and which.
    pub fn fence(&self) -> Fence {
        self.fence
    }

    /// The place of the next child that this attempt submits.
    pub(crate) fn next_child(&self) -> u32 {
        self.task.next_child(self.fence.attempt)
    }

    /// Whether the attempt no longer counts: the task was cancelled, timed out, or went elsewhere.
    pub fn is_cancelled(&self) -> bool {
        !self.task.is_current(self.fence)
    }

    /// Tells how far it is, from 0 to 1.
    pub fn progress(&self, value: f64, message: Option<String>) -> Result<()> {
        let at = self.home.core.clock.now();
        let value = if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) };
        let progress = Progress { value, message, at };
        self.home.core.tell_progress(&self.task, self.fence, progress)
    }

    /// Adds a line to the task's log, which is kept with the task within bounds.
    pub fn log(&self, level: &str, message: String) -> Result<()> {
        let at = self.home.core.clock.now();
        let line = LogLine { at, level: level.to_owned(), message, attempt: self.fence.attempt };
        self.home.core.tell_line(&self.task, self.fence, line)
    }

    /// For an attempt on an event loop that is about to wait for another task: lends its place in flight, so that a
    /// parent can wait for its child with `max_in_flight` of one. Until the guard is dropped. Meanwhile its children are
    /// run even while the engine of a shared store drains, which may have to wait for the disk.
    pub fn lend_place(&self) -> LentPlace {
        let core = &self.home.core;
        core.loops.lend(core);
        core.trials.waits(core, Some(self.task.id()));
        self.home.core.waits_for_children(&self.task);
        LentPlace { home: Arc::clone(&self.home), task: Arc::clone(&self.task) }
    }

    /// Whether it is an attempt of this engine.
    pub fn runs_in(&self, engine: &crate::Engine) -> bool {
        Arc::ptr_eq(&self.home.core, &engine.core)
    }

    /// Notes something beside the result, under a key: `json` is its value. It is kept with the task if the attempt
    /// succeeds; the same key again replaces it.
    ///
    /// Errors: `LeaseLost` if the attempt is over; `PayloadTooLarge` over [`MAX_NOTES`](crate::MAX_NOTES) in all.
    pub fn note_result(&self, key: &str, json: &str) -> Result<()> {
        if self.is_cancelled() {
            return Err(over(&self.task, self.fence));
        }
        if self.home.core.notes.set(self.task.id(), self.fence, key, json) {
            return Ok(());
        }
        Err(Error::new(
            Code::PayloadTooLarge,
            format!(
                "the metadata of a result may have {} bytes; {key:?} would be over that",
                crate::MAX_NOTES
            ),
        )
        .hint("metadata is for short facts; return data as the result"))
    }

    /// Publishes an event of the user's own, about this task; `data` is JSON.
    pub fn publish(&self, name: &str, data: &str) -> Result<()> {
        let core = &self.home.core;
        core.events.publish_custom(name, core.clock.now(), Some(self.task.id()), data)
    }

    /// Saves where the next attempt can go on from, encoded; `None` clears it. When it returns, it is as durable as
    /// the store.
    pub fn save_checkpoint(&self, value: Option<Box<[u8]>>) -> Result<()> {
        let operation = Operation::Checkpoint { fence: self.fence, value };
        self.home.core.change(&self.task, operation).map(|_| ())
    }

    /// What an earlier attempt, or this one, saved last.
    pub fn checkpoint(&self) -> Option<Box<[u8]>> {
        self.task.with_row(|row| row.history.as_ref().and_then(|history| history.checkpoint.clone()))
    }

    /// The time by the engine's clock.
    pub fn now(&self) -> Timestamp {
        self.home.core.clock.now()
    }

    /// How long the attempt may still take, if it has a limit.
    pub fn time_left(&self) -> Option<Duration> {
        Some(self.deadline?.saturating_sub(self.home.core.clock.monotonic()))
    }
}

/// The place of an attempt that waits; see [`Attempt::lend_place`].
#[must_use = "dropping it takes the place back"]
pub struct LentPlace {
    home: Arc<Home>,
    task: Arc<Task>,
}

impl Drop for LentPlace {
    fn drop(&mut self) {
        self.home.core.waits_no_longer(&self.task);
        self.home.core.loops.take_back();
    }
}

/// A result that is too large fails its task for good: another attempt would return it again.
pub(crate) fn oversized(length: usize) -> Option<Failed> {
    (length > taskloom_model::MAX_PAYLOAD).then(|| Failed {
        kind: "PayloadTooLarge".into(),
        message: format!("the result has {length} bytes; the limit is {}", taskloom_model::MAX_PAYLOAD),
        backtrace: String::new(),
        permanent: true,
        retry_after: None,
    })
}

/// What is told of an attempt that no longer counts is refused, in the words of the model.
#[cold]
pub(crate) fn over(task: &Task, fence: Fence) -> Error {
    Error::new(Code::LeaseLost, format!("attempt {} of task {} is over", fence.attempt, task.id()))
        .hint("the task was cancelled, timed out, or went to another worker while this attempt ran")
}

/// An error as the failure of an attempt.
impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self {
            kind: format!("{:?}", error.kind()),
            message: error.to_string(),
            backtrace: String::new(),
            permanent: false,
            retry_after: None,
        }
    }
}
