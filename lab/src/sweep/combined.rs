//! What all runs of a sweep come to: `runs.csv` and `report.html` beside their folders.

use std::collections::BTreeSet;
use std::path::Path;

use crate::record::Summary;
use crate::report::csv::{line, number};
use crate::report::{FolderError, Page, Run, RunFolder, drawn, html, write_whole};

/// What went into a combined report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Combined {
    /// Runs that are whole.
    pub runs: usize,
    /// Folders whose run isn't, or that aren't there: left out.
    pub missing: usize,
}

/// Writes `runs.csv` and `report.html` into `root`, over those of the runs in its folders `names` that are whole, in their order. Rounds are
/// read only of the settings that are drawn.
///
/// # Errors
/// When a file can't be read or written.
pub fn combine(root: &Path, title: &str, job: Option<&str>, population: Option<&str>, names: &[String]) -> Result<Combined, FolderError> {
    let mut runs = Vec::new();
    for name in names {
        let path = root.join(name);
        if !path.exists() {
            continue;
        }
        let folder = RunFolder::open(&path)?;
        if let Some(summary) = folder.summary()? {
            runs.push(Run {
                name: name.clone(),
                summary,
                rows: Vec::new(),
            });
        }
    }
    let summaries: Vec<&Summary> = runs.iter().map(|run| &run.summary).collect();
    for i in drawn(&summaries) {
        runs[i].rows = RunFolder::open(&root.join(&runs[i].name))?.rounds()?;
    }
    write_whole(&root.join("runs.csv"), &runs_csv(&runs), false)?;
    let page = Page {
        title,
        job,
        population,
        runs: &runs,
    };
    write_whole(&root.join("report.html"), html(&page).as_bytes(), false)?;
    Ok(Combined {
        runs: runs.len(),
        missing: names.len() - runs.len(),
    })
}

/// A line a run: its folder, what was set, its seed, the fields of its summary, and when each target was met.
pub fn runs_csv(runs: &[Run]) -> Vec<u8> {
    let keys: BTreeSet<&str> = runs.iter().flat_map(|run| run.summary.fields.keys().map(String::as_str)).collect();
    let mut targets: Vec<f64> = runs.iter().flat_map(|run| run.summary.reached.iter().map(|r| r.accuracy)).collect();
    targets.sort_by(f64::total_cmp);
    targets.dedup();
    let mut header: Vec<String> = vec!["folder".to_owned()];
    header.extend(keys.iter().map(|&key| key.to_owned()));
    header.extend(FIGURES.iter().map(|(name, _)| (*name).to_owned()));
    for target in &targets {
        header.extend(["rounds", "virtual_seconds", "bytes_up"].map(|what| format!("{what}_to_{target}")));
    }
    let mut text = String::new();
    line(&mut text, &header);
    for run in runs {
        let mut fields = vec![run.name.clone()];
        fields.extend(keys.iter().map(|&key| run.summary.fields.get(key).cloned().unwrap_or_default()));
        fields.extend(FIGURES.iter().map(|(_, figure)| figure(&run.summary)));
        for target in &targets {
            match run.summary.reached.iter().find(|reached| reached.accuracy == *target) {
                Some(r) => fields.extend([r.round.to_string(), number(Some(r.virtual_seconds)), r.bytes_up.to_string()]),
                None => fields.extend([String::new(), String::new(), String::new()]),
            }
        }
        line(&mut text, &fields);
    }
    text.into_bytes()
}

/// A column of `runs.csv`.
type Figure = (&'static str, fn(&Summary) -> String);

const FIGURES: &[Figure] = &[
    ("seed", |s| s.seed.to_string()),
    ("end", |s| s.end.clone()),
    ("clients", |s| s.clients.to_string()),
    ("cohort", |s| s.cohort.to_string()),
    ("rounds", |s| s.rounds.to_string()),
    ("mode", |s| s.mode.clone()),
    ("aggregation", |s| s.aggregation.clone()),
    ("test_accuracy", |s| number(s.test_accuracy)),
    ("best_accuracy", |s| number(s.best_accuracy)),
    ("seconds", |s| number(Some(s.seconds))),
    ("start_seconds", |s| number(Some(s.start_seconds))),
    ("virtual_seconds", |s| number(Some(s.virtual_seconds))),
    ("bytes_up", |s| s.bytes_up.to_string()),
    ("bytes_down", |s| s.bytes_down.to_string()),
    ("energy_j", |s| number(Some(s.energy_j))),
    ("contributions", |s| s.contributions.to_string()),
    ("trainings", |s| s.trainings.to_string()),
    ("dropped", |s| s.dropped.to_string()),
    ("peak_memory_mib", |s| number(s.peak_memory_mib)),
    ("canary_cosine", |s| number(s.canary_cosine)),
    ("threads", |s| s.threads.to_string()),
    ("model", |s| s.model.clone()),
];
