//! The child processes of one app: the handlers that run there, and the pool that there is while the app runs.
//!
//! Who holds whom matters to the collector (see `NativeApp`): a pool holds the handlers for as long as a thread keeps a
//! child, and that is known by the pools that are still held (`pools`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use taskloom_bridge::children::{Pool, PoolSettings, PooledHandler};
use taskloom_engine::{Engine, Handler};

use crate::children::PythonTrade;
use crate::handler::{BlockingHandler, Parts};
use crate::runtime::PyRuntime;

pub(crate) struct Processes {
    settings: PoolSettings,
    /// In testing mode everything runs on the thread that drives.
    inline: Arc<AtomicBool>,
    handlers: Mutex<Vec<Arc<PooledHandler>>>,
    pool: Mutex<Option<Arc<Pool>>>,
    /// The pools that there have been.
    pools: Mutex<Vec<Weak<Pool>>>,
}

impl Processes {
    pub(crate) fn new(settings: PoolSettings) -> Self {
        Self {
            settings,
            inline: Arc::default(),
            handlers: Mutex::default(),
            pool: Mutex::default(),
            pools: Mutex::default(),
        }
    }

    pub(crate) fn set_inline(&self, inline: bool) {
        self.inline.store(inline, Ordering::Release);
    }

    /// Takes in a handler; what makes it for an engine.
    pub(crate) fn add(&self, parts: &Arc<Parts>) -> impl Fn() -> Handler + Send + Sync + use<> {
        let pooled = PooledHandler::new(Box::new(Arc::clone(parts)));
        self.handlers.lock().push(Arc::clone(&pooled));
        let pool = self.pool.lock().clone();
        if let Some(pool) = pool {
            pool.add(Arc::clone(&pooled));
        }
        let (parts, inline) = (Arc::clone(parts), Arc::clone(&self.inline));
        move || {
            if inline.load(Ordering::Acquire) {
                Handler::Blocking(Box::new(BlockingHandler(Arc::clone(&parts))))
            } else {
                Handler::Pooled(Arc::clone(&pooled) as _)
            }
        }
    }

    /// Has a pool serve an engine that was started, if there is anything for it to do.
    pub(crate) fn serve(&self, engine: &Arc<Engine>, runtime: &PyRuntime) {
        let mut current = self.pool.lock();
        if self.inline.load(Ordering::Acquire) || current.as_ref().is_some_and(|pool| pool.serves(engine)) {
            return;
        }
        let handlers = self.handlers.lock().clone();
        if handlers.is_empty() {
            return;
        }
        let pool = Pool::open(self.settings, Box::new(PythonTrade), engine, handlers);
        runtime.set_pool(Arc::downgrade(&pool));
        let mut pools = self.pools.lock();
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(Arc::downgrade(&pool));
        drop(pools);
        *current = Some(pool);
    }

    /// The pool, if there is one.
    pub(crate) fn pool(&self) -> Option<Arc<Pool>> {
        self.pool.lock().clone()
    }

    /// Closes the pool, and waits for its children for so long at most.
    pub(crate) fn close_within(&self, patience: Duration) {
        let pool = self.pool.lock().take();
        if let Some(pool) = pool {
            pool.close_within(patience);
        }
    }

    /// Forgets the handlers.
    pub(crate) fn clear(&self) {
        let handlers = std::mem::take(&mut *self.handlers.lock());
        drop(handlers);
    }

    /// Whether nothing is left that holds a handler on behalf of a child.
    pub(crate) fn is_quiet(&self) -> bool {
        self.pools.lock().iter().all(|pool| pool.strong_count() == 0)
    }
}
