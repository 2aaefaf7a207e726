//! Bugs that are planted, and found.

use std::time::Duration;

use taskloom_model::planted::{Bug, plant};
use taskloom_simulator::{Plan, simulate};

/// What the simulator says of a bug, in the first of a few days.
fn found(bug: Bug) -> String {
    plant(Some(bug));
    let found = (0..12).find_map(|seed| {
        simulate(&Plan { tasks: 400, day: Duration::from_secs(3 * 3600), ..Plan::of(seed) }).wrong
    });
    plant(None);
    let found = found.unwrap_or_else(|| panic!("{bug:?} was not found in twelve days"));
    found.lines().next().unwrap_or_default().to_owned()
}

/// A bug, and what must be said of it.
macro_rules! finds {
    ($($test:ident $bug:ident $said:literal)*) => {$(
        #[test]
        fn $test() {
            let said = found(Bug::$bug);
            assert!(said.contains($said), "{said}");
        }
    )*};
}

finds! {
    a_lost_wake_up LostWakeUp "for ever"
    a_double_finish DoubleFinish "was let to"
    a_missed_retry MissedRetry "it is failed after 1 failures"
    an_early_start EarlyStart "before"
    a_unique_key_that_is_ignored IgnoredKey "the unique key"
    a_dead_owner_that_is_forgotten ForgottenOwner "for ever"
    a_tick_that_fires_twice DoubleFiring "fired twice"
    a_limit_that_is_exceeded ExceededLimit "run at once, and the limit is 2"
    a_failure_that_does_not_count UncountedFailure "failures are on its row"
}
