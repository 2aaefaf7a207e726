//! How a submit becomes a task.

use std::num::NonZeroU64;
use std::time::Duration;

use crate::options::{before_start, check_key};
use crate::planted::{self, Bug};
use crate::{
    Bytes, Code, DEFAULT_MAX_CRASHES, DEFAULT_QUEUE, Effects, Error, KeyLimit, Limit, MAX_PAYLOAD, Name,
    Options, Priority, Rare, Returned, Row, Spec, State, TaskId, Timestamp, Unique, WaitingFor, When,
    apply::next_due,
};

/// Options made ready: validated once, so that submitting a task with them costs next to nothing.
#[derive(Clone, Debug)]
pub struct Admission {
    queue: Name,
    priority: Priority,
    retries: u32,
    max_crashes: u8,
    timeout_micros: Option<NonZeroU64>,
    id: Option<TaskId>,
    eta: Option<When>,
    expires: Option<When>,
    deadline: Option<When>,
    unique_for: Option<Duration>,
    /// The limit of a key that a task is given later.
    key_limit: Limit,
    rare: Option<Box<Rare>>,
    /// Its tasks are eligible at once, and ask for nothing but to be run: [`Spec::is_plain`].
    plain: bool,
}

impl Admission {
    /// Whether a task with this payload is admitted in short, by [`admit_plain`].
    #[inline]
    pub fn is_short(&self, payload: &[u8]) -> bool {
        self.plain && payload.len() <= MAX_PAYLOAD
    }

    /// Validates options and makes them ready.
    pub fn new(options: &Options) -> Result<Self, Error> {
        options.validate()?;
        let rare = Rare {
            retry: options.retry,
            version: options.version.map(|version| version.to_string()),
            tags: options.tags.clone(),
            unique: options.unique_key.clone().map(|key| Unique {
                key,
                until: None,
                on_conflict: options.on_conflict.unwrap_or_default(),
            }),
            key: options.key.clone().map(|key| KeyLimit { key, limit: options.limit() }),
            depends_on: options.depends_on.clone(),
            requires: options.requires.clone(),
            agent: options.agent.clone(),
            metadata: options.metadata.clone(),
            correlation_id: options.correlation_id.clone(),
            traceparent: options.traceparent.clone(),
            ..Rare::default()
        };
        let timed = options.timeout.is_some() || options.eta.is_some() || options.expires.is_some();
        let rare = (rare != Rare::default()).then(|| Box::new(rare));
        Ok(Self {
            plain: rare.is_none() && !timed && options.deadline.is_none(),
            queue: Name::new(options.queue.as_deref().unwrap_or(DEFAULT_QUEUE)),
            priority: options.priority.unwrap_or_default(),
            retries: options.retries.unwrap_or(0),
            max_crashes: options.max_crashes.unwrap_or(DEFAULT_MAX_CRASHES),
            timeout_micros: options
                .timeout
                .and_then(|span| NonZeroU64::new(u64::try_from(span.as_micros()).unwrap_or(u64::MAX).max(1))),
            id: options.id,
            eta: options.eta,
            expires: options.expires,
            deadline: options.deadline,
            unique_for: options.unique_for,
            key_limit: options.limit(),
            rare,
        })
    }

    /// The id that the caller asked for.
    pub fn id(&self) -> Option<TaskId> {
        self.id
    }

    /// The same for tasks with this key, under the limit that the options have.
    ///
    /// Errors: `InvalidOption` for a key that could not be shown.
    pub fn with_key(&self, key: String) -> Result<Self, Error> {
        let key = self.key(key)?;
        let mut rare = self.rare.clone().unwrap_or_default();
        rare.key = Some(key);
        Ok(Self { rare: Some(rare), plain: false, ..self.clone() })
    }

    /// A key under the limit that the options have.
    pub fn key(&self, key: String) -> Result<KeyLimit, Error> {
        check_key(&key)?;
        Ok(KeyLimit { key, limit: self.key_limit })
    }

