//! What each change leaves in the store. That the rules are right is tested where they live; here, that they arrive.

use std::time::Duration;

use taskloom_model::{
    Bytes, Code, Effects, MAX_LOG_LINES, MAX_PROGRESS, Operation, Options, Progress, RetryPolicy, State,
    Timestamp, WaitingFor,
};

use taskloom_store::{Batch, Commit};

use super::Harness;
use crate::scene::{JOB, Scene, commit, ids, moves};

/// What a store takes the short way, of many at once, leaves what each success by itself does; what it does not take so is as
/// it was.
pub fn successes_that_are_told_together_are_as_those_told_one_by_one(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let tagged = Options { tags: vec!["a".into()], ..Options::default() };
    let timed = Options { timeout: Some(Duration::from_secs(60)), ..Options::default() };
    let tasks: Vec<_> =
        [Options::default(), tagged, Options::default(), timed, Options::default(), Options::default()]
            .map(|options| scene.run(options))
            .into();
    // One was given back meanwhile, and of one nothing is known.
    let (late, unknown) = (4, 2);
    scene.commit(&tasks[late], Operation::Release { fence: scene.fence(1) }).unwrap();
    let now = scene.pass(1);
    let mut results: Vec<_> =
        (0..tasks.len()).map(|place| Bytes::from(vec![b'0' + place as u8; 5 * place])).collect();
    let fence = scene.fence(1);
    let told = |(place, (task, result))| (task, fence, Some(result).filter(|_| place != unknown));
    let mut ends = tasks.iter().zip(&mut results).enumerate().map(told);
    let verdicts = scene.store.succeed_all_freely(&mut ends, now);
    drop(ends);
    assert_eq!(verdicts.len(), tasks.len());
    assert!(verdicts[unknown].is_none());
    for (place, verdict) in verdicts.into_iter().enumerate() {
        let (task, result) = (&tasks[place], Bytes::from(vec![b'0' + place as u8; 5 * place]));
        let verdict = match verdict {
            Some(verdict) => verdict.map_err(|error| error.code()),
            None => {
                assert_eq!(results[place], result, "it is left");
                let succeed = Operation::Succeed { fence, result: result.clone(), metadata: None };
                scene.commit(task, succeed).map(drop).map_err(|error| error.code())
            }
        };
        assert_eq!(verdict, if place == late { Err(Code::LeaseLost) } else { Ok(()) });
        let row = scene.row(task);
        if place == late {
            assert_eq!((row.state, row.result.as_deref()), (State::Queued, None));
        } else {
            assert_eq!((row.state, row.finished), (State::Succeeded, Some(now)));
            assert_eq!((row.owner, row.result.as_deref()), (None, Some(&*result)));
        }
    }
}

/// The result of a success is kept with the task, and what was noted beside it.
pub fn success_keeps_the_result(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    for metadata in [None, Some(Box::from(*b"{\"rows\": 3}"))] {
        let task = scene.run(Options::default());
        let now = scene.pass(1);
        let (fence, result) = (scene.fence(1), b"[1]".into());
        scene.commit(&task, Operation::Succeed { fence, result, metadata: metadata.clone() }).unwrap();
        let row = scene.row(&task);
        assert_eq!((row.state, row.owner, row.finished), (State::Succeeded, None, Some(now)));
        assert_eq!(row.result.as_deref(), Some(&b"[1]"[..]));
        assert_eq!(row.history.and_then(|history| history.result_metadata), metadata);
    }
}

