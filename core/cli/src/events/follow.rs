//! What has happened, from rows: pure.
//!
//! A row says when it was created, when its attempt started, when it ended, and when each error, progress and line of its log
//! came. Each of these is told once. A change carries the time at which it was made, and is seen when it was committed, a
//! while later: so every look goes back by a margin, and what was told within it is remembered.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use taskloom_model::{Row, Spec, State, TaskId, Timestamp};
use taskloom_store::Task;

/// How much later than it was made a change may come to be seen: a little more than what a process waits, at most, for
/// the store's write lock.
pub(super) const MARGIN: Duration = Duration::from_secs(15);

/// The events that rows tell of.
pub(super) const SEEN: &[&str] = &[
    "task.submitted",
    "task.started",
    "task.progress",
    "task.log",
    "task.retrying",
    "task.succeeded",
    "task.failed",
    "task.timed_out",
    "task.cancelled",
    "task.expired",
    "task.skipped",
];

/// Something that has happened to a task.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    pub(super) name: &'static str,
    pub(super) at: Timestamp,
    pub(super) task: TaskId,
    pub(super) data: Value,
    /// What else tells it from others of the same name and time.
    ordinal: u64,
}

type Key = (Timestamp, TaskId, &'static str, u64);

/// Which events were told.
#[derive(Debug)]
pub(super) struct Follower {
    newest: Timestamp,
    told: HashSet<Key>,
}

impl Follower {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { newest: now, told: HashSet::new() }
    }

    /// What was changed since then is to be looked at.
    pub(super) fn since(&self) -> Timestamp {
        self.newest - MARGIN
    }

    /// What is new in these rows, in the order in which it happened.
    pub(super) fn look(&mut self, tasks: &[Arc<Task>], now: Timestamp) -> Vec<Told> {
        let since = self.since();
        let mut new = Vec::new();
        for task in tasks {
            for told in task.with_row(|row| happened(task.spec(), row, since)) {
                if self.told.insert((told.at, told.task, told.name, told.ordinal)) {
                    new.push(told);
                }
            }
        }
        new.sort_by_key(|told| (told.at, told.task));
        self.newest = self.newest.max(now);
        let since = self.since();
        self.told.retain(|(at, ..)| *at >= since);
        new
    }
}

/// What has happened to a task at that time or later.
fn happened(spec: &Spec, row: &Row, since: Timestamp) -> Vec<Told> {
    let mut all = Vec::new();
    let mut add = |name, at: Timestamp, ordinal, more: Value| {
        if at >= since {
            let mut data = json!({ "name": spec.name.as_str(), "queue": spec.queue.as_str() });
            if let (Value::Object(data), Value::Object(more)) = (&mut data, more) {
                data.extend(more);
            }
            all.push(Told { name, at, task: spec.id, data, ordinal });
        }
    };
    add(
        "task.submitted",
        spec.created,
        0,
        json!({ "priority": spec.priority.as_str(), "tags": spec.tags() }),
    );
    if let Some(started) = row.started {
        add("task.started", started, row.attempt.into(), json!({ "attempt": row.attempt }));
    }
    if let Some(history) = &row.history {
        for (place, progress) in history.progress.iter().enumerate() {
            let data = json!({ "value": progress.value, "message": progress.message });
            // Of equal times, the place among those tells one from the other, however many older ones were dropped.
            let same = history.progress[..place].iter().filter(|other| other.at == progress.at).count();
            add("task.progress", progress.at, same as u64, data);
        }
        for (place, line) in history.log.iter().enumerate() {
            let data = json!({ "level": line.level, "message": line.message, "attempt": line.attempt });
            let same = history.log[..place].iter().filter(|other| other.at == line.at).count();
            add("task.log", line.at, same as u64, data);
        }
    }
    let is_over = matches!(row.state, State::Failed | State::TimedOut);
    let errors = row.errors();
    for (place, failure) in errors.iter().enumerate() {
        let error = json!({ "error": { "type": failure.kind, "message": failure.message }, "attempt": failure.attempt });
        // The last one of a task that has failed is what it failed with.
        if !(is_over && place + 1 == errors.len()) {
            add("task.retrying", failure.at, failure.attempt.into(), error);
        }
    }
    if let Some(finished) = row.finished.filter(|_| row.state.is_terminal()) {
        let error = errors.last().filter(|_| is_over);
        let mut data = json!({
            "attempt": row.attempt,
            "error": error.map(|failure| json!({ "type": failure.kind, "message": failure.message })),
            "reason": row.history.as_ref().and_then(|history| history.reason.as_deref()),
            "duration": row.started.map(|started| finished.since(started).as_secs_f64()),
        });
        if let Value::Object(data) = &mut data {
            data.retain(|_, value| !value.is_null());
        }
        if let Some(name) = ended(row.state) {
            add(name, finished, row.generation.into(), data);
        }
    }
    all
}

