//! Looking at tasks, and forgetting them.

use std::sync::Arc;
use std::time::Duration;

use taskloom_model::{Code, Name, Operation, Options, State, TaskId};
use taskloom_store::{Filter, Nobody, Task};

use super::Harness;
use crate::scene::{JOB, Scene, ids};

fn list(scene: &Scene, filter: &Filter) -> Vec<TaskId> {
    ids(&scene.store.list(filter, &Nobody).unwrap())
}

/// A task that is not there is not an error.
pub fn an_unknown_id_is_nothing(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    scene.add(Options::default());
    for bytes in [[0; 16], [0xFF; 16]] {
        assert!(scene.store.get(TaskId::from_bytes(bytes), &Nobody).unwrap().is_none());
    }
}

/// Lists are ordered by id, whatever the order of arrival.
pub fn lists_come_in_the_order_of_ids(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    for first in [0x80, 0x00, 0xFF, 0x7F, 0x01] {
        let mut bytes = [0; 16];
        bytes[0] = first;
        scene.add(Options { id: Some(TaskId::from_bytes(bytes)), ..Options::default() });
    }
    let firsts: Vec<_> = list(&scene, &Filter::default()).iter().map(|id| id.as_bytes()[0]).collect();
    assert_eq!(firsts, [0x00, 0x01, 0x7F, 0x80, 0xFF]);
}

/// Lists hold what the filter asks for, in all its parts, and show it as it is.
pub fn lists_are_filtered(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let put = |queue: &str, name: &str| {
        let task = scene.task_for(name, b"{}", Options { queue: Some(queue.into()), ..Options::default() });
        scene.insert(&[&task]).unwrap();
        task
    };
    let (a, b, c) = (put("q", "x"), put("q", "y"), put("r", "x"));
    scene.start(&c);
    let (q, x) = (Some(Name::new("q")), Some(Name::new("x")));
    let all = Filter::default();
    assert_eq!(list(&scene, &all), [a.id(), b.id(), c.id()]);
    assert_eq!(list(&scene, &Filter { queue: q, ..all.clone() }), [a.id(), b.id()]);
    assert_eq!(list(&scene, &Filter { name: x, ..all.clone() }), [a.id(), c.id()]);
    assert_eq!(list(&scene, &Filter { queue: q, name: x, ..all.clone() }), [a.id()]);
    assert_eq!(list(&scene, &Filter { state: Some(State::Running), ..all.clone() }), [c.id()]);
    assert_eq!(list(&scene, &Filter { state: Some(State::Queued), name: x, ..all.clone() }), [a.id()]);
    assert!(list(&scene, &Filter { state: Some(State::Failed), ..all.clone() }).is_empty());
    assert!(list(&scene, &Filter { queue: Some(Name::new("Q")), ..all.clone() }).is_empty());
    let since = |changed_since| Filter { changed_since, newest_first: true, ..all.clone() };
    let started = scene.row(&c).updated;
    assert_eq!(list(&scene, &since(Some(scene.row(&a).updated))), [c.id(), b.id(), a.id()]);
    assert!(list(&scene, &since(Some(started))).contains(&c.id()));
    assert!(list(&scene, &since(Some(started + std::time::Duration::from_micros(1)))).is_empty());
    let shown =
        &scene.store.list(&Filter { name: x, queue: Some(Name::new("r")), ..all }, &Nobody).unwrap()[0];
    assert_eq!(shown.spec(), c.spec());
    assert_eq!(shown.with_row(Clone::clone), scene.row(&c));
}

