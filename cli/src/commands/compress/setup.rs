//! What `aimass compress` reads before it begins.

use std::path::Path;

use aimass_compress::{Channels, Data, Distil, Options, Prune, Quantize, Storage, Tune};
use aimass_crypto::hash::sha256;
use aimass_edge_agent::exit::ExitKind;
use aimass_learning::{Schedule, TrainConfig};
use aimass_onnx::Model;
use aimass_protocol::job::JobFile;
use aimass_protocol::limits::MAX_JOB_FILE_BYTES;
use aimass_recipe::{Recipe, Setting, train_config};
use aimass_shrink::prune::Sparsity;
use aimass_shrink::quantize::{Activations, Method};
use anyhow::Result;

use super::{ActivationKind, Calibration, CompressArgs, QuantizeKind, StoreKind};
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
    let rows = data.train.as_ref().map_or(0, |data| data.len());
    let tune = (rows > 0 && args.tune.epochs > 0).then(|| Tune {
        config: config(args, &file, rows),
    });
    let options = options(args, tune)?;
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
    if file.analyze.is_some() {
        return Err(bad(format!(
            "{}: the job counts and trains no model; name a job with [train]",
            path.display()
        ))
        .into());
    }
    Ok(file)
}

fn config(args: &CompressArgs, file: &JobFile, rows: usize) -> TrainConfig {
    let seed = args.tune.seed.unwrap_or(file.job.seed);
    let text = format!("aimass/compress/{seed}");
    let mut config = train_config(file, Setting::Central, rows, sha256(text.as_bytes()));
    config.epochs = args.tune.epochs;
    config.optimizer.lr = args.tune.lr.unwrap_or(config.optimizer.lr / 10.0);
    config.optimizer.schedule = Schedule::Constant;
    config.batch = args.tune.batch.unwrap_or(config.batch);
    config
}

fn options(args: &CompressArgs, tune: Option<Tune>) -> Result<Options> {
    let steps = &args.steps;
    let exclude = || steps.keep.clone();
    let needs_data = |what: &str| Failure::new(ExitKind::Usage, format!("{what} needs rows to look at: name --data"));
    let has_data = !args.data.data.is_empty();
    let distil = (!steps.teacher.is_empty()).then(|| -> Result<Distil> {
        Ok(Distil {
            teachers: steps.teacher.iter().map(|path| read_model(path)).collect::<Result<_>>()?,
            temperature: steps.temperature,
            alpha: steps.alpha,
            epochs: args.tune.epochs,
        })
    });
    let share = |option: &str, share: Option<f64>| -> Result<Option<Sparsity>> {
        let share = share.map(Sparsity::new).transpose();
        Ok(share.map_err(|e| Failure::new(ExitKind::Usage, format!("{option}: {e}")))?)
    };
    let quantize = match steps.quantize {
        None => None,
        Some(QuantizeKind::Static | QuantizeKind::Aware) if !has_data => return Err(needs_data("--quantize static").into()),
        Some(kind @ (QuantizeKind::Static | QuantizeKind::Aware)) => Some(Quantize::Static {
            method: method(steps.calibration),
            activations: match steps.activations {
                ActivationKind::U8 => Activations::U8,
                ActivationKind::I8 => Activations::I8,
            },
            aware: kind == QuantizeKind::Aware,
            rows: usize::try_from(steps.calibration_rows).unwrap_or(usize::MAX),
            exclude: exclude(),
        }),
        Some(QuantizeKind::Weights) => Some(Quantize::Weights { exclude: exclude() }),
        Some(QuantizeKind::Dynamic) => Some(Quantize::Dynamic { exclude: exclude() }),
        Some(QuantizeKind::FourBit) => Some(Quantize::Blocks {
            block: steps.block,
            exclude: exclude(),
        }),
    };
    let store = match steps.store {
        Some(StoreKind::Dense) => Storage::Dense,
        Some(StoreKind::Standard) => Storage::Standard,
        Some(StoreKind::Compact) => Storage::Compact,
        None if steps.prune.is_some() => Storage::Compact,
        None => Storage::Dense,
    };
    Ok(Options {
        distil: distil.transpose()?,
        channels: share("--channels", steps.channels)?.map(|fraction| Channels {
            fraction,
            exclude: exclude(),
        }),
        prune: share("--prune", steps.prune)?.map(|sparsity| Prune {
            sparsity,
            exclude: exclude(),
        }),
        quantize,
        store,
        tune,
    })
}

fn method(calibration: Calibration) -> Method {
    match calibration {
        Calibration::Minmax => Method::MinMax,
        Calibration::Percentile => Method::Percentile(99.99),
        Calibration::Mse => Method::Mse,
        Calibration::Entropy => Method::Entropy,
    }
}
