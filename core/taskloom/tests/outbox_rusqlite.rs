//! The outbox in SQLite, through rusqlite.

mod common;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{LONG, Signal, block_on, until};
use rusqlite::{Connection, TransactionBehavior};
use taskloom::outbox::{Dialect, Outbox};
use taskloom::{App, Code, Context, Kind, Priority, State, TaskError};
use tempfile::TempDir;

/// A user's database.
struct Shop {
    folder: TempDir,
    file: PathBuf,
}

impl Shop {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("shop.db");
        let own = Self { folder, file };
        own.open().pragma_update(None, "journal_mode", "WAL").unwrap();
        own
    }

    fn with_table() -> Self {
        let own = Self::new();
        let connection = own.open();
        Dialect::Sqlite.schema().iter().for_each(|statement| connection.execute_batch(statement).unwrap());
        own
    }

    fn open(&self) -> Connection {
        let connection = Connection::open(&self.file).unwrap();
        connection.busy_timeout(LONG).unwrap();
        connection
    }

    fn connect(&self) -> impl Fn() -> rusqlite::Result<Connection> + Send + Sync + use<> {
        let file = self.file.clone();
        move || {
            let connection = Connection::open(&file)?;
            connection.busy_timeout(LONG)?;
            Ok(connection)
        }
    }

    /// The ids (in hexadecimal) of the rows that are there, and what they are marked with.
    fn left(&self) -> Vec<(String, Option<String>)> {
        let connection = self.open();
        let mut statement =
            connection.prepare("SELECT hex(id), error FROM taskloom_outbox ORDER BY id").unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.collect::<rusqlite::Result<_>>().unwrap()
    }

    /// The URL of a store beside it.
    fn store(&self) -> String {
        format!("sqlite:{}", self.folder.path().join("tasks.db").display())
    }
}

/// An app that has a task `note`, which says what it was given.
fn noting(url: &str) -> (App, Signal<u32>) {
    let ran = Signal::new();
    let app = App::builder().workers(2).open(url).unwrap();
    let tell = ran.sender();
    app.task("note", move |number: u32, _: &Context| -> Result<u32, TaskError> {
        tell.send(number)?;
        Ok(number)
    })
    .retries(2)
    .register()
    .unwrap();
    (app, ran)
}

fn on_each_store(test: impl Fn(&Shop, App, Signal<u32>)) {
    for is_file in [false, true] {
        let shop = Shop::with_table();
        let url = if is_file { shop.store() } else { "memory:".to_owned() };
        let (app, ran) = noting(&url);
        test(&shop, app, ran);
    }
}

fn insert(connection: &Connection, name: &str, payload: &str) -> String {
    let insert = "INSERT INTO taskloom_outbox (name, payload) VALUES (?, ?) RETURNING id";
    connection.query_row(insert, [name, payload], |row| row.get(0)).unwrap()
}

#[test]
fn a_commit_runs_the_task_and_a_rollback_leaves_nothing() {
    on_each_store(|shop, app, ran| {
        let outbox = app.outbox(shop.connect()).unwrap();
        let running = app.start().unwrap();
        let mut connection = shop.open();
        connection.execute_batch("CREATE TABLE orders (id)").unwrap();

        let transaction = connection.transaction().unwrap();
        transaction.execute("INSERT INTO orders VALUES (1)", []).unwrap();
        let lost = app.build("note").input(&1).tx(&transaction).submit().unwrap();
        assert!(lost.task().unwrap().is_none());
        transaction.rollback().unwrap();

        let transaction = connection.transaction().unwrap();
        transaction.execute("INSERT INTO orders VALUES (2)", []).unwrap();
        let kept = app.build("note").input(&2).tag("order").tx(&transaction).submit().unwrap();
        transaction.commit().unwrap();

        assert_eq!(kept.wait_for::<u32>(LONG).unwrap(), 2);
        let task = kept.task().unwrap().unwrap();
        assert_eq!((task.id(), task.name(), kept.name()), (kept.id(), "note", "note"));
        assert_eq!(task.info().tags, ["order"]);
        until(|| shop.left().is_empty());
        until(|| outbox.relayed() == 1);
        assert!(lost.task().unwrap().is_none());
        running.stop();
        assert_eq!([ran.wait()].iter().chain(&ran.rest()).collect::<Vec<_>>(), [&2]);
        let orders: u32 = connection.query_row("SELECT sum(id) FROM orders", [], |row| row.get(0)).unwrap();
        assert_eq!(orders, 2);
    });
}

