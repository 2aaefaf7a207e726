//! Times that come.

use std::time::Duration;

use taskloom_model::{Operation, Options, State, WaitingFor};

use super::Harness;
use crate::scene::{Scene, moves, seconds};

/// Nothing happens before its time, not even a microsecond.
pub fn nothing_happens_early(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let begin = scene.now();
    scene.add(Options { eta: seconds(10), ..Options::default() });
    scene.add(Options { expires: seconds(10), ..Options::default() });
    scene.run(Options { deadline: seconds(10), ..Options::default() });
    let due = begin + Duration::from_secs(10);
    for early in [Duration::ZERO, Duration::from_secs(5), Duration::from_micros(9_999_999)] {
        scene.clock.set(begin + early);
        let (changes, next) = scene.elapse(100);
        assert!(changes.is_empty());
        assert_eq!(next, Some(due));
    }
    scene.clock.set(due);
    assert_eq!(scene.elapse(100).0.len(), 3);
}

/// A task is queued when its eta comes, eligible from then on.
pub fn an_eta_makes_eligible(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = scene.add(Options { eta: seconds(10), ..Options::default() });
    let now = scene.pass(12);
    let (changes, next) = scene.elapse(10);
    assert_eq!(moves(&changes), [(task.id(), Some(State::Pending), State::Queued)]);
    assert!(changes[0].effects.ready());
    assert_eq!(next, None);
    let row = scene.row(&task);
    assert_eq!((row.state, row.waiting_for, row.eligible), (State::Queued, WaitingFor::Nothing, now));
    assert_eq!(changes[0].task.with_row(Clone::clone), row);
}

/// The earliest comes first, whatever the order of arrival.
pub fn times_come_in_their_order(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let waits = [5, 1, 9, 3, 7];
    let tasks = waits.map(|wait| scene.add(Options { eta: seconds(wait), ..Options::default() }));
    scene.pass(20);
    let (changes, _) = scene.elapse(10);
    let order: Vec<_> = changes.iter().map(|change| change.task.id()).collect();
    assert_eq!(order, [1, 3, 0, 4, 2].map(|place: usize| tasks[place].id()));
}

/// At most the limit, the earliest of them; that there are more is told by a time that has come.
pub fn no_more_than_the_limit_and_the_rest_is_told(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    for wait in [4, 2, 1, 3, 5] {
        scene.add(Options { eta: seconds(wait), ..Options::default() });
    }
    let now = scene.pass(4);
    let (changes, next) = scene.elapse(3);
    let waited: Vec<_> = changes.iter().map(|change| change.task.spec().eta().unwrap()).collect();
    assert_eq!(waited, [3, 2, 1].map(|ago| now_minus(&scene, ago)));
    assert!(next.is_some_and(|next| next <= now), "{next:?}");
    let (changes, next) = scene.elapse(3);
    assert_eq!(changes.len(), 1);
    assert_eq!(next, Some(now + Duration::from_secs(1)));
}

fn now_minus(scene: &Scene, seconds: i64) -> taskloom_model::Timestamp {
    taskloom_model::Timestamp::from_micros(scene.now().micros() - seconds * 1_000_000)
}

/// The next time is told when there is one, and that there is none when there is none.
pub fn the_next_time_is_told(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    assert_eq!(scene.elapse(10).1, None);
    scene.add(Options::default());
    assert_eq!(scene.elapse(10).1, None);
    let begin = scene.now();
    scene.add(Options { eta: seconds(20), ..Options::default() });
    assert_eq!(scene.elapse(10).1, Some(begin + Duration::from_secs(20)));
    scene.add(Options { eta: seconds(10), expires: seconds(15), ..Options::default() });
    assert_eq!(scene.elapse(10).1, Some(begin + Duration::from_secs(10)));
    scene.pass(10);
    assert_eq!(scene.elapse(10).1, Some(begin + Duration::from_secs(15)));
    scene.pass(90);
    assert_eq!(scene.elapse(10).1, None);
}

/// A task that has not started by its expiry ends, whether it is pending, queued or retrying.
pub fn what_is_not_started_expires(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let expires = seconds(10);
    scene.add(Options { expires, ..Options::default() });
    let sleeping = scene.run(Options { expires, ..Options::default() });
    let (fence, waiting_for) = (scene.fence(1), WaitingFor::Signal);
    scene.commit(&sleeping, Operation::Suspend { fence, waiting_for, until: None }).unwrap();
    let retrying = scene.run(Options { expires, retries: Some(1), ..Options::default() });
    let (fence, failure, hour) = (scene.fence(1), scene.failure(1), Some(Duration::from_secs(3600)));
    let fail = Operation::Fail { fence, failure, permanent: false, retry_after: hour, chance: 0.0 };
    scene.commit(&retrying, fail).unwrap();
    let now = scene.pass(10);
    let (changes, next) = scene.elapse(10);
    assert_eq!(changes.len(), 3);
    assert_eq!(next, None);
    for change in changes {
        assert_eq!(change.effects.to, State::Expired);
        let row = scene.row(&change.task);
        assert_eq!((row.state, row.finished), (State::Expired, Some(now)));
    }
    assert!(scene.claim(10).is_empty());
}

/// An expiry does not concern a task that has started, nor one that has ended.
pub fn what_has_started_does_not_expire(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let options = || Options { expires: seconds(10), ..Options::default() };
    let (running, ended) = (scene.run(options()), scene.run(options()));
    scene.commit(&ended, scene.succeed(1)).unwrap();
    scene.pass(20);
    let (changes, next) = scene.elapse(10);
    assert!(changes.is_empty());
    assert_eq!(next, None);
    scene.commit(&running, scene.succeed(1)).unwrap();
}

