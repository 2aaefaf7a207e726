//! Days by seeds. `TASKLOOM_SEEDS` says how many, `TASKLOOM_FIRST_SEED` from which on; a failure names its seed. Unless somebody
//! says how many, it is a morning instead of a day, for builds that are not optimized.

use std::time::Duration;

use taskloom_simulator::{Plan, simulate};

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn nothing_goes_wrong_on_any_day() {
    let (first, seeds) = (variable("TASKLOOM_FIRST_SEED").unwrap_or(0), variable("TASKLOOM_SEEDS"));
    let (mut attempts, mut refused, mut fired) = (0, 0, 0);
    for seed in first..first + seeds.unwrap_or(4) {
        let day = Plan::of(seed);
        let morning = Plan { day: Duration::from_secs(3 * 3600), tasks: 300, ..day.clone() };
        let report = simulate(if seeds.is_some() { &day } else { &morning });
        report.expect_right();
        assert!(
            report.acknowledged > u64::from(report.plan.tasks / 2),
            "seed {seed}: {} tasks were accepted",
            report.acknowledged
        );
        attempts += report.attempts;
        refused += report.refused;
        fired += report.fired;
    }
    println!("{attempts} attempts, {fired} firings, {refused} late reports refused");
    assert!(fired > 50, "schedules did not fire: {fired}");
    assert!(refused > 0, "no report ever came late: the simulation is not what it should be");
}

#[test]
fn the_same_seed_gives_the_same_day() {
    for seed in [1, 3] {
        let plan = Plan { day: Duration::from_secs(2 * 3600), tasks: 400, ..Plan::of(seed) };
        let (one, other) = (simulate(&plan), simulate(&plan));
        assert_eq!((one.hash, one.events), (other.hash, other.events), "seed {seed}");
        let another = simulate(&Plan { seed: seed + 1_000, ..plan });
        assert_ne!(one.hash, another.hash);
    }
}
