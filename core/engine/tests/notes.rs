//! What a handler leaves beside its result: progress, a log, metadata.

mod common;

use common::disk::Disk;
use common::stores::on_both;
use common::*;
use taskloom_engine::{Attempt, Engine, Handle, Outcome};
use taskloom_model::{
    Code, History, MAX_LOG_BYTES, MAX_LOG_LINE, MAX_LOG_LINES, MAX_PROGRESS, Options, RetryPolicy,
};

fn history(handle: &Handle) -> History {
    handle.task().with_row(|row| row.history.as_deref().cloned().unwrap_or_default())
}

fn lines(handle: &Handle) -> Vec<String> {
    history(handle).log.into_iter().map(|line| line.message).collect()
}

fn at_once(retries: u32) -> Options {
    let retry = Some(RetryPolicy { base: std::time::Duration::ZERO, ..RetryPolicy::default() });
    Options { retries: Some(retries), retry, ..Options::default() }
}

#[test]
fn the_steps_of_a_task_are_kept_with_it() {
    let engine = started(1);
    let steps = register(&engine, "steps", |attempt: &Attempt| {
        for step in 1..=4 {
            attempt.progress(f64::from(step) / 4.0, Some(format!("step {step}"))).unwrap();
        }
        echo(attempt)
    });
    let handle = submit(&engine, &steps, "1");
    assert_eq!(result(&handle), "1");
    let kept: Vec<_> =
        history(&handle).progress.into_iter().map(|step| (step.value, step.message.unwrap())).collect();
    let all = [(0.25, "step 1"), (0.5, "step 2"), (0.75, "step 3"), (1.0, "step 4")];
    assert_eq!(kept, all.map(|(value, message)| (value, message.to_owned())));
}

#[test]
fn of_many_steps_the_newest_are_kept() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let steps = register(&timed.engine, "steps", |attempt: &Attempt| {
            for step in 0..1_000 {
                attempt.progress(f64::from(step) / 1_000.0, None).unwrap();
            }
            echo(attempt)
        });
        let handle = submit(&timed.engine, &steps, "1");
        assert_eq!(result(&handle), "1");
        let progress = history(&handle).progress;
        assert_eq!(progress.last().unwrap().value, 0.999);
        assert!(progress.len() <= MAX_PROGRESS);
        assert!(progress.is_sorted_by(|a, b| a.value < b.value));
        if place.is_memory() {
            assert_eq!(progress.len(), MAX_PROGRESS);
        }
    });
}

#[test]
fn what_each_attempt_logs_is_kept_in_order() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let entry = register_with(&timed.engine, "log", at_once(1), |attempt: &Attempt| {
            let number = attempt.fence().attempt;
            for line in 0..3 {
                attempt.log("info", format!("{number}.{line}")).unwrap();
            }
            if number == 1 { Outcome::failure("Again", "") } else { echo(attempt) }
        });
        let handle = submit(&timed.engine, &entry, "1");
        eventually("it ended", || {
            timed.step();
            handle.is_done()
        });
        assert_eq!(lines(&handle), ["1.0", "1.1", "1.2", "2.0", "2.1", "2.2"]);
        let log = history(&handle).log;
        assert_eq!((log[2].attempt, log[3].attempt, log[0].level.as_str()), (1, 2, "info"));
        let again = timed.engine.get(handle.id()).unwrap().unwrap();
        assert_eq!(lines(&again), lines(&handle));
    });
}

#[test]
fn a_log_keeps_the_newest_lines_within_its_bounds() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let entry = register(&timed.engine, "log", |attempt: &Attempt| {
            let line = if payload(attempt) == b"long" { "x".repeat(1_000) } else { String::new() };
            for number in 0..1_000 {
                attempt.log("info", format!("{line}{number}")).unwrap();
            }
            echo(attempt)
        });
        for kind in ["short", "long"] {
            let handle = submit(&timed.engine, &entry, kind);
            assert_eq!(result(&handle), kind);
            let log = lines(&handle);
            let bytes: usize = log.iter().map(String::len).sum();
            assert!(
                log.len() <= MAX_LOG_LINES && bytes <= MAX_LOG_BYTES,
                "{} lines, {bytes} bytes",
                log.len()
            );
            assert!(log.len() == MAX_LOG_LINES || bytes > MAX_LOG_BYTES - 2_000);
            assert!(log.last().unwrap().ends_with("999"));
            assert_eq!(history(&handle).log_dropped as usize, 1_000 - log.len(), "{kind}");
        }
    });
}

