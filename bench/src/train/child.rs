//! A process that trains: ours, or the peer's. Both speak lines of JSON: one when ready, then one for each line that asks for seconds.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use aimass_cli::fleet::{Usage, usage_of};
use aimass_learning::{
    AnyTrainer, BackendChoice, BackendConfig, BatchNorm, Loss, OptimizerConfig, TrainConfig,
    inspect::{self, Question, inspect},
    training::Stepper,
};
use aimass_onnx::{Model, TrainableRules};
use anyhow::{Context, Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::cases::Case;

/// Steps before anything is measured.
const WARM_UP: usize = 2;

/// What a process says when it has made its first steps.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// Floats that train.
    pub(crate) weights: u64,
    /// Resident before the model was there, bytes.
    pub(crate) start_bytes: u64,
    /// By name, for the record.
    pub(crate) versions: serde_json::Value,
    /// What `aimass model check` says of a step's memory; the peer says nothing.
    #[serde(default)]
    pub(crate) estimated_bytes: Option<u64>,
}

/// What it says of the time that it was given.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Ran {
    pub(crate) steps: u64,
    pub(crate) seconds: f64,
    pub(crate) loss: f64,
}

/// The same with the processor time of all its threads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) ran: Ran,
    pub(crate) cpu_s: f64,
}

/// A running process.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Child,
    ask: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    what: String,
    pub(crate) ready: Ready,
}

impl Worker {
    pub(crate) fn start(program: &Path, args: &[OsString], settings: &[(&str, &str)], what: String) -> Result<Self> {
        let child = Command::new(program)
            .args(args)
            .envs(settings.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.with_context(|| format!("can't start {}", program.display()))?;
        let ask = child.stdin.take();
        let mut answers = BufReader::new(child.stdout.take().context("a child has no output")?);
        let ready = answer(&mut answers, &what)?;
        Ok(Self {
            child,
            ask,
            answers,
            what,
            ready,
        })
    }

    /// Lets it train for so long, and at least one step.
    pub(crate) fn run(&mut self, seconds: f64) -> Result<Run> {
        let before = self.usage()?.cpu_s;
        let ask = self.ask.as_mut().context("the process was told to end")?;
        writeln!(ask, "{seconds}").with_context(|| format!("{} has ended", self.what))?;
        let ran: Ran = answer(&mut self.answers, &self.what)?;
        let cpu_s = self.usage()?.cpu_s - before;
        Ok(Run { ran, cpu_s })
    }

    /// Its memory and processor time until now.
    pub(crate) fn usage(&self) -> Result<Usage> {
        usage_of(self.child.id()).with_context(|| format!("can't read the memory of {}", self.what))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Without more to ask it ends.
        self.ask = None;
        let _ = self.child.wait();
    }
}

fn answer<T: serde::de::DeserializeOwned>(answers: &mut impl BufRead, what: &str) -> Result<T> {
    let mut line = String::new();
    if answers.read_line(&mut line)? == 0 {
        bail!("{what} ended; its messages are above");
    }
    serde_json::from_str(&line).with_context(|| format!("{what} answered {line:?}"))
}

#[derive(Debug, Args)]
pub(crate) struct StepsArgs {
    /// Which.
    case: String,
    /// The model as `train` writes it; without it, it is made here.
    model: Option<PathBuf>,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

/// The process that is measured.
pub(crate) fn run(args: &StepsArgs) -> Result<()> {
    let case = Case::named(&args.case).context("there is no such case")?;
    let batch = case.data().context("the batch's values do not fill its shape")?;
    let start_bytes = usage_of(std::process::id()).context("can't read /proc")?.rss_bytes;
    let model = match &args.model {
        Some(file) => Model::from_shared(std::fs::read(file)?.into())?,
        None => case.model()?,
    };
    let layout = model.layout(&TrainableRules::default())?;
    let config = TrainConfig {
        heads: vec![Loss::cross_entropy().into()],
        optimizer: OptimizerConfig::sgd(0.01),
        batch_norm: BatchNorm::Batch,
        epochs: 1,
        batch: case.batch,
        seed: [0; 32],
    };
    let backend = BackendConfig {
        backend: BackendChoice::Cpu,
        threads: args.threads.try_into().ok(),
        ..BackendConfig::default()
    };
    let mut trainer = AnyTrainer::open(&backend, &model, &layout, &config, |note| eprintln!("{note}"))?;
    for _ in 0..WARM_UP {
        trainer.step(batch.clone())?;
    }
    let question = Question {
        batch: case.batch,
        dims: [("sequence".to_owned(), sequence(&batch))].into(),
        moments: 0,
        gathered: false,
    };
    let found = inspect(&model, Ok(&layout), &question);
    say(&Ready {
        weights: inspect::parameters(&layout).get("weights").copied().unwrap_or(0) as u64,
        start_bytes,
        versions: serde_json::json!({ "aimass": env!("CARGO_PKG_VERSION") }),
        estimated_bytes: found.cost.map(|cost| cost.peak_bytes),
    })?;
    for line in std::io::stdin().lines() {
        let window = Duration::from_secs_f64(line?.parse()?);
        let begin = Instant::now();
        let (mut steps, mut loss) = (0, 0.0);
        while steps == 0 || begin.elapsed() < window {
            loss = f64::from(trainer.step(batch.clone())?.loss);
            steps += 1;
        }
        let seconds = begin.elapsed().as_secs_f64();
        say(&Ran { steps, seconds, loss })?;
    }
    Ok(())
}

/// Length of the second axis of the first input.
fn sequence(batch: &aimass_learning::Batch) -> usize {
    batch.inputs.first().and_then(|x| x.shape().get(1)).copied().unwrap_or(1)
}

pub(crate) fn say(what: &impl Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(what)?)?;
    out.flush()?;
    Ok(())
}
