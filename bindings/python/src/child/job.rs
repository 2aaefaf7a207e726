//! A task as it comes through the socket: what a handler's context shows of it.

use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use taskloom_bridge::children::wire::{Broken, Fields};
use taskloom_engine::{Clock, SystemClock};
use taskloom_model::TaskId;

/// What a task brings that few handlers ask for.
#[derive(Default)]
struct Rare {
    tags: Vec<String>,
    metadata: Vec<(String, String)>,
    correlation_id: Option<String>,
    schedule: Option<(String, i64)>,
}

/// A task that this child is to run.
#[pyclass(frozen, name = "_ChildJob", module = "taskloom._native")]
pub(crate) struct Job {
    pub(super) seq: u64,
    /// The number of its handler.
    #[pyo3(get)]
    handler: u32,
    pub(super) id: TaskId,
    #[pyo3(get)]
    pub(super) attempt: u32,
    #[pyo3(get)]
    failures: u32,
    #[pyo3(get)]
    is_last: bool,
    pub(super) payload: Vec<u8>,
    #[pyo3(get)]
    queue: String,
    /// When it has taken too long, on the monotonic clock.
    ends: Option<Duration>,
    #[pyo3(get)]
    deadline: Option<i64>,
    rare: Option<Rare>,
}

#[pymethods]
impl Job {
    #[getter]
    fn id(&self) -> String {
        self.id.to_string()
    }

    #[getter]
    fn time_left(&self) -> Option<f64> {
        self.ends.map(|ends| ends.saturating_sub(SystemClock.monotonic()).as_secs_f64())
    }

    #[getter]
    fn tags(&self) -> Vec<String> {
        self.rare.as_ref().map(|rare| rare.tags.clone()).unwrap_or_default()
    }

    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let metadata = PyDict::new(py);
        for (key, value) in self.rare.iter().flat_map(|rare| &rare.metadata) {
            metadata.set_item(key, value)?;
        }
        Ok(metadata)
    }

    #[getter]
    fn correlation_id(&self) -> Option<String> {
        self.rare.as_ref().and_then(|rare| rare.correlation_id.clone())
    }

    #[getter]
    fn schedule(&self) -> Option<(String, i64)> {
        self.rare.as_ref().and_then(|rare| rare.schedule.clone())
    }
}

impl Job {
    /// Reads one, as the parent has written it.
    pub(super) fn read(fields: &mut Fields<'_>) -> Result<Self, Broken> {
        let (seq, handler) = (fields.u64()?, fields.u32()?);
        let (head, tail) = (fields.u64()?, fields.u64()?);
        let mut id = [0; 16];
        id[..8].copy_from_slice(&head.to_be_bytes());
        id[8..].copy_from_slice(&tail.to_be_bytes());
        let (attempt, failures, is_last) = (fields.u32()?, fields.u32()?, fields.u8()? != 0);
        let payload = fields.bytes()?.to_vec();
        let queue = fields.text()?.to_owned();
        let left = fields.maybe(Fields::f64)?;
        let ends = left.map(|left| {
            let span = Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX);
            SystemClock.monotonic().saturating_add(span)
        });
        let deadline = fields.maybe(Fields::i64)?;
        let rare = fields.maybe(|fields| {
            Ok(Rare {
                tags: (0..fields.u32()?)
                    .map(|_| fields.text().map(str::to_owned))
                    .collect::<Result<_, _>>()?,
                metadata: (0..fields.u32()?)
                    .map(|_| Ok((fields.text()?.to_owned(), fields.text()?.to_owned())))
                    .collect::<Result<_, _>>()?,
                correlation_id: fields.maybe(Fields::text)?.map(str::to_owned),
                schedule: fields.maybe(|fields| Ok((fields.text()?.to_owned(), fields.i64()?)))?,
            })
        })?;
        Ok(Self {
            seq,
            handler,
            id: TaskId::from_bytes(id),
            attempt,
            failures,
            is_last,
            payload,
            queue,
            ends,
            deadline,
            rare,
        })
    }
}
