//! Text in columns.

use std::borrow::Cow;

use crate::print::line;

/// The longest cell, in characters: a longer one would widen every row.
const MAX_CELL: usize = 300;

/// Aligns rows of cells: each column is as wide as its widest cell, and lines have no trailing
/// blanks. A cell stays on one line.
pub(crate) fn aligned(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<Cow<'_, str>>> =
        rows.iter().map(|row| row.iter().map(|cell| shortened(line(cell))).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    rows.iter()
        .map(|row| {
            let cells = row.iter().zip(&widths).filter(|(_, width)| **width > 0);
            let line: Vec<String> = cells.map(|(cell, width)| format!("{cell:<width$}")).collect();
            format!("{}\n", line.join("  ").trim_end())
        })
        .collect()
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
