//! The one function that changes a task.
//!
//! [`apply`] is given an operation, a task and the time. It either refuses and leaves the row exactly as it was, or
//! changes the row and returns what follows. It does nothing else, so a store can call it inside a transaction that
//! may still be rolled back, and a test can call it a million times.
//!
//! Three rules hold for every operation:
//! * every change of state goes through the table in [`crate::transition`];
//! * a report about an attempt must carry that attempt's fence, or it is `LeaseLost`;
//! * a task that has ended is never changed but by an operator.

use std::time::Duration;

use crate::planted::{self, Bug};
use crate::transition::{Rule, check};
use crate::{
    Code, Effects, Error, Failure, Fence, Operation, OwnerId, Returned, Row, Spec, State, Timestamp,
    WaitingFor,
};

/// Applies one operation to a task at `now`.
pub fn apply(operation: Operation, spec: &Spec, row: &mut Row, now: Timestamp) -> Result<Effects, Error> {
    apply_here(operation, spec, row, now)
}

/// The same, compiled into its caller: where that says which operation it is, what is left is what that one takes. For
/// the two that every task goes through.
#[inline(always)]
pub fn apply_here(
    operation: Operation,
    spec: &Spec,
    row: &mut Row,
    now: Timestamp,
) -> Result<Effects, Error> {
    if let Some(fence) = operation.fence()
        && !planted::is(Bug::DoubleFinish)
    {
        check_fence(&operation, fence, spec, row)?;
    }
    let from = row.state;
    let task = Subject { spec, row, now, from, left: None };
    task.run(operation)
}

/// When the next time of a task comes, at which it must be told to [`Operation::Elapse`]. The timeout of a running
/// attempt is not among them: its own process watches that.
#[inline]
pub fn next_due(spec: &Spec, row: &Row) -> Option<Timestamp> {
    let eligible = match (row.state, row.waiting_for) {
        (State::Retrying, _) => Some(row.eligible),
        (State::Pending, WaitingFor::Eta | WaitingFor::Sleep | WaitingFor::Key | WaitingFor::Signal) => {
            (row.eligible != Timestamp::MAX).then_some(row.eligible)
        }
        _ => None,
    };
    let expires = match row.state {
        State::Pending | State::Queued | State::Retrying => live(spec.expires(), row),
        _ => None,
    };
    let deadline = if row.state.is_terminal() { None } else { live(spec.deadline(), row) };
    [eligible, expires, deadline].into_iter().flatten().min()
}

/// An expiry or deadline that counts: a replay leaves those behind it that had passed.
fn live(time: Option<Timestamp>, row: &Row) -> Option<Timestamp> {
    let replayed = row.history.as_ref().and_then(|history| history.replayed);
    time.filter(|time| replayed.is_none_or(|replayed| *time > replayed))
}

#[inline]
fn check_fence(operation: &Operation, fence: Fence, spec: &Spec, row: &Row) -> Result<(), Error> {
    if row.state == State::Running && row.owner == Some(fence.owner) && row.attempt == fence.attempt {
        return Ok(());
    }
    Err(lost(operation.name(), fence, spec, row))
}

#[cold]
fn lost(report: &str, fence: Fence, spec: &Spec, row: &Row) -> Error {
    Error::new(
        Code::LeaseLost,
        format!(
            "attempt {} of task {} may not {report}: the task is {} and its attempt is {}",
            fence.attempt, spec.id, row.state, row.attempt
        ),
    )
    .hint("the task was cancelled, timed out, or went to another worker while this attempt ran")
}

/// A task in the middle of an operation.
struct Subject<'a> {
    spec: &'a Spec,
    row: &'a mut Row,
    now: Timestamp,
    from: State,
    left: Option<Fence>,
}

