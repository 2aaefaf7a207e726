//! What ends a relay's wait before its time: a row that was just inserted in this process, and the end of the relay.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use taskloom_engine::{Clock, SystemClock};

#[derive(Debug, Default)]
struct State {
    is_set: bool,
    is_over: bool,
    waker: Option<Waker>,
}

/// A flag that one relay waits on, with its thread or in a future, and anybody sets. Whoever has waited for it takes it;
/// its end is final.
#[derive(Debug, Default)]
pub struct Wake {
    state: Mutex<State>,
    changed: Condvar,
}

impl Wake {
    /// Ends the wait, or the next one.
    pub fn set(&self) {
        self.change(|state| state.is_set = true);
    }

    /// Ends this wait and all that follow.
    pub fn end(&self) {
        self.change(|state| state.is_over = true);
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.state.lock().is_over
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let waker = {
            let mut state = self.state.lock();
            change(&mut state);
            state.waker.take()
        };
        self.changed.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits for at most so long; whether it was set, or is over.
    pub fn wait(&self, span: Duration) -> bool {
        let end = SystemClock.monotonic().saturating_add(span);
        let mut state = self.state.lock();
        while !state.is_set && !state.is_over {
            let left = end.saturating_sub(SystemClock.monotonic());
            if left.is_zero() {
                break;
            }
            self.changed.wait_for(&mut state, left);
        }
        std::mem::take(&mut state.is_set) || state.is_over
    }

    /// The same in a future, which has a timer of its own.
    pub fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if std::mem::take(&mut state.is_set) || state.is_over {
            return Poll::Ready(());
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::waiting::block_on;

    #[test]
    fn whoever_waits_takes_it_and_its_end_is_final() {
        let wake = Wake::default();
        wake.set();
        wake.set();
        assert!(wake.wait(Duration::ZERO));
        assert!(!wake.wait(Duration::ZERO) && !wake.is_over());
        wake.end();
        assert!(wake.wait(Duration::MAX) && wake.wait(Duration::MAX) && wake.is_over());
    }

    #[test]
    fn it_ends_a_wait_of_a_thread_and_of_a_future() {
        let wake = Wake::default();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| wake.wait(Duration::MAX));
            wake.set();
            assert!(waiting.join().unwrap());
            let waiting = scope.spawn(|| block_on(std::future::poll_fn(|cx| wake.poll(cx))));
            wake.set();
            waiting.join().unwrap();
        });
    }
}
