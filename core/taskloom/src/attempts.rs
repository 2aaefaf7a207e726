//! Attempts that somebody waits on: how a handler hears that it was called off.
//!
//! # What it owns
//! A [`Slot`] for each attempt of an async handler, and for each attempt of a blocking one whose handler asked for
//! [`Context::cancelled`](crate::Context::cancelled); and the table in which the engine, which knows this module as its
//! [`Runtime`], finds them.
//!
//! # How an attempt is called off
//! The engine commits that it no longer counts, then calls [`Runtime::interrupt`], and again at growing intervals (20 ms
//! at first) until the handler has ended. The first call wakes whoever waits in `cancelled()`; if nobody does, the future
//! of an async handler is dropped at once. One that listens, also if it begins to in the very poll in which it was called
//! off, has until the second call after it has heard, which is 20 ms at least, on a machine that is busy too.
//!
//! # Invariants
//! * The table holds slots weakly, and a slot takes itself out. An attempt ends with its slot or before it, never by it.
//! * A call that comes between the begin of an attempt and the making of its slot finds nothing; whoever made the slot
//!   looks, before the handler runs, whether the attempt still counts.
//! * The lock of the table is never held while a slot is dropped or woken.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use taskloom_engine::{Attempt, Handle, LentPlace, Needed, Runtime};
use taskloom_model::{Fence, TaskId};
use taskloom_store::Task;

use crate::waiting::{Wakers, wake_all};

type Key = (TaskId, u32);

/// A handler that was woken and does not look is dropped with this call, more than half a second after the first.
const DEAF: u32 = 6;

fn key_of(attempt: &Attempt) -> Key {
    (attempt.task().id(), attempt.fence().attempt)
}

/// The attempts that somebody waits on.
#[derive(Default)]
pub(crate) struct Attempts {
    /// How many there are, so that a blocking attempt that nobody waits on takes no lock.
    count: AtomicUsize,
    table: Mutex<HashMap<Key, Weak<Slot>>>,
}

impl Attempts {
    /// The slot of an attempt, made if need be.
    pub(crate) fn slot(self: &Arc<Self>, attempt: &Attempt) -> Arc<Slot> {
        let key = key_of(attempt);
        let mut table = self.table.lock();
        if let Some(known) = table.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        let slot = Arc::new(Slot {
            key,
            attempt: attempt.clone(),
            table: Arc::downgrade(self),
            state: Mutex::default(),
        });
        table.insert(key, Arc::downgrade(&slot));
        self.count.store(table.len(), Ordering::Release);
        slot
    }

    fn find(&self, key: Key) -> Option<Arc<Slot>> {
        self.table.lock().get(&key)?.upgrade()
    }

    /// An attempt has ended, in a way that did not have its slot at hand.
    pub(crate) fn ended(&self, attempt: &Attempt) {
        if self.count.load(Ordering::Acquire) > 0
            && let Some(slot) = self.find(key_of(attempt))
        {
            slot.end();
        }
    }
}

impl Runtime for Attempts {
    fn interrupt(&self, task: &Arc<Task>, fence: Fence) {
        if let Some(slot) = self.find((task.id(), fence.attempt)) {
            slot.call_off();
        }
    }
}

/// An attempt that somebody waits on.
pub(crate) struct Slot {
    key: Key,
    attempt: Attempt,
    table: Weak<Attempts>,
    state: Mutex<SlotState>,
}

#[derive(Default)]
struct SlotState {
    /// It has ended, one way or another.
    over: bool,
    /// How often it was called off.
    calls: u32,
    /// Whether anybody who waited was woken for it.
    told: bool,
    /// How often it had been called off when somebody first heard of it.
    heard: Option<u32>,
    /// Its future is to be dropped.
    dropped: bool,
    /// Wakes the task that polls it.
    job: Option<Waker>,
    /// Who waits in `cancelled()`.
    waiting: Wakers,
    /// How many waits its place is lent for.
    waits: usize,
    lent: Option<LentPlace>,
}

impl SlotState {
    /// Whether a handler that has heard of it may still clean up: until the second call after that, so that at least one
    /// whole interval lies between, however late the handler came to run.
    fn has_time(&self) -> bool {
        self.heard.is_some_and(|heard| self.calls < heard + 2)
    }
}

impl Slot {
    fn call_off(&self) {
        let (waiting, job) = {
            let mut state = self.state.lock();
            let waiting = state.waiting.take();
            state.calls = state.calls.saturating_add(1);
            state.told |= !waiting.is_empty();
            state.dropped |= match state.heard {
                Some(_) => !state.has_time(),
                None => !state.told || state.calls >= DEAF,
            };
            let job = if state.dropped { state.job.take() } else { None };
            (waiting, job)
        };
        wake_all(waiting);
        if let Some(job) = job {
            job.wake();
        }
    }

