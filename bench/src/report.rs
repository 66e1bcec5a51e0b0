//! How results are shown: a table for people, JSON for files and programs.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::Value;

/// Where results go.
#[derive(Debug, Args)]
pub(crate) struct Report {
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Write the figures to this file too, as JSON.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Report {
    /// Shows `rows` (a name, then values) under `header`, or the same as `result`.
    pub(crate) fn show(&self, header: &[&str], rows: &[Vec<String>], result: &Value) -> Result<()> {
        if self.json {
            return crate::publish(result, self.output.as_deref());
        }
        for line in table(header, rows) {
            println!("{line}");
        }
        self.output.as_deref().map_or(Ok(()), |path| crate::write(result, path))
    }
}

/// The columns of a Markdown table, aligned.
fn table(header: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let longest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        longest.max(header[column].chars().count())
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: &[String]| {
        let padded: Vec<String> = cells.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        format!("| {} |", padded.join(" | "))
    };
    let header: Vec<String> = header.iter().map(|&name| name.to_owned()).collect();
    let rule: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
    [line(&header), line(&rule)]
        .into_iter()
        .chain(rows.iter().map(|row| line(row)))
        .collect()
}

/// The value below which this share of `sorted` lies; 0 of none.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or(0.0)
}

/// Sorted, for [`quantile`].
pub(crate) fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values
}
