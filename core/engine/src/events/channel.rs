//! One subscription's buffer: many publishers, one reader.
//!
//! # What it owns
//! The events that its reader has not taken yet, oldest first and at most `capacity` of them; how many it had to drop,
//! and where; who is to be woken.
//!
//! # Why a lock
//! A ring of atomics (crossbeam's `ArrayQueue`) would spare publishers the lock and cost three things that a subscriber
//! is promised. *Its place*: what was dropped must be told between the events around it, and only who sees the buffer
//! full and writes that down in one step knows the place. *The edge*: the reader is woken when the buffer goes from
//! empty to not empty, exactly then; with a ring that takes a flag and two fences for each event. *Memory*: a ring of
//! 10,000 is a quarter of a megabyte for a subscriber that never lags; a deque grows as it must. In return the lock is
//! held for a push, or for moving a batch out; no user's code runs under it, nothing is freed under it, and publishers
//! to one ring would meet in the same cache line anyway.
//!
//! # Invariants
//! * `events.len() <= capacity`. An event that finds it full is dropped and counted in the gap at the end.
//! * A gap lies between two events, or at the end, and another one begins only after an event that was accepted; so
//!   there are at most `capacity + 1` of them.
//! * Positions count the events ever accepted. `taken + events.len()` is the position of the end; gaps are in order, and
//!   none lies before `taken`.
//! * Whoever makes an empty buffer not empty wakes, and so does whoever closes it. A gap never does: when one begins the
//!   buffer is full. A reader that leaves something behind while another one waits wakes that one.
//!
//! # Failure
//! A waker that panics is caught where it is called; the publisher does not notice. A reader that never reads costs its
//! buffer and nothing else.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex, MutexGuard};
use taskloom_model::Timestamp;

use super::Event;
use super::pattern::Pattern;

/// Tells a foreign event loop that there is something to take. It must be short and must not wait: publishers call it.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// A subscription as the bus sees it.
pub(super) struct Channel {
    pub(super) name: Box<str>,
    pub(super) pattern: Pattern,
    capacity: usize,
    state: Mutex<State>,
    arrived: Condvar,
}

struct State {
    events: VecDeque<Arc<Event>>,
    gaps: VecDeque<Gap>,
    /// How many events the reader has taken.
    taken: u64,
    /// How many events were dropped.
    dropped: u64,
    /// How many threads wait.
    waiting: usize,
    waker: Option<Waker>,
    closed: bool,
}

/// Where events were dropped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gap {
    /// After so many events.
    position: u64,
    /// How many were dropped here.
    pub(super) dropped: u64,
    /// How many were dropped up to here.
    pub(super) total: u64,
    /// When the last of them was published.
    pub(super) until: Timestamp,
}

impl State {
    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.gaps.is_empty()
    }

    fn end(&self) -> u64 {
        self.taken + self.events.len() as u64
    }

    fn drop_one(&mut self, at: Timestamp) {
        self.dropped += 1;
        let (position, total) = (self.end(), self.dropped);
        match self.gaps.back_mut() {
            Some(gap) if gap.position == position => {
                gap.dropped += 1;
                (gap.total, gap.until) = (total, at);
            }
            _ => self.gaps.push_back(Gap { position, dropped: 1, total, until: at }),
        }
    }

    /// The gap that the reader has come to.
    fn gap(&mut self) -> Option<Gap> {
        self.gaps.pop_front_if(|gap| gap.position == self.taken)
    }
}

/// Whom to wake, once no lock is held any more.
#[must_use = "whoever waits is not woken before this is called"]
pub(super) struct Wake {
    channel: Arc<Channel>,
    waker: Option<Waker>,
    waiting: bool,
}

impl Wake {
    pub(super) fn call(self) {
        if self.waiting {
            self.channel.arrived.notify_one();
        }
        if let Some(waker) = self.waker {
            // It may be the last to hold the waker, whose end is a user's code too.
            let _ = catch_unwind(AssertUnwindSafe(move || waker()));
        }
    }
}

/// What a reader took.
pub(super) enum Taken {
    Event(Arc<Event>),
    Gap(Gap),
}

impl Channel {
    pub(super) fn new(name: Box<str>, pattern: Pattern, capacity: usize) -> Self {
        let state = State {
            events: VecDeque::new(),
            gaps: VecDeque::new(),
            taken: 0,
            dropped: 0,
            waiting: 0,
            waker: None,
            closed: false,
        };
        Self { name, pattern, capacity, state: Mutex::new(state), arrived: Condvar::new() }
    }

