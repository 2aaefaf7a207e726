//! The command `taskloom` for Rust users. The Python and the npm package have entry points of their own.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use taskloom_cli::{RustHost, command};

fn main() -> ExitCode {
    ExitCode::from(command(std::env::args_os(), &RustHost))
}
