//! What a foreign runtime does around the engine's worker threads.

use std::sync::Arc;

use taskloom_model::Fence;
use taskloom_store::Task;

/// The language that handlers are written in.
///
/// A worker thread enters its runtime once, for its whole life, and leaves it only to sleep: entering and leaving for
/// every task would cost more than most tasks do.
pub trait Runtime: Send + Sync {
    /// Runs a worker thread's whole life inside the runtime.
    fn attached(&self, life: &mut dyn FnMut()) {
        life();
    }

    /// Whether only one thread at a time can be inside. Then a worker leaves what others can do to others: the thread
    /// that keeps the engine's time forgets tasks that are no longer kept.
    fn is_serial(&self) -> bool {
        false
    }

    /// Runs a piece of that: many tasks are forgotten in it, on a thread that is not inside.
    fn tidying(&self, work: &mut dyn FnMut()) {
        work();
    }

    /// Whether the thread that drives an engine is to stop doing so: somebody wants the program to end. Asked between two
    /// tasks.
    fn is_interrupted(&self) -> bool {
        false
    }

    /// Runs a wait outside the runtime. Called inside [`Runtime::attached`].
    fn detached(&self, wait: &mut (dyn FnMut() + Send)) {
        wait();
    }

    /// An attempt in progress was called off: make its handler stop, if there is a way. Called again, at growing
    /// intervals, until the handler has ended.
    ///
    /// Must not block: it is called on the threads that keep the engine's time and its lease. No lock of the engine is
    /// held meanwhile, so the handler can end between the engine's look and this call, and its thread can be in the
    /// next task: the runtime must compare the fence with what runs, under a lock of its own.
    fn interrupt(&self, task: &Arc<Task>, fence: Fence) {
        let _ = (task, fence);
    }
}

/// Handlers in Rust: they look at [`crate::Attempt::is_cancelled`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Native;

impl Runtime for Native {}
