//! What a command prints: text for people on a terminal, one JSON object for machines with `--json`.

use std::fmt::Display;
use std::io::Write;

use aimass_edge_agent::exit::ExitKind;
use serde_json::{Value, json};

use crate::api::ApiError;

/// An error that decides the exit code.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Failure {
    kind: ExitKind,
    text: String,
}

impl Failure {
    /// An error of this kind. `text` says what is wrong and what to do.
    pub(crate) fn new(kind: ExitKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }
}

/// Prints a line, and tells whether it could: it can't where nobody reads any more (`aimass ... | head`), which is no failure of the command.
pub(crate) fn print_line(text: impl Display) -> bool {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).is_ok()
}

/// Where results go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether machines read this.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Prints one result: the object with `--json`, else the text.
    pub(crate) fn result(self, value: &Value, text: impl FnOnce() -> String) {
        if self.json {
            print_line(value);
        } else {
            print_line(text());
        }
    }

    /// Says why the command failed and how it ends.
    pub(crate) fn fail(self, error: &anyhow::Error) -> ExitKind {
        let kind = kind_of(error);
        let text = format!("{error:#}");
        if self.json {
            print_line(json!({ "error": text, "exit_code": kind.code() }));
        }
        eprintln!("error: {text}");
        kind
    }
}

fn kind_of(error: &anyhow::Error) -> ExitKind {
    for cause in error.chain() {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return failure.kind;
        }
        if let Some(api) = cause.downcast_ref::<ApiError>() {
            return match api {
                ApiError::NotRunning { .. } | ApiError::Unreachable { .. } => ExitKind::Unreachable,
                ApiError::Refused { status: 401 | 403, .. } => ExitKind::Refused,
                ApiError::Refused { status: 400 | 422, .. } => ExitKind::BadData,
                _ => ExitKind::Failure,
            };
        }
    }
    ExitKind::Failure
}

/// A table with aligned columns; `rows` have as many cells as `head`.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|h| h.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (cell, width) in cells.zip(&widths) {
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
        }
        text.trim_end().to_owned()
    };
    let mut lines = vec![line(&mut head.iter().copied())];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    lines.join("\n")
}

/// Bytes for people: `1.2 MB`, powers of 1,000.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{n} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_well() {
        let shown: Vec<String> = [0, 999, 1000, 999_499, 999_500, 6_653_480, u64::MAX].map(bytes).into();
        assert_eq!(shown, ["0 B", "999 B", "1.0 kB", "999.5 kB", "1.0 MB", "6.7 MB", "18446744.1 TB"]);
    }

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["a".into(), "long cell".into()], vec!["ä much longer one".into(), "b".into()]];
        let text = table(&["ONE", "TWO"], &rows);
        assert_eq!(text, "ONE                TWO\na                  long cell\nä much longer one  b");
    }

    #[test]
    fn the_exit_code_follows_the_cause() {
        let refused = |status| {
            anyhow::Error::from(ApiError::Refused {
                status,
                code: String::new(),
                text: "no".into(),
            })
        };
        assert_eq!(kind_of(&refused(403).context("while asking")), ExitKind::Refused);
        assert_eq!(kind_of(&refused(422)), ExitKind::BadData);
        assert_eq!(kind_of(&anyhow::anyhow!("else")), ExitKind::Failure);
        assert_eq!(
            kind_of(&Failure::new(ExitKind::Interrupted, "stopped").into()),
            ExitKind::Interrupted
        );
    }
}
