//! Taskloom's engine: it takes tasks in, sees to it that they run, and lets everybody know how they ended.
//!
//! ```text
//! submit ─▶ admit (model) ─▶ committer ─commit─▶ store
//!                               │ after the commit: effects
//!              ┌────────────────┴──────────┐
//!              ▼                           ▼
//!            lanes ─▶ worker thread      handle settles, observers run
//!                   └▶ event loop
//! ```
//!
//! | module | owns |
//! | --- | --- |
//! | `core` | the parts below, and what follows from each change |
//! | `committer`, `batch`, `answer` | the way into the store: inline on a resident store, group commit on a durable one |
//! | `claims`, `ahead` | what this process takes from a store that it shares, and what expires before it begins |
//! | `queues` | lanes of eligible tasks |
//! | `pool`, `worker` | the worker threads |
//! | `loops` | the tasks of foreign event loops |
//! | `running` | what runs right now |
//! | `timers` | etas, backoffs, expiries, timeouts |
//! | `leases` | proof of life, and the tasks of processes that died |
//! | `shutdown` | the order in which all this ends |
//! | `edge` | clocks, threads, seeds |
#![forbid(unsafe_code)]

mod ahead;
mod answer;
mod batch;
mod chance;
mod claims;
mod committer;
mod core;
mod edge;
mod engine;
mod handle;
mod handler;
mod leases;
mod loops;
mod pool;
mod queues;
mod running;
mod runtime;
mod shutdown;
mod timers;
mod worker;

pub use edge::{Clock, SystemClock, spawn_thread};
pub use engine::{Engine, EngineOptions};
pub use handle::Handle;
pub use handler::{Attempt, Blocking, Failed, Handler, HandlerEntry, Outcome};
pub use loops::{Completion, LoopHost, Started};
pub use runtime::{Native, Runtime};
pub use shutdown::Stop;
pub use taskloom_model::{Error, Result};
