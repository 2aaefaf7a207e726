//! How far ahead of its workers this process claims where others share the store.
//!
//! What is claimed and has not begun is lost to other processes for as long. Alone, a process fills its lanes. In company
//! it holds, beside what its idle hands can begin at once, no more than it lately began in [`HELD`]: its *reach*. Of tasks
//! that take a second that is none, of a hundred thousand a second it is full lanes. So however the tasks are made, a
//! process never stands idle for long while another sits on them; and a quick task that was claimed behind a slow one goes
//! to whoever is free.
//!
//! # What it owns
//! For each route its reach, how many tasks have been taken from its lanes, and whether those who run them came away with
//! nothing; and when it looks next. It looks every [`SPAN`] while something is in the lanes, with the timers, and gives back
//! what is beyond the reach, the last in line first. When nothing was in the lanes for [`QUIET`] looks it looks no more,
//! until a claim brings something again.
//!
//! # Why nobody waits for ever
//! A reach of nothing still lets a claim fill idle hands. Whoever finds the lanes empty has counted as idle
//! ([`taskloom_sync::Sleepers`], or the free places of a loop) *before* it has the committer look again, and the committer decides under
//! the lock of its inbox: so the one or the other sees that there is room.
//!
//! # Failure
//! If what is given back cannot be written it comes back when this process ends, as with a pause. The store is not
//! asked for anything else.
//!
//! An engine that is driven has no idle hands, since one thread is all that it has; it claims as if it were alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use taskloom_model::Operation;

use crate::core::Core;
use crate::queues::Route;

/// How many claimed tasks a route's lanes hold ready at most; each claim costs a part of a transaction, so not too few.
pub(crate) const LANE: usize = 512;

/// How often it looks.
const SPAN: Duration = Duration::from_millis(50);

/// In company the lanes hold what is begun in so many spans.
const HELD: usize = 4;

/// After so many looks at empty lanes it looks no more.
const QUIET: u32 = 20;

#[derive(Default)]
pub(crate) struct Reach {
    /// Another process shares the store.
    company: AtomicBool,
    /// It looks every now and then.
    looks: AtomicBool,
    routes: [OfRoute; 3],
    look: Mutex<Look>,
}

#[derive(Default)]
struct OfRoute {
    reach: AtomicUsize,
    /// How many tasks were ever taken from the lanes.
    taken: AtomicUsize,
}

#[derive(Default)]
struct Look {
    next: Duration,
    quiet: u32,
    /// What had been taken at the last look.
    taken: [usize; 3],
}

impl Reach {
    fn of(&self, route: Route) -> &OfRoute {
        &self.routes[route as usize]
    }

    /// Whether another process shares the store; looked at with every beat.
    pub(crate) fn set_company(&self, core: &Core, company: bool) {
        if company != self.company.swap(company, Ordering::Relaxed) && company {
            self.filled(core);
        }
    }

    /// Somebody has taken a task from the lanes of a durable store.
    pub(crate) fn took(&self, route: Route) {
        self.of(route).taken.fetch_add(1, Ordering::Relaxed);
    }

    /// A claim has put tasks into the lanes.
    pub(crate) fn filled(&self, core: &Core) {
        if self.company.load(Ordering::Relaxed)
            && core.driver.is_none()
            && !self.looks.load(Ordering::Relaxed)
            && !self.looks.swap(true, Ordering::AcqRel)
        {
            *self.look.lock() = Look { next: core.clock.monotonic() + SPAN, quiet: 0, taken: self.taken() };
            core.timers.watch(core.clock.monotonic() + SPAN);
        }
    }

    /// How many more tasks of a route may be claimed now; none if it is not worth a claim.
    pub(crate) fn room(&self, core: &Core, route: Route) -> Option<usize> {
        if core.queues.are_shut_to(route) {
            // Nobody could begin it: see `trials`.
            return None;
        }
        let held = core.queues.len(route);
        // A small claim might get nothing but tasks that only others can run, over and over.
        let alone =
            !self.company.load(Ordering::Relaxed) || core.driver.is_some() || core.registry.has_strays();
        let (most, enough) = if alone {
            (LANE, LANE / 2)
        } else {
            let reach = self.of(route).reach.load(Ordering::Relaxed);
            let most = reach.saturating_add(self.idle_hands(core, route)).min(LANE);
            (most, if held == 0 { 1 } else { most.div_ceil(2).max(1) })
        };
        Some(most.saturating_sub(held)).filter(|room| *room >= enough)
    }

