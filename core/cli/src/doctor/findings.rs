//! What facts mean: pure.

use std::time::Duration;

use taskloom_model::{Row, Spec, State, Timestamp, WaitingFor};
use taskloom_store::Unserved;

use super::gather::Facts;
use crate::words::{bytes, count, span};

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// Somebody should look at it.
    Warning,
    /// Tasks are not run, or may be lost.
    Problem,
}

impl Level {
    /// The word for it in JSON.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// What was found by one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) check: &'static str,
    pub(super) level: Level,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

/// How many of a kind are told one by one.
const TOLD: usize = 5;

/// How far a clock may be off before it is told.
const CLOCK: Duration = Duration::from_secs(5);

/// 2024-01-01: before this, a clock was never set.
const UNSET: Timestamp = Timestamp::from_micros(1_704_067_200_000_000);

/// How late something that has a time may be: the engines look every ten seconds, at the least.
const LATE: Duration = Duration::from_secs(60);

/// How long a queued task that somebody serves waits before that is told.
const LONG_QUEUED: Duration = Duration::from_secs(3600);

/// How long an attempt without a timeout runs before that is told.
const LONG_RUNNING: Duration = Duration::from_secs(3600);

/// Less than this free is a problem; less than ten times as much is to be looked at.
const LITTLE_DISK: u64 = 100 << 20;

/// A log that is longer than this was not emptied for a long time.
const LONG_LOG: u64 = 512 << 20;

/// What all of it means, check by check.
pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let mut all = Vec::new();
    store(facts, &mut all);
    disk(facts, &mut all);
    clock(facts, &mut all);
    processes(facts, &mut all);
    handlers(facts, &mut all);
    queues(facts, &mut all);
    tasks(facts, &mut all);
    all.push(ok("versions", format!("taskloom {}, {}", facts.version, facts.runtime)));
    all
}

fn found(check: &'static str, level: Level, message: String, hint: &str) -> Finding {
    Finding { check, level, message, hint: (!hint.is_empty()).then(|| hint.to_owned()) }
}

fn ok(check: &'static str, message: String) -> Finding {
    found(check, Level::Ok, message, "")
}

fn store(facts: &Facts, all: &mut Vec<Finding>) {
    match &facts.check {
        Err(error) => all.push(found(
            "store",
            Level::Problem,
            error.message().to_owned(),
            error.hint_text().unwrap_or_default(),
        )),
        Ok(()) => {
            let size = facts.size.map_or(String::new(), |(size, log)| format!(", {}", bytes(size + log)));
            let tasks: u64 = facts
                .queues
                .iter()
                .map(|(_, counts)| State::ALL.iter().map(|state| counts.get(*state)).sum::<u64>())
                .sum();
            let tasks = count(tasks, "task", "tasks");
            all.push(ok("store", format!("{} {}{size}, {tasks}", facts.kind, facts.place)));
        }
    }
    for error in facts.damaged.iter().take(TOLD) {
        all.push(found(
            "rows",
            Level::Problem,
            error.message().to_owned(),
            "the row is left alone, and holds nothing else up; restore it from a backup, or delete it",
        ));
    }
    if facts.damaged.len() > TOLD {
        let more = (facts.damaged.len() - TOLD) as u64;
        all.push(found("rows", Level::Problem, format!("{more} more rows make no sense"), ""));
    }
    if let Some((_, log)) = facts.size
        && log > LONG_LOG
    {
        let message = format!("the write-ahead log has grown to {}", bytes(log));
        all.push(found(
            "log",
            Level::Warning,
            message,
            "a SQL client that holds a transaction open keeps it from being emptied: close it",
        ));
    }
}

fn disk(facts: &Facts, all: &mut Vec<Finding>) {
    let Some(free) = facts.free else { return };
    let message = format!("{} free where the store is", bytes(free));
    let hint = "a full disk refuses submits; make room, or keep ended tasks for a shorter time (retention)";
    all.push(match free {
        0..LITTLE_DISK => found("disk", Level::Problem, message, hint),
        _ if free < 10 * LITTLE_DISK => found("disk", Level::Warning, message, hint),
        _ => ok("disk", message),
    });
}

fn clock(facts: &Facts, all: &mut Vec<Finding>) {
    if facts.now < UNSET {
        let message = format!("this machine's clock says {}", facts.now);
        all.push(found("clock", Level::Problem, message, "set it: times of tasks are taken from it"));
        return;
    }
    match facts.newest.filter(|newest| *newest > facts.now + CLOCK) {
        Some(newest) => all.push(found(
            "clock",
            Level::Warning,
            format!("the newest task was submitted in {}, by this clock", span(newest.since(facts.now))),
            "the clock was set back, or whoever submitted has another: delays and schedules are off by as much",
        )),
        None => all.push(ok("clock", format!("{}", facts.now))),
    }
}

