//! The native half of Taskloom's Python package: `taskloom._native`.
//!
//! The codec ([`plan`], [`check`], [`encode`], [`decode`]) turns calls and results into JSON and back.

mod check;
mod decode;
mod encode;
mod errors;
mod plan;
mod scan;

/// The module as Python imports it. Everything in it is private to the `taskloom` package.
#[pyo3::pymodule]
mod _native {
    #[pymodule_export]
    use crate::decode::py_decode_any;
    #[pymodule_export]
    use crate::encode::py_encode_any;
    #[pymodule_export]
    use crate::plan::Plan;
}
