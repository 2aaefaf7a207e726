//! What a submit may ask for, as the bindings hand it over, and whether it makes sense.

use std::time::Duration;

use crate::{Code, Error, Limit, OnConflict, Priority, Rate, RetryPolicy, TaskId, Timestamp, Version};

/// The largest payload or result: 4 MiB, encoded.
pub const MAX_PAYLOAD: usize = 4 << 20;

/// A time, given outright or from now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum When {
    /// So long after the submit.
    In(Duration),
    /// At this time.
    At(Timestamp),
}

impl When {
    /// The time that it means for a submit at `now`.
    pub fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            Self::In(span) => now + span,
            Self::At(time) => time,
        }
    }
}

/// Options of a submit. What is `None` comes from the handler's own options, then from the defaults.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// The id to use; made if not given.
    pub id: Option<TaskId>,
    /// The queue; `default`.
    pub queue: Option<String>,
    /// The priority; normal.
    pub priority: Option<Priority>,
    /// Not before this time; a past one means now.
    pub eta: Option<When>,
    /// Not started by then: expired.
    pub expires: Option<When>,
    /// How long one attempt may take.
    pub timeout: Option<Duration>,
    /// How long it may take in total, from the submit.
    pub deadline: Option<When>,
    /// How many failures are followed by another attempt; 0.
    pub retries: Option<u32>,
    /// The waits between attempts.
    pub retry: Option<RetryPolicy>,
    /// How many lost workers make it fail; 3.
    pub max_crashes: Option<u8>,
    /// The version of the handler that runs it; the newest.
    pub version: Option<Version>,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// At most one live task with this key.
    pub unique_key: Option<String>,
    /// How long the key is taken, even when the task has ended.
    pub unique_for: Option<Duration>,
    /// What a submit does when the key is taken.
    pub on_conflict: Option<OnConflict>,
    /// The key under which it takes turns with other tasks.
    pub key: Option<String>,
    /// How many with its key may run at once. Of a handler's own options, where tasks do not get a key
    /// ([`Self::per_key`]): how many of all its tasks.
    pub concurrency: Option<u32>,
    /// How many with its key may start in a period; of a handler's own options as with `concurrency`.
    pub rate: Option<Rate>,
    /// Of a handler's own options: its limits hold for each key by itself.
    pub per_key: bool,
    /// Tasks that must end well first.
    pub depends_on: Vec<TaskId>,
    /// What a worker must be capable of.
    pub requires: Vec<String>,
    /// The one agent that may run it.
    pub agent: Option<String>,
    /// Free facts.
    pub metadata: Vec<(String, String)>,
    /// Ties tasks of one request together.
    pub correlation_id: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
}

impl Options {
    /// These options over `base`: what is not set here comes from there.
    #[must_use]
    pub fn over(&self, base: &Self) -> Self {
        fn list<T: Clone>(own: &[T], base: &[T]) -> Vec<T> {
            if own.is_empty() { base.to_vec() } else { own.to_vec() }
        }
        Self {
            id: self.id.or(base.id),
            queue: self.queue.clone().or_else(|| base.queue.clone()),
            priority: self.priority.or(base.priority),
            eta: self.eta.or(base.eta),
            expires: self.expires.or(base.expires),
            timeout: self.timeout.or(base.timeout),
            deadline: self.deadline.or(base.deadline),
            retries: self.retries.or(base.retries),
            retry: self.retry.or(base.retry),
            max_crashes: self.max_crashes.or(base.max_crashes),
            version: self.version.or(base.version),
            tags: list(&self.tags, &base.tags),
            unique_key: self.unique_key.clone().or_else(|| base.unique_key.clone()),
            unique_for: self.unique_for.or(base.unique_for),
            on_conflict: self.on_conflict.or(base.on_conflict),
            key: self.key.clone().or_else(|| base.key.clone()),
            concurrency: self.concurrency.or(base.concurrency.filter(|_| base.limits_keys())),
            rate: self.rate.or(base.rate.filter(|_| base.limits_keys())),
            per_key: self.per_key || base.per_key,
            depends_on: list(&self.depends_on, &base.depends_on),
            requires: list(&self.requires, &base.requires),
            agent: self.agent.clone().or_else(|| base.agent.clone()),
            metadata: list(&self.metadata, &base.metadata),
            correlation_id: self.correlation_id.clone().or_else(|| base.correlation_id.clone()),
            traceparent: self.traceparent.clone().or_else(|| base.traceparent.clone()),
        }
    }

