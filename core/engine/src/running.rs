//! What is being run right now: who must be told when an attempt is cancelled or takes too long.
//!
//! Every worker thread has a [`Seat`]; every attempt on an event loop has an entry in a table. Both are written when
//! an attempt begins and when it ends, and read by the timer service. There is no list of timeouts to keep in order:
//! what runs is bounded by the workers and by `max_in_flight`, so looking at all of it is cheap, and an attempt that
//! ends in time leaves nothing behind.
//!
//! A seat's lock is held for a few instructions and never while a handler runs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use taskloom_model::{Fence, TaskId};
use taskloom_store::Task;

/// How long after its attempt was called off a worker thread counts as stuck, and is replaced.
const GRACE: Duration = Duration::from_millis(200);

/// A handler that was called off is told again after this time, then after twice that, up to a second.
const FIRST_REMINDER: Duration = Duration::from_millis(20);

/// An attempt in progress.
pub(crate) struct Current {
    pub(crate) task: Arc<Task>,
    pub(crate) fence: Fence,
    /// When it has taken too long, on the monotonic clock.
    deadline: Option<Duration>,
    called_off: Option<CalledOff>,
}

#[derive(Clone, Copy)]
struct CalledOff {
    since: Duration,
    remind_at: Duration,
    pause: Duration,
    replaced: bool,
}

/// What the timer service has to do about an attempt.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// It took too long: commit the timeout.
    TimeOut(TaskId, Fence),
    /// It was called off and still runs: tell it again.
    Remind(TaskId, Fence),
    /// Its thread does not come back: put another in its place.
    Replace(Fence),
}

impl Current {
    pub(crate) fn new(task: Arc<Task>, fence: Fence, deadline: Option<Duration>) -> Self {
        Self { task, fence, deadline, called_off: None }
    }

    /// Collects what is due, and returns when to look again.
    fn step(&mut self, monotonic: Duration, on_thread: bool, due: &mut Vec<Due>) -> Option<Duration> {
        let id = self.task.id();
        if self.called_off.is_none() && !self.task.is_current(self.fence) {
            let remind_at = monotonic + FIRST_REMINDER;
            self.called_off =
                Some(CalledOff { since: monotonic, remind_at, pause: FIRST_REMINDER, replaced: false });
        }
        if let Some(off) = &mut self.called_off {
            if on_thread && !off.replaced && monotonic >= off.since + GRACE {
                off.replaced = true;
                due.push(Due::Replace(self.fence));
            }
            if monotonic >= off.remind_at {
                due.push(Due::Remind(id, self.fence));
                off.pause = (off.pause * 2).min(Duration::from_secs(1));
                off.remind_at = monotonic + off.pause;
            }
            return Some(off.remind_at);
        }
        if let Some(deadline) = self.deadline {
            if monotonic >= deadline {
                self.deadline = None;
                due.push(Due::TimeOut(id, self.fence));
                // Whatever comes of it, look again soon: the attempt is called off then, or has ended.
                return Some(monotonic + FIRST_REMINDER);
            }
            return Some(deadline);
        }
        None
    }
}

/// A worker thread's place.
#[derive(Default)]
pub(crate) struct Seat(Mutex<Option<Current>>);

impl Seat {
    pub(crate) fn take(&self, current: Current) {
        *self.0.lock() = Some(current);
    }

    /// Ends the attempt; whether its thread was replaced meanwhile.
    pub(crate) fn leave(&self) -> bool {
        let current = self.0.lock().take();
        current.is_some_and(|current| current.called_off.is_some_and(|off| off.replaced))
    }
}

/// Everything that runs.
#[derive(Default)]
pub(crate) struct Running {
    seats: Mutex<Vec<Arc<Seat>>>,
    on_loops: Mutex<HashMap<(TaskId, u32), Current>>,
}

impl Running {
    pub(crate) fn add_seat(&self) -> Arc<Seat> {
        let seat = Arc::new(Seat::default());
        self.seats.lock().push(Arc::clone(&seat));
        seat
    }

    pub(crate) fn remove_seat(&self, seat: &Arc<Seat>) {
        self.seats.lock().retain(|other| !Arc::ptr_eq(other, seat));
    }

    pub(crate) fn begin_on_loop(&self, current: Current) {
        self.on_loops.lock().insert((current.task.id(), current.fence.attempt), current);
    }

    pub(crate) fn end_on_loop(&self, id: TaskId, fence: Fence) {
        self.on_loops.lock().remove(&(id, fence.attempt));
    }

    /// Collects what is due, and returns when to look again.
    pub(crate) fn step(&self, monotonic: Duration, due: &mut Vec<Due>) -> Option<Duration> {
        let seats: Vec<_> = self.seats.lock().clone();
        let on_threads = seats
            .iter()
            .filter_map(|seat| seat.0.lock().as_mut().and_then(|current| current.step(monotonic, true, due)))
            .min();
        let on_loops = self
            .on_loops
            .lock()
            .values_mut()
            .filter_map(|current| current.step(monotonic, false, due))
            .min();
        [on_threads, on_loops].into_iter().flatten().min()
    }

    /// Every attempt in progress.
    pub(crate) fn all(&self) -> Vec<(Arc<Task>, Fence)> {
        let seats: Vec<_> = self.seats.lock().clone();
        let pair = |current: &Current| (Arc::clone(&current.task), current.fence);
        let mut all: Vec<_> = seats.iter().filter_map(|seat| seat.0.lock().as_ref().map(pair)).collect();
        all.extend(self.on_loops.lock().values().map(pair));
        all
    }

    /// The attempt with this fence, if it is in progress.
    pub(crate) fn find(&self, id: TaskId, fence: Fence) -> Option<Arc<Task>> {
        self.all().into_iter().find(|(task, own)| task.id() == id && *own == fence).map(|(task, _)| task)
    }

    /// How many worker threads are in a handler whose attempt was called off.
    pub(crate) fn stuck(&self) -> usize {
        let seats: Vec<_> = self.seats.lock().clone();
        seats
            .iter()
            .filter(|seat| {
                seat.0.lock().as_ref().is_some_and(|current| current.called_off.is_some_and(|off| off.replaced))
            })
            .count()
    }
}