impl Subject<'_> {
    #[inline(always)]
    fn run(mut self, operation: Operation) -> Result<Effects, Error> {
        match operation {
            Operation::Claim { owner } => self.claim(owner)?,
            Operation::Succeed { result, metadata, .. } => {
                self.go(State::Succeeded)?;
                self.row.result = result.into();
                if metadata.is_some() {
                    self.row.history_mut().result_metadata = metadata;
                }
            }
            Operation::Fail { failure, permanent, retry_after, chance, .. } => {
                self.fail(*failure, permanent, retry_after, chance, State::Failed)?;
            }
            Operation::TimeOut { chance, .. } => self.time_out(chance)?,
            Operation::Suspend { waiting_for, until, .. } => {
                self.go(State::Pending)?;
                self.row.waiting_for = waiting_for;
                self.row.eligible = until.unwrap_or(Timestamp::MAX);
            }
            Operation::Postpone { until, .. } => {
                self.go(State::Pending)?;
                self.row.waiting_for = WaitingFor::Key;
                self.row.eligible = until;
            }
            Operation::Release { .. } => self.queue()?,
            Operation::Progress { progress, .. } => self.row.history_mut().add_progress(progress),
            Operation::Log { lines, dropped, .. } => {
                let history = self.row.history_mut();
                history.log_dropped = history.log_dropped.saturating_add(dropped);
                history.add_lines(lines);
            }
            Operation::Spawn { ordinal, .. } => {
                let history = self.row.history_mut();
                history.children = history.children.max(ordinal.saturating_add(1));
            }
            Operation::Checkpoint { value, .. } => self.row.history_mut().checkpoint = value,
            Operation::Lose { owner } => {
                if self.row.state == State::Running && self.row.owner == Some(owner) {
                    self.crash(None)?;
                }
            }
            Operation::Crash { cause, .. } => self.crash(Some(&cause))?,
            Operation::Elapse => self.elapse()?,
            Operation::Wake => self.wake()?,
            Operation::Hasten => self.hasten()?,
            Operation::CloseKey { until } => {
                self.go(State::Pending)?;
                self.row.waiting_for = WaitingFor::Key;
                self.row.eligible = until.unwrap_or(Timestamp::MAX);
            }
            Operation::DependencyEnded { state } => self.dependency_ended(state)?,
            Operation::Cancel { reason } => {
                if !self.from.is_terminal() {
                    self.go(State::Cancelled)?;
                    self.note(reason);
                }
            }
            Operation::Skip { reason } => {
                // A task that has not begun is skipped in the course of things, one that has ended only by hand.
                let by = if self.from.is_terminal() { Rule::Operator } else { Rule::Engine };
                self.move_to(State::Skipped, by)?;
                self.note(reason);
            }
            Operation::Resolve { result } => {
                self.move_to(State::Succeeded, Rule::Operator)?;
                self.row.result = result.into();
            }
            Operation::Replay => self.replay()?,
        }
        if !self.from.is_terminal() || self.row.state != self.from {
            self.row.updated = self.now;
        }
        Ok(Effects {
            from: Some(self.from),
            to: self.row.state,
            left: self.left,
            due: next_due(self.spec, self.row),
        })
    }

    /// Moves to another state as the engine, or refuses and changes nothing.
    #[inline]
    fn go(&mut self, to: State) -> Result<(), Error> {
        self.move_to(to, Rule::Engine)
    }

    #[inline]
    fn move_to(&mut self, to: State, by: Rule) -> Result<(), Error> {
        check(Some(self.row.state), to, by).map_err(|error| error.with("task", self.spec.id))?;
        if self.row.state == State::Running {
            self.left = self.row.owner.take().map(|owner| Fence { owner, attempt: self.row.attempt });
        }
        self.row.state = to;
        self.row.waiting_for = WaitingFor::Nothing;
        self.row.finished = to.is_terminal().then_some(self.now);
        Ok(())
    }

    fn note(&mut self, reason: Option<Box<str>>) {
        if let Some(reason) = reason {
            self.row.history_mut().reason = Some(reason.into());
        }
    }

    /// Makes it eligible now.
    fn queue(&mut self) -> Result<(), Error> {
        self.go(State::Queued)?;
        self.row.eligible = self.now;
        Ok(())
    }

    #[inline]
    fn claim(&mut self, owner: OwnerId) -> Result<(), Error> {
        let attempt = self.row.attempt.checked_add(1).ok_or_else(|| {
            Error::new(
                Code::CorruptRow,
                format!("its attempt is {}, and there is none after it", self.row.attempt),
            )
        })?;
        self.go(State::Running)?;
        self.row.attempt = attempt;
        self.row.owner = Some(owner);
        self.row.started = Some(self.now);
        Ok(())
    }

    /// One more failure: another attempt, or the end in `spent`.
    fn fail(
        &mut self,
        failure: Failure,
        permanent: bool,
        retry_after: Option<Duration>,
        chance: f64,
        spent: State,
    ) -> Result<(), Error> {
        let failures = self.row.failures.saturating_add(1);
        if permanent || failures > self.spec.retries || planted::is(Bug::MissedRetry) {
            self.go(spent)?;
        } else {
            self.go(State::Retrying)?;
            let wait = retry_after.unwrap_or_else(|| self.spec.retry().backoff(failures, chance));
            self.row.eligible = self.now + wait;
        }
        if !planted::is(Bug::UncountedFailure) {
            self.row.failures = failures;
        }
        self.row.history_mut().errors.push(failure);
        Ok(())
    }

    fn time_out(&mut self, chance: f64) -> Result<(), Error> {
        let limit = self.spec.timeout().unwrap_or_default();
        let failure = Failure {
            kind: "TaskTimedOut".into(),
            message: format!("attempt {} took longer than {} s", self.row.attempt, limit.as_secs_f64()),
            backtrace: String::new(),
            attempt: self.row.attempt,
            at: self.now,
        };
        self.fail(failure, false, None, chance, State::TimedOut)
    }

    /// Its worker died. Three times, and the task itself is suspect.
    fn crash(&mut self, cause: Option<&str>) -> Result<(), Error> {
        let crashes = self.row.crashes.saturating_add(1);
        if crashes < self.spec.max_crashes {
            self.queue()?;
        } else {
            self.go(State::Failed)?;
            let died = match crashes {
                1 => "its worker process died while it ran this task".to_owned(),
                _ => format!("its worker process died {crashes} times while it ran this task"),
            };
            let failure = Failure {
                kind: "HandlerLost".into(),
                message: match (cause, crashes) {
                    (None, _) => died,
                    (Some(cause), 1) => format!("{died}: it {cause}"),
                    (Some(cause), _) => format!("{died}; the last one {cause}"),
                },
                backtrace: String::new(),
                attempt: self.row.attempt,
                at: self.now,
            };
            self.row.history_mut().errors.push(failure);
        }
        self.row.crashes = crashes;
        Ok(())
    }

    fn elapse(&mut self) -> Result<(), Error> {
        let past = |time: Option<Timestamp>| live(time, self.row).filter(|time| *time <= self.now);
        let deadline = past(self.spec.deadline());
        let expires = past(self.spec.expires());
        match self.row.state {
            State::Pending | State::Queued | State::Retrying => {
                let expired_first = match (expires, deadline) {
                    (Some(expires), Some(deadline)) => expires <= deadline,
                    (expires, _) => expires.is_some(),
                };
                if expired_first {
                    self.go(State::Expired)
                } else if deadline.is_some() {
                    self.pass_deadline()
                } else if self.row.state != State::Queued && self.wait_is_over() {
                    self.queue()
                } else {
                    Ok(())
                }
            }
            State::Running if deadline.is_some() => self.pass_deadline(),
            _ => Ok(()),
        }
    }

    /// Whether the time came that the task waits for. Dependencies are not a time.
    fn wait_is_over(&self) -> bool {
        self.row.waiting_for != WaitingFor::Dependencies && self.row.eligible <= self.now
    }

    fn pass_deadline(&mut self) -> Result<(), Error> {
        let attempt = self.row.attempt;
        self.go(State::TimedOut)?;
        let failure = Failure {
            kind: "TaskTimedOut".into(),
            message: "its deadline passed".into(),
            backtrace: String::new(),
            attempt,
            at: self.now,
        };
        self.row.history_mut().errors.push(failure);
        Ok(())
    }

    fn wake(&mut self) -> Result<(), Error> {
        match self.row.waiting_for {
            WaitingFor::Signal | WaitingFor::Sleep | WaitingFor::Key => self.queue(),
            // A wake-up for a wait that is over, or that only time or other tasks can end, is late, not wrong.
            WaitingFor::Nothing | WaitingFor::Eta | WaitingFor::Dependencies => Ok(()),
        }
    }

    /// What waits for other tasks still does: they are its input.
    fn hasten(&mut self) -> Result<(), Error> {
        if self.row.waiting_for == WaitingFor::Dependencies {
            return Err(Error::new(
                Code::IllegalTransition,
                format!(
                    "task {} waits for other tasks, and cannot be run before they have ended",
                    self.spec.id
                ),
            )
            .hint("run those first, or resolve or skip them"));
        }
        match self.row.state {
            State::Queued => Ok(()),
            _ => self.queue(),
        }
    }

    /// One dependency less to wait for; or, if it did not end well, the end of this task too.
    fn dependency_ended(&mut self, state: State) -> Result<(), Error> {
        if self.row.state != State::Pending || self.row.waiting_for != WaitingFor::Dependencies {
            return Ok(());
        }
        if !matches!(state, State::Succeeded | State::Skipped) {
            self.go(State::Cancelled)?;
            self.note(Some(format!("a task that it depends on ended as {state}").into()));
            return Ok(());
        }
        self.row.unmet = self.row.unmet.saturating_sub(1);
        if self.row.unmet > 0 {
            return Ok(());
        }
        match self.spec.eta().filter(|eta| *eta > self.now) {
            Some(eta) => {
                self.row.waiting_for = WaitingFor::Eta;
                self.row.eligible = eta;
                Ok(())
            }
            None => self.queue(),
        }
    }

    fn replay(&mut self) -> Result<(), Error> {
        self.move_to(State::Queued, Rule::Operator)?;
        self.row.generation = self.row.generation.wrapping_add(1);
        self.row.failures = 0;
        self.row.crashes = 0;
        self.row.eligible = self.now;
        self.row.result = Returned::NOTHING;
        let now = self.now;
        let history = self.row.history_mut();
        history.reason = None;
        history.replayed = Some(now);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
