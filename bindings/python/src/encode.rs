//! From Python objects to JSON, refusing what JSON cannot say.
//!
//! The walk writes what it knows and asks `taskloom._convert` about the rest. A refusal is made where the value is
//! and collects its path on the way out, so the way in costs nothing for it.
//!
//! The state is one buffer per thread, kept between calls so that a call allocates only its exact result. It is
//! taken out while in use: converting a value can run Python code that encodes something itself.

use std::cell::Cell;
use std::io::Write as _;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{
    PyByteArray, PyBytes, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PyMemoryView, PySet, PyString, PyTuple,
};

mod refusal;

use crate::check::{self, Check, Typed};
use crate::errors::{helper, reason, shorten};
use crate::ffi;
use crate::scan::plain_prefix;
use refusal::{Kind, mismatch, too_large};
pub(crate) use refusal::{Refusal, Step, Subject, Written, described};

/// The largest payload or result, in bytes of JSON.
pub(crate) const MAX_PAYLOAD: usize = 4 << 20;

/// How many arrays and objects may be inside each other, the payload's own object included. It is what serde_json
/// accepts unless told otherwise, so that a Rust handler reads whatever Python wrote.
pub(crate) const MAX_DEPTH: usize = 127;

/// A buffer that grew beyond this is not kept.
const KEEP: usize = 64 << 10;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Lends this thread's buffer, empty.
pub(crate) fn with_buffer<T>(body: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    // A thread that is ending may have dropped its buffer already; a new one serves as well.
    let mut buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
    buffer.clear();
    let outcome = body(&mut buffer);
    if buffer.capacity() <= KEEP {
        let _ = BUFFER.try_with(|kept| kept.set(buffer));
    }
    outcome
}

/// The JSON of any value that JSON can say; `what` begins the message of a refusal.
pub(crate) fn encode_any(py: Python<'_>, value: &Bound<'_, PyAny>, what: &str) -> PyResult<Vec<u8>> {
    with_buffer(|out| {
        let written = Encoder::new(py, out).value(value, 0);
        finish(py, out, written, &Subject::Value(what))
    })
}

/// The bytes that were written, or the exception.
pub(crate) fn finish(
    py: Python<'_>,
    out: &[u8],
    written: Written,
    subject: &Subject<'_>,
) -> PyResult<Vec<u8>> {
    match written {
        Err(refusal) => Err(refusal.into_error(py, subject)),
        Ok(()) if out.len() > MAX_PAYLOAD => Err(too_large(py, subject, Some(out.len()))),
        Ok(()) => Ok(out.to_vec()),
    }
}

/// `encode_any`, for tests.
#[pyfunction]
#[pyo3(name = "_encode_any", signature = (value, what = "value"))]
pub(crate) fn py_encode_any<'py>(
    py: Python<'py>,
    value: &Bound<'py, PyAny>,
    what: &str,
) -> PyResult<Bound<'py, PyBytes>> {
    Ok(PyBytes::new(py, &encode_any(py, value, what)?))
}

/// The walk over one value.
pub(crate) struct Encoder<'a, 'py> {
    pub(crate) py: Python<'py>,
    pub(crate) out: &'a mut Vec<u8>,
    /// Whether a hint says what the JSON becomes again, so that bytes, sets and typed keys may be written.
    pub(crate) hinted: bool,
    /// Inside of what `taskloom._convert` has made of a value: keys that are points in time are its own.
    dumped: bool,
}

impl<'a, 'py> Encoder<'a, 'py> {
    /// A walk that writes to `out`.
    pub(crate) fn new(py: Python<'py>, out: &'a mut Vec<u8>) -> Self {
        Self { py, out, hinted: false, dumped: false }
    }

