//! From values to residues.

use rand_core::Rng;

use crate::EncodeError;
use crate::pack::pack;

/// Values encoded at once; a multiple of 8, so that blocks end at a byte.
const BLOCK: usize = 1024;

/// Largest residue of `bits` bits: 2^bits - 1.
pub(crate) fn levels(bits: u8) -> u64 {
    (1 << bits) - 1
}

/// From values to residues: q = round((x factor / bound + 1) / 2 * (2^bits - 1) + r) with r uniform in [-1/2, 1/2), so that q is
/// one of the two whole numbers around its argument and right on average.
pub(crate) struct Rounding {
    factor: f64,
    offset: f64,
    most: f64,
}

impl Rounding {
    /// To 0..=`most`, which is below 2^32, of values that are within `bound` when they are multiplied by `factor`.
    pub(crate) fn new(most: u64, bound: f64, factor: f64) -> Self {
        let most = most as f64;
        Self {
            factor: factor / bound * (most / 2.0),
            offset: most / 2.0,
            most,
        }
    }

    pub(crate) fn pack(&self, values: &[f32], width: u8, rng: &mut impl Rng, out: &mut Vec<u8>) {
        let mut random = [0u8; 4 * BLOCK];
        let mut residues = [0u64; BLOCK];
        for values in values.chunks(BLOCK) {
            let random = &mut random[..4 * values.len()];
            rng.fill_bytes(random);
            let words = random.as_chunks::<4>().0;
            for ((residue, &value), &word) in residues.iter_mut().zip(values).zip(words) {
                *residue = self.residue(value, u32::from_le_bytes(word));
            }
            pack(&residues[..values.len()], width, out);
        }
    }

    /// Only operations that vectorize: no conversion from f64 to u64, no branch.
    #[inline(always)]
    fn residue(&self, value: f32, random: u32) -> u64 {
        const UNIT: f64 = 1.0 / (1u64 << 32) as f64;
        // From here on to twice as much, f64 holds whole numbers only, so adding it rounds; the number is then in the low bits.
        const ROUNDER: f64 = (1u64 << 52) as f64;
        let level = f64::from(value) * self.factor + self.offset + f64::from(random as i32) * UNIT;
        // Within +-1/2 of [0, most], and r may take it just outside.
        let level = if level < 0.0 { 0.0 } else { level };
        let level = if level > self.most { self.most } else { level };
        (level + ROUNDER).to_bits() & ((1 << 52) - 1)
    }
}

/// L2 norm in f64, in which no sum of squares of f32 overflows: it is finite exactly when all values are.
pub(super) fn l2_norm(values: &[f32]) -> Result<f64, EncodeError> {
    const LANES: usize = 16;
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut sums = [0.0f64; LANES];
    for chunk in chunks {
        for (sum, &value) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(value) * f64::from(value);
        }
    }
    let sum: f64 = sums.iter().sum::<f64>() + rest.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>();
    if !sum.is_finite() {
        let index = values.iter().position(|value| !value.is_finite()).unwrap_or(0);
        return Err(EncodeError::NonFinite { index });
    }
    Ok(sum.sqrt())
}

/// Largest magnitude; 0 of nothing. A loop without branches is vectorized.
pub(super) fn largest_magnitude(values: &[f32]) -> f64 {
    const LANES: usize = 16;
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut largest = [0.0f32; LANES];
    for chunk in chunks {
        for (largest, value) in largest.iter_mut().zip(chunk) {
            let value = value.abs();
            *largest = if value > *largest { value } else { *largest };
        }
    }
    let all = largest.into_iter().chain(rest.iter().map(|value| value.abs()));
    all.fold(0.0, f32::max).into()
}
