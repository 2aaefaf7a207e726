//! An application: what a program says once, and the engine that comes of it.
//!
//! # What it owns
//! Settings, handlers, and at most one engine at a time. The engine is opened on first use, so that a program may
//! build its application, fork, and use it in the children. After a stop, the next start opens a new engine with the
//! same settings and handlers.
//!
//! # Invariants
//! * Handlers are registered with the engine in the order in which they came, and a name is taken once.
//! * In a forked child of a process that has used it, every use is refused (`Forked`): the engine's threads and files
//!   are the parent's.
//! * Schedules that a program has said are put into the store of each engine that is opened, after its handlers.
//! * The lock is not held while an engine is stopped or anything else that may take long.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use taskloom::{Durability, StoreOptions, check_store_url, open_store_with, testing_store};
use taskloom_engine::{
    Clock, Drive, Engine, EngineOptions, Handler, Hook, Runtime, Served, Stop, SystemClock, VirtualClock,
};
use taskloom_model::{Code, Error, Options, Result, ScheduleSpec, Timestamp, Version, check_name, nearest};
use taskloom_store::Store;

use crate::spelling::settled;

/// What an application is made with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// The store.
    pub url: String,
    /// Worker threads.
    pub workers: Option<usize>,
    /// Tasks in flight on an event loop.
    pub max_in_flight: Option<usize>,
    /// What "accepted" means on a file.
    pub durability: Durability,
    /// The queues that it serves.
    pub queues: Served,
    /// How many unfinished tasks a memory store takes.
    pub capacity: Option<usize>,
    /// Whether a submit waits when there is no room.
    pub wait_when_full: bool,
    /// Whether arguments and results stay objects of the language, and are not encoded. Only in memory.
    pub by_reference: bool,
    /// How long ended tasks are kept.
    pub retention: Option<Duration>,
    /// Keys that every task's metadata must have.
    pub require_metadata: Vec<String>,
    /// What it calls itself among the processes that share its store.
    pub name: Option<String>,
}

impl Settings {
    /// Refuses a URL that names no store, and what its kind of store does not have; nothing is opened.
    ///
    /// Errors: `InvalidStoreUrl`, `NotAvailable`, `InvalidOption`.
    pub fn check_place(&self) -> Result<()> {
        let url = &self.url;
        if self.by_reference && !url.starts_with("memory:") {
            return Err(Error::new(
                Code::InvalidOption,
                format!("payloads=\"reference\" is for \"memory:\": {url:?} can only keep what is encoded"),
            )
            .hint("leave payloads out, or use \"memory:\""));
        }
        check_store_url(url, self.capacity)
    }
}

/// Makes the handler anew for each engine.
pub type HandlerFactory = Box<dyn Fn() -> Handler + Send + Sync>;

/// A handler to be registered.
pub struct Registration {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// Whether it may take the place of one with the same name and version.
    pub replace: bool,
    /// The options of its tasks.
    pub options: Options,
    /// Makes it, for each engine.
    pub make: HandlerFactory,
    /// What is told of its tasks.
    pub hook: Option<Arc<dyn Hook>>,
}

impl Registration {
    fn for_engine(&self) -> taskloom_engine::Registration {
        taskloom_engine::Registration {
            version: self.version,
            replace: self.replace,
            options: self.options.clone(),
            handler: (self.make)(),
            hook: self.hook.clone(),
        }
    }
}

/// Called with each engine that the application opens.
pub type OnOpen = Box<dyn Fn(&Arc<Engine>) + Send + Sync>;

#[derive(Default)]
struct State {
    engine: Option<Arc<Engine>>,
    stopped: bool,
    /// In testing mode: whether it had been stopped before.
    testing: Option<bool>,
    registrations: Vec<Registration>,
    schedules: Vec<ScheduleSpec>,
    on_open: Vec<OnOpen>,
}

/// An application. See the module's essay.
pub struct App {
    settings: Settings,
    /// Its store, wherever the process has moved to when that is opened.
    place: String,
    /// What is in their place in a worker process.
    instead: OnceLock<(Settings, String)>,
    runtime: Arc<dyn Runtime>,
    state: Mutex<State>,
}

impl App {
    /// An application that has not been used yet. The URL is checked when the store is opened; a relative file is one of
    /// the directory that is the working one now.
    pub fn new(settings: Settings, runtime: Arc<dyn Runtime>) -> Self {
        let place = settled(&settings.url);
        Self { settings, place, instead: OnceLock::new(), runtime, state: Mutex::default() }
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        self.instead.get().map_or(&self.settings, |(settings, _)| settings)
    }

