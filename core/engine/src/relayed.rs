//! Tasks that a relay brings from an outbox, each with a handler and options of its own, and what is told of that.
//!
//! A relay must know of each row what became of it, and one bad row must not hold up the others. So each is an insert by
//! itself; on a durable store the committer makes one transaction of those that are handed in together.

use taskloom_model::{Admission, Result};
use taskloom_store::Keepsake;

use crate::Engine;
use crate::answer::Answer;
use crate::events::EventKind;
use crate::handler::HandlerEntry;
use crate::submitting::NewTask;

/// A task that comes from elsewhere: whose handler it is for, and with which options, its id among them.
pub struct Relayed<'a> {
    /// Its handler.
    pub entry: &'a HandlerEntry,
    /// Its options.
    pub admission: Admission,
    /// Its payload.
    pub payload: Box<[u8]>,
}

impl Engine {
    /// Submits tasks each by itself, and waits for them: a verdict for each. `QueueFull` comes at once, also where a
    /// submit would wait for room.
    ///
    /// Errors: `ShutDown`, `Forked`; then nothing was submitted.
    pub fn submit_each<'a>(&self, tasks: impl IntoIterator<Item = Relayed<'a>>) -> Result<Vec<Result<()>>> {
        let core = &self.core;
        core.check_open(false)?;
        let mut tasks = tasks.into_iter().peekable();
        if core.capability.resident {
            let submit = |Relayed { entry, admission, payload }: Relayed<'_>| {
                self.submit(entry, &admission, payload.into(), None, true).map(drop)
            };
            return Ok(tasks.map(submit).collect());
        }
        let mut answers = Vec::new();
        let now = core.clock.now();
        while let Some(Relayed { entry, admission, payload }) = tasks.next() {
            let built = core.build_at(
                entry,
                &admission,
                NewTask { payload: payload.into(), host: Keepsake::nothing(), key: None },
                now,
            );
            answers.push(built.map(|(task, _)| {
                let (answer, reply) = Answer::new();
                // Whoever hands in the last one will wait, and may write them all.
                core.committer.insert(core, vec![task], tasks.peek().is_none(), reply);
                answer
            }));
        }
        let settle = |task| core.settle_if_stopped(&task);
        Ok(answers
            .into_iter()
            .map(|answer| answer.and_then(Answer::wait).map(|tasks| tasks.into_iter().for_each(settle)))
            .collect())
    }

    /// Publishes that a row of an outbox was refused.
    pub fn publish_refused_row(&self, row: &str, name: &str, code: &str, error: &str) {
        self.core.publish_plain(EventKind::OutboxRefused, |data| {
            data.text("row", row).text("name", name).text("code", code).text("error", error)
        });
    }

    /// Publishes that a relay cannot read its outbox, and why.
    pub fn publish_relay_interrupted(&self, error: &str) {
        self.core.publish_plain(EventKind::OutboxInterrupted, |data| data.text("error", error));
    }

    /// Publishes that a relay reads its outbox again.
    pub fn publish_relay_resumed(&self) {
        self.core.publish_plain(EventKind::OutboxResumed, |data| data);
    }
}
