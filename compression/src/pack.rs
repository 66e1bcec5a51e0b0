//! Bit packing, little-endian: value i takes bits `i*w .. (i+1)*w` of the byte stream, bit 0 being the lowest of the first byte.
//! Widths w are 1 to 63. Eight values take w bytes, so every eighth value starts at a byte; bits after the last value are 0.

use aimass_kernels::integers::{Residue, SLACK};

mod add;

pub use aimass_kernels::integers::{MAX_WIDTH, packed_len, unpack};

pub(crate) use add::{Adder, repeated};

/// Appends `values` to `out`, `u32` or `u64`. Bits of a value beyond `width` must be 0.
///
/// # Panics
/// When `width` is 0 or more than [`MAX_WIDTH`]; in debug builds when a value has more bits.
pub fn pack<T: Residue>(values: &[T], width: u8, out: &mut Vec<u8>) {
    debug_assert!(
        values.iter().all(|&value| Into::<u64>::into(value) >> width == 0),
        "a value has more than {width} bits"
    );
    let (start, len) = (out.len(), packed_len(values.len(), width));
    out.resize(start + len + SLACK, 0);
    T::pack(values, width, &mut out[start..]);
    out.truncate(start + len);
}

/// Whether the bits after the last of `n` values are 0; `packed` is [`packed_len`] long.
pub fn padding_is_zero(packed: &[u8], n: usize, width: u8) -> bool {
    let used_bits = n % 8 * usize::from(width) % 8;
    used_bits == 0 || packed.last().is_none_or(|last| last >> used_bits == 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One bit at a time.
    fn oracle(values: &[u64], width: u8) -> Vec<u8> {
        let width = usize::from(width);
        let mut out = vec![0u8; (values.len() * width).div_ceil(8)];
        for bit in 0..values.len() * width {
            out[bit / 8] |= ((values[bit / width] >> (bit % width) & 1) as u8) << (bit % 8);
        }
        out
    }

    proptest! {
        #[test]
        fn packing_is_what_the_oracle_packs_and_unpacks_to_the_same(
            width in 1..=MAX_WIDTH,
            words in proptest::collection::vec(any::<u64>(), 0..70),
            front in proptest::collection::vec(any::<u8>(), 0..3),
        ) {
            let values: Vec<u64> = words.iter().map(|word| word >> (64 - width)).collect();
            let mut packed = front.clone();
            pack(&values, width, &mut packed);
            prop_assert_eq!(&packed[..front.len()], &front[..]);
            let packed = &packed[front.len()..];
            prop_assert_eq!(packed, &oracle(&values, width)[..]);
            prop_assert_eq!(packed.len(), packed_len(values.len(), width));
            prop_assert!(padding_is_zero(packed, values.len(), width));
            let mut back = vec![0; values.len()];
            unpack(packed, width, &mut back);
            prop_assert_eq!(back, values);
        }

        #[test]
        fn a_set_bit_after_the_last_value_is_noticed(width in 1..=MAX_WIDTH, n in 1usize..20) {
            let len = packed_len(n, width);
            let used = n * usize::from(width);
            for bit in used..8 * len {
                let mut packed = vec![0; len];
                packed[bit / 8] |= 1 << (bit % 8);
                prop_assert!(!padding_is_zero(&packed, n, width));
            }
        }
    }

    #[test]
    fn bit_0_is_the_lowest_of_the_first_byte() {
        let mut out = Vec::new();
        pack(&[1u64, 0b110, 0b1111], 4, &mut out);
        assert_eq!(out, [0x61, 0x0f]);
    }

    #[test]
    #[should_panic(expected = "widths are 1 to 63")]
    fn width_64_panics() {
        pack(&[1u64], 64, &mut Vec::new());
    }
}
