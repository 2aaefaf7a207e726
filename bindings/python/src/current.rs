//! Which attempt's blocking handler runs on this thread: what `current_context()` asks for.
//!
//! Noted as a pointer into the worker's own frame, since few handlers ask: a reference of its own for each task would
//! cost four counts that all cores share.
#![allow(unsafe_code, reason = "a reference whose life is a frame of this thread's stack")]

use std::cell::Cell;
use std::ptr::NonNull;

use taskloom_engine::Attempt;

thread_local! {
    static CURRENT: Cell<Option<NonNull<Attempt>>> = const { Cell::new(None) };
}

/// Puts back what was there before.
struct Restore(Option<NonNull<Attempt>>);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

/// Runs `body`, during which the thread runs this attempt.
pub(crate) fn during<T>(attempt: &Attempt, body: impl FnOnce() -> T) -> T {
    let _restore = Restore(CURRENT.replace(Some(NonNull::from(attempt))));
    body()
}

/// The attempt that this thread runs.
pub(crate) fn attempt() -> Option<Attempt> {
    // SAFETY: it is there only during [`during`], on this thread, whose caller lends the attempt for as long.
    CURRENT.get().map(|attempt| unsafe { attempt.as_ref() }.clone())
}
