//! How an engine ends, and what becomes of what it has not finished.

mod common;

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use common::*;
use taskloom_engine::{Attempt, Engine, HandlerEntry, Outcome, Stop};
use taskloom_model::{Code, Options, RetryPolicy, State, When};

fn delayed() -> Options {
    Options { eta: Some(When::In(Duration::from_secs(3600))), ..Options::default() }
}

/// A handler that waits at a gate, and a log of those that have begun.
fn held(engine: &Engine) -> (Arc<HandlerEntry>, Gate, Log<Attempt>) {
    let Gated { entry, gate, begun } = gated(engine, "held", Options::default());
    (entry, gate, begun)
}

#[test]
fn a_graceful_stop_runs_what_is_eligible() {
    let engine = started(2);
    let children = Log::default();
    let (log, own) = (children.clone(), Arc::<OnceLock<Weak<Engine>>>::default());
    own.set(Arc::downgrade(&engine)).unwrap();
    let child = register(&engine, "child", echo);
    let parent = register(&engine, "parent", move |attempt: &Attempt| {
        let handle = submit(&own.get().unwrap().upgrade().unwrap(), &child, "child");
        log.add(handle);
        echo(attempt)
    });
    let parents: Vec<_> = (0..200).map(|_| submit(&engine, &parent, "parent")).collect();
    let late = submit_with(&engine, &parent, delayed(), "late");
    let own = Arc::clone(&engine);
    in_time("a graceful stop", move || own.stop(Stop::Finish));
    assert!(parents.iter().all(|handle| handle.state() == State::Succeeded));
    assert_eq!(children.len(), 200);
    assert!(children.all().iter().all(|handle| handle.state() == State::Succeeded));
    assert!(late.is_done());
    assert_eq!(late.outcome().unwrap_err().code(), Code::ShutDown);
    assert_eq!(late.state(), State::Pending);
    assert_eq!(engine.worker_counts(), (0, 0, 0, 0));
}

#[test]
fn a_parent_that_waits_is_not_cut_off_by_a_graceful_stop() {
    for _ in 0..50 {
        let engine = started(1);
        let own = Arc::downgrade(&engine);
        let (child, gate, begun) = held(&engine);
        let parent = register(&engine, "parent", move |attempt: &Attempt| {
            let handle = submit(&own.upgrade().unwrap(), &child, "child");
            assert!(handle.wait(None).unwrap());
            assert_eq!(handle.state(), State::Succeeded);
            echo(attempt)
        });
        let handle = submit(&engine, &parent, "parent");
        begun.wait_for(1);
        let own = Arc::clone(&engine);
        let stopping = std::thread::scope(|scope| {
            let stopping = scope.spawn(move || in_time("a graceful stop", move || own.stop(Stop::Finish)));
            gate.open();
            stopping.join()
        });
        stopping.unwrap();
        assert_eq!(handle.state(), State::Succeeded);
        assert_eq!(engine.worker_counts().3, 0, "no report was refused");
    }
}

#[test]
fn what_waits_for_its_retry_is_shut_down() {
    let engine = started(1);
    let retry =
        Some(RetryPolicy { base: Duration::from_secs(3600), cap: Duration::from_secs(3600), factor: 1.0 });
    let options = Options { retries: Some(1), retry, ..Options::default() };
    let bad = register_with(&engine, "bad", options, |_: &Attempt| Outcome::failure("Bad", "once"));
    let handle = submit(&engine, &bad, "");
    eventually("it failed once", || handle.state() == State::Retrying);
    engine.stop(Stop::Finish);
    let error = outcome(&handle).unwrap_err();
    assert_eq!(error.code(), Code::ShutDown);
    assert!(error.message().contains("retrying"), "{error}");
}

#[test]
fn while_it_drains_only_handlers_submit() {
    let engine = started(1);
    let (entry, gate, begun) = held(&engine);
    let own = Arc::downgrade(&engine);
    let inner = Arc::clone(&entry);
    let inside = Log::default();
    let (log, door) = (inside.clone(), gate.clone());
    let parent = register(&engine, "parent", move |attempt: &Attempt| {
        log.add(None);
        door.pass();
        log.add(Some(submit(&own.upgrade().unwrap(), &inner, "inside")));
        echo(attempt)
    });
    submit(&engine, &parent, "");
    inside.wait_for(1);
    let own = Arc::clone(&engine);
    let stopping = aside(move || own.stop(Stop::Finish));
    until_it_drains(&engine, &entry);
    let refused = try_submit(&engine, &entry, Options::default(), "outside").unwrap_err();
    assert_eq!(refused.code(), Code::ShutDown);
    gate.open();
    stopping.join().unwrap();
    let inside = inside.all().pop().flatten().unwrap();
    assert_eq!(result(&inside), "inside");
    assert_eq!(begun.len() as u64 + 1, engine.counts().unwrap().get(State::Succeeded));
}

