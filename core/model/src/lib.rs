//! The rules of Taskloom, and nothing else.
//!
//! This crate says what a task is and how it may change. It has no thread, clock, file, socket or random
//! generator: `now` and chance come in as arguments, and what has to happen as a consequence goes out as a value
//! ([`Effects`]). Every store runs these functions inside its own transaction, or is checked against them, so
//! that "what may happen to a task" is written down once.
//!
//! Start with [`State`] and [`transition`], then [`Operation`] and [`apply`].
#![forbid(unsafe_code)]

mod admit;
mod apply;
pub mod by_name;
mod bytes;
mod error;
mod id;
mod limits;
mod name;
mod operation;
mod options;
#[doc(hidden)]
pub mod planted;
mod rate;
mod retry;
mod schedule;
mod state;
mod suggest;
mod task;
mod time;
pub mod transition;
mod version;

pub use admit::{Admission, admit, admit_plain};
pub use apply::{apply, apply_here, next_due};
pub use bytes::{Bytes, Returned};
pub use error::{Code, Error, Kind, Result};
pub use id::TaskId;
pub use limits::{Gate, GateRow, Limit, LimitFor, LimitRow, Limits, SetBy, WINDOW};
pub use name::Name;
pub use operation::{Effects, Fence, Operation};
pub use options::{MAX_PAYLOAD, Options, When, check_key, check_name};
pub use rate::Rate;
pub use retry::RetryPolicy;
pub use schedule::{
    CatchUp, Cron, Due, LATE, MAX_CATCH_UP, MAX_WAITING, MIN_INTERVAL, Overlap, Rule, ScheduleEffects,
    ScheduleOperation, ScheduleRow, ScheduleSpec, Skipped, Template, Ticks, Zone, apply_schedule,
};
pub use state::{Priority, State, WaitingFor};
pub use suggest::nearest;
pub use task::{
    DEFAULT_MAX_CRASHES, DEFAULT_QUEUE, Failure, History, KeyLimit, LogLine, MAX_LOG_BYTES, MAX_LOG_LINE,
    MAX_LOG_LINES, MAX_PROGRESS, OnConflict, OwnerId, Parent, Progress, Rare, Row, Scheduled, Spec, Unique,
};
pub use time::Timestamp;
pub use version::Version;
