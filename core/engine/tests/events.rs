//! What a subscriber is told of a task's life: each event in its place, once, with what the catalogue promises.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::disk::Disk;
use common::stores::{File, Place, on_both};
use common::watch::{Watch, data, names};
use common::*;
use taskloom_engine::{Attempt, Handle, Outcome, Stop};
use taskloom_model::{Name, Options, Priority, RetryPolicy, State, When};

fn retries(count: u32) -> Options {
    let retry = Some(RetryPolicy { base: seconds(100), factor: 1.0, cap: seconds(100) });
    Options { retries: Some(count), retry, ..Options::default() }
}

#[test]
fn a_task_that_succeeds_is_submitted_started_and_succeeds() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let watch = Watch::on(&timed.engine, "task.*");
        let echo = register(&timed.engine, "echo", echo);
        for _ in 0..200 {
            let options = Options {
                tags: vec!["a".into()],
                correlation_id: Some("request".into()),
                priority: Some(Priority::High),
                ..Options::default()
            };
            let handle = submit_with(&timed.engine, &echo, options, "1");
            let events = watch.until("task.succeeded");
            assert_eq!(names(&events), ["task.submitted", "task.started", "task.succeeded"]);
            assert!(events.iter().all(|event| event.task == Some(handle.id())));
            let submitted = data(&events[0]);
            assert_eq!(
                (&submitted["state"], &submitted["priority"], &submitted["correlation_id"]),
                (&"queued".into(), &"high".into(), &"request".into())
            );
            assert_eq!(submitted["tags"], serde_json::json!(["a"]));
            assert_eq!(data(&events[1])["attempt"], 1);
            assert_eq!(data(&events[2])["by_hand"], false);
            assert_eq!(result(&handle), "1");
        }
        assert!(watch.rest().is_empty());
    });
}

#[test]
fn each_of_many_submitted_at_once_is_told() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let watch = Watch::on(&timed.engine, "task.submitted");
        let echo = register(&timed.engine, "echo", echo);
        let payloads = (0..10).map(|_| ((*b"1").into(), None));
        let handles = timed.engine.submit_many(&echo, echo.admission(), payloads, false).unwrap();
        for handle in handles {
            assert_eq!(watch.next().task, Some(handle.id()));
        }
    });
}

#[test]
fn a_failure_that_is_retried_is_told_before_the_success() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let watch = Watch::on(&timed.engine, "task.*");
        let flaky = register_with(&timed.engine, "flaky", retries(1), |attempt: &Attempt| {
            match attempt.fence().attempt {
                1 => Outcome::failure("OSError", "disk \"full\""),
                _ => echo(attempt),
            }
        });
        submit(&timed.engine, &flaky, "1");
        let mut events = watch.until("task.retrying");
        timed.advance(seconds(100));
        events.extend(watch.until("task.succeeded"));
        assert_eq!(
            names(&events),
            [
                "task.submitted",
                "task.started",
                "task.retrying",
                "task.queued",
                "task.started",
                "task.succeeded"
            ]
        );
        let retrying = data(&events[2]);
        assert_eq!((&retrying["attempt"], &retrying["failures"]), (&1.into(), &1.into()));
        assert_eq!(retrying["error"]["type"], "OSError");
        assert_eq!(retrying["error"]["message"], "disk \"full\"");
        assert!(retrying["delay"].as_f64().unwrap() > 0.0);
        assert_eq!(data(&events[3])["from"], "retrying");
        assert_eq!(data(&events[4])["attempt"], 2);
    });
}

#[test]
fn a_failure_for_good_is_told() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let watch = Watch::on(&timed.engine, "task.*");
        let bad = register(&timed.engine, "bad", |_: &Attempt| Outcome::failure("Bad", "no"));
        submit(&timed.engine, &bad, "1");
        let events = watch.until("task.failed");
        assert_eq!(names(&events), ["task.submitted", "task.started", "task.failed"]);
        let failed = data(&events[2]);
        assert_eq!((&failed["failures"], &failed["error"]["type"]), (&1.into(), &"Bad".into()));
        assert!(failed.get("crashes").is_none());
    });
}

