//! Dead letters: replayed one by one and by filter, discarded; what older handles keep, and what new ones get.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use common::stores::{File, Place, on_both};
use common::*;
use taskloom_engine::{Attempt, Clock, Engine, EngineOptions, Handle, HandlerEntry, Outcome, Stop};
use taskloom_model::{Code, Options, State, TaskId, When};
use taskloom_store::Filter;

fn tagged(tag: &str) -> Options {
    Options { tags: vec![tag.into()], ..Options::default() }
}

fn all() -> Filter {
    Filter::default()
}

/// A handler that fails until it is mended, then gives back its payload.
fn fragile(engine: &Engine, options: Options) -> (Arc<HandlerEntry>, Gate) {
    let mended = Gate::default();
    let own = mended.clone();
    let entry = register_with(engine, "fragile", options, move |attempt: &Attempt| {
        if own.is_open() { echo(attempt) } else { Outcome::failure("Broken", "not yet") }
    });
    (entry, mended)
}

fn failed(handle: &Handle) {
    assert_eq!(outcome(handle).unwrap_err().code(), Code::TaskFailed);
}

#[test]
fn a_failed_task_is_replayed_and_older_handles_keep_their_outcome() {
    on_both(|place| {
        let timed = place.timed(2).started();
        let (entry, mended) = fragile(&timed.engine, Options::default());
        let old = submit(&timed.engine, &entry, "7");
        failed(&old);
        let failing = timed.engine.replay(old.id()).unwrap();
        failed(&failing);
        mended.open();
        let new = timed.engine.replay(old.id()).unwrap();
        assert_eq!((new.id(), result(&new).as_str()), (old.id(), "7"));
        for handle in [&old, &failing] {
            failed(handle);
            assert_state(handle, State::Failed);
        }
        let found = timed.engine.get(old.id()).unwrap().unwrap();
        assert_eq!((found.state(), result(&found).as_str()), (State::Succeeded, "7"));
        found.task().with_row(|row| {
            assert_eq!((row.generation, row.attempt, row.failures, row.crashes), (2, 3, 0, 0));
            let errors: Vec<_> = row.errors().iter().map(|error| (error.attempt, &*error.kind)).collect();
            assert_eq!(errors, [(1, "Broken"), (2, "Broken")], "the errors of all generations");
        });
        assert_eq!(timed.engine.list(&all()).unwrap().len(), 1);
    });
}

#[test]
fn what_did_not_end_badly_is_not_replayed() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let echo = register(&timed.engine, "echo", echo);
        let slow = gated(&timed.engine, "slow", Options::default());
        let done = submit(&timed.engine, &echo, "1");
        result(&done);
        let running = submit(&timed.engine, &slow.entry, "2");
        slow.begun.wait_for(1);
        let later = Options { eta: Some(When::In(seconds(60))), ..Options::default() };
        let pending = submit_with(&timed.engine, &echo, later, "3");
        for (handle, state) in [(&done, "succeeded"), (&running, "running"), (&pending, "pending")] {
            let error = timed.engine.replay(handle.id()).unwrap_err();
            assert_eq!(error.code(), Code::IllegalTransition);
            assert!(error.message().contains(&format!("is {state}, and cannot be replayed")), "{error}");
        }
        let code = timed.engine.replay(TaskId::from_bytes([7; 16])).unwrap_err().code();
        assert_eq!(code, Code::UnknownTask);
        for state in [State::Succeeded, State::Running, State::Skipped] {
            let error = timed.engine.replay_all(&Filter { state: Some(state), ..all() }).unwrap_err();
            assert!(
                error.code() == Code::InvalidOption && error.message().contains(state.as_str()),
                "{error}"
            );
        }
        assert_eq!(timed.engine.replay_all(&all()).unwrap(), 0, "none of these is dead");
        slow.gate.open();
        assert_eq!(result(&running), "2");
        timed.advance(seconds(60));
        assert_eq!(result(&pending), "3");
    });
}

