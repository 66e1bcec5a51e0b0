//! `aimass sim`: a job over a simulated fleet.

mod one;
mod setup;
mod sweep;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

use aimass_edge_agent::exit::ExitKind;
use aimass_lab::sweep::{Axis, Seeds};
use anyhow::Result;
use clap::{Args as ClapArgs, ValueEnum};

use crate::output::{Failure, Output};

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "The coordinator and the agents' sessions run as they are deployed, over in-memory links and a virtual clock; clients are trained for real. \
    The same seed gives the same bytes, whatever the number of threads.\n\n\
    Data: files as `aimass train` reads them (CSV, NPZ, IDX; a folder stands for its files), shared out as [partition] of the population says. \
    With `kind = \"files\"` each file is a client's.\n\n\
    With --json every round is a line (`round`, `test_accuracy`, `seconds`, `virtual_seconds`, `bytes_up`, ...) and one object comes last. \
    With -o the folder gets rounds.jsonl, rounds.csv, rounds.parquet, a TensorBoard event file, report.html, model.onnx and summary.json \
    (docs/simulator-outputs.md). Ctrl-C keeps what was done; the same command goes on from there, to the same bytes.\n\n\
    Examples:\n  \
    aimass sim job.toml --data train.npz --evaluate test.npz --clients 100 --cohort 10 --rounds 50\n  \
    aimass sim job.toml --population phones --data rows.csv --clients 1000 -o my-run\n  \
    aimass sim job.toml --clients 1000000 --cohort 1000 --rounds 5 --no-train\n  \
    aimass sim job.toml --data rows.csv --clients 50 --sweep train.lr=0.05,0.1 --seeds 1..=5 -o my-sweep"
)]
pub(crate) struct SimArgs {
    /// The job file, as for `aimass job submit`.
    job: PathBuf,
    /// What belongs to no option: refused with what to do.
    #[arg(hide = true)]
    more: Vec<PathBuf>,
    /// Who the clients are: a file (docs/populations.md), or phones, gateways or hospitals. Default: gateways that are always there, with rows shared
    /// out at random.
    #[arg(long, value_name = "FILE|NAME")]
    population: Option<String>,
    /// Clients in all.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    clients: u32,
    /// Contributions that a round asks for; default: the job's target. The job's min and max keep their relation to it.
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    cohort: Option<u32>,
    /// Rounds; default: the job's.
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Of everything that is drawn; default: the job's.
    #[arg(long, value_name = "S", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Training data: a file, or a folder of files. May be given several times: all are taken as one.
    #[arg(long, value_name = "DIR|FILE")]
    data: Vec<PathBuf>,
    /// Labels for IDX images (default: the file named like the images, as MNIST's are) or targets for NPY.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Data to measure each model on; default: what the job's [evaluate] names.
    #[arg(long, value_name = "FILE")]
    evaluate: Option<PathBuf>,
    /// The same as --labels, for --evaluate.
    #[arg(long, value_name = "FILE", requires = "evaluate")]
    evaluate_labels: Option<PathBuf>,
    /// Measure every so many rounds, and after the last.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    evaluate_every: u32,
    /// Note when these accuracies are first reached, for instance 0.9,0.97.
    #[arg(long, value_name = "SHARES", value_delimiter = ',', value_parser = accuracy)]
    reached: Vec<f64>,
    /// Train nothing: the fleet's behaviour alone. Each client counts as having 600 rows, or as many as are named.
    #[arg(long, value_name = "ROWS", num_args = 0..=1, default_missing_value = "600", require_equals = true, conflicts_with = "data")]
    no_train: Option<u32>,
    /// Who checks in: clients drawn evenly for each round, or all that are there, by the coordinator's pace.
    #[arg(long, value_enum, default_value_t = Selection::Uniform)]
    selection: Selection,
    /// Leave the masks of a secure job out: the same clients make the same models, to the last byte. The report says so.
    #[arg(long)]
    without_masks: bool,
    /// Threads that train; default: one a core. The number does not change the result.
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Folder of the run, or of a sweep's runs. A run that was begun there goes on.
    #[arg(long, short = 'o', value_name = "DIR")]
    out: Option<PathBuf>,
    /// Run once for each value of a key of the job file: `train.lr=0.05,0.1`. May be given for several keys; needs -o.
    #[arg(long, value_name = "KEY=VALUES", requires = "out")]
    sweep: Vec<Axis>,
    /// Run once for each seed: `1..=5` or `1,2,7`; needs -o.
    #[arg(long, value_name = "SEEDS", requires = "out")]
    seeds: Option<Seeds>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Selection {
    /// Drawn evenly for each round.
    Uniform,
    /// All that are there ask for work.
    Arrival,
}

fn accuracy(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "use shares from 0 to 1, for instance 0.9,0.97".to_owned())
}

pub(crate) fn run(args: &SimArgs, out: &Output) -> Result<ExitKind> {
    let began = Instant::now();
    if let Some(first) = args.more.first() {
        let text = format!(
            "{}: there is one job file, {}, and --data takes one value: write --data before each file or folder",
            first.display(),
            args.job.display()
        );
        return Err(Failure::new(ExitKind::Usage, text).into());
    }
    if args.sweep.is_empty() && args.seeds.is_none() {
        return one::run(args, out, began);
    }
    sweep::run(args, out, began)
}
