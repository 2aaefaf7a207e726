//! Schedules: what fires when, on each kind of store. The clock is turned by hand.

mod common;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use common::stores::{File, Place, on_both};
use common::watch::{self, Watch};
use common::*;
use taskloom_engine::{Attempt, Clock, Drive, Engine, EngineOptions};
use taskloom_model::{
    CatchUp, Code, Options, Overlap, Rule, ScheduleRow, ScheduleSpec, State, Template, Timestamp, When,
};
use taskloom_store::Filter;

const MINUTE: Duration = seconds(60);

fn template(handler: &str) -> Template {
    Template { handler: handler.into(), payload: Box::new(*b"1"), options: Options::default() }
}

fn every(interval: Duration, handler: &str) -> ScheduleSpec {
    ScheduleSpec::new("often", Rule::Every(interval), template(handler))
}

fn row(engine: &Engine) -> ScheduleRow {
    engine.schedule("often").unwrap().unwrap()
}

/// The ticks of all tasks that schedules have submitted, in their order.
fn ticks(engine: &Engine) -> Vec<Timestamp> {
    let tasks = engine.list(&Filter { limit: usize::MAX, ..Filter::default() }).unwrap();
    let mut ticks: Vec<_> =
        tasks.iter().filter_map(|handle| Some(handle.task().spec().scheduled()?.tick)).collect();
    ticks.sort();
    ticks
}

/// A clock that is set to any time, while time itself goes on.
struct JumpingClock {
    now: AtomicI64,
    passed: AtomicI64,
}

impl JumpingClock {
    fn new() -> Arc<Self> {
        Arc::new(Self { now: AtomicI64::new(START), passed: AtomicI64::new(0) })
    }

    fn pass(&self, span: Duration) {
        let micros = span.as_micros() as i64;
        self.now.fetch_add(micros, Ordering::SeqCst);
        self.passed.fetch_add(micros, Ordering::SeqCst);
    }

    fn jump(&self, seconds: i64) {
        self.now.fetch_add(seconds * 1_000_000, Ordering::SeqCst);
    }
}

impl Clock for JumpingClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.now.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.passed.load(Ordering::SeqCst) as u64)
    }
}

/// An engine on such a clock, stepped until nothing is due.
fn jumping(place: &Place, clock: &Arc<JumpingClock>) -> Engine {
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    let options = EngineOptions { clock, drive: Drive::Stepped, seed: Some(7), ..options(1) };
    let engine = Engine::new(place.store(), options).unwrap();
    engine.start().unwrap();
    engine
}

fn settle(engine: &Engine) {
    for _ in 0..10_000 {
        if !engine.step().is_zero() {
            return;
        }
    }
    panic!("a storm");
}

#[test]
fn a_schedule_submits_a_task_at_each_of_its_times() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let ran = Log::default();
        let log = ran.clone();
        register(&timed.engine, "note", move |attempt: &Attempt| {
            log.add(attempt.task().spec().scheduled().unwrap().tick);
            echo(attempt)
        });
        let start = timed.clock.now();
        timed.engine.put_schedule(every(MINUTE, "note")).unwrap();
        assert!(timed.step() <= seconds(10));
        timed.advance(seconds(59));
        assert_eq!(row(&timed.engine).runs, 0);
        assert!(timed.step() <= seconds(1), "it wants to be called when the tick comes");
        timed.advance(seconds(1));
        for minute in 2..=5 {
            let runs = ran.wait_for(minute as usize - 1).len();
            eventually("the last one has ended", || row(&timed.engine).live.is_none());
            timed.advance(MINUTE);
            assert_eq!(row(&timed.engine).runs as usize, runs + 1);
        }
        assert_eq!(ran.wait_for(5), (1..=5).map(|minute| start + MINUTE * minute).collect::<Vec<_>>());
        assert_eq!(ran.len(), 5);
        let row = row(&timed.engine);
        assert_eq!((row.runs, row.next), (5, Some(start + MINUTE * 6)));
    });
}

