//! Why a value was refused, and where it is: made at the value, with a path that grows on the way out.

use std::fmt::Write as _;

use pyo3::prelude::*;

use super::{MAX_DEPTH, MAX_PAYLOAD};
use crate::check::Typed;
use crate::errors::{raise, reason, shorten};

/// What is encoded, for messages and codes.
pub(crate) enum Subject<'a> {
    /// An argument of a handler's call.
    Argument { handler: &'a str, name: &'a str },
    /// A handler's result.
    Result { handler: &'a str },
    /// Something else, in the caller's words.
    Value(&'a str),
}

impl std::fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Argument { handler, name } => write!(f, "{handler}: argument \"{name}\""),
            Self::Result { handler } => write!(f, "{handler}: result"),
            Self::Value(what) => f.write_str(what),
        }
    }
}

/// One step of a path into a value.
#[derive(Clone)]
pub(crate) enum Step {
    Index(usize),
    Key(String),
}

/// Why a value was refused.
pub(super) enum Kind {
    /// JSON cannot say it.
    Unsayable { problem: String, hint: String, cause: Option<PyErr> },
    /// It does not fit the hint.
    Mismatch { problem: String, hint: Option<String>, cause: Option<PyErr> },
    /// It is nested too deep; `container` is the object where the limit was met, and `lap` the way from that object
    /// to itself, once it turns out to be inside itself.
    Deep { container: usize, lap: Option<Vec<Step>> },
    /// The payload passed the limit.
    TooLarge,
    /// Not about the value: raise it as it is.
    Raised(PyErr),
}

/// A value that was refused, and where it is.
pub(crate) struct Refusal {
    kind: Kind,
    /// Innermost step first.
    path: Vec<Step>,
}

/// The outcome of writing a value.
pub(crate) type Written = Result<(), Box<Refusal>>;

impl Refusal {
    pub(super) fn new(kind: Kind) -> Box<Self> {
        Box::new(Self { kind, path: Vec::new() })
    }

    pub(super) fn unsayable(problem: impl Into<String>, hint: impl Into<String>) -> Box<Self> {
        Self::new(Kind::Unsayable { problem: problem.into(), hint: hint.into(), cause: None })
    }

    /// The same, seen from the container that holds the value.
    pub(crate) fn within(mut self: Box<Self>, step: Step, container: &Bound<'_, PyAny>) -> Box<Self> {
        self.path.push(step);
        if let Kind::Deep { container: deepest, lap } = &mut self.kind
            && *deepest == container.as_ptr().addr()
        {
            // The container holds itself. Only the outermost time that it appears is worth a path.
            let walked = std::mem::take(&mut self.path);
            lap.get_or_insert(walked);
        }
        self
    }

    /// The exception to raise.
    pub(crate) fn into_error(self, py: Python<'_>, subject: &Subject<'_>) -> PyErr {
        let at = if self.path.is_empty() {
            subject.to_string()
        } else {
            format!("{subject} at ${}", path_text(&self.path))
        };
        let is_result = matches!(subject, Subject::Result { .. });
        let code = |usual: &'static str| if is_result { "TL1204" } else { usual };
        let (class, code, message, hint, cause) = match self.kind {
            Kind::Raised(error) => return error,
            Kind::Unsayable { problem, hint, cause } => {
                ("InvalidPayload", code("TL1202"), format!("{at}: {problem}"), Some(hint), cause)
            }
            Kind::Mismatch { problem, hint, cause } => {
                ("InvalidPayload", code("TL1203"), format!("{at}: {problem}"), hint, cause)
            }
            Kind::Deep { lap: Some(lap), .. } => {
                let inside = format!("${}{}", path_text(&self.path), path_text(&lap));
                let hint = String::from("refer to it by a key, not by itself");
                (
                    "InvalidPayload",
                    code("TL1202"),
                    format!("{at}: it contains itself, at {inside}"),
                    Some(hint),
                    None,
                )
            }
            Kind::Deep { lap: None, .. } => {
                let problem =
                    format!("{subject}: lists and dicts are nested more than {MAX_DEPTH} levels deep");
                let hint = String::from("flatten it, or write it as a string of its own with json.dumps");
                ("InvalidPayload", code("TL1202"), problem, Some(hint), None)
            }
            Kind::TooLarge => return too_large(py, subject, None),
        };
        let error = raise(py, class, code, message, hint);
        if cause.is_some() {
            error.set_cause(py, cause);
        }
        error
    }
}

/// The refusal of something over [`MAX_PAYLOAD`].
pub(crate) fn too_large(py: Python<'_>, subject: &Subject<'_>, size: Option<usize>) -> PyErr {
    let message = match size {
        Some(size) => format!("{subject}: {size} bytes of JSON, {} at most", MAX_PAYLOAD),
        None => format!("{subject}: with it the JSON takes more than 4 MiB ({MAX_PAYLOAD} bytes)"),
    };
    let hint = "pass a reference (a path, a URL, a key) to the data in place of the data";
    raise(py, "PayloadTooLarge", "TL1205", message, Some(hint.into()))
}

fn path_text(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path.iter().rev() {
        let _ = match step {
            Step::Index(index) => write!(text, "[{index}]"),
            Step::Key(key) if is_word(key) => write!(text, ".{key}"),
            Step::Key(key) => write!(text, "[{key:?}]"),
        };
    }
    text
}

fn is_word(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-')
}

pub(super) fn mismatch(
    typed: &Typed,
    value: &Bound<'_, PyAny>,
    error: Option<PyErr>,
    hint: Option<&str>,
) -> Box<Refusal> {
    let mut problem = format!("expected {}, got {}", typed.hint, described(value));
    let mut cause = None;
    if let Some(error) = error {
        match reason(value.py(), error) {
            Err(error) => return Refusal::new(Kind::Raised(error)),
            Ok((text, error)) => {
                let _ = write!(problem, ": {text}");
                cause = Some(error);
            }
        }
    }
    Refusal::new(Kind::Mismatch { problem, hint: hint.map(String::from), cause })
}

/// A value and its type, for a message.
pub(crate) fn described(value: &Bound<'_, PyAny>) -> String {
    let class = value.get_type();
    let name = class.name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if value.is_none() { name } else { format!("{} ({name})", shorten(value)) }
}
