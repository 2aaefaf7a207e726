//! What a supervisor tells people, and in which words.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{ChildId, Ending, Why};

/// A process, for people: the number of its place stays the same when another takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Who {
    /// Which one.
    pub(crate) child: ChildId,
    /// Its place, from 1.
    pub(crate) place: usize,
}

/// Something that people are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// A process was started.
    Started { who: Who },
    /// A process has been starting for long.
    Slow { who: Who, since: Duration },
    /// A process runs tasks.
    Ready { who: Who, handlers: usize, store: String },
    /// Two processes of the same code have different handlers.
    Differs { who: Who, from: Who, lacks: Vec<String>, alone: Vec<String> },
    /// A process ended by itself; `None` if nobody follows, since its place has a process that goes on.
    Ended { who: Who, how: Ending, again_in: Option<Duration>, was_ready: bool },
    /// The first process ended before it was ready.
    NeverReady { who: Who, how: Ending },
    /// A process that was told to leave has left.
    Left { who: Who, why: Why, how: Ending, killed: bool },
    /// A process has run as many tasks as it may.
    EnoughTasks { who: Who, ended: u64 },
    /// A process has nearly as much memory as it may.
    MuchMemory { who: Who, bytes: u64, bound: u64 },
    /// A process has more memory than it may, and is killed.
    TooMuchMemory { who: Who, bytes: u64, bound: u64 },
    /// A process has not left by its deadline, and is killed.
    TooLate { who: Who },
    /// All processes are being replaced.
    Reloading { processes: usize },
    /// All have been.
    Reloaded,
    /// They are not: a new one ended before it was ready. How many run the new code, and how many what was there before.
    NotReloaded { who: Who, new: usize, old: usize },
    /// A signal has come: processes finish what they run.
    Stopping { signal: i32, processes: usize, grace: Duration },
    /// Another signal has come: they give back what they run.
    AtOnce { signal: i32 },
}

impl Notice {
    /// The line for people. `pid` knows the number that the system has given a process.
    pub(crate) fn text(&self, pid: impl Fn(ChildId) -> Option<u32>) -> String {
        let name = |who: &Who| match pid(who.child) {
            Some(pid) => format!("worker {} (pid {pid})", who.place),
            None => format!("worker {}", who.place),
        };
        match self {
            Self::Started { who } => format!("{} started", name(who)),
            Self::Slow { who, since } => {
                format!("{} has been starting for {}: its imports take long", name(who), span(*since))
            }
            Self::Ready { who, handlers: 0, store } => {
                format!("{} is ready, but has no handlers: it runs nothing of {store}", name(who))
            }
            Self::Ready { who, handlers, store } => {
                format!("{} is ready: {} on {store}", name(who), many(*handlers, "handler"))
            }
            Self::Differs { who, from, lacks, alone } => {
                let mut text = format!("{} differs from {}:", name(who), name(from));
                let list = |names: &[String]| names.join(", ");
                if !lacks.is_empty() {
                    let _ = write!(text, " it lacks the handlers {};", list(lacks));
                }
                if !alone.is_empty() {
                    let _ = write!(text, " only it has the handlers {};", list(alone));
                }
                text + " what a module registers should not depend on chance, time or environment"
            }
            Self::Ended { who, how, again_in, was_ready } => {
                let when = if *was_ready { "by itself" } else { "before it was ready" };
                let mut text = format!("{} ended {when}: {}", name(who), ending(how));
                if let Some(again_in) = again_in {
                    let _ = write!(text, "; another follows in {}", span(*again_in));
                }
                text
            }
            Self::NeverReady { who, how } => {
                format!("{} ended before it was ready: {}; nothing else is started", name(who), ending(how))
            }
            Self::Left { who, why, how, killed } => {
                let how = match how {
                    Ending::Exited(0) => String::new(),
                    other => format!(": {}", ending(other)),
                };
                let tasks = if *killed { "; what it ran goes on elsewhere" } else { "" };
                format!("{} has left ({}){how}{tasks}", name(who), why.text())
            }
            Self::EnoughTasks { who, ended } => {
                format!(
                    "{} has run {}: it is replaced",
                    name(who),
                    many(usize::try_from(*ended).unwrap_or(usize::MAX), "task")
                )
            }
            Self::MuchMemory { who, bytes, bound } => format!(
                "{} has {} of memory, near its bound of {}: it is replaced",
                name(who),
                size(*bytes),
                size(*bound)
            ),
            Self::TooMuchMemory { who, bytes, bound } => format!(
                "{} has {} of memory, more than its bound of {}: it is killed",
                name(who),
                size(*bytes),
                size(*bound)
            ),
            Self::TooLate { who } => format!("{} has not left in time: it is killed", name(who)),
            Self::Reloading { processes } => {
                format!("SIGHUP: {} replaced, one after the other", are(*processes, "worker"))
            }
            Self::Reloaded => "all workers have been replaced".to_owned(),
            Self::NotReloaded { new, old, .. } => {
                let who_runs = match (*new, *old) {
                    (0, 0) => "no worker runs".to_owned(),
                    (0, 1) => "1 worker goes on with the code that it has".to_owned(),
                    (0, old) => format!("{old} workers go on with the code that they have"),
                    (new, old) => format!("{} with new code and {old} with old go on", many(new, "worker")),
                };
                format!(
                    "the reload is given up: {who_runs}; mend the new code (see above) and send SIGHUP again"
                )
            }
            Self::Stopping { signal, processes, grace } => format!(
                "{}: {} stopping; what runs may take {} more (again: at once)",
                signal_name(*signal),
                are(*processes, "worker"),
                span(*grace)
            ),
            Self::AtOnce { signal } => {
                format!("{} again: what runs is given back (again: killed)", signal_name(*signal))
            }
        }
    }

