//! Text in columns.

/// Rows of cells, each column as wide as its widest cell, no blanks at the ends of lines.
pub(crate) fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns() {
        let rows =
            [vec!["├─ é".into(), String::new(), "x".into()], vec!["a".into(), String::new(), String::new()]];
        assert_eq!(aligned(&rows), "├─ é  x\na\n");
    }
}
