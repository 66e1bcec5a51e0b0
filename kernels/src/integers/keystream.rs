//! The stream of ChaCha8, many blocks at once.
//!
//! # Source
//! Bernstein 2008, ChaCha, a variant of Salsa20: a counter of 64 bits and a nonce of 64 bits, which is 0 here.

use std::fmt;

use crate::isa::{Isa, Kernel, dispatch};
use crate::vector::{Vector, Words};

/// Words of a block.
const BLOCK: usize = 16;
/// Most blocks at once.
const MOST: usize = 16;

/// The stream of a key, as little-endian words: those of `rand_chacha::ChaCha8Rng::from_seed(key)`. `Debug` shows nothing of it.
#[derive(Clone)]
pub struct Keystream {
    isa: Isa,
    key: [u32; 8],
    /// The block that comes next.
    next: u64,
}

impl Keystream {
    /// From its beginning.
    pub fn new(isa: Isa, key: [u8; 32]) -> Self {
        let mut words = [0; 8];
        for (word, bytes) in words.iter_mut().zip(key.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        Self { isa, key: words, next: 0 }
    }

    /// Goes to a block of 16 words.
    pub fn seek(&mut self, block: u64) {
        self.next = block;
    }

    /// The next words. What is left of the last block is thrown away: the next call begins with a block.
    pub fn fill(&mut self, out: &mut [u32]) {
        let (key, first) = (&self.key, self.next);
        self.next = first.wrapping_add(out.len().div_ceil(BLOCK) as u64);
        // SAFETY: it writes to `out` alone, checking lengths.
        unsafe { dispatch(self.isa, Fill { key, first, out }) }
    }
}

impl fmt::Debug for Keystream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keystream").field("isa", &self.isa).finish_non_exhaustive()
    }
}

struct Fill<'a> {
    key: &'a [u32; 8],
    first: u64,
    out: &'a mut [u32],
}

impl Kernel for Fill<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let at_once = BLOCK * V::Words::LANES;
        let mut block = self.first;
        let mut chunks = self.out.chunks_exact_mut(at_once);
        for chunk in &mut chunks {
            blocks::<V>(self.key, block, chunk.as_mut_ptr());
            block = block.wrapping_add(V::Words::LANES as u64);
        }
        let rest = chunks.into_remainder();
        if !rest.is_empty() {
            let mut words = [0; BLOCK * MOST];
            blocks::<V>(self.key, block, words.as_mut_ptr());
            rest.copy_from_slice(&words[..rest.len()]);
        }
    }
}

/// A block in each lane; `to` is good for all their words.
#[inline(always)]
unsafe fn blocks<V: Vector>(key: &[u32; 8], first: u64, to: *mut u32) {
    const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];
    let n = V::Words::LANES;
    let (mut low, mut high) = ([0; MOST], [0; MOST]);
    for i in 0..n {
        let counter = first.wrapping_add(i as u64);
        (low[i], high[i]) = (counter as u32, (counter >> 32) as u32);
    }
    let mut start = [V::Words::splat(0); BLOCK];
    for i in 0..4 {
        start[i] = V::Words::splat(CONSTANTS[i]);
    }
    for i in 0..8 {
        start[4 + i] = V::Words::splat(key[i]);
    }
    start[12] = V::Words::load(low.as_ptr());
    start[13] = V::Words::load(high.as_ptr());
    let mut x = start;
    for _ in 0..4 {
        quarter::<V::Words, 0, 4, 8, 12>(&mut x);
        quarter::<V::Words, 1, 5, 9, 13>(&mut x);
        quarter::<V::Words, 2, 6, 10, 14>(&mut x);
        quarter::<V::Words, 3, 7, 11, 15>(&mut x);
        quarter::<V::Words, 0, 5, 10, 15>(&mut x);
        quarter::<V::Words, 1, 6, 11, 12>(&mut x);
        quarter::<V::Words, 2, 7, 8, 13>(&mut x);
        quarter::<V::Words, 3, 4, 9, 14>(&mut x);
    }
    // Row `i` holds word `i` of each block; turned over, each block's words follow each other.
    let mut rows = [0u32; BLOCK * MOST];
    for i in 0..BLOCK {
        x[i].add(start[i]).store(rows.as_mut_ptr().add(i * n));
    }
    for row in (0..BLOCK).step_by(V::LANES) {
        // Of the vectors' words there are no more than floats.
        V::transpose(rows.as_ptr().add(row * n).cast(), n, V::LANES, n, to.add(row).cast(), BLOCK);
    }
}

#[inline(always)]
unsafe fn quarter<W: Words, const A: usize, const B: usize, const C: usize, const D: usize>(x: &mut [W; BLOCK]) {
    x[A] = x[A].add(x[B]);
    x[D] = x[D].xor(x[A]).rotate::<16, 16>();
    x[C] = x[C].add(x[D]);
    x[B] = x[B].xor(x[C]).rotate::<12, 20>();
    x[A] = x[A].add(x[B]);
    x[D] = x[D].xor(x[A]).rotate::<8, 24>();
    x[C] = x[C].add(x[D]);
    x[B] = x[B].xor(x[C]).rotate::<7, 25>();
}