/// A list can be of the tasks with a tag, and of those that have not ended, beside all else.
pub fn lists_know_tags_and_what_has_ended(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let add = |queue: &str, tags: &[&str]| {
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        scene.add(Options { queue: Some(queue.into()), tags, ..Options::default() })
    };
    let tagged = |tag: &str| Filter { tag: Some(tag.into()), ..Filter::default() };
    let a = add("q", &["red", "\"quoted\" \u{1F9F6}"]);
    let b = add("q", &["green", "red"]);
    let c = add("r", &["red green"]);
    let none = add("r", &[]);
    assert_eq!(list(&scene, &tagged("red")), [a.id(), b.id()]);
    assert_eq!(list(&scene, &tagged("\"quoted\" \u{1F9F6}")), [a.id()]);
    assert_eq!(list(&scene, &tagged("red green")), [c.id()]);
    for unknown in ["Red", "re", "", "tags", "%", "blue"] {
        assert!(list(&scene, &tagged(unknown)).is_empty(), "{unknown}");
    }
    scene.commit(&a, Operation::Cancel { reason: None }).unwrap();
    scene.start(&b);
    let unfinished = Filter { unfinished: true, ..Filter::default() };
    assert_eq!(list(&scene, &unfinished), [b.id(), c.id(), none.id()]);
    let both = Filter { unfinished: true, ..tagged("red") };
    assert_eq!(list(&scene, &both), [b.id()]);
    assert_eq!(
        list(&scene, &Filter { queue: Some(Name::new("r")), ..unfinished.clone() }),
        [c.id(), none.id()]
    );
    assert_eq!(list(&scene, &Filter { state: Some(State::Running), ..unfinished.clone() }), [b.id()]);
    assert!(list(&scene, &Filter { state: Some(State::Cancelled), ..unfinished }).is_empty());
    assert!(list(&scene, &Filter { state: Some(State::Queued), ..both }).is_empty());
    // In pages, of which each is full but the last, however few tasks fit.
    let mut rare = Vec::new();
    for number in 0..60 {
        let task = add("s", if number % 7 == 0 { &["rare"] } else { &["common"] });
        if number % 14 == 0 {
            rare.push(task.id());
        } else if number % 7 == 0 {
            scene.commit(&task, Operation::Cancel { reason: None }).unwrap();
        }
    }
    let page = |after| Filter { after, limit: 2, unfinished: true, ..tagged("rare") };
    let first = list(&scene, &page(None));
    assert_eq!(first, rare[..2]);
    let second = list(&scene, &page(Some(first[1])));
    assert_eq!(second, rare[2..4]);
    assert_eq!(list(&scene, &page(Some(second[1]))), rare[4..]);
}

/// A long list can be read in pages, each beginning after the last id of the one before.
pub fn lists_are_read_page_by_page(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let tasks: Vec<Arc<Task>> = (0..25).map(|_| scene.add(Options::default())).collect();
    for running in tasks.iter().step_by(3) {
        scene.start(running);
    }
    for state in [None, Some(State::Queued), Some(State::Running)] {
        let whole = list(&scene, &Filter { state, ..Filter::default() });
        let mut pages = Vec::new();
        let mut after = None;
        for pages_read in 0.. {
            assert!(pages_read < 20, "the pages do not end");
            let page = list(&scene, &Filter { state, after, limit: 4, ..Filter::default() });
            assert!(page.len() <= 4);
            let Some(last) = page.last() else { break };
            after = Some(*last);
            pages.extend(page);
        }
        assert_eq!(pages, whole);
        let back = |after, limit| Filter { state, after, limit, newest_first: true, ..Filter::default() };
        let mut backwards = list(&scene, &back(None, 3));
        backwards.extend(list(&scene, &back(backwards.last().copied(), 100)));
        backwards.reverse();
        assert_eq!(backwards, whole);
    }
    assert!(list(&scene, &Filter { limit: 0, ..Filter::default() }).is_empty());
}

/// Every task is counted, once, in the state that it is in.
pub fn counts_are_by_state(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    for (more, state) in State::ALL.iter().enumerate() {
        for _ in 0..=more % 3 {
            scene.in_state(*state);
        }
    }
    let counts = scene.store.counts().unwrap();
    for (more, state) in State::ALL.iter().enumerate() {
        assert_eq!(counts.get(*state), more as u64 % 3 + 1, "{state}");
    }
    assert_eq!(counts.unfinished(), 1 + 2 + 3 + 1);
}

/// Every task is counted in its queue; a queue without tasks is not named.
pub fn counts_are_by_queue(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    assert!(scene.store.queue_counts().unwrap().is_empty());
    let add = |queue: &str| scene.add(Options { queue: Some(queue.into()), ..Options::default() });
    let (b, _, _, _) = (add("b"), add("a"), add("\u{E4}"), add("b"));
    add("B");
    scene.start(&b);
    scene.store.set_paused(Name::new("empty"), true).unwrap();
    let told = || {
        let counts = scene.store.queue_counts().unwrap();
        let count = |(queue, counts): &(Name, taskloom_store::Counts)| {
            (queue.as_str(), counts.get(State::Queued), counts.get(State::Running), counts.unfinished())
        };
        counts.iter().map(count).collect::<Vec<_>>()
    };
    assert_eq!(told(), [("B", 1, 0, 1), ("a", 1, 0, 1), ("b", 1, 1, 2), ("\u{E4}", 1, 0, 1)]);
    scene.commit(&b, scene.succeed(1)).unwrap();
    assert_eq!(told()[2], ("b", 1, 0, 1));
    let (all, queues) = (scene.store.counts().unwrap(), scene.store.queue_counts().unwrap());
    let mut sum = taskloom_store::Counts::default();
    queues.into_iter().for_each(|(_, counts)| sum.add_all(counts));
    assert_eq!(sum, all);
    assert_eq!((all.get(State::Succeeded), all.unfinished()), (1, 4));
}