#[test]
fn stopping_at_once_calls_off_what_runs() {
    let interrupts = Interrupts::default();
    let engine = Arc::new(memory(taskloom_engine::EngineOptions {
        runtime: Arc::new(interrupts.clone()),
        ..options(1)
    }));
    engine.start().unwrap();
    let (over, begun) = (Log::default(), Log::default());
    let (log, start, interrupted) = (over.clone(), begun.clone(), interrupts.0.clone());
    let entry = register(&engine, "polite", move |attempt: &Attempt| {
        start.add(());
        // One that has obeyed is not interrupted any more.
        while !attempt.is_cancelled() || interrupted.all().is_empty() {
            std::thread::yield_now();
        }
        log.add(attempt.progress(1.0, None).unwrap_err().code());
        echo(attempt)
    });
    let (running, queued) = (submit(&engine, &entry, "1"), submit(&engine, &entry, "2"));
    begun.wait_for(1);
    let own = Arc::clone(&engine);
    in_time("an immediate stop", move || own.stop(Stop::Within(Duration::ZERO)));
    assert_eq!(failure(&running), Code::ShutDown);
    assert_eq!(failure(&queued), Code::ShutDown);
    assert_eq!(over.wait_for(1), [Code::LeaseLost]);
    assert_eq!(interrupts.0.all().iter().map(|(id, _)| *id).collect::<Vec<_>>(), [running.id()]);
    eventually("the late report is refused", || engine.worker_counts() == (0, 0, 0, 1));
    assert_eq!(failure(&running), Code::ShutDown, "its outcome does not change after it was told");
    assert_eq!(begun.len(), 1);
}

#[test]
fn a_second_stop_finds_nothing_to_do() {
    let engine = started(2);
    engine.stop(Stop::Finish);
    engine.stop(Stop::Finish);
    engine.stop(Stop::Within(Duration::ZERO));
    assert!(engine.is_stopped());
}

#[test]
fn a_second_stop_can_be_more_impatient() {
    let engine = started(1);
    let (entry, gate, begun) = held(&engine);
    let handle = submit(&engine, &entry, "");
    begun.wait_for(1);
    let own = Arc::clone(&engine);
    let patient = aside(move || own.stop(Stop::Finish));
    until_it_drains(&engine, &entry);
    let own = Arc::clone(&engine);
    in_time("the second stop", move || own.stop(Stop::Within(Duration::ZERO)));
    assert!(engine.is_stopped());
    patient.join().unwrap();
    assert_eq!(failure(&handle), Code::ShutDown);
    gate.open();
}

#[test]
fn a_handler_may_stop_its_engine() {
    for how in [Stop::Finish, Stop::Within(Duration::ZERO)] {
        let engine = started(1);
        let own = Arc::downgrade(&engine);
        let stopped = Log::default();
        let log = stopped.clone();
        let entry = register(&engine, "stop", move |attempt: &Attempt| {
            own.upgrade().unwrap().stop(how);
            log.add(());
            echo(attempt)
        });
        submit(&engine, &entry, "1");
        stopped.wait_for(1);
        assert!(engine.is_stopped());
    }
}

#[test]
fn two_handlers_may_stop_their_engine() {
    let engine = started(2);
    let own = Arc::downgrade(&engine);
    let (both, done) = (Log::default(), Log::default());
    let (meet, log) = (both.clone(), done.clone());
    let entry = register(&engine, "stop", move |attempt: &Attempt| {
        meet.add(());
        meet.wait_for(2);
        own.upgrade().unwrap().stop(Stop::Finish);
        log.add(());
        echo(attempt)
    });
    submit(&engine, &entry, "1");
    submit(&engine, &entry, "2");
    done.wait_for(2);
    let own = Arc::clone(&engine);
    in_time("the last word", move || own.stop(Stop::Finish));
    assert!(engine.is_stopped());
}

