//! The processes that work on a store.

use taskloom_model::{Code, Fence, Operation, Options, OwnerId, State};
use taskloom_store::{Batch, Claim};

use super::Harness;
use crate::scene::{JOB, Scene, ids, moves};

/// No two processes ever have the same number, not even after one is gone.
pub fn numbers_are_never_given_out_twice(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let mut seen = vec![scene.me];
    for _ in 0..5 {
        let owner = scene.join("process");
        assert!(!seen.contains(&owner));
        seen.push(owner);
        scene.bury(owner);
    }
}

/// Owners are listed with the name that they joined under.
pub fn owners_are_listed_until_they_are_buried(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let (one, two) = (scene.join("host:1"), scene.join("host '2\" \u{1F9F6}"));
    let listed = || {
        let owners = scene.store.owners().unwrap();
        owners.into_iter().map(|owner| (owner.id, owner.name)).collect::<Vec<_>>()
    };
    let me = (scene.me, "me".to_owned());
    let second = (two, "host '2\" \u{1F9F6}".to_owned());
    assert_eq!(listed(), [me.clone(), (one, "host:1".into()), second.clone()]);
    scene.bury(one);
    assert_eq!(listed(), [me, second]);
}

/// Each beat moves the owner's own counter, by one.
pub fn a_heart_beats(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    scene.join("silent");
    for beats in 0..3 {
        let owners = scene.store.owners().unwrap();
        assert_eq!((owners[0].beats, owners[1].beats), (beats, 0));
        scene.store.beat(scene.me).unwrap();
    }
}

/// An owner that was struck off learns of it at its next beat.
pub fn an_owner_that_was_struck_off_cannot_beat(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let owner = scene.join("slow");
    scene.bury(owner);
    for owner in [owner, OwnerId::new(1_000_000).unwrap()] {
        let error = scene.store.beat(owner).unwrap_err();
        assert_eq!(error.code(), Code::LeaseLost);
        assert_eq!(error.message(), format!("owner {} was struck off", owner.get()));
    }
}

/// Nor does it get any task from then on, with a claim that it had decided on before: nobody would take it away again.
pub fn an_owner_that_was_struck_off_claims_nothing(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let slow = scene.join("slow");
    let task = scene.add(Options::default());
    let claim = Claim { owner: slow, ..scene.wish(&[], &[JOB], 1) };
    scene.bury(slow);
    let batch = scene.write(Batch { claim: Some(claim), ..Batch::default() });
    assert!(batch.claimed.is_empty() && batch.consequences.is_empty());
    let error = scene.commit(&task, Operation::Claim { owner: slow }).unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (Code::LeaseLost, &*format!("owner {} was struck off", slow.get()))
    );
    assert_eq!(scene.state(&task), State::Queued);
    assert_eq!(ids(&scene.claim(1)), [task.id()], "the living go on");
}

/// What a dead process ran is queued again, one crash more, and can be claimed by the living.
pub fn burying_gives_back_what_the_owner_ran(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let (one, two, ended) =
        (scene.run(Options::default()), scene.run(Options::default()), scene.run(Options::default()));
    scene.commit(&ended, scene.succeed(1)).unwrap();
    let now = scene.pass(3);
    let mut changes = scene.bury(scene.me);
    changes.sort_by_key(|change| change.task.id());
    assert_eq!(moves(&changes), [&one, &two].map(|task| (task.id(), Some(State::Running), State::Queued)));
    for change in &changes {
        assert_eq!(change.effects.left, Some(scene.fence(1)));
        let row = scene.row(&change.task);
        assert_eq!((row.crashes, row.failures, row.owner, row.eligible), (1, 0, None, now));
    }
    assert_eq!(scene.state(&ended), State::Succeeded);
    let living = Claim { owner: scene.join("alive"), ..scene.wish(&[], &[JOB], 9) };
    let batch = scene.write(Batch { claim: Some(living), ..Batch::default() });
    assert_eq!(ids(&batch.claimed), [one.id(), two.id()]);
}

/// Burying one process takes nothing from another, nor from those that have given their tasks back.
pub fn burying_leaves_the_others_alone(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let other = scene.join("other");
    let (mine, given_back) = (scene.run(Options::default()), scene.run(Options::default()));
    scene.commit(&given_back, Operation::Release { fence: scene.fence(1) }).unwrap();
    let theirs = scene.add(Options::default());
    scene.commit(&theirs, Operation::Claim { owner: other }).unwrap();
    assert_eq!(moves(&scene.bury(other)), [(theirs.id(), Some(State::Running), State::Queued)]);
    assert!(scene.row(&mine).owner == Some(scene.me));
    assert_eq!(scene.row(&given_back).crashes, 0);
    scene.commit(&mine, scene.succeed(1)).unwrap();
}

/// Two observers may find the same process dead.
pub fn burying_twice_does_nothing(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = scene.run(Options::default());
    assert_eq!(scene.bury(scene.me).len(), 1);
    assert!(scene.bury(scene.me).is_empty());
    assert_eq!(scene.row(&task).crashes, 1);
}

/// A task that outlives three workers fails, unless it asked for another number.
pub fn the_third_crash_is_the_last(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    for (max_crashes, crashes) in [(None, 3), (Some(1), 1), (Some(5), 5)] {
        let task = scene.add(Options { max_crashes, retries: Some(100), ..Options::default() });
        for crash in 1..=crashes {
            let owner = scene.join("doomed");
            scene.commit(&task, Operation::Claim { owner }).unwrap();
            let to = if crash < crashes { State::Queued } else { State::Failed };
            assert_eq!(moves(&scene.bury(owner)), [(task.id(), Some(State::Running), to)]);
        }
        let row = scene.row(&task);
        assert_eq!((row.state, u32::from(row.crashes), row.failures), (State::Failed, crashes, 0));
        let died = if crashes == 1 { "died while".to_owned() } else { format!("died {crashes} times") };
        assert!(row.errors()[0].message.contains(&died));
    }
}

/// A process that was only slow cannot report on what was taken from it, claimed again or not.
pub fn a_late_report_of_a_buried_owner_is_refused(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let slow = scene.join("slow");
    let task = scene.add(Options::default());
    scene.commit(&task, Operation::Claim { owner: slow }).unwrap();
    let late = scene.copy(task.id());
    let report = || {
        let fence = Fence { owner: slow, attempt: 1 };
        Operation::Succeed { fence, result: b"\"late\"".into(), metadata: None }
    };
    scene.bury(slow);
    assert_eq!(scene.commit(&late, report()).unwrap_err().code(), Code::LeaseLost);
    let claimed = scene.claim(1).remove(0);
    assert_eq!(scene.commit(&late, report()).unwrap_err().code(), Code::LeaseLost);
    scene.commit(&claimed, scene.succeed(2)).unwrap();
    assert_eq!(scene.row(&task).result.as_deref(), Some(&b"42"[..]));
}
