//! An engine over a store that outlives it: how it stops, how it dies, and how others find out.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::disk::Disk;
use common::*;
use taskloom_engine::{Attempt, Drive, Engine, EngineOptions, Handler, Outcome, Stop};
use taskloom_model::{Code, Options, OwnerId, State, TaskId, When};

fn over(disk: &Arc<Disk>, workers: usize) -> Arc<Engine> {
    Arc::new(Engine::new(disk.store(), EngineOptions { drive: Drive::Stepped, ..options(workers) }).unwrap())
}

fn started_over(disk: &Arc<Disk>, workers: usize) -> Arc<Engine> {
    let engine = over(disk, workers);
    engine.start().unwrap();
    engine
}

fn with_id(byte: u8) -> Options {
    Options { id: Some(TaskId::from_bytes([byte; 16])), ..Options::default() }
}

// ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_graceful_stop_gives_back_what_has_not_begun() {
    let disk = Disk::new();
    let engine = started_over(&disk, 1);
    let block = gated(&engine, "block", Options::default());
    let running = submit(&engine, &block.entry, "1");
    block.begun.wait_for(1);
    let rest: Vec<_> = (0..20).map(|_| submit(&engine, &block.entry, "2")).collect();
    eventually("they are claimed", || rest.iter().all(|handle| handle.state() == State::Running));
    let own = Arc::clone(&engine);
    let stopping = aside(move || own.stop(Stop::Finish));
    until_it_drains(&engine, &block.entry);
    let given_back = |id| {
        let row = disk.row(id);
        (row.state, row.owner, row.failures, row.crashes) == (State::Queued, None, 0, 0)
    };
    eventually("they are given back at once", || rest.iter().all(|handle| given_back(handle.id())));
    assert!(!engine.is_stopped());
    block.gate.open();
    in_time("the stop", move || stopping.join().unwrap());
    assert_eq!(result(&running), "1");
    assert!(rest.iter().all(|handle| failure(handle) == Code::ShutDown && given_back(handle.id())));
    assert_eq!(block.begun.len(), 1);
    // The next process takes them up.
    let next = started_over(&disk, 2);
    register(&next, "block", echo);
    eventually("they ran", || disk.states().iter().all(|state| *state == State::Succeeded));
}

#[test]
fn stopping_at_once_gives_back_what_runs() {
    let disk = Disk::new();
    let timed = Timed::over(disk.store(), 1).started();
    let block = gated(&timed.engine, "block", Options::default());
    let handles = [submit(&timed.engine, &block.entry, "1"), submit(&timed.engine, &block.entry, "2")];
    let attempt = block.begun.wait_for(1).remove(0);
    let engine = Arc::clone(&timed.engine);
    in_time("the stop", move || engine.stop(Stop::Within(Duration::ZERO)));
    for handle in &handles {
        assert_eq!(failure(handle), Code::ShutDown);
        let row = disk.row(handle.id());
        assert_eq!((row.state, row.failures, row.crashes), (State::Queued, 0, 0));
    }
    assert_eq!(timed.interrupts.all(), [(attempt.task().id(), attempt.fence())]);
    assert!(attempt.is_cancelled());
    assert_eq!(attempt.save_checkpoint(None).unwrap_err().code(), Code::ShutDown);
    block.gate.open();
    eventually("the late report is refused", || timed.engine.worker_counts() == (0, 0, 0, 1));
    assert_eq!(disk.row(handles[0].id()).state, State::Queued);
}

#[test]
fn a_parent_that_waits_for_its_child_can_finish() {
    for round in 0..20 {
        let disk = Disk::new();
        let engine = started_over(&disk, 1);
        let (child, own) = (register(&engine, "child", echo), Arc::downgrade(&engine));
        let (gate, begun) = (Gate::default(), Log::default());
        let (door, log) = (gate.clone(), begun.clone());
        let parent = register(&engine, "parent", move |attempt: &Attempt| {
            let engine = own.upgrade().unwrap();
            let before = submit(&engine, &child, "before");
            log.add(());
            door.pass();
            let during = submit(&engine, &child, "during");
            for handle in [before, during] {
                assert!(handle.wait(None).unwrap());
                assert_eq!(handle.state(), State::Succeeded);
            }
            echo(attempt)
        });
        let handle = submit(&engine, &parent, "1");
        begun.wait_for(1);
        let own = Arc::clone(&engine);
        let stopping = aside(move || own.stop(Stop::Finish));
        if round % 2 == 0 {
            until_it_drains(&engine, &parent);
        }
        gate.open();
        in_time("the stop", move || stopping.join().unwrap());
        assert_state(&handle, State::Succeeded);
    }
}

