//! The command `taskloom`: one implementation, for three packages.
//!
//! [`command`] is given the arguments and a [`Host`], and returns an exit code. The binary of this crate calls it for Rust
//! users; the Python wheel and the npm package call it from scripts of a few lines. What differs between them is the host:
//! in which language a process runs that has handlers.
//!
//! | module | owns |
//! | --- | --- |
//! | `arguments` | what may be said on the command line |
//! | `session` | what every command is given: the host, the store, the output |
//! | `host` | the package that the command came with |
//! | `exit` | exit codes, and how a failure is told |
//! | `terminal`, `table`, `words` | what answers look like |
//! | `describe` | the same as JSON |
//! | [`parts`] | what of that the npm package tells in the same shape |
//! | `values`, `filter` | what may be said for an option |
//! | `submit`, `tasks`, `queues`, `schedules`, `events`, `new`, `doctor`, `completion` | a command each |
//! | `waiting` | waiting for a task |
//! | `worker` | `worker APP`: processes that are supervised |
//! | `supervise` | what a supervisor decides, without processes |
//! | `lifeline` | a worker process's end of what ties it to its supervisor |
//!
//! A command is a struct of its arguments with a `run(self, &Session)`. No command starts workers in this process. Ctrl-C is
//! not handled: the default action ends the process, and what a store has been told it keeps.

mod arguments;
mod completion;
mod describe;
mod doctor;
mod events;
mod exit;
mod filter;
mod host;
#[cfg(unix)]
mod lifeline;
mod new;
pub mod parts;
mod queues;
mod schedules;
mod session;
mod submit;
mod supervise;
mod table;
mod tasks;
mod terminal;
mod values;
mod waiting;
mod words;
mod worker;

use std::ffi::OsString;

use clap::{CommandFactory, FromArgMatches};

pub use exit::exit_codes;
pub use host::{Host, RustHost};
#[cfg(unix)]
pub use lifeline::{Ended, Lifeline};

use arguments::Arguments;
use session::Session;

/// Runs the command: `arguments` are those of the process, its own name first. The exit code of the process.
///
/// ```
/// use taskloom_cli::{RustHost, command};
/// assert_eq!(command(["taskloom".into(), "no-such-command".into()], &RustHost), 2);
/// ```
pub fn command(arguments: impl IntoIterator<Item = OsString>, host: &dyn Host) -> u8 {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let json = arguments.iter().any(|argument| argument == "--json");
    let parsed = definition()
        .try_get_matches_from(arguments)
        .and_then(|mut matches| Arguments::from_arg_matches_mut(&mut matches));
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(error) => return exit::tell_usage(&error, json),
    };
    let session = Session::new(host, arguments.global);
    match arguments.command.run(&session) {
        Ok(code) => code,
        Err(failure) => exit::tell(&failure, session.json),
    }
}

/// What may be said on the command line, as data: for documentation and completion.
pub fn definition() -> clap::Command {
    below_zero(Arguments::command())
}

/// A number below zero is a value, and no option: JSON for a handler; or it is refused by what it was given to.
fn below_zero(command: clap::Command) -> clap::Command {
    let takes = |argument: clap::Arg| {
        if argument.get_action().takes_values() { argument.allow_negative_numbers(true) } else { argument }
    };
    command.mut_args(takes).mut_subcommands(below_zero)
}
