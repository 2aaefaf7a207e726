//! Where there are open-file-description locks: what opening a store asks of them.

use std::path::Path;

use taskloom_model::{Code, Error};

mod hooks;
mod system;
mod table;

/// Sees to it that a file can be locked, before SQLite opens it.
pub(crate) fn prepare(path: &Path) -> Result<(), Error> {
    super::network::refuse(path)?;
    // Of an earlier attempt, that came to nothing for another reason.
    drop(hooks::take_refusal());
    if hooks::install() {
        return Ok(());
    }
    Err(failed(path, "its SQLite does not let Taskloom lock files")
        .hint("build Taskloom with the SQLite that it brings along"))
}

/// Why opening failed, if it was for want of locks: SQLite can only say "disk I/O error". Asked once, on the thread
/// that opened.
pub(crate) fn refusal(path: &Path) -> Option<Error> {
    hooks::take_refusal().map(|cause| refused(path, cause))
}

/// Refuses a file that is open, unless its locks are our own.
pub(crate) fn check(path: &Path) -> Result<(), Error> {
    if hooks::guard(path) {
        return Ok(());
    }
    Err(failed(path, "this program already had it open in SQLite")
        .hint("close that connection first, or open it after the program's first Taskloom store"))
}

fn refused(path: &Path, cause: std::io::Error) -> Error {
    failed(path, &format!("its file system refuses open-file-description locks ({cause})"))
        .hint("put the file on a local disk with an ordinary file system")
        .caused_by(cause)
}

fn failed(path: &Path, why: &str) -> Error {
    Error::new(Code::StoreFailed, format!("cannot open the SQLite store {}: {why}", path.display()))
}

#[cfg(test)]
mod tests;
