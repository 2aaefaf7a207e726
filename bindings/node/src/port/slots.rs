//! Tasks whose outcome somebody in an environment waits for.
//!
//! JavaScript numbers the slots: it has an object in the same place. A slot is given back by the message that tells the
//! outcome, and only by that.
//!
//! A task of a memory store that was submitted for a slot has a [`Note`] of it. By that its end is told without
//! an observer, and the input and the result of a handler that runs in the same environment stay there: only the slot's
//! number crosses. (A task whose first attempt began at home, and that succeeded by it, has its result there: nothing but that
//! attempt's own report ends it so.) Nobody but JavaScript hears what is told of a slot, and it does not before the crossing is over in which
//! it submits: so the end of a task may be told before its slot is filled.

use std::collections::VecDeque;
use std::sync::Arc;

use taskloom_engine::{Attempt, Handle};
use taskloom_store::{Note, Task};

use super::{News, Port};

/// A task that is waited for.
pub(crate) enum Slot {
    /// Nobody waits in this place.
    Free,
    /// The outcome of a task that was submitted for this slot, by an app of this number: JavaScript may have kept input and
    /// result there.
    Own(Arc<Task>, u32),
    /// That of any other.
    Waits(Handle),
}

/// The first attempt runs in the environment that submitted the task, with the input that is kept there, and its result
/// stays there.
const AT_HOME: u8 = 1;
/// The task has succeeded, by its first attempt.
const SUCCEEDED: u8 = 2;
/// That the task has ended was told. It never is of one that had ended when it was admitted.
const TOLD: u8 = 4;

/// Where the outcome is of a task that was waited for.
pub(crate) enum Outcome {
    /// JavaScript has kept it in the slot: a result.
    Kept,
    /// With the task.
    Of(Handle),
}

/// A task has settled that was submitted for a slot; by which attempt it succeeded, if it did.
pub(super) fn settled(note: &Note, succeeded: Option<u32>) {
    // Nobody else sets a mark at this time, but who starts the first attempt of a task that is cancelled in that moment:
    // then it does not matter which of the two marks is kept.
    note.mark(if succeeded == Some(1) { TOLD | SUCCEEDED } else { TOLD });
}

/// Whether JavaScript has kept the result of a task that has succeeded, in the slot that it was submitted for.
fn has_result(task: &Task) -> bool {
    let both = AT_HOME | SUCCEEDED;
    task.note().is_some_and(|note| note.marks() & both == both)
}

impl Port {
    /// Tasks were accepted that were submitted for these slots, each with its note of that.
    pub(crate) fn own_accepted(&self, slots: &[u32], app: u32, tasks: Vec<Arc<Task>>) {
        if self.is_closed() {
            return;
        }
        // First this, so that nothing is heard of a task before it is accepted.
        let ids = slots.iter().zip(&tasks).map(|(slot, task)| (*slot, task.id()));
        self.heard.lock().accepted.extend(ids);
        self.wake();
        let mut stillborn = Vec::new();
        let mut all = self.slots.lock();
        for (slot, task) in slots.iter().zip(tasks) {
            if task.is_settled() && task.note().is_some_and(|note| note.marks() & TOLD == 0) {
                stillborn.push(*slot);
            }
            fill(&mut all, *slot, Slot::Own(task, app));
        }
        drop(all);
        stillborn.into_iter().for_each(|slot| self.tell(News::Settled(slot)));
    }

    /// Tasks were accepted: their outcomes go to these slots.
    pub(crate) fn accepted(self: &Arc<Self>, slots: &[u32], handles: Vec<Handle>) {
        if self.is_closed() {
            return;
        }
        // First this, as above.
        let ids = slots.iter().zip(&handles).map(|(slot, handle)| (*slot, handle.id()));
        self.heard.lock().accepted.extend(ids);
        self.wake();
        slots.iter().zip(handles).for_each(|(slot, handle)| self.expect(*slot, handle));
    }

    /// Has the outcome of a task told to a slot.
    pub(crate) fn expect(self: &Arc<Self>, slot: u32, handle: Handle) {
        fill(&mut self.slots.lock(), slot, Slot::Waits(handle.clone()));
        let port = Arc::downgrade(self);
        handle.observe(move |_| {
            if let Some(port) = port.upgrade() {
                port.tell(News::Settled(slot));
            }
        });
    }

    /// The note of a task that is submitted from here to a memory store, if this environment has a number.
    pub(crate) fn note_for(&self, slot: u32) -> Option<Note> {
        (self.number != 0).then(|| Note::new(self.number, slot))
    }

    /// The task of a slot; `None` if nobody waits there.
    pub(crate) fn slot(&self, slot: u32) -> Option<Handle> {
        let (task, app) = match self.slots.lock().get(slot as usize)? {
            Slot::Free => return None,
            Slot::Own(task, app) => (Arc::clone(task), *app),
            Slot::Waits(handle) => return Some(handle.clone()),
        };
        Some(self.handle_of(task, app))
    }

    /// Gives back a slot: the task that it was for, unless JavaScript has its result.
    pub(crate) fn free_slot(&self, slot: u32) -> Option<Outcome> {
        let slot = std::mem::replace(self.slots.lock().get_mut(slot as usize)?, Slot::Free);
        match slot {
            Slot::Free => None,
            Slot::Own(task, _) if has_result(&task) => Some(Outcome::Kept),
            Slot::Own(task, app) => Some(Outcome::Of(self.handle_of(task, app))),
            Slot::Waits(handle) => Some(Outcome::Of(handle)),
        }
    }

    fn handle_of(&self, task: Arc<Task>, app: u32) -> Handle {
        let engine = self.app(app).and_then(|seat| seat.current());
        match engine {
            Some(engine) => engine.handle_of(task),
            None => Handle::of_nobody(task),
        }
    }

    /// The slot that the task of an attempt was submitted for here, if that is still its own and this the first attempt:
    /// which is told so.
    pub(super) fn own_slot(&self, attempt: &Attempt, slots: &[Slot]) -> Option<u32> {
        if attempt.fence().attempt != 1 {
            return None;
        }
        let note = attempt.task().note().filter(|note| note.whose() == self.number)?;
        match slots.get(note.number() as usize)? {
            Slot::Own(task, _) if Arc::ptr_eq(task, attempt.task()) => {
                note.mark(AT_HOME);
                Some(note.number())
            }
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
            && let Slot::Own(task, _) = place
            && has_result(task)
            && tell(None)
        {
            tell(Some(*slot));
            gone.push(std::mem::replace(place, Slot::Free));
            news.pop_front();
        }
        drop(slots);
    }
}

fn fill(slots: &mut Vec<Slot>, slot: u32, with: Slot) {
    let place = slot as usize;
    if place >= slots.len() {
        slots.resize_with(place + 1, || Slot::Free);
    }
    slots[place] = with;
}
