//! Waiting without a thread: what an `.await` here is made of, for any executor.
//!
//! # What it owns
//! [`Wakers`], a set of those who wait for one thing; [`Once`], a thing that happens once; and [`oneshot`], a value that
//! comes once.
//!
//! # Invariants
//! * Nobody is woken under a lock: a waker may run code of its executor's.
//! * Whoever waits registers first and looks after that, or looks under the lock that the event takes too: so it either
//!   finds the event or is found by it.
//! * A future that is dropped takes its waker along, so a `select!` in a loop leaves nothing behind.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use parking_lot::Mutex;

/// Those who wait for one thing.
#[derive(Debug, Default)]
pub(crate) struct Wakers {
    last: u64,
    waiting: Vec<(u64, Waker)>,
}

impl Wakers {
    /// Adds a waker, or renews it; `place` is the future's own memory of where it stands.
    pub(crate) fn register(&mut self, place: &mut Option<u64>, waker: &Waker) {
        let own = *place;
        match self.waiting.iter_mut().find(|(number, _)| Some(*number) == own) {
            Some((_, known)) => known.clone_from(waker),
            None => {
                self.last += 1;
                *place = Some(self.last);
                self.waiting.push((self.last, waker.clone()));
            }
        }
    }

    /// Takes a waker away; it is returned, to be dropped without the lock.
    pub(crate) fn remove(&mut self, place: Option<u64>) -> Option<Waker> {
        let at = self.waiting.iter().position(|(number, _)| Some(*number) == place)?;
        Some(self.waiting.swap_remove(at).1)
    }

    /// All of them, to be woken without the lock.
    pub(crate) fn take(&mut self) -> Vec<(u64, Waker)> {
        std::mem::take(&mut self.waiting)
    }
}

/// Wakes everybody.
pub(crate) fn wake_all(waiting: Vec<(u64, Waker)>) {
    waiting.into_iter().for_each(|(_, waker)| waker.wake());
}

/// Something that happens once, and who waits for it.
#[derive(Debug, Default)]
pub(crate) struct Once(Mutex<(bool, Wakers)>);

impl Once {
    /// It has happened.
    pub(crate) fn happen(&self) {
        let waiting = {
            let mut state = self.0.lock();
            state.0 = true;
            state.1.take()
        };
        wake_all(waiting);
    }

    /// Whether it has; if not, the waker is called when it does.
    pub(crate) fn poll(&self, place: &mut Option<u64>, waker: &Waker) -> Poll<()> {
        let mut state = self.0.lock();
        if state.0 {
            return Poll::Ready(());
        }
        state.1.register(place, waker);
        Poll::Pending
    }

    /// Whoever waited does so no more.
    pub(crate) fn leave(&self, place: Option<u64>) {
        if place.is_some() {
            let waker = self.0.lock().1.remove(place);
            drop(waker);
        }
    }
}

#[derive(Debug)]
struct Shared<T> {
    value: Option<T>,
    gone: bool,
    waker: Option<Waker>,
}

/// The end that a value is given to.
#[derive(Debug)]
pub(crate) struct Give<T>(Arc<Mutex<Shared<T>>>);

/// The end that waits for it: `None` if the other end was dropped without one.
#[derive(Debug)]
pub(crate) struct Take<T>(Arc<Mutex<Shared<T>>>);

/// A value that comes once.
pub(crate) fn oneshot<T>() -> (Give<T>, Take<T>) {
    let shared = Arc::new(Mutex::new(Shared { value: None, gone: false, waker: None }));
    (Give(Arc::clone(&shared)), Take(shared))
}

impl<T> Give<T> {
    /// Here it is.
    pub(crate) fn give(self, value: T) {
        self.0.lock().value = Some(value);
    }
}

impl<T> Drop for Give<T> {
    fn drop(&mut self) {
        let waker = {
            let mut shared = self.0.lock();
            shared.gone = true;
            shared.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Future for Take<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut shared = self.0.lock();
        if let Some(value) = shared.value.take() {
            return Poll::Ready(Some(value));
        }
        if shared.gone {
            return Poll::Ready(None);
        }
        shared.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// Runs a future to its end on the calling thread, which sleeps while there is nothing to do.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut cx = Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_once_or_not_at_all() {
        let (give, take) = oneshot();
        give.give(7);
        assert_eq!(block_on(take), Some(7));
        let (give, take) = oneshot::<u8>();
        let waiting = std::thread::scope(|scope| {
            let thread = scope.spawn(|| block_on(take));
            drop(give);
            thread.join().unwrap()
        });
        assert_eq!(waiting, None);
    }

    #[test]
    fn a_future_that_is_dropped_takes_its_waker_along() {
        let once = Once::default();
        let (mut one, mut other) = (None, None);
        assert!(once.poll(&mut one, Waker::noop()).is_pending());
        assert!(once.poll(&mut one, Waker::noop()).is_pending());
        assert!(once.poll(&mut other, Waker::noop()).is_pending());
        assert_eq!(once.0.lock().1.waiting.len(), 2);
        once.leave(one);
        assert_eq!(once.0.lock().1.waiting.len(), 1);
        once.happen();
        assert!(once.poll(&mut one, Waker::noop()).is_ready());
        assert!(once.0.lock().1.waiting.is_empty());
    }
}
