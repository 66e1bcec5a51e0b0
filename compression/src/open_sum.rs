//! Sums that are not packed.

use std::fmt;

use aimass_kernels::{Isa, integers};

use crate::fixed::Sink;
use crate::{AddError, EncodeError, Slot, SumPlan};

/// A sum of contributions as whole numbers, not packed: for adding many updates on one machine (a simulator's threads). Same sums as [`crate::Accumulator`] of the
/// same contributions, in any order. It takes 4 bytes a value where sums have up to 32 bits, else 8. `Debug` shows no values.
#[derive(Clone, PartialEq)]
pub struct OpenSum {
    plan: SumPlan,
    /// Of each slot.
    sums: Vec<Counters>,
    count: u32,
}

/// The sums of a slot: plans are made so that no sum of their members is wider than the slot's bits.
#[derive(Clone, PartialEq)]
pub(crate) enum Counters {
    Narrow(Vec<u32>),
    Wide(Vec<u64>),
}

impl Counters {
    fn new(slot: &Slot) -> Self {
        match slot.sum_bits {
            ..=32 => Self::Narrow(vec![0; slot.len]),
            _ => Self::Wide(vec![0; slot.len]),
        }
    }
}

impl OpenSum {
    /// An empty sum.
    pub fn new(plan: &SumPlan) -> Self {
        Self {
            plan: plan.clone(),
            sums: plan.slots().iter().map(Counters::new).collect(),
            count: 0,
        }
    }

    /// The plan.
    pub fn plan(&self) -> &SumPlan {
        &self.plan
    }

    /// Contributions in the sum.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of memory that the sums take.
    pub fn memory_bytes(&self) -> usize {
        let bytes = |counters: &Counters| match counters {
            Counters::Narrow(sums) => 4 * sums.len(),
            Counters::Wide(sums) => 8 * sums.len(),
        };
        self.sums.iter().map(bytes).sum()
    }

    /// Adds another sum of the same plan.
    ///
    /// # Errors
    /// [`AddError`]; the sum is then as it was.
    pub fn merge(&mut self, other: &Self) -> Result<(), AddError> {
        if other.plan != self.plan {
            return Err(AddError::OtherPlan);
        }
        let members = self.plan.members();
        if members - self.count < other.count {
            return Err(AddError::Full { members });
        }
        let isa = Isa::best();
        for (sums, others) in self.sums.iter_mut().zip(&other.sums) {
            match (sums, others) {
                (Counters::Narrow(sums), Counters::Narrow(others)) => integers::add(isa, sums, others),
                (Counters::Wide(sums), Counters::Wide(others)) => integers::add_wide(isa, sums, others),
                _ => unreachable!("slots of one plan have counters of one width"),
            }
        }
        self.count += other.count;
        Ok(())
    }

    /// An empty sum of any plan, with the memory of this one where it fits.
    pub fn reused(mut self, plan: &SumPlan) -> Self {
        self.sums.resize(plan.slots().len(), Counters::Narrow(Vec::new()));
        for (counters, slot) in self.sums.iter_mut().zip(plan.slots()) {
            match counters {
                Counters::Narrow(sums) if slot.sum_bits <= 32 && sums.len() == slot.len => sums.fill(0),
                Counters::Wide(sums) if slot.sum_bits > 32 && sums.len() == slot.len => sums.fill(0),
                other => *other = Counters::new(slot),
            }
        }
        self.plan = plan.clone();
        self.count = 0;
        self
    }

    /// The same sum, packed.
    #[cfg(test)]
    pub(crate) fn to_accumulator(&self) -> crate::Accumulator {
        use crate::fixed::rounding::BLOCK;
        use crate::pack::pack;
        let mut packed = Vec::with_capacity(self.plan.packed_bytes() + 64);
        for (slot, counters) in self.plan.slots().iter().zip(&self.sums) {
            match counters {
                Counters::Narrow(sums) => sums.chunks(BLOCK).for_each(|sums| pack(sums, slot.sum_bits, &mut packed)),
                Counters::Wide(sums) => sums.chunks(BLOCK).for_each(|sums| pack(sums, slot.sum_bits, &mut packed)),
            }
        }
        crate::Accumulator::of_sums(self.plan.clone(), packed, self.count)
    }

    /// The sums of a slot.
    pub(crate) fn counters(&self, slot: usize) -> &Counters {
        &self.sums[slot]
    }

    /// That `more` contributions of a plan can be added.
    pub(crate) fn check_room(&self, plan: &SumPlan, more: usize) -> Result<(), EncodeError> {
        if self.plan != *plan {
            return Err(EncodeError::OtherPlan);
        }
        let members = self.plan.members();
        let has_room = u32::try_from(more).is_ok_and(|more| more <= members - self.count);
        if has_room { Ok(()) } else { Err(EncodeError::Full { members }) }
    }

    /// Counts contributions whose residues are all in.
    pub(crate) fn counted(&mut self, more: u32) {
        self.count += more;
    }
}

impl Sink for OpenSum {
    fn residues(&mut self, slot: usize, start: usize, residues: &[u32]) {
        match &mut self.sums[slot] {
            Counters::Narrow(sums) => integers::add(Isa::best(), &mut sums[start..][..residues.len()], residues),
            Counters::Wide(sums) => integers::add_narrow(Isa::best(), &mut sums[start..][..residues.len()], residues),
        }
    }

    fn exact(&mut self, slot: usize, value: u64) {
        match &mut self.sums[slot] {
            // It has no more bits than the sum.
            Counters::Narrow(sums) => sums[0] += value as u32,
            Counters::Wide(sums) => sums[0] += value,
        }
    }
}

impl fmt::Debug for OpenSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenSum")
            .field("memory_bytes", &self.memory_bytes())
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