    /// Has other settings take the place of its own: those that were given to `taskloom worker`. Once, and before it is
    /// used.
    ///
    /// Errors: `InUse` if that is too late.
    pub fn serve_with(&self, settings: Settings) -> Result<()> {
        let is_same = settings.url == self.settings.url;
        let place = if is_same { self.place.clone() } else { settled(&settings.url) };
        let state = self.state.lock();
        if state.engine.is_some() || state.stopped || self.instead.set((settings, place)).is_err() {
            return Err(Error::new(Code::InUse, "the app is in use already, with the settings of its own")
                .hint("submit and start nothing while the module is imported; or leave the options out that differ from the app's"));
        }
        Ok(())
    }

    /// Adds a handler.
    pub fn register(&self, registration: Registration) -> Result<()> {
        let Registration { name, version, replace, .. } = &registration;
        check_name("handler", name)?;
        registration.options.validate()?;
        let mut state = self.state.lock();
        let known =
            state.registrations.iter().position(|other| other.name == *name && other.version == *version);
        if known.is_some() && !replace {
            return Err(Error::new(Code::HandlerExists, format!("a handler named {name:?} exists"))
                .hint("give one of the two another name with name=…, or replace it with replace=True"));
        }
        if let Some(engine) = &state.engine {
            engine.register_with(name, registration.for_engine())?;
        }
        let old = match known {
            Some(place) => Some(std::mem::replace(&mut state.registrations[place], registration)),
            None => {
                state.registrations.push(registration);
                None
            }
        };
        drop(state);
        // Dropped without the lock: what it holds may come back here as it goes.
        drop(old);
        Ok(())
    }

    /// The options of a handler, if it is registered: in this version, or the newest.
    pub(crate) fn handler_options(&self, name: &str, version: Option<Version>) -> Option<Options> {
        let state = self.state.lock();
        let named = state.registrations.iter().filter(|known| known.name == name);
        match version {
            Some(version) => named.filter(|known| known.version == version).max_by_key(|known| known.version),
            None => named.max_by_key(|known| known.version),
        }
        .map(|known| known.options.clone())
    }

    /// Adds a schedule: to the store of the engine that there is, and of each that is opened. One of the same name takes
    /// its place.
    ///
    /// Errors: `InvalidSchedule`, at once; `UnknownHandler` if its handler is not registered; those of the engine.
    pub fn schedule(&self, spec: ScheduleSpec) -> Result<()> {
        spec.validate(SystemClock.now())?;
        let mut state = self.state.lock();
        let handler = &spec.template.handler;
        if !state.registrations.iter().any(|known| known.name == *handler) {
            let error = Error::new(Code::UnknownHandler, format!("no handler {handler:?}"));
            let names = state.registrations.iter().map(|known| known.name.as_str());
            return Err(match nearest(handler, names) {
                Some(near) => error.hint(format!("did you mean {near:?}?")),
                None => error.hint("register the handler before its schedule"),
            });
        }
        if let Some(engine) = &state.engine {
            engine.put_schedule(spec.clone())?;
        }
        state.schedules.retain(|known| known.name != spec.name);
        state.schedules.push(spec);
        Ok(())
    }

    /// No engine that is opened from now on is given this schedule.
    pub fn forget_schedule(&self, name: &str) {
        self.state.lock().schedules.retain(|known| known.name != name);
    }

    /// Has `then` called with each engine that is opened from now on, and with the one that there is.
    pub fn on_open(&self, then: OnOpen) {
        let mut state = self.state.lock();
        if let Some(engine) = &state.engine {
            then(engine);
        }
        state.on_open.push(then);
    }

    /// The engine, opened if need be.
    ///
    /// Errors: `ShutDown` once stopped and not started again; those of opening a store.
    pub fn engine(&self) -> Result<Arc<Engine>> {
        let mut state = self.state.lock();
        if let Some(engine) = &state.engine {
            return Ok(Arc::clone(engine));
        }
        if state.stopped {
            return Err(Error::new(Code::ShutDown, "the app has been stopped")
                .hint("start it again before using it, or submit before leaving its block"));
        }
        self.open(&mut state)
    }

    /// The same for one of several that share this application, which has not been stopped itself: that another one was
    /// is nothing to it.
    ///
    /// Errors: those of opening a store.
    pub fn engine_for_another(&self) -> Result<Arc<Engine>> {
        let mut state = self.state.lock();
        match &state.engine {
            Some(engine) if state.testing.is_some() || !engine.is_stopped() => Ok(Arc::clone(engine)),
            _ => self.open(&mut state),
        }
    }

    /// The engine, if there is one.
    pub fn current(&self) -> Option<Arc<Engine>> {
        self.state.lock().engine.clone()
    }

