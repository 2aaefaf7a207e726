//! Tasks that submit tasks.

use std::sync::Arc;

use taskloom_model::{Code, Operation, Options, OwnerId, State};
use taskloom_store::{Batch, Live, Task};

use super::Harness;
use crate::scene::{JOB, Scene, commit, ids, moves, seconds};

fn cancel(scene: &Scene, task: &Arc<Task>) -> Vec<taskloom_store::Change> {
    let mut consequences = Vec::new();
    let operation = Operation::Cancel { reason: Some("enough".into()) };
    scene.store.commit(commit(task, operation), &mut consequences, scene.now()).unwrap();
    consequences
}

fn children(scene: &Scene, task: &Task) -> u32 {
    scene.row(task).history.map_or(0, |history| history.children)
}

/// A child is inserted in the commit that notes it, told as a consequence, and keeps whose child it is.
pub fn a_child_comes_with_its_parents_note(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let parent = scene.run(Options::default());
    for (ordinal, detached) in [(0, false), (1, true), (4, false)] {
        let child = scene.child_with(&parent, ordinal, detached, Options::default());
        let told = scene.spawn(&parent, &child).unwrap();
        assert_eq!(moves(&told), [(child.id(), None, State::Queued)]);
        assert!(Arc::ptr_eq(&told[0].task, &child));
        assert_eq!(children(&scene, &parent), ordinal + 1);
        assert_eq!(scene.copy(child.id()).spec(), child.spec());
    }
    let row = scene.row(&parent);
    assert!(row.state == State::Running && parent.is_current(scene.fence(1)));
    scene.commit(&parent, scene.succeed(1)).unwrap();
    assert_eq!(children(&scene, &parent), 5, "the next attempt of a replay knows it too");
}

/// Another attempt that submits the same child is told that it exists, and changes nothing: neither the child, which
/// may have ended, nor the parent, not even the time of its last change.
pub fn a_child_is_inserted_once(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let parent = scene.run(Options { retries: Some(5), ..Options::default() });
    let child = scene.run_child(&parent, 0, false);
    scene.commit(&child, scene.succeed(1)).unwrap();
    scene.commit(&parent, scene.fail(1)).unwrap();
    scene.pass(60);
    scene.elapse(9);
    scene.start(&parent);
    scene.pass(1);
    let (before, ended) = (scene.row(&parent), scene.row(&child));
    let twin = scene.child(&parent, 0, Options { queue: Some("other".into()), ..Options::default() });
    let mut consequences = Vec::new();
    let error =
        scene.store.commit(scene.spawning(&parent, &twin), &mut consequences, scene.now()).unwrap_err();
    assert_eq!(error.code(), Code::DuplicateId);
    assert!(error.message().contains(&child.id().to_string()));
    assert!(consequences.is_empty());
    assert_eq!((scene.row(&parent), scene.row(&child)), (before, ended));
    assert_eq!(scene.copy(child.id()).spec(), child.spec());
    // The next one is as new as ever, in one batch with the one that is not.
    let next = scene.child(&parent, 1, Options::default());
    let commits = vec![scene.spawning(&parent, &twin), scene.spawning(&parent, &next)];
    let batch = scene.write(Batch { commits, ..Batch::default() });
    assert!(batch.verdicts[0].is_err() && batch.verdicts[1].is_ok());
    assert_eq!(children(&scene, &parent), 2);
}

/// An attempt that no longer counts submits nothing, whether it was lost, cancelled or replaced by another.
pub fn a_late_attempt_has_no_children(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    for end in 0..4 {
        let parent = scene.run(Options { retries: Some(5), ..Options::default() });
        let child = scene.child(&parent, 0, Options::default());
        let late = scene.spawning(&parent, &child);
        match end {
            0 => drop(cancel(&scene, &parent)),
            1 => drop(scene.commit(&parent, Operation::Lose { owner: scene.me }).unwrap()),
            2 => {
                scene.commit(&parent, Operation::Release { fence: scene.fence(1) }).unwrap();
                scene.start(&parent);
            }
            _ => drop(scene.commit(&parent, scene.succeed(1)).unwrap()),
        }
        let before = scene.row(&parent);
        let mut consequences = Vec::new();
        let error = scene.store.commit(late, &mut consequences, scene.now()).unwrap_err();
        assert_eq!(error.code(), Code::LeaseLost);
        assert!(consequences.is_empty() && !scene.knows(&child));
        assert_eq!(scene.row(&parent), before);
        assert!(scene.claim(9).iter().all(|task| task.id() == parent.id()));
    }
    // What refuses a late attempt is that it is late, even if the child exists.
    let parent = scene.run(Options::default());
    let child = scene.run_child(&parent, 0, false);
    scene.commit(&parent, Operation::Release { fence: scene.fence(1) }).unwrap();
    assert_eq!(scene.spawn(&parent, &child).unwrap_err().code(), Code::LeaseLost);
    let parent = scene.run(Options::default());
    let mut other = scene.spawning(&parent, &scene.child(&parent, 0, Options::default()));
    if let Operation::Spawn { fence, .. } = &mut other.operation {
        fence.owner = OwnerId::new(999).unwrap();
    }
    assert_eq!(scene.store.commit(other, &mut Vec::new(), scene.now()).unwrap_err().code(), Code::LeaseLost);
}

