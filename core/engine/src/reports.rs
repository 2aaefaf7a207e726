//! What workers and handlers report: how an attempt ended, how far it is, what it logs.
//!
//! A report about an attempt that no longer counts is refused by its fence, counted and told. On a durable store progress
//! and log lines wait in [`Told`] for the next transaction, and no more of them than would be kept, the others being
//! counted: a handler that tells a lot costs no more than one that tells little.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use taskloom_model::{
    Bytes, Effects, Fence, LogLine, MAX_LOG_LINES, MAX_PAYLOAD, Operation, Progress, Result, State, TaskId,
    Timestamp,
};
use taskloom_store::Task;

use crate::announce::count_of;
use crate::core::{Core, fence_of};
use crate::handler::{Outcome, over, oversized};
use crate::inline::follow_inline;
use crate::meter::Count;

/// What an attempt has told and nobody has written yet: as much as would be kept, so that a handler that tells a lot
/// costs no more than one that tells little.
pub(crate) struct Told {
    pub(crate) task: Arc<Task>,
    pub(crate) fence: Fence,
    pub(crate) progress: Option<Progress>,
    pub(crate) lines: Vec<LogLine>,
    /// How many lines came before those and would not be kept.
    pub(crate) dropped: u32,
}

/// Attempts whose workers have died, until that is committed and told.
#[derive(Default)]
pub(crate) struct Crashes {
    /// Whether there ever was one.
    any: AtomicBool,
    attempts: Mutex<HashSet<(TaskId, u32)>>,
}

impl Crashes {
    fn add(&self, task: &Task, fence: Fence) {
        self.any.store(true, Ordering::Release);
        self.attempts.lock().insert((task.id(), fence.attempt));
    }

    /// Whether there ever was one.
    #[inline]
    pub(crate) fn are_there(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Whether this attempt is one of them; from now on it is not.
    pub(crate) fn take(&self, task: &Task, fence: Fence) -> bool {
        self.are_there() && self.attempts.lock().remove(&(task.id(), fence.attempt))
    }
}

impl Core {
    /// Reports what came of an attempt. Nobody waits for the answer: a report that comes too late is counted.
    ///
    /// `count` is called before others hear of it, with how the attempt is to be counted: not at all if the report came
    /// too late, or if that is known only with the commit, where it is counted then.
    ///
    /// `held`: the calling worker may write it itself, see [`crate::own_write`].
    ///
    /// If that ended the task here and now, it is returned, committed but not settled: the caller must settle it, and
    /// may first do what would otherwise be in the way of those who wake up.
    #[must_use = "whoever waits for the task hears of its end when it is settled"]
    pub(crate) fn report(
        self: &Arc<Self>,
        task: Arc<Task>,
        fence: Fence,
        outcome: Outcome,
        now: Timestamp,
        count: impl FnOnce(Option<Count>),
        held: Option<&mut bool>,
    ) -> Option<Arc<Task>> {
        let noted = self.notes.take(task.id(), fence);
        let outcome = match outcome {
            Outcome::Succeeded { result, metadata } => match oversized(result.len()) {
                Some(failed) => Outcome::Failed(failed),
                None => Outcome::Succeeded { result, metadata: metadata.or(noted) },
            },
            Outcome::GivenBack => {
                count(None);
                if task.is_current(fence) {
                    self.give_back_attempt(task, fence);
                } else {
                    // It was called off before, and so nothing comes too late.
                    drop(self.hooks.take(&task, fence));
                }
                return None;
            }
            Outcome::Lost { cause } => {
                count(None);
                return self.crash(task, fence, &cause);
            }
            other @ (Outcome::Failed(_) | Outcome::Postponed { .. }) => other,
        };
        let operation = outcome.into_operation(fence, now, || self.chance.unit());
        if !self.capability.resident {
            count(None);
            return self.committer.report(self, task, [operation], now, held);
        }
        let (name, mut consequences) = (operation.name(), Vec::new());
        match self.store.change(&task, operation, &mut consequences, now) {
            Ok(effects) => {
                count(count_of(&effects));
                let effects = follow_inline(self, &task, effects, consequences, true);
                effects.finished().then_some(task)
            }
            Err(_) => {
                count(None);
                self.count_late_report(&task, (Some(fence), name));
                None
            }
        }
    }

    /// Reports that an attempt went well, of a task that asks for nothing but to be run: what [`Core::report`] does, for those
    /// tasks of which most programs have only those. None if it takes more than that: then nothing has happened, and the
    /// result is left.
    #[inline]
    pub(crate) fn report_success(
        self: &Arc<Self>,
        task: &Arc<Task>,
        fence: Fence,
        result: &mut Bytes,
        now: Timestamp,
        count: impl FnOnce(Option<Count>),
    ) -> Option<Result<()>> {
        if result.len() > MAX_PAYLOAD || self.notes.are_there() {
            return None;
        }
        let verdict = self.store.succeed_freely(task, fence, result, now)?;
        count(verdict.is_ok().then_some(Count::Succeeded));
        self.reported_success(task, fence, &verdict);
        Some(verdict)
    }