#[test]
fn what_an_attempt_elsewhere_waits_for_is_run_while_the_engine_drains() {
    for round in 0..20 {
        let disk = Disk::new();
        let engine = started_over(&disk, 1);
        engine.set_pool(Some(Arc::new(Host::default())));
        let parent = engine.register("parent", Options::default(), Handler::Pooled(Arc::new(()))).unwrap();
        let child = register(&engine, "child", echo);
        let handle = submit(&engine, &parent, "1");
        let running = take_pooled(&engine, 1).remove(0);
        let own = Arc::clone(&engine);
        let stopping = aside(move || own.stop(Stop::Finish));
        if round % 2 == 0 {
            until_it_drains(&engine, &parent);
        }
        let spawn = |payload: &str| {
            running.attempt.submit(&child, child.admission(), payload.as_bytes().into(), None, false).unwrap()
        };
        let (awaited, beside) = (spawn("2"), spawn("3"));
        let needed = awaited.needed().expect("the store is shared");
        assert_eq!(result(&awaited), "2");
        drop(needed);
        if round % 2 == 0 {
            assert_state(&beside, State::Queued);
        }
        running.completion.complete(Outcome::success(*b"4"));
        in_time("the stop", move || stopping.join().unwrap());
        assert_eq!(result(&handle), "4");
    }
}

#[test]
fn the_children_of_an_attempt_that_lends_its_place_are_run_while_the_engine_drains() {
    for round in 0..20 {
        let disk = Disk::new();
        let engine = started_over(&disk, 1);
        engine.set_loop(Some(Arc::new(Host::default())));
        let parent = register_async(&engine, "parent", Options::default());
        let child = register(&engine, "child", echo);
        let handle = submit(&engine, &parent, "1");
        let running = take_one(&engine);
        let own = Arc::clone(&engine);
        let stopping = aside(move || own.stop(Stop::Finish));
        if round % 2 == 0 {
            until_it_drains(&engine, &parent);
        }
        let spawn = |payload: &str| {
            running.attempt.submit(&child, child.admission(), payload.as_bytes().into(), None, false).unwrap()
        };
        let before = spawn("2");
        if round % 2 == 0 {
            assert_state(&before, State::Queued);
        }
        let lent = running.attempt.lend_place();
        let during = spawn("3");
        assert_eq!((result(&before), result(&during)), ("2".into(), "3".into()));
        drop(lent);
        running.completion.complete(Outcome::success(*b"4"));
        in_time("the stop", move || stopping.join().unwrap());
        assert_eq!(result(&handle), "4");
    }
}

#[test]
fn a_failing_store_does_not_hold_up_the_end() {
    let disk = Disk::new();
    let engine = started_over(&disk, 1);
    let block = gated(&engine, "block", Options::default());
    let handles = [submit(&engine, &block.entry, "1"), submit(&engine, &block.entry, "2")];
    block.begun.wait_for(1);
    disk.fail(usize::MAX);
    let own = Arc::clone(&engine);
    in_time("the stop", move || own.stop(Stop::Within(Duration::ZERO)));
    assert_eq!(handles.each_ref().map(failure), [Code::ShutDown, Code::ShutDown]);
    block.gate.open();
    eventually("the thread has gone", || engine.worker_counts().0 == 0);
}

#[test]
fn a_report_that_cannot_be_written_is_left_to_the_lease() {
    let disk = Disk::new();
    let engine = started_over(&disk, 1);
    let block = gated(&engine, "block", Options::default());
    let handle = submit(&engine, &block.entry, "1");
    block.begun.wait_for(1);
    disk.fail(usize::MAX);
    block.gate.open();
    disk.failed.wait_for(1);
    in_time("the stop", move || engine.stop(Stop::Finish));
    assert_eq!(failure(&handle), Code::ShutDown);
    disk.fail(0);
    assert_ne!(disk.row(handle.id()).state, State::Succeeded);
}

// ── leases ──────────────────────────────────────────────────────────────────────────────────────────────────────

/// An engine that runs one task and then is as good as dead: it neither beats nor stops.
fn crashed(clock: &Arc<HandClock>, disk: &Arc<Disk>) -> (Timed, Gated, taskloom_engine::Handle) {
    let dead = Timed::by(Arc::clone(clock), disk.store(), 1).started();
    let block = gated(&dead.engine, "block", Options::default());
    let handle = submit(&dead.engine, &block.entry, "1");
    block.begun.wait_for(1);
    (dead, block, handle)
}

#[test]
fn a_dead_process_is_buried_after_a_lease() {
    let (disk, clock) = (Disk::new(), HandClock::new());
    let (dead, block, handle) = crashed(&clock, &disk);
    let heir = Timed::by(Arc::clone(&clock), disk.store(), 1).started();
    register(&heir.engine, "block", echo);
    heir.step();
    for _ in 0..4 {
        heir.advance(seconds(2));
    }
    assert_eq!(disk.row(handle.id()).state, State::Running, "8 s: it may still live");
    heir.advance(seconds(2));
    eventually("the heir ran it", || disk.row(handle.id()).state == State::Succeeded);
    let row = disk.row(handle.id());
    assert_eq!((row.attempt, row.crashes, row.failures), (2, 1, 0));
    assert_eq!(disk.owners().len(), 1);
    // The dead one was only asleep: what it says now is not heard.
    block.gate.open();
    eventually("its report is refused", || dead.engine.worker_counts().3 == 1);
    assert_eq!(disk.row(handle.id()).attempt, 2);
}

