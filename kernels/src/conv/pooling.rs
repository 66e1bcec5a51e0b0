//! The maximum over windows that tile, in rows of the convolution that are still in the cache, and its way back.

use crate::isa::Kernel;
use crate::vector::Vector;

/// One row of windows. Ties: the first in row-major order. A NaN wins where it is the first of its window.
pub(super) struct Pool {
    pub(super) window: [usize; 2],
    /// Windows in the row.
    pub(super) windows: usize,
    pub(super) channels: usize,
    /// `[window rows][row_step / step pixels][step]`.
    pub(super) rows: *const f32,
    pub(super) row_step: usize,
    /// Channels of a pixel in `rows` and of a window in `picks`, whole vectors.
    pub(super) step: usize,
    pub(super) relu: bool,
    /// `[windows][channels]`.
    pub(super) y: *mut f32,
    /// `[windows][step]`: which of its window.
    pub(super) picks: *mut u8,
}

impl Kernel for Pool {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        if self.window == [2, 2] {
            self.over::<V, 2, 2>(2, 2);
        } else {
            let [height, width] = self.window;
            self.over::<V, 0, 0>(height, width);
        }
    }
}

impl Pool {
    /// `H` and `W` are the window where it is known when this is compiled.
    #[inline(always)]
    unsafe fn over<V: Vector, const H: usize, const W: usize>(self, height: usize, width: usize) {
        let (height, width) = if H * W > 0 { (H, W) } else { (height, width) };
        let zero = V::splat(0.0);
        for window in 0..self.windows {
            let corner = self.rows.add(window * width * self.step);
            for c in (0..self.channels).step_by(V::LANES) {
                let mut best = V::load(corner.add(c));
                let mut pick = zero;
                for i in 1..height * width {
                    let value = V::load(corner.add(i / width * self.row_step + i % width * self.step + c));
                    let larger = value.gt(best);
                    best = value.select(larger, best);
                    pick = V::splat(i as f32).select(larger, pick);
                }
                if self.relu {
                    best = zero.max(best);
                }
                let at = self.y.add(window * self.channels + c);
                let n = V::LANES.min(self.channels - c);
                if n == V::LANES {
                    best.store(at);
                } else {
                    best.store_n(at, n);
                };
                pick.store_bytes(self.picks.add(window * self.step + c));
            }
        }
    }
}

/// The gradient of one row of windows, put where the maximum came from; zero elsewhere.
pub(super) struct Unpool {
    pub(super) window: [usize; 2],
    pub(super) windows: usize,
    pub(super) channels: usize,
    /// `[windows][channels]`.
    pub(super) gradient: *const f32,
    /// The ReLU behind the pool lets through where this is above zero; null where there is none.
    pub(super) y: *const f32,
    pub(super) picks: *const u8,
    /// Channels of a window in `picks`.
    pub(super) step: usize,
    /// `[window rows][row_step / channels pixels][channels]`.
    pub(super) rows: *mut f32,
    pub(super) row_step: usize,
}

impl Kernel for Unpool {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let [height, width] = self.window;
        let zero = V::splat(0.0);
        for window in 0..self.windows {
            for c in (0..self.channels).step_by(V::LANES) {
                let n = V::LANES.min(self.channels - c);
                let at = window * self.channels + c;
                let mut gradient = V::load_n(self.gradient.add(at), n);
                if !self.y.is_null() {
                    gradient = gradient.keep(V::load_n(self.y.add(at), n).gt(zero));
                }
                let picks = V::load_bytes(self.picks.add(window * self.step + c));
                for i in 0..height * width {
                    let to = self
                        .rows
                        .add(i / width * self.row_step + (window * width + i % width) * self.channels + c);
                    let value = gradient.keep(picks.eq(V::splat(i as f32)));
                    if n == V::LANES {
                        value.store(to);
                    } else {
                        value.store_n(to, n);
                    };
                }
            }
        }
    }
}
