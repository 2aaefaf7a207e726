//! The outbox: tasks that are submitted inside the user's own transaction, in the user's own database.
//!
//! A submit inserts one row into the table `taskloom_outbox`, through the user's own driver. It is there if, and only if,
//! that transaction commits. A relay reads committed rows, submits each under the row's id, and deletes it.
//!
//! [`TaskBuilder::tx`](crate::TaskBuilder::tx) inserts the row and [`App::outbox`](crate::App::outbox) relays, where one of
//! these features of the crate is on; `docs/outbox.md` is the guide.
//!
//! | feature | rows are inserted through | `connect` returns |
//! | --- | --- | --- |
//! | `outbox-rusqlite` | `rusqlite::{Transaction, Savepoint, Connection}`: `submit` | a `rusqlite::Connection` |
//! | `outbox-tokio-postgres` | `tokio_postgres::{Transaction, Client}`: `submit_async` | a future of what `tokio_postgres::connect` gives |
//!
//! # What holds
//! * A row's id is its task's id. A store never has two tasks with one id, so a row that is relayed again, after a crash
//!   between the submit and the delete or by a second relay, changes nothing.
//! * A row is deleted only when its task is as durable as the store.
//! * A row that cannot become a task is kept, marked with the time and the error, until somebody has it tried again or
//!   discards it. It holds up no other row.
//! * What may be otherwise the next time (a full queue, a store that fails) marks no row: the relay comes again.
//! * Times in a row's options count from the row's `created`, and not from when it is relayed.
//!
//! # How it is made
//! What all languages share is pure, and knows no driver: the table ([`Dialect`]) and the statements ([`Statement`]), a row
//! and what it asks for ([`Row`]), and the step of a relay ([`relay`]) from rows to verdicts. The bindings bring their own
//! drivers. Here `inserting` makes rows of submits, `handle` waits for them; `service` has the relays' threads, `relaying`
//! is what they do, over any `driver`; `drivers` are the two.
//!
//! # Other drivers
//! With a driver that is not among these, hold both ends yourself:
//!
//! ```
//! use rusqlite::{Connection, TransactionBehavior::Immediate, params};
//! use taskloom::outbox::{Dialect, Placeholders, Row, Statement, Verdict};
//! use taskloom::{App, Context, TaskError};
//!
//! fn text(statement: Statement) -> String {
//!     statement.text(Dialect::Sqlite, Placeholders::Question)
//! }
//!
//! /// Relays what is committed; how many rows were read.
//! fn relay(app: &App, shop: &mut Connection) -> Result<usize, Box<dyn std::error::Error>> {
//!     let rows = shop
//!         .prepare_cached(&text(Statement::Due))?
//!         .query_map([256], |row| {
//!             let options: Option<String> = row.get(3)?;
//!             Ok(Row {
//!                 id: row.get(0)?,
//!                 name: row.get(1)?,
//!                 payload: row.get::<_, String>(2)?.into_bytes(),
//!                 options: options.map(String::into_bytes),
//!                 created: row.get(4)?,
//!             })
//!         })?
//!         .collect::<Result<Vec<_>, _>>()?;
//!     let verdicts = app.relay(&rows)?; // from here on the tasks are in the store
//!     let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_micros() as i64;
//!     let settle = shop.transaction_with_behavior(Immediate)?;
//!     for (row, verdict) in rows.iter().zip(verdicts) {
//!         match verdict {
//!             Verdict::Done => settle.execute(&text(Statement::Delete), [&row.id])?,
//!             Verdict::Refused(error) => {
//!                 settle.execute(&text(Statement::Refuse), params![now, error.to_string(), row.id])?
//!             }
//!             Verdict::Later(error) => return Err(error.into()), // try again in a while
//!         };
//!     }
//!     settle.commit()?;
//!     Ok(rows.len())
//! }
//!
//! let app = App::open("memory:")?;
//! app.task("confirm", |order: u32, _: &Context| -> Result<u32, TaskError> { Ok(order) }).retries(5).register()?;
//! let mut shop = Connection::open_in_memory()?;
//! shop.execute_batch("CREATE TABLE orders (id)")?;
//! for statement in Dialect::Sqlite.schema() {
//!     shop.execute_batch(statement)?;
//! }
//!
//! let order = |shop: &Connection, id: u32| -> Result<Row, Box<dyn std::error::Error>> {
//!     shop.execute("INSERT INTO orders VALUES (?)", [id])?;
//!     let row = app.build("confirm").input(&id).outbox_row()?;
//!     let (payload, options) = (row.payload_text(), row.options_text());
//!     shop.execute(&text(Statement::Insert), params![row.id, row.name, payload, options, row.created])?;
//!     Ok(row)
//! };
//! let transaction = shop.transaction()?;
//! let kept = order(&transaction, 7)?;
//! transaction.commit()?;
//! let transaction = shop.transaction()?;
//! let lost = order(&transaction, 8)?;
//! transaction.rollback()?;
//!
//! assert_eq!(relay(&app, &mut shop)?, 1);
//! assert_eq!(relay(&app, &mut shop)?, 0);
//! let running = app.start()?;
//! assert_eq!(app.get(kept.id.parse()?)?.expect("relayed").wait::<u32>()?, 7);
//! assert!(app.get(lost.id.parse()?)?.is_none());
//! running.stop();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod driver;
#[cfg(any(feature = "outbox-rusqlite", feature = "outbox-tokio-postgres"))]
mod drivers;
mod handle;
mod inserting;
mod options;
mod relay;
mod relaying;
mod row;
mod service;
mod statements;
mod wake;

pub use driver::Connect;
#[cfg(feature = "outbox-rusqlite")]
pub use drivers::Rusqlite;
#[cfg(feature = "outbox-tokio-postgres")]
pub use drivers::TokioPostgres;
pub use handle::OutboxHandle;
pub(crate) use inserting::check_no_child;
pub use inserting::{InTransaction, Insert, InsertAsync};
pub use relay::{Verdict, relay};
pub use row::{Row, Submission, prepare};
pub(crate) use service::Relays;
pub use service::{Outbox, RefusedRow};
pub use statements::{Dialect, Placeholders, Statement, TABLE};
