//! Where there are no hooks: on Windows, where a lock belongs to the handle that took it and nobody else can drop it; and
//! on systems of which no other locks are known than the process's, where no store is opened.

use std::path::Path;

use taskloom_model::Error;

/// Nothing needs to be done.
#[cfg(not(unix))]
pub(crate) fn prepare(_: &Path) -> Result<(), Error> {
    Ok(())
}

/// Nothing can be done.
#[cfg(unix)]
pub(crate) fn prepare(path: &Path) -> Result<(), Error> {
    super::network::refuse(path)?;
    Err(Error::new(
        taskloom_model::Code::StoreFailed,
        format!(
            "cannot open the SQLite store {}: this system has no open-file-description locks",
            path.display()
        ),
    )
    .hint("without them another SQLite library in this process could damage the file: use the memory store here"))
}

/// Opening never failed for want of locks.
pub(crate) fn refusal(_: &Path) -> Option<Error> {
    None
}

/// There is nothing to check.
pub(crate) fn check(_: &Path) -> Result<(), Error> {
    Ok(())
}
