//! A small problem with hand-written gradients: time to an accuracy can be compared between round modes.

use std::collections::BTreeMap;

use aimass_compression::{Accumulator, FixedCodec};
use aimass_federation::strategy;
use aimass_protocol::{Digest, JobId};
use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

use super::one_hot::model_of;
use super::{Step, Stepped, Trained, Training, Update, Workload};
use crate::chance::Chance;

/// Logistic regression on points of two classes, split unevenly over the devices: each holds more of one class.
///
/// Every device trains with plain SGD on its own points; accuracy is measured on points that nobody trains on.
#[derive(Debug, Clone)]
pub struct Regression {
    devices: Vec<Vec<Point>>,
    held_out: Vec<Point>,
    models: BTreeMap<(JobId, Digest), Vec<f32>>,
    /// Time that one step takes on a device that is not slow, in milliseconds.
    step_ms: u64,
}

/// Inputs (the last is 1, for the bias) and class.
#[derive(Debug, Clone)]
struct Point {
    x: Vec<f32>,
    is_one: bool,
}

impl Regression {
    /// Points in `inputs` dimensions for this many devices, `points` each.
    pub fn new(seed: u64, devices: usize, points: usize, inputs: usize, step_ms: u64) -> Self {
        let mut chance = Chance::new(seed, "points");
        let truth: Vec<f32> = (0..inputs).map(|_| uniform(&mut chance)).collect();
        let mut point = |wanted: Option<bool>| loop {
            let mut x: Vec<f32> = (0..inputs).map(|_| uniform(&mut chance)).collect();
            let margin = x.iter().zip(&truth).map(|(x, w)| x * w).sum::<f32>() + 0.1 * uniform(&mut chance);
            let is_one = margin > 0.0;
            if wanted.is_none_or(|w| w == is_one) {
                x.push(1.0);
                return Point { x, is_one };
            }
        };
        Self {
            devices: (0..devices)
                .map(|device| (0..points).map(|n| point((n % 10 < 8).then_some(device % 2 == 0))).collect())
                .collect(),
            held_out: (0..2000).map(|_| point(None)).collect(),
            models: BTreeMap::new(),
            step_ms,
        }
    }

    fn weights(&self, job: JobId, model: Digest) -> Vec<f32> {
        self.models
            .get(&(job, model))
            .cloned()
            .unwrap_or_else(|| vec![0.0; self.n_weights()])
    }

    fn accuracy(&self, weights: &[f32]) -> f32 {
        let right = self.held_out.iter().filter(|p| (score(weights, &p.x) > 0.0) == p.is_one).count();
        right as f32 / self.held_out.len() as f32
    }
}

impl Workload for Regression {
    fn n_weights(&self) -> usize {
        self.held_out.first().map_or(1, |p| p.x.len())
    }

    fn train(&mut self, training: &Training<'_>, rng: &mut ChaCha8Rng) -> Trained {
        let base = self.weights(training.job, training.base);
        let mut weights = base.clone();
        let points = self.devices.get(training.device).map_or(&[][..], Vec::as_slice);
        let all_steps = u64::from(training.file.train.epochs) * points.len() as u64;
        let steps = training
            .budget_ms
            .map_or(all_steps, |budget| all_steps.min(budget / self.step_ms))
            .max(1);
        let mut loss = 0.0;
        for _ in 0..steps {
            let point = &points[usize::try_from(rng.next_u64() % points.len() as u64).unwrap_or(0)];
            let chance_of_one = 1.0 / (1.0 + (-score(&weights, &point.x)).exp());
            let error = chance_of_one - f32::from(u8::from(point.is_one));
            loss += error * error;
            for (w, x) in weights.iter_mut().zip(&point.x) {
                *w -= training.file.train.lr * error * x;
            }
        }
        Trained {
            took_ms: steps * self.step_ms,
            update: Update {
                delta: weights.iter().zip(&base).map(|(w, b)| w - b).collect(),
                examples: steps,
                train_loss: loss / steps as f32,
            },
        }
    }

    fn step(&mut self, step: &Step<'_>, codec: &FixedCodec, sum: &Accumulator) -> Result<Stepped, String> {
        let decoded = sum.decode(codec).map_err(|error| error.to_string())?;
        let base = self.weights(step.job, step.base);
        let weights = strategy::apply(&base, &decoded.mean_delta, step.file.strategy.server_lr).map_err(|error| error.to_string())?;
        let accuracy = self.accuracy(&weights);
        let model = model_of(step);
        self.models.insert((step.job, model), weights);
        Ok(Stepped {
            model,
            accuracy: Some(accuracy),
        })
    }
}

/// Between -1 and 1.
fn uniform(chance: &mut Chance) -> f32 {
    chance.below(20_001) as f32 / 10_000.0 - 1.0
}

fn score(weights: &[f32], x: &[f32]) -> f32 {
    weights.iter().zip(x).map(|(w, x)| w * x).sum()
}
