//! Who holds the file when a write has waited in vain: the error says it.
#![cfg(target_os = "linux")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rusqlite::Connection;
use taskloom_model::{Code, Error, Name, Timestamp};
use taskloom_store::Store;
use taskloom_store_sqlite::{SqliteOptions, SqliteStore};

const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

/// Tells a process of this file's own how it is to hold the file, and where that is.
const HOW: &str = "TASKLOOM_HELD_HOW";
const PLACE: &str = "TASKLOOM_HELD_PLACE";

fn open(path: &Path) -> Result<SqliteStore, Error> {
    let options = SqliteOptions { busy_timeout: Duration::from_millis(20), ..SqliteOptions::default() };
    SqliteStore::open(path, options)
}

/// A process that holds the file until it is ended.
struct Holder(Child);

impl Holder {
    fn start(how: &str, path: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_holder_in_another_process", "--nocapture"])
            .env(HOW, how)
            .env(PLACE, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // The test harness prints lines of its own.
        assert!(lines.any(|line| line.unwrap().ends_with("held")), "it ended before it held the file");
        Self(child)
    }

    fn name(&self) -> String {
        let pid = self.0.id();
        format!("process {pid} ({})", std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap().trim())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_holder_in_another_process() {
    let (Ok(how), Ok(path)) = (std::env::var(HOW), std::env::var(PLACE)) else { return };
    let say = || {
        println!("held");
        std::io::stdout().flush().unwrap();
        let _ = std::io::stdin().read_line(&mut String::new());
    };
    if how == "store" {
        // Its locks belong to open files, as those of every Taskloom process.
        let store = SqliteStore::open(Path::new(&path), SqliteOptions::default()).unwrap();
        let conn = Connection::open(&path).unwrap();
        conn.execute_batch("BEGIN IMMEDIATE").unwrap();
        say();
        drop((conn, store));
    } else {
        // As any other program: nothing of Taskloom's has been called here, and its SQLite locks as it always did.
        let conn = Connection::open(&path).unwrap();
        conn.execute_batch(&how).unwrap();
        say();
    }
}

fn told(error: &Error, who: &str) {
    assert_eq!(error.code(), Code::StoreFailed);
    assert!(error.message().contains(&format!("{who} kept it locked for 0.02 s")), "{error}");
    assert!(error.hint_text().is_some());
}

#[test]
fn another_program_that_writes_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tasks.db");
    let store = open(&path).unwrap();
    for how in ["BEGIN IMMEDIATE", "store"] {
        let holder = Holder::start(how, &path);
        told(&store.set_paused(Name::new("q"), true).unwrap_err(), &holder.name());
    }
    store.set_paused(Name::new("q"), true).unwrap();
}

#[test]
fn another_program_that_keeps_everybody_out_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tasks.db");
    drop(open(&path).unwrap());
    let holder = Holder::start(
        "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = DELETE; BEGIN EXCLUSIVE",
        &path,
    );
    told(&open(&path).unwrap_err(), &holder.name());
}

#[test]
fn a_process_that_is_stopped_is_said_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tasks.db");
    let store = open(&path).unwrap();
    let holder = Holder::start("store", &path);
    let signal = |name: &str| {
        assert!(Command::new("kill").args([name, &holder.0.id().to_string()]).status().unwrap().success());
    };
    signal("-STOP");
    let status = format!("/proc/{}/status", holder.0.id());
    // The signal is on its way; nothing tells of its arrival.
    while !std::fs::read_to_string(&status).unwrap().contains("State:\tT") {
        std::thread::yield_now();
    }
    let error = store.join("me", NOW).unwrap_err();
    told(&error, &format!("{}, which is stopped,", holder.name()));
    assert!(error.hint_text().unwrap().contains("go on"), "{error}");
    signal("-CONT");
}

#[test]
fn this_process_is_called_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tasks.db");
    let store = open(&path).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.set_paused(Name::new("q"), true).unwrap_err();
    told(&error, "this process itself");
    assert!(error.hint_text().unwrap().contains("another SQLite connection of this program"), "{error}");
}