    /// The same of many at once, but for what follows: of those that were counted, [`Core::reported_success`] sees to it.
    pub(crate) fn report_successes<'a>(
        &self,
        attempts: impl Iterator<Item = (&'a Arc<Task>, Fence, &'a mut Bytes)>,
        now: Timestamp,
    ) -> Vec<Option<Result<()>>> {
        let are_notes = self.notes.are_there();
        let mut ends = attempts.map(|(task, fence, result)| {
            let is_short = result.len() <= MAX_PAYLOAD && !are_notes;
            (task, fence, is_short.then_some(result))
        });
        self.store.succeed_all_freely(&mut ends, now)
    }

    /// What follows from the report that an attempt went well, by the store's verdict on it.
    #[inline]
    pub(crate) fn reported_success(self: &Arc<Self>, task: &Arc<Task>, fence: Fence, verdict: &Result<()>) {
        if verdict.is_err() {
            return self.count_late_report(task, (Some(fence), "succeed"));
        }
        self.room.made();
        if self.is_end_told() {
            let (from, to) = (Some(State::Running), State::Succeeded);
            self.announce(task, &Effects { from, to, left: Some(fence), due: None }, true);
        }
    }

    /// Gives back a task that was claimed and has not begun. Nobody waits for it.
    pub(crate) fn give_back(self: &Arc<Self>, task: Arc<Task>) {
        if let Some(fence) = fence_of(&task) {
            // It goes on, and so is not returned.
            let release = [Operation::Release { fence }];
            let _ = self.committer.report(self, task, release, self.clock.now(), None);
        }
    }

    /// Gives back this very attempt, whose handler runs no longer; if it was called off before, nothing happens.
    pub(crate) fn give_back_attempt(self: &Arc<Self>, task: Arc<Task>, fence: Fence) {
        drop(self.hooks.take(&task, fence));
        // It goes on, and so is not returned.
        let _ = self.committer.report(self, task, [Operation::Release { fence }], self.clock.now(), None);
    }

    /// The same for one that has begun, but whose handler did not.
    pub(crate) fn give_back_begun(self: &Arc<Self>, task: Arc<Task>, fence: Fence) {
        drop(self.hooks.take(&task, fence));
        self.give_back(task);
    }

    /// The worker of this very attempt has died; if the attempt was called off before, nothing happens. Whether that
    /// ended the task is returned as by [`Core::report`].
    #[must_use = "whoever waits for the task hears of its end when it is settled"]
    pub(crate) fn crash(self: &Arc<Self>, task: Arc<Task>, fence: Fence, cause: &str) -> Option<Arc<Task>> {
        self.crashes.add(&task, fence);
        let operation = Operation::Crash { fence, cause: cause.into() };
        self.committer.report(self, task, [operation], self.clock.now(), None)
    }

    /// A report about an attempt was refused, or could not be written.
    pub(crate) fn count_late_report(
        self: &Arc<Self>,
        task: &Arc<Task>,
        (fence, report): (Option<Fence>, &'static str),
    ) {
        if let Some(fence) = fence {
            // Most often whoever ended the attempt has told it. But it may have been another process.
            self.ended_elsewhere(task, fence);
            drop(self.hooks.take(task, fence));
            self.crashes.take(task, fence);
        }
        self.late_reports.fetch_add(1, Ordering::Relaxed);
        self.announce_late(task, fence.map_or(0, |fence| fence.attempt), report);
    }

    pub(crate) fn late_reports(&self) -> u64 {
        self.late_reports.load(Ordering::Relaxed)
    }

    /// Notes how far a task is: at once on a resident store, with the next batch on others.
    pub(crate) fn tell_progress(
        self: &Arc<Self>,
        task: &Arc<Task>,
        fence: Fence,
        progress: Progress,
    ) -> Result<()> {
        let own = progress.clone();
        if self.capability.resident {
            self.change(task, Operation::Progress { fence, progress })?;
        } else {
            self.tell(task, fence, |told| told.progress = Some(progress))?;
        }
        self.announce_progress(task, fence, &own);
        Ok(())
    }

    /// Adds a line to a task's log: at once on a resident store, with the next batch on others.
    pub(crate) fn tell_line(self: &Arc<Self>, task: &Arc<Task>, fence: Fence, line: LogLine) -> Result<()> {
        let line = line.shortened();
        let own = line.clone();
        if self.capability.resident {
            self.change(task, Operation::Log { fence, lines: vec![line], dropped: 0 })?;
        } else {
            self.tell(task, fence, |told| {
                if told.lines.len() >= MAX_LOG_LINES {
                    told.lines.remove(0);
                    told.dropped = told.dropped.saturating_add(1);
                }
                told.lines.push(line);
            })?;
        }
        self.announce_line(task, &own);
        Ok(())
    }

    fn tell(self: &Arc<Self>, task: &Arc<Task>, fence: Fence, add: impl FnOnce(&mut Told)) -> Result<()> {
        if !task.is_current(fence) {
            return Err(over(task, fence));
        }
        {
            let mut told = self.told.lock();
            let fresh =
                || Told { task: Arc::clone(task), fence, progress: None, lines: Vec::new(), dropped: 0 };
            let told = told.entry(task.id()).or_insert_with(fresh);
            if told.fence != fence {
                *told = fresh();
            }
            add(told);
        }
        self.committer.poke(self);
        Ok(())
    }
}
