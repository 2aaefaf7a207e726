//! A place for one Python object that threads share without a lock.
//!
//! It is for what tasks carry: objects that are put in on one thread, looked at on another, and taken out on a third,
//! each once or so. A lock for each would cost more than the task's own work.
//!
//! Why looking is sound: whoever looks is attached to Python from the load of the pointer until it has a reference of
//! its own, and as long as one thread is attached no other gives up a reference: pyo3 puts that off until the thread
//! that wants it is attached. So the object that was found cannot die in between. (This holds where there is a global
//! lock; builds without one do not load an `abi3` module.)
//!
//! What pyo3 puts off goes through a list under a lock, one object at a time, and every call into this module takes what
//! is there. A thread that forgets a thousand tasks in the background would be in everybody's way; so it hands all that
//! it lets go of over in one piece ([`together`]).
#![allow(unsafe_code, reason = "reference counts by hand")]

use std::cell::RefCell;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::ffi::PyObject;
use pyo3::prelude::*;

/// Room for one object. It owns a reference to what is in it.
pub(crate) struct Place(AtomicPtr<PyObject>);

impl Place {
    pub(crate) fn new(object: Option<Py<PyAny>>) -> Self {
        Self(AtomicPtr::new(into_pointer(object)))
    }

    /// What is in it.
    pub(crate) fn get<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        // SAFETY: null, or alive for as long as this thread is attached; see the essay.
        unsafe { Bound::from_borrowed_ptr_or_opt(py, self.0.load(Ordering::Acquire)) }
    }

    /// Puts an object in, in the place of another; that one.
    pub(crate) fn put(&self, object: Option<Py<PyAny>>) -> Option<Py<PyAny>> {
        from_pointer(self.0.swap(into_pointer(object), Ordering::AcqRel))
    }

    /// Takes out what is in it. Costs a load if there is nothing.
    pub(crate) fn take(&self) -> Option<Py<PyAny>> {
        if self.0.load(Ordering::Relaxed).is_null() { None } else { self.put(None) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(object) = self.take() {
            let later = LATER.with_borrow_mut(|later| match later {
                Some(later) => {
                    later.push(object);
                    None
                }
                None => Some(object),
            });
            // Not while it is borrowed: the object may take another place with it.
            drop(later);
        }
    }
}

thread_local! {
    /// What places on this thread have let go of, where it is handed over in one piece.
    static LATER: RefCell<Option<Vec<Py<PyAny>>>> = const { RefCell::new(None) };
}

/// Does work on a thread that is not attached to Python, in which many places die.
pub(crate) fn together(work: &mut dyn FnMut()) {
    LATER.set(Some(Vec::new()));
    work();
    drop(LATER.take());
}

fn into_pointer(object: Option<Py<PyAny>>) -> *mut PyObject {
    object.map_or(ptr::null_mut(), Py::into_ptr)
}

fn from_pointer(pointer: *mut PyObject) -> Option<Py<PyAny>> {
    let object = ptr::NonNull::new(pointer)?;
    // SAFETY: `Py` is transparent over this pointer, which came out of a place and brings its reference along. Nothing is
    // counted up or down here, so the thread need not be attached.
    Some(unsafe { std::mem::transmute::<ptr::NonNull<PyObject>, Py<PyAny>>(object) })
}
