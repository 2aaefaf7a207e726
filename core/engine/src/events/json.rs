//! Writes the data of events as JSON.
//!
//! An event's data is a flat object that is written once, only when somebody wants it, straight into the text that all
//! subscribers share. Texts that users choose the length of are cut, since a subscription bounds how many events it
//! keeps and not how large they are.

use std::fmt::{Display, Write};
use std::time::Duration;

/// How many bytes of a text go into an event; a longer one is cut.
const MAX_TEXT: usize = 8 << 10;

/// A JSON object that is being written, property by property. Whoever writes one names each property once.
#[derive(Debug)]
pub(crate) struct Object(String);

impl Object {
    pub(crate) fn new() -> Self {
        let mut out = String::with_capacity(128);
        out.push('{');
        Self(out)
    }

    /// A property with JSON as its value.
    pub(crate) fn raw(mut self, key: &'static str, json: &str) -> Self {
        self.key(key);
        self.0.push_str(json);
        self
    }

    /// A property with a text as its value.
    pub(crate) fn text(mut self, key: &'static str, text: &str) -> Self {
        self.key(key);
        write_text(&mut self.0, text);
        self
    }

    /// The same, unless there is none.
    pub(crate) fn maybe_text(self, key: &'static str, text: Option<&str>) -> Self {
        match text {
            Some(text) => self.text(key, text),
            None => self,
        }
    }

    /// A property with something whose text needs no escapes: an id, a time, a name of ours.
    pub(crate) fn plain(mut self, key: &'static str, value: impl Display) -> Self {
        self.key(key);
        // Writing to a String cannot fail, here and below.
        let _ = write!(self.0, "\"{value}\"");
        self
    }

    /// The same, unless there is none.
    pub(crate) fn maybe_plain(self, key: &'static str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.plain(key, value),
            None => self,
        }
    }

    /// A property with several texts as its value.
    pub(crate) fn texts(mut self, key: &'static str, texts: &[impl AsRef<str>]) -> Self {
        self.key(key);
        self.0.push('[');
        for (place, text) in texts.iter().enumerate() {
            if place > 0 {
                self.0.push(',');
            }
            write_text(&mut self.0, text.as_ref());
        }
        self.0.push(']');
        self
    }

    /// A property with a whole number as its value.
    pub(crate) fn count(mut self, key: &'static str, count: u64) -> Self {
        self.key(key);
        let _ = write!(self.0, "{count}");
        self
    }

    /// A property with a number as its value; what JSON cannot say is null.
    pub(crate) fn number(mut self, key: &'static str, number: f64) -> Self {
        self.key(key);
        if number.is_finite() {
            let _ = write!(self.0, "{number}");
        } else {
            self.0.push_str("null");
        }
        self
    }

    /// A property with a span of time as its value: seconds, exact to the microsecond.
    pub(crate) fn seconds(mut self, key: &'static str, span: Duration) -> Self {
        self.key(key);
        let _ = write!(self.0, "{}.{:06}", span.as_secs(), span.subsec_micros());
        self
    }

    /// The same, unless there is none.
    pub(crate) fn maybe_seconds(self, key: &'static str, span: Option<Duration>) -> Self {
        match span {
            Some(span) => self.seconds(key, span),
            None => self,
        }
    }

    /// A property that is true or false.
    pub(crate) fn flag(self, key: &'static str, flag: bool) -> Self {
        self.raw(key, if flag { "true" } else { "false" })
    }

    /// A property with an error as its value.
    pub(crate) fn failure(self, key: &'static str, kind: &str, message: &str) -> Self {
        let failure = Self::new().text("type", kind).text("message", message).build();
        self.raw(key, &failure)
    }

    /// The finished object.
    pub(crate) fn build(mut self) -> Box<str> {
        self.0.push('}');
        self.0.into()
    }

    fn key(&mut self, key: &'static str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push('"');
        self.0.push_str(key);
        self.0.push_str("\":");
    }
}

/// A JSON object with keys of the user's.
pub(crate) struct Map(String);

impl Map {
    pub(crate) fn new() -> Self {
        Self(String::from("{"))
    }

    /// A property with JSON as its value.
    pub(crate) fn add(&mut self, key: &str, json: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        write_text(&mut self.0, key);
        self.0.push(':');
        self.0.push_str(json);
    }

    pub(crate) fn build(mut self) -> Box<str> {
        self.0.push('}');
        self.0.into()
    }
}

/// Writes a text with its quotes, cut if it is too long.
fn write_text(out: &mut String, text: &str) {
    let (text, cut) = match text.len() {
        0..=MAX_TEXT => (text, false),
        _ => (&text[..text.floor_char_boundary(MAX_TEXT)], true),
    };
    out.push('"');
    // Whole stretches at a time: most texts have nothing to escape.
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..0x20 => "",
            _ => continue,
        };
        out.push_str(&text[from..at]);
        out.push_str(escape);
        if escape.is_empty() {
            let _ = write!(out, "\\u{byte:04x}");
        }
        from = at + 1;
    }
    out.push_str(&text[from..]);
    if cut {
        out.push('…');
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn writes_what_a_parser_reads() {
        let nasty = "q\" b\\ \n\r\t \u{1} \u{1f} \u{7f} é 😀";
        let text = Object::new()
            .text("nasty", nasty)
            .maybe_text("none", None)
            .plain("plain", 7)
            .maybe_plain("nothing", None::<u8>)
            .texts("texts", &["a", nasty])
            .count("count", u64::MAX)
            .number("number", 0.4)
            .number("nan", f64::NAN)
            .seconds("seconds", Duration::from_micros(1_000_042))
            .maybe_seconds("never", None)
            .flag("flag", true)
            .failure("error", "E", "m")
            .build();
        let read: Value = serde_json::from_str(&text).unwrap();
        let expected = json!({
            "nasty": nasty, "plain": "7", "texts": ["a", nasty], "count": u64::MAX, "number": 0.4, "nan": null,
            "seconds": 1.000042, "flag": true, "error": {"type": "E", "message": "m"},
        });
        assert_eq!(read, expected);
        assert_eq!(&*Object::new().build(), "{}");
    }

    #[test]
    fn cuts_between_characters() {
        let text = Object::new().text("t", &"é".repeat(MAX_TEXT)).build();
        let read: Value = serde_json::from_str(&text).unwrap();
        let kept = read["t"].as_str().unwrap();
        assert_eq!(kept.len(), MAX_TEXT + "…".len());
        assert!(kept.ends_with("é…"));
    }
}
