//! The gradients of a layer of few rows: weights are read once, for the gradient by the input and for their own.

use std::ops::Range;

use super::{Dense, MOST_ROWS, Pass, product};
use crate::isa::{Kernel, dispatch};
use crate::team::{Apart, cut, ranges};
use crate::vector::Vector;
use crate::{Isa, Target, Team};

/// What there is not, is null.
#[derive(Clone, Copy)]
struct Backward {
    layer: Dense,
    rows: usize,
    x: *const f32,
    weights: *const f32,
    dx: *mut f32,
    target: *mut f32,
    /// The gradient by the output, through the ReLU, `[rows, stride]`, zero in the padding; then the same times `alpha`.
    dy: *const f32,
    scaled: *const f32,
}

/// Checked by the caller: all lengths, at least one row.
pub(super) fn backward(
    team: &Team,
    isa: Isa,
    layer: Dense,
    rows: usize,
    pass: Pass<'_>,
    weights: Option<&[f32]>,
    dx: Option<&mut [f32]>,
    target: Option<Target<'_>>,
    bias: Option<Target<'_>>,
    scratch: &mut [f32],
) {
    let values = rows * layer.outputs;
    let alpha = target.as_ref().map_or(0.0, |target| target.alpha);
    let target = target.map(|target| target.values);
    let few = rows <= MOST_ROWS;
    // Many rows without a ReLU need no copy.
    let stride = if few { layer.stride() } else { layer.outputs };
    let (copy, scaled) = scratch[..2 * rows * stride].split_at_mut(rows * stride);
    let dy = if few || layer.relu {
        let (mut copies, mut all_scaled, mut parts) = (&mut *copy, &mut *scaled, Vec::new());
        for range in ranges(rows, team.parts_of_values(values, rows), 1) {
            let len = range.len() * stride;
            parts.push((range, cut(&mut copies, len), cut(&mut all_scaled, len)));
        }
        team.each(parts, |(range, dy, scaled)| {
            let of = |values| &<[f32]>::as_ref(values)[range.start * layer.outputs..range.end * layer.outputs];
            let kernel = Prepare {
                layer,
                rows: range.len(),
                stride,
                y: if layer.relu { Some(of(pass.y)) } else { None },
                from: of(pass.dy),
                alpha: if few { Some(alpha) } else { None },
                dy,
                scaled,
            };
            // SAFETY: `y` and `from` hold `rows * outputs` values, `dy` and `scaled` `rows * stride`, and a stride is `outputs` at least.
            unsafe { dispatch(isa, kernel) };
        });
        &*copy
    } else {
        pass.dy
    };
    if let Some(bias) = bias {
        let (mut sums, mut parts) = (bias.values, Vec::new());
        for range in ranges(layer.outputs, team.parts_of_values(values, layer.outputs), 16) {
            parts.push((cut(&mut sums, range.len()), range));
        }
        team.each(parts, |(sums, range)| {
            for row in dy.chunks_exact(stride) {
                for (sum, d) in sums.iter_mut().zip(&row[range.clone()]) {
                    *sum += bias.alpha * d;
                }
            }
        });
    }
    if !few {
        return product::backward(team, isa, layer, rows, pass.x, weights, dx, target, dy, alpha);
    }
    let kernel = Backward {
        layer,
        rows,
        x: pass.x.as_ptr(),
        weights: weights.map_or(std::ptr::null(), <[f32]>::as_ptr),
        dx: dx.map_or(std::ptr::null_mut(), <[f32]>::as_mut_ptr),
        target: target.map_or(std::ptr::null_mut(), <[f32]>::as_mut_ptr),
        dy: dy.as_ptr(),
        scaled: scaled.as_ptr(),
    };
    // SAFETY: each part reads and writes weights of inputs of its own, and their columns of `dx`.
    let kernel = unsafe { Apart::new(kernel) };
    team.each(ranges(layer.inputs, layer.parts(team, rows, team.threads()), BLOCK), |range| {
        // SAFETY: the lengths are as `run` reads and writes them: the caller checked them.
        unsafe { dispatch(isa, Inputs(kernel.get(), range)) };
    });
}

/// Copies the gradient by the output, through the ReLU, and times `alpha`; zeros in the padding.
struct Prepare<'a> {
    layer: Dense,
    rows: usize,
    stride: usize,
    y: Option<&'a [f32]>,
    from: &'a [f32],
    alpha: Option<f32>,
    dy: &'a mut [f32],
    scaled: &'a mut [f32],
}

impl Kernel for Prepare<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let zero = V::splat(0.0);
        for row in 0..self.rows {
            let mut column = 0;
            while column < self.stride {
                let n = self.layer.outputs.saturating_sub(column).min(V::LANES);
                let wide = (self.stride - column).min(V::LANES);
                let at = row * self.layer.outputs + column;
                let mut d = V::load_n(self.from.as_ptr().wrapping_add(at), n);
                if let Some(y) = self.y {
                    d = d.keep(V::load_n(y.as_ptr().wrapping_add(at), n).gt(zero));
                }
                let to = row * self.stride + column;
                d.store_n(self.dy.as_mut_ptr().add(to), wide);
                if let Some(alpha) = self.alpha {
                    d.mul(V::splat(alpha)).store_n(self.scaled.as_mut_ptr().add(to), wide);
                }
                column += V::LANES;
            }
        }
    }
}

/// Rows of weights in one go.
const BLOCK: usize = 8;

/// Some inputs, from a multiple of [`BLOCK`] on.
struct Inputs(Backward, Range<usize>);

