//! Which version of the tables a file has, and bringing it up to date.
//!
//! The file's header says whose it is (`application_id`) and how many of the [`STEPS`] it has been through
//! (`user_version`). Whoever opens it takes the steps that are missing, all in one exclusive transaction: several
//! processes may do so at once, and whoever comes second finds them taken. A file that has been through more steps than
//! this program knows is refused.
//!
//! A step that was released is never changed: a new version of the tables is a new step. Processes of the version before
//! may be at work on the file while a step is taken, so a step must leave to them what they use, or its release notes say
//! that they are to be stopped first.

use rusqlite::Connection;
use taskloom_model::{Code, Error};

use crate::failure::Place;
use crate::schema::{APPLICATION_ID, CREATE, DEAD_STEP, LIMITS_STEP};
use crate::{handlers, schedules, view};

/// From an empty file to today's.
const STEPS: [&str; 7] =
    [CREATE, view::CREATE, handlers::STEP, LIMITS_STEP, schedules::CREATE, view::KEYS_STEP, DEAD_STEP];

/// The version that the steps lead to.
pub(crate) const NEWEST: usize = STEPS.len();

/// How many steps a file has been through; none if it is empty. Refuses what is not ours, and what is too new for us.
pub(crate) fn version(conn: &Connection, place: &Place) -> Result<usize, Error> {
    let header = "SELECT (SELECT application_id FROM pragma_application_id), \
                  (SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_schema)";
    // One statement, so that all three are of one moment.
    let (application, version, things): (i32, i64, i64) = conn
        .query_row(header, [], |stored| Ok((stored.get(0)?, stored.get(1)?, stored.get(2)?)))
        .map_err(|cause| place.failed("open", cause))?;
    match (application, usize::try_from(version)) {
        (APPLICATION_ID, Ok(known @ 1..=NEWEST)) => Ok(known),
        (APPLICATION_ID, Ok(newer)) if newer > NEWEST => Err(Error::new(
            Code::NewerSchema,
            format!(
                "the SQLite store {} has tables of version {newer}; this program knows {NEWEST}",
                place.path.display()
            ),
        )
        .hint("a newer version of Taskloom wrote it: upgrade this process")),
        (0, Ok(0)) if things == 0 => Ok(0),
        (0, _) => Err(place.not_a_database("it is a database of another program")),
        (other, _) => Err(place
            .not_a_database(&format!("it is a database of another program (its application_id is {other})"))),
    }
}

/// Takes the steps that are missing, unless somebody else is faster.
pub(crate) fn bring_up_to_date(conn: &Connection, place: &Place) -> Result<(), Error> {
    let failed = |cause| place.failed("make the tables of", cause);
    let steps = || {
        let taken = version(conn, place)?;
        for step in &STEPS[taken..] {
            conn.execute_batch(step).map_err(failed)?;
        }
        let header = format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {NEWEST};");
        conn.execute_batch(&header).map_err(failed)
    };
    conn.execute_batch("BEGIN IMMEDIATE").map_err(failed)?;
    steps().and_then(|()| conn.execute_batch("COMMIT").map_err(failed)).inspect_err(|_| {
        // The connection is about to be closed, which rolls back too: nothing depends on this.
        let _ = conn.execute_batch("ROLLBACK");
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn place() -> Place {
        Place { path: std::path::Path::new("tasks.db").into(), busy_timeout: Duration::ZERO, vfs: None }
    }

    #[test]
    fn a_file_of_every_earlier_version_is_brought_up_to_date() {
        let today = Connection::open_in_memory().unwrap();
        bring_up_to_date(&today, &place()).unwrap();
        for earlier in 1..NEWEST {
            let conn = Connection::open_in_memory().unwrap();
            for step in &STEPS[..earlier] {
                conn.execute_batch(step).unwrap();
            }
            let header =
                format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {earlier};");
            conn.execute_batch(&header).unwrap();
            assert_eq!(version(&conn, &place()).unwrap(), earlier);
            bring_up_to_date(&conn, &place()).unwrap();
            assert_eq!(version(&conn, &place()).unwrap(), NEWEST);
            assert_eq!(schema_of(&conn), schema_of(&today));
            bring_up_to_date(&conn, &place()).unwrap();
        }
    }

    #[test]
    fn what_is_newer_or_somebody_elses_is_refused() {
        for (header, code) in [
            (
                format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {};", NEWEST + 1),
                Code::NewerSchema,
            ),
            (
                format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 0;"),
                Code::NotADatabase,
            ),
            (
                format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = -1;"),
                Code::NotADatabase,
            ),
            ("PRAGMA application_id = 7;".to_owned(), Code::NotADatabase),
            ("CREATE TABLE theirs (a);".to_owned(), Code::NotADatabase),
        ] {
            let conn = Connection::open_in_memory().unwrap();
            conn.execute_batch(&header).unwrap();
            assert_eq!(version(&conn, &place()).unwrap_err().code(), code, "{header}");
            assert_eq!(bring_up_to_date(&conn, &place()).unwrap_err().code(), code, "{header}");
        }
    }

    fn schema_of(conn: &Connection) -> Vec<(String, String)> {
        let mut statement =
            conn.prepare("SELECT name, coalesce(sql, '') FROM sqlite_schema ORDER BY name").unwrap();
        let found = statement.query_map([], |stored| Ok((stored.get(0)?, stored.get(1)?))).unwrap();
        found.collect::<Result<_, _>>().unwrap()
    }
}