    /// The attempt has ended.
    pub(crate) fn end(&self) {
        let (waiting, lent) = {
            let mut state = self.state.lock();
            state.over = true;
            (state.waiting.take(), state.lent.take())
        };
        drop(lent);
        wake_all(waiting);
    }

    /// Before the handler's future is polled: remembers whom to wake. Whether the future is to be dropped instead.
    #[cfg(feature = "async")]
    pub(crate) fn is_to_drop(&self, waker: &Waker) -> bool {
        let mut state = self.state.lock();
        if state.job.as_ref().is_none_or(|known| !known.will_wake(waker)) {
            state.job = Some(waker.clone());
        }
        state.dropped
    }

    /// Whether the attempt still counts.
    pub(crate) fn is_over(&self) -> bool {
        self.state.lock().over || self.attempt.is_cancelled()
    }

    /// The attempt waits for another task: its place in flight is lent, once however many it waits for.
    fn lend(&self) {
        let mut state = self.state.lock();
        state.waits += 1;
        if state.lent.is_none() && !state.over {
            state.lent = Some(self.attempt.lend_place());
        }
    }

    fn take_back(&self) {
        let lent = {
            let mut state = self.state.lock();
            state.waits -= 1;
            if state.waits == 0 { state.lent.take() } else { None }
        };
        drop(lent);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(attempts) = self.table.upgrade() else { return };
        let mut table = attempts.table.lock();
        // Another may have been made for the same attempt meanwhile.
        if table.get(&self.key).is_some_and(|known| std::ptr::eq(known.as_ptr(), self)) {
            table.remove(&self.key);
        }
        attempts.count.store(table.len(), Ordering::Release);
    }
}

/// Resolves when an attempt no longer counts; see [`Context::cancelled`](crate::Context::cancelled).
#[must_use = "it does nothing unless awaited"]
pub struct Cancelled {
    /// `None` if there is no app any more, and so no attempt that counts.
    slot: Option<Arc<Slot>>,
    place: Option<u64>,
}

impl Cancelled {
    pub(crate) fn new(slot: Option<Arc<Slot>>) -> Self {
        Self { slot, place: None }
    }
}

impl Future for Cancelled {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let Some(slot) = &this.slot else { return Poll::Ready(()) };
        slot.state.lock().waiting.register(&mut this.place, cx.waker());
        // Looked at after it is registered: whoever calls the attempt off changes the task first.
        if !slot.is_over() {
            return Poll::Pending;
        }
        let mut state = slot.state.lock();
        let calls = state.calls;
        state.heard.get_or_insert(calls);
        if state.has_time() {
            // It may have been called off while the handler was on its way here.
            state.dropped = false;
        }
        Poll::Ready(())
    }
}

impl Drop for Cancelled {
    fn drop(&mut self) {
        if let (Some(slot), Some(_)) = (&self.slot, self.place) {
            let waker = slot.state.lock().waiting.remove(self.place);
            drop(waker);
        }
    }
}

impl std::fmt::Debug for Cancelled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cancelled").finish_non_exhaustive()
    }
}

thread_local! {
    /// The attempt whose future the calling thread polls.
    static HERE: RefCell<Option<Arc<Slot>>> = const { RefCell::new(None) };
}

/// Makes an attempt the one that the calling thread polls, until the guard is dropped.
#[cfg(feature = "async")]
pub(crate) fn enter(slot: &Arc<Slot>) -> impl Drop + use<> {
    struct Leave(Option<Arc<Slot>>);
    impl Drop for Leave {
        fn drop(&mut self) {
            let before = self.0.take();
            let left = HERE.replace(before);
            drop(left);
        }
    }
    Leave(HERE.replace(Some(Arc::clone(slot))))
}

/// Whether the calling thread polls an async handler right now.
pub(crate) fn is_polling() -> bool {
    HERE.with_borrow(Option::is_some)
}

/// The attempt of the async handler that the calling thread polls.
pub(crate) fn polled() -> Option<Attempt> {
    HERE.with_borrow(|here| here.as_ref().map(|slot| slot.attempt.clone()))
}

/// Makes a call that may wait for a disk.
fn in_place<T>(call: impl FnOnce() -> T) -> T {
    #[cfg(feature = "async")]
    return crate::lane::in_place(true, call);
    #[cfg(not(feature = "async"))]
    call()
}

/// The place of the attempt that is polled here, lent for as long as this lives; and what it waits for is run even
/// while the engine drains.
pub(crate) struct Lent(
    Arc<Slot>,
    #[expect(dead_code, reason = "held until the wait is over")] Option<Needed>,
);

impl Lent {
    /// Lends it, if the calling thread polls an async handler.
    pub(crate) fn here(awaited: &Handle) -> Option<Self> {
        let slot = HERE.with_borrow(Clone::clone)?;
        slot.lend();
        Some(Self(slot, in_place(|| awaited.needed())))
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.0.take_back();
    }
}
