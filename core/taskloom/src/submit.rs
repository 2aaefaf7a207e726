//! How tasks come in: one, many, with options, from outside and from inside a handler.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use taskloom_engine::{Attempt, HandlerEntry, fresh_id};
use taskloom_model::{
    Admission, Bytes, Code, Error, OnConflict, Options, Priority, Rate, Result, RetryPolicy, TaskId, Version,
    When,
};

use crate::attempts::is_polling;
use crate::execute::encode;
#[cfg(feature = "async")]
pub(crate) use crate::lane::in_place;
use crate::outbox::{Row, check_no_child, prepare};
use crate::time::timestamp;
use crate::waiting::oneshot;
use crate::{App, Handle};

/// Makes a call that may wait for a disk.
#[cfg(not(feature = "async"))]
pub(crate) fn in_place<T>(_may_wait: bool, call: impl FnOnce() -> T) -> T {
    call()
}

impl App {
    /// Submits a task with its handler's options. When it returns, the task is as durable as the store: on a file, it is
    /// on disk.
    ///
    /// In an async program, [`App::submit_async`] does the same without keeping a thread waiting.
    ///
    /// On a file the handler may be another process's: any name is taken that some process has ever registered there. It
    /// is submitted with the usual options then, since the handler's own are known only where it is. See
    /// [`TaskBuilder::allow_unknown`].
    ///
    /// Errors: `UnknownHandler`, with the nearest name; `NotEncodable`; `PayloadTooLarge` over 4 MiB; `QueueFull`;
    /// `MissingMetadata`; `ShutDown`; `StoreFailed`.
    pub fn submit<I: Serialize + ?Sized>(&self, name: &str, input: &I) -> Result<Handle> {
        let entry = self.shared.engine.handler_anywhere(name, false)?;
        let payload = encode_input(name, input)?;
        if self.shared.demands_metadata {
            let admission = self.shared.engine.admission(entry.options())?;
            return self.insert(&entry, &admission, payload.into());
        }
        self.insert(&entry, entry.admission(), payload.into())
    }

    /// Submits many tasks of one handler: all or none, in one transaction. See [`App::submit`].
    ///
    /// ```
    /// use taskloom::{App, Context, TaskError};
    /// let app = App::open("memory:")?;
    /// app.task("square", |n: u64, _: &Context| -> Result<u64, TaskError> { Ok(n * n) }).register()?;
    /// let running = app.start()?;
    /// let handles = app.submit_many("square", &[1, 2, 3])?;
    /// let squares = handles.iter().map(|handle| handle.wait::<u64>()).collect::<Result<Vec<_>, _>>()?;
    /// assert_eq!(squares, [1, 4, 9]);
    /// running.stop();
    /// # Ok::<(), taskloom::Error>(())
    /// ```
    pub fn submit_many<I: Serialize>(&self, name: &str, inputs: &[I]) -> Result<Vec<Handle>> {
        self.build(name).submit_many(inputs)
    }

    /// Submits a task without blocking the thread that awaits it, on any executor. See [`App::submit`]. Where a memory
    /// store is full it fails with `QueueFull`, also if the app waits for room otherwise.
    ///
    /// If the future is dropped before it is ready, the task may or may not have been accepted.
    pub async fn submit_async<I: Serialize + ?Sized>(&self, name: &str, input: &I) -> Result<Handle> {
        // Encoded before the first await, so that the future need not hold the input.
        let builder = self.build(name).input(input);
        builder.submit_async().await
    }

    /// Submits a task with options of its own; see [`TaskBuilder`].
    pub fn build(&self, name: &str) -> TaskBuilder {
        TaskBuilder::new(Ok(self.clone()), name, None)
    }

    fn insert(&self, entry: &HandlerEntry, admission: &Admission, payload: Bytes) -> Result<Handle> {
        let engine = &self.shared.engine;
        let inside = is_polling();
        let handle =
            in_place(engine.is_durable(), || engine.submit(entry, admission, payload, None, inside))?;
        self.submitted()?;
        Ok(Handle::new(handle, self.downgrade()))
    }
}

impl App {
    /// Something was submitted.
    pub(crate) fn submitted(&self) -> Result<()> {
        if self.shared.inline { self.shared.engine.drain().map(drop) } else { Ok(()) }
    }
}

fn encode_input<I: Serialize + ?Sized>(name: &str, input: &I) -> Result<Box<[u8]>> {
    encode(&format!("the input for {name}"), input)
}

