//! The engine as its users see it.

use std::sync::Arc;
use std::time::Duration;

use taskloom_model::{Admission, Name, Options, Result, State, TaskId, Version, check_name};
use taskloom_store::{Counts, Store, Task};

use crate::admitting::admission_of;
use crate::announce::Hook;
use crate::aside::Aside;
use crate::core::{Core, Parts};
use crate::driver::{Drive, Driver};
use crate::edge::{self, Clock, SystemClock};
use crate::events::json::Object;
use crate::events::{EventKind, Subscription, SubscriptionOptions};
use crate::handler::{Handler, HandlerEntry, Home};
use crate::loops::{LoopHost, Started};
use crate::queues::Served;
use crate::registry::RegistryStats;
use crate::runtime::{Native, Runtime};
use crate::shutdown::{self, Stop};
use crate::taking::Deal;
use crate::{Handle, leases, timers, worker};

/// What an engine is made with.
pub struct EngineOptions {
    /// Worker threads; as many as the cores and four more, at most 32.
    pub workers: usize,
    /// How many tasks may be in flight on event loops at once; 1,000.
    pub max_in_flight: usize,
    /// Where it takes its time from.
    pub clock: Arc<dyn Clock>,
    /// The language of its handlers.
    pub runtime: Arc<dyn Runtime>,
    /// The queues that it serves, and in which order; all of them.
    pub queues: Served,
    /// Whether a submit to a store that is full waits for room; it fails with `QueueFull`. A submit from inside a
    /// handler never waits: the room might be its own to make.
    pub wait_when_full: bool,
    /// Keys that the metadata of every task must have.
    pub require_metadata: Vec<String>,
    /// How long ended tasks of a durable store are kept; seven days. `None`: until they are swept by hand.
    pub retention: Option<Duration>,
    /// What it calls itself among the owners of its store, before its machine and process; nothing.
    pub name: Option<String>,
    /// The seed of ids and jitter; differs each time if not given.
    pub seed: Option<u64>,
    /// Who does its work; threads of its own.
    pub drive: Drive,
}

impl Default for EngineOptions {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            workers: (cores + 4).min(32),
            max_in_flight: 1_000,
            queues: Served::All,
            wait_when_full: false,
            require_metadata: Vec::new(),
            retention: Some(Duration::from_secs(7 * 24 * 3600)),
            name: None,
            clock: Arc::new(SystemClock),
            runtime: Arc::new(Native),
            seed: None,
            drive: Drive::Threads,
        }
    }
}

/// A handler to be registered.
pub struct Registration {
    /// Its version.
    pub version: Version,
    /// Whether it may take the place of one with the same name and version.
    pub replace: bool,
    /// The options that its tasks have where a submit says nothing else.
    pub options: Options,
    /// What runs.
    pub handler: Handler,
    /// What is told of its tasks.
    pub hook: Option<Arc<dyn Hook>>,
}

/// A task engine over one store. Dropping it calls off what runs and stops it.
pub struct Engine {
    pub(crate) core: Arc<Core>,
    home: Arc<Home>,
    /// Whether a thread watches the time.
    watched: bool,
}

impl Engine {
    /// An engine over a store. It starts no thread before [`Engine::start`], or, on a durable store, before the first
    /// submit.
    pub fn new(store: Box<dyn Store>, options: EngineOptions) -> Result<Self> {
        edge::check_not_forked_from_threads()?;
        let clock = match &options.drive {
            Drive::Driven(clock) => Arc::clone(clock) as Arc<dyn Clock>,
            Drive::Threads | Drive::Stepped => options.clock,
        };
        let owner = store.join(&edge::owner_name(options.name.as_deref()), clock.now())?;
        store.note_begun(owner, 0, None, false);
        let core = Arc::new(Core::new(Parts {
            store,
            owner,
            clock,
            runtime: options.runtime,
            seed: options.seed.unwrap_or_else(edge::seed),
            workers: options.workers.max(1),
            max_in_flight: options.max_in_flight.max(1),
            queues: options.queues,
            wait_when_full: options.wait_when_full,
            require_metadata: options.require_metadata,
            retention: options.retention,
            name: options.name,
            driver: match &options.drive {
                Drive::Driven(clock) => Some(Driver::new(Arc::clone(clock))),
                Drive::Threads | Drive::Stepped => None,
            },
        }));
        for queue in core.store.paused()? {
            core.queues.set_paused(queue, true);
        }
        let watched = matches!(options.drive, Drive::Threads);
        if !watched {
            core.others.stay_without_thread();
        }
        let home = Arc::new(Home { core: Arc::clone(&core) });
        Ok(Self { core, home, watched })
    }

