//! `tasks show`.

use clap::Args;
use serde_json::Value;
use taskloom_model::{Row, Spec, State, TaskId, Timestamp};
use taskloom_store::Nobody;

use super::unknown;
use crate::exit::{self, Outcome};
use crate::session::Session;
use crate::terminal::{Colour, Look};
use crate::words::{clean, clean_lines};
use crate::{describe, values, words};

/// Shows everything about a task: what was asked for, what has become of it, its errors, its log
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  taskloom tasks show 01956a0c-7d00-7a31-8c55-0a8f3d1c9b02
  taskloom tasks show 01956a0c-7d00-7a31-8c55-0a8f3d1c9b02 --json | jq .result")]
pub(crate) struct Show {
    /// The task's id
    #[arg(value_parser = values::id)]
    id: TaskId,
}

impl Show {
    pub(crate) fn run(self, session: &Session<'_>) -> Outcome {
        let task = session.store()?.get(self.id, &Nobody)?.ok_or_else(|| unknown(self.id))?;
        session.answer(
            || describe::task(&task),
            || task.with_row(|row| page(task.spec(), row, session.now(), session.look)),
        )?;
        Ok(exit::DONE)
    }
}

/// A task as a page to read.
fn page(spec: &Spec, row: &Row, now: Timestamp, look: Look) -> String {
    let mut page = Page { look, now, out: String::new() };
    let rare = spec.rare.as_deref();
    let history = row.history.as_deref();
    page.line("id", &spec.id.to_string());
    page.line("handler", &versioned(spec));
    let mut state = look.paint(row.state.as_str(), words::colour_of(row.state));
    if row.state == State::Pending {
        state.push_str(&format!(", waits for its {}", row.waiting_for.as_str()));
    }
    page.raw("state", &state);
    page.line("queue", &format!("{}, {} priority", spec.queue.as_str(), spec.priority.as_str()));
    page.line("attempts", &attempts(spec, row));
    page.time("created", Some(spec.created));
    if row.eligible != spec.created && !row.state.is_terminal() {
        page.time("eligible", Some(row.eligible).filter(|at| *at != Timestamp::MAX));
    }
    page.time("started", row.started);
    page.time("finished", row.finished);
    if let (Some(started), Some(finished)) = (row.started, row.finished) {
        page.line("ran for", &words::span(finished.since(started)));
    }
    page.time("expires", spec.expires());
    page.time("deadline", spec.deadline());
    page.line("timeout", &spec.timeout().map_or(String::new(), words::span));
    page.line("tags", &spec.tags().join(", "));
    page.line("unique key", spec.unique().map_or("", |unique| unique.key.as_str()));
    page.line("key", spec.key().unwrap_or_default());
    for (key, value) in rare.map(|rare| rare.metadata.as_slice()).unwrap_or_default() {
        page.line("metadata", &format!("{key} = {value}"));
    }
    page.line("correlation", rare.and_then(|rare| rare.correlation_id.as_deref()).unwrap_or_default());
    page.line("parent", &spec.parent().map_or(String::new(), |parent| parent.id.to_string()));
    page.line("schedule", spec.scheduled().map_or("", |scheduled| scheduled.schedule.as_str()));
    if let Some(history) = history {
        page.line(
            "children",
            &if history.children == 0 { String::new() } else { history.children.to_string() },
        );
        page.line("reason", history.reason.as_deref().unwrap_or_default());
        if let Some(progress) = history.newest_progress() {
            let message = progress.message.as_deref().unwrap_or_default();
            page.line("progress", format!("{:.0} %  {message}", progress.value * 100.0).trim_end());
        }
    }
    page.json("input", &spec.payload);
    if let Some(result) = row.result.as_deref() {
        page.json("result", result);
    }
    for error in row.errors() {
        let title = format!("error of attempt {}, {}", error.attempt, page.told(error.at));
        page.title(&title);
        let text = if error.backtrace.trim().is_empty() {
            format!("{}: {}", error.kind, error.message)
        } else {
            error.backtrace.clone()
        };
        page.block(&text, Some(Colour::Red));
    }
    if let Some(history) = history.filter(|history| !history.log.is_empty()) {
        page.title(&match history.log_dropped {
            0 => "log".to_owned(),
            dropped => format!("log (after {dropped} lines that were dropped)"),
        });
        for line in &history.log {
            page.block(&format!("{}  {:7} {}", line.at, line.level, line.message), None);
        }
    }
    page.out
}

