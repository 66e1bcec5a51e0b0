//! A whole log in one file: JSON, a line each, so that it can be read as it comes. The first line holds the checkpoint, each further one an entry.

use std::io::{self, BufRead, Read as _, Write};

use aimass_protocol::limits::{MAX_CHECKPOINT_BYTES, MAX_LOG_ENTRY_BYTES};
use serde::{Deserialize, Serialize};

const FORMAT: &str = "aimass log v1";
/// Longest line: the checkpoint with every byte escaped, or an entry in hex.
const MAX_LINE_BYTES: usize = 6 * MAX_CHECKPOINT_BYTES + 2 * MAX_LOG_ENTRY_BYTES + 256;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: String,
    checkpoint: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    entry: String,
}

/// An export that can't be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExportError {
    /// The disk.
    #[error("the file can't be read: {0}")]
    Io(#[from] io::Error),
    /// A line.
    #[error("line {line} is not that of an exported log ({reason}): export it again with `aimass log export`")]
    Line {
        /// Counted from 1.
        line: u64,
        /// Why.
        reason: String,
    },
}

/// Writes the first line.
pub(crate) fn write_header(out: &mut impl Write, checkpoint: &str) -> io::Result<()> {
    let header = Header {
        format: FORMAT.to_owned(),
        checkpoint: checkpoint.to_owned(),
    };
    writeln!(out, "{}", serde_json::to_string(&header)?)
}

/// Writes the line of an entry.
pub(crate) fn write_entry(out: &mut impl Write, entry: &[u8]) -> io::Result<()> {
    let line = Line { entry: hex::encode(entry) };
    writeln!(out, "{}", serde_json::to_string(&line)?)
}

/// An export as it is read.
#[derive(Debug)]
pub(crate) struct Export<R> {
    /// The signed note.
    pub(crate) checkpoint: String,
    reader: R,
    line: u64,
}

impl<R: BufRead> Export<R> {
    /// Reads the first line.
    ///
    /// # Errors
    /// [`ExportError`].
    pub(crate) fn open(mut reader: R) -> Result<Self, ExportError> {
        let bad = |reason: &str| ExportError::Line {
            line: 1,
            reason: reason.to_owned(),
        };
        let line = read_line(&mut reader, 1)?.ok_or_else(|| bad("the file is empty"))?;
        let header: Header = serde_json::from_str(&line).map_err(|e| bad(&e.to_string()))?;
        if header.format != FORMAT {
            return Err(bad(&format!("its format is not {FORMAT:?}")));
        }
        Ok(Self {
            checkpoint: header.checkpoint,
            reader,
            line: 1,
        })
    }

    /// The next entry; `None` at the end.
    ///
    /// # Errors
    /// [`ExportError`].
    pub(crate) fn next_entry(&mut self) -> Result<Option<Vec<u8>>, ExportError> {
        self.line += 1;
        let line = self.line;
        let Some(text) = read_line(&mut self.reader, line)? else {
            return Ok(None);
        };
        let bad = |reason: String| ExportError::Line { line, reason };
        let entry: Line = serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
        hex::decode(&entry.entry).map(Some).map_err(|e| bad(e.to_string()))
    }
}

fn read_line(reader: &mut impl BufRead, line: u64) -> Result<Option<String>, ExportError> {
    let bad = |reason: &str| ExportError::Line {
        line,
        reason: reason.to_owned(),
    };
    let mut bytes = Vec::new();
    reader.take(MAX_LINE_BYTES as u64 + 1).read_until(b'\n', &mut bytes)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    if bytes.len() > MAX_LINE_BYTES {
        return Err(bad("it is too long"));
    }
    if bytes.pop() != Some(b'\n') {
        return Err(bad("the file is cut short"));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| bad("it is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> Vec<u8> {
        let mut file = Vec::new();
        write_header(&mut file, "a note\n").expect("written");
        for entry in [&b"one"[..], b"", b"three"] {
            write_entry(&mut file, entry).expect("written");
        }
        file
    }

    fn read(file: &[u8]) -> Result<(String, Vec<Vec<u8>>), ExportError> {
        let mut export = Export::open(file)?;
        let mut entries = Vec::new();
        while let Some(entry) = export.next_entry()? {
            entries.push(entry);
        }
        Ok((export.checkpoint, entries))
    }

    #[test]
    fn a_log_is_read_as_it_was_written() {
        let (checkpoint, entries) = read(&written()).expect("reads");
        assert_eq!(checkpoint, "a note\n");
        assert_eq!(entries, [&b"one"[..], b"", b"three"]);
    }

    #[test]
    fn what_is_no_export_is_refused_by_its_line() {
        let file = written();
        let said = |bytes: &[u8]| read(bytes).expect_err("refused").to_string();
        assert!(said(b"").contains("line 1"));
        assert!(said(b"a note\n").contains("line 1"));
        assert!(said(&file[..file.len() - 1]).contains("line 4 is not that of an exported log (the file is cut short)"));
        let text = String::from_utf8(file).expect("text");
        assert!(said(text.replace("log v1", "log v2").as_bytes()).contains("format"));
        assert!(said(text.replace("6f6e65", "6f6e6g").as_bytes()).contains("line 2"));
        assert!(said(format!("{text}{}\n", "x".repeat(MAX_LINE_BYTES)).as_bytes()).contains("line 5"));
        assert!(said(format!("{text}\n").as_bytes()).contains("line 5"));
    }
}
