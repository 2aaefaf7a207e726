//! What the program's own `tracing` is told. The collector is the process's, so all of it is one test.
#![cfg(feature = "tracing")]

mod common;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use common::until;
use taskloom::{App, Context, TaskError};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

#[derive(Clone, Debug)]
struct Said {
    level: Level,
    target: String,
    fields: BTreeMap<String, String>,
}

impl Said {
    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Said>>>);

struct Fields(BTreeMap<String, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

impl Subscriber for Collector {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields(BTreeMap::new());
        event.record(&mut fields);
        let (level, target) = (*event.metadata().level(), event.metadata().target().to_owned());
        self.0.lock().unwrap().push(Said { level, target, fields: fields.0 });
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn lines_and_events_are_forwarded_to_whoever_collects() {
    let app = App::open("memory:").unwrap();
    app.task("talks", |_: (), context: &Context| -> Result<(), TaskError> {
        for level in ["trace", "debug", "info", "warning", "error", "critical", "shout"] {
            context.log(level, format!("said at {level}")).unwrap();
        }
        Ok(())
    })
    .register()
    .unwrap();
    app.task("fails", |_: (), _: &Context| -> Result<(), TaskError> { Err(TaskError::permanent("no")) })
        .register()
        .unwrap();
    let running = app.start().unwrap();
    // Nothing was installed by us, so that the program can.
    app.submit("talks", &()).unwrap().wait::<()>().unwrap();
    let collector = Collector::default();
    tracing::subscriber::set_global_default(collector.clone()).unwrap();

    let talks = app.submit("talks", &()).unwrap();
    talks.wait::<()>().unwrap();
    let said = collector.0.lock().unwrap().clone();
    let levels: Vec<_> = said.iter().map(|said| said.level).collect();
    assert_eq!(
        levels,
        [Level::TRACE, Level::DEBUG, Level::INFO, Level::WARN, Level::ERROR, Level::ERROR, Level::INFO]
    );
    for said in &said {
        assert_eq!((said.target.as_str(), said.field("task_name")), ("taskloom::task", "talks"));
        assert_eq!((said.field("task_id"), said.field("attempt")), (talks.id().to_string().as_str(), "1"));
        assert!(said.field("message").starts_with("said at "));
    }
    assert_eq!(talks.log().len(), 7, "they are kept with the task all the same");

    // Events are forwarded when asked for.
    let forwarding = app.trace("*").unwrap();
    let fails = app.submit("fails", &()).unwrap();
    assert!(fails.wait::<()>().is_err());
    app.submit("talks", &()).unwrap().wait::<()>().unwrap();
    let events = || -> Vec<Said> {
        let said = collector.0.lock().unwrap();
        said.iter().filter(|said| said.target == "taskloom").cloned().collect()
    };
    until(|| events().iter().filter(|said| said.field("event") == "task.succeeded").count() == 1);
    drop(forwarding);
    let events = events();
    let failed = events.iter().find(|said| said.field("event") == "task.failed").unwrap();
    assert_eq!((failed.level, failed.field("message")), (Level::ERROR, "task.failed"));
    assert_eq!(failed.field("task_id"), fails.id().to_string());
    assert!(failed.field("data").contains(r#""message":"no""#), "{failed:?}");
    assert!(events.iter().all(|said| said.field("event") != "task.log"), "lines come once");
    assert!(events.iter().any(|said| said.level == Level::INFO));
    running.stop();
}
