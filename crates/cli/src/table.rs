//! Text in columns.

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::print::line;

/// The longest cell, in columns of a terminal: a longer one would widen every row.
const MAX_CELL: usize = 300;
/// What separates two columns.
const GAP: &str = "  ";
/// On a narrow terminal no column becomes narrower than this before the first one does, which names
/// the object of its row.
const MIN_COLUMN: usize = 5;

/// Aligns rows of cells: each column is as wide as its widest cell, and lines have no trailing
/// blanks. A cell stays on one line.
///
/// With a `width`, columns are shortened so that a line is not longer: the widest ones first, and
/// the first column last.
pub(crate) fn aligned(rows: &[Vec<String>], width: Option<usize>) -> String {
    let mut columns = Columns::of(rows);
    rows.iter().map(|row| columns.line(row, width)).collect()
}

/// The widths of columns.
#[derive(Debug)]
pub(crate) struct Columns(Vec<usize>);

impl Columns {
    /// As wide as the widest cells of these rows.
    pub(crate) fn of(rows: &[Vec<String>]) -> Self {
        let mut columns = Self(Vec::new());
        rows.iter().for_each(|row| columns.widen(row));
        columns
    }

    /// Makes room for the cells of a row.
    fn widen(&mut self, row: &[String]) {
        self.0.resize(self.0.len().max(row.len()), 0);
        for (width, cell) in self.0.iter_mut().zip(row) {
            *width = line(cell).width().min(MAX_CELL).max(*width);
        }
    }

    /// A row as a line with its newline, not longer than `width`. Columns widen if they must.
    pub(crate) fn line(&mut self, row: &[String], width: Option<usize>) -> String {
        self.widen(row);
        let mut widths = self.0.clone();
        if let Some(width) = width {
            fit(&mut widths, width);
        }
        let mut text = String::new();
        for (cell, &width) in row.iter().zip(&widths).filter(|(_, width)| **width > 0) {
            if !text.is_empty() {
                text += GAP;
            }
            let cell = shortened(line(cell), width);
            text += &cell;
            text.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.width())));
        }
        let text = shortened(text.trim_end().into(), width.unwrap_or(usize::MAX));
        format!("{text}\n")
    }
}

/// Narrows columns until they fit into `width`.
fn fit(widths: &mut [usize], width: usize) {
    for (first, least) in [(1, MIN_COLUMN), (0, MIN_COLUMN), (0, 1)] {
        let shown = widths.iter().filter(|width| **width > 0).count();
        let whole = widths.iter().sum::<usize>() + shown.saturating_sub(1) * GAP.len();
        for _ in width..whole {
            let columns = widths.iter_mut().skip(first).filter(|width| **width > least);
            if let Some(widest) = columns.max() {
                *widest -= 1;
            }
        }
    }
}

/// A text of at most `width` columns; what is longer ends in an ellipsis.
fn shortened(text: Cow<'_, str>, width: usize) -> Cow<'_, str> {
    if text.width() <= width {
        return text;
    }
    let mut left = width.saturating_sub(1);
    let kept = text.chars().take_while(|letter| {
        let rest = left.checked_sub(letter.width().unwrap_or(0));
        left = rest.unwrap_or_default();
        rest.is_some()
    });
    Cow::Owned(kept.chain(['…']).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns() {
        let rows = [
            vec!["├─ é".into(), String::new(), "x".into()],
            vec!["a".into(), String::new(), String::new()],
        ];
        assert_eq!(aligned(&rows, None), "├─ é  x\na\n");
    }

    #[test]
    fn a_cell_stays_in_its_place() {
        let rows = [
            vec!["a\nb\u{1b}[2J".to_owned(), "é".repeat(70_000)],
            vec!["c".to_owned(), "d".to_owned()],
        ];
        let table = aligned(&rows, None);
        assert_eq!(table.lines().count(), 2);
        assert!(table.starts_with("a\\nb\\u{1b}[2J  éé") && table.chars().count() < 400, "{table}");
    }

    #[test]
    fn a_table_fits_a_terminal() {
        let row = |cells: [&str; 4]| cells.map(str::to_owned).to_vec();
        let rows = [
            row(["NAME", "LABELS", "END", ""]),
            row(["0193-a-long-name", "board=rpi4,desk=7,room=north", "14:00", ""]),
            row(["b", "日本語日本語日本語", "", ""]),
        ];
        let check = |width: usize, expected: [&str; 3]| {
            let table = aligned(&rows, Some(width));
            assert_eq!(table.lines().collect::<Vec<_>>(), expected, "{width}");
            assert!(table.lines().all(|line| line.width() <= width), "{table}");
        };
        assert_eq!(aligned(&rows, Some(53)), aligned(&rows, None));
        check(
            40,
            [
                "NAME              LABELS           END",
                "0193-a-long-name  board=rpi4,des…  14:00",
                "b                 日本語日本語日…",
            ],
        );
        // The name is shortened last, and no line is too long however narrow the terminal is.
        check(
            30,
            [
                "NAME              LABE…  END",
                "0193-a-long-name  boar…  14:00",
                "b                 日本…",
            ],
        );
        for width in 1..60 {
            let table = aligned(&rows, Some(width));
            assert!(table.lines().all(|line| line.width() <= width), "{width}: {table}");
        }
    }
}
