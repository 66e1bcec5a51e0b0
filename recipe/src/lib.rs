//! What a job file asks of the trainer: the one place where `[model]`, `[data]` and `[train]` become layout, data, settings and [`seeds`].
//!
//! The owner's command [`adapt`]s the model before it is submitted, so that aggregator and agents read the same bytes; all three then
//! read a [`Recipe`] from them.

pub mod fusion;
pub mod held_back;
pub mod seeds;
pub mod taught;

use aimass_learning::data::Wanted;
use aimass_learning::metrics::UnknownMetric;
use aimass_learning::training::inputs_needed;
use aimass_learning::{
    BatchNorm, BinaryCrossEntropy, ClassAxis, Contrastive, CrossEntropy, Head, Huber, Loss, Metric, OptimizerConfig, Pairwise, Rule,
    Schedule, TrainConfig, TrainError,
};
use aimass_onnx::lora::{self, LoraError};
use aimass_onnx::{LayoutError, Model, ParamLayout, TrainableRules};
use aimass_protocol::job::{
    BatchNormName, ClassAxisName, Fall, HeadSection, JobFile, LossSection, OptimizerSection, ScheduleSection, TrainSection,
};

/// Where a job is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// On an agent, for a round: an update holds weights alone, so running statistics stay unless the job says otherwise.
    Round,
    /// In one place, on all of the data.
    Central,
}

/// Why a job and a model do not go together. Each has the key of the job file that is to blame, see [`RecipeError::field`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// Adapters.
    #[error(transparent)]
    Lora(#[from] LoraError),
    /// Adapters were asked for, and the model has none.
    #[error("the model has no low-rank adapters")]
    NoAdapters,
    /// Globs.
    #[error(transparent)]
    Trainable(#[from] LayoutError),
    /// An analytics job.
    #[error("the job counts and trains nothing")]
    Untrained,
    /// The graph, or the outputs that are learnt.
    #[error(transparent)]
    Graph(#[from] TrainError),
    /// The teacher of `[train.distil]`.
    #[error("the teacher can't teach this model: {0}")]
    Teacher(TrainError),
    /// The student of `[compress.distil]`.
    #[error("the student can't learn from this model: {0}")]
    Student(TrainError),
}

impl RecipeError {
    /// The key of the job file.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Lora(_) | Self::NoAdapters => "train.lora",
            Self::Untrained => "job.kind",
            Self::Trainable(_) => "model.trainable",
            Self::Graph(_) => "model.path",
            Self::Teacher(_) => "train.distil.teacher",
            Self::Student(_) => "compress.distil.student",
        }
    }
}

/// What a job trains of a model, and what it reads for that.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Which initializers train.
    pub layout: ParamLayout,
    /// What is learnt.
    pub heads: Vec<Head>,
    /// The columns or arrays of the data.
    pub wanted: Wanted,
}

impl Recipe {
    /// For a model that [`adapt`] has seen.
    ///
    /// # Errors
    /// [`RecipeError`].
    pub fn of(model: &Model, file: &JobFile) -> Result<Self, RecipeError> {
        let rules = rules(model, file)?;
        let layout = model.layout(&rules)?;
        let (heads, wanted) = reading(model, file)?;
        Ok(Self { layout, heads, wanted })
    }
}

/// What is compared with what a model computes, and which columns or arrays of the data are read for that: of any job with a model, whether it trains
/// or not.
///
/// # Errors
/// [`RecipeError::Graph`].
pub fn reading(model: &Model, file: &JobFile) -> Result<(Vec<Head>, Wanted), RecipeError> {
    let heads = heads(&file.train);
    let wanted = Wanted {
        inputs: file.data.inputs.clone(),
        targets: file.train.heads.iter().map(|head| target(head, file)).collect(),
        model_inputs: inputs_needed(model, &heads)?,
        labels: None,
    };
    Ok((heads, wanted))
}

/// Which of the model's initializers train, as the job says it.
///
/// # Errors
/// [`RecipeError`].
pub fn rules(model: &Model, file: &JobFile) -> Result<TrainableRules, RecipeError> {
    Ok(match &file.train.lora {
        _ if !file.trains() => return Err(RecipeError::Untrained),
        None => TrainableRules::new(&file.model.trainable)?,
        Some(_) if !lora::is_adapted(model) => return Err(RecipeError::NoAdapters),
        Some(_) => {
            let own = lora::TRAINABLE.iter().map(|&glob| glob.to_owned());
            let globs: Vec<String> = own.chain(file.model.trainable.iter().cloned()).collect();
            TrainableRules::new(&globs)?
        }
    })
}

fn target(head: &HeadSection, file: &JobFile) -> String {
    head.target.clone().unwrap_or_else(|| file.data.target.clone())
}

