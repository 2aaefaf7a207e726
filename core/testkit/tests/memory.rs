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
        let (spec, row, _) = admit(&Admission::default(), id, Name::new("job"), Box::new([]), now).unwrap();
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
    for number in 1..20 {
        change(&make(number), Operation::Cancel { reason: None });
    }
    let found = store.get(replayed.id(), &Nobody).unwrap().expect("it lives");
    assert_eq!(found.state(), State::Queued);
    assert_eq!(store.counts().unwrap().unfinished(), 1);
    let fill: Vec<_> = (100..102).map(make).collect();
    assert_eq!(fill.len(), 2, "there is room for exactly two beside it");
    change(&replayed, Operation::Cancel { reason: None });
    change(&replayed, Operation::Resolve { result: Box::new([]) });
    make(102);
}
