//! The golden files: what every language must agree on, written down once.
//!
//! `tests/golden/*.json` are made of what this crate says and compared with it in every run, so a change of the rules
//! shows as a change of a file. Other languages read them and check their own halves (`tests/python/test_golden.py`).
//!
//! ```text
//! UPDATE_GOLDEN=1 cargo test -p taskloom-model --test golden
//! ```

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use taskloom_model::transition::{self, rule};
use taskloom_model::{Code, RetryPolicy, Rule, State, Ticks, Timestamp};

/// A text as JSON.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c < ' ' => write!(out, "\\u{:04x}", u32::from(c)).unwrap(),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// One record as a line.
fn object(fields: &[(&str, String)]) -> String {
    let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{}: {value}", quote(name))).collect();
    format!("  {{{}}}", fields.join(", "))
}

/// Compares the file with what it should be, or writes it.
fn golden(name: &str, records: &[String]) {
    let expected = format!("[\n{}\n]\n", records.join(",\n"));
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden")).join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &expected).unwrap();
        return;
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let stale = "is not what the code says: UPDATE_GOLDEN=1 cargo test -p taskloom-model --test golden";
    assert_eq!(found, expected, "tests/golden/{name} {stale}");
}

#[test]
fn transitions() {
    let mut records = Vec::new();
    for from in std::iter::once(None).chain(State::ALL.iter().copied().map(Some)) {
        for to in State::ALL {
            let rule = match rule(from, *to) {
                transition::Rule::Never => "never",
                transition::Rule::Engine => "engine",
                transition::Rule::Operator => "operator",
            };
            records.push(object(&[
                ("from", from.map_or("null".into(), |from| quote(from.as_str()))),
                ("to", quote(to.as_str())),
                ("rule", quote(rule)),
            ]));
        }
    }
    assert_eq!(records.len(), (State::ALL.len() + 1) * State::ALL.len());
    golden("transitions.json", &records);
}

#[test]
fn retry() {
    let policy = |base: f64, factor: f64, cap: f64| RetryPolicy {
        base: Duration::from_secs_f64(base),
        factor,
        cap: Duration::from_secs_f64(cap),
    };
    let policies = [
        RetryPolicy::default(),
        policy(0.5, 3.0, 60.0),
        policy(2.0, 1.0, 30.0),
        policy(0.0, 2.0, 30.0),
        policy(5.0, 2.0, 1.0),
    ];
    let mut records = Vec::new();
    for policy in policies {
        for failures in [1, 2, 3, 6, 40, 10_000] {
            for chance in [0.0, 0.25, 1.0] {
                records.push(object(&[
                    ("base", policy.base.as_secs_f64().to_string()),
                    ("factor", policy.factor.to_string()),
                    ("cap", policy.cap.as_secs_f64().to_string()),
                    ("failures", failures.to_string()),
                    ("chance", chance.to_string()),
                    ("wait", policy.backoff(failures, chance).as_secs_f64().to_string()),
                ]));
            }
        }
    }
    golden("retry.json", &records);
}

#[test]
fn errors() {
    let record = |code: &Code| {
        object(&[
            ("code", quote(code.as_str())),
            ("name", quote(&format!("{code:?}"))),
            ("kind", quote(&format!("{:?}", code.kind()))),
            ("retryable", code.is_retryable().to_string()),
        ])
    };
    golden("errors.json", &Code::ALL.iter().map(record).collect::<Vec<_>>());
}

/// Values as Python writes them down, and as they must travel.
const PAYLOADS: &[(&str, &str)] = &[
    ("None", "null"),
    ("True", "true"),
    ("False", "false"),
    ("0", "0"),
    ("-7", "-7"),
    ("2**53 + 1", "9007199254740993"),
    ("-2**63", "-9223372036854775808"),
    ("2**64 - 1", "18446744073709551615"),
    ("0.1", "0.1"),
    ("-0.0", "-0.0"),
    ("5e-324", "5e-324"),
    ("1.7976931348623157e308", "1.7976931348623157e308"),
    ("0.1 + 0.2", "0.30000000000000004"),
    ("''", r#""""#),
    ("'a.png'", r#""a.png""#),
    ("'\"quoted\" and \\\\ back'", r#""\"quoted\" and \\ back""#),
    ("'\\n\\t\\x00\\x1f'", r#""\n\t\u0000\u001f""#),
    ("'\\x7f'", "\"\u{7f}\""),
    ("'Straße, 日本, 🦀'", "\"Straße, 日本, 🦀\""),
    ("'\\u2028'", "\"\u{2028}\""),
    ("[]", "[]"),
    ("{}", "{}"),
    ("[1, [2.5, None], 'x']", r#"[1,[2.5,null],"x"]"#),
    ("{'b': 1, 'a': {'': []}}", r#"{"b":1,"a":{"":[]}}"#),
    ("{'ключ': True}", "{\"ключ\":true}"),
];

#[test]
fn payloads() {
    let record = |(python, json): &(&str, &str)| object(&[("python", quote(python)), ("json", quote(json))]);
    golden("payloads.json", &PAYLOADS.iter().map(record).collect::<Vec<_>>());
}

/// When cron expressions fire. Unlike the other files this one is not made of what this crate says, but by
/// `tools/cron_golden.py`, which walks over every minute with another language's time zones.
#[test]
fn cron() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/cron.json");
    let records: Vec<serde_json::Value> =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(records.len() >= 60, "{} expressions", records.len());
    let mut wrong = Vec::new();
    for record in &records {
        let text = |key: &str| record[key].as_str().unwrap();
        let (expression, tz) = (text("cron"), text("tz"));
        let expected: Vec<_> =
            record["firings"].as_array().unwrap().iter().map(|at| time(at.as_str().unwrap())).collect();
        let rule = Rule::Cron { expression: expression.into(), tz: tz.into() };
        let start = time(text("start"));
        let ticks = Ticks::of_rule(&rule, start).unwrap();
        let found = ticks.following(start, expected.len());
        // Backwards it is the same.
        let mut back = vec![*expected.last().unwrap()];
        while back.len() < expected.len() {
            back.push(ticks.until(*back.last().unwrap() - Duration::from_micros(1)).unwrap());
        }
        back.reverse();
        if found != expected || back != expected {
            wrong.push(format!(
                "{expression} {tz} ({})\n  {expected:?}\n  {found:?}\n  {back:?}",
                text("about")
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), records.len(), wrong.join("\n"));
}

/// `2026-03-29T01:00:00Z` in microseconds since the epoch.
fn time(text: &str) -> Timestamp {
    let number = |from: usize, to: usize| text[from..to].parse::<i64>().unwrap();
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    // Days since the epoch, from the day before a year that begins in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (153 * month + 2) / 5
        + day
        - 719_469;
    let seconds = number(11, 13) * 3600 + number(14, 16) * 60 + number(17, 19);
    Timestamp::from_micros((days * 86_400 + seconds) * 1_000_000)
}
