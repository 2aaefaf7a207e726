//! Events as structured logs: each is a line of JSON, the same in every language.
//!
//! # What it owns
//! The correlation ids of the tasks that it has written about lately. Only `task.submitted` tells one; for a task whose
//! submit was not heard, whoever writes is asked once. More than [`REMEMBERED`] are not kept: the oldest goes first, and
//! is asked for again if it must be.
//!
//! Lines are nothing but ASCII, so that any encoding of a stream will do, and one event is one line whatever its data holds.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write;
use std::sync::Arc;

use serde_json::Value;
use taskloom_engine::{Engine, Event};
use taskloom_model::TaskId;

/// Of how many tasks the correlation id is remembered: the newest.
const REMEMBERED: usize = 10_000;

/// By the last part of the name of an event of the catalogue; all others are `info`.
const LEVELS: [(&str, &str); 8] = [
    ("failed", "error"),
    ("retrying", "warning"),
    ("timed_out", "warning"),
    ("lost", "warning"),
    ("late", "warning"),
    ("stuck", "warning"),
    ("blocked", "warning"),
    ("dropped", "warning"),
];

/// Writes events as lines.
pub struct JsonLogs {
    environment: String,
    /// The one that writes. Which one an event happened on, it does not tell.
    thread: String,
    process: u32,
    correlations: HashMap<TaskId, Option<String>>,
    /// Their tasks, oldest first.
    order: VecDeque<TaskId>,
}

impl JsonLogs {
    /// `environment` is what the program calls the place that it runs in, `thread` the thread that writes.
    pub fn new(environment: String, thread: String) -> Self {
        let (correlations, order) = (HashMap::new(), VecDeque::new());
        Self { environment, thread, process: std::process::id(), correlations, order }
    }

    /// The lines of some events of an engine. Without it, correlation ids are only known of tasks whose submit was heard.
    pub fn lines(&mut self, events: &[Arc<Event>], engine: Option<&Engine>) -> String {
        self.lines_asking(events, |id| {
            // What cannot be found, in a file that is gone or an engine that has stopped, has none.
            let handle = engine?.get(id).ok()??;
            handle.task().spec().rare.as_deref()?.correlation_id.clone()
        })
    }

    /// The same; `ask` finds the correlation id of a task.
    fn lines_asking(&mut self, events: &[Arc<Event>], ask: impl Fn(TaskId) -> Option<String>) -> String {
        let mut out = String::with_capacity(events.len() * 400);
        for event in events {
            self.line(&mut out, event, &ask);
        }
        out
    }

    fn line(&mut self, out: &mut String, event: &Event, ask: impl Fn(TaskId) -> Option<String>) {
        let name = event.name();
        let data: Value = serde_json::from_str(&event.data).unwrap_or(Value::Null);
        // The catalogue says what the data of its events means; that of others is theirs.
        let is_known = event.kind().is_some();
        let correlation = event.task.and_then(|task| self.correlation(task, name, &data, ask));
        let (entity, which) = entity(event, &data, is_known, self.process);
        let _ = write!(out, "{{\"time\":\"{}\"", event.time);
        write_text(out, "level", Some(level(name, &data, is_known)));
        write_text(out, "component", Some("taskloom"));
        write_text(out, "message", Some(&message(name, &data)));
        write_text(out, "environment", Some(&self.environment));
        write_text(out, "version", Some(env!("CARGO_PKG_VERSION")));
        let _ = write!(out, ",\"process\":{}", self.process);
        write_text(out, "thread", Some(&self.thread));
        if let Some(correlation) = correlation {
            write_text(out, "correlation_id", Some(&correlation));
        }
        write_text(out, "entity_type", entity);
        write_text(out, "entity_id", which.as_deref());
        write_text(out, "event_type", Some(name));
        out.push_str(",\"data\":");
        write_ascii(out, &event.data);
        out.push_str("}\n");
    }

