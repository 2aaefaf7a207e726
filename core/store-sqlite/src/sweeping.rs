//! Sweeping out what ended long ago, a stretch of the table at a time.
//!
//! Ended tasks are in no index but the id's (see [`crate::schema`]), so a sweep has to look at rows, and most of them are
//! to stay. A million of them in one go would keep the connection that reads, and the thread that also beats and
//! watches times, for a fifth of a second; so each go is bounded by the rows that it looks at, as well as by those that it
//! forgets, and the next one goes on behind it.

use std::sync::atomic::{AtomicI64, Ordering};

use rusqlite::{Connection, OptionalExtension};
use taskloom_model::{Error, Timestamp};

use crate::rows::Fault;
use crate::schema;

/// How many rows one go looks at, at most: some milliseconds.
const STRETCH: i64 = 10_000;

/// Up to which rows sweeps have come; 0 where the next begins at the first.
#[derive(Debug, Default)]
pub(crate) struct Sweeps {
    /// Those by hand and those by the clock draw the line elsewhere, so they share no place.
    by_hand: AtomicI64,
    by_the_clock: AtomicI64,
}

/// Rows that may be forgotten.
pub(crate) struct Old {
    pub(crate) seqs: Vec<i64>,
    /// The row behind which it goes on, if there are any.
    pub(crate) next: Option<i64>,
}

impl Sweeps {
    /// What there is in one stretch, by `find`; and whether there is more of the table.
    pub(crate) fn by_the_clock(
        &self,
        find: impl Fn(i64) -> Result<Old, Error>,
    ) -> Result<(Vec<i64>, bool), Error> {
        let Old { seqs, next } = find(self.by_the_clock.load(Ordering::Relaxed))?;
        self.by_the_clock.store(next.unwrap_or(0), Ordering::Relaxed);
        Ok((seqs, next.is_some()))
    }

    /// So many at most; fewer only if it has been all around the table: from where the last one stopped, since what is
    /// before that is to stay, most likely.
    pub(crate) fn by_hand(
        &self,
        limit: usize,
        find: impl Fn(usize, i64) -> Result<Old, Error>,
    ) -> Result<Vec<i64>, Error> {
        let start = self.by_hand.load(Ordering::Relaxed);
        let (mut at, mut is_second, mut found) = (start, start == 0, Vec::new());
        while found.len() < limit {
            let old = find(limit - found.len(), at)?;
            let has_come_round = is_second && start > 0 && old.next.is_none_or(|next| next >= start);
            // What is behind the start has been seen already.
            let seen = |seq: &i64| is_second && start > 0 && *seq > start;
            found.extend(old.seqs.into_iter().filter(|seq| !seen(seq)));
            at = old.next.unwrap_or(0);
            if has_come_round || old.next.is_none() && std::mem::replace(&mut is_second, true) {
                at = 0;
                break;
            }
        }
        self.by_hand.store(at, Ordering::Relaxed);
        Ok(found)
    }
}

/// What a stretch has to be forgotten: from behind a row on, so many at most.
pub(crate) fn find(conn: &Connection, before: Timestamp, limit: usize, from: i64) -> Result<Old, Fault> {
    let Some(first) = first_after(conn, from)? else { return Ok(Old { seqs: Vec::new(), next: None }) };
    let last = first.saturating_add(STRETCH - 1);
    let most = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = conn.prepare_cached(schema::ENDED)?;
    let found = statement.query_map([before.micros(), most, from, last], |stored| stored.get(0))?;
    let seqs = found.collect::<Result<Vec<i64>, _>>()?;
    let is_full = seqs.len() >= limit;
    let end = seqs.last().copied().filter(|_| is_full).unwrap_or(last);
    let next = first_after(conn, end)?.map(|_| end);
    Ok(Old { seqs, next })
}

/// The first row behind one.
fn first_after(conn: &Connection, seq: i64) -> Result<Option<i64>, Fault> {
    Ok(conn.prepare_cached(schema::NEXT_SEQ)?.query_row([seq], |stored| stored.get(0)).optional()?)
}

