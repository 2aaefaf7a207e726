//! The shim's side of SQLite's interface: functions in C's manner, each of which asks the shim, passes the call on to
//! the system's VFS and notes what it did.
//!
//! # What it owns
//! SQLite allocates one block for each open file, of the size that the VFS asks for. Ours begins with a [`Handle`],
//! and the system's own file follows it in the same block. The handle is written by [`open`] and dropped by [`close`];
//! SQLite calls no other function on a block that is not between the two.
//!
//! # Failure
//! A panic would have to cross SQLite's frames and ends the process instead; nothing here panics but for a system VFS
//! that lacks a function which every one has.
#![allow(unsafe_code, reason = "an SQLite VFS is a table of C functions on memory that SQLite allocates")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::sync::Arc;

use rusqlite::ffi;

use super::{Call, Event, FileName, Shim, Verdict};

/// What a registered shim points to.
struct Behind {
    shim: &'static Shim,
    system: *mut ffi::sqlite3_vfs,
}

/// The beginning of an open file, as SQLite sees it.
#[repr(C)]
struct Handle {
    base: ffi::sqlite3_file,
    shim: &'static Shim,
    /// None for files whose content nobody asks for after a power cut.
    name: Option<FileName>,
}

/// Where the system's own file begins. SQLite aligns what it allocates to eight bytes.
const REAL: usize = size_of::<Handle>();
const _: () = assert!(REAL.is_multiple_of(8) && align_of::<Handle>() <= 8);

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2, // with shared memory, without memory mapped files
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(is_reserved),
    xFileControl: Some(control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: Some(map_shared),
    xShmLock: Some(lock_shared),
    xShmBarrier: Some(barrier),
    xShmUnmap: Some(unmap_shared),
    xFetch: None,
    xUnfetch: None,
};

/// Makes a shim known to SQLite.
pub(super) fn register(shim: &'static Shim) {
    let name = CString::new(shim.name()).expect("the name has no zero in it");
    // SAFETY: SQLite is linked in and initialises itself; no name means its default.
    let system = unsafe { ffi::sqlite3_vfs_find(std::ptr::null()) };
    assert!(!system.is_null(), "SQLite has a VFS for this system");
    let behind: &'static Behind = Box::leak(Box::new(Behind { shim, system }));
    // SAFETY: what SQLite has registered stays where it is and is not changed but for its place in SQLite's list.
    let of_system = unsafe { *system };
    // What is not replaced here takes its `sqlite3_vfs` for decoration: names, chance, sleep, time.
    let vfs = ffi::sqlite3_vfs {
        szOsFile: of_system.szOsFile + c_int::try_from(REAL).expect("a handle is small"),
        pNext: std::ptr::null_mut(),
        zName: name.into_raw(),
        pAppData: std::ptr::from_ref(behind).cast_mut().cast(),
        xOpen: Some(open),
        xDelete: Some(delete),
        xAccess: Some(access),
        ..of_system
    };
    // SAFETY: the table is complete and never freed.
    let code = unsafe { ffi::sqlite3_vfs_register(Box::leak(Box::new(vfs)), 0) };
    assert_eq!(code, ffi::SQLITE_OK);
}

/// Calls a function of the system's file behind one of ours.
macro_rules! pass_on {
    ($file:expr, $function:ident $(, $argument:expr)*) => {{
        let file = $file.cast::<u8>().wrapping_add(REAL).cast::<ffi::sqlite3_file>();
        // SAFETY: `open` had the system's VFS open this file, which set its table; and SQLite called us with arguments
        // that are good for this function.
        unsafe { (*(*file).pMethods).$function.expect("the system's VFS is complete")(file $(, $argument)*) }
    }};
}

/// Our part of an open file.
///
/// # Safety
/// SQLite has opened it with [`open`] and not closed it.
unsafe fn handle<'a>(file: *mut ffi::sqlite3_file) -> &'a Handle {
    // SAFETY: `open` wrote a handle there, and nothing but `close` changes it.
    unsafe { &*file.cast::<Handle>() }
}

/// What stands behind a registered shim.
///
/// # Safety
/// `vfs` is what [`register`] made.
unsafe fn behind(vfs: *mut ffi::sqlite3_vfs) -> &'static Behind {
    // SAFETY: `register` pointed it to a `Behind` that is never freed.
    unsafe { &*(*vfs).pAppData.cast::<Behind>() }
}

