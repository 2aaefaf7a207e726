//! A file that is moved, deleted or replaced while it is open: nothing is accepted for it, and it is said why.
#![cfg(target_os = "linux")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use taskloom_model::{Admission, Code, Error, Name, State, TaskId, Timestamp, admit};
use taskloom_store::{Batch, Insert, Nobody, Store, Task};
use taskloom_store_sqlite::{SqliteOptions, SqliteStore};

const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

fn task(number: u32) -> Arc<Task> {
    let id = TaskId::from_bytes((u128::from(number) + 1).to_be_bytes());
    let (spec, row, _) = admit(&Admission::default(), id, Name::new("job"), Default::default(), NOW).unwrap();
    Task::new(spec, row, None)
}

fn submit(store: &SqliteStore, number: u32) -> Result<(), Error> {
    store.insert(&[task(number)], NOW)
}

/// A store in a directory of its own, with one task; and where it is.
fn store(folder: &Path) -> (SqliteStore, PathBuf) {
    let directory = folder.join("here");
    std::fs::create_dir(&directory).unwrap();
    let path = directory.join("tasks.db");
    let store = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
    submit(&store, 0).unwrap();
    (store, path)
}

fn refused(store: &SqliteStore, says: &str) {
    for _ in 0..2 {
        let error = submit(store, 1).unwrap_err();
        assert_eq!(error.code(), Code::StoreFailed, "{error}");
        assert!(error.message().contains(says), "{error}");
        assert!(error.hint_text().is_some());
    }
    // Whatever writes is refused, and the batch stays as it is.
    let mut batch =
        Batch { inserts: vec![Insert { tasks: vec![task(1)], verdict: None }], ..Batch::default() };
    assert!(store.write(&mut batch, &Nobody, NOW).is_err());
    assert!(batch.inserts[0].verdict.is_none());
    assert!(store.join("me", NOW).is_err());
    assert!(store.check().unwrap_err().message().contains(says));
}

fn assert_one_task(store: &SqliteStore) {
    assert_eq!(store.counts().unwrap().get(State::Queued), 1, "what was refused is not there");
}

fn with_its_files(path: &Path) -> Vec<PathBuf> {
    ["", "-wal", "-shm"]
        .map(|end| {
            let mut name = path.as_os_str().to_owned();
            name.push(end);
            PathBuf::from(name)
        })
        .into()
}

#[test]
fn a_file_that_was_moved_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let (store, path) = store(folder.path());
    let aside = folder.path().join("aside.db");
    for (from, to) in with_its_files(&path).iter().zip(with_its_files(&aside)) {
        std::fs::rename(from, to).unwrap();
    }
    refused(&store, "tasks.db was moved or deleted after it was opened");
    for (from, to) in with_its_files(&aside).iter().zip(with_its_files(&path)) {
        std::fs::rename(from, to).unwrap();
    }
    store.check().unwrap();
    assert_one_task(&store);
    submit(&store, 1).unwrap();
    drop(store);
    let again = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
    assert_eq!(again.counts().unwrap().get(State::Queued), 2);
}

#[test]
fn a_file_that_was_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let (store, path) = store(folder.path());
    std::fs::remove_file(&path).unwrap();
    refused(&store, "tasks.db was moved or deleted after it was opened");
}

#[test]
fn a_file_in_whose_place_another_was_put() {
    let folder = tempfile::tempdir().unwrap();
    let (store, path) = store(folder.path());
    let copy = folder.path().join("copy.db");
    rusqlite::Connection::open(&path).unwrap().execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
    std::fs::rename(&copy, &path).unwrap();
    refused(&store, "another file has taken the place of");
}

#[test]
fn a_directory_that_vanished() {
    let folder = tempfile::tempdir().unwrap();
    let (store, path) = store(folder.path());
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    refused(&store, "its directory");
    drop(store);
}

#[test]
fn a_log_that_was_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let (store, path) = store(folder.path());
    std::fs::remove_file(&with_its_files(&path)[1]).unwrap();
    refused(&store, "tasks.db-wal was moved or deleted");
}

/// A link is another name of the file: it may go elsewhere, and then names another.
#[test]
fn a_link_that_was_turned_to_another_file() {
    let folder = tempfile::tempdir().unwrap();
    let (first, path) = store(folder.path());
    drop(first);
    let (link, other) = (folder.path().join("link.db"), folder.path().join("other.db"));
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let store = SqliteStore::open(&link, SqliteOptions::default()).unwrap();
    submit(&store, 2).unwrap();
    drop(SqliteStore::open(&other, SqliteOptions::default()).unwrap());
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&other, &link).unwrap();
    let error = submit(&store, 3).unwrap_err();
    assert!(error.message().contains("another file has taken the place of"), "{error}");
}
