//! What the commands answer, as snapshots: sessions of the command on a store that no other process works on.

mod common;

use common::{LONG, Place, id};
use taskloom::{Context, TaskError};

/// A store with a task in each of several states, made by an app that has stopped.
fn place() -> Place {
    let place = Place::empty();
    let app = place.app();
    app.task("report", |_: (), _: &Context| -> Result<(), TaskError> { Ok(()) }).register().unwrap();
    let running = app.start().unwrap();
    app.build("greet")
        .input("Ada")
        .id(id(1))
        .tag("first")
        .submit()
        .unwrap()
        .wait_for::<String>(LONG)
        .unwrap();
    let failed =
        app.build("fail").input("on a Tuesday\n\u{1b}[31mred").id(id(2)).queue("mail").submit().unwrap();
    failed.wait_for::<()>(LONG).unwrap_err();
    running.stop();
    let app = place.app();
    app.build("greet").input("Bob").id(id(3)).delay(LONG * 1000).submit().unwrap();
    app.build("greet").input("Eve").id(id(4)).queue("mail").tag("x").submit().unwrap();
    app.build("greet").input("Zoe").id(id(5)).queue("mail").tag("x").submit().unwrap();
    app.task("report", |_: (), _: &Context| -> Result<(), TaskError> { Ok(()) }).register().unwrap();
    app.cron("0 3 * * MON-FRI").name("nightly").tz("Europe/Rome").schedule("report").unwrap();
    app.every(LONG * 1000).name("hourly").input(&7).schedule("greet").unwrap();
    place
}

#[test]
fn tasks_are_listed_and_shown() {
    let place = place();
    insta::assert_snapshot!(place.session(&[
        "tasks list",
        "tasks list --oldest-first --limit 2",
        "tasks list --oldest-first --limit 2 --after 0190b0a0-0000-7000-8000-000000000002",
        "tasks list --state failed",
        "tasks list --dead --queue default",
        "tasks list --unfinished --tag x --name greet",
        "tasks show 0190b0a0-0000-7000-8000-000000000004",
        "tasks show 0190b0a0-0000-7000-8000-000000000099",
        "tasks show 0190b0a0-0000-7000-8000-000000000099 --json",
        "queues list",
        "queues list --json",
        "schedules list",
        "schedules show nightly",
        "schedules show nihgtly",
    ]));
}

#[test]
fn tasks_as_json() {
    let place = place();
    insta::assert_snapshot!(place.session(&[
        "tasks list --json --state queued --limit 1",
        "tasks show --json 0190b0a0-0000-7000-8000-000000000003",
        "schedules show --json hourly",
    ]));
}

#[test]
fn tasks_are_changed() {
    let place = place();
    insta::assert_snapshot!(place.session(&[
        "tasks cancel",
        "tasks cancel 0190b0a0-0000-7000-8000-000000000004 --reason 'not needed'",
        "tasks cancel 0190b0a0-0000-7000-8000-000000000004 0190b0a0-0000-7000-8000-000000000099",
        "tasks cancel --tag x --json",
        "tasks cancel --tag y",
        "tasks replay 0190b0a0-0000-7000-8000-000000000001",
        "tasks replay --state cancelled",
        "tasks replay --state succeeded",
        "tasks discard 0190b0a0-0000-7000-8000-000000000003",
        "tasks discard --state failed",
        "tasks list --state failed",
        "queues pause mail mial",
        "queues pause mail",
        "queues list",
        "queues resume mail mial",
        "queues purge mail",
        "queues list",
        "tasks run 0190b0a0-0000-7000-8000-000000000003 --app app:app",
    ]));
}

