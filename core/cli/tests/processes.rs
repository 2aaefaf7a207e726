//! The command beside a process that works: what it waits for, what it sees, and how it ends.

mod common;

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use common::{LONG, Place, taskloom};
use taskloom::{Filter, State};

#[test]
fn a_submit_waits_for_what_another_process_runs() {
    let place = Place::with_handlers();
    let running = place.app();
    let running = running.start().unwrap();
    let said = place.run(&["submit", "greet", "\"Ada\"", "--wait=100s"]);
    assert_eq!((said.out.as_str(), said.err.as_str(), said.code), ("\"hello Ada\"\n", "", Some(0)));
    let said = place.run(&["submit", "fail", "\"no\"", "--wait"]);
    assert_eq!((said.out.as_str(), said.code), ("", Some(4)));
    assert!(said.err.contains("failed: Refused: no"), "{}", said.err);
    let said = place.run(&["submit", "greet", "\"Eve\"", "--wait", "--json"]);
    assert!(said.out.contains(r#""result":"hello Eve""#) && said.err.is_empty(), "{}{}", said.out, said.err);
    running.stop();
    // Nobody is there any more.
    let said = place.run(&["submit", "greet", "\"Bob\"", "--wait=10ms"]);
    assert_eq!((said.out.as_str(), said.code), ("", Some(5)));
    assert!(said.err.contains("no process") && said.err.contains("goes on"), "{}", said.err);
}

#[test]
fn options_reach_the_task() {
    let place = Place::with_handlers();
    let said = place.run(&[
        "submit",
        "greet",
        "[1.10, \"\u{e9}\"]",
        "--queue",
        "slow",
        "--priority",
        "high",
        "--delay",
        "1h",
        "--tag",
        "a",
        "-t",
        "b",
        "--retries",
        "4",
        "--timeout",
        "1m30s",
        "--expires",
        "3 days",
        "--deadline",
        "2999-01-01T00:00:00Z",
        "--unique-key",
        "k",
        "--unique-for",
        "1d",
        "--on-conflict",
        "reject",
        "--key",
        "tenant",
        "--concurrency",
        "2",
        "--rate",
        "10/s",
        "--metadata",
        "initiator=ada=b",
        "--correlation-id",
        "c",
        "--id",
        "0190b0a0-0000-7000-8000-000000000007",
    ]);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    assert_eq!(said.out, "0190b0a0-0000-7000-8000-000000000007\n");
    let app = place.app();
    let tasks = app.list(&Filter::new().queue("slow").tag("b").state(State::Pending)).unwrap();
    let info = tasks[0].info();
    assert_eq!((info.priority.as_str(), info.retries, info.timeout.unwrap().as_secs()), ("high", 4, 90));
    assert_eq!((info.unique_key.as_deref(), info.key.as_deref()), (Some("k"), Some("tenant")));
    assert_eq!(info.metadata, [("initiator".to_owned(), "ada=b".to_owned())]);
    assert!(info.eta.is_some() && info.expires.is_some() && info.deadline.is_some());
    // As it was written, to the last zero.
    assert_eq!(info.input::<(f64, String)>().unwrap(), (1.1, "\u{e9}".to_owned()));
    let again = place.run(&["submit", "greet", "--unique-key", "k", "--on-conflict", "reject", "--json"]);
    assert_eq!(again.code, Some(1));
    assert!(again.err.contains(r#""code":"TL1302""#), "{}", again.err);
}

#[test]
fn input_comes_from_a_pipe() {
    let place = Place::with_handlers();
    let file = place.path().join("input.json");
    for (text, code) in [("\"Ada\"\n", 0), ("Ada", 1)] {
        std::fs::write(&file, text).unwrap();
        let input = std::fs::File::open(&file).unwrap();
        let status = taskloom(place.path())
            .args(["--store", "sqlite:tasks.db", "submit", "greet", "-"])
            .stdin(input)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(code), "{text:?}");
    }
    std::fs::write(&file, b"\"\xff\"").unwrap();
    let command = taskloom(place.path())
        .args(["--store", "sqlite:tasks.db", "submit", "greet", "-"])
        .stdin(std::fs::File::open(&file).unwrap())
        .output()
        .unwrap();
    assert_eq!(command.status.code(), Some(1));
}

/// The command as it follows events: from when it says so.
fn follow(place: &Place, more: &[&str]) -> (std::process::Child, BufReader<std::process::ChildStderr>) {
    let mut child = taskloom(place.path())
        .args(["--store", "sqlite:tasks.db", "events", "tail"])
        .args(more)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    told.read_line(&mut line).unwrap();
    assert!(line.contains("following"), "{line}");
    (child, told)
}

#[test]
fn events_are_seen_from_another_process() {
    let place = Place::with_handlers();
    let app = place.app();
    let running = app.start().unwrap();
    app.submit("greet", "before").unwrap().wait_for::<String>(LONG).unwrap();
    let (mut child, _told) = follow(&place, &["task.*", "--name", "greet", "--count", "4"]);
    app.submit("fail", "not asked for").unwrap().wait_for::<()>(LONG).unwrap_err();
    let handle = app.submit("greet", "Ada").unwrap();
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert!(child.wait().unwrap().success());
    let names: Vec<_> = out.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(names, ["task.submitted", "task.started", "task.progress", "task.succeeded"], "{out}");
    assert!(out.lines().all(|line| line.contains(&handle.id().to_string())), "{out}");
    running.stop();
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_what_follows() {
    use std::os::unix::process::ExitStatusExt;
    let place = Place::with_handlers();
    let (mut child, mut told) = follow(&place, &[]);
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    // As whoever started it expects: by the signal, and without a word.
    assert_eq!(child.wait().unwrap().signal(), Some(2));
    let mut rest = String::new();
    told.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
}

#[test]
fn a_reader_that_has_gone_ends_it_quietly() {
    let place = Place::with_handlers();
    place.run(&["submit", "greet", "\"Ada\""]);
    for line in [&["tasks", "list"][..], &["queues", "list", "--json"], &["completion", "zsh"], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = taskloom(place.path())
            .args(["--store", "sqlite:tasks.db"])
            .args(line)
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
            .wait_with_output()
            .unwrap();
        assert_eq!(output.status.code(), Some(141), "{line:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{line:?}");
    }
}

#[cfg(unix)]
#[test]
fn arguments_that_are_no_text_are_refused() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let place = Place::with_handlers();
    let said = place.run(&[
        OsStr::new("tasks"),
        OsStr::new("list"),
        OsStr::new("--queue"),
        OsStr::from_bytes(b"\xff"),
    ]);
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("invalid UTF-8"), "{}", said.err);
}

/// Looking at a store changes nothing in it, and no process hears of it.
#[test]
fn who_only_looks_writes_nothing() {
    let place = Place::with_handlers();
    let app = place.app();
    app.submit("greet", "Ada").unwrap();
    let bytes = || {
        let file = |name: &str| std::fs::read(place.path().join(name)).unwrap();
        (file("tasks.db"), file("tasks.db-wal"))
    };
    let before = bytes();
    for line in [&["tasks", "list"][..], &["queues", "list"], &["schedules", "list"], &["doctor"]] {
        let said = place.run(line);
        assert!(said.err.is_empty() || !said.err.contains("TL"), "{}", said.err);
    }
    assert!(bytes() == before, "the store was written to");
    let submitted = place.run(&["submit", "greet", "\"Bob\""]);
    assert_eq!(submitted.code, Some(0));
    assert!(bytes() != before);
}
