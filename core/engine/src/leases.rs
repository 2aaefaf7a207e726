//! Proof of life on a store that outlives its processes.
//!
//! Every process moves a counter on ([`taskloom_store::Store::beat`]). An observer keeps, for each other owner, the
//! counter's last value and when, on the observer's own monotonic clock, it last saw it move. An owner whose counter
//! has stood still for a lease is dead, and what it ran goes back. No two clocks are ever compared, so a clock that
//! jumps kills nobody.
//!
//! A store may know more: that the process of an owner has ended ([`taskloom_store::Owner::gone`]). Such a one is dead at
//! once, and the observer is told when to look ([`crate::others`]).
//!
//! If this process itself was struck off (it was frozen for longer than a lease, or did not run its services), it joins
//! again under a new number. What it ran before belongs to others now, and its late reports are refused by the fence.
//! A claim that it had decided on under the old number gets nothing: the store refuses those who were struck off.
//!
//! Each beat is also the slow safety check for eligible tasks that another process has left in the store.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use taskloom_model::planted::{self, Bug};
use taskloom_model::{Code, OwnerId, Timestamp};

use crate::core::Core;
use crate::edge;

/// How long a counter must stand still.
const LEASE: Duration = Duration::from_secs(10);

/// How often this process moves its own on.
const BEAT: Duration = Duration::from_secs(2);

/// Moves this process's counter on; if it was struck off, joins again.
pub(crate) fn beat(core: &Arc<Core>, now: Timestamp) {
    let old = core.owner();
    if let Err(error) = core.store.beat(old)
        && error.code() == Code::LeaseLost
        && let Ok(new) = core.store.join(&edge::owner_name(core.name.as_deref()), now)
    {
        core.store.note_begun(new, 0, None, false);
        core.set_owner(new);
        core.registry.forget_noted();
        // The store lets go of what it keeps for the old one, such as the lock on its file.
        bury(core, old, now);
    }
}

fn bury(core: &Arc<Core>, dead: OwnerId, now: Timestamp) -> bool {
    let mut changes = Vec::new();
    let buried = core.store.bury(dead, &core.live, &mut changes, now).is_ok();
    core.follow_all(&mut changes);
    buried
}

#[derive(Default)]
pub(crate) struct Leases {
    next_beat: Duration,
    seen: HashMap<OwnerId, (u64, Duration)>,
}

impl Leases {
    /// Beats and observes if it is time to, and says how long to wait before the next call. `observe`: somebody may have
    /// died just now.
    pub(crate) fn step(
        &mut self,
        core: &Arc<Core>,
        observe: bool,
        now: Timestamp,
        monotonic: Duration,
    ) -> Duration {
        let is_due = monotonic >= self.next_beat;
        if !is_due && !observe {
            return self.next_beat - monotonic;
        }
        if is_due {
            self.next_beat = monotonic + BEAT;
            core.absence.step(core, monotonic);
            beat(core, now);
            core.follow_pauses();
            core.committer.ask_for_more();
        }
        for dead in self.observe(core, monotonic) {
            if planted::is(Bug::ForgottenOwner) {
                continue;
            }
            if bury(core, dead, now) {
                self.seen.remove(&dead);
            }
        }
        self.next_beat - monotonic
    }

    fn observe(&mut self, core: &Core, monotonic: Duration) -> Vec<OwnerId> {
        let Ok(owners) = core.store.owners() else { return Vec::new() };
        let me = core.owner();
        core.reach.set_company(core, owners.iter().any(|owner| owner.id != me && !owner.gone));
        self.seen.retain(|id, _| owners.iter().any(|owner| owner.id == *id));
        let mut dead = Vec::new();
        for owner in owners.into_iter().filter(|owner| owner.id != me) {
            if owner.gone {
                dead.push(owner.id);
                continue;
            }
            let (beats, since) = self.seen.entry(owner.id).or_insert((owner.beats, monotonic));
            if *beats != owner.beats {
                (*beats, *since) = (owner.beats, monotonic);
            } else if monotonic >= *since + LEASE {
                dead.push(owner.id);
            }
        }
        dead
    }
}
