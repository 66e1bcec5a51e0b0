//! AVX-512: sixteen lanes.

use std::arch::x86_64::*;

use super::{EXPONENT, Vector};

#[derive(Clone, Copy)]
pub(crate) struct Avx512(__m512);

#[inline(always)]
fn first(n: usize) -> __mmask16 {
    ((1u32 << n) - 1) as __mmask16
}

impl Vector for Avx512 {
    const LANES: usize = 16;
    const REGISTERS: usize = 32;
    type Mask = __mmask16;
    type Wide = (__m512d, __m512d);
    type Words = __m512i;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self(_mm512_set1_ps(x))
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(_mm512_loadu_ps(from))
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        _mm512_storeu_ps(to, self.0);
    }
    #[inline(always)]
    unsafe fn load_n(from: *const f32, n: usize) -> Self {
        Self(_mm512_maskz_loadu_ps(first(n), from))
    }
    #[inline(always)]
    unsafe fn store_n(self, to: *mut f32, n: usize) {
        _mm512_mask_storeu_ps(to, first(n), self.0);
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        Self(_mm512_add_ps(self.0, b.0))
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        Self(_mm512_sub_ps(self.0, b.0))
    }
    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        Self(_mm512_mul_ps(self.0, b.0))
    }
    #[inline(always)]
    unsafe fn div(self, b: Self) -> Self {
        Self(_mm512_div_ps(self.0, b.0))
    }
    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        Self(_mm512_fmadd_ps(self.0, b.0, c.0))
    }
    #[inline(always)]
    unsafe fn max(self, b: Self) -> Self {
        Self(_mm512_max_ps(self.0, b.0))
    }
    #[inline(always)]
    unsafe fn min(self, b: Self) -> Self {
        Self(_mm512_min_ps(self.0, b.0))
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        Self(_mm512_sqrt_ps(self.0))
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        Self(_mm512_abs_ps(self.0))
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        Self(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0))
    }
    #[inline(always)]
    unsafe fn exp2_of_integer(self) -> Self {
        let bits = _mm512_add_epi32(_mm512_cvtps_epi32(self.0), _mm512_set1_epi32(127));
        Self(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(bits)))
    }
    #[inline(always)]
    unsafe fn integer_and_power(self, factor: Self) -> (Self, Self) {
        let sum = self.fma(factor, Self::splat(EXPONENT));
        (
            sum.sub(Self::splat(EXPONENT)),
            Self(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_castps_si512(sum.0)))),
        )
    }
    #[inline(always)]
    unsafe fn mantissa_and_exponent(self) -> (Self, Self) {
        (
            Self(_mm512_getmant_ps::<_MM_MANT_NORM_1_2, _MM_MANT_SIGN_SRC>(self.0)),
            Self(_mm512_getexp_ps(self.0)),
        )
    }
    #[inline(always)]
    unsafe fn gt(self, b: Self) -> __mmask16 {
        _mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0, b.0)
    }
    #[inline(always)]
    unsafe fn gt_or_nan(self, b: Self) -> __mmask16 {
        _mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0, b.0) | _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0)
    }
    #[inline(always)]
    unsafe fn eq(self, b: Self) -> __mmask16 {
        _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(self.0, b.0)
    }
    #[inline(always)]
    unsafe fn select(self, mask: __mmask16, b: Self) -> Self {
        Self(_mm512_mask_blend_ps(mask, b.0, self.0))
    }
    #[inline(always)]
    unsafe fn keep(self, mask: __mmask16) -> Self {
        Self(_mm512_maskz_mov_ps(mask, self.0))
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        _mm512_reduce_add_ps(self.0)
    }
    #[inline(always)]
    unsafe fn sums(of: [Self; 16], to: *mut f32) {
        // Pairs of registers are transposed and added, four times.
        let mut quarters = [_mm512_setzero_ps(); 4];
        for i in 0..4 {
            let [a, b, c, d] = [of[4 * i].0, of[4 * i + 1].0, of[4 * i + 2].0, of[4 * i + 3].0];
            let ab = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)));
            let cd = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d)));
            let (low, high) = (_mm512_unpacklo_pd(ab, cd), _mm512_unpackhi_pd(ab, cd));
            quarters[i] = _mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high));
        }
        let [a, b, c, d] = quarters;
        let ab = _mm512_add_ps(_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
        let cd = _mm512_add_ps(_mm512_shuffle_f32x4::<0x88>(c, d), _mm512_shuffle_f32x4::<0xdd>(c, d));
        let all = _mm512_add_ps(_mm512_shuffle_f32x4::<0x88>(ab, cd), _mm512_shuffle_f32x4::<0xdd>(ab, cd));
        _mm512_storeu_ps(to, all);
    }
    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        _mm512_reduce_max_ps(self.0)
    }
    #[inline(always)]
    unsafe fn wide_zero() -> Self::Wide {
        (_mm512_setzero_pd(), _mm512_setzero_pd())
    }
    #[inline(always)]
    unsafe fn fma_wide(self, b: Self, sums: Self::Wide) -> Self::Wide {
        let (a, b) = (self.0, b.0);
        let (a0, b0) = (
            _mm512_cvtps_pd(_mm512_castps512_ps256(a)),
            _mm512_cvtps_pd(_mm512_castps512_ps256(b)),
        );
        let (a1, b1) = (
            _mm512_cvtps_pd(_mm512_extractf32x8_ps::<1>(a)),
            _mm512_cvtps_pd(_mm512_extractf32x8_ps::<1>(b)),
        );
        (_mm512_fmadd_pd(a0, b0, sums.0), _mm512_fmadd_pd(a1, b1, sums.1))
    }
    #[inline(always)]
    unsafe fn sum_wide(sums: Self::Wide) -> f64 {
        _mm512_reduce_add_pd(_mm512_add_pd(sums.0, sums.1))
    }
    #[inline(always)]
    unsafe fn evens(self, next: Self) -> Self {
        let places = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        Self(_mm512_permutex2var_ps(self.0, places, next.0))
    }
    #[inline(always)]
    unsafe fn zip(self, odds: Self) -> (Self, Self) {
        let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        let high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        (
            Self(_mm512_permutex2var_ps(self.0, low, odds.0)),
            Self(_mm512_permutex2var_ps(self.0, high, odds.0)),
        )
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f32, stride: usize, rows: usize, columns: usize, to: *mut f32, to_stride: usize) {
        let whole = rows == 16 && columns == 16;
        let mut x = [_mm512_setzero_ps(); 16];
        for i in 0..16 {
            if whole {
                x[i] = _mm512_loadu_ps(from.add(i * stride));
            } else if i < rows {
                x[i] = _mm512_maskz_loadu_ps(first(columns), from.add(i * stride));
            }
        }
        // `y[4 i + j]` holds in its quarter `l` the column `4 l + j` of the rows `4 i` to `4 i + 3`.
        let mut y = [_mm512_setzero_ps(); 16];
        for i in 0..4 {
            let (a, b, c, d) = (x[4 * i], x[4 * i + 1], x[4 * i + 2], x[4 * i + 3]);
            let (ab, cd) = (
                _mm512_castps_pd(_mm512_unpacklo_ps(a, b)),
                _mm512_castps_pd(_mm512_unpacklo_ps(c, d)),
            );
            y[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd));
            y[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd));
            let (ab, cd) = (
                _mm512_castps_pd(_mm512_unpackhi_ps(a, b)),
                _mm512_castps_pd(_mm512_unpackhi_ps(c, d)),
            );
            y[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd));
            y[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd));
        }
        for j in 0..4 {
            let (a, b, c, d) = (y[j], y[4 + j], y[8 + j], y[12 + j]);
            let (p, q) = (_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xEE>(a, b));
            let (r, s) = (_mm512_shuffle_f32x4::<0x44>(c, d), _mm512_shuffle_f32x4::<0xEE>(c, d));
            x[j] = _mm512_shuffle_f32x4::<0x88>(p, r);
            x[4 + j] = _mm512_shuffle_f32x4::<0xDD>(p, r);
            x[8 + j] = _mm512_shuffle_f32x4::<0x88>(q, s);
            x[12 + j] = _mm512_shuffle_f32x4::<0xDD>(q, s);
        }
        for i in 0..16 {
            if whole {
                _mm512_storeu_ps(to.add(i * to_stride), x[i]);
            } else if i < columns {
                _mm512_mask_storeu_ps(to.add(i * to_stride), first(rows), x[i]);
            }
        }
    }
    #[inline(always)]
    unsafe fn negate(self, bits: u32) -> Self {
        Self(_mm512_mask_xor_ps(self.0, bits as u16, self.0, _mm512_set1_ps(-0.0)))
    }
    #[inline(always)]
    unsafe fn butterfly<const HALF: usize>(self) -> Self {
        let (other, back) = match HALF {
            1 => (_mm512_permute_ps::<0xB1>(self.0), 0xAAAA),
            2 => (_mm512_permute_ps::<0x4E>(self.0), 0xCCCC),
            4 => (_mm512_shuffle_f32x4::<0xB1>(self.0, self.0), 0xF0F0),
            _ => (_mm512_shuffle_f32x4::<0x4E>(self.0, self.0), 0xFF00),
        };
        let signs = _mm512_mask_blend_ps(back, _mm512_set1_ps(1.0), _mm512_set1_ps(-1.0));
        // The product with 1 or -1 is exact.
        Self(_mm512_fmadd_ps(self.0, signs, other))
    }
    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> Self {
        Self(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast()))))
    }
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8) {
        _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(self.0)));
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
