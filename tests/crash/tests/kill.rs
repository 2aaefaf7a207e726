//! Producers and workers are killed again and again, at random moments and at chosen ones, and nothing that they
//! acknowledged is lost.
//!
//! The checker is independent of the engine: it reads the file with plain SQL and the log of what was acknowledged.
//! `TASKLOOM_CRASH_KILLS` says how often (100), `TASKLOOM_CRASH_SEED` makes a run again.
#![allow(
    clippy::disallowed_methods,
    reason = "processes are killed at moments of real time, and waited for with a real limit"
)]

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fastrand::Rng;
use rusqlite::{Connection, OpenFlags};

/// No wait that ends well comes near it.
const LONG: Duration = Duration::from_secs(60);

/// How many characters an id has.
const ID: usize = 36;

/// Where the engine dies by itself (`core/engine/src/failpoint.rs`).
const FAILPOINTS: [&str; 3] = ["before the commit", "after the commit", "after the effects"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Producer,
    Worker,
}

struct Victim {
    role: Role,
    child: Child,
    /// Whether it dies by itself.
    armed: bool,
}

impl Victim {
    /// Starts one, and waits until it is at work; or until it has died on the way there, if it is to.
    fn start(scene: &Scene, role: Role, rng: &mut Rng) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_taskloom-victim"));
        command
            .arg(if role == Role::Producer { "producer" } else { "worker" })
            .args([&scene.file, &scene.log])
            .arg(rng.u32(..).to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let armed = rng.u8(..3) == 0;
        if armed {
            let place = FAILPOINTS[rng.usize(..FAILPOINTS.len())];
            command.env("TASKLOOM_FAILPOINT", format!("{place}:{}", rng.u32(1..20)));
        }
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(armed || line == "ready\n", "{role:?} said {line:?}");
        Self { role, child, armed }
    }

    fn kill(mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }
}

struct Scene {
    _folder: tempfile::TempDir,
    file: PathBuf,
    log: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (file, log) = (folder.path().join("tasks.db"), folder.path().join("acknowledged"));
        std::fs::write(&log, "").unwrap();
        Self { _folder: folder, file, log }
    }

    /// The ids in the log. Of a victim that was killed while it wrote, the last one may be there in part, and was
    /// promised to nobody.
    fn acknowledged(&self) -> Vec<String> {
        let log = std::fs::read_to_string(&self.log).unwrap();
        let (ids, rest): (Vec<&str>, Vec<&str>) =
            log.lines().filter(|line| !line.is_empty()).partition(|line| line.len() == ID);
        assert!(rest.iter().all(|part| part.len() < ID), "ids run into each other: {rest:?}");
        ids.into_iter().map(str::to_owned).collect()
    }

    /// Waits until so much more was acknowledged, or until the victim has died.
    fn wait_for_work(&self, victim: &mut Victim, more: u64) {
        let size = || std::fs::metadata(&self.log).unwrap().len();
        let (until, start) = (Instant::now() + Duration::from_millis(40), size());
        while Instant::now() < until && size() < start + more && victim.child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// As any SQL client would read it.
    fn read(&self) -> Connection {
        let conn = Connection::open_with_flags(&self.file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        conn.busy_timeout(LONG).unwrap();
        conn
    }

    /// The tasks that have ended: how, when, and with which result.
    fn ended(&self) -> HashMap<String, (String, String, Option<String>)> {
        let conn = self.read();
        let mut statement = conn
            .prepare(
                "SELECT id, state, finished, result FROM taskloom_tasks \
                 WHERE state NOT IN ('pending', 'queued', 'running', 'retrying')",
            )
            .unwrap();
        let found = statement
            .query_map([], |stored| Ok((stored.get(0)?, (stored.get(1)?, stored.get(2)?, stored.get(3)?))))
            .unwrap();
        found.collect::<Result<_, _>>().unwrap()
    }

    /// Those that have failed because three processes died while they ran them, and for no other reason.
    fn poisonous(&self) -> HashSet<String> {
        let conn = self.read();
        let sql = "SELECT id FROM taskloom_tasks WHERE state = 'failed' AND crashes = 3";
        let mut statement = conn.prepare(sql).unwrap();
        let found = statement.query_map([], |stored| stored.get(0)).unwrap();
        found.collect::<Result<_, _>>().unwrap()
    }

    fn unfinished(&self) -> i64 {
        let sql = "SELECT count(*) FROM taskloom_tasks \
                   WHERE state IN ('pending', 'queued', 'running', 'retrying')";
        self.read().query_row(sql, [], |stored| stored.get(0)).unwrap()
    }
}

fn setting(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |value| value.parse().unwrap_or_else(|_| panic!("{name} is {value:?}")))
}

