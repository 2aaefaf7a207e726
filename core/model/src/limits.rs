//! Limits: how many tasks may run at once, and how many may start in a period.
//!
//! # Gates
//! A task passes up to three *gates* when it is claimed: its queue's, its handler's, and its key's. A gate that has a
//! limit counts the slots that running tasks hold (`concurrency`) and has a bucket of tokens ([`Rate`]); it can also be
//! shut until some time (`RetryAfter` with a key). Only if all are open is the task claimed, and takes from each.
//!
//! # Waiting
//! A task whose key's gate is closed is `pending` and waits for its key; it does not stand in the way of others in its
//! queue. When there is room, the first one that waits goes back to the queue. A closed handler's or queue's gate closes
//! a whole line, so those tasks stay where they are, `queued`, and the line is passed over.
//!
//! # Fairness
//! Of the tasks of one *strand* (same key, queue, handler and priority) no more than [`WINDOW`] are queued at a time,
//! nor more than the key's gate would let through now; the others wait for their key although it may be open. Whenever
//! one of them is claimed, the next goes to the *end* of the queue. So the keys take turns, and ten thousand tasks of
//! one tenant stand before another's only task as [`WINDOW`] do.
//!
//! Which limit a gate has is looked up anew with each claim ([`Limits`]): what an operator has set goes before what the
//! handler declares, and that of a key before what the task itself brought along.

use std::collections::BTreeMap;
use std::fmt;

use crate::planted::{self, Bug};
use crate::{Code, Error, Name, Rate, Spec, Timestamp};

/// How many tasks of a strand are queued at most.
pub const WINDOW: u32 = 8;

/// At once, and in a period. Without either, it is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// How many may run at once.
    pub concurrency: Option<u32>,
    /// How many may start in a period.
    pub rate: Option<Rate>,
}

impl Limit {
    /// Whether it limits nothing.
    pub const fn is_none(&self) -> bool {
        self.concurrency.is_none() && self.rate.is_none()
    }

    /// Refuses a limit that lets nothing through.
    pub fn validate(&self) -> Result<(), Error> {
        if self.concurrency == Some(0) {
            return Err(Error::new(Code::InvalidOption, "concurrency is 0: no such task could ever run")
                .hint("give how many may run at once; to stop a queue for a while, pause it"));
        }
        self.rate.map_or(Ok(()), |rate| rate.validate())
    }
}

/// What a limit is set for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LimitFor {
    /// All tasks of a handler.
    Handler(Name),
    /// All tasks of a queue.
    Queue(Name),
    /// All tasks with a key, whoever runs them.
    Key(String),
    /// Those of a handler with a key. They still share the key's slots and tokens with others.
    HandlerKey(Name, String),
}

impl fmt::Display for LimitFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handler(name) => write!(f, "handler {:?}", name.as_str()),
            Self::Queue(name) => write!(f, "queue {:?}", name.as_str()),
            Self::Key(key) => write!(f, "key {key:?}"),
            Self::HandlerKey(name, key) => write!(f, "key {key:?} of handler {:?}", name.as_str()),
        }
    }
}

/// Who set a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SetBy {
    /// An operator, at run time. It holds until it is taken back.
    Operator,
    /// The handler, when it was registered.
    Handler,
}

/// A limit that is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitRow {
    /// For what.
    pub what: LimitFor,
    /// By whom.
    pub by: SetBy,
    /// The limit.
    pub limit: Limit,
}

/// Where tasks are counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Gate {
    /// A queue.
    Queue(Name),
    /// A handler.
    Handler(Name),
    /// A key.
    Key(String),
}

/// All limits that are set.
#[derive(Clone, Debug, Default)]
pub struct Limits(BTreeMap<(LimitFor, SetBy), Limit>);

impl Limits {
    /// From what is stored.
    pub fn from_rows(rows: impl IntoIterator<Item = LimitRow>) -> Self {
        Self(rows.into_iter().map(|row| ((row.what, row.by), row.limit)).collect())
    }

