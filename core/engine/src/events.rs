//! Events: facts about tasks and the engine, told to whoever subscribed.
//!
//! # What it owns
//! The subscriptions of one engine: for each a buffer between publishers and its reader ([`channel`]), and the set of
//! kinds that anybody wants at all.
//!
//! # What a publisher pays
//! Nothing, if nobody wants the kind: one relaxed load of a word that is written only when somebody subscribes or
//! leaves, and a test of a bit; the event's data is not even written. Relaxed is enough. Who subscribes before something
//! happens, in the sense that the one is ordered before the other, finds it: the ordering that makes it so also carries
//! the word. Nothing is promised about what happens at the same time. Otherwise it writes the data once, makes one
//! event that all subscribers share, and puts it into their buffers. It never waits for a reader and never runs a
//! subscriber's code, but for the waker that a foreign event loop set; that is called under no lock, and its panic is
//! caught.
//!
//! # Order
//! * What one thread publishes, every subscriber sees in that order; so too what two threads publish, if the first call
//!   returned before the second began.
//! * Of what is published at the same time, two subscribers may see different orders.
//! * The moves of one task are committed one after the other, but published after their commits, by whoever made them.
//!   Events of one attempt come from one thread and are in order. When another thread has a hand in it (it cancels,
//!   or a timer does), the two events can change places. The event's time tells.
//! * Ids are unique, and those of one engine sort by time and, within a microsecond, by the order of publishing.
//!
//! # Delivery
//! At most once, in this process, and only to who has subscribed before: nothing is kept. What does not fit a buffer is
//! dropped, the newest first, and the reader is told in its place with `events.dropped`. Other subscribers of
//! `events.dropped` hear of it then too, from the reader's thread.
//!
//! # The end
//! [`Events::close_all`] ends every stream, after what is in the buffers. Threads that wait sleep on a lock of
//! parking_lot's, so the engine must call it when it stops: none may sleep there when the process is forked later.

mod catalog;
mod channel;
pub(crate) mod json;
mod kinds;
#[cfg(test)]
mod page;
mod pattern;
mod subscription;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use taskloom_model::{Code, Error, Result, TaskId, Timestamp};

pub use catalog::{Category, EventInfo, EventKind, Field, FieldType, catalog, info, info_named};
pub use channel::Waker;
pub use pattern::{Pattern, check_own_name};
pub use subscription::{DEFAULT_CAPACITY, Subscription, SubscriptionOptions};

use channel::{Channel, Wake};
use json::Object;

/// How large the data of a user's own event may be, in bytes: a buffer bounds how many events it holds, not how large
/// they are.
pub const MAX_EVENT_DATA: usize = 64 << 10;

/// The bit that says that a subscriber may want events of users' own. Kinds have the lower 60.
const OWN: u64 = 1 << 63;

/// How many names of users' own events are remembered with their subscribers.
const MAX_ROUTES: usize = 1024;

/// A fact.
#[derive(Debug)]
pub struct Event {
    name: EventName,
    /// Its own id: a UUID of version 7.
    pub id: TaskId,
    /// When it happened.
    pub time: Timestamp,
    /// The task that it is about.
    pub task: Option<TaskId>,
    /// What there is to say, as a JSON object.
    pub data: Box<str>,
}

#[derive(Debug)]
enum EventName {
    Known(EventKind),
    Own(Arc<str>),
}

impl Event {
    /// Its name, such as `task.succeeded`.
    pub fn name(&self) -> &str {
        match &self.name {
            EventName::Known(kind) => kind.name(),
            EventName::Own(name) => name,
        }
    }

    /// Which event of the catalogue it is; `None` for a user's own.
    pub fn kind(&self) -> Option<EventKind> {
        match &self.name {
            EventName::Known(kind) => Some(*kind),
            EventName::Own(_) => None,
        }
    }

    /// All of it as a JSON object: `name`, `id`, `time`, `task_id` (if it is about a task) and `data`.
    pub fn to_json(&self) -> Box<str> {
        Object::new()
            .plain("name", self.name())
            .plain("id", self.id)
            .plain("time", self.time)
            .maybe_plain("task_id", self.task)
            .raw("data", &self.data)
            .build()
    }
}

/// The subscriptions of one engine, and the way to publish to them. A clone is another handle of the same.
#[derive(Clone)]
pub struct Events(Arc<Shared>);

/// What nobody writes to while tasks run, alone on its lines of cache.
#[repr(align(128))]
struct Wanted(AtomicU64);

