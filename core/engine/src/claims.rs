//! What this process claims from a store that it shares with others.
//!
//! Tasks are claimed in batches, ahead of the workers, and wait in the lanes as this process's own. `More` says, for
//! each route, whether the store may hold eligible tasks that nobody here has claimed. It is lowered when a claim is
//! decided on and raised again if the claim got all that it asked for, so a task that becomes eligible meanwhile is
//! seen. A route with full lanes, or with nobody to run its tasks, is left out and stays raised. How far ahead is said by
//! [`crate::reach`].

use taskloom_store::Claim;

use crate::core::Core;
use crate::queues::Route;
use crate::reach::LANE;

/// The routes for which the store may hold more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct More {
    blocking: bool,
    asynchronous: bool,
    pooled: bool,
}

impl More {
    pub(crate) const ALL: Self = Self { blocking: true, asynchronous: true, pooled: true };

    pub(crate) fn any(self) -> bool {
        self != Self::default()
    }

    fn has(self, route: Route) -> bool {
        match route {
            Route::Blocking => self.blocking,
            Route::Asynchronous => self.asynchronous,
            Route::Pooled => self.pooled,
        }
    }

    fn raise(&mut self, route: Route) {
        match route {
            Route::Blocking => self.blocking = true,
            Route::Asynchronous => self.asynchronous = true,
            Route::Pooled => self.pooled = true,
        }
    }

    pub(crate) fn with(self, other: Self) -> Self {
        Self {
            blocking: self.blocking || other.blocking,
            asynchronous: self.asynchronous || other.asynchronous,
            pooled: self.pooled || other.pooled,
        }
    }

    pub(crate) fn without(self, other: Self) -> Self {
        Self {
            blocking: self.blocking && !other.blocking,
            asynchronous: self.asynchronous && !other.asynchronous,
            pooled: self.pooled && !other.pooled,
        }
    }
}

/// A claim that can be made now.
pub(crate) struct Room {
    pub(crate) claim: Claim,
    /// The routes that it is for.
    pub(crate) routes: More,
}

/// The claim to make now, if any: for the routes that may have more, somebody to run it, and room for it.
pub(crate) fn room(core: &Core, more: More) -> Option<Room> {
    if !more.any() || !core.is_open() {
        return None;
    }
    let (mut names, mut limit, mut routes) = (Vec::new(), LANE, More::default());
    let turn = core.queues.claims();
    for at in 0..Route::ALL.len() {
        // Each in turn comes first.
        let route = Route::ALL[(turn + at) % Route::ALL.len()];
        let served = match route {
            Route::Blocking => core.pool.was_started(),
            Route::Asynchronous => core.loops.has_host(),
            Route::Pooled => core.pooled.has_host(),
        };
        if !more.has(route) || !served {
            continue;
        }
        let Some(room) = core.reach.room(core, route) else { continue };
        if routes.any() && room != limit {
            // One that takes few would hold up one that takes many: it has the next claim.
            continue;
        }
        let before = names.len();
        core.handler_names(route, &mut names);
        if names.len() > before {
            limit = limit.min(room);
            routes.raise(route);
        }
    }
    let (queues, most) = core.queues.claim_order();
    let limit = limit.min(most);
    let claim = Claim { owner: core.owner(), queues: queues.into(), names: names.into(), limit };
    routes.any().then_some(Room { claim, routes })
}
