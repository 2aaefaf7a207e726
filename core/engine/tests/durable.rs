//! An engine over a store that writes in transactions: effects after the commit, group commit, claims ahead, leases.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::disk::Disk;
use common::*;
use taskloom_engine::{Attempt, Drive, Engine, EngineOptions, Handle, Outcome, Relayed, Stop};
use taskloom_model::{Code, Error, Options, RetryPolicy, State, TaskId, When};

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

#[test]
fn a_submit_becomes_a_result() {
    let disk = Disk::new();
    let engine = started_over(&disk, 2);
    let echo = register(&engine, "echo", echo);
    let handles: Vec<_> = (0..50).map(|number| submit(&engine, &echo, &number.to_string())).collect();
    for (number, handle) in handles.iter().enumerate() {
        assert_eq!(result(handle), number.to_string());
        assert_eq!(disk.row(handle.id()).state, State::Succeeded);
    }
    engine.stop(Stop::Finish);
    assert!(disk.owners().is_empty(), "it left");
}

#[test]
fn retries_timeouts_and_delays_work_there_too() {
    let disk = Disk::new();
    let timed = Timed::over(disk.store(), 1).started();
    let retry = Some(RetryPolicy { base: Duration::ZERO, ..RetryPolicy::default() });
    let options = Options { retries: Some(2), retry, timeout: Some(seconds(10)), ..Options::default() };
    let bad =
        register_with(&timed.engine, "bad", options, |attempt: &Attempt| match attempt.fence().attempt {
            1 => Outcome::failure("Bad", "once"),
            _ => echo(attempt),
        });
    let later = Options { eta: Some(When::In(seconds(30))), ..Options::default() };
    let slow = gated(&timed.engine, "slow", Options { timeout: Some(seconds(10)), ..Options::default() });
    let (retried, delayed) =
        (submit(&timed.engine, &bad, "1"), submit_with(&timed.engine, &slow.entry, later, "2"));
    eventually("it failed once", || disk.row(retried.id()).failures == 1);
    timed.step();
    assert_eq!(result(&retried), "1");
    assert_state(&delayed, State::Pending);
    timed.advance(seconds(30));
    slow.begun.wait_for(1);
    timed.advance(seconds(10));
    assert_eq!(failure(&delayed), Code::TaskTimedOut);
    assert_eq!(timed.interrupts.len(), 1);
    slow.gate.open();
    eventually("its report is refused", || timed.engine.worker_counts().3 == 1);
}

#[test]
fn a_failed_write_is_an_error_to_who_waits() {
    let disk = Disk::new();
    let engine = over(&disk, 1);
    let echo = register(&engine, "echo", echo);
    disk.fail(1);
    let error = try_submit(&engine, &echo, with_id(1), "1").unwrap_err();
    assert_eq!(error.code(), Code::StoreFailed);
    assert!(disk.states().is_empty());
    assert!(engine.get(TaskId::from_bytes([1; 16])).unwrap().is_none());
    // The same again: nothing is left of the first try.
    let handle = submit_with(&engine, &echo, with_id(1), "2");
    disk.fail(1);
    assert_eq!(engine.cancel(handle.id(), None).unwrap_err().code(), Code::StoreFailed);
    engine.start().unwrap();
    assert_eq!(result(&handle), "2");
}

#[test]
fn a_report_is_kept_until_the_store_takes_it() {
    let disk = Disk::new();
    let engine = started_over(&disk, 1);
    let slow = gated(&engine, "slow", Options::default());
    let handle = submit(&engine, &slow.entry, "1");
    slow.begun.wait_for(1);
    disk.fail(3);
    slow.gate.open();
    disk.failed.wait_for(3);
    assert_eq!(result(&handle), "1");
    assert_eq!(slow.begun.len(), 1);
    assert_eq!(engine.worker_counts().3, 0);
}

#[test]
fn a_timeout_is_committed_once_the_store_takes_it() {
    let disk = Disk::new();
    let timed = Timed::over(disk.store(), 1).started();
    let slow = gated(&timed.engine, "slow", Options { timeout: Some(seconds(10)), ..Options::default() });
    let handle = submit(&timed.engine, &slow.entry, "1");
    slow.begun.wait_for(1);
    disk.fail(1);
    timed.advance(seconds(10));
    assert_state(&handle, State::Running);
    timed.advance(seconds(1));
    assert_eq!(failure(&handle), Code::TaskTimedOut);
    slow.gate.open();
}

