//! The file itself: whose it is, who shares it, what is left after something went wrong.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use taskloom_model::{
    Admission, Code, Error, Fence, Name, OnConflict, Operation, Options, OwnerId, Parent, Row, State, TaskId,
    Timestamp, admit,
};
use taskloom_store::{Batch, Claim, Commit, Insert, Nobody, Store, Task};
use taskloom_store_sqlite::{SqliteOptions, SqliteStore};
use tempfile::TempDir;

const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn open(path: &Path) -> Result<SqliteStore, Error> {
    // Nobody here waits for long, and a test that does has failed.
    SqliteStore::open(
        path,
        SqliteOptions { busy_timeout: Duration::from_millis(50), ..SqliteOptions::default() },
    )
}

fn task(number: u32, payload: Vec<u8>) -> Arc<Task> {
    let id = TaskId::from_bytes((u128::from(number) + 1).to_be_bytes());
    let (spec, row, _) =
        admit(&Admission::default(), id, Name::new("job"), payload.into_boxed_slice().into(), NOW).unwrap();
    Task::new(spec, row, None)
}

fn insert(tasks: &[Arc<Task>]) -> Insert {
    Insert { tasks: tasks.to_vec(), verdict: None }
}

fn claim(owner: OwnerId, limit: usize) -> Option<Claim> {
    Some(Claim { owner, queues: [].into(), names: [Name::new("job")].into(), limit })
}

fn succeed(task: &Arc<Task>, owner: OwnerId) -> Commit {
    let fence = Fence { owner, attempt: 1 };
    let operation = Operation::Succeed { fence, result: b"1".into(), metadata: None };
    Commit { task: Arc::clone(task), operation, spawn: Vec::new() }
}

#[test]
fn a_new_file_is_made_and_an_empty_one_filled() {
    let folder = folder();
    let path = folder.path().join("new.db");
    assert_eq!(open(&path).unwrap().path(), path);
    let path = folder.path().join("empty.db");
    std::fs::write(&path, b"").unwrap();
    open(&path).unwrap();
    let header = std::fs::read(&path).unwrap();
    assert_eq!(&header[68..72], b"Loom", "file(1) can tell what it is");
    assert_ne!(&header[60..64], [0, 0, 0, 0], "the version of its tables");
}

#[test]
fn names_that_mean_something_to_sqlite_are_only_names() {
    let folder = folder();
    for name in ["file:x?mode=memory", ":memory:", "a%20b", "ü '\u{1F9F6}.db"] {
        let path = folder.path().join(name);
        open(&path).unwrap();
        assert!(path.is_file(), "{name}");
    }
}

#[test]
fn what_is_not_a_database_is_refused_and_left_alone() {
    let folder = folder();
    let path = folder.path().join("letter.txt");
    let content = "Dear Sir or Madam, ".repeat(100);
    std::fs::write(&path, &content).unwrap();
    let error = open(&path).unwrap_err();
    assert_eq!(error.code(), Code::NotADatabase);
    assert_eq!(
        error.message(),
        format!("{} is not a Taskloom store: it is not an SQLite database", path.display())
    );
    assert!(error.hint_text().unwrap().contains("does not exist yet"));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
}