    /// Whether its tasks have a unique key.
    pub fn has_unique_key(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.unique.is_some())
    }

    /// The queue that its tasks go to.
    pub fn queue(&self) -> Name {
        self.queue
    }

    fn spec(&self, id: TaskId, name: Name, payload: Bytes, now: Timestamp) -> Spec {
        let mut rare = self.rare.clone();
        let eta = self.eta.map(|when| when.resolve(now)).filter(|eta| *eta > now);
        if self.expires.is_some() || self.deadline.is_some() {
            let rare = rare.get_or_insert_default();
            rare.expires = self.expires.map(|when| when.resolve(now));
            rare.deadline = self.deadline.map(|when| when.resolve(now));
        }
        if let (Some(span), Some(unique)) =
            (self.unique_for, rare.as_mut().and_then(|rare| rare.unique.as_mut()))
        {
            unique.until = Some(now + span);
        }
        Spec {
            id,
            name,
            queue: self.queue,
            created: now,
            payload,
            timeout_micros: self.timeout_micros,
            eta,
            rare,
            retries: self.retries,
            max_crashes: self.max_crashes,
            priority: self.priority,
        }
    }
}

impl Default for Admission {
    /// No option set.
    fn default() -> Self {
        Self {
            queue: Name::new(DEFAULT_QUEUE),
            priority: Priority::default(),
            retries: 0,
            max_crashes: DEFAULT_MAX_CRASHES,
            timeout_micros: None,
            id: None,
            eta: None,
            expires: None,
            deadline: None,
            unique_for: None,
            key_limit: Limit::default(),
            rare: None,
            plain: true,
        }
    }
}

/// Makes the task that a submit asks for, in its first state: `queued`, `pending`, or `expired` at once.
///
/// Refuses a payload over [`MAX_PAYLOAD`] and an expiry that comes before the eta.
#[inline]
pub fn admit(
    admission: &Admission,
    id: TaskId,
    name: Name,
    payload: Bytes,
    now: Timestamp,
) -> Result<(Spec, Row, Effects), Error> {
    if !admission.is_short(&payload) {
        return admit_any(admission, id, name, payload, now);
    }
    let (spec, row) = admit_plain(admission, id, name, payload, now);
    let effects = Effects { from: None, to: State::Queued, left: None, due: None };
    Ok((spec, row, effects))
}

/// The same in short, for most tasks: where [`Admission::is_short`] says so. They are `queued`, and nothing else follows.
#[inline(always)]
pub fn admit_plain(
    admission: &Admission,
    id: TaskId,
    name: Name,
    payload: Bytes,
    now: Timestamp,
) -> (Spec, Row) {
    let spec = Spec {
        id,
        name,
        queue: admission.queue,
        created: now,
        payload,
        timeout_micros: None,
        eta: None,
        rare: None,
        retries: admission.retries,
        max_crashes: admission.max_crashes,
        priority: admission.priority,
    };
    (spec, first_row(State::Queued, WaitingFor::Nothing, 0, now, now))
}

/// The row of a task that nothing has happened to.
#[inline(always)]
fn first_row(state: State, waiting_for: WaitingFor, unmet: u32, eligible: Timestamp, now: Timestamp) -> Row {
    Row {
        state,
        waiting_for,
        crashes: 0,
        generation: 0,
        attempt: 0,
        failures: 0,
        unmet,
        owner: None,
        eligible,
        updated: now,
        started: None,
        finished: state.is_terminal().then_some(now),
        result: Returned::NOTHING,
        history: None,
    }
}

