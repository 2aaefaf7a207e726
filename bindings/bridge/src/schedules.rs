//! Schedules by name, from values of any language.

use std::time::Duration;

use taskloom_model::by_name::{self, Value};
use taskloom_model::{
    CatchUp, Code, Error, MAX_CATCH_UP, Options, Overlap, Result, Rule, ScheduleSpec, Template, Timestamp,
    Zone,
};

use crate::options::{LATER, available};
use crate::set_option;

/// What is said of a schedule beside the options of its tasks.
const OWN: &[&str] =
    &["cron", "every", "at", "tz", "overlap", "catch_up", "jitter", "start", "end", "arguments"];

/// The rules: a schedule has one of them.
const RULES: &[&str] = &["cron", "every", "at"];

/// Options of a submit that make no sense for tasks that come again and again.
const NOT_HERE: &[&str] =
    &["id", "delay", "eta", "unique_key", "unique_for", "on_conflict", "detached", "tx"];

/// How many missed firings `catch_up="all"` makes up for.
const ALL: u32 = 100;

/// A new schedule: `values` has a rule (`cron`, `every` or `at`), and what else is said of it and of its tasks.
///
/// Errors: `InvalidSchedule` and `InvalidOption`, naming the value.
pub fn new_schedule(
    name: &str,
    handler: &str,
    payload: Box<[u8]>,
    options: Options,
    values: &[(String, Value)],
) -> Result<ScheduleSpec> {
    let template = Template { handler: handler.to_owned(), payload, options };
    // Replaced at once: a rule is among the values.
    let rule = Rule::Once(Timestamp::MAX);
    let mut spec = ScheduleSpec::new(name, rule, template);
    change_schedule(&mut spec, values)?;
    Ok(spec)
}

/// Changes what the values name.
///
/// Errors: as [`new_schedule`].
pub fn change_schedule(spec: &mut ScheduleSpec, values: &[(String, Value)]) -> Result<()> {
    let mut tz = None;
    for (name, value) in values {
        match (name.as_str(), value) {
            ("start", Value::None) => spec.start = None,
            ("end", Value::None) => spec.end = None,
            ("jitter", Value::None) => spec.jitter = Duration::ZERO,
            (_, Value::None) => {}
            ("cron", _) => {
                let zone = match &spec.rule {
                    Rule::Cron { tz, .. } => tz.clone(),
                    _ => "UTC".into(),
                };
                spec.rule = Rule::Cron { expression: value.text(name)?, tz: zone };
            }
            ("every", _) => spec.rule = Rule::Every(value.span(name)?),
            ("at", _) => spec.rule = Rule::Once(time(name, value)?),
            ("tz", _) => tz = Some(Zone::named(&value.text(name)?)?.name().to_owned()),
            ("overlap", _) => {
                spec.overlap = match value.text(name)?.as_str() {
                    "skip" => Overlap::Skip,
                    "queue" => Overlap::Queue,
                    "replace" => Overlap::Replace,
                    _ => return Err(value.wrong(name, "\"skip\", \"queue\" or \"replace\"")),
                };
            }
            ("catch_up", Value::Int(most)) if u32::try_from(*most).is_ok_and(|most| most <= MAX_CATCH_UP) => {
                spec.catch_up = CatchUp::All(*most as u32);
            }
            ("catch_up", Value::Text(word)) => {
                spec.catch_up = match word.as_str() {
                    "none" => CatchUp::None,
                    "last" => CatchUp::Last,
                    "all" => CatchUp::All(ALL),
                    _ => return Err(wrong_catch_up(value)),
                };
            }
            ("catch_up", _) => {
                return Err(wrong_catch_up(value));
            }
            ("jitter", _) => spec.jitter = value.span(name)?,
            ("start", _) => spec.start = Some(time(name, value)?),
            ("end", _) => spec.end = Some(time(name, value)?),
            (other, _) if !available().contains(&other) && !LATER.contains(&other) => {
                return Err(by_name::unknown("option", other, &of_schedules()));
            }
            (other, _) => set_option(&mut spec.template.options, other, value)?,
        }
    }
    one_rule(&spec.name, values)?;
    match (tz, &mut spec.rule) {
        (None, _) => Ok(()),
        (Some(zone), Rule::Cron { tz, .. }) => {
            *tz = zone;
            Ok(())
        }
        (Some(zone), rule) => Err(Error::new(
            Code::InvalidSchedule,
            format!("tz is {zone:?}, and the schedule {:?} is by {}", spec.name, rule.kind()),
        )
        .hint("a zone is for cron expressions; an interval is the same everywhere, and a point in time has its own")),
    }
}