/// A failed task waits for its backoff, is tried again, and keeps every error until its retries are spent.
pub fn failures_are_retried_and_kept(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let policy = RetryPolicy { base: Duration::from_secs(10), factor: 2.0, cap: Duration::from_secs(15) };
    let task = scene.add(Options { retries: Some(2), retry: Some(policy), ..Options::default() });
    for (attempt, wait) in [(1, 10), (2, 15)] {
        scene.start(&task);
        let effects = scene.commit(&task, scene.fail(attempt)).unwrap();
        let due = scene.now() + Duration::from_secs(wait);
        assert_eq!((effects.to, effects.due), (State::Retrying, Some(due)));
        let row = scene.row(&task);
        assert_eq!((row.state, row.failures, row.eligible, row.owner), (State::Retrying, attempt, due, None));
        scene.clock.set(due);
        assert_eq!(scene.elapse(10).0.len(), 1);
        assert_eq!(scene.state(&task), State::Queued);
    }
    scene.start(&task);
    assert_eq!(scene.commit(&task, scene.fail(3)).unwrap().to, State::Failed);
    let row = scene.row(&task);
    assert_eq!((row.failures, row.attempt, row.crashes, row.finished), (3, 3, 0, Some(scene.now())));
    let errors: Vec<_> = row.errors().iter().map(|error| (error.attempt, error.message.as_str())).collect();
    assert_eq!(errors, [(1, "no good, attempt 1"), (2, "no good, attempt 2"), (3, "no good, attempt 3")]);
}

/// A permanent failure ends the task, whatever retries are left.
pub fn a_permanent_failure_is_the_last(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = scene.run(Options { retries: Some(9), ..Options::default() });
    let (fence, failure) = (scene.fence(1), scene.failure(1));
    let operation = Operation::Fail { fence, failure, permanent: true, retry_after: None, chance: 0.0 };
    assert_eq!(scene.commit(&task, operation).unwrap().to, State::Failed);
    assert_eq!(scene.row(&task).errors().len(), 1);
}

/// An error that says when to try again is obeyed, beyond the cap too.
pub fn an_error_may_ask_for_its_own_wait(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = scene.run(Options { retries: Some(1), ..Options::default() });
    let (fence, failure) = (scene.fence(1), scene.failure(1));
    let retry_after = Some(Duration::from_secs(3600));
    scene
        .commit(&task, Operation::Fail { fence, failure, permanent: false, retry_after, chance: 0.0 })
        .unwrap();
    assert_eq!(scene.row(&task).eligible, scene.now() + Duration::from_secs(3600));
}

/// A timeout spends a retry like any failure; the last one ends the task as timed out.
pub fn a_timeout_is_a_failure_that_ends_as_timed_out(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let timeout = Some(Duration::from_millis(1500));
    let task = scene.run(Options { retries: Some(1), timeout, ..Options::default() });
    let time_out = |attempt| Operation::TimeOut { fence: scene.fence(attempt), chance: 1.0 };
    assert_eq!(scene.commit(&task, time_out(1)).unwrap().to, State::Retrying);
    scene.pass(1);
    scene.elapse(1);
    scene.start(&task);
    assert_eq!(scene.commit(&task, time_out(2)).unwrap().to, State::TimedOut);
    let row = scene.row(&task);
    assert_eq!((row.state, row.failures), (State::TimedOut, 2));
    assert!(row.errors()[1].message.contains("1.5 s"), "{:?}", row.errors());
}

/// A suspended task waits, costs no failure, and is queued by its wake-up; one that comes late is no error.
pub fn a_suspended_task_waits_for_its_signal(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = scene.run(Options::default());
    let (fence, waiting_for) = (scene.fence(1), WaitingFor::Signal);
    let effects = scene.commit(&task, Operation::Suspend { fence, waiting_for, until: None }).unwrap();
    assert_eq!((effects.to, effects.due), (State::Pending, None));
    let row = scene.row(&task);
    assert_eq!((row.waiting_for, row.eligible), (WaitingFor::Signal, Timestamp::MAX));
    let now = scene.pass(9);
    assert!(scene.commit(&task, Operation::Wake).unwrap().ready());
    let row = scene.row(&task);
    assert_eq!((row.state, row.waiting_for, row.eligible), (State::Queued, WaitingFor::Nothing, now));
    assert_eq!((row.failures, row.crashes, row.attempt), (0, 0, 1));
    assert!(!scene.commit(&task, Operation::Wake).unwrap().moved());
}

