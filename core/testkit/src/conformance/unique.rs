//! Unique keys: at most one task of a handler that has not ended has a key.

use std::sync::Arc;
use std::time::Duration;

use taskloom_model::{Code, OnConflict, Operation, Options, State, TaskId, Timestamp, When};
use taskloom_store::{Batch, Change, Filter, Live, Nobody, Task};

use super::Harness;
use crate::scene::{JOB, Scene, commit, group, ids, moves};

const ALL: [OnConflict; 3] = [OnConflict::Return, OnConflict::Replace, OnConflict::Reject];

pub(crate) fn once(key: &str, on_conflict: OnConflict) -> Options {
    Options { unique_key: Some(key.into()), on_conflict: Some(on_conflict), ..Options::default() }
}

pub(crate) fn for_seconds(key: &str, on_conflict: OnConflict, seconds: u64) -> Options {
    Options { unique_for: Some(Duration::from_secs(seconds)), ..once(key, on_conflict) }
}

/// A task that is in the store, and found the key free.
pub(crate) fn put(scene: &Scene, options: Options) -> Arc<Task> {
    let task = scene.task(options);
    let (tasks, changes) = scene.submit(&[&task]).unwrap();
    assert!(
        Arc::ptr_eq(&tasks[0], &task) && changes.is_empty(),
        "the key {:?} is taken",
        task.spec().unique()
    );
    task
}

/// A submit of a task that finds its key taken by `holder`.
pub(crate) fn returned(scene: &Scene, options: Options, holder: &Task) -> Arc<Task> {
    let task = scene.task(options);
    let (mut tasks, changes) = scene.submit(&[&task]).unwrap();
    assert!(changes.is_empty() && !scene.knows(&task));
    assert_eq!(tasks[0].id(), holder.id());
    tasks.remove(0)
}

fn cancelled(changes: &[Change], expected: &[(&Arc<Task>, State)]) {
    let expected: Vec<_> =
        expected.iter().map(|(task, from)| (task.id(), Some(*from), State::Cancelled)).collect();
    assert_eq!(moves(changes), expected);
}

fn live(scene: &Scene) -> Vec<TaskId> {
    let filter = Filter { unfinished: true, limit: usize::MAX, ..Filter::default() };
    ids(&scene.store.list(&filter, &Nobody).unwrap())
}

/// Whatever a new task does about it, the key that it asks for is its own if nobody has it.
pub fn a_key_has_one_holder(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    for (number, on_conflict) in ALL.into_iter().enumerate() {
        let task = put(&scene, once(&format!("key {number} '\"\u{1F9F6}"), on_conflict));
        assert_eq!(scene.copy(task.id()).spec(), task.spec());
        assert_eq!(scene.state(&task), State::Queued);
    }
    assert_eq!(scene.claim(9).len(), 3);
}

/// `Return`: the task that has the key stands in the place of the new one, whatever it is doing; the new one is
/// nowhere.
pub fn a_taken_key_gives_the_task_that_has_it(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let holder = put(&scene, Options { retries: Some(1), ..once("k", OnConflict::Reject) });
    let again = || {
        let row = scene.row(&holder);
        let other = returned(&scene, once("k", OnConflict::Return), &holder);
        assert_eq!((other.spec(), other.with_row(Clone::clone)), (holder.spec(), row.clone()));
        assert_eq!(scene.row(&holder), row);
    };
    again();
    scene.start(&holder);
    again();
    scene.commit(&holder, scene.fail(1)).unwrap();
    assert_eq!(scene.state(&holder), State::Retrying);
    again();
    scene.pass(60);
    again();
    scene.elapse(9);
    again();
    assert_eq!(live(&scene), [holder.id()]);
}

