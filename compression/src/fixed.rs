//! The `fixed` codec: evenly spaced levels with stochastic rounding.
//!
//! # Precision
//! A value x within +-B is first multiplied by the client's share s = w/W of the weight cap, then rounded to one of 2^v levels that
//! are L = 2B / (2^v - 1) apart, up or down at random so that the mean is exact. The weighted mean of n clients therefore differs
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

use crate::pack::pack;
use crate::plan::sum_bits;
use crate::rotation::{rotate, runs};
use crate::{Slot, SumPlan};

mod rounding;

pub(crate) use rounding::levels;
use rounding::{Rounding, l2_norm, largest_magnitude};

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
    /// Seed of the rotation that all clients of the cohort share (drawn after they have trained); `None`: updates are rounded as they are.
    pub rotation: Option<[u8; 32]>,
}

/// Parameters that can't work together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A model without weights.
    #[error("the model has no weights to sum; make some of its parameters trainable")]
    NoWeights,
    /// Bits out of range.
    #[error("bits = {bits} is not possible; use 2 to 32")]
    Bits {
        /// Given.
        bits: u8,
    },
    /// A clip that is no positive number.
    #[error("clip must be a positive number; use the length that a usual update has, for instance 1.0")]
    Clip,
    /// A weight cap of 0.
    #[error("weight_cap must be at least 1; use the largest number of examples that counts")]
    WeightCap,
    /// A weight scale of 0.
    #[error("weight_scale must be at least 1")]
    WeightScale,
    /// No members.
    #[error("members must be at least 1")]
    Members,
    /// Sums wider than 63 bits.
    #[error("a sum of {members} values of the slot `{slot}` does not fit 63 bits; lower bits, weight_cap or the number of members")]
    TooWide {
        /// Name of the slot.
        slot: &'static str,
        /// Most clients in one sum.
        members: u32,
    },
}

/// An update that can't be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// NaN or infinity.
    #[error("the update holds a value that is not finite at index {index}; training diverged: lower the learning rate")]
    NonFinite {
        /// First bad index.
        index: usize,
    },
    /// Wrong length.
    #[error("the update has {found} values, the plan {expected}")]
    Length {
        /// By the plan.
        expected: usize,
        /// Given.
        found: usize,
    },
    /// Trained on nothing.
    #[error("the update was trained on no examples; check the agent's data")]
    NoExamples,
    /// A loss that is NaN, infinite or beyond [`MAX_TRAIN_LOSS`].
    #[error("the training loss is not within -1024 and 1024; training diverged: lower the learning rate")]
    Loss,
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
}

/// The codec for one set of parameters.
#[derive(Debug, Clone)]
pub struct FixedCodec {
    params: FixedParams,
    plan: SumPlan,
}

impl FixedCodec {
    /// Checks the parameters and lays out the slots: `delta`, `train_loss`, `weight`, `clipped`.
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
        let slot = |name, len, (least, most), bound, weighted| {
            let sum_bits = sum_bits(members, most).ok_or(PlanError::TooWide { slot: name, members })?;
            Ok(Slot {
                name,
                len,
                least,
                most,
                sum_bits,
                bound,
                weighted,
            })
        };
        let bound = match rotation {
            None => clip,
            Some(_) => (f64::from(clip) * runs(n_weights).map(|run| run.bound()).fold(0.0, f64::max)) as f32,
        };
        let slots = vec![
            slot("delta", n_weights, (0, levels(bits)), bound, true)?,
            slot("train_loss", 1, (0, levels(LOSS_BITS)), MAX_TRAIN_LOSS, true)?,
            slot("weight", 1, (1, params.largest_weight()), weight_cap as f32, false)?,
            slot("clipped", 1, (0, 1), 1.0, false)?,
        ];
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

    /// Clips, rotates, weights, rounds stochastically and packs. Uses four bytes of `rng` a value, so the same generator gives the same bytes.
    ///
    /// # Shapes and units
    /// `update.delta`: `[n_weights]`, weight units. A residue q stands for (2 q / (2^bits - 1) - 1) B, times W/w,
    /// where the bound B is the clip, or with a rotation that of a rotated coordinate.
    /// # Errors
    /// [`EncodeError`]; values are never clamped silently.
    pub fn encode(&self, update: ClientUpdate<'_>, rng: &mut impl Rng) -> Result<Encoded, EncodeError> {
        let FixedParams {
            n_weights,
            bits,
            clip,
            rotation,
            ..
        } = self.params;
        if update.delta.len() != n_weights {
            return Err(EncodeError::Length {
                expected: n_weights,
                found: update.delta.len(),
            });
        }
        if update.examples == 0 {
            return Err(EncodeError::NoExamples);
        }
        // NaN is in no range.
        if !(-MAX_TRAIN_LOSS..=MAX_TRAIN_LOSS).contains(&update.train_loss) {
            return Err(EncodeError::Loss);
        }
        let norm = l2_norm(update.delta)?;
        let mut clipped = norm > f64::from(clip);
        let scale = if clipped { f64::from(clip) / norm } else { 1.0 };
        let weight = self.params.weight_of(&update);
        let share = weight as f64 / self.params.largest_weight() as f64;

        let mut packed = Vec::with_capacity(self.plan.packed_bytes() + 64);
        let [delta, train_loss, weight_slot, clipped_slot] = self.plan.slots() else {
            unreachable!("the codec's plan has four slots");
        };
        match rotation {
            None => Rounding::new(bits, clip.into(), scale * share).pack(update.delta, delta.sum_bits, rng, &mut packed),
            Some(seed) => {
                let rotated = rotated(update.delta, scale / f64::from(clip), seed);
                let fit = fit(&rotated);
                clipped |= fit < 1.0;
                for run in runs(n_weights) {
                    let values = &rotated[run.start..][..run.len];
                    Rounding::new(bits, run.bound(), fit * share).pack(values, delta.sum_bits, rng, &mut packed);
                }
            }
        }
        Rounding::new(LOSS_BITS, MAX_TRAIN_LOSS.into(), share).pack(&[update.train_loss], train_loss.sum_bits, rng, &mut packed);
        pack(&[weight], weight_slot.sum_bits, &mut packed);
        pack(&[clipped.into()], clipped_slot.sum_bits, &mut packed);
        Ok(Encoded { packed, clipped })
    }
}

/// The update rotated and in units of the clip, so that its length is 1 at most.
fn rotated(delta: &[f32], factor: f64, seed: [u8; 32]) -> Vec<f32> {
    let mut rotated: Vec<f32> = delta.iter().map(|&value| (f64::from(value) * factor) as f32).collect();
    rotate(&mut rotated, seed);
    rotated
}

/// What a rotated update is multiplied with, as a whole, so that all coordinates are within their bounds: 1 but for one in thousands.
fn fit(rotated: &[f32]) -> f64 {
    runs(rotated.len()).fold(1.0, |fit, run| {
        let largest = largest_magnitude(&rotated[run.start..][..run.len]);
        if largest > run.bound() {
            f64::min(fit, run.bound() / largest)
        } else {
            fit
        }
    })
}

impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoded")
            .field("packed_bytes", &self.packed.len())
            .field("clipped", &self.clipped)
            .finish()
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
