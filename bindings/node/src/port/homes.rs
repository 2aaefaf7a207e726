//! The environments of this process by number: a task's note says in which one what belongs to it is kept.
//!
//! Numbers are not used again, since a task may outlive the environment that submitted it. When all are used up (sixteen
//! million environments have ended by then) later ones have none, and their tasks no notes; then nothing is kept at home,
//! and the ends of tasks are observed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::RwLock;
use taskloom_store::{Keeper, Note, Task, keep_notes};

use super::slots::settled;
use super::{Crossing, News, Port};

static LAST: AtomicU32 = AtomicU32::new(0);

/// Those that are open.
static OPEN: OnceLock<RwLock<HashMap<u32, Weak<Port>>>> = OnceLock::new();

fn open() -> &'static RwLock<HashMap<u32, Weak<Port>>> {
    OPEN.get_or_init(|| {
        keep_notes(&AtHome);
        RwLock::default()
    })
}

/// A number for a new environment; zero if there are none left.
pub(super) fn take() -> u32 {
    let next = |last: u32| (last < Note::MOST).then_some(last + 1);
    LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).map_or(0, |last| last + 1)
}

/// An environment is there.
pub(super) fn enter(port: &Arc<Port>) {
    if port.number != 0 {
        open().write().insert(port.number, Arc::downgrade(port));
    }
}

/// It has gone.
pub(super) fn leave(number: u32) {
    open().write().remove(&number);
}

/// Whoever keeps what tasks have left at home.
struct AtHome;

impl Keeper for AtHome {
    fn ended(&self, note: &Note, task: &Arc<Task>, succeeded: Option<u32>) {
        let end = settled(note, task, succeeded);
        // Most tasks end in a crossing of the environment that has submitted them.
        let Some(end) = Crossing::settled(note.whose(), end) else { return };
        let port = open().read().get(&note.whose()).and_then(Weak::upgrade);
        if let Some(port) = port {
            port.tell(News::OwnSettled(end));
        }
    }
}
