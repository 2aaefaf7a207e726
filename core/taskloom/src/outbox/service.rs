//! What [`App::outbox`] returns, and all of an app's relays.
//!
//! # What it owns
//! The thread of each relay, `taskloom-outbox`, from when the app starts, or [`Outbox::start`] is called, until either
//! stops. The app owns its outboxes; they and their threads hold it weakly.
//!
//! # The end
//! An app that stops ends its relays first, so that nothing is submitted to an engine that stops: the wait of each is cut
//! short, and a batch that is under way is finished. One that does not come to an end in [`PATIENCE`] (a database that
//! hangs) goes on alone, finds the engine stopped, and ends. An app that is dropped does the same without waiting.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use taskloom_engine::{Clock, SystemClock, spawn_thread};
use taskloom_model::{Code, Error, Result, Timestamp};

use super::Statement;
use super::driver::{Connect, Connector, Driver, Value, quietly};
use super::handle::Arrivals;
use super::relaying::{Relaying, Shown};
use crate::App;
use crate::app::WeakApp;
use crate::helpers::{Helpers, no_thread};
use crate::time::system_time;

/// How long a stop waits for a relay's batch, and a start for its first try to connect.
const PATIENCE: Duration = Duration::from_secs(5);

/// A row of an outbox that cannot become a task. See [`Outbox::refused`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedRow {
    /// Its id.
    pub id: String,
    /// The handler's name.
    pub name: String,
    /// The payload, as it was written.
    pub payload: String,
    /// The options, as they were written.
    pub options: Option<String>,
    /// When it was written, as it says itself.
    pub created: SystemTime,
    /// When it was refused.
    pub failed: SystemTime,
    /// Why: the code, the message, and perhaps a hint on a line of its own.
    pub error: String,
}

/// Relays the rows of a database's `taskloom_outbox` into an app's store. [`App::outbox`] makes one; a clone is the same.
///
/// It is started and stopped with its app; a program that only relays starts it by itself. It keeps one connection open,
/// on a thread named `taskloom-outbox`. Dropping this leaves it alone.
#[derive(Clone)]
pub struct Outbox(Arc<Inner>);

struct Inner {
    app: WeakApp,
    connector: Connector,
    life: Mutex<Option<Life>>,
    /// What relays that have ended have relayed, and those that were run once.
    moved: Mutex<u64>,
}

impl Inner {
    /// Looks at a relay that was not told to stop.
    fn shown<T>(&self, look: impl FnOnce(&Shown) -> T) -> Option<T> {
        let life = self.life.lock();
        life.as_ref().filter(|life| !life.shown.wake.is_over()).map(|life| look(&life.shown))
    }
}

/// A relay that was started.
struct Life {
    shown: Arc<Shown>,
    thread: Arc<Helpers>,
}

impl Life {
    fn is_running(&self) -> bool {
        !self.shown.wake.is_over() && self.thread.are_running()
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.shown.wake.end();
    }
}

/// What is shown of a relay whose thread panics: nothing else would tell.
struct Watched(Arc<Shown>);

impl Drop for Watched {
    fn drop(&mut self) {
        if std::thread::panicking() {
            *self.0.trouble.lock() = Some("its thread panicked".to_owned());
        }
    }
}

