//! Late and mistaken reports.

use std::sync::Arc;

use taskloom_model::{Code, Fence, Operation, Options, OwnerId, Progress, State, WaitingFor};
use taskloom_store::{Batch, Task};

use super::Harness;
use crate::scene::{Scene, commit};

/// One report of each kind.
fn reports(scene: &Scene, fence: Fence) -> Vec<Operation> {
    vec![
        Operation::Succeed { fence, result: b"1".into(), metadata: None },
        Operation::Fail {
            fence,
            failure: scene.failure(fence.attempt),
            permanent: false,
            retry_after: None,
            chance: 0.5,
        },
        Operation::TimeOut { fence, chance: 0.5 },
        Operation::Suspend { fence, waiting_for: WaitingFor::Signal, until: None },
        Operation::Release { fence },
        Operation::Crash { fence, cause: "was killed".into() },
        Operation::Progress { fence, progress: Progress { value: 0.5, message: None, at: scene.now() } },
        Operation::Log { fence, lines: vec![scene.line("hello")], dropped: 0 },
        Operation::Spawn { fence, ordinal: 3 },
        Operation::Checkpoint { fence, value: Some(Box::new(*b"1")) },
    ]
}

/// Every report with this fence is refused, whichever copy it comes with, and changes nothing.
fn refused(scene: &Scene, tasks: &[&Arc<Task>], fence: Fence) {
    let before = scene.row(tasks[0]);
    for task in tasks {
        for report in reports(scene, fence) {
            let name = report.name();
            let error = scene.commit(task, report).unwrap_err();
            assert_eq!(error.code(), Code::LeaseLost, "{name}: {error}");
            assert_eq!(scene.row(task), before, "{name} was refused and yet changed the row");
        }
    }
}

/// Only the owner of the running attempt may report on it.
pub fn a_report_of_another_owner_is_refused(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = scene.run(Options::default());
    refused(&scene, &[&task, &scene.copy(task.id())], Fence { owner: scene.join("other"), attempt: 1 });
    refused(&scene, &[&task], Fence { owner: OwnerId::new(u64::MAX >> 1).unwrap(), attempt: 1 });
}

/// Only the running attempt may be reported on.
pub fn a_report_of_another_attempt_is_refused(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = scene.run(Options::default());
    scene.commit(&task, Operation::Release { fence: scene.fence(1) }).unwrap();
    scene.start(&task);
    for attempt in [0, 1, 3] {
        refused(&scene, &[&task, &scene.copy(task.id())], scene.fence(attempt));
    }
    scene.commit(&task, scene.succeed(2)).unwrap();
}

/// A report about an attempt that has ended is refused in whatever state the task is.
pub fn a_report_about_a_task_that_does_not_run_is_refused(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    for state in State::ALL.iter().filter(|state| **state != State::Running) {
        let task = scene.in_state(*state);
        let attempt = scene.row(&task).attempt;
        refused(&scene, &[&task], scene.fence(attempt));
    }
}

/// A change is applied to the row as the store has it: a copy that believes in an old state changes nothing.
pub fn the_stores_row_decides_and_not_the_callers(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = scene.run(Options::default());
    let (one, two) = (scene.copy(task.id()), scene.copy(task.id()));
    scene.commit(&one, Operation::Cancel { reason: Some("by one".into()) }).unwrap();
    let error = scene.commit(&two, scene.succeed(1)).unwrap_err();
    assert_eq!(error.code(), Code::LeaseLost);
    let row = scene.row(&task);
    assert_eq!((row.state, row.result.as_deref()), (State::Cancelled, None));
    assert_eq!(two.state(), State::Cancelled, "the copy shows what the store said");
}

/// A copy from before the claim serves as well as any to report on the attempt that runs.
pub fn an_old_copy_does_not_hide_the_running_attempt(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = scene.add(Options::default());
    let old = scene.copy(task.id());
    scene.start(&task);
    scene.commit(&task, Operation::Release { fence: scene.fence(1) }).unwrap();
    scene.start(&task);
    scene.commit(&old, scene.succeed(2)).unwrap();
    assert_eq!(scene.state(&task), State::Succeeded);
    assert_eq!(old.state(), State::Succeeded);
}