    /// Registers a handler under a name, with the options that its tasks have where a submit says nothing else.
    ///
    /// Errors: `HandlerExists`, `InvalidOption`, and `NotAvailable` for an option that is not built yet.
    pub fn register(&self, name: &str, options: Options, handler: Handler) -> Result<Arc<HandlerEntry>> {
        self.register_with(
            name,
            Registration { version: Version::default(), replace: false, options, handler, hook: None },
        )
    }

    /// Registers a version of a handler; with `replace`, in the place of one with the same name and version. Attempts
    /// that run go on with the old one.
    pub fn register_with(&self, name: &str, registration: Registration) -> Result<Arc<HandlerEntry>> {
        let core = &self.core;
        check_name("handler", name)?;
        // What an app demands of every task's metadata may come with the submit.
        let admission = admission_of(&registration.options)?;
        let (version, replace, admission_queue) =
            (registration.version, registration.replace, admission.queue());
        let queue = core.queues.queue(admission_queue);
        let registered = core.clock.now();
        let name = Name::new(name);
        let Registration { options, handler, hook, .. } = registration;
        let entry = Arc::new(HandlerEntry {
            name,
            version,
            registered,
            options,
            admission,
            queue,
            handler,
            hook,
            aside: Aside::default(),
        });
        let replaced = core.registry.add(Arc::clone(&entry), replace)?;
        self.declare_limit(&entry)?;
        if entry.hook.is_some() {
            core.note_hook();
        }
        if let Some(replaced) = &replaced {
            core.bring_back_from(replaced);
        }
        core.bring_back(name);
        let kind = if replaced.is_some() { EventKind::HandlerReplaced } else { EventKind::HandlerRegistered };
        core.publish_plain(kind, |data| {
            let route = match entry.handler {
                Handler::Blocking(_) => "blocking",
                Handler::Asynchronous(_) => "async",
                Handler::Pooled(_) => "pooled",
            };
            data.text("handler", name.as_str()).plain("kind", route).text("queue", admission_queue.as_str())
        });
        core.committer.ask_for_more();
        Ok(entry)
    }

    /// Says whether anybody can run a handler's tasks at present; from its registration on somebody can. While nobody can,
    /// its tasks are accepted and stay queued, [`Engine::health`] tells of them, and a shared store gives them to other
    /// processes.
    ///
    /// Errors: `UnknownHandler` if no handler with this name and version is registered.
    pub fn set_served(&self, name: &str, version: Version, served: bool) -> Result<()> {
        let entry = self.handler_version(name, version)?;
        self.core.set_served(&entry, served);
        Ok(())
    }

    /// All handlers, by name and version.
    pub fn handlers(&self) -> Vec<Arc<HandlerEntry>> {
        self.core.registry.all()
    }

    /// What is registered, in figures.
    pub fn registry_stats(&self) -> RegistryStats {
        self.core.registry.stats()
    }

    /// Makes a submit's own options ready, over those of its handler.
    ///
    /// Errors: as [`Engine::admission`], and `InvalidOption` for a limit that has no key to hold for.
    pub fn admission_for(&self, own: &Options, entry: &HandlerEntry) -> Result<Admission> {
        self.core.admission_for(own, entry)
    }

    /// Makes options ready for submitting.
    ///
    /// Errors: `InvalidOption`, `NotAvailable` for an option that is not built yet, and `MissingMetadata` if the engine
    /// demands an entry that is not there.
    pub fn admission(&self, options: &Options) -> Result<Admission> {
        self.core.admission(options)
    }

    /// The handler with this name, or `UnknownHandler` with the nearest one.
    pub fn handler(&self, name: &str) -> Result<Arc<HandlerEntry>> {
        self.core.registry.named(name, None)
    }

    /// The handler with this name and version, or `UnknownHandler` with what there is.
    pub fn handler_version(&self, name: &str, version: Version) -> Result<Arc<HandlerEntry>> {
        self.core.registry.named(name, Some(&version.to_string()))
    }

