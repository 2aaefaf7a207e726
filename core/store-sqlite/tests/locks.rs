//! The store's locks: others see them, and nobody in this process can drop them, as another SQLite library would.
#![cfg(any(target_os = "linux", target_vendor = "apple"))]
#![allow(unsafe_code, reason = "fcntl, as another SQLite library calls it, has no safe form")]

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rusqlite::Connection;
use taskloom_model::{Admission, Name, State, TaskId, Timestamp, admit};
use taskloom_store::{Store, Task};
use taskloom_store_sqlite::{SqliteOptions, SqliteStore};

const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

/// Tells a process of this file's own which part it has, and where.
const PART: &str = "TASKLOOM_LOCKS_PART";
const PLACE: &str = "TASKLOOM_LOCKS_PLACE";

/// Where SQLite locks: the byte of the writer in shared memory, the byte that says it is in use, and the range that
/// every reader shares in the file.
const WRITER: i64 = 120;
const IN_USE: i64 = 128;
const SHARED: i64 = 0x4000_0000 + 2;

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, SqliteOptions::default()).unwrap()
}

fn memory(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-shm");
    name.into()
}

fn task(number: u32) -> Arc<Task> {
    let id = TaskId::from_bytes((u128::from(number) + 1).to_be_bytes());
    let (spec, row, _) = admit(&Admission::default(), id, Name::new("job"), Default::default(), NOW).unwrap();
    Task::new(spec, row, None)
}

fn insert(store: &SqliteStore, numbers: impl IntoIterator<Item = u32>) {
    for number in numbers {
        store.insert(&[task(number)], NOW).unwrap();
    }
}

fn assert_intact(path: &Path, tasks: u32) {
    let conn = Connection::open(path).unwrap();
    let said: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(said, "ok");
    let count: u32 = conn.query_row("SELECT count(*) FROM tasks", [], |row| row.get(0)).unwrap();
    assert_eq!(count, tasks);
}

/// Another SQLite library, in so far as locks are concerned: it uses the process's.
struct Other(File);

impl Other {
    fn open(path: &Path) -> Self {
        Self(OpenOptions::new().read(true).write(true).open(path).unwrap())
    }

    fn ask(&self, request: libc::c_int, kind: libc::c_int, byte: i64) -> Option<libc::flock> {
        // SAFETY: a plain structure of numbers.
        let mut about: libc::flock = unsafe { std::mem::zeroed() };
        about.l_type = libc::c_short::try_from(kind).unwrap();
        about.l_start = byte;
        about.l_len = 1;
        // SAFETY: these requests read and write one `flock`.
        (unsafe { libc::fcntl(self.0.as_raw_fd(), request, &raw mut about) } == 0).then_some(about)
    }

    /// Takes the lock, if it gets it.
    fn lock(&self, kind: libc::c_int, byte: i64) -> bool {
        self.ask(libc::F_SETLK, kind, byte).is_some()
    }

    /// Whether it would get it.
    fn is_free(&self, byte: i64) -> bool {
        let found = self.ask(libc::F_GETLK, libc::F_WRLCK, byte).unwrap();
        found.l_type == libc::c_short::try_from(libc::F_UNLCK).unwrap()
    }
}

/// This file's tests once more, in a process that has a part in one of them.
struct Process(Child, BufReader<std::process::ChildStdout>);

impl Process {
    fn start(part: &str, place: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_part_in_another_process", "--nocapture"])
            .env(PART, part)
            .env(PLACE, place)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self(child, lines)
    }

    /// Its next answer. The test harness prints lines of its own.
    fn answer(&mut self) -> String {
        let mut line = String::new();
        while self.1.read_line(&mut line).unwrap() > 0 {
            if let Some((_, answer)) = line.split_once("answer: ") {
                return answer.trim_end().to_owned();
            }
            line.clear();
        }
        panic!("it has ended")
    }

