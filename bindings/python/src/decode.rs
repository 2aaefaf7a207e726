//! From JSON to Python objects.
//!
//! A parser of our own rather than serde_json's: integers of any size stay exact (serde_json has a feature for that,
//! which would change numbers for every crate of the workspace), the text of a value can be handed to a converter as
//! it stands, and the depth limit is the encoder's.
//!
//! Input is one `&str`: UTF-8 is checked once, in front. Nothing here keeps state between calls.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString};

use crate::encode::MAX_DEPTH;
use crate::errors::raise;
use crate::scan::plain_prefix;

/// Why a text could not be decoded.
pub(crate) enum Fault {
    /// It is not JSON, at this byte.
    Syntax { at: usize, problem: &'static str },
    /// Python refused, for instance an integer of more digits than it converts.
    Python(PyErr),
}

impl From<PyErr> for Box<Fault> {
    fn from(error: PyErr) -> Self {
        Self::new(Fault::Python(error))
    }
}

pub(crate) type Parsed<T> = Result<T, Box<Fault>>;

impl Fault {
    /// The exception to raise for `text`; `what` begins its message.
    pub(crate) fn into_error(self, py: Python<'_>, what: &str, text: &str) -> PyErr {
        match self {
            Self::Syntax { at, problem } => {
                let message =
                    format!("{what} is not JSON that we read: {problem} at byte {at}{}", near(text, at));
                raise(py, "InvalidPayload", "TL1201", message, None)
            }
            Self::Python(error) => error,
        }
    }
}

/// A few characters around a byte, for a message.
fn near(text: &str, at: usize) -> String {
    let from = text.floor_char_boundary(at.saturating_sub(20));
    let to = text.ceil_char_boundary((at + 20).min(text.len()));
    if from == to { String::new() } else { format!(", near {:?}", &text[from..to]) }
}

/// Bytes as text, or the exception.
pub(crate) fn utf8<'a>(py: Python<'_>, what: &str, bytes: &'a [u8]) -> PyResult<&'a str> {
    std::str::from_utf8(bytes).map_err(|error| {
        let message = format!("{what} is not UTF-8 from byte {}", error.valid_up_to());
        raise(py, "InvalidPayload", "TL1201", message, Some("JSON between processes is UTF-8".into()))
    })
}

/// Any JSON value as Python objects.
pub(crate) fn decode_any(py: Python<'_>, bytes: &[u8]) -> PyResult<Py<PyAny>> {
    Ok(decode(py, "value", bytes)?.unbind())
}

/// Any JSON value; `what` begins the message of a refusal.
pub(crate) fn decode<'py>(py: Python<'py>, what: &str, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let text = utf8(py, what, bytes)?;
    let mut parser = Parser::new(py, text);
    let whole = |parser: &mut Parser<'_, 'py>| {
        let value = parser.value(0)?;
        parser.end()?;
        Ok(value)
    };
    whole(&mut parser).map_err(|fault: Box<Fault>| fault.into_error(py, what, text))
}

/// `decode_any`, for tests.
#[pyfunction]
#[pyo3(name = "_decode_any")]
pub(crate) fn py_decode_any(py: Python<'_>, data: &[u8]) -> PyResult<Py<PyAny>> {
    decode_any(py, data)
}

/// Keys of objects seen in this text: lists of records repeat theirs.
const KEYS: usize = 64;
type Key<'a, 'py> = Option<(&'a str, Bound<'py, PyString>)>;

/// A position in a JSON text.
pub(crate) struct Parser<'a, 'py> {
    py: Python<'py>,
    text: &'a str,
    at: usize,
    /// The items of the arrays that are open, so that they share one allocation.
    items: Vec<Bound<'py, PyAny>>,
    /// Made with the second object: the first has nothing to look up.
    keys: Vec<Key<'a, 'py>>,
    objects: usize,
}

impl<'a, 'py> Parser<'a, 'py> {
    pub(crate) const fn new(py: Python<'py>, text: &'a str) -> Self {
        Self { py, text, at: 0, items: Vec::new(), keys: Vec::new(), objects: 0 }
    }

    /// Where the parser is, to take a slice from here later.
    pub(crate) const fn at(&self) -> usize {
        self.at
    }

