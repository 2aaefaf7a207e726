//! Options and settings by name, as a binding hands them over.

use taskloom::Durability;
use taskloom_engine::Served;
use taskloom_model::by_name::{self, Value};
use taskloom_model::{Code, Error, Name, Options, Result, check_name};

use crate::Settings;

/// Those that only a submit by a binding has.
const HERE: &[&str] = &["id", "detached", "tx"];

/// The options of a submit that are available, for messages.
pub(crate) fn available() -> Vec<&'static str> {
    [by_name::NAMES, HERE].concat()
}

/// Options that this version knows of and refuses.
pub(crate) const LATER: &[&str] = &["depends_on", "requires", "agent", "executor", "allow_unknown"];

/// Settings of an application that this version knows of and refuses.
const SETTINGS_LATER: &[&str] = &["lease"];

const SETTINGS: &[&str] = &[
    "workers",
    "max_in_flight",
    "queues",
    "capacity",
    "on_full",
    "payloads",
    "durability",
    "retention",
    "require_metadata",
    "name",
];

fn unknown(what: &str, name: &str, available: &[&str], later: &[&str]) -> Error {
    if later.contains(&name) {
        return Error::new(Code::NotAvailable, format!("the {what} {name} is not available in this version"))
            .hint(format!("leave it out; there are: {}", available.join(", ")));
    }
    by_name::unknown(what, name, available)
}

/// Sets one option of a submit by its name.
///
/// Errors: `InvalidOption` naming the option and its value, `NotAvailable` for one that is not built yet.
pub fn set_option(options: &mut Options, name: &str, value: &Value) -> Result<()> {
    if by_name::set(options, name, value)? {
        return Ok(());
    }
    let is_none = matches!(value, Value::None);
    match name {
        _ if is_none && (HERE.contains(&name) || LATER.contains(&name)) => {}
        "id" => options.id = Some(value.text(name)?.parse()?),
        "detached" => {
            return Err(Error::new(
                Code::InvalidOption,
                "detached is for children, and this task has no parent",
            )
            .hint("submit it with ctx.submit(…), or leave detached out"));
        }
        "tx" => {
            return Err(Error::new(
                Code::InvalidOption,
                "tx is for the submit of one task, inside a transaction",
            )
            .hint("write task.options(tx=connection).submit(…)"));
        }
        "executor" => {
            return Err(Error::new(Code::InvalidOption, "executor is the handler's, and not a submit's")
                .hint("say it where the handler is registered: @app.task(executor=\"process\")"));
        }
        other => return Err(unknown("option", other, &available(), LATER)),
    }
    Ok(())
}

/// Settings of an application, by name.
///
/// Errors: as [`set_option`].
pub fn settings_from(url: &str, values: &[(String, Value)]) -> Result<Settings> {
    settings_beside(url, values, &[])
}

/// The same, for a binding that has taken out settings of its own; `beside` are their names, for messages.
pub fn settings_beside(url: &str, values: &[(String, Value)], beside: &[&str]) -> Result<Settings> {
    change(Settings { url: url.to_owned(), ..Settings::default() }, values, beside)
}

/// Settings with some of them changed, by name.
///
/// Errors: as [`set_option`].
pub fn change_settings(settings: Settings, values: &[(String, Value)]) -> Result<Settings> {
    change(settings, values, &[])
}

