//! The `fixed` codec: evenly spaced levels with stochastic rounding.
//!
//! # Precision
//! A value x within +-B is first multiplied by the client's share s = w/W of the weight cap, then rounded to one of 2^v levels that
//! are L = 2B / (2^v - 1) apart, up or down at random so that the mean is exact, up to 2^-17 L: a value takes 16 random bits, so that its chances are
//! multiples of 2^-16. That is systematic, and below what is typical by chance in any sum of fewer than 2^32 clients. The weighted mean of n clients therefore differs
//! from the exact one by less than
//!
//! ```text
//! n L W / (w_1 + ... + w_n)
//! ```
//!
//! at most, and by about sqrt(n) L W / (2 (w_1 + ... + w_n)) typically. So a cap far above the weights wastes precision: with every
//! weight at the cap the bound is L, with every weight at a hundredth of it 100 L. Set `weight_cap` near the largest weight that is
//! expected.
//!
//! # Staleness
//! An update whose base is tau steps old weighs 1 / sqrt(1 + tau) of what it would weigh. Weights are whole numbers, so that a discount
//! of few examples would be rounded away: where updates can be stale they are counted in parts of an example, `weight_scale` of them, and
//! w = round(weight_scale min(examples, weight_cap) / sqrt(1 + tau)), W = weight_scale weight_cap. With 1024 parts a weight is off by less
//! than 1 / 2048 of an example. Both the share of the delta and the weight that is summed are this w, so the mean is exactly that of the
//! weights as rounded. With a scale of 1 and no staleness everything is as without.
//!
//! # Rotation
//! With `rotation`, x is the update after a random rotation and B the bound of its coordinates, a tenth of the clip for large models: see
//! `rotation.rs` for how it is found and what is gained. The mean is rotated back.
//!
//! # Source
//! Stochastic rounding: QSGD, Alistarh et al. 2017 (NeurIPS), section 3. Sums of offset residues modulo 2^b: Bonawitz et al. 2017,
//! Practical Secure Aggregation, section 4. Discount: FedBuff, Nguyen et al. 2022 (AISTATS), whose experiments weigh by
//! 1 / sqrt(1 + tau); it is the polynomial discount with a = 1/2 of Xie et al. 2019, Asynchronous Federated Optimization.

use std::fmt;

use rand_core::Rng;

use crate::rotation::runs;
use crate::slots::Coding;
use crate::{EncodeError, PlanError, Slot, SumPlan};

mod decode;
mod encode;
pub(crate) mod rounding;

pub use decode::{DecodedSum, Decoding, PooledEvaluation, Sums};
pub(crate) use encode::Sink;
pub use rounding::Scratch;

/// Largest magnitude of a training loss.
pub const MAX_TRAIN_LOSS: f32 = 1024.0;
/// Bits of a rounded training loss.
const LOSS_BITS: u8 = 24;

/// Parameters, from the cohort descriptor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FixedParams {
    /// Weights of the model.
    pub n_weights: usize,
    /// Bits v of a rounded value, 2 to 32.
    pub bits: u8,
    /// L2 norm that an update is clipped to; also the bound of each coordinate where nothing is rotated.
    pub clip: f32,
    /// W: a client's weight is min(examples, W).
    pub weight_cap: u32,
    /// Parts of an example that weights are counted in: 1, or more where updates can be stale.
    pub weight_scale: u32,
    /// Most clients in one sum.
    pub members: u32,
    /// Whether the sum also holds how good the base model is on the clients' held-out examples.
    pub evaluation: bool,
    /// Seed of the rotation that all clients of the cohort share (drawn after they have trained); `None`: updates are rounded as they are.
    pub rotation: Option<[u8; 32]>,
}

/// One client's contribution, packed. `Debug` shows no values.
#[derive(Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Bytes to upload: exactly `plan.packed_bytes()`.
    pub packed: Vec<u8>,
    /// Whether the update was longer than the clip and was scaled down.
    pub clipped: bool,
}

/// What a client puts in. `Debug` shows no values.
#[derive(Clone, Copy)]
pub struct ClientUpdate<'a> {
    /// `[n_weights]`, weight units: trained minus base.
    pub delta: &'a [f32],
    /// Examples trained on.
    pub examples: u64,
    /// How many steps the model that was trained from is behind the newest one.
    pub staleness: u32,
    /// Mean training loss over the last pass.
    pub train_loss: f32,
    /// How good the base model is on the client's held-out examples. It is left out where the parameters ask for none; where they do, none counts
    /// as no examples.
    pub evaluation: Option<Evaluation>,
}