/// A task that sleeps until a time is queued when it comes, or when something wakes it before.
pub fn a_sleeping_task_wakes_by_itself(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    for woken in [false, true] {
        let task = scene.run(Options::default());
        let until = scene.now() + Duration::from_secs(5);
        let (fence, waiting_for) = (scene.fence(1), WaitingFor::Sleep);
        scene.commit(&task, Operation::Suspend { fence, waiting_for, until: Some(until) }).unwrap();
        scene.pass(4);
        scene.elapse(10);
        assert_eq!(scene.state(&task), State::Pending);
        if woken {
            scene.commit(&task, Operation::Wake).unwrap();
        } else {
            scene.pass(1);
            scene.elapse(10);
        }
        assert_eq!(scene.state(&task), State::Queued);
    }
}

/// A task that is given back can be claimed at once and has lost nothing but the attempt.
pub fn a_released_task_is_queued_at_no_cost(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = scene.run(Options::default());
    let effects = scene.commit(&task, Operation::Release { fence: scene.fence(1) }).unwrap();
    assert!(effects.ready() && effects.left == Some(scene.fence(1)));
    let row = scene.row(&task);
    assert_eq!((row.state, row.owner, row.failures, row.crashes), (State::Queued, None, 0, 0));
    assert_eq!(scene.claim(1)[0].with_row(|row| row.attempt), 2);
}

/// Progress is kept in its order, also when the task has ended; of very much the newest.
pub fn progress_is_kept(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = scene.run(Options::default());
    let at = scene.now();
    let tell = |progress: Progress| {
        scene.commit(&task, Operation::Progress { fence: scene.fence(1), progress }).unwrap()
    };
    let kept = || scene.row(&task).history.unwrap().progress;
    let mut told = Vec::new();
    for (value, message) in [(0.0, None), (0.1 + 0.2, Some("nearly".to_owned())), (1.0, Some(String::new()))]
    {
        let progress = Progress { value, message, at };
        assert!(!tell(progress.clone()).moved());
        told.push(progress);
        assert_eq!(kept(), told);
    }
    for step in 0..MAX_PROGRESS {
        tell(Progress { value: 1.0, message: Some(format!("step {step}")), at });
    }
    scene.commit(&task, scene.succeed(1)).unwrap();
    assert_eq!(kept().len(), MAX_PROGRESS);
    assert_eq!(kept()[0].message.as_deref(), Some("step 0"));
}

/// What a handler logs is kept in its order, over attempts and when the task has ended; of very much the newest, and
/// how much was dropped.
pub fn a_log_is_kept(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = scene.run(Options::default());
    let log = |attempt, lines: &[&str]| {
        let lines = lines.iter().map(|text| scene.line(text)).collect();
        scene.commit(&task, Operation::Log { fence: scene.fence(attempt), lines, dropped: 0 }).unwrap()
    };
    let kept = || {
        let history = scene.row(&task).history.unwrap();
        (history.log.into_iter().map(|line| line.message).collect::<Vec<_>>(), history.log_dropped)
    };
    assert!(!log(1, &["one", "two\nlines \u{1F9F6}\0"]).moved());
    scene.commit(&task, Operation::Release { fence: scene.fence(1) }).unwrap();
    scene.start(&task);
    log(2, &["three"]);
    let told = ["one", "two\nlines \u{1F9F6}\0", "three"].map(String::from);
    assert_eq!(kept(), (told.to_vec(), 0));
    assert_eq!(scene.row(&task).history.unwrap().log[0], scene.line("one"));
    log(2, &vec!["x"; MAX_LOG_LINES - 1]);
    scene.commit(&task, scene.succeed(2)).unwrap();
    let (lines, dropped) = kept();
    assert_eq!((lines.len(), lines[0].as_str(), dropped), (MAX_LOG_LINES, "three", 2));
}

