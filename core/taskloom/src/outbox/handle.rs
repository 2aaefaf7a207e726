//! The handle of a task that is a row of an outbox, as long as it is one.
//!
//! # How it hears
//! A relay of the same app tells [`Arrivals`] when it has submitted rows. Rows may be relayed by another process too, so
//! whoever waits also asks the store every [`LOOK`]: a thread by itself; for futures, which have no timer on an executor
//! that we do not know, a helper thread does, from when the first waits until none does.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use serde::de::DeserializeOwned;
use taskloom_engine::{Clock, SystemClock, spawn_thread};
use taskloom_model::{Code, Error, Result, TaskId};

use super::Row;
use crate::Handle;
use crate::app::WeakApp;
use crate::helpers::no_thread;
use crate::submit::in_place;
use crate::waiting::{Wakers, wake_all};

/// How often the store is asked whether another process has relayed the row.
const LOOK: Duration = Duration::from_millis(50);

/// Who waits for rows to be relayed.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    state: Mutex<Waiters>,
    told: Condvar,
}

#[derive(Debug, Default)]
struct Waiters {
    /// How often something was told.
    round: u64,
    wakers: Wakers,
    /// Whether there is a thread that looks for those who are awaited.
    has_helper: bool,
}

impl Arrivals {
    /// Rows were relayed.
    pub(super) fn tell(&self) {
        let waiting = {
            let mut state = self.state.lock();
            state.round += 1;
            state.wakers.take()
        };
        self.told.notify_all();
        wake_all(waiting);
    }

    fn round(&self) -> u64 {
        self.state.lock().round
    }

    /// Waits until something is told after this round, for at most so long.
    fn wait(&self, round: u64, span: Duration) {
        let mut state = self.state.lock();
        if state.round == round {
            self.told.wait_for(&mut state, span);
        }
    }

    /// Has the waker called when it is time to look again.
    fn register(self: &Arc<Self>, place: &mut Option<u64>, cx: &Context<'_>) -> Result<()> {
        let mut state = self.state.lock();
        state.wakers.register(place, cx.waker());
        if !std::mem::replace(&mut state.has_helper, true) {
            drop(state);
            let own = Arc::clone(self);
            spawn_thread("taskloom-arrive", move || own.look_for_them()).map_err(|error| {
                self.state.lock().has_helper = false;
                no_thread(error)
            })?;
        }
        Ok(())
    }

    fn leave(&self, place: Option<u64>) {
        if place.is_some() {
            let waker = self.state.lock().wakers.remove(place);
            drop(waker);
        }
    }

    /// The helper's life.
    fn look_for_them(&self) {
        let mut round = self.round();
        loop {
            self.wait(round, LOOK);
            let waiting = {
                let mut state = self.state.lock();
                round = state.round;
                let waiting = state.wakers.take();
                if waiting.is_empty() {
                    state.has_helper = false;
                    return;
                }
                waiting
            };
            wake_all(waiting);
        }
    }
}

/// What a submit inside your own transaction returns: the handle of a task that is to be.
///
/// Its [id](OutboxHandle::id) is right at once. Until the transaction has been committed and the row relayed there is no
/// task; [`OutboxHandle::task`] gives its handle from then on. If the transaction is rolled back that never comes, so waits
/// have a limit. With a unique key that is taken, the task that has it stands for the row, and none gets the row's id.
#[derive(Clone)]
pub struct OutboxHandle {
    app: WeakApp,
    id: TaskId,
    name: String,
    found: OnceLock<Handle>,
}

impl OutboxHandle {
    pub(super) fn new(app: WeakApp, row: Row) -> Self {
        let id = row.id.parse().expect("a row that was made here has the id of a task");
        Self { app, id, name: row.name, found: OnceLock::new() }
    }