/// The last part of a path.
///
/// # Safety
/// `path` is null or a text that ends with a zero.
unsafe fn last_part(path: *const c_char) -> Option<FileName> {
    if path.is_null() {
        return None;
    }
    // SAFETY: as the caller says.
    let path = unsafe { CStr::from_ptr(path) }.to_str().ok()?;
    Path::new(path).file_name()?.to_str().map(Arc::from)
}

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    path: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    const KEPT: c_int = ffi::SQLITE_OPEN_MAIN_DB | ffi::SQLITE_OPEN_WAL | ffi::SQLITE_OPEN_MAIN_JOURNAL;
    // SAFETY: SQLite calls us with the table that we registered.
    let (behind, system) = unsafe { (behind(vfs), behind(vfs).system) };
    // SAFETY: SQLite gives a path that ends with a zero, or none for a file without a name.
    let name = if flags & KEPT == 0 { None } else { unsafe { last_part(path) } };
    // SAFETY: `file` is a block of at least the size of a handle. Without a table, SQLite does not close it.
    unsafe { (*file).pMethods = std::ptr::null() };
    if let Verdict::Fail(code) | Verdict::FailHalfway(code) = behind.shim.judge(Call::Open) {
        return code;
    }
    let existed = match &name {
        // SAFETY: it has a name, so there is a path, which ends with a zero.
        Some(_) => Path::new(unsafe { CStr::from_ptr(path) }.to_string_lossy().as_ref()).exists(),
        None => true,
    };
    let real = file.cast::<u8>().wrapping_add(REAL).cast::<ffi::sqlite3_file>();
    // SAFETY: the rest of the block is as large as the system's VFS wants it; the arguments are SQLite's own.
    let code = unsafe {
        (*system).xOpen.expect("the system's VFS is complete")(system, path, real, flags, out_flags)
    };
    if code != ffi::SQLITE_OK {
        return code;
    }
    if let (Some(name), false) = (&name, existed) {
        behind.shim.note(Event::Create(Arc::clone(name)));
    }
    let handle = Handle { base: ffi::sqlite3_file { pMethods: &raw const METHODS }, shim: behind.shim, name };
    // SAFETY: the block begins with room for a handle, and holds none yet.
    unsafe { file.cast::<Handle>().write(handle) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    let code = pass_on!(file, xClose);
    // SAFETY: `open` wrote the handle; SQLite does not use the block afterwards.
    unsafe { file.cast::<Handle>().drop_in_place() };
    code
}

unsafe extern "C" fn delete(vfs: *mut ffi::sqlite3_vfs, path: *const c_char, sync_directory: c_int) -> c_int {
    // SAFETY: SQLite calls us with the table that we registered.
    let (behind, system) = unsafe { (behind(vfs), behind(vfs).system) };
    if let Verdict::Fail(code) | Verdict::FailHalfway(code) = behind.shim.judge(Call::Delete) {
        return code;
    }
    // SAFETY: the arguments are SQLite's own.
    let code =
        unsafe { (*system).xDelete.expect("the system's VFS is complete")(system, path, sync_directory) };
    // SAFETY: SQLite gives a path that ends with a zero.
    if let (ffi::SQLITE_OK, Some(file)) = (code, unsafe { last_part(path) }) {
        behind.shim.note(Event::Delete { file, synced: sync_directory != 0 });
    }
    code
}

unsafe extern "C" fn access(
    vfs: *mut ffi::sqlite3_vfs,
    path: *const c_char,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite calls us with the table that we registered.
    let (behind, system) = unsafe { (behind(vfs), behind(vfs).system) };
    if let Verdict::Fail(code) | Verdict::FailHalfway(code) = behind.shim.judge(Call::Access) {
        return code;
    }
    // SAFETY: the arguments are SQLite's own.
    unsafe { (*system).xAccess.expect("the system's VFS is complete")(system, path, flags, out) }
}

/// Leaves a function with the code that a call of this kind is to fail with, if it is.
macro_rules! may_fail {
    ($file:expr, $call:expr) => {
        // SAFETY: SQLite calls us with a file that is open.
        if let Verdict::Fail(code) | Verdict::FailHalfway(code) = unsafe { handle($file) }.shim.judge($call) {
            return code;
        }
    };
}

