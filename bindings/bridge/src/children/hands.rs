//! What is in a child's hands: how it is written down for the child, and how much it is.

use std::collections::VecDeque;
use std::time::Duration;

use taskloom_engine::{Attempt, Completion};

use super::PooledHandler;
use super::handing::WINDOW;
use super::wire::{Outgoing, down};
use std::sync::Arc;

/// A child is given no more tasks than this, nor more bytes of payloads.
pub(super) const MOST: usize = 512;
const MOST_BYTES: usize = 1 << 20;

/// A task that a child was given.
pub(super) struct InHand {
    pub(super) seq: u64,
    pub(super) attempt: Attempt,
    pub(super) completion: Completion,
    pub(super) handler: Arc<PooledHandler>,
    /// Where it begins among what is written for the child.
    pub(super) mark: u64,
    /// Since when it does not count any more.
    pub(super) called_off: Option<Duration>,
}

/// What a child has to do.
pub(super) struct Load {
    pub(super) expected: Duration,
    tasks: usize,
    bytes: usize,
}

impl Load {
    pub(super) fn of(hands: &VecDeque<InHand>) -> Self {
        let mut load = Self { expected: Duration::ZERO, tasks: 0, bytes: 0 };
        hands.iter().for_each(|own| load.add(own));
        load
    }

    pub(super) fn add(&mut self, own: &InHand) {
        // One that nobody knows may take long.
        self.expected += own.handler.expected().unwrap_or(WINDOW);
        self.tasks += 1;
        self.bytes += own.attempt.task().spec().payload.len();
    }

    pub(super) fn has_room(&self, window: Duration) -> bool {
        self.expected < window && self.tasks < MOST && self.bytes < MOST_BYTES
    }
}

/// Writes a task down for a child.
pub(super) fn write_task(out: &mut Outgoing, own: &InHand) {
    let task = own.attempt.task();
    let spec = task.spec();
    let failures = task.with_row(|row| row.failures);
    out.frame(down::TASK, |out| {
        out.u64(own.seq);
        out.u32(own.handler.number);
        out.u64(u64::from_be_bytes(task.id().as_bytes()[..8].try_into().expect("half of sixteen bytes")));
        out.u64(u64::from_be_bytes(task.id().as_bytes()[8..].try_into().expect("half of sixteen bytes")));
        out.u32(own.attempt.fence().attempt);
        out.u32(failures);
        out.u8((failures >= spec.retries).into());
        out.bytes(&spec.payload);
        out.text(spec.queue.as_str());
        out.maybe(own.attempt.time_left(), |out, left| out.f64(left.as_secs_f64()));
        out.maybe(spec.deadline(), |out, at| out.i64(at.micros()));
        out.maybe(spec.rare.as_ref(), |out, rare| {
            out.u32(spec.tags().len() as u32);
            spec.tags().iter().for_each(|tag| out.text(tag));
            out.u32(rare.metadata.len() as u32);
            for (key, value) in &rare.metadata {
                out.text(key);
                out.text(value);
            }
            out.maybe(rare.correlation_id.as_deref(), Outgoing::text);
            out.maybe(spec.scheduled(), |out, scheduled| {
                out.text(&scheduled.schedule);
                out.i64(scheduled.tick.micros());
            });
        });
    });
}