    /// Whether its limits are those of a key.
    fn limits_keys(&self) -> bool {
        self.per_key || self.key.is_some()
    }

    /// The limit that it sets.
    pub fn limit(&self) -> Limit {
        Limit { concurrency: self.concurrency, rate: self.rate }
    }

    /// Of a handler's own options: the limit of all its tasks together.
    pub fn handler_limit(&self) -> Limit {
        if self.limits_keys() { Limit::default() } else { self.limit() }
    }

    /// Of a submit's own options, over a handler's: refuses a limit that has no key to hold for.
    pub fn validate_submit(&self, base: &Self) -> Result<(), Error> {
        if self.limit().is_none() || self.key.is_some() || base.limits_keys() {
            return Ok(());
        }
        let option = if self.concurrency.is_some() { "concurrency" } else { "rate" };
        Err(Error::new(Code::InvalidOption, format!("{option} of a submit without a key means nothing")).hint(
            "give a key too; a limit of all of a handler's tasks belongs to the handler, or to limit(…) at run time",
        ))
    }

    /// Refuses values that no task can have, naming the option and the value.
    pub fn validate(&self) -> Result<(), Error> {
        if let Some(queue) = &self.queue {
            check_name("queue", queue)?;
        }
        if self.timeout == Some(Duration::ZERO) {
            return Err(Error::new(
                Code::InvalidOption,
                "timeout is 0: every attempt would time out at once",
            )
            .hint("leave timeout out for no limit, or give the time that an attempt may take"));
        }
        if let Some(retry) = &self.retry {
            retry.validate()?;
        }
        if self.deadline == Some(When::In(Duration::ZERO)) {
            return Err(Error::new(Code::InvalidOption, "deadline is 0: the task could never end in time")
                .hint("leave deadline out for no limit, or give the time that the task may take in total"));
        }
        for (name, limit) in [("expires", self.expires), ("deadline", self.deadline)] {
            match (self.eta, limit) {
                (Some(When::At(eta)), Some(When::At(limit))) if limit <= eta => {
                    return Err(before_start(name, "eta", eta, limit));
                }
                (Some(When::In(delay)), Some(When::In(limit))) if limit <= delay => {
                    return Err(before_start(
                        name,
                        "delay",
                        format_args!("{} s from now", delay.as_secs_f64()),
                        format_args!("{} s from now", limit.as_secs_f64()),
                    ));
                }
                _ => {}
            }
        }
        for tag in &self.tags {
            check_text("tag", tag)?;
        }
        for (key, value) in &self.metadata {
            check_text("the key of a metadata entry", key)?;
            if value.len() > MAX_TEXT {
                return Err(Error::new(
                    Code::InvalidOption,
                    format!("metadata[{key:?}] has {} bytes; the limit is {MAX_TEXT}", value.len()),
                )
                .hint(
                    "metadata is for short facts to find and explain a task by; pass data as an argument",
                ));
            }
        }
        if self.tags.len() > MAX_TAGS || self.metadata.len() > MAX_TAGS {
            return Err(Error::new(
                Code::InvalidOption,
                format!(
                    "{} tags and {} metadata entries; the limit is {MAX_TAGS} of each",
                    self.tags.len(),
                    self.metadata.len()
                ),
            )
            .hint("tags and metadata are for finding tasks; pass data as an argument"));
        }
        self.validate_unique_key()?;
        self.limit().validate()?;
        if let Some(key) = &self.key {
            check_key(key)?;
        }
        if let Some(id) = &self.correlation_id {
            check_text("correlation_id", id)?;
        }
        self.traceparent.as_deref().map_or(Ok(()), check_traceparent)
    }

