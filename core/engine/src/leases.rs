//! Proof of life on a store that outlives its processes.
//!
//! Every process moves a counter on ([`taskloom_store::Store::beat`]). An observer keeps, for each other owner, the
//! counter's last value and when, on the observer's own monotonic clock, it last saw it move. An owner whose counter
//! has stood still for a lease is dead, and what it ran goes back. No two clocks are ever compared, so a clock that
//! jumps kills nobody.
//!
//! If this process itself was struck off (it was frozen for longer than a lease), it joins again under a new number.
//! What it ran before belongs to others now, and its late reports are refused by the fence.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use taskloom_model::{Code, OwnerId, Timestamp};

use crate::core::Core;
use crate::edge;

/// How long a counter must stand still.
const LEASE: Duration = Duration::from_secs(10);

/// How often this process moves its own on.
const BEAT: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(crate) struct Leases {
    next_beat: Duration,
    seen: HashMap<OwnerId, (u64, Duration)>,
}

impl Leases {
    /// Beats and observes if it is time to, and says how long to wait before the next call.
    pub(crate) fn step(&mut self, core: &Arc<Core>, now: Timestamp, monotonic: Duration) -> Duration {
        if monotonic < self.next_beat {
            return self.next_beat - monotonic;
        }
        self.next_beat = monotonic + BEAT;
        if let Err(error) = core.store.beat(core.owner())
            && error.code() == Code::LeaseLost
            && let Ok(owner) = core.store.join(&edge::process_name(), now)
        {
            core.set_owner(owner);
        }
        for dead in self.observe(core, monotonic) {
            let mut changes = Vec::new();
            if core.store.bury(dead, &core.live, &mut changes, now).is_ok() {
                self.seen.remove(&dead);
                core.follow_all(&mut changes);
            }
        }
        BEAT
    }

    fn observe(&mut self, core: &Core, monotonic: Duration) -> Vec<OwnerId> {
        let Ok(owners) = core.store.owners() else { return Vec::new() };
        let me = core.owner();
        self.seen.retain(|id, _| owners.iter().any(|owner| owner.id == *id));
        let mut dead = Vec::new();
        for owner in owners.into_iter().filter(|owner| owner.id != me) {
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
