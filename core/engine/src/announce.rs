//! What the engine tells others of a change, once it is committed: events, hooks, figures.
//!
//! Nothing here blocks or fails, and where nobody listens it costs a load or two. The figures of an attempt that a
//! worker ends are kept by the worker itself ([`crate::meter`]); here only those of what happens to a task without one,
//! and on a store that does not answer the worker how the attempt ended.
//!
//! # Hooks
//! An attempt tells the hook of the handler that runs it, even if that is replaced meanwhile. So the hook is kept from
//! the begin of the attempt until its end is told, or its report refused ([`Hooks`]). Attempts of handlers without hooks
//! are not in there, and cost nothing. An attempt that never came to its handler tells nothing. On a store that processes
//! share, the hook is told in the process that runs the attempt, also if it is another one that ends it.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use taskloom_model::{Effects, Fence, LogLine, OwnerId, Progress, Row, State, TaskId, Timestamp, WaitingFor};
use taskloom_store::Task;

use crate::Handle;
use crate::core::Core;
use crate::events::EventKind;
use crate::events::json::Object;
use crate::meter::Count;

/// The kinds that a change of state can be.
const CHANGES: &[EventKind] = &[
    EventKind::TaskSubmitted,
    EventKind::TaskQueued,
    EventKind::TaskSucceeded,
    EventKind::TaskRetrying,
    EventKind::TaskFailed,
    EventKind::TaskTimedOut,
    EventKind::TaskCancelled,
    EventKind::TaskExpired,
    EventKind::TaskSkipped,
    EventKind::TaskReleased,
    EventKind::TaskLost,
];

/// What became of an attempt that this process ran, for the handler's own hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The task succeeded.
    Success,
    /// The attempt failed or timed out, and there will be another.
    Retry,
    /// The task failed, or timed out, for good.
    Failure,
}

/// What a handler wants to be told of, besides being run.
pub trait Hook: Send + Sync {
    /// An attempt that this process ran has ended, and that is committed. Called on any thread; it must not block.
    fn tell(&self, handle: &Handle, moment: Moment);
}

/// The hooks of attempts in progress.
#[derive(Default)]
pub(crate) struct Hooks {
    /// Whether there ever was one.
    any: AtomicBool,
    by_attempt: Mutex<HashMap<(TaskId, u32), Arc<dyn Hook>>>,
}

impl Hooks {
    pub(crate) fn expect(&self) {
        self.any.store(true, Ordering::Relaxed);
    }

    /// Whether there ever was one.
    #[inline]
    pub(crate) fn are_there(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// An attempt begins whose handler has a hook.
    pub(crate) fn add(&self, task: &Task, fence: Fence, hook: &Arc<dyn Hook>) {
        // It may begin before the one who registered its handler has got around to it.
        self.expect();
        self.by_attempt.lock().insert((task.id(), fence.attempt), Arc::clone(hook));
    }

    /// An attempt is over: the hook that is to be told, if it has one.
    pub(crate) fn take(&self, task: &Task, fence: Fence) -> Option<Arc<dyn Hook>> {
        if !self.are_there() {
            return None;
        }
        self.by_attempt.lock().remove(&(task.id(), fence.attempt))
    }
}

/// How the end of an attempt is counted that its own worker has reported.
pub(crate) fn count_of(effects: &Effects) -> Option<Count> {
    match effects.to {
        State::Succeeded => Some(Count::Succeeded),
        State::Failed | State::Retrying => Some(Count::Failed),
        _ => None,
    }
}

impl Core {
    /// Whether anybody wants to hear of changes of tasks.
    #[inline]
    pub(crate) fn wants_changes(&self) -> bool {
        self.events.is_any_wanted(CHANGES)
    }

    /// An attempt has ended its task, and its worker has reported that. Most often nobody is to be told.
    #[inline]
    pub(crate) fn announce_end(self: &Arc<Self>, task: &Arc<Task>, effects: &Effects) {
        let nothing_special = self.capability.resident && task.spec().rare.is_none();
        // Failures are counted there, too.
        if !nothing_special || self.is_end_told() || effects.to != State::Succeeded {
            self.announce(task, effects, true);
        }
    }