fn ended(state: State) -> Option<&'static str> {
    Some(match state {
        State::Succeeded => "task.succeeded",
        State::Failed => "task.failed",
        State::TimedOut => "task.timed_out",
        State::Cancelled => "task.cancelled",
        State::Expired => "task.expired",
        State::Skipped => "task.skipped",
        State::Pending | State::Queued | State::Running | State::Retrying => return None,
    })
}

#[cfg(test)]
mod tests {
    use taskloom_model::{Admission, Failure, History, Name, Options, admit};

    use super::*;

    const BEGIN: Timestamp = Timestamp::from_micros(1_772_323_200_000_000);

    fn at(millis: u64) -> Timestamp {
        BEGIN + Duration::from_millis(millis)
    }

    fn task(created: Timestamp) -> (Spec, Row) {
        let id = TaskId::from_parts(7, [7; 10]);
        let admission = Admission::new(&Options::default()).unwrap();
        let (spec, row, _) = admit(&admission, id, Name::new("job"), b"{}".into(), created).unwrap();
        (spec, row)
    }

    fn names(told: &[Told]) -> Vec<&'static str> {
        told.iter().map(|told| told.name).collect()
    }

    #[test]
    fn each_thing_is_told_once_and_in_order() {
        let mut follower = Follower::new(BEGIN);
        let (spec, row) = task(at(1));
        let task = Task::new(spec, row.clone(), None);
        let mut look = |row: &Row, now| {
            task.replace_row(row.clone());
            names(&follower.look(std::slice::from_ref(&task), now))
        };
        assert_eq!(look(&row, at(2)), ["task.submitted"]);
        assert!(look(&row, at(3)).is_empty());
        let mut row = Row { state: State::Running, attempt: 1, started: Some(at(4)), updated: at(4), ..row };
        assert_eq!(look(&row, at(5)), ["task.started"]);
        let failure = Failure {
            kind: "E".into(),
            message: "no".into(),
            backtrace: String::new(),
            attempt: 1,
            at: at(6),
        };
        row.history = Some(Box::new(History { errors: vec![failure.clone()], ..History::default() }));
        row.state = State::Retrying;
        assert_eq!(look(&row, at(7)), ["task.retrying"]);
        // Started and ended between two looks.
        row.history_mut().errors.push(Failure { attempt: 2, at: at(9), ..failure });
        let row =
            Row { state: State::Failed, attempt: 2, started: Some(at(8)), finished: Some(at(9)), ..row };
        assert_eq!(look(&row, at(10)), ["task.started", "task.failed"]);
        assert!(look(&row, at(60_000)).is_empty(), "not even when it is old");
    }

    #[test]
    fn a_change_that_is_seen_late_is_told() {
        let mut follower = Follower::new(BEGIN);
        assert!(follower.look(&[], at(9_000)).is_empty());
        let (spec, row) = task(at(10));
        let task = Task::new(spec, row, None);
        assert!(follower.since() <= at(10));
        let told = follower.look(std::slice::from_ref(&task), at(9_001));
        assert_eq!(names(&told), ["task.submitted"]);
        assert_eq!(told[0].data["queue"], "default");
        for name in SEEN {
            assert!(taskloom_engine::info(name).is_some() || *name == "task.skipped", "{name} is no event");
        }
    }
}
