//! What can only be tried from inside: a full disk, and what SQLite was told.

use taskloom_model::{Admission, Fence, Name, Operation, Row, admit};
use taskloom_store::{Claim, Commit, Insert, Nobody};

use super::*;

const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

fn task(number: u8, payload: usize) -> Arc<Task> {
    let (id, payload) = (TaskId::from_bytes([number; 16]), vec![b'x'; payload].into());
    let (spec, row, _) = admit(&Admission::default(), id, Name::new("job"), payload, NOW).unwrap();
    Task::new(spec, row, None)
}

fn pragma(conn: &Connection, name: &str) -> i64 {
    conn.pragma_query_value(None, name, |stored| stored.get(0)).unwrap()
}

#[test]
fn sqlite_is_told_how_durable_to_be() {
    let folder = tempfile::tempdir().unwrap();
    for (durability, synchronous) in [(Durability::Disk, 2), (Durability::Process, 1)] {
        let options = SqliteOptions { durability, ..SqliteOptions::default() };
        let store = SqliteStore::open(&folder.path().join("tasks.db"), options).unwrap();
        let conn = store.writer.lock();
        assert_eq!(pragma(&conn, "synchronous"), synchronous);
        assert_eq!(pragma(&conn, "wal_autocheckpoint"), 10_000);
        let journal: String = conn.pragma_query_value(None, "journal_mode", |stored| stored.get(0)).unwrap();
        assert_eq!(journal, "wal");
        let locking: String = conn.pragma_query_value(None, "locking_mode", |stored| stored.get(0)).unwrap();
        assert_eq!(locking, "normal", "nobody is locked out");
        assert_eq!(pragma(&store.reader.lock(), "query_only"), 1);
    }
}

#[test]
fn a_full_disk_fails_the_batch_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("tasks.db"), SqliteOptions::default()).unwrap();
    let owner = store.join("me", NOW).unwrap();
    let running = task(1, 10);
    store.insert(&[Arc::clone(&running)], NOW).unwrap();
    let claim = Claim { owner, queues: [].into(), names: [Name::new("job")].into(), limit: 5 };
    let commit =
        Commit { task: Arc::clone(&running), operation: Operation::Claim { owner }, spawn: Vec::new() };
    store.commit(commit, &mut Vec::new(), NOW).unwrap();
    let before = running.with_row(Row::clone);

    let pages = pragma(&store.writer.lock(), "page_count");
    store.writer.lock().pragma_update_and_check(None, "max_page_count", pages + 2, |_| Ok(())).unwrap();
    let fence = Fence { owner, attempt: 1 };
    let operation = Operation::Succeed { fence, result: b"1".into(), metadata: None };
    let mut batch = Batch {
        inserts: [(2, 10), (3, 1 << 20)]
            .map(|(number, payload)| Insert { tasks: vec![task(number, payload)], verdict: None })
            .into(),
        commits: vec![Commit { task: Arc::clone(&running), operation, spawn: Vec::new() }],
        claim: Some(claim),
        ..Batch::default()
    };
    let error = store.write(&mut batch, &Nobody, NOW).unwrap_err();
    assert_eq!(error.code(), Code::StoreFailed);
    assert!(error.message().ends_with("tasks.db: the disk is full"), "{error}");
    assert!(error.hint_text().unwrap().contains("nothing was changed"));
    assert_eq!(running.with_row(Row::clone), before);
    assert!(store.get(TaskId::from_bytes([2; 16]), &Nobody).unwrap().is_none());

    // The same connection works on with what room there is, and the same batch succeeds when there is more.
    store.insert(&[task(4, 10)], NOW).unwrap();
    store.writer.lock().pragma_update_and_check(None, "max_page_count", 1 << 30, |_| Ok(())).unwrap();
    store.write(&mut batch, &Nobody, NOW).unwrap();
    assert!(batch.verdicts[0].is_ok());
    assert_eq!(batch.claimed.len(), 3);
    assert_eq!(running.state(), State::Succeeded);
}