#[test]
fn rows_are_part_of_what_the_connection_is_in() {
    on_each_store(|shop, app, ran| {
        app.outbox(shop.connect()).unwrap();
        let running = app.start().unwrap();
        let mut connection = shop.open();

        // Outside of a transaction it is committed at once.
        let alone = app.build("note").input(&1).tx(&connection).submit().unwrap();
        assert_eq!(alone.wait_for::<u32>(LONG).unwrap(), 1);

        let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        let mut savepoint = transaction.savepoint().unwrap();
        app.build("note").input(&2).tx(&savepoint).submit().unwrap();
        savepoint.rollback().unwrap();
        drop(savepoint);
        let many = app.build("note").tx(&transaction).submit_many(&[3, 4, 5]).unwrap();
        transaction.commit().unwrap();
        for (handle, number) in many.iter().zip(3..) {
            assert_eq!(handle.wait_for::<u32>(LONG).unwrap(), number);
        }
        running.stop();
        let mut ran = ran.rest();
        ran.sort_unstable();
        assert_eq!(ran, [1, 3, 4, 5]);
    });
}

#[test]
fn options_go_with_the_row_and_count_from_the_submit() {
    on_each_store(|shop, app, _| {
        let outbox = app.outbox(shop.connect()).unwrap();
        let connection = shop.open();
        let day = Duration::from_secs(86_400);
        let build = app.build("note").input(&1).queue("slow").priority(Priority::High).delay(day);
        let handle = build.metadata("who", "ada").correlation_id("c").tx(&connection).submit().unwrap();
        assert_eq!(outbox.run_once().unwrap(), 1);
        let task = handle.task().unwrap().unwrap();
        let info = task.info();
        assert_eq!(
            (info.queue.as_str(), info.priority, task.state()),
            ("slow", Priority::High, State::Pending)
        );
        assert_eq!(info.metadata, [("who".to_owned(), "ada".to_owned())]);
        assert_eq!(info.correlation_id.as_deref(), Some("c"));
        assert!(info.eligible >= info.created + day - Duration::from_secs(3600));
        assert_eq!(info.retries, 2, "the handler's own");
    });
}

#[test]
fn a_submit_is_validated_like_any_other() {
    let shop = Shop::with_table();
    let (app, _) = noting("memory:");
    let connection = shop.open();
    let code = |name: &str| app.build(name).input(&1).tx(&connection).submit().unwrap_err().code();
    assert_eq!(code("nott"), Code::UnknownHandler);
    let refused = app.build("note").input(&1).timeout(Duration::ZERO).tx(&connection).submit();
    assert_eq!(refused.unwrap_err().code(), Code::InvalidOption);
    let large = "x".repeat(5 << 20);
    let refused = app.build("note").tx(&connection).submit_many(&["a", &large]);
    assert_eq!(refused.unwrap_err().code(), Code::PayloadTooLarge);
    assert!(shop.left().is_empty());

    let demanding = App::builder().require_metadata(["who"]).open("memory:").unwrap();
    demanding.task("note", |_: u32, _: &Context| -> Result<(), TaskError> { Ok(()) }).register().unwrap();
    let refused = demanding.build("note").input(&1).tx(&connection).submit();
    assert_eq!(refused.unwrap_err().code(), Code::MissingMetadata);
}

#[test]
fn a_missing_table_says_what_to_do_and_a_relay_makes_it() {
    let shop = Shop::new();
    let (app, _) = noting("memory:");
    let connection = shop.open();
    let submit = || app.build("note").input(&1).tx(&connection).submit();
    let error = submit().unwrap_err();
    assert_eq!(error.code(), Code::StoreFailed);
    assert!(error.hint_text().unwrap().contains("App::outbox"), "{error}");
    let source = std::error::Error::source(&error).unwrap();
    assert!(source.downcast_ref::<rusqlite::Error>().is_some(), "the driver's own error is underneath");
    assert_eq!(app.outbox(shop.connect()).unwrap().run_once().unwrap(), 0);
    submit().unwrap();
    assert_eq!(shop.left().len(), 1);
}

