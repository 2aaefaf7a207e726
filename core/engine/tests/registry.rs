//! Handlers by name and version.

mod common;

use std::sync::Arc;

use common::disk::Disk;
use common::stores::{File, on_both};
use common::*;
use taskloom_engine::{Attempt, Engine, Handler, HandlerEntry, Outcome, Registration, Result};
use taskloom_model::{Code, Name, Options, Priority, State, Version};

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

fn registration(version_text: &str, replace: bool, handler: Handler) -> Registration {
    Registration { version: version(version_text), replace, options: Options::default(), handler, hook: None }
}

/// A handler that says who it is.
fn saying(text: &'static str) -> Handler {
    Handler::Blocking(Box::new(move |_: &Attempt| Outcome::success(text.as_bytes())))
}

fn add(engine: &Engine, name: &str, version: &str, text: &'static str) -> Result<Arc<HandlerEntry>> {
    engine.register_with(name, registration(version, false, saying(text)))
}

fn error(result: Result<impl Sized>) -> taskloom_model::Error {
    result.err().expect("it was not refused")
}

#[test]
fn the_newest_version_runs_unless_another_is_asked_for() {
    on_both(|place| {
        let timed = place.timed(1);
        let old = add(&timed.engine, "f", "1.9", "old").unwrap();
        let new = add(&timed.engine, "f", "1.10", "new").unwrap();
        add(&timed.engine, "f", "0.1", "oldest").unwrap();
        assert_eq!(timed.engine.handler("f").unwrap().version(), version("1.10"));
        let pin = |text| Options { version: Some(version(text)), ..Options::default() };
        let free = submit(&timed.engine, &old, "1");
        let pinned = submit_with(&timed.engine, &old, pin("1.9"), "1");
        let other = submit_with(&timed.engine, &new, pin("0.1.0"), "1");
        timed.engine.start().unwrap();
        assert_eq!(
            (result(&free), result(&pinned), result(&other)),
            ("new".into(), "old".into(), "oldest".into())
        );
        // One that comes while they run takes over at once.
        add(&timed.engine, "f", "2", "newest").unwrap();
        assert_eq!(result(&submit(&timed.engine, &old, "1")), "newest");
        assert_eq!(result(&submit_with(&timed.engine, &old, pin("1.9"), "1")), "old");
    });
}

#[test]
fn a_version_that_is_not_registered_is_named_with_those_that_are() {
    let engine = started(1);
    let entry = add(&engine, "f", "1", "one").unwrap();
    add(&engine, "f", "2.1", "two").unwrap();
    let refused = error(engine.handler_version("f", version("3")));
    assert_eq!(refused.code(), Code::UnknownHandler);
    let text = refused.to_string();
    assert!(text.contains("3.0.0") && text.contains("1.0.0, 2.1.0"), "{text}");
    assert_eq!(engine.handler_version("f", version("1")).unwrap().version(), version("1"));
    // Nobody else sees the store: the task could never run.
    let pinned = Options { version: Some(version("3")), ..Options::default() };
    assert_eq!(error(try_submit(&engine, &entry, pinned, "1")).code(), Code::UnknownHandler);
}

#[test]
fn a_name_that_is_not_registered_is_refused_with_the_nearest() {
    let engine = memory(options(1));
    assert!(error(engine.handler("resize")).to_string().contains("register a handler first"));
    add(&engine, "img/resize", "1", "").unwrap();
    add(&engine, "mail", "1", "").unwrap();
    let refused = error(engine.handler("img/resise"));
    assert_eq!(refused.code(), Code::UnknownHandler);
    assert!(refused.to_string().contains("did you mean \"img/resize\"?"), "{refused}");
    assert!(error(engine.handler("qqqqqqqqqq")).to_string().contains("img/resize, mail"));
    let blank = Handler::Blocking(Box::new(echo));
    assert_eq!(error(engine.register("a b", Options::default(), blank)).code(), Code::InvalidOption);
}

#[test]
fn a_second_handler_with_a_name_and_version_is_refused_unless_it_replaces() {
    let engine = started(1);
    let first = add(&engine, "f", "1", "first").unwrap();
    let refused = error(add(&engine, "f", "1", "second"));
    assert_eq!(refused.code(), Code::HandlerExists);
    assert!(refused.message().contains("version 1.0.0"), "{refused}");
    assert_eq!(result(&submit(&engine, &first, "1")), "first");
    engine.register_with("f", registration("1", true, saying("third"))).unwrap();
    assert_eq!(result(&submit(&engine, &first, "1")), "third");
    assert_eq!(engine.handlers().len(), 1);
    engine.register_with("new", registration("1", true, saying("new"))).unwrap();
    assert_eq!(engine.handlers().len(), 2, "with nothing to replace it is added");
}

