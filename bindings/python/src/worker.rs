//! What `taskloom._worker` needs of native code: the process's tie to its supervisor, and an app's settings from outside.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use taskloom_bridge::change_settings;

use crate::app::{NativeApp, read_values};
use crate::errors::to_python;

/// A worker process's tie to its supervisor: `taskloom_cli::Lifeline`.
#[pyclass(frozen, name = "_Lifeline", module = "taskloom._native")]
pub(crate) struct Lifeline(#[cfg(unix)] taskloom_cli::Lifeline);

#[cfg(unix)]
#[pymethods]
impl Lifeline {
    /// Takes standard input.
    #[new]
    fn new() -> PyResult<Self> {
        Ok(Self(taskloom_cli::Lifeline::take()?))
    }

    /// The app runs tasks of these handlers now; if `counts`, it is told from now on how many have ended.
    fn ready(&self, py: Python<'_>, app: &NativeApp, handlers: Vec<String>, counts: bool) -> PyResult<()> {
        py.detach(|| {
            self.0.ready(handlers, &app.bridge().settings().url);
            if counts {
                let app = Arc::downgrade(app.bridge());
                self.0.count(Box::new(move || Some(app.upgrade()?.current()?.attempts_ended())))?;
            }
            Ok(())
        })
    }

    /// The last thing that the process does.
    fn leave(&self) {
        self.0.leave();
    }
}

/// Where there is no `taskloom worker`.
#[cfg(not(unix))]
#[pymethods]
impl Lifeline {
    #[new]
    fn new() -> PyResult<Self> {
        Err(pyo3::exceptions::PyOSError::new_err("taskloom worker supervises processes as Unix has them"))
    }
}

/// Has an app take other settings than its own, before it is used: a store, and settings by name.
#[pyfunction(name = "_serve_with")]
pub(crate) fn serve_with(
    py: Python<'_>,
    app: &NativeApp,
    store: Option<String>,
    settings: &Bound<'_, PyDict>,
) -> PyResult<()> {
    let mut base = app.bridge().settings().clone();
    base.url = store.unwrap_or(base.url);
    change_settings(base, &read_values(py, Some(settings))?)
        .and_then(|settings| app.bridge().serve_with(settings))
        .map_err(|error| to_python(py, &error))
}
