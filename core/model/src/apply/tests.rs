//! Every operation in every state, then random sequences.

use proptest::prelude::*;

use super::*;
use crate::{Admission, Name, Options, RetryPolicy, TaskId, When, admit, transition::rule};

const NOW: Timestamp = Timestamp::from_micros(1_000_000_000);
const ME: OwnerId = OwnerId::new(1).unwrap();
const OTHER: OwnerId = OwnerId::new(2).unwrap();

fn task(options: Options) -> (Spec, Row) {
    let admission = Admission::new(&options).unwrap();
    let (spec, row, _) =
        admit(&admission, TaskId::from_bytes([7; 16]), Name::new("f"), b"{}".into(), NOW).unwrap();
    (spec, row)
}

fn fence(attempt: u32) -> Fence {
    Fence { owner: ME, attempt }
}

fn failure(attempt: u32) -> Box<Failure> {
    Box::new(Failure {
        kind: "ValueError".into(),
        message: "no".into(),
        backtrace: String::new(),
        attempt,
        at: NOW,
    })
}

fn fail(attempt: u32) -> Operation {
    Operation::Fail {
        fence: fence(attempt),
        failure: failure(attempt),
        permanent: false,
        retry_after: None,
        chance: 0.5,
    }
}

fn succeed(attempt: u32) -> Operation {
    Operation::Succeed { fence: fence(attempt), result: b"1".into(), metadata: None }
}

/// A task in each state, its attempt being 1 where it has run.
fn in_state(state: State) -> (Spec, Row) {
    let retries = u32::from(state == State::Retrying);
    let delay = (state == State::Pending).then_some(When::In(Duration::from_secs(5)));
    let (spec, mut row) = task(Options { retries: Some(retries), eta: delay, ..Options::default() });
    let steps: Vec<Operation> = match state {
        State::Pending | State::Queued => vec![],
        State::Running => vec![Operation::Claim { owner: ME }],
        State::Retrying | State::Failed => vec![Operation::Claim { owner: ME }, fail(1)],
        State::Succeeded => vec![Operation::Claim { owner: ME }, succeed(1)],
        State::TimedOut => {
            vec![Operation::Claim { owner: ME }, Operation::TimeOut { fence: fence(1), chance: 0.0 }]
        }
        State::Cancelled => vec![Operation::Cancel { reason: None }],
        State::Skipped | State::Expired => {
            row.state = state;
            row.finished = Some(NOW);
            vec![]
        }
    };
    for step in steps {
        apply(step, &spec, &mut row, NOW).unwrap();
    }
    assert_eq!(row.state, state);
    (spec, row)
}

fn line(message: &str) -> crate::LogLine {
    crate::LogLine { at: NOW, level: "info".into(), message: message.into(), attempt: 1 }
}

fn every_operation() -> Vec<Operation> {
    vec![
        Operation::Claim { owner: ME },
        succeed(1),
        fail(1),
        Operation::TimeOut { fence: fence(1), chance: 0.5 },
        Operation::Suspend { fence: fence(1), waiting_for: WaitingFor::Signal, until: None },
        Operation::Release { fence: fence(1) },
        Operation::Progress {
            fence: fence(1),
            progress: crate::Progress { value: 0.5, message: None, at: NOW },
        },
        Operation::Log { fence: fence(1), lines: vec![line("a")], dropped: 0 },
        Operation::Spawn { fence: fence(1), ordinal: 2 },
        Operation::Checkpoint { fence: fence(1), value: Some(Box::new(*b"1")) },
        Operation::Crash { fence: fence(1), cause: "fell over".into() },
        Operation::Lose { owner: ME },
        Operation::Elapse,
        Operation::Wake,
        Operation::Hasten,
        Operation::CloseKey { until: None },
        Operation::DependencyEnded { state: State::Succeeded },
        Operation::Cancel { reason: Some("no need".into()) },
        Operation::Skip { reason: None },
        Operation::Resolve { result: b"2".into() },
        Operation::Replay,
    ]
}