#[test]
fn nothing_begins_before_its_insert_is_committed() {
    let disk = Disk::new();
    let engine = started_over(&disk, 1);
    let note = gated(&engine, "note", Options::default());
    note.gate.open();
    eventually("it has looked for tasks", || disk.writes.len() > 0);
    let writes = disk.arrived.len();
    disk.gate.shut();
    std::thread::scope(|scope| {
        let submitting = scope.spawn(|| submit(&engine, &note.entry, "1"));
        disk.arrived.wait_for(writes + 1);
        assert_eq!(note.begun.len(), 0);
        assert!(!submitting.is_finished());
        disk.gate.open();
        assert_eq!(result(&submitting.join().unwrap()), "1");
    });
    let committed = disk.row(note.begun.all()[0].task().id());
    assert_eq!(committed.attempt, 1);
}

#[test]
fn many_submitters_share_a_write() {
    const SUBMITTERS: usize = 16;
    let disk = Disk::new();
    let engine = over(&disk, 1);
    let echo = register(&engine, "echo", echo);
    submit(&engine, &echo, "first");
    let (writes, arrived) = (disk.writes.len(), disk.arrived.len());
    disk.gate.shut();
    std::thread::scope(|scope| {
        scope.spawn(|| submit(&engine, &echo, "1"));
        disk.arrived.wait_for(arrived + 1);
        // One write is under way; the others gather behind it. That they have, nobody tells, so they may take a second
        // write, and a third; sixteen would be no group commit.
        let others: Vec<_> = (1..SUBMITTERS).map(|_| scope.spawn(|| submit(&engine, &echo, "1"))).collect();
        for _ in 0..2_000 {
            std::thread::yield_now();
        }
        disk.gate.open();
        others.into_iter().for_each(|other| drop(other.join().unwrap()));
    });
    let writes: Vec<_> = disk.writes.all().split_off(writes);
    assert_eq!(writes.iter().map(|(inserts, ..)| inserts).sum::<usize>(), SUBMITTERS);
    assert!(writes.len() < SUBMITTERS, "{writes:?}");
    // A batch is one insert, whatever its size.
    let many =
        engine.submit_many(&echo, echo.admission(), (0..300).map(|_| (Default::default(), None)), false);
    assert_eq!(many.unwrap().len(), 300);
    assert_eq!(disk.writes.all().last().map(|(inserts, ..)| *inserts), Some(1));
}

#[test]
fn who_comes_while_it_is_written_joins_a_write_and_shares_its_fate() {
    let disk = Disk::new();
    let engine = over(&disk, 1);
    let echo = register(&engine, "echo", echo);
    disk.join_late();
    let submit_two = || {
        std::thread::scope(|scope| {
            let other = scope.spawn(|| try_submit(&engine, &echo, Options::default(), "1"));
            let one = try_submit(&engine, &echo, Options::default(), "2");
            [one, other.join().unwrap()]
        })
    };
    let handles = submit_two().map(Result::unwrap);
    assert_eq!(disk.writes.all(), [(2, 0, 0)]);
    disk.fail(1);
    for refused in submit_two() {
        assert_eq!(refused.unwrap_err().code(), Code::StoreFailed);
    }
    assert_eq!(disk.states().len(), 2);
    engine.start().unwrap();
    let mut results = handles.map(|handle| result(&handle));
    results.sort();
    assert_eq!(results, ["1", "2"]);
}

#[test]
fn who_waits_without_a_thread_joins_as_well() {
    let disk = Disk::new();
    let engine = over(&disk, 1);
    let echo = register(&engine, "echo", echo);
    disk.join_late();
    let accepted = Log::default();
    for payload in ["1", "2"] {
        let accepted = accepted.clone();
        let tell = Box::new(move |handles: Result<Vec<Handle>, Error>| accepted.add(handles.unwrap().len()));
        let one = [(payload.as_bytes().into(), None)];
        engine.submit_then(&echo, echo.admission(), one.into_iter(), false, tell).unwrap();
    }
    assert_eq!(accepted.wait_for(2), [1, 1]);
    assert_eq!(disk.writes.all(), [(2, 0, 0)]);
}