fn versioned(spec: &Spec) -> String {
    match spec.version() {
        Some(version) => format!("{} {version}", spec.name.as_str()),
        None => spec.name.as_str().to_owned(),
    }
}

fn attempts(spec: &Spec, row: &Row) -> String {
    let mut text = row.attempt.to_string();
    let mut add = |number: u64, one: &str, many: &str| {
        if number > 0 {
            text.push_str(&format!(", {}", words::count(number, one, many)));
        }
    };
    add(row.failures.into(), "failure", "failures");
    add(row.crashes.into(), "lost worker", "lost workers");
    add(spec.retries.into(), "retry allowed", "retries allowed");
    add(row.generation.into(), "replay", "replays");
    text
}

/// The width of a label.
const LABEL: usize = 12;

struct Page {
    look: Look,
    now: Timestamp,
    out: String,
}

impl Page {
    /// A line of text; none for an empty one.
    fn line(&mut self, label: &str, text: &str) {
        if !text.is_empty() {
            self.raw(label, &clean(text));
        }
    }

    /// A line that is known to steer no terminal but as it should.
    fn raw(&mut self, label: &str, text: &str) {
        let label = self.look.paint(&format!("{label:LABEL$}"), Some(Colour::Bold));
        self.out.push_str(&format!("{label}{text}\n"));
    }

    fn time(&mut self, label: &str, at: Option<Timestamp>) {
        if let Some(at) = at {
            let text = self.told(at);
            self.line(label, &text);
        }
    }

    /// A time; in a terminal also how far away that is.
    fn told(&self, at: Timestamp) -> String {
        if self.look.is_terminal() {
            format!("{at} ({})", words::relative(at, self.now))
        } else {
            at.to_string()
        }
    }

    fn title(&mut self, title: &str) {
        let title = self.look.paint(title, Some(Colour::Bold));
        self.out.push_str(&format!("\n{title}\n"));
    }

    fn block(&mut self, text: &str, colour: Option<Colour>) {
        for line in clean_lines(text).lines() {
            let line = self.look.paint(line, colour);
            self.out.push_str(&format!("  {line}\n"));
        }
    }

    /// JSON: short on the line of its label, long by itself.
    fn json(&mut self, label: &str, stored: &[u8]) {
        let value: Value = describe::stored(stored);
        let short = value.to_string();
        if short.chars().count() + LABEL <= self.look.width.unwrap_or(100) {
            self.line(label, &short);
        } else {
            self.title(label);
            let long = format!("{value:#}");
            self.block(&long, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use taskloom_model::{Admission, Failure, History, LogLine, Name, Options, Progress, admit};

    use super::*;

    #[test]
    fn a_page_says_what_there_is_to_say() {
        let now = Timestamp::from_micros(1_772_323_200_000_000);
        let options = Options {
            tags: vec!["img".into()],
            retries: Some(2),
            timeout: Some(Duration::from_secs(90)),
            metadata: vec![("initiator".into(), "ada".into())],
            ..Options::default()
        };
        let mut bytes = [7; 16];
        bytes[6] = 0x70;
        let payload = br#"{"path":"a.png","width":100}"#;
        let admission = Admission::new(&options).unwrap();
        let created = now - Duration::from_secs(60);
        let (spec, mut row, _) =
            admit(&admission, TaskId::from_bytes(bytes), Name::new("resize"), payload.into(), created)
                .unwrap();
        row.state = State::Failed;
        (row.attempt, row.failures) = (3, 3);
        row.started = Some(now - Duration::from_secs(3));
        row.finished = Some(now - Duration::from_secs(1));
        let failure = |attempt, backtrace: &str| Failure {
            kind: "OSError".into(),
            message: "no space left".into(),
            backtrace: backtrace.into(),
            attempt,
            at: now,
        };
        row.history = Some(Box::new(History {
            errors: vec![failure(2, ""), failure(3, "Traceback:\n\tx()\nOSError: no space left\n")],
            progress: vec![Progress { value: 0.25, message: None, at: now }],
            log: vec![LogLine {
                at: now,
                level: "info".into(),
                message: "one\ntwo \x1b[2J".into(),
                attempt: 1,
            }],
            children: 2,
            ..History::default()
        }));
        for (name, width) in [("pipe", None), ("terminal", Some(40))] {
            let look = Look { width, colour: false, unicode: true };
            insta::assert_snapshot!(format!("page_in_a_{name}"), page(&spec, &row, now, look));
        }
    }
}