    /// Starts, again if it was stopped.
    pub fn start(&self) -> Result<Arc<Engine>> {
        let engine = {
            let mut state = self.state.lock();
            state.stopped = false;
            // In testing mode there is an engine until the end of it.
            match &state.engine {
                Some(engine) if !engine.is_stopped() => Arc::clone(engine),
                _ => self.open(&mut state)?,
            }
        };
        engine.start()?;
        Ok(engine)
    }

    /// Stops, and returns when it has. Stopping what does not run is no error. In testing mode nothing happens: the mode's
    /// end stops the engine.
    pub fn stop(&self, how: Stop) {
        let (engine, testing) = {
            let state = self.state.lock();
            (state.engine.clone(), state.testing.is_some())
        };
        if let Some(engine) = engine.filter(|_| !testing) {
            engine.stop(how);
            let mut state = self.state.lock();
            if state.engine.as_ref().is_some_and(|current| Arc::ptr_eq(current, &engine)) {
                state.engine = None;
                state.stopped = true;
            }
        }
    }

    /// Goes into testing mode: until [`App::end_testing`] it has an engine without threads, on a memory store whatever its
    /// URL says, which goes by this clock. The engine is started.
    ///
    /// Errors: `InUse` if it has an engine; those of registering the handlers.
    pub fn begin_testing(
        &self,
        clock: Arc<VirtualClock>,
        seed: u64,
        runtime: Arc<dyn Runtime>,
    ) -> Result<Arc<Engine>> {
        let mut state = self.state.lock();
        if state.engine.as_ref().is_some_and(|engine| !engine.is_stopped()) || state.testing.is_some() {
            return Err(Error::new(Code::InUse, "the app is in use, and cannot go into testing mode").hint(
                "stop it first; in a test, use app.testing() in the place of `with app:`, and submit inside it",
            ));
        }
        let drive = Drive::Driven(clock);
        let options = EngineOptions { runtime, drive, seed: Some(seed), ..EngineOptions::default() };
        let engine = self.open_over(&mut state, testing_store(self.settings().capacity), options)?;
        state.testing = Some(std::mem::replace(&mut state.stopped, false));
        drop(state);
        engine.start()?;
        Ok(engine)
    }

    /// Leaves testing mode: what has not run is called off, and the app is as it was before.
    pub fn end_testing(&self) {
        let engine = {
            let mut state = self.state.lock();
            let Some(stopped) = state.testing.take() else { return };
            state.stopped = stopped;
            state.engine.take()
        };
        if let Some(engine) = engine {
            engine.stop(Stop::Within(Duration::ZERO));
        }
    }

    /// The present, by the real clock: where a virtual one begins unless somebody says otherwise.
    pub fn present() -> Timestamp {
        SystemClock.now()
    }

    /// Forgets its handlers, for a language whose collector has found that nobody can use it any more.
    pub fn forget(&self) {
        // Dropped without the lock: what they hold may come back here as it goes.
        let state = {
            let mut state = self.state.lock();
            (std::mem::take(&mut state.registrations), std::mem::take(&mut state.on_open))
        };
        drop(state);
    }

    fn open(&self, state: &mut State) -> Result<Arc<Engine>> {
        let settings = self.settings();
        settings.check_place()?;
        let store = open_store_with(
            self.instead.get().map_or(&self.place, |(_, place)| place),
            StoreOptions {
                durability: settings.durability,
                capacity: settings.capacity,
                ..StoreOptions::default()
            },
        )?;
        let options = EngineOptions { runtime: Arc::clone(&self.runtime), ..EngineOptions::default() };
        self.open_over(state, store, options)
    }

    fn open_over(
        &self,
        state: &mut State,
        store: Box<dyn Store>,
        mut options: EngineOptions,
    ) -> Result<Arc<Engine>> {
        let settings = self.settings();
        options.workers = settings.workers.unwrap_or(options.workers);
        options.max_in_flight = settings.max_in_flight.unwrap_or(options.max_in_flight);
        options.queues = settings.queues.clone();
        options.wait_when_full = settings.wait_when_full;
        options.require_metadata = settings.require_metadata.clone();
        options.name.clone_from(&settings.name);
        options.retention = settings.retention.or(options.retention);
        let engine = Arc::new(Engine::new(store, options)?);
        for registration in &state.registrations {
            engine.register_with(&registration.name, registration.for_engine())?;
        }
        for schedule in &state.schedules {
            engine.put_schedule(schedule.clone())?;
        }
        for then in &state.on_open {
            then(&engine);
        }
        state.engine = Some(Arc::clone(&engine));
        Ok(engine)
    }
}
