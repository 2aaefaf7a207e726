//! What an environment runs: attempts that were handed to it, each with its one-shot way back.
//!
//! A job is known by its number from when it is handed over until its handler has ended or its environment has; JavaScript
//! knows it by no other name. Whoever takes it out of the table, under the table's lock, has its outcome to report: so
//! it is reported once. To the engine it is reported without the lock, and without it a place that was lent is taken back: both
//! may come back here.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use taskloom_engine::{Attempt, Completion, LentPlace, Outcome};
use taskloom_model::{Bytes, Fence, TaskId};

use super::{News, Port};
use crate::lane::Route;
use crate::threads::Ticket;

/// An attempt whose handler runs here.
pub(crate) struct Job {
    end: End,
    pub(crate) route: Route,
    called_off: bool,
    /// Its place in flight, while it waits for a child.
    lent: Option<LentPlace>,
}

impl Job {
    /// The attempt.
    pub(crate) fn attempt(&self) -> &Attempt {
        self.end.attempt()
    }
}

/// Where the outcome of a job goes, once.
pub(crate) enum End {
    /// To the engine.
    Loop(Completion),
    /// To the worker that waits for this thread.
    Thread(Arc<Ticket>, Attempt),
}

impl End {
    fn attempt(&self) -> &Attempt {
        match self {
            Self::Loop(completion) => completion.attempt(),
            Self::Thread(_, attempt) => attempt,
        }
    }

    pub(crate) fn complete(self, outcome: Outcome) {
        match self {
            Self::Loop(completion) => completion.complete(outcome),
            Self::Thread(ticket, _) => ticket.end(outcome),
        }
    }

    /// The same of one of many that went well, which are completed together.
    pub(crate) fn succeed_with(self, result: &[u8], others: &mut Vec<(Completion, Bytes)>) {
        match self {
            Self::Loop(completion) => others.push((completion, result.into())),
            Self::Thread(ticket, _) => ticket.end(Outcome::success(result)),
        }
    }

    /// Its handler was not begun.
    fn give_back(self) {
        match self {
            Self::Loop(completion) => completion.give_back(),
            Self::Thread(ticket, _) => ticket.end(Outcome::GivenBack),
        }
    }

    /// Its environment ends. How a thread died is for its owner to say.
    fn leave(self) {
        if let Self::Loop(completion) = self {
            completion.give_back();
        }
    }
}

impl Port {
    /// Has handlers run here: of attempts that come from one place.
    pub(crate) fn begin_all(&self, ends: impl Iterator<Item = End>, route: Route) {
        let numbers: Vec<u32> = {
            let mut jobs = self.jobs.lock();
            let job = |end| Job { end, route, called_off: false, lent: None };
            ends.map(|end| jobs.insert(job(end))).collect()
        };
        let count = numbers.len();
        self.in_flight.fetch_add(count, Ordering::Relaxed);
        if self.is_closed() {
            // It closed meanwhile, and nobody else will look.
            return numbers.into_iter().filter_map(|number| self.end(number)).for_each(End::give_back);
        }
        self.started.fetch_add(count as u64, Ordering::Relaxed);
        // A thread of a pool is there to be blocked.
        if !self.is_thread.load(Ordering::Relaxed) {
            self.pulse.begin(&self.own, &self.pulse);
        }
        self.heard.lock().news.extend(numbers.into_iter().map(News::Start));
        self.wake();
    }

    /// Looks at a job.
    pub(crate) fn with_job<T>(&self, job: u32, look: impl FnOnce(&Job) -> T) -> Option<T> {
        self.jobs.lock().get(job).map(look)
    }

    /// The attempt of a job that runs.
    pub(crate) fn attempt(&self, job: u32) -> Option<Attempt> {
        self.with_job(job, |job| job.attempt().clone())
    }

