//! Layer norm and root mean square norm.

use std::ops::Range;

use crate::Team;
use crate::isa::{Isa, Kernel, dispatch};
use crate::stretch::{first, put, take};
use crate::team::{Apart, ranges};
use crate::vector::Vector;

/// Normalises each row by its own mean and variance, or by its mean square. Norms of groups of channels are this without scale and bias;
/// theirs are products and sums behind it.
///
/// # Source
/// Ba et al. 2016, Layer Normalization; Zhang and Sennrich 2019, Root Mean Square Layer Normalization (NeurIPS).
#[derive(Debug, Clone, Copy)]
pub struct RowNorm {
    isa: Isa,
    rows: usize,
    len: usize,
    epsilon: f32,
    centred: bool,
}

impl RowNorm {
    /// For `rows` rows of `len` values. `centred`: whether the mean is taken away (layer norm).
    pub fn new(isa: Isa, [rows, len]: [usize; 2], epsilon: f32, centred: bool) -> Self {
        crate::elements(&[rows, len]);
        Self {
            isa,
            rows,
            len,
            epsilon,
            centred,
        }
    }

    /// Floats that the forward pass keeps for the backward pass: the means, then the inverse deviations.
    pub fn kept_len(&self) -> usize {
        2 * self.rows
    }

    fn check(&self, lens: &[usize], of_a_row: &[Option<usize>], kept: usize) {
        let len = self.rows * self.len;
        assert!(lens.iter().all(|&l| l == len), "a slice has another length than the shape");
        let whole = of_a_row.iter().flatten().all(|&l| l == self.len);
        assert!(whole, "scale or bias has another length than a row");
        assert_eq!(kept, self.kept_len(), "what is kept has another length");
    }

    /// `y = (x - mean) / sqrt(variance + epsilon) * scale + bias`, with scale and bias of `[len]` where there are any.
    ///
    /// # Panics
    /// On slices of other lengths; so do all functions here.
    pub fn forward(&self, team: &Team, x: &[f32], scale: Option<&[f32]>, bias: Option<&[f32]>, y: &mut [f32], kept: &mut [f32]) {
        let of_a_row = [scale.map(<[f32]>::len), bias.map(<[f32]>::len)];
        self.check(&[x.len(), y.len()], &of_a_row, kept.len());
        let forward = Forward {
            norm: self,
            x: x.as_ptr(),
            scale: scale.map_or(std::ptr::null(), <[f32]>::as_ptr),
            bias: bias.map_or(std::ptr::null(), <[f32]>::as_ptr),
            y: y.as_mut_ptr(),
            kept: kept.as_mut_ptr(),
        };
        // SAFETY: parts write to rows of their own.
        let forward = unsafe { Apart::new(forward) };
        team.each(self.parts(team), |rows| {
            // SAFETY: all lengths were checked.
            unsafe { dispatch(self.isa, OfRows(forward.get(), rows)) };
        });
    }

    fn parts(&self, team: &Team) -> impl Iterator<Item = Range<usize>> + use<> {
        ranges(self.rows, team.parts_of_values(self.rows * self.len, self.rows), 1)
    }

    /// `dx` becomes the gradient by the input.
    pub fn backward_input(&self, team: &Team, x: &[f32], dy: &[f32], scale: Option<&[f32]>, kept: &[f32], dx: &mut [f32]) {
        self.check(&[x.len(), dy.len(), dx.len()], &[scale.map(<[f32]>::len)], kept.len());
        let backward = BackwardInput {
            norm: self,
            x: x.as_ptr(),
            dy: dy.as_ptr(),
            scale: scale.map_or(std::ptr::null(), <[f32]>::as_ptr),
            kept,
            dx: dx.as_mut_ptr(),
        };
        // SAFETY: parts write to rows of their own.
        let backward = unsafe { Apart::new(backward) };
        team.each(self.parts(team), |rows| {
            // SAFETY: all lengths were checked.
            unsafe { dispatch(self.isa, OfRows(backward.get(), rows)) };
        });
    }

