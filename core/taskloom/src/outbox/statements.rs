//! The table, and the statements on it, as texts.

/// The table's name.
pub const TABLE: &str = "taskloom_outbox";

/// A kind of SQL database that may have an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite, 3.24 or newer.
    Sqlite,
    /// PostgreSQL, 13 or newer.
    Postgresql,
}

impl Dialect {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Sqlite, Self::Postgresql];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgresql => "postgresql",
        }
    }

    /// The statements that make the table and what belongs to it, in this order. Each changes nothing where it was run
    /// before.
    ///
    /// The defaults let plain SQL leave out all but `name` and `payload`: ids are UUIDs of version 7, which sort by time.
    /// In PostgreSQL a trigger tells the relay of each transaction that has inserted, once.
    pub const fn schema(self) -> &'static [&'static str] {
        match self {
            Self::Sqlite => &[
                "CREATE TABLE IF NOT EXISTS taskloom_outbox (
  id TEXT NOT NULL PRIMARY KEY CHECK (typeof(id) = 'text') DEFAULT (printf('%s-%s-7%s-%04x-%s',
    substr(printf('%012x', CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)), 1, 8),
    substr(printf('%012x', CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)), 9, 4),
    substr(lower(hex(randomblob(2))), 2, 3), 32768 + (random() & 16383), lower(hex(randomblob(6))))),
  name TEXT NOT NULL,
  payload TEXT NOT NULL DEFAULT '{}',
  options TEXT,
  created INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)),
  failed INTEGER,
  error TEXT
)",
                "CREATE INDEX IF NOT EXISTS taskloom_outbox_due ON taskloom_outbox (id) WHERE failed IS NULL",
                "CREATE INDEX IF NOT EXISTS taskloom_outbox_refused ON taskloom_outbox (id) WHERE failed IS NOT NULL",
            ],
            Self::Postgresql => &[
                r#"CREATE TABLE IF NOT EXISTS taskloom_outbox (
  id text COLLATE "C" NOT NULL PRIMARY KEY DEFAULT encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
    PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6),
    52, 1), 53, 1), 'hex')::uuid::text,
  name text NOT NULL,
  payload text NOT NULL DEFAULT '{}',
  options text,
  created bigint NOT NULL DEFAULT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
  failed bigint,
  error text
)"#,
                "CREATE INDEX IF NOT EXISTS taskloom_outbox_due ON taskloom_outbox (id) WHERE failed IS NULL",
                "CREATE INDEX IF NOT EXISTS taskloom_outbox_refused ON taskloom_outbox (id) WHERE failed IS NOT NULL",
                "CREATE OR REPLACE FUNCTION taskloom_outbox_notify() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN PERFORM pg_notify('taskloom_outbox', ''); RETURN NULL; END $$",
                "DROP TRIGGER IF EXISTS taskloom_outbox_notify ON taskloom_outbox",
                "CREATE TRIGGER taskloom_outbox_notify AFTER INSERT ON taskloom_outbox
  FOR EACH STATEMENT EXECUTE FUNCTION taskloom_outbox_notify()",
            ],
        }
    }
}

/// How a driver writes the places of a statement's arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholders {
    /// `?`, in the order in which they come.
    Question,
    /// `%s`, in the order in which they come.
    Percent,
    /// `$1`.
    Dollar,
    /// `:p1`.
    Named,
}

impl Placeholders {
    /// Its name: `qmark`, `format`, `dollar`, `named`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Question => "qmark",
            Self::Percent => "format",
            Self::Dollar => "dollar",
            Self::Named => "named",
        }
    }

    /// All of them.
    pub const ALL: [Self; 4] = [Self::Question, Self::Percent, Self::Dollar, Self::Named];
}

/// What is said to an outbox. Arguments come in the order in which their statement names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Statement {
    /// Whether the table is there (as a number): no argument.
    Exists,
    /// Whether inserts are told by the trigger (as a number); PostgreSQL only. No argument.
    Notifies,
    /// Adds a row: id, name, payload, options, created.
    Insert,
    /// The next rows that were not refused, in the order of their ids: how many at most. In PostgreSQL they are locked
    /// until the transaction ends, and those that another relay has locked are left out.
    Due,
    /// Deletes a row: its id.
    Delete,
    /// Marks a row as refused: when (microseconds since the epoch), the error, the row's id.
    Refuse,
    /// The rows that were refused, with when and why, in the order of their ids: after which id, how many at most.
    Refused,
    /// How many rows were refused: no argument.
    CountRefused,
    /// Takes the mark from a refused row, so that it is tried again: its id.
    Retry,
    /// The same for all of them: no argument.
    RetryAll,
    /// Deletes a refused row: its id.
    Discard,
}

