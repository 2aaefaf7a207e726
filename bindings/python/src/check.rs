//! What a hint demands of a value: the form of it that the hot path can test in a few instructions.

use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use crate::ffi;

/// The bits of [`Typed::bits`]; `python/taskloom/_signature.py` has the same.
pub(crate) const INT: u8 = 1;
pub(crate) const FLOAT: u8 = 1 << 1;
pub(crate) const STR: u8 = 1 << 2;
pub(crate) const BOOL: u8 = 1 << 3;
pub(crate) const NONE: u8 = 1 << 4;
pub(crate) const LIST: u8 = 1 << 5;
pub(crate) const DICT: u8 = 1 << 6;

/// The demand of one hint.
pub(crate) enum Check {
    /// No hint, or `Any`: whatever JSON can say.
    Any,
    /// A type, or types, or a conversion.
    Typed(Box<Typed>),
}

/// A hint that demands something.
pub(crate) struct Typed {
    /// Values of these exact types fit as they are. None set: every value is converted.
    pub(crate) bits: u8,
    /// The hint as its author wrote it, for messages.
    pub(crate) hint: String,
    /// From the JSON of a value, as `bytes`, to the object that the handler is given, or an exception.
    load: Py<PyAny>,
    /// Whether the hint is for bytes, so that a `str` must not pass for base64.
    pub(crate) binary: bool,
}

impl Check {
    /// From what `_signature.py` gives: `None`, or `(bits, hint, loader, binary)`.
    pub(crate) fn from_python(described: Option<(u8, String, Py<PyAny>, bool)>) -> PyResult<Self> {
        match described {
            None => Ok(Self::Any),
            Some((bits, _, _, _)) if bits >= 1 << 7 => {
                Err(PyValueError::new_err(format!("{bits} has bits that no check has")))
            }
            Some((bits, hint, load, binary)) => Ok(Self::Typed(Box::new(Typed { bits, hint, load, binary }))),
        }
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Any => Ok(()),
            Self::Typed(typed) => visit.call(&typed.load),
        }
    }
}

impl Typed {
    /// Whether a value of exactly the type of `bit` fits as it is. (An `int` for a `float` fits, but becomes one.)
    pub(crate) const fn takes(&self, bit: u8) -> bool {
        self.bits & bit != 0
    }

    /// Whether a value that is an `int` has to become a `float`.
    pub(crate) const fn widens(&self, bit: u8) -> bool {
        bit == INT && self.bits & FLOAT != 0 && self.bits & INT == 0
    }

    /// The object that the handler is given for this JSON.
    pub(crate) fn load<'py>(&self, py: Python<'py>, json: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        ffi::call_with(self.load.bind(py), (PyBytes::new(py, json),))
    }
}

/// The bit of a value's exact type; 0 for any other.
#[inline]
pub(crate) fn exact_bit(value: &Bound<'_, PyAny>) -> u8 {
    if value.is_exact_instance_of::<PyInt>() {
        INT
    } else if value.is_exact_instance_of::<PyString>() {
        STR
    } else if value.is_none() {
        NONE
    } else if value.is_exact_instance_of::<PyBool>() {
        BOOL
    } else if value.is_exact_instance_of::<PyFloat>() {
        FLOAT
    } else if value.is_exact_instance_of::<PyDict>() {
        DICT
    } else if value.is_exact_instance_of::<PyList>() {
        LIST
    } else {
        0
    }
}

/// The bit of the JSON type that a value of a subclass is written as; a tuple counts as a list. 0 for any other.
pub(crate) fn base_bit(value: &Bound<'_, PyAny>) -> u8 {
    if value.is_instance_of::<PyBool>() {
        BOOL
    } else if value.is_instance_of::<PyString>() {
        STR
    } else if value.is_instance_of::<PyInt>() {
        INT
    } else if value.is_instance_of::<PyFloat>() {
        FLOAT
    } else if value.is_instance_of::<PyDict>() {
        DICT
    } else if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
        LIST
    } else {
        exact_bit(value)
    }
}
