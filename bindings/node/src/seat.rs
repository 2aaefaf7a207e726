//! An `App` of one environment, and what it shares with others.
//!
//! # Sharing
//! There is one engine for a store's URL in a process, whichever threads open it: [`Shared`]. Only `memory:` without a
//! name is private to its app. Each `App` of JavaScript takes a [`Seat`] at it. Settings must agree; a handler that
//! several environments register must have the same options in each, and its tasks go to whichever of them is free.
//! The engine starts with the first seat that starts, and stops when the last one that had started stops or goes away.
//! A handler's tasks go to seats that have started; while no such seat has it, its tasks wait in the engine.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak, mpsc};
use std::time::Duration;

use parking_lot::Mutex;
use taskloom_bridge::{App, OnOpen, Registration, Settings, Testing, store_key};
use taskloom_engine::{Engine, LoopHost, Runtime, Stop, spawn_thread};
use taskloom_model::{Code, Error, Options, Result, ScheduleSpec, Version};

use crate::lane::{Dispatcher, NodeHandler, Route};
use crate::port::Port;
use crate::threads::Pool;

type Errand = Box<dyn FnOnce() + Send>;

/// An application, as all of its environments have it.
pub(crate) struct Shared {
    app: App,
    settings: Settings,
    dispatcher: Arc<Dispatcher>,
    handlers: Mutex<Vec<Arc<NodeHandler>>>,
    /// How many seats have started and not stopped.
    started: Mutex<usize>,
    /// Whether the engine runs tasks: from its start until it has stopped.
    runs: AtomicBool,
    /// The app that is tested, if one is: what runs, runs there.
    tested: Mutex<Option<Tested>>,
    is_tested: AtomicBool,
    may_take: AtomicBool,
    /// To the thread that asks what may take long: made when the first one asks.
    errands: Mutex<Option<mpsc::Sender<Errand>>>,
}

/// An app in testing mode.
struct Tested {
    port: Weak<Port>,
    number: u32,
    testing: Arc<Testing>,
}

/// The applications that others may find, by their store.
static OPEN: Mutex<Vec<(String, Weak<Shared>)>> = Mutex::new(Vec::new());

impl Shared {
    /// The application over a store: the one that there is, or a new one.
    pub(crate) fn open(settings: Settings) -> Result<Arc<Self>> {
        let Some(key) = store_key(&settings.url) else { return Ok(Self::new(settings)) };
        let mut open = OPEN.lock();
        open.retain(|(_, shared)| shared.strong_count() > 0);
        let known = open.iter().find(|(other, _)| *other == key).and_then(|(_, shared)| shared.upgrade());
        if let Some(shared) = known {
            // The same file may have been named in another way.
            if shared.settings != (Settings { url: shared.settings.url.clone(), ..settings.clone() }) {
                return Err(Error::new(
                    Code::InvalidOption,
                    format!("{:?} is open in this process already, with other settings", settings.url),
                )
                .hint("the apps of one process on one store share an engine: give all of them the same settings"));
            }
            return Ok(shared);
        }
        let shared = Self::new(settings);
        open.push((key, Arc::downgrade(&shared)));
        Ok(shared)
    }

    fn new(settings: Settings) -> Arc<Self> {
        let dispatcher = Arc::new(Dispatcher::default());
        // To the store, a shared memory is one as any other: who shares it is our own business.
        let url = if settings.url.starts_with("memory:") { "memory:".into() } else { settings.url.clone() };
        let app = App::new(Settings { url, ..settings.clone() }, Arc::clone(&dispatcher) as Arc<dyn Runtime>);
        Arc::new(Self {
            app,
            settings,
            dispatcher,
            handlers: Mutex::default(),
            started: Mutex::new(0),
            runs: AtomicBool::new(false),
            tested: Mutex::default(),
            is_tested: AtomicBool::new(false),
            may_take: AtomicBool::new(false),
            errands: Mutex::default(),
        })
    }

    /// Tells the engine which of all handlers anybody runs: some app that has started, or the one that is tested. Nobody
    /// needs to know before tasks are run.
    fn tell_served(&self, all: &[Arc<NodeHandler>]) {
        let is_tested = self.is_tested.load(Ordering::SeqCst);
        if !is_tested && !self.runs.load(Ordering::SeqCst) {
            return;
        }
        let Some(engine) = self.app.current() else { return };
        let tested = self.tested.lock().as_ref().map(|tested| (tested.port.clone(), tested.number));
        let tested = tested.map(|(port, number)| (port.upgrade(), number));
        for handler in all {
            let place = match &tested {
                Some((Some(port), number)) => handler.place(Some((port, *number))),
                Some((None, _)) => None,
                None => handler.place(None),
            };
            // One that the engine does not have has no tasks there.
            let _ = engine.set_served(&handler.name, handler.version, place.is_some());
        }
    }

