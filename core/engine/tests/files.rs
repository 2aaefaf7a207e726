//! What may become of a file while engines work on it: it goes, its rows are edited, its neighbours have other handlers
//! and keep tasks for another time, and its clocks jump.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use common::stores::{File, Place};
use common::*;
use rusqlite::Connection;
use taskloom_engine::{Clock, Drive, Engine, EngineOptions, Handle, Stop};
use taskloom_model::{Admission, Code, Name, Options, State, Timestamp, When};
use taskloom_store::{Batch, Claim, Nobody, Unserved};

fn edit(file: &File, sql: &str) {
    Connection::open(file.path()).unwrap().execute_batch(sql).unwrap();
}

fn submit_by_name(engine: &Engine, name: &str, allow_unknown: bool) -> taskloom_engine::Result<Handle> {
    let entry = engine.handler_anywhere(name, allow_unknown)?;
    engine.submit(&entry, entry.admission(), (*b"7").into(), None, false)
}

/// One more engine on a file, whose services run on threads. Its clock stands still: what it hears, it hears as news.
fn live(file: &File, clock: &Arc<HandClock>) -> Engine {
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    Engine::new(file.store(), EngineOptions { clock, ..options(1) }).unwrap()
}

/// The result of a task that another engine runs, where no thread hears of it.
fn read(handle: &Handle) -> String {
    eventually("it ends", || {
        handle.refresh();
        handle.is_done()
    });
    result(handle)
}

// ── a file that goes ────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn whoever_waits_hears_that_the_file_has_gone() {
    let file = File::new();
    let timed = file.timed(&HandClock::new(), options(1)).started();
    let slow = gated(&timed.engine, "slow", Options::default());
    let handle = submit(&timed.engine, &slow.entry, "1");
    slow.begun.wait_for(1);
    let aside = file.path().with_extension("aside");
    std::fs::rename(file.path(), &aside).unwrap();

    let error =
        timed.engine.submit(&slow.entry, slow.entry.admission(), (*b"2").into(), None, false).unwrap_err();
    assert_eq!(error.code(), Code::StoreFailed);
    assert!(error.message().ends_with("tasks.db was moved or deleted after it was opened"), "{error}");
    let health = timed.engine.health();
    assert!(health.problems[0].contains("was moved or deleted"), "{health:?}");

    let told = Log::default();
    let own = told.clone();
    handle.observe(move |task| own.add(task.id()));
    timed.advance(seconds(2));
    timed.advance(seconds(9));
    assert!(!handle.is_done(), "it may come back yet");
    timed.advance(seconds(2));
    assert_eq!(told.wait_for(1), [handle.id()]);
    assert!(handle.wait(None).unwrap());
    assert_eq!(handle.outcome().unwrap_err().code(), Code::StoreFailed);
    let late = timed.engine.get(handle.id()).unwrap().unwrap();
    assert!(late.wait(None).unwrap(), "nor does anybody who comes later wait");

    // It is back: what ran is reported after all, and handles are as ever.
    std::fs::rename(&aside, file.path()).unwrap();
    timed.advance(seconds(2));
    assert!(timed.engine.health().ok);
    slow.gate.open();
    let again =
        timed.engine.submit(&slow.entry, slow.entry.admission(), (*b"3").into(), None, false).unwrap();
    assert_eq!(result(&again), "3");
    timed.engine.stop(Stop::Finish);
    let other = file.timed(&HandClock::new(), options(1));
    assert_state(&other.engine.get(handle.id()).unwrap().unwrap(), State::Succeeded);
}

#[test]
fn an_engine_whose_file_has_gone_stops() {
    let file = File::new();
    let timed = file.timed(&HandClock::new(), options(1)).started();
    let slow = gated(&timed.engine, "slow", Options::default());
    let handle = submit(&timed.engine, &slow.entry, "1");
    slow.begun.wait_for(1);
    std::fs::remove_file(file.path()).unwrap();
    slow.gate.open();
    timed.engine.stop(Stop::Finish);
    assert!(handle.wait(None).unwrap());
    assert!(handle.outcome().is_err());
}

