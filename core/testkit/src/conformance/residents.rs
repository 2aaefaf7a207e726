//! Tasks that somebody in this process holds: one task is one `Task`, and a handle sees what a worker did.

use std::sync::Arc;

use taskloom_model::{Operation, Options, Row, State};
use taskloom_store::{Batch, Change, Filter, Live, Nobody, Residents, Task};

use super::Harness;
use crate::scene::{JOB, Scene, group, seconds};

/// A task that is in the store and held here.
fn held(scene: &Scene, live: &Live, options: Options) -> Arc<Task> {
    let task = scene.add(options);
    live.insert(&task);
    task
}

fn claim(scene: &Scene, residents: &dyn Residents) -> Vec<Arc<Task>> {
    let mut batch = Batch { claim: Some(scene.wish(&["default"], &[JOB], 9)), ..Batch::default() };
    scene.store.write(&mut batch, residents, scene.now()).unwrap();
    batch.claimed
}

/// A claim hands over the very task that is held, with its new row.
pub fn a_claim_finds_the_task_in_memory(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let live = Live::default();
    let task = held(&scene, &live, Options::default());
    let claimed = claim(&scene, &live);
    assert!(Arc::ptr_eq(&claimed[0], &task));
    assert!(task.is_current(scene.fence(1)));
}

/// So it does with a task of its own batch, whether or not it is known to be held yet.
pub fn a_claim_finds_the_task_of_its_own_batch(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = scene.task(Options::default());
    let claim = Some(scene.wish(&["default"], &[JOB], 9));
    let mut batch = Batch { inserts: vec![group(&[&task])], claim, ..Batch::default() };
    scene.store.write(&mut batch, &Nobody, scene.now()).unwrap();
    assert!(Arc::ptr_eq(&batch.claimed[0], &task));
    assert_eq!(task.state(), State::Running);
}

/// The same holds when a time comes, and when an owner is buried.
pub fn times_and_burials_find_the_task_in_memory(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let live = Live::default();
    let task = held(&scene, &live, Options { eta: seconds(5), ..Options::default() });
    let mut changes: Vec<Change> = Vec::new();
    let now = scene.pass(5);
    scene.store.elapse(9, &live, &mut changes, now).unwrap();
    assert!(Arc::ptr_eq(&changes[0].task, &task));
    assert_eq!(task.state(), State::Queued);
    claim(&scene, &live);
    scene.store.bury(scene.me, &live, &mut changes, now).unwrap();
    assert!(Arc::ptr_eq(&changes[1].task, &task));
    assert_eq!(task.with_row(|row| (row.state, row.crashes)), (State::Queued, 1));
}

/// Reading by id and listing give the task that is held.
pub fn reading_finds_the_task_in_memory(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let live = Live::default();
    let task = held(&scene, &live, Options::default());
    let other = scene.add(Options::default());
    assert!(Arc::ptr_eq(&scene.store.get(task.id(), &live).unwrap().unwrap(), &task));
    let listed = scene.store.list(&Filter::default(), &live).unwrap();
    assert_eq!(listed.len(), 2);
    assert!(Arc::ptr_eq(&listed[0], &task));
    assert_eq!(listed[1].id(), other.id());
}

/// A held task shows what was read: somebody else may have changed it.
pub fn a_task_in_memory_shows_what_was_read(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let live = Live::default();
    let (one, two) = (held(&scene, &live, Options::default()), held(&scene, &live, Options::default()));
    for task in [&one, &two] {
        // Another process's copy.
        scene.commit(&scene.copy(task.id()), Operation::Cancel { reason: None }).unwrap();
    }
    scene.store.get(one.id(), &live).unwrap();
    assert_eq!(one.state(), State::Cancelled);
    scene.store.list(&Filter::default(), &live).unwrap();
    assert_eq!(two.state(), State::Cancelled);
}

/// A task that has settled is never written to again: what an operator starts over is another task in memory.
pub fn a_settled_task_keeps_its_outcome(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let live = Live::default();
    let task = held(&scene, &live, Options::default());
    scene.start(&task);
    scene.commit(&task, scene.fail(1)).unwrap();
    task.settle();
    let outcome = task.with_row(Row::clone);
    assert!(Arc::ptr_eq(&scene.store.get(task.id(), &live).unwrap().unwrap(), &task));
    scene.replay(&task).unwrap();
    let read = scene.store.get(task.id(), &live).unwrap().unwrap();
    let claimed = claim(&scene, &live).remove(0);
    // Where rows live in the tasks, the one that was read is the one that runs.
    let shown = if scene.store.capability().resident { State::Running } else { State::Queued };
    for (other, state) in [(&read, shown), (&claimed, State::Running)] {
        assert!(!Arc::ptr_eq(other, &task) && !other.is_settled());
        assert_eq!((other.state(), other.spec()), (state, task.spec()));
    }
    assert_eq!(task.with_row(Row::clone), outcome);
}