    /// The same for programs.
    pub(crate) fn json(&self, pid: impl Fn(ChildId) -> Option<u32>) -> Map<String, Value> {
        let mut all = Map::new();
        all.insert("event".into(), self.name().into());
        if let Some(who) = self.who() {
            all.insert("worker".into(), who.place.into());
            all.insert("pid".into(), pid(who.child).into());
        }
        match self {
            Self::Ended { how, .. } | Self::NeverReady { how, .. } | Self::Left { how, .. } => {
                let (code, signal) = match how {
                    Ending::Exited(code) => (Some(*code), None),
                    Ending::Signalled(signal) => (None, Some(signal_name(*signal))),
                    Ending::NotStarted(_) => (None, None),
                };
                all.insert("exit_code".into(), code.into());
                all.insert("signal".into(), signal.into());
            }
            Self::Ready { handlers, store, .. } => {
                all.insert("handlers".into(), (*handlers).into());
                all.insert("store".into(), store.as_str().into());
            }
            Self::Differs { lacks, alone, .. } => {
                all.insert("lacks".into(), json!(lacks));
                all.insert("alone".into(), json!(alone));
            }
            Self::MuchMemory { bytes, bound, .. } | Self::TooMuchMemory { bytes, bound, .. } => {
                all.insert("bytes".into(), (*bytes).into());
                all.insert("bound".into(), (*bound).into());
            }
            Self::EnoughTasks { ended, .. } => {
                all.insert("tasks".into(), (*ended).into());
            }
            _ => {}
        }
        if let Self::Left { why, .. } = self {
            all.insert("why".into(), why.text().into());
        }
        if let Self::Ended { again_in, .. } = self {
            all.insert("again_in".into(), again_in.map(|wait| wait.as_secs_f64()).into());
        }
        if let Self::NotReloaded { new, old, .. } = self {
            all.insert("new".into(), (*new).into());
            all.insert("old".into(), (*old).into());
        }
        all.insert("message".into(), self.text(pid).into());
        all
    }

    /// Its name among the events of `--json`: part of the contract.
    fn name(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Slow { .. } => "slow",
            Self::Ready { .. } => "ready",
            Self::Differs { .. } => "differs",
            Self::Ended { .. } => "ended",
            Self::NeverReady { .. } => "failed",
            Self::Left { .. } => "left",
            Self::EnoughTasks { .. } => "enough_tasks",
            Self::MuchMemory { .. } => "much_memory",
            Self::TooMuchMemory { .. } => "too_much_memory",
            Self::TooLate { .. } => "too_late",
            Self::Reloading { .. } => "reloading",
            Self::Reloaded => "reloaded",
            Self::NotReloaded { .. } => "not_reloaded",
            Self::Stopping { .. } => "stopping",
            Self::AtOnce { .. } => "at_once",
        }
    }

    fn who(&self) -> Option<Who> {
        match self {
            Self::Started { who }
            | Self::Slow { who, .. }
            | Self::Ready { who, .. }
            | Self::Differs { who, .. }
            | Self::Ended { who, .. }
            | Self::NeverReady { who, .. }
            | Self::Left { who, .. }
            | Self::EnoughTasks { who, .. }
            | Self::MuchMemory { who, .. }
            | Self::TooMuchMemory { who, .. }
            | Self::TooLate { who }
            | Self::NotReloaded { who, .. } => Some(*who),
            Self::Reloading { .. } | Self::Reloaded | Self::Stopping { .. } | Self::AtOnce { .. } => None,
        }
    }
}

impl Why {
    fn text(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Reload => "reload",
            Self::MaxTasks => "maximum of tasks",
            Self::MuchMemory | Self::TooMuchMemory => "memory",
        }
    }
}

fn ending(how: &Ending) -> String {
    match how {
        Ending::Exited(code) => format!("exit code {code}"),
        Ending::Signalled(signal) => format!("killed by {}", signal_name(*signal)),
        Ending::NotStarted(why) => why.clone(),
    }
}

/// What a signal is called; its numbers below 16 are the same on every Unix that we know of.
fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        _ => return format!("signal {signal}"),
    };
    name.to_owned()
}

fn many(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn are(count: usize, what: &str) -> String {
    format!("{} {}", many(count, what), if count == 1 { "is" } else { "are" })
}

fn span(span: Duration) -> String {
    if span < Duration::from_secs(1) {
        format!("{} ms", span.as_millis())
    } else if span.as_secs() >= 10 {
        format!("{:.0} s", span.as_secs_f64())
    } else {
        format!("{:.1} s", span.as_secs_f64())
    }
}

fn size(bytes: u64) -> String {
    let megabytes = bytes >> 20;
    if megabytes == 0 { format!("{} KB", bytes >> 10) } else { format!("{megabytes} MB") }
}
