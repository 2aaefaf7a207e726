//! Handing out eligible tasks.

use std::sync::Arc;

use taskloom_model::{Code, Operation, Options, Priority, State};
use taskloom_store::{Batch, Task};

use super::Harness;
use crate::scene::{JOB, Scene, commit, group, ids, seconds};

fn in_queue(scene: &Scene, queue: &str) -> Arc<Task> {
    scene.add(Options { queue: Some(queue.into()), ..Options::default() })
}

/// Queues are emptied in the order of the claim, not of their names or tasks.
pub fn queues_come_in_the_order_asked_for(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let (a, b, c) = (in_queue(&scene, "a"), in_queue(&scene, "b"), in_queue(&scene, "c"));
    let urgent =
        Options { queue: Some("a".into()), priority: Some(Priority::Critical), ..Options::default() };
    let urgent = scene.add(urgent);
    let claimed = scene.claim_from(&["c", "a", "b"], &[JOB], 10);
    assert_eq!(ids(&claimed), [c.id(), urgent.id(), a.id(), b.id()]);
}

/// Within a queue, a higher priority goes first, however young.
pub fn priority_comes_first_within_a_queue(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let add = |priority| {
        scene.pass(1);
        scene.add(Options { priority: Some(priority), ..Options::default() }).id()
    };
    let [low, normal, critical, high, low_too] =
        [Priority::Low, Priority::Normal, Priority::Critical, Priority::High, Priority::Low].map(add);
    assert_eq!(ids(&scene.claim(10)), [critical, high, normal, low, low_too]);
}

/// Within a priority, the task that has been eligible for longest goes first. A retry queues up behind.
pub fn the_longest_eligible_comes_first_within_a_priority(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let retried = scene.run(Options { retries: Some(1), ..Options::default() });
    scene.commit(&retried, scene.fail(1)).unwrap();
    let late = scene.add(Options { eta: seconds(5), ..Options::default() });
    let early = scene.add(Options { eta: seconds(3), ..Options::default() });
    scene.pass(1);
    let now = scene.add(Options::default());
    for second in [1, 3, 5] {
        scene.clock.set(now.spec().created);
        scene.pass(second);
        scene.elapse(10);
    }
    assert_eq!(ids(&scene.claim(10)), [now.id(), retried.id(), early.id(), late.id()]);
}

/// Of tasks that are equal in all this, the first to arrive goes first. (Ids grow here as they do in an engine, so
/// that a store may go by either.)
pub fn the_first_to_arrive_comes_first_of_equals(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let tasks: Vec<_> = (0..50).map(|_| scene.task(Options::default())).collect();
    scene.insert(&tasks.iter().collect::<Vec<_>>()).unwrap();
    let mut claimed = Vec::new();
    for limit in [1, 7, 100] {
        claimed.extend(scene.claim(limit));
    }
    assert_eq!(ids(&claimed), ids(&tasks));
}

/// A claim takes at most as many as it asks for, over all its queues.
pub fn no_more_than_the_limit(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    for queue in ["a", "b", "a", "b", "a"] {
        in_queue(&scene, queue);
    }
    for (limit, got) in [(0, 0), (2, 2), (2, 2), (2, 1), (2, 0)] {
        assert_eq!(scene.claim_from(&["a", "b"], &[JOB], limit).len(), got);
    }
}

/// Tasks for handlers that the claimer does not have stay, and hold nobody up.
pub fn only_for_the_named_handlers(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let foreign: Vec<_> = (0..30).map(|_| scene.task_for("foreign", b"1", Options::default())).collect();
    scene.insert(&foreign.iter().collect::<Vec<_>>()).unwrap();
    let (mine, yours) =
        (scene.task_for("mine", b"1", Options::default()), scene.task_for("yours", b"1", Options::default()));
    scene.insert(&[&mine, &yours]).unwrap();
    assert!(scene.claim_from(&["default"], &[], 10).is_empty());
    assert!(scene.claim_from(&["default"], &["min", "mine2", ""], 10).is_empty());
    assert_eq!(
        ids(&scene.claim_from(&["default"], &["other", "mine", "yours"], 10)),
        [mine.id(), yours.id()]
    );
    assert_eq!(scene.store.counts().unwrap().get(State::Queued), 30);
}

/// Queues that are not named stay as they are.
pub fn only_from_the_named_queues(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    in_queue(&scene, "a");
    let b = in_queue(&scene, "b");
    assert!(scene.claim_from(&["A", "ab", "c"], &[JOB], 10).is_empty());
    assert_eq!(ids(&scene.claim_from(&["b", "b"], &[JOB], 10)), [b.id()]);
}

