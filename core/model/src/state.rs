//! The states of a task, its priority, and what a pending task waits for.

use std::fmt;
use std::str::FromStr;

use crate::{Code, Error, nearest};

/// Makes a closed set of words: an enum whose variants have a stable number (in stores) and a stable text (in every
/// language, SQL and events). Anything else is an error, never a default.
macro_rules! words {
    ($(#[$meta:meta])* $vis:vis enum $name:ident ($what:literal) { $($(#[$doc:meta])* $variant:ident = $number:literal $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        $vis enum $name { $($(#[$doc])* $variant = $number,)+ }

        impl $name {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word for it in every language, in SQL and in events.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// The number for it in stores.
            pub const fn number(self) -> u8 {
                self as u8
            }

            /// The one with this number. An unknown number is an error: a newer version or damage wrote it.
            pub fn from_number(number: u8) -> Result<Self, Error> {
                match number {
                    $($number => Ok(Self::$variant),)+
                    other => Err(Error::new(Code::CorruptRow, format!("{} {other} in the store is not known", $what))
                        .hint("a newer version of Taskloom may have written it: upgrade this process")),
                }
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                Self::ALL.iter().copied().find(|word| word.as_str() == text).ok_or_else(|| {
                    let words: Vec<_> = Self::ALL.iter().map(|word| word.as_str()).collect();
                    let hint = match nearest(text, words.iter().copied()) {
                        Some(near) => format!("did you mean {near:?}?"),
                        None => format!("use one of: {}", words.join(", ")),
                    };
                    Error::new(Code::InvalidOption, format!("{} {text:?} is not known", $what)).hint(hint)
                })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// Where a task is in its life. [`crate::transition`] has the moves between them.
    pub enum State ("state") {
        /// Accepted, not eligible yet; [`WaitingFor`] says why.
        Pending = 0 "pending",
        /// Eligible: a worker may claim it.
        Queued = 1 "queued",
        /// A worker has claimed it.
        Running = 2 "running",
        /// Failed, and waits for its backoff before it is tried again.
        Retrying = 3 "retrying",
        /// Its handler returned.
        Succeeded = 4 "succeeded",
        /// Its retries are spent, or its error was permanent.
        Failed = 5 "failed",
        /// Its last attempt took too long, or its deadline passed.
        TimedOut = 6 "timed_out",
        /// Somebody cancelled it.
        Cancelled = 7 "cancelled",
        /// It was not started by its expiry.
        Expired = 8 "expired",
        /// A workflow decided that it need not run.
        Skipped = 9 "skipped",
    }
}

impl State {
    /// Whether no worker will touch the task any more.
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Pending | Self::Queued | Self::Running | Self::Retrying => false,
            Self::Succeeded
            | Self::Failed
            | Self::TimedOut
            | Self::Cancelled
            | Self::Expired
            | Self::Skipped => true,
        }
    }

    /// Whether it is a dead letter's: the task has ended, and not as it should have. Those can be replayed.
    pub const fn is_dead(self) -> bool {
        matches!(self, Self::Failed | Self::TimedOut | Self::Cancelled | Self::Expired)
    }
}

words! {
    /// What a pending task waits for.
    pub enum WaitingFor ("waiting_for") {
        /// Nothing: it is not pending.
        Nothing = 0 "nothing",
        /// The time it was submitted for.
        Eta = 1 "eta",
        /// Tasks that it depends on.
        Dependencies = 2 "dependencies",
        /// A signal from outside.
        Signal = 3 "signal",
        /// The end of a sleep inside a workflow.
        Sleep = 4 "sleep",
        /// Room under its key's limit.
        Key = 5 "key",
    }
}

words! {
    /// Which of the eligible tasks of a queue goes first.
    #[derive(Default)]
    pub enum Priority ("priority") {
        /// After everything else.
        Low = 0 "low",
        /// Unless said otherwise.
        #[default]
        Normal = 1 "normal",
        /// Before normal ones.
        High = 2 "high",
        /// Before everything else.
        Critical = 3 "critical",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_numbers_go_round() {
        for state in State::ALL {
            assert_eq!(State::from_number(state.number()).unwrap(), *state);
            assert_eq!(state.as_str().parse::<State>().unwrap(), *state);
        }
        assert_eq!(State::from_number(77).unwrap_err().code(), Code::CorruptRow);
        let error = "suceeded".parse::<State>().unwrap_err();
        assert_eq!(error.to_string(), "state \"suceeded\" is not known\nhint: did you mean \"succeeded\"?");
    }
}
