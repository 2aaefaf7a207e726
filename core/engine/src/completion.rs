//! How attempts on foreign event loops and in foreign workers end: each by a [`Completion`], which is used up by it.
//!
//! A completion that is dropped unused reports `HandlerLost`. An attempt is no longer in progress when its outcome is
//! reported, and its place in flight is given back after that.

use std::sync::Arc;
use std::time::Duration;

use taskloom_model::{Fence, Name, Timestamp};
use taskloom_store::Task;

use crate::core::Core;
use crate::handler::{Home, Outcome};
use crate::loops::Loops;
use crate::meter::{Count, Recorder};
use crate::queues::Route;

/// Where the outcome of an attempt on a loop goes, once.
#[must_use = "dropping a completion fails the attempt with HandlerLost"]
pub struct Completion {
    pub(crate) home: Arc<Home>,
    pub(crate) route: Route,
    /// Until it is used up.
    pub(crate) task: Option<Arc<Task>>,
    pub(crate) fence: Fence,
    pub(crate) started: Timestamp,
}

impl Core {
    /// Who hands out the tasks of a route.
    fn loops_of(&self, route: Route) -> &Loops {
        match route {
            Route::Pooled => &self.pooled,
            Route::Blocking | Route::Asynchronous => &self.loops,
        }
    }
}

impl Completion {
    /// Who hands such tasks out.
    fn loops(&self) -> &Loops {
        self.home.core.loops_of(self.route)
    }

    /// Reports the outcome.
    pub fn complete(mut self, outcome: Outcome) {
        self.end(outcome);
    }

    /// Reports the outcomes of many attempts, in their order, as having ended at one time: each costs less than by itself.
    /// What was given is empty afterwards.
    pub fn complete_all(ended: &mut Vec<(Self, Outcome)>) {
        for run in ended.chunk_by_mut(|(one, _), (next, _)| one.is_beside(next)) {
            let (home, route) = (Arc::clone(&run[0].0.home), run[0].0.route);
            let core = &home.core;
            let in_progress = run.iter().filter_map(|(one, _)| Some((one.task.as_ref()?.id(), one.fence)));
            core.end_many_on_loop(in_progress.clone());
            if core.queues.are_shut() {
                in_progress.for_each(|(id, fence)| core.trials.ended(core, id, fence));
            }
            let (loops, now) = (core.loops_of(route), core.clock.now());
            let mut ends = Vec::with_capacity(run.len());
            for (one, outcome) in run {
                let Some(task) = one.task.take() else { continue };
                ends.push(one.report(task, std::mem::replace(outcome, Outcome::GivenBack), now));
            }
            // All are counted before anybody hears of one.
            loops.record(core, |recorder| ends.iter().for_each(|end| end.record(recorder, now)));
            let count = ends.len();
            ends.into_iter().for_each(End::settle);
            loops.ended(core, count);
        }
        ended.clear();
    }

    /// Whether another one comes from the same hands.
    fn is_beside(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.home, &other.home) && self.route == other.route
    }

    /// For a host that has ended the handler of an attempt because that was called off: there is no outcome, and so
    /// none that could come too late. If the attempt still counts, this fails it with `HandlerLost`, as a drop does.
    pub fn abandon(mut self) {
        let Some(task) = self.task.take_if(|task| !task.is_current(self.fence)) else { return };
        let core = &self.home.core;
        core.end_on_loop(task.id(), self.fence);
        drop((core.notes.take(task.id(), self.fence), core.hooks.take(&task, self.fence)));
        self.count(&task, None, core.clock.now());
        self.loops().release(core, 1);
    }

    /// The worker that ran the attempt has died, and this process has not: counted towards `max_crashes`, and the task
    /// goes back or fails for good. `cause` says what it died of, as the end of a sentence (`was killed by signal 11`).
    pub fn crash(mut self, cause: &str) {
        let Some(task) = self.task.take() else { return };
        let core = &self.home.core;
        core.end_on_loop(task.id(), self.fence);
        drop(core.notes.take(task.id(), self.fence));
        self.count(&task, None, core.clock.now());
        if let Some(ended) = core.crash(task, self.fence, cause) {
            ended.settle();
        }
        self.loops().release(core, 1);
    }

    /// For a host that ends while the attempt runs: there will be no outcome, and that is not the handler's fault. The
    /// task is given back at no cost, for whoever else can run it.
    pub fn give_back(mut self) {
        let Some(task) = self.task.take() else { return };
        let core = &self.home.core;
        core.end_on_loop(task.id(), self.fence);
        drop(core.notes.take(task.id(), self.fence));
        self.count(&task, None, core.clock.now());
        core.give_back_attempt(task, self.fence);
        self.loops().release(core, 1);
    }

    fn end(&mut self, outcome: Outcome) {
        let Some(task) = self.task.take() else { return };
        let core = &self.home.core;
        core.end_on_loop(task.id(), self.fence);
        let now = core.clock.now();
        let end = self.report(task, outcome, now);
        self.loops().record(core, |recorder| end.record(recorder, now));
        end.settle();
        self.loops().ended(core, 1);
    }

    /// Says what came of the attempt, which is in progress no longer. What that did is still to be counted, and whoever waits
    /// to be told.
    fn report(&self, task: Arc<Task>, outcome: Outcome, now: Timestamp) -> End {
        let core = &self.home.core;
        let (queue, name) = (task.spec().queue, task.spec().name);
        let mut how = None;
        let ended = core.report(task, self.fence, outcome, now, |counted| how = counted, None);
        End { ended, queue, name, how, ran: now.since(self.started) }
    }

    fn count(&self, task: &Task, how: Option<Count>, now: Timestamp) {
        let (core, spec) = (&self.home.core, task.spec());
        let ran = now.since(self.started);
        self.loops().record(core, |recorder| recorder.ended(spec.queue, spec.name, how, ran, now));
    }
}

/// How an attempt has ended.
struct End {
    /// The task, if that ended it here and now.
    ended: Option<Arc<Task>>,
    queue: Name,
    name: Name,
    how: Option<Count>,
    ran: Duration,
}

impl End {
    fn record(&self, recorder: &mut Recorder, now: Timestamp) {
        recorder.ended(self.queue, self.name, self.how, self.ran, now);
    }

    fn settle(self) {
        if let Some(ended) = self.ended {
            ended.settle();
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        self.end(Outcome::failure(
            "HandlerLost",
            "the handler went away without an outcome (its event loop was closed, or its future dropped)",
        ));
    }
}
