//! One script on one failing disk after another.
//!
//! # Invariants
//! * A step leads from one content to the next, both known from the healthy disk, so after a failure there are two
//!   contents that may be found, and after a success one.
//! * Looking is done calmly: while the trial reads what is there, nothing fails and nothing is counted. So the `n`-th
//!   call is the same one in every run.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use taskloom_model::{Admission, Code, Name, State, TaskId, Timestamp, admit};
use taskloom_store::{Store, Task};
use taskloom_store_sqlite::{Durability, SqliteOptions, SqliteStore};
use tempfile::TempDir;

use crate::contents::{broken_promise, damage, digest, sound_tasks};
use crate::plan::Planner;
use crate::steps::{At, JOB, Step, World, connect};
use crate::vfs::{Fault, Shim};

/// After so many failures the disk works again.
const PATIENCE: usize = 3;

/// Steps after the opening.
const STEPS: usize = 32;

/// More than there are cores: to close a store takes the system some 20 ms in which nobody works (it lets go of
/// watches).
const WORKERS: usize = 6;

/// What is done, what is there after each step, and what the store has told of in the end.
pub(crate) struct Script {
    steps: Vec<At>,
    contents: Vec<u64>,
    told: BTreeMap<TaskId, State>,
}

/// What came of many runs.
#[derive(Default)]
pub(crate) struct Tally {
    /// Runs in which something failed.
    pub(crate) runs: usize,
    /// Steps that failed in them.
    pub(crate) failures: usize,
    /// Steps that failed and had been done all the same.
    pub(crate) done_anyway: usize,
    /// What should not be.
    pub(crate) complaints: Vec<String>,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, failures, done_anyway, complaints } = self;
        let complaints = complaints.len();
        write!(
            f,
            "{runs} runs, {failures} failed steps ({done_anyway} done all the same), {complaints} complaints"
        )
    }
}

/// A directory in memory if there is one: nothing here depends on the disk of the machine.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

/// What is there, as others see it.
fn content(path: &Path, shim: &Shim) -> Result<u64, String> {
    let look = || digest(&connect(path, Some(shim.name()))?);
    shim.calmly(look).map_err(|cause: rusqlite::Error| format!("what is there cannot be read: {cause}"))
}

/// How what is written is kept apart from what is committed.
fn journal_mode(path: &Path, shim: &Shim) -> Result<String, String> {
    let ask = || connect(path, Some(shim.name()))?.query_row("PRAGMA journal_mode", [], |row| row.get(0));
    shim.calmly(ask).map_err(|cause: rusqlite::Error| cause.to_string())
}

impl Script {
    /// Chooses the steps, on a healthy disk.
    pub(crate) fn new(seed: u64) -> Self {
        let (shim, folder) = (Shim::new(), folder());
        let path = folder.path().join("tasks.db");
        let (mut world, mut planner) =
            (World::new(&path, Durability::Disk, shim.name()), Planner::new(seed, true));
        let (mut steps, mut contents, mut told) = (Vec::new(), Vec::new(), BTreeMap::new());
        for number in 0..=STEPS {
            let at = match number {
                0 => planner.opening(),
                // Whatever the chance: the log is moved into the database, it begins anew, the store is closed.
                n if n % 8 == 5 => planner.at(Step::Checkpoint(if n == 5 { "PASSIVE" } else { "RESTART" })),
                n if n == STEPS / 2 => planner.at(Step::Reopen),
                _ => planner.next(&world),
            };
            for (id, state) in world.run(&at).unwrap_or_else(|error| panic!("{at:?}: {error}")) {
                match state {
                    Some(state) => told.insert(id, state),
                    None => told.remove(&id),
                };
            }
            contents.push(content(&path, shim).unwrap());
            steps.push(at);
        }
        Self { steps, contents, told }
    }
}

/// Runs a script with a fault at the first call, at the second, and so on, until none is reached.
pub(crate) fn try_every_call(script: &Script, fault: Fault) -> Tally {
    let (tally, next, end) =
        (Mutex::new(Tally::default()), AtomicUsize::new(1), AtomicUsize::new(usize::MAX));
    let work = || {
        let shim = Shim::new();
        loop {
            let nth = next.fetch_add(1, Ordering::Relaxed);
            if nth >= end.load(Ordering::Relaxed) {
                return;
            }
            let mut run = Run { script, shim, folder: folder(), failures: 0, done_anyway: 0 };
            shim.set_fault(Some(Fault { nth, ..fault }));
            let outcome = run.run();
            let reached = shim.failed() > 0 || run.failures > 0;
            shim.set_fault(None);
            if outcome.is_ok() && !reached {
                end.fetch_min(nth, Ordering::Relaxed);
                return;
            }
            tally.lock().add(&run, outcome.map_err(|why| format!("at call {nth}: {why}")));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(work);
        }
    });
    tally.into_inner()
}

