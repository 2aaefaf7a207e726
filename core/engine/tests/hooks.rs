//! What a handler's own hook is told.

mod common;

use std::sync::Arc;

use common::disk::Disk;
use common::stores::{File, on_both};
use common::*;
use taskloom_engine::{
    Attempt, Clock, Engine, EngineOptions, Handle, Handler, HandlerEntry, Hook, Moment, Outcome,
    Registration, Stop,
};
use taskloom_model::{Code, Options, RetryPolicy, State, TaskId, When};

/// A hook that notes what it is told, and the state that the task shows then.
#[derive(Clone, Default)]
struct Told(Log<(TaskId, Moment, State)>);

impl Hook for Told {
    fn tell(&self, handle: &Handle, moment: Moment) {
        self.0.add((handle.id(), moment, handle.state()));
    }
}

impl Told {
    fn moments(&self, count: usize) -> Vec<(Moment, State)> {
        self.0.wait_for(count).into_iter().map(|(_, moment, state)| (moment, state)).collect()
    }
}

fn hooked(
    engine: &Engine,
    name: &str,
    options: Options,
    hook: impl Hook + 'static,
    handler: impl Fn(&Attempt) -> Outcome + Send + Sync + 'static,
) -> Arc<HandlerEntry> {
    let registration = Registration {
        version: Default::default(),
        replace: false,
        options,
        handler: Handler::Blocking(Box::new(handler)),
        hook: Some(Arc::new(hook)),
    };
    engine.register_with(name, registration).unwrap()
}

fn retries(count: u32) -> Options {
    let retry = Some(RetryPolicy { base: seconds(100), factor: 1.0, cap: seconds(100) });
    Options { retries: Some(count), retry, ..Options::default() }
}

#[test]
fn a_hook_is_told_of_each_attempts_end_once() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let told = Told::default();
        let flaky = hooked(&timed.engine, "flaky", retries(1), told.clone(), |attempt: &Attempt| {
            match (attempt.fence().attempt, &payload(attempt)[..]) {
                (1, _) | (_, b"bad") => Outcome::failure("Bad", ""),
                _ => echo(attempt),
            }
        });
        for (kind, end) in
            [("good", (Moment::Success, State::Succeeded)), ("bad", (Moment::Failure, State::Failed))]
        {
            let before = told.0.len();
            let handle = submit(&timed.engine, &flaky, kind);
            told.0.wait_for(before + 1);
            timed.advance(seconds(100));
            let _ = outcome(&handle);
            let moments = told.moments(before + 2);
            assert_eq!(moments[before..], [(Moment::Retry, State::Retrying), end]);
            assert!(told.0.all()[before..].iter().all(|(id, ..)| *id == handle.id()));
        }
    });
}

#[test]
fn a_hook_is_told_of_timeouts_and_not_of_cancellations() {
    on_both(|place| {
        let timed = place.timed(2).started();
        let (told, gate) = (Told::default(), Gate::default());
        let door = gate.clone();
        let options = Options { timeout: Some(seconds(5)), ..Options::default() };
        let begun = Log::default();
        let log = begun.clone();
        let slow = hooked(&timed.engine, "slow", options, told.clone(), move |attempt: &Attempt| {
            log.add(());
            door.pass();
            echo(attempt)
        });
        let cancelled = submit(&timed.engine, &slow, "1");
        begun.wait_for(1);
        assert!(cancelled.cancel(None).unwrap());
        let late = submit(&timed.engine, &slow, "2");
        begun.wait_for(2);
        timed.advance(seconds(5));
        assert_eq!(told.moments(1), [(Moment::Failure, State::TimedOut)]);
        assert_eq!(told.0.all()[0].0, late.id());
        gate.open();
        eventually("their reports are refused", || timed.engine.worker_counts().3 == 2);
        assert_eq!(told.0.len(), 1);
    });
}

#[test]
fn a_hook_is_told_after_the_commit() {
    let disk = Disk::new();
    let engine = Engine::new(disk.store(), options(1)).unwrap();
    let (told, gate) = (Told::default(), Gate::default());
    let (door, begun) = (gate.clone(), Log::default());
    let log = begun.clone();
    let entry = hooked(&engine, "echo", Options::default(), told.clone(), move |attempt: &Attempt| {
        log.add(());
        door.pass();
        echo(attempt)
    });
    engine.start().unwrap();
    let handle = submit(&engine, &entry, "1");
    begun.wait_for(1);
    disk.fail(1);
    gate.open();
    disk.failed.wait_for(1);
    assert_eq!(result(&handle), "1");
    assert_eq!(told.moments(1), [(Moment::Success, State::Succeeded)], "once, though it was tried twice");
}

#[test]
fn a_hook_is_not_told_of_what_another_engine_ran() {
    let (file, clock) = (File::new(), HandClock::new());
    let here = file.timed(&clock, options(1));
    let there = file.timed(&clock, options(1)).started();
    let (told_here, told_there) = (Told::default(), Told::default());
    let entry = hooked(&here.engine, "echo", Options::default(), told_here.clone(), echo);
    hooked(&there.engine, "echo", Options::default(), told_there.clone(), echo);
    let handle = submit(&here.engine, &entry, "1");
    there.advance(seconds(2));
    assert_eq!(told_there.moments(1), [(Moment::Success, State::Succeeded)]);
    here.advance(seconds(2));
    eventually("it is known here", || {
        here.engine.counts().unwrap().get(State::Succeeded) == 1 && told_there.0.len() == 1
    });
    assert_eq!((told_here.0.len(), told_there.0.all()[0].0), (0, handle.id()));
}