/// Forgets them, in a transaction; how many there were.
pub(crate) fn forget(conn: &Connection, before: Timestamp, seqs: &[i64]) -> Result<usize, Fault> {
    let mut forget = conn.prepare_cached(schema::FORGET)?;
    let mut count = 0;
    for seq in seqs {
        // Compared again: an operator may have started it, or its parent, over since.
        count += forget.execute([before.micros(), *seq])?;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_000);

    /// A table with so many rows, of which these have ended.
    fn table(rows: i64, ended: &[i64]) -> Connection {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(schema::CREATE).unwrap();
        let fill = "WITH RECURSIVE n(seq) AS (SELECT 1 UNION ALL SELECT seq + 1 FROM n WHERE seq < ?1) \
                    INSERT INTO tasks SELECT seq, CAST(seq AS BLOB), 3, 0, 0, 0, 0, 0, 0, NULL, 0, 0, NULL, NULL, NULL, 'q', \
                    'job', 1, 0, NULL, 0, 3, NULL, NULL, NULL, NULL, NULL, NULL, x'' FROM n";
        conn.execute(fill, [rows]).unwrap();
        for seq in ended {
            conn.execute("UPDATE tasks SET state = 4, finished = 7 WHERE seq = ?1", [seq]).unwrap();
        }
        conn
    }

    fn old(conn: &Connection, limit: usize, from: i64) -> Result<Old, Error> {
        Ok(find(conn, NOW, limit, from).unwrap_or_else(|_| panic!("SQLite failed")))
    }

    fn count(conn: &Connection, seqs: &[i64]) -> usize {
        forget(conn, NOW, seqs).unwrap_or_else(|_| panic!("SQLite failed"))
    }

    fn step(conn: &Connection, sweeps: &Sweeps, limit: usize) -> (usize, bool) {
        let (seqs, more) = sweeps.by_the_clock(|from| old(conn, limit, from)).unwrap();
        (count(conn, &seqs), more)
    }

    #[test]
    fn by_the_clock_it_goes_stretch_by_stretch() {
        let rows = 2 * STRETCH + 5;
        let (conn, sweeps) = (table(rows, &[3, STRETCH + 1, rows]), Sweeps::default());
        let steps = |limit| (0..3).map(|_| step(&conn, &sweeps, limit)).collect::<Vec<_>>();
        assert_eq!(steps(9), [(1, true), (1, true), (1, false)]);
        assert_eq!(steps(9), [(0, true), (0, true), (0, false)], "from the first again");
    }

    #[test]
    fn by_the_clock_it_forgets_so_many_and_goes_on_behind_them() {
        let (conn, sweeps) = (table(10, &[2, 3, 4, 9]), Sweeps::default());
        let step = || step(&conn, &sweeps, 2);
        assert_eq!([step(), step(), step(), step()], [(2, true), (2, true), (0, false), (0, false)]);
    }

    #[test]
    fn by_hand_it_goes_all_around() {
        let rows = 2 * STRETCH + 5;
        let (conn, sweeps) = (table(rows, &[1, 2, STRETCH, rows]), Sweeps::default());
        let by_hand = |limit| {
            let seqs = sweeps.by_hand(limit, |limit, from| old(&conn, limit, from)).unwrap();
            assert!(
                seqs.iter().all(|seq| seqs.iter().filter(|other| *other == seq).count() == 1),
                "{seqs:?}"
            );
            count(&conn, &seqs)
        };
        assert_eq!(by_hand(2), 2);
        // What ends behind the place where it stopped is found on the way round.
        conn.execute("INSERT INTO tasks SELECT 1, x'01', 4, 0, 0, 0, 0, 0, 0, NULL, 0, 0, NULL, 7, NULL, queue, name, 1, 0, NULL, 0, 3, NULL, NULL, NULL, NULL, NULL, NULL, x'' FROM tasks LIMIT 1", [])
            .unwrap();
        assert_eq!(by_hand(9), 3);
        assert_eq!(by_hand(9), 0);
        assert_eq!(by_hand(0), 0);
    }
}
