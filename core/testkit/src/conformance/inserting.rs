//! Accepting tasks.

use std::time::Duration;

use taskloom_model::{
    Code, MAX_PAYLOAD, OnConflict, Operation, Options, Priority, Rate, RetryPolicy, Row, State, Timestamp,
    WaitingFor, When,
};
use taskloom_store::{Batch, Nobody};

use super::Harness;
use crate::scene::{Scene, group, seconds};

fn every_option() -> Options {
    Options {
        queue: Some("images".into()),
        priority: Some(Priority::Critical),
        eta: seconds(10),
        expires: seconds(20),
        timeout: Some(Duration::from_micros(1)),
        deadline: seconds(30),
        retries: Some(u32::MAX),
        retry: Some(RetryPolicy {
            base: Duration::from_micros(1),
            factor: 1.0 + f64::EPSILON,
            cap: Duration::from_nanos(1_000_000_001),
        }),
        max_crashes: Some(255),
        tags: vec!["a".into(), "b".into(), "a".into()],
        unique_key: Some("once".into()),
        unique_for: Some(Duration::from_secs(60)),
        on_conflict: Some(OnConflict::Replace),
        key: Some("tenant-1".into()),
        concurrency: Some(3),
        rate: Some(Rate { count: 1, per: Duration::from_millis(1), burst: 2 }),
        requires: vec!["gpu".into()],
        agent: Some("agent-7".into()),
        metadata: vec![("initiator".into(), "me".into()), ("empty".into(), String::new())],
        correlation_id: Some("request 9".into()),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        ..Options::default()
    }
}

/// What a task asks for, and its first row, come back exactly.
pub fn a_task_is_kept_as_it_was_admitted(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    for options in [Options::default(), every_option()] {
        let task = scene.task(options);
        let before = task.with_row(Row::clone);
        scene.submit(&[&task]).unwrap();
        let copy = scene.copy(task.id());
        assert_eq!(copy.spec(), task.spec());
        assert_eq!(copy.with_row(Row::clone), before);
        assert_eq!(task.with_row(Row::clone), before, "inserting does not change a task");
    }
}

/// A task begins as queued, pending or expired, as it was admitted.
pub fn first_states_are_kept(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    for (options, state, waiting_for) in [
        (Options::default(), State::Queued, WaitingFor::Nothing),
        (Options { eta: seconds(5), ..Options::default() }, State::Pending, WaitingFor::Eta),
        (
            Options { expires: Some(When::At(Timestamp::from_micros(1))), ..Options::default() },
            State::Expired,
            WaitingFor::Nothing,
        ),
    ] {
        let row = scene.row(&scene.add(options));
        assert_eq!((row.state, row.waiting_for), (state, waiting_for));
        assert_eq!(row.finished.is_some(), state.is_terminal());
    }
}

/// One duplicate refuses its whole group, wherever it stands, and no other group.
pub fn a_group_is_inserted_as_a_whole_or_not_at_all(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let taken = scene.add(Options::default());
    let twin = || scene.task(Options { id: Some(taken.id()), ..Options::default() });
    let new = || scene.task(Options::default());
    for place in 0..3 {
        let (good, twin, others) = ([new(), new()], twin(), [new(), new()]);
        let mut bad: Vec<_> = others.iter().collect();
        bad.insert(place, &twin);
        let batch = scene.write(Batch {
            inserts: vec![group(&[&good[0]]), group(&bad), group(&[&good[1]])],
            ..Batch::default()
        });
        let verdicts: Vec<_> = batch.inserts.into_iter().map(|insert| insert.verdict.unwrap()).collect();
        assert!(verdicts[0].is_ok() && verdicts[2].is_ok(), "{verdicts:?}");
        assert_eq!(verdicts[1].as_ref().unwrap_err().code(), Code::DuplicateId);
        assert!(good.iter().all(|task| scene.knows(task)));
        assert!(!others.iter().any(|task| scene.knows(task)), "part of a refused group was inserted");
    }
    assert_eq!(scene.store.counts().unwrap().get(State::Queued), 7);
}

/// Two tasks of a group with the same id refuse the group.
pub fn a_duplicate_inside_a_group_refuses_the_group(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let first = scene.task(Options::default());
    let second = scene.task(Options { id: Some(first.id()), ..Options::default() });
    let other = scene.task(Options::default());
    assert_eq!(scene.insert(&[&first, &other, &second]).unwrap_err().code(), Code::DuplicateId);
    assert!(!scene.knows(&first) && !scene.knows(&other));
    assert_eq!(scene.insert(&[&first, &first]).unwrap_err().code(), Code::DuplicateId);
    assert!(!scene.knows(&first));
}

/// Of two groups of a batch with the same id, the first is inserted and the second refused.
pub fn a_duplicate_across_groups_refuses_the_later_one(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let first = scene.task(Options { priority: Some(Priority::High), ..Options::default() });
    let second = scene.task(Options { id: Some(first.id()), ..Options::default() });
    let other = scene.task(Options::default());
    let batch =
        scene.write(Batch { inserts: vec![group(&[&first]), group(&[&other, &second])], ..Batch::default() });
    assert!(batch.inserts[0].verdict.as_ref().unwrap().is_ok());
    assert!(batch.inserts[1].verdict.as_ref().unwrap().is_err());
    assert_eq!(scene.copy(first.id()).spec().priority, Priority::High);
    assert!(!scene.knows(&other));
}

