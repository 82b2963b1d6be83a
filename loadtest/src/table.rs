//! Plain text tables: the first column to the left, figures to the right.

/// Renders rows in aligned columns, two spaces apart, without trailing blanks.
///
/// A row may be shorter than the others. Widths count characters.
pub fn render<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::from("  ");
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let blanks = " ".repeat(width - cell.chars().count());
            let cell = if column == 0 { format!("{cell}{blanks}") } else { format!("  {blanks}{cell}") };
            line.push_str(&cell);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A row of a figure and its name.
pub(crate) fn row(name: &str, value: String) -> [String; 2] {
    [name.to_owned(), value]
}

/// What stands where there is no figure.
pub(crate) fn none() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn aligns() {
        let rows = [["", "p50", "max"], ["latency µs", "1", "22,000"], ["grant", "1,000", ""]]
            .map(|r| r.map(Into::into));
        assert_eq!(
            super::render(&rows),
            "                p50     max\n  latency µs      1  22,000\n  grant       1,000\n"
        );
    }
}
