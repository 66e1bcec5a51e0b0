//! Masks over packed residues.
//!
//! A mask is a stream of bytes that is read as a packed contribution of the plan: slot after slot, laid out as in [`crate::pack`], its padding
//! bits ignored. It is added to the residues, or taken from them, modulo 2^sum_bits of each slot, so that two masks of opposite signs cancel
//! in a sum and one mask makes residues look uniform.
//!
//! # Speed
//! A server takes thousands of masks from one sum, so they are not unpacked one by one. The fields of a packed word are parted into those of even
//! and those of odd index; what lies between two even fields is then room for the carries of 2^width additions, and whole words are added, four masks
//! at once. A field that begins at the end of a word and goes on in the next one would lose the carries of its front; these are summed once more,
//! shifted down by 32 bits. Then the sums of the fields are read once for all masks. The loop has seven operations for a word and no shift by a
//! variable, so that it vectorizes with the instructions that every processor has. Figures: `speed_of_masks` in the tests.

use zeroize::{Zeroize, Zeroizing};

use crate::pack::{pack, packed_len, repeated, unpack};
use crate::{ContributionError, SumPlan};

/// Masks that are added at once.
const LANES: usize = 4;
/// Widths whose masks are added in words: enough room for carries, and a field spans two words at most, by less than 32 bits.
const FOLDED_WIDTHS: std::ops::RangeInclusive<u8> = 8..=32;
/// Fewer values than this are unpacked instead.
const FEWEST_FOLDED: usize = 64;

/// How a mask goes into residues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// It is added.
    Plus,
    /// It is subtracted.
    Minus,
}

/// Lays masks over a packed contribution, in place. Each stream is asked for its bytes in order, `plan.packed_bytes()` in all, in pieces;
/// all streams give their piece for one block of values before the next block. Padding bits of the result are 0.
///
/// # Errors
/// [`ContributionError`] when `packed` is not as long as the plan says; it is then as it was.
pub fn apply<S: FnMut(&mut [u8])>(plan: &SumPlan, packed: &mut [u8], streams: &mut [(Sign, S)]) -> Result<(), ContributionError> {
    check_length(plan, packed.len())?;
    lay(blocks(plan), packed, streams);
    Ok(())
}

/// Adds the next values of every stream to some blocks of a plan, which are `packed`.
pub(crate) fn lay<S: FnMut(&mut [u8])>(blocks: impl Iterator<Item = Block>, mut packed: &mut [u8], streams: &mut [(Sign, S)]) {
    let mut layer = Layer::default();
    let mut values = Zeroizing::new(Vec::new());
    let mut masked = Vec::new();
    for block in blocks {
        let (now, later) = packed.split_at_mut(block.packed_bytes());
        packed = later;
        values.resize(block.len, 0);
        unpack(now, block.width, &mut values);
        layer.lay(block.width, &mut values, streams);
        masked.clear();
        pack(&values, block.width, &mut masked);
        now.copy_from_slice(&masked);
    }
}

fn check_length(plan: &SumPlan, found_bytes: usize) -> Result<(), ContributionError> {
    let expected_bytes = plan.packed_bytes();
    match found_bytes.cmp(&expected_bytes) {
        std::cmp::Ordering::Less => Err(ContributionError::TooShort {
            expected_bytes,
            found_bytes,
        }),
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(ContributionError::TooLong {
            expected_bytes,
            found_bytes,
        }),
    }
}

/// A run of values of one slot, worked on at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    /// Index of the slot.
    pub(crate) slot: usize,
    /// Where its values begin in the slot.
    pub(crate) first: usize,
    /// Values.
    pub(crate) len: usize,
    /// Bits of a value.
    pub(crate) width: u8,
    /// Where its bytes begin in a packed contribution.
    pub(crate) offset: usize,
}

impl Block {
    pub(crate) fn packed_bytes(self) -> usize {
        packed_len(self.len, self.width)
    }
}

/// Values of a block of this width: what is worked on at once, about nine times its packed bytes, stays in the first-level cache. It is a multiple
/// of 1024, so that every block but a slot's last one has whole blocks of the usual ciphers.
fn block_len(width: u8) -> usize {
    if width <= 20 { 2048 } else { 1024 }
}

/// The blocks of a plan in order.
pub(crate) fn blocks(plan: &SumPlan) -> impl Iterator<Item = Block> {
    let mut offset = 0;
    plan.slots().iter().enumerate().flat_map(move |(index, slot)| {
        let slot_offset = offset;
        offset += slot.packed_bytes();
        let (width, most) = (slot.sum_bits, block_len(slot.sum_bits));
        (0..slot.len).step_by(most).map(move |first| Block {
            slot: index,
            first,
            len: most.min(slot.len - first),
            width,
            offset: slot_offset + packed_len(first, width),
        })
    })
}

/// Adds masks to values, and the memory that this takes. All that comes from masks is erased when it is dropped.
#[derive(Default)]
pub(crate) struct Layer {
    tables: Tables,
    /// The next words of [`LANES`] masks, one after the other.
    words: Zeroizing<Vec<u8>>,
    sums: Sums,
    unpacked: Zeroizing<Vec<u64>>,
}

/// What belongs where in each word of a block of packed values.
#[derive(Default)]
struct Tables {
    width: u8,
    n_values: usize,
    /// Bits of fields with an even index.
    even: Vec<u64>,
    /// Bits of a field that goes on in the next word, shifted down by 32.
    front: Vec<u64>,
}

/// Sums of words, by what they belong to: see the module.
#[derive(Default)]
struct Sums {
    even: Vec<u64>,
    odd: Vec<u64>,
    front: Vec<u64>,
}

