//! AVX2 with FMA: eight lanes.

use std::arch::x86_64::*;

use super::{EXPONENT, Vector};

#[derive(Clone, Copy)]
pub(crate) struct Avx2(__m256);

/// All ones, then all zeros: a mask of the first `n` lanes begins at `8 - n`.
static FIRST: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

#[inline(always)]
unsafe fn first(n: usize) -> __m256i {
    debug_assert!(n <= 8);
    _mm256_loadu_si256(FIRST.as_ptr().add(8 - n).cast())
}

impl Vector for Avx2 {
    const LANES: usize = 8;
    const REGISTERS: usize = 16;
    type Mask = __m256;
    type Wide = (__m256d, __m256d);
    type Words = __m256i;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self(_mm256_set1_ps(x))
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(_mm256_loadu_ps(from))
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        _mm256_storeu_ps(to, self.0);
    }
    #[inline(always)]
    unsafe fn load_n(from: *const f32, n: usize) -> Self {
        Self(_mm256_maskload_ps(from, first(n)))
    }
    #[inline(always)]
    unsafe fn store_n(self, to: *mut f32, n: usize) {
        _mm256_maskstore_ps(to, first(n), self.0);
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        Self(_mm256_add_ps(self.0, b.0))
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        Self(_mm256_sub_ps(self.0, b.0))
    }
    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        Self(_mm256_mul_ps(self.0, b.0))
    }
    #[inline(always)]
    unsafe fn div(self, b: Self) -> Self {
        Self(_mm256_div_ps(self.0, b.0))
    }
    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        Self(_mm256_fmadd_ps(self.0, b.0, c.0))
    }
    #[inline(always)]
    unsafe fn max(self, b: Self) -> Self {
        Self(_mm256_max_ps(self.0, b.0))
    }
    #[inline(always)]
    unsafe fn min(self, b: Self) -> Self {
        Self(_mm256_min_ps(self.0, b.0))
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        Self(_mm256_sqrt_ps(self.0))
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        Self(_mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0))
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        Self(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0))
    }
    #[inline(always)]
    unsafe fn exp2_of_integer(self) -> Self {
        let bits = _mm256_add_epi32(_mm256_cvtps_epi32(self.0), _mm256_set1_epi32(127));
        Self(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(bits)))
    }
    #[inline(always)]
    unsafe fn integer_and_power(self, factor: Self) -> (Self, Self) {
        let sum = self.fma(factor, Self::splat(EXPONENT));
        (
            sum.sub(Self::splat(EXPONENT)),
            Self(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_castps_si256(sum.0)))),
        )
    }
    #[inline(always)]
    unsafe fn mantissa_and_exponent(self) -> (Self, Self) {
        let bits = _mm256_castps_si256(self.0);
        let mantissa = _mm256_and_si256(bits, _mm256_set1_epi32(0x007f_ffff));
        let mantissa = _mm256_or_si256(mantissa, _mm256_set1_epi32(0x3f80_0000));
        let exponent = _mm256_sub_epi32(_mm256_srli_epi32::<23>(bits), _mm256_set1_epi32(127));
        (Self(_mm256_castsi256_ps(mantissa)), Self(_mm256_cvtepi32_ps(exponent)))
    }
    #[inline(always)]
    unsafe fn gt(self, b: Self) -> __m256 {
        _mm256_cmp_ps::<_CMP_GT_OQ>(self.0, b.0)
    }
    #[inline(always)]
    unsafe fn gt_or_nan(self, b: Self) -> __m256 {
        _mm256_or_ps(
            _mm256_cmp_ps::<_CMP_GT_OQ>(self.0, b.0),
            _mm256_cmp_ps::<_CMP_UNORD_Q>(self.0, self.0),
        )
    }
    #[inline(always)]
    unsafe fn eq(self, b: Self) -> __m256 {
        _mm256_cmp_ps::<_CMP_EQ_OQ>(self.0, b.0)
    }
    #[inline(always)]
    unsafe fn select(self, mask: __m256, b: Self) -> Self {
        Self(_mm256_blendv_ps(b.0, self.0, mask))
    }
    #[inline(always)]
    unsafe fn keep(self, mask: __m256) -> Self {
        Self(_mm256_and_ps(self.0, mask))
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let four = _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
    }
    #[inline(always)]
    unsafe fn sums(of: [Self; 16], to: *mut f32) {
        for half in 0..2 {
            let at = |i: usize| of[8 * half + i].0;
            let [ab, cd] = [_mm256_hadd_ps(at(0), at(1)), _mm256_hadd_ps(at(2), at(3))];
            let [ef, gh] = [_mm256_hadd_ps(at(4), at(5)), _mm256_hadd_ps(at(6), at(7))];
            let (abcd, efgh) = (_mm256_hadd_ps(ab, cd), _mm256_hadd_ps(ef, gh));
            let low = _mm256_permute2f128_ps::<0x20>(abcd, efgh);
            let high = _mm256_permute2f128_ps::<0x31>(abcd, efgh);
            _mm256_storeu_ps(to.add(8 * half), _mm256_add_ps(low, high));
        }
    }
    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        let four = _mm_max_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
        let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
    }
    #[inline(always)]
    unsafe fn wide_zero() -> Self::Wide {
        (_mm256_setzero_pd(), _mm256_setzero_pd())
    }
    #[inline(always)]
    unsafe fn fma_wide(self, b: Self, sums: Self::Wide) -> Self::Wide {
        let (a, b) = (self.0, b.0);
        let (a0, b0) = (
            _mm256_cvtps_pd(_mm256_castps256_ps128(a)),
            _mm256_cvtps_pd(_mm256_castps256_ps128(b)),
        );
        let (a1, b1) = (
            _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(a)),
            _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(b)),
        );
        (_mm256_fmadd_pd(a0, b0, sums.0), _mm256_fmadd_pd(a1, b1, sums.1))
    }
    #[inline(always)]
    unsafe fn sum_wide(sums: Self::Wide) -> f64 {
        let four = _mm256_add_pd(sums.0, sums.1);
        let two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd::<1>(four));
        _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)))
    }
    #[inline(always)]
    unsafe fn evens(self, next: Self) -> Self {
        let pairs = _mm256_castps_pd(_mm256_shuffle_ps::<0x88>(self.0, next.0));
        Self(_mm256_castpd_ps(_mm256_permute4x64_pd::<0xD8>(pairs)))
    }
    #[inline(always)]
    unsafe fn zip(self, odds: Self) -> (Self, Self) {
        let (low, high) = (_mm256_unpacklo_ps(self.0, odds.0), _mm256_unpackhi_ps(self.0, odds.0));
        (
            Self(_mm256_permute2f128_ps::<0x20>(low, high)),
            Self(_mm256_permute2f128_ps::<0x31>(low, high)),
        )
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f32, stride: usize, rows: usize, columns: usize, to: *mut f32, to_stride: usize) {
        let whole = rows == 8 && columns == 8;
        let mut x = [_mm256_setzero_ps(); 8];
        for i in 0..8 {
            if whole {
                x[i] = _mm256_loadu_ps(from.add(i * stride));
            } else if i < rows {
                x[i] = _mm256_maskload_ps(from.add(i * stride), first(columns));
            }
        }
        // `y[4 i + j]` holds in its half `l` the column `4 l + j` of the rows `4 i` to `4 i + 3`.
        let mut y = [_mm256_setzero_ps(); 8];
        for i in 0..2 {
            let (a, b, c, d) = (x[4 * i], x[4 * i + 1], x[4 * i + 2], x[4 * i + 3]);
            let (ab, cd) = (
                _mm256_castps_pd(_mm256_unpacklo_ps(a, b)),
                _mm256_castps_pd(_mm256_unpacklo_ps(c, d)),
            );
            y[4 * i] = _mm256_castpd_ps(_mm256_unpacklo_pd(ab, cd));
            y[4 * i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(ab, cd));
            let (ab, cd) = (
                _mm256_castps_pd(_mm256_unpackhi_ps(a, b)),
                _mm256_castps_pd(_mm256_unpackhi_ps(c, d)),
            );
            y[4 * i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(ab, cd));
            y[4 * i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(ab, cd));
        }
        for j in 0..4 {
            x[j] = _mm256_permute2f128_ps::<0x20>(y[j], y[4 + j]);
            x[4 + j] = _mm256_permute2f128_ps::<0x31>(y[j], y[4 + j]);
        }
        for i in 0..8 {
            if whole {
                _mm256_storeu_ps(to.add(i * to_stride), x[i]);
            } else if i < columns {
                _mm256_maskstore_ps(to.add(i * to_stride), first(rows), x[i]);
            }
        }
    }
    #[inline(always)]
    unsafe fn negate(self, bits: u32) -> Self {
        let places = _mm256_setr_epi32(31, 30, 29, 28, 27, 26, 25, 24);
        let signs = _mm256_castsi256_ps(_mm256_sllv_epi32(_mm256_set1_epi32(bits as i32), places));
        Self(_mm256_xor_ps(self.0, _mm256_and_ps(signs, _mm256_set1_ps(-0.0))))
    }
    #[inline(always)]
    unsafe fn butterfly<const HALF: usize>(self) -> Self {
        let (other, signs) = match HALF {
            1 => (
                _mm256_permute_ps::<0xB1>(self.0),
                _mm256_setr_ps(1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0),
            ),
            2 => (
                _mm256_permute_ps::<0x4E>(self.0),
                _mm256_setr_ps(1.0, 1.0, -1.0, -1.0, 1.0, 1.0, -1.0, -1.0),
            ),
            _ => (
                _mm256_permute2f128_ps::<0x01>(self.0, self.0),
                _mm256_setr_ps(1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0, -1.0),
            ),
        };
        // The product with 1 or -1 is exact.
        Self(_mm256_fmadd_ps(self.0, signs, other))
    }
    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> Self {
        Self(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast()))))
    }
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8) {
        let words = _mm256_cvtps_epi32(self.0);
        let halves = _mm_packs_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
        _mm_storel_epi64(to.cast(), _mm_packus_epi16(halves, halves));
    }
    #[inline(always)]
    unsafe fn prefetch(from: *const f32) {
        _mm_prefetch::<_MM_HINT_T0>(from.cast());
    }
    #[inline(always)]
    unsafe fn prefetch_second(from: *const f32) {
        _mm_prefetch::<_MM_HINT_T1>(from.cast());
    }
}
