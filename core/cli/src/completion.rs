//! `completion SHELL`: a script that has a shell complete commands and options.

use clap::Args;
use clap_complete::Shell;

use crate::exit::{self, Outcome};
use crate::session::Session;

/// Prints a script with which a shell completes commands and options
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  taskloom completion bash > ~/.local/share/bash-completion/completions/taskloom
  taskloom completion zsh > ~/.zfunc/_taskloom
  taskloom completion fish > ~/.config/fish/completions/taskloom.fish")]
pub(crate) struct Completion {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completion {
    pub(crate) fn run(self, session: &Session<'_>) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut crate::definition(), "taskloom", &mut script);
        session.write(&script)?;
        Ok(exit::DONE)
    }
}