/// A checkpoint is there for the next attempt, after a failure and after a crash, until the handler clears it.
pub fn a_checkpoint_is_kept_over_retries_until_it_is_cleared(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = scene.run(Options { retries: Some(5), ..Options::default() });
    let kept = || scene.row(&task).history.and_then(|history| history.checkpoint);
    // Not text on purpose: the core only carries it.
    let value: Option<Box<[u8]>> = Some(Box::new([0xFF, 0x00, b'"']));
    scene.commit(&task, Operation::Checkpoint { fence: scene.fence(1), value: value.clone() }).unwrap();
    scene.commit(&task, scene.fail(1)).unwrap();
    scene.pass(60);
    scene.elapse(10);
    let claimed = scene.claim(1).remove(0);
    assert_eq!(claimed.with_row(|row| row.history.clone().unwrap().checkpoint), value);
    scene.commit(&claimed, Operation::Lose { owner: scene.me }).unwrap();
    assert_eq!(kept(), value);
    let claimed = scene.claim(1).remove(0);
    scene.commit(&claimed, Operation::Checkpoint { fence: scene.fence(3), value: None }).unwrap();
    assert_eq!(kept(), None);
}

/// A worker that dies without its process costs no failure, and the third time is the last.
pub fn a_crash_costs_no_retry_and_the_third_is_the_last(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = scene.add(Options { retries: Some(9), ..Options::default() });
    let crash = |attempt| Operation::Crash { fence: scene.fence(attempt), cause: "ran out of memory".into() };
    for attempt in 1..=3 {
        let claimed = scene.claim(1).remove(0);
        let late = scene.commit(&claimed, crash(attempt + 1)).unwrap_err();
        assert_eq!(late.code(), Code::LeaseLost);
        let effects = scene.commit(&claimed, crash(attempt)).unwrap();
        assert_eq!(effects.to, if attempt < 3 { State::Queued } else { State::Failed });
        assert_eq!(effects.left, Some(scene.fence(attempt)));
    }
    let row = scene.row(&task);
    assert_eq!((row.crashes, row.failures), (3, 0));
    let [error] = row.errors() else { panic!("{:?}", row.errors()) };
    assert_eq!((&*error.kind, error.attempt), ("HandlerLost", 3));
    assert!(error.message.ends_with("ran out of memory"), "{}", error.message);
    assert!(scene.claim(1).is_empty());
}

/// A task that has not ended is cancelled at once, wherever it is; one that has is left alone, without an error.
pub fn cancelling_in_every_state(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    for state in State::ALL {
        let task = scene.in_state(*state);
        let before = scene.row(&task);
        let now = scene.pass(1);
        let effects = scene.commit(&task, Operation::Cancel { reason: Some("no need".into()) }).unwrap();
        assert_eq!(effects.from, Some(*state));
        let row = scene.row(&task);
        if state.is_terminal() {
            assert!(!effects.moved());
            assert_eq!(row, before);
            continue;
        }
        assert_eq!(effects.to, State::Cancelled);
        assert_eq!(effects.left, (*state == State::Running).then_some(scene.fence(1)));
        assert_eq!((row.state, row.owner, row.finished), (State::Cancelled, None, Some(now)));
        assert_eq!(row.history.unwrap().reason.as_deref(), Some("no need"));
    }
    scene.pass(1_000_000);
    assert!(scene.elapse(100).0.is_empty());
}

/// A queued task whose key has no room steps back until there is some.
pub fn a_closed_key_sends_a_task_back(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = scene.add(Options::default());
    let until = scene.now() + Duration::from_secs(3);
    scene.commit(&task, Operation::CloseKey { until: Some(until) }).unwrap();
    let row = scene.row(&task);
    assert_eq!((row.state, row.waiting_for, row.eligible), (State::Pending, WaitingFor::Key, until));
    assert!(scene.claim(1).is_empty());
    scene.clock.set(until);
    assert_eq!(scene.elapse(1).0.len(), 1);
    assert_eq!(scene.claim(1).len(), 1);
}