#[test]
fn overlap_is_skipped_queued_or_replaced() {
    on_both(|place| {
        let timed = place.timed(2).started();
        let slow = gated(&timed.engine, "slow", Options::default());
        let of = |name: &str, overlap| ScheduleSpec { name: name.into(), overlap, ..every(MINUTE, "slow") };
        let get = |name: &str| timed.engine.schedule(name).unwrap().unwrap();

        timed.engine.put_schedule(of("skip", Overlap::Skip)).unwrap();
        timed.advance(MINUTE);
        slow.begun.wait_for(1);
        timed.advance(MINUTE);
        assert_eq!((get("skip").runs, get("skip").skipped), (1, 1));
        timed.engine.remove_schedule("skip").unwrap();

        timed.engine.put_schedule(of("replace", Overlap::Replace)).unwrap();
        timed.advance(MINUTE);
        let first = get("replace").live.unwrap();
        timed.advance(MINUTE);
        let first = timed.engine.get(first).unwrap().unwrap();
        assert_state(&first, State::Cancelled);
        assert_eq!((get("replace").runs, get("replace").failures), (2, 0));
        timed.engine.remove_schedule("replace").unwrap();
        slow.gate.open();
        eventually("all have ended", || timed.engine.counts().unwrap().unfinished() == 0);
        slow.gate.shut();

        let begun = slow.begun.len();
        timed.engine.put_schedule(of("queue", Overlap::Queue)).unwrap();
        for _ in 0..3 {
            timed.advance(MINUTE);
        }
        slow.begun.wait_for(begun + 1);
        assert_eq!((get("queue").runs, get("queue").waiting.len()), (1, 2));
        timed.engine.disable_schedule("queue").unwrap();
        assert_eq!(get("queue").waiting.len(), 0, "what waits is dropped");
        slow.gate.open();
    });
}

#[test]
fn queued_firings_run_one_after_the_other() {
    on_both(|place| {
        let timed = place.timed(2).started();
        let slow = gated(&timed.engine, "slow", Options::default());
        timed.engine.put_schedule(ScheduleSpec { overlap: Overlap::Queue, ..every(MINUTE, "slow") }).unwrap();
        for _ in 0..3 {
            timed.advance(MINUTE);
        }
        slow.begun.wait_for(1);
        slow.gate.open();
        for runs in 2..=3 {
            eventually("the last one has ended", || row(&timed.engine).live.is_none());
            timed.step();
            slow.begun.wait_for(runs);
        }
        eventually("the last one has ended", || row(&timed.engine).live.is_none());
        let begun: Vec<_> =
            slow.begun.all().iter().map(|attempt| attempt.task().spec().scheduled().unwrap().tick).collect();
        assert_eq!((begun.is_sorted(), begun.len()), (true, 3));
    });
}

#[test]
fn failures_are_counted_and_cancels_are_not() {
    on_both(|place| {
        let timed = place.timed(1).started();
        register(&timed.engine, "bad", |_: &Attempt| taskloom_engine::Outcome::failure("E", "no"));
        timed.engine.put_schedule(every(MINUTE, "bad")).unwrap();
        for failures in 1..=3 {
            timed.advance(MINUTE);
            eventually("it has failed", || row(&timed.engine).failures == failures);
        }
        let later = ScheduleSpec { rule: Rule::Every(MINUTE * 2), ..every(MINUTE, "bad") };
        timed.engine.put_schedule(later).unwrap();
        let handle = timed.engine.trigger_schedule("often").unwrap();
        assert_eq!(failure(&handle), Code::TaskFailed);
        assert_eq!((row(&timed.engine).failures, row(&timed.engine).runs), (4, 4));
    });
}

