//! What a handler may ask and tell while it works.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde::de::DeserializeOwned;
use taskloom_engine::Attempt;
use taskloom_model::{Result, TaskId};

use crate::app::WeakApp;
use crate::attempts::{Cancelled, Slot};
use crate::execute::{decode, encode};
use crate::submit::{TaskBuilder, in_place};
use crate::time::system_time;
use crate::{App, Handle};

/// What a handler may ask and tell while it works: its task, progress, checkpoints, log, children, events.
///
/// It may be kept beyond the attempt's end; what it tells then is refused with `LeaseLost`.
///
/// ```
/// use taskloom::{App, Context, TaskError};
///
/// let app = App::open("memory:")?;
/// app.task("sum", |numbers: Vec<u64>, context: &Context| -> Result<u64, TaskError> {
///     // A later attempt goes on where an earlier one stopped.
///     let (mut done, mut sum): (usize, u64) = context.load_checkpoint()?.unwrap_or_default();
///     for number in &numbers[done..] {
///         if context.is_cancelled() {
///             break;
///         }
///         (done, sum) = (done + 1, sum + number);
///         context.save_checkpoint(&(done, sum))?;
///         context.progress(done as f64 / numbers.len() as f64, format!("{done} of {}", numbers.len()))?;
///     }
///     context.log("info", format!("the sum is {sum}"))?;
///     Ok(sum)
/// })
/// .register()?;
/// let running = app.start()?;
/// let handle = app.submit("sum", &[1, 2, 3])?;
/// assert_eq!(handle.wait::<u64>()?, 6);
/// assert_eq!(handle.progress().map(|progress| progress.value), Some(1.0));
/// assert_eq!(handle.log()[0].message, "the sum is 6");
/// running.stop();
/// # Ok::<(), taskloom::Error>(())
/// ```
#[derive(Clone)]
pub struct Context {
    attempt: Attempt,
    app: WeakApp,
    /// In an async handler.
    slot: Option<Arc<Slot>>,
}

impl Context {
    pub(crate) fn new(attempt: Attempt, app: WeakApp, slot: Option<Arc<Slot>>) -> Self {
        Self { attempt, app, slot }
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.attempt.task().spec().payload
    }

    /// Whether a failure of this attempt could be followed by another one.
    pub(crate) fn has_retries(&self) -> bool {
        self.failures() < self.attempt.task().spec().retries
    }

    /// The attempt of a blocking handler has ended.
    pub(crate) fn ended(&self) {
        if let Some(app) = self.app.upgrade() {
            app.shared.attempts.ended(&self.attempt);
        }
    }

    // ── the task ────────────────────────────────────────────────────────────────────────────────────────────────

    /// The task's id.
    pub fn id(&self) -> TaskId {
        self.attempt.task().id()
    }

    /// The handler's name.
    pub fn name(&self) -> &str {
        self.attempt.task().spec().name.as_str()
    }

    /// The queue that the task came from.
    pub fn queue(&self) -> &str {
        self.attempt.task().spec().queue.as_str()
    }

    /// Which attempt this is, from one. Every claim counts, also after a crash or a shutdown.
    pub fn attempt(&self) -> u32 {
        self.attempt.fence().attempt
    }

    /// How many attempts have failed or timed out so far.
    pub fn failures(&self) -> u32 {
        self.attempt.task().with_row(|row| row.failures)
    }

    /// The words that the task can be found by.
    pub fn tags(&self) -> &[String] {
        self.attempt.task().spec().tags()
    }

