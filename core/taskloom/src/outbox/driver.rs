//! What is asked of a database driver.
//!
//! A relay is written once, over [`Driver`]; so is what shows and changes refused rows. A driver runs statements of
//! [`Statement`] and hears of commits, and knows nothing of tasks. It blocks: one that is asynchronous brings a runtime of
//! its own along.

use std::panic::{AssertUnwindSafe, catch_unwind};

use taskloom_model::{Code, Error, Result};

use super::wake::Wake;
use super::{Dialect, Row, Statement};

/// An argument or a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `NULL`.
    Null,
    /// A whole number.
    Integer(i64),
    /// A text. In one that was found there may be any bytes: what is no UTF-8 is that row's own trouble.
    Text(Vec<u8>),
}

impl Value {
    pub(super) fn text(text: &str) -> Self {
        Self::Text(text.as_bytes().to_vec())
    }

    pub(super) fn bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Null => None,
            Self::Integer(number) => Some(number.to_string().into_bytes()),
            Self::Text(bytes) => Some(bytes.clone()),
        }
    }

    pub(super) fn shown(&self) -> String {
        self.bytes().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    pub(super) fn number(&self) -> i64 {
        if let Self::Integer(number) = self { *number } else { 0 }
    }
}

/// One connection of the user's, through the user's own driver; a relay's own.
pub trait Driver: Send {
    /// The kind of its database.
    fn dialect(&self) -> Dialect;

    /// The connection was opened for us. Refuses, with `InvalidOption`, one that cannot be used.
    fn take_over(&mut self) -> Result<()> {
        Ok(())
    }

    /// Begins a transaction that will write.
    fn begin(&mut self) -> Result<()>;

    /// Commits it.
    fn commit(&mut self) -> Result<()>;

    /// Takes back what is open, if anything is.
    fn rollback(&mut self) -> Result<()>;

    /// Runs a statement with each of these arguments; how many rows were changed in all.
    fn execute(&mut self, statement: Statement, arguments: &[Vec<Value>]) -> Result<u64>;

    /// Runs a statement; its rows.
    fn fetch(&mut self, statement: Statement, arguments: &[Value]) -> Result<Vec<Vec<Value>>>;

    /// Runs SQL that has neither arguments nor rows.
    fn run(&mut self, text: &str) -> Result<()>;

    /// From now on [`Driver::wait`] is to hear of commits.
    fn watch(&mut self) -> Result<()>;

    /// Returns when rows may have been committed, when woken, and now and then in any case.
    fn wait(&mut self, wake: &Wake) -> Result<()>;
}

/// A function that opens a connection for a relay, a new one at each call. What implements it comes with a feature of the
/// crate: `outbox-rusqlite`, functions that return a `rusqlite::Connection`; `outbox-tokio-postgres`, those whose future is
/// what `tokio_postgres::connect` gives.
#[diagnostic::on_unimplemented(
    message = "this is no function that opens a connection for an outbox",
    note = "pass `|| rusqlite::Connection::open(…)` with the feature `outbox-rusqlite` of the crate taskloom",
    note = "or `|| tokio_postgres::connect(…)` with the feature `outbox-tokio-postgres`"
)]
pub trait Connect<Kind>: Send + Sync + 'static {
    /// Whether what it opens is asynchronous: it waits in a runtime of its own, which cannot be done on a thread that runs
    /// another, and it is told of commits, so that nobody else need do so.
    #[doc(hidden)]
    const IS_ASYNC: bool;

    /// Opens one.
    #[doc(hidden)]
    fn open(&self) -> Result<Box<dyn Driver>>;
}

/// How a relay connects, whatever the driver.
pub(super) struct Connector {
    open: Box<dyn Fn() -> Result<Box<dyn Driver>> + Send + Sync>,
    pub(super) is_async: bool,
}

impl Connector {
    pub(super) fn new<Kind, C: Connect<Kind>>(connect: C) -> Self {
        Self { open: Box::new(move || connect.open()), is_async: C::IS_ASYNC }
    }

    /// A connection that is ready, and a database that has the table.
    pub(super) fn open(&self) -> Result<Box<dyn Driver>> {
        // The user's own function: its panic is its failure, and no more.
        let opened = catch_unwind(AssertUnwindSafe(|| (self.open)()));
        let panicked =
            || Error::new(Code::StoreFailed, "the function that opens a connection for the outbox panicked");
        let mut driver = opened.unwrap_or_else(|_| Err(panicked()))?;
        driver.take_over()?;
        make_table(&mut *driver)?;
        Ok(driver)
    }
}

/// Of several that find no table in PostgreSQL one makes it, and the others wait here. The number is the one that relays in
/// all languages take.
const ONE_AT_A_TIME: &str = "SELECT pg_advisory_xact_lock(8317987319222330741)";

fn make_table(driver: &mut dyn Driver) -> Result<()> {
    let is_there = |driver: &mut dyn Driver| -> Result<bool> {
        let found = driver.fetch(Statement::Exists, &[])?;
        Ok(found.first().and_then(|row| row.first()).is_some_and(|count| count.number() != 0))
    };
    if is_there(driver)? {
        return Ok(());
    }
    let dialect = driver.dialect();
    let made = (|| {
        driver.begin()?;
        if dialect == Dialect::Postgresql {
            driver.run(ONE_AT_A_TIME)?;
        }
        dialect.schema().iter().try_for_each(|statement| driver.run(statement))?;
        driver.commit()
    })();
    if made.is_err() {
        quietly(driver);
    }
    made
}

/// Cleans up; what that fails with is of no use to anybody, since something else has failed before.
pub(super) fn quietly(driver: &mut dyn Driver) {
    let _ = driver.rollback();
}

/// A row as it was found.
pub(super) fn row_of(columns: &[Value]) -> Row {
    let at = |place: usize| columns.get(place).unwrap_or(&Value::Null);
    Row {
        id: at(0).shown(),
        name: at(1).shown(),
        payload: at(2).bytes().unwrap_or_default(),
        options: at(3).bytes(),
        created: at(4).number(),
    }
}
