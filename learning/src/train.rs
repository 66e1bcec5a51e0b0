//! Local training: passes over a data set in a seeded order.

use std::ops::ControlFlow;

use aimass_onnx::{Model, ParamLayout};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::data::shuffle;
use crate::{Dataset, Loss, TrainError, Trainer, fit_check};

/// How to train.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainConfig {
    /// The loss.
    pub loss: Loss,
    /// SGD's learning rate.
    pub lr: f32,
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
        if self.batch == 0 {
            return refuse("the batch is 0; use 1 or more examples a step".to_owned());
        }
        if !self.lr.is_finite() || self.lr < 0.0 {
            return refuse(format!("the learning rate is {}; use a finite number, 0 or more", self.lr));
        }
        Ok(())
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
    /// Examples in the data.
    pub examples: u64,
    /// Steps done.
    pub steps: u64,
    /// Mean loss over the last pass; 0 when nothing was trained.
    pub train_loss: f32,
}

/// Trains `model` on `data` with stochastic gradient descent: each pass goes over the examples in a new order drawn from the seed.
/// Everything is checked before the first step. The same arguments give the same bytes on the same machine, whatever the number of
/// threads.
///
/// # Errors
/// [`TrainError`]; then nothing of the training is returned.
pub fn train(
    model: &Model,
    layout: &ParamLayout,
    data: &Dataset,
    config: &TrainConfig,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<LocalUpdate, TrainError> {
    if data.is_empty() {
        return Err(TrainError::Data {
            reason: "the data has no rows; nothing can be trained".to_owned(),
        });
    }
    config.check()?;
    // A batch larger than the data is the whole data.
    let batch = config.batch.min(data.len());
    let config = &TrainConfig { batch, ..config.clone() };
    if config.epochs == 0 {
        let fit = fit_check(model, layout, data.n_features(), config.loss, None)?;
        config.loss.check_targets(data.targets(), fit.outputs)?;
        return Ok(LocalUpdate {
            delta: vec![0.0; layout.n_weights()],
            examples: data.len() as u64,
            steps: 0,
            train_loss: 0.0,
        });
    }
    let mut trainer = Trainer::new(model, layout, config, data.n_features())?;
    config.loss.check_targets(data.targets(), trainer.outputs())?;
    let base = trainer.weights()?;
    let steps = (data.len().div_ceil(batch) as u64).saturating_mul(u64::from(config.epochs));
    let mut order: Vec<usize> = (0..data.len()).collect();
    let mut rng = ChaCha20Rng::from_seed(config.seed);
    let mut train_loss = 0.0;
    let (mut features, mut targets) = (Vec::new(), Vec::new());
    for _ in 0..config.epochs {
        shuffle(&mut order, &mut rng);
        let mut sum = 0.0f64;
        for rows in order.chunks(batch) {
            features.clear();
            targets.clear();
            for &row in rows {
                features.extend_from_slice(data.row(row));
                targets.push(data.targets()[row]);
            }
            let loss = trainer.step(&features, &targets)?;
            sum += f64::from(loss) * rows.len() as f64;
            let step = trainer.steps();
            if progress(Progress { step, steps, loss }).is_break() {
                return Err(TrainError::Stopped { step });
            }
        }
        train_loss = (sum / data.len() as f64) as f32;
    }
    let delta: Vec<f32> = trainer.weights()?.iter().zip(&base).map(|(after, before)| after - before).collect();
    if delta.iter().any(|d| !d.is_finite()) {
        return Err(TrainError::Diverged {
            step: trainer.steps(),
            loss: f32::INFINITY,
        });
    }
    Ok(LocalUpdate {
        delta,
        examples: data.len() as u64,
        steps: trainer.steps(),
        train_loss,
    })
}

#[cfg(test)]
mod tests;