    /// Whether anybody is to be told that an attempt went well which has nothing special.
    #[inline]
    pub(crate) fn is_end_told(&self) -> bool {
        self.wants_changes() || self.hooks.are_there() || self.crashes.are_there()
    }

    /// A task has changed its state, or come into being, and that is committed.
    pub(crate) fn announce(self: &Arc<Self>, task: &Arc<Task>, effects: &Effects, by_its_worker: bool) {
        if effects.to.is_terminal() && task.spec().scheduled().is_some() {
            // A tick may wait for its end.
            self.timers.look_now();
        }
        // What follows from a report in the same transaction, such as an expiry, is not the worker's.
        // Nor is it the worker's that it has died.
        let crashed = effects.left.is_some_and(|fence| self.crashes.take(task, fence));
        let is_report = by_its_worker && effects.from == Some(State::Running) && !crashed;
        let is_given_back = is_report && effects.to == State::Queued;
        if !is_given_back {
            if is_report
                && !self.capability.resident
                && let Some(count) = count_of(effects)
            {
                self.loops.count(self, task, count);
            }
            if effects.from.is_some() && (!is_report || effects.to == State::Retrying) {
                self.count_change(task, effects, is_report);
            }
        }
        if let Some(fence) = effects.left
            && let Some(hook) = self.hooks.take(task, fence)
        {
            self.tell_hook(&*hook, task, effects.to);
        }
        // If it was claimed ahead and is given back, nobody has seen it begin.
        if !is_given_back && self.wants_changes() {
            self.publish_change(task, effects, crashed);
        }
    }

    /// An attempt that runs here is over, and another process may have ended it: by a deadline that its timer noticed, say.
    /// The hook of the handler is here, and so it is told here; unless the end was told already. What became of the task
    /// in a later attempt is told where that runs.
    pub(crate) fn ended_elsewhere(self: &Arc<Self>, task: &Arc<Task>, fence: Fence) {
        let (state, attempt) = task.with_row(|row| (row.state, row.attempt));
        if attempt == fence.attempt
            && state != State::Running
            && let Some(hook) = self.hooks.take(task, fence)
        {
            self.tell_hook(&*hook, task, state);
        }
    }

    fn tell_hook(self: &Arc<Self>, hook: &dyn Hook, task: &Arc<Task>, to: State) {
        let moment = match to {
            State::Succeeded => Moment::Success,
            State::Retrying => Moment::Retry,
            State::Failed | State::TimedOut => Moment::Failure,
            _ => return,
        };
        let handle = Handle::new(Arc::clone(task), self);
        // Its panic has been printed, and is its own: it must not take the thread that commits with it.
        let _ = catch_unwind(AssertUnwindSafe(|| hook.tell(&handle, moment)));
    }

    fn count_change(&self, task: &Task, effects: &Effects, by_its_worker: bool) {
        let count = match effects.to {
            State::TimedOut => Count::TimedOut,
            State::Cancelled => Count::Cancelled,
            State::Expired => Count::Expired,
            State::Retrying => Count::Retried,
            State::Failed => Count::Failed,
            State::Queued | State::Pending if effects.from == Some(State::Running) => Count::Released,
            _ => return,
        };
        let spec = task.spec();
        self.meters.count(spec.queue, spec.name, count);
        if count == Count::Retried && !by_its_worker {
            // The worker counts its failures itself; this one took too long.
            self.meters.count(spec.queue, spec.name, Count::TimedOut);
        }
    }

    /// Whether anybody wants to hear of tasks that come into being.
    pub(crate) fn wants_births(&self) -> bool {
        self.events.is_any_wanted(&[EventKind::TaskSubmitted, EventKind::TaskExpired])
    }

