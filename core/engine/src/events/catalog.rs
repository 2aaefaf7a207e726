//! What an entry of the event catalogue says, and how it is found. The entries themselves are in `kinds`.
//!
//! The catalogue is data: the command line prints it, `docs/events.md` is written from it, and a pattern that a
//! subscriber mistypes is held against it. The schema of an event's data is not written by hand but made from its
//! [`Field`]s, so the page, the schema and the example cannot drift apart without a test that fails.

use std::fmt;

use taskloom_model::{Code, Error, Result, nearest};

use super::json::Object;
pub use super::kinds::EventKind;

/// What an event is about, in the large.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Category {
    /// One task.
    Task,
    /// A step of a workflow's run.
    Step,
    /// A run of a workflow.
    Workflow,
    /// The engine itself: queues, workers, loops, subscribers.
    Observability,
}

impl Category {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Task, Self::Step, Self::Workflow, Self::Observability];

    /// The word for it in every language.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Step => "step",
            Self::Workflow => "workflow",
            Self::Observability => "observability",
        }
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An event of the core: when it is published, and what it says.
#[derive(Debug)]
pub struct EventInfo {
    /// Which one.
    pub kind: EventKind,
    /// Its name, such as `task.succeeded`.
    pub name: &'static str,
    /// What it is about, in the large.
    pub category: Category,
    /// What happened.
    pub description: &'static str,
    /// Who publishes it, and when.
    pub fired: &'static str,
    /// Whether the event belongs to a task, whose id it then carries.
    pub has_task: bool,
    /// The properties of its data.
    pub fields: &'static [Field],
    /// Data that fits the schema, as JSON.
    pub example: &'static str,
}

impl EventInfo {
    /// The JSON Schema of its data, as JSON. Later versions may add properties, so it does not forbid others.
    pub fn schema(&self) -> String {
        let mut properties = Object::new();
        for field in self.fields {
            properties = properties.raw(field.name, &field.schema());
        }
        let required: Vec<_> =
            self.fields.iter().filter(|field| field.required).map(|field| field.name).collect();
        Object::new()
            .text("$schema", "https://json-schema.org/draft/2020-12/schema")
            .text("title", self.name)
            .text("description", self.description)
            .text("type", "object")
            .raw("properties", &properties.build())
            .texts("required", &required)
            .build()
            .into()
    }
}

/// A property of an event's data.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What values it has.
    pub of: FieldType,
    /// Whether every event of its kind has it.
    pub required: bool,
    /// What it means.
    pub what: &'static str,
}

/// What values a property has.
#[derive(Clone, Copy, Debug)]
pub enum FieldType {
    /// Any text.
    Text,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Several texts.
    Texts,
    /// A whole number, not negative.
    Count,
    /// A number.
    Number,
    /// A span of time, in seconds, with a fraction.
    Seconds,
    /// A point in time: ISO 8601, UTC.
    Time,
    /// The id of a task.
    Id,
    /// Yes or no.
    Flag,
    /// An error: its type in its own language, and its message.
    Failure,
}

impl Field {
    /// A property that every event of its kind has.
    pub(super) const fn new(name: &'static str, of: FieldType, what: &'static str) -> Self {
        Self { name, of, required: true, what }
    }

    /// The same, but only some events of its kind have it.
    pub(super) const fn optional(mut self) -> Self {
        self.required = false;
        self
    }

