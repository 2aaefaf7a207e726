//! PostgreSQL, through tokio-postgres.
//!
//! # What it owns
//! A runtime for the one thread that uses it, the connection as a task on it, and the client. All three end with the
//! driver; it gives the server a moment to be told.
//!
//! # How a commit is heard of
//! The table's trigger notifies the channel `taskloom_outbox` once for each transaction that has inserted. The relay listens,
//! and sleeps until that, a wake, or the end of the connection comes. Where the trigger is missing it looks every 20 ms.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use taskloom_model::{Code, Error, Result};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Connection, GenericClient, Transaction};

use super::{LOOK, failed, not_inserted};
use crate::outbox::driver::{Connect, Driver, Value};
use crate::outbox::inserting::InsertAsync;
use crate::outbox::wake::Wake;
use crate::outbox::{Dialect, Placeholders, Row, Statement};

/// How often it looks where nothing could tell it.
const OFTEN: Duration = Duration::from_millis(20);

/// How long the end of a connection may take.
const FAREWELL: Duration = Duration::from_secs(1);

fn text(statement: Statement) -> String {
    statement.text(Dialect::Postgresql, Placeholders::Dollar)
}

impl InsertAsync for Client {
    async fn insert(&self, rows: &[Row]) -> Result<()> {
        insert(self, rows).await
    }
}

impl InsertAsync for Transaction<'_> {
    async fn insert(&self, rows: &[Row]) -> Result<()> {
        insert(self, rows).await
    }
}

/// Each in one message and its answer, without a statement that is kept: poolers between us and the server like that.
async fn insert<C: GenericClient + Sync>(client: &C, rows: &[Row]) -> Result<()> {
    let insert = text(Statement::Insert);
    let each = rows.iter().map(|row| {
        let insert = &insert;
        async move {
            let (payload, options) = (row.payload_text(), row.options_text());
            let arguments: [(&(dyn ToSql + Sync), Type); 5] = [
                (&row.id, Type::TEXT),
                (&row.name, Type::TEXT),
                (&payload, Type::TEXT),
                (&options, Type::TEXT),
                (&row.created, Type::INT8),
            ];
            client.execute_typed(insert, &arguments).await
        }
    });
    all(each).await.map(drop).map_err(not_inserted)
}

/// Awaits all at once, so that they go to the server without waiting for each other's answers; the first error, if any.
async fn all<F, T, E>(futures: impl Iterator<Item = F>) -> std::result::Result<Vec<T>, E>
where
    F: Future<Output = std::result::Result<T, E>>,
{
    enum Place<F: Future> {
        Waits(Pin<Box<F>>),
        Done(Option<F::Output>),
    }
    let mut places: Vec<_> = futures.map(|future| Place::Waits(Box::pin(future))).collect();
    poll_fn(|cx| {
        let mut left = false;
        for place in &mut places {
            if let Place::Waits(future) = place {
                match future.as_mut().poll(cx) {
                    Poll::Ready(output) => *place = Place::Done(Some(output)),
                    Poll::Pending => left = true,
                }
            }
        }
        if left { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    let output = |place| if let Place::Done(output) = place { output } else { None };
    places.into_iter().filter_map(output).collect()
}

/// Marks functions that open connections of tokio-postgres.
#[derive(Debug)]
pub enum TokioPostgres {}

impl<F, Fut, S, T, E> Connect<TokioPostgres> for F
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = std::result::Result<(Client, Connection<S, T>), E>>,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    const IS_ASYNC: bool = true;

    fn open(&self) -> Result<Box<dyn Driver>> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| {
            Error::new(Code::StoreFailed, "the system would not start a runtime").caused_by(error)
        })?;
        let opened = runtime.block_on(async { self().await });
        let (client, connection) =
            opened.map_err(|error| failed("cannot connect to the outbox's database", error))?;
        let news = Arc::<News>::default();
        let task = runtime.spawn(listen(connection, Arc::clone(&news)));
        let (is_open, statements) = (false, HashMap::new());
        Ok(Box::new(Postgres { runtime, client: Some(client), task, news, look: LOOK, is_open, statements }))
    }
}

/// What the connection has heard of.
#[derive(Default)]
struct News {
    /// Set by a notification, ended with the connection.
    heard: Wake,
    /// Why it has ended.
    end: Mutex<Option<Error>>,
}

/// The connection's life: what it must do so that the client's questions are answered.
async fn listen<S, T>(mut connection: Connection<S, T>, news: Arc<News>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match poll_fn(|cx| connection.poll_message(cx)).await {
            Some(Ok(AsyncMessage::Notification(_))) => news.heard.set(),
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                *news.end.lock() = Some(trouble(error));
                break;
            }
            None => break,
        }
    }
    news.heard.end();
}