#[test]
fn what_was_missed_while_nobody_lived_is_made_up_for() {
    for (catch_up, made_up) in
        [(CatchUp::None, 0), (CatchUp::Last, 1), (CatchUp::All(3), 3), (CatchUp::All(9), 4)]
    {
        let file = File::new();
        let clock = HandClock::new();
        let first = file.timed(&clock, options(1));
        register(&first.engine, "echo", echo);
        first.engine.put_schedule(ScheduleSpec { catch_up, ..every(MINUTE * 10, "echo") }).unwrap();
        drop(first);
        // Nobody is there for 45 minutes: four ticks, the last of them five minutes ago.
        clock.advance(MINUTE * 45);
        let second = file.timed(&clock, options(1)).started();
        register(&second.engine, "echo", echo);
        let spec = ScheduleSpec { catch_up, ..every(MINUTE * 10, "echo") };
        let kept = second.engine.put_schedule(spec).unwrap();
        assert_eq!(kept.created + MINUTE * 45, clock.now(), "it is the one that was there");
        second.step();
        for _ in 0..made_up {
            eventually("the last one has ended", || row(&second.engine).live.is_none());
            second.step();
        }
        let row = row(&second.engine);
        assert_eq!((row.runs, row.waiting.len()), (made_up, 0), "{catch_up:?}");
        assert_eq!(row.next, Some(row.created + MINUTE * 50));
    }
}

#[test]
fn each_tick_is_fired_once_by_whichever_engine() {
    let file = File::new();
    let clock = HandClock::new();
    let engines: Vec<_> = (0..3).map(|_| file.timed(&clock, options(1)).started()).collect();
    for engine in &engines {
        register(&engine.engine, "echo", echo);
    }
    engines[0]
        .engine
        .put_schedule(ScheduleSpec { overlap: Overlap::Replace, ..every(seconds(1), "echo") })
        .unwrap();
    for _ in 0..30 {
        clock.advance(seconds(1));
        std::thread::scope(|scope| {
            for timed in &engines {
                scope.spawn(|| timed.step());
            }
        });
    }
    let row = row(&engines[1].engine);
    let expected: Vec<_> = (1..=30).map(|second| row.created + seconds(second)).collect();
    assert_eq!((row.runs, ticks(&engines[2].engine)), (30, expected));
}

#[test]
fn an_engine_goes_on_when_another_is_gone() {
    let file = File::new();
    let clock = HandClock::new();
    let (one, two) = (file.timed(&clock, options(1)).started(), file.timed(&clock, options(1)).started());
    register(&one.engine, "echo", echo);
    register(&two.engine, "echo", echo);
    one.engine.put_schedule(every(MINUTE, "echo")).unwrap();
    clock.advance(MINUTE);
    one.step();
    two.step();
    eventually("the first has ended", || row(&two.engine).live.is_none());
    drop(one);
    two.advance(MINUTE);
    eventually("the second has ended", || row(&two.engine).live.is_none());
    assert_eq!((row(&two.engine).runs, ticks(&two.engine).len()), (2, 2));
}

#[test]
fn a_clock_that_jumps_makes_no_storm_and_no_tick_twice() {
    on_both(|place| {
        let clock = JumpingClock::new();
        let engine = jumping(place, &clock);
        register(&engine, "echo", echo);
        let cron = Rule::Cron { expression: "*/10 * * * *".into(), tz: "Europe/Rome".into() };
        let spec = |name: &str, rule| ScheduleSpec {
            overlap: Overlap::Replace,
            catch_up: CatchUp::All(5),
            ..ScheduleSpec::new(name, rule, template("echo"))
        };
        engine.put_schedule(spec("cron", cron)).unwrap();
        engine.put_schedule(spec("often", Rule::Every(seconds(1)))).unwrap();
        let runs = |name: &str| engine.schedule(name).unwrap().unwrap().runs;
        settle(&engine);
        clock.pass(MINUTE * 10);
        settle(&engine);
        assert_eq!((runs("cron"), runs("often")), (1, 1), "one for all that passed at once");

        // Back by an hour. The ticks of that hour were fired; the interval goes on.
        clock.jump(-3600);
        settle(&engine);
        clock.pass(seconds(1));
        settle(&engine);
        assert_eq!(runs("often"), 2);
        for _ in 0..6 {
            clock.pass(MINUTE * 10);
            settle(&engine);
        }
        assert_eq!(runs("cron"), 1, "the same ten minutes, and those before, came a second time");
        clock.pass(MINUTE * 10);
        settle(&engine);
        assert_eq!(runs("cron"), 2);

        // Ahead by a year, and back again.
        clock.jump(365 * 24 * 3600);
        settle(&engine);
        assert_eq!(runs("cron"), 3);
        clock.jump(-365 * 24 * 3600);
        settle(&engine);
        clock.pass(MINUTE * 10);
        settle(&engine);
        assert_eq!(runs("cron"), 4, "it does not sleep for a year");

        let tasks = engine.list(&Filter { limit: usize::MAX, ..Filter::default() }).unwrap();
        let firings: HashSet<_> =
            tasks.iter().map(|handle| handle.task().spec().scheduled().unwrap().unique_key()).collect();
        assert_eq!(firings.len(), tasks.len());
    });
}

