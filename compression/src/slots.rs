//! Named slots of any kind: what is summed beside updates, or without them, as evaluation and analytics are.
//!
//! A scalar is a slot of one value, a histogram one of as many as it has bins. What can't be said as bounded slots can't be summed under masks.

use aimass_kernels::Isa;
use aimass_kernels::integers::Keystream;
use rand_core::Rng;

use crate::fixed::rounding::{BLOCK, Rounder, levels, rounding, stream};
use crate::pack::pack;
use crate::plan::sum_bits;
use crate::{Accumulator, EncodeError, PlanError, Slot, SumPlan};

/// How the values of a slot become residues.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Coding {
    /// Whole numbers, as they are.
    Exact {
        /// Smallest.
        least: u64,
        /// Largest, at least 1.
        most: u64,
    },
    /// Numbers, rounded up or down at random to one of 2^bits levels from -bound to +bound, right on average.
    Stochastic {
        /// 2 to 32.
        bits: u8,
        /// Largest magnitude, above 0.
        bound: f32,
        /// Whether values are multiplied by a share of at most 1 first, as in a weighted mean.
        weighted: bool,
    },
}

/// The values of one client for a slot. `Debug` shows none of them.
#[derive(Clone, Copy)]
pub enum Values<'a> {
    /// For [`Coding::Exact`], `[len]`.
    Exact(&'a [u64]),
    /// For [`Coding::Stochastic`].
    Stochastic {
        /// `[len]`, in units of the bound.
        values: &'a [f32],
        /// What they are multiplied with: the client's share, or 1. The products are within the bound.
        factor: f64,
    },
}

/// The sums of a slot over all clients.
#[derive(Debug, Clone, PartialEq)]
pub enum SlotSum {
    /// Of [`Coding::Exact`], `[len]`.
    Exact(Vec<u64>),
    /// Of [`Coding::Stochastic`], `[len]`, in units of the bound: right on average, and by less than one level a client always.
    Stochastic(Vec<f64>),
}

/// A codec for named slots and nothing else. Sums are read with [`Accumulator::slot`].
#[derive(Debug, Clone)]
pub struct SlotCodec {
    plan: SumPlan,
}

impl SlotCodec {
    /// Lays out slots (name, number of values, coding) for a sum of at most `members` clients.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn new(slots: &[(&'static str, usize, Coding)], members: u32) -> Result<Self, PlanError> {
        if members == 0 {
            return Err(PlanError::Members);
        }
        let mut made: Vec<Slot> = Vec::with_capacity(slots.len());
        for &(name, len, coding) in slots {
            if made.iter().any(|slot| slot.name == name) {
                return Err(PlanError::SameName { slot: name });
            }
            made.push(Slot::new(name, len, coding, members)?);
        }
        Ok(Self {
            plan: SumPlan::new(made, members),
        })
    }

    /// The plan.
    pub fn plan(&self) -> &SumPlan {
        &self.plan
    }

    /// Packs one client's values, in the order of the slots: exactly `plan.packed_bytes()`. Takes a key of 32 bytes from `rng` for all that is random.
    ///
    /// # Errors
    /// [`EncodeError`]; values are never clamped silently.
    pub fn encode(&self, values: &[Values<'_>], rng: &mut impl Rng) -> Result<Vec<u8>, EncodeError> {
        let slots = self.plan.slots();
        if values.len() != slots.len() {
            let index = values.len().min(slots.len());
            return Err(EncodeError::OtherSlots { index });
        }
        let isa = Isa::best();
        let (mut stream, mut rounder) = (stream(isa, rng), Rounder::new(isa));
        let mut packed = Vec::with_capacity(self.plan.packed_bytes() + 64);
        for (index, (slot, values)) in slots.iter().zip(values).enumerate() {
            let n = match values {
                Values::Exact(values) if slot.exact => values.len(),
                Values::Stochastic { values, .. } if !slot.exact => values.len(),
                _ => return Err(EncodeError::OtherSlots { index }),
            };
            if n != slot.len {
                return Err(EncodeError::OtherSlots { index });
            }
            slot.encode(*values, &mut stream, &mut rounder, &mut packed)?;
        }
        Ok(packed)
    }

    /// The same where all slots are exact: nothing is rounded.
    ///
    /// # Errors
    /// [`EncodeError`].
    pub fn encode_exact(&self, values: &[&[u64]]) -> Result<Vec<u8>, EncodeError> {
        let slots = self.plan.slots();
        let fits = |(slot, values): (&Slot, &&[u64])| slot.exact && slot.len == values.len();
        let same = slots.iter().zip(values).take_while(|pair| fits(*pair)).count();
        if same != slots.len().max(values.len()) {
            return Err(EncodeError::OtherSlots { index: same });
        }
        let mut packed = Vec::with_capacity(self.plan.packed_bytes() + 64);
        for (slot, values) in slots.iter().zip(values) {
            slot.encode_exact(values, &mut packed)?;
        }
        Ok(packed)
    }

    /// An empty sum.
    pub fn accumulator(&self) -> Accumulator {
        Accumulator::new(&self.plan)
    }
}

impl Slot {
    pub(crate) fn new(name: &'static str, len: usize, coding: Coding, members: u32) -> Result<Self, PlanError> {
        let (least, most, bound, weighted) = match coding {
            Coding::Exact { least, most } => (least, most, most as f32, false),
            Coding::Stochastic { bits, .. } if !(2..=32).contains(&bits) => return Err(PlanError::Bits { bits }),
            Coding::Stochastic { bits, bound, weighted } => (0, levels(bits), bound, weighted),
        };
        if len == 0 {
            return Err(PlanError::EmptySlot { slot: name });
        }
        if most == 0 || least > most || !bound.is_normal() || bound < 0.0 {
            return Err(PlanError::Bounds { slot: name });
        }
        Ok(Self {
            name,
            len,
            least,
            most,
            sum_bits: sum_bits(members, most).ok_or(PlanError::TooWide { slot: name, members })?,
            exact: matches!(coding, Coding::Exact { .. }),
            bound,
            weighted,
        })
    }

    /// Appends the packed values, which are as many as the slot has and of its kind.
    fn encode(&self, values: Values<'_>, stream: &mut Keystream, rounder: &mut Rounder, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let (values, factor) = match values {
            Values::Exact(values) => return self.encode_exact(values, out),
            Values::Stochastic { values, factor } => (values, factor),
        };
        let bound = f64::from(self.bound);
        // NaN is in no range.
        let beyond = |&value: &f32| !(-bound..=bound).contains(&(f64::from(value) * factor));
        if let Some(index) = values.iter().position(beyond) {
            return Err(EncodeError::OutOfBounds { slot: self.name, index });
        }
        let rounding = rounding(self.most, bound, factor);
        for values in values.chunks(BLOCK) {
            pack(rounder.round(&rounding, values, stream), self.sum_bits, out);
        }
        Ok(())
    }

    /// The same for an exact slot.
    fn encode_exact(&self, values: &[u64], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if let Some(index) = values.iter().position(|value| !(self.least..=self.most).contains(value)) {
            return Err(EncodeError::OutOfBounds { slot: self.name, index });
        }
        pack(values, self.sum_bits, out);
        Ok(())
    }
}

impl std::fmt::Debug for Values<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(values) => f.debug_struct("Exact").field("n_values", &values.len()).finish(),
            Self::Stochastic { values, .. } => f
                .debug_struct("Stochastic")
                .field("n_values", &values.len())
                .finish_non_exhaustive(),
        }
    }
}

#[cfg(test)]
mod tests;