/// By hand, a task that has not succeeded can be given a result, or be skipped.
pub fn an_operator_may_skip_and_resolve(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let resolve = || Operation::Resolve { result: b"7".into() };
    for state in [State::Pending, State::Failed, State::TimedOut, State::Cancelled, State::Expired] {
        let task = scene.in_state(state);
        assert_eq!(scene.commit(&task, resolve()).unwrap().to, State::Succeeded);
        let row = scene.row(&task);
        assert_eq!((row.state, row.result.as_deref()), (State::Succeeded, Some(&b"7"[..])));
        let task = scene.in_state(state);
        scene.commit(&task, Operation::Skip { reason: Some("not today".into()) }).unwrap();
        let row = scene.row(&task);
        assert_eq!(row.state, State::Skipped);
        assert_eq!(row.history.unwrap().reason.as_deref(), Some("not today"));
    }
    for state in [State::Queued, State::Retrying, State::Succeeded, State::Skipped] {
        let error = scene.commit(&scene.in_state(state), resolve()).unwrap_err();
        assert_eq!(error.code(), Code::IllegalTransition, "{state}");
    }
    let counts = scene.store.counts().unwrap();
    assert_eq!((counts.get(State::Skipped), counts.unfinished()), (6, 2));
}

/// A replay queues the task again with its counts at zero, its errors kept and a past expiry forgotten.
pub fn a_replay_is_a_new_generation(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = scene.run(Options { expires: crate::scene::seconds(5), ..Options::default() });
    scene.commit(&task, scene.fail(1)).unwrap();
    scene.pass(10);
    scene.replay(&task).unwrap();
    let row = scene.row(&task);
    assert_eq!((row.state, row.generation, row.failures, row.crashes), (State::Queued, 1, 0, 0));
    assert_eq!((row.attempt, row.finished, row.errors().len()), (1, None, 1));
    assert!(scene.elapse(10).0.is_empty(), "its expiry lies before the replay");
    let claimed = scene.claim(1).remove(0);
    scene.commit(&claimed, scene.succeed(2)).unwrap();
    assert_eq!(scene.row(&task).result.as_deref(), Some(&b"42"[..]));
    let error = scene.commit(&task, Operation::Replay).unwrap_err();
    assert_eq!(error.code(), Code::IllegalTransition);
}

/// Only what has ended, and not as it should have, is started over; a refused replay changes nothing.
pub fn only_dead_letters_are_replayed(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    for state in State::ALL {
        let task = scene.in_state(*state);
        let before = scene.row(&task);
        if state.is_dead() {
            let new = scene.replay(&task).unwrap();
            assert_eq!((new.state(), scene.row(&task).generation), (State::Queued, 1), "{state}");
            assert_eq!(task.with_row(Clone::clone), before, "the one that ended keeps its outcome");
        } else {
            let error = scene.commit(&task, Operation::Replay).unwrap_err();
            assert_eq!((error.code(), scene.row(&task)), (Code::IllegalTransition, before), "{state}");
        }
    }
}

/// The task that ended keeps its outcome, settled or not; the new generation is another one, which is found, and to
/// which is done what is asked for through the old one.
pub fn a_replay_leaves_the_ended_task_alone(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    for settled in [false, true] {
        let task = scene.in_state(State::Failed);
        if settled {
            task.settle();
        }
        let outcome = task.with_row(Clone::clone);
        let first = scene.replay(&task).unwrap();
        assert!(!first.is_settled());
        assert_eq!((first.spec(), first.with_row(Clone::clone)), (task.spec(), scene.row(&task)));
        let error = scene.commit(&task, Operation::Replay).unwrap_err();
        assert_eq!(error.code(), Code::IllegalTransition, "its new generation is queued");
        let claim = || Operation::Claim { owner: scene.me };
        assert_eq!(scene.commit(&task, claim()).unwrap_err().code(), Code::IllegalTransition, "it is over");
        scene.commit(&first, claim()).unwrap();
        assert_eq!((scene.state(&task), scene.row(&task).attempt), (State::Running, 2));
        assert_eq!(scene.commit(&task, scene.succeed(1)).unwrap_err().code(), Code::LeaseLost);
        scene.commit(&scene.copy(task.id()), scene.fail(2)).unwrap();
        let second = scene.replay(&scene.copy(task.id())).unwrap();
        assert_eq!(second.with_row(|row| (row.generation, row.errors().len())), (2, 2));
        assert!(scene.commit(&task, Operation::Cancel { reason: None }).unwrap().finished());
        assert_eq!(scene.state(&second), State::Cancelled);
        assert_eq!(task.with_row(Clone::clone), outcome);
    }
    assert_eq!(scene.store.counts().unwrap().get(State::Cancelled), 2, "each is counted once");
}

