//! Tasks whose next crash would be their last: each is tried alone.

mod common;

use std::sync::Arc;

use common::disk::Disk;
use common::*;
use taskloom_engine::{Attempt, EngineOptions, Handle, HandlerEntry, Outcome, Stop};
use taskloom_model::{Options, OwnerId, State, When};

/// How long a suspect waits for what runs, and then has the process to itself.
const LIMIT: u64 = 5;

struct Scene {
    disk: Arc<Disk>,
    timed: Timed,
    began: Log<String>,
    doomed: std::cell::Cell<u64>,
    later: Arc<HandlerEntry>,
}

impl Scene {
    /// Suspects are in a queue of their own, which is paused at first.
    fn new(workers: usize) -> Self {
        Self::with(options(workers))
    }

    fn with(options: EngineOptions) -> Self {
        let disk = Disk::new();
        let timed = Timed::with(HandClock::new(), disk.store(), options).started();
        timed.engine.pause("suspects".into()).unwrap();
        let later = register(&timed.engine, "later", echo);
        Self { disk, timed, began: Log::default(), doomed: std::cell::Cell::new(100), later }
    }

    /// A task that has crashed so often, not claimed yet.
    fn crashed(&self, entry: &HandlerEntry, payload: &str, crashes: u64) -> Handle {
        let options = Options { queue: Some("suspects".into()), ..Options::default() };
        let handle = submit_with(&self.timed.engine, entry, options, payload);
        for _ in 0..crashes {
            self.doomed.set(self.doomed.get() + 1);
            let owner = OwnerId::new(self.doomed.get()).unwrap();
            let now = self.timed.engine.now();
            self.disk.claim(handle.id(), owner, now);
            self.disk.bury(owner, now);
        }
        handle
    }

    /// Lets them in, and waits until they are claimed and set aside.
    fn let_in(&self, suspects: &[&Handle]) {
        self.timed.engine.resume("suspects".into()).unwrap();
        let claimed = |handle: &&Handle| self.disk.row(handle.id()).state != State::Queued;
        eventually("they are claimed", || suspects.iter().all(claimed));
        // What follows from the claim has followed when the next write is answered.
        let later = Options { eta: Some(When::In(seconds(3_600))), ..Options::default() };
        submit_with(&self.timed.engine, &self.later, later, "1");
    }

    /// A handler that notes its payload when it begins, and again when it ends.
    fn noting(&self, name: &str) -> Arc<HandlerEntry> {
        let log = self.began.clone();
        register(&self.timed.engine, name, move |attempt: &Attempt| {
            let payload = String::from_utf8(payload(attempt)).unwrap();
            log.add(format!("{payload} begins"));
            (0..10).for_each(|_| std::thread::yield_now());
            log.add(format!("{payload} ends"));
            echo(attempt)
        })
    }

    fn position(&self, what: &str) -> usize {
        let all = self.began.all();
        all.iter().position(|line| line == what).unwrap_or_else(|| panic!("{what:?} is not in {all:?}"))
    }
}

#[test]
fn nothing_runs_beside_a_suspect() {
    let scene = Scene::new(3);
    let entry = scene.noting("task");
    let suspects: Vec<_> =
        (0..3).map(|number| scene.crashed(&entry, &format!("suspect {number}"), 2)).collect();
    let others: Vec<_> =
        (0..20).map(|number| submit(&scene.timed.engine, &entry, &number.to_string())).collect();
    scene.let_in(&suspects.iter().collect::<Vec<_>>());
    let more: Vec<_> =
        (20..40).map(|number| submit(&scene.timed.engine, &entry, &number.to_string())).collect();
    suspects.iter().chain(&others).chain(&more).for_each(|handle| drop(result(handle)));
    let (mut running, mut alone) = (0, false);
    for line in scene.began.all() {
        let is_suspect = line.starts_with("suspect");
        if line.ends_with("begins") {
            assert!(!(alone || is_suspect && running > 0), "{:#?}", scene.began.all());
            (running, alone) = (running + 1, is_suspect);
        } else {
            (running, alone) = (running - 1, false);
        }
    }
}