#[test]
fn a_hook_that_panics_harms_nobody() {
    struct Bad;
    impl Hook for Bad {
        fn tell(&self, _: &Handle, _: Moment) {
            panic!("a bug in a hook");
        }
    }
    on_both(|place| {
        let timed = place.timed(1).started();
        let entry = hooked(&timed.engine, "echo", Options::default(), Bad, echo);
        for _ in 0..3 {
            let handle = submit(&timed.engine, &entry, "1");
            assert_eq!(result(&handle), "1");
        }
        assert!(!timed.engine.is_stopped());
        assert_eq!(timed.engine.worker_counts(), (1, 0, 0, 0));
    });
}

#[test]
fn a_hook_may_submit_and_cancel() {
    struct Next(std::sync::Weak<Engine>, Log<Handle>);
    impl Hook for Next {
        fn tell(&self, handle: &Handle, _: Moment) {
            assert!(!handle.cancel(None).unwrap(), "it has ended");
            let engine = self.0.upgrade().unwrap();
            let other = engine.handler("other").unwrap();
            self.1.add(submit(&engine, &other, "next"));
        }
    }
    on_both(|place| {
        let timed = place.timed(1).started();
        let log = Log::default();
        register(&timed.engine, "other", echo);
        let hook = Next(Arc::downgrade(&timed.engine), log.clone());
        let entry = hooked(&timed.engine, "first", Options::default(), hook, echo);
        assert_eq!(result(&submit(&timed.engine, &entry, "1")), "1");
        assert_eq!(result(&log.wait_for(1)[0]), "next");
    });
}

#[test]
fn an_attempt_tells_the_hook_of_the_handler_that_it_began_with() {
    on_both(|place| {
        let timed = place.timed(2).started();
        let (old, new, gate, begun) = (Told::default(), Told::default(), Gate::default(), Log::default());
        let (door, log) = (gate.clone(), begun.clone());
        let slow = move |attempt: &Attempt| {
            log.add(attempt.task().id());
            door.pass();
            echo(attempt)
        };
        let entry = hooked(&timed.engine, "f", Options::default(), old.clone(), slow.clone());
        let bare = register(&timed.engine, "bare", slow);
        let (first, silent) = (submit(&timed.engine, &entry, "1"), submit(&timed.engine, &bare, "2"));
        begun.wait_for(2);
        for name in ["f", "bare"] {
            let registration = Registration {
                version: Default::default(),
                replace: true,
                options: Options::default(),
                handler: Handler::Blocking(Box::new(echo)),
                hook: Some(Arc::new(new.clone())),
            };
            timed.engine.register_with(name, registration).unwrap();
        }
        gate.open();
        assert_eq!((result(&first), result(&silent)), ("1".into(), "2".into()));
        let last = submit(&timed.engine, &entry, "3");
        assert_eq!(result(&last), "3");
        new.0.wait_for(1);
        let told = |hook: &Told| hook.0.all().into_iter().map(|(id, ..)| id).collect::<Vec<_>>();
        assert_eq!((told(&old), told(&new)), (vec![first.id()], vec![last.id()]));
    });
}

/// The other process has no such handler: it only keeps the time.
#[test]
fn a_deadline_that_another_process_notices_is_told_once_where_the_handler_runs() {
    for late_first in [false, true] {
        let file = File::new();
        let (own, other) = (HandClock::new(), HandClock::new());
        let here = {
            let clock = Arc::clone(&own) as Arc<dyn Clock>;
            let options = EngineOptions { clock, runtime: Arc::new(Interrupts::default()), ..options(1) };
            Arc::new(Engine::new(file.store(), options).unwrap())
        };
        let there = file.timed(&other, options(1));
        let told = Told::default();
        let (gate, begun) = (Gate::default(), Gate::default());
        let (door, bell) = (gate.clone(), begun.clone());
        let deadline = Some(When::In(seconds(10)));
        let options = Options { deadline, ..Options::default() };
        let entry = hooked(&here, "slow", options, told.clone(), move |attempt: &Attempt| {
            bell.open();
            door.pass();
            echo(attempt)
        });
        here.start().unwrap();
        let handle = submit(&here, &entry, "1");
        begun.pass();
        if late_first {
            // Its report may meet the end before the news of it does.
            gate.open();
        }
        there.advance(seconds(11));
        if late_first && handle.wait(Some(LONG)).unwrap() && handle.state() == State::Succeeded {
            continue;
        }
        assert_eq!(told.moments(1), [(Moment::Failure, State::TimedOut)]);
        gate.open();
        assert_eq!(failure(&handle), Code::TaskTimedOut);
        here.stop(Stop::Finish);
        assert_eq!(told.0.len(), 1, "and not once more when the handler returns");
    }
}
