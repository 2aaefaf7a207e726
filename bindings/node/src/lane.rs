//! Tasks on their way to the environments that run them.
//!
//! An engine has one host for its asynchronous handlers; several environments of JavaScript may share an engine. So the
//! host, [`Dispatcher`], wakes all of them, and whoever comes first takes what there is and deals it out: each task goes
//! to the environment that has its handler and the fewest in flight.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};
use taskloom_engine::{Engine, Handler, HandlerEntry, Hook, LoopHost, Moment, Runtime};
use taskloom_model::{Fence, Options, State, Version};
use taskloom_store::Task;

use crate::port::{End, News, Port, Told};
use crate::threads::InThread;

/// Where a handler runs: the app in an environment, and the handler's number there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    pub(crate) app: u32,
    pub(crate) handler: u32,
}

/// A function of JavaScript as a handler, wherever it was registered.
pub(crate) struct NodeHandler {
    pub(crate) name: String,
    pub(crate) version: Version,
    pub(crate) options: Options,
    /// Where threads find it, as JSON, if it runs in those.
    pub(crate) module: Option<String>,
    /// The apps that take its tasks at present: those that have started, and have it.
    places: RwLock<Vec<(Weak<Port>, Route)>>,
    /// The apps that have it and were not started yet: there it is run by hand.
    spare: RwLock<Vec<(Weak<Port>, Route)>>,
    /// Whether somebody wants to be told how its attempts end.
    has_hooks: AtomicBool,
}

impl NodeHandler {
    pub(crate) fn new(
        name: String,
        version: Version,
        options: Options,
        module: Option<String>,
        has_hooks: bool,
    ) -> Self {
        let has_hooks = AtomicBool::new(has_hooks);
        Self {
            name,
            version,
            options,
            module,
            places: RwLock::default(),
            spare: RwLock::default(),
            has_hooks,
        }
    }

    /// It runs in this app, too.
    pub(crate) fn add(&self, port: &Arc<Port>, route: Route) {
        self.places.write().push((Arc::downgrade(port), route));
    }

    /// It will run in this app once that has started, and by hand before.
    pub(crate) fn add_spare(&self, port: &Arc<Port>, route: Route) {
        self.spare.write().push((Arc::downgrade(port), route));
    }

    /// Where a task is run by hand of which nobody takes any.
    pub(crate) fn spare_place(&self) -> Option<(Arc<Port>, Route)> {
        self.spare.read().iter().find_map(|(port, route)| Some((port.upgrade()?, *route)))
    }

    /// It runs in this app no longer.
    pub(crate) fn remove(&self, port: &Port, app: u32) {
        let is_it =
            |(other, route): &(Weak<Port>, Route)| std::ptr::eq(other.as_ptr(), port) && route.app == app;
        for places in [&self.places, &self.spare] {
            places.write().retain(|place| !is_it(place) && place.0.strong_count() > 0);
        }
    }

    /// The environment that is to run the next task. In testing mode that is the app that is tested.
    pub(crate) fn place(&self, tested: Option<(&Port, u32)>) -> Option<(Arc<Port>, Route)> {
        let places = self.places.read();
        let is_tested = |(port, route): &&(Weak<Port>, Route)| {
            tested.is_none_or(|(own, app)| std::ptr::eq(port.as_ptr(), own) && route.app == app)
        };
        let open = places.iter().filter(is_tested).filter_map(|(port, route)| {
            let port = port.upgrade()?;
            (!port.is_closed()).then_some((port, *route))
        });
        open.min_by_key(|(port, _)| port.in_flight())
    }

    /// As the engine keeps it.
    pub(crate) fn for_engine(self: &Arc<Self>, in_threads: bool) -> Handler {
        match self.module {
            Some(_) if in_threads => Handler::Blocking(Box::new(InThread(Arc::clone(self)))),
            _ => Handler::Asynchronous(Arc::clone(self) as _),
        }
    }
}

impl Hook for NodeHandler {
    fn tell(&self, handle: &taskloom_engine::Handle, moment: Moment) {
        if !self.has_hooks.load(Ordering::Relaxed) {
            return;
        }
        if let Some((port, route)) = self.place(None) {
            let name = handle.task().spec().name.as_str();
            port.tell(News::Hook(Told { app: route.app, moment, id: handle.id(), name }));
        }
    }
}

/// Where a handler runs.
struct Place {
    port: Arc<Port>,
    route: Route,
    /// Whether its tasks can go nowhere else.
    is_only: bool,
}

impl Place {
    fn of(entry: &HandlerEntry, tested: Option<(&Port, u32)>) -> Option<Self> {
        let Handler::Asynchronous(handler) = entry.handler() else { return None };
        let handler = handler.downcast_ref::<NodeHandler>()?;
        let (port, route) = handler.place(tested)?;
        let is_only = handler.places.read().len() == 1;
        Some(Self { port, route, is_only })
    }
}

/// The engine's way to its environments.
#[derive(Default)]
pub(crate) struct Dispatcher {
    ports: Mutex<Vec<Weak<Port>>>,
    /// In testing mode all handlers run in the environment that is tested, on its clock.
    in_one_place: AtomicBool,
}

impl Dispatcher {
    /// An environment joins.
    pub(crate) fn join(&self, port: &Arc<Port>) {
        let mut ports = self.ports.lock();
        ports.retain(|other| other.strong_count() > 0);
        if ports.iter().all(|other| !std::ptr::eq(other.as_ptr(), Arc::as_ptr(port))) {
            ports.push(Arc::downgrade(port));
        }
    }

    /// Testing mode begins, or ends.
    pub(crate) fn keep_in_one_place(&self, keep: bool) {
        self.in_one_place.store(keep, Ordering::SeqCst);
    }

    /// Whether handlers may run in threads.
    pub(crate) fn has_threads(&self) -> bool {
        !self.in_one_place.load(Ordering::SeqCst)
    }

    fn ports(&self) -> Vec<Arc<Port>> {
        self.ports.lock().iter().filter_map(Weak::upgrade).collect()
    }

    /// Takes what there is, and deals it out: to an app that is tested, if one is.
    pub(crate) fn take(engine: &Engine, tested: Option<(&Port, u32)>) {
        engine.take_each(&mut |entry, run| {
            // Most often all are for one environment.
            while let Some(completion) = run.next() {
                let Some(found) = Place::of(entry, tested) else {
                    // The last app that had it has just gone, and is about to say so: then such tasks wait in the engine.
                    completion.give_back();
                    continue;
                };
                let first = std::iter::once(completion);
                if found.is_only {
                    found.port.begin_all(first.chain(&mut *run).map(End::Loop), found.route);
                } else {
                    // The next one goes to whoever has the fewest in flight then.
                    found.port.begin_all(first.map(End::Loop), found.route);
                }
            }
        });
    }
}

impl LoopHost for Dispatcher {
    fn wake(&self) {
        self.ports().iter().for_each(|port| port.offer());
    }
}

impl Runtime for Dispatcher {
    /// The event loops have better things to do than to forget tasks that have ended.
    fn is_serial(&self) -> bool {
        true
    }

    fn interrupt(&self, task: &Arc<Task>, fence: Fence) {
        let why = match task.state() {
            State::Cancelled => "cancelled",
            State::TimedOut | State::Retrying => "timed out",
            _ => "released",
        };
        for port in self.ports() {
            if port.call_off(task.id(), fence, why) {
                return;
            }
        }
        for seat in self.ports().iter().flat_map(|port| port.apps()) {
            if seat.threads().call_off(task.id(), fence, why) {
                return;
            }
        }
    }
}
