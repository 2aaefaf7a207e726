//! A store that is full.

mod common;

use std::sync::Arc;

use common::*;
use taskloom_engine::{Attempt, Engine, EngineOptions, Handle, Outcome, Result, Stop};
use taskloom_model::{Code, OnConflict, Options, When};
use taskloom_store::{MemoryOptions, MemoryStore};

fn engine(capacity: usize, wait_when_full: bool) -> Arc<Engine> {
    let bounds = MemoryOptions { capacity, ..MemoryOptions::default() };
    let options = EngineOptions { wait_when_full, ..options(1) };
    Arc::new(Engine::new(Box::new(MemoryStore::new(bounds)), options).unwrap())
}

fn many(engine: &Engine, entry: &taskloom_engine::HandlerEntry, count: usize) -> Result<Vec<Handle>> {
    let payloads = (0..count).map(|_| ((*b"1").into(), None));
    engine.submit_many(entry, entry.admission(), payloads, false)
}

#[test]
fn what_has_no_room_is_refused() {
    let engine = engine(2, false);
    engine.start().unwrap();
    let slow = gated(&engine, "slow", Options::default());
    let first = submit(&engine, &slow.entry, "1");
    let keyed = Options { unique_key: Some("key".into()), ..Options::default() };
    let second = submit_with(&engine, &slow.entry, keyed.clone(), "2");
    for options in [Options::default(), Options { unique_key: Some("other".into()), ..Options::default() }] {
        let error = try_submit(&engine, &slow.entry, options, "3").unwrap_err();
        assert_eq!(error.code(), Code::QueueFull);
        assert!(error.message().contains("takes 2"), "{error}");
    }
    assert_eq!(many(&engine, &slow.entry, 1).unwrap_err().code(), Code::QueueFull);
    // The task that has the key needs no room of its own.
    assert_eq!(submit_with(&engine, &slow.entry, keyed, "4").id(), second.id());
    slow.gate.open();
    assert_eq!((result(&first), result(&second)), ("1".into(), "2".into()));
    assert_eq!(result(&submit(&engine, &slow.entry, "5")), "5");
}

#[test]
fn a_submit_waits_until_a_task_ends() {
    let engine = engine(2, true);
    engine.start().unwrap();
    let slow = gated(&engine, "slow", Options::default());
    let handles = [submit(&engine, &slow.entry, "1"), submit(&engine, &slow.entry, "2")];
    let waiting = Log::default();
    let (own, log, entry) = (Arc::clone(&engine), waiting.clone(), Arc::clone(&slow.entry));
    let one = aside(move || {
        log.add(());
        submit(&own, &entry, "3")
    });
    let (own, log, entry) = (Arc::clone(&engine), waiting.clone(), Arc::clone(&slow.entry));
    let key = Options {
        unique_key: Some("key".into()),
        on_conflict: Some(OnConflict::Reject),
        ..Options::default()
    };
    let keyed = aside(move || {
        log.add(());
        submit_with(&own, &entry, key, "4")
    });
    waiting.wait_for(2);
    assert!(!one.is_finished() && !keyed.is_finished());
    slow.gate.open();
    assert_eq!(result(&one.join().unwrap()), "3");
    assert_eq!(result(&keyed.join().unwrap()), "4");
    assert_eq!(handles.each_ref().map(result), ["1", "2"]);
    assert_eq!(many(&engine, &slow.entry, 2).unwrap().len(), 2);
}

#[test]
fn any_end_makes_room() {
    let engine = engine(1, true);
    engine.start().unwrap();
    let slow = gated(&engine, "slow", Options::default());
    let later = Options { eta: Some(When::In(seconds(3600))), ..Options::default() };
    for _ in 0..5 {
        let pending = submit_with(&engine, &slow.entry, later.clone(), "1");
        let (own, entry) = (Arc::clone(&engine), Arc::clone(&slow.entry));
        let options = later.clone();
        let next = aside(move || submit_with(&own, &entry, options, "2"));
        assert!(pending.cancel(None).unwrap());
        assert!(next.join().unwrap().cancel(None).unwrap());
    }
}