#[test]
fn plain_sql_submits_too() {
    on_each_store(|shop, app, ran| {
        app.outbox(shop.connect()).unwrap();
        let running = app.start().unwrap();
        let id = insert(&shop.open(), "note", "7");
        assert_eq!(ran.wait(), 7);
        until(|| shop.left().is_empty());
        assert_eq!(app.get(id.parse().unwrap()).unwrap().unwrap().wait_for::<u32>(LONG).unwrap(), 7);
        running.stop();
    });
}

#[test]
fn bad_rows_are_kept_and_shown_and_hold_up_no_other() {
    on_each_store(|shop, app, ran| {
        let connection = shop.open();
        let transaction = connection.unchecked_transaction().unwrap();
        let broken = insert(&connection, "note", "{\"a\": ");
        let unknown = insert(&connection, "nott", "1");
        let option = insert(&connection, "note", "2");
        connection
            .execute("UPDATE taskloom_outbox SET options = '{\"queueue\": 1}' WHERE id = ?", [&option])
            .unwrap();
        connection.execute("INSERT INTO taskloom_outbox (id, name) VALUES ('7', 'note')", []).unwrap();
        let binary = insert(&connection, "note", "4");
        connection
            .execute("UPDATE taskloom_outbox SET payload = CAST(x'22ff22' AS TEXT) WHERE id = ?", [&binary])
            .unwrap();
        connection
            .execute("INSERT INTO taskloom_outbox (id, name) VALUES (CAST(x'39ff' AS TEXT), 'note')", [])
            .unwrap();
        insert(&connection, "note", "3");
        transaction.commit().unwrap();

        let refusals = app.events("outbox.refused").unwrap();
        let outbox = app.outbox(shop.connect()).unwrap();
        let running = app.start().unwrap();
        assert_eq!(ran.wait(), 3);
        until(|| app.health().warnings.iter().any(|warning| warning.contains("cannot become tasks: 6")));
        let rows = outbox.refused(None, 100).unwrap();
        let why = |id: &str| rows.iter().find(|row| row.id == id).unwrap().error.clone();
        assert!(why(&broken).starts_with("TL1201: the row's payload is no JSON"));
        assert!(why(&unknown).starts_with("TL1101: "), "{}", why(&unknown));
        assert!(why(&unknown).contains("hint: did you mean \"note\"?"));
        assert!(why(&option).starts_with("TL1001: there is no option queueue"));
        assert!(why("7").starts_with("TL1001: id \"7\" is not a UUID"));
        assert!(why(&binary).starts_with("TL1201: "));
        assert_eq!(rows.iter().filter(|row| row.id.starts_with('9')).count(), 1, "no UTF-8");
        let pages: Vec<_> = outbox.refused(Some(&rows[1].id), 2).unwrap();
        assert_eq!(pages, rows[2..4]);

        // One is put right, one discarded; the others stay.
        connection.execute("UPDATE taskloom_outbox SET options = NULL WHERE id = ?", [&option]).unwrap();
        assert!(outbox.retry(&option).unwrap() && !outbox.retry("no such row").unwrap());
        assert_eq!(ran.wait(), 2);
        assert!(outbox.discard(&broken).unwrap() && !outbox.discard(&broken).unwrap());
        assert_eq!(outbox.retry_all().unwrap(), 4);
        until(|| app.health().warnings.iter().any(|warning| warning.contains("cannot become tasks: 4")));
        until(|| shop.left().iter().filter(|(_, error)| error.is_some()).count() == 4);
        running.stop();
        let told: Vec<_> = refusals.map(|event| event.data::<serde_json::Value>().unwrap()).collect();
        assert_eq!(told.len(), 10, "six, and four of them again");
        assert_eq!(told.iter().filter(|data| data["row"] == *unknown && data["code"] == "TL1101").count(), 2);
    });
}

#[test]
fn an_id_that_is_known_is_no_error() {
    on_each_store(|shop, app, ran| {
        let outbox = app.outbox(shop.connect()).unwrap();
        let running = app.start().unwrap();
        let connection = shop.open();
        let handle = app.build("note").input(&5).tx(&connection).submit().unwrap();
        assert_eq!(handle.wait_for::<u32>(LONG).unwrap(), 5);
        until(|| shop.left().is_empty());
        // As a relay leaves it that dies before it deletes.
        let again = "INSERT INTO taskloom_outbox (id, name, payload) VALUES (?, 'note', '5')";
        connection.execute(again, [handle.id().to_string()]).unwrap();
        until(|| outbox.relayed() == 2);
        assert!(shop.left().is_empty());
        running.stop();
        assert_eq!(ran.rest(), [5]);
    });
}

