//! Paused queues.

use taskloom_model::{Name, Operation, Options, State};
use taskloom_store::Batch;

use super::Harness;
use crate::scene::{JOB, Scene, commit, group, ids, seconds};

fn in_queue(scene: &Scene, queue: &str) -> std::sync::Arc<taskloom_store::Task> {
    scene.add(Options { queue: Some(queue.into()), ..Options::default() })
}

fn pause(scene: &Scene, queue: &str, paused: bool) -> bool {
    scene.store.set_paused(Name::new(queue), paused).unwrap()
}

/// A claim passes over a paused queue, whether it names it or not, and finds its tasks when it goes on.
pub fn a_paused_queue_is_left_out_of_claims(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let (a, b, c) = (in_queue(&scene, "a"), in_queue(&scene, "b"), in_queue(&scene, "c"));
    let other = scene.task_for("other", b"{}", Options { queue: Some("b".into()), ..Options::default() });
    scene.insert(&[&other]).unwrap();
    pause(&scene, "b", true);
    assert!(scene.claim_from(&["b"], &[JOB, "other"], 9).is_empty());
    assert_eq!(ids(&scene.claim_from(&["b", "a"], &[JOB, "other"], 9)), [a.id()]);
    assert_eq!(ids(&scene.claim_from(&[], &[JOB, "other"], 9)), [c.id()]);
    pause(&scene, "a", true);
    pause(&scene, "b", false);
    let again = in_queue(&scene, "a");
    assert_eq!(ids(&scene.claim_from(&["a", "b"], &[JOB, "other"], 9)), [b.id(), other.id()]);
    pause(&scene, "a", false);
    assert_eq!(ids(&scene.claim_from(&[], &[JOB], 9)), [again.id()]);
}

/// Whoever pauses a queue learns whether somebody has done so before; the queues are listed by name.
pub fn pausing_says_whether_it_was_new(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let paused = || scene.store.paused().unwrap();
    assert!(paused().is_empty());
    assert!(!pause(&scene, "b", false), "it is not paused");
    assert!(pause(&scene, "b", true) && pause(&scene, "a", true) && pause(&scene, "\u{E4}", true));
    assert!(!pause(&scene, "b", true));
    assert_eq!(paused(), ["a", "b", "\u{E4}"].map(Name::new));
    assert!(pause(&scene, "b", false));
    assert!(!pause(&scene, "b", false));
    assert_eq!(paused(), ["a", "\u{E4}"].map(Name::new));
    assert!(pause(&scene, "b", true), "once more");
    assert_eq!(paused().len(), 3);
}

/// A queue can be paused before it has a task, and whatever it is called.
pub fn any_queue_can_be_paused(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    for queue in ["empty", "';DROP_TABLE_queues;--", "\u{1F9F6}", "Empty", "%_?1"] {
        assert!(pause(&scene, queue, true));
        let task = in_queue(&scene, queue);
        assert!(scene.claim_from(&[queue], &[JOB], 9).is_empty());
        assert!(pause(&scene, queue, false));
        assert_eq!(ids(&scene.claim_from(&[], &[JOB], 9)), [task.id()]);
    }
}

/// Only claims pass over it: tasks come, times come, running tasks end, and a batch claims from the others.
pub fn a_paused_queue_takes_tasks_and_times(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let running = scene.run(Options::default());
    pause(&scene, "default", true);
    let later = scene.add(Options { eta: seconds(5), ..Options::default() });
    scene.commit(&running, scene.succeed(1)).unwrap();
    scene.pass(5);
    assert_eq!(scene.elapse(9).0.len(), 1);
    assert_eq!(scene.state(&later), State::Queued);
    let (here, there) = (
        scene.task(Options::default()),
        scene.task(Options { queue: Some("q".into()), ..Options::default() }),
    );
    let batch = scene.write(Batch {
        inserts: vec![group(&[&here, &there])],
        commits: vec![commit(&later, Operation::Cancel { reason: None })],
        claim: Some(scene.wish(&[], &[JOB], 9)),
        ..Batch::default()
    });
    assert_eq!(ids(&batch.claimed), [there.id()]);
    assert_eq!((scene.state(&here), scene.state(&later)), (State::Queued, State::Cancelled));
}
