//! What an operator does: look at tasks, cancel many, pause queues, replay and discard dead letters, sweep, run one by
//! hand, look at figures.

use std::time::{Duration, SystemTime};

use taskloom_engine::{Handler, Health, Stats};
use taskloom_model::{Limit, LimitFor, LimitRow, Name, Options, Result, State, TaskId, Version, check_name};

use crate::submit::in_place;
use crate::time::system_time;
use crate::{App, Handle};

/// Which tasks: all of them, narrowed down by what is called.
///
/// ```
/// use taskloom::{App, Context, Filter, State, TaskError};
/// use std::time::Duration;
///
/// let app = App::open("memory:")?;
/// app.task("noop", |_: (), _: &Context| -> Result<(), TaskError> { Ok(()) }).register()?;
/// for tag in ["a", "a", "b"] {
///     app.build("noop").tag(tag).delay(Duration::from_secs(60)).submit()?;
/// }
/// assert_eq!(app.list(&Filter::new().tag("a"))?.len(), 2);
/// assert_eq!(app.cancel_all(&Filter::new().tag("a"), Some("not needed"))?, 2);
/// assert_eq!(app.list(&Filter::new().state(State::Pending))?.len(), 1);
/// # Ok::<(), taskloom::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "pass it to App::list or App::cancel_all"]
pub struct Filter(taskloom_store::Filter);

impl Filter {
    /// All tasks, the first 100.
    pub fn new() -> Self {
        Self::default()
    }

    /// In this state.
    pub fn state(mut self, state: State) -> Self {
        self.0.state = Some(state);
        self
    }

    /// In this queue.
    pub fn queue(mut self, queue: &str) -> Self {
        self.0.queue = Some(Name::new(queue));
        self
    }

    /// For this handler.
    pub fn name(mut self, name: &str) -> Self {
        self.0.name = Some(Name::new(name));
        self
    }

    /// With this tag.
    pub fn tag(mut self, tag: &str) -> Self {
        self.0.tag = Some(tag.to_owned());
        self
    }

    /// Only those that have not ended.
    pub fn unfinished(mut self) -> Self {
        self.0.unfinished = true;
        self
    }

    /// Only dead letters: those that failed, timed out, were cancelled or expired.
    pub fn dead(mut self) -> Self {
        self.0.dead = true;
        self
    }

    /// Only those after this one: the last of a page, to list the next.
    pub fn after(mut self, id: TaskId) -> Self {
        self.0.after = Some(id);
        self
    }

    /// At most so many; 100. [`App::cancel_all`], [`App::replay_all`] and [`App::discard_all`] have no limit.
    pub fn limit(mut self, limit: usize) -> Self {
        self.0.limit = limit;
        self
    }
}

/// A registered handler.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HandlerInfo {
    /// Its name; what stands before the last slash is its namespace.
    pub name: String,
    /// Its version; `0.0.0` if it was given none.
    pub version: Version,
    /// Whether it runs on the async runtime, and not on a worker thread.
    pub is_async: bool,
    /// When it was registered.
    pub registered: SystemTime,
    /// The options that its tasks have where a submit says nothing else.
    pub options: Options,
}

impl App {
    /// A handle for a task, from its id.
    ///
    /// Errors: `StoreFailed`.
    pub fn get(&self, id: TaskId) -> Result<Option<Handle>> {
        Ok(self.shared.engine.get(id)?.map(|handle| self.own(handle)))
    }

    /// Tasks by filter, in the order of their ids, which is that of their submission.
    ///
    /// Errors: `StoreFailed`.
    pub fn list(&self, filter: &Filter) -> Result<Vec<Handle>> {
        let handles = self.shared.engine.list(&filter.0)?;
        Ok(handles.into_iter().map(|handle| self.own(handle)).collect())
    }

    /// Cancels a task. True if it was or will be cancelled, false if it had ended or does not exist.
    ///
    /// Errors: `StoreFailed` if the store cannot be written.
    pub fn cancel(&self, id: TaskId, reason: Option<&str>) -> Result<bool> {
        self.writing(|| self.shared.engine.cancel(id, reason))
    }

    /// Cancels every task that has not ended and that a filter fits; how many were cancelled.
    ///
    /// Errors: `StoreFailed`.
    pub fn cancel_all(&self, filter: &Filter, reason: Option<&str>) -> Result<usize> {
        self.writing(|| self.shared.engine.cancel_all(&filter.0, reason))
    }

    /// Pauses a queue: none of its tasks begins, in any process, until it is resumed. What runs goes on. Whether that
    /// was new.
    ///
    /// ```
    /// use taskloom::{App, Context, State, TaskError};
    /// let app = App::open("memory:")?;
    /// app.task("noop", |_: (), _: &Context| -> Result<(), TaskError> { Ok(()) }).register()?;
    /// let running = app.start()?;
    /// assert!(app.pause("default")?);
    /// let handle = app.submit("noop", &())?;
    /// assert_eq!((handle.state(), app.paused()?), (State::Queued, vec!["default".to_owned()]));
    /// assert!(app.resume("default")?);
    /// handle.wait::<()>()?;
    /// running.stop();
    /// # Ok::<(), taskloom::Error>(())
    /// ```
    ///
    /// Errors: `InvalidOption` for what cannot be the name of a queue; `StoreFailed`.
    pub fn pause(&self, queue: &str) -> Result<bool> {
        let queue = queue_named(queue)?;
        self.writing(|| self.shared.engine.pause(queue))
    }

