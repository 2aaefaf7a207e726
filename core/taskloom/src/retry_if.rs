//! Whether an error is worth another attempt: a handler's own function of it.
//!
//! It is called where the handler ran, between its end and the report of it. A function that panics decides nothing.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::helpers::guarded;
use crate::{Context, TaskError};

/// What the function given to [`TaskRegistration::retry_if`](crate::TaskRegistration::retry_if) says of an error. A
/// `bool` and a [`Duration`] become one.
///
/// ```
/// use std::time::Duration;
/// use taskloom::Again;
///
/// assert_eq!(Again::from(true), Again::Yes);
/// assert_eq!(Again::from(false), Again::No);
/// assert_eq!(Again::from(Duration::from_secs(30)), Again::After(Duration::from_secs(30)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// Another attempt, after the wait that the retry policy gives.
    Yes,
    /// None: the task fails for good, whatever retries are left.
    No,
    /// Another attempt after so long; the policy's cap does not apply.
    After(Duration),
}

impl From<bool> for Again {
    fn from(worth_it: bool) -> Self {
        if worth_it { Self::Yes } else { Self::No }
    }
}

impl From<Duration> for Again {
    fn from(wait: Duration) -> Self {
        Self::After(wait)
    }
}

type Function = dyn Fn(&TaskError, u32) -> Again + Send + Sync;

/// A user's function.
pub(crate) struct RetryIf {
    /// Whether a panic of it has been told.
    told: AtomicBool,
    call: Box<Function>,
}

/// Where a handler, which is built before its options are said, finds its function once it is registered.
pub(crate) type RetryIfSlot = Arc<OnceLock<RetryIf>>;

impl RetryIf {
    pub(crate) fn new<A: Into<Again>>(
        function: impl Fn(&TaskError, u32) -> A + Send + Sync + 'static,
    ) -> Self {
        let call = move |error: &TaskError, failures| function(error, failures).into();
        Self { told: AtomicBool::new(false), call: Box::new(call) }
    }

    /// The error with what is to follow from it. One that says so itself is left as it is, and so is one that nothing
    /// more can follow from.
    pub(crate) fn judge(&self, context: &Context, error: TaskError) -> TaskError {
        let is_settled = error.is_permanent() || error.delay().is_some();
        if is_settled || !context.has_retries() || context.is_cancelled() {
            return error;
        }
        let mut again = Again::Yes;
        let failures = context.failures().saturating_add(1);
        let what = || format!("the retry_if of handler {:?}", context.name());
        guarded(&self.told, what, || again = (self.call)(&error, failures));
        match again {
            Again::Yes => error,
            Again::No => error.made_permanent(),
            Again::After(wait) => error.retry_after(wait),
        }
    }
}
