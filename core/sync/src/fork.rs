//! Knowing, for the price of a load, whether this process was forked from the one that made something.
//!
//! Asking the system for the process's number is a system call, and a submit cannot afford one. Instead a handler that
//! runs in every forked child (`pthread_atfork`) moves a counter on. Who must know keeps the counter's value, and
//! compares.
//!
//! The counter is a plain atomic: the child has one thread when its handler runs, and whoever reads it there reads
//! what that thread wrote.
#![allow(unsafe_code, reason = "pthread_atfork has no safe form")]

use std::sync::atomic::{AtomicU32, Ordering};

static GENERATION: AtomicU32 = AtomicU32::new(0);

/// How many forks lie between the first process and this one, as far as they came after the first call.
///
/// ```
/// let made_in = taskloom_sync::fork_generation();
/// assert_eq!(made_in, taskloom_sync::fork_generation());
/// ```
#[inline]
pub fn fork_generation() -> u32 {
    let generation = GENERATION.load(Ordering::Relaxed);
    if generation == 0 { watch() } else { generation }
}

#[cold]
fn watch() -> u32 {
    // From zero, "not watching", to one: by one thread only, so that the handler is registered once.
    if GENERATION.compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
        #[cfg(unix)]
        {
            extern "C" fn in_the_child() {
                GENERATION.fetch_add(1, Ordering::Relaxed);
            }
            // SAFETY: the handler is a plain function that only touches an atomic, as is allowed after a fork. It
            // fails only for want of memory; then forks go unnoticed, as before the first call.
            unsafe { libc::pthread_atfork(None, None, Some(in_the_child)) };
        }
    }
    GENERATION.load(Ordering::Relaxed)
}