    /// Lets a paused queue go on; whether it was paused. Errors: as [`App::pause`].
    pub fn resume(&self, queue: &str) -> Result<bool> {
        let queue = queue_named(queue)?;
        self.writing(|| self.shared.engine.resume(queue))
    }

    /// Limits how many tasks run at once, or start in a period: of a handler, of a queue, or with a key. For all
    /// processes that share the store, until it is set again; a limit that limits nothing takes it back. What runs goes
    /// on. Whether that was new.
    ///
    /// ```
    /// use taskloom::{App, Context, Limit, LimitFor, TaskError};
    /// let app = App::open("memory:")?;
    /// app.task("resize", |n: u32, _: &Context| -> Result<u32, TaskError> { Ok(n) }).register()?;
    /// let limit = Limit { concurrency: Some(4), rate: Some("10/s".parse()?) };
    /// assert!(app.limit(LimitFor::Handler("resize".into()), limit)?);
    /// assert!(app.limit(LimitFor::Key("tenant-7".into()), Limit { concurrency: Some(1), rate: None })?);
    /// assert_eq!(app.limits()?.len(), 2);
    /// # Ok::<(), taskloom::Error>(())
    /// ```
    ///
    /// Errors: `InvalidOption` for a limit that lets nothing through; `UnknownHandler` on a memory store; `StoreFailed`.
    pub fn limit(&self, what: LimitFor, limit: Limit) -> Result<bool> {
        self.writing(|| self.shared.engine.limit(what, limit))
    }

    /// The limits that are set, by handlers and by [`App::limit`].
    ///
    /// Errors: `StoreFailed`.
    pub fn limits(&self) -> Result<Vec<LimitRow>> {
        self.shared.engine.limits()
    }

    /// The queues that are paused, by name.
    ///
    /// Errors: `StoreFailed`.
    pub fn paused(&self) -> Result<Vec<String>> {
        Ok(self.shared.engine.paused()?.into_iter().map(|name| name.as_str().to_owned()).collect())
    }

    /// Cancels everything in a queue that is not running; how many were. Errors: as [`App::pause`].
    pub fn purge(&self, queue: &str) -> Result<usize> {
        let queue = queue_named(queue)?;
        self.writing(|| self.shared.engine.purge(queue))
    }

    /// Starts a dead letter over (a task that failed, timed out, was cancelled or expired): a new generation with the same
    /// id, without failures and crashes, and without an expiry or a deadline that has passed. Its errors, its log and its
    /// checkpoint are kept, and the children that it has submitted are found again as they are. The handle is the new
    /// generation's; older ones keep their outcome.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicBool, Ordering};
    /// use std::time::Duration;
    /// use taskloom::{App, Context, Filter, TaskError};
    ///
    /// static MENDED: AtomicBool = AtomicBool::new(false);
    /// let app = App::open("memory:")?;
    /// app.task("fetch", |page: u32, _: &Context| -> Result<u32, TaskError> {
    ///     if MENDED.load(Ordering::SeqCst) { Ok(page) } else { Err(TaskError::new("the server is down")) }
    /// })
    /// .register()?;
    /// let running = app.start()?;
    /// let fetch = app.submit("fetch", &7)?;
    /// assert!(fetch.wait_for::<u32>(Duration::from_secs(5)).is_err());
    /// assert_eq!(app.list(&Filter::new().dead())?.len(), 1);
    ///
    /// MENDED.store(true, Ordering::SeqCst);
    /// let again = app.replay(fetch.id())?;
    /// assert_eq!(again.wait_for::<u32>(Duration::from_secs(5))?, 7);
    /// assert!(fetch.result::<u32>().is_err(), "what came of it first");
    /// running.stop();
    /// # Ok::<(), taskloom::Error>(())
    /// ```
    ///
    /// Errors: `UnknownTask`; `IllegalTransition` if it has not ended, has succeeded or was skipped; `DuplicateKey` if
    /// another task has its unique key now; `ShutDown`; `StoreFailed`.
    pub fn replay(&self, id: TaskId) -> Result<Handle> {
        let handle = self.writing(|| self.shared.engine.replay(id))?;
        Ok(self.own(handle))
    }

    /// Starts over every dead letter that a filter fits; how many. One whose unique key another task has now stays as it
    /// is.
    ///
    /// Errors: `InvalidOption` for a filter by a state in which no dead letter is; `ShutDown`; `StoreFailed`.
    pub fn replay_all(&self, filter: &Filter) -> Result<usize> {
        self.writing(|| self.shared.engine.replay_all(&filter.0))
    }

