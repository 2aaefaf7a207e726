//! `submit NAME [JSON]`: a task for a handler of any language.

use std::io::Read;
use std::time::Duration;

use clap::{Args, ValueEnum};
use taskloom_model::{Code, Error, OnConflict, Options, Priority, Rate, Result, TaskId, When};

use crate::exit::{self, Outcome};
use crate::session::Session;
use crate::{describe, values, waiting};

/// Submits a task for a handler, by name
///
/// Any process may run it that has the handler, whatever language it is written in. The handler has to be known: some process
/// must have registered it in this store at some time (or say --allow-unknown).
///
/// Prints the id of the task, or, with --wait, its result.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  taskloom submit resize '{\"path\": \"a.png\", \"width\": 100}'
  taskloom submit report --queue slow --priority high --tag monthly --delay 10m
  taskloom submit import --wait=5m < /dev/null
  jq -c .order order.json | taskloom submit checkout - --unique-key order-7 --on-conflict reject")]
pub(crate) struct Submit {
    /// The handler's name
    name: String,
    /// Its input: for Python's handlers an object of their arguments. `-` reads it from standard input [default: {}]
    #[arg(value_name = "JSON")]
    input: Option<String>,
    /// Wait until it has ended, and print its result; as --wait=30s for so long at most
    #[arg(long, value_name = "SPAN", num_args = 0..=1, require_equals = true, value_parser = values::duration)]
    wait: Option<Option<Duration>>,
    /// The queue [default: default]
    #[arg(long, short = 'q')]
    queue: Option<String>,
    /// How urgent it is
    #[arg(long, short = 'p', value_parser = values::priority())]
    priority: Option<Priority>,
    /// Not before so long from now: 90, 10m, 1.5h, 2 days
    #[arg(long, value_name = "SPAN", value_parser = values::duration, conflicts_with = "eta")]
    delay: Option<Duration>,
    /// Not before this time: 2026-03-01T08:00:00+01:00
    #[arg(long, value_name = "TIME", value_parser = values::when)]
    eta: Option<When>,
    /// Do not start it later than this: a time, or a span from now
    #[arg(long, value_name = "WHEN", value_parser = values::when)]
    expires: Option<When>,
    /// How long one attempt may take
    #[arg(long, value_name = "SPAN", value_parser = values::duration)]
    timeout: Option<Duration>,
    /// When it must have ended, all attempts together: a time, or a span from now
    #[arg(long, value_name = "WHEN", value_parser = values::when)]
    deadline: Option<When>,
    /// How many failures are followed by another attempt
    #[arg(long, value_name = "COUNT")]
    retries: Option<u32>,
    /// A word to find it by; may be said more than once
    #[arg(long = "tag", short = 't', value_name = "TAG")]
    tags: Vec<String>,
    /// At most one task of the handler that has not ended has this key
    #[arg(long, value_name = "KEY")]
    unique_key: Option<String>,
    /// How long the key stays taken, even when the task has ended
    #[arg(long, value_name = "SPAN", value_parser = values::duration, requires = "unique_key")]
    unique_for: Option<Duration>,
    /// What to do if the key is taken
    #[arg(long, value_enum, requires = "unique_key")]
    on_conflict: Option<Conflict>,
    /// The key under which it takes turns with others
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// How many with its key may run at once
    #[arg(long, value_name = "COUNT", requires = "key", value_parser = clap::value_parser!(u32).range(1..))]
    concurrency: Option<u32>,
    /// How many with its key may start in a period: 10/s, 100/5m
    #[arg(long, requires = "key", value_parser = rate)]
    rate: Option<Rate>,
    /// A fact to keep with it: --metadata initiator=ada; may be said more than once
    #[arg(long, value_name = "KEY=VALUE", value_parser = values::pair)]
    metadata: Vec<(String, String)>,
    /// What ties the tasks of one request together
    #[arg(long, value_name = "TEXT")]
    correlation_id: Option<String>,
    /// The version of the handler that is to run it
    #[arg(long, value_name = "VERSION", value_parser = version)]
    handler_version: Option<taskloom_model::Version>,
    /// The id to give it: submitting the same id twice makes one task, and an error
    #[arg(long, value_parser = values::id)]
    id: Option<TaskId>,
    /// Accept a name that no process has registered yet
    #[arg(long)]
    allow_unknown: bool,
}

fn rate(text: &str) -> std::result::Result<Rate, String> {
    text.parse().map_err(|error: Error| error.message().to_owned())
}

fn version(text: &str) -> std::result::Result<taskloom_model::Version, String> {
    text.parse().map_err(|error: Error| error.message().to_owned())
}

/// What to do if a unique key is taken.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Conflict {
    /// Answer with the task that has it
    Return,
    /// Cancel that one, and take its place
    Replace,
    /// Fail
    Reject,
}

impl Submit {
    pub(crate) fn run(self, session: &Session<'_>) -> Outcome {
        let payload = input(self.input.as_deref())?;
        let options = self.options();
        options.validate()?;
        let engine = session.engine()?;
        let entry = engine.handler_anywhere(&self.name, self.allow_unknown)?;
        let admission = engine.admission_for(&options, &entry)?;
        let handle = engine.submit(&entry, &admission, payload.into(), None, false)?;
        let Some(limit) = self.wait else {
            session.answer(|| describe::task(handle.task()), || handle.id().to_string())?;
            return Ok(exit::DONE);
        };
        let unserved = engine.health().unserved;
        if unserved.iter().any(|unserved| unserved.name == self.name) {
            session.note(&format!(
                "no process that is there now has the handler {:?}; waiting for one",
                self.name
            ));
        }
        waiting::wait_for(session, &handle, limit)
    }

    fn options(&self) -> Options {
        Options {
            id: self.id,
            queue: self.queue.clone(),
            priority: self.priority,
            eta: self.delay.map(When::In).or(self.eta),
            expires: self.expires,
            timeout: self.timeout,
            deadline: self.deadline,
            retries: self.retries,
            version: self.handler_version,
            tags: self.tags.clone(),
            unique_key: self.unique_key.clone(),
            unique_for: self.unique_for,
            on_conflict: self.on_conflict.map(|conflict| match conflict {
                Conflict::Return => OnConflict::Return,
                Conflict::Replace => OnConflict::Replace,
                Conflict::Reject => OnConflict::Reject,
            }),
            key: self.key.clone(),
            concurrency: self.concurrency,
            rate: self.rate,
            metadata: self.metadata.clone(),
            correlation_id: self.correlation_id.clone(),
            ..Options::default()
        }
    }
}

/// The input as it is stored.
fn input(given: Option<&str>) -> Result<Box<[u8]>> {
    let mut text = given.unwrap_or("{}").to_owned();
    if text == "-" {
        text.clear();
        std::io::stdin().read_to_string(&mut text).map_err(|cause| {
            Error::new(Code::InvalidPayload, format!("standard input cannot be read: {cause}"))
                .hint("JSON is UTF-8")
        })?;
    }
    // Stored as it was written: to read a number and write it again may change it.
    let written = text.trim();
    match serde_json::from_str::<serde_json::Value>(written) {
        Ok(_) => Ok(written.as_bytes().into()),
        Err(cause) => {
            let shown: String = written.chars().take(60).collect();
            Err(Error::new(Code::InvalidPayload, format!("the input {shown:?} is not JSON: {cause}")).hint(
                "a text has double quotes, and a shell wants single ones around it all: '{\"name\": \"Ada\"}'",
            ))
        }
    }
}