    /// Whether this process has a handler of this name, in whichever version.
    pub fn has_handler(&self, name: &str) -> bool {
        self.core.registry.has(name)
    }

    /// The handler with this name for a submit: one of this process's, or, on a store that processes share, one that some
    /// other has or had. With `allow_unknown`, also one that nobody has yet; on a store that only this process sees it
    /// changes nothing. A handler of elsewhere lends the submit no options: those are at home where it is registered.
    ///
    /// Errors: `UnknownHandler` with the nearest name, `InvalidOption` for what cannot be one, `StoreFailed`.
    pub fn handler_anywhere(&self, name: &str, allow_unknown: bool) -> Result<Arc<HandlerEntry>> {
        self.core.handler_anywhere(name, allow_unknown)
    }

    /// Starts the worker threads and services. Starting twice is starting once.
    ///
    /// Errors: `ShutDown` once stopped, `Forked` in a forked child.
    pub fn start(&self) -> Result<()> {
        let core = &self.core;
        core.check_open(false)?;
        let first = !core.pool.was_started();
        if core.capability.durable && first {
            // A process that only submitted does not beat, and may have been struck off meanwhile: under its old
            // number it must claim nothing.
            leases::beat(core, core.clock.now());
        }
        core.pool.start(core)?;
        if first {
            // From now on it runs their tasks.
            core.registry.forget_noted();
        }
        core.note_handlers();
        if self.watched {
            core.timers.start(core)?;
        }
        core.others.start(core)?;
        core.committer.start(core)?;
        core.committer.ask_for_more();
        if first {
            core.publish_plain(EventKind::EngineStarted, |data| {
                data.text("store", core.store.kind())
                    .count("workers", core.pool.configured() as u64)
                    .count("process", std::process::id().into())
            });
        }
        Ok(())
    }

    /// Does once what is due now by the engine's clock (etas, retries, expiries, timeouts, proof of life), and says how
    /// long it may be until something is due again: zero if there is more to do at once.
    ///
    /// For engines that are [stepped](Drive::Stepped): tests and simulations turn the clock, then step.
    pub fn step(&self) -> Duration {
        if self.core.check_process().is_err() || self.core.is_stopped() {
            return Duration::MAX;
        }
        let wait = timers::step(&self.core, self.core.clock.now(), self.core.clock.monotonic());
        let wait = wait.min(timers::SAFETY);
        if self.core.timers.was_poked() { Duration::ZERO } else { wait }
    }

    /// Stops. Returns when it has; see [`Stop`]. A call while another is under way makes that one end by its own
    /// deadline, if that is sooner, and waits for it.
    ///
    /// It does not wait where that could only hang: in a handler while somebody else stops the engine, and in an
    /// observer of a task that a service of the engine settled.
    pub fn stop(&self, how: Stop) {
        shutdown::stop(&self.core, how);
    }

    /// Whether it was stopped.
    pub fn is_stopped(&self) -> bool {
        self.core.is_stopped()
    }

    /// Whether the calling thread is one of its workers.
    pub fn on_worker(&self) -> bool {
        worker::number_in(&self.core).is_some()
    }

    /// Cancels a task. True if it was or will be cancelled, false if it had ended or does not exist.
    ///
    /// Errors: `StoreFailed` if the store cannot be written.
    pub fn cancel(&self, id: TaskId, reason: Option<&str>) -> Result<bool> {
        match self.core.find(id)? {
            Some(task) => self.cancel_task(&task, reason),
            None => Ok(false),
        }
    }

    /// Cancels a task that is at hand.
    pub fn cancel_task(&self, task: &Arc<Task>, reason: Option<&str>) -> Result<bool> {
        self.core.cancel_at_hand(task, reason)
    }

    /// The state of a task, as it is known here.
    pub fn state_of(&self, id: TaskId) -> Result<Option<State>> {
        self.core.check_process()?;
        Ok(self.core.find(id)?.map(|task| task.state()))
    }

    /// A handle for a task, from its id.
    pub fn get(&self, id: TaskId) -> Result<Option<Handle>> {
        let core = &self.core;
        core.check_process()?;
        Ok(core.find(id)?.map(|mut task| {
            if !core.capability.resident {
                task = core.live.adopt(task);
            }
            core.settle_if_stopped(&task);
            Handle::new(task, core)
        }))
    }

