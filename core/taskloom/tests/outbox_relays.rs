//! Relays of an outbox in SQLite, through rusqlite: how they live, and what they bear.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::shop::{Shop, insert, on_each_store};
use common::{LONG, Signal, names, noting, until};
use rusqlite::Connection;
use taskloom::outbox::Outbox;
use taskloom::{App, Code, Context, Kind, State, TaskError};

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
        assert_eq!(names(events), ["outbox.interrupted", "outbox.resumed"]);
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
        assert_eq!(names(events), ["outbox.interrupted", "outbox.resumed"]);
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
