//! The Rust process of the tests in this folder; `peers.py` has the protocol that all of them speak.
//!
//! It has the handlers that it is told to serve, and does what the lines on its standard input say, one after the other.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{self, BufRead, Write};
use std::sync::mpsc;
use std::time::Duration;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use taskloom::{
    App, Context, Error, Filter, Handle, OnConflict, RetryAfter, Running, State, TaskBuilder, TaskError,
    TaskId,
};

const PATIENCE: Duration = Duration::from_secs(60);

fn say(line: &Value) {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("whoever asked reads the answer");
}

// ── handlers ────────────────────────────────────────────────────────────────────────────────────────────────────────

#[derive(Deserialize)]
struct Echo {
    text: String,
    number: f64,
    list: Vec<Value>,
}

#[derive(Serialize)]
struct Echoed {
    by: &'static str,
    text: String,
    number: f64,
    list: Vec<Value>,
}

fn echo(Echo { text, number, list }: Echo, _: &Context) -> Result<Echoed, TaskError> {
    Ok(Echoed { by: "rust", text, number, list })
}

fn fail(input: HashMap<String, String>, _: &Context) -> Result<(), TaskError> {
    Err(TaskError::permanent(input["message"].clone()).of_kind("Refused"))
}

/// Fails the first time, and goes on from its checkpoint the second time.
fn steady(_: Value, context: &Context) -> Result<Value, TaskError> {
    if let Some(found) = context.load_checkpoint::<Value>()? {
        context.log("info", "second by rust")?;
        return Ok(json!({"by": "rust", "checkpoint": found, "attempt": context.attempt()}));
    }
    say(&json!({"told": "began"}));
    context.progress(0.5, "half by rust")?;
    context.log("info", "first by rust")?;
    context.save_checkpoint(&json!({"by": "rust", "seen": [1, 2]}))?;
    Err(TaskError::new("not yet").retry_after(RetryAfter::In(Duration::from_secs(3_600))))
}

fn parent(input: HashMap<String, Value>, context: &Context) -> Result<Value, TaskError> {
    let child = context.submit(input["child"].as_str().unwrap_or_default(), &input["input"])?;
    let result: Value = child.wait_for(PATIENCE)?;
    Ok(json!({"by": "rust", "child": result}))
}

fn endless(_: Value, context: &Context) -> Result<(), TaskError> {
    say(&json!({"told": "began"}));
    while !context.is_cancelled() {
        std::thread::park_timeout(Duration::from_millis(2)); // the handler's work
    }
    say(&json!({"told": "cancelled"}));
    Ok(())
}

/// Says in a file that it begins and that it ends.
fn slot(input: HashMap<String, String>, _: &Context) -> Result<(), TaskError> {
    let mut file = OpenOptions::new().append(true).create(true).open(&input["path"])?;
    file.write_all(b"begin rust\n")?;
    file.sync_all()?;
    file.write_all(b"end rust\n")?;
    Ok(())
}

fn register(app: &App, name: &str) -> Result<(), Error> {
    match name {
        "echo" => app.task(name, echo).register(),
        "fail" => app.task(name, fail).register(),
        "steady" => app.task(name, steady).register(),
        "parent" => app.task(name, parent).register(),
        "endless" => app.task(name, endless).register(),
        "slot" => app.task(name, slot).register(),
        other => panic!("no handler of this test is named {other}"),
    }
}

// ── what it is asked ────────────────────────────────────────────────────────────────────────────────────────────────

fn open(shop: &str) -> rusqlite::Result<Connection> {
    let connection = Connection::open(shop)?;
    connection.busy_timeout(PATIENCE)?;
    Ok(connection)
}

struct Peer {
    app: App,
    running: Option<Running>,
}

#[derive(Deserialize)]
struct Line {
    ask: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    id: String,
    #[serde(default)]
    input: Value,
    #[serde(default)]
    options: HashMap<String, Value>,
    #[serde(default)]
    shop: String,
}

impl Peer {
    fn handle(&self, id: &str) -> Result<Handle, Error> {
        let id: TaskId = id.parse()?;
        Ok(self.app.get(id)?.expect("it was submitted"))
    }

