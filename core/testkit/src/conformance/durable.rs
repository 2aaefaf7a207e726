//! What outlives a process, and what several processes on one store see of each other.
//!
//! These clauses do nothing for a store whose harness cannot open it again.

use std::time::Duration;

use taskloom_model::{
    Code, Fence, Limit, LimitFor, LimitRow, Name, OnConflict, Operation, Options, Priority, Progress, Rule,
    ScheduleOperation, ScheduleSpec, SetBy, State, TaskId, Template,
};
use taskloom_store::{Live, Nobody, Owner, ScheduleChange, Task};

use super::Harness;
use crate::scene::{JOB, Scene, ids, moves, seconds};

/// Two openings of one store, or nothing.
fn both(harness: &dyn Harness) -> Option<(Scene, Scene)> {
    let scene = Scene::new(harness);
    let again = harness.again()?;
    assert!(scene.store.capability().durable);
    let other = scene.beside(again);
    Some((scene, other))
}

/// Every task in every state is there after the store was closed, with its times and its owners.
pub fn everything_outlives_the_store(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let tasks: Vec<_> = State::ALL.iter().map(|state| scene.in_state(*state)).collect();
    let options = Options { priority: Some(Priority::High), tags: vec!["t".into()], ..Options::default() };
    let task = scene.task_for("other", &[b'x'; 10_000], options);
    scene.insert(&[&task]).unwrap();
    let (counts, owners, next) =
        (scene.store.counts().unwrap(), scene.store.owners().unwrap(), scene.elapse(0).1);
    let rows: Vec<_> = tasks.iter().chain([&task]).map(|task| scene.row(task)).collect();
    let Scene { store, clock, .. } = scene;
    drop(store);
    let Some(again) = harness.again() else { return };
    let mut changes = Vec::new();
    assert_eq!(again.elapse(0, &taskloom_store::Nobody, &mut changes, clock.now()).unwrap(), next);
    assert_eq!(again.counts().unwrap(), counts);
    // Of one whose process has ended a store may know that.
    let known = |owners: Vec<Owner>| {
        owners.into_iter().map(|owner| (owner.id, owner.name, owner.beats)).collect::<Vec<_>>()
    };
    assert_eq!(known(again.owners().unwrap()), known(owners));
    let live = Live::default();
    for (task, row) in tasks.iter().chain([&task]).zip(rows) {
        let found = again.get(task.id(), &live).unwrap().unwrap();
        assert_eq!((found.spec(), found.with_row(Clone::clone)), (task.spec(), row));
    }
}

/// Slots, tokens and limits hold in all openings, and outlive them.
pub fn limits_hold_between_openings(harness: &dyn Harness) {
    let Some((scene, other)) = both(harness) else { return };
    let what = LimitFor::Handler(Name::new(JOB));
    let limit = Limit { concurrency: Some(2), rate: None };
    let row = LimitRow { what, by: SetBy::Operator, limit };
    assert!(scene.store.set_limit(row.clone(), &mut Vec::new(), scene.now()).unwrap());
    assert!(!other.store.set_limit(row.clone(), &mut Vec::new(), scene.now()).unwrap());
    let one = Options { key: Some("a".into()), concurrency: Some(1), ..Options::default() };
    let tasks: Vec<_> = (0..2).map(|_| scene.add(one.clone())).collect();
    let others: Vec<_> = (0..2).map(|_| scene.add(Options::default())).collect();
    assert_eq!(ids(&other.claim(1)), [tasks[0].id()]);
    assert_eq!(ids(&scene.claim(9)), [others[0].id()], "one slot is taken there, and the key");
    let attempt = Fence { owner: other.me, attempt: 1 };
    let done = Operation::Succeed { fence: attempt, result: b"1".into(), metadata: None };
    other.commit(&other.copy(tasks[0].id()), done).unwrap();
    let Scene { store, clock, .. } = scene;
    drop((store, other));
    let Some(again) = harness.again() else { return };
    assert_eq!(again.limits().unwrap(), [row]);
    let last = Scene::on(again);
    last.clock.advance(clock.now().since(last.now()));
    assert_eq!(last.claim(9).len(), 1, "one of the two slots is still taken");
}