#[test]
fn timeouts_are_told_with_the_limit_that_was_passed() {
    on_both(|place| {
        let timed = place.timed(2).started();
        let watch = Watch::on(&timed.engine, "task.*");
        let slow = gated(&timed.engine, "slow", Options::default());
        for (options, limit) in [
            (Options { timeout: Some(seconds(5)), ..Options::default() }, "timeout"),
            (Options { deadline: Some(When::In(seconds(5))), ..Options::default() }, "deadline"),
        ] {
            let begun = slow.begun.len();
            submit_with(&timed.engine, &slow.entry, options, "1");
            slow.begun.wait_for(begun + 1);
            timed.advance(seconds(5));
            let events = watch.until("task.timed_out");
            assert_eq!(names(&events), ["task.submitted", "task.started", "task.timed_out"]);
            assert_eq!(data(&events[2])["limit"], limit);
            assert_eq!(data(&events[2])["duration"], 5.0);
        }
        slow.gate.open();
    });
}

#[test]
fn a_timeout_that_is_retried_is_told_as_such() {
    on_both(|place| {
        let timed = place.timed(2).started();
        let watch = Watch::on(&timed.engine, "task.*");
        let slow = gated(&timed.engine, "slow", Options { timeout: Some(seconds(5)), ..retries(1) });
        submit(&timed.engine, &slow.entry, "1");
        slow.begun.wait_for(1);
        timed.advance(seconds(5));
        let events = watch.until("task.retrying");
        assert_eq!(names(&events), ["task.submitted", "task.started", "task.retrying"]);
        assert_eq!(data(&events[2])["error"]["type"], "TaskTimedOut");
        slow.gate.open();
    });
}

#[test]
fn a_cancellation_tells_the_state_that_was_left() {
    on_both(|place| {
        let timed = place.timed(1);
        let watch = Watch::on(&timed.engine, "task.*");
        let slow = gated(&timed.engine, "slow", Options::default());
        let bad = register_with(&timed.engine, "bad", retries(1), |_: &Attempt| Outcome::failure("Bad", ""));
        let cancelled = |handle: &Handle, from: &str| {
            assert!(handle.cancel(Some("not wanted")).unwrap());
            let events = watch.until("task.cancelled");
            let last = data(events.last().unwrap());
            assert_eq!((&last["from"], &last["reason"]), (&from.into(), &"not wanted".into()));
            assert_eq!(last.get("duration").is_some(), from == "running");
            names(&events)
        };
        let later = Options { eta: Some(When::In(seconds(60))), ..Options::default() };
        let pending = submit_with(&timed.engine, &slow.entry, later, "1");
        assert_eq!(cancelled(&pending, "pending"), ["task.submitted", "task.cancelled"]);
        let queued = submit(&timed.engine, &slow.entry, "1");
        assert_eq!(cancelled(&queued, "queued"), ["task.submitted", "task.cancelled"]);
        timed.engine.start().unwrap();
        let retrying = submit(&timed.engine, &bad, "1");
        // The worker commits, and then tells; whoever sees the commit could be told of the cancellation first.
        assert_eq!(watch.names_until("task.retrying"), ["task.submitted", "task.started", "task.retrying"]);
        assert_eq!(cancelled(&retrying, "retrying"), ["task.cancelled"]);
        let running = submit(&timed.engine, &slow.entry, "1");
        slow.begun.wait_for(1);
        assert_eq!(cancelled(&running, "running"), ["task.submitted", "task.started", "task.cancelled"]);
        slow.gate.open();
        eventually("its report is refused", || timed.engine.worker_counts().3 == 1);
        assert!(watch.rest().is_empty());
    });
}

