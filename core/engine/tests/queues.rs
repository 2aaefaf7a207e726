//! Which queues are served, in which order, and queues that are paused.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::stores::{File, Place, on_both};
use common::*;
use taskloom_engine::{Attempt, EngineOptions, Handle, HandlerEntry, Served, Stop};
use taskloom_model::{Code, Name, Options, State};

fn name(queue: &str) -> Name {
    Name::new(queue)
}

fn serving(queues: Served) -> EngineOptions {
    EngineOptions { queues, ..options(1) }
}

fn to(queue: &str) -> Options {
    Options { queue: Some(queue.into()), ..Options::default() }
}

/// A handler that notes the queues of its tasks.
fn noting(timed: &Timed, options: Options) -> (Arc<HandlerEntry>, Log<String>) {
    let order = Log::default();
    let log = order.clone();
    let entry = register_with(&timed.engine, "note", options, move |attempt: &Attempt| {
        log.add(attempt.task().spec().queue.to_string());
        echo(attempt)
    });
    (entry, order)
}

/// Submits tasks to two queues and has one worker run them, who finds all of them ready. Which queues they came from.
fn in_which_order(place: &Place, served: Served, (first, second): (&str, &str)) -> Vec<String> {
    let timed = place.timed_with(serving(served)).started();
    if timed.engine.admission(&to("idle")).is_ok() {
        register_with(&timed.engine, "idle", to("idle"), echo);
    }
    let block = gated(&timed.engine, "block", to(first));
    submit(&timed.engine, &block.entry, "1");
    block.begun.wait_for(1);
    let (entry, log) = noting(&timed, to(first));
    let mut handles = fill(&timed, &entry, second, 100);
    handles.extend(fill(&timed, &entry, first, 100));
    if !place.is_memory() {
        eventually("they are claimed ahead", || {
            handles.iter().all(|handle| handle.state() == State::Running)
        });
    }
    block.gate.open();
    handles.iter().for_each(|handle| drop(result(handle)));
    log.all()
}

/// Submits many at once.
fn backlog(timed: &Timed, entry: &HandlerEntry, queue: &str, count: usize) -> Vec<Handle> {
    let admission = timed.engine.admission(&to(queue)).unwrap();
    let payloads = (0..count).map(|_| ((*b"1").into(), None));
    timed.engine.submit_many(entry, &admission, payloads, false).unwrap()
}

fn fill(timed: &Timed, entry: &HandlerEntry, queue: &str, count: usize) -> Vec<Handle> {
    (0..count).map(|_| submit_with(&timed.engine, entry, to(queue), "1")).collect()
}

#[test]
fn in_order_the_first_queue_comes_first() {
    on_both(|place| {
        let order = Served::InOrder(vec![name("first"), name("second"), name("third")]);
        let timed = place.timed_with(serving(order));
        let (entry, log) = noting(&timed, to("first"));
        let mut handles = Vec::new();
        for queue in ["third", "second", "first", "third", "second", "first"] {
            handles.extend(fill(&timed, &entry, queue, 1));
        }
        timed.engine.start().unwrap();
        handles.iter().for_each(|handle| drop(result(handle)));
        assert_eq!(log.all(), ["first", "first", "second", "second", "third", "third"]);
    });
}

#[test]
fn even_the_last_queue_is_served_in_the_long_run() {
    on_both(|place| {
        let order = Served::InOrder(vec![name("first"), name("last")]);
        let timed = place.timed_with(serving(order));
        let (entry, log) = noting(&timed, to("first"));
        let last = fill(&timed, &entry, "last", 1).remove(0);
        let handles = backlog(&timed, &entry, "first", 3_000);
        timed.engine.start().unwrap();
        result(&last);
        let place = log.all().iter().position(|queue| queue == "last").unwrap();
        assert!((1..2_000).contains(&place), "it came as number {place}");
        handles.iter().for_each(|handle| drop(result(handle)));
    });
}