    /// The row's id, which is going to be the task's.
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// The name of its handler.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The task, if the row has been relayed.
    ///
    /// Errors: `StoreFailed`; `ShutDown` if the app is gone.
    pub fn task(&self) -> Result<Option<Handle>> {
        if self.found.get().is_none() {
            let app = self.app.need()?;
            if let Some(handle) = in_place(app.shared.engine.is_durable(), || app.get(self.id))? {
                let _ = self.found.set(handle);
            }
        }
        Ok(self.found.get().cloned())
    }

    /// Whether there never will be, since nothing here can relay it.
    fn ended(&self) -> Option<Error> {
        let app = self.app.upgrade()?;
        app.shared.engine.is_stopped().then(|| {
            Error::new(Code::ShutDown, format!("the app stopped before the row {} was relayed", self.id))
        })
    }

    /// Blocks until the row has been relayed, at most so long.
    ///
    /// Errors: `WaitTimeout`; `ShutDown`; `StoreFailed`.
    pub fn task_within(&self, timeout: Duration) -> Result<Handle> {
        let end = SystemClock.monotonic().saturating_add(timeout);
        let arrivals = Arc::clone(&self.app.need()?.shared.relays.arrivals);
        loop {
            let round = arrivals.round();
            if let Some(handle) = self.task()? {
                return Ok(handle);
            }
            if let Some(error) = self.ended() {
                return Err(error);
            }
            let left = end.saturating_sub(SystemClock.monotonic());
            // In testing mode nothing is relayed while the test waits.
            if left.is_zero() || self.app.need()?.shared.engine.is_driven() {
                let message = format!("the row {} has not been relayed in time", self.id);
                return Err(Error::new(Code::WaitTimeout, message)
                    .hint("is its transaction committed, and does a relay run? App::outbox"));
            }
            in_place(true, || arrivals.wait(round, left.min(LOOK)));
        }
    }

    /// Resolves when the row has been relayed, on any executor; never if the transaction is rolled back, so give it a limit
    /// of your executor's. Dropping the future leaves the row alone.
    ///
    /// Errors: `ShutDown`; `StoreFailed`.
    pub fn task_async(&self) -> impl Future<Output = Result<Handle>> + Send + use<> {
        Relayed { handle: self.clone(), place: None }
    }

    /// Blocks until the row has been relayed and its task has a result, at most so long.
    ///
    /// Errors: those of [`OutboxHandle::task_within`] and of [`Handle::wait_for`].
    pub fn wait_for<T: DeserializeOwned>(&self, timeout: Duration) -> Result<T> {
        let end = SystemClock.monotonic().saturating_add(timeout);
        let handle = self.task_within(timeout)?;
        handle.wait_for(end.saturating_sub(SystemClock.monotonic()))
    }

    /// Resolves when the row has been relayed and its task has a result, on any executor. See
    /// [`OutboxHandle::task_async`].
    ///
    /// Errors: its, and those of [`Handle::wait`].
    pub fn wait_async<T: DeserializeOwned>(&self) -> impl Future<Output = Result<T>> + Send + use<T> {
        let relayed = self.task_async();
        async move { relayed.await?.wait_async().await }
    }
}

impl fmt::Debug for OutboxHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboxHandle")
            .field("name", &self.name)
            .field("id", &self.id)
            .field("task", &self.found.get())
            .finish_non_exhaustive()
    }
}

/// A row that is awaited.
struct Relayed {
    handle: OutboxHandle,
    place: Option<u64>,
}

impl Future for Relayed {
    type Output = Result<Handle>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let look = |this: &mut Self| -> Result<Option<Handle>> {
            let arrivals = Arc::clone(&this.handle.app.need()?.shared.relays.arrivals);
            // First there, then to look: so it finds the row or is found.
            arrivals.register(&mut this.place, cx)?;
            match this.handle.task()? {
                None => this.handle.ended().map_or(Ok(None), Err),
                found => Ok(found),
            }
        };
        match look(this) {
            Ok(None) => Poll::Pending,
            Ok(Some(handle)) => Poll::Ready(Ok(handle)),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl Drop for Relayed {
    fn drop(&mut self) {
        if let Some(app) = self.handle.app.upgrade() {
            app.shared.relays.arrivals.leave(self.place);
        }
    }
}
