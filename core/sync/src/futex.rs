//! A word that threads can sleep on, and some of whom are woken at once.
//!
//! On Linux this is the system's futex, which wakes a number of threads by one call and needs no memory but the word.
//! Elsewhere a lock and a condition variable stand in for it: the same promises, and one wake-up after the other.

#[cfg(target_os = "linux")]
mod imp {
    use std::sync::atomic::AtomicU32;

    use rustix::thread::futex;

    /// See the module.
    pub(crate) struct Futex(AtomicU32);

    impl Futex {
        pub(crate) fn new(value: u32) -> Self {
            Self(AtomicU32::new(value))
        }

        pub(crate) fn word(&self) -> &AtomicU32 {
            &self.0
        }

        /// Sleeps if the word is `expected`, until somebody wakes it. It may wake for nothing: the caller looks again.
        pub(crate) fn sleep_while(&self, expected: u32) {
            // It fails where the word is another one by now, and when a signal comes: the caller looks either way.
            let _ = futex::wait(&self.0, futex::Flags::PRIVATE, expected, None);
        }

        /// Wakes so many of those who sleep, or all if they are fewer.
        pub(crate) fn wake(&self, count: u32) {
            // It fails for addresses that are none.
            let _ = futex::wake(&self.0, futex::Flags::PRIVATE, count);
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use std::sync::atomic::{AtomicU32, Ordering};

    use parking_lot::{Condvar, Mutex};

    /// See the module.
    pub(crate) struct Futex {
        word: AtomicU32,
        lock: Mutex<()>,
        woken: Condvar,
    }

    impl Futex {
        pub(crate) fn new(value: u32) -> Self {
            Self { word: AtomicU32::new(value), lock: Mutex::new(()), woken: Condvar::new() }
        }

        pub(crate) fn word(&self) -> &AtomicU32 {
            &self.word
        }

        /// Sleeps if the word is `expected`, until somebody wakes it. It may wake for nothing: the caller looks again.
        pub(crate) fn sleep_while(&self, expected: u32) {
            let mut lock = self.lock.lock();
            if self.word.load(Ordering::Relaxed) == expected {
                self.woken.wait(&mut lock);
            }
        }

        /// Wakes so many of those who sleep, or all if they are fewer.
        pub(crate) fn wake(&self, count: u32) {
            // Whoever saw the old word is asleep once the lock can be had.
            drop(self.lock.lock());
            (0..count).for_each(|_| drop(self.woken.notify_one()));
        }
    }
}

pub(crate) use imp::Futex;
