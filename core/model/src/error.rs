//! One error for the whole core.
//!
//! A [`Code`] is the stable thing: documented in `docs/errors.md`, the same in every language and over HTTP. Codes
//! belong to a [`Kind`], and a kind is what a language makes a class of. The table below is the only place where a
//! code is written down.

use std::error::Error as StdError;
use std::fmt;

/// A result whose error is Taskloom's.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in one word: each language has a class for each of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An option, a registration or a URL is wrong, or not available yet.
    InvalidOptions,
    /// No such handler.
    UnknownHandler,
    /// The payload cannot be encoded, or does not fit the handler.
    InvalidPayload,
    /// The payload or the result is over the limit.
    PayloadTooLarge,
    /// The queue has no room.
    QueueFull,
    /// A task with this id or unique key exists.
    Duplicate,
    /// A move that the table of states does not have.
    IllegalTransition,
    /// The attempt that reports no longer owns its task.
    LeaseLost,
    /// A handler went away without an outcome.
    HandlerLost,
    /// The store cannot be read or written.
    StoreError,
    /// The engine has stopped, or lives in another process.
    ShutDown,
    /// The task failed.
    TaskFailed,
    /// The task took too long.
    TaskTimedOut,
    /// The task was cancelled.
    TaskCancelled,
    /// The task was not started in time.
    TaskExpired,
    /// The result is not there yet.
    WaitTimeout,
    /// A call that could only hang, or that asks for what does not exist.
    Misuse,
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident $text:literal $kind:ident $retryable:literal,)+) => {
        /// A stable code: what exactly went wrong. `docs/errors.md` has a paragraph for each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[doc = $doc])+ $variant,)+ }

        impl Code {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The code as users see it, such as `TL1203`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// The kind that it belongs to.
            pub const fn kind(self) -> Kind {
                match self { $(Self::$variant => Kind::$kind),+ }
            }

            /// Whether the same call can succeed later without a change.
            pub const fn is_retryable(self) -> bool {
                match self { $(Self::$variant => $retryable),+ }
            }
        }
    };
}

codes! {
    /// An option has a value that it cannot have.
    InvalidOption "TL1001" InvalidOptions false,
    /// An option that this version does not have yet.
    NotAvailable "TL1002" InvalidOptions false,
    /// A handler with this name is registered already.
    HandlerExists "TL1003" InvalidOptions false,
    /// A store URL that cannot be read.
    InvalidStoreUrl "TL1004" InvalidOptions false,
    /// The metadata lacks an entry that the app demands.
    MissingMetadata "TL1005" InvalidOptions false,
    /// A schedule that cannot be kept: an expression, a zone or an interval that makes no sense, or that never fires.
    InvalidSchedule "TL1008" InvalidOptions false,
    /// A type hint that cannot be converted from JSON.
    UnsupportedHint "TL1010" InvalidOptions false,
    /// A handler for child processes that a child could not find.
    NotImportable "TL1011" InvalidOptions false,
    /// No handler has this name.
    UnknownHandler "TL1101" UnknownHandler false,
    /// The arguments do not fit the handler's parameters.
    InvalidPayload "TL1201" InvalidPayload false,
    /// An argument that JSON cannot say.
    NotEncodable "TL1202" InvalidPayload false,
    /// An argument of the wrong type.
    WrongType "TL1203" InvalidPayload false,
    /// A result that JSON cannot say.
    ResultNotEncodable "TL1204" InvalidPayload false,
    /// More than 4 MiB of payload or result.
    PayloadTooLarge "TL1205" PayloadTooLarge false,
    /// As many unfinished tasks as the store may hold.
    QueueFull "TL1301" QueueFull true,
    /// A task with this unique key exists.
    DuplicateKey "TL1302" Duplicate false,
    /// A task with this id exists.
    DuplicateId "TL1303" Duplicate false,
    /// More tasks at once than the store may ever hold.
    BatchTooLarge "TL1304" Misuse false,
    /// A move that the table of states does not have.
    IllegalTransition "TL1401" IllegalTransition false,
    /// The attempt that reports no longer owns its task.
    LeaseLost "TL1402" LeaseLost false,
    /// A handler went away without an outcome.
    HandlerLost "TL1403" HandlerLost false,
    /// The store could not be read or written.
    StoreFailed "TL1501" StoreError true,
    /// The file is not a Taskloom database.
    NotADatabase "TL1502" StoreError false,
    /// A newer version of Taskloom wrote the store.
    NewerSchema "TL1503" StoreError false,
    /// A stored row does not make sense.
    CorruptRow "TL1504" StoreError false,
    /// The store cannot do this.
    NotSupported "TL1505" StoreError false,
    /// A store that was to be there already is not.
    NoStore "TL1506" StoreError false,
    /// A call that would wait for itself.
    WouldDeadlock "TL1601" Misuse false,
    /// No task has this id.
    UnknownTask "TL1602" Misuse false,
    /// The clock of an app that is not in testing mode.
    NotTesting "TL1603" Misuse false,
    /// The app is in use, and has to be stopped first.
    InUse "TL1604" Misuse false,
    /// No schedule has this name.
    UnknownSchedule "TL1608" Misuse false,
    /// A use of an app that makes no sense in a child process.
    InChild "TL1620" Misuse false,
    /// The engine has stopped.
    ShutDown "TL1701" ShutDown false,
    /// The engine lives in the process that this one was forked from.
    Forked "TL1702" ShutDown false,
    /// The task failed for good.
    TaskFailed "TL2001" TaskFailed false,
    /// The task's last attempt timed out, or its deadline passed.
    TaskTimedOut "TL2002" TaskTimedOut false,
    /// The task was cancelled.
    TaskCancelled "TL2003" TaskCancelled false,
    /// The task was not started by its expiry.
    TaskExpired "TL2004" TaskExpired false,
    /// The task has not ended yet.
    WaitTimeout "TL2005" WaitTimeout true,
}