#[test]
fn an_operator_sees_and_changes_schedules() {
    on_both(|place| {
        let timed = place.timed(1).started();
        register(&timed.engine, "echo", echo);
        let engine = &timed.engine;
        engine.put_schedule(every(MINUTE, "echo")).unwrap();
        let start = timed.clock.now();
        assert_eq!(engine.next_firings("often", 2).unwrap(), [start + MINUTE, start + MINUTE * 2]);
        let changed = engine.update_schedule("often", |spec| spec.rule = Rule::Every(MINUTE * 5)).unwrap();
        assert_eq!(changed.next, Some(start + MINUTE * 5));
        assert!(engine.disable_schedule("often").unwrap() && !engine.disable_schedule("often").unwrap());
        timed.advance(MINUTE * 20);
        assert_eq!((row(engine).runs, engine.next_firings("often", 2).unwrap()), (0, vec![]));
        let handle = engine.trigger_schedule("often").unwrap();
        assert_eq!(result(&handle), "1");
        assert!(engine.enable_schedule("often").unwrap());
        timed.step();
        assert_eq!((row(engine).runs, row(engine).next), (1, Some(start + MINUTE * 25)));
        assert_eq!(engine.schedules().unwrap().len(), 1);
        for (name, hint) in [("oftn", "did you mean \"often\"?"), ("qqqqqqqq", "there are often")] {
            for error in [
                engine.enable_schedule(name).unwrap_err(),
                engine.trigger_schedule(name).unwrap_err(),
                engine.remove_schedule(name).unwrap_err(),
                engine.update_schedule(name, |_| {}).unwrap_err(),
                engine.next_firings(name, 1).unwrap_err(),
            ] {
                assert_eq!((error.code(), error.hint_text()), (Code::UnknownSchedule, Some(hint)));
            }
        }
        engine.remove_schedule("often").unwrap();
        assert!(engine.schedule("often").unwrap().is_none());
        timed.advance(MINUTE * 20);
        assert_eq!(ticks(engine).len(), 1);
    });
}

#[test]
fn what_makes_no_sense_is_refused() {
    on_both(|place| {
        let timed = place.timed(1).started();
        register(&timed.engine, "echo", echo);
        let cron = |expression: &str, tz: &str| Rule::Cron { expression: expression.into(), tz: tz.into() };
        let with = |options| {
            let mut spec = every(MINUTE, "echo");
            spec.template.options = options;
            spec
        };
        let ruled = |rule| ScheduleSpec { rule, ..every(MINUTE, "echo") };
        let past = When::At(Timestamp::from_micros(1));
        for (spec, code) in [
            (ruled(cron("0 0 30 2 *", "UTC")), Code::InvalidSchedule),
            (ruled(cron("0 0 * * *", "Mars/Olympus")), Code::InvalidSchedule),
            (ruled(Rule::Every(Duration::ZERO)), Code::InvalidSchedule),
            (every(MINUTE, "ecoh"), Code::UnknownHandler),
            (with(Options { unique_key: Some("k".into()), ..Options::default() }), Code::InvalidSchedule),
            (with(Options { expires: Some(past), ..Options::default() }), Code::InvalidSchedule),
            (ScheduleSpec { name: String::new(), ..every(MINUTE, "echo") }, Code::InvalidOption),
        ] {
            let error = timed.engine.put_schedule(spec).unwrap_err();
            assert_eq!(error.code(), code, "{error}");
        }
        assert_eq!(timed.engine.schedules().unwrap(), []);
        // Neither can it be made of one that is fine.
        timed.engine.put_schedule(every(MINUTE, "echo")).unwrap();
        let before = row(&timed.engine);
        let changes: [fn(&mut ScheduleSpec); 3] = [
            |spec| spec.template.options.unique_key = Some("k".into()),
            |spec| spec.template.options.eta = Some(When::In(MINUTE)),
            |spec| spec.end = Some(Timestamp::from_micros(1)),
        ];
        for change in changes {
            let error = timed.engine.update_schedule("often", change).unwrap_err();
            assert_eq!(error.code(), Code::InvalidSchedule, "{error}");
            assert_eq!(row(&timed.engine), before);
        }
    });
}

