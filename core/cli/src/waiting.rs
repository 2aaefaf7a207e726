//! Waiting for a task to end, with its progress where somebody watches.
//!
//! Ctrl-C ends the command, and leaves the task alone.

use std::io::{self, Write};
use std::time::Duration;

use taskloom_engine::{Clock, Handle, SystemClock};
use taskloom_model::{Error, State};
use taskloom_store::Task;

use crate::exit::{self, Outcome};
use crate::session::Session;
use crate::table::shortened;
use crate::words::clean;
use crate::{describe, terminal};

/// How often what is drawn is looked after.
const FRAME: Duration = Duration::from_millis(100);

/// How often the store is asked where nothing is drawn. News come without that, but for those of a commit that takes the
/// disk very long: whoever waits at a prompt should not have to wait for the engine's own slow check.
const CHECK: Duration = Duration::from_millis(250);

/// How wide a bar is.
const BAR: usize = 24;

/// Waits until the task has ended, for so long at most, and tells what came of it: its result on standard output, or its
/// error.
pub(crate) fn wait_for(session: &Session<'_>, handle: &Handle, limit: Option<Duration>) -> Outcome {
    let ended = if !session.json && terminal::shows_progress() {
        let ended = wait(handle, limit, FRAME, || draw(session, handle))?;
        let _ = write!(io::stderr(), "\r\x1b[K");
        ended
    } else {
        wait(handle, limit, CHECK, || {})?
    };
    if !ended {
        session.answer(|| describe::task(handle.task()), String::new)?;
        let state = handle.state();
        session.note(&format!("task {} has not ended in that time: it is {state}, and goes on", handle.id()));
        return Ok(exit::WAITING);
    }
    tell(session, handle.task())
}

/// Tells what came of a task that has ended.
pub(crate) fn tell(session: &Session<'_>, task: &Task) -> Outcome {
    let (state, result, error, reason) = task.with_row(|row| {
        let reason = row.history.as_ref().and_then(|history| history.reason.clone());
        (row.state, row.result.clone(), row.errors().last().cloned(), reason)
    });
    if session.json {
        session.say(&describe::task(task).to_string())?;
    } else if state == State::Succeeded {
        session.say(&describe::stored(result.as_deref().unwrap_or(b"null")).to_string())?;
    } else {
        let why = match (error, reason) {
            (Some(error), _) => format!(": {}: {}", error.kind, error.message),
            (None, Some(reason)) => format!(": {reason}"),
            (None, None) => String::new(),
        };
        session.note(&format!("task {} {}{}", task.id(), ended(state), clean(&why)));
    }
    Ok(if matches!(state, State::Succeeded | State::Skipped) { exit::DONE } else { exit::UNSUCCESSFUL })
}

fn ended(state: State) -> &'static str {
    match state {
        State::TimedOut => "timed out",
        State::Failed => "failed",
        State::Expired => "expired before it was started",
        State::Cancelled => "was cancelled",
        State::Skipped => "was skipped",
        _ => "ended",
    }
}

/// Waits in slices, after each of which the task is looked at.
fn wait(
    handle: &Handle,
    limit: Option<Duration>,
    slice: Duration,
    mut each: impl FnMut(),
) -> Result<bool, Error> {
    let deadline = limit.map(|limit| SystemClock.monotonic() + limit);
    loop {
        let left = deadline.map(|deadline| deadline.saturating_sub(SystemClock.monotonic()));
        if handle.wait(Some(left.map_or(slice, |left| left.min(slice))))? {
            return Ok(true);
        }
        handle.refresh();
        if left.is_some_and(|left| left <= slice) {
            return Ok(handle.is_done());
        }
        each();
    }
}

/// Draws the task's progress over what was drawn before.
fn draw(session: &Session<'_>, handle: &Handle) {
    let line = line_of(handle.task(), session.look.unicode);
    let line = shortened(&line, session.look.width.unwrap_or(80).saturating_sub(1), session.look.ellipsis());
    let _ = write!(io::stderr(), "\r\x1b[K{line}");
}

/// The state of a task in one line, with a bar if it told its progress.
fn line_of(task: &Task, unicode: bool) -> String {
    task.with_row(|row| match row.history.as_ref().and_then(|history| history.newest_progress()) {
        Some(progress) if row.state == State::Running => {
            let full = ((progress.value.clamp(0.0, 1.0) * BAR as f64).round() as usize).min(BAR);
            let (on, off) = if unicode { ("━", "─") } else { ("#", "-") };
            let message = progress.message.as_deref().unwrap_or_default();
            format!(
                "{}{} {:3.0} %  {}",
                on.repeat(full),
                off.repeat(BAR - full),
                progress.value * 100.0,
                clean(message)
            )
        }
        _ => format!("{} {}", clean(task.spec().name.as_str()), row.state),
    })
}
