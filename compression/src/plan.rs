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
    /// Whether residues are whole numbers as they are; else they are levels within +-`bound`, `least` being -`bound` and `most` +`bound`.
    pub exact: bool,
    /// Largest magnitude of a value before rounding, in its own units; of an exact one `most`.
    pub bound: f32,
    /// Whether the value is multiplied by the client's weight share w/W, or another share of at most 1, before rounding.
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
    bits_of(u64::from(members).checked_mul(most)?)
}

/// Bits of the whole numbers up to `largest`; at least 1.
fn bits_of(largest: u64) -> Option<u8> {
    let bits = u64::BITS - largest.leading_zeros();
    (bits <= 63).then_some(bits as u8)
}

/// Bits of a value in a sum modulo 2^b of `n` clients' residues of `value_bits` bits, with integer noise of standard deviation `noise_sigma` in the
/// sum: b = ceil(log2(n (2^v - 1) + 2 z sigma + 1)), so that the noise wraps around with the probability of a normal variable beyond `z`
/// standard deviations. `None` above 63 bits, or when noise or `z` is no number from 0.
pub fn ring_bits(n: u32, value_bits: u8, noise_sigma: f64, z: f64) -> Option<u8> {
    let most = 1u64.checked_shl(value_bits.into())? - 1;
    let noise = (2.0 * z * noise_sigma).ceil();
    if !(0.0..2f64.powi(63)).contains(&noise) {
        return None;
    }
    bits_of(u64::from(n).checked_mul(most)?.checked_add(noise as u64)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors `ring_bits` of the reference (n, value bits, noise, z, bits).
    #[test]
    fn rings_are_as_wide_as_the_reference_says() {
        for (n, value_bits, noise_sigma, z, bits) in [
            (1_000, 16, 0.0, 8.0, 26),
            (16_384, 16, 0.0, 8.0, 30),
            (512, 8, 200.0, 8.0, 18),
            (100_000, 16, 0.0, 8.0, 33),
        ] {
            assert_eq!(ring_bits(n, value_bits, noise_sigma, z), Some(bits), "{n} of {value_bits}");
        }
        assert_eq!(ring_bits(1, 63, 0.0, 0.0), Some(63));
        assert_eq!(ring_bits(1, 64, 0.0, 0.0), None);
        assert_eq!(ring_bits(2, 63, 0.0, 0.0), None);
        for noise in [-1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(ring_bits(2, 8, noise, 8.0), None);
        }
    }

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