impl App {
    /// Relays tasks that [`TaskBuilder::tx`](crate::TaskBuilder::tx) wrote inside your own transactions, and rows that plain
    /// SQL wrote. `docs/outbox.md` is the guide.
    ///
    /// `connect` opens a connection to your database with your own driver, a new one at each call: a function that returns
    /// a `rusqlite::Connection` (the feature `outbox-rusqlite`), or whose future is what `tokio_postgres::connect` gives
    /// (`outbox-tokio-postgres`). The relay keeps one, on a thread of its own, from when the app starts (now, if it runs)
    /// until it stops; it makes the table if it is not there. What is committed starts within 50 ms; each row is one task,
    /// whose id is the row's, even if the relay dies half-way or there are several of them.
    ///
    /// Errors: once the app runs, those of [`Outbox::start`].
    ///
    /// ```
    /// # #[cfg(feature = "outbox-rusqlite")] {
    /// use std::time::Duration;
    /// use taskloom::{App, Context, TaskError};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let file = folder.path().join("shop.db");
    /// let app = App::open("memory:")?;
    /// app.task("confirm", |order: u32, _: &Context| -> Result<u32, TaskError> { Ok(order) }).retries(5).register()?;
    /// let connect = move || rusqlite::Connection::open(&file);
    /// let mut shop = connect()?;
    /// app.outbox(connect)?;
    /// let running = app.start()?;
    ///
    /// shop.execute_batch("CREATE TABLE orders (id)")?;
    /// let transaction = shop.transaction()?;
    /// transaction.execute("INSERT INTO orders VALUES (7)", [])?;
    /// let handle = app.build("confirm").input(&7).tx(&transaction).submit()?;
    /// transaction.commit()?;
    /// assert_eq!(handle.wait_for::<u32>(Duration::from_secs(30))?, 7);
    /// running.stop();
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn outbox<Kind, C: Connect<Kind>>(&self, connect: C) -> Result<Outbox> {
        let inner = Inner {
            app: self.downgrade(),
            connector: Connector::new(connect),
            life: Mutex::default(),
            moved: Mutex::default(),
        };
        let outbox = Outbox(Arc::new(inner));
        let is_running = self.shared.relays.add(&outbox);
        if is_running {
            outbox.start()?;
        }
        Ok(outbox)
    }
}

impl Outbox {
    /// Starts relaying; starting twice is starting once. In [testing mode](crate::Testing) it does nothing: use
    /// [`Outbox::run_once`].
    ///
    /// It returns when a connection was tried for the first time, after five seconds at most. A database that does not
    /// answer is no error: it is tried again until it does.
    ///
    /// Errors: `InvalidOption` for a SQLite database in memory, of which every connection has its own; `ShutDown` if the
    /// app is gone; `StoreFailed` if the system would not start a thread.
    pub fn start(&self) -> Result<()> {
        let (tell, told) = mpsc::channel();
        // Let go of after the lock: the last one to go takes the same.
        let app = self.0.app.need()?;
        {
            let mut life = self.0.life.lock();
            if app.shared.engine.is_driven() || life.as_ref().is_some_and(Life::is_running) {
                return Ok(());
            }
            let shown = Arc::<Shown>::default();
            let thread = Arc::<Helpers>::default();
            let (inner, watched) = (Arc::clone(&self.0), Watched(Arc::clone(&shown)));
            thread.start("taskloom-outbox", move || {
                let shown = &watched.0;
                Relaying::new(&inner.app, &inner.connector, shown).serve(|opened| drop(tell.send(opened)));
                let mut moved = inner.moved.lock();
                *moved += shown.moved.swap(0, Ordering::AcqRel);
            })?;
            *life = Some(Life { shown, thread });
        }
        drop(app);
        told.recv_timeout(PATIENCE).unwrap_or(Ok(()))
    }

    /// Stops when the batch that is under way is finished, for which it waits five seconds at most; rows that are left are
    /// for the next relay.
    pub fn stop(&self) {
        self.begin_to_stop();
        self.wait(PATIENCE);
    }

    fn begin_to_stop(&self) {
        if let Some(life) = &*self.0.life.lock() {
            life.shown.wake.end();
        }
    }

    fn wait(&self, span: Duration) {
        let thread = self.0.life.lock().as_ref().map(|life| Arc::clone(&life.thread));
        if let Some(thread) = thread {
            thread.wait(span);
        }
    }

    /// Whether it relays, or tries to.
    pub fn is_running(&self) -> bool {
        self.0.life.lock().as_ref().is_some_and(Life::is_running)
    }

    /// How many rows it has relayed and deleted.
    pub fn relayed(&self) -> u64 {
        let moved = self.0.moved.lock();
        *moved + self.0.life.lock().as_ref().map_or(0, |life| life.shown.moved.load(Ordering::Acquire))
    }

    /// What keeps it from relaying at the moment, if anything does. [`App::health`] warns of it too.
    pub fn trouble(&self) -> Option<String> {
        self.0.shown(|shown| shown.trouble.lock().clone()).flatten()
    }

