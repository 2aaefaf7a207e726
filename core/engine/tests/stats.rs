//! An engine in figures, and its health.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::disk::Disk;
use common::stores::on_both;
use common::*;
use taskloom_engine::{Attempt, Count, Engine, Figures, Outcome, Stats, Stop};
use taskloom_model::{Name, Options, RetryPolicy, State, When};

fn queue(stats: &Stats, name: &str) -> taskloom_engine::QueueStats {
    stats.queues.iter().find(|queue| queue.name.as_str() == name).unwrap().clone()
}

fn handler(stats: &Stats, name: &str) -> Figures {
    stats.handlers.iter().find(|handler| handler.name.as_str() == name).unwrap().figures.clone()
}

#[test]
fn counts_are_by_queue_and_state() {
    on_both(|place| {
        let timed = place.timed(1);
        let echo = register(&timed.engine, "echo", echo);
        let mail = |eta| Options { queue: Some("mail".into()), eta, ..Options::default() };
        submit(&timed.engine, &echo, "1");
        submit_with(&timed.engine, &echo, mail(None), "1");
        submit_with(&timed.engine, &echo, mail(Some(When::In(seconds(60)))), "1");
        submit_with(&timed.engine, &echo, mail(None), "1").cancel(None).unwrap();
        timed.engine.pause(Name::new("quiet")).unwrap();
        let stats = timed.engine.stats().unwrap();
        let names: Vec<_> = stats.queues.iter().map(|queue| queue.name.as_str()).collect();
        assert_eq!(names, ["default", "mail", "quiet"]);
        let mail = queue(&stats, "mail");
        assert_eq!(
            [State::Queued, State::Pending, State::Cancelled].map(|state| mail.tasks.get(state)),
            [1, 1, 1]
        );
        assert_eq!(queue(&stats, "default").tasks.unfinished(), 1);
        assert_eq!((mail.paused, queue(&stats, "quiet").paused), (false, true));
        assert_eq!((stats.tasks.unfinished(), stats.tasks.get(State::Queued)), (3, 2));
        assert_eq!((stats.registry.handlers, stats.subscribers, stats.workers), (1, 0, 0));
    });
}

#[test]
fn each_end_is_counted_once() {
    on_both(|place| {
        let timed = place.timed(2).started();
        let retry = Some(RetryPolicy { base: seconds(100), factor: 1.0, cap: seconds(100) });
        let retries = |count| Options { retries: Some(count), retry, ..Options::default() };
        let good = register(&timed.engine, "good", echo);
        let bad = register_with(&timed.engine, "bad", retries(2), |_: &Attempt| Outcome::failure("Bad", ""));
        let slow = gated(&timed.engine, "slow", Options { timeout: Some(seconds(5)), ..retries(1) });
        for _ in 0..3 {
            assert_eq!(result(&submit(&timed.engine, &good, "1")), "1");
        }
        let failing = submit(&timed.engine, &bad, "1");
        eventually("it fails for good", || {
            timed.advance(seconds(100));
            failing.is_done()
        });
        let slow_one = submit(&timed.engine, &slow.entry, "1");
        slow.begun.wait_for(1);
        timed.advance(seconds(5));
        assert_state(&slow_one, State::Retrying);
        slow_one.cancel(None).unwrap();
        let expiring = Options {
            expires: Some(When::In(seconds(1))),
            eta: Some(When::In(Duration::from_millis(1))),
            ..Options::default()
        };
        timed.engine.pause(Name::new("default")).unwrap();
        submit_with(&timed.engine, &good, expiring, "1");
        timed.advance(seconds(5));
        slow.gate.open();
        eventually("its report is refused", || timed.engine.worker_counts().3 == 1);

        let all = |stats: &Stats, name: &str| {
            let figures = handler(stats, name);
            [
                figures.started(),
                figures.of(Count::Succeeded),
                figures.of(Count::Failed),
                figures.of(Count::Retried),
                figures.of(Count::TimedOut),
                figures.of(Count::Cancelled),
                figures.of(Count::Expired),
                figures.of(Count::Late),
            ]
        };
        let stats = timed.engine.stats().unwrap();
        assert_eq!(all(&stats, "good"), [3, 3, 0, 0, 0, 0, 1, 0]);
        assert_eq!(all(&stats, "bad"), [3, 0, 3, 2, 0, 0, 0, 0]);
        // What its handler reported in the end is late, and nothing else.
        assert_eq!(all(&stats, "slow"), [1, 0, 0, 1, 1, 1, 0, 1]);
        assert_eq!(handler(&stats, "slow").ended(), 1, "it ended all the same, and took its time");
        assert_eq!(stats.total.started(), 7);
        assert_eq!(queue(&stats, "default").figures.of(Count::Failed), 3);
        assert_eq!(stats.late_reports, 1);
        assert_eq!(handler(&stats, "slow").started(), 1);
    });
}

