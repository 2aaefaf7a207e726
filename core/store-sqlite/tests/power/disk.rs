//! A disk, and what is on it after the power went.
//!
//! # The model
//! A file is what its last completed sync made sure of, and changes that came after it (writes, truncations), which
//! the system keeps in memory and writes down whenever and in whatever order it likes. When the power goes, any of them
//! may have reached the disk:
//! * none ([`Loss::Everything`]) or all ([`Loss::Nothing`], as if only the process had died);
//! * all but the last, of which the first sectors have ([`Loss::Tail`]);
//! * any of their sectors ([`Loss::Scattered`]), in any file, whatever came first; a file can have grown to its new
//!   length and hold zeros where nothing was written;
//! * and a sector on its way can hold anything ([`Loss::Garbled`]).
//!
//! Names are apart from files: that a file is made or deleted is a change of the directory, and is sure when the
//! directory is synced. SQLite has that done with the first sync of a new log or journal, and with a deletion if it
//! asks for it. Until then each such change may have reached the disk or not.
//!
//! A sync that fails has written any of the sectors, and the system forgets the others: what it could not write it
//! never tries again, and the next sync succeeds without them, as Linux does.
//!
//! # What it assumes of a real disk
//! * A completed sync is true. (What a disk that lies can do is shown with [`Disk::lying`].)
//! * A write changes nothing beside its own bytes, even when the power goes ("powersafe overwrite", which SQLite
//!   assumes of every system by default). Writes are cut where sectors of 512 bytes begin; a smaller piece is whole,
//!   absent, or garbled.
//! * The file system keeps its own house in order: there is no file of which neither name nor content was ever written.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::chance::Chance;
use crate::vfs::{Event, FileName};

/// Files by name, as they are found when the power is back.
pub(crate) type Files = BTreeMap<FileName, Vec<u8>>;

const SECTOR: usize = 512;

/// Which of the changes that were not synced are lost.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Loss {
    Everything,
    Nothing,
    /// The last of the newest write.
    Tail,
    /// Any.
    Scattered,
    /// Any, and what was on its way may be garbage.
    Garbled,
}

#[derive(Clone)]
enum Change {
    Write { at: usize, bytes: Arc<[u8]> },
    Truncate(usize),
}

/// A file, named or not.
#[derive(Clone, Default)]
struct File {
    sure: Vec<u8>,
    changes: Vec<Change>,
    /// Its first sync is to make its name sure too.
    syncs_directory: bool,
}

/// A change of the directory: which file has a name from now on.
#[derive(Clone)]
struct Naming(FileName, Option<usize>);

/// A disk under power.
pub(crate) struct Disk {
    files: Vec<File>,
    sure_names: BTreeMap<FileName, usize>,
    namings: Vec<Naming>,
    /// The names as everybody sees them while the power is on.
    names: BTreeMap<FileName, usize>,
    /// The file that was written to last.
    newest: Option<usize>,
    honest: bool,
}

impl Disk {
    /// A disk with these files, all of them sure.
    pub(crate) fn new(files: &Files) -> Self {
        let names: BTreeMap<_, _> = files.keys().cloned().zip(0..).collect();
        let sure = |content: &Vec<u8>| File { sure: content.clone(), ..File::default() };
        Self {
            files: files.values().map(sure).collect(),
            sure_names: names.clone(),
            namings: Vec::new(),
            names,
            newest: None,
            honest: true,
        }
    }

    /// A disk that says that it has synced, and has not.
    pub(crate) fn lying(files: &Files) -> Self {
        Self { honest: false, ..Self::new(files) }
    }

    /// Something is done to it. Chance decides what comes of a sync that failed.
    pub(crate) fn apply(&mut self, event: &Event, chance: &mut Chance) {
        match event {
            Event::Create(name) => {
                let number = self.files.len();
                let syncs_directory = name.ends_with("-wal") || name.ends_with("-journal");
                self.files.push(File { syncs_directory, ..File::default() });
                self.name(name, Some(number));
            }
            Event::Write { file, at, bytes } => {
                self.change(file, Change::Write { at: *at, bytes: Arc::clone(bytes) });
            }
            Event::Truncate { file, length } => self.change(file, Change::Truncate(*length)),
            Event::Sync(file) => {
                let number = self.names[file];
                if self.honest {
                    let file = &mut self.files[number];
                    for change in std::mem::take(&mut file.changes) {
                        change.make(&mut file.sure);
                    }
                    if std::mem::take(&mut file.syncs_directory) {
                        self.sync_directory();
                    }
                }
            }
            Event::SyncFailed(file) => {
                let file = &mut self.files[self.names[file]];
                file.sure = file.scattered(50, false, chance);
                file.changes.clear();
            }
            Event::Delete { file, synced } => {
                self.name(file, None);
                if *synced && self.honest {
                    self.sync_directory();
                }
            }
            Event::Acknowledged(_) => {}
        }
    }