/// Whoever cancels a task cancels what it has submitted, and what that has, whatever they are doing; all are told,
/// with the attempts that they left, parents before children.
pub fn a_cancel_takes_the_children_along(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let parent = scene.run(Options::default());
    let running = scene.run_child(&parent, 0, false);
    let pending = scene.child(&parent, 1, Options { eta: seconds(9), ..Options::default() });
    scene.spawn(&parent, &pending).unwrap();
    let middle = scene.run_child(&parent, 2, false);
    let queued = scene.child(&middle, 0, Options::default());
    scene.spawn(&middle, &queued).unwrap();
    let below = scene.run_child(&middle, 1, false);
    let retrying = scene.child(&parent, 3, Options { retries: Some(1), ..Options::default() });
    scene.spawn(&parent, &retrying).unwrap();
    scene.start(&retrying);
    scene.commit(&retrying, scene.fail(1)).unwrap();
    let other = scene.run(Options::default());
    let now = scene.pass(1);
    let told = cancel(&scene, &parent);
    let expected = [
        (&running, State::Running),
        (&pending, State::Pending),
        (&middle, State::Running),
        (&queued, State::Queued),
        (&below, State::Running),
        (&retrying, State::Retrying),
    ];
    assert_eq!(moves(&told), expected.map(|(task, from)| (task.id(), Some(from), State::Cancelled)));
    for ((task, from), change) in expected.into_iter().zip(&told) {
        let fence = (from == State::Running).then_some(scene.fence(1));
        assert_eq!((change.effects.left, change.effects.due), (fence, None));
        let row = scene.row(task);
        assert_eq!((row.state, row.owner, row.finished), (State::Cancelled, None, Some(now)));
        let above = task.spec().parent().unwrap().id;
        assert_eq!(row.history.unwrap().reason, Some(format!("its parent {above} was cancelled")));
        assert_eq!(change.task.with_row(Clone::clone), scene.row(task));
    }
    assert_eq!(scene.row(&parent).history.unwrap().reason.as_deref(), Some("enough"));
    assert_eq!(scene.commit(&below, scene.succeed(1)).unwrap_err().code(), Code::LeaseLost);
    assert_eq!(scene.state(&other), State::Running);
    assert!(scene.claim(9).is_empty());
    assert_eq!(scene.elapse(9).1.filter(|next| *next <= now), None);
    assert!(cancel(&scene, &parent).is_empty(), "nothing is told twice");
}

/// A detached child is not cancelled with its parent, nor is what it has submitted.
pub fn detached_children_live_on(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let parent = scene.run(Options::default());
    let detached = scene.run_child(&parent, 0, true);
    let attached = scene.run_child(&parent, 1, false);
    let below = scene.run_child(&detached, 0, false);
    let far = scene.run_child(&attached, 0, true);
    assert_eq!(
        ids(&cancel(&scene, &parent).into_iter().map(|change| change.task).collect::<Vec<_>>()),
        [attached.id()]
    );
    for task in [&detached, &below, &far] {
        assert_eq!(scene.state(task), State::Running);
        scene.commit(task, scene.succeed(1)).unwrap();
    }
}

/// A child that has ended is left as it is, and with it what it has submitted: that was not the cancelled task's.
pub fn what_has_ended_stays_as_it_was(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let parent = scene.run(Options::default());
    let ended = scene.run_child(&parent, 0, false);
    let below = scene.run_child(&ended, 0, false);
    scene.commit(&ended, scene.succeed(1)).unwrap();
    let failed = scene.run_child(&parent, 1, false);
    scene.commit(&failed, scene.fail(1)).unwrap();
    let before = [scene.row(&ended), scene.row(&failed), scene.row(&below)];
    scene.pass(1);
    assert!(cancel(&scene, &parent).is_empty());
    assert_eq!([scene.row(&ended), scene.row(&failed), scene.row(&below)], before);
}