#[test]
fn every_operation_in_every_state_obeys_the_table_or_changes_nothing() {
    for state in State::ALL {
        for operation in every_operation() {
            let (spec, before) = in_state(*state);
            let mut row = before.clone();
            let name = operation.name();
            let operator = matches!(name, "skip" | "resolve" | "replay");
            match apply(operation, &spec, &mut row, NOW) {
                Ok(effects) => {
                    assert_eq!((effects.from, effects.to), (Some(*state), row.state));
                    if effects.moved() {
                        let by = rule(Some(*state), row.state);
                        assert!(
                            by == Rule::Engine || operator && by == Rule::Operator,
                            "{name}: {state} → {}",
                            row.state
                        );
                        assert_eq!(row.finished.is_some(), row.state.is_terminal());
                        assert_eq!(effects.left.is_some(), *state == State::Running);
                        assert_eq!(row.owner.is_some(), row.state == State::Running);
                    } else if state.is_terminal() {
                        assert_eq!(row, before, "{name} changed a task that had ended");
                    }
                }
                Err(error) => {
                    assert_eq!(row, before, "{name} was refused and yet changed the row");
                    assert!(matches!(error.code(), Code::IllegalTransition | Code::LeaseLost), "{error}");
                }
            }
        }
    }
}

#[test]
fn reports_need_the_fence_of_the_running_attempt() {
    let (spec, mut row) = in_state(State::Running);
    for wrong in [Fence { owner: OTHER, attempt: 1 }, Fence { owner: ME, attempt: 2 }] {
        let report = Operation::Succeed { fence: wrong, result: Default::default(), metadata: None };
        let error = apply(report, &spec, &mut row, NOW).unwrap_err();
        assert_eq!(error.code(), Code::LeaseLost);
    }
    apply(succeed(1), &spec, &mut row, NOW).unwrap();
    assert_eq!(apply(succeed(1), &spec, &mut row, NOW).unwrap_err().code(), Code::LeaseLost);
}

