//! Locks on the store's file that another SQLite library in this process cannot drop.
//!
//! # Why
//! SQLite keeps processes apart by `fcntl` locks, and those belong to the process: when any descriptor of a file is
//! closed, the kernel drops all of the process's locks on that file. SQLite keeps account of this for its own
//! descriptors, but two SQLite libraries in one process (ours, and the one that Python's `sqlite3` uses) know nothing
//! of each other. Each drops the other's locks, a third party takes them, and the file is damaged within a second.
//! Linux and macOS also know locks that belong to an *open file description*. Those stay until they are given back or
//! the description is gone; they conflict with everybody else's locks of either kind, in the same process too.
//!
//! # What it owns
//! Three system calls of our own copy of SQLite (`owned::hooks`), and what they remember of its descriptors
//! (`owned::table`). They are put in place before the first store is opened, and stay.
//!
//! # Invariants
//! * **One owner for each file.** SQLite takes a lock through one descriptor and gives it back through another, because
//!   to it they are the same owner: the process. So all locks on one file (device and inode) go through one
//!   description, the owner: a duplicate of the first descriptor that locked. What SQLite relied on holds as before,
//!   but that nobody else's `close` drops anything. Without an owner, the connection that closes last would meet the
//!   shared lock of the one that locked first, and could never empty the log.
//! * **The owner ends with SQLite's last descriptor of the file**, and gives back whatever SQLite left to the `close`.
//! * **Nor do we drop the locks of others.** Our `close` is what drops those of Python's `sqlite3`. So a descriptor is
//!   closed only while we hold a lock on the whole file: then nobody else holds one, nor gets one meanwhile. When that
//!   is refused, the descriptor is parked, handed out again when SQLite opens the same file, and else tried again when
//!   SQLite next closes one.
//! * **A forked child has none of it.** It would inherit the descriptions, and giving back a lock, or outliving its
//!   parent, would be felt there. In a child each descriptor leads nowhere instead, and asking for a lock fails
//!   ([`crate::forks`] refuses the file there).
//! * Descriptors from before the hooks are left alone altogether. That a store is not built on them is checked when it
//!   has been opened. (It takes a Rust program that uses SQLite itself, and the same file.)
//!
//! # Failure
//! There is no falling back to the process's locks: where the system or the file system has no others, and where the
//! file is on another machine, `prepare` or the first lock fails and the store is not opened. A file that was first
//! opened for reading only has an owner that may not write: to ask for a writer's lock fails then, and damages nothing.

#[cfg(not(all(
    any(target_os = "linux", target_os = "android", target_vendor = "apple"),
    target_pointer_width = "64"
)))]
mod lacking;
#[cfg(unix)]
mod network;
#[cfg(all(
    any(target_os = "linux", target_os = "android", target_vendor = "apple"),
    target_pointer_width = "64"
))]
mod owned;

#[cfg(not(all(
    any(target_os = "linux", target_os = "android", target_vendor = "apple"),
    target_pointer_width = "64"
)))]
pub(crate) use lacking::{check, prepare, refusal};
#[cfg(all(
    any(target_os = "linux", target_os = "android", target_vendor = "apple"),
    target_pointer_width = "64"
))]
pub(crate) use owned::{check, prepare, refusal};
