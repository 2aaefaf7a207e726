//! What the clauses have in common: a store, a clock, one process that works on it, and short words for what it does.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use taskloom_model::{
    Admission, Effects, Error, Failure, Fence, LogLine, Name, Operation, Options, OwnerId, Parent, Row,
    State, TaskId, Timestamp, When, admit,
};
use taskloom_store::{Batch, Change, Claim, Commit, Insert, Nobody, Store, Task};

use crate::{Harness, VirtualClock};

/// The handler that tasks are for unless said otherwise.
pub(crate) const JOB: &str = "job";

/// A store on which something is about to happen.
pub(crate) struct Scene {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: VirtualClock,
    pub(crate) me: OwnerId,
    ids: Cell<u128>,
}

impl Scene {
    pub(crate) fn new(harness: &dyn Harness) -> Self {
        Self::on(harness.fresh())
    }

    /// A process joins a store.
    pub(crate) fn on(store: Arc<dyn Store>) -> Self {
        let clock = VirtualClock::default();
        let me = store.join("me", clock.now()).unwrap();
        Self { store, clock, me, ids: Cell::new(1) }
    }

    /// The same moment, seen from another opening of the store.
    pub(crate) fn beside(&self, store: Arc<dyn Store>) -> Self {
        let clock = VirtualClock::new(self.clock.now());
        let me = store.join("somebody else", clock.now()).unwrap();
        Self { store, clock, me, ids: Cell::new(self.ids.get() + 1_000_000) }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn pass(&self, seconds: u64) -> Timestamp {
        self.clock.advance(Duration::from_secs(seconds))
    }

    /// The next id: each is greater than the ones before.
    pub(crate) fn id(&self) -> TaskId {
        self.ids.set(self.ids.get() + 1);
        TaskId::from_bytes(self.ids.get().to_be_bytes())
    }

    pub(crate) fn join(&self, name: &str) -> OwnerId {
        self.store.join(name, self.now()).unwrap()
    }

    /// A task that is not in the store yet.
    pub(crate) fn task(&self, options: Options) -> Arc<Task> {
        self.task_for(JOB, b"{}", options)
    }

    pub(crate) fn task_for(&self, name: &str, payload: &[u8], options: Options) -> Arc<Task> {
        let admission = Admission::new(&options).unwrap();
        let id = options.id.unwrap_or_else(|| self.id());
        let (spec, row, _) = admit(&admission, id, Name::new(name), payload.into(), self.now()).unwrap();
        Task::new(spec, row, None)
    }

    /// A task that is in the store.
    pub(crate) fn add(&self, options: Options) -> Arc<Task> {
        let task = self.task(options);
        self.insert(&[&task]).unwrap();
        task
    }

    /// A task whose first attempt runs here.
    pub(crate) fn run(&self, options: Options) -> Arc<Task> {
        let task = self.add(options);
        self.start(&task);
        task
    }

    /// The task's next attempt begins.
    pub(crate) fn start(&self, task: &Arc<Task>) {
        self.commit(task, Operation::Claim { owner: self.me }).unwrap();
    }

    pub(crate) fn insert(&self, tasks: &[&Arc<Task>]) -> Result<(), Error> {
        let tasks: Vec<_> = tasks.iter().map(|task| Arc::clone(task)).collect();
        self.store.insert(&tasks, self.now())
    }

    /// Inserts tasks with unique keys: the tasks that stand where they stood, and what followed.
    pub(crate) fn submit(&self, tasks: &[&Arc<Task>]) -> Result<(Vec<Arc<Task>>, Vec<Change>), Error> {
        let mut batch = self.write(Batch { inserts: vec![group(tasks)], ..Batch::default() });
        let insert = batch.inserts.remove(0);
        insert.verdict.expect("there is a verdict").map(|()| (insert.tasks, batch.consequences))
    }

    /// A task's child that is not in the store yet.
    pub(crate) fn child(&self, parent: &Task, ordinal: u32, options: Options) -> Arc<Task> {
        self.child_with(parent, ordinal, false, options)
    }

    pub(crate) fn child_with(
        &self,
        parent: &Task,
        ordinal: u32,
        detached: bool,
        mut options: Options,
    ) -> Arc<Task> {
        options.id = Some(parent.id().child(ordinal));
        let task = self.task(options);
        let mut spec = task.spec().clone();
        spec.rare.get_or_insert_default().parent = Some(Parent { id: parent.id(), ordinal, detached });
        Task::new(spec, task.with_row(Row::clone), None)
    }

    /// The running attempt of a task submits a child.
    pub(crate) fn spawn(&self, parent: &Arc<Task>, child: &Arc<Task>) -> Result<Vec<Change>, Error> {
        let mut consequences = Vec::new();
        let commit = self.spawning(parent, child);
        self.store.commit(commit, &mut consequences, self.now()).map(|_| consequences)
    }

    pub(crate) fn spawning(&self, parent: &Arc<Task>, child: &Arc<Task>) -> Commit {
        let ordinal = child.spec().parent().expect("it is a child").ordinal;
        let fence = self.fence(parent.with_row(|row| row.attempt));
        let operation = Operation::Spawn { fence, ordinal };
        Commit { task: Arc::clone(parent), operation, spawn: vec![Arc::clone(child)] }
    }

    /// A child that was submitted, and runs.
    pub(crate) fn run_child(&self, parent: &Arc<Task>, ordinal: u32, detached: bool) -> Arc<Task> {
        let child = self.child_with(parent, ordinal, detached, Options::default());
        self.spawn(parent, &child).unwrap();
        self.start(&child);
        child
    }

    pub(crate) fn commit(&self, task: &Arc<Task>, operation: Operation) -> Result<Effects, Error> {
        self.store.commit(commit(task, operation), &mut Vec::new(), self.now())
    }

    /// Starts a task over: its new generation.
    pub(crate) fn replay(&self, task: &Arc<Task>) -> Result<Arc<Task>, Error> {
        let mut consequences = Vec::new();
        let replay = commit(task, Operation::Replay);
        let effects = self.store.commit(replay, &mut consequences, self.now())?;
        assert!(!effects.moved() && effects.to.is_terminal(), "{effects:?}");
        let new = |change: &Change| change.task.id() == task.id() && change.effects.from == Some(effects.to);
        let new: Vec<_> = consequences.iter().filter(|change| new(change)).collect();
        assert_eq!(new.len(), 1, "the new generation is told once: {consequences:?}");
        assert!(new[0].effects.moved() && !Arc::ptr_eq(&new[0].task, task));
        Ok(Arc::clone(&new[0].task))
    }

    /// Writes a batch with nobody holding a task.
    pub(crate) fn write(&self, mut batch: Batch) -> Batch {
        self.store.write(&mut batch, &Nobody, self.now()).unwrap();
        batch
    }

    /// What a worker for [`JOB`] on the default queue gets.
    pub(crate) fn claim(&self, limit: usize) -> Vec<Arc<Task>> {
        self.claim_from(&["default"], &[JOB], limit)
    }

    pub(crate) fn claim_from(&self, queues: &[&str], names: &[&str], limit: usize) -> Vec<Arc<Task>> {
        let claim = Some(self.wish(queues, names, limit));
        self.write(Batch { claim, ..Batch::default() }).claimed
    }

    pub(crate) fn wish(&self, queues: &[&str], names: &[&str], limit: usize) -> Claim {
        let list = |texts: &[&str]| texts.iter().map(|text| Name::new(text)).collect();
        Claim { owner: self.me, queues: list(queues), names: list(names), limit }
    }

    pub(crate) fn elapse(&self, limit: usize) -> (Vec<Change>, Option<Timestamp>) {
        let mut changes = Vec::new();
        let next = self.store.elapse(limit, &Nobody, &mut changes, self.now()).unwrap();
        (changes, next)
    }

    pub(crate) fn bury(&self, owner: OwnerId) -> Vec<Change> {
        let mut changes = Vec::new();
        self.store.bury(owner, &Nobody, &mut changes, self.now()).unwrap();
        changes
    }

    /// The task as the store has it: another copy, where rows do not live in the tasks.
    pub(crate) fn copy(&self, id: TaskId) -> Arc<Task> {
        self.store.get(id, &Nobody).unwrap().expect("the task is in the store")
    }

    pub(crate) fn row(&self, task: &Task) -> Row {
        self.copy(task.id()).with_row(Row::clone)
    }

    pub(crate) fn state(&self, task: &Task) -> State {
        self.row(task).state
    }

    pub(crate) fn knows(&self, task: &Task) -> bool {
        self.store.get(task.id(), &Nobody).unwrap().is_some()
    }

    /// The fence of an attempt that runs here.
    pub(crate) fn fence(&self, attempt: u32) -> Fence {
        Fence { owner: self.me, attempt }
    }

    pub(crate) fn failure(&self, attempt: u32) -> Box<Failure> {
        Box::new(Failure {
            kind: "ValueError".into(),
            message: format!("no good, attempt {attempt}"),
            backtrace: "in line 1".into(),
            attempt,
            at: self.now(),
        })
    }

    pub(crate) fn line(&self, message: &str) -> LogLine {
        LogLine { at: self.now(), level: "info".into(), message: message.into(), attempt: 1 }
    }

    /// An ordinary failure; `chance` 1 makes the backoff the whole ceiling.
    pub(crate) fn fail(&self, attempt: u32) -> Operation {
        let (fence, failure) = (self.fence(attempt), self.failure(attempt));
        Operation::Fail { fence, failure, permanent: false, retry_after: None, chance: 1.0 }
    }

    pub(crate) fn succeed(&self, attempt: u32) -> Operation {
        Operation::Succeed { fence: self.fence(attempt), result: b"42".into(), metadata: None }
    }

    /// A task in each state that has an operation which leads to it.
    pub(crate) fn in_state(&self, state: State) -> Arc<Task> {
        match state {
            State::Pending => self.add(Options { eta: seconds(1000), ..Options::default() }),
            State::Queued => self.add(Options::default()),
            State::Running => self.run(Options::default()),
            State::Retrying => {
                let task = self.run(Options { retries: Some(5), ..Options::default() });
                self.commit(&task, self.fail(1)).unwrap();
                task
            }
            State::Succeeded => self.after(self.succeed(1)),
            State::Failed => self.after(self.fail(1)),
            State::TimedOut => self.after(Operation::TimeOut { fence: self.fence(1), chance: 0.0 }),
            State::Cancelled => self.after(Operation::Cancel { reason: None }),
            State::Expired => {
                let past = Some(When::At(Timestamp::from_micros(1)));
                self.add(Options { expires: past, ..Options::default() })
            }
            State::Skipped => {
                let task = self.in_state(State::Failed);
                self.commit(&task, Operation::Skip { reason: None }).unwrap();
                task
            }
        }
    }

    fn after(&self, operation: Operation) -> Arc<Task> {
        let task = self.run(Options::default());
        self.commit(&task, operation).unwrap();
        task
    }
}

pub(crate) fn commit(task: &Arc<Task>, operation: Operation) -> Commit {
    Commit { task: Arc::clone(task), operation, spawn: Vec::new() }
}

pub(crate) fn group(tasks: &[&Arc<Task>]) -> Insert {
    Insert { tasks: tasks.iter().map(|task| Arc::clone(task)).collect(), verdict: None }
}

pub(crate) fn seconds(count: u64) -> Option<When> {
    Some(When::In(Duration::from_secs(count)))
}

pub(crate) fn ids(tasks: &[Arc<Task>]) -> Vec<TaskId> {
    tasks.iter().map(|task| task.id()).collect()
}

/// The states that changes led from and to.
pub(crate) fn moves(changes: &[Change]) -> Vec<(TaskId, Option<State>, State)> {
    changes.iter().map(|change| (change.task.id(), change.effects.from, change.effects.to)).collect()
}