impl Statement {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Exists,
        Self::Notifies,
        Self::Insert,
        Self::Due,
        Self::Delete,
        Self::Refuse,
        Self::Refused,
        Self::CountRefused,
        Self::Retry,
        Self::RetryAll,
        Self::Discard,
    ];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exists => "exists",
            Self::Notifies => "notifies",
            Self::Insert => "insert",
            Self::Due => "due",
            Self::Delete => "delete",
            Self::Refuse => "refuse",
            Self::Refused => "refused",
            Self::CountRefused => "count_refused",
            Self::Retry => "retry",
            Self::RetryAll => "retry_all",
            Self::Discard => "discard",
        }
    }

    /// Its text for a database, as a driver wants it.
    pub fn text(self, dialect: Dialect, placeholders: Placeholders) -> String {
        use Dialect::{Postgresql, Sqlite};
        let text = match (self, dialect) {
            (Self::Exists, Sqlite) => {
                "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'taskloom_outbox'"
            }
            (Self::Exists, Postgresql) => "SELECT (to_regclass('taskloom_outbox') IS NOT NULL)::int",
            (Self::Notifies, Sqlite) => "SELECT 0",
            (Self::Notifies, Postgresql) => {
                "SELECT count(*)::int FROM pg_trigger WHERE tgname = 'taskloom_outbox_notify' \
                 AND tgrelid = to_regclass('taskloom_outbox') AND tgenabled <> 'D'"
            }
            (Self::Insert, _) => {
                "INSERT INTO taskloom_outbox (id, name, payload, options, created) VALUES (@1, @2, @3, @4, @5)"
            }
            (Self::Due, Sqlite) => {
                "SELECT id, name, payload, options, created FROM taskloom_outbox \
                 WHERE failed IS NULL ORDER BY id LIMIT @1"
            }
            (Self::Due, Postgresql) => {
                "SELECT id, name, payload, options, created FROM taskloom_outbox \
                 WHERE failed IS NULL ORDER BY id LIMIT @1 FOR UPDATE SKIP LOCKED"
            }
            (Self::Delete, _) => "DELETE FROM taskloom_outbox WHERE id = @1",
            (Self::Refuse, _) => "UPDATE taskloom_outbox SET failed = @1, error = @2 WHERE id = @3",
            (Self::Refused, _) => {
                "SELECT id, name, payload, options, created, failed, error FROM taskloom_outbox \
                 WHERE failed IS NOT NULL AND id > @1 ORDER BY id LIMIT @2"
            }
            (Self::CountRefused, _) => "SELECT count(*) FROM taskloom_outbox WHERE failed IS NOT NULL",
            (Self::Retry, _) => {
                "UPDATE taskloom_outbox SET failed = NULL, error = NULL WHERE failed IS NOT NULL AND id = @1"
            }
            (Self::RetryAll, _) => {
                "UPDATE taskloom_outbox SET failed = NULL, error = NULL WHERE failed IS NOT NULL"
            }
            (Self::Discard, _) => "DELETE FROM taskloom_outbox WHERE failed IS NOT NULL AND id = @1",
        };
        let mut parts = text.split('@');
        let mut written = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (number, rest) = part.split_at(1);
            match placeholders {
                Placeholders::Question => written.push('?'),
                Placeholders::Percent => written.push_str("%s"),
                Placeholders::Dollar => written.extend(["$", number]),
                Placeholders::Named => written.extend([":p", number]),
            }
            written.push_str(rest);
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_written_as_drivers_want_them() {
        let delete = |placeholders| Statement::Delete.text(Dialect::Sqlite, placeholders);
        assert_eq!(delete(Placeholders::Question), "DELETE FROM taskloom_outbox WHERE id = ?");
        assert_eq!(delete(Placeholders::Percent), "DELETE FROM taskloom_outbox WHERE id = %s");
        assert_eq!(delete(Placeholders::Dollar), "DELETE FROM taskloom_outbox WHERE id = $1");
        assert_eq!(delete(Placeholders::Named), "DELETE FROM taskloom_outbox WHERE id = :p1");
    }

    #[test]
    fn arguments_come_in_their_order() {
        for statement in Statement::ALL {
            for dialect in Dialect::ALL {
                let text = statement.text(dialect, Placeholders::Dollar);
                let places: Vec<_> =
                    text.match_indices('$').map(|(at, _)| text[at + 1..=at + 1].to_owned()).collect();
                let wanted: Vec<_> = (1..=places.len()).map(|number| number.to_string()).collect();
                assert_eq!(places, wanted, "{text}");
            }
        }
    }
}