#[test]
fn another_applications_database_is_refused_and_left_alone() {
    let folder = folder();
    for (number, sql) in [
        "CREATE TABLE photos (id INTEGER PRIMARY KEY)",
        "PRAGMA application_id = 252006674; CREATE TABLE photos (id INTEGER PRIMARY KEY)",
        "PRAGMA user_version = 7",
        "PRAGMA application_id = 1",
    ]
    .iter()
    .enumerate()
    {
        let path = folder.path().join(format!("{number}.db"));
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let before = std::fs::read(&path).unwrap();
        let error = open(&path).unwrap_err();
        assert_eq!(error.code(), Code::NotADatabase, "{sql}: {error}");
        assert!(error.message().contains("another program"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before, "{sql}");
    }
}

#[test]
fn a_newer_schema_is_refused() {
    let folder = folder();
    let path = folder.path().join("new.db");
    drop(open(&path).unwrap());
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    let error = open(&path).unwrap_err();
    assert_eq!(error.code(), Code::NewerSchema);
    assert!(error.message().contains("version 99; this program knows "), "{error}");
    assert!(error.hint_text().unwrap().contains("upgrade"));
}

#[test]
fn places_where_no_file_can_be() {
    let folder = folder();
    let missing = folder.path().join("no/such/folder");
    let error = open(&missing.join("tasks.db")).unwrap_err();
    assert_eq!(error.code(), Code::StoreFailed);
    assert!(error.message().ends_with(&format!("{} is not a directory", missing.display())), "{error}");
    assert!(error.hint_text().unwrap().contains("make the directory first"));
    let error = open(folder.path()).unwrap_err();
    assert_eq!(error.code(), Code::StoreFailed);
    let words = format!("cannot open the SQLite store {}: it is a directory", folder.path().display());
    assert_eq!(error.message(), words);
    let inside = format!("name a file in it, such as sqlite:{}/tasks.db", folder.path().display());
    assert_eq!(error.hint_text(), Some(&*inside));
    assert_eq!(open(Path::new("")).unwrap_err().code(), Code::StoreFailed);
}

/// Refused for everybody, root included, for whom no folder is closed.
#[test]
fn a_folder_that_is_a_file() {
    let folder = folder();
    let file = folder.path().join("file");
    std::fs::write(&file, b"not a folder").unwrap();
    let error = open(&file.join("tasks.db")).unwrap_err();
    assert_eq!(error.code(), Code::StoreFailed);
    assert!(error.hint_text().is_some());
}

#[test]
fn many_open_a_new_file_at_once() {
    for _ in 0..20 {
        let folder = folder();
        let path = folder.path().join("tasks.db");
        let options = SqliteOptions::default();
        let stores: Vec<SqliteStore> = std::thread::scope(|scope| {
            let openers: Vec<_> = (0..8).map(|_| scope.spawn(|| SqliteStore::open(&path, options))).collect();
            openers.into_iter().map(|opener| opener.join().unwrap().unwrap()).collect()
        });
        let owners: Vec<_> = stores.iter().map(|store| store.join("me", NOW).unwrap().get()).collect();
        assert_eq!(owners, [1, 2, 3, 4, 5, 6, 7, 8]);
    }
}

#[test]
fn many_open_and_close_a_file_in_use() {
    let folder = folder();
    let path = folder.path().join("tasks.db");
    let options = SqliteOptions::default();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let path = &path;
            scope.spawn(move || {
                for round in 0..15 {
                    let store = SqliteStore::open(path, options).unwrap();
                    store.insert(&[task(thread * 100 + round, vec![])], NOW).unwrap();
                }
            });
        }
    });
    assert_eq!(open(&path).unwrap().counts().unwrap().get(State::Queued), 60);
}

#[test]
fn many_claim_from_one_file_and_each_task_goes_to_one() {
    const TASKS: u32 = 600;
    let folder = folder();
    let path = folder.path().join("tasks.db");
    let options = SqliteOptions::default();
    let all: Vec<_> = (0..TASKS).map(|number| task(number, vec![b'x'; 50])).collect();
    SqliteStore::open(&path, options).unwrap().insert(&all, NOW).unwrap();
    let work = || {
        let store = SqliteStore::open(&path, options).unwrap();
        let owner = store.join("worker", NOW).unwrap();
        let mut done = 0;
        loop {
            let mut batch = Batch { claim: claim(owner, 7), ..Batch::default() };
            store.write(&mut batch, &Nobody, NOW).unwrap();
            if batch.claimed.is_empty() {
                return done;
            }
            done += batch.claimed.len();
            let commits = batch.claimed.iter().map(|task| succeed(task, owner)).collect();
            let mut batch = Batch { commits, ..Batch::default() };
            store.write(&mut batch, &Nobody, NOW).unwrap();
            assert!(batch.verdicts.iter().all(Result::is_ok));
        }
    };
    let done: usize = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    assert_eq!(done, TASKS as usize);
    let store = open(&path).unwrap();
    assert_eq!(store.counts().unwrap().get(State::Succeeded), u64::from(TASKS));
    let attempts =
        |task: &Arc<Task>| store.get(task.id(), &Nobody).unwrap().unwrap().with_row(|row| row.attempt);
    assert!(all.iter().all(|task| attempts(task) == 1));
}

