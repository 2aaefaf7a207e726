//! The outbox in PostgreSQL, through tokio-postgres. The server is one of the tests' own (`tools/postgres.py`); where there
//! is none the tests have nothing to look at, and in CI that is a failure.

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use common::{LONG, Signal, names, noting, until};
use taskloom::outbox::{Dialect, OutboxHandle};
use taskloom::{App, Code, Filter};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};

/// A server; one of our own ends with this process, since its standard input does.
struct Server {
    _process: Option<Child>,
    url: String,
}

/// The server that we were given (`tools/postgres.py --around`), or one of this process's; none where PostgreSQL is not
/// installed.
fn server() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    let start = || {
        if let Ok(url) = std::env::var("TASKLOOM_POSTGRES") {
            return Some(Server { _process: None, url });
        }
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tools/postgres.py");
        let mut process = Command::new("python3")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 starts");
        let mut url = String::new();
        BufReader::new(process.stdout.take().expect("piped")).read_line(&mut url).expect("it can be read");
        let is_there = url.starts_with("postgresql:");
        assert!(is_there || std::env::var_os("CI").is_none(), "there is no PostgreSQL");
        is_there.then(|| Server { _process: Some(process), url: url.trim().to_owned() })
    };
    SERVER.get_or_init(start).as_ref()
}

/// A database of a test's own, and an app beside it with a task `note` that says what it was given.
struct Scene {
    url: String,
    folder: TempDir,
    runtime: Runtime,
    client: Client,
    app: App,
    ran: Signal<u32>,
}

impl Scene {
    fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let server = &server()?.url;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let name = format!("shop_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let admin = connect(&runtime, server);
        runtime.block_on(admin.batch_execute(&format!("CREATE DATABASE {name}"))).unwrap();
        let url = server.replace("/postgres", &format!("/{name}"));
        let client = connect(&runtime, &url);
        let folder = tempfile::tempdir().unwrap();
        let (app, ran) = noting(&store(&folder));
        Some(Self { url, folder, runtime, client, app, ran })
    }

    fn with_table() -> Option<Self> {
        let own = Self::new()?;
        Dialect::Postgresql.schema().iter().for_each(|statement| own.run(statement));
        Some(own)
    }

    fn run(&self, sql: &str) {
        self.runtime.block_on(self.client.batch_execute(sql)).unwrap();
    }

    fn relay(&self, app: &App) -> taskloom::outbox::Outbox {
        let url = self.url.clone();
        app.outbox(move || {
            let url = url.clone();
            async move { tokio_postgres::connect(&url, NoTls).await }
        })
        .unwrap()
    }

    /// How many rows there are; those that are being relayed, too.
    fn left(&self) -> i64 {
        let count = self.client.query_one("SELECT count(*) FROM taskloom_outbox", &[]);
        self.runtime.block_on(count).unwrap().get(0)
    }

    fn insert(&self, name: &str, payload: &str) -> String {
        let insert = "INSERT INTO taskloom_outbox (name, payload) VALUES ($1, $2) RETURNING id";
        self.runtime.block_on(self.client.query_one(insert, &[&name, &payload])).unwrap().get(0)
    }

    /// Submits in a transaction that ends as it is told.
    fn submit(&mut self, number: u32, commits: bool) -> OutboxHandle {
        self.runtime.block_on(async {
            let transaction = self.client.transaction().await.unwrap();
            let task = self.app.build("note").input(&number);
            let handle = task.tx(&transaction).submit_async().await.unwrap();
            if commits {
                transaction.commit().await.unwrap()
            } else {
                transaction.rollback().await.unwrap()
            }
            handle
        })
    }

    /// Cuts every connection but our own.
    fn cut(&self) {
        self.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()");
    }
}

fn connect(runtime: &Runtime, url: &str) -> Client {
    let (client, connection) = runtime.block_on(tokio_postgres::connect(url, NoTls)).unwrap();
    runtime.spawn(connection);
    client
}

/// The URL of a store in this folder.
fn store(folder: &TempDir) -> String {
    format!("sqlite:{}", folder.path().join("tasks.db").display())
}

#[test]
fn a_commit_runs_the_task_and_a_rollback_leaves_nothing() {
    let Some(mut scene) = Scene::with_table() else { return };
    let outbox = scene.relay(&scene.app);
    let running = scene.app.start().unwrap();
    let lost = scene.submit(1, false);
    let kept = scene.submit(2, true);
    assert_eq!(scene.runtime.block_on(kept.wait_async::<u32>()).unwrap(), 2);
    assert_eq!(kept.task().unwrap().unwrap().id(), kept.id());
    until(|| scene.left() == 0 && outbox.relayed() == 1);
    assert!(lost.task().unwrap().is_none());
    running.stop();
    assert_eq!(scene.ran.rest(), [2]);
}

