//! NEON: four lanes.

use std::arch::aarch64::*;

use super::{EXPONENT, Vector};

#[derive(Clone, Copy)]
pub(crate) struct Neon(float32x4_t);

impl Vector for Neon {
    const LANES: usize = 4;
    const REGISTERS: usize = 32;
    type Mask = uint32x4_t;
    type Wide = (float64x2_t, float64x2_t);
    type Words = uint32x4_t;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self(vdupq_n_f32(x))
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(vld1q_f32(from))
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        vst1q_f32(to, self.0);
    }
    #[inline(always)]
    unsafe fn load_n(from: *const f32, n: usize) -> Self {
        let mut lanes = [0.0f32; 4];
        for (i, lane) in lanes.iter_mut().enumerate().take(n) {
            *lane = *from.add(i);
        }
        Self(vld1q_f32(lanes.as_ptr()))
    }
    #[inline(always)]
    unsafe fn store_n(self, to: *mut f32, n: usize) {
        let mut lanes = [0.0f32; 4];
        vst1q_f32(lanes.as_mut_ptr(), self.0);
        for (i, lane) in lanes.iter().enumerate().take(n) {
            *to.add(i) = *lane;
        }
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        Self(vaddq_f32(self.0, b.0))
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        Self(vsubq_f32(self.0, b.0))
    }
    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        Self(vmulq_f32(self.0, b.0))
    }
    #[inline(always)]
    unsafe fn div(self, b: Self) -> Self {
        Self(vdivq_f32(self.0, b.0))
    }
    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        Self(vfmaq_f32(c.0, self.0, b.0))
    }
    #[inline(always)]
    unsafe fn max(self, b: Self) -> Self {
        Self(vbslq_f32(vcgtq_f32(self.0, b.0), self.0, b.0))
    }
    #[inline(always)]
    unsafe fn min(self, b: Self) -> Self {
        Self(vbslq_f32(vcltq_f32(self.0, b.0), self.0, b.0))
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        Self(vsqrtq_f32(self.0))
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        Self(vabsq_f32(self.0))
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        Self(vrndnq_f32(self.0))
    }
    #[inline(always)]
    unsafe fn exp2_of_integer(self) -> Self {
        let bits = vaddq_s32(vcvtnq_s32_f32(self.0), vdupq_n_s32(127));
        Self(vreinterpretq_f32_s32(vshlq_n_s32::<23>(bits)))
    }
    #[inline(always)]
    unsafe fn integer_and_power(self, factor: Self) -> (Self, Self) {
        let sum = self.fma(factor, Self::splat(EXPONENT));
        (
            sum.sub(Self::splat(EXPONENT)),
            Self(vreinterpretq_f32_u32(vshlq_n_u32::<23>(vreinterpretq_u32_f32(sum.0)))),
        )
    }
    #[inline(always)]
    unsafe fn mantissa_and_exponent(self) -> (Self, Self) {
        let bits = vreinterpretq_u32_f32(self.0);
        let mantissa = vorrq_u32(vandq_u32(bits, vdupq_n_u32(0x007f_ffff)), vdupq_n_u32(0x3f80_0000));
        let exponent = vsubq_s32(vreinterpretq_s32_u32(vshrq_n_u32::<23>(bits)), vdupq_n_s32(127));
        (Self(vreinterpretq_f32_u32(mantissa)), Self(vcvtq_f32_s32(exponent)))
    }
    #[inline(always)]
    unsafe fn gt(self, b: Self) -> uint32x4_t {
        vcgtq_f32(self.0, b.0)
    }
    #[inline(always)]
    unsafe fn gt_or_nan(self, b: Self) -> uint32x4_t {
        vorrq_u32(vcgtq_f32(self.0, b.0), vmvnq_u32(vceqq_f32(self.0, self.0)))
    }
    #[inline(always)]
    unsafe fn eq(self, b: Self) -> uint32x4_t {
        vceqq_f32(self.0, b.0)
    }
    #[inline(always)]
    unsafe fn select(self, mask: uint32x4_t, b: Self) -> Self {
        Self(vbslq_f32(mask, self.0, b.0))
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        vaddvq_f32(self.0)
    }
    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        vmaxvq_f32(self.0)
    }
    #[inline(always)]
    unsafe fn wide_zero() -> Self::Wide {
        (vdupq_n_f64(0.0), vdupq_n_f64(0.0))
    }
    #[inline(always)]
    unsafe fn fma_wide(self, b: Self, sums: Self::Wide) -> Self::Wide {
        let low = |x: float32x4_t| vcvt_f64_f32(vget_low_f32(x));
        let high = |x: float32x4_t| vcvt_high_f64_f32(x);
        (vfmaq_f64(sums.0, low(self.0), low(b.0)), vfmaq_f64(sums.1, high(self.0), high(b.0)))
    }
    #[inline(always)]
    unsafe fn sum_wide(sums: Self::Wide) -> f64 {
        vaddvq_f64(vaddq_f64(sums.0, sums.1))
    }
    #[inline(always)]
    unsafe fn evens(self, next: Self) -> Self {
        Self(vuzp1q_f32(self.0, next.0))
    }
    #[inline(always)]
    unsafe fn zip(self, odds: Self) -> (Self, Self) {
        (Self(vzip1q_f32(self.0, odds.0)), Self(vzip2q_f32(self.0, odds.0)))
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f32, stride: usize, rows: usize, columns: usize, to: *mut f32, to_stride: usize) {
        if rows < 4 || columns < 4 {
            for row in 0..rows {
                for column in 0..columns {
                    *to.add(column * to_stride + row) = *from.add(row * stride + column);
                }
            }
            return;
        }
        let row = |i: usize| vld1q_f32(from.add(i * stride));
        let wide = |x: float32x4_t| vreinterpretq_f64_f32(x);
        let (even01, odd01) = (wide(vtrn1q_f32(row(0), row(1))), wide(vtrn2q_f32(row(0), row(1))));
        let (even23, odd23) = (wide(vtrn1q_f32(row(2), row(3))), wide(vtrn2q_f32(row(2), row(3))));
        let columns = [
            vtrn1q_f64(even01, even23),
            vtrn1q_f64(odd01, odd23),
            vtrn2q_f64(even01, even23),
            vtrn2q_f64(odd01, odd23),
        ];
        for (i, column) in columns.into_iter().enumerate() {
            vst1q_f32(to.add(i * to_stride), vreinterpretq_f32_f64(column));
        }
    }
    #[inline(always)]
    unsafe fn negate(self, bits: u32) -> Self {
        let places = [31, 30, 29, 28];
        let signs = vandq_u32(vshlq_u32(vdupq_n_u32(bits), vld1q_s32(places.as_ptr())), vdupq_n_u32(1 << 31));
        Self(vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(self.0), signs)))
    }
    #[inline(always)]
    unsafe fn butterfly<const HALF: usize>(self) -> Self {
        let (other, signs) = match HALF {
            1 => (vrev64q_f32(self.0), [1.0, -1.0, 1.0, -1.0]),
            _ => (vextq_f32::<2>(self.0, self.0), [1.0, 1.0, -1.0, -1.0]),
        };
        // The product with 1 or -1 is exact.
        Self(vfmaq_f32(other, self.0, vld1q_f32(signs.as_ptr())))
    }
    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> Self {
        let lanes: [f32; 4] = std::array::from_fn(|i| f32::from(*from.add(i)));
        Self(vld1q_f32(lanes.as_ptr()))
    }
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8) {
        let mut lanes = [0.0f32; 4];
        vst1q_f32(lanes.as_mut_ptr(), self.0);
        for (i, lane) in lanes.iter().enumerate() {
            *to.add(i) = *lane as u8;
        }
    }
    #[inline(always)]
    unsafe fn prefetch(_from: *const f32) {}
    #[inline(always)]
    unsafe fn prefetch_second(_from: *const f32) {}
}
