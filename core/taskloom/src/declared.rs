//! What a program has said about its schedules. A name stands for one of them: the second that says something else would
//! take the place of the first, and nobody would hear of it. The same may be said again.

use std::collections::HashMap;

use parking_lot::Mutex;
use taskloom_model::{Code, Error, Result, Rule, ScheduleSpec};

/// The schedules of an app, as they were said.
#[derive(Default)]
pub(crate) struct Declared(Mutex<HashMap<String, ScheduleSpec>>);

impl Declared {
    /// Makes a schedule by `put`, unless another one has its name.
    pub(crate) fn put<T>(
        &self,
        spec: ScheduleSpec,
        put: impl FnOnce(ScheduleSpec) -> Result<T>,
    ) -> Result<T> {
        let name = spec.name.clone();
        if let Some(before) = self.0.lock().get(&name).filter(|before| **before != spec) {
            return Err(Error::new(
                Code::InvalidSchedule,
                format!(
                    "there are two schedules of the name {name:?}: {}, and {}",
                    shown(before),
                    shown(&spec)
                ),
            )
            .hint("give each a name of its own: .name(…); what a schedule says is changed by schedules().update(…)"));
        }
        let made = put(spec.clone())?;
        self.0.lock().insert(name, spec);
        Ok(made)
    }

    /// A schedule was removed, and may be said anew.
    pub(crate) fn forget(&self, name: &str) {
        self.0.lock().remove(name);
    }
}

fn shown(spec: &ScheduleSpec) -> String {
    let rule = match &spec.rule {
        Rule::Cron { expression, tz } => format!("cron {expression:?} in {tz}"),
        Rule::Every(span) => format!("every {} s", span.as_secs_f64()),
        Rule::Once(at) => format!("at {at}"),
    };
    let payload = String::from_utf8_lossy(&spec.template.payload);
    format!("{rule} for {:?} with the input {payload}", spec.template.handler)
}
