//! A pool of child processes that run handlers, for a language whose threads share one core.
//!
//! # What it owns
//! Up to `size` child processes, each kept by a thread of this process (`taskloom-child-N`, [`keeper`]), which starts the
//! child when there is work, hands it tasks through a socket, takes what comes back, and kills it if it must. A child
//! lives no longer than the thread that keeps it. Nothing is started before there is a task.
//!
//! # The way of a task
//! The engine wakes the pool ([`LoopHost::wake`]); the pool rouses a keeper whose child has nothing to do, or starts one.
//! The keeper takes tasks from the lanes ([`Engine::take_pooled`]) and writes their payloads into the socket; results go
//! from there into the engine. No lock of the language is taken on that way, and no byte of a payload is looked at.
//!
//! # How many tasks are in a child's hands
//! An attempt begins, and its timeout runs, when it is handed over. So a child is given as many tasks as it will run in
//! two milliseconds by what its handlers have lately taken, fewer while another child is idle; one whose handlers are
//! slow, or not known yet, has one task at a time. No task waits behind one that runs on while another child could take
//! it: the rules are in [`handing`].
//!
//! # When a child dies
//! The attempt that it was in counts as crashed. What it was about to be given goes back. If more than one of its tasks may
//! have been the one, none is blamed: all go back, and each is run alone the next time, so that the guilty one is known
//! then. A task that was called off ends as the engine has said before. The next child is started after a pause that grows
//! while children die without having finished a task.
//!
//! # When this process dies
//! Its end of the socket closes, and the child's reader, which needs no lock of the language, ends the child at once. On
//! Linux the kernel does that even if somebody else holds this process's end, since the child asks to die with the
//! thread that started it.
//!
//! # Locks
//! One, [`Pool::state`], held for moments: who keeps what, who is idle. Never while a task is handed over, nor around
//! anything of the language's.

mod frames;
mod handing;
mod hands;
mod keeper;
mod life;
mod options;
mod replies;
mod settings;
mod vitals;
pub mod wire;

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use taskloom_engine::{Attempt, Engine, LoopHost, deadline_after, spawn_thread};
use taskloom_model::TaskId;
use taskloom_store::Task;

use keeper::Keeper;
pub use options::{read_options, write_options};
pub use replies::{Reply, give, write_error};
pub use settings::{POOL_SETTINGS, take_pool_settings};
pub use vitals::memory_of;

/// How a pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// How many children at most.
    pub size: usize,
    /// How much memory one may use, in bytes.
    pub max_memory: Option<u64>,
    /// How many tasks one runs before it is replaced.
    pub max_tasks: Option<u64>,
}

/// What a language brings to a pool. All of it is called on the threads that keep children, without any lock.
pub trait Trade: Send + Sync {
    /// The program to start, and what it is to be told first. It finds the socket in the place of its standard input.
    fn brief(&self) -> std::result::Result<(Command, Vec<u8>), String>;

    /// How a child makes a handler.
    fn recipe(&self, handler: &PooledHandler) -> std::result::Result<Vec<u8>, String>;

    /// Answers what a handler asks, now or later; `what` and `body` are the language's own.
    fn answer(&self, engine: &Arc<Engine>, attempt: &Attempt, what: u8, body: &[u8], reply: Reply);

    /// An attempt has failed with an exception that the language has encoded.
    fn failed(&self, task: &Arc<Task>, exception: &[u8]);
}

/// A handler whose tasks the pool's children run.
pub struct PooledHandler {
    /// What a child knows it by.
    pub number: u32,
    /// The language's own.
    pub own: Box<dyn std::any::Any + Send + Sync>,
    /// How long it lately took, in microseconds; [`UNKNOWN`] before anybody knows.
    took: AtomicU32,
}

/// A handler of which nobody knows how long it takes.
const UNKNOWN: u32 = u32::MAX;

impl PooledHandler {
    /// A handler that no other has the number of.
    pub fn new(own: Box<dyn std::any::Any + Send + Sync>) -> Arc<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { number, own, took: AtomicU32::new(UNKNOWN) })
    }

    /// How long one task of it will take.
    fn expected(&self) -> Option<Duration> {
        let took = self.took.load(Ordering::Relaxed);
        (took != UNKNOWN).then(|| Duration::from_micros(took.max(1).into()))
    }

    /// It took so long this time. One that takes longer than it used to counts as slower within a few tasks, and as faster
    /// again by and by; a single one that was held up by the machine changes little.
    fn took(&self, micros: u32) {
        let before = self.took.load(Ordering::Relaxed);
        let micros = micros.min(UNKNOWN - 1);
        let now = match before {
            UNKNOWN => micros,
            before if micros > before => micros.min(before.max(1).saturating_mul(8)),
            before => ((u64::from(before) * 7 + u64::from(micros)) / 8) as u32,
        };
        self.took.store(now, Ordering::Relaxed);
    }
}