#[test]
fn a_client_and_savepoints_insert_too_and_many_at_once() {
    let Some(mut scene) = Scene::with_table() else { return };
    scene.relay(&scene.app);
    let running = scene.app.start().unwrap();
    let app = &scene.app;
    let many: Vec<u32> = (10..210).collect();
    let (alone, all) = scene.runtime.block_on(async {
        let alone = app.build("note").input(&1).tx(&scene.client).submit_async().await.unwrap();
        let mut transaction = scene.client.transaction().await.unwrap();
        let savepoint = transaction.savepoint("s").await.unwrap();
        app.build("note").input(&2).tx(&savepoint).submit_async().await.unwrap();
        savepoint.rollback().await.unwrap();
        let all = app.build("note").tx(&transaction).submit_many_async(&many).await.unwrap();
        transaction.commit().await.unwrap();
        (alone, all)
    });
    assert_eq!(alone.wait_for::<u32>(LONG).unwrap(), 1);
    for (handle, number) in all.iter().zip(&many) {
        assert_eq!(handle.wait_for::<u32>(LONG).unwrap(), *number);
    }
    running.stop();
    assert_eq!(scene.ran.rest().len(), 201);
}

#[test]
fn a_missing_table_says_what_to_do_and_relays_that_start_at_once_make_one() {
    let Some(mut scene) = Scene::new() else { return };
    let error = scene.runtime.block_on(async {
        let transaction = scene.client.transaction().await.unwrap();
        scene.app.build("note").input(&1).tx(&transaction).submit_async().await.unwrap_err()
    });
    assert_eq!(error.code(), Code::StoreFailed);
    assert!(error.hint_text().unwrap().contains("App::outbox"), "{error}");
    let source = std::error::Error::source(&error).unwrap();
    assert!(source.downcast_ref::<tokio_postgres::Error>().is_some(), "the driver's own error is underneath");

    let outboxes: Vec<_> = (0..4).map(|_| scene.relay(&scene.app)).collect();
    std::thread::scope(|scope| {
        outboxes.iter().for_each(|outbox| drop(scope.spawn(|| outbox.start().unwrap())))
    });
    assert!(outboxes.iter().all(|outbox| outbox.is_running() && outbox.trouble().is_none()));
    let running = scene.app.start().unwrap();
    assert_eq!(scene.submit(2, true).wait_for::<u32>(LONG).unwrap(), 2);
    running.stop();
}

#[test]
fn plain_sql_is_heard_of_with_the_trigger_and_found_without() {
    let Some(scene) = Scene::with_table() else { return };
    for number in [1, 2] {
        let (app, ran) = noting(&store(&scene.folder));
        scene.relay(&app);
        let running = app.start().unwrap();
        let id = scene.insert("note", &number.to_string());
        assert_eq!(ran.wait(), number);
        assert_eq!(app.get(id.parse().unwrap()).unwrap().unwrap().wait_for::<u32>(LONG).unwrap(), number);
        running.stop();
        scene.run("DROP TRIGGER IF EXISTS taskloom_outbox_notify ON taskloom_outbox");
    }
}

#[test]
fn bad_rows_are_kept_and_shown_and_hold_up_no_other() {
    let Some(scene) = Scene::with_table() else { return };
    let broken = scene.insert("note", "{\"a\": ");
    let unknown = scene.insert("nott", "1");
    scene.run("INSERT INTO taskloom_outbox (id, name) VALUES ('7', 'note')");
    scene.insert("note", "3");
    let refusals = scene.app.events("outbox.refused").unwrap();
    let outbox = scene.relay(&scene.app);
    let running = scene.app.start().unwrap();
    assert_eq!(scene.ran.wait(), 3);
    let warns = |count: u32| {
        let wanted = format!("cannot become tasks: {count}");
        until(|| scene.app.health().warnings.iter().any(|warning| warning.contains(&wanted)));
    };
    warns(3);
    // In a program that is asynchronous, too.
    let rows = scene.runtime.block_on(async { outbox.refused(None, 100) }).unwrap();
    let why = |id: &str| rows.iter().find(|row| row.id == id).unwrap().error.as_str();
    assert!(why(&broken).starts_with("TL1201: the row's payload is no JSON"));
    assert!(why(&unknown).starts_with("TL1101: "));
    assert!(why("7").starts_with("TL1001: id \"7\" is not a UUID"));
    scene.run(&format!("UPDATE taskloom_outbox SET payload = '4' WHERE id = '{broken}'"));
    assert!(outbox.retry(&broken).unwrap());
    assert_eq!(scene.ran.wait(), 4);
    assert!(outbox.discard("7").unwrap() && !outbox.discard("7").unwrap());
    assert_eq!(outbox.retry_all().unwrap(), 1);
    // Three, and one of them again.
    let told: Vec<_> = refusals.take(4).map(|event| event.data::<serde_json::Value>().unwrap()).collect();
    assert_eq!(told.iter().filter(|data| data["row"] == *unknown).count(), 2);
    warns(1);
    assert_eq!(scene.left(), 1);
    running.stop();
}

