//! What the benchmarks share: an engine over the memory store with one handler that does nothing.
#![forbid(unsafe_code)]

use std::sync::Arc;

use taskloom_engine::{Attempt, Engine, EngineOptions, Handler, HandlerEntry, Outcome};
use taskloom_model::Options;
use taskloom_store::{MemoryOptions, MemoryStore};

/// An engine with this many workers over a memory store without bound, and its no-op handler.
pub fn engine(workers: usize) -> (Engine, Arc<HandlerEntry>) {
    let store = MemoryStore::new(MemoryOptions { capacity: usize::MAX, ..MemoryOptions::default() });
    let engine = Engine::new(Box::new(store), EngineOptions { workers, ..EngineOptions::default() })
        .expect("a memory store can always be joined");
    let noop = |_: &Attempt| Outcome::success(*b"null");
    let entry = engine
        .register("noop", Options::default(), Handler::Blocking(Box::new(noop)))
        .expect("the first handler of an engine");
    (engine, entry)
}