/// Only a cancel takes the children along: a parent that succeeds, fails or times out leaves them running, and so
/// does one that a second cancel finds ended.
pub fn other_ends_leave_the_children_alone(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    for end in 0..4 {
        let parent = scene.run(Options { deadline: seconds(50), ..Options::default() });
        let child = scene.run_child(&parent, 0, false);
        match end {
            0 => drop(scene.commit(&parent, scene.succeed(1)).unwrap()),
            1 => drop(scene.commit(&parent, scene.fail(1)).unwrap()),
            2 => drop(scene.commit(&parent, Operation::Release { fence: scene.fence(1) }).unwrap()),
            _ => {
                scene.pass(50);
                assert_eq!(moves(&scene.elapse(9).0), [(parent.id(), Some(State::Running), State::TimedOut)]);
            }
        }
        assert_eq!(scene.state(&child), State::Running, "{end}");
        assert_eq!(cancel(&scene, &parent).len(), usize::from(end == 2));
    }
}

/// A task that only has the id of a child is nobody's child, and one that names another parent is not this one's.
pub fn only_ones_own_children_go(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let (parent, other) = (scene.run(Options::default()), scene.run(Options::default()));
    let orphan = scene.add(Options { id: Some(parent.id().child(0)), ..Options::default() });
    let stranger = scene.child(&other, 0, Options::default());
    let mut spec = stranger.spec().clone();
    spec.id = parent.id().child(1);
    let stranger = Task::new(spec, stranger.with_row(Clone::clone), None);
    scene.insert(&[&stranger]).unwrap();
    let own = scene.run_child(&parent, 2, false);
    assert_eq!(moves(&cancel(&scene, &parent)), [(own.id(), Some(State::Running), State::Cancelled)]);
    assert_eq!((scene.state(&orphan), scene.state(&stranger)), (State::Queued, State::Queued));
}

/// A cancel sees the children that its own batch has inserted, and later commits of the batch see what it did.
pub fn children_of_the_batch_go_too(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let parent = scene.run(Options::default());
    let (one, two) =
        (scene.child(&parent, 0, Options::default()), scene.child(&parent, 1, Options::default()));
    let batch = scene.write(Batch {
        commits: vec![
            scene.spawning(&parent, &one),
            scene.spawning(&parent, &two),
            commit(&one, Operation::Claim { owner: scene.me }),
            commit(&parent, Operation::Cancel { reason: None }),
            commit(&one, scene.succeed(1)),
            commit(&two, Operation::Replay),
        ],
        claim: Some(scene.wish(&["default"], &[JOB], 9)),
        ..Batch::default()
    });
    let accepted: Vec<_> = batch.verdicts.iter().map(Result::is_ok).collect();
    assert_eq!(accepted, [true, true, true, true, false, true]);
    assert_eq!(
        moves(&batch.consequences),
        [
            (one.id(), None, State::Queued),
            (two.id(), None, State::Queued),
            (one.id(), Some(State::Running), State::Cancelled),
            (two.id(), Some(State::Queued), State::Cancelled),
            (two.id(), Some(State::Cancelled), State::Queued),
        ]
    );
    let (new, told) = batch.consequences.split_last().unwrap();
    assert!(told.iter().all(|told| [&one, &two].iter().any(|task| Arc::ptr_eq(task, &told.task))));
    assert!(Arc::ptr_eq(&new.task, &batch.claimed[0]) && two.state() == State::Cancelled);
    assert_eq!((one.state(), ids(&batch.claimed)), (State::Cancelled, vec![two.id()]));
}

