//! A kernel of its own for each channel: lanes are channels.

use super::tile::{Axis, Runs, Start};
use crate::isa::Kernel;
use crate::vector::Vector;

/// `to[pixel][channel] = start + sum over taps of from[pixel + tap][channel] * weights[tap][channel]`.
pub(super) struct Depthwise {
    pub(super) axes: [Axis; 3],
    /// Taps; `len` is the channels.
    pub(super) taps: Runs,
    pub(super) from: *const f32,
    /// `[taps][step]`.
    pub(super) weights: *const f32,
    pub(super) step: usize,
    pub(super) to: *mut f32,
    pub(super) start: Start,
    pub(super) relu: bool,
}

/// Pixels that are computed together, for the sake of the products' latency.
const PIXELS: usize = 4;

impl Kernel for Depthwise {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let [images, rows, along] = self.axes;
        for image in 0..images.count {
            for row in 0..rows.count {
                let from = self.from.add(image * images.read + row * rows.read);
                let to = self.to.add(image * images.written + row * rows.written);
                let whole = along.count / PIXELS * PIXELS;
                for first in (0..whole).step_by(PIXELS) {
                    self.pixels::<V, PIXELS>(from.add(first * along.read), to.add(first * along.written));
                }
                for first in whole..along.count {
                    self.pixels::<V, 1>(from.add(first * along.read), to.add(first * along.written));
                }
            }
        }
    }
}

impl Depthwise {
    #[inline(always)]
    unsafe fn pixels<V: Vector, const N: usize>(&self, from: *const f32, to: *mut f32) {
        for c in (0..self.taps.len).step_by(V::LANES) {
            let n = V::LANES.min(self.taps.len - c);
            if n == V::LANES {
                self.vector::<V, N, true>(from.add(c), to.add(c), c, n);
            } else {
                self.vector::<V, N, false>(from.add(c), to.add(c), c, n);
            }
        }
    }

    #[inline(always)]
    unsafe fn vector<V: Vector, const N: usize, const FULL: bool>(&self, from: *const f32, to: *mut f32, c: usize, n: usize) {
        let along = self.axes[2];
        let mut sums = [V::splat(0.0); N];
        for i in 0..N {
            match self.start {
                Start::Zero => {}
                Start::Bias(bias) => sums[i] = V::load_n(bias.add(c), n),
                Start::Written => sums[i] = V::load_n(to.add(i * along.written), n),
            }
        }
        for row in 0..self.taps.rows {
            for column in 0..self.taps.columns {
                let from = from.add(row * self.taps.row_step + column * self.taps.column_step);
                let w = V::load(self.weights.add((row * self.taps.columns + column) * self.step + c));
                for i in 0..N {
                    let at = from.add(i * along.read);
                    let x = if FULL { V::load(at) } else { V::load_n(at, n) };
                    sums[i] = x.fma(w, sums[i]);
                }
            }
        }
        for i in 0..N {
            let value = if self.relu { V::splat(0.0).max(sums[i]) } else { sums[i] };
            value.store_n(to.add(i * along.written), n);
        }
    }
}

/// `target[tap][channel] += alpha * sum over pixels of from[pixel + tap][channel] * gradient[pixel][channel]`.
pub(super) struct Weights<'a> {
    pub(super) taps: Runs,
    pub(super) pixels: &'a [u32],
    pub(super) images: usize,
    pub(super) from: *const f32,
    pub(super) from_image: usize,
    /// `[images * pixels][channels]`.
    pub(super) gradient: *const f32,
    /// `[taps][step]`.
    pub(super) target: *mut f32,
    pub(super) step: usize,
    pub(super) alpha: f32,
}

/// Taps that are summed together.
const TAPS: usize = 9;

impl Kernel for Weights<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let channels = self.taps.len;
        let alpha = V::splat(self.alpha);
        let taps = self.taps.rows * self.taps.columns;
        for c in (0..channels).step_by(V::LANES) {
            let n = V::LANES.min(channels - c);
            for first in (0..taps).step_by(TAPS) {
                // Taps behind the last are the last again, and go nowhere.
                let mut offsets = [0; TAPS];
                for (i, offset) in offsets.iter_mut().enumerate() {
                    let tap = (first + i).min(taps - 1);
                    *offset = tap / self.taps.columns * self.taps.row_step + tap % self.taps.columns * self.taps.column_step + c;
                }
                let mut sums = [V::splat(0.0); TAPS];
                let mut gradient = self.gradient.add(c);
                for image in 0..self.images {
                    let from = self.from.add(image * self.from_image);
                    for &pixel in self.pixels {
                        let from = from.add(pixel as usize);
                        let g = V::load_n(gradient, n);
                        for i in 0..TAPS {
                            sums[i] = V::load_n(from.add(offsets[i]), n).fma(g, sums[i]);
                        }
                        gradient = gradient.add(channels);
                    }
                }
                for i in 0..TAPS {
                    if first + i < taps {
                        let at = self.target.add((first + i) * self.step + c);
                        alpha.fma(sums[i], V::load_n(at, n)).store_n(at, n);
                    }
                }
            }
        }
    }
}
