//! A process that relays an outbox, to be killed: `taskloom-relay STORE SHOP`, both SQLite files.
//!
//! It runs no task, so that whoever runs them later sees how often each is there. It prints `ready` when it relays, and ends
//! gracefully when its standard input does.

use std::error::Error;
use std::io::Read;
use std::time::Duration;

use rusqlite::Connection;
use taskloom::{App, Context, TaskError};

/// No lock is held nearly as long, unless a test wants to have it wait.
const LONG: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [store, shop] = arguments.as_slice() else {
        return Err("taskloom-relay STORE SHOP".into());
    };
    let app = App::open(&format!("sqlite:{store}"))?;
    app.task("note", |number: u32, _: &Context| -> Result<u32, TaskError> { Ok(number) }).register()?;
    let shop = shop.clone();
    let outbox = app.outbox(move || {
        let connection = Connection::open(&shop)?;
        connection.busy_timeout(LONG)?;
        Ok::<_, rusqlite::Error>(connection)
    })?;
    outbox.start()?;
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    outbox.stop();
    Ok(())
}
