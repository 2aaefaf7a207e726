//! Several engines on one file, as processes would have it: what one does, the others hear of.
//!
//! Their clocks stand still. So no beat, no timer and no safety check comes round: what is heard, is heard as news.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::stores::File;
use common::*;
use taskloom_engine::{Attempt, Clock, Engine, EngineOptions, Outcome};
use taskloom_model::{Code, Options, State, When};

/// One more engine on a file, whose services run on threads.
fn neighbour(file: &File, clock: &Arc<HandClock>, interrupts: &Interrupts) -> Arc<Engine> {
    let options = EngineOptions {
        workers: 2,
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        runtime: Arc::new(interrupts.clone()),
        ..EngineOptions::default()
    };
    Arc::new(Engine::new(file.store(), options).unwrap())
}

/// One that only submits, and one that works.
fn two(file: &File) -> (Arc<Engine>, Arc<Engine>, Interrupts) {
    let (clock, interrupts) = (HandClock::new(), Interrupts::default());
    (neighbour(file, &clock, &interrupts), neighbour(file, &clock, &interrupts), interrupts)
}

#[test]
fn what_is_submitted_here_runs_there_and_resolves_here() {
    let file = File::new();
    let (here, there, _) = two(&file);
    let entry = register(&here, "echo", echo);
    register(&there, "echo", echo);
    there.start().unwrap();
    for number in 0..20 {
        let handle = submit(&here, &entry, &number.to_string());
        assert_eq!(result(&handle), number.to_string());
        assert_state(&handle, State::Succeeded);
    }
    assert!(there.get(submit(&here, &entry, "1").id()).unwrap().is_some());
}

#[test]
fn an_observer_here_hears_of_ends_there() {
    let file = File::new();
    let (here, there, _) = two(&file);
    let gate = Gate::default();
    let own = gate.clone();
    let entry = register(&here, "gated", echo);
    register(&there, "gated", move |attempt: &Attempt| {
        own.pass();
        echo(attempt)
    });
    there.start().unwrap();
    let ends = Log::default();
    let handles: Vec<_> = (0..10).map(|number| submit(&here, &entry, &number.to_string())).collect();
    for handle in &handles {
        let ends = ends.clone();
        handle.observe(move |task| ends.add(task.id()));
    }
    gate.open();
    ends.wait_for(handles.len());
    for (number, handle) in handles.iter().enumerate() {
        assert_eq!(handle.outcome().unwrap().as_ref(), number.to_string().as_bytes());
    }
}

#[test]
fn a_handle_here_shows_what_happens_there() {
    let file = File::new();
    let (here, there, _) = two(&file);
    let (begun, gate) = (Gate::default(), Gate::default());
    let (own_begun, own_gate) = (begun.clone(), gate.clone());
    let entry = register(&here, "gated", echo);
    register(&there, "gated", move |attempt: &Attempt| {
        own_begun.open();
        own_gate.pass();
        echo(attempt)
    });
    there.start().unwrap();
    let handle = submit(&here, &entry, "1");
    begun.pass();
    assert_eq!(handle.state(), State::Queued, "nobody has asked");
    assert!(handle.may_be_stale());
    handle.refresh();
    assert_eq!(handle.state(), State::Running);
    gate.open();
    assert_eq!(result(&handle), "1");
    assert!(!handle.may_be_stale());
}

#[test]
fn a_cancel_here_reaches_the_handler_there() {
    let file = File::new();
    let (here, there, interrupts) = two(&file);
    let (begun, gate) = (Gate::default(), Gate::default());
    let (own_begun, own_gate) = (begun.clone(), gate.clone());
    let entry = register(&here, "gated", echo);
    let cancelled = Log::default();
    let told = cancelled.clone();
    register(&there, "gated", move |attempt: &Attempt| {
        own_begun.open();
        own_gate.pass();
        told.add(attempt.is_cancelled());
        Outcome::success(*b"1")
    });
    there.start().unwrap();
    let handle = submit(&here, &entry, "1");
    begun.pass();
    assert!(handle.cancel(Some("no need")).unwrap());
    let (id, _) = interrupts.0.wait_for(1)[0];
    assert_eq!(id, handle.id());
    gate.open();
    assert_eq!(cancelled.wait_for(1), [true]);
    assert_state(&handle, State::Cancelled);
}

#[test]
fn a_time_set_here_is_kept_there() {
    let file = File::new();
    let (clock, interrupts) = (HandClock::new(), Interrupts::default());
    let (here, there) = (neighbour(&file, &clock, &interrupts), neighbour(&file, &clock, &interrupts));
    let entry = register(&here, "echo", echo);
    register(&there, "echo", echo);
    there.start().unwrap();
    let options = Options { eta: Some(When::In(Duration::from_secs(5))), ..Options::default() };
    let later = here.admission(&options).unwrap();
    let handle = here.submit(&entry, &later, (*b"1").into(), None, false).unwrap();
    clock.advance(Duration::from_secs(5));
    // A commit of anybody's has them look at their times.
    let now = submit(&here, &entry, "2");
    assert_eq!(result(&now), "2");
    assert_eq!(result(&handle), "1");
}

#[test]
fn a_task_that_was_swept_there_is_not_waited_for_here() {
    let file = File::new();
    let (clock, interrupts) = (HandClock::new(), Interrupts::default());
    let (here, there) = (neighbour(&file, &clock, &interrupts), neighbour(&file, &clock, &interrupts));
    let entry = register(&here, "echo", echo);
    register(&there, "echo", echo);
    let handle = submit(&here, &entry, "1");
    there.start().unwrap();
    let own = there.get(handle.id()).unwrap().unwrap();
    assert_eq!(result(&own), "1");
    clock.advance(Duration::from_secs(1));
    assert_eq!(there.sweep(Duration::ZERO).unwrap(), 1);
    // Nobody has looked here since it was submitted.
    assert!(handle.wait(None).unwrap());
    let error = handle.outcome().unwrap_err();
    assert_eq!(error.code(), Code::UnknownTask, "{error}");
}