    /// Forgets a task that has ended, however it did, now. Handles that are held keep its outcome.
    ///
    /// Errors: `UnknownTask`; `IllegalTransition` if it has not ended, or may still be asked for: its parent has not
    /// ended, or it keeps its unique key (`unique_for`); `StoreFailed`.
    pub fn discard(&self, id: TaskId) -> Result<()> {
        self.writing(|| self.shared.engine.discard(id))
    }

    /// Forgets every dead letter that a filter fits, or all that ended in the filter's state, which may be any; how many.
    /// What may still be asked for stays: children whose parent has not ended, and tasks that keep their unique key.
    ///
    /// ```
    /// use taskloom::{App, Context, Filter, TaskError};
    /// let app = App::open("memory:")?;
    /// app.task("noop", |_: (), _: &Context| -> Result<(), TaskError> { Ok(()) }).register()?;
    /// let handle = app.submit("noop", &())?;
    /// assert_eq!(app.discard_all(&Filter::new())?, 0, "it has not ended");
    /// handle.cancel(None)?;
    /// assert_eq!(app.discard_all(&Filter::new())?, 1);
    /// assert!(app.get(handle.id())?.is_none());
    /// # Ok::<(), taskloom::Error>(())
    /// ```
    ///
    /// Errors: `InvalidOption` for a filter by a state in which no task has ended; `StoreFailed`.
    pub fn discard_all(&self, filter: &Filter) -> Result<usize> {
        self.writing(|| self.shared.engine.discard_all(&filter.0))
    }

    /// Forgets tasks that ended longer ago than this; how many.
    ///
    /// Errors: `StoreFailed`.
    pub fn sweep(&self, older_than: Duration) -> Result<usize> {
        self.writing(|| self.shared.engine.sweep(older_than))
    }

    /// Runs one task now, by hand: whatever it waits for (a time, a backoff, a paused queue, workers), and even if the app
    /// was not started.
    ///
    /// ```
    /// use std::time::Duration;
    /// use taskloom::{App, Context, TaskError};
    /// let app = App::open("memory:")?;
    /// app.task("double", |n: u32, _: &Context| -> Result<u32, TaskError> { Ok(n * 2) }).register()?;
    /// let later = app.build("double").input(&21).delay(Duration::from_secs(3600)).submit()?;
    /// assert_eq!(app.run_now(later.id())?.wait_for::<u32>(Duration::from_secs(5))?, 42);
    /// # Ok::<(), taskloom::Error>(())
    /// ```
    ///
    /// Errors: `UnknownTask`; `UnknownHandler` if its handler is not registered here; `IllegalTransition` if it runs or
    /// has ended.
    pub fn run_now(&self, id: TaskId) -> Result<Handle> {
        #[cfg(feature = "async")]
        self.find_lane()?;
        let handle = self.writing(|| self.shared.engine.run_now(id))?;
        Ok(self.own(handle))
    }

    /// The app in figures: tasks by state and queue, what ran here and how fast, what runs right now. Counts of tasks come
    /// from the store, which looks at every one; the rest is at hand.
    ///
    /// ```
    /// use taskloom::{App, Context, Count, State, TaskError};
    /// let app = App::open("memory:")?;
    /// app.task("noop", |_: (), _: &Context| -> Result<(), TaskError> { Ok(()) }).register()?;
    /// let running = app.start()?;
    /// app.submit("noop", &())?.wait::<()>()?;
    /// let stats = app.stats()?;
    /// assert_eq!((stats.tasks.get(State::Succeeded), stats.total.of(Count::Succeeded)), (1, 1));
    /// running.stop();
    /// # Ok::<(), taskloom::Error>(())
    /// ```
    ///
    /// Errors: `StoreFailed`.
    pub fn stats(&self) -> Result<Stats> {
        self.shared.engine.stats()
    }

    /// Whether all is well, and what is not. Its warnings tell of queued tasks that no process runs, and of rows of a file
    /// that make no sense.
    ///
    /// ```
    /// let app = taskloom::App::open("memory:")?;
    /// let health = app.health();
    /// assert!(health.ok && !health.ready, "not started: tasks are taken, and not run");
    /// # Ok::<(), taskloom::Error>(())
    /// ```
    pub fn health(&self) -> Health {
        let mut health = self.shared.engine.health();
        health.warnings.extend(self.shared.relays.warnings());
        health
    }

    /// All handlers, by name and version.
    pub fn handlers(&self) -> Vec<HandlerInfo> {
        let own = |entry: &taskloom_engine::HandlerEntry| HandlerInfo {
            name: entry.name().as_str().to_owned(),
            version: entry.version(),
            is_async: matches!(entry.handler(), Handler::Asynchronous(_)),
            registered: system_time(entry.registered()),
            options: entry.options().clone(),
        };
        self.shared.engine.handlers().iter().map(|entry| own(entry)).collect()
    }

    fn own(&self, handle: taskloom_engine::Handle) -> Handle {
        Handle::new(handle, self.downgrade())
    }

    /// Makes a call that waits for the disk, if the store has one.
    fn writing<T>(&self, call: impl FnOnce() -> T) -> T {
        in_place(self.shared.engine.is_durable(), call)
    }
}

fn queue_named(name: &str) -> Result<Name> {
    check_name("queue", name)?;
    Ok(Name::new(name))
}
