//! `worker APP`: runs an application's tasks in processes that are supervised.
//!
//! The command itself is the supervisor, and has no code of the user's in it. What it decides is in `supervise`; what has
//! processes, pipes and signals in it is in `processes`; the worker's end of the pipe is `lifeline`. What a worker process
//! does is written in its own language: `python/taskloom/_worker.py` and `node/src/worker.ts`.

mod measures;
pub(crate) mod message;
#[cfg(unix)]
mod processes;
#[cfg(unix)]
mod signals;
#[cfg(unix)]
mod terminal;

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use taskloom_model::{Code, Error, Result};

use crate::exit::Outcome;
use crate::session::Session;
use crate::supervise::{Backoff, Plan};

/// Runs an application's tasks in supervised processes
///
/// The processes are children of this command. One that ends by itself is followed by another, after a wait that doubles
/// while they go on ending and begins anew after 10 s of health. If the first one ends before it is ready (its module does
/// not import), so does the command, with its exit code. All of them end when this command does, however it ends, and with
/// them what they started.
///
/// SIGTERM and SIGINT (Ctrl-C) let tasks that run finish within --grace, the second one gives them back to the store at
/// once, the third one kills. SIGHUP replaces the processes one after the other, so that they load new code; if it does
/// not start, the old ones go on. When the terminal is closed it stops.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  taskloom worker shop.tasks:app --processes 4
  taskloom worker shop.tasks:make_app() --store sqlite:/var/lib/shop/tasks.db
  taskloom worker shop.tasks:app --queues mail=3,reports=1 --max-tasks 10000 --max-memory 512M
  npx taskloom worker tasks.mjs --processes 2
  kill -HUP $(pidof taskloom)        # new code

The app's own settings hold where no option says otherwise. Exit codes: 0 when it was stopped, that of the worker that
could not start, 2 for an app that cannot be served, and 128 + N when signal N came twice.")]
pub(crate) struct Worker {
    /// The app: module:app or module:make_app() in Python; in JavaScript a file with a default export, or one named app
    #[arg(value_name = "APP")]
    app: OsString,
    /// How many processes
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    processes: u16,
    /// Threads for handlers in each process (Python)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
    /// How many async handlers run at once in each process
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_in_flight: Option<u32>,
    /// The queues to serve: the first ones first, or by weight (mail=3,reports=1)
    #[arg(long, value_name = "QUEUE", value_delimiter = ',')]
    queues: Vec<String>,
    /// Replaces a process after about so many tasks
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_tasks: Option<u64>,
    /// Kills a process with more memory than this (512M, 2G), and replaces it in good time from nine tenths of it on
    #[arg(long, value_name = "SIZE", value_parser = measures::size)]
    max_memory: Option<u64>,
    /// How long tasks that run may take to finish when a process is to end
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = measures::span)]
    grace: Duration,
    /// The longest wait before a process that ended by itself is followed by another
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = measures::span)]
    max_backoff: Duration,
}

impl Worker {
    pub(crate) fn run(self, session: &Session<'_>) -> Outcome {
        if let Some(store) = &session.store {
            refuse_memory(store)?;
        }
        check_language(session.host.language(), &self.app)?;
        if self.workers.is_some() && session.host.language() == "node" {
            return Err(Error::new(
                Code::InvalidOption,
                "JavaScript has no threads for handlers: they run on its event loop",
            )
            .hint("how many run at once is --max-in-flight; --processes adds processes")
            .into());
        }
        let settings = self.settings(session.store.as_deref())?.to_string();
        let backoff = Backoff::default();
        let plan = Plan {
            processes: usize::from(self.processes),
            max_tasks: self.max_tasks,
            max_memory: self.max_memory,
            grace: self.grace,
            backoff: Backoff {
                first: backoff.first.min(self.max_backoff),
                most: self.max_backoff,
                ..backoff
            },
        };
        #[cfg(unix)]
        {
            processes::run(session, plan, &self.app, &settings)
        }
        #[cfg(not(unix))]
        {
            drop((plan, settings));
            Err(Error::new(Code::NotAvailable, "taskloom worker supervises processes as Unix has them")
                .hint("on this system start the app in a program of your own (app.start()), under its service manager")
                .into())
        }
    }

