//! `aimass train`: a job's model trained in one place, on local data. What federated runs are compared with.

mod log;
mod plots;
mod setup;

use std::fs::File;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aimass_crypto::hash::sha256;
use aimass_edge_agent::exit::ExitKind;
use aimass_learning::checkpoint::{Checkpoint, CheckpointError};
use aimass_learning::training::{GoodWeights, Stepped, Training, evaluate_on};
use aimass_learning::{AnyTrainer, BackendChoice, BackendConfig, TrainConfig, TrainError};
use aimass_onnx::{Model, ParamLayout};
use anyhow::{Context, Result};
use clap::{Args as ClapArgs, ValueEnum};

use self::log::{Log, View};
use self::setup::Setup;
use crate::output::{Failure, Output};
use crate::run_folder;

const CHECKPOINT: &str = "checkpoint.bin";
/// Rows that a message names at most.
const NAMED_ROWS: usize = 10;

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Data: CSV with a header (.csv, .csv.gz), NPZ (arrays whose first axis is the row, named like the model's inputs \
    and the job's target; `weights` weighs rows), NPY with the targets in another one (--labels), or IDX images with their labels (gzip \
    or not). Plain CSVs, stored NPZ arrays and NPY files past 256 MiB are read batch by batch.\n\n\
    The folder of the run gets model.onnx (the trained model), metrics.jsonl (a line an epoch, and up to 200 lines with the loss \
    between), loss.svg and a picture of each kind of metric, and checkpoint.bin. A run that was interrupted or killed goes on with the \
    same command and --resume; on the CPU it ends with the same bytes as one that was not.\n\n\
    With --json every line of metrics.jsonl is printed as well (`kind` is \"step\" or \"epoch\"; `epoch`, `step` and `loss` are always \
    there), and at the end an object of kind \"summary\".\n\n\
    When the loss is no longer finite, the run stops, names the batch, and keeps the last good weights in model.onnx.\n\n\
    Examples:\n  \
    aimass train job.toml --data rows.csv --validation-share 0.2 --out my-run\n  \
    aimass train job.toml --data agent-1.csv --data agent-2.csv --epochs 20\n  \
    aimass train job.toml --data rows.npz --out my-run --resume"
)]
pub(crate) struct TrainArgs {
    /// The job file. What it says of rounds and aggregation is not used.
    job: PathBuf,
    /// The data to train on; several files of one kind are taken as one.
    #[arg(long, value_name = "FILE", required = true)]
    data: Vec<PathBuf>,
    /// Labels for IDX images (default: the file named like the images, as MNIST's are) or targets for NPY. Once for each --data.
    #[arg(long, value_name = "FILE")]
    labels: Vec<PathBuf>,
    /// Data to measure on after every epoch; default: what the job's [evaluate] names.
    #[arg(long, value_name = "FILE", conflicts_with = "validation_share")]
    validation: Option<PathBuf>,
    /// The same for --validation.
    #[arg(long, value_name = "FILE", requires = "validation")]
    validation_labels: Option<PathBuf>,
    /// Share of --data to hold back and measure on instead, above 0 and below 1; each class keeps its share.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    validation_share: Option<f64>,
    /// Passes over the data; default: as many as all rounds of the job make (rounds x epochs).
    #[arg(long, value_name = "N")]
    epochs: Option<u32>,
    /// Folder of the run; must be new or empty unless --resume is given. Default: `runs/train-<time>`.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on from the checkpoint in --out.
    #[arg(long, requires = "out")]
    resume: bool,
    /// Seconds between checkpoints; 0 writes one after every step. One is written at the end and on ctrl-c as well.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    checkpoint_every: u64,
    /// Seed of the order of rows, the split and dropout; default: the job's.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// What computes. A GPU needs the program `aimass-gpu-worker` beside this one (or named in AIMASS_GPU_WORKER).
    #[arg(long, value_enum, default_value_t = Backend::Auto)]
    backend: Backend,
    /// Threads that compute; default: one a core. The number does not change the result.
    #[arg(long, value_name = "N", value_parser = threads)]
    threads: Option<NonZeroUsize>,
    /// Refuse to train when a step would take more memory than this, in MiB.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1 << 40))]
    memory_limit_mib: Option<u64>,
}

