//! Steps a second and memory of training, beside PyTorch in the same run.
//!
//! For each model and number of threads both processes are there at once, and one trains while the other waits: ours, the peer's, ours,
//! ... so that whatever else the machine does meets both. The ratio is the median over such pairs.

mod cases;
mod child;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::{median, mib, publish};
use cases::{CASES, Case};
use child::Run;
pub(crate) use child::{Ran, Ready, StepsArgs, Worker, run as run_steps, say};

/// Where the peer's program is, from the repository's root.
const PEER_SCRIPT: &str = "bench/peers/torch_steps.py";

#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    /// How often each is measured.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Seconds that each is measured for, and at least one step.
    #[arg(long, default_value_t = 0.8)]
    seconds: f64,
    /// Numbers of threads.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2])]
    threads: Vec<usize>,
    /// Processes that train at the same time on each side, each with as many threads; their rates are added.
    #[arg(long, default_value_t = 1)]
    clients: usize,
    /// Have both sides do with these instructions: avx2.
    #[arg(long)]
    isa: Option<InstructionSet>,
    /// Which: 2nn-b10, 2nn-b32, cnn-b10, cnn-b32, lstm-lm, transformer, resnet18. All where none is named.
    #[arg(long, value_delimiter = ',')]
    models: Vec<String>,
    /// A Python with PyTorch. Without it ours are measured alone.
    #[arg(long, value_name = "PYTHON")]
    peer: Option<PathBuf>,
    /// Write the figures to this file too.
    #[arg(long, alias = "json", value_name = "FILE")]
    output: Option<PathBuf>,
}

/// What a processor without newer instructions has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum InstructionSet {
    Avx2,
}

impl TrainArgs {
    /// What our processes, and the peer's, are told by their environment.
    fn settings(&self) -> [&'static [(&'static str, &'static str)]; 2] {
        match self.isa {
            None => [&[], &[]],
            Some(InstructionSet::Avx2) => [
                &[("AIMASS_CPU_ISA", "avx2")],
                &[
                    ("ATEN_CPU_CAPABILITY", "avx2"),
                    ("ONEDNN_MAX_CPU_ISA", "AVX2"),
                    ("MKL_ENABLE_INSTRUCTIONS", "AVX2"),
                ],
            ],
        }
    }
}

pub(crate) fn run(args: &TrainArgs) -> Result<()> {
    let mut chosen = Vec::new();
    for name in &args.models {
        chosen.push(Case::named(name).with_context(|| format!("there is no model `{name}`; see --help"))?);
    }
    if chosen.is_empty() {
        chosen.extend(CASES);
    }
    let script = Path::new(PEER_SCRIPT);
    if args.peer.is_some() && !script.exists() {
        bail!("{PEER_SCRIPT} is not here; run this from the repository's root");
    }
    let dir = tempfile::tempdir()?;
    let load_before = load();
    let (mut results, mut lines) = (Vec::new(), Vec::new());
    let mut versions = Vec::new();
    for case in chosen {
        let model = dir.path().join(format!("{}.onnx", case.name));
        std::fs::write(&model, case.model()?.as_bytes())?;
        for &threads in &args.threads {
            eprintln!("{} with {threads} threads ...", case.name);
            let measured = measure(case, threads, &model, args)?;
            lines.push(line(case, threads, &measured));
            results.push(measured.record(case, threads));
            versions = measured.sides.iter().map(|side| side.ready().versions.clone()).collect();
        }
    }
    let result = json!({
        "what": "training steps a second and peak memory, one process a model and number of threads, SGD, cross-entropy; \
                 ours and PyTorch take turns",
        "machine": { "processor": processor(), "cores": cores(), "load_before": load_before, "load_after": load() },
        "versions": versions,
        "runs": args.runs,
        "seconds_a_run": args.seconds,
        "clients": args.clients.max(1),
        "instructions": args.isa.map(|isa| format!("{isa:?}").to_lowercase()),
        "results": results,
    });
    publish(&result, args.output.as_deref())?;
    eprintln!("{}", table(&lines));
    Ok(())
}