#[test]
fn somebody_who_holds_the_file_is_waited_for_and_then_named() {
    let folder = folder();
    let path = folder.path().join("tasks.db");
    let store = open(&path).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let job = task(1, vec![]);
    let mut batch = Batch { inserts: vec![insert(&[Arc::clone(&job)])], ..Batch::default() };
    let error = store.write(&mut batch, &Nobody, NOW).unwrap_err();
    assert_eq!(error.code(), Code::StoreFailed);
    assert!(error.code().is_retryable());
    assert!(error.message().contains("locked for 0.05 s"), "{error}");
    assert!(batch.inserts[0].verdict.is_none());
    assert!(store.get(job.id(), &Nobody).unwrap().is_none(), "reading goes on");
    other.execute_batch("ROLLBACK").unwrap();
    store.write(&mut batch, &Nobody, NOW).unwrap();
    assert!(batch.inserts[0].verdict.as_ref().unwrap().is_ok(), "the same batch, handed in again");
}

#[test]
fn other_programs_read_while_the_store_works() {
    let folder = folder();
    let path = folder.path().join("tasks.db");
    let store = open(&path).unwrap();
    store.insert(&[task(1, b"{\"a\": \"\xC3\xBC\"}".to_vec())], NOW).unwrap();
    let other = Connection::open(&path).unwrap();
    let read = "SELECT CAST(payload AS TEXT) FROM tasks";
    assert_eq!(other.query_row(read, [], |row| row.get::<_, String>(0)).unwrap(), "{\"a\": \"ü\"}");
    other.execute_batch("BEGIN; SELECT count(*) FROM tasks").unwrap();
    store.insert(&[task(2, vec![])], NOW).unwrap();
    other.execute_batch("COMMIT").unwrap();
}

/// `how`: SQLite itself ends the transaction, or leaves that to whoever began it.
fn a_batch_that_fails(how: &str) {
    let folder = folder();
    let path = folder.path().join("tasks.db");
    let store = open(&path).unwrap();
    let owner = store.join("me", NOW).unwrap();
    let (old, running) = (task(1, vec![]), task(2, vec![]));
    store.insert(&[Arc::clone(&running)], NOW).unwrap();
    let mut batch = Batch { claim: claim(owner, 1), ..Batch::default() };
    store.write(&mut batch, &Nobody, NOW).unwrap();
    let running = batch.claimed.remove(0);
    // Something in the middle of the batch fails: another program has forbidden a value.
    let other = Connection::open(&path).unwrap();
    let forbid = format!(
        "CREATE TRIGGER no BEFORE INSERT ON tasks WHEN length(NEW.payload) = 13 \
         BEGIN SELECT RAISE({how}, 'thirteen is forbidden'); END"
    );
    other.execute_batch(&forbid).unwrap();
    let unlucky = task(3, vec![0; 13]);
    let before = running.with_row(Row::clone);
    let mut commit = succeed(&running, owner);
    commit.spawn = vec![Arc::clone(&unlucky)];
    let mut batch = Batch {
        inserts: vec![insert(&[Arc::clone(&old)])],
        commits: vec![commit],
        claim: claim(owner, 9),
        ..Batch::default()
    };
    let error = store.write(&mut batch, &Nobody, NOW).unwrap_err();
    assert_eq!(error.code(), Code::StoreFailed);
    assert!(error.message().contains("thirteen is forbidden"), "{error}");
    assert!(error.message().contains(&path.display().to_string()), "{error}");
    assert_eq!(running.with_row(Row::clone), before);
    assert_eq!((batch.inserts.len(), batch.commits.len(), batch.claim.is_some()), (1, 1, true));
    assert!(batch.inserts[0].verdict.is_none() && batch.verdicts.is_empty() && batch.claimed.is_empty());
    assert!(store.get(old.id(), &Nobody).unwrap().is_none());
    assert_eq!(store.get(running.id(), &Nobody).unwrap().unwrap().with_row(Row::clone), before);

    other.execute_batch("DROP TRIGGER no").unwrap();
    store.write(&mut batch, &Nobody, NOW).unwrap();
    assert!(batch.verdicts[0].is_ok());
    assert_eq!(batch.claimed.len(), 2);
    assert_eq!(running.state(), State::Succeeded);
}

#[test]
fn a_failed_batch_changes_nothing_and_can_be_handed_in_again() {
    for how in ["ROLLBACK", "ABORT"] {
        a_batch_that_fails(how);
    }
}

