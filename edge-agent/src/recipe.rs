//! What a job file asks of the trainer: the one place where `[train]` becomes a [`TrainConfig`].

use aimass_learning::metrics::UnknownMetric;
use aimass_learning::{
    BatchNorm, BinaryCrossEntropy, ClassAxis, Contrastive, CrossEntropy, Head, Huber, Loss, Metric, OptimizerConfig, Pairwise, Rule,
    Schedule, TrainConfig,
};
use aimass_onnx::lora::{self, LoraError};
use aimass_onnx::{LayoutError, Model, TrainableRules};
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

/// Why a job's model can't be made ready for training.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// Adapters.
    #[error("train.lora: {0}")]
    Lora(#[from] LoraError),
    /// Globs.
    #[error("model.trainable: {0}")]
    Trainable(#[from] LayoutError),
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

/// How to train on `examples` rows. `seed` is of their order and of dropout.
pub fn train_config(file: &JobFile, setting: Setting, examples: usize, seed: [u8; 32]) -> TrainConfig {
    let train = &file.train;
    let batch = usize::try_from(train.batch).unwrap_or(usize::MAX);
    let steps = (examples.div_ceil(batch.max(1)) as u64).saturating_mul(train.epochs.into());
    let batch_norm = match (train.batch_norm, setting) {
        (Some(BatchNormName::Batch), _) | (None, Setting::Central) => BatchNorm::Batch,
        (Some(BatchNormName::Stored), _) | (None, Setting::Round) => BatchNorm::Stored,
    };
    TrainConfig {
        heads: heads(train),
        optimizer: OptimizerConfig {
            rule: rule(train.optimizer),
            lr: train.lr,
            weight_decay: train.weight_decay,
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

/// The model that is trained and which of its parameters train: as it is, or with the job's adapters, which then train alone but for
/// what `model.trainable` adds. [`lora::merge`] takes the adapters out again.
///
/// # Errors
/// [`RecipeError`].
pub fn prepare(model: &Model, file: &JobFile) -> Result<(Model, TrainableRules), RecipeError> {
    let Some(section) = &file.train.lora else {
        return Ok((model.clone(), TrainableRules::new(&file.model.trainable)?));
    };
    let adapters = lora::Adapters {
        targets: section.targets.clone(),
        rank: usize::try_from(section.rank).unwrap_or(usize::MAX),
        alpha: section.alpha,
        seed: file.job.seed,
    };
    let adapted = lora::add(model, &adapters)?;
    let globs: Vec<String> = lora::TRAINABLE
        .iter()
        .map(|&glob| glob.to_owned())
        .chain(file.model.trainable.iter().cloned())
        .collect();
    Ok((adapted, TrainableRules::new(&globs)?))
}

#[cfg(test)]
mod tests;
