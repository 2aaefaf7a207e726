//! Many changes in one transaction.

use std::sync::Arc;

use taskloom_model::{Code, Operation, Options, Progress, State, Timestamp, When};
use taskloom_store::{Batch, Commit, Nobody, Task};

use super::Harness;
use crate::scene::{JOB, Scene, commit, group, ids, moves, seconds};

fn spawning(task: &Arc<Task>, operation: Operation, spawn: &[&Arc<Task>]) -> Commit {
    Commit { task: Arc::clone(task), operation, spawn: spawn.iter().map(|task| Arc::clone(task)).collect() }
}

/// There is one verdict for each commit, in their order.
pub fn verdicts_come_in_the_order_of_the_commits(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let states = [State::Queued, State::Running, State::Pending, State::Retrying, State::Succeeded];
    let tasks = states.map(|state| scene.in_state(state));
    let commits = tasks.iter().map(|task| commit(task, Operation::Cancel { reason: None })).collect();
    let batch = scene.write(Batch { commits, ..Batch::default() });
    let from: Vec<_> = batch.verdicts.iter().map(|verdict| verdict.as_ref().unwrap().from.unwrap()).collect();
    assert_eq!(from, states);
}

/// A commit that is refused leaves the others of its batch as they are.
pub fn a_refused_commit_does_not_harm_the_others(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let tasks: Vec<_> = (0..10).map(|_| scene.run(Options::default())).collect();
    let report = |(place, task)| commit(task, scene.succeed(if place % 3 == 0 { 9 } else { 1 }));
    let commits = tasks.iter().enumerate().map(report).collect();
    let batch = scene.write(Batch { commits, ..Batch::default() });
    for (place, (task, verdict)) in tasks.iter().zip(&batch.verdicts).enumerate() {
        assert_eq!(verdict.is_ok(), place % 3 != 0);
        assert_eq!(scene.state(task), if place % 3 == 0 { State::Running } else { State::Succeeded });
    }
}

/// Nor does a refused insert harm the commits, or the claim.
pub fn a_refused_insert_does_not_harm_the_others(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let (running, queued) = (scene.run(Options::default()), scene.add(Options::default()));
    let batch = scene.write(Batch {
        inserts: vec![group(&[&running])],
        commits: vec![commit(&running, scene.succeed(1))],
        claim: Some(scene.wish(&["default"], &[JOB], 5)),
        ..Batch::default()
    });
    assert!(batch.inserts[0].verdict.as_ref().unwrap().is_err());
    assert!(batch.verdicts[0].is_ok());
    assert_eq!(ids(&batch.claimed), [queued.id()]);
}

/// A commit sees the inserts of its batch.
pub fn a_task_is_inserted_and_changed_in_one_batch(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = scene.task(Options::default());
    let batch = scene.write(Batch {
        inserts: vec![group(&[&task])],
        commits: vec![commit(&task, Operation::Claim { owner: scene.me }), commit(&task, scene.succeed(1))],
        ..Batch::default()
    });
    assert!(batch.verdicts.iter().all(Result::is_ok), "{:?}", batch.verdicts);
    assert_eq!(scene.state(&task), State::Succeeded);
    assert_eq!(task.state(), State::Succeeded);
}

/// Changes of one task in one batch are made one after the other, each on what the one before left.
pub fn changes_of_one_task_see_each_other(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = scene.run(Options { retries: Some(5), ..Options::default() });
    let progress = Progress { value: 0.5, message: None, at: scene.now() };
    let commits = vec![
        commit(&task, Operation::Progress { fence: scene.fence(1), progress: progress.clone() }),
        commit(&task, Operation::Release { fence: scene.fence(1) }),
        commit(&task, scene.succeed(1)),
        commit(&task, Operation::Claim { owner: scene.me }),
        commit(&task, scene.succeed(1)),
        commit(&task, scene.fail(2)),
        commit(&task, Operation::Cancel { reason: Some("enough".into()) }),
    ];
    let verdicts = scene.write(Batch { commits, ..Batch::default() }).verdicts;
    let accepted: Vec<_> = verdicts.iter().map(Result::is_ok).collect();
    assert_eq!(accepted, [true, true, false, true, false, true, true]);
    assert_eq!(verdicts[6].as_ref().unwrap().from, Some(State::Retrying));
    let row = scene.row(&task);
    assert_eq!((row.state, row.attempt, row.failures), (State::Cancelled, 2, 1));
    let history = row.history.unwrap();
    assert_eq!(
        (history.progress, history.errors.len(), history.reason),
        (vec![progress], 1, Some("enough".into()))
    );
}

/// Two copies of a task in one batch are the same task, and both show what was committed.
pub fn two_copies_of_a_task_in_one_batch(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = scene.run(Options::default());
    let (one, two) = (scene.copy(task.id()), scene.copy(task.id()));
    let commits = vec![
        commit(&one, Operation::Release { fence: scene.fence(1) }),
        commit(&two, Operation::Claim { owner: scene.me }),
        commit(&one, scene.succeed(2)),
    ];
    let verdicts = scene.write(Batch { commits, ..Batch::default() }).verdicts;
    assert!(verdicts.iter().all(Result::is_ok), "{verdicts:?}");
    for row in [one.with_row(Clone::clone), two.with_row(Clone::clone), scene.row(&task)] {
        assert_eq!((row.state, row.attempt), (State::Succeeded, 2));
    }
}