/// Notes what was done to a file that is kept, if it was done.
///
/// # Safety
/// `file` is open.
unsafe fn note(file: *mut ffi::sqlite3_file, code: c_int, event: impl FnOnce(FileName) -> Event) {
    // SAFETY: as the caller says.
    let handle = unsafe { handle(file) };
    if let (ffi::SQLITE_OK, Some(name)) = (code, &handle.name) {
        handle.shim.note(event(Arc::clone(name)));
    }
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    into: *mut c_void,
    length: c_int,
    at: ffi::sqlite3_int64,
) -> c_int {
    may_fail!(file, Call::Read);
    pass_on!(file, xRead, into, length, at)
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    from: *const c_void,
    length: c_int,
    at: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: SQLite calls us with a file that is open.
    let verdict = unsafe { handle(file) }.shim.judge(Call::Write);
    let length = match verdict {
        Verdict::Pass => length,
        Verdict::Fail(code) => return code,
        Verdict::FailHalfway(_) => length / 2,
    };
    let code = pass_on!(file, xWrite, from, length, at);
    // SAFETY: SQLite gives at least so many bytes.
    let bytes = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), length.cast_unsigned() as usize) };
    let at = usize::try_from(at).expect("SQLite writes at no negative place");
    // SAFETY: the file is open.
    unsafe { note(file, code, |file| Event::Write { file, at, bytes: bytes.into() }) };
    match verdict {
        Verdict::FailHalfway(failure) => failure,
        _ => code,
    }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, length: ffi::sqlite3_int64) -> c_int {
    may_fail!(file, Call::Truncate);
    let code = pass_on!(file, xTruncate, length);
    let length = usize::try_from(length).expect("SQLite gives no negative length");
    // SAFETY: the file is open.
    unsafe { note(file, code, |file| Event::Truncate { file, length }) };
    code
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: SQLite calls us with a file that is open.
    if let Verdict::Fail(code) | Verdict::FailHalfway(code) = unsafe { handle(file) }.shim.judge(Call::Sync) {
        // SAFETY: the file is open. That it failed is what was done.
        unsafe { note(file, ffi::SQLITE_OK, Event::SyncFailed) };
        return code;
    }
    let code = pass_on!(file, xSync, flags);
    // SAFETY: the file is open.
    unsafe { note(file, code, Event::Sync) };
    code
}

unsafe extern "C" fn size(file: *mut ffi::sqlite3_file, out: *mut ffi::sqlite3_int64) -> c_int {
    may_fail!(file, Call::Size);
    pass_on!(file, xFileSize, out)
}

unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    may_fail!(file, Call::Lock);
    pass_on!(file, xLock, level)
}

unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    pass_on!(file, xUnlock, level)
}

unsafe extern "C" fn is_reserved(file: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    pass_on!(file, xCheckReservedLock, out)
}

unsafe extern "C" fn control(file: *mut ffi::sqlite3_file, what: c_int, argument: *mut c_void) -> c_int {
    pass_on!(file, xFileControl, what, argument)
}

unsafe extern "C" fn sector_size(file: *mut ffi::sqlite3_file) -> c_int {
    pass_on!(file, xSectorSize)
}

unsafe extern "C" fn characteristics(file: *mut ffi::sqlite3_file) -> c_int {
    pass_on!(file, xDeviceCharacteristics)
}

unsafe extern "C" fn map_shared(
    file: *mut ffi::sqlite3_file,
    region: c_int,
    size: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    may_fail!(file, Call::MapShared);
    pass_on!(file, xShmMap, region, size, extend, out)
}

unsafe extern "C" fn lock_shared(
    file: *mut ffi::sqlite3_file,
    offset: c_int,
    count: c_int,
    flags: c_int,
) -> c_int {
    // No system refuses to give a lock back, and SQLite counts on that.
    if flags & ffi::SQLITE_SHM_UNLOCK == 0 {
        may_fail!(file, Call::LockShared);
    }
    pass_on!(file, xShmLock, offset, count, flags)
}

unsafe extern "C" fn barrier(file: *mut ffi::sqlite3_file) {
    pass_on!(file, xShmBarrier);
}

unsafe extern "C" fn unmap_shared(file: *mut ffi::sqlite3_file, delete: c_int) -> c_int {
    pass_on!(file, xShmUnmap, delete)
}