#[test]
fn expiries_and_delays_are_told() {
    on_both(|place| {
        let timed = place.timed(1);
        let watch = Watch::on(&timed.engine, "task.*");
        let echo = register(&timed.engine, "echo", echo);
        let soon = Options { expires: Some(When::In(seconds(5))), ..Options::default() };
        submit_with(&timed.engine, &echo, soon, "1");
        timed.advance(seconds(5));
        assert_eq!(watch.names_until("task.expired"), ["task.submitted", "task.expired"]);

        let past = Options { expires: Some(When::In(Duration::ZERO)), ..Options::default() };
        submit_with(&timed.engine, &echo, past, "1");
        assert_eq!(watch.names_until("task.expired"), ["task.expired"], "it never was anything else");

        timed.engine.start().unwrap();
        let later = Options { eta: Some(When::In(seconds(60))), ..Options::default() };
        submit_with(&timed.engine, &echo, later, "1");
        timed.advance(seconds(60));
        let events = watch.until("task.succeeded");
        assert_eq!(names(&events), ["task.submitted", "task.queued", "task.started", "task.succeeded"]);
        let submitted = data(&events[0]);
        assert_eq!((&submitted["state"], &submitted["waiting_for"]), (&"pending".into(), &"eta".into()));
        assert!(submitted["eta"].is_string());
        assert_eq!(data(&events[1])["from"], "pending");
    });
}

#[test]
fn what_waited_ahead_of_the_workers_and_expired_was_never_released() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let block = gated(&timed.engine, "block", Options::default());
        submit(&timed.engine, &block.entry, "1");
        block.begun.wait_for(1);
        let watch = Watch::on(&timed.engine, "task.*");
        let soon = Options { expires: Some(When::In(seconds(5))), ..Options::default() };
        submit_with(&timed.engine, &block.entry, soon, "1");
        timed.advance(seconds(5));
        assert_eq!(watch.names_until("task.expired"), ["task.submitted", "task.expired"]);
        block.gate.open();
    });
}

#[test]
fn progress_log_and_events_of_the_users_own_come_between_start_and_end() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let watch = Watch::on(&timed.engine, "*");
        let steps = register(&timed.engine, "steps", |attempt: &Attempt| {
            attempt.progress(0.5, Some("half".into())).unwrap();
            attempt.log("warning", "careful".into()).unwrap();
            attempt.publish("order.paid", r#"{"order": 7}"#).unwrap();
            echo(attempt)
        });
        submit(&timed.engine, &steps, "1");
        let events = watch.until("task.succeeded");
        assert_eq!(
            names(&events),
            [
                "handler.registered",
                "task.submitted",
                "task.started",
                "task.progress",
                "task.log",
                "order.paid",
                "task.succeeded"
            ]
        );
        assert_eq!(
            data(&events[3]),
            serde_json::json!({
                "name": "steps", "queue": "default", "attempt": 1, "value": 0.5, "message": "half"
            })
        );
        assert_eq!(data(&events[4])["level"], "warning");
        assert_eq!(data(&events[5]), serde_json::json!({"order": 7}));
        assert_eq!(events[5].task, events[6].task);
    });
}

#[test]
fn a_child_tells_its_parent() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let watch = Watch::on(&timed.engine, "task.submitted");
        let child = register(&timed.engine, "child", echo);
        let parent = register(&timed.engine, "parent", move |attempt: &Attempt| {
            attempt.submit(&child, child.admission(), (*b"1").into(), None, false).unwrap();
            echo(attempt)
        });
        let handle = submit(&timed.engine, &parent, "1");
        assert_eq!(watch.next().task, Some(handle.id()));
        assert_eq!(data(&watch.next())["parent"], handle.id().to_string());
        assert_eq!(result(&handle), "1");
    });
}

