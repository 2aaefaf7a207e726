//! What a store says that it can do, and what it says when it cannot.

use std::sync::Arc;
use std::time::Duration;

use taskloom_model::{Code, Error, Options, Rule, ScheduleOperation, ScheduleSpec, State, Template};
use taskloom_store::{Commit, Nobody, ScheduleChange};

use super::Harness;
use crate::scene::Scene;

fn not_yet(error: &Error) {
    assert_eq!(error.code(), Code::NotSupported);
    assert!(error.message().contains("yet"), "{error}");
}

/// A store's answer does not change, and a durable one can be opened again.
pub fn what_was_promised_is_answered(harness: &dyn Harness) {
    let store = harness.fresh();
    assert_eq!(store.capability(), store.capability());
    if let Some(again) = harness.again() {
        assert_eq!(again.capability(), store.capability());
        assert!(store.capability().durable);
    }
}

/// A task with dependencies waits for them; a store that cannot keep them refuses it, rather than forget them.
pub fn dependencies_are_kept_or_refused(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let first = scene.run(Options::default());
    let dependent = scene.task(Options { depends_on: vec![first.id()], ..Options::default() });
    let beside = scene.task(Options::default());
    let inserted = scene.insert(&[&beside, &dependent]);
    if scene.store.capability().dependencies {
        inserted.unwrap();
        assert_eq!(scene.state(&dependent), State::Pending);
        return;
    }
    not_yet(&inserted.unwrap_err());
    assert!(!scene.knows(&dependent) && !scene.knows(&beside));
    let spawn = vec![Arc::clone(&dependent)];
    let commit = Commit { task: Arc::clone(&first), operation: scene.succeed(1), spawn };
    not_yet(&scene.store.commit(commit, &mut Vec::new(), scene.now()).unwrap_err());
    assert_eq!(scene.state(&first), State::Running);
    assert!(!scene.knows(&dependent));
}

/// A schedule is kept; a store that cannot says so.
pub fn schedules_are_kept_or_refused(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let template = Template { handler: "job".into(), payload: Box::new(*b"{}"), options: Options::default() };
    let spec = Box::new(ScheduleSpec::new("minutely", Rule::Every(Duration::from_secs(60)), template));
    let put = ScheduleChange::new("minutely", ScheduleOperation::Put { spec, chance: 0.0 });
    let made = scene.store.change_schedule(put, &Nobody, &mut Vec::new(), scene.now());
    if scene.store.capability().schedules {
        made.unwrap();
        assert_eq!(scene.store.schedules().unwrap().len(), 1);
        return;
    }
    let error = made.unwrap_err();
    not_yet(&error);
    assert!(error.message().contains("minutely"));
    not_yet(&scene.store.schedules().unwrap_err());
}
