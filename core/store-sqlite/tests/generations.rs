//! A task that another process has started over before it has settled here: it shows its own end, and nothing of what
//! comes after it.

use std::sync::Arc;

use taskloom_model::{
    Admission, Effects, Failure, Fence, Name, Operation, OwnerId, State, TaskId, Timestamp, admit,
};
use taskloom_store::{Batch, Claim, Commit, Insert, Live, Residents, Store, Task};
use taskloom_store_sqlite::{SqliteOptions, SqliteStore};
use tempfile::TempDir;

const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

/// A process: its store, and the tasks that somebody in it holds.
struct Process {
    store: SqliteStore,
    live: Live,
    owner: OwnerId,
}

impl Process {
    fn on(folder: &TempDir) -> Self {
        let store = SqliteStore::open(&folder.path().join("tasks.db"), SqliteOptions::default()).unwrap();
        let owner = store.join("a process", NOW).unwrap();
        Self { store, live: Live::default(), owner }
    }

    fn write(&self, mut batch: Batch) -> Batch {
        self.store.write(&mut batch, &self.live, NOW).unwrap();
        batch
    }

    fn commit(&self, task: &Arc<Task>, operation: Operation) -> Effects {
        let commit = Commit { task: Arc::clone(task), operation, spawn: Vec::new() };
        let mut batch = self.write(Batch { commits: vec![commit], ..Batch::default() });
        batch.verdicts.pop().unwrap().unwrap()
    }

    fn claim(&self) -> Arc<Task> {
        let [queues, names] = ["default", "job"].map(|name| [Name::new(name)].into());
        let claim = Claim { owner: self.owner, queues, names, limit: 1 };
        self.write(Batch { claim: Some(claim), ..Batch::default() }).claimed.pop().unwrap()
    }

    fn get(&self, id: TaskId) -> Arc<Task> {
        self.store.get(id, &self.live).unwrap().unwrap()
    }

    /// A task that this process has just failed: nobody has been told so far.
    fn failed(&self) -> Arc<Task> {
        let id = TaskId::from_bytes([7; 16]);
        let (spec, row, _) =
            admit(&Admission::default(), id, Name::new("job"), Default::default(), NOW).unwrap();
        let task = Task::new(spec, row, None);
        self.live.insert(&task);
        let inserts = vec![Insert { tasks: vec![Arc::clone(&task)], verdict: None }];
        self.write(Batch { inserts, ..Batch::default() });
        assert!(Arc::ptr_eq(&self.claim(), &task));
        let fence = Fence { owner: self.owner, attempt: 1 };
        let failure = Failure {
            kind: "Broken".into(),
            message: "no".into(),
            backtrace: String::new(),
            attempt: 1,
            at: NOW,
        };
        self.commit(
            &task,
            Operation::Fail {
                fence,
                failure: Box::new(failure),
                retry_after: None,
                permanent: true,
                chance: 0.0,
            },
        );
        assert_eq!(task.state(), State::Failed);
        assert!(!task.is_settled());
        task
    }
}

/// One process has ended a task, another has started it over.
fn started_over() -> (Process, Process, Arc<Task>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = (Process::on(&folder), Process::on(&folder));
    let ended = here.failed();
    there.commit(&there.get(ended.id()), Operation::Replay);
    (here, there, ended, folder)
}

fn is_as_it_ended(ended: &Task) {
    ended.with_row(|row| assert_eq!((row.state, row.generation), (State::Failed, 0)));
}

#[test]
fn who_reads_it_gets_the_new_generation_as_another_task() {
    let (here, _there, ended, _folder) = started_over();
    let read = here.get(ended.id());
    read.with_row(|row| assert_eq!((row.state, row.generation), (State::Queued, 1)));
    is_as_it_ended(&ended);
    // Whoever asks from now on is shown the new one.
    assert!(Arc::ptr_eq(&here.live.adopt(Arc::clone(&read)), &read));
    assert!(Arc::ptr_eq(&here.live.resident(ended.id()).unwrap(), &read));
}

#[test]
fn who_claims_it_gets_the_new_generation_as_another_task() {
    let (here, _there, ended, _folder) = started_over();
    let claimed = here.claim();
    claimed.with_row(|row| assert_eq!((row.state, row.generation, row.attempt), (State::Running, 1, 2)));
    is_as_it_ended(&ended);
}

/// Whoever has read the row, and has not shown it yet when the task ends here.
#[test]
fn who_shows_late_what_was_read_is_given_it_back() {
    let (here, there, ended, _folder) = started_over();
    let later = there.get(ended.id()).with_row(Clone::clone);
    assert_eq!(ended.replace_row(later.clone()), Some(later));
    is_as_it_ended(&ended);
    ended.settle();
    is_as_it_ended(&ended);
    assert_eq!(here.get(ended.id()).state(), State::Queued);
}
