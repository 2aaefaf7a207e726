//! `schedules`: which there are, when they fire next, and whether they do.

use clap::{Args, Subcommand};
use serde_json::json;
use taskloom_model::{CatchUp, Code, DEFAULT_QUEUE, Error, Result, Rule, ScheduleRow, Timestamp, nearest};
use taskloom_store::Store;

use crate::describe;
use crate::exit::{self, Outcome};
use crate::session::Session;
use crate::table::{Cell, Table, cut, number, whole};
use crate::terminal::{Colour, Look};
use crate::words::{self, clean};

/// Shows schedules; enables, disables, triggers and removes them
#[derive(Debug, Subcommand)]
#[command(arg_required_else_help = true)]
pub(crate) enum Schedules {
    List(List),
    Show(Show),
    Next(Next),
    Enable(Enable),
    Disable(Disable),
    Trigger(Trigger),
    Remove(Remove),
}

/// Lists all schedules, by name
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  taskloom schedules list
  taskloom schedules list --json | jq '.schedules[] | {name, next}'")]
pub(crate) struct List {}

/// Shows everything about a schedule
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  taskloom schedules show nightly")]
pub(crate) struct Show {
    /// The schedule's name
    name: String,
}

/// Shows when a schedule fires next
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  taskloom schedules next nightly
  taskloom schedules next nightly --count 30")]
pub(crate) struct Next {
    /// The schedule's name
    name: String,
    /// So many firings
    #[arg(long, short = 'c', default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    count: u16,
}

/// Lets a disabled schedule fire again, from now on
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  taskloom schedules enable nightly")]
pub(crate) struct Enable {
    /// The schedule's name
    name: String,
}

/// Has a schedule not fire, in any process, until it is enabled. What it has submitted goes on
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  taskloom schedules disable nightly")]
pub(crate) struct Disable {
    /// The schedule's name
    name: String,
}

/// Submits the task of a schedule now. Its next firing stays when it is
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  taskloom schedules trigger nightly")]
pub(crate) struct Trigger {
    /// The schedule's name
    name: String,
}

/// Removes a schedule. An app that declares it in code makes it anew when it starts
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  taskloom schedules remove nightly")]
pub(crate) struct Remove {
    /// The schedule's name
    name: String,
}

impl Schedules {
    pub(crate) fn run(self, session: &Session<'_>) -> Outcome {
        match self {
            Self::List(_) => list(session),
            Self::Show(Show { name }) => {
                let row = find(&*session.store()?, &name)?;
                session.answer(|| describe::schedule(&row), || page(&row, session.now(), session.look))?;
                Ok(exit::DONE)
            }
            Self::Next(Next { name, count }) => next(session, &name, count.into()),
            Self::Enable(Enable { name }) => switch(session, &name, true),
            Self::Disable(Disable { name }) => switch(session, &name, false),
            Self::Trigger(Trigger { name }) => {
                let engine = session.engine()?;
                let handle = engine.trigger_schedule(&name)?;
                session.answer(|| describe::task(handle.task()), || handle.id().to_string())?;
                Ok(exit::DONE)
            }
            Self::Remove(Remove { name }) => {
                session.engine()?.remove_schedule(&name)?;
                session
                    .answer(|| json!({ "removed": name }), || format!("removed schedule {}", clean(&name)))?;
                Ok(exit::DONE)
            }
        }
    }
}

/// The schedule of this name, or the nearest name there is.
fn find(store: &dyn Store, name: &str) -> Result<ScheduleRow> {
    if let Some(row) = store.schedule(name)? {
        return Ok(row);
    }
    let all = store.schedules()?;
    let error = Error::new(Code::UnknownSchedule, format!("no schedule {name:?}"));
    Err(match nearest(name, all.iter().map(|row| row.spec.name.as_str())) {
        Some(near) => error.hint(format!("did you mean {near:?}?")),
        None if all.is_empty() => error.hint("the store has no schedules"),
        None => error.hint("taskloom schedules list shows which there are"),
    })
}

fn list(session: &Session<'_>) -> Outcome {
    let rows = session.store()?.schedules()?;
    session.answer(
        || json!({ "schedules": rows.iter().map(describe::schedule).collect::<Vec<_>>() }),
        || if rows.is_empty() { String::new() } else { table(&rows, session.now(), session.look) },
    )?;
    if rows.is_empty() {
        session.note("there are no schedules");
    }
    Ok(exit::DONE)
}

fn rule(rule: &Rule) -> String {
    match rule {
        Rule::Cron { expression, tz } if tz == "UTC" => expression.clone(),
        Rule::Cron { expression, tz } => format!("{expression} ({tz})"),
        Rule::Every(interval) => format!("every {}", words::span(*interval)),
        Rule::Once(at) => format!("once at {at}"),
    }
}

