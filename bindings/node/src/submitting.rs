//! Tasks on their way in.
//!
//! On a memory store submits of one handler that follow each other are one call of the engine; if that is refused, each
//! is tried by itself, since each was asked for by itself. On a file each goes to the committer, which makes one
//! transaction of what it has.
//!
//! A submit never waits for room here: the handlers that would make room run on this very thread. `onFull: "wait"` is
//! JavaScript's to do.

use std::sync::Arc;

use taskloom_bridge::check_child;
use taskloom_engine::{Engine, Handle, HandlerEntry, NewTask};
use taskloom_model::{Admission, Code, Error, Result};
use taskloom_store::Keepsake;

use crate::options::{Said, said_in};
use crate::port::{News, Port};
use crate::seat::Seat;
use crate::wire::{Reader, flag};

/// What to submit, as it stands in the message.
pub(crate) struct Submit<'a> {
    handler: u32,
    name: Option<&'a str>,
    options: Option<&'a str>,
}

/// One of the tasks.
pub(crate) struct Input<'a> {
    /// Its own key, which its handler has made.
    pub(crate) key: Option<String>,
    pub(crate) payload: &'a [u8],
}

impl<'a> Input<'a> {
    pub(crate) fn of(payload: &'a [u8]) -> Self {
        Self { key: None, payload }
    }
}

/// What is needed to submit it.
struct Bound {
    entry: Arc<HandlerEntry>,
    /// Other than the handler's own.
    admission: Option<Admission>,
    detached: bool,
}

impl Bound {
    fn admission(&self) -> &Admission {
        self.admission.as_ref().unwrap_or_else(|| self.entry.admission())
    }
}

impl<'a> Submit<'a> {
    /// One that says nothing but its handler.
    pub(crate) fn plain(handler: u32) -> Self {
        Self { handler, name: None, options: None }
    }

    /// Reads the lines that the flags speak of.
    pub(crate) fn read(reader: &mut Reader<'a>, handler: u32, flags: u32) -> Option<Self> {
        let name = if flags & flag::BY_NAME == 0 { None } else { Some(reader.line()?) };
        let options = if flags & flag::OPTIONS == 0 { None } else { Some(reader.line()?) };
        Some(Self { handler, name, options })
    }

    fn bind(&self, seat: &Seat, engine: &Engine, as_child: bool) -> Result<Bound> {
        let Said { mut options, detached, allow_unknown } = match self.options {
            Some(line) => said_in(line)?,
            None => Said::default(),
        };
        if detached && !as_child {
            return Err(Error::new(
                Code::InvalidOption,
                "detached is for children, and this task has no parent",
            )
            .hint("submit it with ctx.submit(…), or leave detached out"));
        }
        let (entry, plain) = match self.name {
            Some(name) => {
                let entry = match options.version {
                    Some(version) => engine.handler_version(name, version)?,
                    None => engine.handler_anywhere(name, allow_unknown)?,
                };
                (entry, self.options.is_none())
            }
            None => {
                let registered = seat.registered(self.handler).ok_or_else(gone)?;
                options.version = options.version.or(registered.version);
                let name = &registered.handler.name;
                let entry = match options.version {
                    Some(version) => engine.handler_version(name, version)?,
                    None => engine.handler(name)?,
                };
                (entry, self.options.is_none() && options.version.is_none())
            }
        };
        // What an app demands of every task's metadata is looked at with the admission.
        let admission = if plain { None } else { Some(engine.admission_for(&options, &entry)?) };
        Ok(Bound { entry, admission, detached })
    }