    fn warnings(&self, found: &mut Vec<String>) {
        if let Some(trouble) = self.trouble() {
            found.push(format!("the outbox is not relayed: {trouble}"));
        }
        let refused = self.0.shown(|shown| shown.refused.load(Ordering::Acquire)).unwrap_or(0);
        if refused > 0 {
            found.push(format!(
                "rows of the outbox that cannot become tasks: {refused}; look at Outbox::refused"
            ));
        }
    }

    /// Relays what is committed now, over a connection of its own; how many rows. For tests, above all in
    /// [testing mode](crate::Testing), where no relay runs by itself.
    ///
    /// This and the methods below open a connection for themselves, and block until the database has answered.
    ///
    /// Errors: what the driver says, as `StoreFailed`; that of the first row that must be tried again; `ShutDown`.
    ///
    /// ```
    /// # #[cfg(feature = "outbox-rusqlite")] {
    /// # use taskloom::{App, Context, TaskError};
    /// # let folder = tempfile::tempdir()?;
    /// # let file = folder.path().join("shop.db");
    /// # let connect = move || rusqlite::Connection::open(&file);
    /// # let shop = connect()?;
    /// let testing = App::testing()?;
    /// let app = testing.app();
    /// app.task("greet", |name: String, _: &Context| -> Result<String, TaskError> { Ok(name) }).register()?;
    /// let outbox = app.outbox(connect)?;
    /// outbox.run_once()?; // makes the table
    /// shop.execute("INSERT INTO taskloom_outbox (name, payload) VALUES ('greet', '\"Ada')", [])?;
    /// assert_eq!(outbox.run_once()?, 0);
    ///
    /// let row = outbox.refused(None, 100)?.remove(0);
    /// assert!(row.error.starts_with("TL1201: the row's payload is no JSON"));
    /// shop.execute("UPDATE taskloom_outbox SET payload = '\"Ada\"' WHERE id = ?", [&row.id])?; // put it right
    /// assert!(outbox.retry(&row.id)?);
    /// assert_eq!(outbox.run_once()?, 1);
    /// testing.drain()?;
    /// assert_eq!(app.get(row.id.parse()?)?.expect("relayed").result::<String>()?, "Ada");
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn run_once(&self) -> Result<u64> {
        self.0.app.need()?;
        let inner = Arc::clone(&self.0);
        self.ask(move |driver| {
            let shown = Shown::default();
            let ended = Relaying::new(&inner.app, &inner.connector, &shown).drain(driver);
            let moved = shown.moved.load(Ordering::Acquire);
            *inner.moved.lock() += moved;
            ended.map(|()| moved)
        })
    }

    /// The rows that cannot become tasks, in the order of their ids: at most so many, after this id.
    ///
    /// Errors: what the driver says, as `StoreFailed`.
    pub fn refused(&self, after: Option<&str>, limit: usize) -> Result<Vec<RefusedRow>> {
        let arguments =
            [Value::text(after.unwrap_or("")), Value::Integer(i64::try_from(limit).unwrap_or(i64::MAX))];
        let found = self.ask(move |driver| driver.fetch(Statement::Refused, &arguments))?;
        Ok(found.iter().map(|columns| refused_row(columns)).collect())
    }

    /// Has a refused row tried again; whether there is one with this id. Do so when what was wrong is put right: the handler
    /// registered, the row's columns corrected by an `UPDATE`.
    ///
    /// Errors: what the driver says, as `StoreFailed`.
    pub fn retry(&self, id: &str) -> Result<bool> {
        Ok(self.change(Statement::Retry, vec![Value::text(id)])? > 0)
    }

    /// Has all refused rows tried again; how many.
    ///
    /// Errors: what the driver says, as `StoreFailed`.
    pub fn retry_all(&self) -> Result<u64> {
        self.change(Statement::RetryAll, Vec::new())
    }

    /// Deletes a refused row; whether there was one with this id.
    ///
    /// Errors: what the driver says, as `StoreFailed`.
    pub fn discard(&self, id: &str) -> Result<bool> {
        Ok(self.change(Statement::Discard, vec![Value::text(id)])? > 0)
    }