    /// Writes a value against a check. `depth` counts the containers around it.
    #[inline]
    pub(crate) fn checked(&mut self, check: &Check, value: &Bound<'py, PyAny>, depth: usize) -> Written {
        match check {
            Check::Any => self.value(value, depth),
            Check::Typed(typed) if typed.takes(check::exact_bit(value)) => self.value(value, depth),
            Check::Typed(typed) => self.typed(typed, value, depth),
        }
    }

    fn typed(&mut self, typed: &Typed, value: &Bound<'py, PyAny>, depth: usize) -> Written {
        if typed.bits == 0 {
            return self.converted(typed, value, depth);
        }
        let bit = check::base_bit(value);
        if typed.takes(bit) {
            return self.value(value, depth);
        }
        if typed.widens(bit)
            && let Ok(number) = value.extract::<f64>()
        {
            return self.float(number);
        }
        Err(mismatch(typed, value, None, None))
    }

    /// Writes a value that a hint converts, and makes sure that what was written converts back.
    pub(crate) fn converted(&mut self, typed: &Typed, value: &Bound<'py, PyAny>, depth: usize) -> Written {
        if typed.binary && value.is_instance_of::<PyString>() {
            let hint = "give bytes, for instance text.encode(); a str is not taken for base64";
            return Err(mismatch(typed, value, None, Some(hint)));
        }
        let start = self.out.len();
        let before = std::mem::replace(&mut self.hinted, true);
        let written = self.value(value, depth);
        self.hinted = before;
        written?;
        match typed.load(self.py, &self.out[start..]) {
            Ok(_) => Ok(()),
            Err(error) => Err(mismatch(typed, value, Some(error), None)),
        }
    }

    /// Writes a value. `depth` counts the containers around it.
    pub(crate) fn value(&mut self, value: &Bound<'py, PyAny>, depth: usize) -> Written {
        if let Ok(text) = value.cast_exact::<PyString>() {
            self.text(text)
        } else if value.is_exact_instance_of::<PyInt>() {
            self.int(value)
        } else if value.is_none() {
            self.out.extend_from_slice(b"null");
            Ok(())
        } else if value.is_exact_instance_of::<pyo3::types::PyBool>() {
            let is_true = value.is_truthy().map_err(|error| Refusal::new(Kind::Raised(error)))?;
            self.out.extend_from_slice(if is_true { b"true" } else { b"false" });
            Ok(())
        } else if let Ok(number) = value.cast_exact::<PyFloat>() {
            self.float(number.value())
        } else if let Ok(dict) = value.cast_exact::<PyDict>() {
            self.dict(dict, depth)
        } else if let Ok(list) = value.cast_exact::<PyList>() {
            self.array(value, list.iter(), depth)
        } else if let Ok(tuple) = value.cast_exact::<PyTuple>() {
            self.array(value, tuple.iter(), depth)
        } else {
            self.other(value, depth)
        }
    }

