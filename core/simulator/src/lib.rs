//! Days of Taskloom in a moment.
//!
//! [`simulate`] runs one seed: engines as they are shipped, driven on one thread by one virtual clock, over a store that they
//! share ([`disk`]), with a load of tasks and with faults, both by the seed ([`plan`], [`world`]). A [`checker`] sees every
//! change that the store makes, and knows the rules (docs/architecture.md, "How it is tested") but nothing of the engine or of
//! the model. Everything that happens goes into a [`trace`], whose hash tells whether two runs were the same.
//!
//! | module | owns |
//! | --- | --- |
//! | `plan` | what a seed stands for: how many processes, tasks, faults |
//! | `process` | one process: its engine, and what its handlers do |
//! | `world` | the processes, and what happens to them |
//! | `disk`, `copies` | the store: rows that outlive processes, and connections that can fail or be cut |
//! | `checker` | the rules |
//! | `trace` | what happened, as a hash and as the last lines |
//!
//! This crate is for development only: nothing that is shipped depends on it.
#![forbid(unsafe_code)]

pub mod checker;
mod copies;
pub mod disk;
pub mod plan;
mod process;
pub mod trace;
pub mod world;

pub use plan::Plan;
pub use world::{Report, simulate};
