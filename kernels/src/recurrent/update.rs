//! The gradients by the weights, added where they are wanted.

use super::cell::{Gates, Gru, Lstm};
use super::forward::Kept;
use super::product::{Columns, by_rows, gradient, most_rows, parts};
use super::{Cell, Recurrent, SLOTS, Walk};
use crate::isa::Kernel;
use crate::vector::Vector;

/// Rows that are summed up at once: their gates stay in the first cache.
const ROWS: usize = 128;

/// Every slice has the length that the layer asks for.
pub(super) struct Pass<'a> {
    pub(super) layer: &'a Recurrent,
    pub(super) x: &'a [f32],
    pub(super) kept: &'a [f32],
    pub(super) target: &'a mut [f32],
    pub(super) alpha: f32,
}

impl Kernel for Pass<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(mut self) {
        for d in 0..self.layer.directions() {
            match self.layer.shape.cell {
                Cell::Lstm => self.direction::<V, Lstm, 2>(d),
                Cell::Gru => self.direction::<V, Gru, 3>(d),
            }
        }
    }
}

impl Pass<'_> {
    #[inline(always)]
    unsafe fn direction<V: Vector, C: Gates<N>, const N: usize>(&mut self, d: usize) {
        let layer = self.layer;
        let (batch, input, hidden, width) = (layer.shape.batch, layer.shape.input, layer.shape.hidden, layer.width());
        // Only read from.
        let kept = Kept::new(layer, d, self.kept.as_ptr().cast_mut());
        let walk = Walk::of_x(layer, d);
        let x = self.x.as_ptr().offset(walk.first);
        let state = Walk {
            first: 0,
            step: (batch * width) as isize,
            row: width as isize,
        };
        let [of_input, of_hidden, of_bias, _] = layer.block_parts();
        let alpha = V::splat(self.alpha);
        for j in 0..layer.blocks() {
            let target = self.target.as_mut_ptr().add((d * layer.blocks() + j) * layer.block_len());
            let gates = kept.gates.add(j * layer.rows() * SLOTS * V::LANES);
            self.product::<V, N>(C::TILES, input, x, walk, gates, target);
            let gates = gates.add(C::RECURRENT * V::LANES);
            self.product::<V, N>(C::TILES, hidden, kept.hidden, state, gates, target.add(of_input));
            if !layer.shape.bias {
                continue;
            }
            for g in 0..C::TILES * N {
                let sums = kept.sums.add((j * SLOTS + g) * V::LANES);
                let place = target.add(of_input + of_hidden + g * V::LANES);
                V::load(sums).fma(alpha, V::load(place)).store(place);
                let (sums, place) = (sums.add(C::RECURRENT * V::LANES), place.add(of_bias));
                V::load(sums).fma(alpha, V::load(place)).store(place);
            }
        }
    }

    /// Of one block: `k` columns of rows that lie as `walk` says, from where `a` begins.
    #[inline(always)]
    unsafe fn product<V: Vector, const N: usize>(
        &self,
        tiles: usize,
        k: usize,
        a: *const f32,
        walk: Walk,
        gates: *const f32,
        target: *mut f32,
    ) {
        let (batch, steps) = (self.layer.shape.batch, self.layer.shape.steps);
        let at_once = (ROWS / batch).max(1);
        for tile in 0..tiles {
            for s in (0..steps).step_by(at_once) {
                let some = at_once.min(steps - s);
                // Where rows are evenly apart, it is one loop.
                let (outer, inner, inner_stride) = match () {
                    () if batch == 1 => (1, some, walk.step),
                    () if walk.step == walk.row * batch as isize => (1, some * batch, walk.row),
                    () => (some, batch, walk.row),
                };
                for (first, m) in parts(k, most_rows::<V>(N)) {
                    let columns = Columns {
                        a: a.offset(walk.step * s as isize).add(first),
                        outer_stride: walk.step,
                        inner_stride,
                        outer,
                        inner,
                        b: gates.add((s * batch * SLOTS + tile * N) * V::LANES),
                    };
                    let target = target.add((tile * k + first) * N * V::LANES);
                    by_rows!(V, N, m, M => gradient::<V, M, N>(columns, target, self.alpha));
                }
            }
        }
    }
}
