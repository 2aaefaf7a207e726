//! `new task` and `new subscriber`: a file to begin with, which runs as it stands.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use taskloom_model::{Code, Error, Result, check_name};

use crate::exit::{self, Outcome};
use crate::session::Session;

/// Writes a file to begin with, which runs as it stands
#[derive(Debug, Subcommand)]
#[command(arg_required_else_help = true)]
pub(crate) enum New {
    Task(Task),
    Subscriber(Subscriber),
}

/// Writes a file with an app and a task
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  taskloom new task greet                       greet.py, or greet.mjs by the npm package
  taskloom new task mail/send --language node
  taskloom new task greet --output -            to standard output")]
pub(crate) struct Task {
    /// The task's name
    name: String,
    #[command(flatten)]
    place: Place,
}

/// Writes a file with a subscriber: it hears what happens to tasks, in your app's process
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  taskloom new subscriber alarm
  taskloom new subscriber alarm --language node --output src/alarm.mjs")]
pub(crate) struct Subscriber {
    /// The subscriber's name
    name: String,
    #[command(flatten)]
    place: Place,
}

/// Where to write, and in which language.
#[derive(Args, Debug)]
struct Place {
    /// The language: that of the package which the command came with
    #[arg(long, value_enum)]
    language: Option<Language>,
    /// The file; by default its name in this directory. `-` is standard output
    #[arg(long, short = 'o', value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
}

/// A language that there are files for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Language {
    Python,
    Node,
}

impl New {
    pub(crate) fn run(self, session: &Session<'_>) -> Outcome {
        match self {
            Self::Task(Task { name, place }) => {
                place.write(session, &name, [include_str!("new/task.py"), include_str!("new/task.mjs")])
            }
            Self::Subscriber(Subscriber { name, place }) => place.write(
                session,
                &name,
                [include_str!("new/subscriber.py"), include_str!("new/subscriber.mjs")],
            ),
        }
    }
}

impl Place {
    fn write(self, session: &Session<'_>, name: &str, [python, node]: [&str; 2]) -> Outcome {
        check_name("handler", name)?;
        let language = match (self.language, session.host.language()) {
            (Some(language), _) => language,
            (None, "node") => Language::Node,
            (None, "python") => Language::Python,
            (None, _) => {
                return Err(Error::new(Code::InvalidOption, "which language?")
                    .hint("say --language python or --language node")
                    .into());
            }
        };
        let words = words_of(name)?;
        let (template, ending, function) = match language {
            Language::Python => (python, "py", snake(&words)),
            Language::Node => (node, "mjs", camel(&words)),
        };
        let function = if is_reserved(&function) { format!("{function}_task") } else { function };
        let file = self.output.clone().unwrap_or_else(|| format!("{}.{ending}", snake(&words)).into());
        let to_output = file.as_os_str() == "-";
        let shown = if to_output { format!("{}.{ending}", snake(&words)) } else { file_name(&file) };
        let text = template
            .replace("__NAME__", name)
            .replace("__FUNCTION__", &function)
            .replace("__CLASS__", &pascal(&words))
            .replace("__MODULE__", shown.strip_suffix(&format!(".{ending}")).unwrap_or(&shown))
            .replace("__FILE__", &shown);
        if to_output {
            session.write(text.as_bytes())?;
            return Ok(exit::DONE);
        }
        if file.is_dir() {
            let message = format!("{} is a directory", file.display());
            return Err(Error::new(Code::InvalidOption, message).hint("--output names a file").into());
        }
        let mut options = File::options();
        options.write(true);
        if self.force {
            options.create(true).truncate(true)
        } else {
            options.create_new(true)
        };
        let written = options.open(&file).and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|cause| match cause.kind() {
            io::ErrorKind::AlreadyExists => {
                Error::new(Code::InvalidOption, format!("{} is there already", file.display()))
                    .hint("--force writes over it; --output names another file")
            }
            _ => Error::new(Code::InvalidOption, format!("{} cannot be written: {cause}", file.display()))
                .hint("--output names another file"),
        })?;
        let file = file.display().to_string();
        session.answer(|| json!({ "file": file }), || file.clone())?;
        let how = if language == Language::Python { "python" } else { "node" };
        session.note(&format!("try it: {how} {file}"));
        Ok(exit::DONE)
    }
}

fn file_name(file: &std::path::Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The words of a name's last part, in lower case: `mail/sendAll-now` has `send all now`.
fn words_of(name: &str) -> Result<Vec<String>> {
    let last = name.rsplit('/').next().unwrap_or(name);
    let mut words: Vec<String> = Vec::new();
    let mut inside = false;
    let mut after_small = false;
    for character in last.chars() {
        if !character.is_ascii_alphanumeric() {
            inside = false;
            continue;
        }
        if !inside || (after_small && character.is_ascii_uppercase()) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.push(character.to_ascii_lowercase());
        }
        inside = true;
        after_small = character.is_ascii_lowercase();
    }
    match words.first() {
        Some(first) if first.starts_with(|c: char| c.is_ascii_alphabetic()) => Ok(words),
        _ => Err(Error::new(Code::InvalidOption, format!("name {name:?} makes no name of a function"))
            .hint("begin with a letter from a to z, as in send_mail or mail/send")),
    }
}

fn snake(words: &[String]) -> String {
    words.join("_")
}

fn pascal(words: &[String]) -> String {
    let capital = |word: &String| {
        let mut letters = word.chars();
        letters
            .next()
            .map_or(String::new(), |first| first.to_ascii_uppercase().to_string() + letters.as_str())
    };
    words.iter().map(capital).collect()
}

fn camel(words: &[String]) -> String {
    let (first, rest) = words.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    format!("{first}{}", pascal(rest))
}

/// What neither language takes as the name of a function, or what the files use themselves.
fn is_reserved(word: &str) -> bool {
    const WORDS: &str = " and app as assert async await break case catch class const context continue ctx debugger def \
        default del delete do elif else enum event except export extends false finally for from function global greet \
        handle handlers if implements import in input instanceof interface is lambda let name new nonlocal none not null \
        or os package pass private process protected public raise return static super switch taskloom this throw true \
        try typeof var void while with yield ";
    WORDS.split_whitespace().any(|reserved| reserved == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_functions_and_classes() {
        for (name, python, node, class) in [
            ("greet", "greet", "greet", "Greet"),
            ("mail/send-all", "send_all", "sendAll", "SendAll"),
            ("sendMailNow", "send_mail_now", "sendMailNow", "SendMailNow"),
            ("HTTPGet", "httpget", "httpget", "Httpget"),
            ("v2.import", "v2_import", "v2Import", "V2Import"),
        ] {
            let words = words_of(name).unwrap();
            assert_eq!(
                (snake(&words), camel(&words), pascal(&words)),
                (python.into(), node.into(), class.into())
            );
        }
        assert!(words_of("7up").is_err() && words_of("日本").is_err() && words_of("mail/").is_err());
        assert!(is_reserved("import") && is_reserved("class") && !is_reserved("greetings"));
    }
}
