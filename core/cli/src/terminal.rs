//! What the output goes to: a terminal, or something that reads.
//!
//! In a terminal, tables fit its width, states have colours, and what takes a while shows how far it is. In a pipe or a file
//! nothing is cut, coloured or drawn over, and times are written out, so that other programs can read it.

use std::io::IsTerminal;

/// How to write for whoever reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// The width of the terminal; nothing is cut where there is none.
    pub(crate) width: Option<usize>,
    /// Whether to use colours.
    pub(crate) colour: bool,
    /// Whether more than ASCII is understood.
    pub(crate) unicode: bool,
}

impl Look {
    /// For standard output as it is.
    pub(crate) fn of_output() -> Self {
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        let is_terminal = std::io::stdout().is_terminal();
        let width = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
        Self {
            // A terminal that does not say how wide it is gets the usual width.
            width: is_terminal.then(|| width.filter(|width| *width > 0).unwrap_or(80)),
            colour: wants_colour(is_terminal, variable),
            unicode: is_utf8(variable),
        }
    }

    /// For people, at a terminal.
    pub(crate) fn is_terminal(self) -> bool {
        self.width.is_some()
    }

    /// What stands for the rest of a text that was cut.
    pub(crate) fn ellipsis(self) -> &'static str {
        if self.unicode { "…" } else { "..." }
    }

    /// A text in a colour, if there are any.
    pub(crate) fn paint(self, text: &str, colour: Option<Colour>) -> String {
        match colour {
            Some(colour) if self.colour && !text.is_empty() => {
                format!("\x1b[{}m{text}\x1b[0m", colour as u8)
            }
            _ => text.to_owned(),
        }
    }
}

/// Whether somebody waits at a terminal for what is written to standard error.
pub(crate) fn shows_progress() -> bool {
    std::io::stderr().is_terminal() && std::env::var("TERM").is_ok_and(|term| term != "dumb")
}

/// <https://no-color.org>: set, and not empty, means no.
fn wants_colour(is_terminal: bool, variable: impl Fn(&str) -> String) -> bool {
    let forced = variable("CLICOLOR_FORCE");
    if !variable("NO_COLOR").is_empty() {
        false
    } else if !forced.is_empty() && forced != "0" {
        true
    } else {
        is_terminal && variable("TERM") != "dumb" && variable("CLICOLOR") != "0"
    }
}

/// By POSIX's variables, of which the first that is set counts. Windows has no such thing: its terminals are told in UTF-16.
fn is_utf8(variable: impl Fn(&str) -> String) -> bool {
    if cfg!(windows) {
        return true;
    }
    let names = ["LC_ALL", "LC_CTYPE", "LANG"];
    let locale = names.iter().map(|name| variable(name)).find(|value| !value.is_empty());
    locale.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

/// A colour, or a weight, by its ANSI number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Colour {
    Bold = 1,
    Dim = 2,
    Red = 31,
    Green = 32,
    Yellow = 33,
    Blue = 34,
    Magenta = 35,
    Cyan = 36,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> String + 'a {
        |name| {
            pairs.iter().find(|(known, _)| *known == name).map_or(String::new(), |(_, to)| (*to).to_owned())
        }
    }

    #[test]
    fn colours_are_for_terminals_that_want_them() {
        assert!(wants_colour(true, set(&[("TERM", "xterm")])));
        assert!(!wants_colour(false, set(&[("TERM", "xterm")])));
        assert!(!wants_colour(true, set(&[("TERM", "dumb")])));
        assert!(!wants_colour(true, set(&[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")])));
        assert!(wants_colour(true, set(&[("NO_COLOR", "")])));
        assert!(wants_colour(false, set(&[("CLICOLOR_FORCE", "1")])));
        assert!(!wants_colour(true, set(&[("CLICOLOR", "0")])));
    }

    #[test]
    #[cfg(not(windows))]
    fn a_locale_says_what_it_understands() {
        assert!(is_utf8(set(&[("LANG", "it_IT.UTF-8")])));
        assert!(!is_utf8(set(&[("LANG", "it_IT.UTF-8"), ("LC_ALL", "C")])));
        assert!(is_utf8(set(&[("LANG", "C"), ("LC_CTYPE", "C.utf8")])));
        assert!(!is_utf8(set(&[])));
    }
}
