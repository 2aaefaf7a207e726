//! Structured logs for Python: what a line holds is said in the bridge, for every language.

use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::prelude::*;
use taskloom_bridge::JsonLogs;
use taskloom_engine::Event;

use crate::app::NativeApp;
use crate::events::PyEvent;

/// Writes events as lines.
#[pyclass(frozen, name = "_JsonLogs", module = "taskloom._native")]
pub(crate) struct PyJsonLogs(Mutex<JsonLogs>);

#[pymethods]
impl PyJsonLogs {
    #[new]
    fn new(environment: String, thread: String) -> Self {
        Self(Mutex::new(JsonLogs::new(environment, thread)))
    }

    /// The lines of some events of an app, if that is still there.
    fn lines(
        &self,
        py: Python<'_>,
        app: Option<&Bound<'_, NativeApp>>,
        events: Vec<Bound<'_, PyEvent>>,
    ) -> String {
        let events: Vec<Arc<Event>> = events.iter().map(|event| event.get().event()).collect();
        let engine = app.and_then(|app| app.get().bridge().current());
        // A store may be asked, and that may wait for a disk.
        py.detach(|| self.0.lock().lines(&events, engine.as_deref()))
    }
}
