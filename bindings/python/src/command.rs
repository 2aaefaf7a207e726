//! The command `taskloom` of the wheel.

use std::ffi::OsString;
use std::process::Command;

use pyo3::prelude::*;
use taskloom_cli::Host;

/// The wheel: its programs are modules of the package, run by the interpreter that runs the command.
struct Wheel {
    interpreter: OsString,
    runtime: String,
}

impl Host for Wheel {
    fn language(&self) -> &'static str {
        "python"
    }

    fn runtime(&self) -> String {
        self.runtime.clone()
    }

    fn program(&self, name: &str) -> taskloom_model::Result<Command> {
        let mut command = Command::new(&self.interpreter);
        command.args(["-m", &format!("taskloom._{name}")]);
        Ok(command)
    }
}

/// Runs the command; its exit code. The global lock is let go of.
#[pyfunction(name = "_command")]
pub(crate) fn command(
    py: Python<'_>,
    arguments: Vec<OsString>,
    interpreter: OsString,
    runtime: String,
) -> u8 {
    py.detach(|| taskloom_cli::command(arguments, &Wheel { interpreter, runtime }))
}
