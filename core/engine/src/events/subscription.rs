//! The reader's side of a subscription.
//!
//! It can be read in three ways: one event at a time, waiting ([`Subscription::next`]); in batches, without waiting
//! ([`Subscription::drain`]), after a wait or from a loop of its own; or from a foreign event loop, which sets a waker
//! and drains when that was called. One thread reads; more may, and then share the events among them.
//!
//! Where events were dropped, the reader makes the `events.dropped` that stands for them: publishers are spared that,
//! and a subscriber that never reads costs nothing more.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::catalog::EventKind;
use super::channel::{Channel, Gap, Taken, Waker};
use super::json::Object;
use super::{Event, EventName, Events};

/// How many events may wait for a subscriber, unless it says otherwise.
pub const DEFAULT_CAPACITY: usize = 10_000;

/// How to subscribe.
#[derive(Clone, Debug)]
pub struct SubscriptionOptions {
    /// How many events may wait for the reader; those beyond are dropped and counted.
    pub capacity: usize,
    /// What it is called where drops are told; numbered unless given.
    pub name: Option<String>,
}

impl Default for SubscriptionOptions {
    fn default() -> Self {
        Self { capacity: DEFAULT_CAPACITY, name: None }
    }
}

/// A stream of events. Dropping it ends the subscription.
pub struct Subscription {
    events: Events,
    channel: Arc<Channel>,
}

impl Subscription {
    pub(super) fn new(events: Events, channel: Arc<Channel>) -> Self {
        Self { events, channel }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.channel.name
    }

    /// What it subscribes to.
    pub fn pattern(&self) -> &str {
        self.channel.pattern.as_str()
    }

    /// The next event, waited for until the deadline; for ever, if there is none. `None` at the deadline, and at the
    /// end, which [`Subscription::is_ended`] tells apart.
    pub fn next(&self, deadline: Option<Instant>) -> Option<Arc<Event>> {
        Some(match self.channel.next(deadline)? {
            Taken::Event(event) => event,
            Taken::Gap(gap) => self.tell(gap),
        })
    }

    /// Takes at most `max` of what is there, without waiting; how many. Zero means that there is nothing left, and
    /// that the waker will be called for what comes next.
    pub fn drain(&self, out: &mut Vec<Arc<Event>>, max: usize) -> usize {
        let before = out.len();
        while let Some(gap) = self.channel.drain(out, max - (out.len() - before)) {
            out.push(self.tell(gap));
        }
        out.len() - before
    }

    /// Waits until there is something to take, until the end or until the deadline; whether there is something.
    pub fn wait(&self, deadline: Option<Instant>) -> bool {
        self.channel.wait(deadline)
    }

    /// Sets what is called, on a publisher's thread, when the buffer goes from empty to not empty, and at the end; at
    /// once, if there is something to take already. It must not wait. Whoever is woken drains until there is nothing
    /// left. A call that is under way when another waker is set may still arrive.
    pub fn set_waker(&self, waker: Option<Waker>) {
        self.channel.set_waker(waker);
    }

    /// How many events wait.
    pub fn len(&self) -> usize {
        self.channel.len()
    }

    /// Whether no event waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many events it has missed.
    pub fn dropped(&self) -> u64 {
        self.channel.dropped()
    }

    /// Whether everything has been taken and nothing more will come.
    pub fn is_ended(&self) -> bool {
        self.channel.is_ended()
    }

    /// Ends the subscription, from any thread: what still waits is forgotten, and readers see the end.
    pub fn close(&self) {
        self.events.unsubscribe(&self.channel);
    }

    /// Makes the event that stands for those that were dropped, and tells others who want to know.
    fn tell(&self, gap: Gap) -> Arc<Event> {
        let data = Object::new()
            .text("subscriber", self.name())
            .plain("pattern", self.pattern())
            .count("dropped", gap.dropped)
            .count("total", gap.total)
            .build();
        let kind = EventKind::EventsDropped;
        let event = self.events.make(EventName::Known(kind), gap.until, None, data);
        if self.events.is_wanted(kind) {
            self.events.send_made(&event, kind, Some(&self.channel));
        }
        event
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // Nobody is left to be woken.
        self.channel.set_waker(None);
        self.close();
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("name", &self.name()).field("pattern", &self.pattern()).finish()
    }
}
