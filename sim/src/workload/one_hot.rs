//! The oracle: each contribution is a unit vector of its own.

use std::collections::BTreeMap;

use aimass_compression::{Accumulator, FixedCodec, pack};
use aimass_protocol::{ContributionId, Digest};
use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

use super::{Step, Stepped, Trained, Training, Update, Workload};

/// Length of the vectors. Contributions that far apart share one, and are not in one sum.
const UNITS: usize = 256;

/// Trains nothing: an update is a unit vector of integers that no other contribution has, so a 2 in a sum proves that something was counted twice, and a
/// 0 that something was lost.
#[derive(Debug, Clone, Default)]
pub struct OneHot {
    units: BTreeMap<ContributionId, usize>,
}

impl Workload for OneHot {
    fn n_weights(&self) -> usize {
        UNITS
    }

    fn train(&mut self, training: &Training<'_>, rng: &mut ChaCha8Rng) -> Trained {
        let next = self.units.len() % UNITS;
        let unit = *self.units.entry(training.contribution).or_insert(next);
        let mut delta = vec![0.0; UNITS];
        delta[unit] = 1.0;
        let took_ms = 500 + rng.next_u64() % 20_000;
        Trained {
            took_ms: training.budget_ms.map_or(took_ms, |budget| took_ms.min(budget)),
            update: Update {
                delta,
                examples: 1,
                train_loss: 0.0,
            },
        }
    }

    /// Exact integers: the codec itself rounds at random.
    fn encode(
        &mut self,
        _contribution: ContributionId,
        update: &Update,
        codec: &FixedCodec,
        _staleness: u32,
        _rng: &mut ChaCha8Rng,
    ) -> Result<Vec<u8>, String> {
        let mut packed = Vec::with_capacity(codec.plan().packed_bytes() + 64);
        for slot in codec.plan().slots() {
            let values: Vec<u64> = match slot.name {
                "delta" => update.delta.iter().map(|v| u64::from(*v > 0.5)).collect(),
                _ => vec![slot.least; slot.len],
            };
            pack::pack(&values, slot.sum_bits, &mut packed);
        }
        Ok(packed)
    }

    fn step(&mut self, step: &Step<'_>, codec: &FixedCodec, sum: &Accumulator) -> Result<Stepped, String> {
        let decoded = sum.decode(codec).map_err(|error| error.to_string())?;
        let mut expected = [0; UNITS];
        for (_, contribution) in step.survivors {
            let unit = self
                .units
                .get(contribution)
                .ok_or_else(|| format!("nobody trained {contribution}, which the round is said to hold"))?;
            expected[*unit] += 1;
        }
        let found = integers(codec, sum, &decoded.mean_delta)?;
        if found != expected {
            let differ: Vec<_> = (0..UNITS)
                .filter(|unit| found[*unit] != expected[*unit])
                .map(|unit| format!("unit {unit} is there {} times instead of {}", found[unit], expected[unit]))
                .collect();
            return Err(differ.join(", "));
        }
        // A dry run's updates are zero: its model stays the same, digest and all.
        let model = if step.file.train.epochs == 0 { step.base } else { model_of(step) };
        Ok(Stepped { model, accuracy: None })
    }
}

/// A digest for the model that comes out of a step.
pub(super) fn model_of(step: &Step<'_>) -> Digest {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(step.job.as_bytes());
    bytes[16..20].copy_from_slice(&step.round.to_be_bytes());
    Digest::from_bytes(bytes)
}

/// The sum's integers, from its mean: the inverse of [`Accumulator::decode`], exact for the small sums of a simulation.
fn integers(codec: &FixedCodec, sum: &Accumulator, mean: &[f32]) -> Result<[i64; UNITS], String> {
    let slot = codec.plan().slots().first().ok_or("the plan has no slots")?;
    // Each contribution weighs the least that there is: one part of an example.
    let per_weight = f64::from(codec.params().weight_cap) * f64::from(codec.params().weight_scale) / f64::from(sum.count());
    let unit = f64::from(slot.bound) / slot.most as f64 * per_weight;
    let zero = f64::from(sum.count()) * slot.most as f64;
    let mut integers = [0; UNITS];
    for (integer, mean) in integers.iter_mut().zip(mean) {
        *integer = ((f64::from(*mean) / unit + zero) / 2.0).round() as i64;
    }
    Ok(integers)
}
