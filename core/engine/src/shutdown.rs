//! How an engine ends.
//!
//! 1. Nobody but handlers may submit any more (`Draining`).
//! 2. A resident store's eligible tasks are run to the end, as a thread pool does. On a durable store what is claimed
//!    but not begun is given back, and what runs may finish; a task that a running handler waits for is claimed and
//!    run, since the handler could not finish without it.
//! 3. When all is done, or at the deadline, the engine is `Stopped`: from now on no attempt begins.
//! 4. What still runs is given back and interrupted, once. On a resident store nobody will take it up again, but its
//!    handler finds that it no longer counts, and its report is refused.
//! 5. The services end, in the order in which they feed each other (news, timers, then the committer, which first writes all
//!    that was handed in). What the committer had claimed meanwhile is given back too.
//! 6. Whoever still waits for a task hears `ShutDown`.
//!
//! A worker thread that is stuck in a handler is not waited for; when it returns, its report is refused and it ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use taskloom_model::Operation;
use taskloom_store::{Batch, Commit, Filter, Task};

use crate::core::Core;
use crate::events::EventKind;
use crate::loops::Loops;
use crate::queues::Route;
use crate::{driver, edge, worker};

/// How to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Finish first, for as long as it takes.
    Finish,
    /// Finish first, but take no longer than this; zero calls off everything at once.
    Within(Duration),
}

/// The end of an engine, as far as it has been asked for.
#[derive(Default)]
pub(crate) struct Stopping {
    /// Whether it has been gone through with. One at a time tries.
    done: Mutex<bool>,
    /// The earliest that anybody asked for.
    deadline: Mutex<Option<Instant>>,
}

impl Stopping {
    pub(crate) fn deadline(&self) -> Option<Instant> {
        *self.deadline.lock()
    }

    fn bring_forward(&self, deadline: Option<Instant>) {
        let mut own = self.deadline.lock();
        *own = [*own, deadline].into_iter().flatten().min();
    }
}

/// Stops an engine.
pub(crate) fn stop(core: &Arc<Core>, how: Stop) {
    if core.check_process().is_err() {
        // A forked child: the threads are the parent's, and so is the store. Here is nothing to stop.
        core.mark_stopped();
        return;
    }
    core.stopping.bring_forward(match how {
        Stop::Finish => None,
        Stop::Within(span) => edge::deadline_in(span),
    });
    if core.committer.is_here(core) || core.timers.is_here() || core.others.is_here() {
        // An observer, called by a service that the end would wait for.
        let own = Arc::clone(core);
        begin(core, how);
        // If no thread can be had, the engine goes on draining; whoever drops it stops it.
        let _ = edge::spawn("taskloom-stop".into(), move || run(&own, how, None));
        return;
    }
    run(core, how, worker::number_in(core));
}

/// From now on the engine takes in nothing new, and whoever waits for its end looks at the deadline again.
fn begin(core: &Arc<Core>, how: Stop) {
    if core.drain() {
        core.publish_plain(EventKind::EngineStopping, |data| match how {
            Stop::Finish => data,
            Stop::Within(span) => data.seconds("within", span),
        });
    }
    core.pool.look_again();
    core.loops.look_again();
    core.pooled.look_again();
    core.room.look_again();
}

/// Goes through with it. `myself` is the worker that a handler calls this on, which must not wait for itself.
fn run(core: &Arc<Core>, how: Stop, myself: Option<usize>) {
    // Whoever sees that the engine drains finds somebody at it: a handler that stops it too, and would go through with
    // it itself, could not be waited for, and would be called off.
    let done = core.stopping.done.try_lock();
    begin(core, how);
    let done = match (done, myself) {
        // Whoever is at it waits for this very handler.
        (None, Some(_)) => None,
        (None, None) => Some(core.stopping.done.lock()),
        (done, _) => done,
    };
    if let Some(mut done) = done
        && !*done
    {
        match myself {
            Some(number) => core.pool.lend(core, number, None, || end(core, myself)),
            None => end(core, None),
        }
        *done = true;
    }
}

fn end(core: &Arc<Core>, myself: Option<usize>) {
    // Otherwise a service has died, and there is nothing that could still finish.
    if !core.is_stopped() {
        if !core.capability.resident {
            core.committer.give_back_unbegun(core, unbegun(core));
            core.pool.awaited().iter().for_each(|task| core.run_awaited(task));
            core.run_needed();
        }
        finish(core, myself);
        core.mark_stopped();
    }
    core.sleepers.notify_all();
    let unfinished = call_off(core);
    core.others.stop(core);
    core.timers.stop();
    core.committer.stop(core);
    if let Some(driver) = &core.driver {
        driver.leave();
    }
    if !core.capability.resident {
        give_back_the_rest(core);
    }
    settle_the_rest(core);
    core.loops.set_host(None);
    core.pooled.set_host(None);
    say_goodbye(core, unfinished);
}

