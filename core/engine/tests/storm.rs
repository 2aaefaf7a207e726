//! Everything at once: many threads submit, cancel and wait; attempts fail, panic, take too long and beget others.
//! Whatever happens, every handle settles, and says the same ever after.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use common::disk::Disk;
use common::*;
use taskloom_engine::{Attempt, Engine, Handle, HandlerEntry, Outcome, Stop};
use taskloom_model::{Code, Options, Priority, RetryPolicy, State, Timestamp, When};
use taskloom_store::{MemoryStore, Store};

/// A small generator: the same storm each time, but for the weather of the threads.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

fn some_options(dice: &mut Dice) -> Options {
    let mut options = Options {
        priority: Some(Priority::ALL[dice.roll(4) as usize]),
        queue: Some(["a", "b", "c"][dice.roll(3) as usize].into()),
        retries: Some(dice.roll(3) as u32),
        retry: Some(RetryPolicy { base: Duration::from_micros(200), ..RetryPolicy::default() }),
        ..Options::default()
    };
    match dice.roll(6) {
        0 => options.timeout = Some(Duration::from_micros(dice.roll(2_000) + 1)),
        1 => options.eta = Some(When::In(Duration::from_micros(dice.roll(2_000)))),
        2 => options.expires = Some(When::In(Duration::from_micros(dice.roll(5_000)))),
        _ => {}
    }
    options
}

/// Panics that belong to the test are not printed.
fn hush() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if panic.payload_as_str() != Some("thunder") {
                usual(panic);
            }
        }));
    });
}

/// The kind of a task that ends only when it is called off.
const ENDLESS: u32 = 1_004;

/// One task for each end that the weather may have spared: which these come to is no matter of chance.
fn sure_ends(
    engine: &Engine,
    entry: &Arc<HandlerEntry>,
    settled: &Arc<AtomicUsize>,
) -> impl Iterator<Item = (Handle, bool)> {
    let hour = Some(When::In(Duration::from_secs(3_600)));
    let cancelled = submit_with(engine, entry, Options { eta: hour, ..Options::default() }, "9");
    assert!(engine.cancel_task(cancelled.task(), Some("lightning")).unwrap());
    let past = Some(When::At(Timestamp::from_micros(1)));
    let expired = submit_with(engine, entry, Options { expires: past, ..Options::default() }, "9");
    let brief = Options { timeout: Some(Duration::from_millis(1)), ..Options::default() };
    let timed_out = submit_with(engine, entry, brief, &ENDLESS.to_string());
    let others = [(cancelled, true), (expired, false), (timed_out, false)];
    let plain = ["0", "9"].map(|kind| (submit(engine, entry, kind), false));
    others.into_iter().chain(plain).map(move |(handle, cancelled)| {
        let settled = Arc::clone(settled);
        handle.task().observe(move |_| {
            settled.fetch_add(1, Ordering::Relaxed);
        });
        (handle, cancelled)
    })
}

fn storm(store: Box<dyn Store>, threads: u64, each: u64) {
    hush();
    let engine = Arc::new(Engine::new(store, options(3)).unwrap());
    engine.start().unwrap();
    let me: Arc<OnceLock<(Weak<Engine>, Arc<HandlerEntry>)>> = Arc::default();
    let own = Arc::clone(&me);
    let attempts = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&attempts);
    let entry = register(&engine, "weather", move |attempt: &Attempt| {
        count.fetch_add(1, Ordering::Relaxed);
        let kind = number(attempt);
        match kind % 10 {
            0 => Outcome::failure("Bad", "luck"),
            1 => panic!("thunder"),
            2 => {
                // Until it is called off, or long enough. (It yields to nobody: beside busy processes each time could
                // take a slice of theirs, and thousands of them longer than anybody waits.)
                for _ in 0..10_000 {
                    if attempt.is_cancelled() {
                        break;
                    }
                    std::hint::spin_loop();
                }
                echo(attempt)
            }
            3 if kind < 100 => {
                let (engine, entry) = own.get().unwrap();
                let child = submit(&engine.upgrade().unwrap(), entry, "109");
                assert!(child.wait(None).unwrap());
                echo(attempt)
            }
            4 if kind == ENDLESS => {
                while !attempt.is_cancelled() {
                    std::thread::yield_now();
                }
                echo(attempt)
            }
            _ => echo(attempt),
        }
    });
    assert!(me.set((Arc::downgrade(&engine), Arc::clone(&entry))).is_ok());
    let settled = Arc::new(AtomicUsize::new(0));
    let handles: Vec<(Handle, bool)> = std::thread::scope(|scope| {
        let (engine, entry, settled) = (&engine, &entry, &settled);
        let throwing = (0..threads).map(|thread| {
            scope.spawn(move || {
                let mut dice = Dice(thread + 1);
                let mut mine: Vec<(Handle, bool)> = Vec::new();
                for _ in 0..each {
                    let kind = dice.roll(100).to_string();
                    let handle = submit_with(engine, entry, some_options(&mut dice), &kind);
                    let settled = Arc::clone(settled);
                    handle.task().observe(move |_| {
                        settled.fetch_add(1, Ordering::Relaxed);
                    });
                    mine.push((handle, false));
                    if dice.roll(5) == 0 {
                        let victim = dice.roll(mine.len() as u64) as usize;
                        let (handle, cancelled) = &mut mine[victim];
                        *cancelled |= engine.cancel_task(handle.task(), Some("lightning")).unwrap();
                    }
                    if dice.roll(50) == 0 {
                        let (handle, _) = &mine[dice.roll(mine.len() as u64) as usize];
                        assert!(handle.wait(Some(LONG)).unwrap(), "{handle:?}");
                    }
                }
                mine
            })
        });
        let throwing: Vec<_> = throwing.collect();
        throwing.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let handles: Vec<_> = handles.into_iter().chain(sure_ends(&engine, &entry, &settled)).collect();
    let ends: Vec<_> = handles
        .iter()
        .map(|(handle, cancelled)| {
            assert!(handle.wait(Some(LONG)).unwrap(), "{handle:?} never settled");
            assert!(handle.state().is_terminal(), "{handle:?}");
            assert_eq!(handle.state() == State::Cancelled, *cancelled, "{handle:?}: who was told so is");
            (handle.state(), handle.task().with_row(Clone::clone))
        })
        .collect();
    let own = Arc::clone(&engine);
    in_time("the stop", move || own.stop(Stop::Finish));
    for ((handle, _), (state, row)) in handles.iter().zip(&ends) {
        assert_eq!(handle.state(), *state);
        handle.task().with_row(|now| assert_eq!(now, row, "nothing changes after the end"));
        if let Err(error) = handle.outcome() {
            assert_ne!(error.code(), Code::ShutDown, "{handle:?}");
        }
    }
    assert_eq!(settled.load(Ordering::Relaxed), handles.len());
    let kinds = |state| ends.iter().filter(|(end, _)| *end == state).count();
    for state in [State::Succeeded, State::Failed, State::Cancelled, State::Expired, State::TimedOut] {
        assert!(kinds(state) > 0, "nothing ended as {state}");
    }
    eventually("every thread has gone", || engine.worker_counts().0 == 0);
}

#[test]
fn in_memory() {
    storm(Box::new(MemoryStore::default()), 4, 3_000);
}

#[test]
fn on_disk() {
    storm(Disk::new().store(), 4, 400);
}