    /// Subclasses of the built-in types, and everything else.
    fn other(&mut self, value: &Bound<'py, PyAny>, depth: usize) -> Written {
        if !is_enum(value) {
            if let Ok(text) = value.cast::<PyString>() {
                return self.text(text);
            } else if value.is_instance_of::<PyInt>() {
                return self.int(value);
            } else if let Ok(number) = value.cast::<PyFloat>() {
                return self.float(number.value());
            } else if let Ok(dict) = value.cast::<PyDict>() {
                return self.dict(dict, depth);
            } else if let Ok(list) = value.cast::<PyList>() {
                return self.array(value, list.iter(), depth);
            } else if let Ok(tuple) = value.cast::<PyTuple>() {
                return self.array(value, tuple.iter(), depth);
            }
        }
        if !self.hinted {
            if value.is_instance_of::<PyBytes>()
                || value.is_instance_of::<PyByteArray>()
                || value.is_instance_of::<PyMemoryView>()
            {
                let hint =
                    "annotate it as bytes (it travels as base64 and arrives as bytes), or decode it to a str";
                return Err(Refusal::unsayable(format!("{} is not JSON", described(value)), hint));
            }
            if value.is_instance_of::<PySet>() || value.is_instance_of::<PyFrozenSet>() {
                let hint = "annotate it as a set, such as set[int] (it arrives as a set), or pass a list";
                return Err(Refusal::unsayable(format!("{} is not JSON", described(value)), hint));
            }
        }
        static DUMP: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let dump = DUMP.get_or_try_init(self.py, || Ok(helper(self.py, "dump")?.unbind()));
        match dump.and_then(|dump| ffi::call_with(dump.bind(self.py), (value,))) {
            // What comes back is made of built-in types, and of points in time, which come here once more.
            Ok(dumped) => {
                let before = std::mem::replace(&mut self.dumped, true);
                let written = self.value(&dumped, depth);
                self.dumped = before;
                written
            }
            Err(error) => {
                let (text, cause) =
                    reason(self.py, error).map_err(|error| Refusal::new(Kind::Raised(error)))?;
                Err(Refusal::new(Kind::Unsayable {
                    problem: format!("{} is not JSON: {text}", described(value)),
                    hint: String::from(
                        "pass JSON's own types, a dataclass, or a reference to it (a path, an id); \
                         a number of numpy's is value.item()",
                    ),
                    cause: Some(cause),
                }))
            }
        }
    }

    fn array(
        &mut self,
        container: &Bound<'py, PyAny>,
        items: impl Iterator<Item = Bound<'py, PyAny>>,
        depth: usize,
    ) -> Written {
        self.enter(container, depth)?;
        self.out.push(b'[');
        for (index, item) in items.enumerate() {
            self.room()?;
            if index > 0 {
                self.out.push(b',');
            }
            self.value(&item, depth + 1).map_err(|refusal| refusal.within(Step::Index(index), container))?;
        }
        self.out.push(b']');
        Ok(())
    }

    fn dict(&mut self, dict: &Bound<'py, PyDict>, depth: usize) -> Written {
        self.enter(dict, depth)?;
        self.out.push(b'{');
        let expected = dict.len();
        let mut items = dict.iter();
        // Converting a value can run Python code that changes this very dict, at which pyo3's iterator panics: so
        // the size is compared before each step, and no more steps are taken than there were items.
        for index in 0..expected {
            if dict.len() != expected {
                let hint = "pass a copy, dict(value), to what changes on its own";
                return Err(Refusal::unsayable("the dict changed while it was encoded", hint));
            }
            let Some((key, item)) = items.next() else { break };
            self.room()?;
            if index > 0 {
                self.out.push(b',');
            }
            if let Ok(key) = key.cast::<PyString>() {
                self.text(key)?;
            } else {
                self.key(&key)?;
            }
            self.out.push(b':');
            self.value(&item, depth + 1)
                .map_err(|refusal| refusal.within(Step::Key(key_text(&key)), dict))?;
        }
        self.out.push(b'}');
        Ok(())
    }

    /// A key that is not a string.
    fn key(&mut self, key: &Bound<'py, PyAny>) -> Written {
        let sayable = self.hinted || (self.dumped && is_time(key));
        if !sayable {
            let problem = format!("the key {} is not a string", described(key));
            return Err(Refusal::unsayable(
                problem,
                "use str(key), or annotate it, for instance as dict[int, str]",
            ));
        }
        match helper(self.py, "dump_key")
            .and_then(|dump| Ok(ffi::call_with(&dump, (key,))?.cast_into::<PyString>()?))
        {
            Ok(text) => self.text(&text),
            Err(error) => {
                let (text, cause) =
                    reason(self.py, error).map_err(|error| Refusal::new(Kind::Raised(error)))?;
                Err(Refusal::new(Kind::Unsayable {
                    problem: format!("the key {} cannot be written as a string: {text}", described(key)),
                    hint: String::from("use str(key)"),
                    cause: Some(cause),
                }))
            }
        }
    }