/// A file that is not there yet is made by whoever comes first, and that may be one that dies of it.
fn is_made(file: &Path) -> bool {
    Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .and_then(|conn| conn.prepare("SELECT 1 FROM taskloom_tasks").map(drop))
        .is_ok()
}

#[test]
fn nothing_acknowledged_is_lost() {
    let kills = setting("TASKLOOM_CRASH_KILLS", 100);
    let seed = setting("TASKLOOM_CRASH_SEED", fastrand::u64(..1 << 32));
    println!("TASKLOOM_CRASH_SEED={seed}");
    let (scene, mut rng) = (Scene::new(), Rng::with_seed(seed));
    let mut victims: Vec<_> =
        [Role::Producer, Role::Worker, Role::Worker].map(|role| Victim::start(&scene, role, &mut rng)).into();
    let (mut ended, mut by_itself) = (HashMap::new(), 0);
    for kill in 0..kills {
        let index = rng.usize(..victims.len());
        let mut victim = victims.swap_remove(index);
        let more = rng.u64(..2_000);
        scene.wait_for_work(&mut victim, more);
        if victim.armed && victim.child.try_wait().unwrap().is_some() {
            by_itself += 1;
        }
        let role = victim.role;
        victim.kill();
        victims.push(Victim::start(&scene, role, &mut rng));
        if kill % 10 == 0 && is_made(&scene.file) {
            // An end is for good, whoever dies after it.
            let now = scene.ended();
            for (id, end) in &ended {
                assert_eq!(now.get(id), Some(end), "task {id} ended twice; seed {seed}");
            }
            ended = now;
        }
    }
    victims.into_iter().for_each(Victim::kill);
    let worker = loop {
        let worker = Victim::start(&scene, Role::Worker, &mut rng);
        if worker.armed {
            worker.kill();
        } else {
            break worker;
        }
    };
    let until = Instant::now() + LONG;
    while scene.unfinished() > 0 {
        assert!(Instant::now() < until, "{} tasks do not end; seed {seed}", scene.unfinished());
        std::thread::sleep(Duration::from_millis(5));
    }
    worker.kill();

    let acknowledged = scene.acknowledged();
    let all = scene.ended();
    let poisonous = scene.poisonous();
    println!(
        "{kills} kills ({by_itself} at failpoints), {} tasks acknowledged, {} in the file, {} died three times",
        acknowledged.len(),
        all.len(),
        poisonous.len()
    );
    assert!(acknowledged.len() as u64 > kills, "hardly anything happened; seed {seed}");
    for (id, end) in &ended {
        assert_eq!(all.get(id), Some(end), "task {id} ended twice; seed {seed}");
    }
    for id in &acknowledged {
        let (state, _, _) =
            all.get(id).unwrap_or_else(|| panic!("task {id} was acknowledged and is lost; seed {seed}"));
        let is_right = state == "succeeded" || poisonous.contains(id);
        assert!(is_right, "task {id} is {state}; seed {seed}");
    }
    // Now and then one is under way at three kills. It is tried alone before the third, so that is seldom.
    assert!(poisonous.len() as u64 <= 1 + kills / 1_000, "{poisonous:?} died three times; seed {seed}");
    let conn = scene.read();
    let sql = "SELECT count(*) FROM taskloom_tasks WHERE state = 'succeeded' AND result IS NOT payload";
    let wrong: i64 = conn.query_row(sql, [], |stored| stored.get(0)).unwrap();
    assert_eq!(wrong, 0, "seed {seed}");
    let intact: String = conn.query_row("PRAGMA integrity_check", [], |stored| stored.get(0)).unwrap();
    assert_eq!(intact, "ok", "seed {seed}");
}
