//! Measured claims of AI Mass. Each subcommand starts real processes, prints its figures and writes them as JSON; `bench/README.md` has
//! the results and the commands that rerun them beside the peers.

mod crowd;
mod demo;
mod flood;
mod idle;
mod infer;
mod kills;
mod relay;
mod report;
mod round;
mod secagg;
mod serve;
mod stragglers;
mod train;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use serde_json::Value;

/// Measures what the project claims.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A round without training: 1,663,370 float32 weights, agents as separate processes, plain mode.
    Round(round::RoundArgs),
    /// `aimass demo`: accuracy, seconds, bytes a round, peak memory.
    Demo(demo::DemoArgs),
    /// Training steps a second and peak memory of seven models, beside PyTorch.
    Train(train::TrainArgs),
    /// One thread running McMahan's CNN forward: the compiled plan, tract, and onnxruntime.
    Infer(infer::InferArgs),
    /// A process that `infer` measures.
    #[command(hide = true)]
    InferRuns(infer::RunsArgs),
    /// 10,000 idle agents on one aggregator: memory, processor time, and the way back after kill -9.
    Idle(idle::IdleArgs),
    /// 10 and 1000 agents that send an update each in one round: the aggregator's memory, seconds, processor seconds.
    Crowd(crowd::CrowdArgs),
    /// Honest agents' check-ins beside a flood of half-open handshakes and first packets.
    Flood(flood::FloodArgs),
    /// The process that `flood` floods with.
    #[command(hide = true)]
    FloodGenerator(flood::GeneratorArgs),
    /// kill -9 of the aggregator in every phase and of agents: updates lost, counted twice, seconds to go on.
    Kills(kills::KillsArgs),
    /// Rounds over links that lose, double and reorder datagrams, go silent, change addresses.
    Relay(relay::RelayArgs),
    /// Secure aggregation of all parties in one process: seconds, processor seconds, bytes.
    Secagg(secagg::SecaggArgs),
    /// Serving: requests a second, latency, memory, and swaps under load.
    Serve(serve::ServeArgs),
    /// 16 agents of three speeds: virtual minutes to an accuracy, synchronous and asynchronous.
    Stragglers(stragglers::StragglersArgs),
    /// A process that `train` measures.
    #[command(hide = true)]
    TrainSteps(train::StepsArgs),
}

fn main() -> Result<()> {
    match Args::parse().command {
        Command::Round(args) => round::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Train(args) => train::run(&args),
        Command::Infer(args) => infer::run(&args),
        Command::InferRuns(args) => infer::run_child(&args),
        Command::Idle(args) => idle::run(&args),
        Command::Crowd(args) => crowd::run(&args),
        Command::Flood(args) => flood::run(&args),
        Command::FloodGenerator(args) => flood::generate(&args),
        Command::Kills(args) => kills::run(&args),
        Command::Relay(args) => relay::run(&args),
        Command::Secagg(args) => secagg::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Stragglers(args) => stragglers::run(&args),
        Command::TrainSteps(args) => train::run_steps(&args),
    }
}

/// The `aimass` executable of the same build.
fn program() -> Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("aimass");
    if !program.exists() {
        bail!(
            "{} is missing: build it with `cargo build --release --bin aimass`",
            program.display()
        );
    }
    Ok(program)
}

/// Prints a result and writes it where asked.
fn publish(result: &Value, output: Option<&Path>) -> Result<()> {
    println!("{}", serde_json::to_string_pretty(result)?);
    output.map_or(Ok(()), |path| write(result, path))
}

/// Writes a result to a file.
fn write(result: &Value, path: &Path) -> Result<()> {
    let text = serde_json::to_string_pretty(result)? + "\n";
    std::fs::write(path, text).with_context(|| format!("can't write {}", path.display()))
}

/// Median of a list that is not empty; 0 of an empty one.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