#[test]
fn dead_letters_are_replayed_by_filter() {
    on_both(|place| {
        let timed = place.timed(2);
        let (entry, mended) = fragile(&timed.engine, Options::default());
        let queue = Some("mail".into());
        let mail = submit_with(&timed.engine, &entry, Options { queue, ..tagged("a") }, "1");
        let tagged_a = submit_with(&timed.engine, &entry, tagged("a"), "2");
        let expired = Options { expires: Some(When::In(seconds(1))), ..tagged("b") };
        let expired = submit_with(&timed.engine, &entry, expired, "3");
        let cancelled = submit_with(&timed.engine, &entry, tagged("b"), "4");
        assert!(cancelled.cancel(Some("no need")).unwrap());
        timed.advance(seconds(2));
        assert_state(&expired, State::Expired);
        timed.engine.start().unwrap();
        failed(&mail);
        failed(&tagged_a);
        mended.open();

        let by_state = Filter { state: Some(State::Expired), tag: Some("b".into()), limit: 0, ..all() };
        assert_eq!(timed.engine.replay_all(&by_state).unwrap(), 1);
        assert_eq!(timed.engine.replay_all(&by_state).unwrap(), 0);
        let by_queue = Filter { queue: Some(taskloom_model::Name::new("mail")), ..all() };
        assert_eq!(timed.engine.replay_all(&by_queue).unwrap(), 1);
        assert_eq!(timed.engine.replay_all(&Filter { unfinished: true, ..all() }).unwrap(), 2);
        for (old, payload) in [(&mail, "1"), (&tagged_a, "2"), (&expired, "3"), (&cancelled, "4")] {
            let new = timed.engine.get(old.id()).unwrap().unwrap();
            assert_eq!(result(&new), payload);
            new.task().with_row(|row| assert_eq!(row.generation, 1));
            assert!(outcome(old).is_err());
        }
    });
}

#[test]
fn more_than_a_page_is_replayed_once_each_though_it_fails_again() {
    on_both(|place| {
        let timed = place.timed(2).started();
        let runs = Arc::new(AtomicU32::new(0));
        let own = Arc::clone(&runs);
        let entry = register(&timed.engine, "broken", move |_: &Attempt| {
            own.fetch_add(1, Ordering::SeqCst);
            Outcome::failure("Broken", "always")
        });
        let handles: Vec<_> = (0..1_200).map(|_| submit(&timed.engine, &entry, "1")).collect();
        handles.iter().for_each(failed);
        assert_eq!(timed.engine.replay_all(&all()).unwrap(), 1_200);
        for old in &handles {
            failed(&timed.engine.get(old.id()).unwrap().unwrap());
        }
        assert_eq!(runs.load(Ordering::SeqCst), 2_400);
        assert_eq!(timed.engine.discard_all(&all()).unwrap(), 1_200);
        assert!(timed.engine.list(&all()).unwrap().is_empty());
    });
}

#[test]
fn a_replay_is_told_as_queued() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let (entry, mended) = fragile(&timed.engine, Options::default());
        let events = watch::Watch::on(&timed.engine, "task.*");
        let old = submit(&timed.engine, &entry, "1");
        failed(&old);
        mended.open();
        result(&timed.engine.replay(old.id()).unwrap());
        let told = events.until("task.succeeded");
        let queued: Vec<_> = told.iter().filter(|event| event.name() == "task.queued").collect();
        assert_eq!(queued.len(), 1);
        assert_eq!(watch::data(queued[0])["from"], "failed");
    });
}

#[test]
fn a_replay_needs_its_unique_key_again() {
    on_both(|place| {
        let timed = place.timed(1);
        let echo = register(&timed.engine, "echo", echo);
        let unique = || Options { unique_key: Some("k".into()), ..Options::default() };
        let first = submit_with(&timed.engine, &echo, unique(), "1");
        assert!(first.cancel(None).unwrap());
        let second = submit_with(&timed.engine, &echo, unique(), "2");
        let error = timed.engine.replay(first.id()).unwrap_err();
        assert!(error.code() == Code::DuplicateKey && error.message().contains(&second.id().to_string()));
        assert_eq!(timed.engine.replay_all(&all()).unwrap(), 0);
        assert!(second.cancel(None).unwrap());
        let again = timed.engine.replay(first.id()).unwrap();
        let third = submit_with(&timed.engine, &echo, unique(), "3");
        assert_eq!(third.id(), first.id(), "the new generation has the key");
        timed.engine.start().unwrap();
        assert_eq!((result(&again), result(&third)), ("1".into(), "1".into()));
    });
}

