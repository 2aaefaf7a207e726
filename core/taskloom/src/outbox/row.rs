//! A row of the outbox, and the submit that it stands for.

use std::borrow::Cow;

use serde::de::IgnoredAny;
use taskloom_model::{Admission, Code, Error, Name, Options, Result, TaskId, Timestamp, admit, check_name};

use super::options;

/// A row, as it is written and as it is found. A column of a found one holds whatever somebody has written into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// `id`: a UUID, the task's.
    pub id: String,
    /// `name`: the handler's.
    pub name: String,
    /// `payload`: JSON.
    pub payload: Vec<u8>,
    /// `options`: a JSON object.
    pub options: Option<Vec<u8>>,
    /// `created`: microseconds since the epoch.
    pub created: i64,
}

/// What a row asks for.
#[derive(Debug)]
pub struct Submission {
    /// The handler's name.
    pub name: String,
    /// The payload, which is JSON.
    pub payload: Box<[u8]>,
    /// The options, among them the id.
    pub options: Options,
    /// Whether a handler that nobody has registered is allowed.
    pub allow_unknown: bool,
}

impl Row {
    /// The payload as text. Of a row that was made by a submit it is JSON; of a found one, what is no UTF-8 is replaced.
    pub fn payload_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.payload)
    }

    /// The options as text, likewise.
    pub fn options_text(&self) -> Option<Cow<'_, str>> {
        self.options.as_deref().map(String::from_utf8_lossy)
    }

    /// What it asks for.
    ///
    /// Errors: `InvalidOption` naming the column or the option; `InvalidPayload` for a payload that is no JSON.
    pub fn read(&self) -> Result<Submission> {
        let id: TaskId = self.id.parse()?;
        check_name("handler", &self.name)?;
        let no_json = |error: &dyn std::fmt::Display| {
            Error::new(Code::InvalidPayload, format!("the row's payload is no JSON: {error}")).hint(
                "it is the text of one JSON value, as a rule an object of the handler's arguments by name",
            )
        };
        // What is skipped is not looked at for its encoding.
        let text = std::str::from_utf8(&self.payload).map_err(|error| no_json(&error))?;
        serde_json::from_str::<IgnoredAny>(text).map_err(|error| no_json(&error))?;
        let mut read = match &self.options {
            Some(text) => {
                let text = std::str::from_utf8(text).map_err(|error| {
                    Error::new(Code::InvalidOption, format!("the row's options: {error}"))
                })?;
                options::read(text, Timestamp::from_micros(self.created))?
            }
            None => options::Read::default(),
        };
        read.options.id = Some(id);
        Ok(Submission {
            name: self.name.clone(),
            payload: self.payload.clone().into_boxed_slice(),
            options: read.options,
            allow_unknown: read.allow_unknown,
        })
    }
}