    /// Takes the jobs to start that come next out of the news, for as long as `tell` says that there is room: it is
    /// asked with nothing first. Each job is told by it. If its task was submitted here, for a slot that is still its
    /// own, and this is its first attempt: with the slot, where JavaScript has kept the input, and will keep the result.
    pub(crate) fn start_all(
        &self,
        news: &mut VecDeque<News>,
        mut tell: impl FnMut(Option<(u32, &Job, Option<u32>)>) -> bool,
    ) {
        if !matches!(news.front(), Some(News::Start(_))) {
            return;
        }
        let jobs = self.jobs.lock();
        let slots = self.slots.lock();
        while let Some(News::Start(number)) = news.front()
            && tell(None)
        {
            let number = *number;
            news.pop_front();
            let Some(job) = jobs.get(number) else { continue };
            let own = self.own_slot(job.attempt(), &slots);
            tell(Some((number, job, own)));
        }
    }

    /// Handlers of jobs have returned; JavaScript has kept what, where it had kept the input. Each that is known is handed
    /// to `end`, with its place among those that were given: under the lock, so `end` only notes it, or tells a worker that
    /// waits for it.
    pub(crate) fn succeeded(&self, numbers: impl Iterator<Item = u32>, mut end: impl FnMut(usize, End)) {
        // Places that they had lent are taken back without the lock.
        let (mut count, mut lent) = (0, Vec::new());
        let mut jobs = self.jobs.lock();
        for (place, number) in numbers.enumerate() {
            let Some(job) = jobs.remove(number) else { continue };
            count += 1;
            lent.extend(job.lent);
            end(place, job.end);
        }
        drop(jobs);
        drop(lent);
        self.in_flight.fetch_sub(count, Ordering::Relaxed);
    }

    /// A job's handler has ended: where its outcome goes.
    pub(crate) fn end(&self, job: u32) -> Option<End> {
        Some(self.take_job(job)?.end)
    }

    fn take_job(&self, job: u32) -> Option<Job> {
        let job = self.jobs.lock().remove(job)?;
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        Some(job)
    }

    /// A job's handler waits for a child, and lends its place meanwhile; or it goes on.
    pub(crate) fn lend_place(&self, job: u32, lends: bool) {
        if self.is_thread.load(Ordering::Relaxed) {
            // It has no place in flight; what it lends, its pool knows of.
            return;
        }
        let Some(attempt) = self.attempt(job) else { return };
        let lent = lends.then(|| attempt.lend_place());
        // What it had lent is taken back without the lock.
        let before = match self.jobs.lock().get_mut(job) {
            Some(job) => std::mem::replace(&mut job.lent, lent),
            None => lent,
        };
        drop(before);
    }

    /// The environment ends, and no handler comes back.
    pub(super) fn leave_jobs(&self) {
        let jobs = self.jobs.lock().take_all();
        jobs.into_iter().for_each(|job| job.end.leave());
    }

    /// How many handlers run here.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Tells JavaScript, once, that an attempt no longer counts; whether it runs here.
    pub(crate) fn call_off(&self, id: TaskId, fence: Fence, why: &'static str) -> bool {
        let found = {
            let mut jobs = self.jobs.lock();
            let own = |job: &Job| job.attempt().task().id() == id && job.attempt().fence() == fence;
            let Some((number, job)) = jobs.iter_mut().find(|(_, job)| own(job)) else { return false };
            (!std::mem::replace(&mut job.called_off, true)).then_some(number)
        };
        if let Some(number) = found {
            self.tell(News::CallOff(number, why));
        }
        true
    }

    /// The handlers that run here, each once, with one of its tasks and its app.
    pub(crate) fn in_flight_by_handler(&self) -> Vec<(&'static str, TaskId, u32)> {
        let mut all: Vec<(&'static str, TaskId, u32)> = Vec::new();
        for (_, job) in self.jobs.lock().iter() {
            let task = job.attempt().task();
            if all.iter().all(|(name, ..)| *name != task.spec().name.as_str()) {
                all.push((task.spec().name.as_str(), task.id(), job.route.app));
            }
        }
        all
    }
}
