//! The engine's edge: the one module that reads clocks, starts threads and finds a seed.
//!
//! Everything else takes time, chance and threads from here, through [`Clock`] and arguments, so that a test or a
//! simulation can bring its own.
#![allow(clippy::disallowed_methods, reason = "this is the edge that the bans point to")]

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use taskloom_model::{Code, Error, Timestamp};
use taskloom_sync::fork_generation;

/// Where the engine takes its time from.
pub trait Clock: Send + Sync {
    /// The time of day. It may jump.
    fn now(&self) -> Timestamp;

    /// Time that only goes forward, since some fixed moment.
    fn monotonic(&self) -> Duration;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // In two words; `as_micros` would reckon with four.
        let seconds = i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX);
        Timestamp::from_micros(
            seconds.saturating_mul(1_000_000).saturating_add(since_epoch.subsec_micros().into()),
        )
    }

    fn monotonic(&self) -> Duration {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    }
}

/// The moment that lies `span` ahead, for waits of real threads. A span that no clock can hold means for ever.
pub fn deadline_in(span: Duration) -> Option<Instant> {
    Instant::now().checked_add(span)
}

/// What a thread that runs handlers may put on its stack: as much as a main thread usually may, since parsers and
/// the like recurse in handlers too. Memory is taken only as far as it is used.
const STACK: usize = 8 << 20;

/// Engine threads that run in this process, or ran in the one that it was forked from when that happened.
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// The generation of forks in which a thread was last started.
static STARTED_IN: AtomicU32 = AtomicU32::new(0);

/// Refuses to go on in a process that was forked from one while engine threads ran there.
///
/// Those threads are not here, but what they slept on is: the table in which parking_lot keeps sleeping threads still
/// lists them, in memory that the next thread's stack will use. Nothing that sleeps or wakes can be trusted in such a
/// process, a new engine no more than the old one.
pub(crate) fn check_not_forked_from_threads() -> Result<(), Error> {
    if THREADS.load(Ordering::Relaxed) == 0 || STARTED_IN.load(Ordering::Relaxed) == fork_generation() {
        return Ok(());
    }
    Err(Error::new(Code::Forked, "this process was forked from one in which a Taskloom engine ran")
        .hint("fork before an app is started, or start the child as a process of its own (spawn)"))
}

/// Starts a named thread of an engine.
pub(crate) fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    struct Counted;
    impl Drop for Counted {
        fn drop(&mut self) {
            THREADS.fetch_sub(1, Ordering::Relaxed);
        }
    }
    STARTED_IN.store(fork_generation(), Ordering::Relaxed);
    THREADS.fetch_add(1, Ordering::Relaxed);
    let counted = Counted;
    start(name, move || {
        let _counted = counted;
        body();
    })
}

/// Starts a named thread for a binding, which must see to its end itself. It must not sleep on anything of
/// parking_lot's for longer than an engine lives.
pub fn spawn_thread(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    start(name.to_owned(), body).map(drop)
}

fn start(name: String, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name).stack_size(STACK).spawn(body)
}

/// Waits for a thread to end, if there is one and it is not the caller's own.
pub(crate) fn join(thread: &Mutex<Option<JoinHandle<()>>>) {
    let thread = thread.lock().take();
    if let Some(thread) = thread
        && thread.thread().id() != std::thread::current().id()
    {
        // Its panic has been printed; there is nobody to hand it to.
        let _ = thread.join();
    }
}

/// A seed that differs from process to process and from engine to engine.
pub(crate) fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one((std::process::id(), Instant::now()))
}

/// What an engine of this process calls itself among the owners of a store.
pub(crate) fn owner_name(name: Option<&str>) -> String {
    let process = process_name();
    match name {
        Some(name) => format!("{name}@{process}"),
        None => process,
    }
}

fn process_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}:{}", host.trim(), std::process::id())
}