/// One of the two: its processes, and what they did together each time.
#[derive(Debug)]
struct Side {
    workers: Vec<Worker>,
    runs: Vec<Vec<Run>>,
    peak_bytes: u64,
}

impl Side {
    /// Steps a second of all processes together.
    fn rates(&self) -> Vec<f64> {
        let rate = |run: &Run| run.ran.steps as f64 / run.ran.seconds;
        self.runs.iter().map(|together| together.iter().map(rate).sum()).collect()
    }

    fn ready(&self) -> &Ready {
        &self.workers[0].ready
    }

    /// All processes at once.
    fn run(&mut self, seconds: f64) -> Result<()> {
        let together: Result<Vec<Run>> = std::thread::scope(|scope| {
            let running: Vec<_> = self
                .workers
                .iter_mut()
                .map(|worker| scope.spawn(move || worker.run(seconds)))
                .collect();
            let ended = running.into_iter().map(std::thread::ScopedJoinHandle::join);
            ended
                .map(|run| run.unwrap_or_else(|_| bail!("a measuring thread panicked")))
                .collect()
        });
        let together = together?;
        if let Some(run) = together.iter().find(|run| !run.ran.loss.is_finite()) {
            bail!("the loss is {}", run.ran.loss);
        }
        self.runs.push(together);
        Ok(())
    }

    /// Processor time of all threads, which other processes disturb less than they do the clock.
    fn cpu_ms(&self) -> f64 {
        median(
            &self
                .runs
                .iter()
                .flatten()
                .map(|run| 1000.0 * run.cpu_s / run.ran.steps as f64)
                .collect::<Vec<_>>(),
        )
    }

    fn record(&self) -> Value {
        let rates = self.rates();
        json!({
            "steps_a_second": {
                "median": median(&rates),
                "min": rates.iter().copied().fold(f64::INFINITY, f64::min),
                "max": rates.iter().copied().fold(0.0, f64::max),
            },
            "processor_ms_a_step": self.cpu_ms(),
            "loss_at_last": self.runs.last().and_then(|together| together.first()).map(|run| run.ran.loss),
            "peak_mib": mib(self.peak_bytes),
            "before_the_model_mib": mib(self.ready().start_bytes),
            "estimated_mib": self.ready().estimated_bytes.map(mib),
        })
    }
}

/// Ours first, the peer's second where there is one.
#[derive(Debug)]
struct Measured {
    sides: Vec<Side>,
}

impl Measured {
    /// Ours over the peer's, a pair of runs at a time.
    fn ratios(&self) -> Option<Vec<f64>> {
        let [ours, peer] = &self.sides[..] else { return None };
        Some(ours.rates().iter().zip(peer.rates()).map(|(ours, peer)| ours / peer).collect())
    }

    fn record(&self, case: Case, threads: usize) -> Value {
        let ratios = self.ratios();
        json!({
            "model": case.name,
            "what": case.title(),
            "batch": case.batch,
            "threads": threads,
            "weights": self.sides.first().map(|ours| ours.ready().weights),
            "aimass": self.sides.first().map(Side::record),
            "pytorch": self.sides.get(1).map(Side::record),
            "ratio": ratios.map(|ratios| json!({
                "median": median(&ratios),
                "min": ratios.iter().copied().fold(f64::INFINITY, f64::min),
                "max": ratios.iter().copied().fold(0.0, f64::max),
            })),
        })
    }
}

