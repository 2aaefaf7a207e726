//! The view `taskloom_tasks`, as any SQL client reads it. docs/schema.md promises what is tested here.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use taskloom_model::{
    Admission, Failure, Fence, Name, Operation, Options, Parent, Priority, State, TaskId, Timestamp,
    WaitingFor, admit,
};
use taskloom_store::{Batch, Claim, Commit, Insert, Nobody, Store, Task};
use taskloom_store_sqlite::{SqliteOptions, SqliteStore};

const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_042);

fn task(options: &Options, payload: &[u8], parent: Option<Parent>) -> Arc<Task> {
    task_of(TaskId::from_bytes([0xAB; 16]), options, payload, parent)
}

fn task_of(id: TaskId, options: &Options, payload: &[u8], parent: Option<Parent>) -> Arc<Task> {
    let admission = Admission::new(options).unwrap();
    let (mut spec, row, _) = admit(&admission, id, Name::new("mail/send"), payload.into(), NOW).unwrap();
    if parent.is_some() {
        spec.rare.get_or_insert_default().parent = parent;
    }
    Task::new(spec, row, None)
}

/// The view's row of the only task, or of the one with the largest id, as text.
fn read(path: &Path) -> Vec<(String, Option<String>)> {
    let conn = Connection::open(path).unwrap();
    let mut statement = conn.prepare("SELECT * FROM taskloom_tasks ORDER BY id DESC").unwrap();
    let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let text = |value: rusqlite::types::Value| match value {
        rusqlite::types::Value::Null => None,
        rusqlite::types::Value::Integer(number) => Some(number.to_string()),
        rusqlite::types::Value::Text(text) => Some(text),
        other => panic!("{other:?}"),
    };
    statement
        .query_row([], |stored| {
            names.iter().enumerate().map(|(at, name)| Ok((name.clone(), text(stored.get(at)?)))).collect()
        })
        .unwrap()
}

fn field(row: &[(String, Option<String>)], name: &str) -> Option<String> {
    row.iter().find(|(own, _)| own == name).unwrap_or_else(|| panic!("no column {name}")).1.clone()
}

fn insert(store: &SqliteStore, task: &Arc<Task>) {
    let insert = Insert { tasks: vec![Arc::clone(task)], verdict: None };
    let mut batch = Batch { inserts: vec![insert], ..Batch::default() };
    store.write(&mut batch, &Nobody, NOW).unwrap();
    batch.inserts.pop().unwrap().verdict.unwrap().unwrap();
}

