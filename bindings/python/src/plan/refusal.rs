//! The refusals of a call: which argument, and what the handler takes.

use pyo3::prelude::*;

use super::{Param, Plan, Role};
use crate::encode::Subject;
use crate::errors::{raise, suggest};

impl Plan {
    pub(super) fn subject<'a>(&'a self, name: &'a str) -> Subject<'a> {
        Subject::Argument { handler: &self.name, name }
    }

    pub(super) fn invalid(&self, py: Python<'_>, problem: &str, hint: Option<String>) -> PyErr {
        raise(py, "InvalidPayload", "TL1201", format!("{}: {problem}", self.name), hint)
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.params.iter().filter(|param| param.takes_name()).map(|param| param.text.as_str()).collect()
    }

    /// The parameters as a person would write them.
    pub(super) fn shape(&self) -> String {
        let names: Vec<String> = self
            .params
            .iter()
            .filter_map(|param| match param.role {
                Role::Positional | Role::Named if param.default.is_some() => {
                    Some(format!("{}=…", param.text))
                }
                Role::Positional | Role::Named => Some(param.text.clone()),
                Role::Rest => Some(format!("*{}", param.text)),
                Role::Keywords => Some(format!("**{}", param.text)),
                Role::Context { .. } => None,
            })
            .collect();
        format!("{}({})", self.name, names.join(", "))
    }

    pub(super) fn example(&self) -> String {
        let names: Vec<String> = self.names().iter().map(|name| format!("\"{name}\": …")).collect();
        format!("an object of argument names and values: {{{}}}", names.join(", "))
    }

    pub(super) fn unknown(&self, py: Python<'_>, name: &str) -> PyErr {
        let names = self.names();
        let hint = suggest(py, name, &names).unwrap_or_else(|| format!("it is {}", self.shape()));
        self.invalid(py, &format!("unknown argument \"{name}\""), Some(hint))
    }

    pub(super) fn is_injected(&self, py: Python<'_>, name: &str) -> PyErr {
        let hint = String::from("leave it out: the context is given to the handler when it runs");
        self.invalid(py, &format!("argument \"{name}\" cannot be passed"), Some(hint))
    }

    pub(super) fn too_many(&self, py: Python<'_>, given: usize) -> PyErr {
        let takes = self.takes;
        let problem =
            format!("takes {takes} positional argument{}, {given} given", if takes == 1 { "" } else { "s" });
        self.invalid(py, &problem, Some(format!("it is {}", self.shape())))
    }

    pub(super) fn missing(&self, py: Python<'_>, has: impl Fn(usize, &Param) -> bool) -> PyErr {
        let names: Vec<String> = self
            .params
            .iter()
            .enumerate()
            .filter(|(index, param)| {
                matches!(param.role, Role::Positional | Role::Named)
                    && param.default.is_none()
                    && !has(*index, param)
            })
            .map(|(_, param)| format!("\"{}\"", param.text))
            .collect();
        let plural = if names.len() == 1 { "" } else { "s" };
        let problem = format!("missing argument{plural} {}", names.join(", "));
        self.invalid(py, &problem, Some(format!("it is {}", self.shape())))
    }
}