fn change(mut settings: Settings, values: &[(String, Value)], beside: &[&str]) -> Result<Settings> {
    for (name, value) in values {
        if matches!(value, Value::None) {
            continue;
        }
        match name.as_str() {
            "workers" => settings.workers = Some(value.count(name, 1, 10_000)? as usize),
            "max_in_flight" => settings.max_in_flight = Some(value.count(name, 1, 1_000_000)? as usize),
            "queues" => settings.queues = served(name, value)?,
            "capacity" => settings.capacity = Some(value.count(name, 1, i64::MAX)? as usize),
            "on_full" => {
                settings.wait_when_full = match value.text(name)?.as_str() {
                    "raise" => false,
                    "wait" => true,
                    _ => return Err(value.wrong(name, "\"raise\" or \"wait\"")),
                };
            }
            "payloads" => {
                settings.by_reference = match value.text(name)?.as_str() {
                    "json" => false,
                    "reference" => true,
                    _ => return Err(value.wrong(name, "\"json\" or \"reference\"")),
                };
            }
            "retention" => settings.retention = Some(value.span(name)?),
            "require_metadata" => settings.require_metadata = value.texts(name)?,
            "name" => settings.name = Some(value.text(name)?),
            "durability" => {
                settings.durability = match value.text(name)?.as_str() {
                    "disk" => Durability::Disk,
                    "process" => Durability::Process,
                    _ => return Err(value.wrong(name, "\"disk\" or \"process\"")),
                };
            }
            other => {
                return Err(unknown("setting", other, &[SETTINGS, beside].concat(), SETTINGS_LATER));
            }
        }
    }
    Ok(settings)
}

/// The queues that an application serves.
fn served(name: &str, value: &Value) -> Result<Served> {
    let checked = |queue: &str| {
        check_name("queue", queue)?;
        Ok::<_, Error>(Name::new(queue))
    };
    let none = || {
        Error::new(Code::InvalidOption, format!("{name} names no queue, so nothing would ever run"))
            .hint("leave it out to serve every queue")
    };
    match value {
        Value::Texts(names) if names.is_empty() => Err(none()),
        Value::Texts(names) => {
            Ok(Served::InOrder(names.iter().map(|queue| checked(queue)).collect::<Result<_>>()?))
        }
        Value::Weights(weights) if weights.is_empty() => Err(none()),
        Value::Weights(weights) => {
            let weight = |(queue, weight): &(String, i64)| match u32::try_from(*weight) {
                Ok(weight @ 1..=1_000) => Ok((checked(queue)?, weight)),
                _ => Err(Error::new(
                    Code::InvalidOption,
                    format!("{name}[{queue:?}] is {weight}; a weight is a whole number from 1 to 1000"),
                )),
            };
            Ok(Served::ByWeight(weights.iter().map(weight).collect::<Result<_>>()?))
        }
        other => Err(other.wrong(name, "a list of queues, or a mapping from queues to their weights")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, value: Value) -> Result<Options> {
        let mut options = Options::default();
        set_option(&mut options, name, &value)?;
        options.validate()?;
        Ok(options)
    }

    #[test]
    fn names_and_values_that_make_no_sense_are_named() {
        for (name, value, message) in [
            ("id", Value::Text("x".into()), "id \"x\" is not a UUID"),
            ("prioritty", Value::Int(1), "there is no option prioritty"),
            ("timeout", Value::Text("3s".into()), "timeout is \"3s\"; it must be a duration"),
            ("depends_on", Value::Texts(vec![]), "the option depends_on is not available in this version"),
            ("detached", Value::Bool(true), "detached is for children"),
        ] {
            let error = set(name, value).unwrap_err();
            assert!(error.message().starts_with(message), "{error}");
        }
        let hint = set("prioritty", Value::Int(1)).unwrap_err();
        assert_eq!(hint.hint_text(), Some("did you mean priority?"));
        for none in ["id", "queue", "tx", "depends_on"] {
            assert_eq!(set(none, Value::None).unwrap(), Options::default());
        }
    }

    #[test]
    fn settings() {
        let settings = settings_from("memory:", &[("workers".into(), Value::Int(2))]).unwrap();
        assert_eq!(settings.workers, Some(2));
        for (name, value, code) in [
            ("workers", Value::Int(0), Code::InvalidOption),
            ("durability", Value::Text("tape".into()), Code::InvalidOption),
            ("wrokers", Value::Int(2), Code::InvalidOption),
            ("lease", Value::Int(3), Code::NotAvailable),
            ("queues", Value::Texts(vec![]), Code::InvalidOption),
            ("queues", Value::Weights(vec![("a".into(), 0)]), Code::InvalidOption),
            ("on_full", Value::Text("drop".into()), Code::InvalidOption),
        ] {
            assert_eq!(settings_from("memory:", &[(name.into(), value)]).unwrap_err().code(), code);
        }
    }
}
