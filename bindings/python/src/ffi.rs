//! The few calls into CPython for which pyo3 has no safe form.
//!
//! # A thread that is torn down inside Python
//! When the interpreter ends while a worker thread is in a handler (or waits for the GIL), CPython before 3.14 ends
//! that thread with `pthread_exit`, which unwinds its stack. Unwinding through Rust frames that do not expect it
//! aborts the process: a program that was about to exit with 0 dies of a signal. So every place where that can begin
//! has a [`HangOnUnwind`] just above it, and is reached through functions that are declared to unwind. The guard's
//! destructor never returns: the thread stays where it is, as CPython 3.14 does it, and ends with the process.
//!
//! # A thread that wakes late
//! CPython 3.10 frees its interpreter at the end of the program, and a thread that had asked for the interpreter's lock
//! takes its request back there when it wakes. If it wakes after that, the program ends with a segmentation fault. That
//! befalls any thread, also one that has never called us, such as a daemon thread that computes. So before the end
//! [`keep_what_is_freed`] has CPython 3.10 keep that memory, which goes with the process. From 3.11 on it is static.
#![allow(unsafe_code, reason = "calls into CPython that pyo3 has no safe form for")]

use std::ffi::{c_int, c_ulong};
use std::ptr;

use pyo3::ffi::PyObject;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

/// CPython's own functions, as functions that may unwind.
///
/// pyo3-ffi declares the same symbols as not unwinding. Declaring them again does not help: where both declarations
/// meet in one module of LLVM (link-time optimization, one codegen unit) they are merged, and the promise of the one
/// holds for the other. So they are reached through pointers that are read as volatile, which the optimizer cannot
/// see through.
mod raw {
    #[cfg(unix)]
    use std::ffi::c_void;
    use std::ffi::{c_int, c_ulong};
    use std::ptr;

    use pyo3::ffi::PyObject;

    type Call = unsafe extern "C" fn(*mut PyObject, *mut PyObject, *mut PyObject) -> *mut PyObject;
    type UnwindingCall =
        unsafe extern "C-unwind" fn(*mut PyObject, *mut PyObject, *mut PyObject) -> *mut PyObject;
    type Report = unsafe extern "C" fn(*mut PyObject);
    type UnwindingReport = unsafe extern "C-unwind" fn(*mut PyObject);

    static CALL: Call = pyo3::ffi::PyObject_Call;
    static REPORT: Report = pyo3::ffi::PyErr_WriteUnraisable;

    /// `PyObject_Call`.
    pub(super) fn call() -> UnwindingCall {
        // SAFETY: reading a static that is never written is always sound; and the two types differ only in that the
        // second says that a call may unwind, which any function of C may be called as.
        unsafe { std::mem::transmute::<Call, UnwindingCall>(ptr::read_volatile(&raw const CALL)) }
    }

    /// `PyErr_WriteUnraisable`.
    pub(super) fn report() -> UnwindingReport {
        // SAFETY: as in `call`.
        unsafe { std::mem::transmute::<Report, UnwindingReport>(ptr::read_volatile(&raw const REPORT)) }
    }

    /// `PyMemAllocatorEx`.
    #[cfg(unix)]
    #[repr(C)]
    pub(super) struct Allocator {
        context: *mut c_void,
        malloc: unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void,
        calloc: unsafe extern "C" fn(*mut c_void, usize, usize) -> *mut c_void,
        realloc: unsafe extern "C" fn(*mut c_void, *mut c_void, usize) -> *mut c_void,
        pub(super) free: unsafe extern "C" fn(*mut c_void, *mut c_void),
    }

    /// `PYMEM_DOMAIN_RAW`: what the interpreter, its threads and others allocate without holding its lock.
    #[cfg(unix)]
    pub(super) const DOMAIN_RAW: c_int = 0;

    /// Frees nothing.
    #[cfg(unix)]
    pub(super) extern "C" fn keep(_context: *mut c_void, _memory: *mut c_void) {}

    #[cfg(unix)]
    unsafe extern "C" {
        pub(super) fn PyMem_GetAllocator(domain: c_int, allocator: *mut Allocator);
        pub(super) fn PyMem_SetAllocator(domain: c_int, allocator: *mut Allocator);
    }

    unsafe extern "C" {
        pub(super) fn PyThreadState_SetAsyncExc(thread: c_ulong, exception: *mut PyObject) -> c_int;
        pub(super) fn PyThread_get_thread_ident() -> c_ulong;
    }
}

/// Keeps a thread that is being torn down from unwinding any further.
pub(crate) struct HangOnUnwind(());

impl HangOnUnwind {
    /// Runs `body`; if it is unwound by anything but a Rust panic, this thread goes no further.
    pub(crate) fn around<T>(body: impl FnOnce() -> T) -> T {
        let guard = Self(());
        let value = body();
        std::mem::forget(guard);
        value
    }
}

