//! `aimass compare`: simulated runs side by side.

use std::path::{Path, PathBuf};

use aimass_edge_agent::exit::ExitKind;
use aimass_lab::RunFolder;
use aimass_lab::report::{Page, Run, html, write_whole};
use anyhow::Result;
use clap::Args as ClapArgs;
use serde_json::json;

use crate::output::{Failure, Output, table};

/// Most runs of one page.
const MOST: usize = 1000;

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  \
    aimass compare runs/sync runs/async -o compared.html\n  \
    aimass compare my-sweep        every run of a sweep")]
pub(crate) struct CompareArgs {
    /// Folders of runs of `aimass sim -o`, or of sweeps.
    #[arg(required = true, value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// The page to write.
    #[arg(long, short = 'o', value_name = "FILE", default_value = "compared.html")]
    output: PathBuf,
    /// Its title.
    #[arg(long, default_value = "Compared runs")]
    title: String,
}

pub(crate) fn run(args: &CompareArgs, out: &Output) -> Result<ExitKind> {
    let mut runs = Vec::new();
    for folder in &args.folders {
        for path in runs_in(folder) {
            let opened = RunFolder::open(&path)?;
            let Some(summary) = opened.summary()? else {
                eprintln!(
                    "note: {} is not whole and left out; `aimass sim` with its command goes on with it",
                    path.display()
                );
                continue;
            };
            let rows = opened.rounds()?;
            // The page tells runs apart by what was set: of runs that were not swept, by their names.
            let name = path
                .file_name()
                .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            let mut summary = summary;
            if summary.fields.is_empty() && args.folders.len() > 1 {
                summary.fields.insert("run".to_owned(), name.clone());
            }
            runs.push(Run { name, summary, rows });
        }
    }
    if runs.is_empty() || runs.len() > MOST {
        let text = format!("{} runs are whole: name folders with 1 to {MOST}", runs.len());
        return Err(Failure::new(ExitKind::BadData, text).into());
    }
    let page = Page {
        title: &args.title,
        job: None,
        population: None,
        runs: &runs,
    };
    write_whole(&args.output, html(&page).as_bytes(), false)?;
    let rows: Vec<Vec<String>> = runs.iter().map(line).collect();
    let summaries: Vec<_> = runs.iter().map(|run| json!({ "run": run.name, "summary": run.summary })).collect();
    out.result(&json!({ "report": args.output, "runs": summaries }), || {
        let head = ["RUN", "SEED", "ROUNDS", "ACCURACY", "BEST", "VIRTUAL S", "UP"];
        format!("{}\nreport    {}", table(&head, &rows), args.output.display())
    });
    Ok(ExitKind::Ok)
}

fn line(run: &Run) -> Vec<String> {
    let summary = &run.summary;
    let percent = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |share| format!("{:.2} %", 100.0 * share));
    vec![
        run.name.clone(),
        summary.seed.to_string(),
        summary.rounds.to_string(),
        percent(summary.test_accuracy),
        percent(summary.best_accuracy),
        format!("{:.0}", summary.virtual_seconds),
        crate::output::bytes(summary.bytes_up),
    ]
}

/// A run's folder, or those in a sweep's, by name.
fn runs_in(folder: &Path) -> Vec<PathBuf> {
    if folder.join("rounds.jsonl").exists() {
        return vec![folder.to_owned()];
    }
    let entries = folder.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> = entries.filter(|path| path.join("rounds.jsonl").exists()).collect();
    found.sort();
    if found.is_empty() { vec![folder.to_owned()] } else { found }
}
