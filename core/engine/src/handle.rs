//! What a submitter holds: a way to look at its task, to wait for it, and to cancel it.

use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use taskloom_model::{Code, Error, Result, State, TaskId};
use taskloom_store::Task;
use taskloom_sync::Spin;

use crate::core::Core;
use crate::needed::Needed;
use crate::{driver, edge, worker};

thread_local! {
    /// How waiting threads have fared with spinning.
    static SPIN: RefCell<Spin> = const { RefCell::new(Spin::new()) };
}

/// A submitted task. Dropping it leaves the task alone; holding it keeps the task's own outcome, even after the
/// engine is gone.
#[derive(Clone)]
pub struct Handle {
    task: Arc<Task>,
    core: Weak<Core>,
}

impl Handle {
    pub(crate) fn new(task: Arc<Task>, core: &Arc<Core>) -> Self {
        Self { task, core: Arc::downgrade(core) }
    }

    /// For whoever must not keep the engine alive until it knows the task.
    pub(crate) fn weak(task: Arc<Task>, core: Weak<Core>) -> Self {
        Self { task, core }
    }

    /// For a task whose engine is gone.
    pub fn of_nobody(task: Arc<Task>) -> Self {
        Self { task, core: Weak::new() }
    }

    pub(crate) fn core(&self) -> Option<Arc<Core>> {
        self.core.upgrade()
    }

    pub(crate) fn is_of(&self, core: &Arc<Core>) -> bool {
        Weak::as_ptr(&self.core) == Arc::as_ptr(core)
    }

    /// The task's id.
    pub fn id(&self) -> TaskId {
        self.task.id()
    }

    /// The task.
    pub fn task(&self) -> &Arc<Task> {
        &self.task
    }

    /// Where the task is in its life, as last committed.
    pub fn state(&self) -> State {
        self.task.state()
    }

    /// Whether there is an outcome.
    pub fn is_done(&self) -> bool {
        self.task.is_settled()
    }

