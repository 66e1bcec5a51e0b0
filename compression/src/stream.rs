//! A packed contribution as a stream of byte slices, cut anywhere.

use crate::pack::{packed_len, padding_is_zero, repeated, unpack};
use crate::{Slot, SumPlan};

/// Values checked at once; a multiple of 8, so that blocks begin at a byte.
const BLOCK: usize = 1024;

/// Bytes that no honest client sends. Never says a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContributionError {
    /// It goes on after the last slot.
    #[error("the contribution has {found_bytes} bytes or more, the plan says {expected_bytes}; encode it with the cohort's parameters")]
    TooLong {
        /// By the plan.
        expected_bytes: usize,
        /// Bytes seen until it was noticed.
        found_bytes: usize,
    },
    /// It ended early.
    #[error("the contribution ended after {found_bytes} bytes, the plan says {expected_bytes}; send the rest")]
    TooShort {
        /// By the plan.
        expected_bytes: usize,
        /// Bytes seen.
        found_bytes: usize,
    },
    /// A residue that no value in bounds rounds to.
    #[error("value {index} of the slot `{slot}` is outside {least} to {most}; encode it with the cohort's parameters")]
    Residue {
        /// Name of the slot.
        slot: &'static str,
        /// Position in the slot.
        index: usize,
        /// Smallest that is allowed.
        least: u64,
        /// Largest that is allowed.
        most: u64,
    },
    /// A bit set after the last value of a slot.
    #[error("bits are set after the last value of the slot `{slot}`; they must be 0")]
    Padding {
        /// Name of the slot.
        slot: &'static str,
    },
}

/// Cuts a stream of bytes into blocks of values and checks them. Needs some kilobytes whatever the length.
#[derive(Clone)]
pub(crate) struct Blocks {
    plan: SumPlan,
    /// Whether every residue is possible, because masks are over them.
    masked: bool,
    slot: usize,
    /// Values of the slot that are done.
    done: usize,
    /// The front of a group of eight values that is not complete yet.
    waiting: Vec<u8>,
    seen_bytes: usize,
    /// For a slot with this index: the bits of a block that are 0 in every residue that is allowed.
    unused: (Option<usize>, Vec<u64>),
}

impl Blocks {
    pub(crate) fn new(plan: &SumPlan, masked: bool) -> Self {
        Self {
            plan: plan.clone(),
            masked,
            slot: 0,
            done: 0,
            waiting: Vec::new(),
            seen_bytes: 0,
            unused: (None, Vec::new()),
        }
    }

    /// Takes the next bytes and gives every checked block to `sink` with its slot, packed. After an error the stream is at an end.
    pub(crate) fn push(&mut self, mut bytes: &[u8], sink: &mut impl FnMut(&Slot, &[u8])) -> Result<(), ContributionError> {
        self.seen_bytes += bytes.len();
        loop {
            let Some(slot) = self.plan.slots().get(self.slot) else {
                let expected_bytes = self.plan.packed_bytes();
                return match bytes {
                    [] => Ok(()),
                    _ => Err(ContributionError::TooLong {
                        expected_bytes,
                        found_bytes: self.seen_bytes,
                    }),
                };
            };
            let left = slot.len - self.done;
            if left == 0 {
                (self.slot, self.done) = (self.slot + 1, 0);
                continue;
            }
            let width = slot.sum_bits;
            let (all, group) = (packed_len(left, width), usize::from(width));
            if !self.waiting.is_empty() || bytes.len() < all.min(group) {
                let (now, later) = bytes.split_at((all.min(group) - self.waiting.len()).min(bytes.len()));
                self.waiting.extend_from_slice(now);
                bytes = later;
                if self.waiting.len() < all.min(group) {
                    return Ok(());
                }
                let waiting = std::mem::take(&mut self.waiting);
                self.block(&waiting, left.min(8), sink)?;
            } else {
                let whole = if bytes.len() >= all { left } else { bytes.len() / group * 8 };
                let n = whole.min(BLOCK);
                let (now, later) = bytes.split_at(packed_len(n, width));
                bytes = later;
                self.block(now, n, sink)?;
            }
        }
    }

