//! The engine over a real file.

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::*;
use taskloom_engine::{Attempt, Outcome, Stop};
use taskloom_model::{Code, Options, Priority, RetryPolicy, State, TaskId, When};
use taskloom_store::Store;
use taskloom_store_sqlite::{Durability, SqliteOptions, SqliteStore};
use tempfile::TempDir;

fn open(path: &Path) -> Box<dyn Store> {
    let options = SqliteOptions { durability: Durability::Process, ..SqliteOptions::default() };
    Box::new(SqliteStore::open(path, options).unwrap())
}

fn file() -> (TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tasks.db");
    (folder, path)
}

#[test]
fn many_tasks_from_many_threads_run_once_each() {
    const THREADS: usize = 4;
    const EACH: usize = 250;
    let (_folder, path) = file();
    let timed = Timed::over(open(&path), 3).started();
    let ran: Arc<Vec<AtomicUsize>> = Arc::new((0..THREADS * EACH).map(|_| AtomicUsize::new(0)).collect());
    let counts = Arc::clone(&ran);
    let entry = register(&timed.engine, "count", move |attempt: &Attempt| {
        counts[number(attempt) as usize].fetch_add(1, Ordering::Relaxed);
        echo(attempt)
    });
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (engine, entry) = (&timed.engine, &entry);
            scope.spawn(move || {
                for number in thread * EACH..(thread + 1) * EACH {
                    let text = number.to_string();
                    assert_eq!(result(&submit(engine, entry, &text)), text);
                }
            });
        }
    });
    assert!(ran.iter().all(|count| count.load(Ordering::Relaxed) == 1));
    assert_eq!(timed.engine.counts().unwrap().get(State::Succeeded), (THREADS * EACH) as u64);
    assert_eq!(timed.engine.worker_counts().3, 0);
}

#[test]
fn a_backlog_far_beyond_the_lanes_is_worked_off() {
    const TASKS: usize = 5_000;
    let (_folder, path) = file();
    let timed = Timed::over(open(&path), 2);
    let entry = register(&timed.engine, "echo", echo);
    let payloads = (0..TASKS).map(|number| (number.to_string().into_bytes().into(), None));
    let handles = timed.engine.submit_many(&entry, entry.admission(), payloads, false).unwrap();
    timed.engine.start().unwrap();
    for (number, handle) in handles.iter().enumerate() {
        assert_eq!(result(handle), number.to_string());
    }
}

#[test]
fn the_life_of_a_task_there() {
    let (_folder, path) = file();
    let timed = Timed::over(open(&path), 1).started();
    let retry = Some(RetryPolicy { base: seconds(100), factor: 1.0, cap: seconds(100) });
    let options = Options { retries: Some(1), retry, ..Options::default() };
    let flaky =
        register_with(&timed.engine, "flaky", options, |attempt: &Attempt| match attempt.fence().attempt {
            1 => {
                attempt.save_checkpoint(Some((*b"[1]").into())).unwrap();
                Outcome::failure("Flaky", "once")
            }
            _ => Outcome::success(attempt.checkpoint().unwrap()),
        });
    let slow = gated(&timed.engine, "slow", Options { timeout: Some(seconds(10)), ..Options::default() });
    let flaky = submit(&timed.engine, &flaky, "1");
    eventually("it failed", || flaky.state() == State::Retrying);
    timed.advance(seconds(100));
    assert_eq!(result(&flaky), "[1]");
    assert_eq!(errors(&flaky), [("Flaky".to_owned(), "once".to_owned())]);

    let stuck = submit(&timed.engine, &slow.entry, "1");
    slow.begun.wait_for(1);
    let brief = Options { expires: Some(When::In(seconds(5))), ..Options::default() };
    let late = submit_with(&timed.engine, &slow.entry, brief, "late");
    let unwanted = submit(&timed.engine, &slow.entry, "unwanted");
    assert!(timed.engine.cancel(unwanted.id(), Some("no")).unwrap());
    assert!(!timed.engine.cancel(unwanted.id(), Some("no")).unwrap());
    timed.advance(seconds(10));
    assert_eq!(failure(&stuck), Code::TaskTimedOut);
    slow.gate.open();
    assert_eq!(failure(&late), Code::TaskExpired);
    assert_eq!(failure(&unwanted), Code::TaskCancelled);
    let mine = Options { id: Some(TaskId::from_bytes([7; 16])), ..Options::default() };
    let first = submit_with(&timed.engine, &slow.entry, mine.clone(), "first");
    assert_eq!(try_submit(&timed.engine, &slow.entry, mine, "2").unwrap_err().code(), Code::DuplicateId);
    assert_eq!(result(&first), "first");
}

