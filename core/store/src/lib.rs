//! Where tasks live.
//!
//! [`Store`] is the contract between the engine and any place that keeps tasks; [`MemoryStore`] is its reference
//! implementation. [`Task`] is what both sides hold: what was asked for, the row as last committed, and the latch
//! that handles wait on.
#![forbid(unsafe_code)]

mod contract;
mod due;
mod host;
mod memory;
mod registry;
mod task;

pub use contract::{
    Batch, Capability, Change, Claim, Commit, Counts, DueSchedules, Filter, FreeEnd, GateNews, Insert, Late,
    News, Nobody, Owner, Residents, ScheduleChange, Store, Unserved, struck_off,
};
pub use host::{Host, HostData, Keeper, Keepsake, Note, keep_notes};
pub use memory::{MemoryOptions, MemoryStore};
pub use registry::{IdHasher, Live, Registry};
pub use task::Task;
