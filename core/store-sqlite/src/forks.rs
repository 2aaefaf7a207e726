//! Forked processes and SQLite.
//!
//! SQLite keeps account, per process, of the locks that it holds on a file. A forked child inherits the account but not
//! the locks: a connection that it opens to the same file believes to hold what it does not, and the file can be
//! damaged. Nor may the child close what it inherited. So a process remembers which files it has open, and a child of
//! it is refused those; what it has inherited is left as it is (the engine does not drop a store in a child).

use std::collections::HashMap;
use std::fs::Metadata;
use std::path::Path;

use parking_lot::Mutex;
use taskloom_model::{Code, Error};
use taskloom_sync::fork_generation;

/// A file, whatever it is called.
type FileId = (u64, u64);

/// Open files: how often, and in which generation of forks.
static OPEN: Mutex<Option<HashMap<FileId, (usize, u32)>>> = Mutex::new(None);

/// That a file is open in this process, for as long as this is held.
#[derive(Debug)]
pub(crate) struct OpenHere(Option<FileId>);

#[cfg(unix)]
fn id(metadata: &Metadata) -> FileId {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

/// Without forks there is nothing to tell apart.
#[cfg(not(unix))]
fn id(_: &Metadata) -> FileId {
    (0, 0)
}

/// Refuses a file that was open when this process was forked off.
pub(crate) fn check(path: &Path) -> Result<(), Error> {
    let Some(id) = std::fs::metadata(path).ok().map(|metadata| id(&metadata)) else { return Ok(()) };
    let open = OPEN.lock();
    match open.as_ref().and_then(|open| open.get(&id)) {
        Some((_, generation)) if *generation != fork_generation() => Err(Error::new(
            Code::Forked,
            format!("{} was open in the process that this one was forked from", path.display()),
        )
        .hint("fork before the store is first used, or start the child as a process of its own (spawn)")),
        _ => Ok(()),
    }
}

/// Notes that a file is open.
pub(crate) fn note(path: &Path) -> OpenHere {
    let id = std::fs::metadata(path).ok().map(|metadata| id(&metadata));
    if let Some(id) = id {
        let mut open = OPEN.lock();
        let (count, generation) = open.get_or_insert_default().entry(id).or_insert((0, 0));
        *count += 1;
        *generation = fork_generation();
    }
    OpenHere(id)
}

impl Drop for OpenHere {
    fn drop(&mut self) {
        let Some(id) = self.0 else { return };
        let mut open = OPEN.lock();
        let Some(open) = open.as_mut() else { return };
        if let Some((count, _)) = open.get_mut(&id) {
            *count -= 1;
            if *count == 0 {
                open.remove(&id);
            }
        }
    }
}
