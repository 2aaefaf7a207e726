//! Ids of tasks, as Python users have them: a text, or a `uuid.UUID`.

use pyo3::Borrowed;
use pyo3::intern;
use pyo3::prelude::*;
use taskloom_model::TaskId;

use crate::errors::{raise, shorten, to_python};
use crate::ffi;
use crate::handle::TaskHandle;

/// The id of a task, as an argument.
pub(crate) struct GivenId(pub(crate) TaskId);

impl<'py> FromPyObject<'_, 'py> for GivenId {
    type Error = PyErr;

    fn extract(given: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let py = given.py();
        let parsed = |text: &str| text.parse().map(Self).map_err(|error| to_python(py, &error));
        if let Ok(text) = given.extract::<&str>() {
            return parsed(text);
        }
        // A `uuid.UUID`, without importing the module for it.
        if given.hasattr(intern!(py, "hex"))? && given.hasattr(intern!(py, "urn"))? {
            return parsed(&ffi::text_of(&given)?);
        }
        let hint = if given.is_instance_of::<TaskHandle>() {
            "pass handle.id"
        } else {
            "an id is a text, as handle.id has it, or a UUID"
        };
        let message = format!("id is {}; it must be a text", shorten(&given));
        Err(raise(py, "InvalidOptions", "TL1001", message, Some(hint.to_owned())))
    }
}
