//! Submits as rows of an outbox, and rows as submits; `node/src/outbox` has the database drivers.

use serde_json::{Value, json};
use taskloom_bridge::{App, Dialect, OutboxRow, Placeholders, Statement, Verdict, relay_rows};
use taskloom_engine::Engine;
use taskloom_model::{Options, Result};

use crate::options::options_of;

/// The row for a submit.
pub(crate) fn row(app: &App, asked: &Value) -> Result<Value> {
    let text = |name: &str| asked[name].as_str().unwrap_or_default();
    let options = match &asked["options"] {
        Value::Null => Options::default(),
        given => options_of(given)?,
    };
    let allow_unknown = asked["allowUnknown"].as_bool().unwrap_or(false);
    let row = app.outbox_row(text("name"), text("payload").as_bytes(), &options, allow_unknown)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(json!([row.id, row.name, text(&row.payload), row.options.as_deref().map(text), row.created]))
}

/// Submits rows (`[id, name, payload, options, created]`); of each null, or whether it is refused for good, the code, the
/// message and the hint.
pub(crate) fn relayed(engine: &Engine, asked: &Value) -> Result<Value> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let rows: Vec<_> = asked["rows"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| OutboxRow {
            id: text(&row[0]),
            name: text(&row[1]),
            payload: text(&row[2]).into_bytes(),
            options: row[3].as_str().map(|options| options.as_bytes().to_vec()),
            created: row[4].as_i64().unwrap_or_default(),
        })
        .collect();
    let said = |verdict| match verdict {
        Verdict::Done => Value::Null,
        Verdict::Refused(error) => json!([true, error.code().as_str(), error.message(), error.hint_text()]),
        Verdict::Later(error) => json!([false, error.code().as_str(), error.message(), error.hint_text()]),
    };
    Ok(relay_rows(engine, &rows)?.into_iter().map(said).collect())
}

/// Publishes what a relay has to tell: rows that were refused (`[id, name, code, message]`), that it is interrupted
/// (`interrupted`), or, with neither, that it goes on.
pub(crate) fn tell(engine: &Engine, asked: &Value) {
    let rows = asked["refused"].as_array().map_or(&[][..], Vec::as_slice);
    match asked["interrupted"].as_str() {
        Some(error) => engine.publish_relay_interrupted(error),
        None if rows.is_empty() => engine.publish_relay_resumed(),
        None => {}
    }
    for row in rows {
        let text = |place: usize| row[place].as_str().unwrap_or_default();
        engine.publish_refused_row(text(0), text(1), text(2), text(3));
    }
}

/// The statements; null for what there is not.
pub(crate) fn texts(dialect: &str, style: &str) -> Value {
    let dialect = Dialect::ALL.into_iter().find(|known| known.as_str() == dialect);
    let style = Placeholders::ALL.into_iter().find(|known| known.as_str() == style);
    let (Some(dialect), Some(style)) = (dialect, style) else { return Value::Null };
    let texts = Statement::ALL.into_iter().map(|each| (each.as_str(), each.text(dialect, style).into()));
    json!({
        "schema": dialect.schema(),
        "statements": texts.map(|(name, text): (_, Value)| (name.to_owned(), text)).collect::<serde_json::Map<_, _>>(),
    })
}
