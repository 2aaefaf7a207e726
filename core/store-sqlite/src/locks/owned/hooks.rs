//! The system calls that our copy of SQLite makes in place of the C library's: `open`, `close` and `fcntl`.
//!
//! # What it owns
//! The process's one [`Table`], and the handlers that keep it whole over a fork: it is locked while the process forks,
//! so that no child finds it half changed or locked for ever.
//!
//! # Invariants
//! * Our SQLite is linked into this library and known to nobody else, so these calls are its own. In a Rust program
//!   that uses the same SQLite for other files, those files have the better locks too.
//! * The table's lock is held for no longer than a call that does not wait, and nothing else is locked meanwhile.
//!
//! # Failure
//! As the C library's: -1 and `errno`. What a lock failed for on its first use is also kept for the thread's opener.
#![allow(unsafe_code, reason = "these functions are called from C, with C's pointers")]

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, OsStr};
use std::io::Error;
use std::mem::ManuallyDrop;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use libc::{c_char, c_int, c_void};
use rusqlite::ffi;

use super::system;
use super::table::{Route, Table, id};

/// The standard library's mutex, which knows nothing but itself: a child may unlock it, whoever waits for it.
static TABLE: Mutex<Table> = Mutex::new(Table::new(system::probe));

thread_local! {
    static REFUSED: RefCell<Option<Error>> = const { RefCell::new(None) };
    /// While this thread forks. Not dropped with the thread, since it may fork to its very end.
    static HELD: Cell<Option<ManuallyDrop<MutexGuard<'static, Table>>>> = const { Cell::new(None) };
}

fn table() -> MutexGuard<'static, Table> {
    // Nothing that is done with it panics.
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts the calls in place, once in a process. False if this SQLite takes none.
pub(super) fn install() -> bool {
    static DONE: OnceLock<bool> = OnceLock::new();
    *DONE.get_or_init(|| {
        // SAFETY: three plain functions with their C signatures; a library that holds them is never unloaded, as it has
        // threads. Without memory for it this fails, and then there are no locks either.
        if unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork), Some(in_the_child)) } != 0 {
            return false;
        }
        // SAFETY: the name is a C string, and SQLite initialises itself.
        let vfs = unsafe { ffi::sqlite3_vfs_find(c"unix".as_ptr()) };
        // SAFETY: a registered VFS stays where it is; SQLite's own is never unregistered.
        let Some(set) = unsafe { vfs.as_ref() }.and_then(|vfs| vfs.xSetSystemCall) else { return false };
        type Call = unsafe extern "C" fn();
        // SAFETY: SQLite turns each back into the type of the call that it names, which is the one it has here.
        let calls: [(&CStr, Call); 3] = unsafe {
            [
                (c"close", std::mem::transmute::<unsafe extern "C" fn(c_int) -> c_int, Call>(close)),
                (c"fcntl", std::mem::transmute::<Fcntl, Call>(fcntl)),
                // Last, since what it opens is closed and locked by the other two.
                (c"open", std::mem::transmute::<Open, Call>(open)),
            ]
        };
        calls.into_iter().all(|(name, call)| {
            // SAFETY: as above; SQLite reads the pointers, which are whole at any time, without a lock.
            unsafe { set(vfs, name.as_ptr(), Some(call)) == ffi::SQLITE_OK }
        })
    })
}

/// Why this thread's last attempt to lock a file for the first time was refused.
pub(super) fn take_refusal() -> Option<Error> {
    REFUSED.take()
}

/// Whether an open file and its shared memory are locked in the way that [`crate::locks`] describes. A file that has
/// gone is let through: that is not a matter of locks.
pub(super) fn guard(path: &Path) -> bool {
    // SQLite follows links before it adds to the name.
    let Ok(path) = std::fs::canonicalize(path) else { return true };
    let mut memory = path.clone().into_os_string();
    memory.push("-shm");
    [path, PathBuf::from(memory)]
        .iter()
        .all(|path| std::fs::metadata(path).map_or(true, |metadata| table().guards(id(&metadata))))
}

type Open = unsafe extern "C" fn(*const c_char, c_int, c_int) -> c_int;

unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: c_int) -> c_int {
    if flags & (libc::O_EXCL | libc::O_TRUNC) == 0 {
        // SAFETY: SQLite passes a C string.
        let name = Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()));
        // Without following a link, which is not always allowed here: a link is no file that we know.
        let known = std::fs::symlink_metadata(name).ok();
        if let Some(fd) = known.and_then(|found| table().reopen(id(&found), flags & libc::O_ACCMODE)) {
            return fd;
        }
    }
    // SAFETY: as SQLite called it.
    let fd = unsafe { libc::open(path, flags, mode) };
    if fd >= 0 {
        table().opened(fd);
    }
    fd
}

extern "C" fn close(fd: c_int) -> c_int {
    table().close(fd)
}

/// C's `fcntl` takes its third argument as one of any number. Everywhere but here such an argument is passed like any
/// other.
#[cfg(not(all(target_vendor = "apple", target_arch = "aarch64")))]
type Fcntl = unsafe extern "C" fn(c_int, c_int, *mut c_void) -> c_int;

#[cfg(not(all(target_vendor = "apple", target_arch = "aarch64")))]
unsafe extern "C" fn fcntl(fd: c_int, request: c_int, argument: *mut c_void) -> c_int {
    // SAFETY: as SQLite called it.
    unsafe { control(fd, request, argument) }
}

/// Apple's processors pass it on the stack, where the ninth argument of a function with a fixed number of them is:
/// the first eight are in registers, of which six hold nothing here.
#[cfg(all(target_vendor = "apple", target_arch = "aarch64"))]
type Fcntl =
    unsafe extern "C" fn(c_int, c_int, usize, usize, usize, usize, usize, usize, *mut c_void) -> c_int;

#[cfg(all(target_vendor = "apple", target_arch = "aarch64"))]
unsafe extern "C" fn fcntl(
    fd: c_int,
    request: c_int,
    _: usize,
    _: usize,
    _: usize,
    _: usize,
    _: usize,
    _: usize,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: as SQLite called it.
    unsafe { control(fd, request, argument) }
}

/// # Safety
/// `argument` is what the request takes: for those about locks, a `flock` that may be read and written.
unsafe fn control(fd: c_int, request: c_int, argument: *mut c_void) -> c_int {
    let owned = match request {
        libc::F_SETLK => libc::F_OFD_SETLK,
        libc::F_SETLKW => libc::F_OFD_SETLKW,
        libc::F_GETLK => libc::F_OFD_GETLK,
        // SAFETY: as SQLite called it.
        _ => return unsafe { libc::fcntl(fd, request, argument) },
    };
    let route = table().route(fd);
    // SAFETY: the caller vouches for it.
    let about = unsafe { &mut *argument.cast::<libc::flock>() };
    match route {
        // SAFETY: as SQLite called it.
        Route::Untouched => unsafe { libc::fcntl(fd, request, argument) },
        Route::Owner(owner) => match system::ask(owner, owned, about) {
            Ok(()) => 0,
            // `errno` says why: nothing has been called since.
            Err(_) => -1,
        },
        // It holds nothing that could be given back.
        Route::Inherited if request == libc::F_SETLK && about.l_type == system::kind(libc::F_UNLCK) => 0,
        Route::Inherited => fail(),
        Route::Refused(cause) => {
            REFUSED.set(Some(cause));
            fail()
        }
    }
}

/// "Bad file descriptor", which SQLite takes for a broken disk and not for somebody else's lock.
fn fail() -> c_int {
    // SAFETY: no descriptor has this number, and so nothing happens but that `errno` is set.
    unsafe { libc::fcntl(-1, libc::F_GETFD) }
}

extern "C" fn before_fork() {
    HELD.set(Some(ManuallyDrop::new(table())));
}

extern "C" fn after_fork() {
    drop(HELD.take().map(ManuallyDrop::into_inner));
}

extern "C" fn in_the_child() {
    let Some(mut table) = HELD.take().map(ManuallyDrop::into_inner) else { return };
    if table.is_empty() {
        return;
    }
    // SAFETY: the name is a C string; `open` is allowed after a fork.
    let nowhere = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    // Without it they stay as they are, and the locks live as long as this child does.
    if nowhere >= 0 {
        table.disinherit(|fd| {
            // SAFETY: takes numbers, which nothing else in this process uses: they are SQLite's and the table's. That
            // does not close the parent's, whose locks stay. Allowed after a fork.
            unsafe {
                libc::dup2(nowhere, fd);
                libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        });
        system::close(nowhere);
    }
}
