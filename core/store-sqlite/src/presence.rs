//! Who is alive: a lock for each owner, on a file of its own.
//!
//! Beside the store's file `tasks.db` stands a directory `tasks.db-owners` with a file for each owner, named by its
//! number, which the owner's process holds locked. The system lets go of the lock when the process ends, however it
//! ends; so whoever finds the file unlocked knows that its owner is dead, at once and without waiting for a lease. A
//! process that is merely frozen keeps its lock, and is judged by its heartbeat.
//!
//! These are locks of processes (POSIX), not of open files: a forked child inherits none, and so does not keep the dead
//! alive. Such locks have a trap: to close *any* descriptor of a file lets go of all that the process holds on it. So
//! nobody opens the file of an owner in the same process, which is alive as long as somebody can ask: [`HELD`] knows
//! them.
//!
//! # What it has begun
//! A process claims tasks ahead of its workers, and when it dies only those that a worker had begun have crashed: the
//! others were merely there, and three such deaths must not make them poison. So the file also says, in a place for each
//! of the owner's workers, which attempt began there last ([`Presence::note`]). It is written without a transaction or a
//! sync: what a process has written outlives it, and if the whole machine goes, nobody can say who was to blame. A file
//! to which nothing was ever written says nothing.
//!
//! An attempt that began *alone* is marked. While it is there, nothing else that began is held to have crashed.
//!
//! # What is not there
//! A file that is not there says nothing: its owner is judged by its heartbeat alone. So it is where a system has no such
//! locks, and if somebody empties the directory.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::{Mutex, RwLock};
use taskloom_model::{OwnerId, TaskId};

/// The files that this process holds locked.
static HELD: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// The owners' files of one store.
#[derive(Debug)]
pub(crate) struct Presence {
    directory: PathBuf,
    own: RwLock<HashMap<OwnerId, Held>>,
}

/// Attempts that an owner has begun, and that crash if it dies.
pub(crate) type Begun = HashSet<(TaskId, u32)>;

/// A place in a file: the task's id, the attempt, whether it began alone, and nothing, for the alignment.
const PLACE: usize = 24;

/// Where in a place it says that.
const ALONE: usize = 20;

/// A file that is locked for as long as this is held.
#[derive(Debug)]
struct Held {
    path: PathBuf,
    file: File,
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.lock().retain(|path| *path != self.path);
    }
}

impl Presence {
    pub(crate) fn of(store: &Path) -> Self {
        let mut directory = store.as_os_str().to_owned();
        directory.push("-owners");
        Self { directory: directory.into(), own: RwLock::default() }
    }

    /// Where the files are.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    fn path(&self, owner: OwnerId) -> PathBuf {
        self.directory.join(owner.get().to_string())
    }

    /// From now on this owner is alive for as long as this process is.
    pub(crate) fn hold(&self, owner: OwnerId) -> io::Result<()> {
        std::fs::create_dir_all(&self.directory)?;
        let path = self.path(owner);
        // Noted first: nobody in this process may open it, now or later.
        HELD.lock().push(path.clone());
        let file = File::options().create(true).truncate(true).read(true).write(true).open(&path);
        let locked = file.and_then(|file| lock::exclusive(&file).map(|()| file));
        match locked {
            Ok(file) => {
                self.own.write().insert(owner, Held { path, file });
                Ok(())
            }
            Err(error) => {
                HELD.lock().retain(|held| *held != path);
                Err(error)
            }
        }
    }

    /// Whether an owner is dead for certain.
    pub(crate) fn is_gone(&self, owner: OwnerId) -> bool {
        let path = self.path(owner);
        if HELD.lock().contains(&path) {
            return false;
        }
        File::open(path).is_ok_and(|file| lock::is_free(&file))
    }

    /// An owner of this process begins an attempt at one of its places; the first time, none.
    pub(crate) fn note(&self, owner: OwnerId, place: usize, begun: Option<(TaskId, u32)>, alone: bool) {
        let mut written = [0; PLACE];
        if let Some((id, attempt)) = begun {
            written[..16].copy_from_slice(id.as_bytes());
            written[16..20].copy_from_slice(&attempt.to_le_bytes());
            written[ALONE] = alone.into();
        }
        if let Some(held) = self.own.read().get(&owner) {
            // A disk that takes nothing more takes no commit either, and that is told.
            let _ = at::write(&held.file, &written, (place * PLACE) as u64);
        }
    }

    /// What an owner has begun, if it ever said; only what began alone, if something did.
    pub(crate) fn begun(&self, owner: OwnerId) -> Option<Begun> {
        let path = self.path(owner);
        let mut bytes = Vec::new();
        if let Some(held) = self.own.read().get(&owner) {
            at::read(&held.file, &mut bytes).ok()?;
        } else if HELD.lock().contains(&path) {
            // Another store's of this process: to open it would be its death.
            return None;
        } else {
            at::read(&File::open(path).ok()?, &mut bytes).ok()?;
        }
        let place = |bytes: &[u8]| {
            let (id, attempt) = (bytes[..16].try_into().ok()?, bytes[16..20].try_into().ok()?);
            Some((TaskId::from_bytes(id), u32::from_le_bytes(attempt)))
        };
        let places = || bytes.chunks_exact(PLACE);
        let alone: Begun = places().filter(|bytes| bytes[ALONE] != 0).filter_map(place).collect();
        let begun = || if alone.is_empty() { places().filter_map(place).collect() } else { alone };
        (!bytes.is_empty()).then(begun)
    }

    /// An owner was struck off, and its file is of no use any more.
    pub(crate) fn forget(&self, owner: OwnerId) {
        let own = self.own.write().remove(&owner);
        // One that stays behind says nothing about anybody: numbers are given out once.
        let _ = std::fs::remove_file(self.path(owner));
        drop(own);
    }
}

