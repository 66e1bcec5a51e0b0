//! The gradients by the weights, added where they are wanted.

use std::ops::Range;

use super::cell::{Gates, Gru, Lstm};
use super::forward::Kept;
use super::product::{Near, by_rows, gradient, most_rows, parts};
use super::{Cell, Recurrent, SLOTS, Walk};
use crate::buffer::Buffer;
use crate::isa::Kernel;
use crate::vector::Vector;

/// Rows that are summed up at once, where the batch is no larger: their gates' gradients stay in the first cache.
const ROWS: usize = 128;

impl Recurrent {
    /// Steps whose rows are summed up at once.
    fn steps_at_once(&self) -> usize {
        (ROWS / self.shape.batch).clamp(1, self.shape.steps)
    }

    /// Values of the rows of x and of hidden states that are multiplied at once.
    pub(super) fn update_scratch(&self) -> [usize; 2] {
        let rows = self.steps_at_once() * self.shape.batch;
        [self.shape.input, self.shape.hidden].map(|k| Buffer::padded(rows * k))
    }
}

/// Every slice has the length that the layer asks for, and so has the target.
pub(super) struct Pass<'a> {
    pub(super) layer: &'a Recurrent,
    /// Those whose weights are updated.
    pub(super) blocks: Range<usize>,
    pub(super) x: &'a [f32],
    pub(super) kept: &'a [f32],
    pub(super) target: *mut f32,
    pub(super) alpha: f32,
    pub(super) scratch: &'a mut [f32],
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
        let (batch, width) = (layer.shape.batch as isize, layer.width() as isize);
        // Only read from.
        let kept = Kept::new(layer, d, self.kept.as_ptr().cast_mut());
        let states = Walk {
            first: 0,
            step: batch * width,
            row: width,
        };
        let [of_input, of_hidden, of_bias, _] = layer.block_parts();
        let target = self.target.add(d * layer.blocks() * layer.block_len());
        let packed = self.scratch.as_mut_ptr();
        let sources = [
            Source {
                values: self.x.as_ptr(),
                walk: Walk::of_x(layer, d),
                k: layer.shape.input,
                packed,
                register: 0,
                target,
            },
            Source {
                values: kept.hidden,
                walk: states,
                k: layer.shape.hidden,
                packed: packed.add(layer.update_scratch()[0]),
                register: C::RECURRENT,
                target: target.add(of_input),
            },
        ];
        self.products::<V, N>(C::TILES, &sources, kept.gates);
        if !layer.shape.bias {
            return;
        }
        let alpha = V::splat(self.alpha);
        for j in self.blocks.clone() {
            let biases = target.add(j * layer.block_len() + of_input + of_hidden);
            for g in 0..C::TILES * N {
                let sums = kept.sums.add((j * SLOTS + g) * V::LANES);
                let place = biases.add(g * V::LANES);
                V::load(sums).fma(alpha, V::load(place)).store(place);
                let (sums, place) = (sums.add(C::RECURRENT * V::LANES), place.add(of_bias));
                V::load(sums).fma(alpha, V::load(place)).store(place);
            }
        }
    }

    /// Of all blocks.
    #[inline(always)]
    unsafe fn products<V: Vector, const N: usize>(&self, tiles: usize, sources: &[Source; 2], gates: *const f32) {
        let layer = self.layer;
        let (batch, steps) = (layer.shape.batch, layer.shape.steps);
        let alpha = V::splat(self.alpha);
        let most = most_rows::<V>(N);
        let calls = tiles * sources.iter().map(|source| source.k.div_ceil(most)).sum::<usize>();
        for s in (0..steps).step_by(layer.steps_at_once()) {
            let rows = layer.steps_at_once().min(steps - s) * batch;
            for source in sources {
                source.pack::<V>(s, batch, rows, most);
            }
            for j in self.blocks.clone() {
                let gates_of = |block: usize, s: usize| gates.wrapping_add((block * layer.rows() + s * batch) * SLOTS * V::LANES);
                // The gradients of the next block, or of the first one's next rows.
                let (block, step) = if j + 1 < self.blocks.end {
                    (j + 1, s)
                } else {
                    (self.blocks.start, s + layer.steps_at_once())
                };
                let len = rows.min(layer.rows().saturating_sub(step * batch)) * SLOTS * V::LANES;
                let mut near = Near::new(gates_of(block, step), 0, len, usize::from(len > 0), calls);
                for tile in 0..tiles {
                    for source in sources {
                        let b = gates_of(j, s).add((tile * N + source.register) * V::LANES);
                        let target = source.target.add(j * layer.block_len() + tile * source.k * N * V::LANES);
                        for (first, m) in parts(source.k, most) {
                            near.bring::<V>();
                            let (a, target) = (source.packed.add(first * rows), target.add(first * N * V::LANES));
                            by_rows!(V, N, m, M => gradient::<V, M, N>(a, rows, b, target, alpha));
                        }
                    }
                }
            }
        }
    }
}

/// What the gates' gradients are multiplied by: `k` columns of rows that lie as `walk` says.
struct Source {
    values: *const f32,
    walk: Walk,
    k: usize,
    packed: *mut f32,
    /// The gates' first register that it added to.
    register: usize,
    /// Its weights of the first block.
    target: *mut f32,
}

impl Source {
    /// Packs the rows of steps from `s` on: `[tile of columns][row][column]`.
    #[inline(always)]
    unsafe fn pack<V: Vector>(&self, s: usize, batch: usize, rows: usize, most: usize) {
        for r in 0..rows {
            let from = self.values.offset(self.walk.at(s + r / batch, r % batch));
            for (first, m) in parts(self.k, most) {
                let to = self.packed.add(first * rows + r * m);
                for i in (0..m).step_by(V::LANES) {
                    let n = V::LANES.min(m - i);
                    V::load_n(from.add(first + i), n).store_n(to.add(i), n);
                }
            }
        }
    }
}
