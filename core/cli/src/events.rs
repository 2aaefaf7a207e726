//! `events tail`: what happens to tasks, as it can be seen from another process.
//!
//! Events are published in the process where something happens, and nowhere else. What another process can see are the rows
//! that they leave in the store: so this looks at what was changed, and tells what follows from that ([`follow`]). It looks
//! when the store tells news, and no more often than that looking takes a tenth of the time: each look goes over all tasks.

mod follow;

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use taskloom_engine::{Clock, Pattern, SystemClock, catalog};
use taskloom_model::{Code, Error, Result};
use taskloom_store::{Filter, Nobody};

use crate::describe;
use crate::exit::{self, Outcome};
use crate::session::Session;
use crate::terminal::{Colour, Look};
use crate::words::clean;

use follow::{Follower, MARGIN, SEEN, Told};

/// Shows what happens
#[derive(Debug, Subcommand)]
#[command(arg_required_else_help = true)]
pub(crate) enum Events {
    Tail(Tail),
}

/// Shows what happens to tasks, as it happens, until Ctrl-C
///
/// What is shown is what the store shows to other processes: task.submitted, task.started, task.progress, task.log,
/// task.retrying, task.succeeded, task.failed, task.timed_out, task.cancelled, task.expired and task.skipped. Of a task that
/// goes through an attempt twice between two looks, only the last start is seen. Events of other kinds (queue.*, worker.*,
/// your own) are published in your app's process only: subscribe there, with app.on(…).
///
/// With --json, each event is a line.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  taskloom events tail
  taskloom events tail 'task.failed'
  taskloom events tail 'task.*' --queue mail --json | jq -r .data.name")]
pub(crate) struct Tail {
    /// Which events: a name, or a pattern such as 'task.*'
    #[arg(default_value = "*")]
    pattern: String,
    /// Only of tasks in this queue
    #[arg(long, short = 'q')]
    queue: Option<String>,
    /// Only of tasks of this handler
    #[arg(long, short = 'n')]
    name: Option<String>,
    /// End after so many
    #[arg(long, short = 'c', value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

/// How long to wait for news, at most.
const SAFETY: Duration = Duration::from_secs(1);

/// The shortest pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);

impl Events {
    pub(crate) fn run(self, session: &Session<'_>) -> Outcome {
        match self {
            Self::Tail(command) => command.run(session),
        }
    }
}

impl Tail {
    fn run(self, session: &Session<'_>) -> Outcome {
        let pattern = visible(&self.pattern)?;
        let store = session.store()?;
        let changed = |since| -> Result<Vec<_>> {
            let filter = Filter { changed_since: Some(since), limit: usize::MAX, ..Filter::default() };
            store.list(&filter, &Nobody)
        };
        let mut follower = Follower::new(session.now());
        // What had happened before is not news.
        follower.look(&changed(follower.since())?, session.now());
        session.note("following the store; Ctrl-C ends it");
        let mut left = self.count.unwrap_or(u64::MAX);
        loop {
            store.await_news(SAFETY);
            store.check()?;
            let began = SystemClock.monotonic();
            let mut text = String::new();
            for told in follower.look(&changed(follower.since())?, session.now()) {
                if left == 0 || !pattern.matches(told.name) || !self.concerns(&told) {
                    continue;
                }
                left -= 1;
                text.push_str(&if session.json { as_json(&told) } else { line(&told, session.look) });
                text.push('\n');
            }
            if !text.is_empty() {
                session.say(&text)?;
            }
            if left == 0 {
                return Ok(exit::DONE);
            }
            // Woken early, it looks early: no harm.
            std::thread::park_timeout(PAUSE.max((SystemClock.monotonic() - began) * 9).min(MARGIN / 2));
        }
    }

    fn concerns(&self, told: &Told) -> bool {
        let is = |wanted: &Option<String>, key: &str| {
            wanted.as_ref().is_none_or(|wanted| told.data[key].as_str() == Some(wanted))
        };
        is(&self.queue, "queue") && is(&self.name, "name")
    }
}

/// The pattern, if anything that can be seen from here fits it.
fn visible(text: &str) -> Result<Pattern> {
    let pattern = Pattern::new(text)?;
    if SEEN.iter().any(|name| pattern.matches(name)) {
        return Ok(pattern);
    }
    let known = catalog().iter().any(|event| pattern.matches(event.name));
    let what = if known { "are published in the process where they happen" } else { "are your app's own" };
    Err(Error::new(
        Code::InvalidOption,
        format!("events that fit {text:?} {what}, and cannot be seen from here"),
    )
    .hint(format!("subscribe in your app, with app.on({text:?}, …); seen from here are {}", SEEN.join(", "))))
}

fn as_json(told: &Told) -> String {
    json!({
        "name": told.name,
        "time": describe::time(told.at),
        "task_id": told.task.to_string(),
        "data": told.data,
    })
    .to_string()
}

/// An event as a line.
fn line(told: &Told, look: Look) -> String {
    let at = told.at.to_string();
    // In a terminal the time of day will do.
    let at = if look.is_terminal() { at[11..23].to_owned() } else { at };
    let colour = match told.name {
        "task.succeeded" => Some(Colour::Green),
        "task.failed" | "task.timed_out" => Some(Colour::Red),
        "task.retrying" => Some(Colour::Yellow),
        "task.started" => Some(Colour::Blue),
        "task.cancelled" | "task.expired" => Some(Colour::Magenta),
        "task.submitted" => Some(Colour::Cyan),
        _ => None,
    };
    let name = look.paint(&format!("{:15}", told.name), colour);
    let handler = told.data["name"].as_str().unwrap_or_default();
    let text = format!("{at}  {name} {} {}{}", told.task, clean(handler), clean(&detail(told)));
    text.trim_end().to_owned()
}

fn detail(told: &Told) -> String {
    let data = &told.data;
    let text = |key: &str| data[key].as_str().map_or(String::new(), |text| format!("  {text}"));
    let error = || {
        data["error"].as_object().map_or(String::new(), |error| {
            let part = |key: &str| error.get(key).and_then(|value| value.as_str()).unwrap_or_default();
            format!("  {}: {}", part("type"), part("message"))
        })
    };
    match told.name {
        "task.started" => format!("  attempt {}", data["attempt"]),
        "task.succeeded" => data["duration"].as_f64().map_or(String::new(), |span| format!("  {span:.3} s")),
        "task.progress" => {
            format!("  {:.0} %{}", data["value"].as_f64().unwrap_or(0.0) * 100.0, text("message"))
        }
        "task.log" => format!("{}{}", text("level"), text("message")),
        "task.submitted" => text("queue"),
        "task.cancelled" | "task.expired" | "task.skipped" => text("reason"),
        _ => error(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_refused() {
        assert!(visible("*").is_ok() && visible("task.*").is_ok() && visible("task.failed").is_ok());
        for (pattern, said) in
            [("queue.*", "are published in the process"), ("order.*", "are your app's own")]
        {
            let error = visible(pattern).unwrap_err();
            assert!(error.message().contains(said), "{error}");
        }
        assert!(visible("task.faild").is_err());
    }
}