#[test]
fn what_has_ended_is_discarded() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let (entry, mended) = fragile(&timed.engine, Options::default());
        let dead: Vec<_> =
            ["a", "a", "b"].iter().map(|tag| submit_with(&timed.engine, &entry, tagged(tag), "1")).collect();
        dead.iter().for_each(failed);
        mended.open();
        let done = submit(&timed.engine, &entry, "2");
        result(&done);
        let later = Options { eta: Some(When::In(seconds(60))), ..tagged("a") };
        let pending = submit_with(&timed.engine, &entry, later, "3");

        assert_eq!(timed.engine.discard_all(&Filter { tag: Some("a".into()), ..all() }).unwrap(), 2);
        assert!(timed.engine.get(dead[0].id()).unwrap().is_none());
        failed(&dead[0]);
        let error = timed.engine.discard(pending.id()).unwrap_err();
        assert!(error.code() == Code::IllegalTransition && error.message().contains("pending"), "{error}");
        let unfinished = Filter { state: Some(State::Pending), ..all() };
        assert_eq!(timed.engine.discard_all(&unfinished).unwrap_err().code(), Code::InvalidOption);
        assert_eq!(timed.engine.discard_all(&all()).unwrap(), 1);
        timed.engine.discard(done.id()).unwrap();
        assert_eq!(timed.engine.discard(done.id()).unwrap_err().code(), Code::UnknownTask);
        let left: Vec<_> = timed.engine.list(&all()).unwrap().iter().map(Handle::id).collect();
        assert_eq!(left, [pending.id()]);
        assert_eq!(timed.engine.replay(dead[0].id()).unwrap_err().code(), Code::UnknownTask);
    });
}

#[test]
fn what_keeps_its_key_is_not_discarded() {
    on_both(|place| {
        let timed = place.timed(1);
        let echo = register(&timed.engine, "echo", echo);
        let unique_for = Some(seconds(50));
        let unique = Options { unique_key: Some("k".into()), unique_for, ..Options::default() };
        let keeper = submit_with(&timed.engine, &echo, unique, "1");
        assert!(keeper.cancel(None).unwrap());
        let error = timed.engine.discard(keeper.id()).unwrap_err();
        assert_eq!(error.code(), Code::IllegalTransition);
        assert_eq!(timed.engine.discard_all(&all()).unwrap(), 0);
        timed.advance(seconds(50));
        timed.engine.discard(keeper.id()).unwrap();
    });
}

#[test]
fn nothing_is_replayed_once_stopped() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let (entry, _) = fragile(&timed.engine, Options::default());
        let old = submit(&timed.engine, &entry, "1");
        failed(&old);
        timed.engine.stop(Stop::Finish);
        assert_eq!(timed.engine.replay(old.id()).unwrap_err().code(), Code::ShutDown);
        assert_eq!(timed.engine.replay_all(&all()).unwrap_err().code(), Code::ShutDown);
        failed(&old);
    });
}

#[test]
fn one_that_another_process_ended_is_replayed_and_its_waiters_hear_of_the_end() {
    let (file, clock) = (File::new(), HandClock::new());
    let here = file.timed(&clock, options(1));
    let (entry, _) = fragile(&here.engine, Options::default());
    let old = submit(&here.engine, &entry, "5");
    // It hears of what others do by threads of its own.
    let clock = Arc::clone(&clock) as Arc<dyn Clock>;
    let there = Engine::new(file.store(), EngineOptions { clock, ..options(1) }).unwrap();
    let (_, mended) = fragile(&there, Options::default());
    there.start().unwrap();
    let watcher = there.get(old.id()).unwrap().unwrap();
    failed(&watcher);
    mended.open();
    // This process may not have heard of the end: its handle does by the replay, at the latest.
    let new = here.engine.replay(old.id()).unwrap();
    failed(&old);
    let ran = there.get(old.id()).unwrap().unwrap();
    assert_eq!(result(&ran), "5");
    new.refresh();
    assert_eq!(result(&new), "5");
    failed(&watcher);
    assert_eq!(result(&there.get(old.id()).unwrap().unwrap()), "5");
}

#[test]
fn an_end_elsewhere_that_a_list_has_shown_already_is_heard_of_by_who_waits() {
    let (file, clock) = (File::new(), HandClock::new());
    let here = file.timed(&clock, options(1));
    let (entry, _) = fragile(&here.engine, Options::default());
    let listed = submit(&here.engine, &entry, "5");
    let asked = submit(&here.engine, &entry, "6");
    let there = file.timed(&clock, options(1)).started();
    fragile(&there.engine, Options::default());
    for handle in [&listed, &asked] {
        failed(&there.engine.get(handle.id()).unwrap().unwrap());
    }
    assert_eq!(here.engine.get(asked.id()).unwrap().unwrap().state(), State::Failed);
    failed(&asked);
    assert_eq!(here.engine.list(&all()).unwrap().len(), 2);
    failed(&listed);
}

