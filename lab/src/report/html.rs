//! `report.html`: one file that needs nothing else. Pictures are SVG within it, there is no script, and nothing is loaded.

mod axis;
mod chart;
mod group;
mod sections;
mod tables;

use std::fmt::Write;

use super::text::escape;
use crate::record::{RoundRow, Summary};
pub use group::{DRAWN_SETTINGS, drawn};

const STYLE: &str = include_str!("html/style.css");

/// A run with its rounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Its folder within a sweep; empty where it is alone.
    pub name: String,
    /// What came of it.
    pub summary: Summary,
    /// Its rounds; none where its setting is not [`drawn`].
    pub rows: Vec<RoundRow>,
}

/// What a report is about.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// The heading.
    pub title: &'a str,
    /// The job file's text.
    pub job: Option<&'a str>,
    /// The population file's text.
    pub population: Option<&'a str>,
    /// Runs of one setting have the same [`fields`](Summary::fields); a run alone is a setting alone.
    pub runs: &'a [Run],
}

/// The report: what ran, curves, what was sent and spent, when targets were met, and where there are several settings, how they differ.
/// Runs of one setting are taken together as a mean with its interval. Everything that comes from outside is escaped.
pub fn html(page: &Page<'_>) -> String {
    let groups = group::groups(page.runs);
    let mut out = String::new();
    let title = escape(page.title);
    // Writing to a string can't fail.
    let _ = write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
        <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n<title>{title}</title>\n\
        <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
    );
    sections::what_ran(&mut out, page.runs, &groups);
    tables::figures(&mut out, &groups);
    sections::curves(&mut out, &groups);
    tables::targets(&mut out, &groups);
    tables::differences(&mut out, &groups);
    sections::each_round(&mut out, &groups);
    tables::runs(&mut out, page.runs);
    for (name, text) in [("The job file", page.job), ("The population", page.population)] {
        if let Some(text) = text {
            let _ = writeln!(out, "<details><summary>{name}</summary><pre>{}</pre></details>", escape(text));
        }
    }
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

#[cfg(test)]
mod tests;
