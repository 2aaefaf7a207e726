//! `tasks cancel`, `tasks replay`, `tasks discard`.

use clap::Args;
use serde_json::{Value, json};
use taskloom_engine::Engine;
use taskloom_model::{Result, TaskId};

use super::{Chosen, unknown};
use crate::exit::{self, Failure, Outcome};
use crate::session::Session;
use crate::words::count;

/// Cancels tasks that have not ended
///
/// One that runs is called off: its handler is told, and what it returns later is refused. Children that have not ended go
/// with their parent.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  taskloom tasks cancel 01956a0c-7d00-7a31-8c55-0a8f3d1c9b02 --reason 'wrong customer'
  taskloom tasks cancel --tag import-7
  taskloom tasks cancel --queue mail --state queued")]
pub(crate) struct Cancel {
    #[command(flatten)]
    chosen: Chosen,
    /// Why; it is kept with the task
    #[arg(long, short = 'r', value_name = "TEXT")]
    reason: Option<String>,
}

/// Starts dead letters over: tasks that failed, timed out, were cancelled or expired
///
/// Each begins anew under its id, with the failures at 0. Its errors, log and checkpoint are kept.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  taskloom tasks replay 01956a0c-7d00-7a31-8c55-0a8f3d1c9b02
  taskloom tasks replay --state failed --name mail/send
  taskloom tasks replay --all")]
pub(crate) struct Replay {
    #[command(flatten)]
    chosen: Chosen,
}

/// Forgets tasks that have ended
///
/// By id, however they ended; by filter, dead letters, or those in the state that is named. What may still be asked for
/// stays: children whose parent has not ended, and tasks that keep their unique key.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  taskloom tasks discard 01956a0c-7d00-7a31-8c55-0a8f3d1c9b02
  taskloom tasks discard --state expired
  taskloom tasks discard --state succeeded --name ping")]
pub(crate) struct Discard {
    #[command(flatten)]
    chosen: Chosen,
}

impl Cancel {
    pub(crate) fn run(self, session: &Session<'_>) -> Outcome {
        self.chosen.check("cancel")?;
        let reason = self.reason.as_deref();
        if self.chosen.ids.is_empty() {
            let number = session.engine()?.cancel_all(&self.chosen.which.filter()?, reason)?;
            return many(session, number, CANCEL.past, &self.chosen);
        }
        each(session, &self.chosen.ids, CANCEL, |engine, id| {
            let handle = engine.get(id)?.ok_or_else(|| unknown(id))?;
            if engine.cancel(id, reason)? {
                return Ok(None);
            }
            handle.refresh();
            Ok(Some(format!("had ended: it is {}", handle.state())))
        })
    }
}

impl Replay {
    pub(crate) fn run(self, session: &Session<'_>) -> Outcome {
        self.chosen.check("replay")?;
        if self.chosen.ids.is_empty() {
            let number = session.engine()?.replay_all(&self.chosen.which.filter()?)?;
            return many(session, number, REPLAY.past, &self.chosen);
        }
        each(session, &self.chosen.ids, REPLAY, |engine, id| engine.replay(id).map(|_| None))
    }
}

impl Discard {
    pub(crate) fn run(self, session: &Session<'_>) -> Outcome {
        self.chosen.check("discard")?;
        if self.chosen.ids.is_empty() {
            let number = session.engine()?.discard_all(&self.chosen.which.filter()?)?;
            return many(session, number, DISCARD.past, &self.chosen);
        }
        each(session, &self.chosen.ids, DISCARD, |engine, id| engine.discard(id).map(|()| None))
    }
}

/// What is done, in words.
#[derive(Clone, Copy)]
struct Change {
    past: &'static str,
}

const CANCEL: Change = Change { past: "cancelled" };
const REPLAY: Change = Change { past: "replayed" };
const DISCARD: Change = Change { past: "discarded" };

/// Tells of many.
fn many(session: &Session<'_>, number: usize, past: &str, chosen: &Chosen) -> Outcome {
    session
        .answer(|| json!({ past: number }), || format!("{past} {}", count(number as u64, "task", "tasks")))?;
    if number == 0 {
        session.note(&format!("there were no {} to be {past}", chosen.which.in_words()));
    }
    Ok(exit::DONE)
}

/// Changes one after the other, and goes on where one fails. The exit code is that of the first that failed.
fn each(
    session: &Session<'_>,
    ids: &[TaskId],
    change: Change,
    one: impl Fn(&Engine, TaskId) -> Result<Option<String>>,
) -> Outcome {
    let engine = session.engine()?;
    let mut code = exit::DONE;
    let mut done = 0;
    let mut told: Vec<Value> = Vec::new();
    for id in ids {
        let verdict = one(&engine, *id);
        let changed = matches!(verdict, Ok(None));
        done += usize::from(changed);
        match verdict {
            Ok(because) => {
                if let Some(because) = &because {
                    session.note(&format!("task {id} {because}"));
                }
                told.push(json!({ "id": id.to_string(), "changed": changed, "because": because }));
            }
            Err(error) => {
                told.push(json!({ "id": id.to_string(), "changed": false, "error": exit::as_json(&error) }));
                if code == exit::DONE {
                    code = exit::code_of(&error);
                }
                if !session.json {
                    exit::tell(&Failure::Error(error), false);
                }
            }
        }
    }
    session.answer(
        || json!({ change.past: done, "tasks": told }),
        || format!("{} {}", change.past, count(done as u64, "task", "tasks")),
    )?;
    Ok(code)
}
