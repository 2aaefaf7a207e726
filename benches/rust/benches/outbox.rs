//! The outbox: how many rows a relay moves from SQLite beside a busy store, and how soon after its commit a task starts.
//!
//! While the relay works, another thread submits to the store and tasks run: it is a busy one. A commit is measured when
//! nothing has happened for a while, in an app that submits and relays.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use rusqlite::Connection;
use taskloom::outbox::Dialect;
use taskloom::{App, Context, TaskError};
use taskloom_engine::{Clock, SystemClock};

const ROWS: usize = 50_000;
const COMMITS: usize = 200;

/// No wait that ends well comes near it.
const LONG: Duration = Duration::from_secs(60);

fn open(file: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(file)?;
    connection.busy_timeout(LONG)?;
    Ok(connection)
}

/// An app on a file, and the file of a shop with an outbox.
fn scene(folder: &Path) -> (App, Connection, std::path::PathBuf) {
    let app = App::builder()
        .workers(2)
        .open(&format!("sqlite:{}", folder.join("tasks.db").display()))
        .expect("a new file");
    let file = folder.join("shop.db");
    let shop = open(&file).expect("a new file");
    shop.pragma_update(None, "journal_mode", "WAL").expect("it has one");
    for statement in Dialect::Sqlite.schema() {
        shop.execute_batch(statement).expect("the table can be made");
    }
    (app, shop, file)
}

/// Rows in a second.
fn relayed() -> f64 {
    let folder = tempfile::tempdir().expect("a folder");
    let (app, mut shop, file) = scene(folder.path());
    app.task("keep", |number: usize, _: &Context| -> Result<usize, TaskError> { Ok(number) })
        .register()
        .expect("a new name");
    for chunk in (0..ROWS).collect::<Vec<_>>().chunks(10_000) {
        let transaction = shop.transaction().expect("it begins");
        app.build("keep").tx(&transaction).submit_many(chunk).expect("there is room");
        transaction.commit().expect("it is committed");
    }
    let running = app.start().expect("threads can be started");
    let over = AtomicBool::new(false);
    let rate = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let handles = app.submit_many("keep", &(0..200).collect::<Vec<_>>()).expect("there is room");
                for handle in handles {
                    handle.wait_for::<usize>(LONG).expect("it runs");
                }
            }
        });
        let began = SystemClock.monotonic();
        let outbox = app.outbox(move || open(&file)).expect("it can be opened");
        while outbox.relayed() < ROWS as u64 {
            assert!(outbox.trouble().is_none() && SystemClock.monotonic() - began < LONG, "{outbox:?}");
            std::thread::park_timeout(Duration::from_millis(1)); // looks again
        }
        let rate = ROWS as f64 / (SystemClock.monotonic() - began).as_secs_f64();
        over.store(true, Ordering::Relaxed);
        rate
    });
    running.stop_within(Duration::ZERO);
    println!("outbox: {rate:.0} rows/s relayed from SQLite beside a busy store (floor: 5,000)");
    rate
}

/// From the commit to the first line of the handler: the half and the 99th of a hundred.
fn latency() -> (Duration, Duration) {
    let folder = tempfile::tempdir().expect("a folder");
    let (app, mut shop, file) = scene(folder.path());
    let (begun, starts) = channel();
    app.task("note", move |_: (), _: &Context| -> Result<(), TaskError> {
        Ok(begun.send(SystemClock.monotonic())?)
    })
    .register()
    .expect("a new name");
    app.outbox(move || open(&file)).expect("it can be opened");
    let running = app.start().expect("threads can be started");
    let mut late: Vec<_> = (0..COMMITS)
        .map(|_| {
            std::thread::park_timeout(Duration::from_millis(50)); // so that each is the first for a while
            let transaction = shop.transaction().expect("it begins");
            app.build("note").tx(&transaction).submit().expect("there is room");
            transaction.commit().expect("it is committed");
            let committed = SystemClock.monotonic();
            starts.recv_timeout(LONG).expect("it runs").saturating_sub(committed)
        })
        .collect();
    running.stop();
    late.sort_unstable();
    let (half, most) = (late[COMMITS / 2], late[COMMITS * 99 / 100]);
    println!(
        "outbox: from a commit in SQLite to the task's start: p50 {half:?}, p99 {most:?} (floors: 20 ms, 50 ms)"
    );
    (half, most)
}

fn main() {
    let rate = relayed();
    let (half, most) = latency();
    assert!(rate >= 5_000.0, "{rate:.0} rows/s");
    assert!(
        half <= Duration::from_millis(20) && most <= Duration::from_millis(50),
        "p50 {half:?}, p99 {most:?}"
    );
}