// ── rows that cannot be ─────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn an_edited_row_is_told_of_and_the_others_run() {
    for (edited, says) in [
        ("state = 42", "state 42 in the store is not known"),
        ("state = 2", "it runs, and has no owner"),
        ("state = 2, owner = 99", "is none of the processes here"),
        ("attempt = -5", "its attempt cannot be read"),
        ("rare = 'nonsense'", "its options cannot be read"),
    ] {
        let file = File::new();
        let timed = file.timed(&HandClock::new(), options(2));
        let entry = register(&timed.engine, "echo", echo);
        let mut handles: Vec<_> = (0..5).map(|n| submit(&timed.engine, &entry, &n.to_string())).collect();
        let id = handles.remove(2).id();
        edit(&file, &format!("UPDATE tasks SET {edited} WHERE id = x'{}'", id.to_string().replace('-', "")));
        timed.engine.start().unwrap();
        for (handle, number) in handles.iter().zip([0, 1, 3, 4]) {
            assert_eq!(result(handle), number.to_string(), "{edited}");
        }
        // It is looked for after the sweep, stretch by stretch.
        (0..3).for_each(|_| timed.advance(seconds(1)));
        let health = timed.engine.health();
        assert!(health.ok, "it is not this process that is ill: {health:?}");
        let told = &health.warnings[0];
        assert!(told.contains(&id.to_string()) && told.contains(says), "{edited}: {health:?}");
        let count = "SELECT count(*) FROM tasks WHERE finished IS NULL";
        let left: i64 =
            Connection::open(file.path()).unwrap().query_row(count, [], |row| row.get(0)).unwrap();
        assert_eq!(left, 1, "it is as it was");
    }
}

// ── handlers ────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_name_that_another_process_has_is_accepted_and_runs_there() {
    let file = File::new();
    let clock = HandClock::new();
    let (here, there) = (live(&file, &clock), live(&file, &clock));
    let error = submit_by_name(&here, "resize", false).unwrap_err();
    assert_eq!(error.code(), Code::UnknownHandler);
    assert!(error.message().contains("no process has ever registered a handler \"resize\""), "{error}");
    register(&there, "resize", echo);
    there.start().unwrap();
    let handle = submit_by_name(&here, "resize", false).unwrap();
    assert_eq!(result(&handle), "7");
    let error = submit_by_name(&here, "resise", false).unwrap_err();
    assert_eq!(error.hint_text(), Some("did you mean \"resize\"?"));
    // Ever: it need not be there any more.
    there.stop(Stop::Finish);
    submit_by_name(&here, "resize", false).unwrap();
    // Nor need it ever have been started, if it did anything at all.
    let other = live(&file, &clock);
    let entry = register(&other, "scale", echo);
    submit(&other, &entry, "1");
    submit_by_name(&here, "scale", false).unwrap();
}

#[test]
fn a_name_that_nobody_has_is_accepted_if_the_submitter_says_so() {
    let file = File::new();
    let timed = file.timed(&HandClock::new(), options(1));
    let handle = submit_by_name(&timed.engine, "later", true).unwrap();
    assert_state(&handle, State::Queued);
    let error = submit_by_name(&timed.engine, "", true).unwrap_err();
    assert_eq!(error.code(), Code::InvalidOption);
    register(&timed.engine, "later", echo);
    timed.engine.start().unwrap();
    assert_eq!(result(&handle), "7");
    let memory = Place::Memory.timed(1);
    let error = submit_by_name(&memory.engine, "later", true).unwrap_err();
    assert_eq!(error.code(), Code::UnknownHandler, "nobody else could ever register it");
}

#[test]
fn tasks_that_nobody_runs_are_told_of_until_somebody_does() {
    let file = File::new();
    let clock = HandClock::new();
    // The clock moves only before those live whom nobody steps: one whose beats stood still for a minute is struck off.
    let early = file.timed(&clock, options(1));
    assert!(early.engine.health().warnings.is_empty());
    let handles: Vec<_> = (0..3).map(|_| submit_by_name(&early.engine, "resize", true).unwrap()).collect();
    clock.advance(seconds(60));
    let (here, there) = (live(&file, &clock), live(&file, &clock));
    register(&here, "echo", echo);
    here.start().unwrap();
    let expected =
        Unserved { name: "resize".to_owned(), count: 3, since: Timestamp::from_micros(common::START) };
    let health = here.health();
    assert_eq!((health.ok, health.ready, &health.unserved[..]), (true, true, &[expected][..]));
    let said =
        "no process runs tasks for the handler \"resize\": 3 queued, the first since 2026-01-01T00:00:00";
    assert!(health.warnings[0].starts_with(said), "{health:?}");
    // Registered, but not started: it runs nothing yet.
    register(&there, "resize", echo);
    submit_by_name(&there, "resize", false).unwrap();
    assert_eq!(here.health().unserved[0].count, 4);
    there.start().unwrap();
    for handle in &handles {
        assert_eq!(read(handle), "7");
    }
    assert!(here.health().warnings.is_empty());
    // Registered after the start, it is served as soon as something is written.
    let own = register(&there, "late", echo);
    result(&submit(&there, &own, "1"));
    there.stop(Stop::Finish);
    submit_by_name(&here, "late", false).unwrap();
    assert_eq!(here.health().unserved[0].name, "late", "what it served has gone with it");
}

