//! The half of a binding that no language is special in.
//!
//! [`App`] is an application before, while and after it has an engine: its settings, its handlers, and the engine
//! that is made on first use. [`set_option`] reads the options of a submit from plain values, by name, with messages
//! for people. [`App::outbox_row`] and [`relay_rows`] are the two ends of an outbox. What remains for a binding is to turn its language's values into [`Value`]s and bytes, and to run
//! handlers.
#![forbid(unsafe_code)]

mod app;
#[cfg(unix)]
pub mod children;
mod json_logs;
mod operating;
mod options;
mod outbox;
mod schedules;
mod spelling;
mod testing;

pub use app::{App, HandlerFactory, OnOpen, Registration, Settings};
pub use json_logs::JsonLogs;
pub use operating::{Limit, check_child, discard, limit_for, limits, replay};
pub use options::{change_settings, set_option, settings_beside, settings_from};
pub use schedules::{change_schedule, new_schedule};
pub use spelling::store_key;
pub use taskloom::outbox::{
    Dialect, Placeholders, Row as OutboxRow, Statement, Verdict, relay as relay_rows,
};
pub use taskloom_model::by_name::Value;
pub use testing::Testing;