/// A worker that has nothing else to do writes its report itself. Nobody can see to it that the committer has nothing to
/// do with it either, so it is tried until that is so.
#[test]
fn a_lone_report_is_written_by_its_worker() {
    let disk = Disk::new();
    let engine = started_over(&disk, 2);
    let (begun, gate) = (Log::default(), Gate::default());
    let (own_begun, own_gate) = (begun.clone(), gate.clone());
    let entry = register(&engine, "echo", move |attempt: &Attempt| {
        own_begun.add(());
        own_gate.pass();
        echo(attempt)
    });
    let mut tries = 0;
    loop {
        let writers = Log::default();
        gate.shut();
        let handle = submit(&engine, &entry, "1");
        let told = writers.clone();
        handle.observe(move |_| told.add(std::thread::current().name().unwrap_or_default().to_owned()));
        // The committer is done with the claim by then, or as good as done.
        begun.wait_for(tries + 1);
        gate.open();
        assert_eq!(result(&handle), "1");
        let writer = writers.wait_for(1).remove(0);
        if writer.starts_with("taskloom-worker") {
            break;
        }
        tries += 1;
        assert!(tries < 10_000, "it was always {writer}");
    }
    engine.stop(Stop::Finish);
    assert!(disk.states().iter().all(|state| *state == State::Succeeded));
}

#[test]
fn a_batch_is_accepted_or_refused_as_a_whole() {
    let disk = Disk::new();
    let engine = started_over(&disk, 1);
    let entry = register(&engine, "echo", echo);
    let first = submit_with(&engine, &entry, with_id(1), "1");
    assert_eq!(result(&first), "1");
    let admission = engine.admission(&with_id(1)).unwrap();
    let payloads = [(b"2".into(), None), (b"3".into(), None)];
    let error = engine.submit_many(&entry, &admission, payloads.into_iter(), false).unwrap_err();
    assert_eq!(error.code(), Code::DuplicateId);
    assert_eq!(disk.states(), [State::Succeeded]);
    assert_eq!(result(&engine.get(first.id()).unwrap().unwrap()), "1");
}

#[test]
fn a_refused_duplicate_does_not_take_the_place_of_the_first() {
    let disk = Disk::new();
    let engine = over(&disk, 1);
    let entry = register(&engine, "echo", echo);
    let first = submit_with(&engine, &entry, with_id(1), "first");
    let error = try_submit(&engine, &entry, with_id(1), "second").unwrap_err();
    assert_eq!(error.code(), Code::DuplicateId);
    engine.start().unwrap();
    assert_eq!(result(&first), "first");
}

#[test]
fn what_is_not_committed_is_not_found() {
    let disk = Disk::new();
    let engine = started_over(&disk, 1);
    let entry = register(&engine, "echo", echo);
    let id = with_id(1).id.unwrap();
    let arrived = disk.arrived.len();
    disk.gate.shut();
    std::thread::scope(|scope| {
        let submitting = scope.spawn(|| submit_with(&engine, &entry, with_id(1), "1"));
        disk.arrived.wait_for(arrived + 1);
        assert!(engine.get(id).unwrap().is_none(), "it may yet be refused");
        disk.gate.open();
        submitting.join().unwrap();
    });
    assert_eq!(result(&engine.get(id).unwrap().unwrap()), "1");
}

#[test]
fn tasks_of_a_relay_are_accepted_each_by_itself() {
    let disk = Disk::new();
    let engine = started_over(&disk, 1);
    let entry = register(&engine, "echo", echo);
    submit_with(&engine, &entry, with_id(2), "known");
    let relayed = |number, payload: &[u8]| Relayed {
        entry: &entry,
        admission: engine.admission(&with_id(number)).unwrap(),
        payload: payload.into(),
    };
    let large = vec![b'1'; taskloom_model::MAX_PAYLOAD + 1];
    let tasks = [relayed(1, b"1"), relayed(2, b"2"), relayed(3, &large), relayed(4, b"4")];
    let verdicts = engine.submit_each(tasks).unwrap();
    let codes: Vec<_> = verdicts.iter().map(|verdict| verdict.as_ref().err().map(Error::code)).collect();
    assert_eq!(codes, [None, Some(Code::DuplicateId), Some(Code::PayloadTooLarge), None]);
    let found = |number| result(&engine.get(with_id(number).id.unwrap()).unwrap().unwrap());
    assert_eq!([found(1), found(2), found(4)], ["1", "known", "4"]);
    engine.stop(Stop::Finish);
    assert_eq!(engine.submit_each([relayed(5, b"5")]).unwrap_err().code(), Code::ShutDown);
}

