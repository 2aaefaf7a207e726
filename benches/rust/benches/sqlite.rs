//! On a file, with every commit synced to the disk.
//!
//! * Submit → result of no-ops through the whole engine, beside a loop of plain rusqlite that inserts the same rows into
//!   the same tables and then updates them, both in transactions of 1,024: what SQLite itself takes for the work.
//! * 64 that submit one by one, beside one: commits that come at once share a sync. Once as `submit_async` does it, all of
//!   them on one thread, and once with a thread for each, which costs two switches of threads for each submit.
#![allow(missing_docs, reason = "criterion's macros make items without documentation")]

use std::hint::black_box;
use std::path::Path;
use std::sync::{Arc, mpsc};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rusqlite::{Connection, params};
use taskloom_engine::{Attempt, Engine, EngineOptions, Handle, Handler, HandlerEntry, Outcome, Stop};
use taskloom_model::{Error, Options};
use taskloom_store_sqlite::{SqliteOptions, SqliteStore};
use tempfile::TempDir;

const TASKS: usize = 20_480;
const TRANSACTION: usize = 1_024;
const SUBMITTERS: usize = 64;
const EACH: usize = 100;

fn engine(path: &Path) -> (Engine, Arc<HandlerEntry>) {
    let store = SqliteStore::open(path, SqliteOptions::default()).expect("a new file");
    let options = EngineOptions { workers: 2, ..EngineOptions::default() };
    let engine = Engine::new(Box::new(store), options).expect("a new file");
    let noop = |_: &Attempt| Outcome::success(*b"null");
    let entry = engine
        .register("noop", Options::default(), Handler::Blocking(Box::new(noop)))
        .expect("the first handler of an engine");
    (engine, entry)
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a place for files")
}

fn end_to_end(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sqlite_end_to_end");
    group.sample_size(10).throughput(Throughput::Elements(TASKS as u64));

    let folder = folder();
    let (engine, entry) = engine(&folder.path().join("tasks.db"));
    engine.start().expect("threads start");
    group.bench_function("taskloom", |bencher| {
        bencher.iter(|| {
            let payloads = (0..TASKS).map(|_| (b"null".into(), None));
            let handles =
                engine.submit_many(&entry, entry.admission(), payloads, false).expect("it is written");
            for handle in &handles {
                handle.wait(None).expect("it runs");
                black_box(handle.outcome().expect("it succeeds"));
            }
        });
    });
    engine.stop(Stop::Finish);
    drop(engine);

    let path = folder.path().join("raw.db");
    drop(SqliteStore::open(&path, SqliteOptions::default()).expect("the same tables"));
    let conn = Connection::open(&path).expect("a database");
    conn.execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 10000").expect("settings");
    let mut next = 0u128;
    group.bench_function("rusqlite", |bencher| {
        bencher.iter(|| {
            let first = next;
            next += TASKS as u128;
            raw(&conn, first, next).expect("it is written");
        });
    });
    group.finish();
}

/// Inserts and then finishes rows with these numbers for ids.
fn raw(conn: &Connection, first: u128, end: u128) -> rusqlite::Result<()> {
    let ids: Vec<_> = (first..end).map(u128::to_be_bytes).collect();
    for ids in ids.chunks(TRANSACTION) {
        conn.execute_batch("BEGIN IMMEDIATE")?;
        let mut insert = conn.prepare_cached(
            "INSERT INTO tasks (id, state, waiting_for, crashes, generation, attempt, failures, unmet, eligible, \
             updated, queue, name, priority, created, retries, max_crashes, payload) \
             VALUES (?1, 1, 0, 0, 0, 0, 0, 0, ?2, ?2, 'default', 'noop', 1, ?2, 0, 3, ?3)",
        )?;
        for id in ids {
            insert.execute(params![id, 1_767_225_600_000_000i64, b"null"])?;
        }
        conn.execute_batch("COMMIT")?;
    }
    for ids in ids.chunks(TRANSACTION) {
        conn.execute_batch("BEGIN IMMEDIATE")?;
        let mut finish = conn.prepare_cached(
            "UPDATE tasks SET state = 4, attempt = 1, updated = ?2, started = ?2, finished = ?2, result = ?3 \
             WHERE id = ?1",
        )?;
        for id in ids {
            finish.execute(params![id, 1_767_225_601_000_000i64, b"null"])?;
        }
        conn.execute_batch("COMMIT")?;
    }
    Ok(())
}

/// As many submits as coroutines would have under way on one thread, each followed by the next when it is on disk.
fn submit_from_one_thread(engine: &Engine, entry: &HandlerEntry, under_way: usize, total: usize) {
    let (accepted, next) = mpsc::channel();
    let submit = || {
        let accepted = accepted.clone();
        let one = [(b"null".into(), None)];
        let tell = Box::new(move |handles: Result<Vec<Handle>, Error>| {
            accepted.send(handles.map(drop)).expect("it is waited for");
        });
        engine.submit_then(entry, entry.admission(), one.into_iter(), false, tell).expect("it is taken");
    };
    (0..under_way).for_each(|_| submit());
    for number in 1..=total {
        next.recv().expect("all are told").expect("it is written");
        if number + under_way <= total {
            submit();
        }
    }
}

fn submit_from_threads(engine: &Engine, entry: &HandlerEntry, threads: usize, total: usize) {
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for _ in 0..total / threads {
                    let handle = engine.submit(entry, entry.admission(), b"null".into(), None, false);
                    black_box(handle.expect("it is written"));
                }
            });
        }
    });
}

fn submitters(criterion: &mut Criterion) {
    type Submit = fn(&Engine, &HandlerEntry, usize, usize);
    let groups: [(&str, &str, Submit); 2] = [
        ("sqlite_submitters", "one", submit_from_one_thread),
        ("sqlite_submitting_threads", "one thread", submit_from_threads),
    ];
    for (group, alone, submit) in groups {
        let mut group = criterion.benchmark_group(group);
        group.sample_size(10);
        for (name, submitters) in [("taskloom", SUBMITTERS), (alone, 1)] {
            let folder = folder();
            // Not started: nothing but submits is measured.
            let (engine, entry) = engine(&folder.path().join("tasks.db"));
            let total = submitters * EACH;
            group.throughput(Throughput::Elements(total as u64));
            group.bench_function(name, |bencher| bencher.iter(|| submit(&engine, &entry, submitters, total)));
        }
        group.finish();
    }
}

criterion_group!(benches, end_to_end, submitters);
criterion_main!(benches);
