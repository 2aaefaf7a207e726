//! Bugs that the simulator must find.
//!
//! A search that finds nothing proves little unless it would find something. So there are bugs that a test can plant, each at
//! the place where somebody could make it. They are compiled only with the feature `planted`, which nothing that is shipped
//! turns on; without it, [`is`] is false to the compiler. A bug is planted for the calling thread: the simulator has one.

/// A bug, and what goes wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Now and then a task that becomes eligible is put into no lane.
    LostWakeUp,
    /// A report is taken whoever owns the task: a late one ends it once more.
    DoubleFinish,
    /// A failure is the last one, whatever retries are left.
    MissedRetry,
    /// A delayed task is eligible five seconds before its time.
    EarlyStart,
    /// A unique key is given to whoever asks.
    IgnoredKey,
    /// What a dead process ran is given to nobody.
    ForgottenOwner,
    /// A failure does not count: the retries have no end.
    UncountedFailure,
    /// A schedule that has fired is due again for the same tick, every other time.
    DoubleFiring,
    /// One more runs at once than a limit allows.
    ExceededLimit,
}

#[cfg(feature = "planted")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Plants a bug for the calling thread, or takes it out.
#[cfg(feature = "planted")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Whether this bug is planted.
#[cfg(feature = "planted")]
pub fn is(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Whether this bug is planted.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn is(_: Bug) -> bool {
    false
}