#[test]
fn what_runs_is_listed() {
    on_both(|place| {
        let timed = place.timed(1).started();
        timed.engine.set_loop(Some(Arc::new(Host::default())));
        let slow = gated(&timed.engine, "slow", Options::default());
        let entry = register_async(&timed.engine, "task", Options::default());
        let (blocking, asynchronous) =
            (submit(&timed.engine, &slow.entry, "1"), submit(&timed.engine, &entry, "2"));
        slow.begun.wait_for(1);
        let running = take_one(&timed.engine);
        timed.advance(seconds(7));
        let stats = timed.engine.stats().unwrap();
        assert_eq!((stats.running.len(), stats.in_flight, stats.workers, stats.away), (2, 1, 1, 0));
        let on_thread = stats.running.iter().find(|one| one.task == blocking.id()).unwrap();
        assert_eq!((on_thread.worker, on_thread.name.as_str(), on_thread.attempt), (Some(1), "slow", 1));
        assert_eq!((on_thread.running_for, on_thread.stuck), (seconds(7), false));
        let on_loop = stats.running.iter().find(|one| one.task == asynchronous.id()).unwrap();
        assert_eq!(on_loop.worker, None);

        blocking.cancel(None).unwrap();
        timed.step();
        timed.advance(seconds(1));
        let stats = timed.engine.stats().unwrap();
        assert_eq!((stats.stuck, stats.away, stats.workers), (1, 1, 2));
        assert!(stats.running.iter().any(|one| one.task == blocking.id() && one.stuck));
        let health = timed.engine.health();
        assert!(!health.ok && health.ready, "{health:?}");
        assert!(health.problems[0].ends_with("called off: 1"), "{health:?}");
        slow.gate.open();
        running.completion.complete(Outcome::success(*b"2"));
        assert_eq!(result(&asynchronous), "2");
        eventually("all is well again", || timed.engine.health().ok);
        eventually("nothing runs", || timed.engine.stats().unwrap().running.is_empty());
        timed.engine.set_loop(None);
    });
}

#[test]
fn health_follows_the_life_of_an_engine() {
    on_both(|place| {
        let timed = place.timed(1);
        let health = timed.engine.health();
        assert!(health.ok && !health.ready && health.problems.is_empty(), "{health:?}");
        timed.engine.start().unwrap();
        let health = timed.engine.health();
        assert!(health.ok && health.ready, "{health:?}");
        let slow = gated(&timed.engine, "slow", Options::default());
        submit(&timed.engine, &slow.entry, "1");
        slow.begun.wait_for(1);
        let engine = Arc::clone(&timed.engine);
        let stop = aside(move || engine.stop(Stop::Finish));
        until_it_drains(&timed.engine, &slow.entry);
        let health = timed.engine.health();
        assert!(!health.ok && !health.ready && health.problems[0].contains("stopping"), "{health:?}");
        slow.gate.open();
        in_time("the stop", move || stop.join().unwrap());
        let health = timed.engine.health();
        assert!(!health.ok && health.problems == ["the engine has stopped"], "{health:?}");
        let stats = timed.engine.stats().unwrap();
        assert_eq!((stats.workers, stats.running.len()), (0, 0));
        assert_eq!(stats.total.of(Count::Succeeded), 1);
    });
}

#[test]
fn only_what_began_counts_as_released() {
    let disk = Disk::new();
    let engine = Arc::new(Engine::new(disk.store(), options(1)).unwrap());
    engine.start().unwrap();
    let slow = gated(&engine, "slow", Options::default());
    submit(&engine, &slow.entry, "1");
    slow.begun.wait_for(1);
    let ahead: Vec<_> = (0..10).map(|_| submit(&engine, &slow.entry, "1")).collect();
    eventually("they are claimed ahead", || ahead.iter().all(|handle| handle.state() == State::Running));
    engine.pause(Name::new("default")).unwrap();
    assert_eq!(engine.stats().unwrap().total.of(Count::Released), 0);
    let own = Arc::clone(&engine);
    in_time("the stop", move || own.stop(Stop::Within(Duration::ZERO)));
    assert_eq!(engine.stats().unwrap().total.of(Count::Released), 1);
    slow.gate.open();
}
