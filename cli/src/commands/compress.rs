//! `aimass compress`: a trained model made smaller, and measured before and after.

mod setup;
mod table;

use std::path::{Path, PathBuf};
use std::time::Instant;

use aimass_compress::{CompressError, Event};
use aimass_edge_agent::exit::ExitKind;
use anyhow::{Context, Result};
use clap::{Args as ClapArgs, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::commands::model::measure::in_own_process;
use crate::output::{Failure, Output};

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Steps run in this order, whatever the order of the options: --teacher, --channels, --prune, --quantize, --store. Each that changes \
    what the model computes is followed by --epochs passes of training on --data (without --data, or with --epochs 0, by none).\n\n\
    Data: as `aimass train` reads it. The loss, the optimizer and the columns are a job's (--job), or are given here (--loss, --lr, --target, ...).\n\n\
    What is written is what was measured: the file is run by tract, as devices run it, and by the trainer, and if the two differ by more than the \
    tolerance nothing is written. Accuracy is measured on --test; without it on --data, and the table says so.\n\n\
    Examples:\n  \
    aimass compress model.onnx -o small.onnx --quantize static --data train.npz --test test.npz\n  \
    aimass compress model.onnx -o small.onnx --quantize static --ranges report.json\n  \
    aimass compress model.onnx -o small.onnx --prune 0.9 --quantize aware --store compact --data train.npz --epochs 3\n  \
    aimass compress small.onnx -o student.onnx --teacher large.onnx --data public.npz --epochs 10\n  \
    aimass compress model.onnx -o small.onnx --quantize 4bit"
)]
pub(crate) struct CompressArgs {
    /// The model: what becomes small; with --teacher the student.
    pub(super) model: PathBuf,
    /// The file that is written.
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: PathBuf,
    #[command(flatten)]
    pub(super) steps: Steps,
    #[command(flatten)]
    pub(super) data: DataArgs,
    #[command(flatten)]
    pub(super) tune: TuneArgs,
    /// End with an error, and write nothing, when accuracy falls by more than this many points (hundredths of accuracy or of explained variance; where there is neither, percent of the loss).
    #[arg(long, value_name = "POINTS", value_parser = points)]
    pub(super) max_drop: Option<f64>,
    /// Do not measure latency and memory.
    #[arg(long)]
    pub(super) without_cost: bool,
}

#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "What is done")]
pub(super) struct Steps {
    /// A larger model that is learnt from; several are averaged.
    #[arg(long, value_name = "FILE", requires = "data")]
    pub(super) teacher: Vec<PathBuf>,
    /// What the logits of teacher and student are divided by.
    #[arg(long, value_name = "T", default_value_t = 4.0, requires = "teacher")]
    pub(super) temperature: f32,
    /// Share of the teacher in the loss, 0 to 1; the rest are the data's own targets.
    #[arg(long, value_name = "SHARE", default_value_t = 0.7, requires = "teacher")]
    pub(super) alpha: f32,
    /// Share of the channels that go, of each group of layers that share them: above 0 and below 1.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub(super) channels: Option<f64>,
    /// Share of the weights that become zero: above 0 and below 1.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub(super) prune: Option<f64>,
    /// Integers for floats.
    #[arg(long, value_enum, value_name = "KIND")]
    pub(super) quantize: Option<QuantizeKind>,
    /// Type of activations of --quantize static and aware.
    #[arg(long, value_enum, default_value_t = ActivationKind::U8)]
    pub(super) activations: ActivationKind,
    /// How ranges of activations follow from what was seen.
    #[arg(long, value_enum, default_value_t = Calibration::Minmax)]
    pub(super) calibration: Calibration,
    /// Rows of --data that are looked at for ranges.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) calibration_rows: u32,
    /// Ranges for --quantize static from here instead of --data: the report of a calibration job over this model (`aimass job pull`).
    #[arg(long, value_name = "FILE", requires = "quantize", conflicts_with_all = ["teacher", "channels", "prune"])]
    pub(super) ranges: Option<PathBuf>,
    /// Weights a block of --quantize 4bit.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = block)]
    pub(super) block: u32,
    /// Glob over names of weights (and, for --quantize, of nodes) that stay as they are.
    #[arg(long, value_name = "GLOB")]
    pub(super) keep: Vec<String>,
    /// How zeros are stored. Default: compact after --prune, else dense.
    #[arg(long, value_enum, value_name = "FORM")]
    pub(super) store: Option<StoreKind>,
}

#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Data")]
pub(super) struct DataArgs {
    /// Data to train and calibrate on; several files of one kind are taken as one.
    #[arg(long, value_name = "FILE")]
    pub(super) data: Vec<PathBuf>,
    /// Labels for IDX images, or targets for NPY. Once for each --data.
    #[arg(long, value_name = "FILE", requires = "data")]
    pub(super) labels: Vec<PathBuf>,
    /// Data to measure on.
    #[arg(long, value_name = "FILE")]
    pub(super) test: Option<PathBuf>,
    /// The same for --test.
    #[arg(long, value_name = "FILE", requires = "test")]
    pub(super) test_labels: Option<PathBuf>,
    /// A job file, whose [data] and [train] hold.
    #[arg(long, value_name = "FILE")]
    pub(super) job: Option<PathBuf>,
    /// Columns or arrays that feed the model, in order; default: all but the target.
    #[arg(long, value_name = "NAME", value_delimiter = ',', conflicts_with = "job")]
    pub(super) inputs: Vec<String>,
    /// The column or array to predict.
    #[arg(long, value_name = "NAME", default_value = "y", conflicts_with = "job")]
    pub(super) target: String,
    /// The loss: cross_entropy, binary_cross_entropy, mse, mae or huber.
    #[arg(long, value_name = "NAME", default_value = "cross_entropy", conflicts_with = "job")]
    pub(super) loss: String,
}

