//! Cuts the power at every moment of many lives, in several ways each, and has every state judged that was not seen
//! before.
//!
//! # Invariants
//! * The states follow from the seeds, which are 1, 2, 3, but for the salts in the log, which SQLite draws by itself.
//!   How many judges there are and which of them sees a state does not matter to what is found.
//! * A life goes on from what a power cut left of the one before, so what SQLite does to get over one is cut as well.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use taskloom_store_sqlite::Durability;

use crate::chance::Chance;
use crate::disk::{Disk, Files, Loss};
use crate::judge::{Bounds, Found, Judge, folder};
use crate::life::{Beginning, Content, Life, Place};
use crate::plan::Planner;
use crate::vfs::{Event, Shim};

/// What is promised of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// Whatever was acknowledged is there.
    All,
    /// What is there is what was there at some moment since the log was last synced, and nothing after it.
    Prefix,
}

/// What is searched.
#[derive(Clone, Copy)]
pub(crate) struct Search {
    /// How the store is opened.
    pub(crate) durability: Durability,
    /// What is expected.
    pub(crate) promise: Promise,
    /// Whether the disk keeps what it has synced.
    pub(crate) honest: bool,
    /// Whether some syncs fail.
    pub(crate) failing: bool,
    /// How many different states there are to be, at the least.
    pub(crate) states: usize,
}

/// What a search came upon.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Cuts times ways to lose.
    pub(crate) total: usize,
    /// Different ones.
    pub(crate) distinct: usize,
    pub(crate) lives: usize,
    pub(crate) checkpoints: usize,
    pub(crate) reopened: usize,
    /// Steps that failed, and were tried again.
    pub(crate) failures: usize,
    /// States that held something older than what was acknowledged, although that is as promised.
    pub(crate) older: usize,
    /// What should not be.
    pub(crate) lost: Vec<String>,
    pub(crate) never: Vec<String>,
    pub(crate) damaged: Vec<String>,
}

/// A state to be judged.
struct State {
    contents: Arc<Vec<Content>>,
    files: Arc<Files>,
    bounds: Bounds,
    acknowledged: usize,
    origin: String,
}

const LIVES: u64 = 3;
const STEPS: usize = 50;
/// More than there are cores: to close a store takes the system some 20 ms in which nobody works (it lets go of
/// watches).
const JUDGES: usize = 12;

impl Search {
    /// Searches until there are enough states.
    pub(crate) fn run(self) -> Report {
        let report = Mutex::new(Report::default());
        let (to_judges, states) = sync_channel::<State>(64);
        // It goes with the last judge, so that whoever makes states notices if none is left.
        let states = Arc::new(Mutex::new(states));
        let judge = |states: Arc<Mutex<Receiver<State>>>| {
            let mut judge = Judge::new();
            loop {
                // The lock is held while it waits, and given back before it judges.
                let next = states.lock().unwrap().recv();
                let Ok(state) = next else { break };
                let found = judge.judge(&state.files, &state.contents, state.bounds);
                report.lock().unwrap().add(&state, found);
            }
        };
        let made = std::thread::scope(|scope| {
            for _ in 0..JUDGES {
                let (judge, states) = (&judge, Arc::clone(&states));
                scope.spawn(move || judge(states));
            }
            drop(states);
            let mut maker =
                Maker { search: self, seen: Vec::new(), seen_in: None, made: Report::default(), to_judges };
            maker.make();
            // And with it the way to the judges, who go home.
            maker.made
        });
        let found = report.into_inner().unwrap();
        Report { older: found.older, lost: found.lost, never: found.never, damaged: found.damaged, ..made }
    }
}

/// Makes states.
struct Maker {
    search: Search,
    /// The states within the bounds of the moment.
    seen: Vec<Arc<Files>>,
    seen_in: Option<Bounds>,
    made: Report,
    to_judges: SyncSender<State>,
}

