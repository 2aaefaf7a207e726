//! The engine as its users see it.

use std::sync::Arc;
use std::time::Duration;

use taskloom_model::{Admission, Code, Error, Name, Operation, Options, Result, TaskId, check_name};
use taskloom_store::{Counts, HostData, Store, Task};

use crate::answer::{Answer, Reply};
use crate::core::{Core, Parts};
use crate::edge::{self, Clock, SystemClock};
use crate::handler::{Handler, HandlerEntry, Home};
use crate::loops::{LoopHost, Started};
use crate::runtime::{Native, Runtime};
use crate::shutdown::{self, Stop};
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
    /// The seed of ids and jitter; differs each time if not given.
    pub seed: Option<u64>,
    /// No thread watches the time: whoever made the engine calls [`Engine::step`].
    pub stepped: bool,
}

impl Default for EngineOptions {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            workers: (cores + 4).min(32),
            max_in_flight: 1_000,
            clock: Arc::new(SystemClock),
            runtime: Arc::new(Native),
            seed: None,
            stepped: false,
        }
    }
}

/// A task engine over one store. Dropping it calls off what runs and stops it.
pub struct Engine {
    core: Arc<Core>,
    home: Arc<Home>,
    stepped: bool,
}

impl Engine {
    /// An engine over a store. It starts no thread before [`Engine::start`], or, on a durable store, before the first
    /// submit.
    pub fn new(store: Box<dyn Store>, options: EngineOptions) -> Result<Self> {
        edge::check_not_forked_from_threads()?;
        let owner = store.join(&edge::process_name(), options.clock.now())?;
        let core = Arc::new(Core::new(Parts {
            store,
            owner,
            clock: options.clock,
            runtime: options.runtime,
            seed: options.seed.unwrap_or_else(edge::seed),
            workers: options.workers.max(1),
            max_in_flight: options.max_in_flight.max(1),
        }));
        let home = Arc::new(Home { core: Arc::clone(&core) });
        Ok(Self { core, home, stepped: options.stepped })
    }

    /// Registers a handler under a name, with the options that its tasks have where a submit says nothing else.
    ///
    /// Errors: `HandlerExists`, `InvalidOption`, and `NotAvailable` for an option that is not built yet.
    pub fn register(&self, name: &str, options: Options, handler: Handler) -> Result<Arc<HandlerEntry>> {
        check_name("handler", name)?;
        let admission = self.admission(&options)?;
        let queue = self.core.queues.queue(admission.queue());
        self.core.register(HandlerEntry { name: Name::new(name), options, admission, queue, handler })
    }

    /// Makes options ready for submitting.
    pub fn admission(&self, options: &Options) -> Result<Admission> {
        if let Some(option) = options.not_available_yet() {
            return Err(Error::new(
                Code::NotAvailable,
                format!("the option {option} is not available in this version"),
            )
            .hint("leave it out; docs/options.md lists what there is"));
        }
        Admission::new(options)
    }

    /// The handler with this name, or `UnknownHandler` with the nearest one.
    pub fn handler(&self, name: &str) -> Result<Arc<HandlerEntry>> {
        self.core.handler_named(name)
    }

    /// Starts the worker threads and services. Starting twice is starting once.
    ///
    /// Errors: `ShutDown` once stopped, `Forked` in a forked child.
    pub fn start(&self) -> Result<()> {
        let core = &self.core;
        core.check_open(false)?;
        if core.capability.durable && !core.pool.was_started() {
            // A process that only submitted does not beat, and may have been struck off meanwhile: under its old
            // number it must claim nothing.
            leases::beat(core, core.clock.now());
        }
        core.pool.start(core)?;
        if !self.stepped {
            core.timers.start(core)?;
        }
        core.committer.start(core)?;
        core.committer.ask_for_more();
        Ok(())
    }

