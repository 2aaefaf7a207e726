//! A task is run once, in the order of priorities, and again after a failure while it may.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::*;
use taskloom_engine::{Attempt, Failed, Handler, Outcome};
use taskloom_model::{Code, MAX_PAYLOAD, Options, Priority, RetryPolicy, State, TaskId, When};
use taskloom_store::{Host, HostData, MemoryOptions};

#[test]
fn a_submit_becomes_a_result() {
    let engine = started(2);
    let entry = register(&engine, "echo", echo);
    let handle = submit(&engine, &entry, "41");
    assert_eq!(result(&handle), "41");
    assert_state(&handle, State::Succeeded);
    assert!(handle.is_done());
    assert_eq!(engine.get(handle.id()).unwrap().unwrap().outcome().unwrap().as_ref(), b"41");
    assert!(engine.get(TaskId::from_bytes([9; 16])).unwrap().is_none());
    assert_eq!(engine.counts().unwrap().get(State::Succeeded), 1);
}

#[test]
fn many_tasks_from_many_threads_run_once_each() {
    const THREADS: usize = 4;
    const EACH: usize = 2_000;
    let engine = started(3);
    let ran: Arc<Vec<AtomicUsize>> = Arc::new((0..THREADS * EACH).map(|_| AtomicUsize::new(0)).collect());
    let counts = Arc::clone(&ran);
    let entry = register(&engine, "count", move |attempt: &Attempt| {
        counts[number(attempt) as usize].fetch_add(1, Ordering::Relaxed);
        echo(attempt)
    });
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (engine, entry) = (&engine, &entry);
            scope.spawn(move || {
                let numbers = thread * EACH..(thread + 1) * EACH;
                let handles: Vec<_> =
                    numbers.clone().map(|number| submit(engine, entry, &number.to_string())).collect();
                for (number, handle) in numbers.zip(&handles) {
                    assert_eq!(result(handle), number.to_string());
                }
            });
        }
    });
    assert!(ran.iter().all(|count| count.load(Ordering::Relaxed) == 1));
    assert_eq!(engine.worker_counts().3, 0, "no report was refused");
}

#[test]
fn submit_many_is_all_or_nothing() {
    let engine = bounded(1, MemoryOptions { capacity: 3, ..MemoryOptions::default() });
    let entry = register(&engine, "echo", echo);
    let payloads = |count: u8| (0..count).map(|n| ([b'0' + n].into(), None));
    let error = engine.submit_many(&entry, entry.admission(), payloads(4), false).unwrap_err();
    assert_eq!(error.code(), Code::BatchTooLarge);
    assert_eq!(engine.counts().unwrap().unfinished(), 0);
    let mut handles = engine.submit_many(&entry, entry.admission(), payloads(2), false).unwrap();
    let error = engine.submit_many(&entry, entry.admission(), payloads(2), false).unwrap_err();
    assert_eq!(error.code(), Code::QueueFull);
    assert_eq!(engine.counts().unwrap().unfinished(), 2);
    handles.extend(engine.submit_many(&entry, entry.admission(), payloads(1), false).unwrap());
    engine.start().unwrap();
    assert_eq!(handles.iter().map(result).collect::<Vec<_>>(), ["0", "1", "0"]);
}

#[test]
fn the_queue_is_bounded_by_what_is_unfinished() {
    let engine = bounded(1, MemoryOptions { capacity: 2, ..MemoryOptions::default() });
    let entry = register(&engine, "echo", echo);
    assert_eq!(engine.room(), Some(2));
    let first = [submit(&engine, &entry, "0"), submit(&engine, &entry, "1")];
    assert_eq!(engine.room(), Some(0));
    let error = try_submit(&engine, &entry, Options::default(), "2").unwrap_err();
    assert_eq!(error.code(), Code::QueueFull);
    assert!(error.hint_text().is_some());
    engine.start().unwrap();
    first.iter().for_each(|handle| drop(result(handle)));
    assert_eq!(engine.room(), Some(2));
    assert_eq!(result(&submit(&engine, &entry, "2")), "2");
}

#[test]
fn one_worker_takes_the_most_urgent_first() {
    let engine = started(1);
    let (order, block) = (Log::default(), gated(&engine, "block", Options::default()));
    let log = order.clone();
    let note = register(&engine, "note", move |attempt: &Attempt| {
        log.add(String::from_utf8(payload(attempt)).unwrap());
        echo(attempt)
    });
    submit(&engine, &block.entry, "");
    // Or the worker would take what comes before it has seen the rest.
    block.begun.wait_for(1);
    let urgent = |priority| Options { priority: Some(priority), ..Options::default() };
    let handles: Vec<_> = [
        (Priority::Low, "l1"),
        (Priority::Normal, "n1"),
        (Priority::Critical, "c1"),
        (Priority::High, "h1"),
        (Priority::Low, "l2"),
        (Priority::Critical, "c2"),
        (Priority::Normal, "n2"),
        (Priority::High, "h2"),
    ]
    .into_iter()
    .map(|(priority, name)| submit_with(&engine, &note, urgent(priority), name))
    .collect();
    block.gate.open();
    handles.iter().for_each(|handle| drop(result(handle)));
    assert_eq!(order.all(), ["c1", "c2", "h1", "h2", "n1", "n2", "l1", "l2"]);
}