/// What a keeper is told by others.
enum Order {
    /// An attempt was called off.
    Interrupt(TaskId, u32),
    /// The answer to a request of one of its children's.
    Reply(Asked, bool, Vec<u8>),
}

/// A request: of which of the children that the keeper has had one after the other, and which.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Asked {
    life: u64,
    request: u64,
}

/// Where a keeper hears of others. Posting never blocks.
struct Mailbox {
    orders: Mutex<Vec<Order>>,
    bell: UnixStream,
    /// How many places its child's handlers lend: they wait for other tasks.
    lent: AtomicUsize,
}

impl Mailbox {
    fn post(&self, order: Order) {
        self.orders.lock().push(order);
        self.ring();
    }

    fn ring(&self) {
        // A full socket means that it is being woken already, a closed one that it has gone.
        let _ = (&self.bell).write(&[1]);
    }
}

/// What a child does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Doing {
    /// It is to be started.
    #[default]
    Nothing,
    /// It starts, and imports what its handlers need.
    Starting,
    /// It waits for a task.
    Idle,
    /// It runs tasks.
    Busy,
    /// It is asked to end.
    Leaving,
}

impl Doing {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::Starting => "starting",
            Self::Idle => "idle",
            Self::Busy => "busy",
            Self::Leaving => "leaving",
        }
    }
}

/// A child, for a monitor.
#[derive(Clone, Debug, Default)]
pub struct ChildStats {
    /// Its place in the pool, from 1.
    pub number: usize,
    /// Its process, if there is one.
    pub pid: Option<u32>,
    /// What it does.
    pub doing: Doing,
    /// How many tasks it has run.
    pub tasks: u64,
    /// How many tasks are in its hands.
    pub in_hand: usize,
    /// The task that it runs.
    pub running: Option<TaskId>,
}

/// A pool, for a monitor.
#[derive(Clone, Debug, Default)]
pub struct PoolStats {
    /// How many children there may be.
    pub size: usize,
    /// The children.
    pub children: Vec<ChildStats>,
    /// How many were ever started.
    pub started: u64,
    /// How many died by themselves.
    pub crashed: u64,
    /// How many were killed: for a handler that did not end, or for too much memory.
    pub killed: u64,
    /// How many were replaced after their number of tasks, or for memory that they kept.
    pub retired: u64,
    /// Why the last child could not be started, if none has been since.
    pub trouble: Option<String>,
}

struct Slot {
    mailbox: Arc<Mailbox>,
    /// Its child has nothing to do, and it sleeps.
    idle: bool,
    /// It is one too many, and goes.
    leaves: bool,
    stats: ChildStats,
}

#[derive(Default)]
struct State {
    slots: Vec<Slot>,
    closing: bool,
    /// Attempts that wait for another task: each lends its place.
    lent: usize,
    totals: PoolStats,
    /// Tasks one of which has killed its child: each is run alone.
    suspects: std::collections::HashSet<TaskId>,
    /// Handlers that a child has to be told of, in the order of their numbers.
    handlers: Vec<Arc<PooledHandler>>,
}

/// A pool of children. See the module's essay.
pub struct Pool {
    settings: PoolSettings,
    trade: Box<dyn Trade>,
    engine: Weak<Engine>,
    state: Mutex<State>,
    /// A keeper has gone.
    changed: Condvar,
    /// Grows with each handler.
    known: AtomicUsize,
    process: u32,
}

impl Pool {
    /// A pool for an engine, which is told of it ([`Engine::set_pool`]).
    pub fn open(
        settings: PoolSettings,
        trade: Box<dyn Trade>,
        engine: &Arc<Engine>,
        handlers: Vec<Arc<PooledHandler>>,
    ) -> Arc<Self> {
        let totals = PoolStats { size: settings.size, ..PoolStats::default() };
        let known = AtomicUsize::new(handlers.len());
        let pool = Arc::new(Self {
            settings,
            trade,
            engine: Arc::downgrade(engine),
            state: Mutex::new(State { totals, handlers, ..State::default() }),
            changed: Condvar::new(),
            known,
            process: std::process::id(),
        });
        engine.set_pool(Some(Arc::new(Front(Arc::clone(&pool)))));
        pool
    }

    /// Whether it runs tasks of this engine.
    pub fn serves(&self, engine: &Arc<Engine>) -> bool {
        std::ptr::eq(self.engine.as_ptr(), Arc::as_ptr(engine)) && !self.state.lock().closing
    }

    /// There is another handler.
    pub fn add(&self, handler: Arc<PooledHandler>) {
        let mut state = self.state.lock();
        state.handlers.push(handler);
        self.known.store(state.handlers.len(), Ordering::Release);
    }

    /// An attempt was called off: its child interrupts it, and is killed if that does not help. Does not block.
    pub fn interrupt(&self, task: TaskId, attempt: u32) {
        for slot in &self.state.lock().slots {
            slot.mailbox.post(Order::Interrupt(task, attempt));
        }
    }

