//! What is printed: tables and sentences for people, JSON for programs (`--json`), never both.

use std::fmt::{self, Display};
use std::io::{self, Write};

use serde::Serialize;

/// Where answers go, and for whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// Whether a program is reading.
    pub(crate) json: bool,
}

impl Output {
    /// Prints one answer: `human` for people, `json` for programs.
    ///
    /// A reader who has gone away (`rehome … | head`) is no error.
    pub(crate) fn say(self, human: impl Display, json: &impl Serialize) -> anyhow::Result<()> {
        let text = if self.json {
            serde_json::to_string_pretty(json)?
        } else {
            human.to_string().trim_end().to_owned()
        };
        print(&mut io::stdout().lock(), &text)
    }

    /// Prints one line of something that goes on: text for people, one JSON object a line for programs.
    ///
    /// A reader who has gone away is no error here either: a server does not stop because nobody reads its log.
    pub(crate) fn line(self, human: impl Display, json: &impl Serialize) -> anyhow::Result<()> {
        let text = if self.json { serde_json::to_string(json)? } else { human.to_string() };
        print(&mut io::stdout().lock(), &text)
    }
}

fn print(out: &mut impl Write, text: &str) -> anyhow::Result<()> {
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(why) if why.kind() != io::ErrorKind::BrokenPipe => Err(why.into()),
        _ => Ok(()),
    }
}

/// Rows under a header, each column as wide as its widest cell.
pub(crate) struct Table<const COLUMNS: usize> {
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    /// A table with its header.
    pub(crate) fn new(header: [&str; COLUMNS]) -> Self {
        Self { rows: vec![header.map(str::to_owned)] }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: [String; COLUMNS]) {
        self.rows.push(cells);
    }
}

impl<const COLUMNS: usize> Display for Table<COLUMNS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width =
            |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; COLUMNS] = std::array::from_fn(width);
        for row in &self.rows {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A standard output that cannot be written to.
    struct Broken(io::ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_who_has_gone_away_is_forgiven_and_a_full_disk_is_not() {
        assert!(print(&mut Broken(io::ErrorKind::BrokenPipe), "a line").is_ok());
        assert!(print(&mut Broken(io::ErrorKind::StorageFull), "a line").is_err());
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["pool", "site"]);
        table.row(["fe1.example.test".into(), "site1".into()]);
        assert_eq!(table.to_string(), "pool              site\nfe1.example.test  site1\n");
    }
}
