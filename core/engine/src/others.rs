//! What other processes do to a store that they share with this one.
//!
//! A thread waits for news ([`taskloom_store::Store::await_news`]) and has those look whom it concerns: the committer, for
//! eligible tasks; the timers, for times; the leases, for an owner that has died; and, here, the tasks that somebody in
//! this process waits for or runs. Whoever waits for a task that another process runs hears of its end this way, and a
//! handler here of a cancel there.
//!
//! # What it owns
//! The list of awaited tasks: those that somebody waits for or observes and that have not settled. It holds them
//! weakly, each by itself: there may be two with one id, of which the older has ended, and was started over elsewhere. A
//! task is put in *before* it is looked at once more, so its end is seen by that look, or is news after it.
//!
//! # Bounds
//! Each piece of news costs a read for each awaited and each running task. However many there are, at most a quarter of
//! the thread's time goes into that: it looks again after three times as long as the last look took. News that come
//! meanwhile are one piece.
//!
//! # Failure
//! A read that fails is made again with the next news, and every [`SAFETY`] in any case. If the thread panics, the
//! engine stops.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use taskloom_model::{Code, Error, Result};
use taskloom_store::{News, Task};

use crate::core::Core;
use crate::{edge, shutdown};

/// Without any news it looks this often.
const SAFETY: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(crate) struct Others {
    /// By where they lie, which nobody else does before they are out of here.
    awaited: Mutex<HashMap<usize, Weak<Task>>>,
    life: Mutex<Life>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Where there is no thread: what it would remember.
    watch: Mutex<Watch>,
}

/// What the thread remembers from one piece of news to the next.
struct Watch {
    /// There is something to look at.
    unseen: bool,
    /// How long to wait for news.
    limit: Duration,
    /// Not before this time does it look again.
    next: Duration,
}

impl Default for Watch {
    fn default() -> Self {
        Self { unseen: true, limit: Duration::ZERO, next: Duration::ZERO }
    }
}

#[derive(Default)]
struct Life {
    running: bool,
    stopping: bool,
}

impl Others {
    /// Somebody waits for this task, and will hear of its end whoever runs it.
    pub(crate) fn expect(&self, core: &Arc<Core>, task: &Arc<Task>) {
        if core.capability.resident || task.is_settled() {
            return;
        }
        if core.is_stopped() {
            return task.settle();
        }
        self.awaited.lock().insert(Arc::as_ptr(task).addr(), Arc::downgrade(task));
        // Without the thread, nobody hears of others; the tasks of this process are settled all the same.
        let _ = self.start(core);
        if core.absence.lost().is_some() {
            task.settle();
            return;
        }
        look_at(core, task);
    }

    /// The store has gone, or the engine ends: nobody here will hear of any end.
    pub(crate) fn give_up(&self) {
        let awaited = std::mem::take(&mut *self.awaited.lock());
        awaited.into_values().filter_map(|task| task.upgrade()).for_each(|task| task.settle());
    }

    /// Starts the thread, if there is none and the store is shared.
    pub(crate) fn start(&self, core: &Arc<Core>) -> Result<()> {
        let mut life = self.life.lock();
        if core.capability.resident || life.running || life.stopping {
            return Ok(());
        }
        let own = Arc::clone(core);
        let body = move || {
            let _guard = Dying(&own);
            own.others.live(&own);
        };
        let thread = edge::spawn("taskloom-news".into(), body).map_err(|cause| {
            Error::new(
                Code::StoreFailed,
                "the system would not start the thread that hears of other processes",
            )
            .caused_by(cause)
        })?;
        *self.thread.lock() = Some(thread);
        life.running = true;
        Ok(())
    }

    /// For an engine that is stepped or driven: there never is a thread.
    pub(crate) fn stay_without_thread(&self) {
        self.life.lock().stopping = true;
    }

    /// Ends the thread.
    pub(crate) fn stop(&self, core: &Core) {
        self.life.lock().stopping = true;
        core.store.rouse();
        edge::join(&self.thread);
    }

    /// Whether the calling thread is the one that hears of others.
    pub(crate) fn is_here(&self) -> bool {
        let thread = self.thread.lock();
        thread.as_ref().is_some_and(|thread| thread.thread().id() == std::thread::current().id())
    }

