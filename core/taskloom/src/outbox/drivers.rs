//! The drivers, each with a feature of its own, and what they share.

use std::time::Duration;

use taskloom_model::{Code, Error};

#[cfg(feature = "outbox-tokio-postgres")]
mod postgres;
#[cfg(feature = "outbox-rusqlite")]
mod sqlite;

#[cfg(feature = "outbox-tokio-postgres")]
pub use postgres::TokioPostgres;
#[cfg(feature = "outbox-rusqlite")]
pub use sqlite::Rusqlite;

/// How often a relay looks at the table though nothing has told it to.
const LOOK: Duration = Duration::from_secs(1);

/// What the user's driver says went wrong.
fn failed(what: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let error = error.into();
    let mut message = format!("{what}: {error}");
    // Some drivers keep what matters underneath: "db error", and then what the database said.
    let mut under = error.source();
    while let Some(error) = under {
        let text = error.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        under = error.source();
    }
    Error::new(Code::StoreFailed, message).caused_by(error)
}

/// The driver could not insert.
fn not_inserted(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let error = failed("the task is no row of the transaction", error);
    let said = error.message();
    if said.contains("taskloom_outbox") && (said.contains("no such") || said.contains("not exist")) {
        return error.hint(
            "make the table in a migration with the statements of Dialect::schema, or by a relay: App::outbox",
        );
    }
    error
}
