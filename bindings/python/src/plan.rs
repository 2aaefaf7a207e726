//! The plan of one handler: how its calls and results become JSON and objects again.
//!
//! A plan is made once, at registration, by `taskloom._signature.build_plan`, and never changes. A call travels as one
//! object from parameter name to value (that module says how), and the hot path is a walk over the parameters in
//! order: each one's key is kept as it is written, with its quotes and colon.
//!
//! It holds Python objects (defaults, converters) that may lead back to the handler. It shows them to the collector
//! and, being immutable, needs no clearing, like a tuple: whatever cycle it is in has a dict or a cell that is cleared.

use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};

mod read;
mod refusal;
mod write;

use crate::check::Check;
use crate::decode::{decode, utf8};
use crate::encode::{Encoder, Subject, finish, with_buffer, write_text};
use crate::ffi;
use read::{Call, load, widened};

/// What `_signature.py` says of one parameter: name, kind, whether it has a default, the default, whether it takes
/// the context, and its check.
type Described = (String, u8, bool, Py<PyAny>, bool, Option<(u8, String, Py<PyAny>, bool)>);

/// How a parameter takes its value; the numbers are those of `inspect.Parameter.kind`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// By position, or by name.
    Positional,
    /// By name only.
    Named,
    /// `*args`.
    Rest,
    /// `**kwargs`.
    Keywords,
    /// Injected when it runs. Whether it is passed by position.
    Context { positional: bool },
}

struct Param {
    text: String,
    /// The same as a Python string, interned.
    name: Py<PyString>,
    /// The same as a JSON key with its colon.
    key: Vec<u8>,
    role: Role,
    default: Option<Py<PyAny>>,
    check: Check,
}

/// How the calls and results of one handler are encoded and decoded.
#[pyclass(frozen, module = "taskloom._native")]
pub(crate) struct Plan {
    name: String,
    params: Vec<Param>,
    /// How many parameters, at the front, are passed by position.
    positional: usize,
    /// How many of those a call may give: all but the context.
    takes: usize,
    /// Where `*args` and `**kwargs` are.
    rest: Option<usize>,
    keywords: Option<usize>,
    result: Check,
}

impl Param {
    fn takes_name(&self) -> bool {
        matches!(self.role, Role::Positional | Role::Named | Role::Rest)
    }
}

/// The API for the engine half of the binding.
impl Plan {
    /// The handler's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether a parameter takes the context.
    pub(crate) fn takes_context(&self) -> bool {
        self.params.iter().any(|param| matches!(param.role, Role::Context { .. }))
    }

    /// The payload of a call.
    pub(crate) fn encode_call(
        &self,
        py: Python<'_>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Vec<u8>> {
        with_buffer(|out| {
            self.write_call(py, args, kwargs.filter(|kwargs| !kwargs.is_empty()), out)?;
            finish(py, out, Ok(()), &Subject::Value(&self.name))
        })
    }