/// What handlers have told of themselves is there after the store was closed.
pub fn logs_and_progress_outlive_the_store(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = scene.run(Options::default());
    let progress = Progress { value: 0.25, message: Some("a quarter".into()), at: scene.now() };
    let lines = vec![scene.line("first"), scene.line("second")];
    let fence = scene.fence(1);
    scene.commit(&task, Operation::Log { fence, lines: lines.clone(), dropped: 0 }).unwrap();
    scene.commit(&task, Operation::Progress { fence, progress: progress.clone() }).unwrap();
    let child = scene.run_child(&task, 1, false);
    drop(scene);
    let Some(again) = harness.again() else { return };
    let row = again.get(task.id(), &Nobody).unwrap().unwrap().with_row(Clone::clone);
    let history = row.history.unwrap();
    assert_eq!((history.log, history.progress, history.children), (lines, vec![progress], 2));
    assert_eq!(again.get(child.id(), &Nobody).unwrap().unwrap().spec(), child.spec());
}

/// So are schedules, with their history.
pub fn schedules_outlive_the_store(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    if !scene.store.capability().schedules {
        return;
    }
    let template = Template { handler: JOB.into(), payload: Box::new(*b"{}"), options: Options::default() };
    let cron = Rule::Cron { expression: "@hourly".into(), tz: "America/New_York".into() };
    for (name, rule) in [("a", cron), ("b", Rule::Every(Duration::from_secs(60)))] {
        let spec = Box::new(ScheduleSpec::new(name, rule, template.clone()));
        let put = ScheduleChange::new(name, ScheduleOperation::Put { spec, chance: 0.5 });
        scene.store.change_schedule(put, &Nobody, &mut Vec::new(), scene.now()).unwrap();
    }
    let task = scene.task(Options::default());
    let operation = ScheduleOperation::Trigger { task: task.id() };
    let trigger = ScheduleChange { name: "b".into(), operation, task: Some(task) };
    scene.store.change_schedule(trigger, &Nobody, &mut Vec::new(), scene.now()).unwrap();
    let rows = scene.store.schedules().unwrap();
    assert_eq!((rows.len(), rows[1].runs), (2, 1));
    drop(scene);
    let Some(again) = harness.again() else { return };
    assert_eq!(again.schedules().unwrap(), rows);
}

/// So are unique keys and paused queues, and both hold between openings.
pub fn keys_and_pauses_hold_between_openings(harness: &dyn Harness) {
    let Some((here, there)) = both(harness) else { return };
    let once = |on_conflict| Options {
        unique_key: Some("once".into()),
        on_conflict: Some(on_conflict),
        ..Options::default()
    };
    let task = here.task(once(OnConflict::Return));
    here.submit(&[&task]).unwrap();
    let second = there.task(once(OnConflict::Return));
    assert_eq!(ids(&there.submit(&[&second]).unwrap().0), [task.id()]);
    let error = there.submit(&[&there.task(once(OnConflict::Reject))]).unwrap_err();
    assert_eq!(error.code(), Code::DuplicateKey);
    let queue = Name::new("default");
    assert!(here.store.set_paused(queue, true).unwrap());
    assert!(!there.store.set_paused(queue, true).unwrap());
    assert_eq!(there.store.paused().unwrap(), [queue]);
    assert!(there.claim(5).is_empty());
    let Scene { store, .. } = here;
    drop((store, there));
    let Some(again) = harness.again() else { return };
    let again = Scene::on(again);
    assert_eq!(again.store.paused().unwrap(), [queue]);
    assert!(again.claim(5).is_empty());
    let third = TaskId::from_bytes([0xEE; 16]);
    let third = again.task(Options { id: Some(third), ..once(OnConflict::Replace) });
    let (_, changes) = again.submit(&[&third]).unwrap();
    assert_eq!(moves(&changes), [(task.id(), Some(State::Queued), State::Cancelled)]);
    assert!(again.store.set_paused(queue, false).unwrap());
    assert_eq!(ids(&again.claim(5)), [third.id()]);
}

