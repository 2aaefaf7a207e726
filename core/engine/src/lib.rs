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
//! | `claims`, `reach`, `ahead` | what this process takes from a store that it shares, how much of it, and what expires before it begins |
//! | `submitting`, `room` | how tasks come in, and what happens when there is no room |
//! | `operating` | what an operator does: lists, bulk cancels, pauses, sweeps, runs by hand |
//! | `queues` | lanes of eligible tasks, and the order in which they are served |
//! | `pool`, `worker` | the worker threads |
//! | `loops` | the tasks of foreign event loops |
//! | `taking` | how loops and pools take them, in lots |
//! | `beginning` | how an attempt begins, on either |
//! | `wanted` | what attempts wait for, which comes first |
//! | `completion` | how their attempts end |
//! | `running` | what runs right now |
//! | `registry`, `aside` | handlers by name and version, and the tasks of those that nobody can run at present |
//! | `events`, `announce` | the bus and its catalogue; what is told of each change: events, hooks, figures |
//! | `meter`, `stats` | counts, rates and latencies; what a monitor asks for |
//! | `notes` | what handlers note beside their results |
//! | `reports` | what workers and handlers report |
//! | `retention` | sweeps of what ended long ago |
//! | `scheduler`, `schedules` | what fires schedules, and what an operator does with them |
//! | `trials` | suspects: tasks that run alone, since their next crash would be their last |
//! | `timers` | etas, backoffs, expiries, timeouts |
//! | `absence` | a store whose file has gone |
//! | `leases` | proof of life, and the tasks of processes that died |
//! | `driver`, `virtual_clock` | an engine without threads, on a clock that is turned by hand |
//! | `shutdown` | the order in which all this ends |
//! | `edge` | clocks, threads, seeds |
#![forbid(unsafe_code)]

mod absence;
mod admitting;
mod ahead;
mod announce;
mod answer;
mod aside;
mod batch;
mod beginning;
mod chance;
mod claims;
mod committer;
mod completion;
mod core;
mod dead_letters;
mod driver;
mod edge;
mod engine;
mod events;
mod failpoint;
mod gathering;
mod handle;
mod handler;
mod inbox;
mod inline;
mod leases;
mod limiting;
mod loops;
mod meter;
mod needed;
mod notes;
mod operating;
mod others;
mod own_write;
mod pool;
mod queues;
mod reach;
mod registry;
mod relayed;
mod reports;
mod retention;
mod room;
mod running;
mod runtime;
mod scheduler;
mod schedules;
mod shutdown;
mod stats;
mod submitting;
mod taking;
mod timers;
mod trials;
mod virtual_clock;
mod wanted;
mod worker;

pub use announce::{Hook, Moment};
pub use chance::fresh_id;
pub use completion::Completion;
pub use driver::{Drive, Submits};
pub use edge::{Clock, SystemClock, deadline_in as deadline_after, spawn_thread};
pub use engine::{Engine, EngineOptions, Registration};
pub use events::{
    Category, DEFAULT_CAPACITY, Event, EventInfo, EventKind, Events, Field, FieldType, MAX_EVENT_DATA,
    Pattern, Subscription, SubscriptionOptions, Waker, catalog, check_own_name, info, info_named,
};
pub use handle::Handle;
pub use handler::{Attempt, Blocking, Failed, Handler, HandlerEntry, LentPlace, Outcome};
pub use loops::{LoopHost, Started};
pub use meter::{Count, Figures, MAX_METERS, Meter, Meters, OTHER, Recorder, Snapshot};
pub use needed::Needed;
pub use notes::MAX_NOTES;
pub use queues::Served;
pub use registry::RegistryStats;
pub use relayed::Relayed;
pub use runtime::{Native, Runtime};
pub use shutdown::Stop;
pub use stats::{HandlerStats, Health, QueueStats, RunningStats, Stats};
pub use submitting::{Input, NewTask};
pub use taking::Deal;
pub use taskloom_model::{Error, Result};
pub use taskloom_sync::fork_generation;
pub use virtual_clock::VirtualClock;
pub use worker::time_here;