    /// Has a thread of this application do something that may take long, one thing after the other.
    fn send(&self, errand: Errand) {
        let mut errands = self.errands.lock();
        let errand = match errands.as_ref() {
            Some(thread) => match thread.send(errand) {
                Ok(()) => return,
                Err(mpsc::SendError(errand)) => errand,
            },
            None => errand,
        };
        let (sender, receiver) = mpsc::channel::<Errand>();
        let run = move || receiver.into_iter().for_each(|errand| errand());
        if spawn_thread("taskloom-requests", run).is_ok() && sender.send(errand).is_ok() {
            *errands = Some(sender);
        }
    }
}

/// A capacity from which on JavaScript may accept submits at once; `ROOMY` of `node/src/settings.ts`.
const ROOMY: usize = 1 << 17;

/// So many of them until the next crossing, if there is room for [`MARGIN`]: the rest is for what schedules and replays
/// add on other threads meanwhile.
const CREDIT: u32 = 1 << 14;

/// See [`CREDIT`].
const MARGIN: usize = 1 << 16;

/// An application in one environment.
pub(crate) struct Seat {
    pub(crate) number: u32,
    port: Weak<Port>,
    shared: Arc<Shared>,
    /// By the numbers that JavaScript gave them.
    handlers: Mutex<Vec<Registered>>,
    /// Whether they run here: written under the lock of all handlers.
    takes: AtomicBool,
    started: AtomicBool,
    /// Whether it was stopped, and has not started again since.
    stopped: AtomicBool,
    /// The threads that run its handlers which compute.
    threads: Pool,
    /// In such a thread: the seat of the app that started it.
    host: Option<Weak<Self>>,
}

/// A handler of this seat.
#[derive(Clone)]
pub(crate) struct Registered {
    pub(crate) handler: Arc<NodeHandler>,
    /// The version that its tasks ask for: only if it was given one.
    pub(crate) version: Option<Version>,
}

impl Seat {
    pub(crate) fn new(number: u32, port: &Arc<Port>, shared: Arc<Shared>) -> Arc<Self> {
        shared.dispatcher.join(port);
        Arc::new(Self::made(number, port, shared, None))
    }

    /// A seat in a thread of another one's pool. It has no handlers of its own, and is offered no tasks.
    pub(crate) fn in_thread(number: u32, port: &Arc<Port>, host: &Arc<Self>) -> Arc<Self> {
        Arc::new(Self::made(number, port, Arc::clone(&host.shared), Some(Arc::downgrade(host))))
    }

    fn made(number: u32, port: &Arc<Port>, shared: Arc<Shared>, host: Option<Weak<Self>>) -> Self {
        let port = Arc::downgrade(port);
        let threads = Pool::new(port.clone(), number);
        let [takes, started, stopped] = [const { AtomicBool::new(false) }; 3];
        Self { number, port, shared, handlers: Mutex::default(), takes, started, stopped, threads, host }
    }

    /// The threads that run its handlers which compute.
    pub(crate) fn threads(&self) -> &Pool {
        &self.threads
    }

    /// In such a thread: the seat of the app that started it, if that is still there.
    pub(crate) fn host(&self) -> Option<Arc<Self>> {
        self.host.as_ref()?.upgrade()
    }

    /// The engine, opened if need be.
    pub(crate) fn engine(&self) -> Result<Arc<Engine>> {
        if self.host.is_some() || self.stopped.load(Ordering::SeqCst) {
            self.shared.app.engine()
        } else {
            self.shared.app.engine_for_another()
        }
    }

    /// The engine, if it runs tasks.
    pub(crate) fn running(&self) -> Option<Arc<Engine>> {
        if self.shared.runs.load(Ordering::SeqCst) { self.current() } else { None }
    }

    /// The engine, if its tasks may be taken now: in testing mode once each time that the test drives it.
    pub(crate) fn taking(&self) -> Option<Arc<Engine>> {
        if !self.shared.is_tested.load(Ordering::SeqCst) {
            return self.running();
        }
        let may = self.is_tested() && self.shared.may_take.swap(false, Ordering::SeqCst);
        if may { self.current() } else { None }
    }

    /// The test drives: the next crossing may take what there is.
    pub(crate) fn let_take(&self) {
        self.shared.may_take.store(true, Ordering::SeqCst);
    }

    /// The engine, if there is one.
    pub(crate) fn current(&self) -> Option<Arc<Engine>> {
        self.shared.app.current()
    }