impl Tally {
    fn add(&mut self, run: &Run<'_>, outcome: Result<(), String>) {
        self.runs += 1;
        self.failures += run.failures;
        self.done_anyway += run.done_anyway;
        self.complaints.extend(outcome.err());
    }
}

/// One run.
struct Run<'s> {
    script: &'s Script,
    shim: &'static Shim,
    folder: TempDir,
    failures: usize,
    done_anyway: usize,
}

impl Run<'_> {
    fn run(&mut self) -> Result<(), String> {
        let path = self.folder.path().join("tasks.db");
        let mut world = World::new(&path, Durability::Disk, self.shim.name());
        for (number, at) in self.script.steps.iter().enumerate() {
            self.step(&mut world, number, at, &path).map_err(|why| format!("{:?}: {why}", at.step))?;
        }
        self.end(world, &path)
    }

    /// Runs a step until it is done.
    fn step(&mut self, world: &mut World, number: usize, at: &At, path: &Path) -> Result<(), String> {
        let after = self.script.contents[number];
        let failures = self.failures;
        loop {
            let shown = world.rows();
            let Err(error) = world.run(at) else {
                if matches!(at.step, Step::Reopen) {
                    let mode = journal_mode(path, self.shim)?;
                    if mode != "wal" {
                        return Err(format!("it is open, and works with a journal of mode {mode}"));
                    }
                }
                // Not after each step, since most of them are far from the fault; what is wrong stays wrong.
                if self.failures == failures && !number.is_multiple_of(4) {
                    return Ok(());
                }
                return match content(path, self.shim)? {
                    found if found == after => Ok(()),
                    _ => Err("it succeeded, and something else is there".into()),
                };
            };
            if self.failures == PATIENCE {
                return Err(format!("it fails although the disk works again: {error}"));
            }
            self.failures += 1;
            if error.code() != Code::StoreFailed || error.message().is_empty() {
                return Err(format!("it fails with {}: {error}", error.code().as_str()));
            }
            if world.rows().iter().any(|(id, row)| shown.get(id).is_some_and(|before| before != row)) {
                return Err("it failed, and tasks in memory show something else".into());
            }
            if self.failures == PATIENCE {
                self.shim.set_fault(None);
            }
            if number == 0 {
                // There may be no file yet.
                continue;
            }
            let before = self.script.contents[number - 1];
            match content(path, self.shim)? {
                found if found == before => {}
                found if found != after => return Err("it failed, and left something of itself".into()),
                _ if error.hint_text().is_some_and(|hint| hint.contains("nothing was changed")) => {
                    return Err("it says that nothing was changed, and it was".into());
                }
                _ => {
                    self.done_anyway += 1;
                    return Ok(());
                }
            }
        }
    }

    /// The disk works again at the latest now.
    fn end(&self, world: World, path: &Path) -> Result<(), String> {
        let last = *self.script.contents.last().expect("a script has steps");
        self.shim.calmly(|| {
            let task = probe();
            let told = |error: taskloom_model::Error| format!("in the end: {error}");
            if content(path, self.shim)? != last {
                return Err("in the end something else is there".into());
            }
            world.store().insert(&[Arc::clone(&task)], task.spec().created).map_err(told)?;
            drop(world);
            let store = SqliteStore::open(path, SqliteOptions::default()).map_err(told)?;
            let conn = connect(path, None).map_err(|cause| cause.to_string())?;
            if let Some(damage) = damage(&conn).map_err(|cause| cause.to_string())? {
                return Err(format!("in the end the file is damaged: {damage}"));
            }
            let tasks = sound_tasks(&store, &conn)?;
            let promised = self.script.told.iter().map(|(id, state)| (*id, *state));
            match broken_promise(&tasks, promised.chain([(task.id(), State::Queued)])) {
                Some(why) => Err(format!("in the end {why}")),
                None => Ok(()),
            }
        })
    }
}

/// One more task.
fn probe() -> Arc<Task> {
    let now = Timestamp::from_micros(1_767_225_600_000_000);
    let id = TaskId::from_bytes([0xFF; 16]);
    let (spec, row, _) = admit(&Admission::default(), id, Name::new(JOB), Default::default(), now).unwrap();
    Task::new(spec, row, None)
}
