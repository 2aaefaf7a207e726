//! Delayed tasks: how exactly they start by the real clock, what it costs to add one, and what an hour of them costs by a
//! virtual clock.
//!
//! The first figure is for an idle engine: each task is alone, and its lateness is from its time to the first line of its
//! handler. That adding one costs O(log n) or better is told by what the last of a million cost beside the first.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use taskloom_engine::{
    Attempt, Clock, Drive, Engine, EngineOptions, Handler, Outcome, Stop, SystemClock, VirtualClock,
};
use taskloom_model::{Options, When};
use taskloom_store::{MemoryOptions, MemoryStore};

const SAMPLES: usize = 1_000;
const TASKS: usize = 1_000_000;
const BATCH: usize = 10_000;

fn delayed(delay: Duration) -> Options {
    Options { eta: Some(When::In(delay)), ..Options::default() }
}

fn engine(drive: Drive) -> Engine {
    let store = MemoryStore::new(MemoryOptions { capacity: usize::MAX / 2, ..MemoryOptions::default() });
    let options = EngineOptions { drive, workers: 2, ..EngineOptions::default() };
    Engine::new(Box::new(store), options).expect("a memory store can always be joined")
}

/// How late tasks start on an idle engine: the 99th of a hundred.
fn lateness() -> Duration {
    let engine = engine(Drive::Threads);
    let (sender, receiver) = channel();
    let handler = move |attempt: &Attempt| {
        let due = attempt.task().spec().eta().expect("it is delayed");
        let _ = sender.send(SystemClock.now().since(due));
        Outcome::success(*b"null")
    };
    let entry = engine
        .register("late", Options::default(), Handler::Blocking(Box::new(handler)))
        .expect("a new name");
    engine.start().expect("threads can be started");
    let mut late: Vec<_> = (0..SAMPLES)
        .map(|number| {
            // Not in step with anything.
            let delay = Duration::from_micros(2_000 + 37 * (number as u64 % 101));
            let admission = engine.admission(&delayed(delay)).expect("options that make sense");
            engine.submit(&entry, &admission, Default::default(), None, false).expect("there is room");
            receiver.recv().expect("it runs")
        })
        .collect();
    engine.stop(Stop::Finish);
    late.sort_unstable();
    println!(
        "due task on an idle engine: p50 {:?}, p99 {:?} late (floor: 2 ms)",
        late[SAMPLES / 2],
        late[SAMPLES * 99 / 100]
    );
    late[SAMPLES * 99 / 100]
}

/// What the first and the last of many delayed tasks cost to add, each.
fn adding() -> (Duration, Duration) {
    let engine = engine(Drive::Stepped);
    let entry = engine
        .register(
            "noop",
            Options::default(),
            Handler::Blocking(Box::new(|_: &Attempt| Outcome::success(*b"null"))),
        )
        .expect("a new name");
    let mut delay = 0u64;
    let mut costs: Vec<Duration> = (0..TASKS / BATCH)
        .map(|_| {
            let began = SystemClock.monotonic();
            for _ in 0..BATCH {
                delay = (delay + 2_654_435_761) % 3_600_000_000;
                let admission = engine
                    .admission(&delayed(Duration::from_micros(delay)))
                    .expect("options that make sense");
                engine.submit(&entry, &admission, Default::default(), None, false).expect("there is room");
            }
            (SystemClock.monotonic() - began) / BATCH as u32
        })
        .collect();
    engine.stop(Stop::Within(Duration::ZERO));
    let half = costs.split_off(costs.len() / 2);
    let median = |mut costs: Vec<Duration>| {
        costs.sort_unstable();
        costs[costs.len() / 2]
    };
    let (first, last) = (median(costs), median(half));
    println!("adding a delayed task: {first:?} among the first half million, {last:?} among the second");
    (first, last)
}

/// An hour of them by a virtual clock.
fn an_hour() {
    let clock = Arc::new(VirtualClock::default());
    let engine = engine(Drive::Driven(clock));
    let entry = engine
        .register(
            "noop",
            Options::default(),
            Handler::Blocking(Box::new(|_: &Attempt| Outcome::success(*b"null"))),
        )
        .expect("a new name");
    engine.start().expect("no thread is needed");
    let began = SystemClock.monotonic();
    let mut delay = 0u64;
    for _ in 0..100_000 {
        delay = (delay + 2_654_435_761) % 3_600_000_000;
        let admission =
            engine.admission(&delayed(Duration::from_micros(delay))).expect("options that make sense");
        engine.submit(&entry, &admission, Default::default(), None, false).expect("there is room");
    }
    engine.advance(Duration::from_secs(3600)).expect("it comes to an end");
    println!("100,000 delayed tasks over an hour of virtual time: {:?}", SystemClock.monotonic() - began);
}

fn main() {
    let late = lateness();
    let (first, last) = adding();
    an_hour();
    assert!(late <= Duration::from_millis(2), "a due task starts {late:?} late");
    assert!(last <= first * 3, "adding a delayed task grows from {first:?} to {last:?}");
}