/// A replay is seen by the rest of its batch, and tells of the new generation beside what was told before.
pub fn a_replay_in_a_batch(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let (task, other) = (scene.in_state(State::Failed), scene.run(Options::default()));
    let batch = scene.write(Batch {
        commits: vec![
            commit(&task, Operation::Replay),
            commit(&task, Operation::Replay),
            commit(&other, scene.fail(1)),
            commit(&other, Operation::Replay),
            commit(&other, Operation::Cancel { reason: None }),
            commit(&other, Operation::Replay),
        ],
        claim: Some(scene.wish(&["default"], &[JOB], 9)),
        ..Batch::default()
    });
    let made: Vec<_> = batch.verdicts.iter().map(Result::is_ok).collect();
    assert_eq!(made, [true, false, true, true, true, true]);
    let replayed = |id, from| (id, Some(from), State::Queued);
    assert_eq!(
        moves(&batch.consequences),
        [
            replayed(task.id(), State::Failed),
            replayed(other.id(), State::Failed),
            replayed(other.id(), State::Cancelled),
        ]
    );
    assert_eq!(ids(&batch.claimed), [task.id(), other.id()]);
    assert!(batch.claimed.iter().all(|task| task.state() == State::Running));
    assert_eq!((task.state(), other.state()), (State::Failed, State::Failed));
    assert_eq!(scene.row(&other).generation, 2);
    let refused = Commit { spawn: vec![scene.task(Options::default())], ..commit(&other, Operation::Replay) };
    let error = scene.store.commit(refused, &mut Vec::new(), scene.now()).unwrap_err();
    assert_eq!(error.code(), Code::NotSupported, "it brings nothing along");
}

/// A task that is started over waits its turn under its key as any that becomes eligible.
pub fn a_replayed_task_waits_for_its_key(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let keyed = || Options { key: Some("k".into()), concurrency: Some(1), ..Options::default() };
    let dead = scene.run(keyed());
    scene.commit(&dead, scene.fail(1)).unwrap();
    let running = scene.run(keyed());
    let new = scene.replay(&dead).unwrap();
    let waits = new.with_row(|row| (row.state, row.waiting_for));
    assert_eq!(waits, (State::Pending, WaitingFor::Key));
    assert!(scene.claim(9).is_empty());
    scene.commit(&running, scene.succeed(1)).unwrap();
    assert_eq!(ids(&scene.claim(9)), [dead.id()]);
}

/// A move that the table of states does not have is refused, names both states, and changes nothing.
pub fn a_move_that_does_not_exist_is_refused(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = scene.in_state(State::Succeeded);
    let before = scene.row(&task);
    let error = scene.commit(&task, Operation::Skip { reason: None }).unwrap_err();
    assert_eq!(error.code(), Code::IllegalTransition);
    assert_eq!(error.message(), "a task cannot go from succeeded to skipped");
    assert_eq!(error.context(), [("task", task.id().to_string())]);
    assert_eq!(scene.row(&task), before);
}

/// What follows from a change is told with it: from where, to where, whose attempt ended, what comes next.
pub fn effects_say_what_happened(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = scene.add(Options { deadline: crate::scene::seconds(50), ..Options::default() });
    let due = Some(scene.now() + Duration::from_secs(50));
    let (from, to) = (Some(State::Queued), State::Running);
    let effects = scene.commit(&task, Operation::Claim { owner: scene.me }).unwrap();
    assert_eq!(effects, Effects { from, to, left: None, due });
    let effects = scene.commit(&task, scene.succeed(1)).unwrap();
    let (from, to) = (Some(State::Running), State::Succeeded);
    assert_eq!(effects, Effects { from, to, left: Some(scene.fence(1)), due: None });
}