    /// Lets it go on.
    fn go_on(&mut self) {
        self.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    fn end(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}

#[test]
fn a_part_in_another_process() {
    let (Ok(part), Some(place)) = (std::env::var(PART), std::env::var_os(PLACE)) else { return };
    let path = PathBuf::from(place);
    let wait = || assert_eq!(std::io::stdin().read_line(&mut String::new()).unwrap(), 1);
    match part.as_str() {
        "look" => {
            let (file, memory) = (Other::open(&path), Other::open(&memory(&path)));
            println!(
                "answer: {} {} {}",
                file.is_free(SHARED),
                memory.is_free(IN_USE),
                memory.is_free(WRITER)
            );
        }
        "hold" => {
            let memory = Other::open(&memory(&path));
            println!("answer: {}", memory.lock(libc::F_WRLCK, WRITER));
            wait();
        }
        "insert" => {
            let store = open(&path);
            println!("answer: ready");
            wait();
            insert(&store, 10_000..10_200);
            // Opened and closed beside it, and beside the other process.
            for number in 10_200..10_220 {
                insert(&open(&path), [number]);
            }
            insert(&store, 10_220..10_300);
        }
        other => panic!("{other}"),
    }
}

fn look(path: &Path) -> String {
    let mut process = Process::start("look", path);
    let answer = process.answer();
    process.end();
    answer
}

#[test]
fn closing_the_file_elsewhere_in_the_process_drops_no_lock() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tasks.db");
    let store = open(&path);
    insert(&store, [1]);
    assert_eq!(look(&path), "false false true");
    // As Python's sqlite3 does when it is done with the file.
    for name in [path.clone(), memory(&path)] {
        drop(Other::open(&name));
    }
    assert_eq!(look(&path), "false false true");
    // In the middle of a transaction, it is the writer's lock.
    let conn = Connection::open(&path).unwrap();
    conn.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(look(&path), "false false false");
    drop(Other::open(&memory(&path)));
    assert_eq!(look(&path), "false false false");
    conn.execute_batch("ROLLBACK").unwrap();
    assert_eq!(look(&path), "false false true");
}

#[test]
fn the_locks_of_the_process_and_the_stores_exclude_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tasks.db");
    let store = SqliteStore::open(
        &path,
        SqliteOptions { busy_timeout: std::time::Duration::from_millis(20), ..SqliteOptions::default() },
    )
    .unwrap();
    let (file, memory) = (Other::open(&path), Other::open(&memory(&path)));
    assert!(!file.is_free(SHARED), "in the same process, too");
    assert!(!file.lock(libc::F_WRLCK, SHARED) && !memory.lock(libc::F_WRLCK, IN_USE));
    assert!(file.lock(libc::F_RDLCK, SHARED), "readers share");
    assert!(memory.lock(libc::F_WRLCK, WRITER));
    let error = store.insert(&[task(1)], NOW).unwrap_err();
    assert!(error.message().contains("kept it locked"), "{error}");
    assert!(memory.lock(libc::F_UNLCK, WRITER));
    insert(&store, [1]);
    // And those of another process.
    let mut process = Process::start("hold", &path);
    assert_eq!(process.answer(), "true");
    assert!(store.insert(&[task(2)], NOW).is_err());
    process.go_on();
    process.end();
    insert(&store, [2]);
}

#[test]
fn closing_the_store_drops_no_lock_of_others_in_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tasks.db");
    let keep = open(&path);
    let (file, shared) = (Other::open(&path), Other::open(&memory(&path)));
    assert!(file.lock(libc::F_RDLCK, SHARED) && shared.lock(libc::F_RDLCK, IN_USE));
    assert!(shared.lock(libc::F_WRLCK, WRITER));
    drop(keep);
    assert_eq!(look(&path), "false false false", "they are still those of the other library");
    // Opened again and again, no descriptors pile up.
    let mut seen = BTreeSet::new();
    for _ in 0..20 {
        drop(open(&path));
        seen.insert(descriptors(&path));
    }
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(look(&path), "false false false");
    assert!(file.lock(libc::F_UNLCK, SHARED) && shared.lock(libc::F_UNLCK, IN_USE));
    assert!(shared.lock(libc::F_UNLCK, WRITER));
    insert(&open(&path), [1]);
    assert_eq!(descriptors(&path), 2, "all closed, but for the two of the other library");
    assert!(!memory(&path).exists(), "who closes last takes the log away");
    assert_intact(&path, 1);
}

/// How many descriptors of the file and those beside it this process has, if the system tells.
fn descriptors(path: &Path) -> usize {
    let Ok(all) = std::fs::read_dir("/proc/self/fd") else { return 2 };
    let name = path.to_str().unwrap();
    all.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| target.to_str().is_some_and(|target| target.starts_with(name)))
        .count()
}

#[test]
fn of_two_stores_on_a_file_the_one_that_stays_keeps_its_locks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tasks.db");
    let (first, second) = (open(&path), open(&path));
    let work = |store: SqliteStore, numbers: std::ops::Range<u32>| {
        move || {
            insert(&store, numbers);
            store
        }
    };
    let (first, second) = std::thread::scope(|scope| {
        let first = scope.spawn(work(first, 0..200));
        let second = scope.spawn(work(second, 200..400));
        (first.join().unwrap(), second.join().unwrap())
    });
    // The first has the descriptor through which the file was first locked.
    drop(first);
    assert_eq!(look(&path), "false false true");
    insert(&second, [400]);
    drop(second);
    assert!(!memory(&path).exists(), "nothing was left locked: the last one could take the log away");
    assert_intact(&path, 401);
}

#[test]
fn two_processes_and_a_careless_neighbour_leave_the_file_intact() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tasks.db");
    let store = open(&path);
    let mut process = Process::start("insert", &path);
    assert_eq!(process.answer(), "ready");
    process.go_on();
    for number in 0..200 {
        insert(&store, [number]);
        drop(Other::open(&path));
        drop(Other::open(&memory(&path)));
    }
    insert(&open(&path), 200..300);
    process.end();
    assert_eq!(look(&path), "false false true");
    assert_eq!(store.counts().unwrap().get(State::Queued), 600);
    drop(store);
    assert!(!memory(&path).exists());
    assert_intact(&path, 600);
}
