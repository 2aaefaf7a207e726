//! The relay: reads committed rows, submits them, deletes them.
//!
//! # What it owns
//! A connection that `connect` opened. [`Outbox`](super::Outbox) runs it on a thread named `taskloom-outbox`.
//!
//! # What holds
//! * A row is deleted in a transaction that begins after its task was accepted by the store. A crash in between leaves
//!   both, and the next relay finds that the store has a task with this id.
//! * In PostgreSQL rows are locked from the read to the delete, and other relays step over them. In SQLite, where a lock is
//!   the whole file's, nothing is locked while the store works, so two relays may read the same rows: the store takes each
//!   id once. A store in memory knows nothing of another process's, so there the file is locked; it takes microseconds.
//! * A row that is refused is marked, and told after the mark is committed.
//! * What `connect` or the driver fails with interrupts the relay. It is told once, and tried again after a pause that
//!   grows. Only a connection that can never be right ends it, and only before it has begun.
//! * The app is held weakly, and for one batch at a time: one that is gone ends the relay.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use taskloom_engine::{Clock, SystemClock};
use taskloom_model::{Error, Kind, Result};

use super::driver::{Connector, Driver, Value, quietly, row_of};
use super::wake::Wake;
use super::{Dialect, Statement, Verdict, relay};
use crate::App;
use crate::app::WeakApp;

/// How many rows are read at once, at least and at most.
const SMALLEST: usize = 64;
const LARGEST: usize = 1024;

/// Batches of fewer bytes than the one may grow, those of more than the other shrink.
const LIGHT: usize = 2 << 20;
const HEAVY: usize = 8 << 20;

/// The shortest and the longest pause before what has failed is tried again.
const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);

/// How often an idle relay counts the rows that were refused.
const RECOUNT: Duration = Duration::from_secs(10);

/// What others see of a relay, and how they reach it.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// Ended to stop it.
    pub(super) wake: Wake,
    /// How many rows have been deleted.
    pub(super) moved: AtomicU64,
    /// How many rows are marked, as far as it knows.
    pub(super) refused: AtomicU64,
    /// The count is out of date: somebody has changed refused rows.
    pub(super) is_to_count: AtomicBool,
    /// Why it cannot go on at the moment.
    pub(super) trouble: Mutex<Option<String>>,
}

/// One life of a relay.
pub(super) struct Relaying<'a> {
    app: &'a WeakApp,
    connector: &'a Connector,
    shown: &'a Shown,
    limit: usize,
    counted: Option<Duration>,
}

impl<'a> Relaying<'a> {
    pub(super) fn new(app: &'a WeakApp, connector: &'a Connector, shown: &'a Shown) -> Self {
        Self { app, connector, shown, limit: SMALLEST, counted: None }
    }

    /// Relays until it is stopped or the app is gone. `opened` is called when it has tried to connect for the first time,
    /// with what can never be right, if that is what came of it; then it has ended.
    pub(super) fn serve(&mut self, opened: impl FnOnce(Result<()>)) {
        let mut opened = Some(opened);
        let mut pause = SHORTEST;
        while !self.is_over() {
            let (mut is_open, mut has_relayed) = (false, false);
            let ended = self.connect_and_relay(|now| {
                (is_open, has_relayed) = (true, has_relayed || now == Well::Relayed);
                if let Some(opened) = opened.take() {
                    opened(Ok(()));
                }
            });
            let Err(error) = ended else { continue };
            if !is_open
                && error.kind() == Kind::InvalidOptions
                && let Some(opened) = opened.take()
            {
                *self.shown.trouble.lock() = Some(describe(&error));
                opened(Err(error));
                return;
            }
            if self.is_over() {
                break; // what fails while all is being stopped is no news
            }
            if has_relayed {
                pause = SHORTEST;
            }
            self.interrupt(&error);
            if let Some(opened) = opened.take() {
                opened(Ok(()));
            }
            self.rest(pause);
            pause = (pause * 2).min(LONGEST);
        }
    }