/// Makes the row for a submit, validated as the submit would be, as far as that can be without the store.
///
/// `own` are the submit's options, `base` those of its handler; the row has both, so that it means the same to a relay that
/// does not know the handler. `id` is the task's unless the options have one.
///
/// Errors: those of a submit: `InvalidOption`, `NotAvailable`, `MissingMetadata`, `PayloadTooLarge`.
pub fn prepare(
    (name, payload): (&str, &[u8]),
    (own, base): (&Options, &Options),
    allow_unknown: bool,
    require_metadata: &[String],
    id: TaskId,
    now: Timestamp,
) -> Result<Row> {
    check_name("handler", name)?;
    own.validate_submit(base)?;
    let mut whole = own.over(base);
    if whole.key.is_none() {
        // Limits for each key, and this task has none.
        (whole.concurrency, whole.rate) = (None, None);
    }
    whole.per_key = false;
    if let Some(option) = whole.not_available_yet() {
        return Err(Error::new(
            Code::NotAvailable,
            format!("the option {option} is not available in this version"),
        )
        .hint("leave it out; docs/options.md lists what there is"));
    }
    if let Some(key) = require_metadata.iter().find(|key| !whole.metadata.iter().any(|(own, _)| own == *key))
    {
        return Err(Error::new(
            Code::MissingMetadata,
            format!("this app wants to know the {key:?} of every task, in its metadata"),
        )
        .hint(format!("pass it with the task's options: metadata={{\"{key}\": …}}")));
    }
    let id = whole.id.take().unwrap_or(id);
    admit(&Admission::new(&whole)?, id, Name::new(name), payload.into(), now)?;
    let options = options::write(&options::resolved(whole, now), allow_unknown);
    Ok(Row {
        id: id.to_string(),
        name: name.to_owned(),
        payload: payload.to_vec(),
        options: options.map(String::into_bytes),
        created: now.micros(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use taskloom_model::When;

    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_900_000_000_000_000);

    fn id() -> TaskId {
        "01980a2b-7c3d-7e4f-8a1b-2c3d4e5f6071".parse().unwrap()
    }

    fn row(own: &Options, base: &Options) -> Result<Row> {
        prepare(("mail", b"{}"), (own, base), false, &[], id(), NOW)
    }

    #[test]
    fn a_row_means_the_submit_that_it_was_made_of() {
        let own = Options { eta: Some(When::In(Duration::from_secs(5))), ..Options::default() };
        let base = Options { retries: Some(3), concurrency: Some(2), ..Options::default() };
        let row = row(&own, &base).unwrap();
        assert_eq!(row.id, id().to_string());
        let read = row.read().unwrap();
        let wanted = Options {
            id: Some(id()),
            eta: Some(When::At(NOW + Duration::from_secs(5))),
            retries: Some(3),
            ..Options::default()
        };
        assert_eq!(read.options, wanted, "the handler's own limit is no option of its tasks");
        let given: TaskId = "01980a2b-0000-7000-8000-000000000001".parse().unwrap();
        let named = Options { id: Some(given), ..Options::default() };
        assert_eq!(self::row(&named, &base).unwrap().id, given.to_string());
    }

    #[test]
    fn limits_of_a_handler_with_keys_go_with_the_key() {
        let base = Options { concurrency: Some(2), per_key: true, ..Options::default() };
        let keyed = Options { key: Some("k".into()), ..Options::default() };
        assert_eq!(row(&keyed, &base).unwrap().read().unwrap().options.concurrency, Some(2));
        assert_eq!(row(&Options::default(), &base).unwrap().read().unwrap().options.concurrency, None);
    }

    #[test]
    fn what_a_submit_refuses_becomes_no_row() {
        let none = Options::default();
        let refused = |own: &Options| row(own, &none).unwrap_err().code();
        assert_eq!(refused(&Options { timeout: Some(Duration::ZERO), ..none.clone() }), Code::InvalidOption);
        assert_eq!(refused(&Options { concurrency: Some(1), ..none.clone() }), Code::InvalidOption);
        assert_eq!(refused(&Options { agent: Some("a".into()), ..none.clone() }), Code::NotAvailable);
        let late = Options {
            eta: Some(When::At(NOW + Duration::from_secs(9))),
            expires: Some(When::In(Duration::from_secs(3))),
            ..none.clone()
        };
        assert_eq!(refused(&late), Code::InvalidOption);
        let demands = ["initiator".to_owned()];
        let error = prepare(("mail", b"{}"), (&none, &none), false, &demands, id(), NOW).unwrap_err();
        assert_eq!(error.code(), Code::MissingMetadata);
        let large = vec![b' '; taskloom_model::MAX_PAYLOAD + 1];
        let error = prepare(("mail", &large), (&none, &none), false, &[], id(), NOW).unwrap_err();
        assert_eq!(error.code(), Code::PayloadTooLarge);
    }

    #[test]
    fn a_row_that_makes_no_sense_says_why() {
        let good = row(&Options::default(), &Options::default()).unwrap();
        for (row, code, message) in [
            (Row { id: "7".into(), ..good.clone() }, Code::InvalidOption, "id \"7\" is not a UUID"),
            (Row { name: String::new(), ..good.clone() }, Code::InvalidOption, "handler \"\" is empty"),
            (
                Row { payload: b"{".to_vec(), ..good.clone() },
                Code::InvalidPayload,
                "the row's payload is no JSON: EOF",
            ),
            (
                Row { payload: b"\"\xff\"".to_vec(), ..good.clone() },
                Code::InvalidPayload,
                "the row's payload is no JSON",
            ),
            (
                Row { options: Some(b"x".to_vec()), ..good.clone() },
                Code::InvalidOption,
                "the row's options are no JSON",
            ),
            (
                Row { options: Some(vec![255]), ..good.clone() },
                Code::InvalidOption,
                "the row's options: invalid utf-8",
            ),
        ] {
            let error = row.read().unwrap_err();
            assert_eq!(error.code(), code);
            assert!(error.message().starts_with(message), "{error}");
        }
    }
}
