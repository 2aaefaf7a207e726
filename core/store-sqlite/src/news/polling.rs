//! Where nobody tells of events: looking every now and then.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::{Event, Watch};

/// How often.
const EVERY: Duration = Duration::from_millis(20);

/// Every wait is short, and ends as if there had been an event.
#[derive(Debug, Default)]
pub(super) struct Polling {
    roused: Mutex<bool>,
    changed: Condvar,
}

impl Watch for Polling {
    fn rouse(&self) {
        *self.roused.lock() = true;
        self.changed.notify_all();
    }

    fn wait(&self, limit: Duration) -> Event {
        let mut roused = self.roused.lock();
        if !*roused {
            self.changed.wait_for(&mut roused, limit.min(EVERY));
        }
        let roused = std::mem::take(&mut *roused);
        Event { log: !roused, owners: true, roused }
    }

    /// The ladder ends after its first rung: the next wait is the next one.
    fn wait_on(&self, _: Duration, _: bool) -> Event {
        Event { roused: true, ..Event::default() }
    }
}