struct Postgres {
    runtime: Runtime,
    /// Taken only by the drop.
    client: Option<Client>,
    task: JoinHandle<()>,
    news: Arc<News>,
    look: Duration,
    /// Whether a transaction is.
    is_open: bool,
    statements: HashMap<Statement, tokio_postgres::Statement>,
}

fn trouble(error: tokio_postgres::Error) -> Error {
    failed("the outbox's database", error)
}

fn argument(value: &Value) -> Box<dyn ToSql + Sync> {
    match value {
        Value::Null => Box::new(None::<String>),
        Value::Integer(number) => Box::new(*number),
        Value::Text(bytes) => Box::new(String::from_utf8_lossy(bytes).into_owned()),
    }
}

fn column(row: &tokio_postgres::Row, place: usize) -> std::result::Result<Value, tokio_postgres::Error> {
    let number = |number: Option<i64>| number.map_or(Value::Null, Value::Integer);
    match *row.columns()[place].type_() {
        Type::INT8 => row.try_get(place).map(number),
        Type::INT4 => row.try_get(place).map(|found: Option<i32>| number(found.map(i64::from))),
        _ => row.try_get(place).map(|found: Option<&str>| found.map_or(Value::Null, Value::text)),
    }
}

impl Postgres {
    fn client(&self) -> &Client {
        self.client.as_ref().expect("there until it is dropped")
    }

    fn prepared(&mut self, statement: Statement) -> Result<tokio_postgres::Statement> {
        if let Some(prepared) = self.statements.get(&statement) {
            return Ok(prepared.clone());
        }
        let prepared = self.runtime.block_on(self.client().prepare(&text(statement))).map_err(trouble)?;
        self.statements.insert(statement, prepared.clone());
        Ok(prepared)
    }
}

impl Driver for Postgres {
    fn dialect(&self) -> Dialect {
        Dialect::Postgresql
    }

    fn begin(&mut self) -> Result<()> {
        self.rollback()?;
        self.is_open = true;
        self.run("BEGIN")
    }

    fn commit(&mut self) -> Result<()> {
        self.is_open = false;
        self.run("COMMIT")
    }

    fn rollback(&mut self) -> Result<()> {
        if std::mem::take(&mut self.is_open) { self.run("ROLLBACK") } else { Ok(()) }
    }

    fn execute(&mut self, statement: Statement, arguments: &[Vec<Value>]) -> Result<u64> {
        let prepared = self.prepared(statement)?;
        let client = self.client();
        let each = arguments.iter().map(|each| {
            let (prepared, values) = (&prepared, each.iter().map(argument).collect::<Vec<_>>());
            async move {
                let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| &**value).collect();
                client.execute(prepared, &values).await
            }
        });
        let counts = self.runtime.block_on(all(each)).map_err(trouble)?;
        Ok(counts.iter().sum())
    }

    fn fetch(&mut self, statement: Statement, arguments: &[Value]) -> Result<Vec<Vec<Value>>> {
        let prepared = self.prepared(statement)?;
        let values: Vec<_> = arguments.iter().map(argument).collect();
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| &**value).collect();
        let rows = self.runtime.block_on(self.client().query(&prepared, &values)).map_err(trouble)?;
        let each = rows.iter().map(|row| (0..row.len()).map(|place| column(row, place)).collect());
        each.collect::<std::result::Result<_, _>>().map_err(trouble)
    }

    fn run(&mut self, text: &str) -> Result<()> {
        self.runtime.block_on(self.client().batch_execute(text)).map_err(trouble)
    }

    fn watch(&mut self) -> Result<()> {
        self.run("LISTEN taskloom_outbox")?;
        let told = self.fetch(Statement::Notifies, &[])?;
        let is_told = told.first().and_then(|row| row.first()).is_some_and(|count| count.number() != 0);
        self.look = if is_told { LOOK } else { OFTEN };
        Ok(())
    }

    fn wait(&mut self, wake: &Wake) -> Result<()> {
        let (heard, look) = (&self.news.heard, self.look);
        self.runtime.block_on(async {
            let mut timer = pin!(tokio::time::sleep(look));
            poll_fn(|cx| {
                let is_woken = wake.poll(cx).is_ready();
                if heard.poll(cx).is_ready() || is_woken { Poll::Ready(()) } else { timer.as_mut().poll(cx) }
            })
            .await;
        });
        if !heard.is_over() {
            return Ok(());
        }
        let closed = || Error::new(Code::StoreFailed, "the outbox's database closed the connection");
        Err(self.news.end.lock().take().unwrap_or_else(closed))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.client.take());
        let task = &mut self.task;
        // Without a client the connection takes its leave.
        let _ = self.runtime.block_on(async { tokio::time::timeout(FAREWELL, task).await });
    }
}
