//! The pass forward.

use super::cell::{Gates, Gru, Lstm};
use super::product::{self, Factors, Near, most_rows, parts};
use super::{Cell, Forward, Recurrent, SLOTS, Walk};
use crate::buffer::Buffer;
use crate::isa::{Kernel, dispatch};
use crate::vector::Vector;

/// Most rows of a tile, of any instruction set.
pub(super) const MOST_ROWS: usize = 12;

/// Most values of the input's weights that are multiplied step by step, beside those of the hidden state: the cache has room for both,
/// and the gates are written once.
const MOST_BESIDE: usize = 1 << 16;

impl Recurrent {
    /// Whether a step multiplies its own rows of x.
    fn is_beside(&self) -> bool {
        self.shape.cell == Cell::Lstm && self.shape.input * self.gates() * self.width() <= MOST_BESIDE
    }

    /// Values of the rows of x that are multiplied at once, of two hidden states, and of the biases' sums.
    pub(super) fn forward_scratch(&self) -> [usize; 4] {
        let lanes = self.isa.lanes();
        let state = self.shape.batch * self.width();
        let rows = if self.is_beside() { self.shape.batch } else { MOST_ROWS };
        [rows * self.shape.input.next_multiple_of(lanes), state, state, SLOTS * self.width()].map(Buffer::padded)
    }
}

/// Every slice has the length that the layer asks for.
pub(super) struct Pass<'a> {
    pub(super) layer: &'a Recurrent,
    pub(super) io: Forward<'a>,
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

/// Where what is kept of a direction begins.
#[derive(Clone, Copy)]
pub(super) struct Kept {
    /// `[block][row][SLOTS][lanes]`
    pub(super) gates: *mut f32,
    /// `[steps + 1, batch, width]`, the state before the first step being the first; the states of the cells alike.
    pub(super) hidden: *mut f32,
    pub(super) cell: *mut f32,
    /// `[block][SLOTS][lanes]`
    pub(super) sums: *mut f32,
}

impl Kept {
    /// # Safety
    /// `kept` is where `layer.kept_len()` values begin.
    pub(super) unsafe fn new(layer: &Recurrent, d: usize, kept: *mut f32) -> Self {
        let gates = kept.add(d * layer.kept_of_direction());
        let [of_gates, of_hidden, of_cell, _] = layer.kept_parts();
        let hidden = gates.add(of_gates);
        let cell = hidden.add(of_hidden);
        let sums = cell.add(of_cell);
        Self { gates, hidden, cell, sums }
    }
}

/// Copies the rows of a state to rows of `width` values, with zeros behind them, or zeros alone.
pub(super) unsafe fn widened(layer: &Recurrent, d: usize, state: Option<&[f32]>, to: *mut f32, width: usize) {
    let walk = Walk::of_state(layer, d);
    let hidden = layer.shape.hidden;
    for b in 0..layer.shape.batch {
        let to = to.add(b * width);
        match state {
            Some(state) => std::ptr::copy_nonoverlapping(state.as_ptr().offset(walk.at(0, b)), to, hidden),
            None => std::ptr::write_bytes(to, 0, hidden),
        }
        std::ptr::write_bytes(to.add(hidden), 0, width - hidden);
    }
}

/// The opposite: copies `hidden` values of each row to a state, where it is wanted.
pub(super) unsafe fn narrowed(layer: &Recurrent, d: usize, from: *const f32, width: usize, state: Option<&mut [f32]>) {
    let Some(state) = state else { return };
    let walk = Walk::of_state(layer, d);
    for b in 0..layer.shape.batch {
        let to = state.as_mut_ptr().offset(walk.at(0, b));
        std::ptr::copy_nonoverlapping(from.add(b * width), to, layer.shape.hidden);
    }
}

