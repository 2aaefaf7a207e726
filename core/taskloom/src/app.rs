//! The application: what its parts share, and the order in which they begin and end.
//!
//! # What it owns
//! One engine over one store; the runtime of its async handlers ([`crate::lane`]), made when the app is started and has
//! any; the attempts that somebody waits on; the middleware; and the helper threads of hooks and subscribers.
//!
//! # Who keeps whom
//! An [`App`] and a [`Running`] keep it. Handles, contexts, hooks and the lane hold it weakly, since the engine, which
//! the app owns, holds handlers and lane: nothing in that circle may close it. A handler that captures an `App` of its own
//! does close it; [`Context::app`](crate::Context::app) and [`App::downgrade`] are there so that none has to.
//!
//! # The end
//! [`Running::stop`] ends the relays of outboxes and stops the engine, which settles every task and lets go of the lane, and then waits a while for hooks
//! and subscribers to take what is left. On a thread of the lane that would wait for the very task that asks for it, so
//! there another thread does it. An app that is dropped without having been stopped calls off what runs.

use std::fmt;
use std::future::Future;
#[cfg(feature = "async")]
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

#[cfg(feature = "async")]
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
#[cfg(feature = "async")]
use taskloom_engine::LoopHost;
use taskloom_engine::{Clock, Engine, EngineOptions, Stop, SystemClock, spawn_thread};
use taskloom_model::{Code, Error, Result};
use taskloom_store::Store;

use crate::attempts::Attempts;
use crate::declared::Declared;
#[cfg(feature = "async")]
use crate::driven_lane::DrivenLane;
use crate::execute::{self, Answer, Layers, Next};
use crate::helpers::Helpers;
use crate::hooks::HookQueue;
#[cfg(feature = "async")]
use crate::lane::{self, Lane};
use crate::outbox::Relays;
use crate::registration::TaskRegistration;
use crate::retry_if::RetryIfSlot;
use crate::waiting::oneshot;
use crate::{AppBuilder, Context, TaskError};

/// How long a graceful stop waits for hooks and subscribers to take what is left.
const LINGER: Duration = Duration::from_secs(5);

/// Whether the calling thread belongs to the runtime of an app.
fn is_on_lane() -> bool {
    #[cfg(feature = "async")]
    return lane::is_here();
    #[cfg(not(feature = "async"))]
    false
}

/// What the parts of an app share.
pub(crate) struct Shared {
    pub(crate) engine: Engine,
    pub(crate) attempts: Arc<Attempts>,
    pub(crate) layers: Arc<Layers>,
    pub(crate) helpers: Arc<Helpers>,
    pub(crate) hooks: Arc<HookQueue>,
    pub(crate) relays: Relays,
    /// The schedules that the program has said.
    pub(crate) declared: Declared,
    /// Whether the metadata of every task must have certain keys.
    pub(crate) demands_metadata: bool,
    pub(crate) wait_when_full: bool,
    /// In testing mode: a submit runs what it can at once.
    pub(crate) inline: bool,
    #[cfg(feature = "async")]
    has_async: AtomicBool,
    #[cfg(feature = "async")]
    is_started: AtomicBool,
    #[cfg(feature = "async")]
    has_lane: Mutex<bool>,
}

impl Shared {
    fn stop(&self, how: Stop) {
        let began = SystemClock.monotonic();
        let left = |span: Duration| span.saturating_sub(SystemClock.monotonic() - began);
        self.relays.stop(match how {
            Stop::Finish => None,
            Stop::Within(span) => Some(span),
        });
        self.engine.stop(match how {
            Stop::Finish => how,
            Stop::Within(span) => Stop::Within(left(span)),
        });
        self.hooks.close();
        self.helpers.wait(match how {
            Stop::Finish => LINGER,
            Stop::Within(span) => left(span),
        });
    }
}

/// Handlers and the tasks for them, over one store. A clone is the same app.
///
/// ```
/// use taskloom::{App, Context, TaskError};
///
/// let app = App::open("memory:")?;
/// app.task("greet", |name: String, _: &Context| -> Result<String, TaskError> { Ok(format!("hello {name}")) })
///     .register()?;
/// let running = app.start()?;
/// let greeting: String = app.submit("greet", "Ada")?.wait()?;
/// assert_eq!(greeting, "hello Ada");
/// running.stop();
/// # Ok::<(), taskloom::Error>(())
/// ```
#[derive(Clone)]
pub struct App {
    pub(crate) shared: Arc<Shared>,
}

impl App {
    /// An application with the usual settings. See [`crate::open_store`] for the URLs.
    ///
    /// Errors: `InvalidStoreUrl`; those of the store (`NotADatabase`, `NewerSchema`, `StoreFailed`).
    pub fn open(url: &str) -> Result<Self> {
        Self::builder().open(url)
    }

    /// Settings first; see [`AppBuilder`].
    pub fn builder() -> AppBuilder {
        AppBuilder::default()
    }