    fn enter(&mut self, container: &Bound<'py, PyAny>, depth: usize) -> Written {
        if depth >= MAX_DEPTH {
            return Err(Refusal::new(Kind::Deep { container: container.as_ptr().addr(), lap: None }));
        }
        Ok(())
    }

    /// Stops a walk that has written too much already; the end of it checks to the byte.
    fn room(&self) -> Written {
        if self.out.len() > MAX_PAYLOAD { Err(Refusal::new(Kind::TooLarge)) } else { Ok(()) }
    }

    fn text(&mut self, text: &Bound<'py, PyString>) -> Written {
        let Ok(utf8) = text.to_str() else {
            let problem = format!("{} has a lone surrogate, which is not Unicode text", shorten(text));
            let hint =
                "clean it: text.encode('utf-8', 'replace').decode(), or annotate as bytes and pass bytes";
            return Err(Refusal::unsayable(problem, hint));
        };
        write_text(self.out, utf8);
        Ok(())
    }

    #[inline]
    fn int(&mut self, value: &Bound<'py, PyAny>) -> Written {
        if let Ok(small) = value.extract::<i64>() {
            write_int(self.out, small);
            return Ok(());
        }
        // `int.__repr__`, since a subclass may print itself otherwise. Python bounds the digits that it converts.
        let digits = self.py.get_type::<PyInt>().call_method1("__repr__", (value,));
        match digits.and_then(|digits| digits.extract::<String>()) {
            Ok(digits) => {
                self.out.extend_from_slice(digits.as_bytes());
                Ok(())
            }
            Err(_) => Err(Refusal::unsayable(
                "an int of so many digits that Python does not print it",
                "pass hex(value), and int(text, 16) where it is needed",
            )),
        }
    }

    fn float(&mut self, value: f64) -> Written {
        if !value.is_finite() {
            let name = if value.is_nan() { "NaN" } else { "infinity" };
            return Err(Refusal::unsayable(
                format!("{name} is not JSON"),
                "use None, or a string such as \"nan\"",
            ));
        }
        // The shortest text that reads back as the same number; it always has a point or an exponent.
        let _ = write!(self.out, "{value:?}");
        Ok(())
    }
}

fn key_text(key: &Bound<'_, PyAny>) -> String {
    ffi::text_of(key).unwrap_or_else(|_| String::from("?"))
}

/// Whether this is what `taskloom._convert.dump` leaves in what it has made.
fn is_time(value: &Bound<'_, PyAny>) -> bool {
    value.get_type().name().is_ok_and(|name| name == "datetime")
}

fn is_enum(value: &Bound<'_, PyAny>) -> bool {
    static ENUM: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = value.py();
    ENUM.get_or_try_init(py, || Ok::<_, PyErr>(py.import("enum")?.getattr("Enum")?.unbind()))
        .and_then(|class| value.is_instance(class.bind(py)))
        .unwrap_or(false)
}

/// Writes a string with its quotes.
pub(crate) fn write_text(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    out.reserve(rest.len() + 2);
    out.push(b'"');
    loop {
        let plain = plain_prefix(rest);
        out.extend_from_slice(&rest[..plain]);
        let Some(&special) = rest.get(plain) else { break };
        match special {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            control => {
                let _ = write!(out, "\\u{control:04x}");
            }
        }
        rest = &rest[plain + 1..];
    }
    out.push(b'"');
}

fn write_int(out: &mut Vec<u8>, value: i64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_written_in_full() {
        for value in [0, 1, -1, 9, 10, 1234567890123456789, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            write_int(&mut out, value);
            assert_eq!(out, value.to_string().into_bytes());
        }
    }

    #[test]
    fn text_is_escaped() {
        let mut out = Vec::new();
        write_text(&mut out, "a\"b\\c\n\u{1}é😀");
        assert_eq!(out, "\"a\\\"b\\\\c\\n\\u0001é😀\"".as_bytes());
    }
}
