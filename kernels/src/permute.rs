//! Other orders of axes, parts of tensors, and what is repeated along an axis or summed over it.

use crate::isa::{Isa, Kernel, dispatch};
use crate::nest::Nest;
pub use crate::nest::{MAX_RANK, Place};
use crate::stretch::{Stretch, over, put, take};
use crate::vector::Vector;

/// Puts the axes of `x`, of shape `shape`, into another order: axis `i` of `y` is axis `axes[i]` of `x`.
///
/// # Panics
/// On slices that don't hold the shape, an order that is none, more than [`MAX_RANK`] axes; so do all functions here.
pub fn permute(isa: Isa, x: &[f32], shape: &[usize], axes: &[usize], y: &mut [f32]) {
    let from = Place::whole(shape).permuted(axes);
    let mut turned = [0; MAX_RANK];
    for (at, &axis) in axes.iter().enumerate() {
        turned[at] = shape[axis];
    }
    let turned = &turned[..axes.len()];
    copy(isa, turned, x, &from, y, &Place::whole(turned));
}

/// `[images, channels, positions]` to `[images, positions, channels]`.
pub fn to_channels_last(isa: Isa, x: &[f32], shape: [usize; 3], y: &mut [f32]) {
    permute(isa, x, &shape, &[0, 2, 1], y);
}

/// `[images, positions, channels]` to `[images, channels, positions]`; `shape` is that of `y`.
pub fn to_channels_first(isa: Isa, x: &[f32], [images, channels, positions]: [usize; 3], y: &mut [f32]) {
    permute(isa, x, &[images, positions, channels], &[0, 2, 1], y);
}

/// Copies a tensor of `shape` from one place to another: what slices, joins, splits and pads do.
pub fn copy(isa: Isa, shape: &[usize], x: &[f32], from: &Place, y: &mut [f32], to: &Place) {
    run(isa, shape, x, from, y, to, 1.0, false);
}

/// `y += alpha * x`, over places in `y` that may be the same for many elements: the gradient of a copy.
pub fn accumulate(isa: Isa, shape: &[usize], alpha: f32, x: &[f32], from: &Place, y: &mut [f32], to: &Place) {
    run(isa, shape, x, from, y, to, alpha, true);
}

/// `y = alpha * x`, where `x` is broadcast to the shape of `y` by the rules of numpy.
pub fn expand(isa: Isa, alpha: f32, x: &[f32], x_shape: &[usize], y: &mut [f32], y_shape: &[usize]) {
    let from = Place::broadcast(x_shape, y_shape);
    run(isa, y_shape, x, &from, y, &Place::whole(y_shape), alpha, false);
}

/// `y += alpha * x`, where `y` is broadcast to the shape of `x`: sums over the axes that are 1 in `y_shape` or that it lacks in front.
/// The gradient of [`expand`], and with 1 over their number as `alpha` the mean.
pub fn sum_to(isa: Isa, alpha: f32, x: &[f32], x_shape: &[usize], y: &mut [f32], y_shape: &[usize]) {
    let to = Place::broadcast(y_shape, x_shape);
    run(isa, x_shape, x, &Place::whole(x_shape), y, &to, alpha, true);
}

fn run(isa: Isa, shape: &[usize], x: &[f32], from: &Place, y: &mut [f32], to: &Place, alpha: f32, adds: bool) {
    let nest = Nest::new(shape, [from, to], [x.len(), y.len()]);
    if nest.is_empty {
        return;
    }
    let copy = Copy {
        nest,
        x: x.as_ptr(),
        y: y.as_mut_ptr(),
        alpha,
        adds,
    };
    // SAFETY: the nest stays within both slices, which it has checked.
    unsafe { dispatch(isa, copy) };
}

struct Copy {
    nest: Nest<2>,
    x: *const f32,
    y: *mut f32,
    alpha: f32,
    adds: bool,
}

impl Kernel for Copy {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(mut self) {
        let along_both = self.nest.find(|s| s == [1, 1]);
        let along_x = self.nest.find(|[x, y]| x == 1 && (y > 0 || self.adds && y == 0));
        let along_y = self.nest.find(|[x, y]| y == 1 && x >= 0);
        match (along_both, along_x, along_y) {
            (Some(axis), ..) => self.inner::<V, { Inner::RUN }>(axis),
            (_, Some(axis), _) if self.nest.strides[axis][1] == 0 => self.inner::<V, { Inner::SUM }>(axis),
            (.., Some(axis)) if self.nest.strides[axis][0] == 0 => self.inner::<V, { Inner::FILL }>(axis),
            (_, Some(x), Some(y)) if !self.adds && self.alpha == 1.0 => self.transposed::<V>(x, y),
            (.., along_y) => self.inner::<V, { Inner::SINGLE }>(along_y.unwrap_or(self.nest.rank.saturating_sub(1))),
        }
    }
}

/// What the innermost loop does.
struct Inner;

impl Inner {
    /// Both run through neighbours.
    const RUN: u8 = 0;
    /// Neighbours of `x` into one of `y`.
    const SUM: u8 = 1;
    /// One of `x` into neighbours of `y`.
    const FILL: u8 = 2;
    /// Anything else, one by one.
    const SINGLE: u8 = 3;
}