#[test]
fn only_tasks_with_a_handler_here_are_claimed() {
    let disk = Disk::new();
    let (submitter, worker) = (over(&disk, 1), started_over(&disk, 1));
    let unknown = register(&submitter, "unknown", echo);
    let known = register(&submitter, "known", echo);
    let waiting = submit(&submitter, &unknown, "1");
    let ran = submit(&submitter, &known, "2");
    register(&worker, "known", echo);
    eventually("the known one ran", || disk.row(ran.id()).state == State::Succeeded);
    assert_eq!(disk.row(waiting.id()).state, State::Queued);
    register(&worker, "unknown", echo);
    eventually("the other one ran too", || disk.row(waiting.id()).state == State::Succeeded);
}

#[test]
fn what_another_process_leaves_is_found_at_the_next_beat() {
    let disk = Disk::new();
    let clock = HandClock::new();
    let worker = Timed::by(Arc::clone(&clock), disk.store(), 1).started();
    register(&worker.engine, "echo", echo);
    worker.step();
    let submitter = Timed::by(clock, disk.store(), 1);
    let entry = register(&submitter.engine, "echo", echo);
    let handle = submit(&submitter.engine, &entry, "1");
    worker.advance(seconds(2));
    eventually("it ran", || disk.row(handle.id()).state == State::Succeeded);
}

#[test]
fn a_backlog_far_beyond_the_lanes_is_worked_off() {
    const TASKS: usize = 5_000;
    let disk = Disk::new();
    let engine = over(&disk, 2);
    let ran: Arc<Vec<AtomicUsize>> = Arc::new((0..TASKS).map(|_| AtomicUsize::new(0)).collect());
    let counts = Arc::clone(&ran);
    let entry = register(&engine, "count", move |attempt: &Attempt| {
        counts[number(attempt) as usize].fetch_add(1, Ordering::Relaxed);
        echo(attempt)
    });
    let payloads = (0..TASKS).map(|number| (number.to_string().into_bytes().into(), None));
    let handles = engine.submit_many(&entry, entry.admission(), payloads, false).unwrap();
    engine.start().unwrap();
    for (number, handle) in handles.iter().enumerate() {
        assert_eq!(result(handle), number.to_string());
    }
    assert!(ran.iter().all(|count| count.load(Ordering::Relaxed) == 1));
    let claims: Vec<_> = disk.writes.all().into_iter().map(|(.., claim)| claim).collect();
    assert!(claims.iter().all(|claim| *claim <= 512), "{claims:?}");
}

#[test]
fn a_lane_of_cancelled_tasks_does_not_stop_the_flow() {
    const TASKS: usize = 2_000;
    let disk = Disk::new();
    let engine = started_over(&disk, 1);
    let block = gated(&engine, "block", Options::default());
    let note = register(&engine, "note", echo);
    submit(&engine, &block.entry, "");
    block.begun.wait_for(1);
    let payloads = (0..TASKS).map(|_| (b"1".into(), None));
    let handles = engine.submit_many(&note, note.admission(), payloads, false).unwrap();
    // All that can be claimed for now is claimed, and called off in the lane.
    let claimed = || handles.iter().filter(|handle| handle.state() == State::Running);
    eventually("the lane is full", || claimed().count() >= 256);
    for handle in claimed().cloned().collect::<Vec<_>>() {
        assert!(engine.cancel_task(handle.task(), None).unwrap());
    }
    block.gate.open();
    for handle in &handles {
        assert!(handle.wait(Some(LONG)).unwrap(), "{handle:?}");
    }
}