#[test]
fn the_end_of_an_engine_is_the_last_that_is_told() {
    on_both(|place| {
        let timed = place.timed(1);
        let watch = Watch::on(&timed.engine, "*");
        let slow = gated(&timed.engine, "slow", Options::default());
        timed.engine.start().unwrap();
        timed.engine.start().unwrap();
        submit(&timed.engine, &slow.entry, "1");
        slow.begun.wait_for(1);
        let engine = Arc::clone(&timed.engine);
        in_time("the stop", move || engine.stop(Stop::Within(Duration::ZERO)));
        timed.engine.stop(Stop::Finish);
        slow.gate.open();
        let events = watch.until("engine.stopped");
        assert_eq!(
            names(&events),
            [
                "handler.registered",
                "engine.started",
                "task.submitted",
                "task.started",
                "engine.stopping",
                "task.released",
                "engine.stopped"
            ]
        );
        assert_eq!(data(&events[1])["store"], if place.is_memory() { "memory" } else { "sqlite" });
        assert_eq!(data(&events[4])["within"], 0.0);
        assert_eq!(data(&events[5])["why"], "shutdown");
        assert_eq!(data(&events[6])["unfinished"], 1);
        assert!(watch.0.next(None).is_none() && watch.0.is_ended(), "nothing comes after the end");
        let error = timed.engine.subscribe("*", Default::default()).unwrap_err();
        assert_eq!(error.code(), taskloom_model::Code::ShutDown);
    });
}

#[test]
fn what_a_dead_process_ran_is_lost_and_then_fails() {
    let (file, clock) = (File::new(), HandClock::new());
    let heir = file.timed(&clock, options(1));
    let watch = Watch::on(&heir.engine, "task.*");
    let poison = Options { max_crashes: Some(2), ..Options::default() };
    heir.step();
    for (crashes, name) in [(1, "task.lost"), (2, "task.failed")] {
        let dead = file.timed(&clock, options(1)).started();
        let slow = gated(&dead.engine, "slow", poison.clone());
        if crashes == 1 {
            submit(&dead.engine, &slow.entry, "1");
        }
        slow.begun.wait_for(1);
        heir.advance(seconds(2));
        (0..5).for_each(|_| heir.advance(seconds(2)));
        let events = watch.until(name);
        assert_eq!(names(&events), [name], "what another engine did is not told here");
        assert_eq!(data(&events[0])["crashes"], crashes);
        slow.gate.open();
    }
}

#[test]
fn late_reports_and_stuck_workers_are_told() {
    on_both(|place| {
        let timed = place.timed(1).started();
        let watch = Watch::on(&timed.engine, "*");
        let slow = gated(&timed.engine, "slow", Options::default());
        let handle = submit(&timed.engine, &slow.entry, "1");
        slow.begun.wait_for(1);
        assert!(handle.cancel(None).unwrap());
        timed.step();
        timed.advance(Duration::from_millis(200));
        let events = watch.until("worker.stuck");
        assert_eq!(
            names(&events),
            ["handler.registered", "task.submitted", "task.started", "task.cancelled", "worker.stuck"]
        );
        let stuck = data(&events[4]);
        assert_eq!((&stuck["handler"], &stuck["worker"]), (&"slow".into(), &1.into()));
        slow.gate.open();
        let mut last = [watch.next(), watch.next()];
        last.sort_by_key(|event| event.name().to_owned());
        assert_eq!(names(&last), ["report.late", "worker.recovered"]);
        assert_eq!(data(&last[0])["report"], "succeed");
        assert_eq!((&data(&last[1])["worker"], last[1].task), (&1.into(), Some(handle.id())));
    });
}