    fn validate_unique_key(&self) -> Result<(), Error> {
        let Some(key) = &self.unique_key else {
            let alone = match (self.unique_for, self.on_conflict) {
                (Some(_), _) => "unique_for",
                (None, Some(_)) => "on_conflict",
                (None, None) => return Ok(()),
            };
            return Err(Error::new(
                Code::InvalidOption,
                format!("{alone} without a unique_key means nothing"),
            )
            .hint("give a unique_key too, or leave it out"));
        };
        if self.unique_for == Some(Duration::ZERO) {
            return Err(Error::new(Code::InvalidOption, "unique_for is 0: the key would be free at once")
                .hint("leave unique_for out to keep the key for as long as the task lives"));
        }
        check_text("unique_key", key)
    }

    /// The first option set here that no part of this version acts on yet, if any.
    pub fn not_available_yet(&self) -> Option<&'static str> {
        [
            ("depends_on", !self.depends_on.is_empty()),
            ("requires", !self.requires.is_empty()),
            ("agent", self.agent.is_some()),
        ]
        .into_iter()
        .find_map(|(name, set)| set.then_some(name))
    }
}

/// How many tags, or metadata entries, a task may have.
const MAX_TAGS: usize = 100;

/// How many bytes a tag, a unique key, or the value of a metadata entry may have.
const MAX_TEXT: usize = 1_000;

/// Refuses a task that would expire, or have to have ended, before it may start.
/// `start` is the option that says when that is.
pub(crate) fn before_start(
    limit: &str,
    start: &str,
    from: impl std::fmt::Display,
    at: impl std::fmt::Display,
) -> Error {
    Error::new(
        Code::InvalidOption,
        format!("{limit} ({at}) is not after {start} ({from}): the task could never start"),
    )
    .hint(format!("let {limit} come later than the time at which it becomes eligible"))
}

/// Refuses a key that could not be shown.
pub fn check_key(key: &str) -> Result<(), Error> {
    check_text("key", key)
}

fn check_text(what: &str, text: &str) -> Result<(), Error> {
    let reason = if text.is_empty() {
        "is empty".to_owned()
    } else if text.len() > MAX_TEXT {
        format!("has {} bytes; the limit is {MAX_TEXT}", text.len())
    } else if text.chars().any(char::is_control) {
        "has a control character".to_owned()
    } else {
        return Ok(());
    };
    let shown: String = text.chars().take(50).collect();
    Err(Error::new(Code::InvalidOption, format!("{what} {shown:?} {reason}"))
        .hint("use a short, printable text"))
}

/// Refuses what is not a W3C trace context of version 00: 2, 32, 16 and 2 lower-case hexadecimal digits.
fn check_traceparent(text: &str) -> Result<(), Error> {
    let parts: Vec<_> = text.split('-').collect();
    let hexadecimal = |part: &str| part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let lengths: Vec<_> = parts.iter().map(|part| part.len()).collect();
    let zero = |part: &str| part.bytes().all(|b| b == b'0');
    let form = [2, 32, 16, 2];
    if lengths == form && parts[0] != "00" && hexadecimal(parts[0]) {
        let message = format!("traceparent {text:?} is of version {}; it must be of version 00", parts[0]);
        return Err(Error::new(Code::InvalidOption, message)
            .hint("what other versions mean is not known; write the same ids as version 00"));
    }
    if lengths == form && parts.iter().all(|part| hexadecimal(part)) && !zero(parts[1]) && !zero(parts[2]) {
        return Ok(());
    }
    let shown: String = text.chars().take(80).collect();
    Err(Error::new(Code::InvalidOption, format!("traceparent {shown:?} is not a W3C trace context"))
        .hint("pass the header as it came, such as 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
}

/// Refuses the name of a handler or a queue that could not be written in a URL, a file or a pattern.
pub fn check_name(what: &str, name: &str) -> Result<(), Error> {
    let reason = if name.is_empty() {
        "is empty"
    } else if name.len() > 200 {
        "is longer than 200 bytes"
    } else if name.chars().any(|c| c.is_control() || c.is_whitespace() || c == '*') {
        "has a blank, a control character or a *"
    } else {
        return Ok(());
    };
    Err(Error::new(Code::InvalidOption, format!("{what} {name:?} {reason}"))
        .hint("use letters, digits and the likes of . _ - / : <>"))
}