#[test]
fn who_joins_again_serves_again() {
    let file = File::new();
    let clock = HandClock::new();
    let (here, frozen) = (file.timed(&clock, options(1)), file.timed(&clock, options(1)));
    register(&frozen.engine, "echo", echo);
    frozen.engine.start().unwrap();
    here.engine.start().unwrap();
    here.step();
    for _ in 0..8 {
        clock.advance(seconds(2));
        here.step();
    }
    let served = || {
        let query = "SELECT owner FROM serving WHERE name = 'echo'";
        Connection::open(file.path()).unwrap().query_row(query, [], |row| row.get::<_, i64>(0)).ok()
    };
    assert_eq!(served(), None, "its beat stood still, and it is struck off");
    // It goes on under a new number.
    clock.advance(seconds(2));
    frozen.step();
    eventually("it serves", || served() == Some(3));
}

// ── retention ───────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn of_two_retentions_the_shorter_one_holds() {
    let file = File::new();
    let clock = HandClock::new();
    let keeping = |retention| EngineOptions { retention, ..options(1) };
    let long = file.timed(&clock, keeping(Some(seconds(3600))));
    let entry = register(&long.engine, "echo", echo);
    long.engine.start().unwrap();
    let first = submit(&long.engine, &entry, "1");
    result(&first);
    clock.advance(seconds(600));
    long.step();
    let is_there = |id| file.store().get(id, &Nobody).unwrap().is_some();
    assert!(is_there(first.id()), "it keeps them for an hour");
    // One that is not started sweeps nothing.
    let short = file.timed(&clock, keeping(Some(seconds(60))));
    assert!(is_there(first.id()));
    short.engine.start().unwrap();
    short.step();
    assert!(!is_there(first.id()), "another is done with them after a minute");
    assert_eq!(result(&first), "1", "who held the handle has its outcome");
    let never = file.timed(&clock, keeping(None));
    never.engine.start().unwrap();
    let second = submit(&long.engine, &entry, "2");
    result(&second);
    let each_minute = |timed: &Timed| (0..62).for_each(|_| timed.advance(seconds(1)));
    each_minute(&never);
    assert!(is_there(second.id()));
    each_minute(&short);
    assert!(!is_there(second.id()), "nor does one that keeps them for ever hold another back");
}

// ── clocks ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/// A clock whose time of day jumps, while its monotonic one goes on.
#[derive(Default)]
struct JumpingClock {
    steady: HandClock,
    off: AtomicI64,
}

impl JumpingClock {
    fn jump(&self, seconds: i64) {
        self.off.fetch_add(seconds * 1_000_000, Ordering::SeqCst);
    }
}

impl Clock for JumpingClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.steady.now().micros() + self.off.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        self.steady.monotonic()
    }
}

const HOUR: i64 = 3600;
const YEAR: i64 = 365 * 24 * HOUR;

fn jumping(file: &File, clock: &Arc<JumpingClock>) -> Engine {
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    let options = EngineOptions { clock, drive: Drive::Stepped, ..options(1) };
    Engine::new(file.store(), options).unwrap()
}

fn delayed(engine: &Engine, entry: &taskloom_engine::HandlerEntry, seconds: u64) -> Handle {
    let options = Options { eta: Some(When::In(Duration::from_secs(seconds))), ..Options::default() };
    let admission: Admission = engine.admission(&options).unwrap();
    engine.submit(entry, &admission, (*b"1").into(), None, false).unwrap()
}