    /// Subscribes to events whose name fits a pattern, from now on.
    ///
    /// Errors: `InvalidOption` for a pattern that no event can fit; `ShutDown` once stopped.
    pub fn subscribe(&self, pattern: &str, options: SubscriptionOptions) -> Result<Subscription> {
        self.core.check_process()?;
        self.core.events.subscribe(pattern, options)
    }

    /// Publishes an event of the user's own; `data` is JSON.
    ///
    /// Errors: `InvalidOption` for a name that cannot be used; `PayloadTooLarge`.
    pub fn publish(&self, name: &str, task: Option<TaskId>, data: &str) -> Result<()> {
        self.core.events.publish_custom(name, self.core.clock.now(), task, data)
    }

    /// Publishes that a handler keeps its event loop from turning, and for how long so far. The loop's own watchdog
    /// tells.
    pub fn publish_blocked(&self, task: TaskId, handler: &str, blocked: Duration) {
        self.core.events.publish(EventKind::LoopBlocked, self.core.clock.now(), Some(task), || {
            Object::new().text("handler", handler).seconds("blocked", blocked).build()
        });
    }

    /// How many tasks are in each state.
    pub fn counts(&self) -> Result<Counts> {
        self.core.store.counts()
    }

    /// (worker threads, of which waiting or stuck, of which stuck, late reports refused)
    pub fn worker_counts(&self) -> (usize, usize, usize, u64) {
        let (threads, away) = self.core.pool.size();
        (threads, away, self.core.running.stuck(), self.core.late_reports())
    }

    /// How many worker threads it was made for.
    pub fn workers(&self) -> usize {
        self.core.pool.configured()
    }

    /// Makes an event loop the one that runs asynchronous handlers.
    pub fn set_loop(&self, host: Option<Arc<dyn LoopHost>>) {
        self.core.loops.set_host(host);
        self.core.committer.ask_for_more();
    }

    /// For the event loop: takes tasks, at most as many as there are free places.
    pub fn take(&self, started: &mut Vec<Started>) {
        self.take_each(&mut |entry, run| {
            started.extend(run.map(|completion| Started::of(entry, completion)));
        });
    }

    /// The same without a list: `each` is handed a handler, and those of its tasks that follow each other: of each where its
    /// outcome goes, which knows the attempt. What it leaves is lost, as what is dropped.
    pub fn take_each(&self, each: &mut Deal<'_>) {
        self.core.loops.take(&self.core, &self.home, each);
    }

    /// Makes a pool of foreign workers the one that runs its handlers.
    pub fn set_pool(&self, host: Option<Arc<dyn LoopHost>>) {
        self.core.pooled.set_host(host);
        self.core.committer.ask_for_more();
    }

    /// For the pool: takes tasks one after the other, for as long as `more` says after each that it wants another, and
    /// says before the first.
    pub fn take_pooled(&self, more: &mut dyn FnMut(Option<Started>) -> bool) {
        self.core.pooled.take_while(&self.core, &self.home, more);
    }

    /// Whether a task waits for the pool.
    pub fn has_pooled(&self) -> bool {
        self.core.pooled.has_tasks(&self.core)
    }

    /// Whether a task is this engine's, and an event loop runs it.
    pub fn runs_on_loop(&self, handle: &Handle) -> bool {
        let handler = || self.core.handler_of(handle.task());
        handle.is_of(&self.core)
            && handler().is_some_and(|entry| matches!(entry.handler(), Handler::Asynchronous(_)))
    }

    /// How many more tasks the store takes; `None` if it has no bound.
    pub fn room(&self) -> Option<usize> {
        self.core.store.room()
    }

    /// Whether a submit may have to wait: for the disk, or for room.
    pub fn may_wait(&self) -> bool {
        !self.core.capability.resident || self.core.wait_when_full
    }

    /// Whether what it accepts outlives the process.
    pub fn is_durable(&self) -> bool {
        self.core.capability.durable
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.core.check_process().is_err() {
            // A forked child: to close the store would wait for locks that threads of the parent held at the fork, and
            // could disturb the parent's files.
            std::mem::forget(Arc::clone(&self.core));
        }
        self.stop(Stop::Within(Duration::ZERO));
    }
}