    fn change(&mut self, file: &FileName, change: Change) {
        let number = self.names[file];
        self.files[number].changes.push(change);
        self.newest = Some(number);
    }

    fn name(&mut self, name: &FileName, number: Option<usize>) {
        put(&mut self.names, name, number);
        self.namings.push(Naming(Arc::clone(name), number));
    }

    fn sync_directory(&mut self) {
        self.sure_names.clone_from(&self.names);
        self.namings.clear();
    }

    /// What is found when the power is back.
    pub(crate) fn after(&self, loss: Loss, chance: &mut Chance) -> Files {
        // Some losses are mild, some are hard.
        let kept = [10, 50, 90][chance.below(3)];
        let mut names = self.sure_names.clone();
        for Naming(name, number) in &self.namings {
            let reached = match loss {
                Loss::Everything => false,
                Loss::Nothing | Loss::Tail => true,
                Loss::Scattered | Loss::Garbled => chance.percent(50),
            };
            if reached {
                put(&mut names, name, *number);
            }
        }
        let found = |(name, number): (FileName, usize)| {
            let file = &self.files[number];
            let content = match loss {
                Loss::Everything => file.sure.clone(),
                Loss::Nothing => file.with(&file.changes),
                Loss::Tail => file.without_tail(self.newest == Some(number), chance),
                Loss::Scattered => file.scattered(kept, false, chance),
                Loss::Garbled => file.scattered(kept, true, chance),
            };
            (name, content)
        };
        names.into_iter().map(found).collect()
    }
}

fn put(names: &mut BTreeMap<FileName, usize>, name: &FileName, number: Option<usize>) {
    match number {
        Some(number) => names.insert(Arc::clone(name), number),
        None => names.remove(name),
    };
}

impl Change {
    fn make(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes } => write(content, *at, bytes),
            Self::Truncate(length) => content.resize(*length, 0),
        }
    }

    /// Where a file ends at the least after this.
    fn end(&self) -> usize {
        match self {
            Self::Write { at, bytes } => at + bytes.len(),
            Self::Truncate(length) => *length,
        }
    }
}

fn write(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if content.len() < at + bytes.len() {
        content.resize(at + bytes.len(), 0);
    }
    content[at..at + bytes.len()].copy_from_slice(bytes);
}

/// The parts of a write that lie in one sector each: where they begin in the file, and their bytes.
fn sectors(at: usize, bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let place = at + done;
        let length = (SECTOR - place % SECTOR).min(bytes.len() - done);
        let piece = &bytes[done..done + length];
        done += length;
        (length > 0).then_some((place, piece))
    })
}

impl File {
    fn with(&self, changes: &[Change]) -> Vec<u8> {
        let mut content = self.sure.clone();
        for change in changes {
            change.make(&mut content);
        }
        content
    }

    /// All changes; but of the last, if it is a write and the newest of all, only the first sectors.
    fn without_tail(&self, newest: bool, chance: &mut Chance) -> Vec<u8> {
        match self.changes.split_last() {
            Some((Change::Write { at, bytes }, before)) if newest => {
                let mut content = self.with(before);
                let count = sectors(*at, bytes).count();
                for (place, piece) in sectors(*at, bytes).take(chance.below(count.max(1))) {
                    write(&mut content, place, piece);
                }
                content
            }
            _ => self.with(&self.changes),
        }
    }

    /// Some of the changes, sector by sector.
    fn scattered(&self, kept: usize, garbled: bool, chance: &mut Chance) -> Vec<u8> {
        let mut content = self.sure.clone();
        for change in &self.changes {
            match change {
                Change::Truncate(_) if chance.percent(kept) => change.make(&mut content),
                Change::Truncate(_) => {}
                Change::Write { at, bytes } => {
                    for (place, piece) in sectors(*at, bytes) {
                        if chance.percent(kept) {
                            write(&mut content, place, piece);
                        } else if garbled && chance.percent(20) {
                            let garbage: Vec<u8> =
                                piece.iter().map(|byte| byte ^ chance.next() as u8).collect();
                            write(&mut content, place, &garbage);
                        }
                    }
                }
            }
        }
        // The new length can be there before what is to fill it.
        let end = self.changes.iter().map(Change::end).max().unwrap_or(0);
        if content.len() < end && chance.percent(25) {
            content.resize(end, 0);
        }
        content
    }
}
