//! Relays of an outbox are killed between what they do: every committed row becomes one task, and one that was rolled back
//! never does.
#![allow(
    clippy::disallowed_methods,
    reason = "what another process has done is looked for again and again, with a real limit"
)]

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use taskloom::outbox::Dialect;
use taskloom::{App, Context, Filter, TaskError, TaskId};

/// No wait that ends well comes near it.
const LONG: Duration = Duration::from_secs(60);

/// Enough for several batches.
const ROWS: u32 = 150;

/// Where the relay's engine dies by itself (`core/engine/src/failpoint.rs`): of its transactions, at the first, the second…
const POINTS: [&str; 6] = [
    "before the commit:1",
    "before the commit:2",
    "after the commit:1",
    "after the commit:2",
    "after the effects:1",
    "after the effects:2",
];

struct Scene {
    _folder: tempfile::TempDir,
    store: PathBuf,
    shop: PathBuf,
    connection: Connection,
    committed: HashMap<TaskId, u32>,
    undone: HashSet<TaskId>,
    number: u32,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (store, shop) = (folder.path().join("tasks.db"), folder.path().join("shop.db"));
        let connection = Connection::open(&shop).unwrap();
        connection.busy_timeout(LONG).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        Dialect::Sqlite.schema().iter().for_each(|statement| connection.execute_batch(statement).unwrap());
        let (committed, undone) = (HashMap::new(), HashSet::new());
        Self { _folder: folder, store, shop, connection, committed, undone, number: 0 }
    }

    fn app(&self) -> App {
        let app = App::builder().workers(2).open(&format!("sqlite:{}", self.store.display())).unwrap();
        app.task("note", |number: u32, _: &Context| -> Result<u32, TaskError> { Ok(number) })
            .register()
            .unwrap();
        app
    }

    /// Rows of three transactions, of which the second is rolled back.
    fn write(&mut self, app: &App) {
        for commits in [true, false, true] {
            let numbers: Vec<u32> = (self.number..self.number + ROWS).collect();
            self.number += ROWS;
            let transaction = self.connection.transaction().unwrap();
            let handles = app.build("note").tx(&transaction).submit_many(&numbers).unwrap();
            let ids = handles.iter().map(taskloom::outbox::OutboxHandle::id);
            if commits {
                transaction.commit().unwrap();
                self.committed.extend(ids.zip(numbers));
            } else {
                transaction.rollback().unwrap();
                self.undone.extend(ids);
            }
        }
    }

    fn relay(&self, point: Option<&str>) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_taskloom-relay"));
        command
            .args([&self.store, &self.shop])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some(point) = point {
            command.env("TASKLOOM_FAILPOINT", point);
        }
        command.spawn().unwrap()
    }

    fn left(&self) -> HashSet<TaskId> {
        let mut statement = self.connection.prepare("SELECT id FROM taskloom_outbox").unwrap();
        let ids = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        ids.map(|id| id.unwrap().parse().unwrap()).collect()
    }

    /// The tasks in the store, as any SQL client would read it.
    fn stored(&self) -> HashSet<TaskId> {
        let store = Connection::open_with_flags(&self.store, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        store.busy_timeout(LONG).unwrap();
        let mut statement = store.prepare("SELECT id FROM taskloom_tasks").unwrap();
        let ids = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        ids.map(|id| id.unwrap().parse().unwrap()).collect()
    }

    /// Rows whose task is in the store already: what a relay leaves that dies between the two.
    fn between(&self) -> usize {
        self.left().intersection(&self.stored()).count()
    }

    /// All is relayed, and each task is there, and runs, once.
    fn check(self) {
        let mut relay = self.relay(None);
        until("all is relayed", || self.left().is_empty());
        drop(relay.stdin.take());
        assert!(relay.wait().unwrap().success());

        let app = self.app();
        let running = app.start().unwrap();
        let tasks = app.list(&Filter::new().limit(100_000)).unwrap();
        assert_eq!(tasks.len(), self.committed.len(), "none is missing, none is there twice");
        for task in tasks {
            let number = self.committed.get(&task.id()).copied();
            assert!(number.is_some() && !self.undone.contains(&task.id()));
            assert_eq!(task.wait_for::<u32>(LONG).ok(), number);
            assert_eq!(task.info().attempt, 1);
        }
        running.stop();
    }
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < end, "it has not come to this: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until it has died by itself.
fn wait_for_death(mut relay: Child) {
    let (tell, told) = mpsc::channel();
    let stdin = relay.stdin.take();
    let id = relay.id();
    std::thread::spawn(move || tell.send(relay.wait().map(|status| status.success())));
    let ended =
        told.recv_timeout(LONG).unwrap_or_else(|_| panic!("the relay {id} does not come to its failpoint"));
    assert!(!ended.unwrap(), "it ended well");
    drop(stdin);
}

#[test]
fn relays_that_die_at_a_commit_lose_and_repeat_nothing() {
    let mut scene = Scene::new();
    let app = scene.app();
    let mut between = 0;
    for point in POINTS {
        scene.write(&app);
        wait_for_death(scene.relay(Some(point)));
        between += scene.between();
    }
    assert!(between > 0, "some died after the commit, and before they deleted the rows");
    drop(app);
    scene.check();
}

#[test]
fn a_relay_that_is_killed_before_it_deletes_loses_and_repeats_nothing() {
    let mut scene = Scene::new();
    let app = scene.app();
    scene.write(&app);
    // It can read, and submit, but not delete: only one connection writes at a time.
    let mut lock = Connection::open(&scene.shop).unwrap();
    let lock = lock.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let mut relay = scene.relay(None);
    until("a batch is submitted", || scene.between() > 0);
    relay.kill().unwrap();
    relay.wait().unwrap();
    drop(lock);
    assert!(scene.between() > 0);
    drop(app);
    scene.check();
}