    /// All of them.
    pub fn rows(&self) -> impl Iterator<Item = LimitRow> + '_ {
        self.0.iter().map(|((what, by), limit)| LimitRow { what: what.clone(), by: *by, limit: *limit })
    }

    /// Whether none is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sets one, or takes it away if it limits nothing; whether that changed anything.
    pub fn set(&mut self, row: LimitRow) -> bool {
        let LimitRow { what, by, limit } = row;
        if limit.is_none() {
            self.0.remove(&(what, by)).is_some()
        } else {
            self.0.insert((what, by), limit) != Some(limit)
        }
    }

    /// The one that holds.
    pub fn get(&self, what: LimitFor) -> Option<Limit> {
        let mut what = (what, SetBy::Operator);
        let found = self.0.get(&what);
        what.1 = SetBy::Handler;
        found.or_else(|| self.0.get(&what)).copied()
    }

    /// Whether a task has any gate to pass.
    pub fn concern(&self, spec: &Spec) -> bool {
        spec.key().is_some()
            || !self.0.is_empty()
                && (self.get(LimitFor::Handler(spec.name)).is_some()
                    || self.get(LimitFor::Queue(spec.queue)).is_some())
    }

    /// The limits of the lines that a task stands in.
    pub fn of_line(&self, queue: Name, name: Name) -> impl Iterator<Item = (Gate, Limit)> {
        let queue = self.get(LimitFor::Queue(queue)).map(|limit| (Gate::Queue(queue), limit));
        let name = self.get(LimitFor::Handler(name)).map(|limit| (Gate::Handler(name), limit));
        queue.into_iter().chain(name)
    }

    /// The limit of a task's key; without a limit, a key is there to take turns.
    pub fn of_key(&self, spec: &Spec) -> Option<(Gate, Limit)> {
        let own = spec.key_limit()?;
        let limit = self
            .get(LimitFor::HandlerKey(spec.name, own.key.clone()))
            .or_else(|| self.get(LimitFor::Key(own.key.clone())))
            .unwrap_or(own.limit);
        Some((Gate::Key(own.key.clone()), limit))
    }
}

/// What a gate remembers, beside who holds its slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateRow {
    /// When its bucket is full.
    pub full_at: Timestamp,
    /// It is shut until then.
    pub shut_until: Timestamp,
}

impl Default for GateRow {
    /// Full and open for ever so long.
    fn default() -> Self {
        Self { full_at: Timestamp::from_micros(i64::MIN), shut_until: Timestamp::from_micros(i64::MIN) }
    }
}

impl GateRow {
    /// How many may start now, where so many hold slots.
    pub fn room(&self, limit: &Limit, running: u32, now: Timestamp) -> u32 {
        if self.shut_until > now {
            return 0;
        }
        let more = u32::from(planted::is(Bug::ExceededLimit));
        let slots = limit.concurrency.map_or(u32::MAX, |most| (most + more).saturating_sub(running));
        let tokens = limit.rate.map_or(u32::MAX, |rate| rate.tokens(self.full_at, now));
        slots.min(tokens)
    }

    /// When time alone lets more through than now; never, if it is open or waits for a slot.
    pub fn opens(&self, limit: &Limit, running: u32, now: Timestamp) -> Option<Timestamp> {
        if self.room(limit, running, now) > 0 || limit.concurrency.is_some_and(|most| running >= most) {
            return None;
        }
        let token = limit.rate.map(|rate| rate.next_token(self.full_at, self.shut_until.max(now)));
        token.into_iter().chain([self.shut_until]).max()
    }

    /// One starts.
    pub fn take(&mut self, limit: &Limit, now: Timestamp) {
        if let Some(rate) = limit.rate {
            self.full_at = rate.take(self.full_at, now);
        }
    }

    /// Shuts it until some time, unless it is for longer.
    pub fn shut(&mut self, until: Timestamp) {
        self.shut_until = self.shut_until.max(until);
    }

    /// When it will remember nothing that matters any more, if it does now.
    pub fn idle_at(&self, now: Timestamp) -> Option<Timestamp> {
        Some(self.full_at.max(self.shut_until)).filter(|at| *at > now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Admission, Options, TaskId, admit};

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_micros(1_000_000_000 + millis * 1_000)
    }

    fn limit(concurrency: impl Into<Option<u32>>, rate: Option<&str>) -> Limit {
        Limit { concurrency: concurrency.into(), rate: rate.map(|rate| rate.parse().unwrap()) }
    }