#[test]
fn what_comes_while_a_batch_is_written_is_part_of_it() {
    let folder = folder();
    let path = folder.path().join("tasks.db");
    let store = open(&path).unwrap();
    let owner = store.join("me", NOW).unwrap();
    let later = Timestamp::from_micros(NOW.micros() + 7);
    for fails in [true, false] {
        // The third has the id of the first.
        let mut coming = vec![
            vec![insert(&[task(2, vec![])]), insert(&[task(0, vec![])])],
            vec![insert(&[task(3, vec![])])],
        ];
        coming.reverse();
        let mut batch =
            Batch { inserts: vec![insert(&[task(0, vec![])])], claim: claim(owner, 9), ..Batch::default() };
        let mut late = || {
            if fails && coming.len() == 1 {
                // Somebody makes the transaction fail, with what has joined it.
                std::fs::rename(&path, folder.path().join("away")).unwrap();
            }
            (coming.pop().unwrap_or_default(), later)
        };
        let written = store.write_with(&mut batch, &mut late, &Nobody, NOW);
        assert_eq!(batch.inserts.len(), 4);
        if fails {
            written.unwrap_err();
            std::fs::rename(folder.path().join("away"), &path).unwrap();
            assert!(store.list(&Default::default(), &Nobody).unwrap().is_empty());
            continue;
        }
        written.unwrap();
        let verdicts: Vec<_> =
            batch.inserts.iter().map(|insert| insert.verdict.as_ref().is_none_or(Result::is_ok)).collect();
        assert_eq!(verdicts, [true, true, false, true]);
        assert_eq!(batch.claimed.len(), 3, "what joins is there for the claim too");
        assert!(batch.claimed.iter().all(|task| task.with_row(|row| row.started) == Some(later)));
    }
}

#[test]
fn a_damaged_row_is_an_error_that_names_the_task() {
    for (damage, says) in [
        ("state = 77", "state 77 in the store is not known"),
        ("state = 300", "its state cannot be read"),
        ("state = -1", "its state cannot be read"),
        ("waiting_for = 6", "waiting_for 6 in the store is not known"),
        ("priority = 4", "priority 4 in the store is not known"),
        ("attempt = 5000000000", "its attempt cannot be read"),
        ("state = 2, owner = 0", "owner 0 cannot be"),
        ("history = '{\"v\":1,\"mood\":\"good\"}'", "unknown field `mood`"),
        ("history = '{\"v\":2}'", "of version 2; this program knows 1"),
        ("rare = 'nonsense'", "its options cannot be read"),
        ("rare = CAST(x'FF' AS TEXT)", "its rare is not text"),
    ] {
        let folder = folder();
        let path = folder.path().join("tasks.db");
        let store = open(&path).unwrap();
        let job = task(1, vec![]);
        store.insert(&[Arc::clone(&job)], NOW).unwrap();
        Connection::open(&path).unwrap().execute_batch(&format!("UPDATE tasks SET {damage}")).unwrap();
        let cancel = || {
            let operation = Operation::Cancel { reason: None };
            let commit = Commit { task: Arc::clone(&job), operation, spawn: Vec::new() };
            store.commit(commit, &mut Vec::new(), NOW)
        };
        let read = store.get(job.id(), &Nobody).unwrap_err();
        // A list leaves it out, and has it told of.
        assert!(store.list(&Default::default(), &Nobody).unwrap().is_empty());
        let mut errors = vec![read, store.damaged().unwrap().pop().unwrap()];
        // A change does not read what was asked for.
        let errors_in_changes = !damage.starts_with("priority") && !damage.starts_with("rare");
        if errors_in_changes {
            errors.push(cancel().unwrap_err());
        }
        for error in errors {
            assert_eq!(error.code(), Code::CorruptRow, "{damage}: {error}");
            assert!(error.message().contains(says), "{damage}: {error}");
            assert!(
                error.message().starts_with(&format!("task {} in {}: ", job.id(), path.display())),
                "{error}"
            );
        }
        // The store works on, and a commit of the same batch is not held up.
        let (other, operation) = (task(2, vec![]), Operation::Cancel { reason: None });
        store.insert(&[Arc::clone(&other)], NOW).unwrap();
        let change =
            |task: &Arc<Task>| Commit { task: Arc::clone(task), operation: operation.clone(), spawn: vec![] };
        let mut batch = Batch { commits: vec![change(&job), change(&other)], ..Batch::default() };
        store.write(&mut batch, &Nobody, NOW).unwrap();
        assert_eq!(batch.verdicts[0].is_err(), errors_in_changes);
        assert_eq!(other.state(), State::Cancelled);
    }
}

