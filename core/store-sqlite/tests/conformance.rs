//! The SQLite store keeps the contract.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::sync::Arc;

use taskloom_store::Store;
use taskloom_store_sqlite::{Durability, SqliteOptions, SqliteStore};
use taskloom_testkit::{Harness, conformance};
use tempfile::TempDir;

struct Sqlite {
    folder: TempDir,
    files: Cell<u32>,
    last: RefCell<PathBuf>,
}

impl Sqlite {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), files: Cell::new(0), last: RefCell::default() }
    }

    fn open(&self) -> Arc<dyn Store> {
        // Syncs would only make the suite slower: what they are for is tested by cutting the power.
        let options = SqliteOptions { durability: Durability::Process, ..SqliteOptions::default() };
        Arc::new(SqliteStore::open(&self.last.borrow(), options).unwrap())
    }
}

impl Harness for Sqlite {
    fn fresh(&self) -> Arc<dyn Store> {
        self.files.set(self.files.get() + 1);
        self.last.replace(self.folder.path().join(format!("{}.db", self.files.get())));
        self.open()
    }

    fn again(&self) -> Option<Arc<dyn Store>> {
        Some(self.open())
    }
}

conformance!(Sqlite::new());

/// Over any sequence of commands, the file and the memory store say the same.
#[test]
fn agrees_with_the_memory_store() {
    let harness = Sqlite::new();
    taskloom_testkit::sequences::compare(|| harness.fresh());
}
