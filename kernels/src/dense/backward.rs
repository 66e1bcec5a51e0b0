//! The gradients of a layer of few rows: weights are read once, for the gradient by the input and for their own.

use super::{Dense, MOST_ROWS, Pass, product};
use crate::isa::{Kernel, dispatch};
use crate::vector::Vector;
use crate::{Isa, Target};

struct Backward<'a> {
    layer: Dense,
    rows: usize,
    x: &'a [f32],
    weights: Option<&'a [f32]>,
    dx: Option<&'a mut [f32]>,
    target: Option<&'a mut [f32]>,
    /// The gradient by the output, through the ReLU, `[rows, stride]`, zero in the padding; then the same times `alpha`.
    dy: &'a [f32],
    scaled: &'a [f32],
}

/// Checked by the caller: all lengths, at least one row.
pub(super) fn backward(
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
    let alpha = target.as_ref().map_or(0.0, |target| target.alpha);
    let target = target.map(|target| target.values);
    let few = rows <= MOST_ROWS;
    // Many rows without a ReLU need no copy.
    let stride = if few { layer.stride() } else { layer.outputs };
    let (copy, scaled) = scratch[..2 * rows * stride].split_at_mut(rows * stride);
    let dy = if few || layer.relu {
        let kernel = Prepare {
            layer,
            rows,
            stride,
            y: if layer.relu { Some(pass.y) } else { None },
            from: pass.dy,
            alpha: if few { Some(alpha) } else { None },
            dy: copy,
            scaled,
        };
        // SAFETY: `y` and `from` hold `rows * outputs` values, `dy` and `scaled` `rows * stride`, and a stride is `outputs` at least.
        unsafe { dispatch(isa, kernel) };
        &*copy
    } else {
        pass.dy
    };
    if let Some(bias) = bias {
        for row in dy.chunks_exact(stride) {
            for (b, d) in bias.values.iter_mut().zip(row) {
                *b += bias.alpha * d;
            }
        }
    }
    if !few {
        return product::backward(isa, layer, rows, pass.x, weights, dx, target, dy, alpha);
    }
    let kernel = Backward {
        layer,
        rows,
        x: pass.x,
        weights,
        dx,
        target,
        dy,
        scaled,
    };
    // SAFETY: the lengths are as `run` reads and writes them: the caller checked them.
    unsafe { dispatch(isa, kernel) }
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

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(mut self) {
        let inputs = self.layer.inputs;
        let mut at = 0;
        while at + BLOCK <= inputs {
            self.block::<V, BLOCK>(at);
            at += BLOCK;
        }
        while at < inputs {
            self.block::<V, 1>(at);
            at += 1;
        }
    }
}

impl Backward<'_> {
    /// `K` inputs from `at` on.
    #[inline(always)]
    unsafe fn block<V: Vector, const K: usize>(&mut self, at: usize) {
        let (inputs, stride) = (self.layer.inputs, self.layer.stride());
        let target = self.target.as_deref_mut().map(|target| target.as_mut_ptr().add(at * stride));
        if let Some(dx) = self.dx.as_deref_mut() {
            let weights = match (self.weights, target) {
                (Some(weights), _) => weights.as_ptr().add(at * stride),
                (None, target) => target.map_or(std::ptr::null(), <*mut f32>::cast_const),
            };
            let dx = dx.as_mut_ptr().add(at);
            let mut row = 0;
            while row < self.rows {
                // The last of an odd number goes twice.
                let second = (row + 1).min(self.rows - 1);
                let dy = [row, second].map(|r| self.dy.as_ptr().add(r * stride));
                let dx = [row, second].map(|r| dx.add(r * inputs));
                by_input::<V, K>(stride, dy, weights, dx);
                row += 2;
            }
        }
        let Some(target) = target else { return };
        let wide = 2 * V::LANES;
        let mut column = 0;
        while column < stride {
            let (x, dy, target) = (self.x.as_ptr().add(at), self.scaled.as_ptr().add(column), target.add(column));
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
