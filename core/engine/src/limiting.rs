//! Limits as seen from an engine: what handlers declare, what operators set, and what follows when gates open.
//!
//! The store keeps limits and counts; see [`taskloom_model::Limits`] for what they mean. The engine only hands them on,
//! and looks again for tasks when the store says that a gate has opened, or will by itself at some time.

use std::sync::Arc;

use taskloom_model::{Error, LimitFor, LimitRow, Result, SetBy, check_key, check_name};

use taskloom_store::Task;

use crate::Engine;
use crate::core::Core;
use crate::handler::HandlerEntry;

impl Engine {
    /// Sets a limit, for all processes that share the store, until it is set again. One that limits nothing takes what
    /// was set away, and what the handler declares, or the task itself, holds again. Whether that was new.
    ///
    /// What runs goes on, even if that is more than may run now.
    ///
    /// Errors: `InvalidOption` for a limit that lets nothing through, or a name that no queue can have; `UnknownHandler` for
    /// a handler that an engine on a memory store does not have.
    pub fn limit(&self, what: LimitFor, limit: taskloom_model::Limit) -> Result<bool> {
        let core = &self.core;
        core.check_process()?;
        limit.validate()?;
        match &what {
            LimitFor::Handler(name) | LimitFor::HandlerKey(name, _) if core.capability.resident => {
                core.registry.named(name.as_str(), None)?;
            }
            LimitFor::Queue(name) => {
                check_name("queue", name.as_str())?;
                core.check_served(*name)?;
            }
            _ => {}
        }
        if let LimitFor::Key(key) | LimitFor::HandlerKey(_, key) = &what {
            check_key(key)?;
        }
        core.set_limit(LimitRow { what, by: SetBy::Operator, limit })
    }

    /// The limits that are set, by handlers and by operators; not those that tasks bring along with their keys.
    pub fn limits(&self) -> Result<Vec<LimitRow>> {
        self.core.check_process()?;
        self.core.store.limits()
    }

    /// The newest version of a handler says what its tasks may do together.
    pub(crate) fn declare_limit(&self, entry: &Arc<HandlerEntry>) -> Result<()> {
        let core = &self.core;
        let newest = core.registry.named(entry.name.as_str(), None)?;
        if !Arc::ptr_eq(&newest, entry) {
            return Ok(());
        }
        let what = LimitFor::Handler(entry.name);
        core.set_limit(LimitRow { what, by: SetBy::Handler, limit: entry.options.handler_limit() })?;
        Ok(())
    }
}

impl Core {
    fn set_limit(self: &Arc<Self>, row: LimitRow) -> Result<bool, Error> {
        let mut changes = Vec::new();
        let new = self.store.set_limit(row, &mut changes, self.clock.now())?;
        self.follow_all(&mut changes);
        if self.hear_of_gates() {
            self.committer.ask_for_more();
        }
        Ok(new)
    }

    /// Something has happened to a task: when its key's gate opens may be known now.
    pub(crate) fn hear_of_key(&self, task: &Task) {
        if self.capability.resident && task.spec().key().is_some() {
            self.hear_of_gates();
        }
    }

    /// What is new about gates; whether there may be more to claim.
    pub(crate) fn hear_of_gates(&self) -> bool {
        let news = self.store.gate_news();
        if let Some(due) = news.due {
            self.timers.set(due);
        }
        news.opened
    }
}
