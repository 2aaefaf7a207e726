//! A submit as a row of an outbox.

use taskloom::outbox::{Row, prepare};
use taskloom_engine::fresh_id;
use taskloom_model::{Options, Result};

use crate::App;

impl App {
    /// The row that stands for a submit with these options of its own. The store is not opened for it, unless it is about
    /// a handler that is not registered here: only the store knows those of other processes. Where it is open already, what
    /// only an engine can refuse is refused now, too.
    ///
    /// Errors: those of a submit.
    pub fn outbox_row(&self, name: &str, payload: &[u8], own: &Options, allow_unknown: bool) -> Result<Row> {
        let known = self.handler_options(name, own.version);
        let engine = if known.is_some() { self.current() } else { Some(self.engine()?) };
        if let Some(engine) = &engine {
            let entry = match own.version {
                Some(version) if engine.has_handler(name) => engine.handler_version(name, version)?,
                _ => engine.handler_anywhere(name, allow_unknown)?,
            };
            engine.admission_for(own, &entry)?;
        }
        let now = engine.map_or_else(Self::present, |engine| engine.now());
        let base = known.unwrap_or_default();
        let demanded = &self.settings().require_metadata;
        prepare((name, payload), (own, &base), allow_unknown, demanded, fresh_id(now), now)
    }
}