/// A task about to be submitted: whatever is not said here comes from its handler's options, and then from the usual.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use taskloom::{App, Context, OnConflict, Priority, State, TaskError};
///
/// let app = App::open("memory:")?;
/// app.task("report", |month: String, _: &Context| -> Result<(), TaskError> { Ok(drop(month)) }).register()?;
/// let report = || {
///     app.build("report")
///         .input("2026-03")
///         .queue("slow")
///         .priority(Priority::Low)
///         .eta(SystemTime::now() + Duration::from_secs(3600))
///         .expires(Duration::from_secs(86_400))
///         .retries(5)
///         .tags(["monthly", "finance"])
///         .metadata("initiator", "ada")
///         .unique_key("report-2026-03")
/// };
/// let handle = report().submit()?;
/// assert_eq!(handle.state(), State::Pending);
/// // The key is taken: the same task comes back, or the submit is refused.
/// assert_eq!(report().submit()?.id(), handle.id());
/// assert!(report().on_conflict(OnConflict::Reject).submit().is_err());
/// # Ok::<(), taskloom::Error>(())
/// ```
#[must_use = "call submit()"]
pub struct TaskBuilder {
    app: Result<App>,
    /// The parent.
    attempt: Option<Attempt>,
    detached: bool,
    allow_unknown: bool,
    name: String,
    payload: Option<Result<Box<[u8]>>>,
    version: Option<Result<Version>>,
    options: Options,
}

impl TaskBuilder {
    pub(crate) fn new(app: Result<App>, name: &str, attempt: Option<Attempt>) -> Self {
        Self {
            app,
            attempt,
            detached: false,
            allow_unknown: false,
            name: name.to_owned(),
            payload: None,
            version: None,
            options: Options::default(),
        }
    }

    /// What the handler is given; `null` if left out.
    pub fn input<I: Serialize + ?Sized>(mut self, input: &I) -> Self {
        self.payload = Some(encode_input(&self.name, input));
        self
    }

    /// Its own id; made if not given. A task with this id must not exist.
    pub fn id(mut self, id: TaskId) -> Self {
        self.options.id = Some(id);
        self
    }

    /// Its queue.
    pub fn queue(mut self, queue: &str) -> Self {
        self.options.queue = Some(queue.to_owned());
        self
    }

