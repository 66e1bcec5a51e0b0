//! What a run leaves behind: figures, a plot, the model, and whether trainer and tract agree on it.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use aimass_crypto::hash::sha256;
use aimass_inference::Both;
use aimass_learning::Dataset;
use aimass_onnx::Model;
use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::args::DemoArgs;
use crate::cluster::Cluster;
use crate::fleet::Process;
use crate::plot::{self, Point};

/// Peak memory of the processes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PeakMemory {
    server_bytes: u64,
    /// Of the agent that used most.
    agent_bytes: u64,
}

impl PeakMemory {
    /// So far; zero where the system does not say.
    pub(crate) fn of(cluster: &Cluster) -> Self {
        let peak = |p: &Process| p.usage().unwrap_or_default().peak_rss_bytes;
        let agent_bytes = cluster.agent_processes().iter().map(peak).max().unwrap_or_default();
        Self {
            server_bytes: peak(cluster.server_process()),
            agent_bytes,
        }
    }
}

/// `metrics.jsonl`, written a line a round.
pub(crate) struct Metrics {
    file: File,
    points: Vec<Point>,
    bytes_up: u64,
    bytes_down: u64,
    rounds: u32,
}

impl Metrics {
    pub(crate) fn create(folder: &Path) -> Result<Self> {
        let path = folder.join("metrics.jsonl");
        let file = File::create(&path).with_context(|| format!("can't make {}", path.display()))?;
        Ok(Self {
            file,
            points: Vec::new(),
            bytes_up: 0,
            bytes_down: 0,
            rounds: 0,
        })
    }

    /// Adds a finished round.
    pub(crate) fn add(&mut self, round: &Value) -> Result<()> {
        writeln!(self.file, "{round}").context("can't write metrics.jsonl")?;
        let number = u32::try_from(round["round"].as_u64().unwrap_or_default()).unwrap_or(u32::MAX);
        if let (Some(accuracy), Some(loss)) = (round["accuracy"].as_f64(), round["loss"].as_f64()) {
            self.points.push(Point {
                round: number,
                accuracy,
                loss,
            });
        }
        self.bytes_up += round["bytes_up"].as_u64().unwrap_or_default();
        self.bytes_down += round["bytes_down"].as_u64().unwrap_or_default();
        self.rounds = number;
        Ok(())
    }
}

/// A run that is over.
pub(crate) struct Finished<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) args: &'a DemoArgs,
    pub(crate) model: &'a [u8],
    pub(crate) test: &'a Path,
    pub(crate) metrics: Metrics,
    pub(crate) usage: PeakMemory,
    pub(crate) seconds: f64,
}

/// The run in figures.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Summary {
    pub(crate) test_accuracy: f64,
    pub(crate) test_loss: f64,
    pub(crate) rounds: u32,
    pub(crate) seconds: f64,
    pub(crate) bytes_up: u64,
    pub(crate) bytes_down: u64,
    pub(crate) model_sha256: String,
    pub(crate) parity_max_abs: f64,
    pub(crate) parity_rows: usize,
    pub(crate) peak_server_bytes: u64,
    pub(crate) peak_agent_bytes: u64,
    pub(crate) agents: u32,
    pub(crate) seed: u64,
    pub(crate) plain: bool,
    pub(crate) out: String,
}

impl Summary {
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "test_accuracy": self.test_accuracy,
            "test_loss": self.test_loss,
            "rounds": self.rounds,
            "seconds": self.seconds,
            "bytes_up": self.bytes_up,
            "bytes_down": self.bytes_down,
            "model_sha256": self.model_sha256,
            "parity_max_abs": self.parity_max_abs,
            "parity_rows": self.parity_rows,
            "peak_server_bytes": self.peak_server_bytes,
            "peak_agent_bytes": self.peak_agent_bytes,
            "agents": self.agents,
            "seed": self.seed,
            "aggregation": if self.plain { "plain" } else { "secure" },
            "out": self.out,
        })
    }
}

/// Writes the model, the plot and `summary.json`; compares trainer and tract on every test row.
pub(crate) fn finish(run: Finished<'_>) -> Result<Summary> {
    let path = run.folder.join("model.onnx");
    std::fs::write(&path, run.model).with_context(|| format!("can't write {}", path.display()))?;
    let title = format!("optical digits, {} agents, seed {}", run.args.agents, run.args.seed);
    plot::accuracy_over_rounds(&run.folder.join("accuracy.svg"), &title, &run.metrics.points)?;
    let test = Dataset::read_csv(run.test, &[], "label")?;
    let parity = Both::load(&Model::from_bytes(run.model)?)?.on_data(&test, test.len())?;
    let last = run.metrics.points.last().context("no round was evaluated")?;
    let summary = Summary {
        test_accuracy: last.accuracy,
        test_loss: last.loss,
        rounds: run.metrics.rounds,
        seconds: run.seconds,
        bytes_up: run.metrics.bytes_up,
        bytes_down: run.metrics.bytes_down,
        model_sha256: hex::encode(sha256(run.model)),
        parity_max_abs: parity.max_abs,
        parity_rows: parity.rows,
        peak_server_bytes: run.usage.server_bytes,
        peak_agent_bytes: run.usage.agent_bytes,
        agents: run.args.agents,
        seed: run.args.seed,
        plain: run.args.plain,
        out: run.folder.display().to_string(),
    };
    std::fs::write(run.folder.join("summary.json"), format!("{}\n", summary.to_json())).context("can't write summary.json")?;
    Ok(summary)
}