    /// A fact that the task was submitted with, by its key.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        let rare = self.attempt.task().spec().rare.as_deref()?;
        rare.metadata.iter().find(|(own, _)| own == key).map(|(_, value)| value.as_str())
    }

    /// What ties the tasks of one request together, if the submit said so.
    pub fn correlation_id(&self) -> Option<&str> {
        self.attempt.task().spec().rare.as_deref()?.correlation_id.as_deref()
    }

    /// The W3C trace context of the submit, if it gave one.
    pub fn traceparent(&self) -> Option<&str> {
        self.attempt.task().spec().rare.as_deref()?.traceparent.as_deref()
    }

    /// The schedule that submitted the task, if one did.
    pub fn schedule(&self) -> Option<&str> {
        self.attempt.task().spec().scheduled().map(|scheduled| scheduled.schedule.as_str())
    }

    /// For which time a schedule submitted the task: what its rule says, however late it runs.
    pub fn tick(&self) -> Option<SystemTime> {
        self.attempt.task().spec().scheduled().map(|scheduled| system_time(scheduled.tick))
    }

    // ── its end ─────────────────────────────────────────────────────────────────────────────────────────────────

    /// Whether the attempt no longer counts: the task was cancelled, timed out, or went elsewhere. The handler should
    /// stop; what it returns is refused.
    pub fn is_cancelled(&self) -> bool {
        self.attempt.is_cancelled()
    }

    /// Resolves when the attempt no longer counts, or is over.
    ///
    /// An async handler whose attempt was called off is dropped at its next `.await`. One that waits here at that moment
    /// is given time to clean up first: 20 milliseconds at least, and then it is dropped. (When the app is stopped
    /// there is no such time.) A blocking handler can hand a context to a future of its own that waits here.
    ///
    /// ```
    /// # #[cfg(feature = "async")] {
    /// use std::sync::mpsc::channel;
    /// use taskloom::{App, Context, State, TaskError};
    ///
    /// let app = App::open("memory:")?;
    /// let (tell, told) = channel();
    /// app.task_async("listen", move |_: (), context: Context| {
    ///     let tell = tell.clone();
    ///     async move {
    ///         let _ = tell.send("listening");
    ///         context.cancelled().await;
    ///         let _ = tell.send("cleaning up");
    ///         Ok::<_, TaskError>(())
    ///     }
    /// })
    /// .register()?;
    /// let running = app.start()?;
    /// let handle = app.submit("listen", &())?;
    /// assert_eq!(told.recv(), Ok("listening"));
    /// assert!(handle.cancel(Some("enough"))?);
    /// assert_eq!(told.recv(), Ok("cleaning up"));
    /// assert_eq!(handle.state(), State::Cancelled);
    /// running.stop();
    /// # }
    /// # Ok::<(), taskloom::Error>(())
    /// ```
    pub fn cancelled(&self) -> Cancelled {
        Cancelled::new(self.slot.clone().or_else(|| {
            let app = self.app.upgrade()?;
            Some(app.shared.attempts.slot(&self.attempt))
        }))
    }

    /// The time, by the app's clock: in [testing mode](crate::Testing) the one that the test turns, otherwise the
    /// system's. A handler that asks this can be tested.
    ///
    /// ```
    /// use taskloom::{App, Context, TaskError};
    /// let testing = App::testing()?;
    /// let now = testing.now();
    /// testing.app().task("when", |_: (), context: &Context| -> Result<_, TaskError> { Ok(context.now()) }).register()?;
    /// assert_eq!(testing.app().submit("when", &())?.wait::<std::time::SystemTime>()?, now);
    /// # Ok::<(), taskloom::Error>(())
    /// ```
    pub fn now(&self) -> SystemTime {
        system_time(self.attempt.now())
    }

    /// How long the attempt may still take, by its timeout or the task's deadline, whichever ends first; `None` if it
    /// has no limit.
    pub fn time_left(&self) -> Option<Duration> {
        let total = self.attempt.task().spec().deadline().map(|at| at.since(self.attempt.now()));
        [self.attempt.time_left(), total].into_iter().flatten().min()
    }

    /// When the attempt must have ended, by its timeout or the task's deadline, whichever comes first.
    pub fn deadline(&self) -> Option<SystemTime> {
        let by_timeout = self.attempt.time_left().map(|left| self.attempt.now() + left);
        [by_timeout, self.attempt.task().spec().deadline()].into_iter().flatten().min().map(system_time)
    }

    // ── telling ─────────────────────────────────────────────────────────────────────────────────────────────────

    /// Tells how far it is, from 0 to 1, and what it is doing. The newest 50 are kept with the task.
    ///
    /// Errors: `LeaseLost` if the attempt no longer counts.
    pub fn progress(&self, value: f64, message: impl Into<String>) -> Result<()> {
        self.attempt.progress(value, Some(message.into()))
    }

    /// Adds a line to the task's log, which is kept with the task: the newest 200 lines, 64 KiB. The level is a word of
    /// your own, such as `info`, `warning` or `error`. With the feature `tracing` it is also forwarded to the program's
    /// `tracing`, with the target `taskloom::task`.
    ///
    /// Errors: `LeaseLost` if the attempt no longer counts.
    pub fn log(&self, level: &str, message: impl Into<String>) -> Result<()> {
        let message = message.into();
        #[cfg(feature = "tracing")]
        crate::trace::line(&self.attempt, level, &message);
        self.attempt.log(level, message)
    }

    /// Saves where the next attempt can go on from, in the place of what was saved before. When it returns, it is as
    /// durable as the store: it survives retries, and on a file crashes.
    ///
    /// Errors: `NotEncodable`; `LeaseLost` if the attempt no longer counts; `StoreFailed`.
    pub fn save_checkpoint<T: Serialize + ?Sized>(&self, value: &T) -> Result<()> {
        let value = encode("a checkpoint", value)?;
        self.in_place(|| self.attempt.save_checkpoint(Some(value)))
    }

    /// What an earlier attempt, or this one, saved last.
    ///
    /// Errors: `WrongType` if it is not a `T`.
    pub fn load_checkpoint<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        self.attempt.checkpoint().map(|bytes| decode("the checkpoint", &bytes)).transpose()
    }

    /// Forgets what was saved: the next attempt begins at the beginning.
    ///
    /// Errors: `LeaseLost` if the attempt no longer counts; `StoreFailed`.
    pub fn clear_checkpoint(&self) -> Result<()> {
        self.in_place(|| self.attempt.save_checkpoint(None))
    }

    /// Notes something beside the result, under a key; the same key again replaces it. It is kept with the task if the
    /// attempt succeeds, up to 64 KiB in all; see [`Handle::result_metadata`].
    ///
    /// Errors: `NotEncodable`; `LeaseLost` if the attempt no longer counts; `PayloadTooLarge`.
    pub fn result_metadata<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<()> {
        let json = encode("metadata of a result", value)?;
        self.attempt.note_result(key, std::str::from_utf8(&json).unwrap_or("null"))
    }

    /// Publishes an event of your own, about this task; `data` is written as JSON and should be an object. See
    /// [`App::publish`].
    ///
    /// Errors: `InvalidOption` for a name that it may not have; `NotEncodable`; `PayloadTooLarge` over 64 KiB.
    pub fn publish<T: Serialize + ?Sized>(&self, name: &str, data: &T) -> Result<()> {
        let json = encode("the data of an event", data)?;
        self.attempt.publish(name, std::str::from_utf8(&json).unwrap_or("null"))
    }

    // ── submitting ──────────────────────────────────────────────────────────────────────────────────────────────

    /// Submits a child of this task, with its handler's options. A later attempt that submits its children in the same
    /// order finds those of an earlier one. Cancelling the parent cancels its unfinished children.
    ///
    /// Waiting for a child lends this handler's place to it: a blocking handler waits with [`Handle::wait`], an async one
    /// awaits.
    ///
    /// Errors: those of [`App::submit`]; `LeaseLost` if the attempt no longer counts; `DuplicateId` if an earlier attempt
    /// submitted a task of another handler in this place.
    ///
    /// ```
    /// use taskloom::{App, Context, TaskError};
    ///
    /// let app = App::builder().workers(1).open("memory:")?;
    /// app.task("half", |n: u32, _: &Context| -> Result<u32, TaskError> { Ok(n / 2) }).register()?;
    /// app.task("quarter", |n: u32, context: &Context| -> Result<u32, TaskError> {
    ///     let half: u32 = context.submit("half", &n)?.wait()?;
    ///     Ok(context.build("half").input(&half).tag("second").submit()?.wait()?)
    /// })
    /// .register()?;
    /// let running = app.start()?;
    /// let handle = app.submit("quarter", &40)?;
    /// assert_eq!(handle.wait::<u32>()?, 10);
    /// assert_eq!(handle.children()?.len(), 2);
    /// running.stop();
    /// # Ok::<(), taskloom::Error>(())
    /// ```
    pub fn submit<I: Serialize + ?Sized>(&self, name: &str, input: &I) -> Result<Handle> {
        self.build(name).input(input).submit()
    }

    /// Submits a child with options of its own. A child can be given neither an id nor a unique key: it has its place
    /// among its parent's children.
    pub fn build(&self, name: &str) -> TaskBuilder {
        TaskBuilder::new(self.app.need(), name, Some(self.attempt.clone()))
    }

    /// The app, for whatever else is to be done with it: submitting a task that is no child, say.
    ///
    /// Errors: `ShutDown` if nobody has it any more.
    pub fn app(&self) -> Result<App> {
        self.app.need()
    }

    /// Makes a call that waits for the disk, if the store has one.
    fn in_place<T>(&self, call: impl FnOnce() -> T) -> T {
        // Only an async handler must not simply wait.
        let may_wait =
            self.slot.is_some() && self.app.upgrade().is_some_and(|app| app.shared.engine.is_durable());
        in_place(may_wait, call)
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("id", &self.id())
            .field("name", &self.name())
            .field("attempt", &self.attempt())
            .finish_non_exhaustive()
    }
}
