//! How one thread hears what another has found out.

use std::sync::Arc;

use parking_lot::Mutex;
use taskloom_model::{Code, Error, Result};
use taskloom_sync::{Bell, Latch};

/// Told once what came of a request. Dropped without a word, which takes a panic, it is told just that: nobody waits
/// for ever.
pub(crate) struct Reply<T>(Option<Box<dyn FnOnce(Result<T>) + Send>>);

impl<T> Reply<T> {
    pub(crate) fn new(tell: Box<dyn FnOnce(Result<T>) + Send>) -> Self {
        Self(Some(tell))
    }

    pub(crate) fn give(mut self, value: Result<T>) {
        if let Some(tell) = self.0.take() {
            tell(value);
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if let Some(tell) = self.0.take() {
            let message = "the engine died of a panic before it knew what came of this";
            tell(Err(Error::new(Code::ShutDown, message).hint("the panic was printed to standard error")));
        }
    }
}

/// A place where a reply leaves its value, and where a thread can wait for it.
pub(crate) struct Answer<T>(Arc<(Latch, Mutex<Option<Result<T>>>)>);

impl<T: Send + 'static> Answer<T> {
    /// An answer, and the reply that gives it.
    pub(crate) fn new() -> (Self, Reply<T>) {
        let place = Arc::new((Latch::new(), Mutex::new(None)));
        let own = Arc::clone(&place);
        let reply = Reply::new(Box::new(move |value| {
            *own.1.lock() = Some(value);
            own.0.set();
        }));
        (Self(place), reply)
    }

    /// Waits for it among those who wait for the same group's commit, who are woken together; on `None`, by itself.
    pub(crate) fn wait_in(self, group: Option<&Bell>) -> Result<T> {
        if let Some(bell) = group {
            bell.wait();
        }
        self.wait()
    }

    pub(crate) fn wait(self) -> Result<T> {
        self.0.0.wait();
        self.0.1.lock().take().expect("the latch is set after the value is there")
    }
}
