//! How attempts on foreign event loops and in foreign workers end: each by a [`Completion`], which is used up by it.
//!
//! A completion that is dropped unused reports `HandlerLost`. An attempt is no longer in progress when its outcome is
//! reported, and its place in flight is given back after that.

use std::sync::Arc;
use std::time::Duration;

use taskloom_model::{Bytes, Fence, Name, Timestamp};
use taskloom_store::Task;

use crate::core::Core;
use crate::handler::{Attempt, Outcome};
use crate::loops::Loops;
use crate::meter::{Count, Recorder};
use crate::queues::Route;

/// Where the outcome of an attempt on a loop goes, once.
#[must_use = "dropping a completion fails the attempt with HandlerLost"]
pub struct Completion {
    /// Until it is used up.
    attempt: Option<Attempt>,
    route: Route,
    started: Timestamp,
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
    pub(crate) fn new(attempt: Attempt, route: Route, started: Timestamp) -> Self {
        Self { attempt: Some(attempt), route, started }
    }

    /// The attempt.
    pub fn attempt(&self) -> &Attempt {
        self.attempt.as_ref().expect("whoever uses a completion up has it no longer")
    }

    /// Reports the outcome.
    pub fn complete(mut self, outcome: Outcome) {
        self.end(outcome);
    }

    /// Reports that many attempts went well, in their order, as having ended at one time: each costs less than by itself.
    /// What was given, with the results, is empty afterwards.
    pub fn succeed_all(ended: &mut Vec<(Self, Bytes)>) {
        for run in ended.chunk_by_mut(|(one, _), (next, _)| one.is_beside(next)) {
            let (home, route) = (Arc::clone(&run[0].0.attempt().home), run[0].0.route);
            let core = &home.core;
            let in_progress = || run.iter().map(|(one, _)| (&one.attempt().task, one.attempt().fence));
            core.end_many_on_loop(in_progress());
            if core.queues.are_shut() {
                in_progress().for_each(|(task, fence)| core.trials.ended(core, task.id(), fence));
            }
            let (loops, now) = (core.loops_of(route), core.clock.now());
            let attempts = run.iter_mut().map(|(one, result)| {
                let Attempt { task, fence, .. } = one.attempt();
                (task, *fence, result)
            });
            let verdicts = core.report_successes(attempts, now);
            // What is taken the long way.
            let mut ends = Vec::new();
            for ((one, result), verdict) in run.iter_mut().zip(&verdicts) {
                if verdict.is_none()
                    && let Some(Attempt { task, fence, .. }) = one.attempt.take()
                {
                    let outcome = Outcome::success(std::mem::take(result));
                    ends.push(End::new(core, task, fence, outcome, one.started, now));
                }
            }
            // All are counted before anybody hears of one.
            loops.record(core, |recorder| {
                for ((one, _), verdict) in run.iter().zip(&verdicts) {
                    let Some(verdict) = verdict else { continue };
                    let (spec, how) =
                        (one.attempt().task.spec(), verdict.is_ok().then_some(Count::Succeeded));
                    recorder.ended(spec.queue, spec.name, how, now.since(one.started), now);
                }
                ends.iter().for_each(|end| end.record(recorder, now));
            });
            let (count, mut ends) = (run.len(), ends.into_iter());
            for ((one, _), verdict) in run.iter_mut().zip(verdicts) {
                match (verdict, one.attempt.take()) {
                    (Some(verdict), Some(Attempt { task, fence, .. })) => {
                        core.reported_success(&task, fence, &verdict);
                        if verdict.is_ok() {
                            task.settle_as(Some(fence.attempt));
                        }
                    }
                    _ => ends.next().into_iter().for_each(End::settle),
                }
            }
            loops.ended(core, count);
        }
        ended.clear();
    }