/// Only what ended before the given time is forgotten, however long ago it began.
pub fn sweeping_forgets_what_ended_before(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let old: Vec<_> = State::ALL.iter().map(|state| scene.in_state(*state)).collect();
    let running = scene.run(Options::default());
    let boundary = scene.pass(10);
    let new = scene.in_state(State::Succeeded);
    scene.commit(&running, scene.succeed(1)).unwrap();
    scene.pass(10);
    assert_eq!(scene.store.sweep(old[0].spec().created, 100).unwrap(), 0);
    assert_eq!(scene.store.sweep(boundary, 100).unwrap(), 6);
    for task in &old {
        assert_eq!(scene.knows(task), !task.state().is_terminal(), "{:?}", task.state());
    }
    assert!(scene.knows(&new) && scene.knows(&running));
    assert_eq!(list(&scene, &Filter { name: Some(Name::new(JOB)), ..Filter::default() }).len(), 6);
    assert_eq!(scene.store.sweep(boundary, 100).unwrap(), 0);
}

/// A sweep is done in steps, each of which says how much it did.
pub fn no_more_than_the_limit_is_swept(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    for _ in 0..10 {
        scene.in_state(State::Cancelled);
    }
    let now = scene.pass(1);
    for (limit, forgot) in [(0, 0), (4, 4), (4, 4), (4, 2), (4, 0)] {
        assert_eq!(scene.store.sweep(now, limit).unwrap(), forgot);
    }
    assert_eq!(scene.store.counts().unwrap().get(State::Cancelled), 0);
}

/// Dead letters are what ended, and not as it should have.
pub fn dead_letters_are_listed(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let all: Vec<_> = State::ALL.iter().map(|state| scene.in_state(*state)).collect();
    let found = list(&scene, &Filter { dead: true, ..Filter::default() });
    let dead = all.iter().filter(|task| task.state().is_dead());
    assert_eq!(found, dead.map(|task| task.id()).collect::<Vec<_>>());
    assert_eq!(found.len(), 4);
    let one = Filter { dead: true, state: Some(State::Expired), ..Filter::default() };
    assert_eq!(list(&scene, &one).len(), 1);
    let none = Filter { dead: true, state: Some(State::Succeeded), ..Filter::default() };
    assert!(list(&scene, &none).is_empty());
}

/// Of the tasks that are named those are forgotten that have ended in one of the states that are; nothing unfinished
/// ever is.
pub fn what_has_ended_so_is_discarded(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let all: Vec<_> = State::ALL.iter().map(|state| scene.in_state(*state)).collect();
    let spared = scene.in_state(State::Failed);
    let mut ids: Vec<_> = all.iter().map(|task| task.id()).collect();
    ids.push(scene.id());
    let discard = |states: &[State]| scene.store.discard(&ids, states, scene.now()).unwrap();
    assert_eq!(discard(&[]), 0);
    assert_eq!(discard(&[State::Failed, State::Expired, State::Queued]), 2);
    for task in &all {
        let gone = matches!(task.state(), State::Failed | State::Expired);
        assert_eq!(scene.knows(task), !gone, "{:?}", task.state());
    }
    assert_eq!(discard(State::ALL), 4);
    assert_eq!(discard(State::ALL), 0);
    assert!(scene.knows(&spared));
    assert_eq!(scene.store.counts().unwrap().unfinished(), 4);
    // Whoever still holds one has its outcome; the task is not there to be started over.
    let error = scene.commit(&all[usize::from(State::Failed.number())], Operation::Replay).unwrap_err();
    assert_eq!(error.code(), Code::UnknownTask);
}

/// A child is not discarded while its parent may ask for it, nor a task that keeps its unique key.
pub fn what_is_needed_is_not_discarded(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let parent = scene.run(Options::default());
    let child = scene.run_child(&parent, 0, false);
    scene.commit(&child, scene.fail(1)).unwrap();
    let unique = |seconds: u64| Options {
        unique_key: Some("k".into()),
        unique_for: Some(Duration::from_secs(seconds)),
        ..Options::default()
    };
    let keeper = scene.task(unique(50));
    scene.submit(&[&keeper]).unwrap();
    scene.commit(&keeper, Operation::Cancel { reason: None }).unwrap();
    let ids = [child.id(), keeper.id()];
    let discard = || scene.store.discard(&ids, State::ALL, scene.now()).unwrap();
    assert_eq!(discard(), 0);
    scene.commit(&parent, scene.succeed(1)).unwrap();
    assert_eq!(discard(), 1);
    assert!(!scene.knows(&child) && scene.knows(&keeper));
    scene.pass(50);
    assert_eq!(discard(), 1);
    // Its key went with it.
    let next = scene.task(unique(50));
    assert!(Arc::ptr_eq(&scene.submit(&[&next]).unwrap().0[0], &next));
}