impl Maker {
    fn make(&mut self) {
        let (shim, folder) = (Shim::new(), folder());
        for seed in 1.. {
            let (mut planner, mut chance) = (Planner::new(seed, !self.search.failing), Chance::new(!seed));
            let mut beginning = Beginning::default();
            for number in 0..LIVES {
                if self.made.distinct >= self.search.states {
                    return;
                }
                let troubles = self.search.failing.then_some(&mut chance);
                let place = Place { shim, folder: folder.path(), durability: self.search.durability };
                let life = place.live(&mut planner, beginning, STEPS, troubles);
                self.made.lives += 1;
                self.made.failures += life.failures;
                self.made.checkpoints += life.checkpoints;
                self.made.reopened += life.reopened;
                match self.cut(&life, &format!("seed {seed}, life {number}"), &mut chance) {
                    Some(left) => beginning = left,
                    // The disk lied, and nothing can go on.
                    None => break,
                }
            }
        }
    }

    /// Cuts the power at every moment of a life; what one of the cuts has left.
    fn cut(&mut self, life: &Life, name: &str, chance: &mut Chance) -> Option<Beginning> {
        self.seen_in = None;
        let before = &life.beginning.files;
        let mut disk = if self.search.honest { Disk::new(before) } else { Disk::lying(before) };
        let goes_on_after = life.events.len() / 2 + chance.below(life.events.len() / 2);
        let (mut acknowledged, mut synced, mut left) = (0, 0, None);
        for (moment, event) in life.events.iter().enumerate() {
            disk.apply(event, chance);
            match event {
                Event::Acknowledged(number) => acknowledged = *number,
                // All that was acknowledged is in the log or in the database, and SQLite syncs the one before it
                // writes to the other.
                Event::Sync(_) => synced = acknowledged,
                _ => {}
            }
            let to = (acknowledged + 1).min(life.contents.len() - 1);
            let from = match self.search.promise {
                Promise::All => acknowledged,
                Promise::Prefix => synced,
            };
            let bounds = Bounds { from, to };
            for loss in ways(event) {
                let files = Arc::new(disk.after(*loss, chance));
                if moment == goes_on_after {
                    left = Some((Arc::clone(&files), bounds));
                }
                self.made.total += 1;
                // The same files can be right at one moment and wrong at the next, so only those of this one are looked
                // through; and whole files, not their digests, since to compare is quick in any build.
                if self.seen_in != Some(bounds) {
                    self.seen_in = Some(bounds);
                    self.seen.clear();
                }
                if self.seen.contains(&files) {
                    continue;
                }
                self.seen.push(Arc::clone(&files));
                self.made.distinct += 1;
                let state = State {
                    contents: Arc::clone(&life.contents),
                    files,
                    bounds,
                    acknowledged,
                    origin: format!("{name}, after event {moment} ({event}), {loss:?}"),
                };
                self.to_judges.send(state).expect("the judges are there");
            }
        }
        let (files, bounds) = left?;
        match Judge::new().judge(&files, &life.contents, bounds) {
            Found::Good(number) => {
                Some(Beginning { files: Files::clone(&files), told: life.contents[number].told.clone() })
            }
            _ => None,
        }
    }
}

/// In which ways it is worth to lose something after an event.
fn ways(event: &Event) -> &'static [Loss] {
    match event {
        Event::Acknowledged(_) => &[Loss::Everything, Loss::Nothing],
        Event::Sync(_) | Event::SyncFailed(_) => &[Loss::Everything, Loss::Nothing, Loss::Scattered],
        Event::Write { .. } => &[Loss::Everything, Loss::Nothing, Loss::Tail, Loss::Scattered, Loss::Garbled],
        Event::Create(_) | Event::Delete { .. } | Event::Truncate { .. } => {
            &[Loss::Everything, Loss::Nothing, Loss::Scattered, Loss::Garbled]
        }
    }
}

impl Report {
    fn add(&mut self, state: &State, found: Found) {
        let say = |what: &str| format!("{}: {what}", state.origin);
        match found {
            Found::Good(number) => self.older += usize::from(number < state.acknowledged),
            Found::Lost(found, promised) => {
                self.lost.push(say(&format!("holds content {found}, and {promised} was promised")));
            }
            Found::Never(why) => self.never.push(say(&why)),
            Found::Damaged(why) => self.damaged.push(say(&why)),
        }
    }

    /// What should not be, if there is anything.
    pub(crate) fn complaints(&self) -> Vec<&String> {
        self.lost.iter().chain(&self.never).chain(&self.damaged).collect()
    }
}
