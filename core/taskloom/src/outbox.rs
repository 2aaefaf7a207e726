//! The outbox: tasks that are submitted inside the user's own transaction, in the user's own database.
//!
//! A submit inserts one row into the table `taskloom_outbox`, through the user's own driver. It is there if, and only if,
//! that transaction commits. A relay reads committed rows, submits each under the row's id, and deletes it.
//!
//! This module is what all languages share, and knows no database driver: the table ([`Dialect`]) and the statements
//! ([`Statement`]), a row and what it asks for ([`Row`]), and the step of a relay ([`relay`]) from rows to verdicts. Each
//! language brings its drivers, and a thread or a loop that reads, relays and settles.
//!
//! # What holds
//! * A row's id is its task's id. A store never has two tasks with one id, so a row that is relayed again, after a crash
//!   between the submit and the delete or by a second relay, changes nothing.
//! * A row is deleted only when its task is as durable as the store.
//! * A row that cannot become a task is kept, marked with the time and the error, until somebody has it tried again or
//!   discards it. It holds up no other row.
//! * What may be otherwise the next time (a full queue, a store that fails) marks no row: the relay comes again.
//! * Times in a row's options count from the row's `created`, and not from when it is relayed.

mod options;
mod relay;
mod row;
mod statements;

pub use relay::{Verdict, relay};
pub use row::{Row, Submission, prepare};
pub use statements::{Dialect, Placeholders, Statement, TABLE};
