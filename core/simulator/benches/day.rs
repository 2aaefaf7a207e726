//! What a simulated day costs: 100,000 tasks with retries, timeouts, children and schedules, on a memory store, checked.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the real clock")]

use std::time::{Duration, Instant};

use taskloom_simulator::{Plan, simulate};

fn main() {
    let mut worst = Duration::ZERO;
    for seed in 0..3 {
        let began = Instant::now();
        let report = simulate(&Plan::plain(seed, 100_000));
        let took = began.elapsed();
        report.expect_right();
        println!(
            "a day of {} tasks, {} attempts, {} events: {took:?} (floor: 2 s)",
            report.acknowledged, report.attempts, report.events
        );
        worst = worst.max(took);
    }
    assert!(worst < Duration::from_secs(2), "a simulated day took {worst:?}");
}
