//! Tasks whose outcome somebody in an environment waits for.
//!
//! JavaScript numbers the slots: it has an object in the same place. A slot is given back by the message that tells the
//! outcome, and only by that.
//!
//! A task of a memory store that was submitted for a slot has a [`Note`] of it. By that its end is told without
//! an observer, and the input and the result of a handler that runs in the same environment stay there: only the slot's
//! number crosses. (A task whose first attempt began at home, and that succeeded by it, has its result there: nothing but that
//! attempt's own report ends it so.) Any other end brings the task along, so the slot need not hold it: to count who holds a
//! task takes as long as much else that is done with it. Nobody but JavaScript hears what is told of a slot, and it does not
//! before the crossing is over in which it submits: so the end of a task may be told before its slot is filled.

use std::collections::VecDeque;
use std::sync::Arc;

use taskloom_engine::{Attempt, Engine, Handle};
use taskloom_model::{State, TaskId};
use taskloom_store::{Note, Task};

use super::{News, Port};

/// A task that is waited for.
pub(crate) enum Slot {
    /// Nobody waits in this place.
    Free,
    /// The outcome of a task that was submitted for this slot, by an app of this number: JavaScript may have kept input and
    /// result there.
    Own(TaskId, u32),
    /// That of any other.
    Waits(Handle),
}

/// A task that is waited for, as it can be asked.
enum Awaited {
    Handle(Handle),
    /// By its id, of an engine, if that is still there.
    Id(TaskId, Option<Arc<Engine>>),
}

/// The end of a task that was submitted for a slot.
pub(crate) struct OwnEnd {
    slot: u32,
    /// The task, unless JavaScript has its result in the slot.
    task: Option<Arc<Task>>,
}

/// The first attempt runs in the environment that submitted the task, with the input that is kept there, and its result
/// stays there.
const AT_HOME: u8 = 1;
/// That the task has ended was told. It never is of one that had ended when it was admitted.
const TOLD: u8 = 2;

/// A task has settled that was submitted for a slot; by which attempt it succeeded, if it did.
pub(super) fn settled(note: &Note, task: &Arc<Task>, succeeded: Option<u32>) -> OwnEnd {
    // Nobody else sets a mark at this time, but who starts the first attempt of a task that is cancelled in that moment:
    // then it does not matter which of the two marks is kept.
    let is_kept = succeeded == Some(1) && note.marks() & AT_HOME != 0;
    note.mark(TOLD);
    OwnEnd { slot: note.number(), task: (!is_kept).then(|| Arc::clone(task)) }
}