/// Of a cancel and a submit of the running attempt, one comes first: the child goes too, or it never came. No orphan is
/// left, nor a unique key with nobody.
pub fn a_cancel_and_a_submit_at_once(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let (store, now, barrier) = (&*scene.store, scene.now(), std::sync::Barrier::new(2));
    for _ in 0..200 {
        let parent = scene.run(Options::default());
        let once = Options { unique_key: Some("once".into()), ..Options::default() };
        let child = scene.child(&parent, 0, once.clone());
        let change = |change| {
            barrier.wait();
            store.commit(change, &mut Vec::new(), now)
        };
        let (cancel, spawn) =
            (commit(&parent, Operation::Cancel { reason: None }), scene.spawning(&parent, &child));
        let (cancelled, spawned) = std::thread::scope(|scope| {
            let cancelled = scope.spawn(|| change(cancel));
            let spawned = change(spawn);
            (cancelled.join().unwrap(), spawned)
        });
        assert!(cancelled.unwrap().finished());
        match spawned {
            Ok(_) => assert_eq!(scene.state(&child), State::Cancelled),
            Err(late) => {
                assert_eq!(late.code(), Code::LeaseLost);
                assert!(!scene.knows(&child));
            }
        }
        let next = scene.task(once);
        let (tasks, _) = scene.submit(&[&next]).unwrap();
        assert!(Arc::ptr_eq(&tasks[0], &next), "the key is free");
        scene.commit(&next, Operation::Cancel { reason: None }).unwrap();
    }
    assert_eq!(scene.store.counts().unwrap().unfinished(), 0);
}

/// The tasks that are held in memory show that they were cancelled, and are the ones that are told.
pub fn children_in_memory_are_told_of(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let live = Live::default();
    let parent = scene.run(Options::default());
    let child = scene.run_child(&parent, 0, false);
    let below = scene.run_child(&child, 0, false);
    [&parent, &child, &below].into_iter().for_each(|task| live.insert(task));
    // Another process's copy, in a commit of the same batch.
    let copy = scene.copy(child.id());
    let commits = vec![
        commit(&copy, Operation::Log { fence: scene.fence(1), lines: vec![scene.line("bye")], dropped: 0 }),
        commit(&parent, Operation::Cancel { reason: None }),
    ];
    let mut batch = Batch { commits, ..Batch::default() };
    scene.store.write(&mut batch, &live, scene.now()).unwrap();
    assert!(Arc::ptr_eq(&batch.consequences[0].task, &child));
    assert!(Arc::ptr_eq(&batch.consequences[1].task, &below));
    for task in [&child, &copy, &below] {
        assert_eq!(task.with_row(Clone::clone), scene.row(task));
        assert_eq!(task.state(), State::Cancelled);
    }
    assert_eq!(scene.row(&child).history.unwrap().log.len(), 1);
}

/// However deep a family is.
pub fn a_deep_family_goes_as_a_whole(harness: &dyn Harness) {
    const DEEP: usize = 3_000;
    let scene = Scene::new(harness);
    let first = scene.run(Options::default());
    let mut last = Arc::clone(&first);
    for _ in 0..DEEP {
        last = scene.run_child(&last, 0, false);
    }
    assert_eq!(cancel(&scene, &first).len(), DEEP);
    assert_eq!(scene.store.counts().unwrap().get(State::Cancelled), DEEP as u64 + 1);
}

/// A child that has ended is not forgotten while its parent has not: another attempt would submit it once more.
pub fn a_finished_child_is_kept_while_its_parent_lives(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let parent = scene.run(Options { retries: Some(1), ..Options::default() });
    let (one, two) = (scene.run_child(&parent, 0, false), scene.run_child(&parent, 1, true));
    let below = scene.run_child(&one, 0, false);
    for task in [&one, &two, &below] {
        scene.commit(task, scene.succeed(1)).unwrap();
    }
    let other = scene.in_state(State::Succeeded);
    let now = scene.pass(100);
    assert_eq!(scene.store.sweep(now, 100).unwrap(), 2);
    assert!(
        !scene.knows(&below) && !scene.knows(&other),
        "the parent of the one has ended, the other has none"
    );
    assert!(scene.knows(&one) && scene.knows(&two));
    scene.commit(&parent, scene.fail(1)).unwrap();
    let now = scene.pass(100);
    assert_eq!(scene.store.sweep(now, 100).unwrap(), 0);
    assert_eq!(scene.elapse(9).0.len(), 1);
    scene.start(&parent);
    assert_eq!(scene.spawn(&parent, &one).unwrap_err().code(), Code::DuplicateId);
    scene.commit(&parent, scene.succeed(2)).unwrap();
    assert_eq!(scene.store.sweep(scene.pass(1), 1).unwrap(), 1);
    assert_eq!(scene.store.sweep(scene.pass(1), 100).unwrap(), 2);
    assert_eq!(scene.store.counts().unwrap(), taskloom_store::Counts::default());
}
