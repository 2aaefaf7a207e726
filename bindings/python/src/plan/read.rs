//! From a payload to the arguments of a call.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyTuple};

use super::{Plan, Role};
use crate::check::{self, Check, Typed};
use crate::decode::{Fault, Parser, utf8};
use crate::errors::{raise, reason};

/// What was read of a payload: the values of the parameters, of `*args`, and of `**kwargs`.
pub(super) struct Call<'a, 'py> {
    pub(super) slots: &'a mut [Option<Bound<'py, PyAny>>],
    pub(super) rest: Vec<Bound<'py, PyAny>>,
    pub(super) keywords: Option<Bound<'py, PyDict>>,
}

impl Plan {
    pub(super) fn read_call<'py>(
        &self,
        py: Python<'py>,
        payload: &[u8],
        call: &mut Call<'_, 'py>,
    ) -> PyResult<()> {
        let what = || format!("{}: payload", self.name);
        // Nothing at all, or null, is a call without arguments: other languages may have no input to give.
        if payload.is_empty() || payload == b"null" {
            return Ok(());
        }
        let text = match std::str::from_utf8(payload) {
            Ok(text) => text,
            Err(_) => utf8(py, &what(), payload)?,
        };
        let mut parser = Parser::new(py, text);
        if parser.peek() != Some(b'{') {
            let hint = self.example();
            return Err(self.invalid(
                py,
                &format!("the payload is {}, not an object", head(text)),
                Some(hint),
            ));
        }
        let fault = |fault: Box<Fault>| fault.into_error(py, &what(), text);
        parser.enter(0).map_err(fault)?;
        if !parser.eat(b'}') {
            let mut expected = 0;
            loop {
                self.read_member(py, &mut parser, &mut expected, call, &fault)?;
                if !parser.another(b'}').map_err(fault)? {
                    break;
                }
            }
        }
        parser.end().map_err(fault)
    }

    /// Reads one key and its value. `expected` is the parameter that comes next when keys are in the order of the
    /// signature, as our own encoder writes them.
    #[inline]
    pub(super) fn read_member<'py>(
        &self,
        py: Python<'py>,
        parser: &mut Parser<'_, 'py>,
        expected: &mut usize,
        call: &mut Call<'_, 'py>,
        fault: &impl Fn(Box<Fault>) -> PyErr,
    ) -> PyResult<()> {
        let escaped: String;
        let name = match parser.plain_key().map_err(fault)? {
            Some(name) => name,
            None => {
                let key = parser.string().map_err(fault)?;
                escaped = key.to_str()?.to_owned();
                &escaped
            }
        };
        let found = match self.params.get(*expected) {
            Some(param) if param.text == name && param.takes_name() => Some(*expected),
            _ => self.params.iter().position(|param| param.text == name && param.role != Role::Keywords),
        };
        parser.colon().map_err(fault)?;
        let Some(index) = found else {
            let Some(keywords) = self.keywords else { return Err(self.unknown(py, name)) };
            let value = self.read_checked(py, parser, &self.params[keywords].check, 1, name, fault)?;
            let dict = call.keywords.get_or_insert_with(|| PyDict::new(py));
            return dict.set_item(name, value);
        };
        let param = &self.params[index];
        match param.role {
            Role::Context { .. } => return Err(self.is_injected(py, name)),
            Role::Rest => {
                call.rest.clear();
                if parser.peek() != Some(b'[') {
                    let problem = format!("argument \"{name}\" feeds *{name}, so it must be an array");
                    return Err(self.invalid(py, &problem, None));
                }
                parser.enter(1).map_err(fault)?;
                if !parser.eat(b']') {
                    loop {
                        call.rest.push(self.read_checked(py, parser, &param.check, 2, name, fault)?);
                        if !parser.another(b']').map_err(fault)? {
                            break;
                        }
                    }
                }
            }
            _ => call.slots[index] = Some(self.read_checked(py, parser, &param.check, 1, name, fault)?),
        }
        *expected = index + 1;
        // Step over parameters that are never in a payload.
        while self.params.get(*expected).is_some_and(|param| matches!(param.role, Role::Context { .. })) {
            *expected += 1;
        }
        Ok(())
    }

    #[inline]
    pub(super) fn read_checked<'py>(
        &self,
        py: Python<'py>,
        parser: &mut Parser<'_, 'py>,
        check: &Check,
        depth: usize,
        name: &str,
        fault: &impl Fn(Box<Fault>) -> PyErr,
    ) -> PyResult<Bound<'py, PyAny>> {
        let typed = match check {
            Check::Any => return parser.value(depth).map_err(fault),
            Check::Typed(typed) => typed,
        };
        let text = if typed.bits == 0 {
            parser.skip(depth).map_err(fault)?
        } else {
            parser.peek();
            let start = parser.at();
            let value = parser.value(depth).map_err(fault)?;
            let bit = check::exact_bit(&value);
            if typed.takes(bit) {
                return Ok(value);
            }
            if typed.widens(bit)
                && let Ok(number) = value.extract::<f64>()
            {
                return Ok(PyFloat::new(py, number).into_any());
            }
            parser.since(start)
        };
        load(py, typed, text, || self.subject(name).to_string())
    }

    /// From what was read to what the handler is called with.
    pub(super) fn arrange<'py>(
        &self,
        py: Python<'py>,
        call: Call<'_, 'py>,
        context: impl FnOnce(Python<'py>) -> PyResult<Py<PyAny>>,
    ) -> PyResult<(Bound<'py, PyTuple>, Option<Bound<'py, PyDict>>)> {
        let Call { slots, rest, mut keywords } = call;
        let mut context = Some(context);
        // Trailing parameters that were not given are left to their defaults; one with something behind it, or before
        // `*args` that has something, is filled in.
        let mut until = if rest.is_empty() { 0 } else { self.positional };
        for (index, param) in self.params.iter().enumerate() {
            if let Role::Context { .. } = param.role
                && let Some(context) = context.take()
            {
                slots[index] = Some(context(py)?.into_bound(py));
            }
            if slots[index].is_some() {
                if index < self.positional {
                    until = until.max(index + 1);
                } else {
                    let dict = keywords.get_or_insert_with(|| PyDict::new(py));
                    dict.set_item(param.name.bind(py), slots[index].take())?;
                }
            } else if param.default.is_none() && matches!(param.role, Role::Positional | Role::Named) {
                let is_keyword = |at: usize| {
                    keywords
                        .as_ref()
                        .is_some_and(|dict| dict.contains(&self.params[at].name).unwrap_or(false))
                };
                return Err(self.missing(py, |at, _| slots[at].is_some() || is_keyword(at)));
            }
        }
        for (slot, param) in slots[..until].iter_mut().zip(&self.params) {
            if slot.is_none() {
                *slot = param.default.as_ref().map(|default| default.bind(py).clone());
            }
        }
        let args = if rest.is_empty() {
            // An iterator that knows its length needs no list in between.
            PyTuple::new(py, slots[..until].iter_mut().map(Option::take))?
        } else {
            let given = slots[..until].iter_mut().filter_map(Option::take);
            PyTuple::new(py, given.chain(rest).collect::<Vec<_>>())?
        };
        Ok((args, keywords))
    }
}

/// The beginning of a text, for a message.
fn head(text: &str) -> String {
    const LONG: usize = 60;
    if text.len() <= LONG {
        text.to_owned()
    } else {
        format!("{}…", &text[..text.floor_char_boundary(LONG)])
    }
}

/// An `int` as a `float` where the hint wants one.
pub(super) fn widened<'py>(typed: &Typed, value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    if typed.widens(check::exact_bit(&value)) {
        return Ok(PyFloat::new(value.py(), value.extract()?).into_any());
    }
    Ok(value)
}

/// Converts the JSON of one value by its hint.
pub(super) fn load<'py>(
    py: Python<'py>,
    typed: &Typed,
    json: &str,
    what: impl Fn() -> String,
) -> PyResult<Bound<'py, PyAny>> {
    typed.load(py, json.as_bytes()).or_else(|error| {
        let (text, cause) = reason(py, error)?;
        let message = format!("{}: expected {}, got {}: {text}", what(), typed.hint, head(json));
        let error = raise(py, "InvalidPayload", "TL1203", message, None);
        error.set_cause(py, Some(cause));
        Err(error)
    })
}
