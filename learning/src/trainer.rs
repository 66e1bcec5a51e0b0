//! A model being trained, step by step.

use aimass_onnx::{Model, ParamLayout};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::executor::{Cpu, Executor};
use crate::program::{Graph, Mode};
use crate::{Loss, TrainConfig, TrainError};

/// Stream of the generator that dropout draws from at step n (counted from 0) is `DROPOUT + n`; the order of examples is stream 0.
const DROPOUT: u64 = 1;

/// Holds weights and steps them. Give it any batches; [`train`](crate::train()) is the loop over a data set.
pub struct Trainer {
    executor: Executor<Cpu>,
    loss: Loss,
    lr: f32,
    seed: [u8; 32],
    base: Vec<f32>,
    n_features: usize,
    outputs: usize,
    steps: u64,
}

impl std::fmt::Debug for Trainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trainer")
            .field("loss", &self.loss)
            .field("lr", &self.lr)
            .field("steps", &self.steps)
            .finish_non_exhaustive()
    }
}

impl Trainer {
    /// Checks that `model` trains on rows of `n_features` in batches of `config.batch`, before any training.
    ///
    /// # Errors
    /// [`TrainError::Graph`], [`TrainError::Data`], [`TrainError::Config`].
    pub fn new(model: &Model, layout: &ParamLayout, config: &TrainConfig, n_features: usize) -> Result<Self, TrainError> {
        config.check()?;
        let base = model.weights(layout).map_err(|e| TrainError::Graph { reason: e.to_string() })?;
        let graph = Graph::new(model, Some(layout))?;
        if graph.sources.iter().all(|s| s.weight.is_none()) {
            let reason = format!(
                "no weight reaches the output `{}`, so nothing would train; check the model or [model] trainable",
                graph.output
            );
            return Err(TrainError::Graph { reason });
        }
        let mut executor = Executor::new(graph, n_features);
        let program = executor.program(config.batch, Mode::Training)?;
        let outputs = config.loss.outputs(&program.output_shape, config.batch)?;
        Ok(Self {
            executor,
            loss: config.loss,
            lr: config.lr,
            seed: config.seed,
            base,
            n_features,
            outputs,
            steps: 0,
        })
    }

    /// Outputs a row: classes, or 1.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Steps done.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// One step over a batch: `features` `[rows, n_features]` row-major, `targets` `[rows]`. Returns the mean loss before the step.
    ///
    /// # Errors
    /// [`TrainError::Data`] for slices that do not fit or a target that is no class; [`TrainError::Diverged`] when the loss is not
    /// finite. The weights are then as they were.
    pub fn step(&mut self, features: &[f32], targets: &[f32]) -> Result<f32, TrainError> {
        let (rows, n) = (targets.len(), self.outputs);
        if rows == 0 || rows.checked_mul(self.n_features) != Some(features.len()) {
            let reason = format!(
                "{} features do not make {rows} rows of {}; feed whole rows",
                features.len(),
                self.n_features
            );
            return Err(TrainError::Data { reason });
        }
        self.loss.check_targets(targets, n)?;
        let mut noise = ChaCha20Rng::from_seed(self.seed);
        noise.set_stream(DROPOUT + self.steps);
        let mut mean = 0.0;
        let (loss, step) = (self.loss, self.steps + 1);
        self.executor.step(features, self.lr, &mut noise, |outputs| {
            let mut gradient = vec![0.0; outputs.len()];
            mean = (loss.of_batch(outputs, n, targets, Some(&mut gradient)).sum / rows as f64) as f32;
            if mean.is_finite() {
                Ok(gradient)
            } else {
                Err(TrainError::Diverged { step, loss: mean })
            }
        })?;
        self.steps = step;
        Ok(mean)
    }

    /// All weights now, `[layout.n_weights()]`. Those that the output does not depend on are as they were.
    ///
    /// # Errors
    /// [`TrainError::Device`].
    pub fn weights(&self) -> Result<Vec<f32>, TrainError> {
        let mut flat = self.base.clone();
        self.executor.read_weights(&mut flat)?;
        Ok(flat)
    }

    /// Goes on from other weights, `[layout.n_weights()]`.
    ///
    /// # Errors
    /// [`TrainError::Data`] for another length.
    pub fn set_weights(&mut self, weights: &[f32]) -> Result<(), TrainError> {
        if weights.len() != self.base.len() {
            let reason = format!(
                "{} weights for a model of {}; they are of another model",
                weights.len(),
                self.base.len()
            );
            return Err(TrainError::Data { reason });
        }
        self.base.copy_from_slice(weights);
        self.executor.set_weights(weights);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