    pub(crate) fn finish(&self) -> Result<(), ContributionError> {
        let expected_bytes = self.plan.packed_bytes();
        if self.seen_bytes < expected_bytes {
            return Err(ContributionError::TooShort {
                expected_bytes,
                found_bytes: self.seen_bytes,
            });
        }
        Ok(())
    }

    fn block(&mut self, packed: &[u8], n: usize, sink: &mut impl FnMut(&Slot, &[u8])) -> Result<(), ContributionError> {
        let slot = &self.plan.slots()[self.slot];
        let unused = unused_bits(&mut self.unused, self.slot, slot);
        if !self.masked && !unused.is_some_and(|bits| is_unused(packed, bits)) {
            let mut values = vec![0; n];
            unpack(packed, slot.sum_bits, &mut values);
            if let Some(at) = values.iter().position(|value| !(slot.least..=slot.most).contains(value)) {
                return Err(ContributionError::Residue {
                    slot: slot.name,
                    index: self.done + at,
                    least: slot.least,
                    most: slot.most,
                });
            }
        }
        if !padding_is_zero(packed, n, slot.sum_bits) {
            return Err(ContributionError::Padding { slot: slot.name });
        }
        sink(slot, packed);
        self.done += n;
        Ok(())
    }
}

/// The bits of a block that are 0 in all residues that are allowed and in no others; none where there are no such bits.
fn unused_bits<'a>(made: &'a mut (Option<usize>, Vec<u64>), index: usize, slot: &Slot) -> Option<&'a [u64]> {
    let all_below = slot.least == 0 && slot.most & (slot.most + 1) == 0;
    if all_below && made.0 != Some(index) {
        let n_words = packed_len(slot.len.min(BLOCK), slot.sum_bits).div_ceil(8);
        let unused = ((1 << slot.sum_bits) - 1) & !slot.most;
        *made = (Some(index), repeated(unused, slot.sum_bits, n_words));
    }
    all_below.then_some(&made.1)
}

/// Whether these bits are 0.
fn is_unused(packed: &[u8], bits: &[u64]) -> bool {
    let (words, rest) = packed.as_chunks::<8>();
    let (bits, rest_bits) = bits.split_at(words.len());
    let set = words
        .iter()
        .zip(bits)
        .fold(0, |set, (word, bits)| set | u64::from_le_bytes(*word) & bits);
    let rest_bits = rest_bits.first().map_or([0; 8], |bits| bits.to_le_bytes());
    set == 0 && rest.iter().zip(rest_bits).all(|(byte, bits)| byte & bits == 0)
}

/// Checks a packed contribution while it arrives, in slices of any length: exactly as long as the plan says, every residue one that
/// an honest client can send, padding 0. It keeps a few kilobytes, never the contribution.
#[derive(Clone)]
pub struct Validator {
    blocks: Blocks,
    failed: Option<ContributionError>,
}

impl Validator {
    /// For contributions of this plan.
    pub fn new(plan: &SumPlan) -> Self {
        Self {
            blocks: Blocks::new(plan, false),
            failed: None,
        }
    }

    /// For contributions of this plan with masks over them: their residues look uniform, so only the length and the padding are checked.
    pub fn masked(plan: &SumPlan) -> Self {
        Self {
            blocks: Blocks::new(plan, true),
            failed: None,
        }
    }

    /// Checks the next bytes.
    ///
    /// # Errors
    /// [`ContributionError`], and again the same for whatever comes after.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), ContributionError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = self.blocks.push(bytes, &mut |_, _| {});
        self.failed = result.as_ref().err().cloned();
        result
    }

    /// That nothing is missing.
    ///
    /// # Errors
    /// [`ContributionError::TooShort`], or what [`Self::push`] found before.
    pub fn finish(self) -> Result<(), ContributionError> {
        match self.failed {
            Some(error) => Err(error),
            None => self.blocks.finish(),
        }
    }
}

impl std::fmt::Debug for Validator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Validator")
            .field("seen_bytes", &self.blocks.seen_bytes)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
