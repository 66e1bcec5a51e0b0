//! Bit packing, little-endian: value i takes bits `i*w .. (i+1)*w` of the byte stream, bit 0 being the lowest of the first byte.
//! Widths w are 1 to 63. Eight values take w bytes, so every eighth value starts at a byte; bits after the last value are 0.

mod add;

pub(crate) use add::{Adder, repeated};

/// Widest value in bits.
pub const MAX_WIDTH: u8 = 63;
/// Bytes behind the last value that packing may overwrite with zeros: a last group of one value of one bit is written as a word, one
/// of a value of 63 bits as eight.
const SLACK: usize = 64;

/// Calls `$f::<WIDTH>`, with the width known when it is compiled.
macro_rules! for_width {
    ($width:expr, $f:ident, $($argument:expr),*) => {
        for_width!(@ $width, $f, ($($argument),*),
            1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32
            33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63)
    };
    (@ $width:expr, $f:ident, $arguments:tt, $($w:literal)*) => {
        match $width {
            $($w => $f::<$w> $arguments,)*
            width => panic!("widths are 1 to {MAX_WIDTH}, got {width}"),
        }
    };
}

/// Bytes that `n` values of `width` bits take.
pub fn packed_len(n: usize, width: u8) -> usize {
    let width = usize::from(width);
    n / 8 * width + (n % 8 * width).div_ceil(8)
}

/// Appends `values` to `out`. Bits of a value beyond `width` must be 0.
///
/// # Panics
/// When `width` is 0 or more than [`MAX_WIDTH`]; in debug builds when a value has more bits.
pub fn pack(values: &[u64], width: u8, out: &mut Vec<u8>) {
    debug_assert!(values.iter().all(|value| value >> width == 0), "a value has more than {width} bits");
    let (start, len) = (out.len(), packed_len(values.len(), width));
    out.resize(start + len + SLACK, 0);
    for_width!(width, pack_groups, values, &mut out[start..]);
    out.truncate(start + len);
}

/// Reads `values.len()` values from the front of `packed`.
///
/// # Panics
/// When `width` is 0 or more than [`MAX_WIDTH`], or `packed` is shorter than [`packed_len`].
pub fn unpack(packed: &[u8], width: u8, values: &mut [u64]) {
    let packed = &packed[..packed_len(values.len(), width)];
    for_width!(width, unpack_groups, packed, values);
}

/// Whether the bits after the last of `n` values are 0; `packed` is [`packed_len`] long.
pub fn padding_is_zero(packed: &[u8], n: usize, width: u8) -> bool {
    let used_bits = n % 8 * usize::from(width) % 8;
    used_bits == 0 || packed.last().is_none_or(|last| last >> used_bits == 0)
}

/// `out` has [`SLACK`] bytes more than the values take; they are 0 afterwards.
fn pack_groups<const W: usize>(values: &[u64], out: &mut [u8]) {
    let (groups, rest) = values.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let groups = groups.iter().chain((!rest.is_empty()).then_some(&last));
    let mut start = 0;
    for group in groups {
        pack_group::<W>(group, &mut out[start..]);
        start += W;
    }
}

fn unpack_groups<const W: usize>(packed: &[u8], values: &mut [u64]) {
    let (groups, rest) = values.as_chunks_mut::<8>();
    let n_groups = groups.len();
    for (i, group) in groups.iter_mut().enumerate() {
        *group = unpack_at::<W>(&packed[i * W..]);
    }
    if !rest.is_empty() {
        rest.copy_from_slice(&unpack_at::<W>(&packed[n_groups * W..])[..rest.len()]);
    }
}

/// The group at the front of `packed`. Whole words are read, so near the end they are read from a copy with zeros behind it.
#[inline(always)]
fn unpack_at<const W: usize>(packed: &[u8]) -> [u64; 8] {
    if packed.len() >= W.next_multiple_of(8) {
        return unpack_group::<W>(packed);
    }
    let mut padded = [0; 64];
    padded[..packed.len()].copy_from_slice(packed);
    unpack_group::<W>(&padded)
}

/// Eight values of `W` bits to `W` bytes, and zeros up to a whole number of words. `W` is known when this is compiled, so every
/// shift is a constant.
#[inline(always)]
fn pack_group<const W: usize>(values: &[u64; 8], out: &mut [u8]) {
    let mut words = [0u64; 8];
    for (i, &value) in values.iter().enumerate() {
        let (word, shift) = (i * W / 64, i * W % 64);
        words[word] |= value << shift;
        if shift + W > 64 {
            words[word + 1] |= value >> (64 - shift);
        }
    }
    for (bytes, word) in out[..W.next_multiple_of(8)].as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *bytes = word.to_le_bytes();
    }
}

/// The reverse of [`pack_group`]; bytes after the first `W` don't matter, but must be there up to a whole number of words.
#[inline(always)]
fn unpack_group<const W: usize>(packed: &[u8]) -> [u64; 8] {
    let mut words = [0u64; 8];
    for (word, bytes) in words.iter_mut().zip(packed[..W.next_multiple_of(8)].as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    let mut values = [0; 8];
    for (i, value) in values.iter_mut().enumerate() {
        let (word, shift) = (i * W / 64, i * W % 64);
        *value = words[word] >> shift;
        if shift + W > 64 {
            *value |= words[word + 1] << (64 - shift);
        }
        *value &= (1 << W) - 1;
    }
    values
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
        pack(&[1, 0b110, 0b1111], 4, &mut out);
        assert_eq!(out, [0x61, 0x0f]);
    }

    #[test]
    #[should_panic(expected = "widths are 1 to 63")]
    fn width_64_panics() {
        pack(&[1], 64, &mut Vec::new());
    }
}
