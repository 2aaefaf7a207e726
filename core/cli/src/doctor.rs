//! `doctor`: whether all is well with a store and with those who work on it, and what to do if not.
//!
//! What is looked at is gathered first ([`gather`]); what that means is decided without clock or store ([`findings`]), and
//! told. Nothing is changed.

mod findings;
mod gather;

use clap::Args;
use serde_json::json;

use crate::exit::{self, Outcome};
use crate::session::Session;
use crate::terminal::{Colour, Look};
use crate::words::clean;

use findings::{Finding, Level};

/// Looks whether all is well: the store, the processes on it, handlers, stuck tasks, the clock, the disk, versions
///
/// Nothing is changed, and no other process is disturbed. Every task is looked at, which takes a moment where there are
/// millions.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  taskloom doctor
  taskloom doctor --strict || mail -s 'look at the tasks' ops
  taskloom doctor --json | jq '.findings[] | select(.level != \"ok\")'

Exit codes: 0 if there is no problem, 6 if there is one; with --strict also 6 for what is merely to be looked at.")]
pub(crate) struct Doctor {
    /// Count what is to be looked at as a problem
    #[arg(long)]
    strict: bool,
}

impl Doctor {
    pub(crate) fn run(self, session: &Session<'_>) -> Outcome {
        let facts = gather::gather(session)?;
        let all = findings::findings(&facts);
        let worst = all.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
        let is_well = worst == Level::Ok || (worst == Level::Warning && !self.strict);
        session.answer(
            || {
                let one = |finding: &Finding| {
                    json!({
                        "check": finding.check,
                        "level": finding.level.word(),
                        "message": finding.message,
                        "hint": finding.hint,
                    })
                };
                json!({ "ok": is_well, "findings": all.iter().map(one).collect::<Vec<_>>() })
            },
            || page(&all, session.look),
        )?;
        Ok(if is_well { exit::DONE } else { exit::UNHEALTHY })
    }
}

/// The findings, a line or two each, and the sum of them.
fn page(all: &[Finding], look: Look) -> String {
    let mut out = String::new();
    for finding in all {
        let (sign, colour) = match finding.level {
            Level::Ok => ("ok", Colour::Green),
            Level::Warning => ("look", Colour::Yellow),
            Level::Problem => ("PROBLEM", Colour::Red),
        };
        let sign = look.paint(&format!("{sign:8}"), Some(colour));
        let check = look.paint(&format!("{:10}", finding.check), Some(Colour::Bold));
        out.push_str(&format!("{sign}{check}{}\n", clean(&finding.message)));
        if let Some(hint) = &finding.hint {
            out.push_str(&format!("{:18}{}\n", "", clean(hint)));
        }
    }
    let of = |level| all.iter().filter(|finding| finding.level == level).count();
    let sum = match (of(Level::Problem), of(Level::Warning)) {
        (0, 0) => "all is well".to_owned(),
        (0, some) => format!("no problem, and {some} to look at"),
        (some, 0) => format!("problems: {some}"),
        (some, more) => format!("problems: {some}, and {more} to look at"),
    };
    out.push_str(&format!("\n{sum}\n"));
    out
}