    /// Does once what is due now by the engine's clock (etas, retries, expiries, timeouts, proof of life), and says how
    /// long it may be until something is due again: zero if there is more to do at once.
    ///
    /// For engines that are [`stepped`](EngineOptions::stepped): tests and simulations turn the clock, then step.
    pub fn step(&self) -> Duration {
        if self.core.check_process().is_err() || self.core.is_stopped() {
            return Duration::MAX;
        }
        let wait = timers::step(&self.core, self.core.clock.now(), self.core.clock.monotonic());
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

    /// Submits one task. When it returns, the task is as durable as the store.
    ///
    /// `inside` says that the call comes from a handler, which may submit while the engine drains; a worker thread of
    /// this engine is recognised without it.
    pub fn submit(
        &self,
        entry: &HandlerEntry,
        admission: &Admission,
        payload: Box<[u8]>,
        host: Option<HostData>,
        inside: bool,
    ) -> Result<Handle> {
        let core = &self.core;
        if !core.is_open() || !core.capability.resident {
            core.check_open(inside || self.on_worker())?;
        } else {
            core.check_process()?;
        }
        let (task, effects) = core.build(entry, admission, payload, host)?;
        if core.capability.resident {
            core.store.insert(std::slice::from_ref(&task), task.spec().created)?;
        } else {
            let (answer, reply) = Answer::new();
            core.committer.insert(core, vec![Arc::clone(&task)], reply);
            answer.wait()?;
        }
        core.accepted(&task, effects, entry);
        Ok(Handle::new(task, core))
    }

    /// Submits many tasks of one handler at once: all or none, in one transaction.
    pub fn submit_many(
        &self,
        entry: &HandlerEntry,
        admission: &Admission,
        payloads: impl Iterator<Item = (Box<[u8]>, Option<HostData>)>,
        inside: bool,
    ) -> Result<Vec<Handle>> {
        let (answer, reply) = Answer::new();
        let tell = Box::new(move |verdict| reply.give(verdict));
        let handles = self.submit_then(entry, admission, payloads, inside, tell)?;
        answer.wait()?;
        Ok(handles)
    }

    /// Like [`Engine::submit_many`], but returns at once; `reply` is told, on any thread, when the tasks are accepted
    /// or refused. Until then the handles are of no use.
    pub fn submit_then(
        &self,
        entry: &HandlerEntry,
        admission: &Admission,
        payloads: impl Iterator<Item = (Box<[u8]>, Option<HostData>)>,
        inside: bool,
        reply: Box<dyn FnOnce(Result<()>) + Send>,
    ) -> Result<Vec<Handle>> {
        let core = &self.core;
        core.check_open(inside || self.on_worker())?;
        let mut effects = Vec::with_capacity(payloads.size_hint().0);
        let mut tasks = Vec::with_capacity(payloads.size_hint().0);
        for (payload, host) in payloads {
            let (task, first) = core.build(entry, admission, payload, host)?;
            tasks.push(task);
            effects.push(first);
        }
        if !core.capability.resident {
            let handles = tasks.iter().map(|task| Handle::new(Arc::clone(task), core)).collect();
            core.committer.insert(core, tasks, Reply::new(reply));
            return Ok(handles);
        }
        let verdict = core.store.insert(&tasks, core.clock.now());
        if verdict.is_ok() {
            for (task, effects) in tasks.iter().zip(effects) {
                core.accepted(task, effects, entry);
            }
        }
        reply(verdict);
        let handles = tasks.into_iter().map(|task| Handle::new(task, core)).collect();
        Ok(handles)
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
        self.core.check_process()?;
        if self.core.is_stopped() || task.is_settled() {
            return Ok(false);
        }
        let operation = Operation::Cancel { reason: reason.map(Into::into) };
        self.core.change(task, operation).map(|effects| effects.moved())
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
        self.core.loops.take(&self.core, &self.home, started);
    }

    /// Whether a task is this engine's, and an event loop runs it.
    pub fn runs_on_loop(&self, handle: &Handle) -> bool {
        let handler = || self.core.handler(handle.task().spec().name);
        handle.is_of(&self.core)
            && handler().is_some_and(|entry| matches!(entry.handler(), Handler::Asynchronous(_)))
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