/// No wait between the attempts.
fn at_once(retries: u32) -> Options {
    let retry = Some(RetryPolicy { base: Duration::ZERO, ..RetryPolicy::default() });
    Options { retries: Some(retries), retry, ..Options::default() }
}

#[test]
fn a_failure_is_retried_until_it_succeeds() {
    let engine = started(1);
    let flaky =
        register_with(&engine, "flaky", at_once(5), |attempt: &Attempt| match attempt.fence().attempt {
            3 => echo(attempt),
            n => Outcome::failure("Flaky", format!("attempt {n}")),
        });
    let handle = submit(&engine, &flaky, "7");
    assert_eq!(result(&handle), "7");
    let pair = |n: u32| ("Flaky".to_owned(), format!("attempt {n}"));
    assert_eq!(errors(&handle), [pair(1), pair(2)]);
    handle.task().with_row(|row| assert_eq!((row.attempt, row.failures, row.crashes), (3, 2, 0)));
}

#[test]
fn a_failure_is_retried_until_the_retries_are_spent() {
    let engine = started(1);
    let bad = register_with(&engine, "bad", at_once(2), |_: &Attempt| Outcome::failure("Bad", "always"));
    let handle = submit(&engine, &bad, "");
    let error = outcome(&handle).unwrap_err();
    assert_eq!(error.code(), Code::TaskFailed);
    assert!(error.message().contains("Bad: always"), "{error}");
    assert_eq!(errors(&handle).len(), 3);
    assert_state(&handle, State::Failed);
}

#[test]
fn a_permanent_failure_is_not_retried() {
    let engine = started(1);
    let bad = register_with(&engine, "bad", at_once(9), |_: &Attempt| {
        Outcome::Failed(Failed {
            kind: "Bad".into(),
            message: "for good".into(),
            backtrace: "here".into(),
            permanent: true,
            retry_after: None,
        })
    });
    let handle = submit(&engine, &bad, "");
    assert_eq!(failure(&handle), Code::TaskFailed);
    assert_eq!(errors(&handle).len(), 1);
}

#[test]
fn panics_are_outcomes_and_the_worker_survives() {
    let engine = started(1);
    let entry = register(&engine, "panic", |attempt: &Attempt| match number(attempt) {
        0 => panic!("a word"),
        1 => panic!("a {}", "sentence"),
        2 => std::panic::panic_any(77_u8),
        _ => echo(attempt),
    });
    let handles = ["0", "1", "2", "3"].map(|payload| submit(&engine, &entry, payload));
    for (handle, message) in handles.iter().zip(["a word", "a sentence", "a panic without a message"]) {
        assert_eq!(failure(handle), Code::TaskFailed);
        assert_eq!(errors(handle), [("panic".to_owned(), message.to_owned())]);
    }
    assert_eq!(result(&handles[3]), "3");
    assert_eq!(engine.worker_counts().0, 1);
}

#[test]
fn an_oversized_result_fails_for_good() {
    let engine = started(1);
    let huge = register_with(&engine, "huge", at_once(3), |_: &Attempt| {
        Outcome::success(vec![b' '; MAX_PAYLOAD + 1])
    });
    let handle = submit(&engine, &huge, "");
    assert_eq!(failure(&handle), Code::TaskFailed);
    let errors = errors(&handle);
    assert_eq!((errors.len(), errors[0].0.as_str()), (1, "PayloadTooLarge"));
    let payload = vec![b' '; MAX_PAYLOAD + 1].into();
    let error = engine.submit(&huge, huge.admission(), payload, None, false).unwrap_err();
    assert_eq!(error.code(), Code::PayloadTooLarge);
}

#[test]
fn handlers_have_one_name_each() {
    let engine = started(1);
    register(&engine, "resize", echo);
    let again = engine.register("resize", Options::default(), Handler::Blocking(Box::new(echo)));
    let error = again.err().unwrap();
    assert_eq!(error.code(), Code::HandlerExists);
    assert!(error.to_string().contains("name="), "{error}");

    let error = engine.handler("resise").err().unwrap();
    assert_eq!(error.code(), Code::UnknownHandler);
    assert_eq!(error.hint_text(), Some("did you mean \"resize\"?"));
    let error = engine.handler("quite different").err().unwrap();
    assert!(error.hint_text().unwrap().contains("resize"), "{error}");
    let error = memory(options(1)).handler("any").err().unwrap();
    assert_eq!(error.hint_text(), Some("register a handler first"));
    let error =
        engine.register("two words", Options::default(), Handler::Blocking(Box::new(echo))).err().unwrap();
    assert_eq!(error.code(), Code::InvalidOption);
}

