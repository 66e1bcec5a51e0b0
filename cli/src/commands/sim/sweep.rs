//! Many runs: a grid of settings, each in a folder of its own, and a report over all.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use aimass_edge_agent::exit::ExitKind;
use aimass_lab::sweep::{Seeds, combine, grid};
use aimass_protocol::job::JobFile;
use anyhow::Result;
use serde_json::json;

use super::SimArgs;
use super::one::{Done, View, goes_on, single};
use super::setup::Inputs;
use crate::output::{Failure, Output};
use crate::run_folder;

pub(super) fn run(args: &SimArgs, out: &Output, began: Instant) -> Result<ExitKind> {
    let stop = Arc::new(AtomicBool::new(false));
    run_folder::listen_for_ctrl_c(stop.clone())?;
    let inputs = Inputs::read(args)?;
    let bad = |text: String| Failure::new(ExitKind::BadData, text);
    let job = JobFile::parse(&inputs.job_text).map_err(|e| bad(format!("{}: {e}", args.job.display())))?;
    let seeds = args.seeds.clone().unwrap_or_else(|| Seeds::one(args.seed.unwrap_or(job.job.seed)));
    // The model was read with the job.
    if args.sweep.iter().any(|axis| axis.key == "model.path") {
        return Err(bad(
            "--sweep model.path: runs of a sweep start from one model; use a job file for each, and `aimass compare`".to_owned(),
        )
        .into());
    }
    let settings = grid(&args.sweep, &seeds).map_err(|e| bad(e.to_string()))?;
    let Some(root) = &args.out else {
        return Err(Failure::new(ExitKind::Usage, "a sweep needs a folder: add -o DIR").into());
    };
    // A wrong key or value is found before the first run.
    for setting in &settings {
        let text = inputs.job_text(Some(setting))?;
        JobFile::parse(&text).map_err(|e| bad(format!("{}: {e}", setting.folder_name())))?;
    }
    std::fs::create_dir_all(root).map_err(|e| bad(format!("{}: {e}", root.display())))?;
    let names: Vec<String> = settings.iter().map(aimass_lab::sweep::Setting::folder_name).collect();
    let mut view = View::new(out, None);
    let mut interrupted = false;
    let mut failed = Vec::new();
    for (place, (setting, name)) in settings.iter().zip(&names).enumerate() {
        if goes_on(&stop).is_break() {
            interrupted = true;
            break;
        }
        view.of_run((place + 1, settings.len()));
        let begun = if place == 0 { began } else { Instant::now() };
        match single(args, &inputs, Some(setting), Some(&root.join(name)), &mut view, &stop, begun) {
            Ok(Done::Whole(_)) => {}
            Ok(Done::Interrupted(_)) => {
                interrupted = true;
                break;
            }
            // One that diverges says something too.
            Err(error) => {
                view.note(&format!("{name}: {error:#}"));
                failed.push(name.clone());
            }
        }
    }
    let combined = combine(
        root,
        &job.job.name,
        Some(&inputs.job_text),
        inputs.population_text.as_deref(),
        &names,
    )?;
    let report = root.join("report.html");
    out.result(
        &json!({ "runs": combined.runs, "missing": combined.missing, "failed": failed, "report": report }),
        || format!("{} of {} runs are whole; report {}", combined.runs, names.len(), report.display()),
    );
    if interrupted {
        let text = format!(
            "interrupted after {} of {} runs; the same command goes on",
            combined.runs,
            names.len()
        );
        return Err(Failure::new(ExitKind::Interrupted, text).into());
    }
    if !failed.is_empty() {
        let text = format!("{} of {} runs failed: {}", failed.len(), names.len(), failed.join(", "));
        return Err(Failure::new(ExitKind::Failure, text).into());
    }
    Ok(ExitKind::Ok)
}