    fn publish_change(&self, task: &Task, effects: &Effects, crashed: bool) {
        let Some(kind) = kind_of(effects, self.owner()) else { return };
        let kind = if crashed && kind == EventKind::TaskReleased { EventKind::TaskLost } else { kind };
        if !self.events.is_wanted(kind) {
            return;
        }
        let now = self.clock.now();
        self.events.publish(kind, now, Some(task.id()), || {
            task.with_row(|row| describe(kind, task, row, effects, now))
        });
    }

    /// Whether anybody is to be told that attempts begin.
    pub(crate) fn is_start_told(&self) -> bool {
        self.events.is_wanted(EventKind::TaskStarted)
    }

    /// An attempt is about to begin.
    pub(crate) fn announce_start(&self, task: &Task, fence: Fence, waited: Duration) {
        self.events.publish(
            EventKind::TaskStarted,
            self.now_if(EventKind::TaskStarted),
            Some(task.id()),
            || about(task).count("attempt", fence.attempt.into()).seconds("waited", waited).build(),
        );
    }

    /// A handler told how far it is.
    pub(crate) fn announce_progress(&self, task: &Task, fence: Fence, progress: &Progress) {
        self.events.publish(EventKind::TaskProgress, progress.at, Some(task.id()), || {
            about(task)
                .count("attempt", fence.attempt.into())
                .number("value", progress.value)
                .maybe_text("message", progress.message.as_deref())
                .build()
        });
    }

    /// A handler logged.
    pub(crate) fn announce_line(&self, task: &Task, line: &LogLine) {
        self.events.publish(EventKind::TaskLog, line.at, Some(task.id()), || {
            about(task)
                .count("attempt", line.attempt.into())
                .text("level", &line.level)
                .text("message", &line.message)
                .build()
        });
    }

    /// A report was refused.
    pub(crate) fn announce_late(&self, task: &Task, attempt: u32, report: &str) {
        let spec = task.spec();
        self.meters.count(spec.queue, spec.name, Count::Late);
        self.events.publish(
            EventKind::ReportLate,
            self.now_if(EventKind::ReportLate),
            Some(task.id()),
            || about(task).count("attempt", attempt.into()).text("report", report).build(),
        );
    }

    /// A worker thread does not come back, or has come back.
    pub(crate) fn announce_worker(&self, kind: EventKind, task: &Task, worker: usize, attempt: u32) {
        self.events.publish(kind, self.now_if(kind), Some(task.id()), || {
            Object::new()
                .count("worker", worker as u64)
                .text("handler", task.spec().name.as_str())
                .count("attempt", attempt.into())
                .build()
        });
    }

    /// Something happened that is about no task.
    pub(crate) fn publish_plain(&self, kind: EventKind, data: impl FnOnce(Object) -> Object) {
        self.events.publish(kind, self.now_if(kind), None, || data(Object::new()).build());
    }

    /// The engine has stopped: the last event of every stream.
    pub(crate) fn publish_the_end(&self, unfinished: usize) {
        let kind = EventKind::EngineStopped;
        self.events.close_all_with(kind, self.now_if(kind), || {
            Object::new().count("unfinished", unfinished as u64).build()
        });
    }

