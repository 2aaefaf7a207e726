//! The table `limits`: which limits are set, by whom.
//!
//! Other processes may change them, so whoever needs them asks the file; but the rows are read again only if the number
//! has changed that grows with each change. A limit that was taken away leaves its row, for that.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, params};
use taskloom_model::{Limit, LimitFor, LimitRow, Limits, Name, Rate, SetBy};

use crate::rows::Fault;
use crate::schema;

/// The limits as last read, and the number of the change that they are as of.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<(i64, Arc<Limits>)>);

impl Known {
    /// The limits as this connection sees them.
    pub(crate) fn read(&self, conn: &Connection) -> Result<Arc<Limits>, Fault> {
        let revision = revision(conn)?;
        let mut known = self.0.lock();
        if known.0 != revision {
            *known = (revision, Arc::new(Limits::from_rows(read_all(conn)?)));
        }
        Ok(Arc::clone(&known.1))
    }
}

fn revision(conn: &Connection) -> Result<i64, Fault> {
    let newest: Option<i64> =
        conn.prepare_cached(schema::LIMIT_REVISION)?.query_row([], |stored| stored.get(0))?;
    Ok(newest.unwrap_or(0))
}

/// All limits that are set.
pub(crate) fn read_all(conn: &Connection) -> Result<Vec<LimitRow>, Fault> {
    let mut statement = conn.prepare_cached(schema::LIMITS)?;
    let mut found = statement.query([])?;
    let mut limits = Vec::new();
    while let Some(stored) = found.next()? {
        let (handler, queue, key): (String, String, String) =
            (stored.get(0)?, stored.get(1)?, stored.get(2)?);
        let what = match (handler.is_empty(), queue.is_empty(), key.is_empty()) {
            (false, _, true) => LimitFor::Handler(Name::new(&handler)),
            (false, _, false) => LimitFor::HandlerKey(Name::new(&handler), key),
            (true, false, _) => LimitFor::Queue(Name::new(&queue)),
            (true, true, _) => LimitFor::Key(key),
        };
        let by = if stored.get(3)? { SetBy::Handler } else { SetBy::Operator };
        let (count, per, burst): (Option<u32>, Option<i64>, Option<u32>) =
            (stored.get(5)?, stored.get(6)?, stored.get(7)?);
        let rate = match (count, per, burst) {
            (Some(count), Some(per), Some(burst)) => {
                let per = Duration::from_micros(per.unsigned_abs());
                Some(Rate { count, per, burst })
            }
            _ => None,
        };
        limits.push(LimitRow { what, by, limit: Limit { concurrency: stored.get(4)?, rate } });
    }
    Ok(limits)
}

/// Writes a limit down, in a transaction.
pub(crate) fn write(conn: &Connection, row: &LimitRow) -> Result<(), rusqlite::Error> {
    let (handler, queue, key) = columns(&row.what);
    let declared = row.by == SetBy::Handler;
    let rate = row.limit.rate;
    conn.prepare_cached(schema::SET_LIMIT)?.execute(params![
        handler,
        queue,
        key,
        declared,
        row.limit.concurrency,
        rate.map(|rate| rate.count),
        rate.map(|rate| i64::try_from(rate.per.as_micros()).unwrap_or(i64::MAX)),
        rate.map(|rate| rate.burst),
    ])?;
    Ok(())
}

fn columns(what: &LimitFor) -> (&str, &str, &str) {
    match what {
        LimitFor::Handler(name) => (name.as_str(), "", ""),
        LimitFor::Queue(name) => ("", name.as_str(), ""),
        LimitFor::Key(key) => ("", "", key),
        LimitFor::HandlerKey(name, key) => (name.as_str(), "", key),
    }
}