/// How good a model is on one client's held-out examples. `Debug` shows no values.
#[derive(Clone, Copy, PartialEq)]
pub struct Evaluation {
    /// Mean loss.
    pub loss: f32,
    /// Examples that the model gets right; 0 where that means nothing.
    pub correct: u64,
    /// Examples. More than W count as W, of which as large a part is correct.
    pub examples: u64,
}

impl FixedParams {
    /// The weight of an update with all the examples that count: below 2^64, since both are below 2^32.
    pub(crate) fn largest_weight(&self) -> u64 {
        u64::from(self.weight_cap) * u64::from(self.weight_scale)
    }

    /// What an update weighs, in parts of an example; at least 1.
    fn weight_of(&self, update: &ClientUpdate<'_>) -> u64 {
        let full = update.examples.min(self.weight_cap.into()) * u64::from(self.weight_scale);
        if update.staleness == 0 {
            return full;
        }
        let discounted = full as f64 / (1.0 + f64::from(update.staleness)).sqrt();
        (discounted.round() as u64).max(1)
    }

    /// Examples that count, those of them that are correct, and the loss. Where not all examples count, the correct ones are rounded up or down at random.
    fn evaluation_of(&self, evaluation: Option<Evaluation>, rng: &mut impl Rng) -> Result<(u64, u64, f32), EncodeError> {
        let Some(Evaluation { loss, correct, examples }) = evaluation else {
            return Ok((0, 0, 0.0));
        };
        if correct > examples || !(-MAX_TRAIN_LOSS..=MAX_TRAIN_LOSS).contains(&loss) {
            return Err(EncodeError::Evaluation);
        }
        let cap = u64::from(self.weight_cap);
        if examples <= cap {
            return Ok((examples, correct, loss));
        }
        let random = rng.next_u64() % examples;
        let correct = (u128::from(correct) * u128::from(cap) + u128::from(random)) / u128::from(examples);
        // At most the cap.
        Ok((cap, correct as u64, loss))
    }
}

/// The codec for one set of parameters.
#[derive(Debug, Clone)]
pub struct FixedCodec {
    params: FixedParams,
    plan: SumPlan,
}

impl FixedCodec {
    /// Checks the parameters and lays out the slots: `delta`, `train_loss`, `weight`, `clipped`, and with evaluation `eval_loss`, `eval_correct`,
    /// `eval_examples`.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn new(params: FixedParams) -> Result<Self, PlanError> {
        let FixedParams {
            n_weights,
            bits,
            clip,
            weight_cap,
            weight_scale,
            members,
            evaluation,
            rotation,
        } = params;
        match params {
            _ if n_weights == 0 => return Err(PlanError::NoWeights),
            _ if !(2..=32).contains(&bits) => return Err(PlanError::Bits { bits }),
            _ if !clip.is_normal() || clip < 0.0 => return Err(PlanError::Clip),
            _ if weight_cap == 0 => return Err(PlanError::WeightCap),
            _ if weight_scale == 0 => return Err(PlanError::WeightScale),
            _ if members == 0 => return Err(PlanError::Members),
            _ => {}
        }
        let bound = match rotation {
            None => clip,
            Some(_) => (f64::from(clip) * runs(n_weights).map(|run| run.bound()).fold(0.0, f64::max)) as f32,
        };
        let delta = Coding::Stochastic {
            bits,
            bound,
            weighted: true,
        };
        let loss = Coding::Stochastic {
            bits: LOSS_BITS,
            bound: MAX_TRAIN_LOSS,
            weighted: true,
        };
        let exact = |least, most| Coding::Exact { least, most };
        let examples = exact(0, weight_cap.into());
        let mut slots = vec![
            ("delta", n_weights, delta),
            ("train_loss", 1, loss),
            ("weight", 1, exact(1, params.largest_weight())),
            ("clipped", 1, exact(0, 1)),
        ];
        if evaluation {
            slots.extend([
                ("eval_loss", 1, loss),
                ("eval_correct", 1, examples),
                ("eval_examples", 1, examples),
            ]);
        }
        let slots = slots.into_iter().map(|(name, len, coding)| Slot::new(name, len, coding, members));
        let slots = slots.collect::<Result<_, _>>()?;
        Ok(Self {
            params,
            plan: SumPlan::new(slots, members),
        })
    }

    /// The plan.
    pub fn plan(&self) -> &SumPlan {
        &self.plan
    }

    /// The parameters.
    pub fn params(&self) -> &FixedParams {
        &self.params
    }
}

impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoded")
            .field("packed_bytes", &self.packed.len())
            .field("clipped", &self.clipped)
            .finish()
    }
}

impl fmt::Debug for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Evaluation").finish_non_exhaustive()
    }
}

impl fmt::Debug for ClientUpdate<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientUpdate")
            .field("n_values", &self.delta.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