#[test]
fn a_panic_in_the_middle_rolls_back_and_poisons_nothing() {
    struct Nasty;
    impl taskloom_store::Residents for Nasty {
        fn resident(&self, _: TaskId) -> Option<Arc<Task>> {
            panic!("not today")
        }
    }
    let folder = folder();
    let store = open(&folder.path().join("tasks.db")).unwrap();
    let owner = store.join("me", NOW).unwrap();
    let (first, second) = (task(1, vec![]), task(2, vec![]));
    store.insert(&[Arc::clone(&first)], NOW).unwrap();
    let mut batch =
        Batch { inserts: vec![insert(&[Arc::clone(&second)])], claim: claim(owner, 9), ..Batch::default() };
    let outcome =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| store.write(&mut batch, &Nasty, NOW)));
    assert!(outcome.is_err());
    assert!(store.get(second.id(), &Nobody).unwrap().is_none());
    store.write(&mut batch, &Nobody, NOW).unwrap();
    assert_eq!(batch.claimed.len(), 2);
}

fn unique(number: u32, on_conflict: OnConflict) -> Arc<Task> {
    let id = TaskId::from_bytes((u128::from(number) + 1).to_be_bytes());
    let options =
        Options { unique_key: Some("once".into()), on_conflict: Some(on_conflict), ..Options::default() };
    let admission = Admission::new(&options).unwrap();
    let (spec, row, _) = admit(&admission, id, Name::new("job"), Default::default(), NOW).unwrap();
    Task::new(spec, row, None)
}

#[test]
fn a_damaged_holder_of_a_key_refuses_the_insert_and_no_other() {
    for damage in ["state = 77", "history = 'nonsense'", "rare = 'nonsense'"] {
        let folder = folder();
        let path = folder.path().join("tasks.db");
        let store = open(&path).unwrap();
        let holder = unique(0, OnConflict::Return);
        let mut batch = Batch { inserts: vec![insert(&[Arc::clone(&holder)])], ..Batch::default() };
        store.write(&mut batch, &Nobody, NOW).unwrap();
        Connection::open(&path).unwrap().execute_batch(&format!("UPDATE tasks SET {damage}")).unwrap();
        for (number, on_conflict) in [(1, OnConflict::Return), (2, OnConflict::Replace)] {
            let (new, other) = (unique(number, on_conflict), task(number + 10, vec![]));
            let inserts = [&new, &other].map(|task| insert(&[Arc::clone(task)])).into();
            let mut batch = Batch { inserts, ..Batch::default() };
            store.write(&mut batch, &Nobody, NOW).unwrap();
            let error = batch.inserts[0].verdict.as_ref().unwrap().as_ref().unwrap_err();
            assert_eq!(error.code(), Code::CorruptRow, "{damage}");
            assert!(error.message().starts_with(&format!("task {} in ", holder.id())), "{error}");
            assert!(batch.inserts[1].verdict.as_ref().unwrap().is_ok());
            assert!(store.get(new.id(), &Nobody).unwrap().is_none());
        }
    }
}

#[test]
fn a_damaged_child_does_not_hold_up_the_cancel_of_its_parent() {
    let folder = folder();
    let path = folder.path().join("tasks.db");
    let store = open(&path).unwrap();
    let owner = store.join("me", NOW).unwrap();
    let parent = task(1, vec![]);
    let mut commits =
        vec![Commit { task: Arc::clone(&parent), operation: Operation::Claim { owner }, spawn: Vec::new() }];
    let mut children = Vec::new();
    for ordinal in 0..3 {
        let mut spec = parent.spec().clone();
        spec.id = parent.id().child(ordinal);
        spec.rare.get_or_insert_default().parent = Some(Parent { id: parent.id(), ordinal, detached: false });
        let child = Task::new(spec, parent.with_row(Row::clone), None);
        let operation = Operation::Spawn { fence: Fence { owner, attempt: 1 }, ordinal };
        commits.push(Commit { task: Arc::clone(&parent), operation, spawn: vec![Arc::clone(&child)] });
        children.push(child);
    }
    let inserts = vec![insert(&[Arc::clone(&parent)])];
    let mut batch = Batch { inserts, commits, ..Batch::default() };
    store.write(&mut batch, &Nobody, NOW).unwrap();
    assert!(batch.verdicts.iter().all(Result::is_ok));
    let damage = "UPDATE tasks SET history = 'nonsense' WHERE id = ?1";
    let damaged = children[1].id();
    Connection::open(&path).unwrap().execute(damage, [damaged.as_bytes().as_slice()]).unwrap();
    let mut told = Vec::new();
    let cancel = Commit { task: parent, operation: Operation::Cancel { reason: None }, spawn: Vec::new() };
    assert_eq!(store.commit(cancel, &mut told, NOW).unwrap().to, State::Cancelled);
    let told: Vec<_> = told.iter().map(|change| change.task.id()).collect();
    assert_eq!(told, [children[0].id(), children[2].id()]);
    assert_eq!(store.get(damaged, &Nobody).unwrap_err().code(), Code::CorruptRow);
}

