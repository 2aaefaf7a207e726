//! The reference part of docs/command-line.md is what the command says of itself.
//!
//!     UPDATE_DOCS=1 cargo test -p taskloom-cli --test reference      writes it anew

use std::fmt::Write;
use std::path::Path;

const BEGIN: &str = "<!-- Written by core/cli/tests/reference.rs; do not edit. -->\n";
const END: &str = "<!-- The end of what is written. -->\n";

#[test]
fn the_page_says_what_the_command_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/command-line.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page has no reference");
    let (written, after) = rest.split_once(END).expect("the reference has no end");
    let wanted = reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{wanted}{END}{after}")).unwrap();
    } else {
        assert!(
            written == wanted,
            "docs/command-line.md is old: UPDATE_DOCS=1 cargo test -p taskloom-cli --test reference"
        );
    }
}

/// The exit codes, and each command with its help.
fn reference() -> String {
    let mut text = "\n### Exit codes\n\n| code | meaning |\n| --- | --- |\n".to_owned();
    for (code, meaning) in taskloom_cli::exit_codes() {
        writeln!(text, "| {code} | {meaning} |").unwrap();
    }
    let mut root = taskloom_cli::definition().term_width(110);
    root.build();
    describe(&root, "taskloom", &mut text);
    text.push('\n');
    text
}

fn describe(command: &clap::Command, path: &str, text: &mut String) {
    let help = command.clone().render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    write!(text, "\n### {path}\n\n```text\n{}\n```\n", lines.join("\n").trim_end()).unwrap();
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        describe(inner, &format!("{path} {}", inner.get_name()), text);
    }
}
