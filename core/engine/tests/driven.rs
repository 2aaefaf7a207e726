//! An engine without threads, on a clock that is turned by hand.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::*;
use taskloom_engine::{Attempt, Clock, Drive, Engine, EngineOptions, Outcome, Stop, VirtualClock};
use taskloom_model::{Code, Options, Priority, RetryPolicy, State, When};
use taskloom_store::{MemoryOptions, MemoryStore};

fn driven_with(options: EngineOptions, bounds: MemoryOptions) -> (Arc<Engine>, Arc<VirtualClock>) {
    let clock = Arc::new(VirtualClock::default());
    let options = EngineOptions { drive: Drive::Driven(Arc::clone(&clock)), seed: Some(7), ..options };
    let engine = Engine::new(Box::new(MemoryStore::new(bounds)), options).unwrap();
    engine.start().unwrap();
    (Arc::new(engine), clock)
}

fn driven() -> (Arc<Engine>, Arc<VirtualClock>) {
    driven_with(EngineOptions::default(), MemoryOptions::default())
}

fn after(delay: Duration) -> Options {
    Options { eta: Some(When::In(delay)), ..Options::default() }
}

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn nothing_runs_until_it_is_driven() {
    let (engine, _) = driven();
    let echo = register(&engine, "echo", echo);
    let handle = submit(&engine, &echo, "1");
    assert_state(&handle, State::Queued);
    assert_eq!(engine.drain().unwrap(), None);
    assert_state(&handle, State::Succeeded);
}

#[test]
fn a_wait_runs_what_it_waits_for() {
    let (engine, _) = driven();
    let echo = register(&engine, "echo", echo);
    assert_eq!(result(&submit(&engine, &echo, "1")), "1");
    let late = submit_with(&engine, &echo, after(HOUR), "2");
    let error = late.wait(None).unwrap_err();
    assert_eq!(error.code(), Code::WouldDeadlock);
    assert!(error.to_string().contains("it is pending, and the clock stands still at 2026-01-01T00:00:00"));
    assert!(!late.wait(Some(LONG)).unwrap(), "by its clock no time goes by");
    engine.advance(HOUR).unwrap();
    assert_eq!(result(&late), "2");
}

#[test]
fn a_parent_runs_its_child_on_its_own_stack() {
    let (engine, _) = driven_with(options(1), MemoryOptions::default());
    let log = Log::default();
    let child = {
        let log = log.clone();
        register(&engine, "child", move |attempt: &Attempt| {
            log.add("child");
            echo(attempt)
        })
    };
    let own = log.clone();
    let parent = register(&engine, "parent", move |attempt: &Attempt| {
        own.add("begin");
        let child = attempt.submit(&child, child.admission(), b"7".into(), None, false).unwrap();
        child.wait(None).unwrap();
        own.add("end");
        Outcome::success(child.outcome().unwrap())
    });
    assert_eq!(result(&submit(&engine, &parent, "")), "7");
    assert_eq!(log.all(), ["begin", "child", "end"]);
}

#[test]
fn tasks_run_by_priority_then_by_time_then_by_submit() {
    let (engine, _) = driven();
    let order = Log::default();
    let log = order.clone();
    let note = register(&engine, "note", move |attempt: &Attempt| {
        log.add(number(attempt));
        echo(attempt)
    });
    let of = |priority, delay| Options { priority: Some(priority), ..after(Duration::from_secs(delay)) };
    // A handler that keeps the engine busy while the others become eligible.
    let busy = Arc::clone(&engine);
    let turn = register(&engine, "turn", move |attempt: &Attempt| {
        busy.advance(Duration::ZERO).unwrap();
        echo(attempt)
    });
    for (number, options) in [
        of(Priority::Normal, 2),
        of(Priority::Low, 1),
        of(Priority::Critical, 2),
        of(Priority::Normal, 2),
        of(Priority::High, 2),
        of(Priority::Normal, 1),
    ]
    .into_iter()
    .enumerate()
    {
        submit_with(&engine, &note, options, &number.to_string());
    }
    engine.advance(Duration::from_secs(1)).unwrap();
    assert_eq!(order.all(), [5, 1], "by priority at each time");
    submit(&engine, &turn, "");
    engine.advance(Duration::from_secs(1)).unwrap();
    assert_eq!(order.all(), [5, 1, 2, 4, 0, 3]);
}

