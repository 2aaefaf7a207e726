//! Schedules: rules that submit tasks at times.
//!
//! | module | what it knows |
//! | --- | --- |
//! | `zone` | time zones by name, from the database that is compiled in: no file of the machine's is read |
//! | `cron` | cron expressions, and what daylight saving time does to them |
//! | `ticks` | when a rule fires: next, last, between start and end; what to make up for; jitter |
//! | `row` | a schedule as a row, and everything that can be done to it |
//!
//! A *tick* is a time at which a rule fires, as the rule says it. With jitter the task is submitted somewhat later;
//! it is the tick that names the firing.

mod cron;
mod row;
mod ticks;
mod zone;

pub use cron::Cron;
pub use row::{
    Due, MAX_WAITING, ScheduleEffects, ScheduleOperation, ScheduleRow, ScheduleSpec, Skipped, Template,
    apply_schedule,
};
pub use ticks::{CatchUp, LATE, MAX_CATCH_UP, MIN_INTERVAL, Overlap, Rule, Ticks};
pub use zone::Zone;
