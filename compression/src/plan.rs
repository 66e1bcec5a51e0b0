//! What a sum is made of.

use crate::pack::packed_len;

/// A named run of equal-width integers in a sum.
#[derive(Debug, Clone, PartialEq)]
pub struct Slot {
    /// Name, for instance `delta`, `weight`, `train_loss`, `clipped`.
    pub name: &'static str,
    /// Number of values.
    pub len: usize,
    /// Smallest residue that one client may send.
    pub least: u64,
    /// Largest residue that one client may send.
    pub most: u64,
    /// Bits a residue takes in the sum: the modulus is 2^bits.
    pub sum_bits: u8,
    /// Largest magnitude of a value before rounding, in its own units.
    pub bound: f32,
    /// Whether the value is multiplied by the client's weight share w/W before rounding.
    pub weighted: bool,
}

/// Everything that a client's contribution consists of, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct SumPlan {
    slots: Vec<Slot>,
    members: u32,
}

impl Slot {
    /// Bytes of its values in a contribution.
    pub fn packed_bytes(&self) -> usize {
        packed_len(self.len, self.sum_bits)
    }
}

impl SumPlan {
    pub(crate) fn new(slots: Vec<Slot>, members: u32) -> Self {
        Self { slots, members }
    }

    /// The slots in order.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Most contributions in one sum; more could overflow it.
    pub fn members(&self) -> u32 {
        self.members
    }

    /// Values over all slots.
    pub fn n_values(&self) -> usize {
        self.slots.iter().map(|s| s.len).sum()
    }

    /// Bytes of one packed contribution: each slot bit-packed, starting at a byte.
    pub fn packed_bytes(&self) -> usize {
        self.slots.iter().map(Slot::packed_bytes).sum()
    }
}

/// Bits of a sum of `members` residues of at most `most`: b = ceil(log2(members * most + 1)). `None` above 63 bits.
pub(crate) fn sum_bits(members: u32, most: u64) -> Option<u8> {
    let largest = u64::from(members).checked_mul(most)?;
    let bits = u64::BITS - largest.leading_zeros();
    (bits <= 63).then_some(bits as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_has_the_bits_of_its_largest_value() {
        assert_eq!(sum_bits(1, 1), Some(1));
        assert_eq!(sum_bits(2, 1), Some(2));
        assert_eq!(sum_bits(3, 1), Some(2));
        assert_eq!(sum_bits(30, (1 << 24) - 1), Some(29));
        assert_eq!(sum_bits(1 << 30, u64::from(u32::MAX)), Some(62));
        assert_eq!(sum_bits(1 << 31, u64::from(u32::MAX)), Some(63));
        assert_eq!(sum_bits(u32::MAX, u64::from(u32::MAX)), None);
        assert_eq!(sum_bits(u32::MAX, u64::MAX), None);
    }
}