    /// The JSON Schema of its values.
    fn schema(&self) -> String {
        let schema = Object::new().text("description", self.what);
        let schema = match self.of {
            FieldType::Text => schema.text("type", "string"),
            FieldType::Word(words) => schema.text("type", "string").texts("enum", words),
            FieldType::Texts => schema.text("type", "array").raw("items", r#"{"type":"string"}"#),
            FieldType::Count => schema.text("type", "integer").count("minimum", 0),
            FieldType::Number => schema.text("type", "number"),
            FieldType::Seconds => schema.text("type", "number").count("minimum", 0),
            FieldType::Time => schema.text("type", "string").text("format", "date-time"),
            FieldType::Id => schema.text("type", "string").text("format", "uuid"),
            FieldType::Flag => schema.text("type", "boolean"),
            FieldType::Failure => schema
                .text("type", "object")
                .raw("properties", r#"{"type":{"type":"string"},"message":{"type":"string"}}"#)
                .texts("required", &["type", "message"]),
        };
        schema.build().into()
    }
}

impl EventKind {
    /// Its entry in the catalogue.
    pub fn info(self) -> &'static EventInfo {
        // In the order of the enum, which the same macro makes.
        &catalog()[self as usize]
    }

    /// Its name, such as `task.succeeded`.
    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// Its bit in a set of kinds.
    pub(crate) const fn bit(self) -> u64 {
        1 << (self as u8)
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// All events of the core.
pub fn catalog() -> &'static [EventInfo] {
    super::kinds::CATALOG
}

/// The event with this name.
pub fn info(name: &str) -> Option<&'static EventInfo> {
    catalog().iter().find(|info| info.name == name)
}

/// The event with this name, or an error with the nearest one.
pub fn info_named(name: &str) -> Result<&'static EventInfo> {
    info(name).ok_or_else(|| {
        let error = Error::new(Code::InvalidOption, format!("no event {name:?} in the catalogue"));
        match nearest(name, catalog().iter().map(|info| info.name)) {
            Some(near) => error.hint(format!("did you mean {near:?}?")),
            None => error.hint("docs/events.md lists the events"),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn names_are_unique_and_kinds_are_in_order() {
        let mut seen = HashSet::new();
        for (place, info) in catalog().iter().enumerate() {
            assert!(seen.insert(info.name), "{} is there twice", info.name);
            assert_eq!(info.kind as usize, place);
            assert_eq!(EventKind::ALL[place], info.kind);
            assert_eq!(info.kind.name(), info.name);
            assert_eq!(info.name.split('.').count(), 2, "{}", info.name);
            assert!(
                info.name.chars().all(|c| c.is_ascii_lowercase() || c == '.' || c == '_'),
                "{}",
                info.name
            );
            assert!(!info.description.starts_with(' ') && info.description.ends_with('.'), "{}", info.name);
            assert!(info.fired.ends_with('.'), "{}", info.name);
            assert_eq!(info.name.starts_with("task."), info.category == Category::Task, "{}", info.name);
        }
        assert!(catalog().len() <= 60, "a set of kinds is 64 bits, of which the bus needs some itself");
    }

    /// Whether a value is what the field says.
    fn fits(field: &Field, value: &Value) -> bool {
        match field.of {
            FieldType::Text | FieldType::Time => value.is_string(),
            FieldType::Word(words) => value.as_str().is_some_and(|word| words.contains(&word)),
            FieldType::Texts => {
                value.as_array().is_some_and(|texts| !texts.is_empty() && texts.iter().all(Value::is_string))
            }
            FieldType::Count => value.is_u64(),
            FieldType::Number => value.is_number(),
            FieldType::Seconds => value.as_f64().is_some_and(|seconds| seconds >= 0.0),
            FieldType::Id => value.as_str().is_some_and(|id| id.parse::<taskloom_model::TaskId>().is_ok()),
            FieldType::Flag => value.is_boolean(),
            FieldType::Failure => value["type"].is_string() && value["message"].is_string(),
        }
    }

    #[test]
    fn examples_have_exactly_the_properties_of_their_schemas() {
        for info in catalog() {
            let schema: Value = serde_json::from_str(&info.schema()).expect(info.name);
            let example: Value = serde_json::from_str(info.example).expect(info.name);
            let properties = schema["properties"].as_object().expect(info.name);
            let example = example.as_object().expect(info.name);
            let named: HashSet<_> = properties.keys().collect();
            let given: HashSet<_> = example.keys().collect();
            assert_eq!(named, given, "{}", info.name);
            assert_eq!(info.fields.len(), named.len(), "{} names a property twice", info.name);
            for field in info.fields {
                assert!(fits(field, &example[field.name]), "{}: {}", info.name, field.name);
                assert_eq!(properties[field.name]["description"], field.what);
                assert!(properties[field.name]["type"].is_string());
            }
            for required in schema["required"].as_array().expect(info.name) {
                assert!(example.contains_key(required.as_str().unwrap()), "{}: {required}", info.name);
            }
        }
    }

    #[test]
    fn finds_by_name_and_suggests() {
        assert_eq!(info("task.lost").unwrap().kind, EventKind::TaskLost);
        assert!(info("task").is_none());
        let error = info_named("task.suceeded").unwrap_err();
        assert_eq!(
            error.to_string(),
            "no event \"task.suceeded\" in the catalogue\nhint: did you mean \"task.succeeded\"?"
        );
    }
}