/// A task has its deadline through everything that happens to it: it is told as the next time when others have passed.
pub fn a_deadline_stays_over_claims_and_retries(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let begin = scene.now();
    let deadline = Some(begin + Duration::from_secs(100));
    let options =
        Options { deadline: seconds(100), expires: seconds(50), retries: Some(9), ..Options::default() };
    let task = scene.add(options);
    assert_eq!(scene.elapse(9).1, Some(begin + Duration::from_secs(50)));
    assert_eq!(scene.claim(1)[0].id(), task.id());
    let far = Some(Duration::from_secs(1_000));
    scene.pass(50);
    assert_eq!(scene.elapse(9).1, deadline, "an expiry does not count while it runs, a deadline does");
    scene.commit(&task, Operation::Release { fence: scene.fence(1) }).unwrap();
    assert_eq!(moves(&scene.elapse(9).0), [(task.id(), Some(State::Queued), State::Expired)]);

    let scene = Scene::new(harness);
    let options = Options { deadline: seconds(100), retries: Some(9), ..Options::default() };
    let task = scene.add(options);
    let deadline = task.spec().deadline();
    for attempt in 1..4 {
        assert_eq!(scene.claim(1)[0].id(), task.id());
        assert_eq!(scene.elapse(9).1, deadline);
        let progress = taskloom_model::Progress { value: 0.5, message: None, at: scene.now() };
        scene.commit(&task, Operation::Progress { fence: scene.fence(attempt), progress }).unwrap();
        let release = Operation::Release { fence: scene.fence(attempt) };
        assert_eq!(scene.commit(&task, release).unwrap().due, deadline);
        assert_eq!(scene.elapse(9).1, deadline);
    }
    scene.start(&task);
    let (fence, failure) = (scene.fence(4), scene.failure(4));
    let fail = Operation::Fail { fence, failure, permanent: false, retry_after: far, chance: 0.0 };
    assert_eq!(scene.commit(&task, fail).unwrap().due, deadline);
    let now = scene.pass(100);
    assert_eq!(moves(&scene.elapse(9).0), [(task.id(), Some(State::Retrying), State::TimedOut)]);
    assert_eq!(scene.row(&task).finished, Some(now));
}

/// A deadline ends a task in every state; the worker that runs it is named, and its report is late.
pub fn a_deadline_ends_whatever_state_it_finds(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let deadline = seconds(10);
    let running = scene.run(Options { deadline, ..Options::default() });
    let queued = scene.add(Options { deadline, ..Options::default() });
    let pending = scene.add(Options { deadline, eta: seconds(9), ..Options::default() });
    let ended = scene.run(Options { deadline, ..Options::default() });
    scene.commit(&ended, scene.succeed(1)).unwrap();
    scene.pass(10);
    let (mut changes, next) = scene.elapse(10);
    assert_eq!(next, None);
    changes.sort_by_key(|change| change.task.id());
    let expected = [(&running, State::Running), (&queued, State::Queued), (&pending, State::Pending)];
    assert_eq!(moves(&changes), expected.map(|(task, from)| (task.id(), Some(from), State::TimedOut)));
    assert_eq!(changes[0].effects.left, Some(scene.fence(1)));
    assert_eq!(changes[1].effects.left, None);
    let row = scene.row(&running);
    assert_eq!((row.state, row.owner), (State::TimedOut, None));
    assert_eq!(row.errors()[0].message, "its deadline passed");
    assert!(scene.commit(&running, scene.succeed(1)).is_err());
    assert_eq!(scene.state(&ended), State::Succeeded);
}

/// A task that waits for its backoff is queued when that has passed.
pub fn a_backoff_ends(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = scene.run(Options { retries: Some(1), ..Options::default() });
    let due = scene.commit(&task, scene.fail(1)).unwrap().due.unwrap();
    assert_eq!(scene.elapse(10).1, Some(due));
    scene.clock.set(due);
    assert_eq!(moves(&scene.elapse(10).0), [(task.id(), Some(State::Retrying), State::Queued)]);
}

/// A time that was moved, or whose task has ended, comes and goes.
pub fn a_time_that_no_longer_counts_does_nothing(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let cancelled = scene.add(Options { eta: seconds(5), ..Options::default() });
    scene.commit(&cancelled, Operation::Cancel { reason: None }).unwrap();
    let woken = scene.run(Options::default());
    let until = Some(scene.now() + Duration::from_secs(5));
    let (fence, waiting_for) = (scene.fence(1), WaitingFor::Sleep);
    scene.commit(&woken, Operation::Suspend { fence, waiting_for, until }).unwrap();
    scene.commit(&woken, Operation::Wake).unwrap();
    scene.start(&woken);
    let until = Some(scene.now() + Duration::from_secs(9));
    let fence = scene.fence(2);
    scene.commit(&woken, Operation::Suspend { fence, waiting_for, until }).unwrap();
    scene.pass(5);
    let (changes, next) = scene.elapse(10);
    assert!(changes.is_empty(), "{changes:?}");
    assert_eq!(next, until);
    scene.pass(4);
    assert_eq!(moves(&scene.elapse(10).0), [(woken.id(), Some(State::Pending), State::Queued)]);
}

/// What has happened does not happen again.
pub fn a_change_is_told_once(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    for wait in 0..20 {
        scene.add(Options { eta: seconds(1 + wait % 3), ..Options::default() });
    }
    scene.pass(5);
    let mut told = Vec::new();
    for _ in 0..10 {
        told.extend(scene.elapse(7).0.into_iter().map(|change| change.task.id()));
    }
    assert_eq!(told.len(), 20);
    told.sort();
    told.dedup();
    assert_eq!(told.len(), 20);
}
