//! What a subscriber asks for, and how users may name events of their own.
//!
//! A name is segments joined by dots. In a pattern a `*` stands for one segment, and as the last segment for all the
//! rest, of which there is at least one.
//!
//! # Typing errors
//! A pattern that can never match would be a subscriber that waits for nothing, silently; so it is refused. What can
//! never match follows from a split of the first segments. Those in [`RESERVED`] belong to the core: after one of them
//! only the catalogue counts. All others belong to users, who name events as they go, so nothing is known about them;
//! except that nobody may use a first segment that reads like a reserved one with a slip in it (`taks`, `tasks`). As no
//! event can have such a name, a pattern with it is refused too.

use std::fmt;

use taskloom_model::{Code, Error, Result, nearest};

use super::catalog::catalog;

/// First segments that belong to the core, now or in a later version.
const RESERVED: &[&str] = &[
    "task", "queue", "handler", "worker", "engine", "outbox", "loop", "report", "events", "step", "run",
    "workflow", "schedule", "agent",
];

/// How long a name or a pattern may be.
const MAX_NAME: usize = 200;

/// Which events a subscriber wants: `task.succeeded`, `task.*`, `*.failed`, `*`, `order.*`.
///
/// ```text
/// *           every event, users' own too
/// task.*      all that begin with task.
/// *.failed    two segments, of which the second is failed
/// order.*     users' own
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    /// The kinds of the catalogue that it matches.
    kinds: u64,
    own: bool,
}

