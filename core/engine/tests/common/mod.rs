//! What the engine's tests share: gates, a clock that is turned by hand, recording hosts, short ways to submit.
//!
//! Nothing here sleeps. A test waits for a signal, and for at most [`LONG`]: that it failed, not how fast it was, is
//! what the limit is for.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
#![allow(
    clippy::disallowed_methods,
    reason = "a test is an edge: it starts threads and has a real limit of time"
)]

pub mod disk;
pub mod stores;
pub mod watch;

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use taskloom_engine::{
    Attempt, Clock, Drive, Engine, EngineOptions, Handle, Handler, HandlerEntry, LoopHost, Outcome, Result,
    Runtime, Started,
};
use taskloom_model::{Code, Fence, Options, State, TaskId, Timestamp};
use taskloom_store::{MemoryOptions, MemoryStore, Store, Task};

/// No test that works comes near it.
pub const LONG: Duration = Duration::from_secs(30);

/// A door that is shut until somebody opens it.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn open(&self) {
        *self.0.0.lock() = true;
        self.0.1.notify_all();
    }

    pub fn shut(&self) {
        *self.0.0.lock() = false;
    }

    pub fn is_open(&self) -> bool {
        *self.0.0.lock()
    }

    /// Waits until it is open. Panics if that takes too long.
    pub fn pass(&self) {
        let mut open = self.0.0.lock();
        while !*open {
            assert!(!self.0.1.wait_for(&mut open, LONG).timed_out(), "the gate stayed shut");
        }
    }
}

/// A list that threads add to and a test waits on.
pub struct Log<T>(Arc<(Mutex<Vec<T>>, Condvar)>);

impl<T> Clone for Log<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Log<T> {
    fn default() -> Self {
        Self(Arc::new((Mutex::new(Vec::new()), Condvar::new())))
    }
}

impl<T: Clone> Log<T> {
    pub fn add(&self, entry: T) {
        self.0.0.lock().push(entry);
        self.0.1.notify_all();
    }

    pub fn all(&self) -> Vec<T> {
        self.0.0.lock().clone()
    }

    pub fn len(&self) -> usize {
        self.0.0.lock().len()
    }

    /// Waits until it has so many entries.
    pub fn wait_for(&self, count: usize) -> Vec<T> {
        let mut list = self.0.0.lock();
        while list.len() < count {
            let late = self.0.1.wait_for(&mut list, LONG).timed_out();
            assert!(!late, "{} entries of {count} came", list.len());
        }
        list.clone()
    }
}

/// A clock that is turned by hand.
#[derive(Default)]
pub struct HandClock(AtomicU64);

impl HandClock {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn advance(&self, span: Duration) {
        self.0.fetch_add(u64::try_from(span.as_micros()).unwrap(), Ordering::SeqCst);
    }
}

/// The moment at which every [`HandClock`] starts.
pub const START: i64 = 1_767_225_600_000_000;

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(START + i64::try_from(self.0.load(Ordering::SeqCst)).unwrap())
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::SeqCst))
    }
}

/// A runtime that notes whom it was told to interrupt.
#[derive(Clone, Default)]
pub struct Interrupts(pub Log<(TaskId, Fence)>);

impl Runtime for Interrupts {
    fn interrupt(&self, task: &Arc<Task>, fence: Fence) {
        self.0.add((task.id(), fence));
    }
}

/// An event loop that notes when it is woken, and takes when the test says so.
#[derive(Clone, Default)]
pub struct Host(pub Log<()>);

impl LoopHost for Host {
    fn wake(&self) {
        self.0.add(());
    }
}

/// What the loop can take now.
pub fn take(engine: &Engine) -> Vec<Started> {
    let mut started = Vec::new();
    engine.take(&mut started);
    started
}

/// Takes one for the loop, however many looks that needs: on a file it has to be claimed first.
pub fn take_one(engine: &Engine) -> Started {
    let taken = RefCell::new(Vec::new());
    eventually("the loop has it", || {
        taken.borrow_mut().extend(take(engine));
        !taken.borrow().is_empty()
    });
    taken.into_inner().remove(0)
}

/// Takes so many for the pool, however many looks that needs.
pub fn take_pooled(engine: &Engine, count: usize) -> Vec<Started> {
    let taken = RefCell::new(Vec::new());
    eventually("the pool has them", || {
        engine.take_pooled(&mut |one| {
            taken.borrow_mut().extend(one);
            taken.borrow().len() < count
        });
        taken.borrow().len() == count
    });
    taken.into_inner()
}

pub fn options(workers: usize) -> EngineOptions {
    EngineOptions { workers, ..EngineOptions::default() }
}

pub fn memory(options: EngineOptions) -> Engine {
    Engine::new(Box::new(MemoryStore::default()), options).unwrap()
}

/// An engine over a memory store with these bounds.
pub fn bounded(workers: usize, bounds: MemoryOptions) -> Engine {
    Engine::new(Box::new(MemoryStore::new(bounds)), options(workers)).unwrap()
}

/// A started engine with so many workers.
pub fn started(workers: usize) -> Arc<Engine> {
    let engine = memory(options(workers));
    engine.start().unwrap();
    Arc::new(engine)
}

pub fn register(
    engine: &Engine,
    name: &str,
    handler: impl Fn(&Attempt) -> Outcome + Send + Sync + 'static,
) -> Arc<HandlerEntry> {
    register_with(engine, name, Options::default(), handler)
}