/// `Replace`: the task that has the key is cancelled, which is told, and the new one is inserted and has the key.
pub fn a_taken_key_may_be_taken_over(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let mut holder = put(&scene, once("k", OnConflict::Return));
    for round in 0..4 {
        let from = if round % 2 == 0 { State::Queued } else { State::Running };
        if from == State::Running {
            scene.start(&holder);
        }
        let next = scene.task(once("k", OnConflict::Replace));
        let (tasks, changes) = scene.submit(&[&next]).unwrap();
        assert!(Arc::ptr_eq(&tasks[0], &next));
        cancelled(&changes, &[(&holder, from)]);
        assert_eq!(changes[0].effects.left, (from == State::Running).then_some(scene.fence(1)));
        let row = scene.row(&holder);
        assert_eq!((row.state, row.finished), (State::Cancelled, Some(scene.now())));
        assert_eq!(row.history.unwrap().reason.as_deref(), Some("another task took its unique key"));
        returned(&scene, once("k", OnConflict::Return), &next);
        assert_eq!(live(&scene), [next.id()]);
        holder = next;
    }
}

/// `Reject`: the new task is refused; the refusal names the key and who has it.
pub fn a_taken_key_may_refuse(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let holder = put(&scene, once("k\"", OnConflict::Return));
    scene.start(&holder);
    let before = scene.row(&holder);
    let task = scene.task(once("k\"", OnConflict::Reject));
    let error = scene.submit(&[&task]).unwrap_err();
    assert_eq!(error.code(), Code::DuplicateKey);
    assert_eq!(error.message(), format!("running task {} has the unique key \"k\\\"\"", holder.id()));
    assert!(error.hint_text().unwrap().contains("on_conflict=\"replace\""));
    assert!(!scene.knows(&task));
    assert_eq!(scene.row(&holder), before);
    // Its id is as free as before.
    scene.commit(&holder, scene.succeed(1)).unwrap();
    scene.submit(&[&task]).unwrap();
}

/// The keys of one handler are nothing to another, and differ if they differ in a letter.
pub fn keys_are_the_handlers_own(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = |name: &str, key: &str| scene.task_for(name, b"{}", once(key, OnConflict::Reject));
    for (name, key) in [("a", "k"), ("b", "k"), ("a", "K"), ("a", "k "), ("A", "k"), ("ak", "k")] {
        scene.submit(&[&task(name, key)]).unwrap();
    }
    for (name, key) in [("a", "k"), ("b", "k"), ("a", "K")] {
        assert_eq!(scene.submit(&[&task(name, key)]).unwrap_err().code(), Code::DuplicateKey);
    }
    // Queues have nothing to do with it.
    let elsewhere = Options { queue: Some("q".into()), ..once("k", OnConflict::Reject) };
    assert!(scene.submit(&[&scene.task_for("a", b"{}", elsewhere)]).is_err());
    scene.add(Options::default());
    scene.add(Options::default());
}

/// A key is free as soon as its task has ended, however it did.
pub fn a_key_is_free_when_its_task_has_ended(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    for on_conflict in ALL {
        let task = put(&scene, once("k", on_conflict));
        scene.start(&task);
        scene.commit(&task, scene.succeed(1)).unwrap();
        let task = put(&scene, once("k", on_conflict));
        scene.start(&task);
        scene.commit(&task, scene.fail(1)).unwrap();
        let task = put(&scene, once("k", on_conflict));
        scene.commit(&task, Operation::Cancel { reason: None }).unwrap();
        let deadline = Some(When::In(Duration::from_secs(5)));
        put(&scene, Options { deadline, ..once("k", on_conflict) });
        scene.pass(5);
        assert_eq!(scene.elapse(9).0.len(), 1);
        let stillborn =
            Options { expires: Some(When::At(Timestamp::from_micros(1))), ..once("k", on_conflict) };
        put(&scene, stillborn);
        let task = put(&scene, once("k", on_conflict));
        scene.start(&task);
        // In the batch that ends it, too; which comes after the inserts of that batch.
        let next = scene.task(once("k", OnConflict::Reject));
        let batch = scene.write(Batch {
            inserts: vec![group(&[&next])],
            commits: vec![commit(&task, scene.succeed(1))],
            ..Batch::default()
        });
        assert!(batch.inserts[0].verdict.as_ref().unwrap().is_err() && batch.verdicts[0].is_ok());
        scene.submit(&[&next]).unwrap();
        scene.commit(&next, Operation::Cancel { reason: None }).unwrap();
    }
    assert!(live(&scene).is_empty());
}

