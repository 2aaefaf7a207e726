//! What a submitter holds.
//!
//! # Awaiting
//! A handle is awaited without a thread and on any executor: the task's observer wakes whoever waits. A handle observes
//! its task once, however often it is awaited, and a future that is dropped leaves the list of those who wait; so a
//! `select!` in a loop costs nothing that stays. Dropping the future leaves the task alone.
//!
//! Awaited inside an async handler, a handle lends that handler's place in flight for as long as it waits, so a parent can
//! wait for its child with `max_in_flight` of one.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use serde::de::DeserializeOwned;
use taskloom_model::{Code, Error, Result, State, TaskId};
use taskloom_store::Task;

use crate::app::WeakApp;
use crate::attempts::{Lent, is_polling};
use crate::execute::{Returned, decode};
use crate::info::{self, LogLine, Progress, TaskFailure, TaskInfo};
use crate::submit::in_place;
use crate::waiting::Once;

/// A submitted task. Dropping it leaves the task alone; holding it keeps the task's own outcome, even when the app is
/// gone. A clone is the same task.
///
/// ```
/// use std::time::Duration;
/// use taskloom::{App, Code, Context, TaskError};
///
/// let app = App::open("memory:")?;
/// app.task("parse", |text: String, _: &Context| -> Result<u32, TaskError> { Ok(text.parse()?) }).register()?;
/// let running = app.start()?;
/// let good: u32 = app.submit("parse", "42")?.wait_for(Duration::from_secs(5))?;
/// assert_eq!(good, 42);
/// let bad = app.submit("parse", "forty-two")?;
/// let error = bad.wait::<u32>().unwrap_err();
/// assert_eq!(error.code(), Code::TaskFailed);
/// assert_eq!(bad.errors()[0].kind, "core::num::error::ParseIntError");
/// running.stop();
/// # Ok::<(), taskloom::Error>(())
/// ```
///
/// Awaited, it resolves to what the handler returned, still encoded, or to how the task ended otherwise;
/// [`Handle::wait_async`] decodes it too:
///
/// ```
/// # use taskloom::{App, Context, TaskError};
/// # fn block_on<T>(future: impl Future<Output = T>) -> T {
/// #     tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
/// # }
/// # let app = App::open("memory:")?;
/// # app.task("double", |n: u32, _: &Context| -> Result<u32, TaskError> { Ok(n * 2) }).register()?;
/// # let running = app.start()?;
/// # block_on(async {
/// let handle = app.submit_async("double", &21).await?;
/// let doubled: u32 = handle.wait_async().await?;
/// assert_eq!(doubled, 42);
/// assert_eq!(handle.await?.json(), "42");
/// # Ok::<(), taskloom::Error>(())
/// # })?;
/// # running.stop();
/// # Ok::<(), taskloom::Error>(())
/// ```
#[derive(Clone)]
pub struct Handle {
    handle: taskloom_engine::Handle,
    app: WeakApp,
    /// The end of the task, once somebody awaits it.
    end: OnceLock<Arc<Once>>,
}

impl Handle {
    pub(crate) fn new(handle: taskloom_engine::Handle, app: WeakApp) -> Self {
        Self { handle, app, end: OnceLock::new() }
    }

    /// The task's id.
    pub fn id(&self) -> TaskId {
        self.handle.id()
    }

    /// The handler's name.
    pub fn name(&self) -> &str {
        self.handle.task().spec().name.as_str()
    }

    /// Where the task is in its life, as last committed.
    pub fn state(&self) -> State {
        self.handle.state()
    }

    /// Whether there is an outcome.
    pub fn is_done(&self) -> bool {
        self.handle.is_done()
    }

    // ── its outcome ─────────────────────────────────────────────────────────────────────────────────────────────

    /// Blocks until there is a result, at most so long. On a worker thread, its place is lent to another meanwhile.
    ///
    /// Errors: `WaitTimeout`, and the task goes on; or how it ended: `TaskFailed`, `TaskTimedOut`, `TaskCancelled`,
    /// `TaskExpired`, `ShutDown`; `WrongType` if the result is not a `T`; `WouldDeadlock` in an async handler, which
    /// must await what an async handler runs.
    pub fn wait_for<T: DeserializeOwned>(&self, timeout: Duration) -> Result<T> {
        self.check_may_block()?;
        self.handle.wait(Some(timeout))?;
        self.result()
    }

    /// Blocks until there is a result. See [`Handle::wait_for`]; refused with `WouldDeadlock` also where nobody could ever
    /// run the task: in memory, before [`App::start`](crate::App::start).
    pub fn wait<T: DeserializeOwned>(&self) -> Result<T> {
        self.check_may_block()?;
        self.handle.wait(None)?;
        self.result()
    }

    /// Resolves when there is a result, on any executor. Dropping the future leaves the task alone.
    ///
    /// Errors: those of [`Handle::wait`].
    pub fn wait_async<T: DeserializeOwned>(&self) -> Typed<T> {
        Typed { waiting: Waiting::new(self.clone()), wanted: PhantomData }
    }

    /// The result, if it is there; without waiting.
    ///
    /// Errors: `WaitTimeout` if there is none yet, otherwise those of [`Handle::wait_for`].
    pub fn result<T: DeserializeOwned>(&self) -> Result<T> {
        decode("the result", &self.handle.outcome()?)
    }

