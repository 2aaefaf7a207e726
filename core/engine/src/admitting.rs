//! What a submit is checked against before it becomes a task: its options, and whether there is a handler for it.

use std::sync::Arc;

use taskloom_model::{Admission, Bytes, Code, Error, Name, Options, Result, Version, check_name};

use crate::Handle;
use crate::aside::Aside;
use crate::core::Core;
use crate::handler::{Attempt, Blocking, Handler, HandlerEntry, Outcome};

/// What stands for a handler of another process while a task for it is submitted. It is never registered.
struct Elsewhere;

impl Blocking for Elsewhere {
    fn run(&self, _: &Attempt) -> Outcome {
        Outcome::failure("UnknownHandler", "its handler is not registered in this process")
    }
}

impl Core {
    /// See [`crate::Engine::admission_for`].
    pub(crate) fn admission_for(&self, own: &Options, entry: &HandlerEntry) -> Result<Admission> {
        own.validate_submit(entry.options())?;
        self.admission(&own.over(entry.options()))
    }

    /// See [`crate::Engine::admission`].
    pub(crate) fn admission(&self, options: &Options) -> Result<Admission> {
        self.check_metadata(&options.metadata)?;
        let admission = admission_of(options)?;
        self.check_served(admission.queue())?;
        Ok(admission)
    }

    /// See [`crate::Engine::handler_anywhere`].
    pub(crate) fn handler_anywhere(&self, name: &str, allow_unknown: bool) -> Result<Arc<HandlerEntry>> {
        if self.capability.resident || self.registry.has(name) {
            return self.registry.named(name, None);
        }
        self.check_process()?;
        check_name("handler", name)?;
        if !allow_unknown && !self.store.knows_handler(name)? {
            let error = self.registry.unknown_everywhere(name, &self.store.known_handlers()?);
            return Err(error);
        }
        let options = Options::default();
        let admission = admission_of(&options)?;
        Ok(Arc::new(HandlerEntry {
            name: Name::new(name),
            version: Version::default(),
            registered: self.clock.now(),
            queue: self.queues.queue(admission.queue()),
            options,
            admission,
            handler: Handler::Blocking(Box::new(Elsewhere)),
            hook: None,
            aside: Aside::default(),
        }))
    }
}

/// Options, ready for submitting; refused if one of them is not built yet.
pub(crate) fn admission_of(options: &Options) -> Result<Admission> {
    if let Some(option) = options.not_available_yet() {
        return Err(Error::new(
            Code::NotAvailable,
            format!("the option {option} is not available in this version"),
        )
        .hint("leave it out; docs/options.md lists what there is"));
    }
    Admission::new(options)
}

impl Attempt {
    /// Submits a child by its handler's name, which may be another process's.
    ///
    /// Errors: those of [`crate::Engine::handler_anywhere`], [`crate::Engine::admission_for`] and [`Attempt::submit`].
    pub fn submit_by_name(
        &self,
        name: &str,
        allow_unknown: bool,
        options: &Options,
        payload: Bytes,
        detached: bool,
    ) -> Result<Handle> {
        let core = &self.home.core;
        let entry = core.handler_anywhere(name, allow_unknown)?;
        let admission = core.admission_for(options, &entry)?;
        self.submit(&entry, &admission, payload, None, detached)
    }
}