#[test]
fn a_full_lane_of_one_kind_does_not_keep_the_committer_busy() {
    let disk = Disk::new();
    let engine = started_over(&disk, 1);
    let host = Host::default();
    engine.set_loop(Some(Arc::new(host.clone())));
    let block = gated(&engine, "block", Options::default());
    let on_loop = register_async(&engine, "async", Options::default());
    submit(&engine, &block.entry, "");
    block.begun.wait_for(1);
    // The lane of the threads is full and the store holds more of them; the loop has nothing to do.
    let payloads = (0..2_000).map(|_| (b"1".into(), None));
    engine.submit_many(&block.entry, block.entry.admission(), payloads, false).unwrap();
    let handle = submit(&engine, &on_loop, "1");
    eventually("the loop got its task", || !take(&engine).is_empty());
    eventually("the lost handler is reported", || disk.row(handle.id()).state == State::Failed);
    // A committer that turns in vain would write all the time.
    let quiet = || {
        let writes = disk.writes.len();
        for _ in 0..500 {
            std::thread::yield_now();
        }
        disk.writes.len() == writes
    };
    eventually("the committer sleeps", quiet);
    let writes = disk.writes.len();
    for _ in 0..5_000 {
        std::thread::yield_now();
    }
    assert!(disk.writes.len() <= writes + 1);
    block.gate.open();
}

#[test]
fn a_loop_that_comes_late_gets_what_waits() {
    let disk = Disk::new();
    let engine = started_over(&disk, 1);
    let on_loop = register_async(&engine, "async", Options::default());
    let handle = submit(&engine, &on_loop, "1");
    // There was a claim for the threads meanwhile, which this is not for.
    let blocking = register(&engine, "blocking", echo);
    assert_eq!(result(&submit(&engine, &blocking, "1")), "1");
    assert_state(&handle, State::Queued);
    let host = Host::default();
    engine.set_loop(Some(Arc::new(host.clone())));
    let mut started = Vec::new();
    eventually("the loop got it", || {
        let mut more = take(&engine);
        let any = !more.is_empty();
        more.drain(..).for_each(|started| started.completion.complete(Outcome::success(*b"1")));
        any
    });
    started.extend(take(&engine));
    assert_eq!(result(&handle), "1");
}

#[test]
fn a_cancelled_task_in_the_lane_is_skipped() {
    let disk = Disk::new();
    let engine = started_over(&disk, 1);
    let block = gated(&engine, "block", Options::default());
    let first = submit(&engine, &block.entry, "1");
    block.begun.wait_for(1);
    let second = submit(&engine, &block.entry, "2");
    eventually("it is claimed", || second.state() == State::Running);
    assert!(engine.cancel(second.id(), Some("no")).unwrap());
    assert_eq!(failure(&second), Code::TaskCancelled);
    assert!(engine.cancel(first.id(), Some("no")).unwrap());
    assert_eq!(failure(&first), Code::TaskCancelled);
    block.gate.open();
    assert_eq!(result(&submit(&engine, &block.entry, "3")), "3");
    assert_eq!(block.begun.len(), 2);
}

#[test]
fn a_task_that_expires_in_the_lane_is_not_run() {
    let disk = Disk::new();
    let timed = Timed::over(disk.store(), 1).started();
    let block = gated(&timed.engine, "block", Options::default());
    submit(&timed.engine, &block.entry, "");
    block.begun.wait_for(1);
    let brief = Options { expires: Some(When::In(seconds(5))), ..Options::default() };
    let late = submit_with(&timed.engine, &block.entry, brief, "late");
    eventually("it is claimed", || late.state() == State::Running);
    timed.clock.advance(seconds(5));
    block.gate.open();
    assert_eq!(failure(&late), Code::TaskExpired);
    assert_eq!(block.begun.len(), 1);
    assert_eq!(disk.row(late.id()).state, State::Expired);
}