    fn live(&self, core: &Arc<Core>) {
        let mut watch = Watch::default();
        loop {
            let news = core.store.await_news(watch.limit);
            if self.life.lock().stopping {
                return;
            }
            self.hear(core, &mut watch, news);
        }
    }

    /// For an engine that is driven: hears what there is, and says how long it may be until it is to look again.
    pub(crate) fn step(&self, core: &Arc<Core>) -> Duration {
        if core.capability.resident {
            return Duration::MAX;
        }
        // If somebody is at it, that is on this very thread.
        let Some(mut watch) = self.watch.try_lock() else { return Duration::MAX };
        let news = core.store.await_news(Duration::ZERO);
        self.hear(core, &mut watch, news);
        watch.limit
    }

    fn hear(&self, core: &Arc<Core>, watch: &mut Watch, news: News) {
        if news.deaths {
            core.timers.observe_owners();
        }
        if news.changes {
            watch.unseen = true;
            core.committer.ask_for_more();
            core.timers.look_now();
        }
        let now = core.clock.monotonic();
        watch.unseen |= now >= watch.next + SAFETY;
        if watch.unseen && now >= watch.next {
            self.look(core);
            watch.unseen = false;
            let cost = core.clock.monotonic().saturating_sub(now);
            watch.next = now + 4 * cost;
        }
        watch.limit = if watch.unseen { watch.next.saturating_sub(now) } else { SAFETY };
    }

    fn look(&self, core: &Arc<Core>) {
        if !core.pool.was_started() {
            // Nobody beats here, who would look.
            core.absence.step(core, core.clock.monotonic());
        }
        let mut awaited = Vec::new();
        self.awaited.lock().retain(|_, task| {
            let task = task.upgrade().filter(|task| !task.is_settled());
            awaited.extend(task.clone());
            task.is_some()
        });
        // Not in the order of a hash table.
        awaited.sort_by_cached_key(|task| (task.id(), task.with_row(|row| row.generation)));
        for task in awaited {
            look_at(core, &task);
        }
        for (task, fence) in core.running.all() {
            refresh(core, &task);
            if !task.is_current(fence) {
                core.ended_elsewhere(&task, fence);
                core.running.call_off(&task, fence);
                core.runtime.interrupt(&task, fence);
                // The timer sees to reminders, and to a thread that does not come back.
                core.timers.look_now();
            }
        }
    }
}

/// Looks at a task that somebody waits for, unless it is this process's own to end.
fn look_at(core: &Arc<Core>, task: &Arc<Task>) {
    if task.with_row(|row| row.owner) != Some(core.owner()) {
        refresh(core, task);
    }
}

/// Has a task show what is stored; if that is its end, or if it was forgotten after it, it settles.
///
/// Of an end that our own committer has written it tells first, and settles the task then. It may have written this one if
/// the task ran here, or shows its end already (unless somebody has looked at the store since another process ended it):
/// then the task is left to it, to settle when it has told all. What our timers have ended (expired tasks, those of dead
/// owners) may settle a moment before they tell of it.
pub(crate) fn refresh(core: &Arc<Core>, task: &Arc<Task>) {
    if core.capability.resident || task.is_settled() {
        return;
    }
    let (ended, own) =
        task.with_row(|row| (row.state.is_terminal(), row.owner.is_some_and(|owner| owner == core.owner())));
    if ended {
        core.committer.settle_in_turn(core, Arc::clone(task));
        return;
    }
    let gone = match core.store.get(task.id(), &core.live) {
        Ok(Some(found)) => {
            if !Arc::ptr_eq(&found, task) {
                task.replace_row(found.with_row(Clone::clone));
            }
            task.state().is_terminal()
        }
        // It was accepted once.
        Ok(None) => true,
        Err(_) => false,
    };
    if gone && own {
        core.committer.settle_in_turn(core, Arc::clone(task));
    } else if gone {
        task.settle();
    }
}

/// Ends everything if the thread panics: waits without an end would follow.
struct Dying<'a>(&'a Arc<Core>);

impl Drop for Dying<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            shutdown::die(self.0);
        }
    }
}