    #[test]
    fn room_is_what_slots_tokens_and_the_shutter_leave() {
        let mut row = GateRow::default();
        let both = limit(2, Some("10/s"));
        assert_eq!(row.room(&limit(None, None), 1_000, at(0)), u32::MAX);
        assert_eq!(row.room(&both, 0, at(0)), 1);
        assert_eq!(row.room(&both, 2, at(0)), 0);
        assert_eq!(row.opens(&both, 2, at(0)), None, "a slot has to come first");
        row.take(&both, at(0));
        assert_eq!(row.room(&both, 1, at(0)), 0);
        assert_eq!(row.opens(&both, 1, at(0)), Some(at(100)));
        assert_eq!(row.room(&both, 1, at(100)), 1);
        // More run than may: the limit was lowered meanwhile.
        assert_eq!(row.room(&limit(1, None), 5, at(100)), 0);
        row.shut(at(700));
        row.shut(at(500));
        assert_eq!(row.room(&limit(None, None), 0, at(699)), 0);
        assert_eq!(row.opens(&limit(None, None), 0, at(100)), Some(at(700)));
        assert_eq!(row.opens(&both, 0, at(100)), Some(at(700)));
        assert_eq!(row.room(&both, 0, at(700)), 1);
        assert_eq!((row.idle_at(at(700)), row.idle_at(at(699))), (None, Some(at(700))));
    }

    #[test]
    fn an_operators_limit_goes_before_the_handlers_and_the_tasks() {
        let name = Name::new("resize");
        let own = limit(3, None);
        let options = Options { key: Some("a".into()), concurrency: Some(3), ..Options::default() };
        let admission = Admission::new(&options).unwrap();
        let (spec, ..) =
            admit(&admission, TaskId::from_bytes([1; 16]), name, Default::default(), at(0)).unwrap();
        let mut limits = Limits::default();
        assert!(limits.concern(&spec));
        assert_eq!(limits.of_key(&spec), Some((Gate::Key("a".into()), own)));
        let set = |limits: &mut Limits, what, by, limit| limits.set(LimitRow { what, by, limit });
        let key = LimitFor::Key("a".into());
        assert!(set(&mut limits, key.clone(), SetBy::Operator, limit(1, None)));
        assert!(!set(&mut limits, key.clone(), SetBy::Operator, limit(1, None)), "nothing new");
        assert_eq!(limits.of_key(&spec).unwrap().1, limit(1, None));
        let narrower = LimitFor::HandlerKey(name, "a".into());
        set(&mut limits, narrower.clone(), SetBy::Operator, limit(2, None));
        assert_eq!(limits.of_key(&spec).unwrap().1, limit(2, None));
        set(&mut limits, narrower, SetBy::Operator, Limit::default());
        set(&mut limits, key, SetBy::Operator, Limit::default());
        assert_eq!(limits.of_key(&spec).unwrap().1, own);

        set(&mut limits, LimitFor::Handler(name), SetBy::Handler, limit(4, None));
        let line = |limits: &Limits| limits.of_line(spec.queue, name).collect::<Vec<_>>();
        assert_eq!(line(&limits), [(Gate::Handler(name), limit(4, None))]);
        set(&mut limits, LimitFor::Handler(name), SetBy::Operator, limit(5, None));
        set(&mut limits, LimitFor::Queue(spec.queue), SetBy::Operator, limit(None, Some("1/s")));
        let queue = (Gate::Queue(spec.queue), limit(None, Some("1/s")));
        assert_eq!(line(&limits), [queue, (Gate::Handler(name), limit(5, None))]);
        assert_eq!(Limits::from_rows(limits.rows()).rows().count(), limits.rows().count());
    }

    #[test]
    fn limits_that_let_nothing_through_are_refused() {
        assert!(limit(0, None).validate().unwrap_err().to_string().contains("concurrency is 0"));
        let rate = Rate { count: 1, per: Duration::from_secs(1), burst: 0 };
        let none = Limit { concurrency: None, rate: Some(rate) };
        assert!(none.validate().unwrap_err().to_string().contains("burst is 0"));
        assert!(limit(1, Some("1/s")).validate().is_ok());
    }
}
