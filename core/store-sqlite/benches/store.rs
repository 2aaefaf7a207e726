//! What the store costs, without an engine: tasks per second of each phase, on one thread.
//!
//! `cargo bench -p taskloom-store-sqlite`. Runs five times and prints the median; the disk's own syncs are part of it,
//! so compare figures of one run on one machine only. `TASKLOOM_BENCH_DIR` chooses where the file goes.
#![allow(clippy::disallowed_methods, reason = "a benchmark measures time")]
#![allow(missing_docs, reason = "a program, not a library")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use taskloom_model::{Admission, Fence, Name, Operation, OwnerId, TaskId, Timestamp, admit};
use taskloom_store::{Batch, Claim, Commit, Insert, Live, Nobody, Residents, Store, Task};
use taskloom_store_sqlite::{Durability, SqliteOptions, SqliteStore};

const TASKS: usize = 20_000;
const RUNS: usize = 5;

struct Figures {
    insert: Duration,
    claim: Duration,
    finish: Duration,
}

fn tasks(first: usize, count: usize, now: Timestamp) -> Vec<Arc<Task>> {
    let (admission, name) = (Admission::default(), Name::new("bench/noop"));
    let millis = u64::try_from(now.micros() / 1_000).unwrap();
    let task = |number: usize| {
        // Ids as the engine makes them: in the order of milliseconds, random within one.
        let chance = (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes();
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&chance);
        let id = TaskId::from_parts(millis, bytes);
        let (spec, row, _) = admit(&admission, id, name, [b'x'; 100].into(), now).unwrap();
        Task::new(spec, row, None)
    };
    (first..first + count).map(task).collect()
}

fn at(millis: usize) -> Timestamp {
    Timestamp::from_micros(1_790_000_000_000_000 + i64::try_from(millis).unwrap() * 1_000)
}

fn insert(store: &dyn Store, live: &Live, batch: usize) -> (Duration, Vec<Vec<Arc<Task>>>) {
    let made: Vec<_> = (0..TASKS / batch).map(|step| tasks(step * batch, batch, at(step))).collect();
    let began = Instant::now();
    for (step, tasks) in made.iter().enumerate() {
        tasks.iter().for_each(|task| live.insert(task));
        let inserts =
            tasks.iter().map(|task| Insert { tasks: vec![Arc::clone(task)], verdict: None }).collect();
        store.write(&mut Batch { inserts, ..Batch::default() }, live, at(step)).unwrap();
    }
    (began.elapsed(), made)
}

fn claim(owner: OwnerId, limit: usize) -> Claim {
    // As an engine asks: any queue, its own handlers.
    Claim { owner, queues: [].into(), names: [Name::new("bench/noop")].into(), limit }
}

fn finish(tasks: Vec<Arc<Task>>, owner: OwnerId) -> Vec<Commit> {
    let succeed = |task: Arc<Task>| {
        let attempt = task.with_row(|row| row.attempt);
        let fence = Fence { owner, attempt };
        let operation = Operation::Succeed { fence, result: b"null".into(), metadata: None };
        Commit { task, operation, spawn: Vec::new() }
    };
    tasks.into_iter().map(succeed).collect()
}

/// Insert all, claim all, finish all: what each step costs by itself.
fn phases(store: &dyn Store, live: &Live, hold: bool) -> Figures {
    let owner = store.join("bench", at(0)).unwrap();
    let mut held = Vec::new();
    let residents: &dyn Residents = if hold { live } else { &Nobody };
    let (inserted, _made) = insert(store, live, 1_000);
    let began = Instant::now();
    loop {
        let mut batch = Batch { claim: Some(claim(owner, 256)), ..Batch::default() };
        store.write(&mut batch, residents, at(100)).unwrap();
        if batch.claimed.is_empty() {
            break;
        }
        held.push(batch.claimed);
    }
    let claimed = began.elapsed();
    assert_eq!(held.iter().map(Vec::len).sum::<usize>(), TASKS);
    let began = Instant::now();
    for tasks in held {
        let mut batch = Batch { commits: finish(tasks, owner), ..Batch::default() };
        store.write(&mut batch, residents, at(200)).unwrap();
        assert!(batch.verdicts.iter().all(Result::is_ok));
    }
    Figures { insert: inserted, claim: claimed, finish: began.elapsed() }
}

/// As an engine does it: what ended and what is claimed next share a transaction.
fn together(store: &dyn Store, live: &Live) -> Duration {
    let owner = store.join("bench", at(0)).unwrap();
    let (inserted, _made) = insert(store, live, 1_000);
    let began = Instant::now();
    let mut commits = Vec::new();
    loop {
        let claim = Some(claim(owner, 256));
        let mut batch = Batch { commits, claim, ..Batch::default() };
        store.write(&mut batch, live, at(100)).unwrap();
        if batch.claimed.is_empty() {
            break;
        }
        commits = finish(batch.claimed, owner);
    }
    inserted + began.elapsed()
}

fn per_second(mut times: Vec<Duration>) -> f64 {
    times.sort();
    TASKS as f64 / times[times.len() / 2].as_secs_f64()
}

fn main() {
    let base = std::env::var_os("TASKLOOM_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    for durability in [Durability::Disk, Durability::Process] {
        println!("{durability:?}, {TASKS} tasks of 100 bytes, median of {RUNS}");
        for hold in [true, false] {
            let mut runs = Vec::new();
            for _ in 0..RUNS {
                let folder = tempfile::tempdir_in(&base).unwrap();
                let options = SqliteOptions { durability, ..SqliteOptions::default() };
                let store = SqliteStore::open(&folder.path().join("bench.db"), options).unwrap();
                runs.push(phases(&store, &Live::default(), hold));
            }
            let rate = |of: fn(&Figures) -> Duration| per_second(runs.iter().map(of).collect());
            println!(
                "  tasks {:10} insert {:8.0}/s   claim {:8.0}/s   finish {:8.0}/s   all {:8.0}/s",
                if hold { "held:" } else { "not held:" },
                rate(|run| run.insert),
                rate(|run| run.claim),
                rate(|run| run.finish),
                rate(|run| run.insert + run.claim + run.finish),
            );
        }
        let run = |_| {
            let folder = tempfile::tempdir_in(&base).unwrap();
            let options = SqliteOptions { durability, ..SqliteOptions::default() };
            let store = SqliteStore::open(&folder.path().join("bench.db"), options).unwrap();
            together(&store, &Live::default())
        };
        println!(
            "  finish and claim in one transaction: all {:8.0}/s",
            per_second((0..RUNS).map(run).collect())
        );
    }
}
