//! Taskloom's SQLite store: tasks in one file, shared by the processes of one machine.
//!
//! [`SqliteStore`] implements [`taskloom_store::Store`]. What was accepted is on disk before a call returns; how hard
//! that is meant is the caller's choice ([`Durability`]). Any number of processes may open the same file, and any SQL
//! client may read it while they work.

mod codec;
mod counting;
mod damage;
mod failure;
mod forks;
mod handlers;
mod holder;
mod limits;
mod listing;
mod locks;
mod news;
mod obstacle;
mod open;
mod presence;
mod raw_text;
mod rows;
mod schedules;
mod schema;
mod store;
mod sweeping;
mod tables;
mod turns;
mod view;
mod whereabouts;
mod write;

pub use store::{Durability, SqliteOptions, SqliteStore};
