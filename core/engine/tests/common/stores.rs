//! The same test on each kind of store: in memory, and on a real file.

use std::path::PathBuf;
use std::sync::Arc;

use taskloom_engine::{Clock, Drive, Engine, EngineOptions};
use taskloom_store::{MemoryStore, Store};
use taskloom_store_sqlite::{Durability, SqliteOptions, SqliteStore};
use tempfile::TempDir;

use super::{HandClock, Interrupts, Log, Timed, options};

/// A file in a folder of its own.
pub struct File(TempDir);

impl File {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> PathBuf {
        self.0.path().join("tasks.db")
    }

    pub fn store(&self) -> Box<dyn Store> {
        let options = SqliteOptions { durability: Durability::Process, ..SqliteOptions::default() };
        Box::new(SqliteStore::open(&self.path(), options).unwrap())
    }

    /// One more engine on this file; its id tells it from the others.
    pub fn timed(&self, clock: &Arc<HandClock>, options: EngineOptions) -> Timed {
        Timed::with(Arc::clone(clock), self.store(), options)
    }
}

/// Where a test runs.
pub enum Place {
    Memory,
    File(File),
}

impl Place {
    pub fn is_memory(&self) -> bool {
        matches!(self, Self::Memory)
    }

    pub fn store(&self) -> Box<dyn Store> {
        match self {
            Self::Memory => Box::new(MemoryStore::default()),
            Self::File(file) => file.store(),
        }
    }

    /// An engine with so many workers, on the hand clock.
    pub fn timed(&self, workers: usize) -> Timed {
        self.timed_with(options(workers))
    }

    pub fn timed_with(&self, options: EngineOptions) -> Timed {
        Timed::with(HandClock::new(), self.store(), options)
    }
}

/// Runs a test in memory and on a file.
pub fn on_both(test: impl Fn(&Place)) {
    for place in [Place::Memory, Place::File(File::new())] {
        // Shown where the test fails.
        eprintln!("{}", if place.is_memory() { "in memory:" } else { "on a file:" });
        test(&place);
    }
}

impl Timed {
    /// An engine with these options, but for the clock and the runtime, which are the test's.
    pub fn with(clock: Arc<HandClock>, store: Box<dyn Store>, options: EngineOptions) -> Self {
        let interrupts = Interrupts::default();
        let log: Log<_> = interrupts.0.clone();
        let options = EngineOptions {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            runtime: Arc::new(interrupts),
            drive: Drive::Stepped,
            ..options
        };
        Self { engine: Arc::new(Engine::new(store, options).unwrap()), clock, interrupts: log }
    }
}