#[test]
fn of_many_openings_one_gets_the_key() {
    let folder = folder();
    let path = folder.path().join("tasks.db");
    let options = SqliteOptions::default();
    drop(open(&path).unwrap());
    for on_conflict in [OnConflict::Return, OnConflict::Replace] {
        let submit = |number| {
            let store = SqliteStore::open(&path, options).unwrap();
            let inserts = vec![insert(&[unique(number, on_conflict)])];
            let mut batch = Batch { inserts, ..Batch::default() };
            store.write(&mut batch, &Nobody, NOW).unwrap();
            batch.inserts[0].tasks[0].id()
        };
        let first = if on_conflict == OnConflict::Return { 100 } else { 200 };
        let mut got: Vec<TaskId> = std::thread::scope(|scope| {
            let submitters: Vec<_> = (first..first + 8)
                .map(|number| {
                    scope.spawn({
                        let submit = &submit;
                        move || submit(number)
                    })
                })
                .collect();
            submitters.into_iter().map(|submitter| submitter.join().unwrap()).collect()
        });
        got.sort();
        got.dedup();
        assert_eq!(got.len(), if on_conflict == OnConflict::Return { 1 } else { 8 });
        let store = open(&path).unwrap();
        assert_eq!(store.counts().unwrap().unfinished(), 1);
    }
}

/// The index that finds who has a key says the same: nobody can write a second holder.
#[test]
fn the_file_itself_allows_one_holder() {
    let folder = folder();
    let path = folder.path().join("tasks.db");
    let store = open(&path).unwrap();
    store.insert(&[task(1, vec![]), task(2, vec![])], NOW).unwrap();
    let other = Connection::open(&path).unwrap();
    let error = other.execute_batch("UPDATE tasks SET unique_key = 'k'").unwrap_err();
    assert!(error.to_string().contains("UNIQUE"), "{error}");
}

/// Has an owner claim three tasks, note what it begins, and die; and buries it: (state, crashes) of each.
fn die(begin: impl Fn(&SqliteStore, OwnerId, &[Arc<Task>])) -> Vec<(State, u8)> {
    let folder = folder();
    let path = folder.path().join("tasks.db");
    let store = open(&path).unwrap();
    let tasks: Vec<_> = (0..3).map(|number| task(number, b"null".to_vec())).collect();
    let owner = store.join("here", NOW).unwrap();
    store.note_begun(owner, 0, None, false);
    let mut batch = Batch { inserts: vec![insert(&tasks)], claim: claim(owner, 3), ..Batch::default() };
    store.write(&mut batch, &Nobody, NOW).unwrap();
    begin(&store, owner, &tasks);
    drop(store);
    let store = open(&path).unwrap();
    assert!(store.owners().unwrap()[0].gone);
    store.bury(owner, &Nobody, &mut Vec::new(), NOW).unwrap();
    let crashes = |task: &Arc<Task>| {
        let found = store.get(task.id(), &Nobody).unwrap().unwrap();
        found.with_row(|row| (row.state, row.crashes))
    };
    tasks.iter().map(crashes).collect()
}

#[test]
fn what_a_dead_owner_had_only_claimed_has_not_crashed() {
    let crashes = die(|store, owner, tasks| {
        store.note_begun(owner, 1, Some((tasks[1].id(), 1)), false);
        // An attempt before this one.
        store.note_begun(owner, 2, Some((tasks[2].id(), 0)), false);
    });
    assert_eq!(crashes, [(State::Queued, 0), (State::Queued, 1), (State::Queued, 0)]);
}

#[test]
fn beside_one_that_began_alone_nothing_has_crashed() {
    let begin = |alone: bool| {
        die(move |store, owner, tasks| {
            for (place, task) in tasks.iter().enumerate() {
                store.note_begun(owner, place + 1, Some((task.id(), 1)), place == 1);
            }
            // Its trial is over.
            if !alone {
                store.note_begun(owner, 2, Some((tasks[1].id(), 1)), false);
            }
        })
    };
    assert_eq!(begin(true), [(State::Queued, 0), (State::Queued, 1), (State::Queued, 0)]);
    assert_eq!(begin(false), [(State::Queued, 1); 3]);
}