    /// `inline`: a submit runs what it can at once, for an engine that is driven.
    pub(crate) fn make(store: Box<dyn Store>, options: EngineOptions, inline: bool) -> Result<Self> {
        let attempts = Arc::new(Attempts::default());
        let helpers = Arc::new(Helpers::default());
        let (demands_metadata, wait_when_full) =
            (!options.require_metadata.is_empty(), options.wait_when_full);
        #[cfg(feature = "async")]
        let is_driven = matches!(options.drive, taskloom_engine::Drive::Driven(_));
        let options = EngineOptions { runtime: Arc::clone(&attempts) as _, ..options };
        let shared = Shared {
            engine: Engine::new(store, options)?,
            attempts,
            layers: Arc::default(),
            hooks: Arc::new(HookQueue::new(Arc::clone(&helpers))),
            helpers,
            relays: Relays::default(),
            declared: Declared::default(),
            demands_metadata,
            wait_when_full,
            inline,
            #[cfg(feature = "async")]
            has_async: AtomicBool::new(false),
            #[cfg(feature = "async")]
            is_started: AtomicBool::new(is_driven),
            #[cfg(feature = "async")]
            has_lane: Mutex::new(false),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// A reference that does not keep the app alive: for hooks, subscribers and handlers that use it.
    ///
    /// ```
    /// let app = taskloom::App::open("memory:")?;
    /// let weak = app.downgrade();
    /// assert!(weak.upgrade().is_some());
    /// drop(app);
    /// assert!(weak.upgrade().is_none());
    /// # Ok::<(), taskloom::Error>(())
    /// ```
    pub fn downgrade(&self) -> WeakApp {
        WeakApp(Arc::downgrade(&self.shared))
    }

    /// A handler: a function of the input and the context, run on a worker thread. It is there once
    /// [`TaskRegistration::register`] is called. Names are free; those with a slash have a namespace (`img/resize`).
    ///
    /// The input is whatever serde reads from the JSON that was submitted. What does not fit fails the task for good. A
    /// panic is a failure of the kind `panic`.
    pub fn task<I, O, F>(&self, name: &str, handler: F) -> TaskRegistration<'_>
    where
        I: DeserializeOwned,
        O: Serialize,
        F: Fn(I, &Context) -> std::result::Result<O, TaskError> + Send + Sync + 'static,
    {
        let slot = RetryIfSlot::default();
        let layers = Arc::clone(&self.shared.layers);
        let handler = execute::blocking(self.downgrade(), layers, Arc::clone(&slot), handler);
        TaskRegistration::new(self, name, handler, slot)
    }

    /// A handler that is an async function, run on a tokio runtime that the app owns; at most
    /// [`AppBuilder::max_in_flight`] at once. When its attempt is cancelled or times out, its future is dropped; see
    /// [`Context::cancelled`].
    ///
    /// ```
    /// use taskloom::{App, Context, TaskError};
    ///
    /// let app = App::open("memory:")?;
    /// app.task_async("double", |n: u32, _: Context| async move { Ok::<_, TaskError>(n * 2) }).register()?;
    /// let running = app.start()?;
    /// assert_eq!(app.submit("double", &21)?.wait::<u32>()?, 42);
    /// running.stop();
    /// # Ok::<(), taskloom::Error>(())
    /// ```
    #[cfg(feature = "async")]
    pub fn task_async<I, O, F, Fut>(&self, name: &str, handler: F) -> TaskRegistration<'_>
    where
        I: DeserializeOwned + Send + 'static,
        O: Serialize + 'static,
        F: Fn(I, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = std::result::Result<O, TaskError>> + Send + 'static,
    {
        let slot = RetryIfSlot::default();
        let handler = execute::AsyncHandler::new(Arc::clone(&self.shared.layers), Arc::clone(&slot), handler);
        TaskRegistration::new(self, name, taskloom_engine::Handler::Asynchronous(Arc::new(handler)), slot)
    }

    /// Adds a middleware around every execution of every handler, blocking or async: it may look at the context, run the
    /// rest with [`Next::run`], look at what came of it, change it, or not run it at all. Those that are added first are
    /// outermost.
    ///
    /// Around a blocking handler `next.run()` runs the handler on the worker thread and is ready at once; whatever else
    /// the middleware awaits there, the worker thread waits for.
    ///
    /// ```
    /// use taskloom::{App, Context, TaskError};
    ///
    /// let app = App::open("memory:")?;
    /// app.middleware(|context, next| async move {
    ///     if context.metadata("tenant").is_none() {
    ///         return Err(TaskError::permanent("no tenant").of_kind("NoTenant"));
    ///     }
    ///     next.run().await
    /// });
    /// app.task("double", |n: u32, _: &Context| -> Result<u32, TaskError> { Ok(n * 2) }).register()?;
    /// let running = app.start()?;
    /// assert!(app.submit("double", &21)?.wait::<u32>().is_err());
    /// let handle = app.build("double").input(&21).metadata("tenant", "acme").submit()?;
    /// assert_eq!(handle.wait::<u32>()?, 42);
    /// running.stop();
    /// # Ok::<(), taskloom::Error>(())
    /// ```
    pub fn middleware<F, Fut>(&self, layer: F)
    where
        F: Fn(Context, Next) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Answer> + Send + 'static,
    {
        self.shared.layers.add(layer);
    }

    /// Starts the workers. They stop when the guard is told to, or dropped. In [testing mode](crate::Testing) neither does
    /// anything.
    ///
    /// Errors: `ShutDown` once stopped; `Forked` in a forked child; `StoreFailed` if a thread cannot be started.
    pub fn start(&self) -> Result<Running> {
        if self.shared.engine.is_driven() {
            // In testing mode there is nothing to start, and the end of the mode is the end.
            return Ok(Running { shared: None });
        }
        #[cfg(feature = "async")]
        {
            self.shared.is_started.store(true, Ordering::SeqCst);
            self.find_lane()?;
        }
        self.shared.relays.start()?;
        self.shared.engine.start().inspect_err(|_| self.shared.relays.call_off())?;
        Ok(Running { shared: Some(Arc::clone(&self.shared)) })
    }

    /// An async handler was registered.
    #[cfg(feature = "async")]
    pub(crate) fn needs_lane(&self) -> Result<()> {
        self.shared.has_async.store(true, Ordering::SeqCst);
        // Either this sees the start, or the start sees the handler.
        if self.shared.is_started.load(Ordering::SeqCst) { self.find_lane() } else { Ok(()) }
    }

    /// Makes the lane, if a handler needs it and there is none.
    #[cfg(feature = "async")]
    pub(crate) fn find_lane(&self) -> Result<()> {
        let mut has_lane = self.shared.has_lane.lock();
        if !*has_lane && self.shared.has_async.load(Ordering::SeqCst) && !self.shared.engine.is_stopped() {
            let (app, attempts) = (self.downgrade(), Arc::clone(&self.shared.attempts));
            let lane: Arc<dyn LoopHost> = if self.shared.engine.is_driven() {
                Arc::new(DrivenLane::new(app, attempts)?)
            } else {
                Arc::new(Lane::new(app, attempts)?)
            };
            self.shared.engine.set_loop(Some(lane));
            *has_lane = true;
        }
        Ok(())
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").finish_non_exhaustive()
    }
}

/// A reference to an [`App`] that does not keep it alive. See [`App::downgrade`].
#[derive(Clone)]
pub struct WeakApp(Weak<Shared>);

impl WeakApp {
    /// The app, if somebody still has it.
    pub fn upgrade(&self) -> Option<App> {
        self.0.upgrade().map(|shared| App { shared })
    }

    /// The app, or `ShutDown`.
    pub(crate) fn need(&self) -> Result<App> {
        self.upgrade().ok_or_else(|| {
            Error::new(Code::ShutDown, "the app is gone")
                .hint("keep the App, or what App::start returned, for as long as its tasks matter")
        })
    }
}

impl fmt::Debug for WeakApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakApp").finish_non_exhaustive()
    }
}

/// Running workers. They are stopped, gracefully, when this is dropped.
///
/// Stopping means: nothing new is taken from outside of handlers; what runs may finish; in memory, what is eligible is run
/// to the end, as a thread pool does; on a file, what has not begun stays there for the next process. Whoever still waits
/// for a task then hears `ShutDown`. An app does not start again: open another.
///
/// Told by a blocking handler to stop, the app stops without waiting for that handler. In an async handler it stops on
/// another thread, and the call returns at once.
#[must_use = "the workers stop when this is dropped"]
pub struct Running {
    shared: Option<Arc<Shared>>,
}

impl Running {
    /// Finishes what it can, for as long as it takes; then gives hooks and subscribers up to five seconds to take what is
    /// left for them.
    ///
    /// ```
    /// use taskloom::{App, Context, TaskError};
    /// let app = App::open("memory:")?;
    /// app.task("double", |n: u32, _: &Context| -> Result<u32, TaskError> { Ok(n * 2) }).register()?;
    /// let handles = app.submit_many("double", &[1, 2, 3])?;
    /// app.start()?.stop(); // runs the three
    /// assert!(handles.iter().all(|handle| handle.is_done()));
    /// # Ok::<(), taskloom::Error>(())
    /// ```
    pub fn stop(mut self) {
        self.end(Stop::Finish);
    }

    /// Finishes what it can in this time, calls off the rest, and stops. Zero calls off everything at once.
    pub fn stop_within(mut self, span: Duration) {
        self.end(Stop::Within(span));
    }

    /// Like [`Running::stop`] or [`Running::stop_within`], without blocking the thread that awaits it.
    ///
    /// If it is dropped before it is ready, stopping goes on.
    pub async fn stop_async(mut self, how: Stop) {
        let Some(shared) = self.shared.take() else { return };
        let (give, take) = oneshot();
        let stop = move || {
            shared.stop(how);
            drop(shared);
            give.give(());
        };
        // Without a thread, the app is stopped as it is dropped.
        if spawn_thread("taskloom-stop", stop).is_ok() {
            take.await;
        }
    }

    fn end(&mut self, how: Stop) {
        let Some(shared) = self.shared.take() else { return };
        if is_on_lane() {
            let _ = spawn_thread("taskloom-stop", move || shared.stop(how));
        } else {
            shared.stop(how);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end(Stop::Finish);
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").finish_non_exhaustive()
    }
}