    /// Whether another one comes from the same hands.
    fn is_beside(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.attempt().home, &other.attempt().home) && self.route == other.route
    }

    /// For a host that has ended the handler of an attempt because that was called off: there is no outcome, and so
    /// none that could come too late. If the attempt still counts, this fails it with `HandlerLost`, as a drop does.
    pub fn abandon(mut self) {
        let Some(Attempt { home, task, fence, .. }) = self.attempt.take_if(|own| own.is_cancelled()) else {
            return;
        };
        let core = &home.core;
        core.end_on_loop(&task, fence);
        drop((core.notes.take(task.id(), fence), core.hooks.take(&task, fence)));
        self.count(core, &task, core.clock.now());
        core.loops_of(self.route).release(core, 1);
    }

    /// The worker that ran the attempt has died, and this process has not: counted towards `max_crashes`, and the task
    /// goes back or fails for good. `cause` says what it died of, as the end of a sentence (`was killed by signal 11`).
    pub fn crash(mut self, cause: &str) {
        let Some(Attempt { home, task, fence, .. }) = self.attempt.take() else { return };
        let core = &home.core;
        core.end_on_loop(&task, fence);
        drop(core.notes.take(task.id(), fence));
        self.count(core, &task, core.clock.now());
        if let Some(ended) = core.crash(task, fence, cause) {
            ended.settle();
        }
        core.loops_of(self.route).release(core, 1);
    }

    /// For a host that ends while the attempt runs: there will be no outcome, and that is not the handler's fault. The
    /// task is given back at no cost, for whoever else can run it.
    pub fn give_back(mut self) {
        let Some(Attempt { home, task, fence, .. }) = self.attempt.take() else { return };
        let core = &home.core;
        core.end_on_loop(&task, fence);
        drop(core.notes.take(task.id(), fence));
        self.count(core, &task, core.clock.now());
        core.give_back_attempt(task, fence);
        core.loops_of(self.route).release(core, 1);
    }

    /// For one that has begun and was not handed out: its handler has not.
    pub(crate) fn give_back_begun(&mut self) {
        let Some(Attempt { home, task, fence, .. }) = self.attempt.take() else { return };
        let core = &home.core;
        core.end_on_loop(&task, fence);
        core.give_back_begun(task, fence);
        core.loops_of(self.route).release(core, 1);
    }

    fn end(&mut self, outcome: Outcome) {
        let Some(attempt) = self.attempt.take() else { return };
        let Attempt { home, task, fence, .. } = attempt;
        let core = &home.core;
        core.end_on_loop(&task, fence);
        let now = core.clock.now();
        let end = End::new(core, task, fence, outcome, self.started, now);
        let loops = core.loops_of(self.route);
        loops.record(core, |recorder| end.record(recorder, now));
        end.settle();
        loops.ended(core, 1);
    }

    /// How it ended is counted elsewhere, or nowhere.
    fn count(&self, core: &Core, task: &Task, now: Timestamp) {
        let (spec, ran) = (task.spec(), now.since(self.started));
        let loops = core.loops_of(self.route);
        loops.record(core, |recorder| recorder.ended(spec.queue, spec.name, None, ran, now));
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
    /// Says what came of an attempt, which is in progress no longer. What that did is still to be counted, and whoever waits
    /// to be told.
    fn new(
        core: &Arc<Core>,
        task: Arc<Task>,
        fence: Fence,
        outcome: Outcome,
        started: Timestamp,
        now: Timestamp,
    ) -> Self {
        let (queue, name) = (task.spec().queue, task.spec().name);
        let mut how = None;
        let ended = core.report(task, fence, outcome, now, |counted| how = counted, None);
        Self { ended, queue, name, how, ran: now.since(started) }
    }

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
        // Nearly all have ended by then, and need no memory for these words.
        if self.attempt.is_some() {
            self.end(Outcome::failure(
                "HandlerLost",
                "the handler went away without an outcome (its event loop was closed, or its future dropped)",
            ));
        }
    }
}
