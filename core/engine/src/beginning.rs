//! How an attempt begins, on a worker thread and for a loop alike: it is claimed, written down, and looked at once more.

use std::sync::Arc;
use std::time::Duration;

use taskloom_model::{Operation, State, Timestamp, next_due};
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
        let core = &self.attempt.home.core;
        !core.is_stopped() && (self.noted_at_once || !self.attempt.is_cancelled())
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
    fn already(task: Arc<Task>) -> Self {
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
    /// Whether `write` takes no lock, and so may be called in the moment of the claim, in which nobody else can change the
    /// task.
    pub(crate) at_once: bool,
    /// Writes down that it is in progress.
    pub(crate) write: F,
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
    let timed = task.spec().rare.is_some() || task.spec().eta.is_some();
    // It may have come in since then.
    let just_now = just_now.filter(|now| !timed && *now >= task.spec().created);
    let now = just_now.unwrap_or_else(|| core.clock.now());
    let mut note = Some(write);
    if resident && !claimed && !timed && entry.hook.is_none() {
        let mut begun = None;
        let claim = core.store.claim_freely(&task, owner, now, &mut |fence, eligible| {
            if at_once && let Some(note) = note.take() {
                note(Current::new(Arc::clone(&task), fence, None));
            }
            begun = Some((fence, eligible));
        });
        if claim.is_some() {
            let Some((fence, eligible)) = begun else { return Err(Over::already(task)) };
            let attempt = Attempt { home, task, fence, deadline: None };
            if let Some(note) = note {
                note(Current::new(Arc::clone(&attempt.task), fence, None));
            }
            let waited = now.since(eligible);
            return Ok(Begun { attempt, started: now, waited, let_in: Vec::new(), noted_at_once: at_once });
        }
    }
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