/// Ends the stream of events. Whoever reads it has the rest of it, and then its end.
fn say_goodbye(core: &Core, unfinished: usize) {
    core.publish_the_end(unfinished);
}

/// Waits until there is nothing left to run, or until the deadline.
fn finish(core: &Arc<Core>, myself: Option<usize>) {
    if let Some(driver) = &core.driver {
        // By its own clock it takes no time, and by the real one only that of the handlers.
        let out_of_time =
            || core.stopping.deadline().is_some_and(|end| edge::deadline_in(Duration::ZERO) >= Some(end));
        let _ = driver::rest(core, driver, &out_of_time);
        return;
    }
    loop {
        core.sleepers.notify_all();
        core.loops.wake();
        core.pooled.wake();
        let Some(threads) = core.pool.wait_empty(core, myself) else { return };
        let taken = [&core.loops, &core.pooled].map(Loops::ever_taken);
        if !core.loops.wait_idle(core) || !core.pooled.wait_idle(core) {
            return;
        }
        // What ran in the one may have handed something to the other.
        if [&core.loops, &core.pooled].map(Loops::ever_taken) != taken || core.loops.is_busy(core) {
            continue;
        }
        // If no thread was started since there was none, none has handed anything to the loop, and the loop, which is
        // idle now, has handed nothing to a thread.
        if core.pool.ever_started() == threads {
            return;
        }
    }
}

/// Calls off whatever runs; how many attempts.
fn call_off(core: &Arc<Core>) -> usize {
    let running = core.running.all();
    let released =
        running.iter().map(|(task, fence)| (Arc::clone(task), Operation::Release { fence: *fence }));
    let verdicts = core.committer.change_all(core, released.collect());
    for ((task, fence), verdict) in running.iter().zip(verdicts) {
        // Those that were given back have been interrupted as that followed. If the store fails, the others must hear
        // of it all the same.
        if verdict.is_err() && core.running.contains(task, *fence) {
            core.runtime.interrupt(task, *fence);
        }
    }
    running.len()
}

/// Takes what this process claimed and has not begun out of the lanes, to give it back.
fn unbegun(core: &Arc<Core>) -> Vec<(Arc<Task>, Operation)> {
    let mut unbegun = Vec::new();
    for task in core.trials.close(core) {
        if let Some(fence) = core.take_back(&task) {
            unbegun.push((task, Operation::Release { fence }));
        }
    }
    while let Some(task) = core.loops.next_by_hand().or_else(|| core.pooled.next_by_hand()) {
        if let Some(fence) = core.take_back(&task) {
            unbegun.push((task, Operation::Release { fence }));
        }
    }
    for route in Route::ALL {
        while let Some(task) = core.queues.take_any(route) {
            if let Some(fence) = core.take_back(&task) {
                unbegun.push((task, Operation::Release { fence }));
            }
        }
    }
    unbegun
}

/// Gives back what the committer claimed to the last, and strikes this process off.
fn give_back_the_rest(core: &Arc<Core>) {
    let commits =
        unbegun(core).into_iter().map(|(task, operation)| Commit { task, operation, spawn: Vec::new() });
    let mut batch = Batch { commits: commits.collect(), ..Batch::default() };
    let now = core.clock.now();
    // If the store fails here, the next process finds this one dead after a lease.
    if !batch.is_empty() {
        let _ = core.store.write(&mut batch, &core.live, now);
    }
    let _ = core.store.bury(core.owner(), &core.live, &mut Vec::new(), now);
}

/// Lets everybody know that nothing more will happen.
fn settle_the_rest(core: &Core) {
    if core.capability.resident {
        let all = Filter { limit: usize::MAX, ..Filter::default() };
        for task in core.store.list(&all, &core.live).unwrap_or_default() {
            task.settle();
        }
    } else {
        core.live.all().iter().for_each(|task| task.settle());
        // Those of older generations.
        core.others.give_up();
    }
}

/// The end of an engine one of whose services has panicked: nobody waits for what will never come.
pub(crate) fn die(core: &Arc<Core>) {
    core.drain();
    core.mark_stopped();
    core.sleepers.notify_all();
    settle_the_rest(core);
    core.loops.set_host(None);
    core.pooled.set_host(None);
    say_goodbye(core, 0);
}
