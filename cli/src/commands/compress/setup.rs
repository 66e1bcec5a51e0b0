//! What `aimass compress` reads before it begins.

use std::path::Path;

use aimass_analytics::calibration::CalibrationReport;
use aimass_compress::{Data, Distil, Options, observed};
use aimass_crypto::hash::sha256;
use aimass_edge_agent::exit::ExitKind;
use aimass_onnx::Model;
use aimass_protocol::job::{ActivationsName, CalibrationName, CompressSection, JobFile, QuantizeSection, StoreName};
use aimass_protocol::limits::{MAX_JOB_FILE_BYTES, MAX_REPORT_BYTES};
use aimass_recipe::Recipe;
use aimass_shrink::quantize::Observed;
use anyhow::Result;

use super::{ActivationKind, Calibration, CompressArgs, QuantizeKind, Steps, StoreKind};
use crate::output::Failure;
use crate::{bounded_file, local_data, model_file};

/// Everything read and checked.
pub(super) struct Setup {
    pub(super) model: Model,
    pub(super) data: Data,
    pub(super) options: Options,
    /// For people: on what accuracy is measured.
    pub(super) measured_on: &'static str,
}

fn bad(text: String) -> Failure {
    Failure::new(ExitKind::BadData, text)
}

fn read_model(path: &Path) -> Result<Model> {
    Ok(model_file::read(path).map_err(|e| bad(format!("{}: {e}", path.display())))?)
}

pub(super) fn load(args: &CompressArgs) -> Result<Setup> {
    let model = read_model(&args.model)?;
    let file = job(args)?;
    let recipe = Recipe::of(&model, &file);
    let wants_data = !args.data.data.is_empty() || args.data.test.is_some();
    let mut data = Data::none();
    let mut measured_on = "no data: nothing but size is compared";
    if wants_data {
        let recipe = recipe.map_err(|e| {
            bad(format!(
                "{}: {e}; correct --job, or --inputs, --target and --loss",
                args.model.display()
            ))
        })?;
        if !args.data.data.is_empty() {
            data.train = Some(std::sync::Arc::new(local_data::all(
                &args.data.data,
                &args.data.labels,
                &recipe.wanted,
            )?));
            measured_on = "the data that it was trained on (no --test)";
        }
        if let Some(test) = &args.data.test {
            data.test = Some(local_data::one(test, args.data.test_labels.as_ref(), &recipe.wanted)?.into());
            measured_on = "--test";
        }
        data.heads = recipe.heads;
        data.metrics = aimass_recipe::metrics(&file.train)?;
        data.trainable = aimass_recipe::rules(&model, &file)?;
    }
    if let Some(path) = &args.steps.ranges {
        data.ranges = Some(std::sync::Arc::new(ranges(path, &model, &args.model)?));
    }
    let rows = data.train.as_ref().map_or(0, |data| data.len());
    let options = options(args, file, rows)?;
    if options.is_empty() {
        let text = "nothing is asked for: name --teacher, --channels, --prune, --quantize or --store";
        return Err(Failure::new(ExitKind::Usage, text).into());
    }
    Ok(Setup {
        model,
        data,
        options,
        measured_on,
    })
}

/// What the agents of a calibration saw of this model.
fn ranges(path: &Path, model: &Model, model_path: &Path) -> Result<Observed> {
    let wrong = |problem: String| bad(format!("{}: {problem}", path.display()));
    let bytes = bounded_file::read(path, usize::try_from(MAX_REPORT_BYTES).unwrap_or(usize::MAX)).map_err(|e| wrong(e.to_string()))?;
    let report = CalibrationReport::parse(&bytes).map_err(|e| wrong(format!("{e}; pull it with `aimass job pull`")))?;
    let digest = hex::encode(sha256(model.as_bytes()));
    if report.model.to_hex() != digest {
        return Err(wrong(format!(
            "these are the ranges of the model {}, and {} is {digest}; calibrate this model, or name that one",
            report.model.to_hex(),
            model_path.display()
        ))
        .into());
    }
    Ok(observed(&report).map_err(|e| wrong(e.to_string()))?)
}