impl Kernel for Inputs {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self(backward, range) = self;
        let mut at = range.start;
        while at + BLOCK <= range.end {
            backward.block::<V, BLOCK>(at);
            at += BLOCK;
        }
        while at < range.end {
            backward.block::<V, 1>(at);
            at += 1;
        }
    }
}

impl Backward {
    /// `K` inputs from `at` on.
    #[inline(always)]
    unsafe fn block<V: Vector, const K: usize>(&self, at: usize) {
        let (inputs, stride) = (self.layer.inputs, self.layer.stride());
        let target = self.target.wrapping_add(at * stride);
        if !self.dx.is_null() {
            let weights = if self.weights.is_null() {
                target.cast_const()
            } else {
                self.weights.add(at * stride)
            };
            let dx = self.dx.add(at);
            let mut row = 0;
            while row < self.rows {
                // The last of an odd number goes twice.
                let second = (row + 1).min(self.rows - 1);
                let dy = [row, second].map(|r| self.dy.add(r * stride));
                let dx = [row, second].map(|r| dx.add(r * inputs));
                by_input::<V, K>(stride, dy, weights, dx);
                row += 2;
            }
        }
        if self.target.is_null() {
            return;
        }
        let wide = 2 * V::LANES;
        let mut column = 0;
        while column < stride {
            let (x, dy, target) = (self.x.add(at), self.scaled.add(column), target.add(column));
            if column + wide <= stride {
                update::<V, K, 2>(self.rows, x, inputs, dy, stride, target);
                column += wide;
            } else {
                update::<V, K, 1>(self.rows, x, inputs, dy, stride, target);
                column += V::LANES;
            }
        }
    }
}

/// `dx[r][k] = sum over n of dy[r][n] weights[k][n]` for two rows and `K` inputs.
#[inline(always)]
unsafe fn by_input<V: Vector, const K: usize>(stride: usize, dy: [*const f32; 2], weights: *const f32, dx: [*mut f32; 2]) {
    if K == 8 && V::REGISTERS == 16 {
        // Sixteen sums do not fit; four inputs at a time.
        let mut sums = [V::splat(0.0); 16];
        for half in 0..2 {
            let mut four = [[V::splat(0.0); 4]; 2];
            let mut n = 0;
            while n < stride {
                let d = [V::load(dy[0].add(n)), V::load(dy[1].add(n))];
                for k in 0..4 {
                    let w = V::load(weights.add((4 * half + k) * stride + n));
                    four[0][k] = d[0].fma(w, four[0][k]);
                    four[1][k] = d[1].fma(w, four[1][k]);
                }
                n += V::LANES;
            }
            for k in 0..4 {
                sums[4 * half + k] = four[0][k];
                sums[8 + 4 * half + k] = four[1][k];
            }
        }
        return store_sums::<V>(sums, dx);
    }
    let mut sums = [V::splat(0.0); 16];
    let mut n = 0;
    while n < stride {
        let d = [V::load(dy[0].add(n)), V::load(dy[1].add(n))];
        for k in 0..K {
            let w = V::load(weights.add(k * stride + n));
            sums[k] = d[0].fma(w, sums[k]);
            sums[8 + k] = d[1].fma(w, sums[8 + k]);
        }
        n += V::LANES;
    }
    if K == 8 {
        return store_sums::<V>(sums, dx);
    }
    for k in 0..K {
        *dx[1].add(k) = sums[8 + k].sum();
        *dx[0].add(k) = sums[k].sum();
    }
}

#[inline(always)]
unsafe fn store_sums<V: Vector>(sums: [V; 16], dx: [*mut f32; 2]) {
    let mut all = [0.0f32; 16];
    V::sums(sums, all.as_mut_ptr());
    // The second first: where both are one row, they hold the same.
    std::ptr::copy_nonoverlapping(all.as_ptr().add(8), dx[1], 8);
    std::ptr::copy_nonoverlapping(all.as_ptr(), dx[0], 8);
}

/// `target[k][n] += sum over r of x[r][k] dy[r][n]` for `K` inputs and `N` registers.
#[inline(always)]
unsafe fn update<V: Vector, const K: usize, const N: usize>(
    rows: usize,
    x: *const f32,
    inputs: usize,
    dy: *const f32,
    stride: usize,
    target: *mut f32,
) {
    if K == 8 && V::REGISTERS == 16 {
        for half in 0..2 {
            tile::<V, 4, N>(rows, x.add(4 * half), inputs, dy, stride, target.add(4 * half * stride));
        }
        return;
    }
    tile::<V, K, N>(rows, x, inputs, dy, stride, target);
}

#[inline(always)]
unsafe fn tile<V: Vector, const K: usize, const N: usize>(
    rows: usize,
    x: *const f32,
    inputs: usize,
    dy: *const f32,
    stride: usize,
    target: *mut f32,
) {
    let mut sums = [[V::splat(0.0); N]; K];
    for (k, row) in sums.iter_mut().enumerate() {
        for (j, sum) in row.iter_mut().enumerate() {
            *sum = V::load(target.add(k * stride + j * V::LANES));
        }
    }
    let (mut x, mut dy) = (x, dy);
    for _ in 0..rows {
        let mut d = [V::splat(0.0); N];
        for (j, d) in d.iter_mut().enumerate() {
            *d = V::load(dy.add(j * V::LANES));
        }
        for (k, row) in sums.iter_mut().enumerate() {
            let v = V::splat(*x.add(k));
            for (sum, d) in row.iter_mut().zip(d) {
                *sum = v.fma(d, *sum);
            }
        }
        x = x.add(inputs);
        dy = dy.add(stride);
    }
    for (k, row) in sums.into_iter().enumerate() {
        for (j, sum) in row.into_iter().enumerate() {
            sum.store(target.add(k * stride + j * V::LANES));
        }
    }
}