#[test]
fn advancing_stops_at_every_time_in_between() {
    let (engine, clock) = driven();
    let times = Log::default();
    let (log, own) = (times.clone(), Arc::clone(&clock));
    let start = clock.now();
    let retry = Some(RetryPolicy { base: HOUR, factor: 1.0, cap: HOUR });
    let options = Options { retries: Some(20), retry, ..Options::default() };
    let bad = register_with(&engine, "bad", options, move |_: &Attempt| {
        log.add(own.now().since(start));
        Outcome::failure("Bad", "")
    });
    let handle = submit(&engine, &bad, "");
    engine.advance(24 * HOUR).unwrap();
    assert_state(&handle, State::Failed);
    let times = times.all();
    assert_eq!(times.len(), 21);
    assert_eq!(times[0], Duration::ZERO);
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= HOUR && pair[1] > pair[0]), "{times:?}");
    assert_eq!(clock.now().since(start), 24 * HOUR);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let clock = Arc::new(VirtualClock::default());
        let drive = Drive::Driven(Arc::clone(&clock));
        let options = EngineOptions { drive, seed: Some(seed), ..EngineOptions::default() };
        let engine = memory(options);
        engine.start().unwrap();
        let times = Log::default();
        let (log, own) = (times.clone(), Arc::clone(&clock));
        let options = Options { retries: Some(5), ..Options::default() };
        let bad = register_with(&engine, "bad", options, move |attempt: &Attempt| {
            log.add((attempt.task().id(), own.now()));
            Outcome::failure("Bad", "")
        });
        (0..10).for_each(|_| drop(submit(&engine, &bad, "")));
        engine.advance(HOUR).unwrap();
        times.all()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn expiry_deadline_and_timeout_go_by_the_virtual_clock() {
    let (engine, _) = driven();
    let echo = register(&engine, "echo", echo);
    let shut = taskloom_model::Name::new("shut");
    engine.pause(shut).unwrap();
    let options = Options { expires: Some(When::In(HOUR)), queue: Some("shut".into()), ..Options::default() };
    let expired = submit_with(&engine, &echo, options, "1");
    let options =
        Options { deadline: Some(When::In(HOUR)), queue: Some("shut".into()), ..Options::default() };
    let too_late = submit_with(&engine, &echo, options, "1");
    let turner = Arc::clone(&engine);
    let options = Options { timeout: Some(HOUR), ..Options::default() };
    let slow = register_with(&engine, "slow", options, move |attempt: &Attempt| {
        assert_eq!(attempt.time_left(), Some(HOUR));
        turner.advance(HOUR / 2).unwrap();
        assert!(!attempt.is_cancelled());
        turner.advance(HOUR / 2).unwrap();
        assert!(attempt.is_cancelled(), "its time is over");
        echo_late(attempt)
    });
    let slow = submit(&engine, &slow, "1");
    engine.drain().unwrap();
    assert_eq!(failure(&slow), Code::TaskTimedOut);
    assert_eq!(engine.worker_counts().3, 1, "what it returned all the same came too late");
    assert_eq!(failure(&expired), Code::TaskExpired);
    assert_eq!(failure(&too_late), Code::TaskTimedOut);
}

fn echo_late(attempt: &Attempt) -> Outcome {
    echo(attempt)
}

#[test]
fn the_clock_of_the_day_can_be_set_back_and_forth() {
    let (engine, clock) = driven();
    let echo = register(&engine, "echo", echo);
    let start = clock.now();
    let handle = submit_with(&engine, &echo, after(HOUR), "1");
    engine.set_time(start - HOUR).unwrap();
    assert_eq!((engine.now(), clock.monotonic()), (start - HOUR, Duration::ZERO));
    engine.advance(HOUR).unwrap();
    assert_state(&handle, State::Pending);
    engine.set_time(start + 365 * 24 * HOUR).unwrap();
    assert_state(&handle, State::Succeeded);
    let begun = handle.task().with_row(|row| row.started.unwrap());
    assert_eq!(begun, start + HOUR, "not a year late");
}

#[test]
fn a_task_that_always_submits_another_is_told() {
    let (engine, _) =
        driven_with(options(1), MemoryOptions { keep_finished: 10, ..MemoryOptions::default() });
    let again = Arc::clone(&engine);
    let forever = register(&engine, "forever", move |_: &Attempt| {
        let own = again.handler("forever").unwrap();
        submit(&again, &own, "");
        Outcome::success(*b"null")
    });
    submit(&engine, &forever, "");
    let error = engine.drain().unwrap_err();
    assert_eq!(error.code(), Code::WouldDeadlock);
    assert!(error.to_string().contains("there are no fewer tasks left"), "{error}");
    engine.stop(Stop::Within(Duration::ZERO));
}

