//! Taking the masks off a sum.

use std::fmt;
use std::ops::Range;

use super::{Accumulator, DecodeError, Masks};
use crate::SumPlan;
use crate::mask::{Block, Sign, blocks, lay};

/// A part of a masked sum, about as long as the others, that a thread can take the masks off while other threads do the others.
pub struct MaskedPart<'a> {
    plan: &'a SumPlan,
    /// Its blocks among [`blocks`].
    blocks: Range<usize>,
    offset: usize,
    /// Packed.
    sums: &'a mut [u8],
    done: &'a mut bool,
}

impl MaskedPart<'_> {
    /// Where the streams must begin: a byte of the packed contribution.
    pub fn offset(&self) -> u64 {
        self.offset as u64
    }

    /// Adds the streams to the sum with their signs; each begins at [`MaskedPart::offset`] and is asked for its bytes in order, in pieces. All streams
    /// give their piece for one block of values before the next block, so they stay alive together; besides them it takes some 60 KiB.
    pub fn unmask<S: FnMut(&mut [u8])>(self, streams: &mut [(Sign, S)]) {
        lay(blocks(self.plan).take(self.blocks.end).skip(self.blocks.start), self.sums, streams);
        *self.done = true;
    }
}

impl Accumulator {
    /// Removes the masks in one go: [`Accumulator::unmask_parts`] on one thread. The streams are added to the sum with their signs, which are therefore
    /// the opposite of those that the masks were laid with. Both a plain sum and no streams are possible.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn unmask<S: FnMut(&mut [u8])>(&mut self, streams: &mut [(Sign, S)]) -> Result<(), DecodeError> {
        self.unmask_parts(1, |parts| parts.into_iter().for_each(|part| part.unmask(streams)))
    }

    /// Removes the masks in `n_parts` parts or fewer, on threads of the caller: `run` must call [`MaskedPart::unmask`] for each of them. Then every sum
    /// must be one that as many honest contributions can make.
    ///
    /// # Errors
    /// [`DecodeError`]: the masks are off already (`Poisoned`), a part was left out (`Masked`), or a sum is none of honest contributions
    /// (`OutOfRange`). The sum is of no use then.
    pub fn unmask_parts(&mut self, n_parts: usize, run: impl FnOnce(Vec<MaskedPart<'_>>)) -> Result<(), DecodeError> {
        if self.poisoned || self.masks == Masks::Removed {
            self.poisoned = true;
            return Err(DecodeError::Poisoned);
        }
        let n_blocks = blocks(&self.plan).count();
        let n_parts = n_parts.clamp(1, n_blocks.max(1));
        let mut done = vec![false; n_parts];
        let mut parts = Vec::with_capacity(n_parts);
        let mut sums = self.sums.as_mut_slice();
        let mut of_plan = blocks(&self.plan);
        for (part, done) in done.iter_mut().enumerate() {
            let blocks = part * n_blocks / n_parts..(part + 1) * n_blocks / n_parts;
            let mut mine = of_plan.by_ref().take(blocks.len());
            let Some(front) = mine.next() else { break };
            let n_bytes = front.packed_bytes() + mine.map(Block::packed_bytes).sum::<usize>();
            let (part_sums, rest) = sums.split_at_mut(n_bytes);
            sums = rest;
            parts.push(MaskedPart {
                plan: &self.plan,
                blocks,
                offset: front.offset,
                sums: part_sums,
                done,
            });
        }
        run(parts);
        if done.contains(&false) {
            self.poisoned = true;
            return Err(DecodeError::Masked);
        }
        self.masks = Masks::Removed;
        let in_range = self.check_range();
        self.poisoned = in_range.is_err();
        in_range
    }

    /// That every sum is within what the contributions can make.
    fn check_range(&self) -> Result<(), DecodeError> {
        let mut sums = Vec::new();
        for block in blocks(&self.plan) {
            let slot = &self.plan.slots()[block.slot];
            // No overflow: the plan's widths hold `members` of the largest.
            let range = u64::from(self.count) * slot.least..=u64::from(self.count) * slot.most;
            self.unpack(block, &mut sums);
            if let Some(at) = sums.iter().position(|sum| !range.contains(sum)) {
                let index = block.first + at;
                return Err(DecodeError::OutOfRange { slot: slot.name, index });
            }
        }
        Ok(())
    }
}

impl fmt::Debug for MaskedPart<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MaskedPart")
            .field("offset", &self.offset)
            .field("packed_bytes", &self.sums.len())
            .finish_non_exhaustive()
    }
}