pub fn register_with(
    engine: &Engine,
    name: &str,
    options: Options,
    handler: impl Fn(&Attempt) -> Outcome + Send + Sync + 'static,
) -> Arc<HandlerEntry> {
    engine.register(name, options, Handler::Blocking(Box::new(handler))).unwrap()
}

pub fn register_async(engine: &Engine, name: &str, options: Options) -> Arc<HandlerEntry> {
    engine.register(name, options, Handler::Asynchronous(Arc::new(()))).unwrap()
}

/// A handler that gives back its payload.
pub fn echo(attempt: &Attempt) -> Outcome {
    Outcome::success(payload(attempt))
}

pub fn payload(attempt: &Attempt) -> Vec<u8> {
    attempt.task().spec().payload.to_vec()
}

pub fn number(attempt: &Attempt) -> u32 {
    String::from_utf8(payload(attempt)).unwrap().parse().unwrap()
}

pub fn submit(engine: &Engine, entry: &HandlerEntry, payload: &str) -> Handle {
    engine.submit(entry, entry.admission(), payload.as_bytes().into(), None, false).unwrap()
}

pub fn submit_with(engine: &Engine, entry: &HandlerEntry, options: Options, payload: &str) -> Handle {
    try_submit(engine, entry, options, payload).unwrap()
}

pub fn try_submit(engine: &Engine, entry: &HandlerEntry, options: Options, payload: &str) -> Result<Handle> {
    let admission = engine.admission(&options.over(entry.options()))?;
    engine.submit(entry, &admission, payload.as_bytes().into(), None, false)
}

/// Waits for the outcome.
pub fn outcome(handle: &Handle) -> Result<Box<[u8]>> {
    assert!(handle.wait(Some(LONG)).unwrap(), "{handle:?} did not end");
    handle.outcome()
}

/// Waits for the result, as text.
pub fn result(handle: &Handle) -> String {
    String::from_utf8(outcome(handle).unwrap().into()).unwrap()
}

/// Waits for the error.
pub fn failure(handle: &Handle) -> Code {
    outcome(handle).unwrap_err().code()
}

/// The kinds and messages of all its attempts' errors.
pub fn errors(handle: &Handle) -> Vec<(String, String)> {
    handle.task().with_row(|row| {
        row.errors().iter().map(|error| (error.kind.clone(), error.message.clone())).collect()
    })
}

pub fn assert_state(handle: &Handle, state: State) {
    assert_eq!(handle.state(), state, "{handle:?}");
}

/// Runs something beside the test.
pub fn aside<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> std::thread::JoinHandle<T> {
    std::thread::spawn(body)
}

/// Runs what may hang on a thread of its own, and fails if it does.
pub fn in_time<T: Send + 'static>(what: &str, body: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let value = body();
        let _ = sender.send(());
        value
    });
    match receiver.recv_timeout(LONG) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what} hangs"),
        // Ended, well or by a panic, which is passed on.
        _ => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
    }
}

/// Waits for what has no signal of its own, without sleeping.
pub fn eventually(what: &str, condition: impl Fn() -> bool) {
    let limit = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < limit, "it never came to this: {what}");
        std::thread::yield_now();
    }
}

/// An engine whose time is the test's: it has no timer thread, and its clock stands still.
pub struct Timed {
    pub engine: Arc<Engine>,
    pub clock: Arc<HandClock>,
    pub interrupts: Log<(TaskId, Fence)>,
}

impl Timed {
    pub fn memory(workers: usize) -> Self {
        Self::over(Box::new(MemoryStore::default()), workers)
    }

    pub fn over(store: Box<dyn Store>, workers: usize) -> Self {
        Self::by(HandClock::new(), store, workers)
    }

    /// With a clock that others go by too.
    pub fn by(clock: Arc<HandClock>, store: Box<dyn Store>, workers: usize) -> Self {
        let interrupts = Interrupts::default();
        let log = interrupts.0.clone();
        let options = EngineOptions {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            runtime: Arc::new(interrupts),
            drive: Drive::Stepped,
            seed: Some(1),
            ..options(workers)
        };
        Self { engine: Arc::new(Engine::new(store, options).unwrap()), clock, interrupts: log }
    }

    pub fn started(self) -> Self {
        self.engine.start().unwrap();
        self
    }

    /// Does all that is due now; how long until the next time.
    pub fn step(&self) -> Duration {
        loop {
            let wait = self.engine.step();
            if !wait.is_zero() {
                return wait;
            }
        }
    }

    /// Turns the clock, then does all that is due.
    pub fn advance(&self, span: Duration) {
        self.clock.advance(span);
        self.step();
    }
}

/// A handler that notes each of its attempts, and waits at a gate in it.
pub fn gated(engine: &Engine, name: &str, options: Options) -> Gated {
    let (gate, begun) = (Gate::default(), Log::default());
    let (door, log) = (gate.clone(), begun.clone());
    let entry = register_with(engine, name, options, move |attempt: &Attempt| {
        log.add(attempt.clone());
        door.pass();
        echo(attempt)
    });
    Gated { entry, gate, begun }
}

pub struct Gated {
    pub entry: Arc<HandlerEntry>,
    pub gate: Gate,
    pub begun: Log<Attempt>,
}

pub const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Waits until nothing is accepted from outside any more.
pub fn until_it_drains(engine: &Engine, entry: &HandlerEntry) {
    let refused = || {
        engine
            .submit_many(entry, entry.admission(), std::iter::empty::<taskloom_engine::Input>(), false)
            .is_err()
    };
    eventually("it drains", refused);
}
