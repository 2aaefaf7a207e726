//! Schedules: a tick is fired once, together with its task, and the row hears of that task's end.
//!
//! These clauses do nothing for a store that does not keep schedules; it must say so, which is another clause.

use std::sync::Arc;
use std::time::Duration;

use taskloom_model::{
    CatchUp, Code, Error, Name, Operation, Options, Overlap, Priority, Rate, RetryPolicy, Rule,
    ScheduleEffects, ScheduleOperation, ScheduleRow, ScheduleSpec, Scheduled, State, TaskId, Template,
    Timestamp, Unique, When,
};
use taskloom_store::{Change, Nobody, ScheduleChange, Task};

use super::Harness;
use crate::scene::{JOB, Scene, moves, seconds};

const NAME: &str = "minutely";
const MINUTE: Duration = Duration::from_secs(60);

fn minutely() -> ScheduleSpec {
    let template = Template { handler: JOB.into(), payload: Box::new(*b"{}"), options: Options::default() };
    ScheduleSpec::new(NAME, Rule::Every(MINUTE), template)
}

fn with(overlap: Overlap) -> ScheduleSpec {
    ScheduleSpec { overlap, ..minutely() }
}

/// A scene with a schedule, on a store that keeps them.
fn scene(harness: &dyn Harness, spec: ScheduleSpec) -> Option<Scene> {
    let scene = Scene::new(harness);
    if !scene.store.capability().schedules {
        return None;
    }
    put(&scene, spec).unwrap();
    Some(scene)
}

fn change(scene: &Scene, change: ScheduleChange) -> Result<(ScheduleEffects, Vec<Change>), Error> {
    let mut changes = Vec::new();
    let effects = scene.store.change_schedule(change, &Nobody, &mut changes, scene.now())?;
    Ok((effects, changes))
}

fn apply(scene: &Scene, operation: ScheduleOperation) -> Result<ScheduleEffects, Error> {
    change(scene, ScheduleChange::new(NAME, operation)).map(|(effects, _)| effects)
}

fn put(scene: &Scene, spec: ScheduleSpec) -> Result<ScheduleEffects, Error> {
    let name = spec.name.clone();
    let operation = ScheduleOperation::Put { spec: Box::new(spec), chance: 0.0 };
    change(scene, ScheduleChange::new(name, operation)).map(|(effects, _)| effects)
}

fn row(scene: &Scene) -> ScheduleRow {
    scene.store.schedule(NAME).unwrap().unwrap()
}

/// The task of a firing, not yet in the store.
fn firing(scene: &Scene, id: TaskId, tick: Timestamp, options: Options) -> Arc<Task> {
    let task = scene.task(Options { id: Some(id), ..options });
    let mut spec = task.spec().clone();
    let scheduled = Scheduled { schedule: NAME.into(), tick };
    let rare = spec.rare.get_or_insert_default();
    rare.unique = Some(Unique { key: scheduled.unique_key(), until: None, on_conflict: Default::default() });
    rare.scheduled = Some(scheduled);
    Task::new(spec, task.with_row(Clone::clone), None)
}

fn fire_with(scene: &Scene, task: &Arc<Task>) -> Result<(ScheduleEffects, Vec<Change>), Error> {
    let tick = task.spec().scheduled().unwrap().tick;
    let operation = ScheduleOperation::Fire { tick, task: task.id(), chance: 0.0 };
    change(scene, ScheduleChange { name: NAME.into(), operation, task: Some(Arc::clone(task)) })
}

/// A minute passes, and the schedule fires.
fn fire(scene: &Scene) -> (Arc<Task>, ScheduleEffects, Vec<Change>) {
    scene.pass(60);
    fire_now(scene)
}

fn fire_now(scene: &Scene) -> (Arc<Task>, ScheduleEffects, Vec<Change>) {
    let tick = row(scene).due_now(scene.now()).unwrap().unwrap().tick;
    let task = firing(scene, scene.id(), tick, Options::default());
    let (effects, changes) = fire_with(scene, &task).unwrap();
    (task, effects, changes)
}