/// The next process takes over what a dead one ran, and the dead one's reports are refused.
pub fn the_running_tasks_of_the_dead_go_to_the_living(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = scene.run(Options::default());
    let dead = scene.me;
    drop(scene);
    let Some(again) = harness.again() else { return };
    let scene = Scene::on(again);
    assert!(scene.claim(1).is_empty(), "the store does not judge who is dead");
    assert_eq!(scene.bury(dead).len(), 1);
    let claimed = scene.claim(1).remove(0);
    assert_eq!((claimed.id(), claimed.spec()), (task.id(), task.spec()));
    let fence = Fence { owner: dead, attempt: 1 };
    let late = Operation::Succeed { fence, result: b"0".into(), metadata: None };
    assert_eq!(scene.commit(&task, late).unwrap_err().code(), Code::LeaseLost);
    scene.commit(&claimed, scene.succeed(2)).unwrap();
}

/// A number is not given out again, even if all who had one are gone and the store was closed.
pub fn numbers_of_owners_are_not_given_out_again_later(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let last = scene.join("last");
    scene.bury(last);
    scene.bury(scene.me);
    drop(scene);
    let Some(again) = harness.again() else { return };
    assert!(Scene::on(again).me > last);
}

/// What one opening commits, the other sees at once.
pub fn two_openings_see_each_other(harness: &dyn Harness) {
    let Some((here, there)) = both(harness) else { return };
    let task = here.add(Options { expires: seconds(5), ..Options::default() });
    assert_eq!(there.state(&task), State::Queued);
    assert_eq!(there.store.counts().unwrap().get(State::Queued), 1);
    assert_eq!(there.elapse(9).1, task.spec().expires());
    assert_eq!(there.insert(&[&task]).unwrap_err().code(), Code::DuplicateId);
    assert_eq!(ids(&there.claim(5)), [task.id()]);
    assert!(here.claim(5).is_empty());
    assert_eq!(here.row(&task).owner, Some(there.me));
    assert_eq!(here.store.owners().unwrap().len(), 2);
}

/// The fence knows no borders: each opening's copy may be out of date, the store is not.
pub fn fencing_holds_between_openings(harness: &dyn Harness) {
    let Some((here, there)) = both(harness) else { return };
    let task = here.run(Options::default());
    let copy = there.copy(task.id());
    there.commit(&copy, Operation::Cancel { reason: Some("over there".into()) }).unwrap();
    assert_eq!(task.state(), State::Running, "nobody has told this copy");
    assert_eq!(here.commit(&task, here.succeed(1)).unwrap_err().code(), Code::LeaseLost);
    assert_eq!(here.state(&task), State::Cancelled);

    let task = here.run(Options::default());
    there.bury(here.me);
    let claimed = there.claim(1).remove(0);
    assert_eq!(here.commit(&task, here.succeed(1)).unwrap_err().code(), Code::LeaseLost);
    assert_eq!(here.commit(&task, here.succeed(2)).unwrap_err().code(), Code::LeaseLost);
    there.commit(&claimed, there.succeed(2)).unwrap();
}

/// Openings that claim in turn never get the same task, and together get all.
pub fn a_task_goes_to_one_of_two_openings(harness: &dyn Harness) {
    let Some((here, there)) = both(harness) else { return };
    let tasks: Vec<_> = (0..20).map(|_| here.add(Options::default())).collect();
    let mut claimed = Vec::new();
    for _ in 0..4 {
        claimed.extend(ids(&here.claim_from(&["default"], &[JOB], 3)));
        claimed.extend(ids(&there.claim_from(&["default"], &[JOB], 2)));
    }
    assert_eq!(claimed, ids(&tasks));
}

/// A task that is held here shows what another opening did as soon as it is read.
pub fn a_claim_elsewhere_is_seen_here(harness: &dyn Harness) {
    let Some((here, there)) = both(harness) else { return };
    let live = Live::default();
    let task: std::sync::Arc<Task> = here.add(Options::default());
    live.insert(&task);
    let claimed = there.claim(1).remove(0);
    there.commit(&claimed, there.succeed(1)).unwrap();
    assert_eq!(task.state(), State::Queued);
    here.store.get(task.id(), &live).unwrap();
    assert_eq!(task.state(), State::Succeeded);
    assert_eq!(task.with_row(|row| row.result.clone()).as_deref(), Some(&b"42"[..]));
}
