//! Raising the exceptions of `taskloom._errors`, and calling the helpers of `taskloom._convert`.
//!
//! Both modules are Python, so that users can read, subclass and pickle what they catch. They are imported on first
//! use, not at module init: `taskloom._signature` imports us, and the cycle must not close while it loads.

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyModule, PyTuple};

use crate::ffi;
use taskloom_model::Error;

static ERRORS: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
static CONVERT: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

fn module<'py>(
    py: Python<'py>,
    cell: &'static PyOnceLock<Py<PyModule>>,
    name: &str,
) -> PyResult<&'py Bound<'py, PyModule>> {
    cell.get_or_try_init(py, || Ok(py.import(name)?.unbind())).map(|module| module.bind(py))
}

/// An instance of a class of `taskloom._errors`, ready to be returned as the error of a `PyResult`.
pub(crate) fn raise(py: Python<'_>, class: &str, code: &str, message: String, hint: Option<String>) -> PyErr {
    let build = || -> PyResult<PyErr> {
        let class = module(py, &ERRORS, "taskloom._errors")?.getattr(class)?;
        let fields = PyDict::new(py);
        fields.set_item("code", code)?;
        fields.set_item("hint", hint)?;
        Ok(PyErr::from_value(ffi::call(&class, &PyTuple::new(py, [message])?, Some(&fields))?))
    };
    build().unwrap_or_else(|error| error)
}

/// A helper function of `taskloom._convert`.
pub(crate) fn helper<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    module(py, &CONVERT, "taskloom._convert")?.getattr(name)
}

/// The `repr` of a value, short enough for a message.
pub(crate) fn shorten(value: &Bound<'_, PyAny>) -> String {
    helper(value.py(), "shorten")
        .and_then(|shorten| ffi::call_with(&shorten, (value,))?.extract())
        .unwrap_or_else(|_| String::from("<a value without a repr>"))
}

/// The nearest of some names, as the end of a message: `; did you mean "width"?`, or nothing.
pub(crate) fn suggest(py: Python<'_>, wanted: &str, names: &[&str]) -> Option<String> {
    let nearest: Option<String> = helper(py, "nearest")
        .and_then(|nearest| ffi::call_with(&nearest, (wanted, names))?.extract())
        .ok()?;
    nearest.map(|name| format!("did you mean \"{name}\"?"))
}

/// What went wrong in a conversion, in words, or the error itself when it is not about the value at all
/// (`KeyboardInterrupt`, or the asynchronous interrupt of a handler).
pub(crate) fn reason(py: Python<'_>, error: PyErr) -> PyResult<(String, PyErr)> {
    if !error.is_instance_of::<PyException>(py) {
        return Err(error);
    }
    let text = ffi::text_of(error.value(py)).unwrap_or_default();
    let class = error.get_type(py);
    let name = class.name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let text = match (name.as_str(), text.is_empty()) {
        ("ValidationError" | "TypeError" | "ValueError" | "DecodeError", false) => text,
        (_, false) => format!("{name}: {text}"),
        (_, true) => name,
    };
    Ok((text, error))
}

/// A function of one of the package's own modules.
pub(crate) fn helper_in<'py>(py: Python<'py>, module: &str, name: &str) -> PyResult<Bound<'py, PyAny>> {
    py.import(module)?.getattr(name)
}

/// The exception that interrupts a handler.
pub(crate) fn interrupt_class(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    CLASS
        .get_or_try_init(py, || Ok(module(py, &ERRORS, "taskloom._errors")?.getattr("_Interrupt")?.unbind()))
        .map(|class| class.bind(py))
}

/// An error of the core as the exception of its kind.
pub(crate) fn to_python(py: Python<'_>, error: &Error) -> PyErr {
    let class = format!("{:?}", error.kind());
    let mut message = error.message().to_owned();
    if let Some(source) = std::error::Error::source(error).map(ToString::to_string) {
        // Most messages have it in them already.
        if !message.contains(&source) {
            message = format!("{message} ({source})");
        }
    }
    raise(py, &class, error.code().as_str(), message, error.hint_text().map(str::to_owned))
}