#[test]
fn a_process_that_beats_is_left_alone() {
    let (disk, clock) = (Disk::new(), HandClock::new());
    let (alive, block, handle) = crashed(&clock, &disk);
    let other = Timed::by(Arc::clone(&clock), disk.store(), 1).started();
    for _ in 0..20 {
        clock.advance(seconds(2));
        alive.step();
        other.step();
    }
    assert_eq!(disk.row(handle.id()).crashes, 0);
    block.gate.open();
    assert_eq!(result(&handle), "1");
}

#[test]
fn a_task_that_kills_three_processes_fails() {
    let (disk, clock) = (Disk::new(), HandClock::new());
    let (first, block, handle) = crashed(&clock, &disk);
    let mut dead = vec![(first, block)];
    for crashes in 1..=3 {
        let heir = Timed::by(Arc::clone(&clock), disk.store(), 1).started();
        let block = gated(&heir.engine, "block", Options::default());
        heir.step();
        for _ in 0..5 {
            heir.advance(seconds(2));
        }
        assert_eq!(disk.row(handle.id()).crashes, crashes);
        if crashes < 3 {
            block.begun.wait_for(1);
        }
        dead.push((heir, block));
    }
    assert_eq!(disk.row(handle.id()).state, State::Failed);
    dead.iter().for_each(|(_, block)| block.gate.open());
}

#[test]
fn a_process_that_was_buried_joins_again() {
    let disk = Disk::new();
    let timed = Timed::over(disk.store(), 1).started();
    let block = gated(&timed.engine, "block", Options::default());
    let handles = [submit(&timed.engine, &block.entry, "1"), submit(&timed.engine, &block.entry, "2")];
    block.begun.wait_for(1);
    eventually("both are claimed", || handles.iter().all(|handle| handle.state() == State::Running));
    let old = disk.owners();
    disk.bury(old[0], taskloom_model::Timestamp::from_micros(START));
    timed.advance(seconds(2));
    let new = disk.owners();
    assert_eq!((old.len(), new.len()), (1, 1));
    assert_ne!(old, new);
    // Both are claimed again under the new number; the attempt that runs is over.
    block.gate.open();
    assert_eq!(handles.each_ref().map(result), ["1", "2"]);
    eventually("the old attempt's report is refused", || timed.engine.worker_counts().3 == 1);
    for handle in &handles {
        let row = disk.row(handle.id());
        assert_eq!((row.attempt, row.crashes), (2, 1));
    }
}

#[test]
fn a_process_that_was_buried_before_it_started_claims_nothing_as_a_dead_one() {
    let disk = Disk::new();
    let timed = Timed::over(disk.store(), 1);
    let entry = register(&timed.engine, "echo", echo);
    let handle = submit(&timed.engine, &entry, "1");
    disk.bury(disk.owners()[0], taskloom_model::Timestamp::from_micros(START));
    timed.engine.start().unwrap();
    assert_eq!(result(&handle), "1");
    assert_eq!(disk.owners(), [OwnerId::new(2).unwrap()]);
}

// ── bad days ────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_service_that_panics_ends_the_engine_aloud() {
    let disk = Disk::new();
    let engine = started_over(&disk, 1);
    let entry = register(&engine, "echo", echo);
    let later = Options { eta: Some(When::In(seconds(3600))), ..Options::default() };
    let waiting = submit_with(&engine, &entry, later, "");
    disk.panic_next();
    let error = try_submit(&engine, &entry, Options::default(), "1").unwrap_err();
    assert_eq!(error.code(), Code::ShutDown);
    assert_eq!(failure(&waiting), Code::ShutDown);
    assert_eq!(try_submit(&engine, &entry, Options::default(), "1").unwrap_err().code(), Code::ShutDown);
    assert!(engine.is_stopped());
    in_time("the stop", move || engine.stop(Stop::Finish));
}

#[test]
fn a_row_that_cannot_be_written_does_not_harm_the_others() {
    let disk = Disk::new();
    let engine = started_over(&disk, 2);
    let entry = register(&engine, "echo", echo);
    let sick = TaskId::from_bytes([6; 16]);
    disk.corrupt(sick);
    let slow = gated(&engine, "slow", Options::default());
    let handle = submit_with(&engine, &slow.entry, with_id(1), "1");
    slow.begun.wait_for(1);
    disk.gate.shut();
    std::thread::scope(|scope| {
        let bad = scope.spawn(|| try_submit(&engine, &entry, with_id(6), "bad"));
        let good = scope.spawn(|| submit(&engine, &entry, "good"));
        slow.gate.open();
        disk.gate.open();
        assert_eq!(bad.join().unwrap().unwrap_err().code(), Code::CorruptRow);
        assert_eq!(result(&good.join().unwrap()), "good");
    });
    assert_eq!(result(&handle), "1");
}
