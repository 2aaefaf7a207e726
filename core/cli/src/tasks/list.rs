//! `tasks list`.

use clap::Args;
use serde_json::json;
use taskloom_model::{Row, Spec, State, TaskId, Timestamp, WaitingFor};
use taskloom_store::{Filter, Nobody};

use crate::exit::{self, Outcome};
use crate::filter::Which;
use crate::session::Session;
use crate::table::{Cell, Table, cut, number, whole};
use crate::terminal::Look;
use crate::{describe, values, words};

/// Lists tasks, the newest first
///
/// Nothing is written, and no other process is disturbed. A page ends with what to say for the next one.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  taskloom tasks list                                  the newest 20
  taskloom tasks list --state failed --queue mail
  taskloom tasks list --dead --limit 100               what failed, timed out, was cancelled or expired
  taskloom tasks list --unfinished --oldest-first      the backlog, from its beginning
  taskloom tasks list --json | jq -r '.tasks[].id'")]
pub(crate) struct List {
    #[command(flatten)]
    which: Which,
    /// Only those that have not ended
    #[arg(long, short = 'u', help_heading = "Which tasks")]
    unfinished: bool,
    /// Only dead letters: those that failed, timed out, were cancelled or expired
    #[arg(long, short = 'd', help_heading = "Which tasks", conflicts_with = "unfinished")]
    dead: bool,
    /// At most so many
    #[arg(long, short = 'l', value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// The page after this task, the last of the page before
    #[arg(long, value_name = "ID", value_parser = values::id)]
    after: Option<TaskId>,
    /// The oldest first
    #[arg(long)]
    oldest_first: bool,
}

impl List {
    pub(crate) fn run(self, session: &Session<'_>) -> Outcome {
        let limit = self.limit as usize;
        let filter = Filter {
            unfinished: self.unfinished,
            dead: self.dead,
            after: self.after,
            newest_first: !self.oldest_first,
            // One more tells whether there are more.
            limit: limit + 1,
            ..self.which.filter()?
        };
        let mut tasks = session.store()?.list(&filter, &Nobody)?;
        let more = tasks.len() > limit;
        tasks.truncate(limit);
        let next = tasks.last().filter(|_| more).map(|task| task.id().to_string());
        let rows: Vec<(&Spec, Row)> =
            tasks.iter().map(|task| (task.spec(), task.with_row(Clone::clone))).collect();
        if session.json {
            let all: Vec<_> = rows.iter().map(|(spec, row)| describe::summary(spec, row)).collect();
            session.say(&json!({ "tasks": all, "next": next }).to_string())?;
            return Ok(exit::DONE);
        }
        if rows.is_empty() {
            session.note(if self.which.is_everything() && !self.unfinished && !self.dead {
                "there are no tasks"
            } else {
                "no task fits; `taskloom queues list` shows how many are in which state"
            });
            return Ok(exit::DONE);
        }
        session.say(&table(&rows, session.now(), session.look))?;
        if let Some(next) = next {
            session.note(&format!("there are more: --after {next}"));
        }
        Ok(exit::DONE)
    }
}

/// The tasks as a table.
fn table(rows: &[(&Spec, Row)], now: Timestamp, look: Look) -> String {
    let mut table = Table::new(&[
        whole("ID"),
        cut("NAME"),
        cut("QUEUE").optional(),
        whole("STATE"),
        number("ATTEMPT").optional(),
        whole("CREATED"),
        cut("DETAIL"),
    ]);
    for (spec, row) in rows {
        let created =
            if look.is_terminal() { words::relative(spec.created, now) } else { spec.created.to_string() };
        table.row(vec![
            spec.id.to_string().into(),
            spec.name.as_str().into(),
            spec.queue.as_str().into(),
            Cell::painted(row.state.as_str(), words::colour_of(row.state)),
            row.attempt.to_string().into(),
            created.into(),
            detail(spec, row, now, look).into(),
        ]);
    }
    table.render(look)
}

