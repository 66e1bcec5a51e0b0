//! Adding residues to plain counters. What overflows wraps around; who calls makes the counters wide enough.

use crate::isa::{Isa, Kernel, dispatch};
use crate::vector::Vector;

/// `sums[i] += values[i]`.
///
/// # Panics
/// On another length of `values`.
pub fn add(isa: Isa, sums: &mut [u32], values: &[u32]) {
    assert_eq!(sums.len(), values.len(), "there is a value for each sum");
    // SAFETY: it indexes slices.
    unsafe { dispatch(isa, Add(sums, values, u32::wrapping_add)) }
}

/// `sums[i] += values[i]`, of residues.
///
/// # Panics
/// On another length of `values`.
pub fn add_narrow(isa: Isa, sums: &mut [u64], values: &[u32]) {
    assert_eq!(sums.len(), values.len(), "there is a value for each sum");
    // SAFETY: it indexes slices.
    unsafe { dispatch(isa, Add(sums, values, |sum: u64, value: u32| sum.wrapping_add(value.into()))) }
}

/// `sums[i] += values[i]`, of sums.
///
/// # Panics
/// On another length of `values`.
pub fn add_wide(isa: Isa, sums: &mut [u64], values: &[u64]) {
    assert_eq!(sums.len(), values.len(), "there is a value for each sum");
    // SAFETY: it indexes slices.
    unsafe { dispatch(isa, Add(sums, values, u64::wrapping_add)) }
}

/// `means[i] = (2 sums[i] - zero) unit`, made in f64 and then rounded. It is exact before `unit` where `zero` is a whole number below 2^53.
///
/// # Panics
/// On another length of `means`.
pub fn means(isa: Isa, sums: &[u32], zero: f64, unit: f64, means: &mut [f32]) {
    assert_eq!(sums.len(), means.len(), "there is a place for each mean");
    // SAFETY: it indexes slices.
    unsafe { dispatch(isa, Means { sums, zero, unit, means }) }
}

struct Means<'a> {
    sums: &'a [u32],
    zero: f64,
    unit: f64,
    means: &'a mut [f32],
}

impl Kernel for Means<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let n = self.sums.len().min(self.means.len());
        let (sums, means) = (&self.sums[..n], &mut self.means[..n]);
        for i in 0..n {
            means[i] = ((2.0 * f64::from(sums[i]) - self.zero) * self.unit) as f32;
        }
    }
}

struct Add<'a, S, T, F>(&'a mut [S], &'a [T], F);

impl<S: Copy, T: Copy, F: Fn(S, T) -> S> Kernel for Add<'_, S, T, F> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let n = self.0.len().min(self.1.len());
        let (sums, values) = (&mut self.0[..n], &self.1[..n]);
        for i in 0..n {
            sums[i] = (self.2)(sums[i], values[i]);
        }
    }
}
