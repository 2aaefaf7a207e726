//! A task kills process after process, and those that run beside it are not to fail with it.
#![allow(
    clippy::disallowed_methods,
    reason = "what another process has done is looked for again and again, with a real limit"
)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use taskloom::{App, Context, TaskError};

/// No wait that ends well comes near it.
const LONG: Duration = Duration::from_secs(60);

/// How the tasks of this name are in the file, as any SQL client would read it: (state, crashes).
fn look(file: &Path, name: &str) -> Vec<(String, u32)> {
    let conn = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    conn.busy_timeout(LONG).unwrap();
    let mut statement = conn.prepare("SELECT state, crashes FROM taskloom_tasks WHERE name = ?").unwrap();
    let found = statement.query_map([name], |stored| Ok((stored.get(0)?, stored.get(1)?))).unwrap();
    found.collect::<Result<_, _>>().unwrap()
}

#[test]
fn neighbours_of_a_task_that_kills_its_process_succeed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tasks.db");
    // It only submits.
    let app = App::open(&format!("sqlite:{}", file.display())).unwrap();
    for name in ["poison", "neighbour"] {
        app.task(name, |(): (), _: &Context| -> Result<(), TaskError> { Ok(()) }).register().unwrap();
    }
    app.submit("poison", &()).unwrap();
    app.submit_many("neighbour", &[(), ()]).unwrap();
    drop(app);
    let all = || [look(&file, "poison"), look(&file, "neighbour")].concat();
    let ended = || all().iter().all(|(state, _)| ["failed", "succeeded"].contains(&state.as_str()));
    let mut deaths = 0;
    let until = Instant::now() + LONG;
    while !ended() {
        let mut worker = Command::new(env!("CARGO_BIN_EXE_taskloom-poison"))
            .arg(&file)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while worker.try_wait().unwrap().is_none() && !ended() {
            assert!(Instant::now() < until, "{:?}", all());
            std::thread::sleep(Duration::from_millis(5));
        }
        if worker.try_wait().unwrap().is_some() {
            deaths += 1;
        } else {
            worker.kill().unwrap();
            worker.wait().unwrap();
        }
    }
    assert_eq!(look(&file, "poison"), [("failed".into(), 3)]);
    assert_eq!(look(&file, "neighbour"), [("succeeded".into(), 2), ("succeeded".into(), 2)]);
    assert_eq!(deaths, 3, "each of the three crashes is that of the poison");
}
