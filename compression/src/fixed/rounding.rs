//! From values to residues, and what is kept from one update to the next for it.

use std::fmt;

use aimass_kernels::Isa;
use aimass_kernels::integers::{Keystream, Rounding, add_squares, random_words};
use rand_core::Rng;

use crate::EncodeError;
use crate::rotation::LONGEST;

/// Values worked on at once, those of the longest block of a rotation: but for the update and the sums, all stays in the first-level cache. A multiple of
/// 8, so that packed blocks end at a byte.
pub(crate) const BLOCK: usize = LONGEST;

/// Largest residue of `bits` bits: 2^bits - 1. At most 2^32 - 1.
pub(crate) fn levels(bits: u8) -> u64 {
    (1 << bits) - 1
}

/// To 0..=`most`, which is below 2^32, of values that are within `bound` when they are multiplied by `factor`:
/// q = round((x factor / bound + 1) / 2 * most + r) with r random in (-1/2, 1/2), so that q is one of the two whole numbers around its argument.
/// r is one of 2^16 numbers: q is right on average up to 2^-17 of a level.
pub(crate) fn rounding(most: u64, bound: f64, factor: f64) -> Rounding {
    let half = most as f64 / 2.0;
    Rounding::new(most as u32, factor / bound * half)
}

/// What is random in one contribution: the stream of a key from `rng`.
pub(crate) fn stream(isa: Isa, rng: &mut impl Rng) -> Keystream {
    let mut key = [0; 32];
    rng.fill_bytes(&mut key);
    Keystream::new(isa, key)
}

/// Rounds blocks.
pub(crate) struct Rounder {
    isa: Isa,
    words: Box<[u32]>,
    residues: Box<[u32]>,
}

impl Rounder {
    pub(crate) fn new(isa: Isa) -> Self {
        Self {
            isa,
            words: vec![0; random_words(BLOCK)].into(),
            residues: vec![0; BLOCK].into(),
        }
    }

    /// The residues of at most [`BLOCK`] values.
    pub(crate) fn round(&mut self, rounding: &Rounding, values: &[f32], stream: &mut Keystream) -> &[u32] {
        let (words, residues) = (&mut self.words[..random_words(values.len())], &mut self.residues[..values.len()]);
        stream.fill(words);
        rounding.round(self.isa, values, words, residues);
        residues
    }

    /// Those of `n` zeros, the same.
    pub(super) fn round_zeros(&mut self, rounding: &Rounding, n: usize, stream: &mut Keystream) -> &[u32] {
        let (words, residues) = (&mut self.words[..random_words(n)], &mut self.residues[..n]);
        stream.fill(words);
        rounding.round_zeros(self.isa, words, residues);
        residues
    }
}

/// Memory that encoding needs, kept from one update to the next: some 50 KB, and 8 bytes for 4096 values. `Debug` shows no values.
pub struct Scratch {
    pub(super) isa: Isa,
    pub(super) rounder: Rounder,
    /// A block of the update, rotated.
    pub(super) block: Box<[f32]>,
    /// Sums of squares up to the end of each block of the update.
    pub(super) squares: Vec<f64>,
}

impl Scratch {
    /// Memory for updates of any length.
    pub fn new() -> Self {
        Self::on(Isa::best())
    }

    /// For comparisons of instruction sets, which all give the same bits.
    pub(crate) fn on(isa: Isa) -> Self {
        Self {
            isa,
            rounder: Rounder::new(isa),
            block: vec![0.0; BLOCK].into(),
            squares: Vec::new(),
        }
    }

    /// L2 norm in f64, in which no sum of squares of f32 overflows: it is finite exactly when all values are. Notes the squares.
    pub(super) fn l2_norm(&mut self, values: &[f32]) -> Result<f64, EncodeError> {
        const LANES: usize = 16;
        let mut sums = [0.0; LANES];
        let (whole, rest) = values.split_at(values.len() / LANES * LANES);
        self.squares.clear();
        for block in whole.chunks(BLOCK) {
            add_squares(self.isa, block, &mut sums);
            self.squares.push(sums.iter().sum());
        }
        let sum = sums.iter().sum::<f64>() + rest.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>();
        if !sum.is_finite() {
            let index = values.iter().position(|value| !value.is_finite()).unwrap_or(0);
            return Err(EncodeError::NonFinite { index });
        }
        Ok(sum.sqrt())
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch").field("isa", &self.isa).finish_non_exhaustive()
    }
}
