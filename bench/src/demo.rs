//! The demo, several times.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::{median, program, publish};

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Runs, each with a seed of its own.
    #[arg(long, default_value_t = 5)]
    runs: u64,
    /// Write the figures to this file too.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) fn run(args: &DemoArgs) -> Result<()> {
    let program = program()?;
    let dir = tempfile::tempdir()?;
    let mut summaries = Vec::new();
    for seed in 1..=args.runs {
        let out = dir.path().join(seed.to_string());
        let output = Command::new(&program)
            .args(["demo", "--json", "--seed", &seed.to_string(), "--out"])
            .arg(&out)
            .output()?;
        if !output.status.success() {
            bail!("the demo failed:\n{}", String::from_utf8_lossy(&output.stderr));
        }
        let text = String::from_utf8(output.stdout)?;
        let last = text.lines().last().context("the demo printed nothing")?;
        let summary: Value = serde_json::from_str(last)?;
        eprintln!("seed {seed}: accuracy {}, {} s", summary["test_accuracy"], summary["seconds"]);
        summaries.push(summary);
    }
    let values = |key: &str| -> Vec<f64> { summaries.iter().filter_map(|s| s[key].as_f64()).collect() };
    let per_round = |key: &str| median(&values(key)) / median(&values("rounds"));
    let result = json!({
        "what": "aimass demo: 5 agents, 30 rounds, optical digits, Dirichlet(0.5), 64-64-10 MLP",
        "runs": args.runs,
        "test_accuracy_median": median(&values("test_accuracy")),
        "test_accuracy_min": values("test_accuracy").into_iter().fold(f64::INFINITY, f64::min),
        "seconds_median": median(&values("seconds")),
        "seconds_max": values("seconds").into_iter().fold(0.0, f64::max),
        "bytes_up_per_round": per_round("bytes_up"),
        "bytes_down_per_round": per_round("bytes_down"),
        "parity_max_abs": values("parity_max_abs").into_iter().fold(0.0, f64::max),
        "peak_server_mib": median(&values("peak_server_bytes")) / f64::from(1 << 20),
        "peak_agent_mib": median(&values("peak_agent_bytes")) / f64::from(1 << 20),
    });
    publish(&result, args.output.as_deref())
}
