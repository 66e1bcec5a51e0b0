//! From values to residues, and what has to be known of the values before.

use crate::isa::{Isa, Kernel, dispatch};
use crate::vector::{Vector, Words};

/// Values that share their random words: the low halves are those of the first sixteen.
const GROUP: usize = 32;
/// Sums that are made side by side.
const LANES: usize = 16;

/// Words of 32 random bits that `n` values take: half a word a value, in groups of 32 values.
pub fn random_words(n: usize) -> usize {
    n.div_ceil(GROUP) * (GROUP / 2)
}

/// From values to residues: q = round(x factor + most / 2 + r) with r evenly one of the 2^16 numbers -1/2 + 2^-17, -1/2 + 3 2^-17, ... 1/2 - 2^-17, so
/// that q is one of the two whole numbers around its argument, and right on average up to 2^-17.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rounding {
    factor: f64,
    /// With what r begins with.
    offset: f64,
    most: f64,
}

impl Rounding {
    /// To 0..=`most`, of values that are within +-`most / 2` when they are multiplied by `factor`, up to rounding.
    pub fn new(most: u32, factor: f64) -> Self {
        let most = f64::from(most);
        Self {
            factor,
            offset: most / 2.0 + 0.5 / 65536.0,
            most,
        }
    }

    /// Rounds `values`. Of each 32 values and 16 words, value i and value 16 + i take the low and the high half of word i.
    ///
    /// # Panics
    /// On another number of residues, or of words than [`random_words`].
    pub fn round(&self, isa: Isa, values: &[f32], random: &[u32], residues: &mut [u32]) {
        assert_eq!(residues.len(), values.len(), "there is a residue for each value");
        assert_eq!(random.len(), random_words(values.len()), "there are words for all values");
        let rounding = *self;
        // SAFETY: it indexes slices.
        unsafe {
            dispatch(
                isa,
                Round {
                    rounding,
                    values,
                    random,
                    residues,
                },
            );
        }
    }

    /// The residues of as many zeros, which only the signs of r decide.
    ///
    /// # Panics
    /// On another number of words than [`random_words`].
    pub fn round_zeros(&self, isa: Isa, random: &[u32], residues: &mut [u32]) {
        assert_eq!(random.len(), random_words(residues.len()), "there are words for all values");
        let high = self.residue(0.0, i32::MAX & !0xffff);
        let step = high - self.residue(0.0, i32::MIN);
        // SAFETY: it reads and writes whole groups, which are arrays.
        unsafe {
            dispatch(
                isa,
                RoundZeros {
                    high,
                    step,
                    random,
                    residues,
                },
            );
        }
    }

    /// `r` is the random half, as the upper half of a number with a sign.
    #[inline(always)]
    fn residue(&self, value: f32, r: i32) -> u32 {
        const UNIT: f64 = 1.0 / (1u64 << 32) as f64;
        // From here on to twice as much, f64 holds whole numbers only, so adding it rounds; the number is then in the low bits.
        const ROUNDER: f64 = (1u64 << 52) as f64;
        let level = f64::from(value) * self.factor + self.offset + f64::from(r) * UNIT;
        // Within +-1/2 of [0, most], and r may take it just outside.
        let level = if level < 0.0 { 0.0 } else { level };
        let level = if level > self.most { self.most } else { level };
        (level + ROUNDER).to_bits() as u32
    }

    #[inline(always)]
    fn group(&self, values: &[f32; GROUP], random: &[u32; GROUP / 2], residues: &mut [u32; GROUP]) {
        for i in 0..GROUP / 2 {
            residues[i] = self.residue(values[i], (random[i] << 16) as i32);
        }
        for i in 0..GROUP / 2 {
            residues[16 + i] = self.residue(values[16 + i], (random[i] & 0xffff_0000) as i32);
        }
    }
}

struct Round<'a> {
    rounding: Rounding,
    values: &'a [f32],
    random: &'a [u32],
    residues: &'a mut [u32],
}

impl Kernel for Round<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let (values, rest) = self.values.as_chunks::<GROUP>();
        let (random, _) = self.random.as_chunks::<{ GROUP / 2 }>();
        let (residues, rest_residues) = self.residues.as_chunks_mut::<GROUP>();
        for i in 0..values.len() {
            self.rounding.group(&values[i], &random[i], &mut residues[i]);
        }
        if !rest.is_empty() {
            let (mut last, mut last_residues) = ([0.0; GROUP], [0; GROUP]);
            last[..rest.len()].copy_from_slice(rest);
            self.rounding.group(&last, &random[values.len()], &mut last_residues);
            rest_residues.copy_from_slice(&last_residues[..rest.len()]);
        }
    }
}

