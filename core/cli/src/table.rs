//! Tables: columns as wide as they need to be, and no wider than the terminal.

use unicode_width::UnicodeWidthStr;

use crate::terminal::{Colour, Look};
use crate::words::clean;

/// What stands between two columns.
const GAP: usize = 2;

/// The narrowest that a column is made, beside its title.
const NARROWEST: usize = 8;

/// A column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    title: &'static str,
    right: bool,
    /// Whether its texts may be cut to fit; those of the last such column first.
    cut: bool,
    /// Whether it is left out where there is no room even so; the last such column first.
    optional: bool,
}

impl Column {
    /// One that is left out where there is no room.
    pub(crate) const fn optional(self) -> Self {
        Self { optional: true, ..self }
    }
}

/// A column of texts that are shown whole.
pub(crate) const fn whole(title: &'static str) -> Column {
    Column { title, right: false, cut: false, optional: false }
}

/// A column of texts that are cut where there is no room.
pub(crate) const fn cut(title: &'static str) -> Column {
    Column { title, right: false, cut: true, optional: false }
}

/// A column of numbers.
pub(crate) const fn number(title: &'static str) -> Column {
    Column { title, right: true, cut: false, optional: false }
}

/// A text in a table.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    colour: Option<Colour>,
}

impl Cell {
    /// In a colour.
    pub(crate) fn painted(text: impl AsRef<str>, colour: Option<Colour>) -> Self {
        Self { text: clean(text.as_ref()), colour }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::painted(text, None)
    }
}

/// A table.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row of as many cells as there are columns.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(cells);
    }

    /// The table as text, each line ended. A column without any text is left out.
    pub(crate) fn render(&self, look: Look) -> String {
        let mut shown: Vec<usize> = (0..self.columns.len())
            .filter(|place| self.rows.iter().any(|row| !row[*place].text.is_empty()))
            .collect();
        let widths = loop {
            let mut widths = self.widths(&shown);
            let over = look.width.map_or(0, |limit| self.fit(&shown, &mut widths, limit));
            match shown.iter().rposition(|place| self.columns[*place].optional) {
                Some(place) if over > 0 => shown.remove(place),
                _ => break widths,
            };
        };
        let mut out = String::new();
        let titles: Vec<Cell> = self
            .columns
            .iter()
            .map(|column| Cell { text: column.title.to_owned(), colour: Some(Colour::Bold) })
            .collect();
        for row in std::iter::once(&titles).chain(&self.rows) {
            let mut line = String::new();
            for (index, (&place, &width)) in shown.iter().zip(&widths).enumerate() {
                let cell = &row[place];
                let text = shortened(&cell.text, width, look.ellipsis());
                let padding = " ".repeat(width - text.width());
                let painted = look.paint(&text, cell.colour);
                let is_last = index + 1 == shown.len();
                match (self.columns[place].right, is_last) {
                    (true, _) => line.extend([padding.as_str(), painted.as_str()]),
                    (false, true) => line.push_str(&painted),
                    (false, false) => line.extend([painted.as_str(), padding.as_str()]),
                }
                if !is_last {
                    line.push_str(&" ".repeat(GAP));
                }
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }

    fn widths(&self, shown: &[usize]) -> Vec<usize> {
        let width = |place: &usize| {
            let texts = self.rows.iter().map(|row| row[*place].text.width());
            texts.fold(self.columns[*place].title.width(), usize::max)
        };
        shown.iter().map(width).collect()
    }

    /// Takes from the columns that may be cut, the last first, what the table is too wide; what it is too wide even so.
    fn fit(&self, shown: &[usize], widths: &mut [usize], limit: usize) -> usize {
        let wide = widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
        let mut over = wide.saturating_sub(limit);
        for (&place, width) in shown.iter().zip(widths).rev() {
            let column = self.columns[place];
            if column.cut {
                let least = NARROWEST.max(column.title.width()).min(*width);
                let taken = over.min(*width - least);
                *width -= taken;
                over -= taken;
            }
        }
        over
    }
}

/// A text, cut to a width.
pub(crate) fn shortened(text: &str, width: usize, ellipsis: &str) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let room = width.saturating_sub(ellipsis.width());
    let mut out = String::new();
    for character in text.chars() {
        let mut longer = out.clone();
        longer.push(character);
        if longer.width() > room {
            break;
        }
        out = longer;
    }
    if ellipsis.width() <= width {
        out.push_str(ellipsis);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(width: Option<usize>) -> Look {
        Look { width, colour: false, unicode: true }
    }

    fn table() -> Table {
        let mut table = Table::new(&[whole("ID"), cut("NAME"), number("N").optional(), cut("ERROR")]);
        table.row(vec![
            "1".into(),
            "a-rather-long-name".into(),
            "5".into(),
            "it went wrong on a Tuesday".into(),
        ]);
        table.row(vec!["22".into(), "日本語".into(), "1000".into(), "\x1b[31mred\nlines".into()]);
        table
    }

    #[test]
    fn a_pipe_gets_everything() {
        insta::assert_snapshot!(table().render(look(None)), @r"
        ID  NAME                   N  ERROR
        1   a-rather-long-name     5  it went wrong on a Tuesday
        22  日本語              1000  \u{1b}[31mred\nlines
        ");
    }

    #[test]
    fn a_terminal_gets_what_fits() {
        for width in [24, 30, 40, 60] {
            for line in table().render(look(Some(width))).lines() {
                assert!(line.width() <= width, "{width}: {line:?}");
            }
        }
        assert!(!table().render(look(Some(24))).contains("1000"), "there is no room for it");
        insta::assert_snapshot!(table().render(look(Some(40))), @r"
        ID  NAME                   N  ERROR
        1   a-rather-long-name     5  it went w…
        22  日本語              1000  \u{1b}[31…
        ");
    }

    #[test]
    fn empty_columns_are_left_out_and_colours_have_no_width() {
        let mut table = Table::new(&[whole("A"), whole("B"), whole("C")]);
        table.row(vec![Cell::painted("x", Some(Colour::Green)), "".into(), "z".into()]);
        let painted = Look { colour: true, ..look(None) };
        assert_eq!(table.render(painted), "\x1b[1mA\x1b[0m  \x1b[1mC\x1b[0m\n\x1b[32mx\x1b[0m  z\n");
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(shortened("abcdef", 4, "…"), "abc…");
        assert_eq!(shortened("日本語", 4, "…"), "日…");
        assert_eq!(shortened("abcdef", 4, "..."), "a...");
        assert_eq!(shortened("abcdef", 2, "..."), "");
        assert_eq!(shortened("abc", 3, "…"), "abc");
    }
}
