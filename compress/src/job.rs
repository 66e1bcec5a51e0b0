//! What a job file asks for: the one place where `[compress]` and `[train]` become [`Options`] and [`Data`].

use std::sync::Arc;

use aimass_analytics::calibration::CalibrationReport;
use aimass_crypto::hash::sha256;
use aimass_learning::Schedule;
use aimass_learning::data::{Source, Subset, Wanted, split};
use aimass_onnx::{Model, TrainableRules, lora};
use aimass_protocol::job::{ActivationsName, CalibrationName, CompressSection, JobFile, QuantizeSection, StoreName, StudentSection};
use aimass_recipe::{Recipe, Setting, reading, train_config};
use aimass_shrink::prune::Sparsity;
use aimass_shrink::quantize::{Activations, Method};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;

use crate::CompressError;
use crate::measure::Measured;
use crate::options::{Channels, Distil, Options, Prune, Quantize, Storage, Tune};
use crate::pipeline::{Compressed, Data, Event, compress};
use crate::ranges::observed;

/// Fewest rows of a job's data: one to look at and one to measure on.
pub const FEWEST_ROWS: usize = 2;

impl Options {
    /// What `section` asks for, with the loss, optimizer, batch and seed of `file`, and `rows` to train on. Without rows nothing is trained.
    ///
    /// # Errors
    /// [`CompressError::Prune`] for a share that is none; a checked job file has no such.
    pub fn of(section: &CompressSection, file: &JobFile, rows: usize) -> Result<Self, CompressError> {
        let share = |share: Option<f64>| share.map(Sparsity::new).transpose();
        let exclude = || section.keep.clone();
        Ok(Self {
            distil: None,
            channels: share(section.channels)?.map(|fraction| Channels {
                fraction,
                exclude: exclude(),
            }),
            prune: share(section.prune)?.map(|sparsity| Prune {
                sparsity,
                exclude: exclude(),
            }),
            quantize: section.quantize.map(|how| quantize(how, exclude())),
            store: match section.store {
                StoreName::Dense => Storage::Dense,
                StoreName::Standard => Storage::Standard,
                StoreName::Compact => Storage::Compact,
            },
            tune: (rows > 0 && section.epochs > 0).then(|| tune(section, file, rows)),
        })
    }
}

fn quantize(how: QuantizeSection, exclude: Vec<String>) -> Quantize {
    match how {
        QuantizeSection::Static {
            aware,
            activations,
            calibration,
            rows,
        } => Quantize::Static {
            method: match calibration {
                CalibrationName::MinMax => Method::MinMax,
                CalibrationName::Percentile => Method::Percentile(99.99),
                CalibrationName::Mse => Method::Mse,
                CalibrationName::Entropy => Method::Entropy,
            },
            activations: match activations {
                ActivationsName::U8 => Activations::U8,
                ActivationsName::I8 => Activations::I8,
            },
            aware,
            rows: usize::try_from(rows).unwrap_or(usize::MAX),
            exclude,
        },
        QuantizeSection::Weights => Quantize::Weights { exclude },
        QuantizeSection::Dynamic => Quantize::Dynamic { exclude },
        QuantizeSection::FourBit { block } => Quantize::Blocks {
            block: usize::try_from(block).unwrap_or(usize::MAX),
            exclude,
        },
    }
}

/// What is taught to a student, and how: by the job's optimizer and rate.
fn distil(section: &StudentSection, teacher: Model, file: &JobFile, rows: usize) -> Distil {
    let text = format!("aimass/compress/distil/{}", file.job.seed);
    let mut config = train_config(file, Setting::Central, rows, sha256(text.as_bytes()));
    config.optimizer.lr = section.lr.unwrap_or(config.optimizer.lr);
    config.optimizer.schedule = Schedule::Constant;
    Distil {
        teachers: vec![teacher],
        temperature: section.temperature,
        alpha: section.alpha,
        epochs: section.epochs,
        tune: Some(Tune { config }),
    }
}

/// A tenth of the job's rate where nothing is said: what was learnt is only touched up.
fn tune(section: &CompressSection, file: &JobFile, rows: usize) -> Tune {
    let text = format!("aimass/compress/{}", file.job.seed);
    let mut config = train_config(file, Setting::Central, rows, sha256(text.as_bytes()));
    config.epochs = section.epochs;
    config.optimizer.lr = section.lr.unwrap_or(config.optimizer.lr / 10.0);
    config.optimizer.schedule = Schedule::Constant;
    Tune { config }
}

