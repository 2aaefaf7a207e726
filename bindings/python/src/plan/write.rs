//! From the arguments of a call to its payload.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};

use super::{Param, Plan, Role};
use crate::encode::{Encoder, Refusal, Step, described, write_text};

impl Plan {
    pub(super) fn write_call<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
        out: &mut Vec<u8>,
    ) -> PyResult<()> {
        let given = args.len();
        if given > self.takes && self.rest.is_none() {
            return Err(self.too_many(py, given));
        }
        let (mut used, mut by_name, mut is_missing) = (0, 0, false);
        out.push(b'{');
        for param in &self.params {
            let value = match param.role {
                Role::Positional if used < given => {
                    used += 1;
                    Some(args.get_item(used - 1)?)
                }
                Role::Positional | Role::Named => match kwargs {
                    Some(kwargs) => kwargs.get_item(param.name.bind(py))?.inspect(|_| by_name += 1),
                    None => None,
                },
                Role::Rest => {
                    // By name it is a list: that is how the payload has it.
                    let named = match kwargs {
                        Some(kwargs) => kwargs.get_item(param.name.bind(py))?,
                        None => None,
                    };
                    match named.filter(|named| is_sequence(named)) {
                        Some(named) if used == given => {
                            by_name += 1;
                            self.write_rest(py, param, &named, 0, out)?;
                        }
                        _ if used < given => {
                            self.write_rest(py, param, args, used, out)?;
                            used = given;
                        }
                        _ => {}
                    }
                    continue;
                }
                Role::Keywords | Role::Context { .. } => continue,
            };
            if let Some(value) = value {
                write_key(out, &param.key);
                Encoder::new(py, out)
                    .checked(&param.check, &value, 1)
                    .map_err(|refusal| refusal.into_error(py, &self.subject(&param.text)))?;
            } else {
                is_missing |= param.default.is_none();
            }
        }
        if let Some(kwargs) = kwargs
            && by_name < kwargs.len()
        {
            self.write_keywords(py, given, kwargs, out)?;
        }
        if is_missing {
            let has = |index: usize, param: &Param| {
                index < self.positional && self.payload_position(index) < given
                    || kwargs.is_some_and(|kwargs| kwargs.contains(&param.name).unwrap_or(false))
            };
            return Err(self.missing(py, has));
        }
        out.push(b'}');
        Ok(())
    }

    /// How many positional parameters before this one are in the payload.
    pub(super) fn payload_position(&self, index: usize) -> usize {
        self.params[..index].iter().filter(|param| param.role == Role::Positional).count()
    }

    pub(super) fn write_rest<'py>(
        &self,
        py: Python<'py>,
        param: &Param,
        items: &Bound<'py, PyAny>,
        from: usize,
        out: &mut Vec<u8>,
    ) -> PyResult<()> {
        write_key(out, &param.key);
        out.push(b'[');
        for index in from..items.len()? {
            if index > from {
                out.push(b',');
            }
            Encoder::new(py, out).checked(&param.check, &items.get_item(index)?, 2).map_err(
                |refusal: Box<Refusal>| {
                    refusal
                        .within(Step::Index(index - from), items)
                        .into_error(py, &self.subject(&param.text))
                },
            )?;
        }
        out.push(b']');
        Ok(())
    }

    /// The keyword arguments that are no parameter's own: into `**kwargs`, or refused.
    pub(super) fn write_keywords<'py>(
        &self,
        py: Python<'py>,
        given: usize,
        kwargs: &Bound<'py, PyDict>,
        out: &mut Vec<u8>,
    ) -> PyResult<()> {
        // A copy: converting a value can run Python code that changes the caller's dict.
        for (key, value) in kwargs.copy()?.iter() {
            let Ok(key) = key.cast::<PyString>() else {
                return Err(self.invalid(py, &format!("the name {} is not a string", described(&key)), None));
            };
            let Ok(name) = key.to_str() else {
                return Err(self.invalid(py, &format!("the name {} is not Unicode", described(key)), None));
            };
            match self.params.iter().enumerate().find(|(_, param)| param.text == name) {
                Some((_, param)) if matches!(param.role, Role::Context { .. }) => {
                    return Err(self.is_injected(py, name));
                }
                Some((index, param)) if param.role == Role::Positional => {
                    if self.payload_position(index) < given {
                        return Err(self.invalid(py, &format!("argument \"{name}\" is given twice"), None));
                    }
                    continue;
                }
                Some((_, param)) if param.role == Role::Named => continue,
                Some((_, param)) if param.role == Role::Rest => {
                    if self.takes < given {
                        return Err(self.invalid(py, &format!("argument \"{name}\" is given twice"), None));
                    }
                    if is_sequence(&value) {
                        continue;
                    }
                    let problem = format!("argument \"{name}\" is the name of *{name}, so it must be a list");
                    return Err(self.invalid(py, &problem, None));
                }
                _ => {}
            }
            let Some(keywords) = self.keywords else { return Err(self.unknown(py, name)) };
            if out.len() > 1 {
                out.push(b',');
            }
            write_text(out, name);
            out.push(b':');
            Encoder::new(py, out)
                .checked(&self.params[keywords].check, &value, 1)
                .map_err(|refusal| refusal.into_error(py, &self.subject(name)))?;
        }
        Ok(())
    }
}

#[inline]
fn write_key(out: &mut Vec<u8>, key: &[u8]) {
    if out.len() > 1 {
        out.push(b',');
    }
    out.extend_from_slice(key);
}

fn is_sequence(value: &Bound<'_, PyAny>) -> bool {
    value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>()
}