#[test]
fn others_have_company() {
    let scene = Scene::new(2);
    let slow = gated(&scene.timed.engine, "slow", Options::default());
    // The first crash, and the only one that a task allows, make nobody a suspect.
    let once = scene.crashed(&slow.entry, "1", 1);
    let never = scene.crashed(&slow.entry, "2", 0);
    scene.let_in(&[&once, &never]);
    slow.begun.wait_for(2);
    slow.gate.open();
    assert_eq!((result(&once), result(&never)), ("1".into(), "2".into()));
}

#[test]
fn a_suspect_waits_for_what_runs_but_not_for_ever() {
    let scene = Scene::new(3);
    let slow = gated(&scene.timed.engine, "slow", Options::default());
    let tried = gated(&scene.timed.engine, "tried", Options::default());
    let quick = scene.noting("quick");
    let running = submit(&scene.timed.engine, &slow.entry, "1");
    slow.begun.wait_for(1);
    let suspect = scene.crashed(&tried.entry, "2", 2);
    scene.let_in(&[&suspect]);
    // Only time brings it in, since what runs does not end.
    scene.timed.advance(seconds(LIMIT));
    tried.begun.wait_for(1);
    let after = submit(&scene.timed.engine, &quick, "after");
    scene.began.add("the suspect ends".into());
    tried.gate.open();
    assert_eq!((result(&suspect), result(&after)), ("2".into(), "after".into()));
    assert!(scene.position("the suspect ends") < scene.position("after begins"));
    slow.gate.open();
    assert_eq!(result(&running), "1");
}

#[test]
fn one_that_runs_for_long_gets_company() {
    let scene = Scene::new(2);
    let tried = gated(&scene.timed.engine, "tried", Options::default());
    let quick = scene.noting("quick");
    let suspect = scene.crashed(&tried.entry, "1", 2);
    scene.let_in(&[&suspect]);
    tried.begun.wait_for(1);
    let after = submit(&scene.timed.engine, &quick, "after");
    scene.timed.advance(seconds(LIMIT));
    assert_eq!(result(&after), "after");
    tried.gate.open();
    assert_eq!(result(&suspect), "1");
}

#[test]
fn a_parent_may_wait_for_a_suspect() {
    // The clock stands still: no limit of time helps.
    let scene = Scene::new(1);
    let quick = scene.noting("quick");
    let suspect = scene.crashed(&quick, "suspect", 2);
    let (own, begun) = (suspect.clone(), Gate::default());
    let door = begun.clone();
    let parent = register(&scene.timed.engine, "parent", move |_: &Attempt| {
        door.open();
        Outcome::success(result(&own).into_bytes())
    });
    let parent = submit(&scene.timed.engine, &parent, "1");
    begun.pass();
    scene.let_in(&[&suspect]);
    assert_eq!(result(&parent), "suspect");
}

#[test]
fn a_suspect_may_be_a_parent() {
    let scene = Scene::new(1);
    let quick = scene.noting("quick");
    let parent = register(&scene.timed.engine, "parent", move |attempt: &Attempt| {
        let child = attempt.submit(&quick, quick.admission(), (*b"child").into(), None, false).unwrap();
        Outcome::success(result(&child).into_bytes())
    });
    let (one, two) = (scene.crashed(&parent, "1", 2), scene.crashed(&parent, "2", 2));
    scene.let_in(&[&one, &two]);
    assert_eq!((result(&one), result(&two)), ("child".into(), "child".into()));
}