/// All that was asked for is there again, and what it submits too.
pub fn a_schedule_is_kept_as_it_was_asked_for(harness: &dyn Harness) {
    let Some(scene) = scene(harness, minutely()) else { return };
    let options = Options {
        queue: Some("night".into()),
        priority: Some(Priority::High),
        expires: seconds(50),
        timeout: Some(Duration::from_millis(1_500)),
        deadline: seconds(60),
        retries: Some(3),
        retry: Some(RetryPolicy { base: MINUTE, factor: 1.5, cap: MINUTE * 2 }),
        max_crashes: Some(9),
        version: Some("1.2.3".parse().unwrap()),
        tags: vec!["a".into(), "\u{1F9F6}".into()],
        key: Some("tenant".into()),
        concurrency: Some(2),
        rate: Some(Rate { count: 1, per: MINUTE, burst: 1 }),
        requires: vec!["gpu".into()],
        agent: Some("a".into()),
        metadata: vec![("initiator".into(), "me".into())],
        correlation_id: Some("c".into()),
        traceparent: Some(format!("00-{}-{}-01", "a".repeat(32), "1".repeat(16))),
        ..Options::default()
    };
    let template = Template { handler: "report".into(), payload: Box::new([b'"', 0xFF, 0, b'"']), options };
    let cron = Rule::Cron { expression: "0 3 * * MON#1".into(), tz: "Europe/Rome".into() };
    let year = scene.now() + MINUTE * 525_600;
    for (name, rule, overlap, catch_up) in [
        ("a", cron, Overlap::Skip, CatchUp::None),
        ("b", Rule::Every(Duration::from_micros(1_234_567)), Overlap::Queue, CatchUp::Last),
        ("c", Rule::Once(scene.now() + MINUTE), Overlap::Replace, CatchUp::All(7)),
    ] {
        let mut spec = ScheduleSpec::new(name, rule, template.clone());
        (spec.overlap, spec.catch_up, spec.jitter) = (overlap, catch_up, MINUTE);
        (spec.start, spec.end) = (Some(scene.now()), Some(year));
        let made = put(&scene, spec.clone()).unwrap();
        let found = scene.store.schedule(name).unwrap().unwrap();
        assert_eq!((&found.spec, found.enabled, found.created), (&spec, true, scene.now()));
        assert_eq!((made.created, made.due), (true, found.due));
        let ticks = found.ticks().unwrap();
        assert_eq!(found.next, ticks.first(scene.now()));
    }
    let names: Vec<_> = scene.store.schedules().unwrap().into_iter().map(|row| row.spec.name).collect();
    assert_eq!(names, ["a", "b", "c", NAME]);
    assert_eq!(scene.store.schedule("nothing").unwrap(), None);
}

/// What is refused leaves no trace; what changes nothing says so.
pub fn a_refused_change_leaves_the_schedule_alone(harness: &dyn Harness) {
    let Some(scene) = scene(harness, minutely()) else { return };
    let before = row(&scene);
    for operation in [
        ScheduleOperation::Fire { tick: scene.now(), task: scene.id(), chance: 0.0 },
        ScheduleOperation::Put {
            spec: Box::new(ScheduleSpec { rule: Rule::Every(Duration::ZERO), ..minutely() }),
            chance: 0.0,
        },
    ] {
        apply(&scene, operation).unwrap_err();
        assert_eq!(row(&scene), before);
    }
    assert!(!put(&scene, minutely()).unwrap().changed);
    assert_eq!(row(&scene), before);
    let missing = change(&scene, ScheduleChange::new("other", ScheduleOperation::Disable)).unwrap_err();
    assert_eq!(missing.code(), Code::UnknownSchedule);
}

/// Of those who race for a tick one gets it, and there is one task.
pub fn a_tick_is_fired_once_whoever_races(harness: &dyn Harness) {
    let Some(scene) = scene(harness, with(Overlap::Replace)) else { return };
    let others: Vec<_> = std::iter::once(Arc::clone(&scene.store)).chain(harness.again()).collect();
    for _ in 0..20 {
        let now = scene.pass(60);
        let tick = row(&scene).next.unwrap();
        let tasks: Vec<_> = (0..4).map(|_| firing(&scene, scene.id(), tick, Options::default())).collect();
        let fired = std::thread::scope(|scope| {
            let race = |(number, task): (usize, &Arc<Task>)| {
                let (store, task) = (Arc::clone(&others[number % others.len()]), Arc::clone(task));
                scope.spawn(move || {
                    let operation = ScheduleOperation::Fire { tick, task: task.id(), chance: 0.0 };
                    let change = ScheduleChange { name: NAME.into(), operation, task: Some(task) };
                    store.change_schedule(change, &Nobody, &mut Vec::new(), now)
                })
            };
            let racers: Vec<_> = tasks.iter().enumerate().map(race).collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect::<Vec<_>>()
        });
        let (won, lost): (Vec<_>, Vec<_>) = fired.into_iter().partition(Result::is_ok);
        assert_eq!((won.len(), won[0].as_ref().unwrap().submit_for), (1, Some(tick)));
        assert!(lost.iter().all(|lost| lost.as_ref().is_err_and(|error| error.code() == Code::LeaseLost)));
        assert_eq!(tasks.iter().filter(|task| scene.knows(task)).count(), 1);
    }
    assert_eq!(row(&scene).runs, 20);
}