#[test]
fn by_weight_long_backlogs_have_their_shares_in_the_long_run() {
    on_both(|place| {
        for (much, little) in [(3, 1), (1, 1)] {
            let weights = Served::ByWeight(vec![(name("much"), much), (name("little"), little)]);
            let timed = place.timed_with(serving(weights));
            let (entry, log) = noting(&timed, to("much"));
            let mut handles = backlog(&timed, &entry, "little", 4_000);
            handles.extend(backlog(&timed, &entry, "much", 4_000));
            timed.engine.start().unwrap();
            let order = log.wait_for(4_000);
            let share = order[..4_000].iter().filter(|queue| *queue == "much").count() * 100 / 4_000;
            // On a file, a turn is a claim: there were some ten of them.
            let (from, to) = if much == 3 { (58, 93) } else { (30, 71) };
            assert!((from..to).contains(&share), "{much}:{little} became {share} of 100");
            handles.iter().for_each(|handle| drop(result(handle)));
        }
    });
}

#[test]
fn by_weight_each_queue_has_its_share() {
    on_both(|place| {
        let weights = Served::ByWeight(vec![(name("much"), 3), (name("little"), 1)]);
        let order = in_which_order(place, weights, ("much", "little"));
        let much = order[..40].iter().filter(|queue| *queue == "much").count();
        assert!((29..=31).contains(&much), "{order:?}");
    });
}

#[test]
fn served_alike_no_queue_starves_even_behind_empty_ones() {
    on_both(|place| {
        let order = in_which_order(place, Served::All, ("a", "b"));
        let b = order[..100].iter().filter(|queue| *queue == "b").count();
        assert!((49..=51).contains(&b), "{order:?}");
    });
}

#[test]
fn a_queue_that_nobody_could_ever_serve_is_refused() {
    let timed = Place::Memory.timed_with(serving(Served::InOrder(vec![name("images"), name("mail")])));
    let entry = register_with(&timed.engine, "note", to("mail"), echo);
    let error = try_submit(&timed.engine, &entry, to("image"), "1").unwrap_err();
    assert_eq!(error.code(), Code::InvalidOption);
    assert!(error.to_string().contains("did you mean \"images\"?"), "{error}");
    let error = try_submit(&timed.engine, &entry, to("x"), "1").unwrap_err();
    assert!(error.to_string().contains("images, mail"), "{error}");
    let handler = taskloom_engine::Handler::Blocking(Box::new(echo));
    // The default queue is not served either; but a handler's own queue is only where its submits go that name none.
    let other = timed.engine.register("other", Options::default(), handler).unwrap();
    let error = try_submit(&timed.engine, &other, Options::default(), "1").unwrap_err();
    assert_eq!(error.code(), Code::InvalidOption);
    let entry = timed.engine.submit(&other, other.admission(), b"1".into(), None, false);
    assert_eq!(entry.unwrap_err().code(), Code::InvalidOption);
    timed.engine.start().unwrap();
    assert_eq!(result(&try_submit(&timed.engine, &other, to("mail"), "1").unwrap()), "1");
}

#[test]
fn a_queue_that_is_not_served_here_is_served_by_another_process() {
    let (file, clock) = (File::new(), HandClock::new());
    let here = file.timed(&clock, serving(Served::InOrder(vec![name("mine")]))).started();
    let entry = register_with(&here.engine, "note", to("mine"), echo);
    let (mine, other) = (fill(&here, &entry, "mine", 1).remove(0), fill(&here, &entry, "other", 1).remove(0));
    assert_eq!(result(&mine), "1");
    here.step();
    assert_state(&other, State::Queued);
    let there = file.timed(&clock, serving(Served::ByWeight(vec![(name("other"), 1)]))).started();
    register_with(&there.engine, "note", to("other"), echo);
    let again = there.engine.get(other.id()).unwrap().unwrap();
    assert_eq!(result(&again), "1");
}

#[test]
fn nothing_of_a_paused_queue_begins_and_what_runs_goes_on() {
    on_both(|place| {
        let timed = place.timed(2).started();
        let slow = gated(&timed.engine, "slow", Options::default());
        let note = register_with(&timed.engine, "note", to("other"), echo);
        let running = submit(&timed.engine, &slow.entry, "1");
        slow.begun.wait_for(1);
        assert!(timed.engine.pause(name("default")).unwrap());
        assert!(!timed.engine.pause(name("default")).unwrap(), "it is paused already");
        assert_eq!(timed.engine.paused().unwrap(), [name("default")]);
        let waiting = submit(&timed.engine, &slow.entry, "2");
        slow.gate.open();
        assert_eq!(result(&running), "1");
        // Two workers are free, and serve the others.
        for _ in 0..20 {
            assert_eq!(result(&submit(&timed.engine, &note, "3")), "3");
        }
        timed.step();
        assert_state(&waiting, State::Queued);
        assert_eq!(slow.begun.len(), 1);
        assert!(timed.engine.resume(name("default")).unwrap());
        assert!(!timed.engine.resume(name("default")).unwrap(), "it was not paused");
        assert_eq!(result(&waiting), "2");
    });
}

