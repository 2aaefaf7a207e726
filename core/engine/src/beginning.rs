//! How an attempt begins, on a worker thread and for a loop alike: it is claimed, written down, and looked at once more.

use std::sync::Arc;
use std::time::Duration;

use taskloom_model::{Fence, Operation, State, Timestamp, next_due};
use taskloom_store::{Change, Task};

use crate::ahead::came_too_late;
use crate::core::Core;
use crate::handler::{Attempt, HandlerEntry, Home};
use crate::running::Current;

/// An attempt that has just begun.
pub(crate) struct Begun {
    pub(crate) attempt: Attempt,
    pub(crate) started: Timestamp,
    /// How long its task had been eligible.
    pub(crate) waited: Duration,
    /// Tasks that its claim has let into their queues.
    pub(crate) let_in: Vec<Change>,
    /// Whether nobody could call it off before it was noted.
    noted_at_once: bool,
}

impl Begun {
    /// Whether the attempt still counts, now that it is noted: it may have been called off in the moment between its
    /// claim and the note, when nobody could be told. See [`crate::running`].
    pub(crate) fn may_run(&self) -> bool {
        if self.noted_at_once { !self.attempt.home.core.is_stopped() } else { self.attempt.may_run() }
    }
}

impl Attempt {
    /// The same of one that was noted after its claim.
    pub(crate) fn may_run(&self) -> bool {
        !self.home.core.is_stopped() && !self.is_cancelled()
    }
}

/// A task that is not to be run any more: it was cancelled or its time was over while it waited.
///
/// It keeps the task alive until no lock is held any more: what dies with a task may run code of a user's.
pub(crate) struct Over {
    task: Arc<Task>,
    /// Whether its time is over, and it has yet to end.
    elapsed: bool,
    let_in: Vec<Change>,
}

impl Over {
    pub(crate) fn already(task: Arc<Task>) -> Self {
        Self { task, elapsed: false, let_in: Vec::new() }
    }

    /// Sees to it that the task ends, if it has not. For when no lock is held any more: others are told of that.
    pub(crate) fn end(mut self, core: &Arc<Core>) {
        core.trials.is_over(core, self.task.id());
        core.follow_all(&mut self.let_in);
        if self.elapsed {
            // Refused if it has ended in this moment.
            let _ = core.change(&self.task, Operation::Elapse);
        }
    }
}

/// Where an attempt is written down that begins.
pub(crate) struct Note<F> {
    /// Where a shared store notes it, for whoever buries this process.
    pub(crate) place: usize,
    /// Whether `write` may be called in the moment of the claim: see [`begin_plainly`]. If not, that has been tried, or is
    /// none of the caller's ways.
    pub(crate) at_once: bool,
    /// Writes down that it is in progress.
    pub(crate) write: F,
}

/// What came of it that a task was to be begun the short way.
pub(crate) enum Plainly {
    /// It has begun, at that time, and had been eligible for so long. It is noted.
    Begun { fence: Fence, started: Timestamp, waited: Duration },
    /// It is not to be run any more.
    Over,
    /// There is more to see to: nothing has happened.
    No,
}

/// Begins a task that asks for nothing but to be run, of a resident store and not claimed yet: most are that. `write` writes
/// the attempt down in the moment of the claim, in which nobody else can change the task; it must not look at it, and
/// take no lock but one that comes before the task's.
#[inline]
pub(crate) fn begin_plainly(
    core: &Core,
    task: &Arc<Task>,
    just_now: Option<Timestamp>,
    entry: &HandlerEntry,
    mut write: impl FnMut(Current),
) -> Plainly {
    let spec = task.spec();
    if !core.capability.resident || spec.rare.is_some() || spec.eta.is_some() || entry.hook.is_some() {
        return Plainly::No;
    }
    // It may have come in since then.
    let now = just_now.filter(|now| *now >= spec.created).unwrap_or_else(|| core.clock.now());
    let mut begun = Plainly::Over;
    let claim = core.store.claim_freely(task, core.owner(), now, &mut |fence, eligible| {
        write(Current::new(Arc::clone(task), fence, None));
        begun = Plainly::Begun { fence, started: now, waited: now.since(eligible) };
    });
    if claim.is_some() { begun } else { Plainly::No }
}

/// Begins an attempt and hands it to `note`, which writes down that it is in progress. On a resident store it is
/// claimed here unless it was by hand; on others it was when it was fetched. `just_now` is a time that is no longer past
/// than the moment it takes to get here, if there is one; a task with times of its own gets a better one.
///
/// Whoever has begun one asks [`Begun::may_run`] before the handler does anything.
pub(crate) fn begin(
    home: Arc<Home>,
    task: Arc<Task>,
    claimed: bool,
    just_now: Option<Timestamp>,
    entry: &HandlerEntry,
    Note { place, at_once, write }: Note<impl FnOnce(Current)>,
) -> Result<Begun, Over> {
    let core = &home.core;
    let (owner, resident) = (core.owner(), core.capability.resident);
    let mut note = Some(write);
    if at_once && !claimed {
        let write = |current| {
            if let Some(note) = note.take() {
                note(current);
            }
        };
        match begin_plainly(core, &task, just_now, entry, write) {
            Plainly::Begun { fence, started, waited } => {
                let attempt = Attempt { home, task, fence, deadline: None };
                return Ok(Begun { attempt, started, waited, let_in: Vec::new(), noted_at_once: true });
            }
            Plainly::Over => return Err(Over::already(task)),
            Plainly::No => {}
        }
    }
    let timed = task.spec().rare.is_some() || task.spec().eta.is_some();
    let now = just_now.filter(|now| !timed && *now >= task.spec().created);
    let now = now.unwrap_or_else(|| core.clock.now());
    let mut let_in = Vec::new();
    if resident && !claimed {
        if timed && task.with_row(|row| next_due(task.spec(), row)).is_some_and(|due| due <= now) {
            // It expired, and the timers would say so a moment later.
            return Err(Over { elapsed: true, ..Over::already(task) });
        }
        let claim = core.store.change(&task, Operation::Claim { owner }, &mut let_in, now);
        match claim {
            Ok(effects) if effects.to == State::Running => core.hear_of_key(&task),
            Ok(_) => {
                // A limit holds it up, perhaps until some time.
                core.hear_of_gates();
                return Err(Over { let_in, ..Over::already(task) });
            }
            Err(_) => return Err(Over::already(task)),
        }
    }
    if !resident && timed && came_too_late(core, &task, now) {
        return Err(Over::already(task));
    }
    let Some((fence, eligible)) = task.begin(owner) else {
        return Err(Over { let_in, ..Over::already(task) });
    };
    if !resident {
        let alone = core.trials.begins(core, &task, fence, place);
        core.store.note_begun(owner, place, Some((task.id(), fence.attempt)), alone);
    }
    if let Some(hook) = &entry.hook {
        core.hooks.add(&task, fence, hook);
    }
    let deadline = task.spec().timeout().map(|timeout| core.clock.monotonic() + timeout);
    if let Some(note) = note {
        note(Current::new(Arc::clone(&task), fence, deadline));
    }
    if let Some(deadline) = deadline {
        core.timers.watch(deadline);
    }
    // A deadline that has passed is one that a replay has left behind.
    let total = task.spec().deadline().filter(|deadline| *deadline > now);
    let total = total.map(|total| core.clock.monotonic() + total.since(now));
    let deadline = [deadline, total].into_iter().flatten().min();
    let attempt = Attempt { home, task, fence, deadline };
    Ok(Begun { attempt, started: now, waited: now.since(eligible), let_in, noted_at_once: false })
}
