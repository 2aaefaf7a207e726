//! Text as it is stored, which need not be text.
//!
//! SQLite keeps whatever bytes it is given for a text, and Rust's strings are UTF-8. Where a walk goes from one name to the
//! next, one that somebody has damaged must not end it: it is taken as it is, handed back to SQLite to go on from there, and
//! left out.

use rusqlite::ToSql;
use rusqlite::types::{FromSql, FromSqlResult, ToSqlOutput, ValueRef};

/// The bytes of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RawText(Vec<u8>);

impl RawText {
    /// If it is one.
    pub(crate) fn as_str(&self) -> Option<&str> {
        str::from_utf8(&self.0).ok()
    }
}

impl FromSql for RawText {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        // The tables are strict: a column of text has nothing else.
        value.as_bytes().map(|bytes| Self(bytes.to_vec()))
    }
}

impl ToSql for RawText {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(&self.0)))
    }
}