impl Layer {
    /// Adds the next values of every stream to `values` with its sign, modulo 2^width.
    pub(crate) fn lay<S: FnMut(&mut [u8])>(&mut self, width: u8, values: &mut [u64], streams: &mut [(Sign, S)]) {
        if FOLDED_WIDTHS.contains(&width) && values.len() >= FEWEST_FOLDED {
            self.lay_folded(width, values, streams);
        } else {
            self.lay_unpacked(width, values, streams);
        }
        let mask = (1 << width) - 1;
        values.iter_mut().for_each(|value| *value &= mask);
    }

    /// Modulo 2^64, of which only the lowest `width` bits mean anything.
    fn lay_unpacked<S: FnMut(&mut [u8])>(&mut self, width: u8, values: &mut [u64], streams: &mut [(Sign, S)]) {
        self.words.resize(packed_len(values.len(), width), 0);
        self.unpacked.resize(values.len(), 0);
        for (sign, fill) in streams {
            fill(&mut self.words);
            unpack(&self.words, width, &mut self.unpacked);
            let pairs = values.iter_mut().zip(self.unpacked.iter());
            match sign {
                Sign::Plus => pairs.for_each(|(value, mask)| *value = value.wrapping_add(*mask)),
                Sign::Minus => pairs.for_each(|(value, mask)| *value = value.wrapping_sub(*mask)),
            }
        }
    }

    /// Modulo 2^64, of which only the lowest `width` bits mean anything.
    fn lay_folded<S: FnMut(&mut [u8])>(&mut self, width: u8, values: &mut [u64], streams: &mut [(Sign, S)]) {
        let n_bytes = packed_len(values.len(), width);
        let n_words = n_bytes.div_ceil(8);
        self.tables.make(width, values.len());
        self.words.clear();
        self.words.resize(LANES * 8 * n_words, 0);
        // So many sums of fields fit between two others; a multiple of `LANES`.
        let room = 1usize << width.min(20);
        for sign in [Sign::Plus, Sign::Minus] {
            let mut streams = streams.iter_mut().filter(|stream| stream.0 == sign).peekable();
            while streams.peek().is_some() {
                self.sums.clear(n_words);
                for _ in 0..room / LANES {
                    if streams.peek().is_none() {
                        break;
                    }
                    for words in self.words.chunks_exact_mut(8 * n_words) {
                        match streams.next() {
                            Some((_, fill)) => fill(&mut words[..n_bytes]),
                            None => words.fill(0),
                        }
                    }
                    self.sums.add(&self.words, &self.tables);
                }
                self.sums.read(&self.tables, |index, sum| {
                    values[index] = match sign {
                        Sign::Plus => values[index].wrapping_add(sum),
                        Sign::Minus => values[index].wrapping_sub(sum),
                    };
                });
            }
        }
    }
}

impl Tables {
    fn make(&mut self, width: u8, n_values: usize) {
        if (self.width, self.n_values) == (width, n_values) {
            return;
        }
        (self.width, self.n_values) = (width, n_values);
        let n_words = packed_len(n_values, width).div_ceil(8);
        self.even = repeated((1 << width) - 1, 2 * width, n_words);
        let tops = repeated(1 << (width - 1), width, n_words);
        // What is above the last field that ends in the word.
        let front = |tops: &u64| u64::MAX.checked_shl(u64::BITS - tops.leading_zeros()).unwrap_or(0) >> 32;
        self.front = tops.iter().map(front).collect();
    }
}

impl Sums {
    fn clear(&mut self, n_words: usize) {
        for sums in [&mut self.even, &mut self.odd, &mut self.front] {
            sums.clear();
            sums.resize(n_words, 0);
        }
    }

    /// Adds [`LANES`] masks, one after the other in `words`.
    fn add(&mut self, words: &[u8], tables: &Tables) {
        let n = tables.even.len();
        let words = words.as_chunks::<8>().0;
        let lanes: [&[[u8; 8]]; LANES] = std::array::from_fn(|lane| &words[lane * n..][..n]);
        let [a, b, c, d] = lanes;
        let (even_bits, front_bits) = (&tables.even[..n], &tables.front[..n]);
        let (even, odd, front) = (&mut self.even[..n], &mut self.odd[..n], &mut self.front[..n]);
        for i in 0..n {
            let (is_even, is_front) = (even_bits[i], front_bits[i]);
            let (mut even_sum, mut odd_sum, mut front_sum) = (even[i], odd[i], front[i]);
            for lane in [a, b, c, d] {
                let word = u64::from_le_bytes(lane[i]);
                even_sum = even_sum.wrapping_add(word & is_even);
                odd_sum = odd_sum.wrapping_add(word & !is_even);
                front_sum = front_sum.wrapping_add((word >> 32) & is_front);
            }
            (even[i], odd[i], front[i]) = (even_sum, odd_sum, front_sum);
        }
    }

    /// Gives each field's index and sum, of which only the lowest `width` bits mean anything.
    fn read(&self, tables: &Tables, mut take: impl FnMut(usize, u64)) {
        let width = usize::from(tables.width);
        for index in 0..tables.n_values {
            let words = if index % 2 == 0 { &self.even } else { &self.odd };
            let (at, shift) = (index * width / 64, index * width % 64);
            let sum = if shift + width <= 64 {
                words[at] >> shift
            } else {
                let front = self.front[at] >> (shift - 32);
                front.wrapping_add(words[at + 1] << (64 - shift))
            };
            take(index, sum);
        }
    }
}

impl Drop for Sums {
    fn drop(&mut self) {
        for sums in [&mut self.even, &mut self.odd, &mut self.front] {
            sums.zeroize();
        }
    }
}

#[cfg(test)]
mod tests;
