//! How event loops and pools take tasks: in lots.
//!
//! A lot is popped from the lanes, begun and written down under the lock of the taker, for which [`Loops`] says what holds;
//! what its tasks have in common is found out, counted and told once. Plain tasks, which most are, are claimed one after
//! the other under the one lock of the list of what runs on loops; whatever takes more than that is begun without it.
//!
//! The host is handed what has begun when no lock is held.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use taskloom_model::Timestamp;
use taskloom_store::{Change, Task};

use crate::beginning::{Begun, Note, Over, Plainly, begin, begin_plainly};
use crate::completion::Completion;
use crate::core::{Core, route_of};
use crate::handler::{Attempt, HandlerEntry, Home};
use crate::loops::{Loops, Started};
use crate::queues::{Route, View};
use crate::running::Current;

/// How many places are taken at once at most.
const LOT: usize = 256;

/// Room for so many tasks is kept from one take to the next.
const MOST_KEPT: usize = 4_096;

/// Whoever is handed what a loop has taken: a handler, and those of its tasks that follow each other.
pub type Deal<'d> = dyn FnMut(&Arc<HandlerEntry>, &mut dyn Iterator<Item = Completion>) + 'd;

impl Loops {
    /// Takes tasks for the loop, at most as many as there is room for, and hands out those of one handler that follow each
    /// other. What is said once of all of them is written once.
    pub(crate) fn take(&self, core: &Arc<Core>, home: &Arc<Home>, each: &mut Deal<'_>) {
        self.look();
        let mut taker = self.taker.lock();
        let mut stretch = std::mem::take(&mut taker.stretch);
        stretch.now = Some(core.clock.now());
        while !core.is_stopped() {
            let (places, first) = self.reserve(LOT);
            let count = self.begin_lot(core, home, &mut taker, &mut stretch, places, first);
            if count < places {
                self.release(core, places - count);
            }
            if count < places || places == 0 {
                break;
            }
        }
        self.confirm_all(core, &mut stretch);
        drop(taker);
        let mut taken = stretch.taken.drain(..).peekable();
        while let Some(Taken { handler, .. }) = taken.peek() {
            let handler = *handler;
            let own = |next: &Taken| next.handler == handler;
            let mut run = std::iter::from_fn(|| Some(taken.next_if(own)?.completion));
            each(&stretch.handlers[handler], &mut run);
            run.for_each(drop);
        }
        drop(taken);
        stretch.end(core);
        self.taker.lock().stretch = stretch;
    }

    /// Takes tasks one by one, for as long as there is room and `more` says so: asked before the first, and handed each.
    pub(crate) fn take_while(
        &self,
        core: &Arc<Core>,
        home: &Arc<Home>,
        more: &mut dyn FnMut(Option<Started>) -> bool,
    ) {
        self.look();
        let mut stretch = Stretch::default();
        let mut taker = self.taker.lock();
        let mut goes_on = more(None);
        while goes_on && !core.is_stopped() {
            let (places, first) = self.reserve(1);
            if places == 0 {
                break;
            }
            if self.begin_lot(core, home, &mut taker, &mut stretch, places, first) == 0 {
                self.release(core, 1);
                break;
            }
            self.confirm_all(core, &mut stretch);
            if let Some(Taken { handler, completion, .. }) = stretch.taken.pop() {
                goes_on = more(Some(Started::of(&stretch.handlers[handler], completion)));
            }
        }
        drop(taker);
        stretch.end(core);
    }

    /// Takes the next tasks that may be to be run, so many at most; whether each was claimed by hand.
    fn pop_lot(&self, core: &Core, taker: &mut Taker, most: usize) {
        let by_hand = self.next_by_hand().map(|task| (task, true));
        let next = by_hand.or_else(|| core.wanted.next(core, self.route).map(|task| (task, false)));
        match next {
            Some(next) => taker.lot.push_back(next),
            None => {
                let mut lot = Unclaimed(&mut taker.lot);
                core.queues.pop_lot(self.route, &mut taker.view, most, &mut lot);
            }
        }
    }

    /// Begins the next tasks that are still to be run, so many at most: how many. `first` is the number of the first place.
    fn begin_lot(
        &self,
        core: &Arc<Core>,
        home: &Arc<Home>,
        taker: &mut Taker,
        stretch: &mut Stretch,
        places: usize,
        first: usize,
    ) -> usize {
        let before = stretch.taken.len();
        // Held for as long as one plain task follows the other.
        let mut on_loops = None;
        loop {
            let count = stretch.taken.len() - before;
            if count == places {
                break;
            }
            if taker.lot.is_empty() {
                drop(on_loops.take());
                // No more than there are places for: what is taken from a lane is begun, or will not be run.
                self.pop_lot(core, taker, places - count);
            }
            let Some((task, claimed)) = taker.lot.pop_front() else {
                core.committer.look_again(core);
                break;
            };
            if !core.capability.resident {
                core.reach.took(self.route);
            }
            // What was submitted next is most likely taken next, and has not been touched since.
            task.fetch_next();
            let Some(number) = stretch.handler_of(core, &task) else {
                stretch.over.push(Over::already(task));
                continue;
            };
            let entry = &stretch.handlers[number];
            if route_of(entry) != self.route {
                drop(on_loops.take());
                // Its handler was replaced by one of another kind while it waited.
                core.enqueue(task);
                continue;
            }
            if entry.aside.is_unserved() {
                stretch.aside.push((Arc::clone(entry), task, claimed));
                continue;
            }
            // In a pool that is there to be killed nobody keeps a place.
            let has_place = self.route == Route::Asynchronous;
            if core.capability.resident && !claimed {
                let on_loops = on_loops.get_or_insert_with(|| core.running.on_loops());
                let write = |current: Current| {
                    on_loops.note(current.in_place(has_place));
                };
                match begin_plainly(core, &task, stretch.now, entry, write) {
                    Plainly::Begun { fence, started, waited } => {
                        let attempt = Attempt { home: Arc::clone(home), task, fence, deadline: None };
                        let completion = Completion::new(attempt, self.route, started);
                        stretch.taken.push(Taken { handler: number, completion, waited });
                        continue;
                    }
                    Plainly::Over => {
                        stretch.over.push(Over::already(task));
                        continue;
                    }
                    Plainly::No => {}
                }
            }
            drop(on_loops.take());
            let write = |current: Current| core.running.begin_on_loop(current.in_place(has_place));
            let note = Note { place: self.place(first + count), at_once: false, write };
            match begin(Arc::clone(home), task, claimed, stretch.now, entry, note) {
                Ok(Begun { attempt, started, waited, mut let_in, .. }) => {
                    stretch.let_in.append(&mut let_in);
                    stretch.is_sure = false;
                    let completion = Completion::new(attempt, self.route, started);
                    stretch.taken.push(Taken { handler: number, completion, waited });
                }
                Err(late) => stretch.over.push(late),
            }
        }
        stretch.taken.len() - before
    }

