//! The processes that work on a store: who they are, what none of them serves, what they are heard of.

use taskloom_model::{Code, Error, OwnerId, Timestamp};

/// A process that works on a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its number.
    pub id: OwnerId,
    /// What it calls itself: host and process id.
    pub name: String,
    /// Its heartbeat counter. It is compared with its own earlier value only, never with a clock.
    pub beats: u64,
    /// Whether the store knows for certain that its process has ended.
    pub gone: bool,
}

/// Queued tasks of a handler that no process which works on the store has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unserved {
    /// The handler's name.
    pub name: String,
    /// How many there are.
    pub count: u64,
    /// Since when the first of them could have been run.
    pub since: Timestamp,
}

/// What a store has heard of other processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// One has changed something.
    pub changes: bool,
    /// One may have ended.
    pub deaths: bool,
}

/// What a process is told that acts as an owner which was struck off.
pub fn struck_off(owner: OwnerId) -> Error {
    Error::new(Code::LeaseLost, format!("owner {} was struck off", owner.get()))
        .hint("its heart stood still for too long, and its tasks went to others: join again")
}
