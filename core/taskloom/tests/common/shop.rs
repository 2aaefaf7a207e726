//! What the tests of the outbox in SQLite share: a user's database, and apps beside it.

use std::path::PathBuf;

use rusqlite::Connection;
use taskloom::App;
use taskloom::outbox::Dialect;
use tempfile::TempDir;

use super::{LONG, Signal, noting};

/// A user's database.
pub struct Shop {
    folder: TempDir,
    file: PathBuf,
}

impl Shop {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("shop.db");
        let own = Self { folder, file };
        own.open().pragma_update(None, "journal_mode", "WAL").unwrap();
        own
    }

    pub fn with_table() -> Self {
        let own = Self::new();
        let connection = own.open();
        Dialect::Sqlite.schema().iter().for_each(|statement| connection.execute_batch(statement).unwrap());
        own
    }

    pub fn open(&self) -> Connection {
        let connection = Connection::open(&self.file).unwrap();
        connection.busy_timeout(LONG).unwrap();
        connection
    }

    pub fn connect(&self) -> impl Fn() -> rusqlite::Result<Connection> + Send + Sync + use<> {
        let file = self.file.clone();
        move || {
            let connection = Connection::open(&file)?;
            connection.busy_timeout(LONG)?;
            Ok(connection)
        }
    }

    /// The ids (in hexadecimal) of the rows that are there, and what they are marked with.
    pub fn left(&self) -> Vec<(String, Option<String>)> {
        let connection = self.open();
        let mut statement =
            connection.prepare("SELECT hex(id), error FROM taskloom_outbox ORDER BY id").unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.collect::<rusqlite::Result<_>>().unwrap()
    }

    /// The URL of a store beside it.
    pub fn store(&self) -> String {
        format!("sqlite:{}", self.folder.path().join("tasks.db").display())
    }
}

pub fn on_each_store(test: impl Fn(&Shop, App, Signal<u32>)) {
    for is_file in [false, true] {
        let shop = Shop::with_table();
        let url = if is_file { shop.store() } else { "memory:".to_owned() };
        let (app, ran) = noting(&url);
        test(&shop, app, ran);
    }
}

pub fn insert(connection: &Connection, name: &str, payload: &str) -> String {
    let insert = "INSERT INTO taskloom_outbox (name, payload) VALUES (?, ?) RETURNING id";
    connection.query_row(insert, [name, payload], |row| row.get(0)).unwrap()
}
