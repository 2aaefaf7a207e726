//! A store with something in it, and a shell to run the command in.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses some of it")]

use std::ffi::OsStr;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use taskloom::{App, Context, TaskError, TaskId};
use tempfile::TempDir;

/// Longer than anything takes on a machine that works.
pub const LONG: Duration = Duration::from_secs(120);

/// The command, ready to be given arguments; nothing of the environment is left but where programs are.
pub fn taskloom(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_taskloom"));
    command.env_clear().env("LANG", "C.UTF-8").current_dir(directory).stdin(Stdio::null());
    command
}

/// What a run of the command came to.
pub struct Said {
    pub out: String,
    pub err: String,
    pub code: Option<i32>,
}

/// A directory with a store in it.
pub struct Place {
    pub directory: TempDir,
}

impl Place {
    /// An empty directory.
    pub fn empty() -> Self {
        Self { directory: TempDir::new().unwrap() }
    }

    /// A store with handlers that were registered once, and nothing else.
    pub fn with_handlers() -> Self {
        let place = Self::empty();
        // Its handlers are noted when it is started.
        place.app().start().unwrap().stop();
        place
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn file(&self) -> PathBuf {
        self.path().join("tasks.db")
    }

    /// An app over the store, with handlers; the caller starts it, or does not.
    pub fn app(&self) -> App {
        let app = App::builder().workers(2).open(&format!("sqlite:{}", self.file().display())).unwrap();
        app.task("greet", |name: String, context: &Context| -> Result<String, TaskError> {
            context.progress(0.5, "half-way")?;
            Ok(format!("hello {name}"))
        })
        .register()
        .unwrap();
        app.task("fail", |what: String, _: &Context| -> Result<(), TaskError> {
            Err(TaskError::new(what).of_kind("Refused"))
        })
        .register()
        .unwrap();
        app
    }

    /// Runs the command on the store.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Said {
        let mut command = taskloom(self.path());
        let output = command.env("TASKLOOM_STORE", "sqlite:tasks.db").args(arguments).output().unwrap();
        Said {
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
            code: output.status.code(),
        }
    }

    /// Runs one command after the other, and writes down what each of them says, as a terminal would show it. What is
    /// never twice the same is replaced by its name.
    pub fn session(&self, lines: &[&str]) -> String {
        let mut all = String::new();
        for line in lines {
            let said = self.run(&words(line));
            writeln!(all, "$ taskloom {line}").unwrap();
            all.push_str(&said.out);
            for line in said.err.lines() {
                writeln!(all, "2> {line}").unwrap();
            }
            if said.code != Some(0) {
                writeln!(all, "[exit code {:?}]", said.code.unwrap_or(-1)).unwrap();
            }
            all.push('\n');
        }
        let directory = self.path().canonicalize().unwrap();
        let all = all.replace(&directory.display().to_string(), "<directory>");
        without_times(&all.replace(&self.path().display().to_string(), "<directory>"))
    }
}

/// An id that is easy to see.
pub fn id(number: u8) -> TaskId {
    format!("0190b0a0-0000-7000-8000-0000000000{number:02}").parse().unwrap()
}

/// The words of a command line: those in single quotes are one.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (place, part) in line.split('\'').enumerate() {
        if place % 2 == 0 {
            words.extend(part.split_whitespace().map(str::to_owned));
        } else {
            words.push(part.to_owned());
        }
    }
    words
}

/// The text with times and spans of this run replaced.
fn without_times(text: &str) -> String {
    const TIME: &str = "2026-11-22T00:00:00.000000Z";
    let mut out = String::new();
    let mut rest = text;
    while let Some(place) = rest.find('T') {
        let is_time = place >= 10
            && rest.is_char_boundary(place - 10)
            && rest.get(place - 10..place + 17).is_some_and(|found| {
                found.bytes().zip(TIME.bytes()).all(|(found, sample)| {
                    if sample.is_ascii_digit() { found.is_ascii_digit() } else { found == sample }
                })
            });
        if is_time {
            out.push_str(&rest[..place - 10]);
            out.push_str("<time>");
            rest = &rest[place + 17..];
        } else {
            out.push_str(&rest[..=place]);
            rest = &rest[place + 1..];
        }
    }
    out.push_str(rest);
    out
}
