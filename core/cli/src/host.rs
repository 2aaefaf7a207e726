//! The package that the command came with.

use std::process::Command;

use taskloom_model::{Code, Error, Result};

/// The package that the command came with: `taskloom` from the wheel runs Python's handlers, that from npm runs
/// JavaScript's. Whatever needs code of the user's (`worker`, `tasks run`) runs in a process that the host makes.
pub trait Host: Sync {
    /// Its language, in one lower-case word: `python`, `node`, `rust`.
    fn language(&self) -> &'static str;

    /// What runs the language, for people: `Python 3.13.1`.
    fn runtime(&self) -> String;

    /// A process of the language that runs one of the package's own programs, without the program's arguments, and not
    /// started. `worker` is `python -m taskloom._worker` in Python, and `node …/taskloom/dist/worker.js` in Node.
    ///
    /// Errors: `NotAvailable` where the package has no such programs.
    fn program(&self, name: &str) -> Result<Command>;
}

/// The host of the binary: it has no handlers, since a Rust program has its own compiled in.
#[derive(Clone, Copy, Debug)]
pub struct RustHost;

impl Host for RustHost {
    fn language(&self) -> &'static str {
        "rust"
    }

    fn runtime(&self) -> String {
        "no runtime: this is the command for Rust".to_owned()
    }

    fn program(&self, _: &str) -> Result<Command> {
        Err(Error::new(Code::NotAvailable, "this taskloom was built for Rust, and has nothing to run handlers with").hint(
            "a Rust program runs its own handlers (App::start); for Python's, use the command of the pip package, for \
             JavaScript's that of the npm package",
        ))
    }
}
