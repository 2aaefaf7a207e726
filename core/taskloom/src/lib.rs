//! Taskloom for Rust: a task engine that lives in your process.
//!
//! Register a function, submit calls of it as background tasks, and take their results from handles that can be waited for
//! or awaited. Tasks live in memory, or in one SQLite file, with the same code, states and guarantees.
//!
//! ```
//! use std::time::Duration;
//! use taskloom::{App, Context, TaskError};
//!
//! let app = App::open("memory:")?;
//! app.task("double", |input: u32, _: &Context| -> Result<u32, TaskError> { Ok(input * 2) }).register()?;
//! let running = app.start()?;
//! let handle = app.submit("double", &21)?;
//! let out: u32 = handle.wait_for(Duration::from_secs(5))?;
//! assert_eq!(out, 42);
//! running.stop();
//! # Ok::<(), taskloom::Error>(())
//! ```
//!
//! Name a file instead (`sqlite:tasks.db`), and a task that was accepted is on disk: a submit that has returned survives a
//! crash, and a process that starts later goes on with what was left.
//!
//! Inputs and results are whatever serde writes as JSON and reads from it. A handler is known by its name, so that the
//! process that submits need not hold the code's types; names with a slash (`img/resize`) have a namespace.
//!
//! # Retries
//!
//! A handler that fails is tried again as often as `retries` says: not at all unless you say so, since only you know
//! whether it may run twice. The waits grow (1 s, 2 s, 4 s… to 30 s, of which a random part is waited), unless the error
//! asks for another. Any standard error becomes a [`TaskError`] with `?`; [`TaskRegistration::retry_if`] says which of them
//! are worth another attempt.
//!
//! ```
//! use std::time::Duration;
//! use taskloom::{App, Context, RetryPolicy, TaskError};
//!
//! # let app = App::open("memory:")?;
//! app.task("fetch", |url: String, context: &Context| -> Result<usize, TaskError> {
//!     if !url.starts_with("https:") {
//!         return Err(TaskError::permanent("only https").of_kind("InsecureUrl")); // no retry
//!     }
//!     if context.attempt() == 1 {
//!         return Err(TaskError::new("busy").retry_after(Duration::from_millis(5)));
//!     }
//!     Ok(url.len())
//! })
//! .retries(5)
//! .retry(RetryPolicy { cap: Duration::from_secs(10), ..RetryPolicy::default() })
//! .timeout(Duration::from_secs(20))
//! .register()?;
//! # let running = app.start()?;
//! let handle = app.submit("fetch", "https://example.org")?;
//! assert_eq!(handle.wait::<usize>()?, 19);
//! assert_eq!(handle.errors()[0].message, "busy");
//! assert!(app.submit("fetch", "http://example.org")?.wait::<usize>().is_err());
//! # running.stop();
//! # Ok::<(), taskloom::Error>(())
//! ```
//!
//! # Progress and checkpoints
//!
//! [`Context`] is what a handler may ask and tell: [`Context::progress`] and [`Context::log`] are kept with the task within
//! bounds; [`Context::save_checkpoint`] keeps where the next attempt goes on, through retries and, on a file, crashes.
//!
//! ```
//! # use taskloom::{App, Context, RetryPolicy, TaskError};
//! # use std::time::Duration;
//! # let app = App::open("memory:")?;
//! app.task("import", |rows: u32, context: &Context| -> Result<u32, TaskError> {
//!     let from: u32 = context.load_checkpoint()?.unwrap_or(0);
//!     for row in from..rows {
//!         context.save_checkpoint(&(row + 1))?;
//!         context.progress(f64::from(row + 1) / f64::from(rows), "importing")?;
//!         if row == 2 {
//!             return Err(TaskError::new("lost the connection").retry_after(Duration::ZERO));
//!         }
//!     }
//!     Ok(rows - from) // what this attempt did
//! })
//! .retries(1)
//! .register()?;
//! # let running = app.start()?;
//! let handle = app.submit("import", &10)?;
//! assert_eq!(handle.wait::<u32>()?, 7);
//! # running.stop();
//! # Ok::<(), taskloom::Error>(())
//! ```
//!
//! # Options of one task
//!
//! [`App::build`] has what a handler's registration has, and more: a delay or a point in time, an expiry, tags, metadata,
//! a unique key.
//!
//! ```
//! # use std::time::Duration;
//! # use taskloom::{App, Context, Filter, Priority, State, TaskError};
//! # let app = App::open("memory:")?;
//! # app.task("mail", |to: String, _: &Context| -> Result<(), TaskError> { Ok(drop(to)) }).register()?;
//! let mail = || app.build("mail").input("ada").unique_key("ada").tag("welcome");
//! let handle = mail().priority(Priority::High).delay(Duration::from_secs(60)).submit()?;
//! assert_eq!(mail().submit()?.id(), handle.id()); // the key is taken: the same task
//! assert_eq!(app.list(&Filter::new().tag("welcome"))?.len(), 1);
//! assert!(handle.cancel(Some("changed her mind"))?);
//! assert_eq!(handle.state(), State::Cancelled);
//! # Ok::<(), taskloom::Error>(())
//! ```
//!
//! # Children
//!
//! A handler submits children with [`Context::submit`]. They are there at once, are found again by a retry, and are
//! cancelled with their parent. A handler that waits for a child lends it its place, so this cannot come to a standstill.
//!
//! ```
//! # use taskloom::{App, Context, TaskError};
//! # let app = App::builder().workers(1).open("memory:")?;
//! app.task("square", |n: u64, _: &Context| -> Result<u64, TaskError> { Ok(n * n) }).register()?;
//! app.task("squares", |to: u64, context: &Context| -> Result<u64, TaskError> {
//!     let children = (1..=to).map(|n| context.submit("square", &n)).collect::<Result<Vec<_>, _>>()?;
//!     let mut sum = 0;
//!     for child in children {
//!         sum += child.wait::<u64>()?;
//!     }
//!     Ok(sum)
//! })
//! .register()?;
//! # let running = app.start()?;
//! assert_eq!(app.submit("squares", &4)?.wait::<u64>()?, 30);
//! # running.stop();
//! # Ok::<(), taskloom::Error>(())
//! ```
//!
//! # Async
//!
//! [`App::task_async`] takes an async function. The app runs it on a tokio runtime of its own, at most
//! [`AppBuilder::max_in_flight`] at once. An attempt that is cancelled or times out is dropped; [`Context::cancelled`]
//! lets it clean up. (For tokio's timers and sockets, depend on `tokio` with the features you need. Without async handlers,
//! `default-features = false` leaves tokio out.)
//!
//! Handles, [`App::submit_async`] and [`App::events_async`] can be awaited on any executor. Do not block in an async
//! handler: await the handle; calls that write to the store, such as [`Context::submit`], let the runtime's other tasks go
//! on by themselves.
//!
//! ```
//! # #[cfg(feature = "async")] {
//! # use taskloom::{App, Context, TaskError};
//! # let app = App::open("memory:")?;
//! app.task_async("half", |n: u32, _: Context| async move { Ok::<_, TaskError>(n / 2) }).register()?;
//! app.task_async("quarter", |n: u32, context: Context| async move {
//!     let half: u32 = context.submit("half", &n)?.wait_async().await?;
//!     let quarter: u32 = context.submit("half", &half)?.wait_async().await?;
//!     Ok::<_, TaskError>(quarter)
//! })
//! .register()?;
//! # let running = app.start()?;
//! assert_eq!(app.submit("quarter", &40)?.wait::<u32>()?, 10);
//! # running.stop();
//! # }
//! # Ok::<(), taskloom::Error>(())
//! ```
//!
//! # Schedules
//!
//! [`App::cron`], [`App::every`] and [`App::at`] submit tasks at times; on a file each firing happens once, whichever of
//! several processes lives. [`App::schedules`] lists and changes them. `docs/schedules.md` has the rules.
//!
//! ```
//! # use taskloom::{App, Context, TaskError};
//! # let app = App::open("memory:")?;
//! app.task("clean", |_: (), _: &Context| -> Result<(), TaskError> { Ok(()) }).register()?;
//! let nightly = app.cron("30 2 * * *").tz("Europe/Rome").name("nightly").schedule("clean")?;
//! assert!(nightly.next.is_some());
//! app.schedules().disable("nightly")?;
//! # Ok::<(), taskloom::Error>(())
//! ```
//!
//! # Events, hooks, middleware
//!
//! [`App::on`] calls a function for each event that fits a pattern, on a thread of its own; [`App::events`] iterates over
//! them. `docs/events.md` lists them, and [`catalog`] is the same as data. A handler's own hooks
//! ([`TaskRegistration::on_failure`] and its like) hear how its attempts ended. [`App::middleware`] goes around every
//! execution. None of the first two can slow or fail a task.
//!
//! ```
//! # use taskloom::{App, Context, TaskError};
//! # let app = App::open("memory:")?;
//! app.task("pay", |order: u32, context: &Context| -> Result<(), TaskError> {
//!     Ok(context.publish("order.paid", &serde_json::json!({ "order": order }))?)
//! })
//! .on_failure(|task| eprintln!("{} failed: {:?}", task.id, task.errors.last()))
//! .register()?;
//! let events = app.events("order.*")?;
//! let running = app.start()?;
//! app.submit("pay", &7)?;
//! running.stop();
//! assert_eq!(events.map(|event| event.data_json().to_owned()).collect::<Vec<_>>(), [r#"{"order":7}"#]);
//! # Ok::<(), taskloom::Error>(())
//! ```
//!
//! # Submitting inside your own transaction
//!
//! With the features `outbox-rusqlite` and `outbox-tokio-postgres`, [`TaskBuilder::tx`] makes a submit a row of your own
//! transaction, in your own database, and [`App::outbox`] relays what is committed: see [`outbox`].
//!
//! # Shutdown
//!
//! [`Running`] stops the app when it is dropped: what runs is finished; in memory, what is eligible is run; on a file, the
//! rest stays for the next process. [`Running::stop_within`] sets a limit, [`Running::stop_async`] awaits it. A handler,
//! hook or subscriber that uses the app should hold it weakly ([`Context::app`], [`App::downgrade`]), or it would keep the
//! app alive for ever.
//!
//! # Testing
//!
//! [`App::testing`] gives an app on a clock that the test turns: the real engine in memory, without threads. Three days go by
//! in a moment, with every delay, retry and timeout at its time; see [`Testing`].
//!
//! To test with real threads, open `memory:`: each app is its own, and nothing is left behind. Wait for outcomes with
//! [`Handle::wait_for`] and a generous limit instead of sleeping; end with `running.stop()`, after which all that was eligible
//! has run, and hooks and subscribers have been told.
//!
//! # Errors
//!
//! Every call of ours fails with one [`Error`]: it has a [`Kind`], a stable [`Code`] that `docs/errors.md` explains, a
//! message that names the value at fault, and often a hint.
//!
//! ```
//! # use taskloom::{App, Code, Context, TaskError};
//! # let app = App::open("memory:")?;
//! app.task("resize", |_: (), _: &Context| -> Result<(), TaskError> { Ok(()) }).register()?;
//! let error = app.submit("resise", &()).unwrap_err();
//! assert_eq!((error.code(), error.code().as_str()), (Code::UnknownHandler, "TL1101"));
//! assert_eq!(error.hint_text(), Some("did you mean \"resize\"?"));
//! # Ok::<(), taskloom::Error>(())
//! ```
#![forbid(unsafe_code)]