fn table(rows: &[ScheduleRow], now: Timestamp, look: Look) -> String {
    let mut table = Table::new(&[
        whole("NAME"),
        whole("STATUS"),
        cut("RULE"),
        cut("HANDLER"),
        whole("NEXT"),
        whole("LAST").optional(),
        number("RUNS").optional(),
        number("FAILURES").optional(),
    ]);
    let time = |at: Option<Timestamp>| match at {
        None => String::new(),
        Some(at) if look.is_terminal() => words::relative(at, now),
        Some(at) => at.to_string(),
    };
    for row in rows {
        let status = match (row.enabled, row.next) {
            (false, _) => Cell::painted("disabled", Some(Colour::Yellow)),
            (true, None) => Cell::painted("over", Some(Colour::Dim)),
            (true, Some(_)) => Cell::painted("enabled", Some(Colour::Green)),
        };
        table.row(vec![
            row.spec.name.as_str().into(),
            status,
            rule(&row.spec.rule).into(),
            row.spec.template.handler.as_str().into(),
            time(row.next.filter(|_| row.enabled)).into(),
            time(row.last).into(),
            row.runs.to_string().into(),
            row.failures.to_string().into(),
        ]);
    }
    table.render(look)
}

fn page(row: &ScheduleRow, now: Timestamp, look: Look) -> String {
    let spec = &row.spec;
    let time = |at: Option<Timestamp>| match at {
        None => String::new(),
        Some(at) if look.is_terminal() => format!("{at} ({})", words::relative(at, now)),
        Some(at) => at.to_string(),
    };
    let status = if row.enabled { "enabled" } else { "disabled" };
    let catch_up = match spec.catch_up {
        CatchUp::None => "none".to_owned(),
        CatchUp::Last => "last".to_owned(),
        CatchUp::All(most) => format!("all, up to {most}"),
    };
    let lines = [
        ("name", spec.name.clone()),
        ("status", status.to_owned()),
        ("rule", rule(&spec.rule)),
        ("handler", spec.template.handler.clone()),
        ("input", String::from_utf8_lossy(&spec.template.payload).into_owned()),
        ("queue", spec.template.options.queue.clone().unwrap_or_else(|| DEFAULT_QUEUE.to_owned())),
        ("overlap", describe::overlap(spec.overlap).to_owned()),
        ("catch up", catch_up),
        ("jitter", if spec.jitter.is_zero() { String::new() } else { words::span(spec.jitter) }),
        ("start", time(spec.start)),
        ("end", time(spec.end)),
        ("next", time(row.next)),
        ("last", time(row.last)),
        ("last task", row.last_task.map_or(String::new(), |id| id.to_string())),
        ("runs", row.runs.to_string()),
        ("failures", row.failures.to_string()),
        ("skipped", row.skipped.to_string()),
    ];
    lines
        .iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(label, text)| {
            format!("{}{}\n", look.paint(&format!("{label:12}"), Some(Colour::Bold)), clean(text))
        })
        .collect()
}

fn next(session: &Session<'_>, name: &str, count: usize) -> Outcome {
    let row = find(&*session.store()?, name)?;
    let firings = row.firings(count)?;
    session.answer(
        || json!({ "name": name, "enabled": row.enabled, "next": firings.iter().map(|at| describe::time(*at)).collect::<Vec<_>>() }),
        || {
            let now = session.now();
            let line = |at: &Timestamp| {
                if session.look.is_terminal() {
                    format!("{at}  {}\n", words::relative(*at, now))
                } else {
                    format!("{at}\n")
                }
            };
            firings.iter().map(line).collect()
        },
    )?;
    if !row.enabled {
        session.note(&format!("schedule {name:?} is disabled, and does not fire until it is enabled"));
    } else if firings.is_empty() {
        session.note(&format!("schedule {name:?} does not fire any more"));
    }
    Ok(exit::DONE)
}

fn switch(session: &Session<'_>, name: &str, enabled: bool) -> Outcome {
    let engine = session.engine()?;
    let changed = if enabled { engine.enable_schedule(name)? } else { engine.disable_schedule(name)? };
    let word = if enabled { "enabled" } else { "disabled" };
    session.answer(
        || json!({ "name": name, "enabled": enabled, "changed": changed }),
        || if changed { format!("{word} schedule {}", clean(name)) } else { String::new() },
    )?;
    if !changed {
        session.note(&format!("schedule {name:?} was {word} already"));
    }
    Ok(exit::DONE)
}
