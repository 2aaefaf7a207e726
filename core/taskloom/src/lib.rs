//! Taskloom for Rust: a task engine that lives in your process.
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
//! Name a file instead (`sqlite:tasks.db`), and a task that was accepted is on disk.
#![forbid(unsafe_code)]

mod app;
mod open;

pub use app::{App, AppBuilder, Context, Handle, Running, TaskBuilder, TaskError, TaskRegistration};
pub use open::{Durability, open_store};
pub use taskloom_engine::Stop;
pub use taskloom_model::{Code, Error, Kind, Priority, Result, RetryPolicy, State, TaskId};

/// The README's example, run as a test.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