    /// Calls `done` once when there is an outcome: on the thread that brings it, or here if it is there. It must not
    /// block. It should not hold the app, but [weakly](crate::App::downgrade).
    pub fn on_done(&self, done: impl FnOnce(&Self) + Send + 'static) {
        let own = self.clone();
        self.handle.observe(move |_| done(&own));
    }

    /// Cancels the task. True if it was or will be cancelled, false if it had ended, or its app has.
    ///
    /// Errors: `StoreFailed` if the store cannot be written.
    pub fn cancel(&self, reason: Option<&str>) -> Result<bool> {
        self.handle.cancel(reason)
    }

    // ── looking at it ───────────────────────────────────────────────────────────────────────────────────────────

    /// The task as it is now: on a file, as it is stored, since another process may run it.
    fn fresh(&self) -> &Task {
        in_place(self.handle.may_be_stale(), || self.handle.refresh());
        self.handle.task()
    }

    /// All there is to know about it, at this moment.
    pub fn info(&self) -> TaskInfo {
        self.fresh();
        TaskInfo::of(self.handle.task())
    }

    /// How far it said it is, if it has said so.
    pub fn progress(&self) -> Option<Progress> {
        self.fresh().with_row(|row| {
            row.history.as_ref().and_then(|history| history.newest_progress()).map(info::one_progress)
        })
    }

    /// What it said about how far it is, oldest first.
    pub fn progress_history(&self) -> Vec<Progress> {
        self.fresh().with_row(info::progress)
    }

    /// What its handler logged, oldest first.
    pub fn log(&self) -> Vec<LogLine> {
        self.fresh().with_row(info::log)
    }

    /// Every failed attempt's error, oldest first.
    pub fn errors(&self) -> Vec<TaskFailure> {
        self.fresh().with_row(info::errors)
    }

    /// The tasks that its handler submitted, in that order; none once the app is gone.
    ///
    /// Errors: `StoreFailed`.
    pub fn children(&self) -> Result<Vec<Self>> {
        let children = self.handle.children()?;
        Ok(children.into_iter().map(|child| Self::new(child, self.app.clone())).collect())
    }

    /// The facts that it was submitted with.
    pub fn metadata(&self) -> &[(String, String)] {
        self.handle.task().spec().rare.as_deref().map_or(&[], |rare| &rare.metadata)
    }

    /// What its handler noted beside the result, under a key.
    ///
    /// Errors: `WrongType` if it is not a `T`.
    pub fn result_metadata<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let json = self
            .fresh()
            .with_row(|row| row.history.as_ref().and_then(|history| history.result_metadata.clone()));
        info::noted(json.as_deref(), key)
    }

    /// Refuses to block a thread of the lane for a task that the lane must run.
    fn check_may_block(&self) -> Result<()> {
        if is_polling()
            && !self.is_done()
            && self.app.upgrade().is_some_and(|app| app.shared.engine.runs_on_loop(&self.handle))
        {
            let message = format!(
                "an async handler may not block for task {}, which needs a thread of the same runtime",
                self.id()
            );
            return Err(Error::new(Code::WouldDeadlock, message).hint("await the handle"));
        }
        Ok(())
    }

    fn end(&self) -> &Arc<Once> {
        self.end.get_or_init(|| {
            let end = Arc::new(Once::default());
            let own = Arc::clone(&end);
            self.handle.observe(move |_| own.happen());
            end
        })
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}

impl IntoFuture for Handle {
    type Output = Result<Returned>;
    type IntoFuture = Waiting;

    fn into_future(self) -> Waiting {
        Waiting::new(self)
    }
}

impl IntoFuture for &Handle {
    type Output = Result<Returned>;
    type IntoFuture = Waiting;

    fn into_future(self) -> Waiting {
        Waiting::new(self.clone())
    }
}

/// A handle that is awaited.
#[must_use = "it does nothing unless awaited"]
pub struct Waiting {
    handle: Handle,
    place: Option<u64>,
    /// The place in flight of the handler that waits.
    lent: Option<Lent>,
    checked: bool,
}

impl Waiting {
    fn new(handle: Handle) -> Self {
        Self { handle, place: None, lent: None, checked: false }
    }
}

impl Future for Waiting {
    type Output = Result<Returned>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Returned>> {
        let this = &mut *self;
        if !std::mem::replace(&mut this.checked, true)
            && let Err(error) = this.handle.handle.check_waitable()
        {
            return Poll::Ready(Err(error));
        }
        if this.handle.end().poll(&mut this.place, cx.waker()).is_ready() {
            this.lent = None;
            return Poll::Ready(this.handle.handle.outcome().map(Returned));
        }
        if this.lent.is_none() {
            this.lent = Lent::here(&this.handle.handle);
        }
        Poll::Pending
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(end) = self.handle.end.get() {
            end.leave(self.place);
        }
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Waiting").field(&self.handle).finish()
    }
}

/// A handle that is awaited for a result of one type; see [`Handle::wait_async`].
#[must_use = "it does nothing unless awaited"]
pub struct Typed<T> {
    waiting: Waiting,
    wanted: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Future for Typed<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        Pin::new(&mut self.waiting).poll(cx).map(|returned| returned?.get())
    }
}

impl<T> fmt::Debug for Typed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.waiting.fmt(f)
    }
}