#[test]
fn on_a_loop_too_a_suspect_is_alone() {
    let scene = Scene::with(EngineOptions { max_in_flight: 10, ..options(2) });
    let engine = &scene.timed.engine;
    let host = Host::default();
    engine.set_loop(Some(Arc::new(host.clone())));
    let entry = register_async(engine, "async", Options::default());
    let quick = scene.noting("quick");
    let next = || {
        let taken = std::cell::RefCell::new(Vec::new());
        eventually("the loop finds a task", || {
            taken.borrow_mut().extend(take(engine));
            !taken.borrow().is_empty()
        });
        let mut taken = taken.into_inner();
        assert_eq!(taken.len(), 1);
        taken.remove(0)
    };
    let suspect = scene.crashed(&entry, "suspect", 2);
    let before = submit(engine, &entry, "before");
    let first = next();
    scene.let_in(&[&suspect]);
    // Whether or not it was set aside when this one came, it is not beside the suspect.
    let after = submit(engine, &entry, "after");
    first.completion.complete(echo(&first.attempt));
    let second = next();
    if second.attempt.task().id() == suspect.id() {
        let thread = submit(engine, &quick, "on a thread");
        assert!(take(engine).is_empty());
        scene.began.add("the suspect ends".into());
        second.completion.complete(echo(&second.attempt));
        assert_eq!(result(&thread), "on a thread");
        assert!(scene.position("the suspect ends") < scene.position("on a thread begins"));
    } else {
        second.completion.complete(echo(&second.attempt));
    }
    let third = next();
    third.completion.complete(echo(&third.attempt));
    for (handle, expected) in [(&before, "before"), (&suspect, "suspect"), (&after, "after")] {
        assert_eq!(result(handle), expected);
    }
    engine.set_loop(None);
}

/// A scene in which a suspect waits for what runs, and that.
fn waiting(scene: &Scene) -> (Gated, Handle, Handle) {
    let slow = gated(&scene.timed.engine, "slow", Options::default());
    let quick = scene.noting("quick");
    let running = submit(&scene.timed.engine, &slow.entry, "1");
    slow.begun.wait_for(1);
    let suspect = scene.crashed(&quick, "suspect", 2);
    scene.let_in(&[&suspect]);
    (slow, running, suspect)
}

#[test]
fn one_that_waits_goes_back_when_its_engine_stops() {
    let scene = Scene::new(2);
    let (slow, running, suspect) = waiting(&scene);
    let engine = Arc::clone(&scene.timed.engine);
    let stopping = aside(move || engine.stop(Stop::Finish));
    eventually("it is given back", || scene.disk.row(suspect.id()).state == State::Queued);
    slow.gate.open();
    stopping.join().unwrap();
    assert_eq!(result(&running), "1");
    assert_eq!(scene.disk.row(suspect.id()).crashes, 2);
}

#[test]
fn one_that_waits_goes_back_when_its_queue_is_paused() {
    let scene = Scene::new(2);
    let (slow, running, suspect) = waiting(&scene);
    scene.timed.engine.pause("suspects".into()).unwrap();
    eventually("it is given back", || scene.disk.row(suspect.id()).state == State::Queued);
    let beside = submit(&scene.timed.engine, &slow.entry, "2");
    slow.begun.wait_for(2);
    slow.gate.open();
    assert_eq!((result(&running), result(&beside)), ("1".into(), "2".into()));
    scene.let_in(&[&suspect]);
    assert_eq!(result(&suspect), "suspect");
}

#[test]
fn one_that_is_cancelled_meanwhile_holds_up_nobody() {
    let scene = Scene::new(2);
    let (slow, running, suspect) = waiting(&scene);
    assert!(suspect.cancel(None).unwrap());
    slow.gate.open();
    let after = submit(&scene.timed.engine, &slow.entry, "2");
    assert_eq!((result(&running), result(&after)), ("1".into(), "2".into()));
    assert_state(&suspect, State::Cancelled);
}

#[test]
fn one_that_is_cancelled_as_it_begins_holds_up_nobody() {
    let scene = Scene::new(2);
    let entry = scene.noting("task");
    let suspect = scene.crashed(&entry, "suspect", 2);
    let own = suspect.clone();
    scene.disk.meanwhile(move || {
        let (cancelled, cancel) = (own.clone(), own);
        // Somebody else does it, who may have to wait for what is begun here.
        aside(move || cancel.cancel(None));
        eventually("it is cancelled", || cancelled.state() == State::Cancelled);
    });
    scene.let_in(&[&suspect]);
    eventually("it is cancelled", || suspect.state() == State::Cancelled);
    let after = submit(&scene.timed.engine, &entry, "after");
    assert_eq!(result(&after), "after", "although no time passes in which the trial would be over");
    assert_eq!(scene.began.all(), ["after begins", "after ends"]);
}
