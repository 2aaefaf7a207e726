//! Which descriptors SQLite has of which file, and which description holds the locks on it.
//!
//! # Invariants
//! * A file is here for as long as SQLite has a descriptor of it, or one is parked. As long as it is here it is open,
//!   so that its number is not given to another file.
//! * A file's owner, if there is one, is a descriptor of ours that nobody else knows.
//! * While SQLite has no descriptor of a file, nothing is locked through its owner, but while it is being closed.
//!
//! # Failure
//! A file without the right kind of locks gets no owner, and each attempt to lock it fails. A descriptor that cannot
//! be closed yet stays open: at worst until the process ends, and never more of them than were once open together.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io::Error;
use std::os::fd::RawFd;
use std::os::unix::fs::MetadataExt;

use libc::c_int;

use super::system;

/// A file, whatever it is called.
pub(super) type FileId = (u64, u64);

/// SQLite does not take those below, and would ask again for ever if it were offered one.
const LOWEST: RawFd = 3;

/// What a descriptor of SQLite's leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Descriptor {
    Of(FileId),
    /// Nowhere: it was open when this process was forked off.
    Inherited,
}

#[derive(Debug, Default)]
struct File {
    /// All locks go through it. None before the first.
    owner: Option<RawFd>,
    /// Descriptors that SQLite has.
    open: usize,
    /// Descriptors that SQLite believes closed.
    parked: Vec<RawFd>,
}

/// Where a request for a lock goes.
#[derive(Debug)]
pub(super) enum Route {
    /// To the descriptor itself, as it is: we know nothing of it.
    Untouched,
    /// To the owner, as a request for its own locks.
    Owner(RawFd),
    /// Nowhere, in a forked child.
    Inherited,
    /// Nowhere, since the file system has no such locks.
    Refused(Error),
}

#[derive(Debug)]
pub(super) struct Table {
    descriptors: BTreeMap<RawFd, Descriptor>,
    files: BTreeMap<FileId, File>,
    /// Whether a file system has the right locks. Tests come in here.
    probe: fn(RawFd) -> Result<(), Error>,
}

impl Table {
    pub(super) const fn new(probe: fn(RawFd) -> Result<(), Error>) -> Self {
        Self { descriptors: BTreeMap::new(), files: BTreeMap::new(), probe }
    }

    /// SQLite has opened something. What is not a file has no locks.
    pub(super) fn opened(&mut self, fd: RawFd) {
        if let Some(id) = system::metadata(fd).ok().filter(Metadata::is_file).map(|metadata| id(&metadata)) {
            self.descriptors.insert(fd, Descriptor::Of(id));
            self.files.entry(id).or_default().open += 1;
        }
    }

    /// A parked descriptor of this file with this access, for SQLite to have again.
    pub(super) fn reopen(&mut self, id: FileId, access: c_int) -> Option<RawFd> {
        let file = self.files.get_mut(&id)?;
        let fits = |fd: &RawFd| *fd >= LOWEST && system::access(*fd) == access;
        let fd = file.parked.swap_remove(file.parked.iter().position(fits)?);
        file.open += 1;
        self.descriptors.insert(fd, Descriptor::Of(id));
        Some(fd)
    }

    /// Where a request goes that SQLite makes of one of its descriptors.
    pub(super) fn route(&mut self, fd: RawFd) -> Route {
        let id = match self.descriptors.get(&fd) {
            None => return Route::Untouched,
            Some(Descriptor::Inherited) => return Route::Inherited,
            Some(Descriptor::Of(id)) => *id,
        };
        let file = self.files.entry(id).or_default();
        if let Some(owner) = file.owner {
            return Route::Owner(owner);
        }
        match (self.probe)(fd).and_then(|()| system::duplicate(fd)) {
            Ok(owner) => {
                file.owner = Some(owner);
                Route::Owner(owner)
            }
            Err(cause) => Route::Refused(cause),
        }
    }

    /// Whether the locks on this file are ours to keep: SQLite has it open, and has locked it.
    pub(super) fn guards(&self, id: FileId) -> bool {
        self.files.get(&id).is_some_and(|file| file.open > 0 && file.owner.is_some())
    }

    /// SQLite is done with a descriptor.
    pub(super) fn close(&mut self, fd: RawFd) -> c_int {
        let Some(Descriptor::Of(id)) = self.descriptors.remove(&fd) else { return system::close(fd) };
        let file = self.files.entry(id).or_default();
        file.open = file.open.saturating_sub(1);
        file.parked.push(fd);
        if let (0, Some(owner)) = (file.open, file.owner) {
            // Not left to the closing of the owner, since that may have to wait.
            system::unlock_whole(owner);
        }
        self.files.retain(|_, file| !file.release());
        0
    }

    /// In a forked child: `cut` makes each descriptor lead nowhere. Allocates and frees nothing, as is proper between
    /// a fork and whatever comes next.
    pub(super) fn disinherit(&mut self, cut: impl Fn(RawFd)) {
        for (fd, descriptor) in &mut self.descriptors {
            // One from an earlier fork leads nowhere already, or the child has closed it and its number is anybody's.
            if let Descriptor::Of(_) = std::mem::replace(descriptor, Descriptor::Inherited) {
                cut(*fd);
            }
        }
        let files = std::mem::take(&mut self.files);
        for file in files.values() {
            file.parked.iter().chain(&file.owner).for_each(|fd| cut(*fd));
        }
        std::mem::forget(files);
    }

    /// Whether there is anything that a child would inherit.
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

impl File {
    /// Closes it, if SQLite is done with it and nobody's locks would be dropped.
    fn release(&mut self) -> bool {
        let Some(holder) = self.owner.or(self.parked.last().copied()).filter(|_| self.open == 0) else {
            return false;
        };
        // Nobody opens a file any more that has no name; who has it is not kept apart from others by its locks.
        let is_nameless = system::metadata(holder).is_ok_and(|metadata| metadata.nlink() == 0);
        if !is_nameless && !system::lock_whole(holder) {
            return false;
        }
        for fd in self.parked.drain(..).filter(|fd| *fd != holder) {
            system::close(fd);
        }
        // The last one, for it holds the lock under which the others were closed.
        system::close(holder);
        true
    }
}

pub(super) fn id(metadata: &Metadata) -> FileId {
    (metadata.dev(), metadata.ino())
}
