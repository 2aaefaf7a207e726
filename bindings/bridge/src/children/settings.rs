//! How a pool is to be, from the settings of an application by name.

use taskloom_model::{Code, Error, Result};

use super::{PoolSettings, memory_of};
use crate::Value;

/// The settings of an application that are about its pool.
pub const POOL_SETTINGS: &[&str] = &["processes", "max_memory", "max_tasks_per_child"];

/// The least that a child can be made to do with: an interpreter alone needs about as much.
const LEAST_MEMORY: i64 = 16 << 20;

impl Default for PoolSettings {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { size: cores, max_memory: None, max_tasks: None }
    }
}

/// Takes the settings of a pool out of those of an application.
///
/// Errors: `InvalidOption`, naming the setting and its value; `NotAvailable` for a limit of memory where the system does
/// not tell how much a process uses.
pub fn take_pool_settings(values: &mut Vec<(String, Value)>) -> Result<PoolSettings> {
    let mut settings = PoolSettings::default();
    let mut first_error = Ok(());
    values.retain(|(name, value)| {
        let known = POOL_SETTINGS.contains(&name.as_str());
        if known && first_error.is_ok() && !matches!(value, Value::None) {
            first_error = set(&mut settings, name, value);
        }
        !known
    });
    first_error.map(|()| settings)
}

fn set(settings: &mut PoolSettings, name: &str, value: &Value) -> Result<()> {
    match name {
        "processes" => settings.size = value.count(name, 1, 1_000)? as usize,
        "max_tasks_per_child" => settings.max_tasks = Some(value.count(name, 1, i64::MAX)? as u64),
        _ => {
            let bytes = value.count(name, LEAST_MEMORY, i64::MAX).map_err(|error| {
                error.hint("it is in bytes, for each child: max_memory=512 * 2**20 is 512 MiB")
            })?;
            if memory_of(std::process::id()).is_none() {
                return Err(Error::new(
                    Code::NotAvailable,
                    "max_memory is not available on this system, which does not tell how much a process uses",
                )
                .hint("leave it out, or limit the children by the system's own means"));
            }
            settings.max_memory = Some(bytes as u64);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(name: &str, value: Value) -> Result<PoolSettings> {
        let mut values = vec![("workers".into(), Value::Int(2)), (name.into(), value)];
        let settings = take_pool_settings(&mut values);
        assert_eq!(values.len(), 1, "what is not the pool's is left alone");
        settings
    }

    #[test]
    fn good_and_bad_values() {
        assert_eq!(taken("processes", Value::Int(3)).unwrap().size, 3);
        assert_eq!(taken("processes", Value::None).unwrap(), PoolSettings::default());
        assert_eq!(taken("max_tasks_per_child", Value::Int(7)).unwrap().max_tasks, Some(7));
        for (name, value, message) in [
            ("processes", Value::Int(0), "processes is 0; it must be a whole number from 1 to 1000"),
            ("processes", Value::Bool(true), "processes is true; it must be a whole number"),
            ("max_tasks_per_child", Value::Float(1.5), "max_tasks_per_child is 1.5; it must be"),
            ("max_memory", Value::Int(1), "max_memory is 1; it must be a whole number from 16777216"),
        ] {
            let error = taken(name, value).unwrap_err();
            assert!(error.message().starts_with(message), "{error}");
        }
    }
}