fn admit_any(
    admission: &Admission,
    id: TaskId,
    name: Name,
    payload: Bytes,
    now: Timestamp,
) -> Result<(Spec, Row, Effects), Error> {
    if payload.len() > MAX_PAYLOAD {
        return Err(Error::new(
            Code::PayloadTooLarge,
            format!("the payload for {name} has {} bytes; the limit is {MAX_PAYLOAD}", payload.len()),
        )
        .hint("store the data elsewhere (a file, an object store) and pass where it is"));
    }
    let spec = admission.spec(id, name, payload, now);
    let (eta, expires) = (spec.eta(), spec.expires());
    for (limit, at) in [("expires", expires), ("deadline", spec.deadline())] {
        if let (Some(eta), Some(at)) = (eta, at)
            && at <= eta
        {
            let start = if matches!(admission.eta, Some(When::In(_))) { "delay" } else { "eta" };
            return Err(before_start(limit, start, eta, at));
        }
    }
    let unmet = spec.rare.as_ref().map_or(0, |rare| u32::try_from(rare.depends_on.len()).unwrap_or(u32::MAX));
    let (state, waiting_for) = if expires.is_some_and(|expires| expires <= now) {
        (State::Expired, WaitingFor::Nothing)
    } else if unmet > 0 {
        (State::Pending, WaitingFor::Dependencies)
    } else if eta.is_some() {
        (State::Pending, WaitingFor::Eta)
    } else {
        (State::Queued, WaitingFor::Nothing)
    };
    let eligible = match eta {
        Some(eta) if planted::is(Bug::EarlyStart) => eta - Duration::from_secs(5),
        eta => eta.unwrap_or(now),
    };
    let row = first_row(state, waiting_for, unmet, eligible, now);
    let effects = Effects { from: None, to: state, left: None, due: next_due(&spec, &row) };
    Ok((spec, row, effects))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_000_000);

    fn admitted(options: Options) -> Result<(Spec, Row, Effects), Error> {
        let admission = Admission::new(&options)?;
        admit(&admission, TaskId::from_bytes([7; 16]), Name::new("resize"), b"{}".into(), NOW)
    }

    fn seconds(count: u64) -> Option<When> {
        Some(When::In(Duration::from_secs(count)))
    }

    #[test]
    fn the_short_way_is_the_same_as_the_long_one() {
        let admission = Admission::new(&Options { retries: Some(3), ..Options::default() }).unwrap();
        assert!(admission.plain && Admission::default().plain);
        let ways = [admit, admit_any].map(|way| {
            way(&admission, TaskId::from_bytes([7; 16]), Name::new("f"), b"{}".into(), NOW).unwrap()
        });
        assert_eq!(ways[0], ways[1]);
        assert!(ways[0].0.is_plain());
        let with_key = Admission::default().with_key("a".into()).unwrap();
        for options in [
            Options { timeout: Some(Duration::from_secs(1)), ..Options::default() },
            Options { eta: seconds(1), ..Options::default() },
            Options { expires: seconds(1), ..Options::default() },
            Options { deadline: seconds(1), ..Options::default() },
            Options { tags: vec!["a".into()], ..Options::default() },
        ] {
            assert!(!Admission::new(&options).unwrap().plain, "{options:?}");
        }
        assert!(!with_key.plain);
    }

    #[test]
    fn first_states() {
        let past = Some(When::At(Timestamp::from_micros(5)));
        for (options, state, waiting_for, due) in [
            (Options::default(), State::Queued, WaitingFor::Nothing, None),
            (Options { eta: past, ..Options::default() }, State::Queued, WaitingFor::Nothing, None),
            (Options { eta: seconds(5), ..Options::default() }, State::Pending, WaitingFor::Eta, Some(6)),
            (Options { expires: past, ..Options::default() }, State::Expired, WaitingFor::Nothing, None),
            (
                Options { expires: seconds(2), ..Options::default() },
                State::Queued,
                WaitingFor::Nothing,
                Some(3),
            ),
            (
                Options { eta: seconds(5), expires: seconds(9), deadline: seconds(7), ..Options::default() },
                State::Pending,
                WaitingFor::Eta,
                Some(6),
            ),
            (
                Options { expires: seconds(9), deadline: seconds(4), ..Options::default() },
                State::Queued,
                WaitingFor::Nothing,
                Some(5),
            ),
            (
                Options { depends_on: vec![TaskId::from_bytes([1; 16])], ..Options::default() },
                State::Pending,
                WaitingFor::Dependencies,
                None,
            ),
        ] {
            let (_, row, effects) = admitted(options.clone()).unwrap();
            assert_eq!((row.state, row.waiting_for), (state, waiting_for), "{options:?}");
            assert_eq!(effects.due.map(|due| due.micros() / 1_000_000), due, "{options:?}");
            assert_eq!(row.finished.is_some(), state.is_terminal());
        }
    }

    #[test]
    fn texts_and_keys_that_make_no_sense_are_refused() {
        let text = |text: &str| Some(text.to_owned());
        let long = "x".repeat(1_001);
        for (options, words) in [
            (Options { tags: vec![String::new()], ..Options::default() }, "tag \"\" is empty"),
            (Options { tags: vec![long.clone()], ..Options::default() }, "has 1001 bytes"),
            (Options { tags: vec!["a".into(); 101], ..Options::default() }, "101 tags"),
            (
                Options { metadata: vec![("a\n".into(), "b".into())], ..Options::default() },
                "control character",
            ),
            (
                Options { metadata: vec![("a".into(), long)], ..Options::default() },
                "metadata[\"a\"] has 1001",
            ),
            (Options { unique_key: text(""), ..Options::default() }, "unique_key \"\" is empty"),
            (
                Options { unique_for: Some(Duration::from_secs(1)), ..Options::default() },
                "unique_for without",
            ),
            (
                Options { on_conflict: Some(crate::OnConflict::Reject), ..Options::default() },
                "on_conflict without",
            ),
            (
                Options { unique_key: text("a"), unique_for: Some(Duration::ZERO), ..Options::default() },
                "unique_for is 0",
            ),
            (Options { deadline: seconds(0), ..Options::default() }, "deadline is 0"),
            (Options { traceparent: text("00-1-2-3"), ..Options::default() }, "traceparent"),
            (
                Options {
                    traceparent: text(&format!("01-{}-{}-01", "a".repeat(32), "1".repeat(16))),
                    ..Options::default()
                },
                "it must be of version 00",
            ),
            (
                Options {
                    traceparent: text(&format!("00-{}-{}-01", "0".repeat(32), "1".repeat(16))),
                    ..Options::default()
                },
                "traceparent",
            ),
        ] {
            let error = admitted(options).unwrap_err();
            assert!(error.code() == Code::InvalidOption && error.message().contains(words), "{error}");
        }
        let fine = format!("00-{}-{}-01", "a".repeat(32), "1".repeat(16));
        admitted(Options { traceparent: Some(fine), tags: vec!["größe".into()], ..Options::default() })
            .unwrap();
    }

    #[test]
    fn a_task_that_could_never_start_is_refused() {
        let at = |seconds: i64| Some(When::At(Timestamp::from_micros(seconds * 1_000_000)));
        for (eta, expires) in
            [(seconds(5), seconds(5)), (at(9), at(8)), (at(9), seconds(2)), (seconds(20), at(3))]
        {
            for options in [
                Options { eta, expires, ..Options::default() },
                Options { eta, deadline: expires, ..Options::default() },
            ] {
                let error = admitted(options).unwrap_err();
                assert_eq!(error.code(), Code::InvalidOption);
                assert!(error.message().contains("could never start"), "{error}");
            }
        }
    }

    #[test]
    fn bad_options_are_named() {
        for (options, word) in [
            (Options { timeout: Some(Duration::ZERO), ..Options::default() }, "timeout"),
            (Options { queue: Some("a b".into()), ..Options::default() }, "queue"),
            (Options { queue: Some(String::new()), ..Options::default() }, "queue"),
        ] {
            let error = admitted(options).unwrap_err();
            assert!(error.message().contains(word), "{error}");
        }
        let big = vec![b' '; MAX_PAYLOAD + 1].into();
        let error =
            admit(&Admission::default(), TaskId::from_bytes([7; 16]), Name::new("f"), big, NOW).unwrap_err();
        assert_eq!(error.code(), Code::PayloadTooLarge);
    }

    #[test]
    fn options_fall_back_to_the_handlers() {
        let handler = Options { queue: Some("img".into()), retries: Some(3), ..Options::default() };
        let own = Options { retries: Some(0), ..Options::default() };
        let merged = own.over(&handler);
        assert_eq!((merged.queue.as_deref(), merged.retries), (Some("img"), Some(0)));
    }
}