/// With `unique_for`, a key stays taken until that time although its task has ended, and longer if it has not.
pub fn a_key_may_outlive_its_task(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = put(&scene, for_seconds("k", OnConflict::Return, 10));
    scene.start(&task);
    scene.commit(&task, scene.succeed(1)).unwrap();
    let until = task.spec().created + Duration::from_secs(10);
    for micros in [0, 5_000_000, 9_999_999] {
        scene.clock.set(task.spec().created + Duration::from_micros(micros));
        let other = returned(&scene, for_seconds("k", OnConflict::Return, 100), &task);
        assert_eq!(other.with_row(|row| row.result.clone()).as_deref(), Some(&b"42"[..]));
        let error = scene.submit(&[&scene.task(once("k", OnConflict::Reject))]).unwrap_err();
        assert_eq!(error.message(), format!("succeeded task {} has the unique key \"k\"", task.id()));
    }
    scene.clock.set(until);
    let next = put(&scene, for_seconds("k", OnConflict::Return, 10));
    // One that takes longer than that has its key until it ends.
    scene.start(&next);
    scene.pass(60);
    returned(&scene, once("k", OnConflict::Return), &next);
    scene.commit(&next, scene.succeed(1)).unwrap();
    put(&scene, once("k", OnConflict::Reject));
}

/// A task that has ended and keeps its key is not cancelled when another takes it over, and does not get it back.
pub fn a_key_that_outlived_its_task_is_taken_over(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let old = put(&scene, for_seconds("k", OnConflict::Return, 100));
    scene.start(&old);
    scene.commit(&old, scene.succeed(1)).unwrap();
    let before = scene.row(&old);
    let new = scene.task(once("k", OnConflict::Replace));
    let (tasks, changes) = scene.submit(&[&new]).unwrap();
    assert!(Arc::ptr_eq(&tasks[0], &new) && changes.is_empty());
    assert_eq!(scene.row(&old), before);
    returned(&scene, once("k", OnConflict::Return), &new);
    scene.commit(&new, Operation::Cancel { reason: None }).unwrap();
    put(&scene, once("k", OnConflict::Reject));
}

/// Nor is it forgotten before that time.
pub fn a_key_that_outlived_its_task_keeps_it(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = put(&scene, for_seconds("k", OnConflict::Return, 100));
    let short = put(&scene, once("other", OnConflict::Return));
    for task in [&task, &short] {
        scene.commit(task, Operation::Cancel { reason: None }).unwrap();
    }
    let now = scene.pass(99);
    assert_eq!(scene.store.sweep(now, 9).unwrap(), 1);
    assert!(!scene.knows(&short));
    returned(&scene, once("k", OnConflict::Return), &task);
    let now = scene.pass(1);
    assert_eq!(scene.store.sweep(now, 9).unwrap(), 1);
    assert!(!scene.knows(&task));
    put(&scene, once("k", OnConflict::Reject));
    put(&scene, once("other", OnConflict::Reject));
}

/// Tasks of one insert find the keys that those before them have taken.
pub fn tasks_of_one_insert_see_each_other(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = |on_conflict| scene.task(once("k", on_conflict));
    let (first, second, plain) =
        (task(OnConflict::Return), task(OnConflict::Return), scene.task(Options::default()));
    let (tasks, changes) = scene.submit(&[&plain, &first, &second]).unwrap();
    assert_eq!(ids(&tasks), [plain.id(), first.id(), first.id()]);
    assert!(Arc::ptr_eq(&tasks[1], &tasks[2]) && changes.is_empty() && !scene.knows(&second));

    let (third, fourth, fifth) =
        (task(OnConflict::Replace), task(OnConflict::Replace), task(OnConflict::Return));
    let (tasks, changes) = scene.submit(&[&third, &fourth, &fifth]).unwrap();
    assert_eq!(ids(&tasks), [third.id(), fourth.id(), fourth.id()]);
    cancelled(&changes, &[(&first, State::Queued), (&third, State::Queued)]);
    assert!(Arc::ptr_eq(&changes[1].task, &third));
    assert_eq!(
        (third.state(), scene.state(&third), scene.state(&fourth)),
        (State::Cancelled, State::Cancelled, State::Queued)
    );
    returned(&scene, once("k", OnConflict::Return), &fourth);

    let (a, b) = (scene.task(once("new", OnConflict::Return)), scene.task(once("new", OnConflict::Reject)));
    let error = scene.submit(&[&a, &b]).unwrap_err();
    assert_eq!(error.message(), format!("queued task {} has the unique key \"new\"", a.id()));
    assert!(!scene.knows(&a));
    put(&scene, once("new", OnConflict::Reject));
}

