//! The memory store keeps the contract.

use std::sync::Arc;

use taskloom_store::{MemoryOptions, MemoryStore, Store};
use taskloom_testkit::{Harness, conformance};

struct Memory;

impl Harness for Memory {
    fn fresh(&self) -> Arc<dyn Store> {
        Arc::new(MemoryStore::new(MemoryOptions::default()))
    }
}

conformance!(Memory);
