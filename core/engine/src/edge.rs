//! The engine's edge: the one module that reads clocks, starts threads and finds a seed.
//!
//! Everything else takes time, chance and threads from here, through [`Clock`] and arguments, so that a test or a
//! simulation can bring its own.
#![allow(clippy::disallowed_methods, reason = "this is the edge that the bans point to")]

use std::io;
use std::sync::OnceLock;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use taskloom_model::Timestamp;

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
        Timestamp::from_micros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    }
}

/// The moment that lies `span` ahead, for waits of real threads. A span that no clock can hold means for ever.
pub(crate) fn deadline_in(span: Duration) -> Option<Instant> {
    Instant::now().checked_add(span)
}

/// What a thread that runs handlers may put on its stack: as much as a main thread usually may, since parsers and
/// the like recurse in handlers too. Memory is taken only as far as it is used.
const STACK: usize = 8 << 20;

/// Starts a named thread.
pub(crate) fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name).stack_size(STACK).spawn(body)
}

/// Starts a named thread for a binding, which must see to its end itself.
pub fn spawn_thread(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    spawn(name.to_owned(), body).map(drop)
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

/// What this process calls itself among the owners of a store.
pub(crate) fn process_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}:{}", host.trim(), std::process::id())
}
