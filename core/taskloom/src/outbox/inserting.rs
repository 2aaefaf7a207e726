//! Submits as rows of the user's own transaction: what [`TaskBuilder::tx`] makes of a submit.

use std::fmt;
use std::future::Future;

use serde::Serialize;
use taskloom_model::{Code, Error, Result};

use super::{OutboxHandle, Row};
use crate::{App, TaskBuilder};

/// A connection that inserts on the spot, as a part of whatever transaction it is in. With the feature `outbox-rusqlite`,
/// `rusqlite::Connection` is one, and so are, as `tx(&transaction)`, its `Transaction` and `Savepoint`.
///
/// For a driver of yours, implement it: insert what [`Row`] says with [`Statement::Insert`](super::Statement::Insert).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no connection in whose transaction a task can be submitted",
    note = "a `rusqlite::Transaction` is, as `.tx(&transaction).submit()`, with the feature `outbox-rusqlite` of the crate taskloom",
    note = "those of tokio-postgres are awaited: `.tx(&transaction).submit_async().await`"
)]
pub trait Insert {
    /// Inserts rows into the table `taskloom_outbox`.
    ///
    /// Errors: `StoreFailed`, whose source is the driver's own error.
    fn insert(&self, rows: &[Row]) -> Result<()>;
}

/// A connection that inserts when awaited, as a part of whatever transaction it is in. With the feature
/// `outbox-tokio-postgres`, `tokio_postgres::Transaction` and `tokio_postgres::Client` are.
///
/// For a driver of yours, implement it: insert what [`Row`] says with [`Statement::Insert`](super::Statement::Insert).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no connection in whose transaction a task can be submitted by awaiting",
    note = "a `tokio_postgres::Transaction` is, with the feature `outbox-tokio-postgres` of the crate taskloom",
    note = "those of rusqlite block: `.tx(&transaction).submit()`"
)]
pub trait InsertAsync {
    /// Inserts rows into the table `taskloom_outbox`.
    ///
    /// Errors: `StoreFailed`, whose source is the driver's own error.
    fn insert(&self, rows: &[Row]) -> impl Future<Output = Result<()>> + Send;
}

/// A submit inside your own transaction; [`TaskBuilder::tx`] makes it.
#[must_use = "call submit()"]
pub struct InTransaction<'t, T: ?Sized> {
    builder: TaskBuilder,
    tx: &'t T,
}

impl TaskBuilder {
    /// Makes the submit one row of this connection's transaction: the task is there if, and only if, that commits. A relay
    /// ([`App::outbox`]) has to move it into the store. See [`outbox`](crate::outbox). Not for children.
    pub fn tx<T: ?Sized>(self, connection: &T) -> InTransaction<'_, T> {
        InTransaction { builder: self, tx: connection }
    }
}

// The bounds are the methods' own: so a connection that has none of these traits is told what is one.
impl<'t, T: ?Sized> InTransaction<'t, T> {
    /// Inserts the row.
    ///
    /// Errors: those of [`TaskBuilder::submit`], but for what only the store can tell; `StoreFailed`, whose source is the
    /// driver's own error.
    pub fn submit(self) -> Result<OutboxHandle>
    where
        T: Insert,
    {
        let (app, row) = self.builder.row_of_outbox()?;
        self.tx.insert(std::slice::from_ref(&row))?;
        Ok(inserted(&app, row))
    }

    /// Inserts a row for each input.
    ///
    /// Errors: those of [`InTransaction::submit`]. Rows that were inserted before the driver failed are the transaction's.
    pub fn submit_many<I: Serialize>(self, inputs: &[I]) -> Result<Vec<OutboxHandle>>
    where
        T: Insert,
    {
        let (app, rows) = self.builder.rows_of_outbox(inputs)?;
        self.tx.insert(&rows)?;
        Ok(rows.into_iter().map(|row| inserted(&app, row)).collect())
    }

    /// Inserts the row, when awaited.
    ///
    /// Errors: those of [`TaskBuilder::submit`], but for what only the store can tell; `StoreFailed`, whose source is the
    /// driver's own error. PostgreSQL has aborted the transaction then, as by any statement that fails.
    pub fn submit_async(self) -> impl Future<Output = Result<OutboxHandle>> + use<'t, T>
    where
        T: InsertAsync,
    {
        let made = self.builder.row_of_outbox();
        let tx = self.tx;
        async move {
            let (app, row) = made?;
            tx.insert(std::slice::from_ref(&row)).await?;
            Ok(inserted(&app, row))
        }
    }

    /// Inserts a row for each input, when awaited.
    ///
    /// Errors: those of [`InTransaction::submit_async`].
    pub fn submit_many_async<I: Serialize>(
        self,
        inputs: &[I],
    ) -> impl Future<Output = Result<Vec<OutboxHandle>>> + use<'t, T, I>
    where
        T: InsertAsync,
    {
        // Encoded here, so that the future need not hold the inputs.
        let made = self.builder.rows_of_outbox(inputs);
        let tx = self.tx;
        async move {
            let (app, rows) = made?;
            tx.insert(&rows).await?;
            Ok(rows.into_iter().map(|row| inserted(&app, row)).collect())
        }
    }
}

impl<T: ?Sized> fmt::Debug for InTransaction<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InTransaction").field("task", &self.builder).finish_non_exhaustive()
    }
}

fn inserted(app: &App, row: Row) -> OutboxHandle {
    app.shared.relays.wake(); // the commit is near
    OutboxHandle::new(app.downgrade(), row)
}

/// Refuses what is a row of nothing.
pub(crate) fn check_no_child(is_child: bool) -> Result<()> {
    if !is_child {
        return Ok(());
    }
    Err(Error::new(Code::InvalidOption, "a child of a task is no row of a transaction")
        .hint("build it with App::build"))
}