/// A copy from the time of an earlier attempt does not make its report right, though the same owner runs the task.
pub fn an_old_copy_does_not_bring_its_attempt_back(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = scene.run(Options::default());
    let reports = reports(&scene, scene.fence(1));
    let old: Vec<_> = reports.iter().map(|_| scene.copy(task.id())).collect();
    scene.commit(&task, Operation::Release { fence: scene.fence(1) }).unwrap();
    scene.start(&task);
    let before = scene.row(&task);
    for (report, old) in reports.into_iter().zip(&old) {
        let name = report.name();
        assert_eq!(scene.commit(old, report).unwrap_err().code(), Code::LeaseLost, "{name}");
        assert_eq!(scene.row(&task), before, "{name} was refused and yet changed the row");
    }
}

/// What one copy has noted, another copy's report does not undo.
pub fn an_old_copy_takes_nothing_back(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = scene.run(Options { retries: Some(1), ..Options::default() });
    let old = scene.copy(task.id());
    let value = Some(Box::from(*b"page 3"));
    scene.commit(&task, Operation::Checkpoint { fence: scene.fence(1), value: value.clone() }).unwrap();
    let progress = Progress { value: 0.3, message: Some("a third".into()), at: scene.now() };
    let report = Operation::Progress { fence: scene.fence(1), progress: progress.clone() };
    scene.commit(&old, report).unwrap();
    scene.commit(&task, scene.fail(1)).unwrap();
    let history = scene.row(&task).history.unwrap();
    assert_eq!((history.checkpoint, history.progress, history.errors.len()), (value, vec![progress], 1));
}

/// Of two reports about one attempt in one batch, the first counts.
pub fn two_reports_in_one_batch(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    for same_copy in [true, false] {
        let task = scene.run(Options { retries: Some(3), ..Options::default() });
        let other = if same_copy { Arc::clone(&task) } else { scene.copy(task.id()) };
        let commits = vec![
            commit(&task, scene.succeed(1)),
            commit(&other, scene.succeed(1)),
            commit(&other, scene.fail(1)),
        ];
        let batch = scene.write(Batch { commits, ..Batch::default() });
        assert_eq!(batch.verdicts[0].as_ref().unwrap().to, State::Succeeded);
        for verdict in &batch.verdicts[1..] {
            assert_eq!(verdict.as_ref().unwrap_err().code(), Code::LeaseLost);
        }
        let row = scene.row(&task);
        assert_eq!((row.state, row.failures), (State::Succeeded, 0));
    }
}

/// Of a cancel and a report in one batch the first counts; the cancel of a task that has ended is no error.
pub fn a_cancel_and_a_report_in_one_batch(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let cancel = || Operation::Cancel { reason: None };

    let task = scene.run(Options::default());
    let commits = vec![commit(&task, cancel()), commit(&task, scene.succeed(1))];
    let verdicts = scene.write(Batch { commits, ..Batch::default() }).verdicts;
    assert_eq!(verdicts[0].as_ref().unwrap().left, Some(scene.fence(1)));
    assert_eq!(verdicts[1].as_ref().unwrap_err().code(), Code::LeaseLost);
    assert_eq!(scene.state(&task), State::Cancelled);

    let task = scene.run(Options::default());
    let commits = vec![commit(&task, scene.succeed(1)), commit(&task, cancel())];
    let verdicts = scene.write(Batch { commits, ..Batch::default() }).verdicts;
    assert_eq!(verdicts[0].as_ref().unwrap().to, State::Succeeded);
    let effects = verdicts[1].as_ref().unwrap();
    assert!(!effects.moved() && effects.to == State::Succeeded, "{effects:?}");
    assert_eq!(scene.row(&task).result.as_deref(), Some(&b"42"[..]));
}

/// A refused report is told which attempt it was about, and what the task is.
pub fn a_refusal_names_the_attempt_and_the_state(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = scene.run(Options::default());
    scene.commit(&task, Operation::Cancel { reason: None }).unwrap();
    let error = scene.commit(&task, scene.succeed(1)).unwrap_err();
    let expected = format!(
        "attempt 1 of task {} may not succeed: the task is cancelled and its attempt is 1",
        task.id()
    );
    assert_eq!(error.message(), expected);
    assert!(error.hint_text().is_some());
}