    /// Adds `alpha` times the gradients by scale and bias to their targets.
    pub fn backward_learned(
        &self,
        x: &[f32],
        dy: &[f32],
        kept: &[f32],
        alpha: f32,
        scale_target: Option<&mut [f32]>,
        bias_target: Option<&mut [f32]>,
    ) {
        let of_a_row = [scale_target.as_ref().map(|t| t.len()), bias_target.as_ref().map(|t| t.len())];
        self.check(&[x.len(), dy.len()], &of_a_row, kept.len());
        let backward = BackwardLearned {
            norm: self,
            x: x.as_ptr(),
            dy: dy.as_ptr(),
            kept,
            alpha,
            scale: scale_target.map_or(std::ptr::null_mut(), <[f32]>::as_mut_ptr),
            bias: bias_target.map_or(std::ptr::null_mut(), <[f32]>::as_mut_ptr),
        };
        // SAFETY: all lengths were checked.
        unsafe { dispatch(self.isa, backward) };
    }
}

/// Sums of a row in two lanes each; `f` is told where, how many, and what was summed so far. Marked as all kernels are.
trait Summed: Copy {
    unsafe fn add<V: Vector, const N: usize>(self, i: usize, n: usize, sums: [V; N]) -> [V; N];
}

#[inline(always)]
unsafe fn sums<V: Vector, const N: usize>(n: usize, of: impl Summed) -> [f32; N] {
    let mut all = [[V::splat(0.0); N]; 2];
    let mut i = 0;
    while i + 2 * V::LANES <= n {
        all[0] = of.add(i, V::LANES, all[0]);
        all[1] = of.add(i + V::LANES, V::LANES, all[1]);
        i += 2 * V::LANES;
    }
    if i + V::LANES <= n {
        all[0] = of.add(i, V::LANES, all[0]);
        i += V::LANES;
    }
    if i < n {
        all[1] = of.add(i, n - i, all[1]);
    }
    let mut found = [0.0; N];
    for j in 0..N {
        found[j] = all[0][j].add(all[1][j]).sum();
    }
    found
}

/// The values.
#[derive(Clone, Copy)]
struct Values(*const f32);

impl Summed for Values {
    #[inline(always)]
    unsafe fn add<V: Vector, const N: usize>(self, i: usize, n: usize, mut sums: [V; N]) -> [V; N] {
        sums[0] = sums[0].add(take::<V>(self.0.add(i), n));
        sums
    }
}

/// The squares of their distances from a mean.
#[derive(Clone, Copy)]
struct Squares(*const f32, f32);

impl Summed for Squares {
    #[inline(always)]
    unsafe fn add<V: Vector, const N: usize>(self, i: usize, n: usize, mut sums: [V; N]) -> [V; N] {
        let x = first(take::<V>(self.0.add(i), n).sub(V::splat(self.1)), n);
        sums[0] = x.fma(x, sums[0]);
        sums
    }
}

/// Some rows.
struct OfRows<T>(T, Range<usize>);

#[derive(Clone, Copy)]
struct Forward<'a> {
    norm: &'a RowNorm,
    x: *const f32,
    /// Null where there is none.
    scale: *const f32,
    /// Null where there is none.
    bias: *const f32,
    y: *mut f32,
    kept: *mut f32,
}

impl Kernel for OfRows<Forward<'_>> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self(this, some) = self;
        let RowNorm { rows, len, .. } = *this.norm;
        for row in some {
            let (x, y) = (this.x.add(row * len), this.y.add(row * len));
            let mean = if this.norm.centred {
                sums::<V, 1>(len, Values(x))[0] / len as f32
            } else {
                0.0
            };
            let variance = sums::<V, 1>(len, Squares(x, mean))[0] / len as f32;
            let inverse = 1.0 / (variance + this.norm.epsilon).sqrt();
            *this.kept.add(row) = mean;
            *this.kept.add(rows + row) = inverse;
            let (mean, inverse) = (V::splat(mean), V::splat(inverse));
            let mut i = 0;
            while i < len {
                let n = V::LANES.min(len - i);
                if n == V::LANES {
                    this.one(x, y, i, V::LANES, mean, inverse);
                } else {
                    this.one(x, y, i, n, mean, inverse);
                }
                i += n;
            }
        }
    }
}

impl Forward<'_> {
    #[inline(always)]
    unsafe fn one<V: Vector>(&self, x: *const f32, y: *mut f32, i: usize, n: usize, mean: V, inverse: V) {
        let mut value = take::<V>(x.add(i), n).sub(mean).mul(inverse);
        if !self.scale.is_null() {
            value = value.mul(take(self.scale.add(i), n));
        }
        if !self.bias.is_null() {
            value = value.add(take(self.bias.add(i), n));
        }
        put(value, y.add(i), n);
    }
}

