//! What a handler fails with.

use std::any::Any;
use std::error::Error as StdError;
use std::time::{Duration, SystemTime};

use taskloom_engine::{Failed, Outcome};
use taskloom_model::{Code, Error};

use crate::time::{timestamp, until};

/// Why a handler failed, and what should follow from it.
///
/// Any standard error becomes one with `?`, and is retried while retries are left:
///
/// ```
/// use std::time::Duration;
/// use taskloom::{Context, TaskError};
///
/// fn parse(text: String, _: &Context) -> Result<u32, TaskError> {
///     let number: u32 = text.trim().parse()?; // kind: core::num::error::ParseIntError
///     match number {
///         0 => Err(TaskError::permanent("zero will not become better").of_kind("Zero")),
///         1..10 => Err(TaskError::new("the service is busy").retry_after(Duration::from_secs(30))),
///         _ => Ok(number),
///     }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct TaskError(Failed, Option<String>);

/// How long a key is put off that nobody says a time for.
const POSTPONED: Duration = Duration::from_secs(30);

impl TaskError {
    /// An error that is retried while retries are left. Its kind is `TaskError`, unless [`TaskError::of_kind`] names
    /// another.
    pub fn new(message: impl Into<String>) -> Self {
        Self(
            Failed {
                kind: "TaskError".into(),
                message: message.into(),
                backtrace: String::new(),
                permanent: false,
                retry_after: None,
            },
            None,
        )
    }

    /// An error after which another attempt would be pointless: the task fails at once, whatever retries are left.
    ///
    /// ```
    /// assert!(taskloom::TaskError::permanent("no such account").is_permanent());
    /// ```
    pub fn permanent(message: impl Into<String>) -> Self {
        Self::new(message).made_permanent()
    }

    /// Asks for the next attempt after a [`Duration`] or at a [`SystemTime`], instead of the backoff, whose cap does
    /// not apply. A time that is past means at once. It costs a retry, as any failure does.
    ///
    /// ```
    /// use std::time::{Duration, SystemTime};
    /// use taskloom::TaskError;
    ///
    /// let error = TaskError::new("busy").retry_after(Duration::from_secs(30));
    /// assert_eq!(error.delay(), Some(Duration::from_secs(30)));
    /// let error = TaskError::new("busy").retry_after(SystemTime::UNIX_EPOCH);
    /// assert_eq!(error.delay(), Some(Duration::ZERO));
    /// ```
    #[must_use]
    pub fn retry_after(mut self, when: impl Into<RetryAfter>) -> Self {
        self.0.retry_after = Some(match when.into() {
            RetryAfter::In(span) => span,
            RetryAfter::At(time) => until(timestamp(time)),
        });
        self
    }

    /// Puts off, until the time that [`TaskError::retry_after`] says (30 s if it says none), all tasks that have this
    /// key, and this one too, at no cost: for what somebody else's limit has refused.
    ///
    /// ```
    /// use std::time::Duration;
    /// use taskloom::TaskError;
    ///
    /// let error = TaskError::new("429 Too Many Requests").retry_after(Duration::from_secs(60)).postponing("payments");
    /// assert_eq!(error.postpones(), Some("payments"));
    /// ```
    #[must_use]
    pub fn postponing(mut self, key: &str) -> Self {
        self.1 = Some(key.to_owned());
        self
    }

    /// The key that it puts off.
    pub fn postpones(&self) -> Option<&str> {
        self.1.as_deref()
    }

    /// Names its type, for those who look at the task and for retry rules.
    #[must_use]
    pub fn of_kind(mut self, kind: &str) -> Self {
        self.0.kind = kind.to_owned();
        self
    }

    /// Its type, as those see it who look at the task.
    pub fn kind(&self) -> &str {
        &self.0.kind
    }

    /// Its message.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Whether another attempt would be pointless.
    pub fn is_permanent(&self) -> bool {
        self.0.permanent
    }

    /// The wait that it asks for, if it asks for one.
    pub fn delay(&self) -> Option<Duration> {
        self.0.retry_after
    }

    pub(crate) fn made_permanent(mut self) -> Self {
        self.0.permanent = true;
        self
    }

    pub(crate) fn into_outcome(self) -> Outcome {
        match self.1 {
            Some(key) => Outcome::Postponed { key, wait: self.0.retry_after.unwrap_or(POSTPONED) },
            None => Outcome::Failed(self.0),
        }
    }
}

impl std::fmt::Display for TaskError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.0.kind, self.0.message)
    }
}

/// Any standard error. Its causes are kept in the place of the backtrace. (`TaskError` itself is no standard error, or
/// there could be no such conversion.)
impl<E: StdError + 'static> From<E> for TaskError {
    fn from(error: E) -> Self {
        let own = (&error as &dyn Any).downcast_ref::<Error>();
        let kind = match own {
            Some(error) => format!("{:?}", error.kind()),
            None => std::any::type_name::<E>().to_owned(),
        };
        let mut this = Self::new(error.to_string()).of_kind(&kind);
        // What is wrong with the handler's code or options is as wrong in the next attempt.
        this.0.permanent = own.is_some_and(|error| error.code() == Code::WouldDeadlock);
        let mut cause = error.source();
        while let Some(error) = cause {
            this.0.backtrace.push_str(&format!("caused by: {error}\n"));
            cause = error.source();
        }
        this
    }
}

/// When the next attempt is wanted: a [`Duration`] from now, or a [`SystemTime`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    /// So long from now.
    In(Duration),
    /// At this time.
    At(SystemTime),
}

impl From<Duration> for RetryAfter {
    fn from(span: Duration) -> Self {
        Self::In(span)
    }
}

impl From<SystemTime> for RetryAfter {
    fn from(time: SystemTime) -> Self {
        Self::At(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_errors_keep_their_type_and_causes() {
        let cause = "x".parse::<u8>().unwrap_err();
        let error = TaskError::from(std::io::Error::other(cause.clone()));
        assert_eq!(error.kind(), "std::io::error::Error");
        let error = TaskError::from(Error::new(Code::StoreFailed, "no disk").caused_by(cause));
        assert_eq!((error.kind(), error.is_permanent()), ("StoreError", false));
        assert_eq!(error.0.backtrace, "caused by: invalid digit found in string\n");
        assert_eq!(error.to_string(), "StoreError: no disk");
    }
}