    /// The text from an earlier position to here.
    pub(crate) fn since(&self, start: usize) -> &'a str {
        &self.text[start..self.at]
    }

    #[inline]
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The next byte that is not white space, which stays where it is.
    #[inline]
    pub(crate) fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.byte() {
            if !matches!(byte, b' ' | b'\n' | b'\t' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    /// Goes past the next byte if it is this one.
    #[inline]
    pub(crate) fn eat(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn fault<T>(&self, problem: &'static str) -> Parsed<T> {
        Err(Box::new(Fault::Syntax { at: self.at, problem }))
    }

    /// Demands that nothing but white space is left.
    pub(crate) fn end(&mut self) -> Parsed<()> {
        if self.peek().is_none() { Ok(()) } else { self.fault("there is more after the value") }
    }

    /// Goes past the separator between two items, or past the end. Whether there is another item.
    #[inline]
    pub(crate) fn another(&mut self, close: u8) -> Parsed<bool> {
        if self.eat(b',') {
            Ok(true)
        } else if self.eat(close) {
            Ok(false)
        } else {
            self.fault("expected a comma or the end of the array or object")
        }
    }

    /// Reads a value. `depth` counts the containers around it.
    pub(crate) fn value(&mut self, depth: usize) -> Parsed<Bound<'py, PyAny>> {
        match self.peek() {
            Some(b'"') => Ok(self.string()?.into_any()),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b't') => self.word("true", PyBool::new(self.py, true).to_owned().into_any()),
            Some(b'f') => self.word("false", PyBool::new(self.py, false).to_owned().into_any()),
            Some(b'n') => self.word("null", self.py.None().into_bound(self.py)),
            Some(_) => self.fault("expected a value"),
            None => self.fault("expected a value, found the end"),
        }
    }

    fn word(&mut self, word: &str, value: Bound<'py, PyAny>) -> Parsed<Bound<'py, PyAny>> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return self.fault("expected a value");
        }
        self.at += word.len();
        Ok(value)
    }

    /// Goes past the opening bracket.
    pub(crate) fn enter(&mut self, depth: usize) -> Parsed<()> {
        if depth >= MAX_DEPTH {
            return self.fault("arrays and objects are nested more than 127 levels deep");
        }
        self.at += 1;
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Parsed<Bound<'py, PyAny>> {
        self.enter(depth)?;
        if self.eat(b']') {
            return Ok(PyList::empty(self.py).into_any());
        }
        let base = self.items.len();
        loop {
            let item = self.value(depth + 1)?;
            self.items.push(item);
            if !self.another(b']')? {
                break;
            }
        }
        Ok(PyList::new(self.py, self.items.drain(base..))?.into_any())
    }

    fn object(&mut self, depth: usize) -> Parsed<Bound<'py, PyAny>> {
        self.enter(depth)?;
        let dict = PyDict::new(self.py);
        if self.eat(b'}') {
            return Ok(dict.into_any());
        }
        self.objects += 1;
        if self.objects == 2 {
            self.keys.resize_with(KEYS, || None);
        }
        loop {
            let key = self.key()?;
            self.colon()?;
            let value = self.value(depth + 1)?;
            dict.set_item(key, value)?;
            if !self.another(b'}')? {
                return Ok(dict.into_any());
            }
        }
    }

    /// Goes past the colon behind a key.
    #[inline]
    pub(crate) fn colon(&mut self) -> Parsed<()> {
        if self.eat(b':') { Ok(()) } else { self.fault("expected a colon") }
    }

    fn key(&mut self) -> Parsed<Bound<'py, PyString>> {
        let Some(plain) = self.plain_key()? else { return self.string() };
        if self.keys.is_empty() {
            return Ok(PyString::new(self.py, plain));
        }
        let bytes = plain.as_bytes();
        let mix = |at: Option<&u8>| at.map_or(0, |&byte| usize::from(byte));
        let slot = (bytes.len() + 7 * mix(bytes.first()) + 31 * mix(bytes.last())) % KEYS;
        match &self.keys[slot] {
            Some((text, key)) if *text == plain => Ok(key.clone()),
            _ => {
                let key = PyString::new(self.py, plain);
                self.keys[slot] = Some((plain, key.clone()));
                Ok(key)
            }
        }
    }

    /// Goes past a key without escapes; for one with escapes returns `None` and stays.
    #[inline]
    pub(crate) fn plain_key(&mut self) -> Parsed<Option<&'a str>> {
        if self.peek() != Some(b'"') {
            return self.fault("expected a key in double quotes");
        }
        let rest = &self.text[self.at + 1..];
        let plain = plain_prefix(rest.as_bytes());
        if rest.as_bytes().get(plain) != Some(&b'"') {
            return Ok(None);
        }
        self.at += plain + 2;
        Ok(Some(&rest[..plain]))
    }

    /// Reads a string.
    pub(crate) fn string(&mut self) -> Parsed<Bound<'py, PyString>> {
        let rest = &self.text[self.at + 1..];
        let plain = plain_prefix(rest.as_bytes());
        if rest.as_bytes().get(plain) == Some(&b'"') {
            self.at += plain + 2;
            return Ok(PyString::new(self.py, &rest[..plain]));
        }
        let text = self.escaped()?;
        Ok(PyString::new(self.py, &text))
    }

    /// Reads a string that has escapes.
    fn escaped(&mut self) -> Parsed<String> {
        let mut text = String::new();
        self.at += 1;
        loop {
            let rest = &self.text[self.at..];
            let plain = plain_prefix(rest.as_bytes());
            text.push_str(&rest[..plain]);
            self.at += plain;
            match self.byte() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => text.push(self.escape()?),
                Some(_) => return self.fault("a control character in a string is not escaped"),
                None => return self.fault("a string has no end"),
            }
        }
    }

    fn escape(&mut self) -> Parsed<char> {
        let letter = self.text.as_bytes().get(self.at + 1).copied();
        let char = match letter {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            _ => return self.fault("an escape that JSON does not have"),
        };
        self.at += 2;
        Ok(char)
    }

    /// `\uXXXX`, or two that make a pair.
    fn unicode_escape(&mut self) -> Parsed<char> {
        let unit = |at: usize| -> Option<u32> {
            let bytes = self.text.as_bytes().get(at..at + 6)?;
            let digits = bytes.strip_prefix(b"\\u")?;
            digits.iter().try_fold(0, |sum, &digit| Some(sum * 16 + char::from(digit).to_digit(16)?))
        };
        let Some(first) = unit(self.at) else { return self.fault("\\u needs four hexadecimal digits") };
        if let Some(char) = char::from_u32(first) {
            self.at += 6;
            return Ok(char);
        }
        if let (0xd800..=0xdbff, Some(second @ 0xdc00..=0xdfff)) = (first, unit(self.at + 6))
            && let Some(char) = char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00))
        {
            self.at += 12;
            return Ok(char);
        }
        self.fault("a lone surrogate, which is not Unicode text,")
    }

    fn number(&mut self) -> Parsed<Bound<'py, PyAny>> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        let negative = bytes[start] == b'-';
        let first = start + usize::from(negative);
        let mut at = first;
        let mut sum = 0_i64;
        while let Some(digit @ b'0'..=b'9') = bytes.get(at) {
            sum = sum.wrapping_mul(10).wrapping_add(i64::from(digit - b'0'));
            at += 1;
        }
        let digits = at - first;
        self.at = at;
        if digits == 0 {
            return self.fault("expected a digit");
        }
        if digits > 1 && bytes[first] == b'0' {
            self.at = first;
            return self.fault("a number begins with a zero");
        }
        if let Some(b'.' | b'e' | b'E') = bytes.get(at) {
            return self.float(start);
        }
        if digits <= 18 {
            // Infallible: an int that fits is only allocated.
            let Ok(int) = (if negative { -sum } else { sum }).into_pyobject(self.py);
            return Ok(int.into_any());
        }
        let text = self.since(start);
        if let Ok(value) = text.parse::<i64>() {
            let Ok(int) = value.into_pyobject(self.py);
            return Ok(int.into_any());
        }
        match self.py.get_type::<PyInt>().call1((text,)) {
            Ok(int) => Ok(int),
            Err(_) => self.fault("an integer has more digits than Python converts"),
        }
    }

    /// The rest of a number that has a point or an exponent.
    fn float(&mut self, start: usize) -> Parsed<Bound<'py, PyAny>> {
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.byte() {
                self.at += 1;
            }
            self.digits()?;
        }
        match self.since(start).parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(PyFloat::new(self.py, value).into_any()),
            _ => self.fault("a number is beyond what a float holds"),
        }
    }

    fn digits(&mut self) -> Parsed<()> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.byte() {
            self.at += 1;
        }
        if self.at == start { self.fault("expected a digit") } else { Ok(()) }
    }

    /// Goes past a value without making objects, and returns its text, for a converter that reads it again. Brackets
    /// and strings are matched; what else is wrong in it is left to that converter.
    pub(crate) fn skip(&mut self, depth: usize) -> Parsed<&'a str> {
        self.peek();
        let start = self.at;
        let mut open = 0;
        loop {
            match self.byte() {
                None if self.at == start => return self.fault("expected a value, found the end"),
                None if open > 0 => return self.fault("an array or object has no end"),
                None => break,
                Some(b'"') => {
                    self.skip_string()?;
                    if open == 0 {
                        break;
                    }
                    continue;
                }
                Some(b'[' | b'{') => {
                    if depth + open >= MAX_DEPTH {
                        return self.fault("arrays and objects are nested more than 127 levels deep");
                    }
                    open += 1;
                }
                Some(b']' | b'}') => {
                    if open == 0 {
                        break;
                    }
                    open -= 1;
                    if open == 0 {
                        self.at += 1;
                        break;
                    }
                }
                Some(b',') if open == 0 => break,
                Some(_) => {}
            }
            self.at += 1;
        }
        Ok(self.since(start).trim_ascii_end())
    }

    fn skip_string(&mut self) -> Parsed<()> {
        self.at += 1;
        loop {
            self.at += plain_prefix(&self.text.as_bytes()[self.at..]);
            match self.byte() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                // The escaped byte is never part of a longer character that could hide a quote.
                Some(b'\\') => self.at = (self.at + 2).min(self.text.len()),
                Some(_) => return self.fault("a control character in a string is not escaped"),
                None => return self.fault("a string has no end"),
            }
        }
    }
}
