//! From sums of residues to means.

use std::fmt;

use aimass_kernels::{Isa, integers};

use crate::accumulator::signed;
use crate::open_sum::Counters;
use crate::rotation::{LONGEST, Signs, rotate_back_chunk, runs};
use crate::{Accumulator, DecodeError, FixedCodec, OpenSum, SumPlan};

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

/// A sum, in one piece or in several.
#[derive(Debug, Clone, Copy)]
pub enum Sums<'a> {
    /// Packed, without masks.
    Packed(&'a Accumulator),
    /// Sums of one plan, each of some of the contributions.
    Open(&'a [OpenSum]),
}

impl Sums<'_> {
    /// That it can be decoded; contributions in it.
    fn check(&self, plan: &SumPlan) -> Result<u32, DecodeError> {
        match self {
            Self::Packed(sum) if sum.plan() != plan => Err(DecodeError::OtherPlan),
            Self::Packed(sum) => sum.check_open().map(|()| sum.count()),
            Self::Open(sums) => {
                if sums.iter().any(|sum| sum.plan() != plan) {
                    return Err(DecodeError::OtherPlan);
                }
                let (count, members) = (sums.iter().map(|sum| u64::from(sum.count())).sum::<u64>(), plan.members());
                match u32::try_from(count) {
                    Ok(0) => Err(DecodeError::Empty),
                    Ok(count) if count <= members => Ok(count),
                    _ => Err(DecodeError::Full { members }),
                }
            }
        }
    }

    /// The sum of a slot of one value.
    fn single(&self, slot: usize) -> u64 {
        let mut sum = [0];
        match self {
            Self::Packed(packed) => packed.read(slot, 0, &mut sum),
            Self::Open(parts) => {
                sum[0] = parts
                    .iter()
                    .map(|part| match part.counters(slot) {
                        Counters::Narrow(sums) => sums[0].into(),
                        Counters::Wide(sums) => sums[0],
                    })
                    .sum();
            }
        }
        sum[0]
    }
}

/// A sum that is being decoded: all of it is known but the mean, which is made in parts, by as many threads as the caller has.
#[derive(Debug)]
pub struct Decoding<'a> {
    codec: &'a FixedCodec,
    sums: Sums<'a>,
    count: u32,
    /// What half a level of the mean is worth.
    unit: f64,
    /// The mean is missing.
    decoded: DecodedSum,
}

impl Decoding<'_> {
    /// Parts begin at multiples of it.
    pub const PART: usize = LONGEST * Signs::GROUP;

    /// Contributions in the sum.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Makes the values of the mean from `start` on. Which parts it is made in changes no bit of it.
    ///
    /// # Panics
    /// Unless `start` is a multiple of [`Self::PART`], and the values end at one or with the mean.
    pub fn mean(&self, start: usize, mean: &mut [f32]) {
        let (params, end) = (self.codec.params(), start + mean.len());
        let is_whole = start.is_multiple_of(Self::PART) && (end.is_multiple_of(Self::PART) || end == params.n_weights);
        assert!(is_whole && end <= params.n_weights, "{start}..{end} is no part of a mean");
        let isa = Isa::best();
        let mut signs = params.rotation.map(|seed| Signs::new(isa, seed));
        let mut block = Block::default();
        for (i, values) in mean.chunks_mut(LONGEST).enumerate() {
            let first = start + i * LONGEST;
            self.block_of_mean(isa, first, values, &mut block);
            let Some(signs) = &mut signs else { continue };
            for run in runs(values.len()) {
                let bound = run.bound() as f32;
                values[run.start..][..run.len].iter_mut().for_each(|value| *value *= bound);
            }
            rotate_back_chunk(isa, values, first / LONGEST, signs);
            values.iter_mut().for_each(|value| *value *= params.clip);
        }
    }

    fn block_of_mean(&self, isa: Isa, first: usize, values: &mut [f32], block: &mut Block) {
        let slot = &self.codec.plan().slots()[0];
        let n = values.len();
        let wide = match self.sums {
            Sums::Packed(sum) => {
                block.wide.resize(n, 0);
                sum.read(0, first, &mut block.wide);
                &block.wide[..]
            }
            Sums::Open(sums) => {
                block.narrow.clear();
                block.wide.clear();
                for sum in sums {
                    match sum.counters(0) {
                        Counters::Narrow(sums) if block.narrow.is_empty() => block.narrow.extend_from_slice(&sums[first..][..n]),
                        Counters::Narrow(sums) => integers::add(isa, &mut block.narrow, &sums[first..][..n]),
                        Counters::Wide(sums) if block.wide.is_empty() => block.wide.extend_from_slice(&sums[first..][..n]),
                        Counters::Wide(sums) => integers::add_wide(isa, &mut block.wide, &sums[first..][..n]),
                    }
                }
                if !block.narrow.is_empty() {
                    // No sum is above it, so it has 32 bits too.
                    let zero = (u64::from(self.count) * slot.most) as f64;
                    return integers::means(isa, &block.narrow, zero, self.unit, values);
                }
                &block.wide[..]
            }
        };
        for (value, sum) in values.iter_mut().zip(wide) {
            *value = (signed(self.count, slot, *sum) * self.unit) as f32;
        }
    }

    /// With the whole mean, `[n_weights]`, of which every part was made by [`Self::mean`].
    pub fn finish(self, mean_delta: Vec<f32>) -> DecodedSum {
        DecodedSum {
            mean_delta,
            ..self.decoded
        }
    }
}

/// The sums of a block.
#[derive(Default)]
struct Block {
    narrow: Vec<u32>,
    wide: Vec<u64>,
}

impl FixedCodec {
    pub(crate) fn decode(&self, sum: &Accumulator) -> Result<DecodedSum, DecodeError> {
        let decoding = self.decoding(Sums::Packed(sum))?;
        let mut mean = vec![0.0; self.params().n_weights];
        decoding.mean(0, &mut mean);
        Ok(decoding.finish(mean))
    }

    /// Begins to decode a sum, whose mean is then made in parts.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decoding<'a>(&'a self, sums: Sums<'a>) -> Result<Decoding<'a>, DecodeError> {
        let count = sums.check(self.plan())?;
        let slots = self.plan().slots();
        let real = |slot: usize| {
            let unit = f64::from(slots[slot].bound) / slots[slot].most as f64;
            signed(count, &slots[slot], sums.single(slot)) * unit
        };
        let params = self.params();
        let (weight, scale) = (sums.single(2), u64::from(params.weight_scale));
        let per_weight = params.largest_weight() as f64 / weight as f64;
        let evaluation = if params.evaluation {
            let (correct, examples) = (sums.single(5), sums.single(6));
            let loss = real(4) * f64::from(params.weight_cap) / examples as f64;
            (examples > 0).then_some(PooledEvaluation {
                loss: loss as f32,
                correct,
                examples,
            })
        } else {
            None
        };
        // A rotated update has bounds by the run, and is rotated back in units of the clip.
        let bound = if params.rotation.is_some() {
            1.0
        } else {
            f64::from(slots[0].bound)
        };
        Ok(Decoding {
            codec: self,
            sums,
            count,
            unit: bound / slots[0].most as f64 * per_weight,
            decoded: DecodedSum {
                mean_delta: Vec::new(),
                weight: ((weight + scale / 2) / scale).max(1),
                train_loss: (real(1) * per_weight) as f32,
                // At most `members`, which is a u32.
                clipped: sums.single(3) as u32,
                evaluation,
            },
        })
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