fn one_rule(schedule: &str, values: &[(String, Value)]) -> Result<()> {
    let is_rule =
        |(name, value): &&(String, Value)| RULES.contains(&name.as_str()) && !matches!(value, Value::None);
    let given: Vec<_> = values.iter().filter(is_rule).map(|(name, _)| name.as_str()).collect();
    if given.len() < 2 {
        return Ok(());
    }
    Err(Error::new(
        Code::InvalidSchedule,
        format!("schedule {schedule:?} is given two rules: {}", given.join(" and ")),
    )
    .hint("a schedule has one rule; make another schedule for the other one"))
}

/// The options of a schedule, for messages.
fn of_schedules() -> Vec<&'static str> {
    let submits = available().into_iter().filter(|name| !NOT_HERE.contains(name));
    OWN.iter().copied().filter(|name| !RULES.contains(name)).chain(submits).collect()
}

fn wrong_catch_up(value: &Value) -> Error {
    let wanted = format!("\"none\", \"last\", \"all\", or how many at most, 1 to {MAX_CATCH_UP}");
    value.wrong("catch_up", &wanted)
}

fn time(name: &str, value: &Value) -> Result<Timestamp> {
    match value {
        Value::At(micros) => Ok(Timestamp::from_micros(*micros)),
        other => Err(other.wrong(name, "a point in time")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(values: &[(&str, Value)]) -> Result<ScheduleSpec> {
        let values: Vec<_> = values.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        new_schedule("nightly", "report", Box::default(), Options::default(), &values)
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn good_values() {
        let spec = made(&[
            ("cron", text("0 3 * * *")),
            ("tz", text("europe/rome")),
            ("overlap", text("queue")),
            ("catch_up", Value::Int(5)),
            ("jitter", Value::Float(1.5)),
            ("start", Value::At(7)),
            ("queue", text("night")),
        ])
        .unwrap();
        assert_eq!(spec.rule, Rule::Cron { expression: "0 3 * * *".into(), tz: "Europe/Rome".into() });
        assert_eq!((spec.overlap, spec.catch_up), (Overlap::Queue, CatchUp::All(5)));
        assert_eq!((spec.jitter, spec.start), (Duration::from_millis(1500), Some(Timestamp::from_micros(7))));
        assert_eq!(spec.template.options.queue.as_deref(), Some("night"));
        let mut changed = spec.clone();
        let change = [("cron".to_owned(), text("0 4 * * *")), ("start".to_owned(), Value::None)];
        change_schedule(&mut changed, &change).unwrap();
        assert_eq!(changed.rule, Rule::Cron { expression: "0 4 * * *".into(), tz: "Europe/Rome".into() });
        assert_eq!((changed.start, changed.overlap), (None, spec.overlap));
    }

    #[test]
    fn bad_values_are_named() {
        for (name, value, message) in [
            ("overlap", text("wait"), "overlap is \"wait\"; it must be \"skip\""),
            ("catch_up", text("some"), "catch_up is \"some\"; it must be"),
            ("catch_up", Value::Bool(true), "catch_up is true; it must be"),
            ("jitter", Value::Int(-1), "jitter is -1; it must be a duration"),
            ("start", Value::Int(3), "start is 3; it must be a point in time"),
            ("every", text("60"), "every is \"60\"; it must be a duration"),
            ("tz", text("Europe/Rom"), "there is no time zone \"Europe/Rom\""),
            ("overlapp", text("skip"), "there is no option overlapp"),
            ("quue", text("a"), "there is no option quue"),
            ("catch_up", Value::Int(-1), "catch_up is -1; it must be"),
            ("catch_up", Value::Int(1 << 40), "catch_up is 1099511627776; it must be"),
            ("every", Value::Int(5), "schedule \"nightly\" is given two rules: cron and every"),
            ("at", Value::At(5), "schedule \"nightly\" is given two rules: cron and at"),
            ("depends_on", Value::Texts(vec![]), "the option depends_on is not available in this version"),
        ] {
            let error = made(&[("cron", text("@daily")), (name, value)]).unwrap_err();
            assert!(error.message().starts_with(message), "{error}");
        }
        let unknown = |name| made(&[("cron", text("@daily")), (name, text("x"))]).unwrap_err();
        for (name, near) in [("catchup", "catch_up"), ("quue", "queue"), ("argument", "arguments")] {
            assert_eq!(unknown(name).hint_text(), Some(format!("did you mean {near}?").as_str()));
        }
        let listed = unknown("zzzzzzzz").hint_text().unwrap().to_owned();
        assert!(listed.starts_with("there are: tz, overlap, catch_up, jitter, start, end, arguments, queue"));
        assert!(!NOT_HERE.iter().chain(RULES).any(|name| listed.contains(&format!(" {name}"))), "{listed}");
        let error = made(&[("every", Value::Int(60)), ("tz", text("UTC"))]).unwrap_err();
        assert!(error.message().contains("is by every"), "{error}");
    }
}