/// The job's settings, or those of the command line as a job has them.
fn job(args: &CompressArgs) -> Result<JobFile> {
    let Some(path) = &args.data.job else {
        let quoted = |text: &str| format!("{text:?}");
        let inputs: Vec<String> = args.data.inputs.iter().map(|name| quoted(name)).collect();
        let text = format!(
            "[job]\nname = \"compress\"\nkind = \"train\"\npurpose = \"compression\"\n[model]\npath = \"model.onnx\"\n[data]\ncontract = \"local\"\ntarget = {}\ninputs = [{}]\n\
             [train]\nlr = 0.01\noptimizer = \"adam\"\nloss = {}\nbatch = 32\n[round]\nrounds = 1\nmin = 3\ntarget = 3\n",
            quoted(&args.data.target),
            inputs.join(", "),
            quoted(&args.data.loss),
        );
        return Ok(JobFile::parse(&text).map_err(|e| {
            Failure::new(
                ExitKind::Usage,
                format!("--inputs, --target or --loss: {}: {}; {}", e.field, e.problem, e.fix),
            )
        })?);
    };
    let text = bounded_file::read_text(path, MAX_JOB_FILE_BYTES).map_err(|e| bad(format!("--job: {e}")))?;
    let file = JobFile::parse(&text).map_err(|e| bad(format!("{}: {e}", path.display())))?;
    if !file.trains() {
        return Err(bad(format!(
            "{}: the job counts and trains no model; name a job with [train]",
            path.display()
        ))
        .into());
    }
    Ok(file)
}

/// The options as the section of a job has them.
fn section(args: &CompressArgs) -> Result<CompressSection> {
    let steps = &args.steps;
    let has_data = !args.data.data.is_empty();
    let quantize = match steps.quantize {
        None => None,
        Some(QuantizeKind::Static) if !has_data && steps.ranges.is_some() => Some(with_ranges(steps, false)),
        Some(QuantizeKind::Static | QuantizeKind::Aware) if !has_data => {
            let text =
                "--quantize static needs rows to look at, and --quantize aware rows to train on: name --data, or for static --ranges";
            return Err(Failure::new(ExitKind::Usage, text).into());
        }
        Some(kind @ (QuantizeKind::Static | QuantizeKind::Aware)) => Some(with_ranges(steps, kind == QuantizeKind::Aware)),
        Some(_) if steps.ranges.is_some() => {
            let text = "--ranges are for --quantize static and aware: the others round no activations by ranges";
            return Err(Failure::new(ExitKind::Usage, text).into());
        }
        Some(QuantizeKind::Weights) => Some(QuantizeSection::Weights),
        Some(QuantizeKind::Dynamic) => Some(QuantizeSection::Dynamic),
        Some(QuantizeKind::FourBit) => Some(QuantizeSection::FourBit { block: steps.block }),
    };
    Ok(CompressSection {
        // What is learnt from is --teacher.
        distil: None,
        channels: steps.channels,
        prune: steps.prune,
        quantize,
        keep: steps.keep.clone(),
        store: match steps.store {
            Some(StoreKind::Dense) => StoreName::Dense,
            Some(StoreKind::Standard) => StoreName::Standard,
            Some(StoreKind::Compact) => StoreName::Compact,
            None => StoreName::default_for(steps.prune),
        },
        epochs: args.tune.epochs,
        lr: args.tune.lr,
        max_drop: args.max_drop,
    })
}

fn with_ranges(steps: &Steps, aware: bool) -> QuantizeSection {
    QuantizeSection::Static {
        aware,
        activations: match steps.activations {
            ActivationKind::U8 => ActivationsName::U8,
            ActivationKind::I8 => ActivationsName::I8,
        },
        calibration: match steps.calibration {
            Calibration::Minmax => CalibrationName::MinMax,
            Calibration::Percentile => CalibrationName::Percentile,
            Calibration::Mse => CalibrationName::Mse,
            Calibration::Entropy => CalibrationName::Entropy,
        },
        rows: steps.calibration_rows,
    }
}

fn options(args: &CompressArgs, mut file: JobFile, rows: usize) -> Result<Options> {
    let (steps, tune) = (&args.steps, &args.tune);
    file.job.seed = tune.seed.unwrap_or(file.job.seed);
    file.train.batch = tune.batch.unwrap_or(file.train.batch);
    let distil = (!steps.teacher.is_empty()).then(|| -> Result<Distil> {
        Ok(Distil {
            teachers: steps.teacher.iter().map(|path| read_model(path)).collect::<Result<_>>()?,
            temperature: steps.temperature,
            alpha: steps.alpha,
            epochs: tune.epochs,
            tune: None,
        })
    });
    let options = Options::of(&section(args)?, &file, rows).map_err(|e| Failure::new(ExitKind::Usage, e.to_string()))?;
    Ok(Options {
        distil: distil.transpose()?,
        ..options
    })
}