#[test]
fn a_submit_that_waits_for_room_makes_it() {
    let bounds = MemoryOptions { capacity: 2, ..MemoryOptions::default() };
    let (engine, _) = driven_with(EngineOptions { wait_when_full: true, ..options(1) }, bounds);
    let echo = register(&engine, "echo", echo);
    (0..10).for_each(|_| drop(submit(&engine, &echo, "1")));
    let (engine, _) = driven_with(EngineOptions { wait_when_full: true, ..options(1) }, bounds);
    let echo = register(&engine, "echo", common::echo);
    (0..2).for_each(|_| drop(submit_with(&engine, &echo, after(HOUR), "1")));
    let full = try_submit(&engine, &echo, Options::default(), "1").unwrap_err();
    assert_eq!(full.code(), Code::QueueFull, "what is there waits for a time that does not come");
}

#[test]
fn stopping_runs_what_is_eligible_and_lets_go() {
    let (engine, _) = driven();
    let echo = register(&engine, "echo", echo);
    let (now, later) = (submit(&engine, &echo, "1"), submit_with(&engine, &echo, after(HOUR), "2"));
    engine.stop(Stop::Finish);
    assert_eq!(result(&now), "1");
    assert_eq!(failure(&later), Code::ShutDown);
    assert_eq!(engine.drain().unwrap(), None);
    let (engine, _) = driven();
    let called_off = submit(&engine, &register(&engine, "echo", common::echo), "1");
    engine.stop(Stop::Within(Duration::ZERO));
    assert_eq!(failure(&called_off), Code::ShutDown);
}

#[test]
fn a_handler_is_let_go_with_its_engine() {
    let held = Arc::new(());
    let own = Arc::clone(&held);
    let (engine, _) = driven();
    let echo = register(&engine, "echo", move |attempt: &Attempt| {
        let _ = &own;
        echo(attempt)
    });
    assert_eq!(result(&submit(&engine, &echo, "1")), "1");
    drop((echo, engine));
    assert_eq!(Arc::strong_count(&held), 1, "the driver's workers hold the engine");
}

#[test]
fn run_now_runs_here_whatever_the_time() {
    let (engine, _) = driven();
    let echo = register(&engine, "echo", echo);
    let handle = submit_with(&engine, &echo, after(HOUR), "1");
    engine.run_now(handle.id()).unwrap();
    assert_state(&handle, State::Succeeded);
}

#[test]
fn a_paused_queue_waits() {
    let (engine, _) = driven();
    let echo = register(&engine, "echo", echo);
    let queue = taskloom_model::Name::new("default");
    engine.pause(queue).unwrap();
    let handle = submit(&engine, &echo, "1");
    engine.advance(HOUR).unwrap();
    assert_state(&handle, State::Queued);
    engine.resume(queue).unwrap();
    assert_eq!(result(&handle), "1");
}

#[test]
fn a_real_clock_cannot_be_turned() {
    let engine = started(1);
    for error in [
        engine.advance(HOUR).unwrap_err(),
        engine.drain().unwrap_err(),
        engine.set_time(engine.now() + HOUR).unwrap_err(),
    ] {
        assert_eq!(error.code(), Code::NotTesting);
        assert!(error.hint_text().unwrap().contains("testing mode"), "{error}");
    }
}

#[test]
fn a_hundred_thousand_delays_over_an_hour_come_in_order_and_none_early() {
    const COUNT: u64 = 100_000;
    let (engine, clock) = driven();
    let (start, last, ran) = (clock.now(), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (own, latest, count) = (Arc::clone(&clock), Arc::clone(&last), Arc::clone(&ran));
    let note = register(&engine, "note", move |attempt: &Attempt| {
        let delay = usize::try_from(number(attempt)).unwrap();
        let now = usize::try_from(own.now().since(start).as_micros()).unwrap();
        assert_eq!(now, delay, "to the microsecond");
        assert!(latest.swap(delay, Ordering::Relaxed) <= delay, "in order");
        count.fetch_add(1, Ordering::Relaxed);
        Outcome::success(*b"null")
    });
    let mut delay = 0;
    for _ in 0..COUNT {
        // Every microsecond of the hour can be hit; a full cycle of them would be.
        delay = (delay + 2_654_435_761) % 3_600_000_000;
        submit_with(&engine, &note, after(Duration::from_micros(delay)), &delay.to_string());
    }
    engine.advance(HOUR).unwrap();
    assert_eq!(ran.load(Ordering::Relaxed), COUNT as usize);
    assert_eq!(engine.counts().unwrap().get(State::Succeeded), 10_000, "which is all that is kept");
    assert_eq!(clock.now().since(start), HOUR);
}
