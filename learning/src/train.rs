//! Local training: passes over a data set in a seeded order.

use std::ops::ControlFlow;

use aimass_onnx::{Model, ParamLayout};

use crate::data::Source;
use crate::training::{Stepped, Stepper, Training, check_data};
use crate::{Loss, OptimizerConfig, TrainError, Trainer};

/// One output that a loss reads.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// Name of the model's output; the first where absent.
    pub output: Option<String>,
    /// The loss.
    pub loss: Loss,
    /// How much it counts beside the other heads.
    pub weight: f32,
}

impl From<Loss> for Head {
    /// The first output alone.
    fn from(loss: Loss) -> Self {
        Self {
            output: None,
            loss,
            weight: 1.0,
        }
    }
}

/// What batch normalisation uses while training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BatchNorm {
    /// The statistics of the batch; the stored ones move with them.
    #[default]
    Batch,
    /// The stored statistics, which stay: for rounds whose updates hold weights alone.
    Stored,
}

/// How to train.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainConfig {
    /// What is learnt: at least one.
    pub heads: Vec<Head>,
    /// The optimizer.
    pub optimizer: OptimizerConfig,
    /// What batch normalisation uses.
    pub batch_norm: BatchNorm,
    /// Passes over the data; 0 trains nothing and returns a zero delta.
    pub epochs: u32,
    /// Examples a step; the last batch of a pass may be smaller.
    pub batch: usize,
    /// Seeds the order of the examples and dropout.
    pub seed: [u8; 32],
}

impl TrainConfig {
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        let refuse = |reason: String| Err(TrainError::Config { reason });
        if self.heads.is_empty() {
            return refuse("there is no loss; name at least one head".to_owned());
        }
        if let Some(head) = self.heads.iter().find(|h| !h.weight.is_finite() || h.weight < 0.0) {
            return refuse(format!("a head's weight is {}; use a finite number, 0 or more", head.weight));
        }
        self.heads.iter().try_for_each(|head| head.loss.check())?;
        if self.batch == 0 {
            return refuse("the batch is 0; use 1 or more examples a step".to_owned());
        }
        self.optimizer.check()
    }
}

/// Where training is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Steps done.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
    /// Mean loss of the last step.
    pub loss: f32,
}

/// What training gives.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalUpdate {
    /// Trained minus base, `[n_weights]`.
    pub delta: Vec<f32>,
    /// Examples trained on at least once; all of the data where nothing was to be trained.
    pub examples: u64,
    /// Steps done.
    pub steps: u64,
    /// Mean loss over the last pass, or over what was done of it; 0 when nothing was trained.
    pub train_loss: f32,
}

/// Trains `model` on the rows of `data`: each pass goes over the examples in a new order drawn from the seed. Everything is checked before
/// the first step. The same arguments give the same bytes on the same machine, whatever the number of threads.
///
/// # Errors
/// [`TrainError`]; then nothing of the training is returned.
pub fn train(
    model: &Model,
    layout: &ParamLayout,
    data: &dyn Source,
    config: &TrainConfig,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<LocalUpdate, TrainError> {
    train_on(model, layout, data, config, Trainer::new, progress)
}

/// The same with steps made elsewhere, by what `make` gives once everything is checked; with [`AnyTrainer`](crate::AnyTrainer) on the
/// backend of a person's choice.
///
/// # Errors
/// [`TrainError`]; then nothing of the training is returned.
pub fn train_on<T: Stepper>(
    model: &Model,
    layout: &ParamLayout,
    data: &dyn Source,
    config: &TrainConfig,
    make: impl FnOnce(&Model, &ParamLayout, &TrainConfig) -> Result<T, TrainError>,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<LocalUpdate, TrainError> {
    if config.epochs == 0 {
        return dry_run(model, layout, data, config);
    }
    let mut training = Training::on(model, layout, data, config, make)?;
    while let Some(Stepped { step, steps, loss, .. }) = training.step()? {
        if progress(Progress { step, steps, loss }).is_break() {
            return Err(TrainError::Stopped { step });
        }
    }
    training.into_update()
}

/// All but training: everything is checked, and nothing opened that would only hand the weights back.
///
/// # Errors
/// [`TrainError`].
pub fn dry_run(model: &Model, layout: &ParamLayout, data: &dyn Source, config: &TrainConfig) -> Result<LocalUpdate, TrainError> {
    config.check()?;
    check_data(model, layout, data, &config.heads)?;
    Ok(LocalUpdate {
        delta: vec![0.0; layout.n_weights()],
        examples: data.len() as u64,
        steps: 0,
        train_loss: 0.0,
    })
}

#[cfg(test)]
mod tests;