#[test]
fn what_cannot_be_deleted_is_relayed_again_and_runs_once() {
    on_each_store(|shop, app, ran| {
        let connection = shop.open();
        connection
            .execute_batch(
                "CREATE TRIGGER stays BEFORE DELETE ON taskloom_outbox BEGIN SELECT RAISE(ABORT, 'it stays'); END",
            )
            .unwrap();
        let events = app.events("outbox.*").unwrap();
        let outbox = app.outbox(shop.connect()).unwrap();
        let running = app.start().unwrap();
        let handle = app.build("note").input(&5).tx(&connection).submit().unwrap();
        assert_eq!(handle.wait_for::<u32>(LONG).unwrap(), 5);
        until(|| outbox.trouble().is_some_and(|trouble| trouble.contains("it stays")));
        assert!(app.health().warnings.iter().any(|warning| warning.contains("it stays")));
        connection.execute_batch("DROP TRIGGER stays").unwrap();
        until(|| shop.left().is_empty());
        until(|| outbox.trouble().is_none());
        running.stop();
        assert_eq!(ran.rest(), [5]);
        let told: Vec<_> = events.map(|event| event.name().to_owned()).collect();
        assert_eq!(told, ["outbox.interrupted", "outbox.resumed"]);
    });
}

#[test]
fn a_relay_that_is_started_twice_is_harmless() {
    on_each_store(|shop, app, ran| {
        let first = app.outbox(shop.connect()).unwrap();
        let second = app.outbox(shop.connect()).unwrap();
        let running = app.start().unwrap();
        first.start().unwrap();
        first.clone().start().unwrap();
        let connection = shop.open();
        for chunk in (0..400).collect::<Vec<u32>>().chunks(40) {
            let transaction = connection.unchecked_transaction().unwrap();
            app.build("note").tx(&connection).submit_many(chunk).unwrap();
            transaction.commit().unwrap();
        }
        let mut all: Vec<_> = (0..400).map(|_| ran.wait()).collect();
        all.sort_unstable();
        assert_eq!(all, (0..400).collect::<Vec<_>>());
        until(|| shop.left().is_empty());
        running.stop();
        assert!(ran.rest().is_empty() && !first.is_running() && !second.is_running());
    });
}

#[test]
fn two_apps_over_one_file_run_no_row_twice() {
    let shop = Shop::with_table();
    let apps: Vec<_> = (0..2).map(|_| noting(&shop.store())).collect();
    apps.iter().for_each(|(app, _)| drop(app.outbox(shop.connect()).unwrap()));
    let running: Vec<_> = apps.iter().map(|(app, _)| app.start().unwrap()).collect();
    let connection = shop.open();
    for chunk in (0..200).collect::<Vec<u32>>().chunks(10) {
        let transaction = connection.unchecked_transaction().unwrap();
        apps[0].0.build("note").tx(&connection).submit_many(chunk).unwrap();
        transaction.commit().unwrap();
    }
    until(|| shop.left().is_empty());
    drop(running);
    let (third, rest) = noting(&shop.store());
    third.start().unwrap().stop();
    // What was left when the two stopped is run by whoever comes next, if it has the time.
    let tasks = third.list(&taskloom::Filter::new().limit(1000)).unwrap();
    assert_eq!(tasks.len(), 200);
    let mut ran: Vec<_> = apps.iter().flat_map(|(_, ran)| ran.rest()).chain(rest.rest()).collect();
    ran.sort_unstable();
    let once = ran.len();
    ran.dedup();
    assert_eq!(ran.len(), once, "none ran twice");
}

#[test]
fn a_database_that_is_away_is_told_once_and_tried_again() {
    on_each_store(|shop, app, ran| {
        let is_away = Arc::new(AtomicBool::new(true));
        let (away, connect) = (Arc::clone(&is_away), shop.connect());
        let tried = Signal::new();
        let tell = tried.sender();
        let events = app.events("outbox.*").unwrap();
        let outbox = app
            .outbox(move || -> Result<Connection, Box<dyn std::error::Error + Send + Sync>> {
                let _ = tell.send(());
                if away.load(Ordering::SeqCst) { Err("nobody is at home".into()) } else { Ok(connect()?) }
            })
            .unwrap();
        let running = app.start().unwrap();
        let handle = app.build("note").input(&5).tx(&shop.open()).submit().unwrap();
        (0..3).for_each(|_| tried.wait());
        let trouble = outbox.trouble().unwrap();
        assert_eq!(trouble, "TL1501: cannot open the outbox's database: nobody is at home");
        assert!(app.health().warnings.contains(&format!("the outbox is not relayed: {trouble}")));
        assert!(app.health().ok && outbox.is_running());
        is_away.store(false, Ordering::SeqCst);
        assert_eq!(handle.wait_for::<u32>(LONG).unwrap(), 5);
        until(|| outbox.trouble().is_none());
        running.stop();
        assert_eq!(ran.rest(), [5]);
        let told: Vec<_> = events.map(|event| event.name().to_owned()).collect();
        assert_eq!(told, ["outbox.interrupted", "outbox.resumed"]);
    });
}

