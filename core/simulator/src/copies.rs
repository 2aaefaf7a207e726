//! What a process shows of the rows on a simulated disk: copies, one for each task that somebody there holds.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use taskloom_model::TaskId;
use taskloom_store::{Residents, Task};

/// Has a copy show a row, unless nothing more happens to it.
pub(crate) fn show(row: &Arc<Task>, copy: &Arc<Task>) {
    if !copy.is_final() && !Arc::ptr_eq(row, copy) {
        copy.replace_row(row.with_row(Clone::clone));
    }
}

/// The copies of rows that a process holds: those that somebody there has, and those of the batch at hand.
pub(crate) struct Copies<'a> {
    residents: &'a dyn Residents,
    pub(crate) known: RefCell<HashMap<TaskId, Vec<Arc<Task>>>>,
}

impl<'a> Copies<'a> {
    pub(crate) fn new(residents: &'a dyn Residents) -> Self {
        Self { residents, known: RefCell::default() }
    }

    pub(crate) fn add(&self, copy: &Arc<Task>) {
        self.known.borrow_mut().entry(copy.id()).or_default().push(Arc::clone(copy));
    }

    /// A task was started over: those of its last generation show how that ended, for good.
    pub(crate) fn supersede(&self, last: &Arc<Task>) {
        let held = self.residents.resident(last.id());
        let known = self.known.borrow_mut().remove(&last.id()).unwrap_or_default();
        for copy in held.into_iter().chain(known) {
            copy.supersede(last.with_row(Clone::clone));
        }
    }

    /// The one that is told of.
    pub(crate) fn of(&self, row: &Arc<Task>) -> Arc<Task> {
        let held = self.residents.resident(row.id());
        let known = self.known.borrow().get(&row.id()).and_then(|known| known.first().cloned());
        // One that has settled keeps what it shows: if the row has gone on, whoever asks gets a new one.
        let same = |copy: &Arc<Task>| {
            let shown = copy.with_row(|row| (row.state, row.attempt, row.generation));
            shown == row.with_row(|row| (row.state, row.attempt, row.generation))
        };
        let generation = row.with_row(|row| row.generation);
        let shows = |copy: &Arc<Task>| !copy.is_superseded() && (copy.may_show(generation) || same(copy));
        if let Some(copy) = held.into_iter().chain(known).find(shows) {
            show(row, &copy);
            return copy;
        }
        let copy = Task::new(row.spec().clone(), row.with_row(Clone::clone), None);
        self.known.borrow_mut().entry(row.id()).or_default().insert(0, Arc::clone(&copy));
        copy
    }
}