/// A firing is the task and the row's move, or neither.
pub fn the_task_and_the_move_are_one_change(harness: &dyn Harness) {
    let Some(scene) = scene(harness, minutely()) else { return };
    let taken = scene.add(Options::default());
    let tick = scene.now() + MINUTE;
    scene.pass(60);
    let before = row(&scene);
    let twin = firing(&scene, taken.id(), tick, Options::default());
    assert_eq!(fire_with(&scene, &twin).unwrap_err().code(), Code::DuplicateId);
    assert_eq!(row(&scene), before, "the row has not moved");

    let (task, effects, changes) = fire_now(&scene);
    assert_eq!((effects.submit_for, moves(&changes)), (Some(tick), vec![(task.id(), None, State::Queued)]));
    let after = row(&scene);
    assert_eq!(
        (after.runs, after.last, after.live, after.last_task),
        (1, Some(tick), Some(task.id()), Some(task.id()))
    );
    assert_eq!((after.next, effects.due), (Some(tick + MINUTE), Some(tick + MINUTE)));
    assert_eq!(scene.copy(task.id()).spec(), task.spec(), "it says which firing it is");
}

/// The unique key of a firing holds beyond its schedule's row: made anew, it finds the task that lives.
pub fn a_tick_that_was_fired_is_found_again(harness: &dyn Harness) {
    let Some(scene) = scene(harness, minutely()) else { return };
    let start = scene.now();
    let (task, ..) = fire(&scene);
    apply(&scene, ScheduleOperation::Remove).unwrap();
    assert_eq!(scene.store.schedule(NAME).unwrap(), None);
    scene.clock.set(start);
    put(&scene, minutely()).unwrap();
    let (second, effects, changes) = fire(&scene);
    assert_eq!((effects.submit_for, changes.len()), (None, 0));
    assert!(!scene.knows(&second));
    let after = row(&scene);
    assert_eq!((after.runs, after.live, after.next), (0, Some(task.id()), Some(scene.now() + MINUTE)));
}

/// However a task ends, its schedule knows it in the same moment; those that went wrong are counted.
pub fn the_end_of_a_task_is_told_to_its_schedule(harness: &dyn Harness) {
    let Some(scene) = scene(harness, minutely()) else { return };
    let mut failures = 0;
    for end in [State::Succeeded, State::Failed, State::TimedOut, State::Cancelled, State::Expired] {
        scene.pass(60);
        let tick = row(&scene).next.unwrap();
        let expires = if end == State::Expired { seconds(5) } else { None };
        let task = firing(&scene, scene.id(), tick, Options { expires, ..Options::default() });
        fire_with(&scene, &task).unwrap();
        assert_eq!(row(&scene).live, Some(task.id()));
        match end {
            State::Cancelled => drop(scene.commit(&task, Operation::Cancel { reason: None }).unwrap()),
            State::Expired => {
                scene.pass(5);
                scene.elapse(10);
            }
            _ => {
                scene.start(&task);
                assert_eq!(row(&scene).live, Some(task.id()), "it has only begun");
                let operation = match end {
                    State::Succeeded => scene.succeed(1),
                    State::Failed => scene.fail(1),
                    _ => Operation::TimeOut { fence: scene.fence(1), chance: 0.0 },
                };
                scene.commit(&task, operation).unwrap();
            }
        }
        assert_eq!(scene.state(&task), end);
        failures += u64::from(ScheduleRow::is_failure(end));
        assert_eq!((row(&scene).live, row(&scene).failures), (None, failures), "{end}");
    }
    assert_eq!(failures, 3);
    // One whose end came with its insert.
    scene.pass(60);
    let tick = row(&scene).due_now(scene.now()).unwrap().unwrap().tick;
    let past = Some(When::At(scene.now()));
    let task = firing(&scene, scene.id(), tick, Options { expires: past, ..Options::default() });
    fire_with(&scene, &task).unwrap();
    assert_eq!((scene.state(&task), row(&scene).live, row(&scene).failures), (State::Expired, None, 4));
    // And one that is lost with its process, for the last time.
    let (task, ..) = fire(&scene);
    for _ in 0..3 {
        let dead = scene.join("dead");
        scene.commit(&task, Operation::Claim { owner: dead }).unwrap();
        scene.bury(dead);
    }
    assert_eq!((scene.state(&task), row(&scene).live, row(&scene).failures), (State::Failed, None, 5));
}