#[test]
fn a_task_expires_in_the_lane_at_its_time() {
    let disk = Disk::new();
    let timed = Timed::over(disk.store(), 1).started();
    let block = gated(&timed.engine, "block", Options::default());
    submit(&timed.engine, &block.entry, "");
    block.begun.wait_for(1);
    let within = |span| Options { expires: Some(When::In(seconds(span))), ..Options::default() };
    let handles = [9, 5, 7].map(|span| submit_with(&timed.engine, &block.entry, within(span), "late"));
    eventually("they are claimed", || handles.iter().all(|handle| handle.state() == State::Running));
    timed.step();
    timed.advance(seconds(4));
    assert!(handles.iter().all(|handle| !handle.is_done()));
    // The only worker is busy all the while.
    timed.advance(seconds(3));
    assert_eq!([failure(&handles[1]), failure(&handles[2])], [Code::TaskExpired, Code::TaskExpired]);
    assert_state(&handles[0], State::Running);
    block.gate.open();
    assert_eq!(result(&handles[0]), "late");
    timed.advance(seconds(100));
    assert_eq!(block.begun.len(), 2);
    assert_eq!(timed.engine.worker_counts().3, 0);
}

#[test]
fn progress_and_checkpoints_are_written() {
    let disk = Disk::new();
    let engine = started_over(&disk, 1);
    let steps = register(&engine, "steps", |attempt: &Attempt| {
        for step in 0..100 {
            attempt.progress(f64::from(step) / 100.0, None).unwrap();
        }
        attempt.save_checkpoint(Some((*b"[1]").into())).unwrap();
        attempt.progress(1.0, Some("done".into())).unwrap();
        echo(attempt)
    });
    let handle = submit(&engine, &steps, "1");
    assert_eq!(result(&handle), "1");
    let history = disk.row(handle.id()).history.unwrap();
    let progress = history.newest_progress().cloned().unwrap();
    assert_eq!((progress.value, progress.message.as_deref()), (1.0, Some("done")), "the last word counts");
    assert_eq!(history.checkpoint.as_deref(), Some(&b"[1]"[..]));
}

#[test]
fn an_observer_may_submit_and_cancel() {
    let disk = Disk::new();
    let engine = started_over(&disk, 1);
    let entry = register(&engine, "echo", echo);
    let later = Options { eta: Some(When::In(seconds(3600))), ..Options::default() };
    let victim = submit_with(&engine, &entry, later, "");
    let (own, id, inner, followers) =
        (Arc::downgrade(&engine), victim.id(), Arc::clone(&entry), Log::default());
    let log = followers.clone();
    let gate = gated(&engine, "gated", Options::default());
    let first = submit(&engine, &gate.entry, "1");
    first.task().observe(move |task| {
        // This is the committer's thread: it would wait for itself.
        let engine = own.upgrade().unwrap();
        let again = engine.get(task.id()).unwrap().unwrap();
        assert_eq!(again.outcome().unwrap().as_ref(), b"1");
        assert!(engine.cancel(id, Some("by an observer")).unwrap());
        let follower = submit(&engine, &inner, "follower");
        log.add((follower.clone(), follower.wait(None).map_err(|error| error.code())));
    });
    gate.gate.open();
    let (follower, waited) = followers.wait_for(1).remove(0);
    assert_eq!(waited, Err(Code::WouldDeadlock));
    assert_eq!(result(&follower), "follower");
    assert_eq!(failure(&victim), Code::TaskCancelled);
}

#[test]
fn an_observer_may_stop_the_engine() {
    let disk = Disk::new();
    let engine = started_over(&disk, 1);
    let gate = gated(&engine, "gated", Options::default());
    let handle = submit(&engine, &gate.entry, "1");
    let own = Arc::downgrade(&engine);
    let called = Log::default();
    let log = called.clone();
    handle.task().observe(move |_| {
        own.upgrade().unwrap().stop(Stop::Finish);
        log.add(());
    });
    gate.gate.open();
    called.wait_for(1);
    in_time("the stop", move || engine.stop(Stop::Finish));
}

#[test]
fn a_parent_waits_for_its_child_on_a_pool_of_one() {
    let disk = Disk::new();
    let engine = started_over(&disk, 1);
    let (child, own) = (register(&engine, "child", echo), Arc::downgrade(&engine));
    let parent = register(&engine, "parent", move |attempt: &Attempt| {
        for _ in 0..3 {
            let handle = submit(&own.upgrade().unwrap(), &child, "child");
            assert!(handle.wait(None).unwrap());
        }
        echo(attempt)
    });
    let handles: Vec<_> = (0..5).map(|_| submit(&engine, &parent, "1")).collect();
    assert!(handles.iter().all(|handle| result(handle) == "1"));
}
