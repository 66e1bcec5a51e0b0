//! `aimass model measure`: what a model costs a device that runs it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use aimass_edge_agent::exit::ExitKind;
use aimass_inference::measure::{Cost, MAX_RUNS, cost};
use aimass_inference::{Engine, LoadOptions, read_file};
use anyhow::{Context, Result, bail};
use clap::Args as ClapArgs;
use serde::Deserialize;
use serde_json::json;

use crate::output::{Failure, Output, bytes, table};

/// Where no number of runs is asked for, as many as take about so long.
const ABOUT_US: f64 = 500_000.0;

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "The model is run as devices run it, on zeros and on one thread. Memory is that of this process at its peak, the program included.\n\n\
    Example:\n  aimass model measure model.onnx --batch 1,32"
)]
pub(crate) struct MeasureArgs {
    /// The ONNX file.
    file: PathBuf,
    /// Rows of a run; several are measured one after another. A file with a batch of its own is run with that.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,32", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: Vec<u32>,
    /// Runs that are timed, after some that are not; default: as many as half a second has.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MAX_RUNS as i64))]
    runs: Option<u32>,
    /// What computes: tract; plan, the trainer's plan for the CPU; auto, the plan where its outputs are tract's and it is faster
    #[arg(long, value_name = "ENGINE", default_value_t)]
    engine: Engine,
}

/// What is printed, and read again by `aimass compress`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Found {
    pub(crate) costs: Vec<Cost>,
}

pub(crate) fn run(args: &MeasureArgs, out: &Output) -> Result<ExitKind> {
    let options = LoadOptions {
        engine: args.engine,
        ..LoadOptions::default()
    };
    let bad = |text: String| Failure::new(ExitKind::BadData, format!("{}: {text}", args.file.display()));
    let model = read_file(&args.file, options.max_model_bytes).map_err(|e| bad(e.to_string()))?;
    let mut costs: Vec<Cost> = Vec::new();
    for &batch in &args.batch {
        let batch = usize::try_from(batch)?;
        let runs = match args.runs {
            Some(runs) => usize::try_from(runs)?,
            None => {
                let first = cost(&model, batch, 5, &options).map_err(|e| bad(e.to_string()))?;
                (ABOUT_US / first.median_us.max(1.0)).clamp(5.0, 20_000.0) as usize
            }
        };
        let found = cost(&model, batch, runs, &options).map_err(|e| bad(e.to_string()))?;
        // A file with a batch of its own has one cost.
        if !costs.iter().any(|known| known.batch == found.batch) {
            costs.push(found);
        }
    }
    out.result(&json!({ "file": args.file, "costs": costs }), || text(&costs));
    Ok(ExitKind::Ok)
}

fn text(costs: &[Cost]) -> String {
    let row = |cost: &Cost| {
        vec![
            cost.batch.to_string(),
            cost.engine.to_string(),
            format!("{:.0} us", cost.median_us),
            format!("{:.0} us", cost.p95_us),
            format!("{:.0}", cost.batch as f64 * 1e6 / cost.median_us.max(1e-3)),
            cost.peak_memory_bytes.map_or_else(|| "unknown".to_owned(), bytes),
        ]
    };
    let rows: Vec<Vec<String>> = costs.iter().map(row).collect();
    table(&["ROWS", "ENGINE", "MEDIAN", "95 %", "ROWS A SECOND", "PEAK MEMORY"], &rows)
}

/// Measures a file in a process of its own, so that its memory is told apart from what this one holds.
pub(crate) fn in_own_process(file: &Path) -> Result<Found> {
    let program = std::env::current_exe().context("can't find the program itself")?;
    let done = Command::new(program)
        .args(["--json", "model", "measure"])
        .arg(file)
        .stdin(Stdio::null())
        .output()
        .context("can't measure the model in a process of its own")?;
    if !done.status.success() {
        bail!("{}", String::from_utf8_lossy(&done.stderr).trim());
    }
    serde_json::from_slice(&done.stdout).context("what was measured can't be read")
}