    // ── publishers ──────────────────────────────────────────────────────────────────────────────────────────────

    /// Adds an event, or counts it as dropped. Returns whom to wake.
    pub(super) fn offer(self: &Arc<Self>, event: &Arc<Event>) -> Option<Wake> {
        let mut state = self.state.lock();
        if state.closed {
            return None;
        }
        if state.events.len() >= self.capacity {
            state.drop_one(event.time);
            return None;
        }
        let was_empty = state.is_empty();
        state.events.push_back(Arc::clone(event));
        if was_empty { self.wake(&state) } else { None }
    }

    fn wake(self: &Arc<Self>, state: &State) -> Option<Wake> {
        let (waker, waiting) = (state.waker.clone(), state.waiting > 0);
        (waiting || waker.is_some()).then(|| Wake { channel: Arc::clone(self), waker, waiting })
    }

    /// No more events come. `keep`: the reader may still take those that are here.
    pub(super) fn close(self: &Arc<Self>, keep: bool) {
        let mut state = self.state.lock();
        let first = !state.closed;
        state.closed = true;
        let waker = if first { state.waker.clone() } else { None };
        let rest = if keep {
            None
        } else {
            state.gaps.clear();
            state.taken = state.end();
            Some(std::mem::take(&mut state.events))
        };
        drop(state);
        drop(rest);
        self.arrived.notify_all();
        Wake { channel: Arc::clone(self), waker, waiting: false }.call();
    }

    // ── the reader ──────────────────────────────────────────────────────────────────────────────────────────────

    /// Sets who is told, and tells at once if there is something to be told of already.
    pub(super) fn set_waker(self: &Arc<Self>, waker: Option<Waker>) {
        let mut state = self.state.lock();
        let old = std::mem::replace(&mut state.waker, waker);
        let news = !state.is_empty() || state.closed;
        let wake = if news { self.wake(&state) } else { None };
        drop(state);
        drop(old);
        if let Some(wake) = wake {
            wake.call();
        }
    }

    /// Waits until there is something to take, until the end or until the deadline; whether there is something.
    pub(super) fn wait(&self, deadline: Option<Instant>) -> bool {
        self.wait_in(&mut self.state.lock(), deadline)
    }

    /// Takes the next, waiting for it if need be.
    pub(super) fn next(&self, deadline: Option<Instant>) -> Option<Taken> {
        let mut state = self.state.lock();
        if !self.wait_in(&mut state, deadline) {
            return None;
        }
        let taken = match state.gap() {
            Some(gap) => Taken::Gap(gap),
            None => {
                let event = state.events.pop_front()?;
                state.taken += 1;
                Taken::Event(event)
            }
        };
        self.pass_on(state);
        Some(taken)
    }

    /// Takes at most `max` without waiting, and up to the first gap; returns the gap, if it came to one.
    pub(super) fn drain(&self, out: &mut Vec<Arc<Event>>, max: usize) -> Option<Gap> {
        if max == 0 {
            return None;
        }
        let mut state = self.state.lock();
        let before_gap = state.gaps.front().map_or(u64::MAX, |gap| gap.position - state.taken);
        let count = max.min(state.events.len()).min(usize::try_from(before_gap).unwrap_or(usize::MAX));
        out.extend(state.events.drain(..count));
        state.taken += count as u64;
        let gap = if count < max { state.gap() } else { None };
        self.pass_on(state);
        gap
    }

    pub(super) fn len(&self) -> usize {
        self.state.lock().events.len()
    }

    pub(super) fn dropped(&self) -> u64 {
        self.state.lock().dropped
    }

    /// Whether there is nothing left, for good.
    pub(super) fn is_ended(&self) -> bool {
        let state = self.state.lock();
        state.closed && state.is_empty()
    }

    fn wait_in(&self, state: &mut MutexGuard<'_, State>, deadline: Option<Instant>) -> bool {
        loop {
            if !state.is_empty() {
                return true;
            }
            if state.closed {
                return false;
            }
            state.waiting += 1;
            let timed_out = match deadline {
                Some(deadline) => self.arrived.wait_until(state, deadline).timed_out(),
                None => {
                    self.arrived.wait(state);
                    false
                }
            };
            state.waiting -= 1;
            if timed_out {
                return !state.is_empty();
            }
        }
    }

    /// Wakes another thread that waits, if something is left for it.
    fn pass_on(&self, state: MutexGuard<'_, State>) {
        let other = state.waiting > 0 && !state.is_empty();
        drop(state);
        if other {
            self.arrived.notify_one();
        }
    }
}
