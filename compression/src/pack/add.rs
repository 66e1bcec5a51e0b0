//! Adding packed values without unpacking them.

use crate::mask::Sign;

/// Adds packed values to packed sums, each modulo 2^width, a word of 64 bits at once: some twelve operations for a word, no shift by a variable, so
/// that it vectorizes with the instructions that every processor has and is as fast as memory.
///
/// The topmost bit of each value is left out of the addition, so that no carry leaves a value, and is put right by an exclusive or (Hacker's Delight,
/// section 2-18). A value that goes on in the next word has no topmost bit in the first one, and its carry is the carry of the whole word. It does
/// not depend on the carry into the word, because every word holds a topmost bit: values are narrower than words.
#[derive(Debug, Default)]
pub(crate) struct Adder {
    width: u8,
    /// Topmost bits of the values in each word.
    tops: Vec<u64>,
}

impl Adder {
    /// Adds `packed` to `sums`, or takes it from them: as many bytes, both beginning with a value and ending with one (or padding, which must be 0 in
    /// `packed` and stays as it is in `sums`).
    pub(crate) fn add(&mut self, width: u8, sums: &mut [u8], packed: &[u8], sign: Sign) {
        debug_assert_eq!(sums.len(), packed.len());
        let n_words = packed.len().div_ceil(8);
        if self.width != width || self.tops.len() < n_words {
            self.width = width;
            self.tops = repeated(1 << (width - 1), width, n_words);
        }
        // x - y = !(!x + y), modulo any power of two.
        let flip = match sign {
            Sign::Plus => 0,
            Sign::Minus => u64::MAX,
        };
        let (words, rest) = packed.as_chunks::<8>();
        let (sum_words, sum_rest) = sums.as_chunks_mut::<8>();
        let (tops, rest_tops) = self.tops.split_at(words.len());
        let mut carry = 0;
        for ((sum, word), &tops) in sum_words.iter_mut().zip(words).zip(tops) {
            let (added, carried) = add_word(u64::from_le_bytes(*sum) ^ flip, u64::from_le_bytes(*word), tops, carry);
            *sum = (added ^ flip).to_le_bytes();
            carry = carried;
        }
        if let (Some(&tops), false) = (rest_tops.first(), rest.is_empty()) {
            let padded = |bytes: &[u8]| {
                let mut word = [0; 8];
                word[..bytes.len()].copy_from_slice(bytes);
                u64::from_le_bytes(word)
            };
            let (added, _) = add_word(padded(sum_rest) ^ flip, padded(rest), tops, carry);
            sum_rest.copy_from_slice(&(added ^ flip).to_le_bytes()[..rest.len()]);
        }
    }
}

/// The sums of the values in a word, and the carry of a value that goes on in the next one.
#[inline(always)]
fn add_word(x: u64, y: u64, tops: u64, carry: u64) -> (u64, u64) {
    let (low_x, low_y) = (x & !tops, y & !tops);
    let sum = low_x.wrapping_add(low_y);
    let carried = ((low_x & low_y) | ((low_x | low_y) & !sum)) >> 63;
    (sum.wrapping_add(carry) ^ ((x ^ y) & tops), carried)
}

/// `n_words` words in which the lowest `width` bits of `field` come again and again, from the lowest bit on. `width` is 1 to 64.
pub(crate) fn repeated(field: u64, width: u8, n_words: usize) -> Vec<u64> {
    let mut words = vec![0; n_words];
    for start in (0..64 * n_words).step_by(width.into()) {
        let (word, shift) = (start / 64, start % 64);
        words[word] |= field << shift;
        if let (Some(next), true) = (words.get_mut(word + 1), shift > 0) {
            *next |= field >> (64 - shift);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pack::{MAX_WIDTH, pack, unpack};

    proptest! {
        #[test]
        fn packed_values_are_added_and_taken_out_one_by_one(
            width in 1..=MAX_WIDTH,
            pairs in proptest::collection::vec(any::<(u64, u64)>(), 0..400),
        ) {
            let mask = (1u64 << width) - 1;
            let packed = |values: &mut dyn Iterator<Item = u64>| {
                let values: Vec<u64> = values.map(|value| value & mask).collect();
                let mut out = Vec::new();
                pack(&values, width, &mut out);
                out
            };
            let (x, y) = (packed(&mut pairs.iter().map(|pair| pair.0)), packed(&mut pairs.iter().map(|pair| pair.1)));
            let mut adder = Adder::default();
            for (sign, expected) in [
                (Sign::Plus, packed(&mut pairs.iter().map(|pair| pair.0.wrapping_add(pair.1)))),
                (Sign::Minus, packed(&mut pairs.iter().map(|pair| pair.0.wrapping_sub(pair.1)))),
            ] {
                let mut sums = x.clone();
                adder.add(width, &mut sums, &y, sign);
                prop_assert_eq!(sums, expected);
            }
        }

        #[test]
        fn a_repeated_field_is_in_every_value(width in 1..=MAX_WIDTH, field: u64, n_words in 1usize..70) {
            let field = field & ((1 << width) - 1);
            let words = repeated(field, width, n_words);
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            let mut values = vec![0; 64 * n_words / usize::from(width)];
            unpack(&bytes, width, &mut values);
            prop_assert!(values.iter().all(|value| *value == field));
        }
    }
}