#[test]
fn a_table_that_is_lost_is_made_again() {
    let shop = Shop::with_table();
    let (app, ran) = noting("memory:");
    let outbox = app.outbox(shop.connect()).unwrap();
    let running = app.start().unwrap();
    let connection = shop.open();
    connection.execute_batch("DROP TABLE taskloom_outbox").unwrap();
    until(|| connection.prepare("SELECT id FROM taskloom_outbox").is_ok());
    insert(&connection, "note", "4");
    assert_eq!(ran.wait(), 4);
    until(|| outbox.trouble().is_none());
    running.stop();
}

#[test]
fn what_can_never_be_right_is_refused_at_the_start() {
    let (app, _) = noting("memory:");
    let outbox = app.outbox(Connection::open_in_memory).unwrap();
    let error = app.start().unwrap_err();
    assert_eq!((error.code(), error.kind()), (Code::InvalidOption, Kind::InvalidOptions));
    assert!(error.hint_text().unwrap().contains("Connection::open"), "{error}");
    assert!(!outbox.is_running());
    assert_eq!(outbox.run_once().unwrap_err().code(), Code::InvalidOption);
}

#[test]
fn a_function_that_panics_is_a_database_that_is_away() {
    let shop = Shop::with_table();
    let (app, ran) = noting("memory:");
    let panicked = AtomicBool::new(false);
    let connect = shop.connect();
    app.outbox(move || {
        assert!(panicked.swap(true, Ordering::SeqCst), "the first time");
        connect()
    })
    .unwrap();
    let running = app.start().unwrap();
    insert(&shop.open(), "note", "4");
    assert_eq!(ran.wait(), 4);
    running.stop();
}

#[test]
fn a_relay_is_stopped_and_started_again() {
    on_each_store(|shop, app, ran| {
        let outbox = app.outbox(shop.connect()).unwrap();
        assert!(!outbox.is_running());
        let running = app.start().unwrap();
        assert!(outbox.is_running());
        outbox.stop();
        assert!(!outbox.is_running() && format!("{outbox:?}").contains("is_running: false"));
        let connection = shop.open();
        insert(&connection, "note", "1");
        assert_eq!(shop.left().len(), 1);
        outbox.start().unwrap();
        assert_eq!(ran.wait(), 1);
        until(|| outbox.relayed() == 1);
        let late = app.outbox(shop.connect()).unwrap();
        assert!(late.is_running(), "the app runs");
        running.stop();
        assert!(!outbox.is_running() && !late.is_running());
        assert_eq!(outbox.start().map(|()| outbox.is_running()).ok(), Some(true), "by itself");
        insert(&connection, "note", "2");
        until(|| outbox.trouble().is_some_and(|trouble| trouble.starts_with("TL1701")));
        outbox.stop();
        assert_eq!(shop.left().len(), 1, "the app has stopped, and the row stays");
    });
}

#[test]
fn its_thread_ends_with_the_app() {
    let shop = Shop::with_table();
    let (app, _) = noting("memory:");
    let outbox = app.outbox(shop.connect()).unwrap();
    outbox.start().unwrap();
    assert!(outbox.is_running());
    drop(app); // never started, never stopped
    until(|| !outbox.is_running());
    assert_eq!(outbox.start().unwrap_err().code(), Code::ShutDown);
}

