//! Claims by query, and who may claim at all.
//!
//! A query looks at every task. The engine never asks for one on a resident store, since its lanes hold the eligible tasks
//! in order: it is there for completeness, and for the conformance suite.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use taskloom_model::{Name, Operation, OwnerId, State, Timestamp};

use super::MemoryStore;
use crate::{Change, Claim, Task};

impl MemoryStore {
    /// Whether an owner may claim: one that was struck off may not.
    pub(super) fn may_claim(&self, owner: OwnerId) -> bool {
        !self.buried.load(Ordering::Relaxed) || self.owners.lock().iter().any(|known| known.id == owner)
    }

    pub(super) fn claim(
        &self,
        claim: &Claim,
        claimed: &mut Vec<Arc<Task>>,
        consequences: &mut Vec<Change>,
        now: Timestamp,
    ) {
        if claim.queues.is_empty() {
            self.take(claim, None, claimed, consequences, now);
        }
        for queue in &*claim.queues {
            self.take(claim, Some(*queue), claimed, consequences, now);
        }
    }

    /// Takes from one queue or from all, in rounds: what a round claims, or moves out of the way, may let others in.
    fn take(
        &self,
        claim: &Claim,
        queue: Option<Name>,
        claimed: &mut Vec<Arc<Task>>,
        consequences: &mut Vec<Change>,
        now: Timestamp,
    ) {
        // Those whose line is closed: the next ones come in their places.
        let mut passed_over = HashSet::new();
        loop {
            let before = (claimed.len(), consequences.len(), passed_over.len());
            let mut closed = false;
            let eligible = self.eligible(claim, queue).filter(|task| !passed_over.contains(&task.id()));
            for task in eligible.take(claim.limit - claimed.len()).collect::<Vec<_>>() {
                let operation = Operation::Claim { owner: claim.owner };
                match self.apply(&task, operation, consequences, now) {
                    Ok(effects) if effects.to == State::Running => claimed.push(task),
                    Ok(effects) if effects.moved() => closed = true,
                    Ok(_) => drop(passed_over.insert(task.id())),
                    Err(_) => {}
                }
            }
            self.refill(consequences, now);
            if !closed && before == (claimed.len(), consequences.len(), passed_over.len()) {
                break;
            }
        }
    }

    /// The tasks that a claim asks for, in their order.
    fn eligible(&self, claim: &Claim, queue: Option<Name>) -> impl Iterator<Item = Arc<Task>> + use<> {
        let mut eligible = Vec::new();
        let paused = self.paused.lock().clone();
        self.tasks.for_each(|task| {
            let spec = task.spec();
            if queue.is_none_or(|queue| queue == spec.queue)
                && !paused.contains(&spec.queue)
                && claim.names.contains(&spec.name)
            {
                let (state, since) = task.with_row(|row| (row.state, row.eligible));
                if state == State::Queued {
                    eligible.push((Reverse(spec.priority), since, spec.id, Arc::clone(task)));
                }
            }
        });
        eligible.sort_by_key(|(priority, since, id, _)| (*priority, *since, *id));
        eligible.into_iter().map(|(.., task)| task)
    }
}
