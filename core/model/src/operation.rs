//! What can be done to a task: a closed set.
//!
//! A store offers no other way to change a row. Each [`Operation`] goes through [`crate::apply`], which either
//! refuses it and leaves the row as it was, or changes the row and says in [`Effects`] what has to happen once the
//! change is committed.

use std::time::Duration;

use crate::{Bytes, Failure, LogLine, OwnerId, Progress, State, Timestamp, WaitingFor};

/// Who reports, and about which attempt. A report whose fence is not the row's is too late and is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fence {
    /// The process that claimed it.
    pub owner: OwnerId,
    /// The attempt that the claim began.
    pub attempt: u32,
}

/// A change of one task.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// A worker takes the queued task: the next attempt begins.
    Claim {
        /// The worker's process.
        owner: OwnerId,
    },
    /// The attempt's handler returned.
    Succeed {
        /// Whose attempt.
        fence: Fence,
        /// What it returned, encoded.
        result: Bytes,
        /// What it noted beside the result, encoded.
        metadata: Option<Box<[u8]>>,
    },
    /// The attempt's handler failed.
    Fail {
        /// Whose attempt.
        fence: Fence,
        /// With what.
        failure: Box<Failure>,
        /// Whether another attempt would be pointless.
        permanent: bool,
        /// The wait that the error asks for, instead of the backoff.
        retry_after: Option<Duration>,
        /// Uniform in `0..1`, for the jitter.
        chance: f64,
    },
    /// The attempt took longer than the task's timeout.
    TimeOut {
        /// Whose attempt.
        fence: Fence,
        /// Uniform in `0..1`, for the jitter.
        chance: f64,
    },
    /// The attempt stops and goes on later, at no cost: it waits for a signal, a sleep, a child.
    Suspend {
        /// Whose attempt.
        fence: Fence,
        /// What it waits for.
        waiting_for: WaitingFor,
        /// Until when at the latest.
        until: Option<Timestamp>,
    },
    /// The attempt met a limit from outside: its task, and all that have this key, wait, at no cost.
    Postpone {
        /// Whose attempt.
        fence: Fence,
        /// The key that waits.
        key: Box<str>,
        /// Until when.
        until: Timestamp,
    },
    /// The worker gives the task back unfinished, at no cost: its process shuts down.
    Release {
        /// Whose attempt.
        fence: Fence,
    },
    /// The handler tells how far it is.
    Progress {
        /// Whose attempt.
        fence: Fence,
        /// How far.
        progress: Progress,
    },
    /// The handler logs.
    Log {
        /// Whose attempt.
        fence: Fence,
        /// What.
        lines: Vec<LogLine>,
        /// How many lines came before these and were dropped on the way, since they would not have been kept.
        dropped: u32,
    },
    /// The handler submits a child, which is inserted in the same commit.
    Spawn {
        /// Whose attempt.
        fence: Fence,
        /// Which of its children, from 0.
        ordinal: u32,
    },
    /// The handler saves where the next attempt can go on from; `None` clears it.
    Checkpoint {
        /// Whose attempt.
        fence: Fence,
        /// What it saves, encoded.
        value: Option<Box<[u8]>>,
    },
    /// The worker's process is dead.
    Lose {
        /// The dead process.
        owner: OwnerId,
    },
    /// The worker that ran this very attempt has died, and its process lives: a child process, say.
    Crash {
        /// Whose attempt.
        fence: Fence,
        /// What it died of.
        cause: Box<str>,
    },
    /// A time of the task has come: its eta, the end of its backoff or sleep, its expiry, its deadline.
    Elapse,
    /// What the task waits for came before its time: a signal, or room under its key.
    Wake,
    /// An operator wants it to run now, whatever time it waits for.
    Hasten,
    /// The limit of the task's key is reached: it steps back from the queue.
    CloseKey {
        /// When there may be room again.
        until: Option<Timestamp>,
    },
    /// A task that this one depends on ended.
    DependencyEnded {
        /// How.
        state: State,
    },
    /// Somebody does not want it any more.
    Cancel {
        /// Why.
        reason: Option<Box<str>>,
    },
    /// It need not run.
    Skip {
        /// Why.
        reason: Option<Box<str>>,
    },
    /// An operator gives it a result by hand.
    Resolve {
        /// The result, encoded.
        result: Bytes,
    },
    /// An operator starts it over: a new generation.
    Replay,
}

impl Operation {
    /// Its name, for messages and traces.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Claim { .. } => "claim",
            Self::Succeed { .. } => "succeed",
            Self::Fail { .. } => "fail",
            Self::TimeOut { .. } => "time out",
            Self::Suspend { .. } => "suspend",
            Self::Postpone { .. } => "postpone",
            Self::Release { .. } => "release",
            Self::Progress { .. } => "progress",
            Self::Log { .. } => "log",
            Self::Spawn { .. } => "spawn",
            Self::Checkpoint { .. } => "checkpoint",
            Self::Lose { .. } => "lose",
            Self::Crash { .. } => "crash",
            Self::Elapse => "elapse",
            Self::Wake => "wake",
            Self::Hasten => "hasten",
            Self::CloseKey { .. } => "close key",
            Self::DependencyEnded { .. } => "dependency ended",
            Self::Cancel { .. } => "cancel",
            Self::Skip { .. } => "skip",
            Self::Resolve { .. } => "resolve",
            Self::Replay => "replay",
        }
    }

    /// The fence of a report.
    pub const fn fence(&self) -> Option<Fence> {
        match self {
            Self::Succeed { fence, .. }
            | Self::Fail { fence, .. }
            | Self::TimeOut { fence, .. }
            | Self::Suspend { fence, .. }
            | Self::Postpone { fence, .. }
            | Self::Release { fence }
            | Self::Crash { fence, .. }
            | Self::Progress { fence, .. }
            | Self::Log { fence, .. }
            | Self::Spawn { fence, .. }
            | Self::Checkpoint { fence, .. } => Some(*fence),
            Self::Claim { .. }
            | Self::Lose { .. }
            | Self::Elapse
            | Self::Wake
            | Self::Hasten
            | Self::CloseKey { .. }
            | Self::DependencyEnded { .. }
            | Self::Cancel { .. }
            | Self::Skip { .. }
            | Self::Resolve { .. }
            | Self::Replay => None,
        }
    }
}

/// What follows from a change, once it is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effects {
    /// Where the task was; `None` if it is new.
    pub from: Option<State>,
    /// Where it is.
    pub to: State,
    /// Whose attempt it left, if it was running: that worker must hear of it unless it is the one that reported.
    pub left: Option<Fence>,
    /// When its next time comes.
    pub due: Option<Timestamp>,
}

impl Effects {
    /// Whether the task changed its state.
    pub fn moved(&self) -> bool {
        self.from != Some(self.to)
    }

    /// Whether the task has just become eligible.
    pub fn ready(&self) -> bool {
        self.moved() && self.to == State::Queued
    }

    /// What a replay did to the task that had ended: nothing. It is its new generation that moved.
    #[must_use]
    pub fn as_replayed(self) -> Self {
        Self { to: self.from.unwrap_or(self.to), left: None, due: None, ..self }
    }

    /// Whether the task has just ended.
    pub fn finished(&self) -> bool {
        self.moved() && self.to.is_terminal()
    }
}