    /// Tells of those that have begun and are noted; what was called off before that is given back, and taken out.
    fn confirm_all(&self, core: &Arc<Core>, stretch: &mut Stretch) {
        core.follow_all(&mut stretch.let_in);
        if !std::mem::replace(&mut stretch.is_sure, true) || core.is_stopped() {
            stretch.taken.retain_mut(|Taken { completion, .. }| {
                let may_run = completion.attempt().may_run();
                if !may_run {
                    completion.give_back_begun();
                }
                may_run
            });
        }
        let handlers = &stretch.handlers;
        self.record(core, |recorder| {
            for Taken { handler, completion, waited } in &stretch.taken {
                recorder.started(completion.attempt().task.spec().queue, handlers[*handler].name, *waited);
            }
        });
        if core.is_start_told() {
            for Taken { completion, waited, .. } in &stretch.taken {
                let Attempt { task, fence, .. } = completion.attempt();
                core.announce_start(task, *fence, *waited);
            }
        }
    }
}

/// What whoever takes tasks has to itself, one at a time.
#[derive(Default)]
pub(crate) struct Taker {
    view: View,
    /// Taken from the lanes and not looked at yet, with whether each was claimed by hand. Empty when nobody is at it.
    lot: VecDeque<(Arc<Task>, bool)>,
    /// Kept for its room.
    stretch: Stretch,
}

/// Takes in tasks that were not claimed by hand.
struct Unclaimed<'a>(&'a mut VecDeque<(Arc<Task>, bool)>);

impl Extend<Arc<Task>> for Unclaimed<'_> {
    fn extend<I: IntoIterator<Item = Arc<Task>>>(&mut self, tasks: I) {
        self.0.extend(tasks.into_iter().map(|task| (task, false)));
    }
}

/// A task that has begun.
struct Taken {
    /// Its handler, by its place in the stretch.
    handler: usize,
    completion: Completion,
    /// How long it had been eligible.
    waited: Duration,
}

/// What is taken in one go, and what that remembers from one task to the next.
struct Stretch {
    /// The time at which all of it begins, if that is one.
    now: Option<Timestamp>,
    taken: Vec<Taken>,
    /// The handlers of what came, one after the other.
    handlers: Vec<Arc<HandlerEntry>>,
    /// Whether the last of them is the newest of its name, and not one of a version that was asked for.
    is_newest: bool,
    /// Tasks that the claims have let into their queues.
    let_in: Vec<Change>,
    /// Whether none was noted after its claim only, and so may have been called off unnoticed.
    is_sure: bool,
    /// Not to be run any more.
    over: Vec<Over>,
    /// What nobody can run at present, and whether it was claimed by hand.
    aside: Vec<(Arc<HandlerEntry>, Arc<Task>, bool)>,
}

impl Default for Stretch {
    fn default() -> Self {
        Self {
            now: None,
            taken: Vec::new(),
            handlers: Vec::new(),
            is_newest: false,
            let_in: Vec::new(),
            is_sure: true,
            over: Vec::new(),
            aside: Vec::new(),
        }
    }
}

impl Stretch {
    /// The place of a task's handler.
    #[inline]
    fn handler_of(&mut self, core: &Core, task: &Task) -> Option<usize> {
        let spec = task.spec();
        let is_same = spec.version().is_none()
            && self.is_newest
            && self.handlers.last().is_some_and(|entry| entry.name == spec.name);
        if !is_same {
            self.handlers.push(core.handler_of(task)?);
            self.is_newest = spec.version().is_none();
        }
        Some(self.handlers.len() - 1)
    }

    /// For when no lock is held any more.
    fn end(&mut self, core: &Arc<Core>) {
        self.over.drain(..).for_each(|over| over.end(core));
        for (entry, task, claimed) in self.aside.drain(..) {
            core.set_aside(&entry, task, claimed);
        }
        self.handlers.clear();
        self.is_newest = false;
        keep_room(&mut self.taken);
        keep_room(&mut self.handlers);
        keep_room(&mut self.let_in);
        keep_room(&mut self.over);
        keep_room(&mut self.aside);
    }
}

/// Keeps the room of a list that is empty, unless that is too much.
fn keep_room<T>(list: &mut Vec<T>) {
    if list.capacity() > MOST_KEPT {
        *list = Vec::new();
    }
}