#[test]
fn a_connection_that_is_cut_is_opened_again() {
    let Some(mut scene) = Scene::with_table() else { return };
    let events = scene.app.events("outbox.*").unwrap();
    let outbox = scene.relay(&scene.app);
    let running = scene.app.start().unwrap();
    assert_eq!(scene.submit(1, true).wait_for::<u32>(LONG).unwrap(), 1);
    scene.cut();
    assert_eq!(scene.submit(2, true).wait_for::<u32>(LONG).unwrap(), 2);
    until(|| outbox.trouble().is_none());
    running.stop();
    assert_eq!(scene.ran.rest(), [1, 2]);
    assert_eq!(names(events), ["outbox.interrupted", "outbox.resumed"]);
}

#[test]
fn a_server_that_is_away_is_tried_again() {
    let Some(scene) = Scene::with_table() else { return };
    let url = scene.url.clone();
    let tried = Signal::new();
    let (tell, count) = (tried.sender(), AtomicU32::new(0));
    let outbox = scene
        .app
        .outbox(move || {
            tell.send(()).unwrap();
            // Nobody listens on port 1.
            let is_away = count.fetch_add(1, Ordering::SeqCst) < 3;
            let url = if is_away { "postgresql://taskloom@127.0.0.1:1/none".to_owned() } else { url.clone() };
            async move { tokio_postgres::connect(&url, NoTls).await }
        })
        .unwrap();
    let running = scene.app.start().unwrap();
    scene.insert("note", "1");
    (0..2).for_each(|_| tried.wait());
    assert_eq!(scene.ran.wait(), 1);
    until(|| outbox.trouble().is_none());
    running.stop();
}

#[test]
fn what_cannot_be_deleted_is_relayed_again_and_runs_once() {
    let Some(mut scene) = Scene::with_table() else { return };
    scene.run(
        "CREATE FUNCTION stays() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'it stays'; END $$;
         CREATE TRIGGER stays BEFORE DELETE ON taskloom_outbox FOR EACH ROW EXECUTE FUNCTION stays()",
    );
    let outbox = scene.relay(&scene.app);
    let running = scene.app.start().unwrap();
    let handle = scene.submit(5, true);
    assert_eq!(handle.wait_for::<u32>(LONG).unwrap(), 5);
    until(|| outbox.trouble().is_some_and(|trouble| trouble.contains("it stays")));
    scene.run("DROP TRIGGER stays ON taskloom_outbox");
    until(|| scene.left() == 0);
    until(|| outbox.trouble().is_none());
    running.stop();
    assert_eq!(scene.ran.rest(), [5]);
}

#[test]
fn a_row_that_somebody_relays_is_stepped_over() {
    let Some(scene) = Scene::with_table() else { return };
    let held = scene.insert("note", "1");
    scene.run(&format!("BEGIN; SELECT FROM taskloom_outbox WHERE id = '{held}' FOR UPDATE"));
    let other = connect(&scene.runtime, &scene.url);
    let insert = other.batch_execute("INSERT INTO taskloom_outbox (name, payload) VALUES ('note', '2')");
    scene.runtime.block_on(insert).unwrap();
    let outbox = scene.relay(&scene.app);
    assert_eq!(outbox.run_once().unwrap(), 1);
    scene.run("ROLLBACK");
    assert_eq!(outbox.run_once().unwrap(), 1);
    assert_eq!(outbox.relayed(), 2);
}

#[test]
fn several_relays_run_no_row_twice() {
    let Some(mut scene) = Scene::with_table() else { return };
    let (other, others) = noting(&store(&scene.folder));
    let outboxes = [scene.relay(&scene.app), scene.relay(&scene.app), scene.relay(&other)];
    let running = [scene.app.start().unwrap(), other.start().unwrap()];
    let mut handles = Vec::new();
    for chunk in (0..300).collect::<Vec<u32>>().chunks(20) {
        handles.extend(scene.runtime.block_on(async {
            let transaction = scene.client.transaction().await.unwrap();
            let many = scene.app.build("note").tx(&transaction).submit_many_async(chunk).await.unwrap();
            transaction.commit().await.unwrap();
            many
        }));
    }
    for (handle, number) in handles.iter().zip(0..) {
        assert_eq!(handle.wait_for::<u32>(LONG).unwrap(), number);
    }
    until(|| scene.left() == 0);
    until(|| outboxes.iter().map(taskloom::outbox::Outbox::relayed).sum::<u64>() == 300);
    drop(running);
    let mut ran: Vec<_> = scene.ran.rest().into_iter().chain(others.rest()).collect();
    ran.sort_unstable();
    assert_eq!(ran, (0..300).collect::<Vec<_>>());
    assert_eq!(scene.app.list(&Filter::new().limit(1000)).unwrap().len(), 300);
}