#[test]
fn an_attempt_that_runs_ends_with_the_handler_that_it_began_with() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let old = gated(&timed.engine, "f", Options::default());
        let (running, waiting) =
            (submit(&timed.engine, &old.entry, "1"), submit(&timed.engine, &old.entry, "2"));
        old.begun.wait_for(1);
        timed.engine.register_with("f", registration("0", true, saying("replaced"))).unwrap();
        old.gate.open();
        assert_eq!((result(&running), result(&waiting)), ("1".into(), "replaced".into()));
    });
}

#[test]
fn what_waits_follows_its_handler_from_threads_to_the_loop_and_back() {
    on_both(|place| {
        let timed = place.timed(1).started();
        timed.engine.set_loop(Some(Arc::new(Host::default())));
        let block = gated(&timed.engine, "block", Options::default());
        let old = register(&timed.engine, "f", echo);
        let running = submit(&timed.engine, &block.entry, "1");
        block.begun.wait_for(1);
        let handles = [submit(&timed.engine, &old, "1"), submit(&timed.engine, &old, "2")];
        let asynchronous = Handler::Asynchronous(Arc::new(()));
        timed.engine.register_with("f", registration("0", true, asynchronous)).unwrap();
        block.gate.open();
        assert_eq!(result(&running), "1");
        let mut started = Vec::new();
        let taken = std::cell::RefCell::new(&mut started);
        eventually("the loop has both", || {
            taken.borrow_mut().extend(take(&timed.engine));
            taken.borrow().len() == 2
        });
        for one in started {
            assert!(matches!(one.entry.handler(), Handler::Asynchronous(_)));
            one.completion.complete(Outcome::success(*b"async"));
        }
        assert!(handles.iter().all(|handle| result(handle) == "async"));

        let entry = timed.engine.handler("f").unwrap();
        let last = submit(&timed.engine, &entry, "3");
        timed.engine.register_with("f", registration("0", true, saying("back"))).unwrap();
        eventually("a thread has it", || {
            assert!(take(&timed.engine).is_empty());
            last.is_done()
        });
        assert_eq!(result(&last), "back");
        timed.engine.set_loop(None);
    });
}

#[test]
fn the_registry_in_figures() {
    let timed = Timed::memory(1);
    assert_eq!(timed.engine.registry_stats(), Default::default());
    for (name, version) in
        [("mail", "1"), ("img/resize", "1"), ("img/resize", "2"), ("img/crop", "1"), ("a/b/c", "1")]
    {
        timed.advance(seconds(1));
        add(&timed.engine, name, version, "").unwrap();
    }
    let stats = timed.engine.registry_stats();
    assert_eq!((stats.names, stats.handlers), (4, 5));
    let namespaces = [("", 1), ("a/b", 1), ("img", 2)];
    assert_eq!(stats.namespaces, namespaces.map(|(name, count)| (name.to_owned(), count)));
    assert_eq!(stats.last_registration.unwrap().micros(), START + 5_000_000);
    let all: Vec<_> =
        timed.engine.handlers().iter().map(|entry| format!("{} {}", entry.name(), entry.version())).collect();
    let mut sorted = all.clone();
    sorted.sort();
    assert_eq!(all, sorted);
    assert_eq!(timed.engine.handlers()[0].name(), Name::new("a/b/c"));
}

#[test]
fn what_an_app_demands_of_metadata_every_submit_must_bring() {
    on_both(|place| {
        let demands = taskloom_engine::EngineOptions {
            require_metadata: vec!["initiator".into(), "reason".into()],
            ..options(1)
        };
        let timed = place.timed_with(demands).started();
        let with = |keys: &[&str]| Options {
            metadata: keys.iter().map(|key| ((*key).to_owned(), "me".to_owned())).collect(),
            ..Options::default()
        };
        // It may come with the submit, so a handler is registered without.
        let entry = register(&timed.engine, "f", echo);
        let refused = error(try_submit(&timed.engine, &entry, with(&["initiator"]), "1"));
        assert_eq!(refused.code(), Code::MissingMetadata);
        assert!(refused.message().contains("\"reason\""), "{refused}");
        assert_eq!(result(&submit_with(&timed.engine, &entry, with(&["reason", "initiator"]), "1")), "1");
        // Nor is there a way around it.
        let submitted = timed.engine.submit(&entry, entry.admission(), (*b"1").into(), None, false);
        assert_eq!(error(submitted).code(), Code::MissingMetadata);
        let many = std::iter::once(((*b"1").into(), None));
        let submitted = timed.engine.submit_many(&entry, entry.admission(), many, false);
        assert_eq!(error(submitted).code(), Code::MissingMetadata);
        let child = Arc::clone(&entry);
        let parent = register_with(
            &timed.engine,
            "parent",
            with(&["reason", "initiator"]),
            move |attempt: &Attempt| {
                let code =
                    error(attempt.submit(&child, child.admission(), (*b"1").into(), None, false)).code();
                Outcome::success(format!("{code:?}").into_bytes())
            },
        );
        assert_eq!(result(&submit(&timed.engine, &parent, "1")), "MissingMetadata");
    });
}