fn processes(facts: &Facts, all: &mut Vec<Finding>) {
    let gone = facts.owners.iter().filter(|owner| owner.gone).count();
    let alive = facts.owners.len() - gone;
    let names: Vec<&str> =
        facts.owners.iter().filter(|owner| !owner.gone).map(|owner| owner.name.as_str()).take(TOLD).collect();
    let listed = if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) };
    let unfinished: u64 = facts.queues.iter().map(|(_, counts)| counts.unfinished()).sum();
    let message = format!("{} on the store{listed}", count(alive as u64, "process", "processes"));
    if alive == 0 && unfinished > 0 {
        all.push(found(
            "processes",
            Level::Problem,
            format!("no process is there for {}", count(unfinished, "unfinished task", "unfinished tasks")),
            "start a worker: taskloom worker module:app",
        ));
    } else {
        all.push(ok("processes", message));
    }
    if gone > 0 {
        let message = format!("{} died and left what it ran", count(gone as u64, "process", "processes"));
        let hint = "the next process that works on the store takes it up, within seconds";
        all.push(found("processes", Level::Warning, message, hint));
    }
}

fn handlers(facts: &Facts, all: &mut Vec<Finding>) {
    for Unserved { name, count: number, since } in facts.unserved.iter().take(TOLD) {
        let message = format!(
            "no process runs {name:?}: {}, the first since {since}",
            count(*number, "task is queued", "tasks are queued")
        );
        all.push(found(
            "handlers",
            Level::Problem,
            message,
            "start the app that registers it; or, if the name is wrong, taskloom tasks cancel --name NAME",
        ));
    }
    match facts.unserved.len() {
        0 => all.push(ok("handlers", "every queued task has a process that runs its handler".to_owned())),
        some if some > TOLD => {
            all.push(found("handlers", Level::Problem, format!("and {} more handlers", some - TOLD), ""));
        }
        _ => {}
    }
}

fn queues(facts: &Facts, all: &mut Vec<Finding>) {
    for queue in &facts.paused {
        let waiting = facts.queues.iter().find(|(name, _)| name == queue);
        let waiting = waiting.map_or(0, |(_, counts)| counts.get(State::Queued));
        let message =
            format!("queue {:?} is paused, with {}", queue.as_str(), count(waiting, "task", "tasks"));
        all.push(found("queues", Level::Warning, message, "taskloom queues resume NAME lets it go on"));
    }
    if facts.paused.is_empty() {
        all.push(ok(
            "queues",
            format!("{}, none paused", count(facts.queues.len() as u64, "queue", "queues")),
        ));
    }
}

/// Tasks that do not move.
fn tasks(facts: &Facts, all: &mut Vec<Finding>) {
    let before = all.len();
    let alive = |owner| facts.owners.iter().any(|known| known.id == owner && !known.gone);
    let left: Vec<&(Spec, Row)> =
        facts.running.iter().filter(|(_, row)| row.owner.is_some_and(|owner| !alive(owner))).collect();
    tell(
        all,
        &left,
        Level::Warning,
        "belongs to a process that has died",
        "whichever process works on the store next runs it again",
    );
    let late: Vec<&(Spec, Row)> = facts.running.iter().filter(|task| overruns(task, facts.now)).collect();
    tell(
        all,
        &late,
        Level::Problem,
        "runs longer than its timeout",
        "its process does not look at the clock: is it stopped, or its machine asleep?",
    );
    let long: Vec<&(Spec, Row)> = facts
        .running
        .iter()
        .filter(|(spec, row)| {
            spec.timeout().is_none() && row.started.is_some_and(|at| at + LONG_RUNNING < facts.now)
        })
        .collect();
    tell(
        all,
        &long,
        Level::Warning,
        "has run for more than an hour",
        "if that is not as it should be: taskloom tasks cancel ID, and give the handler a timeout",
    );
    let overdue: Vec<&(Spec, Row)> = facts
        .waiting
        .iter()
        .filter(|(_, row)| {
            (row.state == State::Retrying || row.waiting_for == WaitingFor::Eta)
                && row.eligible + LATE < facts.now
        })
        .collect();
    tell(
        all,
        &overdue,
        Level::Problem,
        "was to start by now, and nobody has moved it",
        "no process works on the store: taskloom worker module:app",
    );
    let oldest = facts.unserved.iter().map(|unserved| unserved.since).min();
    if oldest.is_some_and(|since| since + LONG_QUEUED < facts.now) {
        all.push(found(
            "tasks",
            Level::Warning,
            "tasks have been queued for more than an hour".to_owned(),
            "see handlers, above",
        ));
    }
    if all.len() == before {
        all.push(ok("tasks", "none is stuck".to_owned()));
    }
}

/// Whether an attempt should have been called off long ago.
fn overruns((spec, row): &(Spec, Row), now: Timestamp) -> bool {
    match (spec.timeout(), row.started) {
        (Some(timeout), Some(started)) => started + timeout + LATE < now,
        _ => false,
    }
}