    /// Submits tasks that were asked for one by one; each has its slot.
    pub(crate) fn each(&self, port: &Arc<Port>, seat: &Seat, slots: &[u32], inputs: &[Input<'_>]) {
        let bound = seat.engine().and_then(|engine| Ok((self.bind(seat, &engine, false)?, engine)));
        let (bound, engine) = match bound {
            Ok(bound) => bound,
            Err(error) => return refuse(port, slots, &error),
        };
        if !engine.is_durable()
            && slots.len() > 1
            && submit(port, seat.number, &engine, &bound, slots, inputs).is_ok()
        {
            return;
        }
        for (slot, input) in slots.iter().zip(inputs) {
            let (slot, input) = (std::slice::from_ref(slot), std::slice::from_ref(input));
            if let Err(error) = submit(port, seat.number, &engine, &bound, slot, input) {
                refuse(port, slot, &error);
            }
        }
    }

    /// Submits tasks that were asked for together: all or none.
    pub(crate) fn together(&self, port: &Arc<Port>, seat: &Seat, slots: &[u32], inputs: &[Input<'_>]) {
        let verdict = seat.engine().and_then(|engine| {
            submit(port, seat.number, &engine, &self.bind(seat, &engine, false)?, slots, inputs)
        });
        if let Err(error) = verdict {
            refuse(port, slots, &error);
        }
    }

    /// Submits a child of the task that a job runs. On a file the answer comes when it is on disk.
    pub(crate) fn child(&self, port: &Arc<Port>, seat: &Arc<Seat>, job: u32, slot: u32, payload: &str) {
        let attempt = port
            .attempt(job)
            .ok_or_else(|| Error::new(Code::LeaseLost, "this attempt is over, and can submit no children"));
        let bind = || {
            let (engine, attempt) = (seat.engine()?, attempt?);
            let bound = self.bind(seat, &engine, true)?;
            check_child(&attempt, &engine, bound.entry.name().as_str())?;
            Ok((bound, attempt))
        };
        let (bound, attempt) = match bind() {
            Ok(ready) => ready,
            Err(error) => return refuse(port, &[slot], &error),
        };
        let (own, payload) = (Arc::clone(port), payload.as_bytes().into());
        let submit =
            move || match attempt.submit(&bound.entry, bound.admission(), payload, None, bound.detached) {
                Ok(child) => own.accepted(&[slot], vec![child]),
                Err(error) => refuse(&own, &[slot], &error),
            };
        if seat.may_wait() { seat.send(submit) } else { submit() }
    }
}

/// One call of the engine. An error says that nothing was submitted, and that nothing has been told.
fn submit(
    port: &Arc<Port>,
    app: u32,
    engine: &Engine,
    bound: &Bound,
    slots: &[u32],
    inputs: &[Input<'_>],
) -> Result<()> {
    let task =
        |input: &Input<'_>, host| NewTask { payload: input.payload.into(), host, key: input.key.clone() };
    if engine.is_durable() {
        let inputs = inputs.iter().map(|input| task(input, Keepsake::nothing()));
        let (own, slots) = (Arc::clone(port), slots.to_vec());
        let reply = Box::new(move |verdict: Result<Vec<Handle>>| match verdict {
            Ok(handles) => own.accepted(&slots, handles),
            Err(error) => refuse(&own, &slots, &error),
        });
        return engine.submit_then(&bound.entry, bound.admission(), inputs, true, reply);
    }
    let (entry, admission) = (&bound.entry, bound.admission());
    // In memory all has happened when it returns.
    if admission.has_unique_key() || port.note_for(0).is_none() {
        // What comes of it may be another task, which has no note of this slot.
        let inputs = inputs.iter().map(|input| task(input, Keepsake::nothing()));
        port.accepted(slots, engine.submit_many(entry, admission, inputs, true)?);
    } else {
        let inputs = inputs.iter().zip(slots).map(|(input, slot)| {
            task(input, port.note_for(*slot).map_or_else(Keepsake::nothing, Keepsake::from))
        });
        let accepted = |tasks: &[_]| port.own_accepted(slots, app, tasks);
        engine.submit_here(entry, admission, inputs, true, &mut || true, accepted)?;
    }
    Ok(())
}

fn refuse(port: &Port, slots: &[u32], error: &Error) {
    slots.iter().for_each(|slot| port.tell(News::Refused(*slot, error.duplicate())));
}

fn gone() -> Error {
    Error::new(Code::UnknownHandler, "the app that this handler belongs to is gone")
}
