//! Where nobody tells of events: looking every now and then.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::{Event, Watch};

/// How often.
const EVERY: Duration = Duration::from_millis(20);

/// Every wait is short.
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

    fn wait(&self, limit: Duration, _: bool) -> Event {
        let mut roused = self.roused.lock();
        if !*roused {
            self.changed.wait_for(&mut roused, limit.min(EVERY));
        }
        Event { log: false, owners: true, roused: std::mem::take(&mut *roused) }
    }

    fn is_told(&self) -> bool {
        false
    }
}