/// What a change spawns is inserted with it, and told as a consequence.
pub fn what_a_change_spawns_comes_with_it(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = scene.run(Options::default());
    let now = scene.task(Options::default());
    let later = scene.task(Options { eta: seconds(5), ..Options::default() });
    let commits = vec![spawning(&task, scene.succeed(1), &[&now, &later])];
    let batch = scene.write(Batch { commits, ..Batch::default() });
    assert!(batch.verdicts[0].is_ok());
    assert_eq!(
        moves(&batch.consequences),
        [(now.id(), None, State::Queued), (later.id(), None, State::Pending)]
    );
    assert!(Arc::ptr_eq(&batch.consequences[0].task, &now));
    assert_eq!(batch.consequences[1].effects.due, later.spec().eta());
    assert_eq!((scene.state(&now), scene.state(&later)), (State::Queued, State::Pending));
}

/// What a refused change would have spawned does not exist, and is not told; its ids are free.
pub fn what_a_refused_change_spawns_does_not_come(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = scene.run(Options::default());
    let child = scene.task(Options::default());
    let past = Some(When::At(Timestamp::from_micros(1)));
    let expired = scene.task(Options { expires: past, ..Options::default() });
    let commits = vec![spawning(&task, scene.succeed(7), &[&child, &expired])];
    let batch = scene.write(Batch { commits, ..Batch::default() });
    assert_eq!(batch.verdicts[0].as_ref().unwrap_err().code(), Code::LeaseLost);
    assert!(batch.consequences.is_empty());
    assert!(!scene.knows(&child) && !scene.knows(&expired));
    // Nor do they count as anything: there is nothing left, and room for new ones.
    scene.commit(&task, Operation::Cancel { reason: None }).unwrap();
    scene.insert(&[&child, &expired]).unwrap();
}

/// A spawned task whose id is taken refuses the change, so that neither happens without the other.
pub fn a_spawned_duplicate_refuses_the_change(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let (task, other) = (scene.run(Options::default()), scene.run(Options::default()));
    let before = scene.row(&task);
    let (child, twin) =
        (scene.task(Options::default()), scene.task(Options { id: Some(other.id()), ..Options::default() }));
    let commits = vec![spawning(&task, scene.succeed(1), &[&child, &twin]), commit(&other, scene.succeed(1))];
    let batch = scene.write(Batch { commits, ..Batch::default() });
    assert_eq!(batch.verdicts[0].as_ref().unwrap_err().code(), Code::DuplicateId);
    assert!(batch.verdicts[1].is_ok());
    assert!(batch.consequences.is_empty() && !scene.knows(&child));
    assert_eq!(scene.row(&task), before);
    scene.commit(&task, scene.succeed(1)).unwrap();
}

/// The tasks that one change spawns are a group: a duplicate among them refuses them all.
pub fn a_spawned_group_is_inserted_as_a_whole(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = scene.run(Options::default());
    let child = scene.task(Options::default());
    let twin = scene.task(Options { id: Some(child.id()), ..Options::default() });
    let mut consequences = Vec::new();
    let change = spawning(&task, scene.succeed(1), &[&child, &twin]);
    let error = scene.store.commit(change, &mut consequences, scene.now()).unwrap_err();
    assert_eq!(error.code(), Code::DuplicateId);
    assert!(consequences.is_empty() && !scene.knows(&child));
    let change = spawning(&task, scene.succeed(1), &[&child]);
    scene.store.commit(change, &mut consequences, scene.now()).unwrap();
    assert_eq!(moves(&consequences), [(child.id(), None, State::Queued)]);
}

/// What was spawned is there for the rest of the batch.
pub fn a_spawned_task_can_be_changed_and_claimed_in_the_batch(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = scene.run(Options::default());
    let (one, two) = (scene.task(Options::default()), scene.task(Options::default()));
    let mut batch = Batch {
        commits: vec![
            spawning(&task, scene.succeed(1), &[&one, &two]),
            commit(&one, Operation::Cancel { reason: None }),
        ],
        claim: Some(scene.wish(&["default"], &[JOB], 5)),
        ..Batch::default()
    };
    scene.store.write(&mut batch, &Nobody, scene.now()).unwrap();
    assert!(batch.verdicts.iter().all(Result::is_ok));
    assert_eq!(ids(&batch.claimed), [two.id()]);
    assert_eq!(scene.state(&one), State::Cancelled);
}

/// After a batch, the tasks that came with it show their rows as committed.
pub fn the_callers_tasks_show_what_was_committed(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let tasks: Vec<_> =
        (0..3).map(|_| scene.run(Options { retries: Some(1), ..Options::default() })).collect();
    let commits = vec![
        commit(&tasks[0], scene.succeed(1)),
        commit(&tasks[1], scene.fail(1)),
        commit(&tasks[2], Operation::Cancel { reason: None }),
    ];
    scene.write(Batch { commits, ..Batch::default() });
    for task in &tasks {
        assert_eq!(task.with_row(Clone::clone), scene.row(task));
    }
}

/// A batch that asks for nothing is accepted.
pub fn an_empty_batch_does_nothing(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let batch = scene.write(Batch::default());
    assert!(batch.verdicts.is_empty() && batch.claimed.is_empty() && batch.consequences.is_empty());
    assert!(scene.claim(5).is_empty());
}