    fn change(&self, statement: Statement, arguments: Vec<Value>) -> Result<u64> {
        let count = self.ask(move |driver| {
            driver.begin()?;
            let count = driver.execute(statement, &[arguments])?;
            driver.commit()?;
            Ok(count)
        })?;
        self.0.shown(|shown| {
            shown.is_to_count.store(true, Ordering::Release);
            shown.wake.set();
        });
        Ok(count)
    }

    /// Does something with a connection of its own.
    fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn Driver) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.0);
        let whole = move || {
            let mut driver = inner.connector.open()?;
            let done = work(&mut *driver);
            if done.is_err() {
                quietly(&mut *driver);
            }
            done
        };
        if !self.0.connector.is_async {
            return whole();
        }
        // The caller's thread may be one that runs futures, and a runtime cannot wait inside another.
        let (tell, told) = mpsc::channel();
        spawn_thread("taskloom-outbox", move || drop(tell.send(whole()))).map_err(no_thread)?;
        told.recv().unwrap_or_else(|_| Err(Error::new(Code::StoreFailed, "the outbox's driver panicked")))
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("is_running", &self.is_running())
            .field("relayed", &self.relayed())
            .field("trouble", &self.trouble())
            .finish_non_exhaustive()
    }
}

fn refused_row(columns: &[Value]) -> RefusedRow {
    let at = |place: usize| columns.get(place).unwrap_or(&Value::Null);
    let time = |place: usize| system_time(Timestamp::from_micros(at(place).number()));
    RefusedRow {
        id: at(0).shown(),
        name: at(1).shown(),
        payload: at(2).shown(),
        options: (*at(3) != Value::Null).then(|| at(3).shown()),
        created: time(4),
        failed: time(5),
        error: at(6).shown(),
    }
}

/// The outboxes of an app.
#[derive(Default)]
pub(crate) struct Relays {
    known: Mutex<(Vec<Outbox>, Phase)>,
    /// Who waits for a row to be relayed.
    pub(super) arrivals: Arc<Arrivals>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Before,
    Running,
    Over,
}

impl Relays {
    /// Whether the app runs, so that it is to be started now.
    fn add(&self, outbox: &Outbox) -> bool {
        let mut known = self.known.lock();
        known.0.push(outbox.clone());
        known.1 == Phase::Running
    }

    fn all(&self) -> Vec<Outbox> {
        self.known.lock().0.clone()
    }

    /// The app starts. If one can never be right, none is left running.
    pub(crate) fn start(&self) -> Result<()> {
        let all = {
            let mut known = self.known.lock();
            if known.1 == Phase::Over {
                return Ok(()); // the engine says so itself
            }
            known.1 = Phase::Running;
            known.0.clone()
        };
        let started = all.iter().try_for_each(Outbox::start);
        started.inspect_err(|_| self.call_off())
    }

    /// The app could not be started.
    pub(crate) fn call_off(&self) {
        let all = {
            let mut known = self.known.lock();
            if known.1 == Phase::Running {
                known.1 = Phase::Before;
            }
            known.0.clone()
        };
        all.iter().for_each(Outbox::begin_to_stop);
    }

    /// The app stops, in this time if it has a limit.
    pub(crate) fn stop(&self, limit: Option<Duration>) {
        let all = {
            let mut known = self.known.lock();
            known.1 = Phase::Over;
            known.0.clone()
        };
        let end = SystemClock.monotonic() + limit.map_or(PATIENCE, |limit| limit.min(PATIENCE));
        all.iter().for_each(Outbox::begin_to_stop);
        for outbox in &all {
            outbox.wait(end.saturating_sub(SystemClock.monotonic()));
        }
    }

    /// A row was inserted here: its commit is near. Where the database will tell of it, that is no reason to look.
    pub(super) fn wake(&self) {
        for outbox in self.all().iter().filter(|outbox| !outbox.0.connector.is_async) {
            outbox.0.shown(|shown| shown.wake.set());
        }
    }

    /// What `App::health` says of them.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.all().iter().for_each(|outbox| outbox.warnings(&mut found));
        found
    }
}

impl Drop for Relays {
    fn drop(&mut self) {
        self.known.get_mut().0.iter().for_each(Outbox::begin_to_stop);
    }
}