    fn correlation(
        &mut self,
        task: TaskId,
        event: &str,
        data: &Value,
        ask: impl Fn(TaskId) -> Option<String>,
    ) -> Option<String> {
        let is_told = event == "task.submitted";
        if is_told || !self.correlations.contains_key(&task) {
            let found = if is_told { data["correlation_id"].as_str().map(str::to_owned) } else { ask(task) };
            if self.correlations.insert(task, found).is_none() {
                self.order.push_back(task);
            }
            if self.order.len() > REMEMBERED
                && let Some(oldest) = self.order.pop_front()
            {
                self.correlations.remove(&oldest);
            }
        }
        self.correlations.get(&task)?.clone()
    }
}

fn level<'a>(name: &str, data: &'a Value, is_known: bool) -> &'a str {
    if !is_known {
        return "info";
    }
    if name == "task.log" {
        return data["level"].as_str().unwrap_or("info");
    }
    let what = name.split_once('.').map_or("", |(_, what)| what);
    LEVELS.iter().find(|(of, _)| *of == what).map_or("info", |(_, level)| level)
}

/// What an event is about: its kind, and which one it is.
fn entity<'a>(
    event: &'a Event,
    data: &Value,
    is_known: bool,
    process: u32,
) -> (Option<&'a str>, Option<String>) {
    let area = if is_known { event.name().split('.').next().unwrap_or_default() } else { "" };
    match area {
        "queue" | "handler" | "worker" => (Some(area), Some(said(&data[area]))),
        "events" => (Some("subscriber"), Some(said(&data["subscriber"]))),
        "engine" => (Some(area), Some(process.to_string())),
        _ => event.task.map_or((None, None), |task| (Some("task"), Some(task.to_string()))),
    }
}

/// An event in words.
fn message(name: &str, data: &Value) -> String {
    let mut out = name.to_owned();
    let Value::Object(data) = data else { return out };
    if let Some(subject) = ["name", "handler", "queue", "subscriber"].iter().find_map(|key| data.get(*key)) {
        let _ = write!(out, " {}", said(subject));
    }
    let error = data.get("error");
    if let Some(kind) = error.and_then(|error| error.get("type")) {
        let message = error.and_then(|error| error.get("message")).map_or_else(String::new, said);
        let _ = write!(out, ": {}: {message}", said(kind));
    } else if let Some(why) = data.get("message").or_else(|| data.get("reason"))
        && !why.is_null()
    {
        let _ = write!(out, ": {}", said(why));
    }
    out
}

