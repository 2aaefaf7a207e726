//! The lane of async handlers: a tokio runtime that the app owns.
//!
//! # How a task gets here
//! The engine wakes the lane at most once until somebody has looked; the wake spawns one small task, which takes as many
//! tasks as there are places in flight and spawns each as a [`Job`]. Nothing polls, and a burst costs one wake.
//!
//! # Invariants
//! * A job reports at most once. It drops the handler's future first, so whatever that held is free again when others
//!   hear of the outcome. A panic, in the handler or in what it drops, is an outcome.
//! * A job whose attempt was called off drops the future ([`crate::attempts`] says when) and reports nothing: there is
//!   no outcome that could be too late. One that comes to its end all the same, though it was called off, reports that,
//!   and the engine refuses the report.
//! * The lane holds the app weakly; the engine holds the lane and lets go of it when it stops.
//!
//! # The end
//! With the lane goes the runtime, and with it every job that is left. Whoever lets go of it waits for the runtime's
//! threads, a second at most, since a handler may block one; on one of those threads it cannot wait, and they end by
//! themselves. In the context of another runtime, where tokio forbids that wait, a thread of its own does it.

use std::cell::Cell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::task::{Context as Cx, Poll};
use std::time::Duration;

use taskloom_engine::{Completion, Handler, LoopHost, Outcome, Started, spawn_thread};
use taskloom_model::Result;
use tokio::runtime::{Builder, Handle as Tokio, Runtime};

use crate::Context;
use crate::app::WeakApp;
use crate::attempts::{Attempts, Slot, enter, is_polling};
use crate::execute::AsyncHandler;
use crate::helpers::no_thread;

/// How long the threads of a runtime that ends are waited for.
const LINGER: Duration = Duration::from_secs(1);

thread_local! {
    /// Whether this thread belongs to a lane.
    static HERE: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread belongs to the runtime of an app.
pub(crate) fn is_here() -> bool {
    HERE.get()
}

/// Makes a call that may wait for a disk. In an async handler the runtime's other tasks go on meanwhile.
pub(crate) fn in_place<T>(may_wait: bool, call: impl FnOnce() -> T) -> T {
    if may_wait && is_here() && is_polling() { tokio::task::block_in_place(call) } else { call() }
}

/// The runtime of an app's async handlers.
pub(crate) struct Lane {
    app: WeakApp,
    attempts: Arc<Attempts>,
    /// Taken only by the drop.
    runtime: Option<Runtime>,
}

impl Lane {
    /// Starts a runtime with as many threads as there are cores.
    pub(crate) fn new(app: WeakApp, attempts: Arc<Attempts>) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .thread_name("taskloom-async")
            .on_thread_start(|| HERE.set(true))
            // Timers and sockets, if the program's own tokio has them.
            .enable_all()
            .build()
            .map_err(no_thread)?;
        Ok(Self { app, attempts, runtime: Some(runtime) })
    }
}

impl LoopHost for Lane {
    fn wake(&self) {
        if let Some(runtime) = &self.runtime {
            let (app, attempts) = (self.app.clone(), Arc::clone(&self.attempts));
            runtime.spawn(async move { take(&app, &attempts) });
        }
    }
}

/// Takes what there is and spawns it.
fn take(app: &WeakApp, attempts: &Arc<Attempts>) {
    let mut started = Vec::new();
    match app.upgrade() {
        Some(app) => app.shared.engine.take(&mut started),
        None => return,
    }
    for started in started {
        tokio::spawn(Job::new(app, attempts, started));
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        if is_here() {
            runtime.shutdown_background();
        } else if Tokio::try_current().is_err() {
            runtime.shutdown_timeout(LINGER);
        } else {
            let (ended, end) = channel::<()>();
            // Without a thread, the closure drops the runtime here, and that must not wait.
            let mut runtime = Background(Some(runtime));
            let shut_down = move || {
                if let Some(runtime) = runtime.0.take() {
                    runtime.shutdown_timeout(LINGER);
                }
                drop(ended);
            };
            let _ = spawn_thread("taskloom-stop", shut_down);
            let _ = end.recv();
        }
    }
}

/// A runtime that is not waited for when it is dropped.
struct Background(Option<Runtime>);

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// One attempt of an async handler.
pub(crate) struct Job {
    future: Option<Pin<Box<dyn Future<Output = Outcome> + Send>>>,
    completion: Option<Completion>,
    slot: Arc<Slot>,
    begun: bool,
}

impl Job {
    pub(crate) fn new(app: &WeakApp, attempts: &Arc<Attempts>, started: Started) -> Self {
        let slot = attempts.slot(&started.attempt);
        let context = Context::new(started.attempt, app.clone(), Some(Arc::clone(&slot)));
        let handler = match started.entry.handler() {
            Handler::Asynchronous(handler) => Arc::clone(handler).downcast::<AsyncHandler>().ok(),
            Handler::Blocking(_) | Handler::Pooled(_) => None,
        };
        // Without a future it reports that there was none; the engine hands the lane nothing but the lane's own.
        let future = handler.map(|handler| handler.start(context));
        Self { future, completion: Some(started.completion), slot, begun: false }
    }

    /// Drops the future, then reports.
    fn end(&mut self, outcome: Outcome) {
        let dropped = self.drop_future();
        if let Some(completion) = self.completion.take() {
            completion.complete(match dropped {
                Ok(()) => outcome,
                Err(panic) => panicked(&*panic),
            });
        }
        self.slot.end();
    }

    /// Drops the future of an attempt that was called off.
    fn abandon(&mut self) {
        // If it panics, that has been printed, and changes nothing any more.
        let _ = self.drop_future();
        if let Some(completion) = self.completion.take() {
            completion.abandon();
        }
        self.slot.end();
    }

    fn drop_future(&mut self) -> std::thread::Result<()> {
        let future = self.future.take();
        catch_unwind(AssertUnwindSafe(|| drop(future)))
    }
}

impl Future for Job {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<()> {
        let this = &mut *self;
        let first = !std::mem::replace(&mut this.begun, true);
        if this.slot.is_to_drop(cx.waker()) || first && this.slot.is_over() {
            this.abandon();
            return Poll::Ready(());
        }
        let Some(future) = &mut this.future else {
            this.end(lost("its handler is not one that a lane can run"));
            return Poll::Ready(());
        };
        let polled = {
            let _here = enter(&this.slot);
            catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)))
        };
        match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(outcome)) => this.end(outcome),
            Err(panic) => this.end(panicked(&*panic)),
        }
        Poll::Ready(())
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if self.completion.is_none() {
            return;
        }
        if self.slot.is_over() {
            self.abandon();
        } else {
            self.end(lost("the runtime of the app's async handlers has ended"));
        }
    }
}

fn lost(why: &str) -> Outcome {
    Outcome::failure("HandlerLost", why)
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Outcome {
    let message = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (None, Some(text)) => text.clone(),
        (None, None) => "a panic without a message".to_owned(),
    };
    Outcome::failure("panic", message)
}