mod app;
mod attempts;
mod builder;
mod context;
mod declared;
#[cfg(feature = "async")]
mod driven_lane;
mod error;
mod events;
mod execute;
mod finite;
mod handle;
mod helpers;
mod hooks;
mod info;
#[cfg(feature = "async")]
mod lane;
mod open;
mod operate;
pub mod outbox;
mod registration;
mod retry_if;
mod schedules;
mod submit;
mod testing;
mod time;
#[cfg(feature = "tracing")]
mod trace;
mod waiting;

pub use app::{App, Running, WeakApp};
pub use attempts::Cancelled;
pub use builder::AppBuilder;
pub use context::Context;
pub use error::{RetryAfter, TaskError};
pub use events::{Event, EventStream, Events, Subscriber};
pub use execute::{Next, Returned};
pub use handle::{Handle, Typed, Waiting};
pub use info::{LogLine, Progress, TaskFailure, TaskInfo};
pub use open::{Durability, StoreOptions, check_store_url, open_store, open_store_with, testing_store};
pub use operate::{Filter, HandlerInfo};
pub use registration::TaskRegistration;
pub use retry_if::Again;
pub use schedules::{Schedule, ScheduleBuilder, Schedules, next_firings};
pub use submit::TaskBuilder;
pub use testing::{Testing, TestingOptions};

pub use taskloom_engine::{
    Category, Count, EventInfo, EventKind, Field, FieldType, Figures, HandlerStats, Health, QueueStats,
    RegistryStats, RunningStats, Snapshot, Stats, Stop, catalog, info, info_named,
};
pub use taskloom_model::{
    CatchUp, Code, Error, Kind, Limit, LimitFor, LimitRow, Name, OnConflict, Options, Overlap, Priority,
    Rate, Result, RetryPolicy, Rule, ScheduleSpec, SetBy, State, TaskId, Template, Timestamp, Version,
    WaitingFor,
};
pub use taskloom_store::{Counts, Unserved};

/// The README's example, run as a test.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// The guide's examples, run as tests.
#[cfg(all(doctest, feature = "async"))]
#[doc = include_str!("../../../docs/rust.md")]
struct Guide;

/// The guide to the outbox; its examples in Rust, run as tests.
#[cfg(all(doctest, feature = "outbox-rusqlite", feature = "outbox-tokio-postgres"))]
#[doc = include_str!("../../../docs/outbox.md")]
struct OutboxGuide;