#[test]
fn schedules_are_changed() {
    let place = place();
    insta::assert_snapshot!(place.session(&[
        "schedules disable nightly",
        "schedules disable nightly",
        "schedules next nightly --count 1",
        "schedules enable nightly --json",
        "schedules next hourly --count 2 --json",
        "schedules trigger nihgtly",
        "schedules remove hourly",
        "schedules remove hourly",
    ]));
    let triggered = place.run(&["schedules", "trigger", "nightly", "--json"]);
    assert_eq!((triggered.code, triggered.err.as_str()), (Some(0), ""));
    assert!(triggered.out.contains(r#""schedule":"nightly""#), "{}", triggered.out);
}

#[test]
fn mistakes_are_explained() {
    let place = place();
    std::fs::write(
        place.path().join("notes.txt"),
        "no database at all, and longer than a header would be".repeat(9),
    )
    .unwrap();
    std::fs::write(place.path().join("empty.db"), "").unwrap();
    insta::assert_snapshot!(place.session(&[
        "task list --stat failed",
        "tasks list --state faild",
        "tasks lst",
        "tasks lst --json",
        "tasks show 7",
        "tasks list --limit 0",
        "tasks list --limit -1",
        "submit greet '7' --retries -1",
        "submit greet '7' --delay -5",
        "submit greet -7 --retries=-1",
        "tasks list --store memory:",
        "tasks list --store memory:shared",
        "tasks list --store sqllite:tasks.db",
        "tasks list --store tasks.db",
        "tasks list --store sqlite:task.db",
        "tasks list --store sqlite:empty.db",
        "tasks list --store sqlite:notes.txt",
        "tasks list --store sqlite:nowhere/tasks.db",
        "tasks list --store postgresql://localhost/x --json",
        "submit gret",
        "submit greet '{name: 1}'",
        "submit greet '7' --delay 5parsecs",
        "submit greet '7' --eta 2026-03-01T08:00:00",
        "submit greet '7' --rate 10/s",
        "submit greet '7' --metadata initiator",
        "submit greet '7' --id 0190b0a0-0000-7000-8000-000000000001",
        "submit nobody '7' --id 0190b0a0-0000-7000-8000-000000000007 --allow-unknown",
        "events tail queue.paused",
        "events tail 'task.faild'",
        "new task",
        "new task greet",
        "new task 7up --language python",
    ]));
    let none = common::taskloom(place.path()).args(["tasks", "list"]).output().unwrap();
    assert_eq!(none.status.code(), Some(2));
    insta::assert_snapshot!(String::from_utf8_lossy(&none.stderr), @r"
    taskloom: no store is named (TL1004)
    hint: say --store sqlite:tasks.db, or set TASKLOOM_STORE
    ");
}

#[test]
fn nothing_is_made_where_nothing_is() {
    let place = Place::empty();
    for line in [&["tasks", "list"][..], &["submit", "greet"], &["queues", "pause", "x"], &["doctor"]] {
        let said = place.run(line);
        assert_eq!(said.code, Some(3), "{}", said.err);
        assert!(said.out.is_empty() && said.err.contains("TL1506"), "{}", said.err);
    }
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn a_doctor_tells_problems_by_its_exit_code() {
    let place = place();
    let said = place.run(&["doctor", "--json"]);
    // Nobody is there to run what is queued.
    assert_eq!(said.code, Some(6), "{}{}", said.out, said.err);
    assert!(
        said.out.contains(r#""check":"processes""#) && said.out.contains(r#""ok":false"#),
        "{}",
        said.out
    );
    let app = place.app();
    let running = app.start().unwrap();
    app.get(id(5)).unwrap().unwrap().wait_for::<String>(LONG).unwrap();
    let said = place.run(&["doctor"]);
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    app.pause("mail").unwrap();
    assert_eq!(place.run(&["doctor"]).code, Some(0));
    assert_eq!(place.run(&["doctor", "--strict"]).code, Some(6));
    running.stop();
}

#[test]
fn files_to_begin_with_are_written_once() {
    let place = Place::empty();
    insta::assert_snapshot!(place.session(&[
        "new task mail/sendAll --language python",
        "new task mail/sendAll --language python",
        "new task mail/sendAll --language python --force --json",
        "new task import --language node --output -",
        "new subscriber big-alarm --language python -o -",
        "new subscriber alarm --language node -o no/such/place.mjs",
        "new task greet --language python --force -o .",
    ]));
    assert!(place.path().join("send_all.py").is_file());
}

#[test]
fn every_shell_completes() {
    let place = Place::empty();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let said = place.run(&["completion", shell]);
        assert_eq!(said.code, Some(0));
        assert!(said.out.contains("schedules") && said.out.contains("taskloom"), "{shell}");
    }
    assert!(place.run(&["--version"]).out.starts_with("taskloom "));
}