#[test]
fn retries_are_spent_one_by_one() {
    let policy = RetryPolicy { base: Duration::from_secs(10), factor: 3.0, cap: Duration::from_secs(60) };
    let (spec, mut row) = task(Options { retries: Some(2), retry: Some(policy), ..Options::default() });
    let mut now = NOW;
    for (attempt, wait) in [(1, 5), (2, 15)] {
        apply(Operation::Claim { owner: ME }, &spec, &mut row, now).unwrap();
        let effects = apply(fail(attempt), &spec, &mut row, now).unwrap();
        assert_eq!(effects.to, State::Retrying);
        assert_eq!(effects.due, Some(now + Duration::from_secs(wait)));
        let early = apply(Operation::Elapse, &spec, &mut row, now + Duration::from_secs(wait - 1)).unwrap();
        assert!(!early.moved());
        now = now + Duration::from_secs(wait);
        assert!(apply(Operation::Elapse, &spec, &mut row, now).unwrap().ready());
    }
    apply(Operation::Claim { owner: ME }, &spec, &mut row, now).unwrap();
    assert_eq!(apply(fail(3), &spec, &mut row, now).unwrap().to, State::Failed);
    assert_eq!(row.errors().iter().map(|error| error.attempt).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!((row.failures, row.attempt, row.crashes), (3, 3, 0));
}

#[test]
fn a_permanent_error_is_not_retried_and_retry_after_replaces_the_backoff() {
    let (spec, mut row) = task(Options { retries: Some(9), ..Options::default() });
    apply(Operation::Claim { owner: ME }, &spec, &mut row, NOW).unwrap();
    let asked = Operation::Fail {
        fence: fence(1),
        failure: failure(1),
        permanent: false,
        retry_after: Some(Duration::from_secs(3600)),
        chance: 0.0,
    };
    // Longer than the cap: the cap does not apply to what the error asks for.
    assert_eq!(apply(asked, &spec, &mut row, NOW).unwrap().due, Some(NOW + Duration::from_secs(3600)));
    apply(Operation::Elapse, &spec, &mut row, NOW + Duration::from_secs(3600)).unwrap();
    apply(Operation::Claim { owner: ME }, &spec, &mut row, NOW).unwrap();
    let permanent = Operation::Fail {
        fence: fence(2),
        failure: failure(2),
        permanent: true,
        retry_after: None,
        chance: 0.0,
    };
    assert_eq!(apply(permanent, &spec, &mut row, NOW).unwrap().to, State::Failed);
}

#[test]
fn three_lost_workers_make_a_poison_task() {
    let (spec, mut row) = task(Options { retries: Some(100), ..Options::default() });
    for crash in 1..=3 {
        apply(Operation::Claim { owner: ME }, &spec, &mut row, NOW).unwrap();
        let other = apply(Operation::Lose { owner: OTHER }, &spec, &mut row, NOW).unwrap();
        assert!(!other.moved(), "somebody else's death is no concern of this task");
        let effects = apply(Operation::Lose { owner: ME }, &spec, &mut row, NOW).unwrap();
        assert_eq!(effects.to, if crash < 3 { State::Queued } else { State::Failed });
    }
    assert_eq!((row.crashes, row.failures), (3, 0));
    assert!(row.errors()[0].message.contains("died 3 times"));
}

#[test]
fn a_worker_that_dies_alone_counts_as_a_lost_one_and_says_what_of() {
    let (spec, mut row) = task(Options { retries: Some(100), max_crashes: Some(2), ..Options::default() });
    for attempt in 1..=2 {
        apply(Operation::Claim { owner: ME }, &spec, &mut row, NOW).unwrap();
        let crash =
            |attempt| Operation::Crash { fence: fence(attempt), cause: "was killed by signal 11".into() };
        let error = apply(crash(attempt + 1), &spec, &mut row, NOW).unwrap_err();
        assert_eq!(error.code(), crate::Code::LeaseLost, "another attempt's death is no concern of this one");
        let effects = apply(crash(attempt), &spec, &mut row, NOW).unwrap();
        assert_eq!(effects.to, if attempt < 2 { State::Queued } else { State::Failed });
    }
    assert_eq!((row.crashes, row.failures), (2, 0));
    assert!(
        row.errors()[0]
            .message
            .ends_with("died 2 times while it ran this task; the last one was killed by signal 11")
    );
}

#[test]
fn a_worker_that_may_die_once_is_not_counted() {
    for (cause, said) in [(None, ""), (Some("was killed by signal 9"), ": it was killed by signal 9")] {
        let (spec, mut row) = task(Options { max_crashes: Some(1), ..Options::default() });
        apply(Operation::Claim { owner: ME }, &spec, &mut row, NOW).unwrap();
        let died = match cause {
            Some(cause) => Operation::Crash { fence: fence(1), cause: cause.into() },
            None => Operation::Lose { owner: ME },
        };
        apply(died, &spec, &mut row, NOW).unwrap();
        let message = format!("its worker process died while it ran this task{said}");
        assert_eq!(&*row.errors()[0].message, message);
    }
}

#[test]
fn suspending_and_releasing_cost_nothing_but_the_attempt() {
    let (spec, mut row) = in_state(State::Running);
    apply(Operation::Release { fence: fence(1) }, &spec, &mut row, NOW).unwrap();
    apply(Operation::Claim { owner: OTHER }, &spec, &mut row, NOW).unwrap();
    let fence = Fence { owner: OTHER, attempt: 2 };
    let suspend = Operation::Suspend { fence, waiting_for: WaitingFor::Signal, until: None };
    assert_eq!(apply(suspend, &spec, &mut row, NOW).unwrap().due, None);
    assert!(apply(Operation::Wake, &spec, &mut row, NOW).unwrap().ready());
    assert_eq!((row.failures, row.crashes, row.attempt), (0, 0, 2));
}

#[test]
fn dependencies_are_counted_down_and_a_bad_end_cancels() {
    let ids = vec![TaskId::from_bytes([1; 16]), TaskId::from_bytes([2; 16])];
    let (spec, mut row) = task(Options { depends_on: ids, ..Options::default() });
    let mut other = row.clone();
    let met = Operation::DependencyEnded { state: State::Succeeded };
    assert!(!apply(met.clone(), &spec, &mut row, NOW).unwrap().moved());
    assert!(
        !apply(Operation::Elapse, &spec, &mut row, NOW).unwrap().moved(),
        "time alone does not end the wait"
    );
    assert!(apply(met, &spec, &mut row, NOW).unwrap().ready());
    let failed = Operation::DependencyEnded { state: State::Failed };
    assert_eq!(apply(failed, &spec, &mut other, NOW).unwrap().to, State::Cancelled);
    assert_eq!(other.history.unwrap().reason.unwrap(), "a task that it depends on ended as failed");
}

#[test]
fn expiry_and_deadline() {
    let span = |seconds| Some(When::In(Duration::from_secs(seconds)));
    let later = NOW + Duration::from_secs(10);
    let (spec, mut row) = task(Options { expires: span(10), ..Options::default() });
    assert!(!apply(Operation::Elapse, &spec, &mut row, NOW).unwrap().moved());
    assert_eq!(apply(Operation::Elapse, &spec, &mut row, later).unwrap().to, State::Expired);

    let (spec, mut row) = task(Options { deadline: span(10), expires: span(20), ..Options::default() });
    apply(Operation::Claim { owner: ME }, &spec, &mut row, NOW).unwrap();
    let effects = apply(Operation::Elapse, &spec, &mut row, later).unwrap();
    assert_eq!((effects.to, effects.left), (State::TimedOut, Some(fence(1))));
}

#[test]
fn a_replay_starts_a_new_generation_and_forgets_past_times() {
    let (spec, mut row) =
        task(Options { expires: Some(When::In(Duration::from_secs(1))), ..Options::default() });
    let later = NOW + Duration::from_secs(2);
    apply(Operation::Elapse, &spec, &mut row, later).unwrap();
    assert!(apply(Operation::Replay, &spec, &mut row, later).unwrap().ready());
    assert!(!apply(Operation::Elapse, &spec, &mut row, later).unwrap().moved());
    assert_eq!((row.generation, next_due(&spec, &row)), (1, None));
}

#[test]
fn progress_and_log_are_bounded_and_keep_the_newest() {
    let (spec, mut row) = in_state(State::Running);
    for step in 0..200 {
        let progress = crate::Progress { value: f64::from(step), message: None, at: NOW };
        apply(Operation::Progress { fence: fence(1), progress }, &spec, &mut row, NOW).unwrap();
    }
    let history = row.history.clone().unwrap();
    assert_eq!((history.progress.len(), history.progress[0].value), (crate::MAX_PROGRESS, 150.0));
    assert_eq!(history.newest_progress().unwrap().value, 199.0);

    for number in 0..1_000 {
        apply(
            Operation::Log { fence: fence(1), lines: vec![line(&number.to_string())], dropped: 0 },
            &spec,
            &mut row,
            NOW,
        )
        .unwrap();
    }
    let history = row.history.clone().unwrap();
    assert_eq!((history.log.len(), history.log_dropped), (crate::MAX_LOG_LINES, 800));
    assert_eq!(history.log.last().unwrap().message, "999");

    // A long line is cut between characters, and pushes others out.
    let long = line(&"é".repeat(5 << 20));
    apply(Operation::Log { fence: fence(1), lines: vec![long; 10], dropped: 0 }, &spec, &mut row, NOW)
        .unwrap();
    let history = row.history.unwrap();
    let bytes: usize = history.log.iter().map(|line| line.message.len()).sum();
    assert!(bytes <= crate::MAX_LOG_BYTES && history.log.len() >= 7, "{bytes} {}", history.log.len());
    let last = &history.log.last().unwrap().message;
    assert!(last.len() <= crate::MAX_LOG_LINE && last.ends_with("é…"));
}

#[test]
fn children_are_counted_by_their_ordinal() {
    let (spec, mut row) = in_state(State::Running);
    for (ordinal, children) in [(0, 1), (4, 5), (2, 5)] {
        apply(Operation::Spawn { fence: fence(1), ordinal }, &spec, &mut row, NOW).unwrap();
        assert_eq!(row.history.as_ref().unwrap().children, children);
    }
    let error = apply(Operation::Spawn { fence: fence(2), ordinal: 0 }, &spec, &mut row, NOW).unwrap_err();
    assert_eq!(error.code(), crate::Code::LeaseLost);
}

#[test]
fn ids_of_children_follow_from_their_parents_and_differ() {
    let parent = TaskId::from_parts(1_000, [7; 10]);
    let mut seen = std::collections::HashSet::from([parent]);
    for ordinal in 0..10_000 {
        let child = parent.child(ordinal);
        assert_eq!(child, parent.child(ordinal));
        assert_eq!(child.as_bytes()[..6], parent.as_bytes()[..6]);
        assert_eq!(child.to_string().as_bytes()[14], b'7');
        assert!(seen.insert(child), "{ordinal}");
    }
    let other = TaskId::from_parts(1_000, [7, 7, 7, 7, 7, 7, 7, 7, 7, 6]);
    assert!((0..10_000).all(|ordinal| seen.insert(other.child(ordinal))));
}

fn any_operation() -> impl Strategy<Value = Operation> {
    (0..every_operation().len(), 0u32..6, any::<bool>()).prop_map(|(index, attempt, mine)| {
        let mut operation = every_operation().swap_remove(index);
        let owner = if mine { ME } else { OTHER };
        match &mut operation {
            Operation::Claim { owner: o } | Operation::Lose { owner: o } => *o = owner,
            Operation::Succeed { fence, .. }
            | Operation::Fail { fence, .. }
            | Operation::TimeOut { fence, .. }
            | Operation::Suspend { fence, .. }
            | Operation::Release { fence }
            | Operation::Crash { fence, .. }
            | Operation::Progress { fence, .. }
            | Operation::Log { fence, .. }
            | Operation::Spawn { fence, .. }
            | Operation::Checkpoint { fence, .. } => *fence = Fence { owner, attempt },
            _ => {}
        }
        operation
    })
}

proptest! {
    /// Whatever comes in whatever order: one terminal state per generation, an attempt that only grows, an owner
    /// exactly while running.
    #[test]
    fn invariants_hold_over_any_history(retries in 0u32..4, steps in prop::collection::vec((any_operation(), 0u64..50_000_000), 1..60)) {
        let (spec, mut row) = task(Options { retries: Some(retries), ..Options::default() });
        let mut now = NOW;
        let mut ended_in: Option<(u16, State)> = None;
        for (operation, wait) in steps {
            now = now + Duration::from_micros(wait);
            let before = row.clone();
            let by_hand = matches!(operation.name(), "skip" | "resolve" | "replay");
            if apply(operation, &spec, &mut row, now).is_err() {
                prop_assert_eq!(&row, &before);
            }
            prop_assert!(row.attempt >= before.attempt && row.generation >= before.generation);
            prop_assert_eq!(row.owner.is_some(), row.state == State::Running);
            prop_assert_eq!(row.waiting_for != WaitingFor::Nothing, row.state == State::Pending);
            prop_assert!(row.failures <= retries + 1);
            prop_assert!(row.crashes <= spec.max_crashes);
            if let Some((generation, state)) = ended_in
                && row.generation == generation && !by_hand
            {
                prop_assert_eq!(row.state, state);
            }
            ended_in = row.state.is_terminal().then_some((row.generation, row.state));
        }
    }
}
