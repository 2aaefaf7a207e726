//! Whether the file is still where it was opened.
//!
//! A file that is moved, deleted or replaced while it is open goes on as if nothing had happened: the system keeps it for
//! whoever has it open, and what is written to it is found by nobody afterwards. SQLite does not mind. Taskloom does: what
//! it acknowledges is to be found at the path again.
//!
//! So what stands at the path, and at that of the log, is compared with what was opened, before each commit: two calls
//! of a microsecond, beside some that take hundreds. A transaction that finds something else there is rolled back. What is
//! moved in the microseconds between the look and the end of its commit is not noticed by that commit, but by the next.
//! The look is taken by path and not by an open file, since to close one would drop other libraries' locks on it
//! ([`crate::locks`]).

use std::path::{Path, PathBuf};

use taskloom_model::{Code, Error};

/// What was opened, and where.
#[derive(Debug)]
pub(crate) struct Whereabouts {
    file: Known,
    log: Known,
}

/// A file that was at a path.
#[derive(Debug)]
struct Known {
    path: PathBuf,
    /// `None` where it cannot be told: then all is well.
    identity: Option<Identity>,
}

type Identity = (u64, u64);

impl Whereabouts {
    /// Of a store that is open now, by the path by which it is known.
    pub(crate) fn of(store: &Path) -> Self {
        // SQLite follows links before it adds to the name.
        let mut log = std::fs::canonicalize(store).unwrap_or_else(|_| store.to_owned()).into_os_string();
        log.push("-wal");
        Self { file: Known::at(store.to_owned()), log: Known::at(log.into()) }
    }

    /// Of one whose files are nowhere that could be looked at.
    pub(crate) fn unknown() -> Self {
        let nowhere = || Known { path: PathBuf::new(), identity: None };
        Self { file: nowhere(), log: nowhere() }
    }

    /// Fails if somebody who opened the path now would not find what was written.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let Err(what) = self.file.check().and_then(|()| self.log.check()) else { return Ok(()) };
        let message = format!("cannot use the SQLite store {}: {what}", self.file.path.display());
        Err(Error::new(Code::StoreFailed, message).hint(
            "nothing is accepted for a file that nobody would find: put it back to where it was, with its -wal file, and \
             all goes on; or stop, and start anew",
        ))
    }
}

impl Known {
    fn at(path: PathBuf) -> Self {
        let identity = std::fs::metadata(&path).ok().and_then(|found| identity(&found));
        Self { path, identity }
    }

    fn check(&self) -> Result<(), String> {
        let Some(known) = self.identity else { return Ok(()) };
        let path = self.path.display();
        match std::fs::metadata(&self.path) {
            Ok(found) if identity(&found) == Some(known) => Ok(()),
            Ok(_) => Err(format!("another file has taken the place of {path} since it was opened")),
            Err(cause) if is_gone(&cause) => Err(match self.path.parent() {
                Some(parent) if !parent.is_dir() => format!("its directory {} has gone", parent.display()),
                _ => format!("{path} was moved or deleted after it was opened"),
            }),
            Err(cause) => Err(format!("{path} cannot be looked at: {cause}")),
        }
    }
}

fn is_gone(cause: &std::io::Error) -> bool {
    matches!(cause.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

#[cfg(unix)]
fn identity(found: &std::fs::Metadata) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;
    Some((found.dev(), found.ino()))
}

#[cfg(not(unix))]
fn identity(_: &std::fs::Metadata) -> Option<Identity> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn said(whereabouts: &Whereabouts) -> String {
        whereabouts.check().unwrap_err().message().to_owned()
    }

    #[test]
    fn says_what_became_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let (path, log) = (inner.join("tasks.db"), inner.join("tasks.db-wal"));
        std::fs::write(&path, "file").unwrap();
        std::fs::write(&log, "log").unwrap();
        let whereabouts = Whereabouts::of(&path);
        whereabouts.check().unwrap();

        let aside = inner.join("aside");
        std::fs::rename(&path, &aside).unwrap();
        assert!(said(&whereabouts).ends_with("tasks.db was moved or deleted after it was opened"));
        std::fs::write(&path, "another").unwrap();
        let told = said(&whereabouts);
        assert!(told.contains("another file has taken the place of"), "{told}");
        std::fs::rename(&aside, &path).unwrap();
        whereabouts.check().unwrap();

        std::fs::remove_file(&log).unwrap();
        assert!(said(&whereabouts).ends_with("tasks.db-wal was moved or deleted after it was opened"));
        std::fs::remove_dir_all(&inner).unwrap();
        assert!(said(&whereabouts).ends_with(&format!("its directory {} has gone", inner.display())));
        std::fs::write(&inner, "no directory").unwrap();
        assert!(said(&whereabouts).ends_with("has gone"));
    }

    #[test]
    fn a_store_that_is_nowhere_is_where_it_is() {
        Whereabouts::unknown().check().unwrap();
    }
}