/// The model that is trained: as it is, or with the job's adapters, which then train alone but for what `model.trainable` adds.
/// [`lora::merge`] takes them out again.
///
/// # Errors
/// [`RecipeError::Lora`].
pub fn adapt(model: &Model, file: &JobFile) -> Result<Model, RecipeError> {
    let Some(section) = &file.train.lora else {
        return Ok(model.clone());
    };
    let adapters = lora::Adapters {
        targets: section.targets.clone(),
        rank: usize::try_from(section.rank).unwrap_or(usize::MAX),
        alpha: section.alpha,
        seed: file.job.seed,
    };
    Ok(lora::add(model, &adapters)?)
}

/// What is learnt.
pub fn heads(train: &TrainSection) -> Vec<Head> {
    train.heads.iter().map(head).collect()
}

/// One of its parts.
pub fn head(section: &HeadSection) -> Head {
    Head {
        output: section.output.clone(),
        loss: loss(&section.loss),
        weight: section.weight,
    }
}

fn loss(section: &LossSection) -> Loss {
    match section {
        LossSection::CrossEntropy {
            label_smoothing,
            class_weights,
            ignore_index,
            class_axis,
        } => Loss::CrossEntropy(CrossEntropy {
            label_smoothing: *label_smoothing,
            class_weights: class_weights.clone(),
            ignore_index: *ignore_index,
            class_axis: match class_axis {
                ClassAxisName::Last => ClassAxis::Last,
                ClassAxisName::Second => ClassAxis::Second,
            },
        }),
        LossSection::BinaryCrossEntropy { pos_weight } => Loss::BinaryCrossEntropy(BinaryCrossEntropy {
            pos_weight: pos_weight.clone(),
        }),
        LossSection::Mse => Loss::Mse,
        LossSection::Mae => Loss::Mae,
        LossSection::Huber { delta } => Loss::Huber(Huber { delta: *delta }),
        LossSection::Contrastive { temperature } => Loss::Contrastive(Contrastive { temperature: *temperature }),
        LossSection::Pairwise { margin } => Loss::Pairwise(Pairwise { margin: *margin }),
    }
}

/// What is measured besides the loss.
///
/// # Errors
/// A name that is no metric; those of a checked job file are.
pub fn metrics(train: &TrainSection) -> Result<Vec<Metric>, UnknownMetric> {
    train.metrics.iter().map(|name| name.parse()).collect()
}

/// How to train on `examples` rows. `seed` is of their order and of dropout. In rounds a teacher counts where the job has one: such rows are [`taught::taught`].
pub fn train_config(file: &JobFile, setting: Setting, examples: usize, seed: [u8; 32]) -> TrainConfig {
    let train = &file.train;
    let batch = usize::try_from(train.batch).unwrap_or(usize::MAX);
    let steps = (examples.div_ceil(batch.max(1)) as u64).saturating_mul(train.epochs.into());
    let batch_norm = match (train.batch_norm, setting) {
        (Some(BatchNormName::Batch), _) | (None, Setting::Central) => BatchNorm::Batch,
        (Some(BatchNormName::Stored), _) | (None, Setting::Round) => BatchNorm::Stored,
    };
    TrainConfig {
        heads: match setting {
            Setting::Round => taught::taught_heads(file),
            Setting::Central => heads(train),
        },
        optimizer: OptimizerConfig {
            rule: rule(train.optimizer),
            lr: train.lr,
            weight_decay: train.weight_decay,
            proximal: 0.0,
            clip_norm: train.clip_norm,
            schedule: schedule(train.schedule, steps),
        },
        batch_norm,
        epochs: train.epochs,
        batch,
        seed,
    }
}

fn rule(section: OptimizerSection) -> Rule {
    match section {
        OptimizerSection::Sgd => Rule::Sgd {
            momentum: 0.0,
            nesterov: false,
        },
        OptimizerSection::Momentum { momentum } => Rule::Sgd { momentum, nesterov: false },
        OptimizerSection::Nesterov { momentum } => Rule::Sgd { momentum, nesterov: true },
        OptimizerSection::Adam { beta1, beta2, epsilon } => Rule::Adam {
            beta1,
            beta2,
            epsilon,
            decoupled: false,
        },
        OptimizerSection::AdamW { beta1, beta2, epsilon } => Rule::Adam {
            beta1,
            beta2,
            epsilon,
            decoupled: true,
        },
        OptimizerSection::RmsProp { alpha, epsilon, momentum } => Rule::RmsProp { alpha, epsilon, momentum },
    }
}

/// `steps` are those of the whole training.
fn schedule(section: ScheduleSection, steps: u64) -> Schedule {
    // A training that ends within the rise falls for a step that it does not reach.
    let total = |fall: Fall| fall.steps.unwrap_or(steps).max(fall.warmup.saturating_add(1));
    match section {
        ScheduleSection::Constant => Schedule::Constant,
        ScheduleSection::Step { every, gamma } => Schedule::Step { every, gamma },
        ScheduleSection::Cosine(fall) => Schedule::Cosine {
            warmup: fall.warmup,
            steps: total(fall),
            floor: fall.floor,
        },
        ScheduleSection::Linear(fall) => Schedule::Linear {
            warmup: fall.warmup,
            steps: total(fall),
            floor: fall.floor,
        },
    }
}

#[cfg(test)]
mod tests;
