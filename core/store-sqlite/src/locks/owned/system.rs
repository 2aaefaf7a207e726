//! The system calls on descriptors and locks, in a safe form.
//!
//! Descriptors are plain numbers here, because they are SQLite's: it opened them and it closes them, by way of the
//! table. Whatever number is passed, the system answers with an error at worst; that it is the right one is the
//! table's affair.
#![allow(unsafe_code, reason = "SQLite's descriptors are numbers, and fcntl has no safe form")]

use std::fs::{File, Metadata};
use std::io::Error;
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd, RawFd};

use libc::c_int;

/// What the system says of an open file.
pub(super) fn metadata(fd: RawFd) -> Result<Metadata, Error> {
    // SAFETY: the file is never dropped, so that the descriptor stays SQLite's; it is open, as SQLite has it or parked
    // it, and if it were not, the only call made here would fail.
    let file = ManuallyDrop::new(unsafe { File::from_raw_fd(fd) });
    file.metadata()
}

/// A second descriptor of the same description, which programs that are started do not get.
pub(super) fn duplicate(fd: RawFd) -> Result<RawFd, Error> {
    // SAFETY: takes and returns numbers only.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 { Err(Error::last_os_error()) } else { Ok(copy) }
}

pub(super) fn close(fd: RawFd) -> c_int {
    // SAFETY: SQLite asks for it, or the table, whose descriptor it is.
    unsafe { libc::close(fd) }
}

/// Whether a descriptor may write.
pub(super) fn access(fd: RawFd) -> c_int {
    // SAFETY: takes and returns numbers only.
    unsafe { libc::fcntl(fd, libc::F_GETFL) & libc::O_ACCMODE }
}

/// Whether its file system has locks of the kind that we need.
pub(super) fn probe(fd: RawFd) -> Result<(), Error> {
    ask(fd, libc::F_OFD_GETLK, &mut whole(libc::F_WRLCK))
}

/// Locks the whole file against everybody, without waiting. Says whether nobody else holds anything.
pub(super) fn lock_whole(fd: RawFd) -> bool {
    match ask(fd, libc::F_OFD_SETLK, &mut whole(libc::F_WRLCK)) {
        Ok(()) => true,
        // It may only read, and gets no such lock. Asking who is there must do, for all that somebody may come yet.
        Err(error) if error.raw_os_error() == Some(libc::EBADF) => {
            let mut found = whole(libc::F_WRLCK);
            ask(fd, libc::F_OFD_GETLK, &mut found).is_ok() && found.l_type == kind(libc::F_UNLCK)
        }
        Err(_) => false,
    }
}

/// Gives back whatever this description holds.
pub(super) fn unlock_whole(fd: RawFd) {
    // It cannot fail for a file that has such locks, and elsewhere there is nothing to give back.
    let _ = ask(fd, libc::F_OFD_SETLK, &mut whole(libc::F_UNLCK));
}

/// One request for open-file-description locks.
pub(super) fn ask(fd: RawFd, request: c_int, about: &mut libc::flock) -> Result<(), Error> {
    // The kernel insists. SQLite leaves it open, since it means nothing in the requests that SQLite thinks it makes.
    about.l_pid = 0;
    // SAFETY: these requests read and write one `flock`.
    if unsafe { libc::fcntl(fd, request, std::ptr::from_mut(about)) } < 0 {
        return Err(Error::last_os_error());
    }
    Ok(())
}

fn whole(wanted: c_int) -> libc::flock {
    // SAFETY: a plain structure of numbers, some of them the platform's own; zeros are "from the start to the end".
    let mut about: libc::flock = unsafe { std::mem::zeroed() };
    about.l_type = kind(wanted);
    about.l_whence = libc::SEEK_SET as libc::c_short;
    about
}

/// `F_RDLCK` and its like, which have another type in a `flock` than by themselves.
#[allow(clippy::unnecessary_cast, reason = "on some platforms it is the same type")]
pub(super) fn kind(constant: c_int) -> libc::c_short {
    constant as libc::c_short
}