fn threads(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "the number of threads is 1 or more".to_owned())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Backend {
    /// A GPU where there is one that computes what the CPU computes, and faster; otherwise the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// A GPU; without one nothing is trained.
    Wgpu,
}

impl TrainArgs {
    fn backend(&self) -> BackendConfig {
        BackendConfig {
            backend: match self.backend {
                Backend::Auto => BackendChoice::Auto,
                Backend::Cpu => BackendChoice::Cpu,
                Backend::Wgpu => BackendChoice::Wgpu,
            },
            threads: self.threads,
            memory_limit_bytes: self.memory_limit_mib.map(|mib| mib << 20),
            ..BackendConfig::from_environment()
        }
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|s| *s > 0.0 && *s < 1.0);
    share.ok_or_else(|| "use a number above 0 and below 1, for instance 0.2".to_owned())
}

pub(crate) fn run(args: &TrainArgs, out: &Output) -> Result<ExitKind> {
    let stop = Arc::new(AtomicBool::new(false));
    run_folder::listen_for_ctrl_c(stop.clone())?;
    let setup = setup::load(args)?;
    let folder = match (&args.out, args.resume) {
        (Some(folder), true) => folder.clone(),
        (asked, _) => run_folder::fresh(asked.as_deref(), "train")?,
    };
    Run::begin(args, &setup, &folder, out)?.run_until(&stop)
}

/// A training under way.
struct Run<'a> {
    args: &'a TrainArgs,
    setup: &'a Setup,
    folder: &'a Path,
    training: Training<'a, AnyTrainer>,
    log: Log,
    began: Instant,
    checkpointed: Instant,
}

impl<'a> Run<'a> {
    fn begin(args: &'a TrainArgs, setup: &'a Setup, folder: &'a Path, out: &Output) -> Result<Self> {
        let view = View::new(out);
        let notes = view.clone();
        setup.doubts().iter().for_each(|doubt| view.note(&format!("note: {doubt}")));
        let open = |model: &Model, layout: &ParamLayout, config: &TrainConfig| {
            AnyTrainer::open(&args.backend(), model, layout, config, move |text| notes.note(text))
        };
        let training = Training::on(&setup.model, &setup.layout, setup.train_data(), &setup.config, open);
        let mut training = training.map_err(|e| setup.refused(&e))?;
        let path = folder.join(CHECKPOINT);
        if args.resume {
            let (n_weights, n_buffers) = (setup.layout.n_weights(), setup.layout.n_buffers());
            let checkpoint = Checkpoint::read(&path, &setup.identity, n_weights, n_buffers).map_err(|e| of_checkpoint(&e))?;
            if checkpoint.position.epoch > setup.config.epochs {
                let text = format!(
                    "{} has done {} epochs, more than --epochs {}; ask for more, or start anew in another folder",
                    path.display(),
                    checkpoint.position.epoch,
                    setup.config.epochs
                );
                return Err(Failure::new(ExitKind::Usage, text).into());
            }
            training.resume(&checkpoint).map_err(|e| setup.refused(&e))?;
        } else {
            // Before anything else is in the folder: a run that is killed early can be resumed as well.
            let checkpoint = training.checkpoint(setup.identity).map_err(|e| setup.refused(&e))?;
            checkpoint.write(&path).map_err(|e| of_checkpoint(&e))?;
        }
        let resumed_at = args.resume.then(|| training.step_count());
        let log = Log::open(folder, view, resumed_at, training.steps(), setup.config.epochs)?;
        log.say(&setup.describe(training.steps()));
        if args.resume {
            log.say(&format!("going on after step {} of {}", training.step_count(), training.steps()));
        }
        Ok(Self {
            args,
            setup,
            folder,
            training,
            log,
            began: Instant::now(),
            checkpointed: Instant::now(),
        })
    }

    fn run_until(mut self, stop: &AtomicBool) -> Result<ExitKind> {
        let every = Duration::from_secs(self.args.checkpoint_every);
        loop {
            let stepped = match self.training.step() {
                Ok(Some(stepped)) => stepped,
                Ok(None) => break,
                Err(error) => return Err(self.failed(&error)),
            };
            self.report(&stepped)?;
            let interrupted = stop.load(Ordering::Relaxed) && stepped.step < stepped.steps;
            if interrupted || self.checkpointed.elapsed() >= every {
                self.checkpoint()?;
            }
            if interrupted {
                self.log.close();
                let text = format!(
                    "interrupted after step {} of {}; go on with the same command and --resume --out {}",
                    stepped.step,
                    stepped.steps,
                    self.folder.display()
                );
                return Err(Failure::new(ExitKind::Interrupted, text).into());
            }
        }
        self.checkpoint()?;
        self.finish()
    }

