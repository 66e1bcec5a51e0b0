//! Plain Rust, eight lanes: what runs where there is nothing better.

use super::{EXPONENT, Vector};

#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; 8]);

/// One value for each lane. In loops here: `from_fn` and `map` of arrays are calls.
#[inline(always)]
fn lanes<T: Copy + Default>(f: impl Fn(usize) -> T) -> [T; 8] {
    let mut all = [T::default(); 8];
    for (i, lane) in all.iter_mut().enumerate() {
        *lane = f(i);
    }
    all
}

impl Portable {
    #[inline(always)]
    fn map(self, f: impl Fn(f32) -> f32) -> Self {
        Self(lanes(|i| f(self.0[i])))
    }

    #[inline(always)]
    fn zip(self, b: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(lanes(|i| f(self.0[i], b.0[i])))
    }
}

impl Vector for Portable {
    const LANES: usize = 8;
    const REGISTERS: usize = 16;
    type Mask = [bool; 8];
    type Wide = [f64; 8];
    type Words = super::words::Four;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self([x; 8])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(from.cast::<[f32; 8]>().read_unaligned())
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        to.cast::<[f32; 8]>().write_unaligned(self.0);
    }
    #[inline(always)]
    unsafe fn load_n(from: *const f32, n: usize) -> Self {
        let mut lanes = [0.0; 8];
        for (i, lane) in lanes.iter_mut().enumerate().take(n) {
            *lane = *from.add(i);
        }
        Self(lanes)
    }
    #[inline(always)]
    unsafe fn store_n(self, to: *mut f32, n: usize) {
        for (i, lane) in self.0.iter().enumerate().take(n) {
            *to.add(i) = *lane;
        }
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        self.zip(b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        self.zip(b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        self.zip(b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(self, b: Self) -> Self {
        self.zip(b, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        // Rounded twice: a fused product in software would be a call for each lane.
        self.mul(b).add(c)
    }
    #[inline(always)]
    unsafe fn max(self, b: Self) -> Self {
        self.zip(b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(self, b: Self) -> Self {
        self.zip(b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        self.map(f32::sqrt)
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        self.map(f32::abs)
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        // Adding and taking away 1.5 * 2^23 leaves no bits behind the point.
        const MAGIC: f32 = 12_582_912.0;
        self.map(|x| (x + MAGIC) - MAGIC)
    }
    #[inline(always)]
    unsafe fn exp2_of_integer(self) -> Self {
        self.map(|x| f32::from_bits(((x as i32 + 127) << 23) as u32))
    }
    #[inline(always)]
    unsafe fn integer_and_power(self, factor: Self) -> (Self, Self) {
        let sum = self.fma(factor, Self::splat(EXPONENT));
        (sum.sub(Self::splat(EXPONENT)), sum.map(|x| f32::from_bits(x.to_bits() << 23)))
    }
    #[inline(always)]
    unsafe fn mantissa_and_exponent(self) -> (Self, Self) {
        (
            self.map(|x| f32::from_bits((x.to_bits() & 0x007f_ffff) | 0x3f80_0000)),
            self.map(|x| ((x.to_bits() >> 23) as i32 - 127) as f32),
        )
    }
    #[inline(always)]
    unsafe fn gt(self, b: Self) -> [bool; 8] {
        lanes(|i| self.0[i] > b.0[i])
    }
    #[inline(always)]
    unsafe fn gt_or_nan(self, b: Self) -> [bool; 8] {
        lanes(|i| self.0[i] > b.0[i] || self.0[i].is_nan())
    }
    #[inline(always)]
    unsafe fn eq(self, b: Self) -> [bool; 8] {
        lanes(|i| self.0[i] == b.0[i])
    }
    #[inline(always)]
    unsafe fn select(self, mask: [bool; 8], b: Self) -> Self {
        Self(lanes(|i| if mask[i] { self.0[i] } else { b.0[i] }))
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let [a, b, c, d, e, f, g, h] = self.0;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }
    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        self.0.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }
    #[inline(always)]
    unsafe fn wide_zero() -> [f64; 8] {
        [0.0; 8]
    }
    #[inline(always)]
    unsafe fn fma_wide(self, b: Self, sums: [f64; 8]) -> [f64; 8] {
        lanes(|i| f64::from(self.0[i]) * f64::from(b.0[i]) + sums[i])
    }
    #[inline(always)]
    unsafe fn sum_wide([a, b, c, d, e, f, g, h]: [f64; 8]) -> f64 {
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }
    #[inline(always)]
    unsafe fn evens(self, next: Self) -> Self {
        Self(lanes(|i| if i < 4 { self.0[2 * i] } else { next.0[2 * i - 8] }))
    }
    #[inline(always)]
    unsafe fn zip(self, odds: Self) -> (Self, Self) {
        let half = |from: usize| Self(lanes(|i| if i % 2 == 0 { self.0[from + i / 2] } else { odds.0[from + i / 2] }));
        (half(0), half(4))
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f32, stride: usize, rows: usize, columns: usize, to: *mut f32, to_stride: usize) {
        for column in 0..columns {
            for row in 0..rows {
                *to.add(column * to_stride + row) = *from.add(row * stride + column);
            }
        }
    }
    #[inline(always)]
    unsafe fn negate(self, bits: u32) -> Self {
        Self(lanes(|i| f32::from_bits(self.0[i].to_bits() ^ (bits << (31 - i) & 1 << 31))))
    }
    #[inline(always)]
    unsafe fn butterfly<const HALF: usize>(self) -> Self {
        let x = self.0;
        Self(lanes(|i| if i & HALF == 0 { x[i] + x[i ^ HALF] } else { x[i ^ HALF] - x[i] }))
    }
    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> Self {
        Self(lanes(|i| f32::from(*from.add(i))))
    }
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8) {
        for (i, lane) in self.0.iter().enumerate() {
            *to.add(i) = *lane as u8;
        }
    }
    #[inline(always)]
    unsafe fn prefetch(_from: *const f32) {}
    #[inline(always)]
    unsafe fn prefetch_second(_from: *const f32) {}
}