    /// Whether what it is asked may have to wait for a disk.
    pub(crate) fn may_wait(&self) -> bool {
        !self.shared.app.settings().url.starts_with("memory:")
            && !self.shared.is_tested.load(Ordering::SeqCst)
    }

    /// Where its tasks live.
    pub(crate) fn url(&self) -> String {
        self.shared.app.settings().url.clone()
    }

    /// Has other settings take the place of its own, before it is used.
    #[cfg_attr(test, allow(dead_code, reason = "a Node worker calls it, and tests have no Node"))]
    pub(crate) fn serve_with(&self, change: impl FnOnce(Settings) -> Result<Settings>) -> Result<()> {
        let settings = change(self.shared.app.settings().clone())?;
        self.shared.app.serve_with(settings)
    }

    /// How many submits there is room for until the next crossing, whatever else happens meanwhile, if JavaScript may
    /// accept them at once: nobody but this environment can submit many, and the engine runs.
    pub(crate) fn credit(&self) -> Option<u32> {
        let settings = &self.shared.settings;
        if settings.url != "memory:" || settings.capacity.is_some_and(|capacity| capacity < ROOMY) {
            return None;
        }
        let room = self.running()?.room()?;
        Some(if room < MARGIN { 0 } else { CREDIT })
    }

    /// A handler by the number that JavaScript gave it.
    pub(crate) fn registered(&self, handler: u32) -> Option<Registered> {
        self.handlers.lock().get(handler as usize).cloned()
    }

    /// Registers the next handler.
    pub(crate) fn register(
        &self,
        port: &Arc<Port>,
        name: &str,
        mut options: Options,
        replace: bool,
        has_hooks: bool,
        module: Option<String>,
    ) -> Result<()> {
        // A handler's version is its own; a submit that says nothing takes the newest.
        let given = options.version.take();
        let version = given.unwrap_or_default();
        let mut all = self.shared.handlers.lock();
        let mut own = self.handlers.lock();
        let route = Route { app: self.number, handler: own.len() as u32 };
        let known = all.iter().find(|known| known.name == name && known.version == version);
        let handler = match known {
            Some(known)
                if !replace
                    && known.options == options
                    && known.module == module
                    && !own.iter().any(|registered| Arc::ptr_eq(&registered.handler, known)) =>
            {
                Arc::clone(known)
            }
            _ => {
                let (own_name, own_options) = (name.to_owned(), options.clone());
                let handler = Arc::new(NodeHandler::new(own_name, version, own_options, module, has_hooks));
                let (same, dispatcher) = (Arc::clone(&handler), Arc::clone(&self.shared.dispatcher));
                self.shared.app.register(Registration {
                    name: name.to_owned(),
                    version,
                    replace,
                    options,
                    make: Box::new(move || same.for_engine(dispatcher.has_threads())),
                    hook: has_hooks.then(|| Arc::clone(&handler) as _),
                })?;
                all.retain(|other| other.name != name || other.version != version);
                all.push(Arc::clone(&handler));
                handler
            }
        };
        self.place(&handler, port, route);
        own.push(Registered { handler, version: given });
        drop(own);
        self.shared.tell_served(&all);
        Ok(())
    }

    /// From now on its handlers run here, or no longer.
    fn take_tasks(&self, takes: bool) {
        let Some(port) = self.port.upgrade() else { return };
        let all = self.shared.handlers.lock();
        self.takes.store(takes, Ordering::SeqCst);
        for (handler, registered) in (0..).zip(self.handlers.lock().iter()) {
            registered.handler.remove(&port, self.number);
            self.place(&registered.handler, &port, Route { app: self.number, handler });
        }
        self.shared.tell_served(&all);
    }

    /// Has a handler run here, as far as this app runs any.
    fn place(&self, handler: &NodeHandler, port: &Arc<Port>, route: Route) {
        if self.takes.load(Ordering::SeqCst) {
            handler.add(port, route);
        } else if !self.stopped.load(Ordering::SeqCst) {
            handler.add_spare(port, route);
        }
    }

    /// Has `then` called with each engine that is opened from now on, and with the one that there is.
    pub(crate) fn on_open(&self, then: OnOpen) {
        self.shared.app.on_open(then);
    }

    /// The application that it has a part in.
    pub(crate) fn app(&self) -> &taskloom_bridge::App {
        &self.shared.app
    }

    /// Adds a schedule.
    pub(crate) fn schedule(&self, spec: ScheduleSpec) -> Result<()> {
        self.shared.app.schedule(spec)
    }

    /// The program no longer says this schedule.
    pub(crate) fn forget_schedule(&self, name: &str) {
        self.shared.app.forget_schedule(name);
    }