    /// What a worker process is told, as JSON: what the app's own settings give way to, and how it is to end.
    fn settings(&self, store: Option<&str>) -> Result<Value> {
        Ok(json!({
            "store": store,
            "workers": self.workers,
            "max_in_flight": self.max_in_flight,
            "queues": queues(&self.queues)?,
            "grace": self.grace.as_secs_f64(),
            "counts": self.max_tasks.is_some(),
        }))
    }
}

/// `mail,reports` is an order, `mail=3,reports=1` are weights.
fn queues(given: &[String]) -> Result<Value> {
    let weights: Vec<Option<(&str, &str)>> = given.iter().map(|queue| queue.rsplit_once('=')).collect();
    if given.is_empty() {
        return Ok(Value::Null);
    }
    if weights.iter().all(Option::is_none) {
        return Ok(json!(given));
    }
    let mut all = serde_json::Map::new();
    for (queue, weight) in given.iter().zip(weights) {
        let weight = weight.and_then(|(name, weight)| Some((name, weight.parse::<u32>().ok()?)));
        let Some((name, weight)) = weight else {
            return Err(Error::new(
                Code::InvalidOption,
                format!("--queues has {queue:?}; either each queue has a weight, or none has"),
            )
            .hint("write --queues mail=3,reports=1, or --queues mail,reports"));
        };
        all.insert(name.to_owned(), weight.into());
    }
    Ok(all.into())
}

/// A store that no other process can reach has nothing to run for a worker process.
fn refuse_memory(store: &str) -> Result<()> {
    if !store.starts_with("memory:") {
        return Ok(());
    }
    Err(Error::new(
        Code::InvalidOption,
        format!("the store {store} is in the memory of one process: nobody else could submit to it"),
    )
    .hint("a worker needs a store that processes share, such as --store sqlite:tasks.db"))
}

/// Whether the app looks like one of the other language's, for which this command has no runtime.
fn check_language(language: &str, app: &OsString) -> Result<()> {
    let shown = app.to_string_lossy();
    let is_script = Path::new(app)
        .extension()
        .is_some_and(|end| ["mjs", "js", "cjs", "mts", "ts", "cts"].iter().any(|script| end == *script));
    // As in tasks.mjs:app.
    let is_export = shown.rsplit_once(':').is_some_and(|(file, _)| Path::new(file).exists());
    let (what, hint) = match language {
        "python" if is_script => {
            ("this taskloom came with the Python package, and", format!("npx taskloom worker {shown}"))
        }
        "node" if !is_script && !is_export && shown.contains(':') && !Path::new(app).exists() => (
            "this taskloom came with the npm package, and",
            format!("use the command that pip installed, such as .venv/bin/taskloom worker {shown}"),
        ),
        _ => return Ok(()),
    };
    let other = if language == "python" { "JavaScript" } else { "Python" };
    Err(Error::new(Code::InvalidOption, format!("{what} {shown:?} looks like {other}")).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_an_order_or_weights() {
        let given = |list: &[&str]| queues(&list.iter().map(|&queue| queue.to_owned()).collect::<Vec<_>>());
        assert_eq!(given(&[]).unwrap(), Value::Null);
        assert_eq!(given(&["mail", "reports"]).unwrap(), json!(["mail", "reports"]));
        assert_eq!(given(&["mail=3", "reports=1"]).unwrap(), json!({"mail": 3, "reports": 1}));
        for mixed in [&["mail=3", "reports"][..], &["mail=lots"], &["mail=-1"]] {
            let error = given(mixed).unwrap_err();
            assert!(error.message().contains("either each queue has a weight"), "{error}");
        }
    }

    #[test]
    fn memory_is_refused() {
        for store in ["memory:", "memory:shared"] {
            let error = refuse_memory(store).unwrap_err();
            assert!(error.message().contains("nobody else could submit"), "{error}");
        }
        refuse_memory("sqlite:tasks.db").unwrap();
    }

    #[test]
    fn the_other_language_is_told_of() {
        check_language("python", &"shop.tasks:app".into()).unwrap();
        check_language("node", &"tasks.mjs".into()).unwrap();
        let error = check_language("python", &"tasks.mjs".into()).unwrap_err();
        assert_eq!(error.hint_text(), Some("npx taskloom worker tasks.mjs"));
        let error = check_language("node", &"shop.tasks:app".into()).unwrap_err();
        assert!(error.message().contains("looks like Python"), "{error}");
    }
}