    fn answer(&mut self, line: &Line) -> Result<Value, Error> {
        Ok(match line.ask.as_str() {
            "serve" => {
                line.names.iter().try_for_each(|name| register(&self.app, name))?;
                self.running = Some(self.app.start()?);
                Value::Null
            }
            "stop" => {
                drop(self.running.take());
                Value::Null
            }
            "submit" => json!(self.build(line).submit()?.id().to_string()),
            "enqueue" => {
                let mut shop = open(&line.shop).expect("the shop's database opens");
                let transaction = shop.transaction().expect("it begins");
                let handle = self.build(line).tx(&transaction).submit()?;
                transaction.commit().expect("it is committed");
                json!(handle.id().to_string())
            }
            "relay" => {
                let path = line.shop.clone();
                let outbox = self.app.outbox(move || open(&path))?;
                let moved = outbox.run_once()?;
                let refused = outbox.refused(None, 100)?;
                json!([moved, refused.iter().map(|row| json!([row.id, row.error])).collect::<Vec<_>>()])
            }
            "wait" => self.wait(&line.id)?,
            "cancel" => json!(self.handle(&line.id)?.cancel(Some("by rust"))?),
            "run_now" => json!(self.app.run_now(line.id.parse()?)?.id().to_string()),
            "schedule" => {
                register(&self.app, &line.name)?;
                let every = self.app.every(Duration::from_secs(3_600)).name("hourly").input(&line.input);
                every.schedule(&line.name)?;
                Value::Null
            }
            "trigger" => json!(self.app.schedules().trigger(&line.name)?.id().to_string()),
            "list" => {
                let found = self.app.list(&Filter::new().name(&line.name))?;
                json!(found.iter().map(|handle| handle.id().to_string()).collect::<Vec<_>>())
            }
            other => panic!("nobody knows what {other} is"),
        })
    }

    fn build(&self, line: &Line) -> TaskBuilder {
        let mut task = self.app.build(&line.name).input(&line.input);
        for (option, value) in &line.options {
            let text = value.as_str().unwrap_or_default();
            task = match option.as_str() {
                "unique_key" => task.unique_key(text),
                "on_conflict" if text == "reject" => task.on_conflict(OnConflict::Reject),
                "key" => task.key(text),
                "concurrency" => task.concurrency(value.as_u64().expect("a number") as u32),
                "retries" => task.retries(value.as_u64().expect("a number") as u32),
                "delay" => task.delay(Duration::from_secs(value.as_u64().expect("seconds"))),
                other => panic!("no test asks for {other}"),
            };
        }
        task
    }

    fn wait(&self, id: &str) -> Result<Value, Error> {
        let handle = self.handle(id)?;
        let (sender, ended) = mpsc::channel();
        handle.on_done(move |_| {
            let _ = sender.send(());
        });
        ended.recv_timeout(PATIENCE).expect("it ends");
        let info = handle.info();
        let result = match info.state {
            State::Succeeded => handle.result::<Value>()?,
            _ => Value::Null,
        };
        let progress = handle.progress().map(|progress| json!([progress.value, progress.message]));
        let errors: Vec<_> = handle.errors().iter().map(|error| json!([error.kind, error.message])).collect();
        let log: Vec<_> = handle.log().iter().map(|line| json!([line.level, line.message])).collect();
        Ok(json!({
            "state": info.state.as_str(), "result": result, "attempt": info.attempt, "reason": info.reason,
            "errors": errors, "progress": progress, "log": log,
        }))
    }
}

fn main() -> Result<(), Error> {
    let url = std::env::args().nth(1).expect("the store's URL is the one argument");
    let mut peer = Peer { app: App::builder().workers(2).open(&url)?, running: None };
    for line in io::stdin().lock().lines() {
        let line: Line = serde_json::from_str(&line.expect("lines are UTF-8")).expect("lines are JSON");
        match peer.answer(&line) {
            Ok(answer) => say(&json!({"answer": answer})),
            Err(error) => say(&json!({"error": error.code().as_str(), "message": error.to_string()})),
        }
    }
    Ok(())
}