/// A value as a part of a sentence.
fn said(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn write_text(out: &mut String, key: &str, value: Option<&str>) {
    let _ = write!(out, ",\"{key}\":");
    write_ascii(out, &value.map_or(Value::Null, Value::from).to_string());
}

/// Writes JSON in ASCII, and in one line.
fn write_ascii(out: &mut String, json: &str) {
    for found in json.chars() {
        match found {
            // Inside a text they are escaped already, so this stands between two values.
            '\n' | '\r' | '\t' => out.push(' '),
            ascii if ascii.is_ascii() => out.push(ascii),
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use taskloom_engine::{EventKind, Events, SubscriptionOptions};
    use taskloom_model::Timestamp;

    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_770_000_000_000_000);

    fn task(number: u64) -> TaskId {
        TaskId::from_parts(number, [7; 10])
    }

    /// What is published, as a subscriber has it.
    fn published(publish: impl FnOnce(&Events)) -> Vec<Arc<Event>> {
        let events = Events::new(1);
        let subscription = events.subscribe("*", SubscriptionOptions::default()).unwrap();
        publish(&events);
        let mut all = Vec::new();
        subscription.drain(&mut all, usize::MAX);
        all
    }

    fn logs() -> JsonLogs {
        JsonLogs::new("staging".into(), "main".into())
    }

    #[test]
    fn an_event_is_a_line() {
        let data = r#"{"name":"divide","attempt":1,"error":{"type":"ZeroDivisionError","message":"division by zero"}}"#;
        let events = published(|events| events.publish(EventKind::TaskFailed, NOW, Some(task(1)), || data));
        let lines = logs().lines_asking(&events, |_| Some("request-81".into()));
        let (process, version) = (std::process::id(), env!("CARGO_PKG_VERSION"));
        let id = task(1);
        assert_eq!(
            lines,
            format!(
                r#"{{"time":"{NOW}","level":"error","component":"taskloom","message":"task.failed divide: ZeroDivisionError: division by zero","environment":"staging","version":"{version}","process":{process},"thread":"main","correlation_id":"request-81","entity_type":"task","entity_id":"{id}","event_type":"task.failed","data":{data}}}"#
            ) + "\n"
        );
    }

    #[test]
    fn a_line_is_ascii_and_one_line() {
        let data = "{\n  \"name\": \"Ünï\\n𝄞\"\r\n}";
        let events = published(|events| events.publish_custom("shop.opened", NOW, None, data).unwrap());
        let lines = logs().lines_asking(&events, |_| None);
        assert!(lines.is_ascii() && lines.ends_with('\n') && lines.matches('\n').count() == 1, "{lines}");
        let line: Value = serde_json::from_str(&lines).unwrap();
        assert_eq!(line["data"]["name"], "Ünï\n𝄞");
        assert_eq!(line["message"], "shop.opened Ünï\n𝄞");
        assert_eq!((&line["entity_type"], &line["entity_id"]), (&Value::Null, &Value::Null));
        assert!(line.get("correlation_id").is_none());
    }

    #[test]
    fn what_an_event_is_about_and_how_serious_it_is() {
        let line = |kind: EventKind, task: Option<TaskId>, data: &'static str| -> Value {
            let events = published(|events| events.publish(kind, NOW, task, || data));
            serde_json::from_str(&logs().lines_asking(&events, |_| None)).unwrap()
        };
        let told = |line: Value| ["level", "entity_type", "entity_id"].map(|key| line[key].clone());
        let paused = line(EventKind::QueuePaused, None, r#"{"queue":"slow"}"#);
        assert_eq!(told(paused), ["info", "queue", "slow"]);
        let stuck =
            line(EventKind::WorkerStuck, Some(task(1)), r#"{"worker":3,"handler":"spin","attempt":1}"#);
        assert_eq!(told(stuck), ["warning", "worker", "3"]);
        let process = std::process::id().to_string();
        assert_eq!(told(line(EventKind::EngineStopped, None, "{}")), ["info", "engine", &process]);
        let log =
            line(EventKind::TaskLog, Some(task(1)), r#"{"name":"a","level":"error","message":"on fire"}"#);
        assert_eq!(log["message"], "task.log a: on fire");
        assert_eq!(told(log), ["error", "task", &task(1).to_string()]);
    }

    #[test]
    fn the_level_of_a_users_own_event_is_info_whatever_its_name() {
        let events = published(|events| events.publish_custom("order.failed", NOW, None, "[1]").unwrap());
        let line: Value = serde_json::from_str(&logs().lines_asking(&events, |_| None)).unwrap();
        assert_eq!((&line["level"], &line["message"]), (&"info".into(), &"order.failed".into()));
    }

    #[test]
    fn a_correlation_id_is_asked_for_once_and_the_oldest_is_forgotten() {
        let asked = std::cell::RefCell::new(Vec::new());
        let ask = |id: TaskId| {
            asked.borrow_mut().push(id);
            Some("asked".to_owned())
        };
        let mut logs = logs();
        let submitted = r#"{"name":"a","correlation_id":"told"}"#;
        let mut write = |kind, number, data: &'static str| {
            let events = published(|events| events.publish(kind, NOW, Some(task(number)), || data));
            let line: Value = serde_json::from_str(&logs.lines_asking(&events, ask)).unwrap();
            line["correlation_id"].as_str().unwrap_or_default().to_owned()
        };
        assert_eq!(write(EventKind::TaskSubmitted, 0, submitted), "told");
        assert_eq!(write(EventKind::TaskStarted, 0, "{}"), "told");
        for _ in 0..2 {
            assert_eq!(write(EventKind::TaskStarted, 1, "{}"), "asked");
        }
        assert_eq!(*asked.borrow(), [task(1)]);
        for number in 2..=REMEMBERED as u64 {
            write(EventKind::TaskSubmitted, number, submitted);
        }
        assert_eq!(write(EventKind::TaskStarted, 0, "{}"), "asked");
        assert_eq!(logs.order.len(), REMEMBERED);
        assert_eq!(logs.correlations.len(), REMEMBERED);
    }
}