/// Does to `model`, the last of a job, what the job's `[compress]` asks for. Adapters are merged into the weights first. `open` reads the job's public data
/// (`[evaluate] data`), if it has some: a half of its rows, by the job's seed, is looked at and trained on, and the other half is measured on. `student` is
/// the model of `[compress.distil]`, if the job has it: it learns from `model`, and what follows is done to it; all of its weights train.
///
/// # Errors
/// [`CompressError`]; [`CompressError::Unasked`] for a job without the section, [`CompressError::Drop`] where more than `max_drop` was lost.
pub fn compress_job(
    model: &Model,
    file: &JobFile,
    student: Option<Model>,
    open: impl FnOnce(&Wanted) -> Result<Option<Arc<dyn Source>>, CompressError>,
    show: &mut dyn FnMut(Event<'_>),
) -> Result<Compressed, CompressError> {
    let section = file.compress.as_ref().ok_or(CompressError::Unasked)?;
    let (model, file) = merged(model, file)?;
    let recipe = Recipe::of(&model, &file)?;
    let data = match open(&recipe.wanted)? {
        None => Data::none(),
        Some(rows) => halves(rows, &recipe, &model, &file)?,
    };
    let rows = data.train.as_ref().map_or(0, |rows| rows.len());
    let options = Options::of(section, &file, rows)?;
    let done = match (&section.distil, student) {
        (None, _) => compress(&model, &data, &options, show)?,
        (Some(_), None) => return Err(CompressError::NoStudent),
        (Some(how), Some(student)) => taught(model, &student, how, &file, data, options, show)?,
    };
    within(section, done)
}

/// Does to the model of a calibration job what its `[compress]` asks for, with the ranges of its last report. All of the public data, if there is some, is
/// measured on.
///
/// # Errors
/// As [`compress_job`]; [`CompressError::Ranges`] for the report of another model.
pub fn compress_calibrated(
    model: &Model,
    file: &JobFile,
    report: &CalibrationReport,
    open: impl FnOnce(&Wanted) -> Result<Option<Arc<dyn Source>>, CompressError>,
    show: &mut dyn FnMut(Event<'_>),
) -> Result<Compressed, CompressError> {
    let section = file.compress.as_ref().ok_or(CompressError::Unasked)?;
    let (heads, wanted) = reading(model, file)?;
    let data = Data {
        test: open(&wanted)?,
        ranges: Some(Arc::new(observed(report)?)),
        heads,
        ..Data::none()
    };
    within(section, compress(model, &data, &Options::of(section, file, 0)?, show)?)
}

/// What was made, unless too much was lost.
fn within(section: &CompressSection, done: Compressed) -> Result<Compressed, CompressError> {
    match (section.max_drop, done.drop_points()) {
        (Some(allowed), Some(lost)) if lost > allowed => Err(CompressError::Drop { lost, allowed }),
        _ => Ok(done),
    }
}

/// What is compared is what the job made with what takes its place, not a student that knows nothing yet.
fn taught(
    model: Model,
    student: &Model,
    how: &StudentSection,
    file: &JobFile,
    data: Data,
    options: Options,
    show: &mut dyn FnMut(Event<'_>),
) -> Result<Compressed, CompressError> {
    let before = Measured::of(&model, &data)?;
    let rows = data.train.as_ref().map_or(0, |rows| rows.len());
    let options = Options {
        distil: Some(distil(how, model, file, rows)),
        ..options
    };
    let data = Data {
        trainable: TrainableRules::default(),
        ..data
    };
    let done = compress(student, &data, &options, show)?;
    Ok(Compressed { before, ..done })
}

/// Without adapters: what trains in between are weights.
pub(crate) fn merged(model: &Model, file: &JobFile) -> Result<(Model, JobFile), CompressError> {
    let mut file = file.clone();
    file.train.lora = None;
    let model = if lora::is_adapted(model) {
        lora::merge(model)?
    } else {
        model.clone()
    };
    Ok((model, file))
}

fn halves(rows: Arc<dyn Source>, recipe: &Recipe, model: &Model, file: &JobFile) -> Result<Data, CompressError> {
    if rows.len() < FEWEST_ROWS {
        return Err(CompressError::FewRows { found: rows.len() });
    }
    let text = format!("aimass/compress/halves/{}", file.job.seed);
    let (train, test) = split(rows.len(), 0.5, &mut ChaCha20Rng::from_seed(sha256(text.as_bytes())));
    let subset = |of: Vec<usize>| Subset::new(Arc::clone(&rows), of).map(|subset| Arc::new(subset) as Arc<dyn Source>);
    Ok(Data {
        train: subset(train),
        test: subset(test),
        ranges: None,
        heads: recipe.heads.clone(),
        metrics: Vec::new(),
        trainable: aimass_recipe::rules(model, file)?,
    })
}