#[test]
fn a_row_is_awaited_whoever_relays_it() {
    let shop = Shop::with_table();
    let (producer, _) = noting(&shop.store());
    let (worker, ran) = noting(&shop.store());
    let connection = shop.open();
    let handles = producer.build("note").tx(&connection).submit_many(&[1, 2]).unwrap();
    let timeout = handles[0].task_within(Duration::ZERO).unwrap_err();
    assert_eq!(timeout.code(), Code::WaitTimeout);
    worker.outbox(shop.connect()).unwrap();
    let (waiting, dropped) = (handles[0].wait_async::<u32>(), handles[1].task_async());
    std::thread::scope(|scope| {
        let waited = scope.spawn(|| block_on(waiting).unwrap());
        drop(dropped);
        let running = worker.start().unwrap();
        assert_eq!(waited.join().unwrap(), 1);
        assert_eq!(block_on(handles[1].task_async()).unwrap().id(), handles[1].id());
        assert_eq!(handles[1].wait_for::<u32>(LONG).unwrap(), 2);
        running.stop();
    });
    assert_eq!(ran.rest().len(), 2);
}

#[test]
fn who_waits_hears_that_the_app_has_stopped() {
    let shop = Shop::with_table();
    let (app, _) = noting("memory:");
    let running = app.start().unwrap();
    let handle = app.build("note").input(&1).tx(&shop.open()).submit().unwrap();
    let waiting = handle.task_async();
    running.stop();
    assert_eq!(block_on(waiting).unwrap_err().code(), Code::ShutDown);
    assert_eq!(handle.wait_for::<u32>(LONG).unwrap_err().code(), Code::ShutDown);
    drop(app);
    assert_eq!(handle.task().unwrap_err().code(), Code::ShutDown);
}

#[test]
fn a_store_that_is_full_is_waited_for() {
    let shop = Shop::with_table();
    let app = App::builder().workers(1).capacity(1).open("memory:").unwrap();
    let (begun, gate) = (Signal::new(), Arc::new(AtomicBool::new(false)));
    let (tell, open) = (begun.sender(), Arc::clone(&gate));
    app.task("note", move |number: u32, _: &Context| -> Result<(), TaskError> {
        tell.send(number)?;
        until(|| open.load(Ordering::SeqCst));
        Ok(())
    })
    .register()
    .unwrap();
    let outbox = app.outbox(shop.connect()).unwrap();
    let running = app.start().unwrap();
    let connection = shop.open();
    insert(&connection, "note", "1");
    assert_eq!(begun.wait(), 1);
    insert(&connection, "note", "2");
    until(|| outbox.trouble().is_some_and(|trouble| trouble.starts_with("TL1301")));
    assert!(outbox.refused(None, 9).unwrap().is_empty(), "that marks no row");
    gate.store(true, Ordering::SeqCst);
    assert_eq!(begun.wait(), 2);
    running.stop();
}

#[test]
fn in_testing_mode_rows_are_relayed_when_told() {
    let shop = Shop::with_table();
    let testing = App::testing().unwrap();
    let app = testing.app();
    app.task("note", |number: u32, _: &Context| -> Result<u32, TaskError> { Ok(number) }).register().unwrap();
    let outbox: Outbox = app.outbox(shop.connect()).unwrap();
    let _running = app.start().unwrap();
    outbox.start().unwrap();
    assert!(!outbox.is_running());
    let day = Duration::from_secs(86_400);
    let handle = app.build("note").input(&3).delay(day).tx(&shop.open()).submit().unwrap();
    assert_eq!(handle.task_within(LONG).unwrap_err().code(), Code::WaitTimeout, "at once");
    assert_eq!(outbox.run_once().unwrap(), 1);
    let task = handle.task().unwrap().unwrap();
    testing.advance(day - Duration::from_secs(1)).unwrap();
    assert_eq!(task.state(), State::Pending);
    testing.advance(Duration::from_secs(1)).unwrap();
    assert_eq!(task.result::<u32>().unwrap(), 3);
}

#[test]
fn a_child_is_no_row_of_a_transaction() {
    let shop = Shop::with_table();
    let (app, _) = noting("memory:");
    let connect = shop.connect();
    app.task("parent", move |_: (), context: &Context| -> Result<String, TaskError> {
        let connection = connect()?;
        let refused = context.build("note").input(&1).tx(&connection).submit();
        Ok(refused.err().map(|error| error.message().to_owned()).unwrap_or_default())
    })
    .register()
    .unwrap();
    let running = app.start().unwrap();
    let message: String = app.submit("parent", &()).unwrap().wait_for(LONG).unwrap();
    assert_eq!(message, "a child of a task is no row of a transaction");
    running.stop();
    assert!(shop.left().is_empty());
}