#[test]
fn a_handler_may_stop_its_engine_while_somebody_else_does() {
    let engine = started(1);
    let own = Arc::downgrade(&engine);
    let (begun, gate) = (Log::default(), Gate::default());
    let (log, door) = (begun.clone(), gate.clone());
    let entry = register(&engine, "stop", move |attempt: &Attempt| {
        log.add(());
        door.pass();
        own.upgrade().unwrap().stop(Stop::Finish);
        echo(attempt)
    });
    let handle = submit(&engine, &entry, "1");
    begun.wait_for(1);
    let own = Arc::clone(&engine);
    let stopping = aside(move || in_time("a graceful stop", move || own.stop(Stop::Finish)));
    until_it_drains(&engine, &entry);
    gate.open();
    stopping.join().unwrap();
    assert_eq!(result(&handle), "1");
}

#[test]
fn dropping_an_engine_stops_it() {
    let engine = started(1);
    let (entry, gate, begun) = held(&engine);
    let handle = submit(&engine, &entry, "");
    begun.wait_for(1);
    in_time("the drop", move || drop(engine));
    assert_eq!(failure(&handle), Code::ShutDown);
    gate.open();
}

#[test]
fn an_engine_leaves_nothing_behind() {
    /// Tells when the engine's core is gone: it holds the clock to the end.
    struct Bell(Log<()>);
    impl taskloom_engine::Clock for Bell {
        fn now(&self) -> taskloom_model::Timestamp {
            taskloom_model::Timestamp::from_micros(1)
        }
        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }
    }
    impl Drop for Bell {
        fn drop(&mut self) {
            self.0.add(());
        }
    }
    let gone = Log::default();
    for start in [false, true] {
        let clock = Arc::new(Bell(gone.clone()));
        let engine = memory(taskloom_engine::EngineOptions { clock, ..options(3) });
        let entry = register(&engine, "echo", echo);
        if start {
            engine.start().unwrap();
        }
        let handles: Vec<_> = (0..100).map(|_| submit(&engine, &entry, "1")).collect();
        drop((engine, entry));
        drop(handles);
    }
    gone.wait_for(2);
}

#[test]
fn two_engines_live_side_by_side() {
    let (one, two) = (started(1), started(1));
    let entries = [register(&one, "echo", echo), register(&two, "echo", echo)];
    assert_eq!(result(&submit(&one, &entries[0], "1")), "1");
    one.stop(Stop::Finish);
    assert_eq!(result(&submit(&two, &entries[1], "2")), "2");
    assert_eq!(try_submit(&one, &entries[0], Options::default(), "").unwrap_err().code(), Code::ShutDown);
}

#[test]
fn after_the_stop_nothing_begins() {
    let engine = started(1);
    let entry = register(&engine, "echo", echo);
    let pending = submit_with(&engine, &entry, delayed(), "");
    engine.stop(Stop::Finish);
    assert_eq!(engine.start().unwrap_err().code(), Code::ShutDown);
    assert_eq!(try_submit(&engine, &entry, Options::default(), "").unwrap_err().code(), Code::ShutDown);
    let many =
        engine.submit_many(&entry, entry.admission(), std::iter::empty::<taskloom_engine::Input>(), false);
    assert_eq!(many.unwrap_err().code(), Code::ShutDown);
    assert!(!engine.cancel(pending.id(), None).unwrap());
    // A handle that is asked for now does not wait for ever either.
    let again = engine.get(pending.id()).unwrap().unwrap();
    assert_eq!(failure(&again), Code::ShutDown);
}

#[test]
fn an_engine_that_was_never_started_stops_too() {
    let engine = memory(options(1));
    let entry = register(&engine, "echo", echo);
    let handle = submit(&engine, &entry, "");
    in_time("the stop", move || engine.stop(Stop::Finish));
    assert_eq!(failure(&handle), Code::ShutDown);
}

#[test]
fn a_submit_that_meets_the_stop_is_answered_or_settled() {
    for _ in 0..100 {
        let engine = started(2);
        let entry = register(&engine, "echo", echo);
        let handles: Vec<_> = std::thread::scope(|scope| {
            let (own, entry) = (&engine, &entry);
            let submitting = scope.spawn(move || {
                let mut handles = Vec::new();
                while let Ok(handle) = try_submit(own, entry, Options::default(), "1") {
                    handles.push(handle);
                }
                handles
            });
            scope.spawn(move || own.stop(Stop::Finish));
            submitting.join().unwrap()
        });
        for handle in handles {
            assert!(handle.wait(Some(LONG)).unwrap(), "{handle:?} was forgotten");
        }
    }
}