    /// Relays over one connection for as long as it holds. Says what went well.
    fn connect_and_relay(&mut self, mut say: impl FnMut(Well)) -> Result<()> {
        let mut driver = self.connector.open()?;
        driver.watch()?;
        say(Well::Open);
        while !self.is_over() {
            self.drain(&mut *driver)?;
            say(Well::Relayed);
            driver.wait(&self.shown.wake)?;
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.shown.wake.is_over() || self.app.upgrade().is_none()
    }

    /// A pause that only a stop ends.
    fn rest(&self, span: Duration) {
        let end = SystemClock.monotonic() + span;
        while !self.is_over() {
            let left = end.saturating_sub(SystemClock.monotonic());
            if left.is_zero() {
                return;
            }
            self.shown.wake.wait(left);
        }
    }

    /// Relays until nothing is due. Fails with what keeps it from that.
    pub(super) fn drain(&mut self, driver: &mut dyn Driver) -> Result<()> {
        while !self.shown.wake.is_over() {
            let Some(app) = self.app.upgrade() else { return Ok(()) };
            let batch = self.batch(driver, &app);
            if batch.is_err() {
                quietly(driver);
            }
            let Batch { is_full, later } = batch?;
            if let Some(error) = later {
                return Err(error);
            }
            self.resume(&app);
            if !is_full {
                break;
            }
        }
        let now = SystemClock.monotonic();
        let is_time = self.counted.is_none_or(|counted| now.saturating_sub(counted) >= RECOUNT);
        if self.shown.is_to_count.swap(false, Ordering::AcqRel) || is_time {
            let found = driver.fetch(Statement::CountRefused, &[])?;
            let count = found.first().and_then(|row| row.first()).map_or(0, Value::number);
            self.shown.refused.store(count.unsigned_abs(), Ordering::Release);
            self.counted = Some(now);
        }
        Ok(())
    }

    fn batch(&mut self, driver: &mut dyn Driver, app: &App) -> Result<Batch> {
        let engine = &app.shared.engine;
        let is_locked = driver.dialect() == Dialect::Postgresql || !engine.is_durable();
        if is_locked {
            driver.begin()?;
        }
        let found = driver.fetch(Statement::Due, &[Value::Integer(self.limit as i64)])?;
        if found.is_empty() {
            driver.rollback()?;
            return Ok(Batch { is_full: false, later: None });
        }
        let rows: Vec<_> = found.iter().map(|columns| row_of(columns)).collect();
        let now = engine.now().micros();
        let (mut done, mut refused, mut told, mut later) = (Vec::new(), Vec::new(), Vec::new(), None);
        for ((columns, row), verdict) in found.iter().zip(&rows).zip(relay(engine, &rows)?) {
            let id = columns[0].clone();
            match verdict {
                Verdict::Done => done.push(vec![id]),
                Verdict::Refused(error) => {
                    refused.push(vec![Value::Integer(now), Value::text(&mark(&error)), id]);
                    told.push((row, error));
                }
                Verdict::Later(error) => later = later.or(Some(error)),
            }
        }
        if !done.is_empty() || !refused.is_empty() {
            if !is_locked {
                driver.begin()?;
            }
            if !done.is_empty() {
                driver.execute(Statement::Delete, &done)?;
            }
            if !refused.is_empty() {
                driver.execute(Statement::Refuse, &refused)?;
            }
            driver.commit()?;
        } else {
            driver.rollback()?;
        }
        self.shown.moved.fetch_add(done.len() as u64, Ordering::AcqRel);
        self.shown.refused.fetch_add(told.len() as u64, Ordering::AcqRel);
        for (row, error) in told {
            engine.publish_refused_row(&row.id, &row.name, error.code().as_str(), error.message());
        }
        if !done.is_empty() {
            app.submitted()?;
            app.shared.relays.arrivals.tell();
        }
        let bytes = rows.iter().map(|row| row.payload.len()).sum();
        let is_full = rows.len() >= self.limit;
        self.limit = next_limit(self.limit, rows.len(), bytes);
        Ok(Batch { is_full, later })
    }

    fn interrupt(&self, error: &Error) {
        let text = describe(error);
        let is_new = self.shown.trouble.lock().replace(text.clone()).is_none();
        if is_new && let Some(app) = self.app.upgrade() {
            app.shared.engine.publish_relay_interrupted(&text);
        }
    }

    fn resume(&self, app: &App) {
        let had = self.shown.trouble.lock().take();
        if had.is_some() {
            app.shared.engine.publish_relay_resumed();
        }
    }
}

/// What went well.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Well {
    Open,
    Relayed,
}

struct Batch {
    /// There may be more.
    is_full: bool,
    /// Why some of it must be tried again.
    later: Option<Error>,
}

/// How many rows to read the next time.
fn next_limit(limit: usize, rows: usize, bytes: usize) -> usize {
    if bytes > HEAVY {
        (limit / 2).max(1)
    } else if bytes < LIGHT && rows >= limit {
        (limit * 2).min(LARGEST)
    } else {
        limit
    }
}

/// What a refused row is marked with.
fn mark(error: &Error) -> String {
    format!("{}: {error}", error.code().as_str())
}

/// An error in one line.
pub(super) fn describe(error: &Error) -> String {
    let text = format!("{}: {}", error.code().as_str(), error.message());
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use taskloom_model::Code;

    use super::*;

    #[test]
    fn batches_grow_while_they_are_light_and_shrink_when_they_are_heavy() {
        assert_eq!(next_limit(64, 64, 1000), 128);
        assert_eq!(next_limit(64, 63, 1000), 64, "there was no more");
        assert_eq!(next_limit(64, 64, LIGHT), 64);
        assert_eq!(next_limit(LARGEST, LARGEST, 1000), LARGEST);
        assert_eq!(next_limit(64, 64, HEAVY + 1), 32);
        assert_eq!(next_limit(1, 1, HEAVY + 1), 1);
    }

    #[test]
    fn a_mark_has_the_code_and_the_hint() {
        let error = Error::new(Code::InvalidOption, "queueue").hint("did you mean queue?");
        assert_eq!(mark(&error), "TL1001: queueue\nhint: did you mean queue?");
        assert_eq!(describe(&error), "TL1001: queueue");
    }
}
