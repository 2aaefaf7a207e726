//! Handlers that are registered, but that nobody can run for a while.

mod common;

use common::stores::{File, on_both};
use common::*;
use taskloom_engine::{Attempt, Engine, EngineOptions, Handler, Outcome, Registration};
use taskloom_model::{Code, Options, State, Version};

fn serve(engine: &Engine, name: &str, served: bool) {
    engine.set_served(name, Version::default(), served).unwrap();
}

/// How many tasks nobody runs, by name.
fn unserved(engine: &Engine) -> Vec<(String, u64)> {
    engine.health().unserved.into_iter().map(|unserved| (unserved.name, unserved.count)).collect()
}

fn add(engine: &Engine, name: &str, version: &str, replace: bool, says: &'static str) {
    let handler = Handler::Blocking(Box::new(move |_: &Attempt| Outcome::success(says.as_bytes())));
    let (version, options) = (version.parse().unwrap(), Options::default());
    engine.register_with(name, Registration { version, replace, options, handler, hook: None }).unwrap();
}

#[test]
fn tasks_wait_until_somebody_runs_their_handler_again() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let engine = &timed.engine;
        let (away, here) = (register(engine, "away", echo), register(engine, "here", echo));
        assert_eq!(result(&submit(engine, &away, "0")), "0");
        serve(engine, "away", false);
        let handles: Vec<_> = (1..4).map(|_| submit(engine, &away, "1")).collect();
        // The one worker has come by them when this has run.
        assert_eq!(result(&submit(engine, &here, "2")), "2");
        assert!(handles.iter().all(|handle| handle.state() == State::Queued));
        assert_eq!(unserved(engine), [("away".to_owned(), 3)]);
        assert!(engine.cancel(handles[1].id(), None).unwrap());
        assert_eq!(unserved(engine), [("away".to_owned(), 2)]);
        serve(engine, "away", true);
        assert_eq!((result(&handles[0]), result(&handles[2])), ("1".into(), "1".into()));
        assert_eq!(failure(&handles[1]), Code::TaskCancelled);
        assert_eq!(unserved(engine), []);
    });
}

#[test]
fn a_loop_is_handed_nothing_that_nobody_can_run() {
    on_both(|place| {
        let timed = place.timed_with(EngineOptions { max_in_flight: 1, ..options(1) }).started();
        let engine = &timed.engine;
        let host = Host::default();
        engine.set_loop(Some(std::sync::Arc::new(host.clone())));
        let away = register_async(engine, "away", Options::default());
        let here = register_async(engine, "here", Options::default());
        let handle = submit(engine, &away, "1");
        let started = take_one(engine);
        // What ran goes back, and stays.
        serve(engine, "away", false);
        started.completion.give_back();
        let other = submit(engine, &here, "2");
        let started = take_one(engine);
        assert_eq!(started.entry.name(), here.name());
        started.completion.complete(Outcome::success(*b"2"));
        assert_eq!(result(&other), "2");
        assert_eq!(take(engine).len(), 0);
        let wakes = host.0.len();
        assert_eq!(take(engine).len(), 0);
        assert_eq!(host.0.len(), wakes, "nobody is called in vain");
        assert_state(&handle, State::Queued);
        serve(engine, "away", true);
        let started = take_one(engine);
        let failures = started.attempt.task().with_row(|row| (row.failures, row.crashes));
        assert_eq!(failures, (0, 0), "at no cost");
        started.completion.complete(Outcome::success(*b"1"));
        assert_eq!(result(&handle), "1");
    });
}

#[test]
fn another_version_runs_what_asks_for_none() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let engine = &timed.engine;
        add(engine, "f", "1", false, "one");
        add(engine, "f", "2", false, "two");
        let entry = engine.handler("f").unwrap();
        let pin = Options { version: Some("2".parse().unwrap()), ..Options::default() };
        engine.set_served("f", "2".parse().unwrap(), false).unwrap();
        let pinned = submit_with(engine, &entry, pin, "1");
        assert_eq!(result(&submit(engine, &entry, "1")), "one");
        engine.set_served("f", "1".parse().unwrap(), false).unwrap();
        let free = submit(engine, &entry, "1");
        add(engine, "here", "1", false, "here");
        assert_eq!(result(&submit(engine, &engine.handler("here").unwrap(), "1")), "here");
        assert_state(&free, State::Queued);
        // One that comes takes what waits, and one that replaces another, too.
        add(engine, "f", "3", false, "three");
        assert_eq!(result(&free), "three");
        assert_state(&pinned, State::Queued);
        add(engine, "f", "2", true, "new");
        assert_eq!(result(&pinned), "new");
    });
}

#[test]
fn what_is_run_by_hand_for_nobody_goes_back() {
    let timed = Timed::memory(1).started();
    let engine = &timed.engine;
    let entry = register_async(engine, "away", Options::default());
    serve(engine, "away", false);
    let handle = submit(engine, &entry, "1");
    engine.run_now(handle.id()).unwrap();
    assert_eq!(take(engine).len(), 0);
    assert_eq!(take(engine).len(), 0);
    assert_state(&handle, State::Queued);
    serve(engine, "away", true);
    take_one(engine).completion.complete(Outcome::success(*b"1"));
    assert_eq!(result(&handle), "1");
}

#[test]
fn a_handler_that_waits_for_one_that_nobody_runs_lets_others_run() {
    let engine = started(2);
    let away = register(&engine, "away", echo);
    let here = register(&engine, "here", echo);
    serve(&engine, "away", false);
    let (waits, own) = (Log::default(), std::sync::Arc::downgrade(&engine));
    let (said, child) = (waits.clone(), std::sync::Arc::clone(&away));
    let parent = register(&engine, "parent", move |_| {
        let engine = own.upgrade().expect("the engine runs this");
        let handle = submit(&engine, &child, "7");
        said.add(handle.id());
        drop(engine);
        Outcome::success(result(&handle).into_bytes())
    });
    let waiting = submit(&engine, &parent, "1");
    waits.wait_for(1);
    assert_eq!(result(&submit(&engine, &here, "2")), "2");
    serve(&engine, "away", true);
    assert_eq!(result(&waiting), "7");
}

#[test]
fn another_process_on_the_file_runs_them() {
    let file = File::new();
    let clock = HandClock::new();
    let (here, there) = (file.timed(&clock, options(1)).started(), file.timed(&clock, options(1)).started());
    let own = register(&here.engine, "job", |_| Outcome::success(*b"here"));
    serve(&here.engine, "job", false);
    let handle = submit(&here.engine, &own, "1");
    assert_eq!(unserved(&there.engine), [("job".to_owned(), 1)]);
    register(&there.engine, "job", |_| Outcome::success(*b"there"));
    eventually("it ends", || {
        there.engine.step();
        handle.refresh();
        handle.is_done()
    });
    assert_eq!(result(&handle), "there");
}

#[test]
fn a_handler_that_is_not_there_is_named() {
    let error = started(1).set_served("nobody", Version::default(), false).unwrap_err();
    assert_eq!(error.code(), Code::UnknownHandler);
}