    /// Blocks until there is an outcome, or for as long as `timeout`; whether there is one.
    ///
    /// On a worker thread, its place is lent to another while it waits, so a parent may wait for its child on a pool
    /// of one. Refused with `WouldDeadlock` if nobody could ever run the task: a memory store's engine that was not
    /// started, and no timeout.
    ///
    /// If the engine is driven, this runs what is eligible, and then does not wait: a `timeout` is over at once, and
    /// without one `WouldDeadlock` says that the clock stands still.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        if self.task.is_settled() {
            return Ok(true);
        }
        if timeout.is_none() {
            self.check_waitable()?;
        } else {
            self.check_process()?;
        }
        if let Some(core) = self.core.upgrade()
            && let Some(driver) = &core.driver
        {
            return driver::wait_for(&core, driver, &self.task, timeout.is_some());
        }
        let spun = SPIN.with_borrow_mut(|spin| {
            let spun = spin.is_worth_it() && spin.until(|| self.task.is_settled());
            if !spun {
                spin.sleeps();
            }
            spun
        });
        if spun {
            return Ok(true);
        }
        self.expect();
        let deadline = timeout.map(edge::deadline_in);
        let wait = || match deadline {
            Some(Some(deadline)) => self.task.wait_until(deadline),
            // A timeout beyond what a clock can tell is none.
            Some(None) | None => {
                self.task.wait();
                true
            }
        };
        let settled = self.lending(wait);
        SPIN.with_borrow_mut(Spin::ended);
        Ok(settled)
    }

    /// Sees to it that the task settles here, whichever process of a shared store ends it.
    fn expect(&self) {
        if let Some(core) = self.core.upgrade() {
            core.others.expect(&core, &self.task);
        }
    }

    /// Calls `observer` once when there is an outcome: on the thread that settles the task, or here if there is one. It
    /// must not block.
    pub fn observe(&self, observer: impl FnOnce(&Arc<Task>) + Send + 'static) {
        self.task.observe(observer);
        self.expect();
    }

    /// Whether another process may have changed the task since this one heard of it.
    pub fn may_be_stale(&self) -> bool {
        !self.task.is_settled() && self.core.upgrade().is_some_and(|core| !core.capability.resident)
    }

    /// Looks at the store, if other processes share it, so that what the task shows is what is stored. What this process
    /// runs or ended itself is shown at once without it. A store that cannot be read leaves things as they are.
    pub fn refresh(&self) {
        if let Some(core) = self.core.upgrade()
            && core.check_process().is_ok()
        {
            crate::others::refresh(&core, &self.task);
        }
    }

    /// Runs a wait that ends when this task ends, at the latest. On a worker thread, its place is lent meanwhile.
    pub fn lending<T>(&self, wait: impl FnOnce() -> T) -> T {
        match worker::here() {
            Some((home, number)) => home.core.pool.lend(&home.core, number, Some(&self.task), wait),
            None => wait(),
        }
    }

    /// An attempt of its engine waits for this task, and not on a worker thread: until the guard is dropped the task is
    /// run, even while the engine drains, and comes before others that this process could run. `None` if its engine is gone.
    /// It may have to wait for the disk if the engine drains already.
    pub fn needed(&self) -> Option<Needed> {
        Some(Needed::new(&self.core.upgrade()?, &self.task))
    }

    /// Whether its engine is [driven](crate::Drive::Driven): a wait runs what can be run, on the calling thread, and
    /// does not wait for anything else.
    pub fn is_driven(&self) -> bool {
        self.core.upgrade().is_some_and(|core| core.driver.is_some())
    }

    /// Refuses whatever is asked of an engine in the process that this one was forked from.
    pub fn check_process(&self) -> Result<()> {
        self.core.upgrade().map_or(Ok(()), |core| core.check_process())
    }

    /// Refuses a wait that would have no end: for a task of a memory store whose engine was not started, or of an
    /// engine in the process that this one was forked from.
    pub fn check_waitable(&self) -> Result<()> {
        let Some(core) = self.core.upgrade() else { return Ok(()) };
        core.check_process()?;
        if core.committer.is_here(&core) || core.timers.is_here() || core.others.is_here() {
            let message = format!(
                "an observer may not wait for task {}: it is called on the thread that would end it",
                self.id()
            );
            return Err(Error::new(Code::WouldDeadlock, message)
                .hint("observe that task too, or wait on another thread"));
        }
        if core.capability.resident && !core.pool.was_started() && core.is_open()
            // One that runs was begun by hand, and one that has just ended will be settled.
            && !self.task.is_settled() && !(self.state() == State::Running || self.state().is_terminal())
        {
            let id = self.id();
            let message = format!(
                "task {id} would never end: its engine was not started, and no other process sees its store"
            );
            return Err(Error::new(Code::WouldDeadlock, message)
                .hint("start the engine first (in Python: `with app:` or app.start())"));
        }
        Ok(())
    }

    /// Cancels the task. True if it was or will be cancelled, false if it had ended, or its engine has.
    ///
    /// Errors: `StoreFailed` if the store cannot be written.
    pub fn cancel(&self, reason: Option<&str>) -> Result<bool> {
        let Some(core) = self.core.upgrade() else { return Ok(false) };
        core.cancel_at_hand(&self.task, reason)
    }

    /// What came of the task, if it has ended.
    ///
    /// `Ok` is what the handler returned, encoded. The errors are those of the task: `TaskFailed`, `TaskTimedOut`,
    /// `TaskCancelled`, `TaskExpired`, or `ShutDown` if its engine stopped before it ended; `WaitTimeout` if it has not
    /// ended yet.
    pub fn outcome(&self) -> Result<Box<[u8]>> {
        let mut bytes = Vec::new();
        self.read_outcome(&mut bytes)?;
        Ok(bytes.into_boxed_slice())
    }

    /// Like [`Handle::outcome`], but appends what the handler returned to `bytes`, which the caller can use again.
    pub fn read_outcome(&self, bytes: &mut Vec<u8>) -> Result<()> {
        let id = self.id();
        let name = self.task.spec().name;
        let settled = self.task.is_settled();
        self.task.with_row(|row| {
            let reason = || row.history.as_ref().and_then(|history| history.reason.as_deref());
            let last = |otherwise: &str| match row.errors().last() {
                Some(failure) if !failure.kind.is_empty() => format!("{}: {}", failure.kind, failure.message),
                _ => otherwise.to_owned(),
            };
            let error = match row.state {
                State::Succeeded => {
                    bytes.extend_from_slice(row.result.as_deref().unwrap_or_default());
                    return Ok(());
                }
                State::Skipped => {
                    bytes.extend_from_slice(b"null");
                    return Ok(());
                }
                State::Failed => {
                    Error::new(Code::TaskFailed, format!("{name} failed: {}", last("no error was kept")))
                }
                State::TimedOut => Error::new(
                    Code::TaskTimedOut,
                    format!(
                        "{name} timed out: {}",
                        row.errors().last().map_or("it took too long", |failure| failure.message.as_str())
                    ),
                ),
                State::Cancelled => Error::new(
                    Code::TaskCancelled,
                    match reason() {
                        Some(reason) => format!("{name} was cancelled: {reason}"),
                        None => format!("{name} was cancelled"),
                    },
                ),
                State::Expired => {
                    Error::new(Code::TaskExpired, format!("{name} was not started before it expired"))
                }
                _ if settled && let Some(lost) = self.core.upgrade().and_then(|core| core.absence.lost()) => {
                    lost
                }
                _ if settled && self.core.upgrade().is_some_and(|core| !core.is_stopped()) => Error::new(
                    Code::UnknownTask,
                    format!("{name} has ended, and was forgotten before anybody here had heard how"),
                )
                .hint("another process swept it: let it keep ended tasks for longer (retention)"),
                state if settled => Error::new(
                    Code::ShutDown,
                    format!("the engine stopped while {name} was {state}; there will be no result here"),
                ),
                state => Error::new(Code::WaitTimeout, format!("{name} has not ended: it is {state}")),
            };
            Err(error.with("task", id))
        })
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({} {} {})", self.id(), self.task.spec().name, self.state())
    }
}