/// Tells of the first few, and how many there are.
fn tell(all: &mut Vec<Finding>, tasks: &[&(Spec, Row)], level: Level, what: &str, hint: &str) {
    let Some((spec, _)) = tasks.first() else { return };
    let others = match tasks.len() - 1 {
        0 => String::new(),
        more => format!(", and {more} more like it"),
    };
    let message = format!("task {} ({}) {what}{others}", spec.id, spec.name.as_str());
    all.push(found("tasks", level, message, hint));
}

#[cfg(test)]
mod tests {
    use taskloom_model::{Admission, Name, Options, OwnerId, TaskId, admit};
    use taskloom_store::{Counts, Owner};

    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_772_323_200_000_000);

    fn well() -> Facts {
        let mut counts = Counts::default();
        counts.add(State::Queued, 3);
        Facts {
            now: NOW,
            version: "1.2.3",
            runtime: "Python 3.14.0".into(),
            kind: "sqlite",
            place: "/srv/tasks.db".into(),
            size: Some((1 << 20, 1 << 10)),
            free: Some(5 << 30),
            check: Ok(()),
            damaged: Vec::new(),
            owners: vec![owner(1, false)],
            queues: vec![(Name::new("default"), counts)],
            paused: Vec::new(),
            unserved: Vec::new(),
            running: Vec::new(),
            waiting: Vec::new(),
            newest: Some(NOW - Duration::from_secs(1)),
        }
    }

    fn owner(number: u64, gone: bool) -> Owner {
        Owner { id: OwnerId::new(number).unwrap(), name: format!("host:{number}"), beats: 7, gone }
    }

    fn task(state: State, ago: u64, options: &Options) -> (Spec, Row) {
        let admission = Admission::new(options).unwrap();
        let created = NOW - Duration::from_secs(ago);
        let id = TaskId::from_parts(7, [7; 10]);
        let (spec, mut row, _) = admit(&admission, id, Name::new("job"), b"{}".into(), created).unwrap();
        row.state = state;
        if state == State::Running {
            (row.owner, row.started) = (OwnerId::new(1), Some(created));
        }
        (spec, row)
    }

    fn told(facts: &Facts) -> Vec<(&'static str, Level)> {
        let all = findings(facts);
        all.iter().filter(|one| one.level != Level::Ok).map(|one| (one.check, one.level)).collect()
    }

    #[test]
    fn all_is_well() {
        assert_eq!(told(&well()), []);
        let checks: Vec<_> = findings(&well()).iter().map(|one| one.check).collect();
        assert_eq!(
            checks,
            ["store", "disk", "clock", "processes", "handlers", "queues", "tasks", "versions"]
        );
    }

    #[test]
    fn what_is_wrong_is_told() {
        let timeout = Options { timeout: Some(Duration::from_secs(1)), ..Options::default() };
        let none = Options::default();
        let unserved = Unserved { name: "job".into(), count: 2, since: NOW - Duration::from_secs(7) };
        let broken = taskloom_model::Error::new(taskloom_model::Code::CorruptRow, "task 1: no");
        for (facts, expected) in [
            (Facts { now: Timestamp::from_micros(1), newest: None, ..well() }, ("clock", Level::Problem)),
            (Facts { newest: Some(NOW + Duration::from_secs(60)), ..well() }, ("clock", Level::Warning)),
            (Facts { free: Some(1 << 20), ..well() }, ("disk", Level::Problem)),
            (Facts { free: Some(500 << 20), ..well() }, ("disk", Level::Warning)),
            (Facts { owners: vec![], ..well() }, ("processes", Level::Problem)),
            (
                Facts { owners: vec![owner(1, false), owner(2, true)], ..well() },
                ("processes", Level::Warning),
            ),
            (Facts { unserved: vec![unserved], ..well() }, ("handlers", Level::Problem)),
            (Facts { paused: vec![Name::new("mail")], ..well() }, ("queues", Level::Warning)),
            (Facts { damaged: vec![broken], ..well() }, ("rows", Level::Problem)),
            (Facts { size: Some((0, 1 << 40)), ..well() }, ("log", Level::Warning)),
            (
                Facts { running: vec![task(State::Running, 90, &timeout)], ..well() },
                ("tasks", Level::Problem),
            ),
            (
                Facts { running: vec![task(State::Running, 4_000, &none)], ..well() },
                ("tasks", Level::Warning),
            ),
            (Facts { waiting: vec![task(State::Retrying, 90, &none)], ..well() }, ("tasks", Level::Problem)),
        ] {
            assert_eq!(told(&facts), [expected]);
        }
        let left =
            Facts { owners: vec![owner(2, false)], running: vec![task(State::Running, 1, &none)], ..well() };
        assert_eq!(told(&left), [("tasks", Level::Warning)]);
        let in_time = Facts { running: vec![task(State::Running, 30, &timeout)], ..well() };
        assert_eq!(told(&in_time), []);
    }
}
