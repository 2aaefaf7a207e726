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
//! * The lock is not held while an engine is stopped or anything else that may take long.

use std::sync::Arc;

use parking_lot::Mutex;
use taskloom::{Durability, open_store};
use taskloom_engine::{Engine, EngineOptions, Handler, Runtime, Stop};
use taskloom_model::{Code, Error, Options, Result, check_name};

/// What an application is made with.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The store.
    pub url: String,
    /// Worker threads.
    pub workers: Option<usize>,
    /// Tasks in flight on an event loop.
    pub max_in_flight: Option<usize>,
    /// What "accepted" means on a file.
    pub durability: Durability,
}

/// Makes the handler anew for each engine.
pub type HandlerFactory = Box<dyn Fn() -> Handler + Send + Sync>;

struct Registration {
    name: String,
    options: Options,
    make: HandlerFactory,
}

#[derive(Default)]
struct State {
    engine: Option<Arc<Engine>>,
    stopped: bool,
    registrations: Vec<Registration>,
}

/// An application. See the module's essay.
pub struct App {
    settings: Settings,
    runtime: Arc<dyn Runtime>,
    state: Mutex<State>,
}

impl App {
    /// An application that has not been used yet. The URL is checked when the store is opened.
    pub fn new(settings: Settings, runtime: Arc<dyn Runtime>) -> Self {
        Self { settings, runtime, state: Mutex::default() }
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Adds a handler.
    pub fn register(&self, name: &str, options: Options, make: HandlerFactory) -> Result<()> {
        check_name("handler", name)?;
        options.validate()?;
        let mut state = self.state.lock();
        if state.registrations.iter().any(|other| other.name == name) {
            return Err(Error::new(Code::HandlerExists, format!("a handler named {name:?} exists"))
                .hint("give one of the two another name with name=…"));
        }
        if let Some(engine) = &state.engine {
            engine.register(name, options.clone(), make())?;
        }
        state.registrations.push(Registration { name: name.to_owned(), options, make });
        Ok(())
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

    /// The engine, if there is one.
    pub fn current(&self) -> Option<Arc<Engine>> {
        self.state.lock().engine.clone()
    }

    /// Starts, again if it was stopped.
    pub fn start(&self) -> Result<Arc<Engine>> {
        let engine = {
            let mut state = self.state.lock();
            state.stopped = false;
            match &state.engine {
                Some(engine) if !engine.is_stopped() => Arc::clone(engine),
                _ => self.open(&mut state)?,
            }
        };
        engine.start()?;
        Ok(engine)
    }

    /// Stops, and returns when it has. Stopping what does not run is no error.
    pub fn stop(&self, how: Stop) {
        let engine = self.state.lock().engine.clone();
        if let Some(engine) = engine {
            engine.stop(how);
            let mut state = self.state.lock();
            if state.engine.as_ref().is_some_and(|current| Arc::ptr_eq(current, &engine)) {
                state.engine = None;
                state.stopped = true;
            }
        }
    }

    /// Forgets its handlers, for a language whose collector has found that nobody can use it any more.
    pub fn forget(&self) {
        // Dropped without the lock: what they hold may come back here as it goes.
        let registrations = std::mem::take(&mut self.state.lock().registrations);
        drop(registrations);
    }

    fn open(&self, state: &mut State) -> Result<Arc<Engine>> {
        let store = open_store(&self.settings.url, self.settings.durability)?;
        let mut options = EngineOptions { runtime: Arc::clone(&self.runtime), ..EngineOptions::default() };
        options.workers = self.settings.workers.unwrap_or(options.workers);
        options.max_in_flight = self.settings.max_in_flight.unwrap_or(options.max_in_flight);
        let engine = Arc::new(Engine::new(store, options)?);
        for registration in &state.registrations {
            engine.register(&registration.name, registration.options.clone(), (registration.make)())?;
        }
        state.engine = Some(Arc::clone(&engine));
        Ok(engine)
    }
}
