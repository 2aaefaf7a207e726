//! A reader of events, which holds each against the catalogue.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;
use taskloom_engine::{Engine, Event, FieldType, Subscription, SubscriptionOptions};
use taskloom_model::TaskId;

use super::LONG;

/// A subscription of a test.
pub struct Watch(pub Subscription);

impl Watch {
    pub fn on(engine: &Engine, pattern: &str) -> Self {
        Self(engine.subscribe(pattern, SubscriptionOptions::default()).unwrap())
    }

    /// The next event.
    #[allow(clippy::should_implement_trait, reason = "it never ends: it panics")]
    pub fn next(&self) -> Arc<Event> {
        let event = self.0.next(Some(Instant::now() + LONG)).expect("no event came");
        check(&event);
        event
    }

    /// All up to the first one with this name, and that one.
    pub fn until(&self, name: &str) -> Vec<Arc<Event>> {
        let mut events = Vec::new();
        loop {
            events.push(self.next());
            if events.last().unwrap().name() == name {
                return events;
            }
        }
    }

    /// The names of all up to the first one with this name.
    pub fn names_until(&self, name: &str) -> Vec<String> {
        names(&self.until(name))
    }

    /// What is there now.
    pub fn rest(&self) -> Vec<Arc<Event>> {
        let mut events = Vec::new();
        self.0.drain(&mut events, usize::MAX);
        events.iter().for_each(|event| check(event));
        events
    }
}

pub fn names(events: &[Arc<Event>]) -> Vec<String> {
    events.iter().map(|event| event.name().to_owned()).collect()
}

/// What an event says.
pub fn data(event: &Event) -> Value {
    serde_json::from_str(&event.data).unwrap()
}

/// Holds an event of the core against the catalogue: every property that it must have, of the right type, and no other.
pub fn check(event: &Event) {
    let Some(kind) = event.kind() else { return };
    let info = kind.info();
    let data = data(event);
    let given = data.as_object().unwrap_or_else(|| panic!("{}: {data}", info.name));
    let known: HashSet<_> = info.fields.iter().map(|field| field.name).collect();
    for name in given.keys() {
        assert!(known.contains(name.as_str()), "{} has no {name}: {data}", info.name);
    }
    for field in info.fields {
        match given.get(field.name) {
            Some(value) => {
                assert!(fits(field.of, value), "{}: {} is {value}", info.name, field.name);
            }
            None => assert!(!field.required, "{} lacks {}: {data}", info.name, field.name),
        }
    }
    assert_eq!(event.task.is_some(), info.has_task, "{}", info.name);
    let whole: Value = serde_json::from_str(&event.to_json()).unwrap();
    assert_eq!((&whole["name"], &whole["data"]), (&Value::from(info.name), &data));
}

fn fits(of: FieldType, value: &Value) -> bool {
    let text = value.as_str();
    match of {
        FieldType::Text => text.is_some(),
        FieldType::Word(words) => text.is_some_and(|word| words.contains(&word)),
        FieldType::Texts => value.as_array().is_some_and(|all| all.iter().all(Value::is_string)),
        FieldType::Count => value.is_u64(),
        FieldType::Number => value.is_number(),
        FieldType::Seconds => value.as_f64().is_some_and(|seconds| seconds >= 0.0),
        FieldType::Time => text.is_some_and(|time| time.ends_with('Z') && time.contains('T')),
        FieldType::Id => text.is_some_and(|id| id.parse::<TaskId>().is_ok()),
        FieldType::Flag => value.is_boolean(),
        FieldType::Failure => value["type"].is_string() && value["message"].is_string(),
    }
}