impl Copy {
    #[inline(always)]
    unsafe fn inner<V: Vector, const INNER: u8>(&mut self, axis: usize) {
        let (n, [x_stride, y_stride]) = self.nest.take(Some(axis));
        let mut walk = self.nest.walk();
        loop {
            let (x, y) = (self.x.offset(walk.offsets[0]), self.y.offset(walk.offsets[1]));
            match INNER {
                Inner::RUN if self.adds => over::<V>(n, Add(self.alpha, x, y)),
                Inner::RUN => over::<V>(n, Scaled(self.alpha, x, y)),
                Inner::SUM => *y += (f64::from(self.alpha) * sum::<V>(x, n)) as f32,
                Inner::FILL if self.adds => over::<V>(n, AddOne(self.alpha * *x, y)),
                Inner::FILL => over::<V>(n, Fill(self.alpha * *x, y)),
                _ => {
                    for i in 0..n as isize {
                        let (x, y) = (x.offset(i * x_stride), y.offset(i * y_stride));
                        let value = self.alpha * *x;
                        *y = if self.adds { *y + value } else { value };
                    }
                }
            }
            if !walk.step() {
                return;
            }
        }
    }

    /// `along_x`: the axis whose neighbours are neighbours in `x`; `along_y` likewise.
    #[inline(always)]
    unsafe fn transposed<V: Vector>(&mut self, along_x: usize, along_y: usize) {
        let (columns, [_, y_stride]) = self.nest.take(Some(along_x));
        let along_y = if along_y > along_x { along_y - 1 } else { along_y };
        let (rows, [x_stride, _]) = self.nest.take(Some(along_y));
        let (x_stride, y_stride) = (x_stride as usize, y_stride as usize);
        let mut walk = self.nest.walk();
        loop {
            let (x, y) = (self.x.offset(walk.offsets[0]), self.y.offset(walk.offsets[1]));
            // Whole rows of `y` are written one tile after the other; the lines of `x` that a tile shares with its neighbour below stay
            // near meanwhile.
            for column in (0..columns).step_by(V::LANES) {
                let width = V::LANES.min(columns - column);
                for row in (0..rows).step_by(V::LANES) {
                    let height = V::LANES.min(rows - row);
                    let (from, to) = (x.add(row * x_stride + column), y.add(column * y_stride + row));
                    if height == V::LANES && width == V::LANES {
                        V::transpose(from, x_stride, V::LANES, V::LANES, to, y_stride);
                    } else {
                        V::transpose(from, x_stride, height, width, to, y_stride);
                    }
                }
            }
            if !walk.step() {
                return;
            }
        }
    }
}

/// In f64: sums of many values that cancel keep their digits.
#[inline(always)]
pub(crate) unsafe fn sum<V: Vector>(x: *const f32, n: usize) -> f64 {
    let one = V::splat(1.0);
    let mut sums = [V::wide_zero(); 2];
    let mut i = 0;
    while i + 2 * V::LANES <= n {
        sums[0] = V::load(x.add(i)).fma_wide(one, sums[0]);
        sums[1] = V::load(x.add(i + V::LANES)).fma_wide(one, sums[1]);
        i += 2 * V::LANES;
    }
    while i < n {
        sums[0] = V::load_n(x.add(i), V::LANES.min(n - i)).fma_wide(one, sums[0]);
        i += V::LANES;
    }
    V::sum_wide(sums[0]) + V::sum_wide(sums[1])
}

/// `y = alpha * x`
#[derive(Clone, Copy)]
struct Scaled(f32, *const f32, *mut f32);

impl Stretch for Scaled {
    #[inline(always)]
    unsafe fn at<V: Vector>(self, i: usize, n: usize) {
        put(take::<V>(self.1.add(i), n).mul(V::splat(self.0)), self.2.add(i), n);
    }
}

/// `y += alpha * x`
#[derive(Clone, Copy)]
struct Add(f32, *const f32, *mut f32);

impl Stretch for Add {
    #[inline(always)]
    unsafe fn at<V: Vector>(self, i: usize, n: usize) {
        let y = take::<V>(self.2.add(i), n);
        put(take::<V>(self.1.add(i), n).fma(V::splat(self.0), y), self.2.add(i), n);
    }
}

/// `y = value`
#[derive(Clone, Copy)]
struct Fill(f32, *mut f32);

impl Stretch for Fill {
    #[inline(always)]
    unsafe fn at<V: Vector>(self, i: usize, n: usize) {
        put(V::splat(self.0), self.1.add(i), n);
    }
}

/// `y += value`
#[derive(Clone, Copy)]
struct AddOne(f32, *mut f32);

impl Stretch for AddOne {
    #[inline(always)]
    unsafe fn at<V: Vector>(self, i: usize, n: usize) {
        put(take::<V>(self.1.add(i), n).add(V::splat(self.0)), self.1.add(i), n);
    }
}

#[cfg(test)]
mod tests;
