//! Unique keys where tasks come or come back by a change; and where several submitters want one at once.

use std::sync::{Arc, Barrier};

use taskloom_model::{Code, OnConflict, Operation, Options, State, TaskId};
use taskloom_store::{Batch, Commit, Filter, Nobody, Task};

use super::Harness;
use super::unique::{for_seconds, once, put, returned};
use crate::scene::{Scene, group, ids, moves};

/// A task that a change spawns goes by its key as any other: with the change, or not at all.
pub fn a_spawned_task_goes_by_its_key(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let parent = scene.run(Options::default());
    let holder = put(&scene, once("k", OnConflict::Return));
    let refused = scene.child(&parent, 0, once("k", OnConflict::Reject));
    let before = scene.row(&parent);
    assert_eq!(scene.spawn(&parent, &refused).unwrap_err().code(), Code::DuplicateKey);
    assert_eq!(scene.row(&parent), before);
    let same = scene.child(&parent, 0, once("k", OnConflict::Return));
    assert!(scene.spawn(&parent, &same).unwrap().is_empty(), "nothing has come");
    assert!(!scene.knows(&same));
    assert_eq!(scene.row(&parent).history.unwrap().children, 1);
    let new = scene.child(&parent, 1, once("k", OnConflict::Replace));
    let changes = scene.spawn(&parent, &new).unwrap();
    let expected = [(new.id(), None, State::Queued), (holder.id(), Some(State::Queued), State::Cancelled)];
    assert_eq!(moves(&changes), expected);
    // A task may even take its own parent's key: that is cancelled then, and the new task with it unless it is detached.
    let parent = put(&scene, once("p", OnConflict::Return));
    for detached in [false, true] {
        let parent = if detached { put(&scene, once("p", OnConflict::Return)) } else { Arc::clone(&parent) };
        scene.start(&parent);
        let child = scene.child_with(&parent, 0, detached, once("p", OnConflict::Replace));
        let mut expected =
            vec![(child.id(), None, State::Queued), (parent.id(), Some(State::Running), State::Cancelled)];
        if !detached {
            expected.push((child.id(), Some(State::Queued), State::Cancelled));
        }
        assert_eq!(moves(&scene.spawn(&parent, &child).unwrap()), expected);
        assert_eq!(scene.state(&child), if detached { State::Queued } else { State::Cancelled });
    }
}

/// A change that is refused has spawned nothing: it takes no key and cancels nobody.
pub fn a_refused_change_leaves_keys_alone(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let holder = put(&scene, once("taken", OnConflict::Return));
    let task = scene.run(Options::default());
    for operation in [scene.succeed(7), Operation::Replay, Operation::Skip { reason: None }] {
        let (free, taken) =
            (scene.task(once("free", OnConflict::Return)), scene.task(once("taken", OnConflict::Replace)));
        let spawn = vec![Arc::clone(&free), Arc::clone(&taken)];
        let mut consequences = Vec::new();
        let change = Commit { task: Arc::clone(&task), operation, spawn };
        scene.store.commit(change, &mut consequences, scene.now()).unwrap_err();
        assert!(consequences.is_empty() && !scene.knows(&free) && !scene.knows(&taken));
        assert_eq!(scene.state(&holder), State::Queued);
        let free = put(&scene, once("free", OnConflict::Reject));
        scene.commit(&free, Operation::Cancel { reason: None }).unwrap();
    }
    returned(&scene, once("taken", OnConflict::Return), &holder);
}

/// A task that is started over must have its key again: it is refused if another task has it.
pub fn a_replay_needs_its_key_again(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = put(&scene, once("k", OnConflict::Return));
    scene.commit(&task, Operation::Cancel { reason: None }).unwrap();
    let other = put(&scene, for_seconds("k", OnConflict::Return, 50));
    let before = scene.row(&task);
    let refused = || {
        let error = scene.commit(&task, Operation::Replay).unwrap_err();
        assert_eq!(error.code(), Code::DuplicateKey);
        assert!(error.message().contains(&other.id().to_string()), "{error}");
        assert_eq!(scene.row(&task), before);
    };
    refused();
    scene.commit(&other, Operation::Cancel { reason: None }).unwrap();
    refused();
    scene.pass(50);
    scene.replay(&task).unwrap();
    let copy = scene.copy(task.id());
    returned(&scene, once("k", OnConflict::Return), &copy);
    let error = scene.commit(&other, Operation::Replay).unwrap_err();
    assert_eq!(error.code(), Code::DuplicateKey);
    // With nobody in between, it simply has it again; many other keys make no difference.
    scene.commit(&copy, Operation::Cancel { reason: None }).unwrap();
    for number in 0..200 {
        put(&scene, once(&format!("key {number}"), OnConflict::Return));
    }
    scene.replay(&copy).unwrap();
    assert!(scene.submit(&[&scene.task(once("k", OnConflict::Reject))]).is_err());
}

