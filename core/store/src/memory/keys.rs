//! Who has which unique key in memory.
//!
//! The table is under one lock, which is held from the moment at which an insert with a unique key in it is decided
//! until it is done or given up, so such inserts come one after the other and two racing submitters cannot both find
//! a key free. Tasks without a unique key never touch it. Under it the rows of tasks are looked at and changed, each
//! under its own lock; nobody who holds a row's lock asks for this one.
//!
//! An entry is not taken out when its task ends: a key is free if its holder has ended and its time is over. The dead
//! ones are swept out when the table has doubled. A key that outlives its task (`unique_for`) keeps it in memory.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use taskloom_model::planted::{self, Bug};
use taskloom_model::{Name, Timestamp, Unique};

use crate::Task;

#[derive(Default)]
pub(super) struct Keys {
    holders: HashMap<(Name, Box<str>), Holder>,
    sweep_at: usize,
}

enum Holder {
    /// For as long as it lives.
    While(Weak<Task>),
    /// Until this time, or for as long as it lives if that is longer.
    Until(Arc<Task>, Timestamp),
}

impl Holder {
    fn of(task: &Arc<Task>, until: Option<Timestamp>) -> Self {
        match until {
            Some(until) => Self::Until(Arc::clone(task), until),
            None => Self::While(Arc::downgrade(task)),
        }
    }

    /// The task, if it still has the key.
    fn task(&self, now: Timestamp) -> Option<Arc<Task>> {
        let (task, until) = match self {
            Self::While(task) => (task.upgrade()?, None),
            Self::Until(task, until) => (Arc::clone(task), Some(*until)),
        };
        Unique::is_kept(until, task.state(), now).then_some(task)
    }
}

impl Keys {
    /// Who has the key.
    pub(super) fn holder(&self, name: Name, key: &str, now: Timestamp) -> Option<Arc<Task>> {
        if planted::is(Bug::IgnoredKey) {
            return None;
        }
        self.holders.get(&(name, key.into()))?.task(now)
    }

    /// Gives a key to a task.
    pub(super) fn give(&mut self, task: &Arc<Task>, now: Timestamp) {
        let Some(unique) = task.spec().unique() else { return };
        if self.holders.len() >= self.sweep_at {
            self.holders.retain(|_, holder| holder.task(now).is_some());
            self.sweep_at = (self.holders.len() * 2).max(64);
        }
        self.holders.insert((task.spec().name, unique.key.as_str().into()), Holder::of(task, unique.until));
    }
}