/// A tick that comes while the last task lives is left out, and counted.
pub fn an_overlapping_tick_is_skipped(harness: &dyn Harness) {
    let Some(scene) = scene(harness, minutely()) else { return };
    fire(&scene);
    let (second, effects, changes) = fire(&scene);
    assert!(effects.submit_for.is_none() && effects.skipped.is_some() && changes.is_empty());
    assert!(!scene.knows(&second));
    assert_eq!((row(&scene).runs, row(&scene).skipped), (1, 1));
}

/// A tick that waits for the last task is due as soon as that has ended, and not before.
pub fn a_waiting_tick_is_due_when_the_last_task_ends(harness: &dyn Harness) {
    let Some(scene) = scene(harness, with(Overlap::Queue)) else { return };
    let (first, ..) = fire(&scene);
    let waits = scene.now() + MINUTE;
    let (second, effects, _) = fire(&scene);
    assert!(effects.waits && !scene.knows(&second));
    assert_eq!(row(&scene).waiting, [waits]);
    let due = || scene.store.due_schedules(10, scene.now()).unwrap();
    assert_eq!((due().rows.len(), due().next), (0, Some(waits + MINUTE)));
    scene.start(&first);
    scene.commit(&first, scene.succeed(1)).unwrap();
    assert_eq!(due().rows, [row(&scene)]);
    let (third, effects, _) = fire_now(&scene);
    assert_eq!(effects.submit_for, Some(waits));
    assert_eq!((row(&scene).waiting.len(), row(&scene).live, row(&scene).runs), (0, Some(third.id()), 2));
}

/// The task whose place the next one takes is cancelled in the same change, and its children with it.
pub fn a_replaced_task_is_cancelled(harness: &dyn Harness) {
    let Some(scene) = scene(harness, with(Overlap::Replace)) else { return };
    let (first, ..) = fire(&scene);
    scene.start(&first);
    let child = scene.run_child(&first, 0, false);
    let (second, effects, changes) = fire(&scene);
    assert_eq!((effects.submit_for, effects.replaces), (Some(scene.now()), Some(first.id())));
    let mut told = moves(&changes);
    told.sort();
    let mut expected = vec![
        (first.id(), Some(State::Running), State::Cancelled),
        (child.id(), Some(State::Running), State::Cancelled),
        (second.id(), None, State::Queued),
    ];
    expected.sort();
    assert_eq!(told, expected);
    let row = row(&scene);
    assert_eq!((row.live, row.runs, row.failures), (Some(second.id()), 2, 0));
}

/// What is triggered by hand is a task more, and the next tick stays.
pub fn a_trigger_leaves_the_next_tick(harness: &dyn Harness) {
    let Some(scene) = scene(harness, minutely()) else { return };
    let next = row(&scene).next;
    scene.pass(7);
    let task = firing(&scene, scene.id(), scene.now(), Options::default());
    let operation = ScheduleOperation::Trigger { task: task.id() };
    let trigger = ScheduleChange { name: NAME.into(), operation, task: Some(Arc::clone(&task)) };
    let (effects, changes) = change(&scene, trigger).unwrap();
    assert_eq!((effects.submit_for, changes.len()), (Some(scene.now()), 1));
    assert_eq!(scene.claim_from(&["default"], &[Name::new(JOB).as_str()], 5).len(), 1);
    assert_eq!((row(&scene).next, row(&scene).runs, row(&scene).last), (next, 1, Some(scene.now())));
}

/// Those that are due come by their time, no more than are asked for; and the next time of the others is told.
pub fn due_schedules_come_in_order(harness: &dyn Harness) {
    let Some(scene) = scene(harness, minutely()) else { return };
    let start = scene.now();
    for (name, minutes) in [("late", 3), ("early", 2), ("latest", 9)] {
        put(&scene, ScheduleSpec { name: name.into(), rule: Rule::Every(MINUTE * minutes), ..minutely() })
            .unwrap();
    }
    let due = |limit| {
        let due = scene.store.due_schedules(limit, scene.now()).unwrap();
        (due.rows.into_iter().map(|row| row.spec.name).collect::<Vec<_>>(), due.next)
    };
    let text = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(due(10), (text(&[]), Some(start + MINUTE)));
    scene.pass(180);
    assert_eq!(due(10), (text(&[NAME, "early", "late"]), Some(start + MINUTE * 9)));
    assert_eq!(due(2), (text(&[NAME, "early"]), Some(start + MINUTE * 3)));
    apply(&scene, ScheduleOperation::Disable).unwrap();
    assert_eq!(due(1), (text(&["early"]), Some(start + MINUTE * 3)));
    assert!(!row(&scene).enabled);
    apply(&scene, ScheduleOperation::Enable { chance: 0.0 }).unwrap();
    assert_eq!(row(&scene).next, Some(start + MINUTE * 4));
}