    /// Starts, again if it was stopped.
    pub(crate) fn start(&self) -> Result<()> {
        let mut started = self.shared.started.lock();
        self.stopped.store(false, Ordering::SeqCst);
        // Before there are tasks to take.
        self.take_tasks(true);
        let engine = match self.shared.app.start() {
            Ok(engine) => engine,
            Err(error) => {
                self.take_tasks(self.started.load(Ordering::SeqCst));
                return Err(error);
            }
        };
        self.shared.runs.store(true, Ordering::SeqCst);
        self.shared.tell_served(&self.shared.handlers.lock());
        // Not before: what has no host is not run.
        engine.set_loop(Some(Arc::clone(&self.shared.dispatcher) as Arc<dyn LoopHost>));
        if !self.started.swap(true, Ordering::SeqCst) {
            *started += 1;
        }
        Ok(())
    }

    /// Stops: the engine, unless another environment still uses it; then nothing is begun here any more. Returns when it
    /// has.
    pub(crate) fn stop(&self, how: Stop) {
        self.stopped.store(true, Ordering::SeqCst);
        let is_last = {
            let mut started = self.shared.started.lock();
            if self.started.swap(false, Ordering::SeqCst) {
                *started -= 1;
            }
            *started == 0
        };
        if is_last {
            self.shared.app.stop(how);
            let started = self.shared.started.lock();
            // Unless somebody has started it again meanwhile.
            if *started == 0 {
                self.shared.runs.store(false, Ordering::SeqCst);
            }
        }
        // The last one still runs what the engine finishes, and is done with it now.
        let _started = self.shared.started.lock();
        if !self.started.load(Ordering::SeqCst) && !self.is_tested() {
            self.take_tasks(false);
        }
    }

    // ── testing ─────────────────────────────────────────────────────────────────────────────────────────────────

    /// Goes into testing mode. Other apps on its store see what it does there, and run none of it.
    pub(crate) fn begin_testing(&self, start: Option<i64>, seed: u64) -> Result<()> {
        let shared = &self.shared;
        let mut tested = shared.tested.lock();
        let runtime = Arc::clone(&shared.dispatcher) as Arc<dyn Runtime>;
        let keep = |keep| shared.dispatcher.keep_in_one_place(keep);
        keep(true);
        let testing = Testing::begin(&shared.app, start, seed, runtime);
        let testing = Arc::new(testing.inspect_err(|_| keep(tested.is_some()))?);
        testing.engine().set_loop(Some(Arc::clone(&shared.dispatcher) as Arc<dyn LoopHost>));
        *tested = Some(Tested { port: self.port.clone(), number: self.number, testing });
        shared.is_tested.store(true, Ordering::SeqCst);
        drop(tested);
        self.take_tasks(true);
        Ok(())
    }

    /// Whether it is in testing mode.
    pub(crate) fn is_tested(&self) -> bool {
        self.shared.is_tested.load(Ordering::SeqCst) && self.testing().is_some()
    }

    /// The mode, if it is in it.
    pub(crate) fn testing(&self) -> Option<Arc<Testing>> {
        let tested = self.shared.tested.lock();
        let is_own = |tested: &&Tested| tested.number == self.number && tested.port.ptr_eq(&self.port);
        tested.as_ref().filter(is_own).map(|tested| Arc::clone(&tested.testing))
    }

    /// Leaves the mode: what runs is called off, and what has not run never will.
    pub(crate) fn end_testing(&self) {
        if self.testing().is_none() {
            return;
        }
        self.shared.app.end_testing();
        self.shared.dispatcher.keep_in_one_place(false);
        self.shared.is_tested.store(false, Ordering::SeqCst);
        *self.shared.tested.lock() = None;
        self.take_tasks(self.started.load(Ordering::SeqCst));
    }

    /// It goes away with its environment, or with the last reference to its `App`.
    pub(crate) fn leave(&self) {
        self.end_testing();
        self.stopped.store(true, Ordering::SeqCst);
        self.take_tasks(false);
        drop(std::mem::take(&mut *self.handlers.lock()));
        // Workers that wait for its threads would keep the engine from stopping.
        self.threads.close();
        if self.host.is_some() {
            return;
        }
        let others = Arc::strong_count(&self.shared) > 1;
        if self.started.load(Ordering::SeqCst) || !others {
            self.stop(Stop::Within(Duration::ZERO));
        }
    }

    /// Has a thread do something that may take long.
    pub(crate) fn send(&self, errand: impl FnOnce() + Send + 'static) {
        self.shared.send(Box::new(errand));
    }
}