#[test]
fn what_was_claimed_ahead_of_a_pause_is_given_back() {
    let place = Place::File(File::new());
    let timed = place.timed(1).started();
    let slow = gated(&timed.engine, "slow", Options::default());
    submit(&timed.engine, &slow.entry, "1");
    slow.begun.wait_for(1);
    let ahead = fill(&timed, &slow.entry, "default", 20);
    eventually("they are claimed ahead", || ahead.iter().all(|handle| handle.state() == State::Running));
    timed.engine.pause(name("default")).unwrap();
    assert!(ahead.iter().all(|handle| handle.state() == State::Queued));
    slow.gate.open();
    timed.engine.resume(name("default")).unwrap();
    assert!(ahead.iter().all(|handle| result(handle) == "1"));
    assert_eq!(slow.begun.len(), 21);
}

#[test]
fn a_pause_while_tasks_come_and_go_loses_none() {
    on_both(|place| {
        let timed = place.timed(2).started();
        let echo = register(&timed.engine, "echo", echo);
        let engine = Arc::clone(&timed.engine);
        let pauses = aside(move || {
            for _ in 0..50 {
                engine.pause(name("default")).unwrap();
                engine.resume(name("default")).unwrap();
            }
        });
        let handles: Vec<_> = (0..500).map(|_| submit(&timed.engine, &echo, "1")).collect();
        pauses.join().unwrap();
        assert!(handles.iter().all(|handle| result(handle) == "1"));
        assert!(handles.iter().all(|handle| handle.task().with_row(|row| row.crashes == 0)));
    });
}

#[test]
fn workers_that_sleep_over_a_paused_queue_are_woken_when_it_goes_on() {
    on_both(|place| {
        let timed = place.timed(2);
        let echo = register(&timed.engine, "echo", echo);
        timed.engine.pause(name("default")).unwrap();
        let handles = fill(&timed, &echo, "default", 10);
        timed.engine.start().unwrap();
        timed.step();
        assert!(handles.iter().all(|handle| handle.state() == State::Queued));
        timed.engine.resume(name("default")).unwrap();
        assert!(handles.iter().all(|handle| result(handle) == "1"));
    });
}

#[test]
fn an_event_loop_takes_nothing_of_a_paused_queue() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let host = Host::default();
        timed.engine.set_loop(Some(Arc::new(host.clone())));
        let entry = register_async(&timed.engine, "task", Options::default());
        timed.engine.pause(name("default")).unwrap();
        let handle = submit(&timed.engine, &entry, "1");
        assert!(take(&timed.engine).is_empty());
        timed.engine.resume(name("default")).unwrap();
        let taken = std::cell::RefCell::new(Vec::new());
        eventually("it is taken", || {
            taken.borrow_mut().extend(take(&timed.engine));
            !taken.borrow().is_empty()
        });
        taken.into_inner().remove(0).completion.complete(taskloom_engine::Outcome::success(*b"1"));
        assert_eq!(result(&handle), "1");
        timed.engine.set_loop(None);
    });
}