    /// How many tasks of a route could begin at once.
    fn idle_hands(&self, core: &Core, route: Route) -> usize {
        if core.queues.are_shut_to(route) {
            return 0;
        }
        match route {
            Route::Blocking => core.sleepers.sleeping() + core.sleepers.searching(),
            Route::Asynchronous => core.loops.idle_hands(),
            Route::Pooled => core.pooled.idle_hands(),
        }
    }

    fn taken(&self) -> [usize; 3] {
        Route::ALL.map(|route| self.of(route).taken.load(Ordering::Relaxed))
    }

    /// Looks if it is time to; how long to wait before the next call.
    pub(crate) fn step(&self, core: &Arc<Core>, monotonic: Duration) -> Duration {
        if !self.looks.load(Ordering::Relaxed) || !core.is_open() {
            return Duration::MAX;
        }
        let mut look = self.look.lock();
        if monotonic < look.next {
            return look.next - monotonic;
        }
        let taken = self.taken();
        let mut empty = true;
        for route in Route::ALL {
            let held = core.queues.held(route);
            let lately = taken[route as usize].wrapping_sub(look.taken[route as usize]);
            empty &= held == 0;
            let of = self.of(route);
            let reach = next_reach(of.reach.load(Ordering::Relaxed), lately, held);
            of.reach.store(reach, Ordering::Relaxed);
            // What idle hands are about to take is not beyond it.
            let most = reach.saturating_add(self.idle_hands(core, route));
            if held > most {
                give_back_beyond(core, route, most);
            }
        }
        look.taken = taken;
        look.next = monotonic + SPAN;
        look.quiet = if empty { look.quiet + 1 } else { 0 };
        let goes_on = look.quiet < QUIET && self.company.load(Ordering::Relaxed);
        self.looks.store(goes_on, Ordering::Release);
        drop(look);
        // A reach may have grown.
        core.committer.look_again(core);
        if goes_on { SPAN } else { Duration::MAX }
    }
}

/// The reach after a span in which so many tasks were taken from the lanes, which now hold so many. It shrinks only where
/// too many are held, and grows at once: claims that turn out too small cost more than those that are given back in part.
fn next_reach(reach: usize, lately: usize, held: usize) -> usize {
    let worth = lately.saturating_mul(HELD).min(LANE);
    if held > worth { worth } else { reach.max(worth) }
}

/// Leaves those first in line in the lanes, and gives the others back.
fn give_back_beyond(core: &Arc<Core>, route: Route, most: usize) {
    let mut all: Vec<_> = std::iter::from_fn(|| core.queues.take_any(route)).collect();
    let beyond = all.split_off(most.min(all.len()));
    all.into_iter().for_each(|task| core.enqueue(task));
    let released: Vec<_> = beyond
        .into_iter()
        .filter_map(|task| core.take_back(&task).map(|fence| (task, Operation::Release { fence })))
        .collect();
    if !released.is_empty() {
        core.committer.give_back_unbegun(core, released);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reach_is_what_was_begun_lately() {
        // (reach before, taken in the span, held now) → reach
        for (given, then) in [
            ((LANE, 0, 5), 0),
            ((0, 0, 0), 0),
            ((0, 1, 0), HELD),
            ((0, 100, 0), 100 * HELD),
            ((0, 1_000_000, 0), LANE),
            ((LANE, 1, 500), HELD),
            ((LANE, 100, 300), LANE),
            ((LANE, 0, 0), LANE),
            ((40, usize::MAX, 40), LANE),
        ] {
            assert_eq!(next_reach(given.0, given.1, given.2), then, "{given:?}");
        }
    }
}
