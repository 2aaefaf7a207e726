//! `queues`: how full they are, and whether anything is taken from them.

use clap::{Args, Subcommand};
use serde_json::json;
use taskloom_model::{DEFAULT_QUEUE, Name, Result, State, check_name, nearest};
use taskloom_store::{Counts, Store};

use crate::describe;
use crate::exit::{self, Outcome};
use crate::session::Session;
use crate::table::{Cell, Table, number, whole};
use crate::terminal::{Colour, Look};
use crate::words::{self, count};

/// Shows queues; pauses, resumes and empties them
#[derive(Debug, Subcommand)]
#[command(arg_required_else_help = true)]
pub(crate) enum Queues {
    List(List),
    Pause(Pause),
    Resume(Resume),
    Purge(Purge),
}

/// Shows each queue: whether it is paused, and how many of its tasks are in which state
///
/// Every task of the store is counted, which takes a moment where there are millions.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  taskloom queues list
  taskloom queues list --json | jq '.queues[] | select(.tasks.queued > 1000).name'")]
pub(crate) struct List {}

/// Pauses queues: none of their tasks begins, in any process, until they are resumed. What runs goes on
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  taskloom queues pause mail
  taskloom queues pause mail reports")]
pub(crate) struct Pause {
    /// Queues
    #[arg(required = true)]
    queues: Vec<String>,
}

/// Lets paused queues go on
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  taskloom queues resume mail")]
pub(crate) struct Resume {
    /// Queues
    #[arg(required = true)]
    queues: Vec<String>,
}

/// Cancels everything in a queue that is not running
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  taskloom queues purge mail
  taskloom tasks replay --state cancelled --queue mail     takes it back")]
pub(crate) struct Purge {
    /// The queue
    queue: String,
}

impl Queues {
    pub(crate) fn run(self, session: &Session<'_>) -> Outcome {
        match self {
            Self::List(_) => list(session),
            Self::Pause(Pause { queues }) => set_paused(session, &queues, true),
            Self::Resume(Resume { queues }) => set_paused(session, &queues, false),
            Self::Purge(Purge { queue }) => {
                let name = named(&queue)?;
                let engine = session.engine()?;
                let number = engine.purge(name)?;
                session.answer(
                    || json!({ "queue": queue, "cancelled": number }),
                    || format!("cancelled {}", count(number as u64, "task", "tasks")),
                )?;
                if number == 0 {
                    suggest(session, &queue)?;
                }
                Ok(exit::DONE)
            }
        }
    }
}

fn named(queue: &str) -> Result<Name> {
    check_name("queue", queue)?;
    Ok(Name::new(queue))
}

/// A queue, and what is in it.
struct Queue {
    name: Name,
    paused: bool,
    tasks: Counts,
}

/// The queues that have tasks, or are paused, by name.
fn all(store: &dyn Store) -> Result<Vec<Queue>> {
    let paused = store.paused()?;
    let mut queues: Vec<Queue> = store
        .queue_counts()?
        .into_iter()
        .map(|(name, tasks)| Queue { name, paused: paused.contains(&name), tasks })
        .collect();
    for name in paused {
        if queues.iter().all(|queue| queue.name != name) {
            queues.push(Queue { name, paused: true, tasks: Counts::default() });
        }
    }
    queues.sort_by_key(|queue| queue.name.as_str());
    Ok(queues)
}

fn list(session: &Session<'_>) -> Outcome {
    let queues = all(&*session.store()?)?;
    session.answer(
        || {
            let one = |queue: &Queue| {
                json!({
                    "name": queue.name.as_str(),
                    "paused": queue.paused,
                    "tasks": describe::counts(&queue.tasks),
                })
            };
            json!({ "queues": queues.iter().map(one).collect::<Vec<_>>() })
        },
        || if queues.is_empty() { String::new() } else { table(&queues, session.look) },
    )?;
    if queues.is_empty() {
        session.note("no queue has tasks");
    }
    Ok(exit::DONE)
}

fn table(queues: &[Queue], look: Look) -> String {
    let states = [
        (State::Queued, "QUEUED"),
        (State::Running, "RUNNING"),
        (State::Pending, "PENDING"),
        (State::Retrying, "RETRYING"),
        (State::Succeeded, "SUCCEEDED"),
    ];
    let mut columns = vec![whole("QUEUE"), whole("STATUS")];
    columns.extend(states.map(|(_, title)| number(title).optional()));
    columns.push(number("DEAD"));
    let mut table = Table::new(&columns);
    for queue in queues {
        let status = if queue.paused {
            Cell::painted("paused", Some(Colour::Yellow))
        } else {
            Cell::painted("open", Some(Colour::Green))
        };
        let mut row = vec![queue.name.as_str().into(), status];
        let counted = |number: u64, colour| match number {
            0 => Cell::painted("0", Some(Colour::Dim)),
            some => Cell::painted(some.to_string(), colour),
        };
        row.extend(states.map(|(state, _)| counted(queue.tasks.get(state), words::colour_of(state))));
        let dead =
            State::ALL.iter().filter(|state| state.is_dead()).map(|state| queue.tasks.get(*state)).sum();
        row.push(counted(dead, Some(Colour::Red)));
        table.row(row);
    }
    table.render(look)
}

fn set_paused(session: &Session<'_>, queues: &[String], paused: bool) -> Outcome {
    let names = queues.iter().map(|queue| named(queue)).collect::<Result<Vec<_>>>()?;
    let engine = session.engine()?;
    let mut changed = Vec::new();
    for name in names {
        if if paused { engine.pause(name)? } else { engine.resume(name)? } {
            changed.push(name.as_str());
        }
    }
    drop(engine);
    let word = if paused { "paused" } else { "resumed" };
    session.answer(
        || json!({ word: changed }),
        || format!("{word} {}", count(changed.len() as u64, "queue", "queues")),
    )?;
    for queue in queues {
        if !changed.contains(&queue.as_str()) {
            let state = if paused { "was paused already" } else { "was not paused" };
            session.note(&format!("queue {queue:?} {state}"));
        }
        suggest(session, queue)?;
    }
    Ok(exit::DONE)
}

/// Names are free, so a queue that has no tasks is no error. It may be a slip all the same.
fn suggest(session: &Session<'_>, queue: &str) -> Result<()> {
    if session.json || queue == DEFAULT_QUEUE {
        return Ok(());
    }
    let queues = all(&*session.store()?)?;
    let mut others = queues.iter().map(|other| other.name.as_str()).filter(|other| *other != queue);
    let is_empty = |other: &Queue| other.name.as_str() == queue && other.tasks != Counts::default();
    if !queues.iter().any(is_empty)
        && let Some(near) = nearest(queue, &mut others)
    {
        session.note(&format!("queue {queue:?} has no tasks; did you mean {near:?}?"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_a_table() {
        let mut tasks = Counts::default();
        tasks.add(State::Queued, 1_200);
        tasks.add(State::Failed, 2);
        tasks.add(State::Expired, 1);
        let queues = [
            Queue { name: Name::new("default"), paused: false, tasks },
            Queue { name: Name::new("mail"), paused: true, tasks: Counts::default() },
        ];
        insta::assert_snapshot!(table(&queues, Look { width: None, colour: false, unicode: true }), @r"
        QUEUE    STATUS  QUEUED  RUNNING  PENDING  RETRYING  SUCCEEDED  DEAD
        default  open      1200        0        0         0          0     3
        mail     paused       0        0        0         0          0     0
        ");
    }
}
