//! The command `taskloom` of the npm package.
#![cfg_attr(test, allow(dead_code, reason = "Node calls it, and tests have no Node"))]

use std::path::PathBuf;
use std::process::Command;

use napi_derive::napi;
use taskloom_cli::Host;

/// The npm package: its programs are files of its folder `dist`, run by the Node that runs the command.
struct Package {
    node: String,
    runtime: String,
    folder: PathBuf,
}

impl Host for Package {
    fn language(&self) -> &'static str {
        "node"
    }

    fn runtime(&self) -> String {
        self.runtime.clone()
    }

    fn program(&self, name: &str) -> taskloom_model::Result<Command> {
        let mut command = Command::new(&self.node);
        command.arg(self.folder.join(format!("{name}.js")));
        Ok(command)
    }
}

/// Runs the command on the calling thread; its exit code. `arguments` begin with the command's own name; `folder` is where
/// the package's programs are.
#[napi]
pub(crate) fn command(arguments: Vec<String>, node: String, runtime: String, folder: String) -> u8 {
    let package = Package { node, runtime, folder: folder.into() };
    taskloom_cli::command(arguments.into_iter().map(Into::into), &package)
}
