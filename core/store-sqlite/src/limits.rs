//! The table `limits`: which limits are set, by whom.
//!
//! Other processes may change them, so whoever needs them asks the file; but the rows are read again only if the number
//! has changed that grows with each change. A limit that was taken away leaves its row, for that.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, Row, params};
use taskloom_model::{Code, Error, Limit, LimitFor, LimitRow, Limits, Name, Rate, SetBy};

use crate::raw_text::RawText;
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

/// All limits that are set, but for those that make no sense.
pub(crate) fn read_all(conn: &Connection) -> Result<Vec<LimitRow>, Fault> {
    Ok(read_each(conn)?.into_iter().filter_map(Result::ok).collect())
}

/// What is wrong with those that make none. They limit nothing, and must not stop what others limit.
pub(crate) fn damaged(conn: &Connection) -> Result<Vec<Error>, Fault> {
    Ok(read_each(conn)?.into_iter().filter_map(Result::err).collect())
}

fn read_each(conn: &Connection) -> Result<Vec<Result<LimitRow, Error>>, Fault> {
    let mut statement = conn.prepare_cached(schema::LIMITS)?;
    let mut found = statement.query([])?;
    let mut limits = Vec::new();
    while let Some(stored) = found.next()? {
        limits.push(match read_row(stored) {
            Ok(row) => row.ok_or_else(|| corrupt("names something that is not text")),
            Err(rusqlite::Error::IntegralValueOutOfRange(_, number)) => {
                Err(corrupt(&format!("has the number {number}")))
            }
            Err(fault) => return Err(fault.into()),
        });
    }
    Ok(limits)
}

fn corrupt(what: &str) -> Error {
    Error::new(Code::CorruptRow, format!("a limit {what}"))
        .hint("something other than Taskloom has written to it; it limits nothing: delete it, and set the limit again")
}

/// One limit; nothing if what it is for has no name.
fn read_row(stored: &Row<'_>) -> Result<Option<LimitRow>, rusqlite::Error> {
    let names: [RawText; 3] = [stored.get(0)?, stored.get(1)?, stored.get(2)?];
    let [Some(handler), Some(queue), Some(key)] = names.each_ref().map(RawText::as_str) else {
        return Ok(None);
    };
    let what = match (handler.is_empty(), queue.is_empty(), key.is_empty()) {
        (false, _, true) => LimitFor::Handler(Name::new(handler)),
        (false, _, false) => LimitFor::HandlerKey(Name::new(handler), key.to_owned()),
        (true, false, _) => LimitFor::Queue(Name::new(queue)),
        (true, true, _) => LimitFor::Key(key.to_owned()),
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
    Ok(Some(LimitRow { what, by, limit: Limit { concurrency: stored.get(4)?, rate } }))
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
