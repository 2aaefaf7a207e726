//! A store that has gone: its file was moved, deleted or replaced while it was open.
//!
//! Such a store accepts nothing (see [`taskloom_store::Store::check`]), so nothing that runs here can be reported, and
//! nobody would ever hear of an end. If it comes back soon all goes on. If it does not, whoever waits for a task is told,
//! in place of waiting for ever: after [`PATIENCE`], their handles end with `StoreFailed`. The tasks themselves are as
//! they are, wherever the file is; a handle can be had again from an id when it is back.
//!
//! It is looked at with every beat and, in a process that does not beat, with the safety check of those who wait. Time is
//! the monotonic clock's.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use taskloom_model::Error;

use crate::core::Core;

/// For how long a store may be gone before those who wait are told.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(crate) struct Absence(Mutex<State>);

#[derive(Default)]
struct State {
    since: Option<Duration>,
    /// What those who wait are told.
    lost: Option<Error>,
}

impl Absence {
    /// Looks whether the store is there.
    pub(crate) fn step(&self, core: &Arc<Core>, monotonic: Duration) {
        let found = core.store.check();
        let mut state = self.0.lock();
        match found {
            Ok(()) => *state = State::default(),
            Err(error) => {
                let since = *state.since.get_or_insert(monotonic);
                if monotonic >= since + PATIENCE && state.lost.is_none() {
                    state.lost = Some(error);
                    drop(state);
                    core.others.give_up();
                }
            }
        }
    }

    /// What whoever waits is told, if the store is given up.
    pub(crate) fn lost(&self) -> Option<Error> {
        self.0.lock().lost.as_ref().map(Error::duplicate)
    }
}