/// What went wrong, with which value, and what to do instead.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    code: Code,
    message: String,
    hint: Option<String>,
    context: Vec<(&'static str, String)>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error with this code and a message that names the value at fault.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { code, message: message.into(), hint: None, context: Vec::new(), source: None }))
    }

    /// Adds what the reader can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds a fact, such as the id of the task.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((key, value.to_string()));
        self
    }

    /// Adds the error underneath.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The kind that the code belongs to.
    pub fn kind(&self) -> Kind {
        self.0.code.kind()
    }

    /// What went wrong, without the hint.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What to do about it.
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// Facts beside the message.
    pub fn context(&self) -> &[(&'static str, String)] {
        &self.0.context
    }

    /// A copy to hand to a second waiter; the source is carried over as text.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self(Box::new(Inner {
            code: self.0.code,
            message: self.0.message.clone(),
            hint: self.0.hint.clone(),
            context: self.0.context.clone(),
            source: self.0.source.as_ref().map(|source| source.to_string().into()),
        }))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        match &self.0.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_are_unique_and_documented() {
        let page = include_str!("../../../docs/errors.md");
        let mut seen = HashSet::new();
        for code in Code::ALL {
            assert!(seen.insert(code.as_str()), "{} is used twice", code.as_str());
            let heading = format!("## {} {code:?}\n", code.as_str());
            assert!(page.contains(&heading), "docs/errors.md has no heading {heading:?}");
        }
        let headings = page.lines().filter(|line| line.starts_with("## TL")).count();
        assert_eq!(headings, Code::ALL.len(), "docs/errors.md has a code that does not exist");
    }

    #[test]
    fn shows_message_hint_and_source() {
        let error = Error::new(Code::UnknownHandler, "no handler \"emial\"")
            .hint("did you mean \"email\"?")
            .with("task", 7)
            .caused_by("underneath");
        assert_eq!(error.to_string(), "no handler \"emial\"\nhint: did you mean \"email\"?");
        assert_eq!(error.kind(), Kind::UnknownHandler);
        let twin = error.duplicate();
        assert_eq!(twin.context(), [("task", "7".to_owned())]);
        assert_eq!(twin.source().unwrap().to_string(), "underneath");
    }
}
