//! Tasks that a running one submits.

mod common;

use std::sync::Arc;

use common::stores::on_both;
use common::*;
use taskloom_engine::{Attempt, Completion, Engine, Handle, HandlerEntry, Outcome, Result, Stop};
use taskloom_model::{Code, Options, RetryPolicy, State, TaskId};

fn at_once(retries: u32) -> Options {
    let retry = Some(RetryPolicy { base: std::time::Duration::ZERO, ..RetryPolicy::default() });
    Options { retries: Some(retries), retry, ..Options::default() }
}

fn spawn(attempt: &Attempt, entry: &HandlerEntry, payload: &str) -> Result<Handle> {
    attempt.submit(entry, entry.admission(), payload.as_bytes().into(), None, false)
}

/// A parent that ends when the test says so, and the attempt that it is in.
fn parent(engine: &Engine, name: &str) -> (Handle, Attempt, Gate) {
    let parent = gated(engine, name, Options::default());
    let handle = submit(engine, &parent.entry, "1");
    let attempt = parent.begun.wait_for(1).remove(0);
    (handle, attempt, parent.gate)
}

/// Steps until a task has ended: its retry may be due.
fn stepped(timed: &Timed, handle: &Handle) {
    eventually("it ended", || {
        timed.step();
        handle.is_done()
    });
}

#[test]
fn a_retry_of_the_parent_finds_the_same_children() {
    on_both(|place| {
        let timed = place.timed(2).started();
        let (seen, log) = (Log::default(), Log::default());
        let ran = log.clone();
        let child = register(&timed.engine, "child", move |attempt: &Attempt| {
            ran.add(number(attempt));
            echo(attempt)
        });
        let ids = seen.clone();
        let parent = register_with(&timed.engine, "parent", at_once(2), move |attempt: &Attempt| {
            let number = attempt.fence().attempt;
            // The second attempt brings other arguments, and finds what the first one submitted.
            let first = spawn(attempt, &child, &number.to_string()).unwrap();
            let second = spawn(attempt, &child, "7").unwrap();
            ids.add((first.id(), second.id()));
            let results = format!("{} {}", result(&first), result(&second));
            if number < 3 { Outcome::failure("Again", "") } else { Outcome::success(results.into_bytes()) }
        });
        let handle = submit(&timed.engine, &parent, "1");
        stepped(&timed, &handle);
        assert_eq!(result(&handle), "1 7");
        let seen = seen.all();
        assert_eq!(seen.len(), 3);
        assert!(seen.iter().all(|ids| *ids == (handle.id().child(0), handle.id().child(1))), "{seen:?}");
        let mut ran = log.all();
        ran.sort_unstable();
        assert_eq!(ran, [1, 7], "each child ran once");
        let children = timed.engine.children(handle.task()).unwrap();
        let ids: Vec<_> = children.iter().map(Handle::id).collect();
        assert_eq!(ids, [handle.id().child(0), handle.id().child(1)]);
        assert_eq!(children[0].task().spec().parent().map(|parent| parent.id), Some(handle.id()));
    });
}

#[test]
fn another_handler_in_the_place_of_a_child_is_refused() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let (a, b) = (register(&timed.engine, "a", echo), register(&timed.engine, "b", echo));
        let parent = register_with(&timed.engine, "parent", at_once(1), move |attempt: &Attempt| {
            let entry = if attempt.fence().attempt == 1 { &a } else { &b };
            match spawn(attempt, entry, "1") {
                Ok(_) => Outcome::failure("Again", ""),
                Err(error) => Outcome::failure(format!("{:?}", error.code()), error.to_string()),
            }
        });
        let handle = submit(&timed.engine, &parent, "1");
        stepped(&timed, &handle);
        let (kind, message) = errors(&handle).remove(1);
        assert_eq!(kind, "DuplicateId");
        assert!(
            message.contains("child 0") && message.contains("\"a\"") && message.contains("\"b\""),
            "{message}"
        );
    });
}

