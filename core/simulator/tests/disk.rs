//! The simulated disk keeps the contract of a store that processes share.

use std::sync::Arc;

use parking_lot::Mutex;
use taskloom_simulator::checker::Checker;
use taskloom_simulator::disk::{Disk, Opened};
use taskloom_store::Store;
use taskloom_testkit::{Harness, conformance};

#[derive(Default)]
struct Simulated(Mutex<Option<Arc<Disk>>>);

impl Harness for Simulated {
    fn fresh(&self) -> Arc<dyn Store> {
        let disk = Disk::new(false, Arc::new(Mutex::new(Checker::new(false))));
        *self.0.lock() = Some(Arc::clone(&disk));
        Arc::new(Opened(disk.connect(1)))
    }

    fn again(&self) -> Option<Arc<dyn Store>> {
        let disk = self.0.lock().clone()?;
        Some(Arc::new(Opened(disk.connect(2))))
    }
}

conformance!(Simulated::default());