#[test]
fn a_huge_line_is_cut() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let entry = register(&timed.engine, "log", |attempt: &Attempt| {
            attempt.log("info", "ü".repeat(5 << 20)).unwrap();
            attempt.log("info", "after".into()).unwrap();
            echo(attempt)
        });
        let handle = submit(&timed.engine, &entry, "1");
        assert_eq!(result(&handle), "1");
        let log = lines(&handle);
        assert_eq!((log.len(), log[1].as_str()), (2, "after"));
        assert!(log[0].len() <= MAX_LOG_LINE && log[0].ends_with("ü…"), "{} bytes", log[0].len());
    });
}

#[test]
fn a_handler_that_logs_a_lot_costs_few_writes() {
    let disk = Disk::new();
    let engine = Engine::new(disk.store(), options(1)).unwrap();
    engine.start().unwrap();
    let gate = disk.clone();
    let entry = register(&engine, "log", move |attempt: &Attempt| {
        // While one write is under way, all that is told meanwhile is gathered for the next.
        gate.gate.shut();
        for number in 0..10_000 {
            attempt.log("info", number.to_string()).unwrap();
            attempt.progress(f64::from(number) / 10_000.0, None).unwrap();
        }
        gate.gate.open();
        echo(attempt)
    });
    let before = disk.writes.len();
    let handle = submit(&engine, &entry, "1");
    assert_eq!(result(&handle), "1");
    let writes = disk.writes.len() - before;
    assert!(writes < 10, "{writes} writes");
    let kept = disk.row(handle.id()).history.unwrap();
    let newest: Vec<_> = kept.log.iter().map(|line| line.message.clone()).collect();
    let expected: Vec<_> = (10_000 - MAX_LOG_LINES..10_000).map(|number| number.to_string()).collect();
    assert_eq!(newest, expected);
    assert_eq!(
        kept.log_dropped as usize,
        10_000 - MAX_LOG_LINES,
        "what never came to the store is counted too"
    );
    assert_eq!(kept.newest_progress().unwrap().value, 0.9999);
}

#[test]
fn what_is_told_after_the_end_is_refused() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let block = gated(&timed.engine, "block", Options::default());
        let handle = submit(&timed.engine, &block.entry, "1");
        let attempt = block.begun.wait_for(1).remove(0);
        block.gate.open();
        assert_eq!(result(&handle), "1");
        assert_eq!(attempt.log("info", "late".into()).unwrap_err().code(), Code::LeaseLost);
        let error = attempt.progress(1.0, None).unwrap_err();
        assert_eq!(error.code(), Code::LeaseLost);
        assert!(error.hint_text().is_some_and(|hint| hint.contains("timed out, or")), "{error:?}");
        assert!(lines(&handle).is_empty());
    });
}

#[test]
fn a_result_has_its_metadata() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let entry = register(&timed.engine, "noted", |_: &Attempt| Outcome::Succeeded {
            result: (*b"1").into(),
            metadata: Some((*b"{\"rows\":7}").into()),
        });
        let handle = submit(&timed.engine, &entry, "1");
        assert_eq!(result(&handle), "1");
        assert_eq!(history(&handle).result_metadata.as_deref(), Some(&b"{\"rows\":7}"[..]));
        let again = timed.engine.get(handle.id()).unwrap().unwrap();
        assert_eq!(history(&again).result_metadata.as_deref(), Some(&b"{\"rows\":7}"[..]));
    });
}