impl Port {
    /// Tasks were accepted that were submitted for these slots, each with its note of that.
    pub(crate) fn own_accepted(&self, slots: &[u32], app: u32, tasks: &[Arc<Task>]) {
        if self.is_closed() {
            return;
        }
        // First this, so that nothing is heard of a task before it is accepted.
        let ids = slots.iter().zip(tasks).map(|(slot, task)| (*slot, task.id()));
        self.heard.lock().accepted.extend(ids);
        self.wake();
        let mut stillborn = Vec::new();
        let mut all = self.slots.lock();
        for (slot, task) in slots.iter().zip(tasks) {
            fill(&mut all, *slot, Slot::Own(task.id(), app));
            if task.is_settled() && task.note().is_some_and(|note| note.marks() & TOLD == 0) {
                stillborn.push(OwnEnd { slot: *slot, task: Some(Arc::clone(task)) });
            }
        }
        drop(all);
        stillborn.into_iter().for_each(|end| self.tell(News::OwnSettled(end)));
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

    /// The task of a slot; `None` if nobody waits there, or its store has forgotten it, as it only does after its end.
    pub(crate) fn slot(&self, slot: u32) -> Option<Handle> {
        match self.awaited(slot)? {
            Awaited::Handle(handle) => Some(handle),
            Awaited::Id(id, engine) => engine?.get(id).ok()?,
        }
    }

    /// The state of the task of a slot; `None` if nobody waits there. To ask changes nothing.
    pub(crate) fn state(&self, slot: u32) -> Option<State> {
        match self.awaited(slot)? {
            Awaited::Handle(handle) => Some(handle.state()),
            Awaited::Id(id, engine) => {
                let stored = engine.and_then(|engine| engine.state_of(id).ok()?);
                stored.or_else(|| self.end_to_hear(slot))
            }
        }
    }

    fn awaited(&self, slot: u32) -> Option<Awaited> {
        let (id, app) = match self.slots.lock().get(slot as usize)? {
            Slot::Free => return None,
            Slot::Own(id, app) => (*id, *app),
            Slot::Waits(handle) => return Some(Awaited::Handle(handle.clone())),
        };
        Some(Awaited::Id(id, self.app(app).and_then(|seat| seat.current())))
    }

    /// How the task of a slot has ended, if that is still to be heard: its store may have forgotten it since.
    fn end_to_hear(&self, slot: u32) -> Option<State> {
        let heard = self.heard.lock();
        heard.news.iter().find_map(|news| match news {
            News::OwnSettled(end) if end.slot == slot => {
                Some(end.task.as_ref().map_or(State::Succeeded, |task| task.state()))
            }
            _ => None,
        })
    }

    /// Gives back a slot whose task has settled: the task.
    pub(crate) fn free_slot(&self, slot: u32) -> Option<Handle> {
        let mut slots = self.slots.lock();
        let place = slots.get_mut(slot as usize)?;
        match std::mem::replace(place, Slot::Free) {
            Slot::Waits(handle) => Some(handle),
            other => {
                *place = other;
                None
            }
        }
    }

    /// The same of one that a task was submitted for: which one it is; and the task, unless JavaScript has its result.
    pub(crate) fn free_own_slot(&self, end: OwnEnd) -> Option<(u32, Option<Handle>)> {
        let app = {
            let mut slots = self.slots.lock();
            let place = slots.get_mut(end.slot as usize)?;
            let Slot::Own(id, app) = *place else { return None };
            if end.task.as_ref().is_some_and(|task| task.id() != id) {
                return None;
            }
            *place = Slot::Free;
            app
        };
        let handle = |task| match self.app(app).and_then(|seat| seat.current()) {
            Some(engine) => engine.handle_of(task),
            None => Handle::of_nobody(task),
        };
        Some((end.slot, end.task.map(handle)))
    }

    /// The slot that the task of an attempt was submitted for here, if that is still its own and this the first attempt:
    /// which is told so.
    pub(super) fn own_slot(&self, attempt: &Attempt, slots: &[Slot]) -> Option<u32> {
        if attempt.fence().attempt != 1 {
            return None;
        }
        let note = attempt.task().note().filter(|note| note.whose() == self.number)?;
        match slots.get(note.number() as usize)? {
            Slot::Own(id, _) if *id == attempt.task().id() => {
                note.mark(AT_HOME);
                Some(note.number())
            }
            _ => None,
        }
    }

    /// Takes those tasks that have settled and come next out of the news, for as long as `tell` says that there is room
    /// (it is asked with nothing first), and as JavaScript has kept their results: only the slot is told.
    pub(crate) fn settle_own(&self, news: &mut VecDeque<News>, mut tell: impl FnMut(Option<u32>) -> bool) {
        if !matches!(news.front(), Some(News::OwnSettled(_))) {
            return;
        }
        let mut slots = self.slots.lock();
        while let Some(News::OwnSettled(OwnEnd { slot, task: None })) = news.front()
            && let Some(place @ Slot::Own(..)) = slots.get_mut(*slot as usize)
            && tell(None)
        {
            tell(Some(*slot));
            *place = Slot::Free;
            news.pop_front();
        }
    }
}

fn fill(slots: &mut Vec<Slot>, slot: u32, with: Slot) {
    let place = slot as usize;
    if place >= slots.len() {
        slots.resize_with(place + 1, || Slot::Free);
    }
    slots[place] = with;
}
