//! The gradient by weights where every pixel has one: outer products, summed over pixels in registers.

use super::tile::{WIDTH, height, split, with_size};
use crate::isa::{Isa, Kernel, dispatch};
use crate::vector::Vector;

/// `target[i][channel] += alpha * sum over pixels of from[pixel][i] * gradient[pixel][channel]`, for one run and one panel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outer<'a> {
    /// Floats of the run.
    pub(super) len: usize,
    /// Where pixels begin.
    pub(super) pixels: &'a [u32],
    pub(super) from: *const f32,
    /// `[pixels][vectors * LANES]`, from [`Column`].
    pub(super) gradient: *const f32,
    /// `[len][vectors * LANES]`.
    pub(super) target: *mut f32,
    pub(super) alpha: f32,
    pub(super) vectors: usize,
    /// Channels in the last vector.
    pub(super) last: usize,
}

/// `to[pixel] = from[pixel][..channels]`, whole vectors, zeros behind the last channel: side by side, because with many channels the
/// pixels would share a few sets of the first cache.
pub(super) struct Column {
    pub(super) pixels: usize,
    pub(super) channels: usize,
    pub(super) from: *const f32,
    pub(super) from_step: usize,
    pub(super) to: *mut f32,
}

impl Kernel for Column {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let mut to = self.to;
        for pixel in 0..self.pixels {
            for c in (0..self.channels).step_by(V::LANES) {
                let from = self.from.add(pixel * self.from_step + c);
                if c + V::LANES <= self.channels {
                    V::load(from).store(to);
                } else {
                    V::load_n(from, self.channels - c).store(to);
                }
                to = to.add(V::LANES);
            }
        }
    }
}

/// # Safety
/// Everything that it reaches from the pointers may be read, and at `target` written.
pub(super) unsafe fn outer(isa: Isa, outer: &Outer<'_>) {
    debug_assert!(outer.vectors <= WIDTH);
    let (higher, rest, low) = split(outer.len, height(isa));
    for (first, tiles, height) in [(0, higher, low + 1), (higher * (low + 1), rest, low)] {
        if tiles == 0 {
            continue;
        }
        macro_rules! run {
            ($m:literal, $n:literal) => {
                dispatch(isa, Tiles::<$m, $n> { outer, first, tiles })
            };
        }
        with_size!(height, outer.vectors, run);
    }
}

struct Tiles<'a, const M: usize, const N: usize> {
    outer: &'a Outer<'a>,
    first: usize,
    tiles: usize,
}

impl<const M: usize, const N: usize> Kernel for Tiles<'_, M, N> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        if M > 6 && V::REGISTERS < 32 {
            unreachable!("no such tile with {} registers", V::REGISTERS);
        }
        for tile in 0..self.tiles {
            let first = self.first + tile * M;
            product::<V, M, N>(self.outer, first);
        }
    }
}

#[inline(always)]
unsafe fn product<V: Vector, const M: usize, const N: usize>(outer: &Outer<'_>, first: usize) {
    let target = outer.target.add(first * N * V::LANES);
    unrolled!(I < M, {
        for j in 0..N {
            V::prefetch(target.add((I * N + j) * V::LANES));
        }
    });
    let mut sums = [[V::splat(0.0); N]; M];
    let from = outer.from.add(first);
    let mut gradient = outer.gradient;
    for &pixel in outer.pixels {
        let x = from.add(pixel as usize);
        let mut g = [V::splat(0.0); N];
        for j in 0..N {
            g[j] = V::load(gradient.add(j * V::LANES));
        }
        unrolled!(I < M, {
            let x = V::splat(*x.add(I));
            for j in 0..N {
                sums[I][j] = x.fma(g[j], sums[I][j]);
            }
        });
        gradient = gradient.add(N * V::LANES);
    }
    let alpha = V::splat(outer.alpha);
    unrolled!(I < M, {
        for j in 0..N {
            let at = target.add((I * N + j) * V::LANES);
            let sum = alpha.fma(sums[I][j], V::load(at));
            // What stands behind the last channel is zero and stays so.
            if j + 1 < N || outer.last == V::LANES {
                sum.store(at);
            } else {
                sum.store_n(at, outer.last);
            }
        }
    });
}

/// `target[channel] += alpha * sum over pixels of gradient[pixel][channel]`.
pub(super) struct Sum {
    pub(super) gradient: *const f32,
    pub(super) pixels: usize,
    pub(super) channels: usize,
    pub(super) target: *mut f32,
    pub(super) alpha: f32,
}

impl Kernel for Sum {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let alpha = V::splat(self.alpha);
        let mut c = 0;
        while c + 4 * V::LANES <= self.channels {
            let mut sums = [V::splat(0.0); 4];
            for pixel in 0..self.pixels {
                for j in 0..4 {
                    sums[j] = sums[j].add(V::load(self.gradient.add(pixel * self.channels + c + j * V::LANES)));
                }
            }
            for j in 0..4 {
                let at = self.target.add(c + j * V::LANES);
                alpha.fma(sums[j], V::load(at)).store(at);
            }
            c += 4 * V::LANES;
        }
        while c < self.channels {
            let n = V::LANES.min(self.channels - c);
            // Four sums, for the sake of their latency.
            let mut sums = [V::splat(0.0); 4];
            let whole = self.pixels / 4 * 4;
            for first in (0..whole).step_by(4) {
                for j in 0..4 {
                    sums[j] = sums[j].add(V::load_n(self.gradient.add((first + j) * self.channels + c), n));
                }
            }
            for pixel in whole..self.pixels {
                sums[0] = sums[0].add(V::load_n(self.gradient.add(pixel * self.channels + c), n));
            }
            let sum = sums[0].add(sums[1]).add(sums[2].add(sums[3]));
            let at = self.target.add(c);
            alpha.fma(sum, V::load_n(at, n)).store_n(at, n);
            c += n;
        }
    }
}