/// So do inserts of one batch, each of which is judged by itself.
pub fn inserts_of_one_batch_see_each_other(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = |on_conflict| scene.task(once("k", on_conflict));
    let first = task(OnConflict::Reject);
    let (rejected, other) = (task(OnConflict::Reject), scene.task(Options::default()));
    let (same, new, last) = (task(OnConflict::Return), task(OnConflict::Replace), task(OnConflict::Return));
    let inserts =
        vec![group(&[&first]), group(&[&other, &rejected]), group(&[&same]), group(&[&new]), group(&[&last])];
    let batch = scene.write(Batch { inserts, ..Batch::default() });
    let verdicts: Vec<_> =
        batch.inserts.iter().map(|insert| insert.verdict.as_ref().unwrap().is_ok()).collect();
    assert_eq!(verdicts, [true, false, true, true, true]);
    assert!(Arc::ptr_eq(&batch.inserts[2].tasks[0], &first));
    assert!(Arc::ptr_eq(&batch.inserts[4].tasks[0], &new));
    cancelled(&batch.consequences, &[(&first, State::Queued)]);
    assert!(Arc::ptr_eq(&batch.consequences[0].task, &first) && first.state() == State::Cancelled);
    assert_eq!(live(&scene), [new.id()]);
}

/// An insert that is refused, for an id or a key, takes no key, cancels nobody, and leaves its tasks as they were.
pub fn a_refused_insert_leaves_keys_and_holders_alone(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let holder = put(&scene, once("taken", OnConflict::Return));
    let kept = put(&scene, for_seconds("kept", OnConflict::Return, 1_000));
    scene.commit(&kept, Operation::Cancel { reason: None }).unwrap();
    let before = scene.row(&holder);
    let task = |key: &str, on_conflict| scene.task(once(key, on_conflict));
    let twin = scene.task(Options { id: Some(kept.id()), ..Options::default() });
    let refusing = [(twin, Code::DuplicateId), (task("taken", OnConflict::Reject), Code::DuplicateKey)];
    for (bad, code) in &refusing {
        for place in 0..4 {
            let own = [
                task("free", OnConflict::Return),
                task(
                    "taken",
                    if *code == Code::DuplicateId { OnConflict::Replace } else { OnConflict::Return },
                ),
                task("kept", OnConflict::Replace),
            ];
            let mut tasks: Vec<_> = own.iter().collect();
            tasks.insert(place, bad);
            let mut batch = Batch { inserts: vec![group(&tasks)], ..Batch::default() };
            scene.store.write(&mut batch, &Nobody, scene.now()).unwrap();
            let insert = &batch.inserts[0];
            assert_eq!(insert.verdict.as_ref().unwrap().as_ref().unwrap_err().code(), *code);
            assert!(insert.tasks.iter().zip(&tasks).all(|(there, task)| Arc::ptr_eq(there, task)));
            assert!(batch.consequences.is_empty());
            assert!(!own.iter().any(|task| scene.knows(task)));
            assert!(own.iter().all(|task| task.state() == State::Queued));
        }
    }
    assert_eq!(scene.row(&holder), before);
    returned(&scene, once("taken", OnConflict::Return), &holder);
    returned(&scene, once("kept", OnConflict::Return), &kept);
    put(&scene, once("free", OnConflict::Reject));
}

