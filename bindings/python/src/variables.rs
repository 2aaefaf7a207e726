//! Context variables: copied at a submit, and around the handler when its task runs.
//!
//! Each task runs in a context of its own, as the submit left it. `contextvars` offers that as `copy_context()` and
//! `Context.run(function, *args)`, which costs a call into Python's machinery and a tuple for each task. CPython's own C
//! functions copy, enter and leave a context for next to nothing. They are documented but not in the limited API, so
//! they are looked up by name once; where one is missing, `contextvars` it is.
//!
//! Most programs set no variable. A submit without any copies nothing, and its handler runs in a context that its
//! worker thread uses again and again for as long as it is empty after use: then it is as good as new. One in which a
//! handler has left a variable set is dropped.
#![allow(unsafe_code, reason = "calls into CPython that pyo3 has no safe form for")]

use std::cell::Cell;
use std::ffi::{CStr, c_int, c_void};

use pyo3::ffi::PyObject;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};

use crate::ffi;

/// `PyContext_CopyCurrent`, `PyContext_Enter` and `PyContext_Exit`.
#[derive(Clone, Copy)]
struct Direct {
    copy: unsafe extern "C" fn() -> *mut PyObject,
    enter: unsafe extern "C" fn(*mut PyObject) -> c_int,
    exit: unsafe extern "C" fn(*mut PyObject) -> c_int,
}

impl Direct {
    fn get(py: Python<'_>) -> Option<Self> {
        static DIRECT: PyOnceLock<Option<Direct>> = PyOnceLock::new();
        *DIRECT.get_or_init(py, || {
            let [copy, enter, exit] =
                [c"PyContext_CopyCurrent", c"PyContext_Enter", c"PyContext_Exit"].map(symbol);
            if copy.is_null() || enter.is_null() || exit.is_null() {
                return None;
            }
            // SAFETY: CPython documents functions of these names and types since 3.7, and these are the interpreter's.
            unsafe {
                Some(Self {
                    copy: std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> *mut PyObject>(copy),
                    enter: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut PyObject) -> c_int>(
                        enter,
                    ),
                    exit: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut PyObject) -> c_int>(
                        exit,
                    ),
                })
            }
        })
    }
}

#[cfg(unix)]
fn symbol(name: &CStr) -> *mut c_void {
    // SAFETY: the name ends with a zero, and asking for a symbol has no other effect.
    unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) }
}

#[cfg(not(unix))]
fn symbol(_: &CStr) -> *mut c_void {
    std::ptr::null_mut()
}

/// The context variables of this moment, copied; None if there are none.
pub(crate) fn copy_current(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    static COPY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let now = match Direct::get(py) {
        // SAFETY: the thread is attached, and the function returns a new reference, or null with an exception set.
        Some(direct) => unsafe { Bound::from_owned_ptr_or_err(py, (direct.copy)()) }?,
        None => {
            let import = || py.import("contextvars")?.getattr("copy_context").map(Bound::unbind);
            COPY.get_or_try_init(py, import)?.bind(py).call0()?
        }
    };
    Ok(Some(now).filter(|now| now.len().is_ok_and(|len| len > 0)))
}

/// `context.run(function, *args, **kwargs)`, on a thread that may be torn down meanwhile.
pub(crate) fn run_in<'py>(
    context: &Bound<'py, PyAny>,
    function: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = context.py();
    let Some(direct) = Direct::get(py) else {
        let run = context.getattr(intern!(py, "run"))?;
        let all = std::iter::once(function.clone()).chain(args.iter());
        return ffi::call(&run, &PyTuple::new(py, all.collect::<Vec<_>>())?, kwargs);
    };
    // SAFETY: the thread is attached and the object is a context; one that is entered already is refused.
    if unsafe { (direct.enter)(context.as_ptr()) } != 0 {
        return Err(PyErr::fetch(py));
    }
    let value = ffi::call(function, args, kwargs);
    // SAFETY: as above. It fails if the handler has entered another context and not left it, which only C can do.
    if unsafe { (direct.exit)(context.as_ptr()) } != 0 {
        drop(PyErr::take(py));
    }
    value
}

/// A context without variables, for a task that was submitted without any.
pub(crate) struct EmptyContext(Py<PyAny>);

thread_local! {
    static EMPTY: Cell<Option<EmptyContext>> = const { Cell::new(None) };
}

impl EmptyContext {
    pub(crate) fn take(py: Python<'_>) -> PyResult<Self> {
        static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        if let Some(empty) = EMPTY.take() {
            return Ok(empty);
        }
        let class =
            CLASS.get_or_try_init(py, || py.import("contextvars")?.getattr("Context").map(Bound::unbind))?;
        Ok(Self(class.call0(py)?))
    }

    pub(crate) fn context<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.0.bind(py)
    }

    pub(crate) fn give_back(self, py: Python<'_>) {
        if self.0.bind(py).len().is_ok_and(|len| len == 0) {
            EMPTY.set(Some(self));
        }
    }
}