/// Reading and writing somewhere in a file.
#[cfg(unix)]
mod at {
    use std::fs::File;
    use std::io;
    use std::os::unix::fs::FileExt;

    pub(super) fn write(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    pub(super) fn read(file: &File, bytes: &mut Vec<u8>) -> io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            match file.read_at(&mut buffer, bytes.len() as u64)? {
                0 => return Ok(()),
                count => bytes.extend_from_slice(&buffer[..count]),
            }
        }
    }
}

#[cfg(not(unix))]
mod at {
    use std::fs::File;
    use std::io;

    pub(super) fn write(_: &File, _: &[u8], _: u64) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn read(_: &File, _: &mut Vec<u8>) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(unix)]
mod lock {
    use std::fs::File;
    use std::io;

    use rustix::fs::{FlockOperation, fcntl_lock};

    pub(super) fn exclusive(file: &File) -> io::Result<()> {
        Ok(fcntl_lock(file, FlockOperation::NonBlockingLockExclusive)?)
    }

    /// Asked by taking a lock that others who ask can take too; it goes as the file is closed.
    pub(super) fn is_free(file: &File) -> bool {
        fcntl_lock(file, FlockOperation::NonBlockingLockShared).is_ok()
    }
}

#[cfg(not(unix))]
mod lock {
    use std::fs::File;
    use std::io;

    pub(super) fn exclusive(_: &File) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn is_free(_: &File) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(number: u64) -> OwnerId {
        OwnerId::new(number).unwrap()
    }

    #[test]
    fn who_holds_its_file_is_alive_and_who_has_none_may_be() {
        let directory = tempfile::tempdir().unwrap();
        let presence = Presence::of(&directory.path().join("tasks.db"));
        assert!(!presence.is_gone(owner(1)), "there is no file");
        presence.hold(owner(1)).unwrap();
        assert!(!presence.is_gone(owner(1)));
        let other = Presence::of(&directory.path().join("tasks.db"));
        assert!(
            !other.is_gone(owner(1)),
            "asked by another store of this process, which must not open the file"
        );
        presence.forget(owner(1));
        assert!(!presence.path(owner(1)).exists());
    }

    #[test]
    fn what_was_begun_is_read_by_others() {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("tasks.db");
        let presence = Presence::of(&store);
        presence.hold(owner(1)).unwrap();
        assert_eq!(presence.begun(owner(1)), None, "it never said");
        presence.note(owner(1), 0, None, false);
        let id = |byte| TaskId::from_bytes([byte; 16]);
        let nothing = (id(0), 0);
        assert_eq!(presence.begun(owner(1)), Some([nothing].into()));
        presence.note(owner(1), 0, Some((id(7), 2)), false);
        presence.note(owner(1), 3, Some((id(8), 1)), false);
        presence.note(owner(1), 0, Some((id(9), 1)), false);
        assert_eq!(presence.begun(owner(1)), Some([nothing, (id(9), 1), (id(8), 1)].into()));
        assert_eq!(
            Presence::of(&store).begun(owner(1)),
            None,
            "another store of this process does not open it"
        );
        std::fs::copy(presence.path(owner(1)), presence.path(owner(2))).unwrap();
        assert_eq!(presence.begun(owner(2)), presence.begun(owner(1)), "one that has died");
    }

    #[test]
    fn one_that_began_alone_is_the_only_one_to_crash() {
        let directory = tempfile::tempdir().unwrap();
        let presence = Presence::of(&directory.path().join("tasks.db"));
        presence.hold(owner(1)).unwrap();
        let id = |byte| TaskId::from_bytes([byte; 16]);
        presence.note(owner(1), 1, Some((id(7), 2)), false);
        presence.note(owner(1), 2, Some((id(8), 3)), true);
        presence.note(owner(1), 3, Some((id(9), 1)), false);
        assert_eq!(presence.begun(owner(1)), Some([(id(8), 3)].into()));
        presence.note(owner(1), 2, Some((id(8), 3)), false);
        let all = presence.begun(owner(1)).unwrap();
        assert!([(id(7), 2), (id(8), 3), (id(9), 1)].iter().all(|begun| all.contains(begun)), "{all:?}");
    }

    #[test]
    fn a_file_that_nobody_holds_is_that_of_a_dead_owner() {
        let directory = tempfile::tempdir().unwrap();
        let presence = Presence::of(&directory.path().join("tasks.db"));
        std::fs::create_dir(presence.directory()).unwrap();
        std::fs::write(presence.path(owner(7)), "").unwrap();
        assert_eq!(presence.is_gone(owner(7)), cfg!(unix));
    }
}
