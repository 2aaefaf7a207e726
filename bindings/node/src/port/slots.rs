//! Tasks whose outcome somebody in an environment waits for.
//!
//! JavaScript numbers the slots: it has an object in the same place. A slot is given back by the message that tells the
//! outcome, and only by that.
//!
//! A task of a memory store that was submitted for a slot has a note of it ([`Submitted`]). By that its end is told without
//! an observer, and the input and the result of a handler that runs in the same environment stay there: only the slot's
//! number crosses. The note's marks say who came first, the end or the one who expects it; so one of them tells, once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};

use taskloom_engine::{Attempt, Handle};
use taskloom_model::State;
use taskloom_store::{Host, HostData, Task};

use super::{Crossing, News, Port};

/// A task that is waited for.
pub(crate) enum Slot {
    /// Nobody waits in this place.
    Free,
    /// Its outcome is on its way. With it, whether it was submitted for this slot: JavaScript may have kept input and
    /// result there.
    Waits(Handle, bool),
}

/// Somebody here expects the outcome.
const EXPECTED: u8 = 1;
/// There is one.
const SETTLED: u8 = 2;
/// JavaScript has kept the result of the first attempt.
const KEPT: u8 = 4;

/// What goes with a task of a memory store: which environment submitted it, and for which slot. It spares an observer,
/// and lets JavaScript keep input and result at home if the handler runs there, too.
///
/// The outcome is told by whoever comes second: the end of the task, or the one who expects it.
struct Submitted {
    port: Weak<Port>,
    slot: u32,
    marks: AtomicU8,
}

impl Host for Submitted {
    fn settled(&self) {
        if self.marks.fetch_or(SETTLED, Ordering::SeqCst) & EXPECTED != 0
            && !Crossing::settled(self.port.as_ptr(), self.slot)
            && let Some(port) = self.port.upgrade()
        {
            port.tell(News::Settled(self.slot));
        }
    }
}

/// JavaScript has kept the result of this task's first attempt, in the slot that it was submitted for.
pub(super) fn keeps_result(task: &Task) {
    if let Some(own) = task.host::<Submitted>() {
        own.marks.fetch_or(KEPT, Ordering::SeqCst);
    }
}

impl Port {
    /// Tasks were accepted: their outcomes go to these slots.
    pub(crate) fn accepted(self: &Arc<Self>, slots: &[u32], handles: Vec<Handle>) {
        if self.is_closed() {
            return;
        }
        // First this, so that nothing is heard of a task before it is accepted.
        self.heard
            .lock()
            .accepted
            .extend(slots.iter().zip(&handles).map(|(slot, handle)| (*slot, handle.id())));
        self.wake();
        let (mut settled, mut others) = (Vec::new(), Vec::new());
        {
            let mut all = self.slots.lock();
            for (slot, handle) in slots.iter().zip(handles) {
                let marks = self.mark(*slot, &handle);
                match marks {
                    Some(true) => settled.push(*slot),
                    Some(false) => {}
                    None => others.push((*slot, handle.clone())),
                }
                fill(&mut all, *slot, Slot::Waits(handle, marks.is_some()));
            }
        }
        settled.into_iter().for_each(|slot| self.tell(News::Settled(slot)));
        others.into_iter().for_each(|(slot, handle)| self.observe(slot, &handle));
    }

    /// Has the outcome of a task told to a slot.
    pub(crate) fn expect(self: &Arc<Self>, slot: u32, handle: Handle) {
        let marks = self.mark(slot, &handle);
        fill(&mut self.slots.lock(), slot, Slot::Waits(handle.clone(), marks.is_some()));
        match marks {
            Some(true) => self.tell(News::Settled(slot)),
            Some(false) => {}
            None => self.observe(slot, &handle),
        }
    }

