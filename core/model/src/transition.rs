//! The moves between states: the one table that every store, service and language obeys.

use crate::{Code, Error, State};

/// Who may make a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Nobody.
    Never,
    /// The engine, in the course of a task's life.
    Engine,
    /// An operator, by hand: replay, resolve, skip.
    Operator,
}

/// Whether a task may move from one state (`None`: it does not exist yet) to another.
pub const fn rule(from: Option<State>, to: State) -> Rule {
    use Rule::{Engine, Never, Operator};
    use State::{
        Cancelled, Expired, Failed, Pending, Queued, Retrying, Running, Skipped, Succeeded, TimedOut,
    };

    match from {
        None => match to {
            Pending | Queued | Expired => Engine,
            Running | Retrying | Succeeded | Failed | TimedOut | Cancelled | Skipped => Never,
        },
        Some(Pending) => match to {
            Queued | Cancelled | Expired | TimedOut | Skipped => Engine,
            Succeeded => Operator,
            Pending | Running | Retrying | Failed => Never,
        },
        Some(Queued) => match to {
            Running | Pending | Cancelled | Expired | TimedOut => Engine,
            Queued | Retrying | Succeeded | Failed | Skipped => Never,
        },
        Some(Running) => match to {
            Succeeded | Failed | Retrying | TimedOut | Cancelled | Pending | Queued => Engine,
            Running | Expired | Skipped => Never,
        },
        Some(Retrying) => match to {
            Queued | Pending | Cancelled | Expired | TimedOut => Engine,
            Running | Retrying | Succeeded | Failed | Skipped => Never,
        },
        Some(Failed | TimedOut | Cancelled | Expired) => match to {
            Pending | Queued | Succeeded | Skipped => Operator,
            Running | Retrying | Failed | TimedOut | Cancelled | Expired => Never,
        },
        Some(Succeeded | Skipped) => match to {
            Pending | Queued | Running | Retrying | Succeeded | Failed | TimedOut | Cancelled | Expired
            | Skipped => Never,
        },
    }
}

/// Refuses a move that the table does not have, or that somebody else has to make, naming both states.
#[inline]
pub fn check(from: Option<State>, to: State, by: Rule) -> Result<(), Error> {
    let rule = rule(from, to);
    if rule != Rule::Never && rule == by {
        return Ok(());
    }
    Err(refusal(from, to, rule))
}

#[cold]
fn refusal(from: Option<State>, to: State, rule: Rule) -> Error {
    let from = from.map_or("new", State::as_str);
    let message = format!("a task cannot go from {from} to {to}");
    match rule {
        Rule::Operator => Error::new(Code::IllegalTransition, message)
            .hint("only an operator may do this: replay, resolve or skip it by hand"),
        _ => Error::new(Code::IllegalTransition, message).hint("docs/states.md shows the moves that exist"),
    }
}

/// The table as a Mermaid state diagram, for `docs/states.md`.
pub fn mermaid() -> String {
    let mut out = String::from("stateDiagram-v2\n");
    for to in State::ALL {
        if rule(None, *to) == Rule::Engine {
            out.push_str(&format!("    [*] --> {to}\n"));
        }
    }
    for from in State::ALL {
        for to in State::ALL {
            match rule(Some(*from), *to) {
                Rule::Engine => out.push_str(&format!("    {from} --> {to}\n")),
                Rule::Operator => out.push_str(&format!("    {from} --> {to}: operator\n")),
                Rule::Never => {}
            }
        }
        if matches!(from, State::Succeeded | State::Skipped) {
            out.push_str(&format!("    {from} --> [*]\n"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The contract, as text: who may go where. `+` is the engine, `o` an operator, `.` nobody.
    const TABLE: &str = "
                 pending queued running retrying succeeded failed timed_out cancelled expired skipped
        new         +      +      .        .         .       .        .         .        +       .
        pending     .      +      .        .         o       .        +         +        +       +
        queued      +      .      +        .         .       .        +         +        +       .
        running     +      +      .        +         +       +        +         +        .       .
        retrying    +      +      .        .         .       .        +         +        +       .
        succeeded   .      .      .        .         .       .        .         .        .       .
        failed      o      o      .        .         o       .        .         .        .       o
        timed_out   o      o      .        .         o       .        .         .        .       o
        cancelled   o      o      .        .         o       .        .         .        .       o
        expired     o      o      .        .         o       .        .         .        .       o
        skipped     .      .      .        .         .       .        .         .        .       .
    ";

    #[test]
    fn every_pair_is_as_the_contract_says() {
        let mut lines = TABLE.lines().filter(|line| !line.trim().is_empty());
        let columns: Vec<State> =
            lines.next().unwrap().split_whitespace().map(|word| word.parse().unwrap()).collect();
        assert_eq!(columns, State::ALL);
        let mut rows = 0;
        for line in lines {
            let mut words = line.split_whitespace();
            let from =
                words.next().map(|word| (word != "new").then(|| word.parse::<State>().unwrap())).unwrap();
            for (to, mark) in columns.iter().zip(words) {
                let expected = match mark {
                    "+" => Rule::Engine,
                    "o" => Rule::Operator,
                    _ => Rule::Never,
                };
                assert_eq!(rule(from, *to), expected, "{from:?} → {to}");
                assert_eq!(check(from, *to, Rule::Engine).is_ok(), expected == Rule::Engine);
                assert_eq!(check(from, *to, Rule::Operator).is_ok(), expected == Rule::Operator);
            }
            rows += 1;
        }
        assert_eq!(rows, State::ALL.len() + 1);
    }

    #[test]
    fn a_refusal_names_both_states() {
        let error = check(Some(State::Succeeded), State::Running, Rule::Engine).unwrap_err();
        assert_eq!(error.message(), "a task cannot go from succeeded to running");
    }

    /// `docs/states.md` holds the diagram between two marks. Run with `UPDATE_DOCS=1` to write it anew.
    #[test]
    fn the_documented_diagram_is_this_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/states.md");
        let page = std::fs::read_to_string(path).unwrap();
        let (before, rest) = page.split_once("<!-- diagram: written by a test -->\n").unwrap();
        let (_, after) = rest.split_once("<!-- end of diagram -->").unwrap();
        let expected = format!(
            "{before}<!-- diagram: written by a test -->\n```mermaid\n{}```\n<!-- end of diagram -->{after}",
            mermaid()
        );
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &expected).unwrap();
        } else {
            assert_eq!(page, expected, "docs/states.md is stale: UPDATE_DOCS=1 cargo test -p taskloom-model");
        }
    }
}
