//! What is changed in one transaction: inserts, changes of tasks, a claim, and what became of each.

use std::sync::Arc;

use taskloom_model::{Effects, Error, Name, Operation, OwnerId};

use crate::Task;

/// Tasks to insert together, all or none.
#[derive(Debug)]
pub struct Insert {
    /// The tasks, as admitted. Where a unique key was taken and the new task asks for the one that has it, the store
    /// puts that one in its place.
    pub tasks: Vec<Arc<Task>>,
    /// Whether they were accepted; set by the store.
    pub verdict: Option<Result<(), Error>>,
}

/// One change of one task, and tasks to insert with it.
#[derive(Debug)]
pub struct Commit {
    /// The task.
    pub task: Arc<Task>,
    /// The change.
    pub operation: Operation,
    /// Tasks that are inserted if, and only if, the change is made.
    pub spawn: Vec<Arc<Task>>,
}

/// A change that was made.
#[derive(Clone, Debug)]
pub struct Change {
    /// The task.
    pub task: Arc<Task>,
    /// What follows.
    pub effects: Effects,
}

/// A wish for eligible tasks.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Who wants them.
    pub owner: OwnerId,
    /// From these queues, the first ones first; from all of them alike if it names none.
    pub queues: Arc<[Name]>,
    /// For these handlers.
    pub names: Arc<[Name]>,
    /// At most so many.
    pub limit: usize,
}

/// Changes to make in one transaction.
#[derive(Debug, Default)]
pub struct Batch {
    /// New tasks.
    pub inserts: Vec<Insert>,
    /// Changes.
    pub commits: Vec<Commit>,
    /// A claim, made after the rest.
    pub claim: Option<Claim>,
    /// What became of each commit, in their order; filled in by the store.
    pub verdicts: Vec<Result<Effects, Error>>,
    /// What the claim got: running, and owned by the claimer; filled in by the store.
    pub claimed: Vec<Arc<Task>>,
    /// Changes of other tasks that followed (dependents); filled in by the store.
    pub consequences: Vec<Change>,
}

impl Batch {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.inserts.is_empty() && self.commits.is_empty() && self.claim.is_none()
    }
}