    /// How it is.
    pub fn stats(&self) -> PoolStats {
        let state = self.state.lock();
        PoolStats {
            children: state.slots.iter().map(|slot| slot.stats.clone()).collect(),
            ..state.totals.clone()
        }
    }

    /// Has every child end. Those that have nothing to do end by themselves, the others are killed if they do not within
    /// a second after they were interrupted.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closing = true;
        state.slots.iter().for_each(|slot| slot.mailbox.ring());
    }

    /// Closes it, and waits until no child is left, but no longer than this; whether none is.
    pub fn close_within(&self, patience: Duration) -> bool {
        if self.process != std::process::id() {
            // A forked child: what there is is its parent's.
            return true;
        }
        self.close();
        let end = deadline_after(patience);
        let mut state = self.state.lock();
        while !state.slots.is_empty() {
            match end {
                Some(end) => {
                    if self.changed.wait_until(&mut state, end).timed_out() {
                        return state.slots.is_empty();
                    }
                }
                None => self.changed.wait(&mut state),
            }
        }
        true
    }

    /// An attempt waits for another task, or does so no longer: meanwhile there may be one child more.
    fn lend(self: &Arc<Self>, lends: bool) {
        let mut state = self.state.lock();
        state.lent = if lends { state.lent + 1 } else { state.lent.saturating_sub(1) };
        drop(state);
        if lends {
            self.rouse_or_start();
        }
    }

    /// Whether another child than this has nothing to do, and nobody has roused it yet.
    fn has_other_idle(&self, number: usize) -> bool {
        self.state.lock().slots.iter().any(|slot| slot.idle && slot.stats.number != number)
    }

    /// A child has nothing to do, and found nothing in the lanes: whoever has more than one task looks whether the others
    /// are better off with it.
    fn ask_for_tasks(&self) {
        for slot in &self.state.lock().slots {
            if slot.stats.in_hand > 1 {
                slot.mailbox.ring();
            }
        }
    }

    /// If a child that was roused cannot take tasks, another shall.
    fn pass_on(self: &Arc<Self>, number: usize) {
        self.with_slot(number, |slot, _| slot.idle = false);
        if self.engine.upgrade().is_some_and(|engine| engine.has_pooled()) {
            self.rouse_or_start();
        }
    }

    /// Has somebody look for tasks: a keeper whose child is idle, or a new one if there is room for it.
    fn rouse_or_start(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if state.closing || self.process != std::process::id() {
            return;
        }
        if let Some(slot) = state.slots.iter_mut().find(|slot| slot.idle) {
            slot.idle = false;
            slot.mailbox.ring();
            return;
        }
        if state.slots.iter().filter(|slot| !slot.leaves).count() >= self.settings.size + state.lent {
            return;
        }
        // One that is on its way will look for tasks, and start the next if it finds more than enough.
        if state.slots.iter().any(|slot| slot.stats.doing == Doing::Nothing) {
            return;
        }
        let number = (1..).find(|number| state.slots.iter().all(|slot| slot.stats.number != *number));
        let number = number.unwrap_or(1);
        let (bell, heard) = match UnixStream::pair() {
            Ok(pair) => pair,
            Err(error) => {
                state.totals.trouble = Some(format!("no socket can be had: {error}"));
                return;
            }
        };
        let blocking = bell.set_nonblocking(true).and_then(|()| heard.set_nonblocking(true));
        let mailbox = Arc::new(Mailbox { orders: Mutex::default(), bell, lent: AtomicUsize::new(0) });
        let stats = ChildStats { number, ..ChildStats::default() };
        state.slots.push(Slot { mailbox: Arc::clone(&mailbox), idle: false, leaves: false, stats });
        drop(state);
        let own = Arc::clone(self);
        let started = blocking.and_then(|()| {
            spawn_thread(&format!("taskloom-child-{number}"), move || {
                Keeper::new(own, number, mailbox, heard).live()
            })
        });
        if let Err(error) = started {
            let mut state = self.state.lock();
            state.totals.trouble = Some(format!("the system would not start a thread: {error}"));
            state.slots.retain(|slot| slot.stats.number != number);
        }
    }

    fn with_slot<T>(&self, number: usize, look: impl FnOnce(&mut Slot, &mut PoolStats) -> T) -> Option<T> {
        let mut state = self.state.lock();
        let State { slots, totals, .. } = &mut *state;
        slots.iter_mut().find(|slot| slot.stats.number == number).map(|slot| look(slot, totals))
    }
}

/// The pool as the engine holds it: if the engine lets go of it, its children end.
struct Front(Arc<Pool>);

impl LoopHost for Front {
    fn wake(&self) {
        self.0.rouse_or_start();
    }

    fn places(&self) -> usize {
        self.0.settings.size
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        if self.0.process == std::process::id() {
            self.0.close();
        }
    }
}

/// What is wrong with the pool, for a monitor.
pub fn troubles(stats: &PoolStats) -> Option<String> {
    stats.trouble.as_ref().map(|trouble| format!("child processes cannot be started: {trouble}"))
}
