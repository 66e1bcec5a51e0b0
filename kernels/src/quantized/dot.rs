//! Sums of products of bytes, in the words of each instruction set: sixteen outputs at once, four bytes at once.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use super::tile::Tiles;
use super::{PANEL, To};
use crate::Isa;

/// Which kernel runs, and how its weights lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Vnni,
}

impl Kind {
    pub(super) fn of(isa: Isa) -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if isa.name() == "avx512" && std::is_x86_feature_detected!("avx512vnni") {
                return Self::Vnni;
            }
            if isa != Isa::PORTABLE {
                return Self::Avx2;
            }
        }
        let _ = isa;
        Self::Portable
    }

    /// Where in a panel the weight of byte `k` for an output lies.
    pub(super) fn place(self, k: usize, output: usize) -> usize {
        match self {
            // Pairs of bytes: multiplied as 16 bits, whose products can't saturate.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => k / 2 * 2 * PANEL + output * 2 + k % 2,
            _ => k / 4 * 4 * PANEL + output * 4 + k % 4,
        }
    }

    /// Does the product.
    ///
    /// # Safety
    /// As for [`Tiles::run`]; the processor has the instructions, which follows from the `Isa` that the kind was made of.
    pub(super) unsafe fn run(self, tiles: Tiles<'_>, to: To<'_>) {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
        unsafe fn vnni(tiles: Tiles<'_>, to: To<'_>) {
            tiles.run::<Vnni>(to);
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2(tiles: Tiles<'_>, to: To<'_>) {
            tiles.run::<Avx2>(to);
        }
        match self {
            Self::Portable => tiles.run::<Portable>(to),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2(tiles, to),
            #[cfg(target_arch = "x86_64")]
            Self::Vnni => vnni(tiles, to),
        }
    }
}

/// Sixteen sums. Functions are `#[inline(always)]`.
///
/// # Safety
/// Every function asks that the processor has the instructions; weights are good for 64 bytes, bytes for four.
pub(super) trait Dot: Copy {
    /// Panels that are worth doing at once.
    const PANELS: usize;
    /// The weights of four bytes for sixteen outputs.
    type Weights: Copy;

    unsafe fn zero() -> Self;
    unsafe fn weights(from: *const i8) -> Self::Weights;
    /// Adds the products of four bytes.
    unsafe fn add(self, bytes: *const u8, weights: Self::Weights) -> Self;
    unsafe fn store(self) -> [i32; PANEL];
}

/// Plain Rust.
#[derive(Clone, Copy)]
pub(super) struct Portable([i32; PANEL]);

impl Dot for Portable {
    const PANELS: usize = 1;
    type Weights = [i8; 4 * PANEL];

    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0; PANEL])
    }
    #[inline(always)]
    unsafe fn weights(from: *const i8) -> Self::Weights {
        from.cast::<Self::Weights>().read_unaligned()
    }
    #[inline(always)]
    unsafe fn add(mut self, bytes: *const u8, weights: Self::Weights) -> Self {
        let bytes = bytes.cast::<[u8; 4]>().read_unaligned().map(i32::from);
        for (i, sum) in self.0.iter_mut().enumerate() {
            for (j, byte) in bytes.iter().enumerate() {
                // Within 32 bits, as was checked when the weights were scaled.
                *sum = sum.wrapping_add(byte.wrapping_mul(i32::from(weights[4 * i + j])));
            }
        }
        self
    }
    #[inline(always)]
    unsafe fn store(self) -> [i32; PANEL] {
        self.0
    }
}

/// AVX2: pairs of bytes as 16 bits. `vpmaddubsw` would saturate.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Avx2([__m256i; 2]);

#[cfg(target_arch = "x86_64")]
impl Dot for Avx2 {
    const PANELS: usize = 1;
    /// The first pair for eight outputs and eight more, then the second pair.
    type Weights = [__m256i; 4];

    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([_mm256_setzero_si256(); 2])
    }
    #[inline(always)]
    unsafe fn weights(from: *const i8) -> Self::Weights {
        let wide = |i: usize| _mm256_cvtepi8_epi16(_mm_loadu_si128(from.add(16 * i).cast()));
        [wide(0), wide(1), wide(2), wide(3)]
    }
    #[inline(always)]
    unsafe fn add(self, bytes: *const u8, weights: Self::Weights) -> Self {
        let word = bytes.cast::<u32>().read_unaligned();
        let pair = |word: u32| _mm256_set1_epi32(((word & 0xff) | (word & 0xff00) << 8).cast_signed());
        let (first, second) = (pair(word), pair(word >> 16));
        let sum = |sum: __m256i, a: __m256i, b: __m256i| {
            let both = _mm256_add_epi32(_mm256_madd_epi16(first, a), _mm256_madd_epi16(second, b));
            _mm256_add_epi32(sum, both)
        };
        Self([sum(self.0[0], weights[0], weights[2]), sum(self.0[1], weights[1], weights[3])])
    }
    #[inline(always)]
    unsafe fn store(self) -> [i32; PANEL] {
        let mut sums = [0; PANEL];
        _mm256_storeu_si256(sums.as_mut_ptr().cast(), self.0[0]);
        _mm256_storeu_si256(sums.as_mut_ptr().add(8).cast(), self.0[1]);
        sums
    }
}

/// AVX-512 with VNNI: `vpdpbusd`, which does not saturate.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Vnni(__m512i);

#[cfg(target_arch = "x86_64")]
impl Dot for Vnni {
    const PANELS: usize = 4;
    type Weights = __m512i;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Self(_mm512_setzero_si512())
    }
    #[inline(always)]
    unsafe fn weights(from: *const i8) -> Self::Weights {
        _mm512_loadu_si512(from.cast())
    }
    #[inline(always)]
    unsafe fn add(self, bytes: *const u8, weights: Self::Weights) -> Self {
        let bytes = _mm512_set1_epi32(bytes.cast::<i32>().read_unaligned());
        Self(_mm512_dpbusd_epi32(self.0, bytes, weights))
    }
    #[inline(always)]
    unsafe fn store(self) -> [i32; PANEL] {
        let mut sums = [0; PANEL];
        _mm512_storeu_si512(sums.as_mut_ptr().cast(), self.0);
        sums
    }
}