#[test]
fn inside_a_handler_a_submit_never_waits() {
    let engine = engine(1, true);
    engine.start().unwrap();
    let own = Arc::downgrade(&engine);
    let parent = register(&engine, "parent", move |attempt: &Attempt| {
        let engine = own.upgrade().unwrap();
        let entry = engine.handler("parent").unwrap();
        let payload = || -> Box<[u8]> { (*b"1").into() };
        let codes = [
            engine.submit(&entry, entry.admission(), payload().into(), None, false).unwrap_err().code(),
            many(&engine, &entry, 1).unwrap_err().code(),
            attempt.submit(&entry, entry.admission(), payload().into(), None, false).unwrap_err().code(),
        ];
        // On another thread too, if it says that it belongs to a handler.
        let elsewhere = std::thread::scope(|scope| {
            let submit = || engine.submit(&entry, entry.admission(), payload().into(), None, true);
            scope.spawn(submit).join().unwrap().unwrap_err().code()
        });
        Outcome::success(format!("{codes:?} {elsewhere:?}").into_bytes())
    });
    let handle = submit(&engine, &parent, "1");
    assert_eq!(result(&handle), "[QueueFull, QueueFull, QueueFull] QueueFull");
}

#[test]
fn a_submitter_that_waits_hears_the_stop() {
    let engine = engine(1, true);
    engine.start().unwrap();
    let slow = gated(&engine, "slow", Options::default());
    let running = submit(&engine, &slow.entry, "1");
    slow.begun.wait_for(1);
    let begun = Log::default();
    let waiting = [0, 1].map(|_| {
        let (own, entry, log) = (Arc::clone(&engine), Arc::clone(&slow.entry), begun.clone());
        aside(move || {
            log.add(());
            try_submit(&own, &entry, Options::default(), "2").unwrap_err().code()
        })
    });
    begun.wait_for(2);
    let own = Arc::clone(&engine);
    let stop = aside(move || own.stop(Stop::Finish));
    for thread in waiting {
        assert_eq!(in_time("a submitter", move || thread.join().unwrap()), Code::ShutDown);
    }
    slow.gate.open();
    in_time("the stop", move || stop.join().unwrap());
    assert_eq!(result(&running), "1");
}

#[test]
fn an_engine_that_was_not_started_makes_no_room_and_nobody_waits_for_it() {
    let engine = engine(1, true);
    let echo = register(&engine, "echo", echo);
    submit(&engine, &echo, "1");
    let code = in_time("the submit", move || {
        try_submit(&engine, &echo, Options::default(), "2").unwrap_err().code()
    });
    assert_eq!(code, Code::QueueFull);
}

#[test]
fn what_could_never_have_room_is_refused_at_once() {
    let engine = engine(3, true);
    engine.start().unwrap();
    let echo = register(&engine, "echo", echo);
    // Also while the store is full: to wait would be in vain.
    let later = Options { eta: Some(When::In(seconds(3600))), ..Options::default() };
    let filling = [(); 3].map(|()| submit_with(&engine, &echo, later.clone(), "1"));
    for _ in 0..2 {
        let (own, entry) = (Arc::clone(&engine), Arc::clone(&echo));
        let error = in_time("the submit", move || many(&own, &entry, 4).unwrap_err());
        assert_eq!((error.code(), error.code().is_retryable()), (Code::BatchTooLarge, false));
        assert!(error.message().contains("a batch of 4 can never fit: the memory store takes 3"), "{error}");
        filling.iter().for_each(|handle| drop(handle.cancel(None)));
    }
    assert!(many(&engine, &echo, 3).unwrap().iter().all(|handle| result(handle) == "1"));
}