#[test]
fn a_pause_outlives_the_engine_and_reaches_the_others_on_its_file() {
    let (file, clock) = (File::new(), HandClock::new());
    let first = file.timed(&clock, options(1)).started();
    let echo_here = register(&first.engine, "echo", echo);
    let other = file.timed(&clock, options(1)).started();
    let echo_there = register(&other.engine, "echo", echo);
    other.step();
    first.engine.pause(name("default")).unwrap();
    let waiting = submit(&first.engine, &echo_here, "1");
    other.advance(seconds(2));
    first.step();
    assert_state(&waiting, State::Queued);

    let engine = Arc::clone(&first.engine);
    in_time("the stop", move || engine.stop(Stop::Finish));
    let heir = file.timed(&clock, options(1));
    assert_eq!(heir.engine.paused().unwrap(), [name("default")]);
    let slow = gated(&heir.engine, "slow", Options::default());
    heir.engine.start().unwrap();
    let late = submit(&heir.engine, &slow.entry, "2");
    heir.step();
    assert_state(&late, State::Queued);
    // The other one does not know the handler that this task needs.
    heir.engine.resume(name("default")).unwrap();
    slow.begun.wait_for(1);
    other.advance(seconds(2));
    let after = submit(&other.engine, &echo_there, "3");
    assert_eq!(result(&after), "3");
    let again = other.engine.get(waiting.id()).unwrap().unwrap();
    assert_eq!(result(&again), "1");
    slow.gate.open();
    assert_eq!(result(&late), "2");
}

#[test]
fn a_purge_cancels_what_waits_and_leaves_what_runs() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let slow = gated(&timed.engine, "slow", Options::default());
        let running = submit(&timed.engine, &slow.entry, "1");
        slow.begun.wait_for(1);
        let waiting = fill(&timed, &slow.entry, "default", 10);
        if !place.is_memory() {
            eventually("they are claimed ahead", || {
                waiting.iter().all(|handle| handle.state() == State::Running)
            });
        }
        let later = Options { eta: Some(taskloom_model::When::In(seconds(60))), ..Options::default() };
        let pending = submit_with(&timed.engine, &slow.entry, later, "2");
        let elsewhere = submit_with(&timed.engine, &slow.entry, to("other"), "3");
        assert_eq!(timed.engine.purge(name("default")).unwrap(), 11);
        assert_eq!(timed.engine.purge(name("nobody")).unwrap(), 0);
        for handle in waiting.iter().chain([&pending]) {
            let error = outcome(handle).unwrap_err();
            assert_eq!(error.code(), Code::TaskCancelled);
            assert!(error.message().contains("purged"), "{error}");
        }
        slow.gate.open();
        assert_eq!((result(&running), result(&elsewhere)), ("1".into(), "3".into()));
        assert_eq!(slow.begun.len(), 2);
        timed.step();
        assert_eq!(timed.interrupts.len(), 0, "nobody was in the middle of it");
    });
}

#[test]
fn a_backlog_beyond_a_page_is_purged() {
    on_both(|place| {
        let timed = place.timed(1);
        let echo = register(&timed.engine, "echo", echo);
        let payloads = (0..1_203).map(|_| ((*b"1").into(), None));
        let handles = timed.engine.submit_many(&echo, echo.admission(), payloads, false).unwrap();
        assert_eq!(timed.engine.purge(name("default")).unwrap(), 1_203);
        assert!(handles.iter().all(|handle| handle.state() == State::Cancelled));
    });
}

#[test]
fn the_end_of_an_engine_leaves_a_paused_queue_alone() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let echo = register(&timed.engine, "echo", echo);
        timed.engine.pause(name("default")).unwrap();
        let waiting = submit(&timed.engine, &echo, "1");
        let engine = Arc::clone(&timed.engine);
        in_time("the stop", move || engine.stop(Stop::Finish));
        assert_eq!(failure(&waiting), Code::ShutDown);
        assert_state(&waiting, State::Queued);
        if let Place::File(file) = place {
            let heir = file.timed(&HandClock::new(), options(1)).started();
            register(&heir.engine, "echo", common::echo);
            let again = heir.engine.get(waiting.id()).unwrap().unwrap();
            assert_state(&again, State::Queued);
            heir.engine.resume(name("default")).unwrap();
            assert_eq!(result(&again), "1");
        }
    });
}

#[test]
fn a_paused_queue_does_not_hold_up_a_stop_that_waits_for_the_loop() {
    let timed = Place::Memory.timed(1).started();
    timed.engine.set_loop(Some(Arc::new(Host::default())));
    let entry = register_async(&timed.engine, "task", Options::default());
    timed.engine.pause(name("default")).unwrap();
    let handle = submit(&timed.engine, &entry, "1");
    let engine = Arc::clone(&timed.engine);
    in_time("the stop", move || engine.stop(Stop::Within(Duration::from_secs(3600))));
    assert_eq!(failure(&handle), Code::ShutDown);
}