struct Shared {
    /// The kinds that anybody wants, as a set of bits; and [`OWN`]. Written under the table's lock.
    wanted: Wanted,
    table: RwLock<Table>,
    /// How many events were made.
    made: AtomicU64,
    /// Tells the ids of this engine's events from those of another's.
    salt: u32,
}

#[derive(Default)]
struct Table {
    channels: Vec<Arc<Channel>>,
    /// Which subscribers want the users' own events that were published lately, by their names.
    routes: HashMap<Arc<str>, Arc<[Arc<Channel>]>>,
    subscribed: u64,
    closed: bool,
}

impl Table {
    fn wanted(&self) -> u64 {
        let wants = |channel: &Arc<Channel>| {
            let pattern = &channel.pattern;
            pattern.kinds() | if pattern.may_be_own() { OWN } else { 0 }
        };
        self.channels.iter().map(wants).fold(0, |all, wants| all | wants)
    }
}

impl Events {
    /// Without subscribers. `seed` tells the ids of its events from those of other engines.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Shared {
            wanted: Wanted(AtomicU64::new(0)),
            table: RwLock::default(),
            made: AtomicU64::new(0),
            salt: (seed ^ (seed >> 32)) as u32,
        }))
    }

    // ── publishing ──────────────────────────────────────────────────────────────────────────────────────────────

    /// Whether anybody subscribes to this kind.
    #[inline]
    pub fn is_wanted(&self, kind: EventKind) -> bool {
        self.0.wanted.0.load(Ordering::Relaxed) & kind.bit() != 0
    }

    /// Whether anybody subscribes to any of these kinds.
    #[inline]
    pub fn is_any_wanted(&self, kinds: &[EventKind]) -> bool {
        let set = kinds.iter().fold(0, |set, kind| set | kind.bit());
        self.0.wanted.0.load(Ordering::Relaxed) & set != 0
    }

    /// Publishes an event of the catalogue. `data` writes the JSON object that the catalogue describes, and is called
    /// only if somebody wants it.
    #[inline]
    pub fn publish<D: Into<Box<str>>>(
        &self,
        kind: EventKind,
        time: Timestamp,
        task: Option<TaskId>,
        data: impl FnOnce() -> D,
    ) {
        if self.is_wanted(kind) {
            self.send(kind, time, task, data().into(), None);
        }
    }

    /// Publishes a user's own event; `data` is a JSON object. `InvalidOption` if it may not have this name,
    /// `PayloadTooLarge` if there is more than [`MAX_EVENT_DATA`] of it, whether or not anybody subscribes to it.
    pub fn publish_custom(
        &self,
        name: &str,
        time: Timestamp,
        task: Option<TaskId>,
        data: &str,
    ) -> Result<()> {
        check_own_name(name)?;
        if data.len() > MAX_EVENT_DATA {
            let size = data.len();
            return Err(Error::new(
                Code::PayloadTooLarge,
                format!("event {name:?} has {size} bytes of data; the limit is {MAX_EVENT_DATA}"),
            )
            .hint("publish where the data is, and not the data"));
        }
        if self.0.wanted.0.load(Ordering::Relaxed) & OWN != 0 {
            let (name, route) = self.route(name);
            if !route.is_empty() {
                let event = self.make(EventName::Own(name), time, task, data.into());
                route.iter().filter_map(|channel| channel.offer(&event)).for_each(Wake::call);
            }
        }
        Ok(())
    }

    /// To all who want it; but not to `except`, who has it.
    #[inline(never)]
    fn send(
        &self,
        kind: EventKind,
        time: Timestamp,
        task: Option<TaskId>,
        data: Box<str>,
        except: Option<&Arc<Channel>>,
    ) {
        let event = self.make(EventName::Known(kind), time, task, data);
        self.send_made(&event, kind, except);
    }

    fn send_made(&self, event: &Arc<Event>, kind: EventKind, except: Option<&Arc<Channel>>) {
        let table = self.0.table.read();
        let wants = |channel: &&Arc<Channel>| {
            channel.pattern.kinds() & kind.bit() != 0
                && except.is_none_or(|except| !Arc::ptr_eq(except, channel))
        };
        // Most often nobody has to be woken, and this allocates nothing.
        let wakes: Vec<_> =
            table.channels.iter().filter(wants).filter_map(|channel| channel.offer(event)).collect();
        drop(table);
        wakes.into_iter().for_each(Wake::call);
    }

    fn make(&self, name: EventName, time: Timestamp, task: Option<TaskId>, data: Box<str>) -> Arc<Event> {
        let number = self.0.made.fetch_add(1, Ordering::Relaxed);
        Arc::new(Event { name, id: id(time, number, self.0.salt), time, task, data })
    }

    /// Who wants a user's own event with this name.
    fn route(&self, name: &str) -> (Arc<str>, Arc<[Arc<Channel>]>) {
        if let Some((name, route)) = self.0.table.read().routes.get_key_value(name) {
            return (Arc::clone(name), Arc::clone(route));
        }
        let mut table = self.0.table.write();
        let matching = |channel: &&Arc<Channel>| channel.pattern.matches(name);
        let route: Arc<[_]> = table.channels.iter().filter(matching).cloned().collect();
        let name: Arc<str> = name.into();
        if table.routes.len() >= MAX_ROUTES {
            // Somebody puts ids into names. Those who do not are found again at once.
            table.routes.clear();
        }
        table.routes.insert(Arc::clone(&name), Arc::clone(&route));
        (name, route)
    }

    // ── subscribing ─────────────────────────────────────────────────────────────────────────────────────────────

    /// Subscribes to the events that match a pattern, from now on. Dropping the subscription ends it.
    ///
    /// `InvalidOption` if the pattern can match nothing or the capacity is 0; `ShutDown` after
    /// [`Events::close_all`].
    pub fn subscribe(&self, pattern: &str, options: SubscriptionOptions) -> Result<Subscription> {
        let pattern = Pattern::new(pattern)?;
        if options.capacity == 0 {
            return Err(Error::new(Code::InvalidOption, "capacity is 0").hint(format!(
                "say how many events may wait for this subscriber, or leave it at {DEFAULT_CAPACITY}"
            )));
        }
        let mut table = self.0.table.write();
        if table.closed {
            return Err(Error::new(Code::ShutDown, "the engine has been stopped")
                .hint("subscribe before it stops, or start it again"));
        }
        table.subscribed += 1;
        let name = options.name.unwrap_or_else(|| format!("subscriber-{}", table.subscribed));
        let channel = Arc::new(Channel::new(name.into(), pattern, options.capacity));
        table.channels.push(Arc::clone(&channel));
        self.changed(&mut table);
        Ok(Subscription::new(self.clone(), channel))
    }

    /// Ends every subscription: readers take what is left and then see the end. Nobody can subscribe any more.
    pub fn close_all(&self) {
        self.take_all().iter().for_each(|channel| channel.close(true));
    }

    /// The same, but first a last event, after which nothing more is told of the catalogue.
    pub(crate) fn close_all_with(&self, kind: EventKind, time: Timestamp, data: impl FnOnce() -> Box<str>) {
        let last = self.is_wanted(kind).then(|| self.make(EventName::Known(kind), time, None, data()));
        // Whoever publishes holds the table while it fills the buffers: it is done, or finds nobody.
        for channel in self.take_all() {
            if let Some(last) = last.as_ref().filter(|_| channel.pattern.kinds() & kind.bit() != 0)
                && let Some(wake) = channel.offer(last)
            {
                wake.call();
            }
            channel.close(true);
        }
    }

    fn take_all(&self) -> Vec<Arc<Channel>> {
        let mut table = self.0.table.write();
        table.closed = true;
        let channels = std::mem::take(&mut table.channels);
        self.changed(&mut table);
        channels
    }

    /// How many subscriptions there are.
    pub fn subscribers(&self) -> usize {
        self.0.table.read().channels.len()
    }

    /// Ends one subscription.
    fn unsubscribe(&self, channel: &Arc<Channel>) {
        {
            let mut table = self.0.table.write();
            table.channels.retain(|other| !Arc::ptr_eq(other, channel));
            self.changed(&mut table);
        }
        channel.close(false);
    }

    fn changed(&self, table: &mut Table) {
        table.routes.clear();
        self.0.wanted.0.store(table.wanted(), Ordering::Relaxed);
    }
}

/// The id of an event. After the milliseconds come twelve bits for their fraction, the event's number and the salt.
fn id(time: Timestamp, number: u64, salt: u32) -> TaskId {
    let micros = u64::try_from(time.micros()).unwrap_or(0);
    let fraction = (micros % 1000) * 4096 / 1000;
    let mut bits = [0; 10];
    bits[..2].copy_from_slice(&(fraction as u16).to_be_bytes());
    // The id keeps 62 of the 64 bits that follow, and puts its variant over the first two.
    let rest = ((number & 0xFFFF_FFFF) << 30) | u64::from(salt & 0x3FFF_FFFF);
    bits[2..].copy_from_slice(&rest.to_be_bytes());
    TaskId::from_parts(micros / 1000, bits)
}