#[test]
fn pauses_purges_and_registrations_are_told_once() {
    on_both(|place| {
        let timed = place.timed(1);
        let watch = Watch::on(&timed.engine, "*");
        let queue = Name::new("default");
        let entry = register(&timed.engine, "echo", echo);
        for _ in 0..2 {
            timed.engine.pause(queue).unwrap();
        }
        submit(&timed.engine, &entry, "1");
        assert_eq!(timed.engine.purge(queue).unwrap(), 1);
        for _ in 0..2 {
            timed.engine.resume(queue).unwrap();
        }
        let registration = taskloom_engine::Registration {
            version: Default::default(),
            replace: true,
            options: Options::default(),
            handler: taskloom_engine::Handler::Asynchronous(Arc::new(())),
            hook: None,
        };
        timed.engine.register_with("echo", registration).unwrap();
        let events = watch.until("handler.replaced");
        assert_eq!(
            names(&events),
            [
                "handler.registered",
                "queue.paused",
                "task.submitted",
                "task.cancelled",
                "queue.purged",
                "queue.resumed",
                "handler.replaced"
            ]
        );
        assert_eq!(data(&events[0])["kind"], "blocking");
        assert_eq!(data(&events[4])["count"], 1);
        assert_eq!(data(&events[6])["kind"], "async");
    });
}

#[test]
fn a_pause_tells_nothing_of_tasks_that_had_not_begun() {
    let place = Place::File(File::new());
    let timed = place.timed(1).started();
    let slow = gated(&timed.engine, "slow", Options::default());
    submit(&timed.engine, &slow.entry, "1");
    slow.begun.wait_for(1);
    let ahead = submit(&timed.engine, &slow.entry, "2");
    eventually("it is claimed ahead", || ahead.state() == State::Running);
    let watch = Watch::on(&timed.engine, "*");
    timed.engine.pause(Name::new("default")).unwrap();
    assert_state(&ahead, State::Queued);
    assert_eq!(watch.names_until("queue.paused"), ["queue.paused"]);
    slow.gate.open();
}

#[test]
fn a_subscriber_that_never_reads_holds_nothing_up_and_hears_what_it_missed() {
    on_both(|place| {
        let timed = place.timed(2).started();
        let options = taskloom_engine::SubscriptionOptions { capacity: 10, name: Some("lazy".into()) };
        let lazy = Watch(timed.engine.subscribe("task.*", options).unwrap());
        let others = Watch::on(&timed.engine, "events.dropped");
        let echo = register(&timed.engine, "echo", echo);
        let handles: Vec<_> = (0..100).map(|_| submit(&timed.engine, &echo, "1")).collect();
        handles.iter().for_each(|handle| assert_eq!(result(handle), "1"));
        // A result is there after its event.
        assert_eq!(lazy.0.len() as u64 + lazy.0.dropped(), 300);
        let events = lazy.rest();
        assert_eq!(events.len(), 11);
        let gap = data(&events[10]);
        assert_eq!((&gap["dropped"], &gap["subscriber"]), (&290.into(), &"lazy".into()));
        assert_eq!(data(&others.next()), gap);
        submit(&timed.engine, &echo, "1");
        assert_eq!(lazy.next().name(), "task.submitted");
    });
}

#[test]
fn a_write_that_fails_tells_nothing() {
    let disk = Disk::new();
    let engine = taskloom_engine::Engine::new(disk.store(), options(1)).unwrap();
    let watch = Watch::on(&engine, "task.*");
    let slow = gated(&engine, "slow", Options::default());
    disk.fail(1);
    assert!(try_submit(&engine, &slow.entry, Options::default(), "1").is_err());
    assert!(watch.rest().is_empty());
    engine.start().unwrap();
    let handle = submit(&engine, &slow.entry, "1");
    slow.begun.wait_for(1);
    assert_eq!(watch.names_until("task.started"), ["task.submitted", "task.started"]);
    disk.fail(1);
    assert!(handle.cancel(None).is_err());
    assert!(watch.rest().is_empty());
    disk.fail(2);
    slow.gate.open();
    assert_eq!(result(&handle), "1");
    assert_eq!(disk.failed.len(), 4, "the report was tried three times");
    assert_eq!(watch.names_until("task.succeeded"), ["task.succeeded"]);
}