#[test]
fn no_jump_of_the_clock_kills_anybody() {
    for jumps in [&[-HOUR, YEAR][..], &[YEAR, -HOUR], &[-HOUR, HOUR, -YEAR, 2 * YEAR]] {
        let file = File::new();
        // The two of them do not even agree on the time.
        let (own, other) = (Arc::<JumpingClock>::default(), Arc::<JumpingClock>::default());
        let (here, there) = (jumping(&file, &own), jumping(&file, &other));
        let slow = gated(&there, "slow", Options::default());
        there.start().unwrap();
        here.start().unwrap();
        let entry = here.handler_anywhere("slow", false).unwrap();
        let handle = here.submit(&entry, entry.admission(), (*b"1").into(), None, false).unwrap();
        other.steady.advance(seconds(2));
        there.step();
        slow.begun.wait_for(1);
        for jump in jumps {
            own.jump(*jump);
            for _ in 0..4 {
                for clock in [&own, &other] {
                    clock.steady.advance(seconds(2));
                }
                there.step();
                here.step();
            }
        }
        slow.gate.open();
        assert_eq!(read(&handle), "1", "{jumps:?}");
        assert_eq!(handle.task().with_row(|row| (row.attempt, row.crashes)), (1, 0), "{jumps:?}");
    }
}

#[test]
fn who_is_dead_is_found_whatever_the_clock_does() {
    let file = File::new();
    let clock = Arc::<JumpingClock>::default();
    let here = jumping(&file, &clock);
    let entry = register(&here, "echo", echo);
    let handle = submit(&here, &entry, "1");
    // It has claimed the task, and beats no more.
    let dead = file.store();
    let owner = dead.join("dead", clock.now()).unwrap();
    let claim = Claim { owner, queues: [].into(), names: [Name::new("echo")].into(), limit: 1 };
    let mut batch = Batch { claim: Some(claim), ..Batch::default() };
    dead.write(&mut batch, &Nobody, clock.now()).unwrap();
    assert_eq!(batch.claimed.len(), 1);
    here.start().unwrap();
    here.step();
    for second in 0..12 {
        clock.jump(if second % 2 == 0 { -HOUR } else { YEAR });
        clock.steady.advance(seconds(1));
        here.step();
    }
    assert_eq!(result(&handle), "1");
    assert_eq!(handle.task().with_row(|row| (row.attempt, row.crashes)), (2, 1));
}

/// What is to happen at a time of day happens when the clock shows it; so a jump back makes it later, and a jump forward
/// makes it now. Nothing is lost and nothing happens twice.
#[test]
fn delays_follow_the_clock_and_come_once() {
    let file = File::new();
    let clock = Arc::<JumpingClock>::default();
    let engine = jumping(&file, &clock);
    let entry = register(&engine, "echo", echo);
    engine.start().unwrap();
    let handles: Vec<_> = [5, 600, 3 * 24 * 3600].map(|delay| delayed(&engine, &entry, delay)).into();
    clock.jump(-HOUR);
    clock.steady.advance(seconds(6));
    engine.step();
    assert_state(&handles[0], State::Pending);
    // New ones are reckoned from the time that it shows now.
    let new = delayed(&engine, &entry, 5);
    clock.steady.advance(seconds(5));
    engine.step();
    assert_eq!(result(&new), "1");
    assert_state(&handles[0], State::Pending);
    clock.jump(HOUR);
    engine.step();
    assert_eq!(result(&handles[0]), "1");
    assert_state(&handles[1], State::Pending);
    clock.jump(YEAR);
    engine.step();
    for handle in &handles {
        assert_eq!(result(handle), "1");
    }
    clock.jump(-YEAR);
    engine.step();
    assert!(handles.iter().all(|handle| handle.task().with_row(|row| row.attempt) == 1));
}

/// A timeout is a span, and no time of day.
#[test]
fn timeouts_go_by_the_other_clock() {
    let file = File::new();
    let clock = Arc::<JumpingClock>::default();
    let engine = jumping(&file, &clock);
    let slow = gated(&engine, "slow", Options { timeout: Some(seconds(10)), ..Options::default() });
    engine.start().unwrap();
    let handle = submit(&engine, &slow.entry, "1");
    slow.begun.wait_for(1);
    clock.jump(YEAR);
    clock.steady.advance(seconds(9));
    engine.step();
    assert_state(&handle, State::Running);
    clock.jump(-YEAR - HOUR);
    clock.steady.advance(seconds(2));
    engine.step();
    assert_state(&handle, State::TimedOut);
    slow.gate.open();
}
