//! From sums of residues to means.

use std::fmt;

use aimass_kernels::Isa;

use crate::rotation::{rotate_back, runs};
use crate::{Accumulator, DecodeError, FixedCodec, SlotSum};

/// What comes out of a sum. `Debug` shows no values of the mean.
#[derive(Clone, PartialEq)]
pub struct DecodedSum {
    /// Weighted mean of the deltas, `[n_weights]`.
    pub mean_delta: Vec<f32>,
    /// Sum of weights, in examples: stale updates count for less, the sum is rounded, and at least 1.
    pub weight: u64,
    /// Weighted mean training loss.
    pub train_loss: f32,
    /// Clients whose update was clipped.
    pub clipped: u32,
    /// How good the base model is on the held-out examples of all clients; `None` where there are none, or the parameters did not ask.
    pub evaluation: Option<PooledEvaluation>,
}

/// How good a model is on the held-out examples of all clients, as if they were one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PooledEvaluation {
    /// Mean loss.
    pub loss: f32,
    /// Examples that the model gets right.
    pub correct: u64,
    /// Examples.
    pub examples: u64,
}

impl PooledEvaluation {
    /// The part of the examples that the model gets right.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.examples as f64
    }
}

impl FixedCodec {
    pub(crate) fn decode(&self, sum: &Accumulator) -> Result<DecodedSum, DecodeError> {
        if *self.plan() != *sum.plan() {
            return Err(DecodeError::OtherPlan);
        }
        sum.check_open()?;
        let exact = |name| match sum.slot(name)? {
            SlotSum::Exact(sums) => Ok(sums[0]),
            SlotSum::Stochastic(_) => Err(DecodeError::NoSlot { slot: name }),
        };
        let real = |name| match sum.slot(name)? {
            SlotSum::Stochastic(sums) => Ok(sums[0]),
            SlotSum::Exact(_) => Err(DecodeError::NoSlot { slot: name }),
        };
        let params = self.params();
        let (weight, scale) = (exact("weight")?, u64::from(params.weight_scale));
        let per_weight = params.largest_weight() as f64 / weight as f64;
        let evaluation = if params.evaluation {
            let (examples, correct) = (exact("eval_examples")?, exact("eval_correct")?);
            let loss = real("eval_loss")? * f64::from(params.weight_cap) / examples as f64;
            (examples > 0).then_some(PooledEvaluation {
                loss: loss as f32,
                correct,
                examples,
            })
        } else {
            None
        };
        Ok(DecodedSum {
            mean_delta: self.mean_delta(sum, per_weight),
            weight: ((weight + scale / 2) / scale).max(1),
            train_loss: (real("train_loss")? * per_weight) as f32,
            // At most `members`, which is a u32.
            clipped: exact("clipped")? as u32,
            evaluation,
        })
    }

    fn mean_delta(&self, sum: &Accumulator, per_weight: f64) -> Vec<f32> {
        let Some(slot) = self.plan().slots().first() else {
            return Vec::new();
        };
        let params = self.params();
        // A rotated update has bounds by the run, and is rotated back in units of the clip.
        let bound = if params.rotation.is_some() { 1.0 } else { f64::from(slot.bound) };
        let unit = bound / slot.most as f64 * per_weight;
        let mut mean = Vec::with_capacity(slot.len);
        sum.for_slot(0, |sums| {
            mean.extend(sums.iter().map(|&value| (sum.signed(slot, value) * unit) as f32));
        });
        if let Some(seed) = params.rotation {
            for run in runs(mean.len()) {
                let bound = run.bound() as f32;
                mean[run.start..][..run.len].iter_mut().for_each(|value| *value *= bound);
            }
            rotate_back(Isa::best(), &mut mean, seed);
            mean.iter_mut().for_each(|value| *value *= params.clip);
        }
        mean
    }
}

impl fmt::Debug for DecodedSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecodedSum")
            .field("n_values", &self.mean_delta.len())
            .field("weight", &self.weight)
            .field("train_loss", &self.train_loss)
            .field("clipped", &self.clipped)
            .field("evaluation", &self.evaluation)
            .finish()
    }
}