#[test]
fn an_attempt_that_is_over_may_submit_no_child() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let child = register(&timed.engine, "child", echo);
        let (handle, attempt, gate) = parent(&timed.engine, "parent");
        gate.open();
        assert_eq!(result(&handle), "1");
        assert_eq!(spawn(&attempt, &child, "1").unwrap_err().code(), Code::LeaseLost);
        let (handle, attempt, gate) = parent(&timed.engine, "other");
        assert!(handle.cancel(None).unwrap());
        assert_eq!(spawn(&attempt, &child, "1").unwrap_err().code(), Code::LeaseLost);
        assert!(timed.engine.children(handle.task()).unwrap().is_empty());
        assert_eq!(timed.engine.counts().unwrap().unfinished(), 0);
        gate.open();
    });
}

#[test]
fn an_attempt_that_was_taken_over_may_submit_no_child_even_if_its_successor_has() {
    on_both(|place| {
        let timed = place.timed(2).started();
        let child = register(&timed.engine, "child", echo);
        let options = Options { timeout: Some(seconds(5)), ..at_once(1) };
        let parent = gated(&timed.engine, "parent", options);
        let handle = submit(&timed.engine, &parent.entry, "1");
        let old = parent.begun.wait_for(1).remove(0);
        timed.advance(seconds(5));
        timed.step();
        let new = parent.begun.wait_for(2).remove(1);
        let known = spawn(&new, &child, "new").unwrap();
        assert_eq!(spawn(&old, &child, "old").unwrap_err().code(), Code::LeaseLost);
        let next = spawn(&new, &child, "next").unwrap();
        assert_eq!((known.id(), next.id()), (handle.id().child(0), handle.id().child(1)));
        parent.gate.open();
        assert_eq!(result(&handle), "1");
    });
}

#[test]
fn a_parent_waits_for_its_child_on_a_pool_of_one() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let grandchild = register(&timed.engine, "grandchild", echo);
        let child = register(&timed.engine, "child", move |attempt: &Attempt| {
            let handle = spawn(attempt, &grandchild, "deep").unwrap();
            Outcome::success(result(&handle).into_bytes())
        });
        let parent = register(&timed.engine, "parent", move |attempt: &Attempt| {
            let handle = spawn(attempt, &child, "1").unwrap();
            handle.wait(None).unwrap();
            Outcome::success(result(&handle).into_bytes())
        });
        let handle = submit(&timed.engine, &parent, "1");
        assert_eq!(result(&handle), "deep");
    });
}

#[test]
fn an_asynchronous_parent_lends_its_place_to_its_child() {
    on_both(|place| {
        let options = taskloom_engine::EngineOptions { max_in_flight: 1, ..options(1) };
        let timed = place.timed_with(options).started();
        let host = Host::default();
        timed.engine.set_loop(Some(Arc::new(host.clone())));
        let entry = register_async(&timed.engine, "task", Options::default());
        let next = || {
            let taken = std::cell::RefCell::new(Vec::new());
            eventually("the loop finds a task", || {
                taken.borrow_mut().extend(take(&timed.engine));
                !taken.borrow().is_empty()
            });
            let mut taken = taken.into_inner();
            assert_eq!(taken.len(), 1);
            taken.remove(0)
        };
        let handle = submit(&timed.engine, &entry, "parent");
        let parent = next();
        let child = spawn(&parent.attempt, &entry, "child").unwrap();
        let beside = submit(&timed.engine, &entry, "beside");
        assert!(take(&timed.engine).is_empty(), "there is one place");
        let woken = host.0.len();
        let lent = parent.attempt.lend_place();
        host.0.wait_for(woken + usize::from(place.is_memory()));
        let first = next();
        assert!(take(&timed.engine).is_empty(), "and one that was lent");
        let end = |completion: Completion| completion.complete(Outcome::success(*b"1"));
        end(first.completion);
        end(next().completion);
        assert_eq!((result(&child), result(&beside)), ("1".into(), "1".into()));
        drop(lent);
        end(parent.completion);
        assert_eq!(result(&handle), "1");
        timed.engine.set_loop(None);
    });
}