    /// The time, if an event needs it.
    fn now_if(&self, kind: EventKind) -> Timestamp {
        if self.events.is_wanted(kind) { self.clock.now() } else { Timestamp::MAX }
    }
}

fn about(task: &Task) -> Object {
    let spec = task.spec();
    Object::new().text("name", spec.name.as_str()).text("queue", spec.queue.as_str())
}

/// Which event a change is. None, if it is a claim: that an attempt began is told by whoever begins it.
fn kind_of(effects: &Effects, me: OwnerId) -> Option<EventKind> {
    Some(match (effects.from, effects.to) {
        (None, State::Expired) => EventKind::TaskExpired,
        (None, _) => EventKind::TaskSubmitted,
        (Some(State::Running), State::Queued) => {
            // What this process gives back is its own; what it takes away is a dead one's.
            let own = effects.left.is_none_or(|fence| fence.owner == me);
            if own { EventKind::TaskReleased } else { EventKind::TaskLost }
        }
        (Some(State::Running), State::Pending) => EventKind::TaskReleased,
        (_, State::Running) => return None,
        (_, State::Queued | State::Pending) => EventKind::TaskQueued,
        (_, State::Succeeded) => EventKind::TaskSucceeded,
        (_, State::Failed) => EventKind::TaskFailed,
        (_, State::Retrying) => EventKind::TaskRetrying,
        (_, State::TimedOut) => EventKind::TaskTimedOut,
        (_, State::Cancelled) => EventKind::TaskCancelled,
        (_, State::Expired) => EventKind::TaskExpired,
        (_, State::Skipped) => EventKind::TaskSkipped,
    })
}

fn describe(kind: EventKind, task: &Task, row: &Row, effects: &Effects, now: Timestamp) -> Box<str> {
    let spec = task.spec();
    let from = effects.from.map_or("", State::as_str);
    let left_running = effects.from == Some(State::Running);
    let ran = row.started.filter(|_| left_running).map(|started| row.updated.since(started));
    let reason = row.history.as_ref().and_then(|history| history.reason.as_deref());
    let object = about(task);
    let with_attempt = |object: Object| object.count("attempt", row.attempt.into());
    match kind {
        EventKind::TaskSubmitted => {
            let mut object = object
                .plain("priority", spec.priority)
                .plain("state", effects.to)
                .maybe_plain("waiting_for", waiting_for(row))
                .maybe_plain("eta", spec.eta());
            if !spec.tags().is_empty() {
                object = object.texts("tags", spec.tags());
            }
            object
                .maybe_text(
                    "correlation_id",
                    spec.rare.as_ref().and_then(|rare| rare.correlation_id.as_deref()),
                )
                .maybe_plain("parent", spec.parent().map(|parent| parent.id))
                .maybe_text("schedule", spec.scheduled().map(|scheduled| scheduled.schedule.as_str()))
                .build()
        }
        EventKind::TaskQueued => object.plain("from", from).build(),
        EventKind::TaskSucceeded => {
            with_attempt(object).flag("by_hand", !left_running).maybe_seconds("duration", ran).build()
        }
        EventKind::TaskRetrying => failure(with_attempt(object).count("failures", row.failures.into()), row)
            .seconds("delay", row.eligible.since(now))
            .maybe_seconds("duration", ran)
            .build(),
        EventKind::TaskFailed => {
            let mut object = failure(with_attempt(object).count("failures", row.failures.into()), row);
            if row.crashes > 0 {
                object = object.count("crashes", row.crashes.into());
            }
            object.maybe_seconds("duration", ran).build()
        }
        EventKind::TaskTimedOut => {
            let deadline = spec.deadline().is_some_and(|deadline| deadline <= row.updated);
            with_attempt(object)
                .plain("limit", if deadline { "deadline" } else { "timeout" })
                .count("failures", row.failures.into())
                .maybe_seconds("duration", ran)
                .build()
        }
        EventKind::TaskCancelled => with_attempt(object)
            .plain("from", from)
            .maybe_text("reason", reason)
            .maybe_seconds("duration", ran)
            .build(),
        EventKind::TaskExpired => object.plain("expires", spec.expires().unwrap_or(now)).build(),
        EventKind::TaskReleased => with_attempt(object)
            .plain("why", if row.state == State::Pending { "suspended" } else { "shutdown" })
            .maybe_plain("waiting_for", waiting_for(row))
            .maybe_seconds("duration", ran)
            .build(),
        EventKind::TaskLost => with_attempt(object)
            .count("owner", effects.left.map_or(0, |fence| fence.owner.get()))
            .count("crashes", row.crashes.into())
            .build(),
        _ => object.maybe_text("reason", reason).build(),
    }
}

fn failure(object: Object, row: &Row) -> Object {
    let last = row.errors().last();
    let kind = last.map_or("", |error| &error.kind);
    let message = last.map_or("", |error| &error.message);
    object.failure("error", kind, message)
}

fn waiting_for(row: &Row) -> Option<&'static str> {
    match row.waiting_for {
        WaitingFor::Nothing => None,
        other => Some(other.as_str()),
    }
}