/// A claim that names no queue takes from all of them as if they were one.
pub fn all_queues_alike_if_none_is_named(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let put = |queue: &str, priority, name: &str| {
        let options = Options { queue: Some(queue.into()), priority: Some(priority), ..Options::default() };
        let task = scene.task_for(name, b"{}", options);
        scene.insert(&[&task]).unwrap();
        task.id()
    };
    let (mut normal, mut high) = (Vec::new(), Vec::new());
    for round in 0..4 {
        scene.pass(u64::from(round != 2));
        for queue in ["b", "a", "default", "c"] {
            normal.push(put(queue, Priority::Normal, JOB));
            put(queue, Priority::Critical, "foreign");
        }
        high.push(put("c", Priority::High, JOB));
    }
    let expected: Vec<_> = high.into_iter().chain(normal).collect();
    let mut claimed = Vec::new();
    for limit in [1, 5, 3, 100] {
        claimed.extend(ids(&scene.claim_from(&[], &[JOB], limit)));
    }
    assert_eq!(claimed, expected);
    assert!(scene.claim_from(&[], &[], 10).is_empty());
    assert_eq!(scene.claim_from(&[], &["foreign"], 100).len(), 16);
}

/// Nothing but a queued task is ever claimed.
pub fn only_queued_tasks(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    for state in State::ALL.iter().filter(|state| **state != State::Queued) {
        scene.in_state(*state);
    }
    assert!(scene.claim(100).is_empty());
    let queued = scene.in_state(State::Queued);
    assert_eq!(ids(&scene.claim(100)), [queued.id()]);
}

/// A claimed task is running, in the store as in the caller's hands: one attempt more, the claimer its owner.
pub fn a_claimed_task_runs_for_the_claimer(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    scene.add(Options::default());
    let now = scene.pass(1);
    let claimed = scene.claim(1).remove(0);
    for row in [claimed.with_row(Clone::clone), scene.row(&claimed)] {
        assert_eq!((row.state, row.attempt, row.owner), (State::Running, 1, Some(scene.me)));
        assert_eq!((row.started, row.updated, row.finished), (Some(now), now, None));
    }
    assert!(claimed.is_current(scene.fence(1)));
}

/// A claim hands over all that a worker needs to know.
pub fn a_claim_brings_the_whole_task(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let options =
        Options { retries: Some(3), tags: vec!["t".into()], deadline: seconds(60), ..Options::default() };
    let task = scene.task_for(JOB, &[b'x'; 3000], options);
    scene.insert(&[&task]).unwrap();
    assert_eq!(scene.claim(1)[0].spec(), task.spec());
}

/// A task that runs is not handed out again.
pub fn a_task_is_claimed_once(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = scene.add(Options::default());
    let mut batch = Batch { claim: Some(scene.wish(&["default"], &[JOB], 5)), ..Batch::default() };
    batch.claim.as_mut().unwrap().owner = scene.join("other");
    assert_eq!(ids(&scene.write(batch).claimed), [task.id()]);
    assert!(scene.claim(5).is_empty());
}

/// A claim sees what its own batch inserts.
pub fn inserts_of_the_batch_are_seen(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let (first, second) = (scene.task(Options::default()), scene.task(Options::default()));
    let refused = scene.task(Options { id: Some(first.id()), ..Options::default() });
    let batch = scene.write(Batch {
        inserts: vec![group(&[&first, &second]), group(&[&refused])],
        claim: Some(scene.wish(&["default"], &[JOB], 5)),
        ..Batch::default()
    });
    assert_eq!(ids(&batch.claimed), [first.id(), second.id()]);
    assert_eq!(scene.state(&first), State::Running);
}

/// A claim sees what its own batch commits: what was released can be claimed, what was cancelled cannot.
pub fn commits_of_the_batch_are_seen(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let (running, queued) = (scene.run(Options::default()), scene.add(Options::default()));
    let batch = scene.write(Batch {
        commits: vec![
            commit(&running, Operation::Release { fence: scene.fence(1) }),
            commit(&queued, Operation::Cancel { reason: None }),
        ],
        claim: Some(scene.wish(&["default"], &[JOB], 5)),
        ..Batch::default()
    });
    assert_eq!(ids(&batch.claimed), [running.id()]);
    assert_eq!(scene.row(&running).attempt, 2);
    assert!(running.is_current(scene.fence(2)), "both changes are shown");
    assert_eq!(scene.state(&queued), State::Cancelled);
}

/// Claiming a task that one knows is an ordinary change, and refused like one.
pub fn a_known_task_is_claimed_by_a_commit(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = scene.add(Options::default());
    let effects = scene.commit(&task, Operation::Claim { owner: scene.me }).unwrap();
    assert_eq!((effects.from, effects.to), (Some(State::Queued), State::Running));
    assert!(task.is_current(scene.fence(1)));
    let error = scene.commit(&task, Operation::Claim { owner: scene.me }).unwrap_err();
    assert_eq!(error.code(), Code::IllegalTransition);
    assert_eq!(scene.row(&task).attempt, 1);
}

/// Each claim counts as an attempt, whatever ended the one before.
pub fn each_claim_is_another_attempt(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    scene.add(Options { retries: Some(1), ..Options::default() });
    for attempt in 1..=4 {
        let task = scene.claim(1).remove(0);
        assert!(task.is_current(scene.fence(attempt)));
        let operation = match attempt {
            1 => Operation::Release { fence: scene.fence(1) },
            2 => scene.fail(2),
            _ => Operation::Lose { owner: scene.me },
        };
        scene.commit(&task, operation).unwrap();
        scene.pass(2);
        scene.elapse(1);
    }
}