    /// Lines of the log that are due after a step.
    fn report(&mut self, stepped: &Stepped) -> Result<()> {
        if self.log.wants_loss(stepped)
            && let Some(loss) = self.training.take_recent_loss()
        {
            self.log.step(stepped, loss)?;
        }
        let Some(loss) = stepped.epoch_loss else {
            self.log.advance(stepped);
            return Ok(());
        };
        let pause = Instant::now();
        let scores = match &self.setup.validation() {
            None => None,
            Some(data) => {
                let weights = self.training.weights().map_err(|e| self.setup.refused(&e))?;
                let model = self.training.model_with(&weights).map_err(|e| self.setup.refused(&e))?;
                let found = evaluate_on(&model, *data, &self.setup.config.heads, &self.setup.metrics);
                Some(found.map_err(|e| self.setup.refused_validation(&e))?)
            }
        };
        self.log.epoch(stepped, loss, scores.as_ref(), pause.elapsed())
    }

    fn checkpoint(&mut self) -> Result<()> {
        self.log.sync()?;
        match self.training.checkpoint(self.setup.identity) {
            Ok(checkpoint) => checkpoint.write(&self.folder.join(CHECKPOINT)).map_err(|e| of_checkpoint(&e))?,
            Err(error) => return Err(self.failed(&error)),
        }
        self.checkpointed = Instant::now();
        Ok(())
    }

    /// Keeps the last good weights and says which batch it was.
    fn failed(&mut self, error: &TrainError) -> anyhow::Error {
        self.log.close();
        let (epoch, rows) = self.training.next_rows();
        let place = format!(
            "epoch {epoch}, step {}, {}",
            self.training.step_count() + 1,
            self.setup.name_rows(rows, NAMED_ROWS)
        );
        let kind = match error {
            TrainError::Diverged { .. } | TrainError::Device { .. } => ExitKind::Failure,
            _ => ExitKind::BadData,
        };
        let kept = self
            .training
            .last_good()
            .map_err(anyhow::Error::from)
            .and_then(|good| Ok((good.step, self.save_model(&good)?)));
        let kept = match kept {
            Ok((step, _)) => format!(
                "the last good weights, those after step {step}, are in {}",
                self.folder.join("model.onnx").display()
            ),
            Err(error) => format!("the last good weights could not be kept: {error:#}"),
        };
        Failure::new(kind, format!("{error} ({place}); {kept}")).into()
    }

    /// Writes `model.onnx`; returns its SHA-256.
    fn save_model(&self, good: &GoodWeights) -> Result<String> {
        let model = self.setup.finished(self.training.model_with(good)?)?;
        write_whole(&self.folder.join("model.onnx"), model.as_bytes())?;
        Ok(hex::encode(sha256(model.as_bytes())))
    }

    fn finish(mut self) -> Result<ExitKind> {
        let good = self.training.weights().map_err(|e| self.setup.refused(&e))?;
        let digest = self.save_model(&good)?;
        let plots = plots::draw(self.folder, &self.setup.name, self.training.steps(), self.setup.config.epochs)?;
        self.log.finish(&log::End {
            folder: self.folder,
            model_sha256: &digest,
            train_rows: self.setup.train_data().len(),
            validation_rows: self.setup.validation().map_or(0, aimass_learning::data::Source::len),
            seconds: self.began.elapsed().as_secs_f64(),
            steps: self.training.step_count(),
            plots: &plots,
        })?;
        Ok(ExitKind::Ok)
    }
}

fn of_checkpoint(error: &CheckpointError) -> Failure {
    let kind = match error {
        CheckpointError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            let text = format!("{error}: there is no checkpoint to go on from; start without --resume");
            return Failure::new(ExitKind::Usage, text);
        }
        CheckpointError::Io { .. } => ExitKind::Failure,
        _ => ExitKind::BadData,
    };
    Failure::new(kind, error.to_string())
}

/// The file is what it was or whole, at any time.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().with_context(|| format!("can't write {}", path.display()))
}
