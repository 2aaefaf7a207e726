//! The outbox in SQLite, through rusqlite: submits, the rows that they become, and what becomes of those.

mod common;

use std::time::Duration;

use common::shop::{Shop, insert, on_each_store};
use common::{LONG, block_on, noting, until};
use rusqlite::TransactionBehavior;
use taskloom::{App, Code, Context, Priority, State, TaskError};

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