fn measure(case: Case, threads: usize, model: &Path, args: &TrainArgs) -> Result<Measured> {
    let text = |text: &str| OsString::from(text);
    let threads = threads.to_string();
    let ours = [
        text("train-steps"),
        text(case.name),
        model.into(),
        text("--threads"),
        text(&threads),
    ];
    let start = |program: &Path, arguments: &[OsString], settings: &[(&str, &str)], what: String| -> Result<Side> {
        let each = (0..args.clients.max(1)).map(|_| Worker::start(program, arguments, settings, what.clone()));
        Ok(Side {
            workers: each.collect::<Result<_>>()?,
            runs: Vec::new(),
            peak_bytes: 0,
        })
    };
    let [our_settings, peer_settings] = args.settings();
    let mut sides = vec![start(&std::env::current_exe()?, &ours, our_settings, format!("our {}", case.name))?];
    if let Some(python) = &args.peer {
        let peer = [
            text(PEER_SCRIPT),
            text(case.name),
            text("--batch"),
            case.batch.to_string().into(),
            text("--threads"),
            text(&threads),
        ];
        sides.push(start(python, &peer, peer_settings, format!("PyTorch's {}", case.name))?);
    }
    if let [ours, peer] = &sides[..] {
        let (ours, peer) = (ours.ready().weights, peer.ready().weights);
        ensure!(
            ours == peer,
            "{}: {ours} weights train here, {peer} in PyTorch: not the same model",
            case.name
        );
    }
    for _ in 0..args.runs.max(1) {
        for side in &mut sides {
            side.run(args.seconds).with_context(|| case.name.to_owned())?;
        }
    }
    for side in &mut sides {
        side.peak_bytes = side.workers[0].usage()?.peak_rss_bytes;
    }
    Ok(Measured { sides })
}

const HEADER: [&str; 10] = [
    "model",
    "batch",
    "threads",
    "AI Mass, steps/s",
    "PyTorch, steps/s",
    "ratio (least to most)",
    "processor ms a step",
    "AI Mass, peak MiB (of it since the start; estimated)",
    "PyTorch, peak MiB (since the start)",
    "weights",
];

fn line(case: Case, threads: usize, measured: &Measured) -> [String; 10] {
    let dash = || "-".to_owned();
    let rate = |side: Option<&Side>| side.map_or_else(dash, |side| digits(median(&side.rates())));
    let grown = |side: &Side| mib(side.peak_bytes.saturating_sub(side.ready().start_bytes));
    let (ours, peer) = (measured.sides.first(), measured.sides.get(1));
    let ratio = measured.ratios().map_or_else(dash, |ratios| {
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = ratios.iter().copied().fold(0.0, f64::max);
        format!("{:.2} ({least:.2} to {most:.2})", median(&ratios))
    });
    let cpu = |side: Option<&Side>| side.map(|side| digits(side.cpu_ms()));
    let estimated = ours
        .and_then(|side| side.ready().estimated_bytes)
        .map(|bytes| format!("{:.0}", mib(bytes)));
    [
        case.title().to_owned(),
        case.batch.to_string(),
        threads.to_string(),
        rate(ours),
        rate(peer),
        ratio,
        [cpu(ours), cpu(peer)].into_iter().flatten().collect::<Vec<_>>().join(" / "),
        ours.map_or_else(dash, |side| {
            format!(
                "{:.0} ({:.0}; {})",
                mib(side.peak_bytes),
                grown(side),
                estimated.unwrap_or_else(dash)
            )
        }),
        peer.map_or_else(dash, |side| format!("{:.0} ({:.0})", mib(side.peak_bytes), grown(side))),
        ours.map_or_else(dash, |side| side.ready().weights.to_string()),
    ]
}

/// About three digits.
fn digits(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// As Markdown.
fn table(lines: &[[String; 10]]) -> String {
    let row = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let header = HEADER.map(str::to_owned);
    let rule = HEADER.map(|_| "---".to_owned());
    let rows: String = lines.iter().map(|cells| row(cells)).collect();
    row(&header) + &row(&rule) + &rows
}

/// Processes that were ready to run in the last minute, of this machine.
fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg")
        .ok()?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn cores() -> Option<usize> {
    std::thread::available_parallelism().ok().map(usize::from)
}
