//! The memory store keeps the contract.

use std::sync::Arc;

use taskloom_store::{MemoryOptions, MemoryStore, Store};
use taskloom_testkit::{Harness, conformance};

struct Memory;

impl Harness for Memory {
    fn fresh(&self) -> Arc<dyn Store> {
        Arc::new(MemoryStore::new(MemoryOptions::default()))
    }
}

conformance!(Memory);

/// Two memory stores agree: what is compared is at least deterministic.
#[test]
fn agrees_with_itself_over_any_sequence() {
    taskloom_testkit::sequences::compare(|| Memory.fresh());
}

/// What an operator has started over is neither forgotten with the finished ones nor counted twice.
#[test]
fn a_replayed_task_is_kept_while_it_lives() {
    use taskloom_model::{Admission, Name, Operation, State, TaskId, Timestamp, admit};
    use taskloom_store::{Commit, Nobody, Task};

    let store = MemoryStore::new(MemoryOptions { capacity: 3, keep_finished: 2 });
    let now = Timestamp::from_micros(1_000_000);
    let make = |number: u8| {
        let id = TaskId::from_bytes([number; 16]);
        let (spec, row, _) =
            admit(&Admission::default(), id, Name::new("job"), Default::default(), now).unwrap();
        let task = Task::new(spec, row, None);
        store.insert(&[Arc::clone(&task)], now).unwrap();
        task
    };
    let change = |task: &Arc<Task>, operation| {
        let commit = Commit { task: Arc::clone(task), operation, spawn: Vec::new() };
        store.commit(commit, &mut Vec::new(), now).unwrap()
    };
    let replayed = make(0);
    change(&replayed, Operation::Cancel { reason: None });
    change(&replayed, Operation::Replay);
    assert_eq!(replayed.state(), State::Cancelled);
    for number in 1..20 {
        change(&make(number), Operation::Cancel { reason: None });
    }
    let found = store.get(replayed.id(), &Nobody).unwrap().expect("it lives");
    assert_eq!(found.state(), State::Queued);
    assert_eq!(store.counts().unwrap().unfinished(), 1);
    let fill: Vec<_> = (100..102).map(make).collect();
    assert_eq!(fill.len(), 2, "there is room for exactly two beside it");
    change(&replayed, Operation::Cancel { reason: None });
    change(&replayed, Operation::Resolve { result: Default::default() });
    make(102);
}

/// Beyond their number, finished tasks are kept for as long as somebody may ask for them by id, and no longer.
#[test]
fn finished_tasks_that_are_needed_are_kept_beyond_their_number() {
    use std::time::Duration;

    use taskloom_model::{Admission, Fence, Name, Operation, Options, Parent, TaskId, Timestamp, admit};
    use taskloom_store::{Batch, Commit, Insert, Nobody, Task};

    for keep_finished in [0, 3] {
        let store = MemoryStore::new(MemoryOptions { keep_finished, ..MemoryOptions::default() });
        let owner = store.join("me", Timestamp::from_micros(1)).unwrap();
        let now = Timestamp::from_micros(1_000_000);
        let later = now + Duration::from_secs(60);
        let make = |id: TaskId, parent: Option<Parent>, options: &Options| {
            let admission = Admission::new(options).unwrap();
            let (mut spec, row, _) =
                admit(&admission, id, Name::new("job"), Default::default(), now).unwrap();
            if parent.is_some() {
                spec.rare.get_or_insert_default().parent = parent;
            }
            let task = Task::new(spec, row, None);
            let inserts = vec![Insert { tasks: vec![Arc::clone(&task)], verdict: None }];
            store.write(&mut Batch { inserts, ..Batch::default() }, &Nobody, now).unwrap();
            task
        };
        let change = |task: &Arc<Task>, operation, now| {
            let commit = Commit { task: Arc::clone(task), operation, spawn: Vec::new() };
            store.commit(commit, &mut Vec::new(), now).unwrap();
        };
        let cancel = |task: &Arc<Task>, now| change(task, Operation::Cancel { reason: None }, now);
        let id = |number: u8| TaskId::from_bytes([number; 16]);
        let known = |task: &Arc<Task>| store.get(task.id(), &Nobody).unwrap().is_some();

        let parent = make(id(1), None, &Options::default());
        change(&parent, Operation::Claim { owner }, now);
        let fence = Fence { owner, attempt: 1 };
        let children: Vec<_> = (0..20)
            .map(|ordinal| {
                let above = Parent { id: parent.id(), ordinal, detached: false };
                let child = make(parent.id().child(ordinal), Some(above), &Options::default());
                cancel(&child, now);
                child
            })
            .collect();
        let unique = Options {
            unique_key: Some("k".into()),
            unique_for: Some(Duration::from_secs(30)),
            ..Options::default()
        };
        let unique = make(id(2), None, &unique);
        cancel(&unique, now);
        for number in 3..30 {
            cancel(&make(id(number), None, &Options::default()), now);
        }
        assert!(children.iter().chain([&unique]).all(known));
        // Their time is over; they go as others come, two at a time.
        change(&parent, Operation::Succeed { fence, result: Default::default(), metadata: None }, later);
        for number in 30..90 {
            cancel(&make(id(number), None, &Options::default()), later);
        }
        assert!(!children.iter().chain([&unique]).any(known));
        let kept = store.list(&taskloom_store::Filter::default(), &Nobody).unwrap().len();
        assert_eq!(kept, keep_finished, "the line is as long as it should be again");
    }
}
