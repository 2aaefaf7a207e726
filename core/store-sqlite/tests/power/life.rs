//! One life of a store: from when its file is opened until the power goes. What it did to the disk, and what it had
//! promised at each moment.
//!
//! # Invariants
//! * Step `k` leads from content `k` to content `k + 1`. While it runs, the file may hold either; once it is
//!   acknowledged, the store has promised content `k + 1`.
//! * Each content is checked when it is made: by SQLite, and against what the store told step by step. So a file that
//!   later turns out to hold one of these contents holds what was promised with it, and nothing else.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rusqlite::ffi::SQLITE_IOERR_FSYNC;
use taskloom_model::{State, TaskId};
use taskloom_store_sqlite::Durability;

use crate::chance::Chance;
use crate::contents::{broken_promise, damage, digest, sound_tasks};
use crate::disk::Files;
use crate::plan::Planner;
use crate::steps::{At, Step, World, connect};
use crate::vfs::{Call, Event, Fault, Shim};

/// The tasks that a store has told of, in their states.
pub(crate) type Told = BTreeMap<TaskId, State>;

/// What a life began with.
#[derive(Clone, Default)]
pub(crate) struct Beginning {
    pub(crate) files: Files,
    pub(crate) told: Told,
}

/// A content that the store has promised, or may have come to.
pub(crate) struct Content {
    pub(crate) digest: u64,
    pub(crate) told: Told,
}

/// What happened.
pub(crate) struct Life {
    pub(crate) beginning: Beginning,
    pub(crate) events: Vec<Event>,
    /// The first one is there when the file has been opened.
    pub(crate) contents: Arc<Vec<Content>>,
    /// How many checkpoints there were, and how often the store was closed: for the test of the test.
    pub(crate) checkpoints: usize,
    pub(crate) reopened: usize,
    /// Steps that failed, and were run again.
    pub(crate) failures: usize,
}

/// Where stores live.
pub(crate) struct Place<'p> {
    pub(crate) shim: &'static Shim,
    pub(crate) folder: &'p Path,
    pub(crate) durability: Durability,
}

impl Place<'_> {
    /// Does `steps` steps on a store that begins with what is given, and writes down what happens. If there are to be
    /// troubles, some syncs fail after the opening, and the steps that needed them are run again.
    pub(crate) fn live(
        &self,
        planner: &mut Planner,
        beginning: Beginning,
        steps: usize,
        mut troubles: Option<&mut Chance>,
    ) -> Life {
        clear(self.folder);
        fill(self.folder, &beginning.files);
        let path = self.folder.join("tasks.db");
        let mut world = World::new(&path, self.durability, self.shim.name());
        let mut told = beginning.told.clone();
        let (mut contents, mut checkpoints, mut reopened, mut failures) = (Vec::<Content>::new(), 0, 0, 0);
        self.shim.record();
        for number in 0..=steps {
            let at: At = if number == 0 { planner.opening() } else { planner.next(&world) };
            if let Some(chance) = troubles.as_deref_mut()
                && chance.percent(30)
            {
                self.shim.set_fault(Some(Fault {
                    call: Call::Sync,
                    code: SQLITE_IOERR_FSYNC,
                    nth: 1 + chance.below(3),
                    lasts: false,
                    halfway: false,
                }));
            }
            let promised = world.run(&at).or_else(|error| {
                assert!(self.shim.failed() > 0, "{at:?}: {error}");
                failures += 1;
                if let Some(before) = contents.last() {
                    let conn = connect(&path, Some(self.shim.name())).unwrap();
                    assert_eq!(digest(&conn).unwrap(), before.digest, "{at:?} failed and did something");
                }
                world.run(&at)
            });
            self.shim.set_fault(None);
            let promised = promised.unwrap_or_else(|error| panic!("{at:?}: {error}"));
            self.shim.note(Event::Acknowledged(number));
            checkpoints += usize::from(matches!(at.step, Step::Checkpoint(_)));
            reopened += usize::from(number > 0 && matches!(at.step, Step::Reopen));
            for (id, state) in promised {
                match state {
                    Some(state) => told.insert(id, state),
                    None => told.remove(&id),
                };
            }
            let conn = connect(&path, Some(self.shim.name())).unwrap();
            let tasks = sound_tasks(world.store(), &conn).unwrap_or_else(|why| panic!("{at:?}: {why}"));
            assert_eq!(broken_promise(&tasks, told.clone()), None, "{at:?}");
            assert_eq!(damage(&conn).unwrap(), None, "{at:?}");
            contents.push(Content { digest: digest(&conn).unwrap(), told: told.clone() });
        }
        let events = self.shim.recorded();
        Life { beginning, events, contents: Arc::new(contents), checkpoints, reopened, failures }
    }
}

/// Empties a folder, of shared memory and of what the store keeps beside its file too.
pub(crate) fn clear(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.unwrap();
    }
}

/// Writes files.
pub(crate) fn fill(folder: &Path, files: &Files) {
    for (name, content) in files {
        std::fs::write(folder.join(&**name), content).unwrap();
    }
}