#[test]
fn everything_is_told() {
    let timed = Timed::memory(1).started();
    let slow = gated(&timed.engine, "slow", Options::default());
    let watch = Watch::on(&timed.engine, "schedule.*");
    timed.engine.put_schedule(every(MINUTE, "slow")).unwrap();
    timed.engine.put_schedule(every(MINUTE, "slow")).unwrap();
    timed.advance(MINUTE);
    timed.advance(MINUTE);
    timed.engine.disable_schedule("often").unwrap();
    timed.engine.enable_schedule("often").unwrap();
    timed.engine.update_schedule("often", |spec| spec.overlap = Overlap::Queue).unwrap();
    timed.engine.trigger_schedule("often").unwrap();
    timed.engine.remove_schedule("often").unwrap();
    slow.gate.open();
    let told = |event: &Arc<taskloom_engine::Event>| {
        let data = watch::data(event);
        assert_eq!(data["schedule"], "often");
        let more = data["why"].as_str().map_or(String::new(), |why| format!(" {why}"));
        format!("{}{more}", event.name())
    };
    let told: Vec<_> = watch.until("schedule.removed").iter().map(told).collect();
    assert_eq!(
        told,
        [
            "schedule.created",
            "schedule.fired",
            "schedule.skipped overlap",
            "schedule.disabled",
            "schedule.enabled",
            "schedule.updated",
            "schedule.fired",
            "schedule.removed"
        ]
    );
}

#[test]
fn under_the_machines_clock_it_fires_by_itself() {
    on_both(|place| {
        let engine = Engine::new(place.store(), options(1)).unwrap();
        let ran = Log::default();
        let log = ran.clone();
        register(&engine, "note", move |attempt: &Attempt| {
            log.add(attempt.task().id());
            echo(attempt)
        });
        engine.start().unwrap();
        engine.put_schedule(every(Duration::from_millis(5), "note")).unwrap();
        ran.wait_for(3);
        // A tick that waits is submitted when the last task has ended, without anybody looking.
        let slow = gated(&engine, "slow", Options::default());
        let queued = ScheduleSpec {
            name: "queued".into(),
            overlap: Overlap::Queue,
            ..every(Duration::from_millis(5), "slow")
        };
        engine.put_schedule(queued).unwrap();
        slow.begun.wait_for(1);
        eventually("one waits", || !engine.schedule("queued").unwrap().unwrap().waiting.is_empty());
        engine.remove_schedule("often").unwrap();
        slow.gate.open();
        slow.begun.wait_for(3);
    });
}

#[test]
fn what_another_process_does_is_heard_without_polling() {
    let file = File::new();
    let clock = HandClock::new();
    let neighbour = || {
        let clock = Arc::clone(&clock) as Arc<dyn Clock>;
        Engine::new(file.store(), EngineOptions { clock, ..options(1) }).unwrap()
    };
    let (here, there) = (neighbour(), neighbour());
    let ran = Log::default();
    let log = ran.clone();
    register(&here, "note", echo);
    register(&there, "note", move |attempt: &Attempt| {
        log.add(attempt.task().id());
        echo(attempt)
    });
    there.start().unwrap();
    // It is made here, where nobody fires; that it is due is heard there, while all clocks stand still.
    let past = Rule::Once(clock.now() - MINUTE);
    here.put_schedule(ScheduleSpec { rule: past, ..every(MINUTE, "note") }).unwrap();
    ran.wait_for(1);
    eventually("it is over", || row(&here).live.is_none() && row(&here).next.is_none());
    assert_eq!(row(&here).runs, 1);
}
