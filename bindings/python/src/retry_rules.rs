//! Asking a handler's retry policy about an exception. What the rules are is in `python/taskloom/_retry_rules.py`.

use std::time::Duration;

use pyo3::prelude::*;

use crate::ffi;

/// Whether the failure is permanent, and the wait until the next attempt, if the rules say something of it. `failures`
/// counts this one.
pub(crate) fn verdict(
    rules: &Bound<'_, PyAny>,
    error: &Bound<'_, PyAny>,
    failures: u32,
) -> Option<(bool, Option<Duration>)> {
    type Said = Option<(bool, Option<f64>)>;
    for way in ["by_function", "by_type"] {
        let said: PyResult<Said> =
            rules.getattr(way).and_then(|way| ffi::call_with(&way, (error, failures))?.extract());
        match said {
            // A wait that no clock can count is as long as any can.
            Ok(Some((permanent, wait))) => {
                let span = |seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
                return Some((permanent, wait.map(span)));
            }
            Ok(None) => {}
            // The user's function is at fault, and not the task: it goes on without it.
            Err(broken) => ffi::report(rules.py(), broken, rules.getattr("function").ok().as_ref()),
        }
    }
    None
}