const THREADS: usize = 8;
const ROUNDS: usize = 25;

/// What a submitter got: the id of the task that it was given, or why it got none.
type Got = Result<TaskId, Code>;

/// Each thread submits a task for each key, all of them at once: what they got, key by key. Every task that holds a
/// key in the end is the only one.
fn race(scene: &Scene, on_conflict: OnConflict) -> Vec<Vec<Got>> {
    let (store, now, barrier) = (&*scene.store, scene.now(), Barrier::new(THREADS));
    let key = |round: usize| format!("key {round}");
    let task = |round| scene.task(once(&key(round), on_conflict));
    let tasks: Vec<Vec<_>> = (0..THREADS).map(|_| (0..ROUNDS).map(task).collect()).collect();
    let submit = &|task: &Arc<Task>| {
        barrier.wait();
        let mut batch = Batch { inserts: vec![group(&[task])], ..Batch::default() };
        store.write(&mut batch, &Nobody, now).unwrap();
        let insert = batch.inserts.remove(0);
        insert.verdict.unwrap().map(|()| insert.tasks[0].id()).map_err(|error| error.code())
    };
    let by_thread: Vec<Vec<Got>> = std::thread::scope(|scope| {
        let life = |tasks: &Vec<_>| tasks.iter().map(submit).collect::<Vec<_>>();
        let threads: Vec<_> = tasks.iter().map(|tasks| scope.spawn(move || life(tasks))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let filter = Filter { unfinished: true, limit: usize::MAX, ..Filter::default() };
    let live = store.list(&filter, &Nobody).unwrap();
    for round in 0..ROUNDS {
        let has = |task: &&Arc<Task>| task.spec().unique().is_some_and(|unique| unique.key == key(round));
        assert_eq!(live.iter().filter(has).count(), 1, "{}", key(round));
    }
    (0..ROUNDS).map(|round| by_thread.iter().map(|got| got[round]).collect()).collect()
}

/// Of submitters that want one key at once, one has its task inserted and the others are given that one.
pub fn racing_submitters_agree_on_one_task(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    for got in race(&scene, OnConflict::Return) {
        assert!(got.iter().all(|one| one.is_ok() && *one == got[0]), "{got:?}");
    }
    assert_eq!(scene.store.counts().unwrap().get(State::Queued), ROUNDS as u64);
}

/// Or the others are refused.
pub fn of_racing_submitters_one_is_accepted(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    for got in race(&scene, OnConflict::Reject) {
        let (won, lost): (Vec<_>, Vec<_>) = got.iter().partition(|one| one.is_ok());
        assert_eq!((won.len(), lost.len()), (1, THREADS - 1));
        assert!(lost.iter().all(|one: &&Got| **one == Err(Code::DuplicateKey)));
    }
}

/// Or each replaces the one before it, and the last one is left.
pub fn of_racing_replacements_one_is_left(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    for got in race(&scene, OnConflict::Replace) {
        let mut got: Vec<TaskId> = got.into_iter().map(Result::unwrap).collect();
        got.sort();
        got.dedup();
        assert_eq!(got.len(), THREADS, "each inserted its own");
    }
    let counts = scene.store.counts().unwrap();
    let (tasks, keys) = ((THREADS * ROUNDS) as u64, ROUNDS as u64);
    assert_eq!((counts.get(State::Queued), counts.get(State::Cancelled)), (keys, tasks - keys));
    assert_eq!(ids(&scene.claim(usize::MAX >> 1)).len(), ROUNDS);
}