#[test]
fn cancelling_a_parent_cancels_what_it_left_unfinished() {
    on_both(|place| {
        let timed = place.timed(4).started();
        let quick = register(&timed.engine, "quick", echo);
        let slow = gated(&timed.engine, "slow", Options::default());
        let (grandchild, log) = (Arc::clone(&slow.entry), Log::default());
        let deep = log.clone();
        let middle = register(&timed.engine, "middle", move |attempt: &Attempt| {
            deep.add(spawn(attempt, &grandchild, "deep").unwrap());
            let _ = deep.all()[0].wait(None);
            echo(attempt)
        });
        let (handle, attempt, gate) = parent(&timed.engine, "parent");
        let done = spawn(&attempt, &quick, "done").unwrap();
        assert_eq!(result(&done), "done");
        let unfinished = spawn(&attempt, &middle, "1").unwrap();
        let grandchild = log.wait_for(1).remove(0);
        let deep = slow.begun.wait_for(1).remove(0);
        let detached =
            attempt.submit(&slow.entry, slow.entry.admission(), (*b"2").into(), None, true).unwrap();
        slow.begun.wait_for(2);

        assert!(handle.cancel(Some("enough")).unwrap());
        assert_eq!(failure(&handle), Code::TaskCancelled);
        for (child, of) in [(&unfinished, &handle), (&grandchild, &unfinished)] {
            let error = outcome(child).unwrap_err();
            assert_eq!(error.code(), Code::TaskCancelled);
            assert!(error.message().contains(&of.id().to_string()), "{error}");
        }
        assert!(deep.is_cancelled());
        eventually("its handler is told", || {
            timed.interrupts.all().contains(&(deep.task().id(), deep.fence()))
        });
        assert_state(&done, State::Succeeded);
        assert_state(&detached, State::Running);
        slow.gate.open();
        gate.open();
        assert_eq!(result(&detached), "2");
    });
}

#[test]
fn a_child_is_given_neither_an_id_nor_a_unique_key() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let child = register(&timed.engine, "child", echo);
        let (handle, attempt, gate) = parent(&timed.engine, "parent");
        for (options, word) in [
            (Options { id: Some(TaskId::from_bytes([7; 16])), ..Options::default() }, "id"),
            (Options { unique_key: Some("a".into()), ..Options::default() }, "unique key"),
        ] {
            let admission = timed.engine.admission(&options).unwrap();
            let error = attempt.submit(&child, &admission, (*b"1").into(), None, false).unwrap_err();
            assert_eq!(error.code(), Code::InvalidOption);
            assert!(error.message().contains(word), "{error}");
        }
        // What was refused has taken no place.
        assert_eq!(spawn(&attempt, &child, "1").unwrap().id(), handle.id().child(0));
        gate.open();
        assert_eq!(result(&handle), "1");
    });
}

#[test]
fn a_handler_submits_children_while_its_engine_drains() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let child = register(&timed.engine, "child", echo);
        let (begun, gate) = (Log::default(), Gate::default());
        let (log, door) = (begun.clone(), gate.clone());
        let parent = register(&timed.engine, "parent", move |attempt: &Attempt| {
            log.add(());
            door.pass();
            let handle = spawn(attempt, &child, "child").unwrap();
            handle.wait(None).unwrap();
            Outcome::success(result(&handle).into_bytes())
        });
        let handle = submit(&timed.engine, &parent, "1");
        begun.wait_for(1);
        let engine = Arc::clone(&timed.engine);
        let stop = aside(move || engine.stop(Stop::Finish));
        until_it_drains(&timed.engine, &parent);
        gate.open();
        assert_eq!(result(&handle), "child");
        in_time("the stop", move || stop.join().unwrap());
    });
}

#[test]
fn children_of_a_full_store_are_refused_and_leave_no_trace() {
    let bounds = taskloom_store::MemoryOptions { capacity: 2, ..Default::default() };
    let engine = bounded(1, bounds);
    engine.start().unwrap();
    let child = register(&engine, "child", echo);
    let (handle, attempt, gate) = parent(&engine, "parent");
    let first = spawn(&attempt, &child, "1").unwrap();
    assert_eq!(spawn(&attempt, &child, "2").unwrap_err().code(), Code::QueueFull);
    assert_eq!(engine.children(handle.task()).unwrap().len(), 1);
    assert!(first.cancel(None).unwrap());
    // The refused one has not used up its place.
    let second = spawn(&attempt, &child, "2").unwrap();
    assert_eq!(second.id(), handle.id().child(1));
    assert_eq!(engine.children(handle.task()).unwrap().len(), 2);
    gate.open();
    assert_eq!(result(&handle), "1");
}