#[derive(Clone, Copy)]
struct BackwardInput<'a> {
    norm: &'a RowNorm,
    x: *const f32,
    dy: *const f32,
    /// Null where there is none.
    scale: *const f32,
    kept: &'a [f32],
    dx: *mut f32,
}

/// A row of the backward pass.
#[derive(Clone, Copy)]
struct Given {
    x: *const f32,
    dy: *const f32,
    scale: *const f32,
    mean: f32,
    inverse: f32,
}

impl Given {
    /// The gradient by what is normalised, and that.
    #[inline(always)]
    unsafe fn at<V: Vector>(self, i: usize, n: usize) -> (V, V) {
        let mut gradient = take::<V>(self.dy.add(i), n);
        if !self.scale.is_null() {
            gradient = gradient.mul(take(self.scale.add(i), n));
        }
        let normalised = take::<V>(self.x.add(i), n).sub(V::splat(self.mean)).mul(V::splat(self.inverse));
        (gradient, normalised)
    }
}

impl Summed for Given {
    #[inline(always)]
    unsafe fn add<V: Vector, const N: usize>(self, i: usize, n: usize, mut sums: [V; N]) -> [V; N] {
        let (gradient, normalised) = self.at::<V>(i, n);
        sums[0] = sums[0].add(gradient);
        sums[1] = gradient.fma(normalised, sums[1]);
        sums
    }
}

impl Kernel for OfRows<BackwardInput<'_>> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self(this, some) = self;
        let RowNorm { rows, len, .. } = *this.norm;
        let share = 1.0 / len as f32;
        for row in some {
            let given = Given {
                x: this.x.add(row * len),
                dy: this.dy.add(row * len),
                scale: this.scale,
                mean: this.kept[row],
                inverse: this.kept[rows + row],
            };
            let [sum, product] = sums::<V, 2>(len, given);
            let constant = V::splat(if this.norm.centred { sum * share } else { 0.0 });
            let (slope, inverse) = (V::splat(product * share), V::splat(given.inverse));
            let dx = this.dx.add(row * len);
            let mut i = 0;
            while i < len {
                let n = V::LANES.min(len - i);
                let (gradient, normalised) = if n == V::LANES {
                    given.at::<V>(i, V::LANES)
                } else {
                    given.at::<V>(i, n)
                };
                put(gradient.sub(constant).sub(normalised.mul(slope)).mul(inverse), dx.add(i), n);
                i += n;
            }
        }
    }
}

struct BackwardLearned<'a> {
    norm: &'a RowNorm,
    x: *const f32,
    dy: *const f32,
    kept: &'a [f32],
    alpha: f32,
    /// Null where there is none.
    scale: *mut f32,
    /// Null where there is none.
    bias: *mut f32,
}

/// Rows that are summed before they are added to a target.
const ROWS: usize = 8;

impl Kernel for BackwardLearned<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let RowNorm { rows, len, .. } = *self.norm;
        for start in (0..rows).step_by(ROWS) {
            let end = rows.min(start + ROWS);
            let mut i = 0;
            while i + V::LANES <= len {
                self.column::<V>(start, end, i, V::LANES);
                i += V::LANES;
            }
            if i < len {
                self.column::<V>(start, end, i, len - i);
            }
        }
    }
}

impl BackwardLearned<'_> {
    #[inline(always)]
    unsafe fn column<V: Vector>(&self, start: usize, end: usize, i: usize, n: usize) {
        let RowNorm { rows, len, .. } = *self.norm;
        let mut sums = [V::splat(0.0); 2];
        for row in start..end {
            let given = Given {
                x: self.x.add(row * len),
                dy: self.dy.add(row * len),
                scale: std::ptr::null(),
                mean: self.kept[row],
                inverse: self.kept[rows + row],
            };
            sums = given.add(i, n, sums);
        }
        for (target, sum) in [(self.bias, sums[0]), (self.scale, sums[1])] {
            if !target.is_null() {
                put(sum.fma(V::splat(self.alpha), take(target.add(i), n)), target.add(i), n);
            }
        }
    }
}
