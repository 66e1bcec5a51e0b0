//! One register of floats, in the words of each instruction set.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
mod words;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;
pub(crate) use portable::Portable;
pub(crate) use words::Words;

/// Added to a small number: nothing stays behind the point, and the lowest bits are those of the exponent of its power of two.
const EXPONENT: f32 = 12_582_912.0 + 127.0;

/// A register of floats. Functions that are generic over it are `#[inline(always)]`, down from [`crate::isa::Kernel::run`].
///
/// # Safety
/// Every function asks that the processor has the instructions; pointers are good for [`Self::LANES`] floats (`load_n`, `store_n`: for `n`)
/// and need no alignment.
pub(crate) trait Vector: Copy {
    /// Floats in it.
    const LANES: usize;
    /// Registers of the instruction set.
    const REGISTERS: usize;
    /// A truth for each lane.
    type Mask: Copy;
    /// As many sums in f64 as there are lanes.
    type Wide: Copy;
    /// A register of whole numbers.
    type Words: Words;

    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// The first `n` floats, 0 to `LANES`; zero behind them.
    unsafe fn load_n(from: *const f32, n: usize) -> Self;
    /// The first `n` floats, 0 to `LANES`; nothing is written behind them.
    unsafe fn store_n(self, to: *mut f32, n: usize);
    unsafe fn add(self, b: Self) -> Self;
    unsafe fn sub(self, b: Self) -> Self;
    unsafe fn mul(self, b: Self) -> Self;
    unsafe fn div(self, b: Self) -> Self;
    /// `self * b + c`, rounded once where the instruction set can.
    unsafe fn fma(self, b: Self, c: Self) -> Self;
    /// The larger; `b` where either is NaN.
    unsafe fn max(self, b: Self) -> Self;
    /// The smaller; `b` where either is NaN.
    unsafe fn min(self, b: Self) -> Self;
    unsafe fn sqrt(self) -> Self;
    unsafe fn abs(self) -> Self;
    /// To the nearest integer, ties to even; for magnitudes below 2^22.
    unsafe fn round(self) -> Self;
    /// 2^self, for integers from -126 to 127.
    unsafe fn exp2_of_integer(self) -> Self;
    /// The nearest integer n to `self * factor`, for magnitudes up to 126, and 2^n.
    unsafe fn integer_and_power(self, factor: Self) -> (Self, Self);
    /// Mantissa from 1 to 2 and exponent, of positive normal numbers.
    unsafe fn mantissa_and_exponent(self) -> (Self, Self);
    /// Where `self > b`; not where either is NaN.
    unsafe fn gt(self, b: Self) -> Self::Mask;
    /// Where `self > b`, and where `self` is NaN.
    unsafe fn gt_or_nan(self, b: Self) -> Self::Mask;
    /// Where `self == b`.
    unsafe fn eq(self, b: Self) -> Self::Mask;
    /// `self` where the mask is true, `b` elsewhere.
    unsafe fn select(self, mask: Self::Mask, b: Self) -> Self;
    /// `self` where the mask is true, zero elsewhere.
    #[inline(always)]
    unsafe fn keep(self, mask: Self::Mask) -> Self {
        self.select(mask, Self::splat(0.0))
    }
    /// Sum of the lanes, in pairs.
    unsafe fn sum(self) -> f32;
    /// The sum of each of sixteen registers, written to `to`, which is good for sixteen floats.
    #[inline(always)]
    unsafe fn sums(of: [Self; 16], to: *mut f32) {
        for (i, register) in of.into_iter().enumerate() {
            *to.add(i) = register.sum();
        }
    }
    /// Largest lane.
    unsafe fn largest(self) -> f32;
    /// Sums that are 0.
    unsafe fn wide_zero() -> Self::Wide;
    /// `self * b + sums`, lane by lane, in f64.
    unsafe fn fma_wide(self, b: Self, sums: Self::Wide) -> Self::Wide;
    /// Sum of the sums, in a fixed order.
    unsafe fn sum_wide(sums: Self::Wide) -> f64;
    /// Lanes 0, 2, 4, ... of `self`, then those of `next`.
    unsafe fn evens(self, next: Self) -> Self;
    /// Lanes of both in turn, in two registers; [`Self::evens`] of them is `self` again.
    unsafe fn zip(self, odds: Self) -> (Self, Self);
    /// Turns `rows` rows of `columns` floats (both 1 to `LANES`), `stride` apart, into columns: row `c` of `to` holds column `c`.
    unsafe fn transpose(from: *const f32, stride: usize, rows: usize, columns: usize, to: *mut f32, to_stride: usize);
    /// The sign of lane `i` turned where bit `i` is set; there may be bits beyond.
    unsafe fn negate(self, bits: u32) -> Self;
    /// Of lanes `HALF` apart, a and b, their sum in the place of a and a - b in that of b; `HALF` is a power of two below `LANES`.
    unsafe fn butterfly<const HALF: usize>(self) -> Self;
    /// Bytes as floats: `from` is good for `LANES` bytes.
    unsafe fn load_bytes(from: *const u8) -> Self;
    /// Integers from 0 to 255, as bytes: `to` is good for `LANES` bytes.
    unsafe fn store_bytes(self, to: *mut u8);
    /// Has the line of `from` brought near; any address will do.
    unsafe fn prefetch(from: *const f32);
    /// The same, no nearer than the second cache.
    unsafe fn prefetch_second(from: *const f32);
}

#[cfg(test)]
mod tests;