    /// The positional and keyword arguments that a payload stands for. `context` is called at most once, and only if a
    /// parameter takes the context.
    pub(crate) fn decode_call<'py>(
        &self,
        py: Python<'py>,
        payload: &[u8],
        context: impl FnOnce(Python<'py>) -> PyResult<Py<PyAny>>,
    ) -> PyResult<(Bound<'py, PyTuple>, Option<Bound<'py, PyDict>>)> {
        const FEW: usize = 8;
        let mut few: [Option<Bound<'py, PyAny>>; FEW] = [const { None }; FEW];
        let mut many = Vec::new();
        let slots = if self.params.len() <= FEW {
            &mut few[..self.params.len()]
        } else {
            many.resize_with(self.params.len(), || None);
            &mut many
        };
        let mut call = Call { slots, rest: Vec::new(), keywords: None };
        self.read_call(py, payload, &mut call)?;
        self.arrange(py, call, context)
    }

    /// The JSON of a result. It is checked against the hint only where the hint converts.
    pub(crate) fn encode_result(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
        with_buffer(|out| {
            let mut encoder = Encoder::new(py, out);
            let written = match &self.result {
                Check::Typed(typed) if typed.bits == 0 => encoder.converted(typed, value, 0),
                _ => encoder.value(value, 0),
            };
            finish(py, out, written, &Subject::Result { handler: &self.name })
        })
    }

    /// The result that JSON stands for, converted where the hint converts.
    pub(crate) fn decode_result(&self, py: Python<'_>, bytes: &[u8]) -> PyResult<Py<PyAny>> {
        let what = || format!("{}: result", self.name);
        let value = match &self.result {
            Check::Typed(typed) if typed.bits == 0 => {
                let text = utf8(py, &what(), bytes)?;
                load(py, typed, text, what)?
            }
            Check::Typed(typed) => {
                let value = decode(py, &self.name, bytes)?;
                widened(typed, value)?
            }
            Check::Any => decode(py, &self.name, bytes)?,
        };
        Ok(value.unbind())
    }
}

#[pymethods]
impl Plan {
    #[new]
    fn new(
        py: Python<'_>,
        name: String,
        params: Vec<Described>,
        result: Option<(u8, String, Py<PyAny>, bool)>,
    ) -> PyResult<Self> {
        let mut plan = Self {
            name,
            params: Vec::with_capacity(params.len()),
            positional: 0,
            takes: 0,
            rest: None,
            keywords: None,
            result: Check::from_python(result)?,
        };
        for (index, (text, kind, has_default, default, is_context, check)) in params.into_iter().enumerate() {
            let role = match (kind, is_context) {
                (0 | 1, true) => Role::Context { positional: true },
                (3, true) => Role::Context { positional: false },
                (0 | 1, false) => Role::Positional,
                (2, false) => Role::Rest,
                (3, false) => Role::Named,
                (4, false) => Role::Keywords,
                _ => return Err(PyValueError::new_err(format!("parameter {text:?} has the kind {kind}"))),
            };
            match role {
                Role::Positional | Role::Context { positional: true } => plan.positional = index + 1,
                Role::Rest => plan.rest = Some(index),
                Role::Keywords => plan.keywords = Some(index),
                Role::Named | Role::Context { positional: false } => {}
            }
            plan.takes += usize::from(role == Role::Positional);
            let mut key = Vec::new();
            write_text(&mut key, &text);
            key.push(b':');
            plan.params.push(Param {
                name: PyString::intern(py, &text).unbind(),
                text,
                key,
                role,
                default: has_default.then_some(default),
                check: Check::from_python(check)?,
            });
        }
        Ok(plan)
    }

    #[getter(name)]
    fn py_name(&self) -> &str {
        self.name()
    }

    /// The parameter that takes the context.
    #[getter(_context)]
    fn py_context(&self) -> Option<&str> {
        let context = self.params.iter().find(|param| matches!(param.role, Role::Context { .. }));
        context.map(|param| param.text.as_str())
    }

    #[pyo3(name = "_encode_call", signature = (args, kwargs = None))]
    fn py_encode_call<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.encode_call(py, args, kwargs)?))
    }

    #[pyo3(name = "_decode_call", signature = (payload, context = None))]
    fn py_decode_call<'py>(
        &self,
        py: Python<'py>,
        payload: &[u8],
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyTuple>, Option<Bound<'py, PyDict>>)> {
        self.decode_call(py, payload, |_| match context {
            Some(make) => Ok(ffi::call_with(make, ())?.unbind()),
            None => Err(PyValueError::new_err("this plan needs a context")),
        })
    }

    #[pyo3(name = "_encode_result")]
    fn py_encode_result<'py>(
        &self,
        py: Python<'py>,
        value: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.encode_result(py, value)?))
    }

    #[pyo3(name = "_decode_result")]
    fn py_decode_result(&self, py: Python<'_>, data: &[u8]) -> PyResult<Py<PyAny>> {
        self.decode_result(py, data)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for param in &self.params {
            visit.call(&param.default)?;
            param.check.traverse(&visit)?;
        }
        self.result.traverse(&visit)
    }
}