#[test]
fn a_task_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tasks.db");
    let store = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
    let options = Options {
        queue: Some("mails".into()),
        priority: Some(Priority::High),
        retries: Some(2),
        tags: vec!["img".into(), "a b".into()],
        unique_key: Some("order 7".into()),
        metadata: vec![("initiator".into(), "me".into())],
        correlation_id: Some("c-1".into()),
        ..Options::default()
    };
    let task = task(&options, r#"{"to":"ü"}"#.as_bytes(), None);
    insert(&store, &task);
    let row = read(&path);
    for (name, value) in [
        ("id", "abababab-abab-abab-abab-abababababab"),
        ("name", "mail/send"),
        ("queue", "mails"),
        ("priority", "high"),
        ("state", "queued"),
        ("attempt", "0"),
        ("failures", "0"),
        ("crashes", "0"),
        ("retries", "2"),
        ("generation", "0"),
        ("created", "2026-01-01T00:00:00.000042Z"),
        ("eligible", "2026-01-01T00:00:00.000042Z"),
        ("tags", r#"["img","a b"]"#),
        ("metadata", r#"{"initiator":"me"}"#),
        ("unique_key", "order 7"),
        ("correlation_id", "c-1"),
        ("payload", r#"{"to":"ü"}"#),
    ] {
        assert_eq!(field(&row, name).as_deref(), Some(value), "{name}");
    }
    for name in [
        "started",
        "finished",
        "owner",
        "result",
        "error_type",
        "error_message",
        "reason",
        "parent",
        "key",
        "waiting_for",
    ] {
        assert_eq!(field(&row, name), None, "{name}");
    }
    assert_eq!(field(&row, "id").unwrap(), task.id().to_string());
    assert_eq!(field(&row, "created").unwrap(), NOW.to_string());

    let owner = store.join("here", NOW).unwrap();
    let claim = Claim { owner, queues: [].into(), names: [Name::new("mail/send")].into(), limit: 1 };
    store.write(&mut Batch { claim: Some(claim), ..Batch::default() }, &Nobody, NOW).unwrap();
    assert_eq!(field(&read(&path), "state").as_deref(), Some("running"));
    assert_eq!(field(&read(&path), "owner"), Some(owner.get().to_string()));
    let failure = Failure {
        kind: "SMTPError".into(),
        message: "no such box".into(),
        backtrace: "at line 7".into(),
        attempt: 1,
        at: NOW,
    };
    let operation = Operation::Fail {
        fence: Fence { owner, attempt: 1 },
        failure: Box::new(failure),
        permanent: true,
        retry_after: None,
        chance: 0.0,
    };
    let later = NOW + Duration::from_secs(1);
    store.commit(Commit { task, operation, spawn: Vec::new() }, &mut Vec::new(), later).unwrap();
    let row = read(&path);
    for (name, value) in [
        ("state", "failed"),
        ("failures", "1"),
        ("error_type", "SMTPError"),
        ("error_message", "no such box"),
        ("finished", "2026-01-01T00:00:01.000042Z"),
    ] {
        assert_eq!(field(&row, name).as_deref(), Some(value), "{name}");
    }
}

#[test]
fn every_state_and_priority_has_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tasks.db");
    let store = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
    insert(&store, &task(&Options::default(), b"null", None));
    let conn = Connection::open(&path).unwrap();
    for state in State::ALL {
        conn.execute("UPDATE tasks SET state = ?1", [state.number()]).unwrap();
        assert_eq!(field(&read(&path), "state").as_deref(), Some(state.as_str()));
    }
    for priority in Priority::ALL {
        conn.execute("UPDATE tasks SET priority = ?1", [priority.number()]).unwrap();
        assert_eq!(field(&read(&path), "priority").as_deref(), Some(priority.as_str()));
    }
    for waiting_for in WaitingFor::ALL {
        conn.execute("UPDATE tasks SET waiting_for = ?1", [waiting_for.number()]).unwrap();
        let name = Some(waiting_for.as_str()).filter(|_| *waiting_for != WaitingFor::Nothing);
        assert_eq!(field(&read(&path), "waiting_for").as_deref(), name);
    }
}

#[test]
fn what_waits_for_its_key_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tasks.db");
    let store = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
    let options = Options { key: Some("tenant 7".into()), concurrency: Some(1), ..Options::default() };
    insert(&store, &task_of(TaskId::from_bytes([0xAA; 16]), &options, b"null", None));
    insert(&store, &task(&options, b"null", None));
    let row = read(&path);
    for (name, value) in [("state", "pending"), ("waiting_for", "key"), ("key", "tenant 7")] {
        assert_eq!(field(&row, name).as_deref(), Some(value), "{name}");
    }
}

#[test]
fn a_child_names_its_parent_and_what_waits_for_ever_has_no_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tasks.db");
    let store = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
    let parent = TaskId::from_bytes([0xCD; 16]);
    insert(
        &store,
        &task(&Options::default(), b"null", Some(Parent { id: parent, ordinal: 0, detached: false })),
    );
    assert_eq!(field(&read(&path), "parent"), Some(parent.to_string()));
    let conn = Connection::open(&path).unwrap();
    conn.execute("UPDATE tasks SET eligible = ?1", [i64::MAX]).unwrap();
    assert_eq!(field(&read(&path), "eligible"), None);
}
