//! The memory store's alarm list: which task's time comes next.
//!
//! A binary heap of (time, order of arrival, task) under one lock. Entries are never looked for: a task that was
//! cancelled, or whose time was moved, leaves its entry behind, and whoever pops it asks the task itself. Entries are
//! weak, so a cancelled task's payload is freed at once.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use taskloom_model::Timestamp;

use crate::Task;

struct Alarm {
    at: Timestamp,
    arrival: u64,
    task: Weak<Task>,
}

impl PartialEq for Alarm {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Alarm {}

impl PartialOrd for Alarm {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Alarm {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.arrival).cmp(&(other.at, other.arrival))
    }
}

#[derive(Default)]
struct Inner {
    heap: BinaryHeap<Reverse<Alarm>>,
    arrivals: u64,
}

/// Tasks by their next time.
#[derive(Default)]
pub(crate) struct Alarms(Mutex<Inner>);

impl Alarms {
    pub(crate) fn set(&self, at: Timestamp, task: &Arc<Task>) {
        let mut inner = self.0.lock();
        inner.arrivals += 1;
        let arrival = inner.arrivals;
        inner.heap.push(Reverse(Alarm { at, arrival, task: Arc::downgrade(task) }));
    }

    /// The next task whose time has come; or when the next time comes.
    pub(crate) fn pop(&self, now: Timestamp) -> Result<Arc<Task>, Option<Timestamp>> {
        let mut inner = self.0.lock();
        loop {
            match inner.heap.peek() {
                None => return Err(None),
                Some(Reverse(next)) if next.at > now => return Err(Some(next.at)),
                Some(_) => {}
            }
            let task = inner.heap.pop().and_then(|Reverse(alarm)| alarm.task.upgrade());
            if inner.heap.capacity() > 1024 && inner.heap.len() * 8 < inner.heap.capacity() {
                let room = inner.heap.len() * 2;
                inner.heap.shrink_to(room);
            }
            if let Some(task) = task {
                return Ok(task);
            }
        }
    }
}