#[test]
fn one_worker_takes_the_most_urgent_first() {
    let (_folder, path) = file();
    let timed = Timed::over(open(&path), 1);
    let order = Log::default();
    let log = order.clone();
    let note = register(&timed.engine, "note", move |attempt: &Attempt| {
        log.add(String::from_utf8(payload(attempt)).unwrap());
        echo(attempt)
    });
    let levels = [Priority::Low, Priority::Critical, Priority::Normal, Priority::High];
    let handles = levels.map(|priority| {
        let options = Options { priority: Some(priority), ..Options::default() };
        submit_with(&timed.engine, &note, options, priority.as_str())
    });
    timed.engine.start().unwrap();
    handles.iter().for_each(|handle| drop(result(handle)));
    assert_eq!(order.all(), ["critical", "high", "normal", "low"]);
}

#[test]
fn what_was_accepted_outlives_the_engine() {
    let (_folder, path) = file();
    let first = Timed::over(open(&path), 1).started();
    let block = gated(&first.engine, "block", Options::default());
    let handles: Vec<_> = (0..10).map(|_| submit(&first.engine, &block.entry, "1")).collect();
    block.begun.wait_for(1);
    let engine = Arc::clone(&first.engine);
    in_time("the stop", move || engine.stop(Stop::Within(Duration::ZERO)));
    assert!(handles.iter().all(|handle| failure(handle) == Code::ShutDown));
    block.gate.open();

    let second = Timed::over(open(&path), 2);
    register(&second.engine, "block", echo);
    let again: Vec<_> =
        handles.iter().map(|handle| second.engine.get(handle.id()).unwrap().unwrap()).collect();
    second.engine.start().unwrap();
    for handle in &again {
        assert_eq!(result(handle), "1");
        handle.task().with_row(|row| assert_eq!((row.failures, row.crashes), (0, 0)));
    }
    assert!(handles.iter().all(|handle| failure(handle) == Code::ShutDown), "what was told stays told");
}

#[test]
fn a_dead_process_is_buried_after_a_lease() {
    let (_folder, path) = file();
    let clock = HandClock::new();
    let dead = Timed::by(Arc::clone(&clock), open(&path), 1).started();
    let block = gated(&dead.engine, "block", Options::default());
    let handle = submit(&dead.engine, &block.entry, "1");
    block.begun.wait_for(1);

    let heir = Timed::by(clock, open(&path), 1).started();
    register(&heir.engine, "block", echo);
    heir.step();
    let again = heir.engine.get(handle.id()).unwrap().unwrap();
    for _ in 0..5 {
        heir.advance(seconds(2));
    }
    assert_eq!(result(&again), "1");
    again.task().with_row(|row| assert_eq!((row.attempt, row.crashes), (2, 1)));
    block.gate.open();
    eventually("the late report is refused", || dead.engine.worker_counts().3 == 1);
    // It finds out, joins again, and is of use.
    dead.advance(seconds(2));
    let handle = submit(&dead.engine, &block.entry, "2");
    eventually("one of the two ran it", || {
        dead.engine.counts().unwrap().get(State::Succeeded) == 2 || handle.is_done()
    });
}

#[test]
fn a_parent_waits_for_its_child_on_a_pool_of_one() {
    let (_folder, path) = file();
    let timed = Timed::over(open(&path), 1).started();
    let (child, own) = (register(&timed.engine, "child", echo), Arc::downgrade(&timed.engine));
    let parent = register(&timed.engine, "parent", move |attempt: &Attempt| {
        let handle = submit(&own.upgrade().unwrap(), &child, "child");
        assert!(handle.wait(None).unwrap());
        echo(attempt)
    });
    assert_eq!(result(&submit(&timed.engine, &parent, "1")), "1");
}