impl Pass<'_> {
    #[inline(always)]
    unsafe fn direction<V: Vector, C: Gates<N>, const N: usize>(&mut self, d: usize) {
        let layer = self.layer;
        let (batch, steps, width) = (layer.shape.batch, layer.shape.steps, layer.width());
        let kept = Kept::new(layer, d, self.io.kept.as_mut_ptr());
        let weights = self.io.weights.as_ptr().add(d * layer.blocks() * layer.block_len());
        let [of_x, of_state, _, _] = layer.forward_scratch();
        let x = self.io.scratch.as_mut_ptr();
        let mut now = x.add(of_x);
        let mut next = now.add(of_state);
        let bias = next.add(of_state);
        self.biases::<V, C, N>(weights, bias);
        if !layer.is_beside() {
            self.by_input::<V, C, N>(d, weights, x, bias, kept.gates);
        }

        widened(layer, d, self.io.initial_hidden, kept.hidden, width);
        if C::HAS_CELL {
            widened(layer, d, self.io.initial_cell, kept.cell, width);
        }
        for j in 0..layer.blocks() {
            for b in 0..batch {
                V::load(kept.hidden.add(b * width + j * V::LANES)).store(now.add((j * batch + b) * V::LANES));
            }
        }
        for s in 0..steps {
            if layer.is_beside() {
                self.pack::<V>(d, s * batch, batch, x);
            }
            self.step::<V, C, N>(d, s, weights, kept, x, bias, now, next);
            std::mem::swap(&mut now, &mut next);
        }
        let last = steps * batch * width;
        narrowed(layer, d, kept.hidden.add(last), width, self.io.last_hidden.as_deref_mut());
        if C::HAS_CELL {
            narrowed(layer, d, kept.cell.add(last), width, self.io.last_cell.as_deref_mut());
        }
    }

    /// Both biases of a block, where its sums begin.
    #[inline(always)]
    unsafe fn biases<V: Vector, C: Gates<N>, const N: usize>(&self, weights: *const f32, to: *mut f32) {
        let layer = self.layer;
        let [of_input, of_hidden, of_bias, _] = layer.block_parts();
        for j in 0..layer.blocks() {
            let from = weights.add(j * layer.block_len() + of_input + of_hidden);
            let mut sums = [V::splat(0.0); SLOTS];
            for g in 0..C::TILES * N {
                sums[g] = sums[g].add(V::load(from.add(g * V::LANES)));
                sums[g + C::RECURRENT] = sums[g + C::RECURRENT].add(V::load(from.add(of_bias + g * V::LANES)));
            }
            for g in 0..SLOTS {
                sums[g].store(to.add((j * SLOTS + g) * V::LANES));
            }
        }
    }

    /// Packs `count` rows of x as products read them: `[run][row][lanes]`.
    #[inline(always)]
    unsafe fn pack<V: Vector>(&self, d: usize, first: usize, count: usize, packed: *mut f32) {
        let (batch, input) = (self.layer.shape.batch, self.layer.shape.input);
        let walk = Walk::of_x(self.layer, d);
        for m in 0..count {
            let r = first + m;
            let from = self.io.x.as_ptr().offset(walk.at(r / batch, r % batch));
            for k in (0..input).step_by(V::LANES) {
                let n = V::LANES.min(input - k);
                let to = packed.add(k * count + m * V::LANES);
                if n == V::LANES {
                    V::load(from.add(k)).store(to);
                } else {
                    V::load_n(from.add(k), n).store(to);
                }
            }
        }
    }

    /// What the input and the biases add to the gates of all steps.
    #[inline(always)]
    unsafe fn by_input<V: Vector, C: Gates<N>, const N: usize>(
        &self,
        d: usize,
        weights: *const f32,
        packed: *mut f32,
        bias: *const f32,
        to: *mut f32,
    ) {
        let layer = self.layer;
        let (input, rows) = (layer.shape.input, layer.rows());
        for (first, count) in parts(rows, most_rows::<V>(N)) {
            self.pack::<V>(d, first, count, packed);
            for j in 0..layer.blocks() {
                let block = weights.add(j * layer.block_len());
                let bias = bias.add(j * SLOTS * V::LANES);
                let to = to.add((j * rows + first) * SLOTS * V::LANES);
                for tile in 0..C::TILES {
                    let (b, from, to) = (
                        block.add(tile * input * N * V::LANES),
                        bias.add(tile * N * V::LANES),
                        to.add(tile * N * V::LANES),
                    );
                    let factors = &[Factors {
                        a: packed,
                        run: count * V::LANES,
                        k: input,
                        b,
                    }];
                    let product = product::Gates::<N> {
                        factors,
                        count,
                        from,
                        from_row: 0,
                        to,
                        near: &mut Near::new(to, 0, 0, 0, 1),
                    };
                    dispatch(layer.isa, product);
                }
                for g in C::TILES * N..SLOTS {
                    let sum = V::load(bias.add(g * V::LANES));
                    for m in 0..count {
                        sum.store(to.add((m * SLOTS + g) * V::LANES));
                    }
                }
            }
        }
    }

    /// One step: `now` and `next` are the hidden states as products read them, as are the step's rows `x` where they weren't multiplied
    /// before.
    #[inline(always)]
    unsafe fn step<V: Vector, C: Gates<N>, const N: usize>(
        &mut self,
        d: usize,
        s: usize,
        weights: *const f32,
        kept: Kept,
        x: *const f32,
        bias: *const f32,
        now: *const f32,
        next: *mut f32,
    ) {
        let layer = self.layer;
        let (batch, hidden, width) = (layer.shape.batch, layer.shape.hidden, layer.width());
        let [of_input, ..] = layer.block_parts();
        let (is_beside, input) = (layer.is_beside(), layer.shape.input);
        let walk = Walk::of_y(layer, d);
        let place = if layer.is_reverse(d) { layer.shape.steps - 1 - s } else { s };
        for j in 0..layer.blocks() {
            let block = weights.add(j * layer.block_len());
            let sums = kept.gates.add((j * layer.rows() + s * batch) * SLOTS * V::LANES);
            // What the next step adds to.
            let len = batch * SLOTS * V::LANES;
            let pieces = usize::from(s + 1 < layer.shape.steps && !is_beside);
            let mut near = Near::new(sums.wrapping_add(len), 0, len, pieces, C::TILES * batch.div_ceil(most_rows::<V>(N)));
            for tile in 0..C::TILES {
                let to = sums.add((tile * N + C::RECURRENT) * V::LANES);
                let row = SLOTS * V::LANES;
                let run = batch * V::LANES;
                let factors = [
                    Factors {
                        a: now,
                        run,
                        k: hidden,
                        b: block.add(of_input + tile * hidden * N * V::LANES),
                    },
                    Factors {
                        a: x,
                        run,
                        k: input,
                        b: block.add(tile * input * N * V::LANES),
                    },
                ];
                let (factors, from, from_row) = if is_beside {
                    (&factors[..], bias.add((j * SLOTS + tile * N) * V::LANES), 0)
                } else {
                    (&factors[..1], to.cast_const(), row)
                };
                let product = product::Gates::<N> {
                    factors,
                    count: batch,
                    from,
                    from_row,
                    to,
                    near: &mut near,
                };
                dispatch(layer.isa, product);
            }
            let lanes = V::LANES.min(hidden - j * V::LANES);
            for b in 0..batch {
                let at = (s * batch + b) * width + j * V::LANES;
                let after = at + batch * width;
                let mut h = V::load(kept.hidden.add(at));
                let mut c = if C::HAS_CELL { V::load(kept.cell.add(at)) } else { h };
                let mut y = V::splat(0.0);
                if self.io.lengths.is_none_or(|lengths| place < lengths[b]) {
                    (h, c) = C::step(sums.add(b * SLOTS * V::LANES), h, c);
                    y = h;
                }
                h.store(kept.hidden.add(after));
                h.store(next.add((j * batch + b) * V::LANES));
                if C::HAS_CELL {
                    c.store(kept.cell.add(after));
                }
                let to = self.io.y.as_mut_ptr().offset(walk.at(s, b)).add(j * V::LANES);
                if lanes == V::LANES {
                    y.store(to);
                } else {
                    y.store_n(to, lanes);
                }
            }
        }
    }
}
