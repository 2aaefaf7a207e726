//! The one place where the real primitives are swapped for loom's.
//!
//! Owns no state and no policy: under a normal build it names `std`, `parking_lot` and `crossbeam_queue`; under
//! `cfg(loom)` it names loom's mocks and, where loom has none, a model with the same interface. The other modules
//! import from here and contain no `cfg(loom)`.
//!
//! A model must be no stronger than the thing it stands for, or loom would prove too much. Where that matters (see
//! the loom `Queue`), the model avoids the lock on the path whose ordering is under test.
//!
//! `Arc` is std's in both builds: we rely on it for memory alone, never for ordering, and loom's would multiply the
//! states to explore.

#[cfg(not(loom))]
mod imp {
    pub(crate) use crate::futex::Futex;
    pub(crate) use crate::spot::Spot;
    pub(crate) use crossbeam_queue::SegQueue as Queue;
    pub(crate) use parking_lot::{Mutex, MutexGuard};
    pub(crate) use std::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering, fence};

    /// `parking_lot`'s, with loom's calling convention: the guard goes in and comes out by value.
    pub(crate) struct Condvar(parking_lot::Condvar);

    impl Condvar {
        pub(crate) fn new() -> Self {
            Condvar(parking_lot::Condvar::new())
        }

        pub(crate) fn wait<'a, T>(&self, mut guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
            self.0.wait(&mut guard);
            guard
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }
    }
}

#[cfg(loom)]
mod imp {
    use std::collections::VecDeque;
    use std::time::Instant;

    use loom::sync::MutexGuard;
    pub(crate) use loom::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering, fence};

    /// Loom's mutex without poisoning, as `parking_lot`'s is.
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Mutex(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap()
        }
    }

    pub(crate) struct Condvar(loom::sync::Condvar);

    impl Condvar {
        pub(crate) fn new() -> Self {
            Condvar(loom::sync::Condvar::new())
        }

        pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
            self.0.wait(guard).unwrap()
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }
    }

    /// Stands for `SegQueue`.
    ///
    /// The items are under a mutex, but the question "is it empty?" is answered from two counters with the
    /// orderings that `SegQueue` uses for its head and tail. A lock there would order the pusher with the popper by
    /// itself, and loom could never miss a fence in `lanes`.
    pub(crate) struct Queue<T> {
        items: Mutex<VecDeque<T>>,
        head: AtomicUsize,
        tail: AtomicUsize,
    }

    impl<T> Queue<T> {
        pub(crate) fn new() -> Self {
            Queue { items: Mutex::new(VecDeque::new()), head: AtomicUsize::new(0), tail: AtomicUsize::new(0) }
        }

        pub(crate) fn push(&self, item: T) {
            let mut items = self.items.lock();
            items.push_back(item);
            self.tail.fetch_add(1, Ordering::SeqCst);
        }

        pub(crate) fn pop(&self) -> Option<T> {
            let head = self.head.load(Ordering::Acquire);
            fence(Ordering::SeqCst);
            if head == self.tail.load(Ordering::Relaxed) {
                return None;
            }
            let mut items = self.items.lock();
            let item = items.pop_front()?;
            self.head.fetch_add(1, Ordering::SeqCst);
            Some(item)
        }

        pub(crate) fn is_empty(&self) -> bool {
            let head = self.head.load(Ordering::SeqCst);
            head == self.tail.load(Ordering::SeqCst)
        }

        pub(crate) fn len(&self) -> usize {
            self.items.lock().len()
        }
    }

    /// Stands for `spot::Spot`: the mutex plays the bucket lock of the parking lot.
    pub(crate) struct Spot {
        byte: AtomicU8,
        bucket: loom::sync::Mutex<()>,
        queue: loom::sync::Condvar,
    }

    impl Spot {
        pub(crate) fn new(value: u8) -> Self {
            Spot {
                byte: AtomicU8::new(value),
                bucket: loom::sync::Mutex::new(()),
                queue: loom::sync::Condvar::new(),
            }
        }

        pub(crate) fn byte(&self) -> &AtomicU8 {
            &self.byte
        }

        /// Loom has no clock: a deadline never passes here.
        pub(crate) fn park_while(&self, expected: u8, _deadline: Option<Instant>) -> bool {
            let bucket = self.bucket.lock().unwrap();
            if self.byte.load(Ordering::Relaxed) == expected {
                drop(self.queue.wait(bucket).unwrap());
            }
            true
        }

        pub(crate) fn store_and_unpark_all(&self, value: u8) {
            let bucket = self.bucket.lock().unwrap();
            self.byte.store(value, Ordering::Release);
            drop(bucket);
            self.queue.notify_all();
        }
    }

    /// Stands for `futex::Futex`: the mutex plays the lock under which the system compares the word.
    pub(crate) struct Futex {
        word: AtomicU32,
        lock: loom::sync::Mutex<()>,
        queue: loom::sync::Condvar,
    }

    impl Futex {
        pub(crate) fn new(value: u32) -> Self {
            Futex {
                word: AtomicU32::new(value),
                lock: loom::sync::Mutex::new(()),
                queue: loom::sync::Condvar::new(),
            }
        }

        pub(crate) fn word(&self) -> &AtomicU32 {
            &self.word
        }

        pub(crate) fn sleep_while(&self, expected: u32) {
            let lock = self.lock.lock().unwrap();
            if self.word.load(Ordering::Relaxed) == expected {
                drop(self.queue.wait(lock).unwrap());
            }
        }

        pub(crate) fn wake(&self, count: u32) {
            drop(self.lock.lock().unwrap());
            (0..count).for_each(|_| self.queue.notify_one());
        }
    }
}

pub(crate) use imp::*;

/// Keeps a hot atomic off its neighbours' cache line.
///
/// 128 bytes, not 64: recent x86 fetches lines in pairs, and Apple's cores have lines that long.
#[repr(align(128))]
pub(crate) struct Apart<T>(pub(crate) T);
