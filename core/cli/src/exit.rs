//! Exit codes, and how a failure is told.

use std::io::{self, Write};

use serde_json::{Value, json};
use taskloom_model::{Code, Error};

/// It is done.
pub(crate) const DONE: u8 = 0;
/// It could not be done.
pub(crate) const FAILED: u8 = 1;
/// The command line makes no sense.
pub(crate) const USAGE: u8 = 2;
/// What was named is not there.
pub(crate) const MISSING: u8 = 3;
/// The task that was waited for has ended otherwise than well.
pub(crate) const UNSUCCESSFUL: u8 = 4;
/// The task that was waited for has not ended yet.
pub(crate) const WAITING: u8 = 5;
/// `doctor` has found a problem.
pub(crate) const UNHEALTHY: u8 = 6;
/// Whoever read the output has gone: what a shell reports of a program that SIGPIPE ended.
pub(crate) const CLOSED: u8 = 141;

/// The exit codes of the command, and what each of them means. They are part of the contract.
///
/// ```
/// assert_eq!(taskloom_cli::exit_codes()[0], (0, "done"));
/// ```
pub fn exit_codes() -> &'static [(u8, &'static str)] {
    &[
        (DONE, "done"),
        (FAILED, "it could not be done; standard error says why"),
        (USAGE, "the command line makes no sense, or asks for what this version does not have"),
        (MISSING, "what was named is not there: the store, a task, a handler, a schedule"),
        (UNSUCCESSFUL, "the task that was waited for, or run, has ended otherwise than well"),
        (WAITING, "the task that was waited for has not ended in that time; it goes on"),
        (UNHEALTHY, "`doctor` has found a problem (with `--strict`: or something to look at)"),
        (130, "ended by Ctrl-C, as a shell reports it"),
        (CLOSED, "whoever read the output has closed it"),
    ]
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Ours, for people.
    Error(Error),
    /// The output cannot be written.
    Output(io::Error),
}

/// What a command comes to: its exit code.
pub(crate) type Outcome = Result<u8, Failure>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Tells what the parser has to say: an error, or help that was asked for.
pub(crate) fn tell_usage(error: &clap::Error, json: bool) -> u8 {
    if json && error.use_stderr() {
        let text = error.to_string();
        let message = text.trim().strip_prefix("error: ").unwrap_or(text.trim());
        let error = Error::new(Code::InvalidOption, message).hint("taskloom --help, taskloom COMMAND --help");
        return tell(&Failure::Error(error), true);
    }
    match error.print() {
        Ok(()) => u8::try_from(error.exit_code()).unwrap_or(USAGE),
        Err(_) => CLOSED,
    }
}

/// Tells why it was not done, and with which exit code that ends.
pub(crate) fn tell(failure: &Failure, json: bool) -> u8 {
    let (text, code) = match failure {
        Failure::Output(cause) if cause.kind() == io::ErrorKind::BrokenPipe => return CLOSED,
        Failure::Output(cause) => (format!("taskloom: the output cannot be written: {cause}"), FAILED),
        Failure::Error(error) if json => (json!({ "error": as_json(error) }).to_string(), code_of(error)),
        Failure::Error(error) => {
            let hint = error.hint_text().map_or(String::new(), |hint| format!("\nhint: {hint}"));
            (format!("taskloom: {} ({}){hint}", error.message(), error.code().as_str()), code_of(error))
        }
    };
    // If nobody hears this either, the code has to do.
    let _ = writeln!(io::stderr(), "{text}");
    code
}

/// An error as JSON.
pub(crate) fn as_json(error: &Error) -> Value {
    json!({
        "code": error.code().as_str(),
        "kind": format!("{:?}", error.kind()),
        "message": error.message(),
        "hint": error.hint_text(),
    })
}

/// The exit code for an error.
pub(crate) fn code_of(error: &Error) -> u8 {
    match error.code() {
        Code::UnknownTask | Code::UnknownSchedule | Code::UnknownHandler | Code::NoStore => MISSING,
        Code::InvalidOption | Code::InvalidStoreUrl | Code::InvalidSchedule | Code::NotAvailable => USAGE,
        _ => FAILED,
    }
}