struct RoundZeros<'a> {
    high: u32,
    /// What a negative r takes off: 1 or 0.
    step: u32,
    random: &'a [u32],
    residues: &'a mut [u32],
}

impl RoundZeros<'_> {
    /// # Safety
    /// As for [`Vector`].
    #[inline(always)]
    unsafe fn group<W: Words>(high: u32, step: u32, random: &[u32; GROUP / 2], residues: &mut [u32; GROUP]) {
        let (high, step, to) = (W::splat(high), W::splat(step), residues.as_mut_ptr());
        for i in (0..GROUP / 2).step_by(W::LANES) {
            let word = W::load(random.as_ptr().add(i));
            high.sub(word.shift_right::<15>().and(step)).store(to.add(i));
            high.sub(word.shift_right::<31>().and(step)).store(to.add(GROUP / 2 + i));
        }
    }
}

impl Kernel for RoundZeros<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let (random, _) = self.random.as_chunks::<{ GROUP / 2 }>();
        let (residues, rest) = self.residues.as_chunks_mut::<GROUP>();
        for i in 0..residues.len() {
            Self::group::<V::Words>(self.high, self.step, &random[i], &mut residues[i]);
        }
        if !rest.is_empty() {
            let mut last = [0; GROUP];
            Self::group::<V::Words>(self.high, self.step, &random[residues.len()], &mut last);
            rest.copy_from_slice(&last[..rest.len()]);
        }
    }
}

/// Adds the square of value i to sum i mod 16. Squares of f32 are exact in f64.
///
/// # Panics
/// Unless the number of values is a multiple of 16.
pub fn add_squares(isa: Isa, values: &[f32], sums: &mut [f64; LANES]) {
    let (chunks, rest) = values.as_chunks();
    assert!(rest.is_empty(), "the number of values is no multiple of 16");
    // SAFETY: it indexes slices.
    unsafe { dispatch(isa, Squares(chunks, sums)) }
}

struct Squares<'a>(&'a [[f32; LANES]], &'a mut [f64; LANES]);

impl Kernel for Squares<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let mut sums = *self.1;
        for chunk in self.0 {
            for i in 0..LANES {
                sums[i] += f64::from(chunk[i]) * f64::from(chunk[i]);
            }
        }
        *self.1 = sums;
    }
}

/// Largest magnitude of finite values; 0 of nothing.
pub fn largest_magnitude(isa: Isa, values: &[f32]) -> f32 {
    // SAFETY: it indexes slices.
    unsafe { dispatch(isa, Largest(values)) }
}

struct Largest<'a>(&'a [f32]);

impl Kernel for Largest<'_> {
    type Output = f32;

    #[inline(always)]
    unsafe fn run<V: Vector>(self) -> f32 {
        let (chunks, rest) = self.0.as_chunks::<LANES>();
        let mut largest = [0.0f32; LANES];
        for chunk in chunks {
            for i in 0..LANES {
                let value = chunk[i].abs();
                largest[i] = if value > largest[i] { value } else { largest[i] };
            }
        }
        let mut all = 0.0f32;
        for i in 0..LANES {
            all = all.max(largest[i]);
        }
        for i in 0..rest.len() {
            all = all.max(rest[i].abs());
        }
        all
    }
}

/// `scaled[i] = values[i] * factor`, multiplied in f64 and then rounded.
///
/// # Panics
/// On another length of `scaled`.
pub fn scale(isa: Isa, values: &[f32], factor: f64, scaled: &mut [f32]) {
    assert_eq!(values.len(), scaled.len(), "there is a place for each value");
    // SAFETY: it indexes slices.
    unsafe { dispatch(isa, Scale(values, factor, scaled)) }
}

struct Scale<'a>(&'a [f32], f64, &'a mut [f32]);

impl Kernel for Scale<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let n = self.0.len().min(self.2.len());
        let (values, scaled) = (&self.0[..n], &mut self.2[..n]);
        for i in 0..n {
            scaled[i] = (f64::from(values[i]) * self.1) as f32;
        }
    }
}