impl Drop for HangOnUnwind {
    fn drop(&mut self) {
        while !std::thread::panicking() {
            std::thread::park();
        }
    }
}

/// `callable(*args, **kwargs)`, on a thread that may be torn down meanwhile.
pub(crate) fn call<'py>(
    callable: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let kwargs = kwargs.map_or(ptr::null_mut(), Bound::as_ptr);
    // SAFETY: all three are live objects of the right types, and the thread is attached, as `Bound` proves.
    let result = HangOnUnwind::around(|| unsafe { raw::call()(callable.as_ptr(), args.as_ptr(), kwargs) });
    // SAFETY: the call returns a new reference, or null with an exception set.
    let result = unsafe { Bound::from_owned_ptr_or_err(callable.py(), result) };
    // Before CPython 3.12 an exception that was just caught has its traceback beside it, not in it.
    result.map_err(|error| {
        PyErr::from_value(error.into_value(callable.py()).into_bound(callable.py()).into_any())
    })
}

/// `callable(*args)`, as [`call`].
pub(crate) fn call_with<'py>(
    callable: &Bound<'py, PyAny>,
    args: impl IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>, Error: Into<PyErr>>,
) -> PyResult<Bound<'py, PyAny>> {
    call(callable, &args.into_pyobject(callable.py()).map_err(Into::into)?, None)
}

/// `str(value)`, on a thread that may be torn down meanwhile.
pub(crate) fn text_of(value: &Bound<'_, PyAny>) -> PyResult<String> {
    let text = call_with(value.py().get_type::<PyString>().as_any(), (value,))?;
    Ok(text.cast::<PyString>()?.to_string_lossy().into_owned())
}

/// Reports an exception that has nowhere to go (`sys.unraisablehook`), on a thread that may be torn down meanwhile.
pub(crate) fn report(py: Python<'_>, error: PyErr, object: Option<&Bound<'_, PyAny>>) {
    error.restore(py);
    let object = object.map_or(ptr::null_mut(), Bound::as_ptr);
    // SAFETY: an exception is set, the object is alive or null, and the thread is attached.
    HangOnUnwind::around(|| unsafe { raw::report()(object) });
}

/// Takes an object out of the collector's sight. pyo3 shows it every object; one that can be in no cycle only costs
/// time there.
pub(crate) fn untrack(object: &Bound<'_, PyAny>) {
    // SAFETY: the object is alive, of a type with collector support (all of pyo3's are), and untracking twice does
    // nothing. What it refers to is shown to the collector by others.
    unsafe { pyo3::ffi::PyObject_GC_UnTrack(object.as_ptr().cast()) };
}

/// From here on the interpreter frees nothing that belongs to itself, if it is one that would be read after that. For the
/// end of the program.
#[cfg(unix)]
pub(crate) fn keep_what_is_freed(py: Python<'_>) {
    if py.version_info() >= (3, 11) {
        return;
    }
    // SAFETY: the allocator was filled in by CPython and is given back as it was, but for `free`, which may do nothing:
    // nobody learns whether memory is used again. Threads that allocate meanwhile see each field as it was, or the new
    // `free`. The function is there as long as the process: extension modules are not unloaded.
    unsafe {
        let mut allocator = std::mem::MaybeUninit::<raw::Allocator>::uninit();
        raw::PyMem_GetAllocator(raw::DOMAIN_RAW, allocator.as_mut_ptr());
        let mut allocator = allocator.assume_init();
        allocator.free = raw::keep;
        raw::PyMem_SetAllocator(raw::DOMAIN_RAW, &mut allocator);
    }
}

/// The limited API of other systems has no way to do that.
#[cfg(not(unix))]
pub(crate) fn keep_what_is_freed(_: Python<'_>) {}

/// The calling thread, as CPython names it.
pub(crate) fn thread_ident() -> c_ulong {
    // SAFETY: may be called on any thread at any time.
    unsafe { raw::PyThread_get_thread_ident() }
}

/// Has a thread raise an exception at its next instruction of Python; whether there is such a thread.
pub(crate) fn raise_in(_: Python<'_>, thread: c_ulong, exception: &Bound<'_, PyAny>) -> bool {
    set_async_exception(thread, exception.as_ptr()) > 0
}

/// Takes back what [`raise_in`] has left with a thread that has not raised it yet.
pub(crate) fn take_back(_: Python<'_>, thread: c_ulong) {
    set_async_exception(thread, ptr::null_mut());
}

fn set_async_exception(thread: c_ulong, exception: *mut PyObject) -> c_int {
    // SAFETY: callers are attached (they hold a `Python` token); the exception is a live object or null, and the
    // interpreter takes its own reference.
    unsafe { raw::PyThreadState_SetAsyncExc(thread, exception) }
}