    /// Its priority.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.options.priority = Some(priority);
        self
    }

    /// Not before this time from now.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.options.eta = Some(When::In(delay));
        self
    }

    /// Not before this point in time; a past one means now.
    pub fn eta(mut self, at: SystemTime) -> Self {
        self.options.eta = Some(When::At(timestamp(at)));
        self
    }

    /// Expired if not started in this time from now.
    pub fn expires(mut self, span: Duration) -> Self {
        self.options.expires = Some(When::In(span));
        self
    }

    /// Expired if not started by this point in time.
    pub fn expires_at(mut self, at: SystemTime) -> Self {
        self.options.expires = Some(When::At(timestamp(at)));
        self
    }

    /// How long one attempt may take.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = Some(timeout);
        self
    }

    /// How long it may take in total, from now, retries included.
    pub fn deadline(mut self, span: Duration) -> Self {
        self.options.deadline = Some(When::In(span));
        self
    }

    /// By when it must have ended, retries included.
    pub fn deadline_at(mut self, at: SystemTime) -> Self {
        self.options.deadline = Some(When::At(timestamp(at)));
        self
    }

    /// How many failures are followed by another attempt.
    pub fn retries(mut self, retries: u32) -> Self {
        self.options.retries = Some(retries);
        self
    }

    /// The waits between attempts.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.options.retry = Some(policy);
        self
    }

    /// How many lost worker processes make it fail.
    pub fn max_crashes(mut self, crashes: u8) -> Self {
        self.options.max_crashes = Some(crashes);
        self
    }

    /// A word to find it by. Once any is given here, the handler's own do not apply.
    pub fn tag(mut self, tag: &str) -> Self {
        self.options.tags.push(tag.to_owned());
        self
    }

    /// Words to find it by. Once any is given here, the handler's own do not apply.
    pub fn tags<'t>(mut self, tags: impl IntoIterator<Item = &'t str>) -> Self {
        self.options.tags.extend(tags.into_iter().map(str::to_owned));
        self
    }

    /// The key under which it takes turns with all other tasks that have it.
    ///
    /// ```
    /// use taskloom::{App, Context, TaskError};
    /// let app = App::open("memory:")?;
    /// app.task("report", |month: u32, _: &Context| -> Result<u32, TaskError> { Ok(month) })
    ///     .keyed()
    ///     .concurrency(1)
    ///     .register()?;
    /// let running = app.start()?;
    /// let handle = app.build("report").input(&5).key("tenant-7").submit()?;
    /// assert_eq!(handle.wait::<u32>()?, 5);
    /// # running.stop();
    /// # Ok::<(), taskloom::Error>(())
    /// ```
    pub fn key(mut self, key: &str) -> Self {
        self.options.key = Some(key.to_owned());
        self
    }

    /// How many tasks with its key may run at once.
    pub fn concurrency(mut self, most: u32) -> Self {
        self.options.concurrency = Some(most);
        self
    }

    /// How many tasks with its key may start in a period.
    pub fn rate(mut self, rate: Rate) -> Self {
        self.options.rate = Some(rate);
        self
    }

    /// At most one unfinished task of its handler has this key. [`TaskBuilder::on_conflict`] says what happens to a
    /// second one.
    pub fn unique_key(mut self, key: &str) -> Self {
        self.options.unique_key = Some(key.to_owned());
        self
    }

    /// The unique key is taken for so long after the submit, even when the task has ended.
    pub fn unique_for(mut self, span: Duration) -> Self {
        self.options.unique_for = Some(span);
        self
    }

    /// What this submit does if its unique key is taken: return the task that has it (the usual), replace that one, or
    /// fail with `DuplicateKey`.
    pub fn on_conflict(mut self, what: OnConflict) -> Self {
        self.options.on_conflict = Some(what);
        self
    }

    /// A fact to find and explain it by; call it once for each. The same key again replaces the value.
    pub fn metadata(mut self, key: &str, value: &str) -> Self {
        self.options.metadata.retain(|(own, _)| own != key);
        self.options.metadata.push((key.to_owned(), value.to_owned()));
        self
    }

    /// What ties the tasks of one request together.
    pub fn correlation_id(mut self, id: &str) -> Self {
        self.options.correlation_id = Some(id.to_owned());
        self
    }

    /// The W3C trace context, as the header `traceparent` has it.
    pub fn traceparent(mut self, header: &str) -> Self {
        self.options.traceparent = Some(header.to_owned());
        self
    }

    /// The version of the handler that runs it, such as `1.2.0`; the newest if not given.
    pub fn version(mut self, version: &str) -> Self {
        self.version = Some(version.parse());
        self
    }

    /// On a file that processes share: accepted also if no process has ever registered a handler of this name there. The
    /// task stays queued until one does; until then [`App::health`] tells of it. In memory, where nobody else could, the
    /// submit is refused all the same.
    ///
    /// ```
    /// use taskloom::{App, State};
    /// let folder = tempfile::tempdir().unwrap();
    /// let app = App::open(&format!("sqlite:{}", folder.path().join("tasks.db").display()))?;
    /// assert!(app.submit("resize", &"a.png").is_err());
    /// let handle = app.build("resize").input(&"a.png").allow_unknown().submit()?;
    /// assert_eq!(handle.state(), State::Queued);
    /// let health = app.health();
    /// assert_eq!((health.unserved[0].name.as_str(), health.unserved[0].count), ("resize", 1));
    /// # Ok::<(), taskloom::Error>(())
    /// ```
    pub fn allow_unknown(mut self) -> Self {
        self.allow_unknown = true;
        self
    }

    /// For a child: it goes on when its parent is cancelled.
    pub fn detached(mut self) -> Self {
        self.detached = true;
        self
    }

    /// Submits it. See [`App::submit`], and for children [`Context::submit`](crate::Context::submit).
    ///
    /// Errors: theirs, and `InvalidOption` for an option that makes no sense, `DuplicateKey`, `DuplicateId`.
    pub fn submit(self) -> Result<Handle> {
        let Ready { app, entry, admission, payload, attempt, detached, .. } = self.ready()?;
        let payload = payload.unwrap_or_else(|| Ok(Box::from(*b"null")))?;
        let Some(attempt) = attempt else { return app.insert(&entry, &admission, payload.into()) };
        let handle = in_place(app.shared.engine.is_durable(), || {
            attempt.submit(&entry, &admission, payload.into(), None, detached)
        })?;
        app.submitted()?;
        Ok(Handle::new(handle, app.downgrade()))
    }

    /// The submit as a row of an outbox, for you to insert inside a transaction of your own, with a driver that
    /// [`TaskBuilder::tx`] does not know; see [`outbox`](crate::outbox). Not for children.
    ///
    /// Errors: those of [`TaskBuilder::submit`], but for what only the store can tell.
    pub fn outbox_row(self) -> Result<Row> {
        self.row_of_outbox().map(|(_, row)| row)
    }

    pub(crate) fn row_of_outbox(mut self) -> Result<(App, Row)> {
        let payload = self.payload.take().unwrap_or_else(|| Ok(Box::from(*b"null")))?;
        let (app, mut rows) = self.rows_of([payload])?;
        Ok((app, rows.remove(0)))
    }

    pub(crate) fn rows_of_outbox<I: Serialize>(self, inputs: &[I]) -> Result<(App, Vec<Row>)> {
        let name = self.name.clone();
        let payloads = inputs.iter().map(|input| encode_input(&name, input)).collect::<Result<Vec<_>>>()?;
        self.rows_of(payloads)
    }

    fn rows_of(self, payloads: impl IntoIterator<Item = Box<[u8]>>) -> Result<(App, Vec<Row>)> {
        let (allow_unknown, name) = (self.allow_unknown, self.name.clone());
        check_no_child(self.attempt.is_some())?;
        let Ready { app, entry, options, .. } = self.ready()?;
        let now = app.shared.engine.now();
        let row = |payload: Box<[u8]>| {
            prepare((&name, &payload), (&options, entry.options()), allow_unknown, &[], fresh_id(now), now)
        };
        let rows = payloads.into_iter().map(row).collect::<Result<_>>()?;
        Ok((app, rows))
    }

    /// Submits many tasks with these options: all or none, in one transaction. Not for children.
    ///
    /// Errors: those of [`TaskBuilder::submit`].
    pub fn submit_many<I: Serialize>(self, inputs: &[I]) -> Result<Vec<Handle>> {
        let name = self.name.clone();
        let payloads = inputs.iter().map(|input| encode_input(&name, input)).collect::<Result<Vec<_>>>()?;
        let Ready { app, entry, admission, attempt, .. } = self.ready()?;
        if attempt.is_some() {
            return Err(Error::new(Code::NotAvailable, "children are submitted one by one in this version"));
        }
        let payloads = payloads.into_iter().map(|payload| (payload.into(), None));
        let engine = &app.shared.engine;
        let inside = is_polling();
        let handles =
            in_place(engine.is_durable(), || engine.submit_many(&entry, &admission, payloads, inside))?;
        app.submitted()?;
        Ok(handles.into_iter().map(|handle| Handle::new(handle, app.downgrade())).collect())
    }

    /// Submits it without blocking the thread that awaits it. See [`App::submit_async`].
    ///
    /// A child of an async handler is submitted on the spot, while the runtime's other tasks go on: the order of children
    /// must not depend on chance.
    ///
    /// Errors: those of [`TaskBuilder::submit`].
    pub async fn submit_async(self) -> Result<Handle> {
        if self.attempt.is_some() {
            return self.submit();
        }
        let (app, answer) = {
            let Ready { app, entry, admission, payload, .. } = self.ready()?;
            let payload = payload.unwrap_or_else(|| Ok(Box::from(*b"null")))?;
            let (give, take) = oneshot();
            // An engine that waits for room would do so on this thread; it does not for what comes from inside.
            let inside = is_polling() || app.shared.wait_when_full;
            app.shared.engine.submit_then(
                &entry,
                &admission,
                std::iter::once((payload.into(), None)),
                inside,
                Box::new(move |verdict| give.give(verdict)),
            )?;
            app.submitted()?;
            (app.downgrade(), take)
        };
        let gone = || Error::new(Code::ShutDown, "the engine ended before it answered");
        let handle = answer.await.ok_or_else(gone)??.pop().ok_or_else(gone)?;
        Ok(Handle::new(handle, app))
    }

    fn ready(mut self) -> Result<Ready> {
        let app = self.app?;
        let engine = &app.shared.engine;
        let version = self.version.transpose()?;
        self.options.version = version;
        let entry = match version {
            Some(version) if engine.has_handler(&self.name) => engine.handler_version(&self.name, version)?,
            _ => engine.handler_anywhere(&self.name, self.allow_unknown)?,
        };
        let admission = engine.admission_for(&self.options, &entry)?;
        if self.detached && self.attempt.is_none() {
            return Err(Error::new(Code::InvalidOption, "detached is set, and the task is no child")
                .hint("children are submitted with Context::build"));
        }
        let (options, payload, attempt, detached) = (self.options, self.payload, self.attempt, self.detached);
        Ok(Ready { app, entry, options, admission, payload, attempt, detached })
    }
}

impl std::fmt::Debug for TaskBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskBuilder").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A submit whose options make sense.
struct Ready {
    app: App,
    entry: Arc<HandlerEntry>,
    /// Its own, as they were said.
    options: Options,
    admission: Admission,
    payload: Option<Result<Box<[u8]>>>,
    attempt: Option<Attempt>,
    detached: bool,
}