impl Pattern {
    /// Reads a pattern. `InvalidOption` if it is malformed, or if no event can ever match it.
    pub fn new(text: &str) -> Result<Self> {
        check_segments(text, true).map_err(|reason| {
            Error::new(Code::InvalidOption, format!("pattern {text:?} {reason}")).hint(
                "name an event, or put a * in the place of a segment: \"task.succeeded\", \"task.*\", \"*\"",
            )
        })?;
        let kinds = catalog()
            .iter()
            .filter(|info| matches(text, info.name))
            .fold(0, |kinds, info| kinds | info.kind.bit());
        let first = first_segment(text);
        let own =
            !RESERVED.contains(&first) && slip_of(first).is_none() && (text == "*" || text.contains('.'));
        if kinds == 0 && !own {
            return Err(no_match(text, first));
        }
        Ok(Self { text: text.into(), kinds, own })
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it matches this name.
    pub fn matches(&self, name: &str) -> bool {
        matches(&self.text, name)
    }

    /// The kinds of the catalogue that it matches, as a set of bits.
    pub(super) fn kinds(&self) -> u64 {
        self.kinds
    }

    /// Whether it can match events of users' own.
    pub(super) fn may_be_own(&self) -> bool {
        self.own
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether users may publish events with this name. `InvalidOption` says what is wrong with it.
pub fn check_own_name(name: &str) -> Result<()> {
    let refused = |reason: &str| Error::new(Code::InvalidOption, format!("event name {name:?} {reason}"));
    if let Err(reason) = check_segments(name, false) {
        let lower = name.to_lowercase();
        return Err(if lower != name && check_own_name(&lower).is_ok() {
            refused(&reason).hint(format!("did you mean {lower:?}?"))
        } else {
            refused(&reason).hint("name it after what it is about and what happened, such as \"order.paid\"")
        });
    }
    if !name.contains('.') {
        return Err(refused("has one segment").hint(format!(
            "name what it is about and what happened: \"order.{name}\", or \"{name}.changed\""
        )));
    }
    let first = first_segment(name);
    if RESERVED.contains(&first) {
        return Err(refused(&format!("begins with {first:?}, which belongs to Taskloom's own events"))
            .hint(format!("put a segment of your own before it: \"my.{name}\"")));
    }
    if let Some(reserved) = slip_of(first) {
        return Err(refused(&format!("begins with {first:?}, too much like Taskloom's own {reserved:?}"))
            .hint(format!("put a segment of your own before it: \"my.{name}\"")));
    }
    Ok(())
}

fn first_segment(text: &str) -> &str {
    text.split_once('.').map_or(text, |(first, _)| first)
}

/// Whether the text is made of segments; if not, what is wrong.
fn check_segments(text: &str, pattern: bool) -> Result<(), String> {
    if text.is_empty() {
        return Err("is empty".into());
    }
    if text.len() > MAX_NAME {
        return Err(format!("is longer than {MAX_NAME} bytes"));
    }
    for segment in text.split('.') {
        if segment.is_empty() {
            return Err("has an empty segment".into());
        }
        if segment == "*" && pattern {
            continue;
        }
        let allowed = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
        match segment.chars().find(|c| !allowed(c)) {
            None => {}
            Some('*') if pattern => return Err("has a * inside a segment: it stands for a whole one".into()),
            Some('*') => return Err("has a *, which only patterns have".into()),
            Some(c) if c.is_uppercase() => return Err(format!("has {c:?}: names are lower-case")),
            Some(c) => return Err(format!("has {c:?}: a segment is made of a–z, 0–9, _ and -")),
        }
    }
    Ok(())
}

fn matches(pattern: &str, name: &str) -> bool {
    let mut name = name.split('.');
    let mut pattern = pattern.split('.').peekable();
    while let Some(wanted) = pattern.next() {
        let Some(segment) = name.next() else { return false };
        if wanted == "*" && pattern.peek().is_none() {
            return true;
        }
        if wanted != "*" && wanted != segment {
            return false;
        }
    }
    name.next().is_none()
}

/// The reserved segment that this one is, but for two neighbours that changed places or an `s` at the end. A wider
/// measure would take words from users: `tank`, `mask` and `talk` are one letter away from `task`.
fn slip_of(first: &str) -> Option<&'static str> {
    RESERVED.iter().copied().find(|reserved| {
        let plural = |one: &str, other: &str| one.strip_suffix('s') == Some(other);
        *reserved != first && (is_swap(reserved, first) || plural(first, reserved) || plural(reserved, first))
    })
}

/// Whether one is the other with two neighbours swapped.
fn is_swap(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let Some(at) = one.iter().zip(other).position(|(a, b)| a != b) else { return false };
    one.len() == other.len()
        && at + 1 < one.len()
        && one[at] == other[at + 1]
        && one[at + 1] == other[at]
        && one[at + 2..] == other[at + 2..]
}

/// The refusal of a pattern that no event can match.
fn no_match(text: &str, first: &str) -> Error {
    let error = Error::new(Code::InvalidOption, format!("pattern {text:?} matches no event"));
    let families =
        ["task.*", "queue.*", "handler.*", "worker.*", "engine.*", "loop.*", "report.*", "events.*"];
    let known = catalog().iter().map(|info| info.name).chain(families);
    if let Some(near) = nearest(text, known) {
        return error.hint(format!("did you mean {near:?}?"));
    }
    let family: Vec<_> = catalog()
        .iter()
        .map(|info| info.name)
        .filter(|name| first_segment(name) == slip_of(first).unwrap_or(first))
        .collect();
    if !text.contains('.') {
        error.hint(format!("every event has two segments or more: did you mean \"{text}.*\"?"))
    } else if family.is_empty() {
        error.hint(format!(
            "this version has no events that begin with {first:?}; docs/events.md lists those that it has"
        ))
    } else {
        error.hint(format!("there are: {}", family.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> Vec<&'static str> {
        let pattern = Pattern::new(text).unwrap();
        let named = |name: &&str| pattern.matches(name);
        let by_name: Vec<_> = catalog().iter().map(|info| info.name).filter(named).collect();
        let by_bit: Vec<_> = catalog()
            .iter()
            .filter(|info| pattern.kinds() & info.kind.bit() != 0)
            .map(|info| info.name)
            .collect();
        assert_eq!(by_name, by_bit);
        by_name
    }

    #[test]
    fn table_of_matches() {
        for (pattern, name, expected) in [
            ("*", "task.failed", true),
            ("*", "a.b.c", true),
            ("task.failed", "task.failed", true),
            ("task.failed", "task.failed.twice", false),
            ("task.failed.twice", "task.failed", false),
            ("task.*", "task.failed", true),
            ("task.*", "task", false),
            ("task.*", "tasks.failed", false),
            ("*.failed", "task.failed", true),
            ("*.failed", "order.eu.failed", false),
            ("*.*", "order.eu.failed", true),
            ("*.*", "order", false),
            ("order.*", "order.eu.paid", true),
            ("order.*.paid", "order.eu.paid", true),
            ("order.*.paid", "order.paid", false),
            ("order.*.paid", "order.eu.de.paid", false),
            ("order.*.*", "order.paid", false),
            ("order.*.*", "order.eu.de.paid", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn patterns_know_their_kinds() {
        assert_eq!(set("*").len(), catalog().len());
        assert_eq!(set("*.failed"), ["task.failed"]);
        assert_eq!(set("queue.*"), ["queue.paused", "queue.resumed", "queue.purged"]);
        assert_eq!(set("order.*"), [""; 0]);
        for (pattern, own) in [
            ("*", true),
            ("*.failed", true),
            ("order.*", true),
            ("order.paid", true),
            ("tank.*", true),
            ("mask.applied", true),
            ("task.*", false),
            ("task.failed", false),
        ] {
            assert_eq!(Pattern::new(pattern).unwrap().may_be_own(), own, "{pattern}");
        }
    }

    #[test]
    fn what_can_match_nothing_is_refused() {
        for (pattern, message) in [
            ("taks.*", "pattern \"taks.*\" matches no event\nhint: did you mean \"task.*\"?"),
            ("tasks.*", "pattern \"tasks.*\" matches no event\nhint: did you mean \"task.*\"?"),
            (
                "task.suceeded",
                "pattern \"task.suceeded\" matches no event\nhint: did you mean \"task.succeeded\"?",
            ),
            (
                "queue.xxxxxxxx",
                "pattern \"queue.xxxxxxxx\" matches no event\nhint: there are: queue.paused, queue.resumed, queue.purged",
            ),
            (
                "workflow.*",
                "pattern \"workflow.*\" matches no event\nhint: this version has no events that begin with \
                 \"workflow\"; docs/events.md lists those that it has",
            ),
            (
                "order",
                "pattern \"order\" matches no event\nhint: every event has two segments or more: did you mean \
                 \"order.*\"?",
            ),
        ] {
            let error = Pattern::new(pattern).unwrap_err();
            assert_eq!(error.code(), Code::InvalidOption);
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn malformed_patterns_are_refused() {
        for (pattern, reason) in [
            ("", "is empty"),
            ("task.", "has an empty segment"),
            (".failed", "has an empty segment"),
            ("task.suc*", "has a * inside a segment: it stands for a whole one"),
            ("task.**", "has a * inside a segment: it stands for a whole one"),
            ("Task.*", "has 'T': names are lower-case"),
            ("task failed", "has ' ': a segment is made of a–z, 0–9, _ and -"),
        ] {
            let error = Pattern::new(pattern).unwrap_err();
            assert_eq!(error.message(), format!("pattern {pattern:?} {reason}"));
        }
        assert!(Pattern::new(&"a.".repeat(101)).unwrap_err().message().ends_with("is longer than 200 bytes"));
    }

    #[test]
    fn names_of_users_own() {
        for name in ["order.paid", "order.eu-west_1.paid", "my.task.done", "tank.level", "2.3"] {
            assert!(check_own_name(name).is_ok(), "{name}");
        }
        for (name, text) in [
            ("Order.Paid", "has 'O': names are lower-case\nhint: did you mean \"order.paid\"?"),
            (
                "paid",
                "has one segment\nhint: name what it is about and what happened: \"order.paid\", or \"paid.changed\"",
            ),
            (
                "task.done",
                "begins with \"task\", which belongs to Taskloom's own events\n\
                 hint: put a segment of your own before it: \"my.task.done\"",
            ),
            (
                "taks.done",
                "begins with \"taks\", too much like Taskloom's own \"task\"\n\
                 hint: put a segment of your own before it: \"my.taks.done\"",
            ),
            (
                "order.*",
                "has a *, which only patterns have\n\
                 hint: name it after what it is about and what happened, such as \"order.paid\"",
            ),
        ] {
            let error = check_own_name(name).unwrap_err();
            assert_eq!(error.to_string(), format!("event name {name:?} {text}"));
        }
        for reserved in RESERVED {
            assert!(check_own_name(&format!("{reserved}.x")).is_err());
            assert!(check_own_name(&format!("{reserved}s.x")).is_err());
        }
        assert!(check_own_name("event.x").is_err());
    }

    #[test]
    fn every_first_segment_of_the_catalogue_is_reserved() {
        for info in catalog() {
            assert!(RESERVED.contains(&first_segment(info.name)), "{}", info.name);
        }
    }
}