/// A task that is replaced goes like any that is cancelled: with its children, as far as they are not detached.
pub fn replacing_takes_the_children_along(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let holder = put(&scene, once("k", OnConflict::Return));
    scene.start(&holder);
    let (one, two) = (scene.run_child(&holder, 0, false), scene.run_child(&holder, 1, true));
    let below = scene.run_child(&one, 0, false);
    let new = scene.task(once("k", OnConflict::Replace));
    let (_, changes) = scene.submit(&[&new]).unwrap();
    cancelled(&changes, &[(&holder, State::Running), (&one, State::Running), (&below, State::Running)]);
    assert_eq!(live(&scene), {
        let mut all = [two.id(), new.id()];
        all.sort();
        all
    });
    // Only a task that is cancelled takes them along: not one that had ended and only kept its key.
    let ended = put(&scene, for_seconds("long", OnConflict::Return, 100));
    scene.start(&ended);
    let child = scene.run_child(&ended, 0, false);
    scene.commit(&ended, scene.succeed(1)).unwrap();
    let (_, changes) = scene.submit(&[&scene.task(once("long", OnConflict::Replace))]).unwrap();
    assert!(changes.is_empty());
    assert_eq!(scene.state(&child), State::Running);
}

/// Who stands in is the task that somebody here holds, as it is now, whether it lives or has ended; so is who is
/// replaced.
pub fn the_task_that_stands_in_is_the_one_in_memory(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let held = Live::default();
    let task = put(&scene, for_seconds("k", OnConflict::Return, 100));
    held.insert(&task);
    let submit = |on_conflict| {
        let inserts = vec![group(&[&scene.task(once("k", on_conflict))])];
        let mut batch = Batch { inserts, ..Batch::default() };
        scene.store.write(&mut batch, &held, scene.now()).unwrap();
        (batch.inserts.remove(0).tasks.remove(0), batch.consequences)
    };
    assert!(Arc::ptr_eq(&submit(OnConflict::Return).0, &task));
    // Another process's copy.
    scene.commit(&scene.copy(task.id()), Operation::Claim { owner: scene.me }).unwrap();
    assert!(Arc::ptr_eq(&submit(OnConflict::Return).0, &task));
    assert_eq!(task.state(), State::Running, "it shows what was read");
    scene.commit(&task, scene.succeed(1)).unwrap();
    task.settle();
    assert!(Arc::ptr_eq(&submit(OnConflict::Return).0, &task));
    let (new, changes) = submit(OnConflict::Replace);
    assert!(changes.is_empty());
    held.insert(&new);
    let (_, changes) = submit(OnConflict::Replace);
    assert!(Arc::ptr_eq(&changes[0].task, &new));
    assert_eq!(new.state(), State::Cancelled);
}

/// The claim of a batch finds the task that has the key in the end.
pub fn a_claim_of_the_batch_sees_who_won(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = |on_conflict| scene.task(once("k", on_conflict));
    let (old, new, same) = (task(OnConflict::Return), task(OnConflict::Replace), task(OnConflict::Return));
    let batch = scene.write(Batch {
        inserts: vec![group(&[&old]), group(&[&new]), group(&[&same])],
        claim: Some(scene.wish(&["default"], &[JOB], 9)),
        ..Batch::default()
    });
    assert_eq!(ids(&batch.claimed), [new.id()]);
    assert!(Arc::ptr_eq(&batch.claimed[0], &new) && Arc::ptr_eq(&batch.inserts[2].tasks[0], &new));
    assert_eq!((new.state(), old.state()), (State::Running, State::Cancelled));
}

/// The short way to insert could not say who stands in, so it refuses.
pub fn plain_inserts_refuse_keys(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let (task, plain) = (scene.task(once("k", OnConflict::Return)), scene.task(Options::default()));
    assert_eq!(scene.insert(&[&plain, &task]).unwrap_err().code(), Code::NotSupported);
    assert!(!scene.knows(&task) && !scene.knows(&plain));
}