/// One process knows two generations: of the older it has seen the end without having waited for it.
struct Generations {
    here: Arc<Engine>,
    _there: Engine,
    old: Handle,
    new: Handle,
    /// Lets the new one end.
    gate: Gate,
    _file: File,
}

impl Generations {
    fn new() -> Self {
        let (file, clock) = (File::new(), HandClock::new());
        let engine = |workers| {
            let clock = Arc::clone(&clock) as Arc<dyn Clock>;
            Engine::new(file.store(), EngineOptions { clock, ..options(workers) }).unwrap()
        };
        let (here, there) = (Arc::new(engine(1)), engine(1));
        let (entry, _) = fragile(&here, Options::default());
        let gate = Gate::default();
        let own = gate.clone();
        register(&there, "fragile", move |attempt: &Attempt| {
            if attempt.fence().attempt == 1 {
                return Outcome::failure("Broken", "not yet");
            }
            own.pass();
            echo(attempt)
        });
        let old = submit(&here, &entry, "5");
        there.start().unwrap();
        failed(&there.get(old.id()).unwrap().unwrap());
        assert_eq!(here.list(&all()).unwrap()[0].state(), State::Failed);
        there.replay(old.id()).unwrap();
        let new = here.get(old.id()).unwrap().unwrap();
        assert!(!new.state().is_terminal());
        Self { here, _there: there, old, new, gate, _file: file }
    }
}

#[test]
fn whoever_waits_for_two_generations_hears_of_both_ends() {
    let Generations { old, new, gate, here, .. } = &Generations::new();
    let heard = Log::default();
    for handle in [new, old] {
        let heard = heard.clone();
        handle.observe(move |task| heard.add(task.with_row(|row| (row.generation, row.state))));
    }
    assert_eq!(heard.wait_for(1), [(0, State::Failed)]);
    // Whoever asks anew does not take the place of who waits.
    assert!(old.wait(Some(LONG)).unwrap());
    gate.open();
    assert_eq!(heard.wait_for(2)[1], (1, State::Succeeded));
    assert_eq!(result(&here.get(old.id()).unwrap().unwrap()), "5");
}

#[test]
fn an_older_generation_that_has_ended_cancels_no_newer_one() {
    let Generations { old, new, gate, .. } = &Generations::new();
    assert!(!old.cancel(None).unwrap());
    gate.open();
    assert_eq!(result(new), "5");
}

#[test]
fn whoever_waits_for_an_older_generation_is_answered_after_the_end_of_the_engine() {
    let Generations { here, old, gate, .. } = Generations::new();
    gate.open();
    here.stop(Stop::Finish);
    failed(&old);
}

#[test]
fn a_dead_letter_outlives_its_process() {
    let place = Place::File(File::new());
    let id = {
        let timed = place.timed(1).started();
        let (entry, _) = fragile(&timed.engine, Options::default());
        let handle = submit(&timed.engine, &entry, "9");
        failed(&handle);
        timed.engine.stop(Stop::Finish);
        handle.id()
    };
    let timed = place.timed(1).started();
    fragile(&timed.engine, Options::default()).1.open();
    assert_eq!(result(&timed.engine.replay(id).unwrap()), "9");
}

#[test]
fn of_replays_that_race_one_wins() {
    on_both(|place| {
        let timed = place.timed(1);
        let echo = register(&timed.engine, "echo", echo);
        for _ in 0..20 {
            let old = submit(&timed.engine, &echo, "1");
            assert!(old.cancel(None).unwrap());
            let replays: Vec<_> = (0..4)
                .map(|_| {
                    let (engine, id) = (Arc::clone(&timed.engine), old.id());
                    aside(move || engine.replay(id).map_err(|error| error.code()))
                })
                .collect();
            let replays: Vec<_> = replays.into_iter().map(|replay| replay.join().unwrap()).collect();
            assert_eq!(replays.iter().filter(|replay| replay.is_ok()).count(), 1);
            for code in replays.iter().filter_map(|replay| replay.as_ref().err()) {
                assert_eq!(*code, Code::IllegalTransition);
            }
            assert_eq!(timed.engine.get(old.id()).unwrap().unwrap().state(), State::Queued);
        }
        timed.engine.start().unwrap();
        assert!(timed.engine.list(&all()).unwrap().iter().all(|handle| result(handle) == "1"));
    });
}
