//! Writes `docs/events.md` from the catalogue.

use std::fmt::Write;

use super::catalog::{Category, EventInfo, Field, FieldType, catalog};

const INTRODUCTION: &str = r#"# Events

<!-- Written by a test from core/engine/src/events: UPDATE_DOCS=1 cargo test -p taskloom-engine events -->

An event is a fact about a task, a queue, a worker or the engine itself, told to whoever subscribed. Every event has a
`name`, an `id` (a UUID), a `time`, the `task_id` of the task that it is about, if it is about one, and `data`: a JSON
object, described below. Spans of time in it are seconds.

```python
import taskloom

app = taskloom.App()


@app.on("task.*")
def note(event):
    print(event.name, event.task_id, event.data)


async def watch():
    async for event in app.events("task.succeeded"):
        print(event.data["duration"])
```

```js
import { App } from 'taskloom';

const app = new App();
const resize = app.task('resize', async (path) => path);
const off = app.on('task.*', ({ name, taskId, data }) => console.log(name, taskId, data.queue));
const events = app.events('task.succeeded');
await app.start();
const handle = await resize.submit('a.png');
for await (const { taskId, time, data } of events) {
  console.log(taskId === handle.id, time instanceof Date, data.attempt); // true true 1
  break;
}
off();
await app.stop();
```

**Patterns.** A name is segments joined by dots. A `*` stands for one segment, and as the last one for all the rest.

| pattern | matches |
| --- | --- |
| `task.succeeded` | that event |
| `task.*` | all whose name begins with `task.` |
| `*.failed` | names of two segments, of which the second is `failed` |
| `order.*` | your own events |
| `*` | everything, your own events too |

A pattern that no event can ever match is refused (`InvalidOptions`), with the nearest one that exists.

**Your own events.** `ctx.publish("order.paid", {"order": 7})` publishes one. Its name has two segments or more, of
lower-case letters, digits, `_` and `-`. The first may not be one of Taskloom's (`task`, `queue`, `handler`, `worker`,
`engine`, `outbox`, `loop`, `report`, `events`, `step`, `run`, `workflow`, `schedule`, `agent`), nor one of these with a typing
error in it, such as `taks` or `tasks`. Its data may have up to 64 KiB.

**Delivery.** Events are told at most once, in the process of the engine that publishes them, and only to those who had
subscribed before. They are published after the commit of what they tell, so none tells what a crash could take back;
a crash between the two loses the event. What must not be lost is in the store: a task's state, its errors, its result.

**Order.** A subscriber sees what one thread publishes in that order, and so the events of one attempt. Events that come
from different threads at the same time can change places: a `task.cancelled` may come before the `task.progress` that
preceded it. The `time` tells.

**Slow subscribers.** A subscriber never slows a task down. Each has a buffer of its own (10,000 events unless it says
otherwise). When that is full, the newest events are dropped and counted, and in their place the subscriber finds an
[`events.dropped`](#eventsdropped) that says how many, whatever its pattern.

**New properties.** Later versions may add events, and properties to the data of events; they do not take any away.
`taskloom.events.catalog()` is this page as data, with a JSON Schema for each event.
"#;

/// The page, as Markdown.
fn page() -> String {
    let mut out = String::from(INTRODUCTION);
    for category in Category::ALL {
        let mut events = catalog().iter().filter(|info| info.category == *category).peekable();
        if events.peek().is_none() {
            continue;
        }
        let title = match category {
            Category::Task => "Tasks",
            Category::Step => "Steps",
            Category::Workflow => "Workflows",
            Category::Observability => "Engine",
        };
        let _ = write!(out, "\n## {title}\n\nCategory `{category}`.\n");
        events.for_each(|info| section(&mut out, info));
    }
    out
}

fn section(out: &mut String, info: &EventInfo) {
    let of = if info.has_task { " It carries the task's id." } else { "" };
    let _ =
        write!(out, "\n### {}\n\n{}{of}\n\n*Published by:* {}\n", info.name, info.description, info.fired);
    out.push_str("\n| property | type | meaning |\n| --- | --- | --- |\n");
    for field in info.fields {
        let optional = if field.required { "" } else { " (optional)" };
        let _ = writeln!(out, "| `{}` | {}{optional} | {} |", field.name, type_name(field), field.what);
    }
    let _ = write!(out, "\n```json\n{}\n```\n", info.example);
}

fn type_name(field: &Field) -> String {
    match field.of {
        FieldType::Text => "text".into(),
        FieldType::Word(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        FieldType::Texts => "list of texts".into(),
        FieldType::Count => "whole number".into(),
        FieldType::Number => "number".into(),
        FieldType::Seconds => "seconds".into(),
        FieldType::Time => "time, ISO 8601".into(),
        FieldType::Id => "id".into(),
        FieldType::Flag => "true or false".into(),
        FieldType::Failure => "object with `type` and `message`".into(),
    }
}

/// Run with `UPDATE_DOCS=1` to write it anew.
#[test]
fn the_page_is_the_catalogue() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/events.md");
    let expected = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &expected).unwrap();
    } else {
        let found = std::fs::read_to_string(path).unwrap();
        assert_eq!(found, expected, "docs/events.md is stale: UPDATE_DOCS=1 cargo test -p taskloom-engine");
    }
}