    /// Notes that the outcome of a task is expected, if that was submitted for this slot: whether it has one already.
    fn mark(&self, slot: u32, handle: &Handle) -> Option<bool> {
        // Who is done before the mark either told its host before, or was never alive.
        let done = handle.is_done();
        // The first who expects it is the one who submitted it; whoever comes later may have the slot's number by chance.
        let own = handle.task().host::<Submitted>()?;
        if own.slot != slot || own.port.as_ptr() != self.own.as_ptr() {
            return None;
        }
        let marks = own.marks.fetch_or(EXPECTED, Ordering::SeqCst);
        (marks & EXPECTED == 0).then_some(marks & SETTLED != 0 || done)
    }

    fn observe(self: &Arc<Self>, slot: u32, handle: &Handle) {
        let port = Arc::downgrade(self);
        handle.observe(move |_| {
            if let Some(port) = port.upgrade() {
                port.tell(News::Settled(slot));
            }
        });
    }

    /// What a task that is submitted from here to a memory store has with it.
    pub(crate) fn host_for(&self, slot: u32) -> HostData {
        Box::new(Submitted { port: self.own.clone(), slot, marks: AtomicU8::new(0) })
    }

    /// The task of a slot; `None` if nobody waits there.
    pub(crate) fn slot(&self, slot: u32) -> Option<Handle> {
        match self.slots.lock().get(slot as usize)? {
            Slot::Free => None,
            Slot::Waits(handle, _) => Some(handle.clone()),
        }
    }

    /// Gives back a slot: the task that it was for, and whether that was submitted for it.
    pub(crate) fn free_slot(&self, slot: u32) -> Option<(Handle, bool)> {
        match std::mem::replace(self.slots.lock().get_mut(slot as usize)?, Slot::Free) {
            Slot::Free => None,
            Slot::Waits(handle, is_own) => Some((handle, is_own)),
        }
    }

    /// The slot that the task of an attempt was submitted for here, if that is still its own and this the first attempt.
    pub(super) fn own_slot(&self, attempt: &Attempt, slots: &[Slot]) -> Option<u32> {
        if attempt.fence().attempt != 1 {
            return None;
        }
        let own = attempt.task().host::<Submitted>()?;
        if own.port.as_ptr() != self.own.as_ptr() {
            return None;
        }
        match slots.get(own.slot as usize)? {
            Slot::Waits(handle, true) if Arc::ptr_eq(handle.task(), attempt.task()) => Some(own.slot),
            _ => None,
        }
    }

    /// Takes those tasks that have settled and come next out of the news, for as long as `tell` says that there is room
    /// (it is asked with nothing first), and as JavaScript has kept their results: only the slot is told.
    pub(crate) fn settle_own(&self, news: &mut VecDeque<News>, mut tell: impl FnMut(Option<u32>) -> bool) {
        if !matches!(news.front(), Some(News::Settled(_))) {
            return;
        }
        // Dropped without the lock.
        let mut gone = Vec::new();
        let mut slots = self.slots.lock();
        while let Some(News::Settled(slot)) = news.front()
            && let Some(place) = slots.get_mut(*slot as usize)
            && let Slot::Waits(handle, true) = place
            && self.has_result(handle)
            && tell(None)
        {
            tell(Some(*slot));
            gone.push(std::mem::replace(place, Slot::Free));
            news.pop_front();
        }
        drop(slots);
    }

    /// Whether JavaScript has kept the result of a task that has succeeded.
    pub(crate) fn has_result(&self, handle: &Handle) -> bool {
        let task = handle.task();
        task.host::<Submitted>().is_some_and(|own| {
            own.marks.load(Ordering::SeqCst) & KEPT != 0 && own.port.as_ptr() == self.own.as_ptr()
        }) && task.with_row(|row| row.state == State::Succeeded && row.attempt == 1)
    }
}

fn fill(slots: &mut Vec<Slot>, slot: u32, with: Slot) {
    let place = slot as usize;
    if place >= slots.len() {
        slots.resize_with(place + 1, || Slot::Free);
    }
    slots[place] = with;
}
