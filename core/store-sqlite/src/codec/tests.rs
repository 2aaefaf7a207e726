use std::time::Duration;

use taskloom_model::{
    Failure, KeyLimit, Limit, LogLine, OnConflict, Parent, Progress, Rate, RetryPolicy, Scheduled, TaskId,
    Timestamp, Unique,
};

use super::*;

fn rare() -> Rare {
    let id = TaskId::from_bytes([9; 16]);
    let at = |micros| Some(Timestamp::from_micros(micros));
    Rare {
        expires: at(i64::MAX),
        deadline: at(-5),
        retry: Some(RetryPolicy { base: Duration::new(1, 7), factor: 1.1, cap: Duration::MAX }),
        version: Some("1.2.3".into()),
        tags: vec!["a\0b".into(), "\u{1F9F6}\"'\\".into(), String::new()],
        unique: Some(Unique { key: "k".into(), until: at(3), on_conflict: OnConflict::Reject }),
        key: Some(KeyLimit {
            key: "tenant".into(),
            limit: Limit {
                concurrency: Some(2),
                rate: Some(Rate { count: 1, per: Duration::from_secs(1), burst: 3 }),
            },
        }),
        depends_on: vec![id, id],
        requires: vec!["gpu".into()],
        agent: Some("a".into()),
        metadata: vec![("initiator".into(), "me".into())],
        correlation_id: Some("c".into()),
        traceparent: Some("00-".into()),
        parent: Some(Parent { id, ordinal: 4, detached: true }),
        scheduled: Some(Scheduled { schedule: "nightly".into(), tick: Timestamp::from_micros(7) }),
    }
}

fn history() -> History {
    let at = Timestamp::from_micros(1_700_000_000_000_001);
    History {
        errors: vec![Failure {
            kind: "E".into(),
            message: "line\nline\0".into(),
            backtrace: "  at x".into(),
            attempt: u32::MAX,
            at,
        }],
        checkpoint: Some(Box::new([0xFF, 0x00, 0x80])),
        progress: vec![
            Progress { value: 0.0, message: None, at },
            Progress { value: 0.1 + 0.2, message: Some("half".into()), at },
        ],
        log: vec![
            LogLine { at, level: "info".into(), message: "line\nline\0\u{1F9F6}".into(), attempt: 1 },
            LogLine { at, level: String::new(), message: String::new(), attempt: u32::MAX },
        ],
        log_dropped: u32::MAX,
        children: 7,
        reason: Some("no".into()),
        replayed: Some(at),
        result_metadata: Some(Box::new(*b" { \"a\": 1 }\n")),
    }
}

#[test]
fn everything_goes_round() {
    for eta in [None, Some(Timestamp::from_micros(1))] {
        for rare in [rare(), Rare::default()] {
            assert_eq!(decode_rare(&encode_rare(eta, &rare).unwrap()).unwrap(), (eta, rare));
        }
    }
    assert_eq!(decode_history(&encode_history(&history()).unwrap()).unwrap(), history());
    assert_eq!(decode_history(&encode_history(&History::default()).unwrap()).unwrap(), History::default());
    for on_conflict in [OnConflict::Return, OnConflict::Replace, OnConflict::Reject] {
        let unique = Some(Unique { key: String::new(), until: None, on_conflict });
        let rare = Rare { unique, ..Rare::default() };
        assert_eq!(decode_rare(&encode_rare(None, &rare).unwrap()).unwrap(), (None, rare));
    }
}

/// What is on disk stays readable: this text may only be added to, together with the version.
#[test]
fn the_format_is_this() {
    assert_eq!(encode_rare(None, &Rare::default()).unwrap(), r#"{"v":1}"#);
    assert_eq!(
        encode_rare(
            Some(Timestamp::from_micros(5)),
            &Rare { retry: Some(RetryPolicy::default()), tags: vec!["x".into()], ..Rare::default() }
        )
        .unwrap(),
        r#"{"v":1,"eta":5,"retry":{"base":{"secs":1,"nanos":0},"factor":2.0,"cap":{"secs":30,"nanos":0}},"tags":["x"]}"#
    );
    assert_eq!(
        encode_history(&History {
            checkpoint: Some(Box::new(*b"{\"page\":3}")),
            result_metadata: Some(Box::new([0xFF])),
            reason: Some("why".into()),
            ..History::default()
        })
        .unwrap(),
        r#"{"v":1,"checkpoint":{"text":"{\"page\":3}"},"reason":"why","result_metadata":{"hex":"ff"}}"#
    );
    let at = Timestamp::from_micros(5);
    assert_eq!(
        encode_history(&History {
            progress: vec![Progress { value: 0.5, message: Some("half".into()), at }],
            log: vec![LogLine { at, level: "info".into(), message: "hello".into(), attempt: 1 }],
            log_dropped: 2,
            children: 3,
            ..History::default()
        })
        .unwrap(),
        r#"{"v":1,"progress":[{"value":0.5,"message":"half","at":5}],"log":[{"at":5,"level":"info","message":"hello","attempt":1}],"log_dropped":2,"children":3}"#
    );
}

#[test]
fn what_is_not_known_is_an_error() {
    for text in [
        r#"{"v":2}"#,
        r#"{}"#,
        r#"{"v":1,"colour":"red"}"#,
        r#"{"v":1,"depends_on":["nobody"]}"#,
        r#"{"v":1,"unique":{"key":"k","on_conflict":"ignore"}}"#,
        r#"{"v":1,"retry":{"base":{"secs":1,"nanos":0},"factor":null,"cap":{"secs":1,"nanos":0}}}"#,
        "",
        "null",
    ] {
        assert_eq!(decode_rare(text).unwrap_err().code(), Code::CorruptRow, "{text}");
    }
    for text in [r#"{"v":0}"#, r#"{"v":1,"checkpoint":{"hex":"f"}}"#, r#"{"v":1,"checkpoint":{"hex":"+f"}}"#]
    {
        assert_eq!(decode_history(text).unwrap_err().code(), Code::CorruptRow, "{text}");
    }
}

#[test]
fn a_number_that_json_cannot_say_is_refused_when_it_is_written() {
    let progress = vec![Progress { value: f64::NAN, message: None, at: Timestamp::from_micros(1) }];
    let error = encode_history(&History { progress, ..History::default() }).unwrap_err();
    assert_eq!(error.code(), Code::InvalidOption);
    assert!(error.message().contains("NaN is not a number"), "{error}");
}