/// What is worth knowing about a task in its state.
fn detail(spec: &Spec, row: &Row, now: Timestamp, look: Look) -> String {
    let time = |at| if look.is_terminal() { words::relative(at, now) } else { Timestamp::to_string(&at) };
    let history = row.history.as_deref();
    let error = || row.errors().last().map(|last| format!("{}: {}", last.kind, last.message));
    let reason = || history.and_then(|history| history.reason.clone());
    match row.state {
        State::Pending if row.waiting_for == WaitingFor::Eta => format!("starts {}", time(row.eligible)),
        State::Pending if row.waiting_for != WaitingFor::Nothing => {
            format!("waits for its {}", row.waiting_for.as_str())
        }
        State::Retrying => {
            let again = format!("again {}", time(row.eligible));
            error().map_or_else(|| again.clone(), |error| format!("{again}; {error}"))
        }
        State::Running => match history.and_then(|history| history.newest_progress()) {
            Some(progress) => {
                let message = progress.message.as_deref().unwrap_or_default();
                format!("{:.0} % {message}", progress.value * 100.0)
            }
            None => row.started.map_or(String::new(), |started| format!("since {}", time(started))),
        },
        State::Failed | State::TimedOut => error().or_else(reason).unwrap_or_default(),
        State::Cancelled | State::Expired | State::Skipped => reason().unwrap_or_default(),
        _ => spec.tags().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use taskloom_model::{Admission, Failure, History, Name, Options, Priority, Progress, admit};

    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_772_323_200_000_000);

    /// A task with this id, submitted so many seconds ago.
    fn task(number: u8, name: &str, ago: u64, options: Options) -> (Spec, Row) {
        let mut bytes = [number; 16];
        bytes[6] = 0x70;
        let options = Options { id: Some(TaskId::from_bytes(bytes)), ..options };
        let admission = Admission::new(&options).unwrap();
        let created = NOW - Duration::from_secs(ago);
        let admitted = admit(&admission, TaskId::from_bytes(bytes), Name::new(name), b"{}".into(), created);
        let (spec, row, _) = admitted.unwrap();
        (spec, row)
    }

    fn tasks() -> Vec<(Spec, Row)> {
        let mut failed =
            task(1, "mail/send", 3_700, Options { queue: Some("mail".into()), ..Options::default() });
        failed.1.state = State::Failed;
        failed.1.attempt = 4;
        failed.1.history = Some(Box::new(History {
            errors: vec![Failure {
                kind: "SMTPException".into(),
                message: "the server said\n\x1b[31mno\x1b[0m".into(),
                backtrace: String::new(),
                attempt: 4,
                at: NOW,
            }],
            ..History::default()
        }));
        let mut running =
            task(2, "resize", 12, Options { priority: Some(Priority::High), ..Options::default() });
        running.1.state = State::Running;
        running.1.attempt = 1;
        running.1.started = Some(NOW - Duration::from_secs(7));
        let mut telling = running.clone();
        telling.1.history = Some(Box::new(History {
            progress: vec![Progress { value: 0.4, message: Some("page 4".into()), at: NOW }],
            ..History::default()
        }));
        let later = When::In(Duration::from_secs(90));
        let pending = task(3, "report", 1, Options { eta: Some(later), ..Options::default() });
        let tagged = task(4, "ping", 0, Options { tags: vec!["a".into(), "b".into()], ..Options::default() });
        vec![failed, running, telling, pending, tagged]
    }

    use taskloom_model::When;

    fn shown(look: Look) -> String {
        let tasks = tasks();
        table(&tasks.iter().map(|(spec, row)| (spec, row.clone())).collect::<Vec<_>>(), NOW, look)
    }

    #[test]
    fn in_a_pipe() {
        insta::assert_snapshot!(shown(Look { width: None, colour: false, unicode: true }));
    }

    #[test]
    fn in_a_terminal() {
        insta::assert_snapshot!(shown(Look { width: Some(110), colour: false, unicode: true }));
    }

    #[test]
    fn in_a_narrow_terminal_with_colours() {
        insta::assert_snapshot!(
            shown(Look { width: Some(80), colour: true, unicode: false }).replace('\x1b', "^")
        );
    }
}