#[test]
fn an_id_is_taken_for_good() {
    let engine = started(1);
    let entry = register(&engine, "echo", echo);
    let mine = Options { id: Some(TaskId::from_bytes([7; 16])), ..Options::default() };
    let first = submit_with(&engine, &entry, mine.clone(), "1");
    assert_eq!(first.id(), mine.id.unwrap());
    for _ in 0..2 {
        let error = try_submit(&engine, &entry, mine.clone(), "2").unwrap_err();
        assert_eq!(error.code(), Code::DuplicateId);
        assert_eq!(result(&first), "1");
    }
    assert_eq!(engine.counts().unwrap().get(State::Succeeded), 1);
}

#[test]
fn what_is_not_built_is_refused() {
    let engine = started(1);
    let entry = register(&engine, "echo", echo);
    for (options, word) in [
        (Options { depends_on: vec![TaskId::from_bytes([1; 16])], ..Options::default() }, "depends_on"),
        (Options { requires: vec!["gpu".into()], ..Options::default() }, "requires"),
        (Options { agent: Some("a".into()), ..Options::default() }, "agent"),
    ] {
        let refused = [
            engine.admission(&options).err().unwrap(),
            engine.register("other", options, Handler::Blocking(Box::new(echo))).err().unwrap(),
        ];
        for error in refused {
            assert_eq!(error.code(), Code::NotAvailable);
            assert!(error.message().contains(word), "{error}");
        }
    }
    for options in [
        Options { timeout: Some(Duration::ZERO), ..Options::default() },
        Options { queue: Some("two words".into()), ..Options::default() },
        Options {
            eta: Some(When::In(Duration::from_secs(5))),
            expires: Some(When::In(Duration::from_secs(4))),
            ..Options::default()
        },
    ] {
        assert_eq!(try_submit(&engine, &entry, options, "").unwrap_err().code(), Code::InvalidOption);
    }
}

#[test]
fn attempts_tell_progress_and_keep_checkpoints() {
    let engine = started(1);
    let entry =
        register_with(&engine, "steps", at_once(1), |attempt: &Attempt| match attempt.fence().attempt {
            1 => {
                attempt.progress(7.0, Some("half".into())).unwrap();
                attempt.progress(f64::NAN, None).unwrap();
                attempt.save_checkpoint(Some((*b"[1]").into())).unwrap();
                Outcome::failure("Again", "")
            }
            _ => {
                assert_eq!(attempt.checkpoint().as_deref(), Some(&b"[1]"[..]));
                attempt.save_checkpoint(None).unwrap();
                assert_eq!(attempt.checkpoint(), None);
                attempt.progress(0.5, None).unwrap();
                Outcome::Succeeded { result: (*b"1").into(), metadata: Some((*b"{}").into()) }
            }
        });
    let handle = submit(&engine, &entry, "");
    assert_eq!(result(&handle), "1");
    handle.task().with_row(|row| {
        let history = row.history.as_ref().unwrap();
        assert_eq!(history.newest_progress().map(|progress| progress.value), Some(0.5));
        assert_eq!(history.result_metadata.as_deref(), Some(&b"{}"[..]));
    });
}

#[test]
fn an_attempt_that_is_over_may_tell_nothing() {
    let engine = started(1);
    let kept = Log::<Attempt>::default();
    let log = kept.clone();
    let entry = register(&engine, "keep", move |attempt: &Attempt| {
        assert!(!attempt.is_cancelled());
        log.add(attempt.clone());
        echo(attempt)
    });
    assert_eq!(result(&submit(&engine, &entry, "1")), "1");
    let attempt = &kept.all()[0];
    assert!(attempt.is_cancelled());
    assert_eq!(attempt.progress(0.1, None).unwrap_err().code(), Code::LeaseLost);
    assert_eq!(attempt.save_checkpoint(None).unwrap_err().code(), Code::LeaseLost);
}

#[test]
fn what_the_submitter_left_with_a_task_is_there_when_it_runs_and_told_when_it_settles() {
    struct Left(&'static str, Arc<AtomicUsize>);
    impl Host for Left {
        fn settled(&self) {
            self.1.fetch_add(1, Ordering::Relaxed);
        }
    }
    let told = Arc::new(AtomicUsize::new(0));
    let engine = started(1);
    let entry = register(&engine, "host", |attempt: &Attempt| {
        let left = attempt.task().host::<Left>();
        Outcome::success(left.unwrap().0.as_bytes())
    });
    let host: HostData = Box::new(Left("left", Arc::clone(&told)));
    let handle = engine.submit(&entry, entry.admission(), Default::default(), Some(host), false).unwrap();
    assert_eq!(result(&handle), "left");
    assert_eq!(told.load(Ordering::Relaxed), 1);
    // One that nobody runs is told of too.
    let delayed = engine
        .admission(&Options { eta: Some(When::In(Duration::from_secs(60))), ..Options::default() })
        .unwrap();
    let host: HostData = Box::new(Left("left", Arc::clone(&told)));
    let handle = engine.submit(&entry, &delayed, Default::default(), Some(host), false).unwrap();
    assert!(handle.cancel(None).unwrap());
    assert_eq!(told.load(Ordering::Relaxed), 2);
}
