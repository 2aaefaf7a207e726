//! What SQLite says, in the words of the core: which file, what was being done, and what the reader can do.

use std::path::Path;
use std::time::Duration;

use rusqlite::ErrorCode;
use taskloom_model::{Code, Error, TaskId};

use crate::holder;
use crate::obstacle::{self, Obstacle};

/// The file, and how long the store waits for others: what an error has to say beside SQLite's own words.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) path: Box<Path>,
    pub(crate) busy_timeout: Duration,
    pub(crate) vfs: Option<&'static str>,
}

impl Place {
    /// Turns what SQLite says into an error. `doing` completes "cannot … the SQLite store".
    pub(crate) fn failed(&self, doing: &str, cause: rusqlite::Error) -> Error {
        let path = self.path.display();
        let said = words(&cause);
        let error =
            |code, why: &str| Error::new(code, format!("cannot {doing} the SQLite store {path}: {why}"));
        let error = match cause.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                let (who, hint) = self.holder();
                error(
                    Code::StoreFailed,
                    &format!("{who} kept it locked for {} s", self.busy_timeout.as_secs_f64()),
                )
                .hint(hint)
            }
            Some(ErrorCode::DiskFull) => {
                error(Code::StoreFailed, "the disk is full").hint("free space on its disk; nothing was changed")
            }
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen)
                if let Some(obstacle) = obstacle::at(&self.path) =>
            {
                self.obstructed(doing, obstacle)
            }
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => error(Code::StoreFailed, &said)
                .hint("this process must be allowed to write the file, its directory, and the files beside it that end in -wal and -shm"),
            Some(ErrorCode::CannotOpen) => error(Code::StoreFailed, &said)
                .hint("check that the directory exists and that this process may create files in it"),
            Some(ErrorCode::NotADatabase) => self.not_a_database("it is not an SQLite database"),
            Some(ErrorCode::DatabaseCorrupt) => error(Code::CorruptRow, &said)
                .hint("the file is damaged: restore a copy, or save what can be saved with `sqlite3 FILE .recover`"),
            _ if is_a_value(&cause) => error(Code::CorruptRow, &said)
                .hint("something other than Taskloom has written to this table"),
            _ => error(Code::StoreFailed, &said),
        };
        error.caused_by(cause)
    }

    /// There can be no store at this path.
    pub(crate) fn obstructed(&self, doing: &str, obstacle: Obstacle) -> Error {
        let message = format!("cannot {doing} the SQLite store {}: {}", self.path.display(), obstacle.why);
        Error::new(Code::StoreFailed, message).hint(obstacle.hint)
    }

    /// Who keeps others from writing, and what to do about that.
    fn holder(&self) -> (String, &'static str) {
        match holder::of(&self.path).filter(|_| self.vfs.is_none()) {
            None => (
                "somebody else".to_owned(),
                "look for a program that holds a write transaction open on it, such as an SQL client",
            ),
            Some(holder) => {
                let hint = match (holder.is_here(), holder.is_stopped) {
                    (true, _) => {
                        "another SQLite connection of this program holds a write transaction open: end it"
                    }
                    (_, true) => "let that process go on, or end it: nobody else can write meanwhile",
                    _ => "it holds a write transaction open: end that, or the process",
                };
                (holder.to_string(), hint)
            }
        }
    }

    /// A file or directory beside it, which every owner needs, cannot be had.
    pub(crate) fn beside(&self, path: &Path, cause: std::io::Error) -> Error {
        let (store, path) = (self.path.display(), path.display());
        Error::new(Code::StoreFailed, format!("cannot join the SQLite store {store}: {path}: {cause}"))
            .hint("this process must be allowed to make files beside the store's, and to lock them")
            .caused_by(cause)
    }

    /// The file is somebody else's.
    pub(crate) fn not_a_database(&self, why: &str) -> Error {
        Error::new(Code::NotADatabase, format!("{} is not a Taskloom store: {why}", self.path.display()))
            .hint("name a file that does not exist yet, and it is made; this one was not touched")
    }

    /// A row says what no version of Taskloom says.
    pub(crate) fn corrupt(&self, id: TaskId, cause: Error) -> Error {
        self.explain(&format!("task {id}"), cause).with("task", id)
    }

    /// As [`Place::corrupt`], of a schedule's row.
    pub(crate) fn corrupt_schedule(&self, name: &str, cause: Error) -> Error {
        self.explain(&format!("schedule {name:?}"), cause).with("schedule", name)
    }

    /// As [`Place::corrupt`], where it is not known which row it is.
    pub(crate) fn corrupt_somewhere(&self, cause: Error) -> Error {
        self.explain("a row", cause)
    }

    fn explain(&self, what: &str, cause: Error) -> Error {
        let hint = cause.hint_text().unwrap_or("something other than Taskloom has written to it").to_owned();
        Error::new(cause.code(), format!("{what} in {}: {}", self.path.display(), cause.message())).hint(hint)
    }
}

/// SQLite's own words, without the prefix that rusqlite puts before some of them.
fn words(cause: &rusqlite::Error) -> String {
    match cause {
        rusqlite::Error::SqliteFailure(_, Some(text)) => text.clone(),
        other => other.to_string(),
    }
}

/// Whether a column held a value of the wrong kind.
fn is_a_value(cause: &rusqlite::Error) -> bool {
    matches!(
        cause,
        rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::Utf8Error(..)
    )
}