fn pin(text: &str) -> Options {
    Options { version: Some(version(text)), ..Options::default() }
}

#[test]
fn a_version_that_only_another_process_has_is_left_to_that_one() {
    let (file, clock) = (File::new(), HandClock::new());
    let new = file.timed(&clock, options(1));
    let theirs = add(&new.engine, "f", "2", "new").unwrap();
    let pinned = submit_with(&new.engine, &theirs, pin("2"), "1");
    let old = file.timed(&clock, options(1));
    let ours = add(&old.engine, "f", "1", "old").unwrap();
    old.engine.start().unwrap();
    let look = || old.engine.get(pinned.id()).unwrap().unwrap();
    eventually("it is claimed, and given back", || {
        look().task().with_row(|row| row.attempt > 0 && row.state == State::Queued)
    });
    for _ in 0..10 {
        old.advance(seconds(2));
        assert_eq!(result(&submit(&old.engine, &ours, "1")), "old", "nothing is in the way of the others");
    }
    eventually("it is given back", || look().state() == State::Queued);
    look().task().with_row(|row| {
        assert_eq!((row.failures, row.errors().len()), (0, 0));
        // Once with each claim that is made for other reasons: two a round.
        assert!(row.attempt <= 40, "it was claimed {} times", row.attempt);
    });
    new.engine.start().unwrap();
    // The other one may just have claimed it, and its giving it back is heard of by a safety check at the latest.
    eventually("whoever has the version runs it", || {
        new.advance(seconds(2));
        pinned.is_done()
    });
    assert_eq!(result(&pinned), "new");

    // One that gets the version later runs what it gave back before.
    let last = submit_with(&old.engine, &ours, pin("3"), "1");
    new.advance(seconds(2));
    add(&old.engine, "f", "3", "newest").unwrap();
    eventually("it runs what it gave back", || {
        old.advance(seconds(2));
        last.is_done()
    });
    assert_eq!(result(&last), "newest");
}

#[test]
fn many_that_only_another_process_can_run_are_not_claimed_over_and_over() {
    const MANY: usize = 1_300;
    let (disk, clock) = (Disk::new(), HandClock::new());
    let new = Timed::with(Arc::clone(&clock), disk.store(), options(2));
    let theirs = add(&new.engine, "f", "2", "new").unwrap();
    let admission = new.engine.admission(&pin("2")).unwrap();
    let payloads = (0..MANY).map(|_| ((*b"1").into(), None));
    let pinned = new.engine.submit_many(&theirs, &admission, payloads, false).unwrap();
    let old = Timed::with(Arc::clone(&clock), disk.store(), options(2));
    let ours = add(&old.engine, "f", "1", "old").unwrap();
    let other = register(&old.engine, "other", echo);
    old.engine.start().unwrap();
    let claims = || pinned.iter().map(|handle| disk.row(handle.id()).attempt as usize).sum::<usize>();
    eventually("some are claimed", || claims() > 0);
    for _ in 0..5 {
        assert_eq!(result(&submit(&old.engine, &other, "1")), "1", "another handler's tasks go on");
    }
    let urgent = Options { priority: Some(Priority::High), ..Options::default() };
    let own = submit_with(&old.engine, &ours, urgent, "1");
    old.advance(seconds(2));
    assert_eq!(result(&own), "old");
    // A claim gets 512 at most, and there is none once 64 were given back; there was one safety check.
    assert!(claims() <= 2 * (512 + 64), "{} claims", claims());
    eventually("they are given back", || {
        pinned.iter().all(|handle| disk.row(handle.id()).state == State::Queued)
    });
    new.engine.start().unwrap();
    new.step();
    assert!(pinned.iter().all(|handle| result(handle) == "new"));
}
