//! A disk that takes its time: others hear of a commit when it is there, however long its sync has taken.

use std::sync::Arc;
use std::time::Duration;

use taskloom_model::{Admission, Name, TaskId, Timestamp, admit};
use taskloom_store::{Batch, Insert, Nobody, Store, Task};
use taskloom_store_sqlite::{SqliteOptions, SqliteStore};
use tempfile::TempDir;

use crate::vfs::{Call, Shim};

const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

/// Longer than the ladder of looks that follows an event.
const A_WHILE: Duration = Duration::from_millis(60);

/// Longer than anything takes.
const LONG: Duration = Duration::from_secs(60);

fn task(number: u8) -> Arc<Task> {
    let admission = Admission::default();
    let (spec, row, _) =
        admit(&admission, TaskId::from_bytes([number; 16]), Name::new("job"), Default::default(), NOW)
            .unwrap();
    Task::new(spec, row, None)
}

fn insert(store: &SqliteStore, task: &Arc<Task>) {
    let inserts = vec![Insert { tasks: vec![Arc::clone(task)], verdict: None }];
    store.write(&mut Batch { inserts, ..Batch::default() }, &Nobody, NOW).unwrap();
}

/// Hears what there is to hear of what was done before.
fn quiet(store: &SqliteStore) {
    while store.await_news(A_WHILE).changes {}
}

/// A process that has heard all there is to hear, and another on the same file, whose next sync is held.
struct Scene {
    here: SqliteStore,
    there: SqliteStore,
    shim: &'static Shim,
    _folder: TempDir,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tasks.db");
        let here = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
        let shim = Shim::new();
        let there =
            SqliteStore::open(&path, SqliteOptions { vfs: Some(shim.name()), ..SqliteOptions::default() })
                .unwrap();
        insert(&there, &task(1));
        quiet(&here);
        shim.hold(Call::Sync);
        Self { here, there, shim, _folder: folder }
    }
}

#[test]
fn a_commit_whose_sync_takes_long_is_heard_of() {
    let Scene { here, there, shim, .. } = &Scene::new();
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| insert(there, &task(2)));
        shim.await_held();
        // The log has been written to, and that is all that the system tells. More than one wait goes by.
        for _ in 0..3 {
            assert!(!here.await_news(A_WHILE).changes, "nothing is there to be heard of");
        }
        shim.let_go();
        writing.join().unwrap();
    });
    assert!(here.await_news(LONG).changes);
    assert!(here.get(task(2).id(), &Nobody).unwrap().is_some());
}

#[test]
fn whoever_waits_meanwhile_hears_of_it_too() {
    let Scene { here, there, shim, .. } = &Scene::new();
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| insert(there, &task(2)));
        shim.await_held();
        assert!(!here.await_news(A_WHILE).changes);
        let hearing = scope.spawn(|| here.await_news(LONG).changes);
        shim.let_go();
        writing.join().unwrap();
        assert!(hearing.join().unwrap());
    });
}

/// Two commits there, of which the second is in its sync when the first is heard of; after the first, `ours` is done here.
fn both_are_heard_of(ours: impl FnOnce(&SqliteStore)) {
    let Scene { here, there, shim, .. } = &Scene::new();
    std::thread::scope(|scope| {
        shim.let_go();
        insert(there, &task(2));
        ours(here);
        shim.hold(Call::Sync);
        let writing = scope.spawn(|| insert(there, &task(3)));
        shim.await_held();
        assert!(here.await_news(LONG).changes, "the first");
        shim.let_go();
        writing.join().unwrap();
        assert!(here.await_news(LONG).changes, "the second");
    });
}

/// The event of the second tells nothing of its own: it was there when the first was heard of.
#[test]
fn a_commit_that_begins_before_another_is_heard_of_is_heard_of_too() {
    both_are_heard_of(|_| {});
}

/// As before, but it is a transaction of ours that has seen the first.
#[test]
fn a_commit_that_begins_before_we_tell_of_another_is_heard_of_too() {
    both_are_heard_of(|here| insert(here, &task(4)));
}

/// What is given up is no news, and nothing is looked for any longer.
#[test]
fn a_transaction_that_is_given_up_is_no_news() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tasks.db");
    let here = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
    let conn = rusqlite::Connection::open(&path).unwrap();
    // It writes more than fits into its memory, so that the log grows before it commits.
    conn.execute_batch("PRAGMA cache_size = 2; BEGIN IMMEDIATE; CREATE TABLE big (x)").unwrap();
    quiet(&here);
    for _ in 0..100 {
        conn.execute("INSERT INTO big VALUES (randomblob(4000))", []).unwrap();
    }
    assert!(!here.await_news(A_WHILE).changes);
    assert!(!here.await_news(A_WHILE).changes);
    conn.execute_batch("ROLLBACK").unwrap();
    // One look finds the lock free; from then on it is as quiet as before.
    assert!(!here.await_news(A_WHILE).changes);
    insert(&here, &task(1));
    assert!(here.get(task(1).id(), &Nobody).unwrap().is_some());
}
