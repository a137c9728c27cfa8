//! Text in columns.

use std::borrow::Cow;

use crate::print::line;

/// The longest cell, in characters: a longer one would widen every row.
const MAX_CELL: usize = 300;

/// Aligns rows of cells: each column is as wide as its widest cell, and lines have no trailing
/// blanks. A cell stays on one line.
pub(crate) fn aligned(rows: &[Vec<String>]) -> String {
    let columns = Columns::of(rows);
    rows.iter().map(|row| columns.line(row)).collect()
}

/// The widths of columns.
#[derive(Debug)]
pub(crate) struct Columns(Vec<usize>);

impl Columns {
    /// As wide as the widest cells of these rows.
    pub(crate) fn of(rows: &[Vec<String>]) -> Self {
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let mut widths = vec![0; columns];
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = shortened(line(cell)).chars().count().max(*width);
            }
        }
        Self(widths)
    }

    /// A row as a line with its newline. A cell may be wider than its column, and a row longer.
    pub(crate) fn line(&self, row: &[String]) -> String {
        let widths = self.0.iter().map(Some).chain(std::iter::repeat(None));
        let cells = row.iter().zip(widths).filter(|(_, width)| *width != Some(&0));
        let cells: Vec<String> = cells
            .map(|(cell, width)| {
                let (cell, width) = (shortened(line(cell)), width.copied().unwrap_or_default());
                format!("{cell:<width$}")
            })
            .collect();
        format!("{}\n", cells.join("  ").trim_end())
    }
}

fn shortened(cell: Cow<'_, str>) -> Cow<'_, str> {
    match cell.char_indices().nth(MAX_CELL) {
        Some((end, _)) => Cow::Owned(format!("{}…", &cell[..end])),
        None => cell,
    }
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
        assert_eq!(aligned(&rows), "├─ é  x\na\n");
    }

    #[test]
    fn a_cell_stays_in_its_place() {
        let rows = [
            vec!["a\nb\u{1b}[2J".to_owned(), "é".repeat(70_000)],
            vec!["c".to_owned(), "d".to_owned()],
        ];
        let table = aligned(&rows);
        assert_eq!(table.lines().count(), 2);
        assert!(table.starts_with("a\\nb\\u{1b}[2J  éé") && table.chars().count() < 400, "{table}");
    }
}