#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Training in between")]
pub(super) struct TuneArgs {
    /// Passes over the data after each step.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) epochs: u32,
    /// Learning rate; default: a tenth of the job's, or 0.001 (of adam).
    #[arg(long, value_name = "RATE")]
    pub(super) lr: Option<f32>,
    /// Examples a step; default: the job's, or 32.
    #[arg(long, value_name = "N")]
    pub(super) batch: Option<u32>,
    /// Seed of the order of rows; default: the job's.
    #[arg(long, value_name = "N")]
    pub(super) seed: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum QuantizeKind {
    /// Weights of 8 bits, a scale a channel; activations stay floats. Needs no data, and tract is as fast as before.
    Weights,
    /// 8 bits, weights by channel, activations by ranges seen in --data, or by --ranges.
    Static,
    /// The same, trained with the rounding in it.
    Aware,
    /// 8 bits, activations by their own range while they are computed; needs no data.
    Dynamic,
    /// Weights of 4 bits in blocks; needs no data.
    #[value(name = "4bit")]
    FourBit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ActivationKind {
    /// Unsigned.
    U8,
    /// Signed.
    I8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Calibration {
    /// From the smallest to the largest value.
    Minmax,
    /// Without the outermost 0.01 %.
    Percentile,
    /// The range of least squared error.
    Mse,
    /// The range that loses least information.
    Entropy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum StoreKind {
    /// As any value.
    Dense,
    /// Sparse, by functions of standard operators: any runtime reads it.
    Standard,
    /// Sparse and smallest; this project's programs read it, `aimass model expand` writes it out.
    Compact,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|s| *s > 0.0 && *s < 1.0);
    share.ok_or_else(|| "use a number above 0 and below 1, for instance 0.9: of a share of 1 nothing would be left".to_owned())
}

fn points(text: &str) -> Result<f64, String> {
    let points = text.parse().ok().filter(|p: &f64| *p >= 0.0 && p.is_finite());
    points.ok_or_else(|| "use a number of points, 0 or more, for instance 0.5".to_owned())
}

fn block(text: &str) -> Result<u32, String> {
    let block = text.parse().ok().filter(|b| [16, 32, 64, 128].contains(b));
    block.ok_or_else(|| "use 16, 32, 64 or 128".to_owned())
}

pub(crate) fn run(args: &CompressArgs, out: &Output) -> Result<ExitKind> {
    let began = Instant::now();
    let setup = setup::load(args)?;
    let view = View::new(out);
    let done = aimass_compress::compress(&setup.model, &setup.data, &setup.options, &mut |event| view.show(&event));
    view.bar.finish_and_clear();
    let done = done.map_err(|e| refused(&e))?;
    if let Some(most) = args.max_drop
        && done.drop_points().is_some_and(|lost| lost > most)
    {
        let lost = done.drop_points().unwrap_or_default();
        let text = format!(
            "{lost:.2} points are lost, more than --max-drop {most}: nothing is written; train longer (--epochs), prune less, or leave layers as they are (--keep)"
        );
        return Err(Failure::new(ExitKind::Failure, text).into());
    }
    write_whole(&args.output, done.model.as_bytes())?;
    let costs = if args.without_cost {
        None
    } else {
        Some(table::Costs {
            before: in_own_process(&args.model)?,
            after: in_own_process(&args.output)?,
        })
    };
    let summary = table::summary(&done, &args.output, began.elapsed().as_secs_f64(), costs.as_ref());
    out.result(&summary, || table::text(&done, &args.output, setup.measured_on, costs.as_ref()));
    Ok(ExitKind::Ok)
}

fn refused(error: &CompressError) -> Failure {
    let kind = if error.is_input() { ExitKind::BadData } else { ExitKind::Failure };
    Failure::new(kind, error.to_string())
}

/// The file is what it was or whole, at any time.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    aimass_lab::report::write_whole(path, bytes, true).with_context(|| format!("can't write {}", path.display()))
}

/// What a person sees meanwhile.
struct View {
    json: bool,
    bar: ProgressBar,
}

impl View {
    fn new(out: &Output) -> Self {
        let bar = ProgressBar::new(0);
        bar.set_draw_target(if out.is_json() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr_with_hz(5)
        });
        // The template is fixed.
        if let Ok(style) = ProgressStyle::with_template("{msg:<24} {wide_bar} {pos}/{len} steps, {eta} left") {
            bar.set_style(style);
        }
        Self { json: out.is_json(), bar }
    }

    fn show(&self, event: &Event<'_>) {
        match event {
            Event::Began { what, steps } => {
                self.bar.set_length(*steps);
                self.bar.set_position(0);
                self.bar.set_message((*what).to_owned());
                if self.bar.is_hidden() && !self.json {
                    eprintln!("{what} ...");
                }
            }
            Event::Stepped => self.bar.inc(1),
            Event::Ended(step) => {
                let line = table::step_line(step);
                if self.bar.is_hidden() {
                    eprintln!("{line}");
                } else {
                    self.bar.println(line);
                }
            }
        }
    }
}