/// A refused group leaves no trace: its other ids can be used, in the same batch and later.
pub fn what_a_refused_group_named_is_free(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let taken = scene.add(Options::default());
    let twin = scene.task(Options { id: Some(taken.id()), ..Options::default() });
    let (one, two) = (scene.task(Options::default()), scene.task(Options::default()));
    let batch =
        scene.write(Batch { inserts: vec![group(&[&one, &two, &twin]), group(&[&one])], ..Batch::default() });
    assert!(batch.inserts[0].verdict.as_ref().unwrap().is_err());
    assert!(batch.inserts[1].verdict.as_ref().unwrap().is_ok());
    scene.insert(&[&two]).unwrap();
    assert_eq!(scene.claim(10).len(), 3);
}

/// The id of a task that has ended is as taken as any.
pub fn an_id_stays_taken_when_its_task_has_ended(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = scene.in_state(State::Succeeded);
    let twin = scene.task(Options { id: Some(task.id()), ..Options::default() });
    assert_eq!(scene.insert(&[&twin]).unwrap_err().code(), Code::DuplicateId);
    assert_eq!(scene.state(&task), State::Succeeded);
}

/// The refusal names the id and says what to do.
pub fn a_duplicate_is_told_with_its_id(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let task = scene.add(Options::default());
    let error = scene.insert(&[&task]).unwrap_err();
    assert_eq!(error.message(), format!("a task with the id {} exists", task.id()));
    assert!(error.hint_text().unwrap().contains("leave the id out"));
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let byte = |_| {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
        state.to_be_bytes()[0]
    };
    (0..length).map(byte).collect()
}

/// A payload is bytes, few or many, and comes back as they were: when it is read, and when it is claimed.
pub fn payloads_survive_byte_for_byte(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    for length in [0, 1, 1_023, 1_024, 1_025, 70_000, MAX_PAYLOAD] {
        let task = scene.task_for("job", &noise(length), Options::default());
        scene.insert(&[&task]).unwrap();
        assert!(scene.copy(task.id()).spec().payload == task.spec().payload, "{length} bytes, read");
        let claimed = scene.claim(1).remove(0);
        assert_eq!(claimed.id(), task.id());
        assert!(claimed.spec().payload == task.spec().payload, "{length} bytes, claimed");
    }
}

/// So is a result, and what was noted beside it.
pub fn results_survive_byte_for_byte(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    for length in [0, 1, 5_000, MAX_PAYLOAD] {
        let task = scene.run(Options::default());
        let metadata = Some(noise(length.min(70_000)).into_boxed_slice());
        let (fence, result) = (scene.fence(1), noise(length).into_boxed_slice());
        let operation =
            Operation::Succeed { fence, result: result.clone().into(), metadata: metadata.clone() };
        scene.commit(&task, operation).unwrap();
        let row = scene.row(&task);
        assert!(row.result.as_deref() == Some(&*result), "{length} bytes of result");
        assert!(row.history.unwrap().result_metadata == metadata, "{length} bytes of metadata");
    }
}

/// Names, keys and reasons may hold anything that the model lets through: quotes, other scripts, NUL.
pub fn unusual_texts_survive(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    for text in [
        "'; DROP TABLE tasks; --",
        "\"q\"",
        "日本語/задача",
        "\u{1F9F6}\u{200D}\u{1F9F5}",
        "%_?1:a$b@c",
        "e\u{301}",
    ] {
        let name = text.replace(' ', "_");
        let payload = format!("{{\"text\":\"{text}\0\"}}");
        let options = Options {
            queue: Some(name.clone()),
            tags: vec![text.into(), "\u{10FFFF}".into()],
            metadata: vec![(text.into(), "a\0b".into())],
            ..Options::default()
        };
        let task = scene.task_for(&name, payload.as_bytes(), options);
        scene.insert(&[&task]).unwrap();
        assert_eq!(scene.copy(task.id()).spec(), task.spec());
        let claimed = scene.claim_from(&[&name], &[&name], 9);
        assert_eq!(claimed.len(), 1);
        assert_eq!(claimed[0].spec(), task.spec());
        scene.commit(&task, Operation::Cancel { reason: Some(format!("{text}\0").into()) }).unwrap();
        assert_eq!(scene.row(&task).history.unwrap().reason, Some(format!("{text}\0")));
    }
}

/// The first and the last time that can be told come back, and the last one never comes.
pub fn the_ends_of_time_survive(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let last = Some(When::At(Timestamp::MAX));
    let task = scene.add(Options { expires: last, deadline: last, ..Options::default() });
    assert_eq!(scene.copy(task.id()).spec(), task.spec());
    scene.clock.set(Timestamp::from_micros(-1));
    let early = scene.add(Options::default());
    assert_eq!(scene.copy(early.id()).spec().created.micros(), -1);
    assert_eq!(scene.row(&early).eligible.micros(), -1);
    scene.pass(1_000_000_000);
    assert!(scene.elapse(10).0.is_empty());
}

/// A group of no tasks is accepted.
pub fn nothing_is_inserted_by_nothing(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    scene.insert(&[]).unwrap();
    let mut batch = Batch { inserts: vec![group(&[]), group(&[])], ..Batch::default() };
    scene.store.write(&mut batch, &Nobody, scene.now()).unwrap();
    assert!(batch.inserts.iter().all(|insert| insert.verdict.as_ref().unwrap().is_ok()));
    assert_eq!(scene.store.counts().unwrap().unfinished(), 0);
}
