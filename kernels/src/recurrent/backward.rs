//! The pass back, but for the gradients by the weights.

use super::cell::{Gates, Gru, Lstm, all};
use super::forward::{Kept, MOST_ROWS, narrowed, widened};
use super::layout::TURNED;
use super::product::{Near, back, by_rows, most_rows, parts};
use super::{Backward, Cell, Recurrent, SLOTS, Walk};
use crate::buffer::Buffer;
use crate::isa::{Kernel, dispatch};
use crate::vector::Vector;

/// Columns of gates that are multiplied before the next panel of turned weights is: their rows stay in the first cache.
const COLUMNS: usize = 256;

impl Recurrent {
    /// Rows of whole panels of turned weights.
    fn panelled(&self, width: usize) -> usize {
        width.next_multiple_of(TURNED * self.isa.lanes())
    }

    /// Values of the turned weights of the hidden state and of the input, of the gradients by the hidden state and by the cell's, and of
    /// some rows of the gradient by x.
    pub(super) fn backward_scratch(&self) -> [usize; 5] {
        [
            self.turned_len(self.shape.hidden),
            self.turned_len(self.shape.input),
            self.shape.batch * self.panelled(self.shape.hidden),
            self.shape.batch * self.width(),
            MOST_ROWS * self.panelled(self.shape.input),
        ]
        .map(Buffer::padded)
    }
}

/// Every slice has the length that the layer asks for.
pub(super) struct Pass<'a> {
    pub(super) layer: &'a Recurrent,
    pub(super) io: Backward<'a>,
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
        let (batch, hidden, rows) = (layer.shape.batch, layer.shape.hidden, layer.rows());
        let weights = &self.io.weights[d * layer.blocks() * layer.block_len()..][..layer.blocks() * layer.block_len()];
        let kept = Kept::new(layer, d, self.io.kept.as_mut_ptr());
        let [of_recurrent, of_input, of_hidden, of_cell, _] = layer.backward_scratch();
        let recurrent = self.io.scratch.as_mut_ptr();
        let from_x = recurrent.add(of_recurrent);
        let by_hidden = from_x.add(of_input);
        let by_cell = by_hidden.add(of_hidden);
        let rows_of_x = by_cell.add(of_cell);

        layer.turn::<V>(1, weights, recurrent);
        let panelled = layer.panelled(hidden);
        widened(layer, d, self.io.by_last_hidden, by_hidden, panelled);
        widened(layer, d, self.io.by_last_cell, by_cell, layer.width());
        std::ptr::write_bytes(kept.sums, 0, SLOTS * layer.width());
        let given = Given {
            layer,
            lengths: self.io.lengths,
            by_y: self.io.by_y,
        };
        for s in (0..layer.shape.steps).rev() {
            given.step::<V, C, N>(d, s, kept, by_hidden, by_cell);
            if s > 0 || self.io.by_initial_hidden.is_some() {
                let a = kept.gates.add((s * batch * SLOTS + C::RECURRENT) * V::LANES);
                let mut near = given.near::<V, C, N>(d, s, kept);
                let product = BackThrough {
                    layer,
                    a,
                    count: batch,
                    b: recurrent,
                    c: by_hidden,
                    c_row: panelled,
                    near: &mut near,
                };
                dispatch(layer.isa, product);
            }
        }
        narrowed(layer, d, by_hidden, panelled, self.io.by_initial_hidden.as_deref_mut());
        if C::HAS_CELL {
            narrowed(layer, d, by_cell, layer.width(), self.io.by_initial_cell.as_deref_mut());
        }

        let Some(by_x) = self.io.by_x.as_deref_mut() else { return };
        let input = layer.shape.input;
        layer.turn::<V>(0, weights, from_x);
        let (walk, row) = (Walk::of_x(layer, d), layer.panelled(input));
        for (first, count) in parts(rows, most_rows::<V>(TURNED)) {
            std::ptr::write_bytes(rows_of_x, 0, count * row);
            let a = kept.gates.add(first * SLOTS * V::LANES);
            let next = count.min(rows - first - count) * SLOTS * V::LANES;
            let near = Near::new(
                a.wrapping_add(count * SLOTS * V::LANES),
                (rows * SLOTS * V::LANES) as isize,
                next,
                if next > 0 { layer.blocks() } else { 0 },
                calls_back::<V>(layer, count, row),
            );
            let product = BackThrough {
                layer,
                a,
                count,
                b: from_x,
                c: rows_of_x,
                c_row: row,
                near: &mut [near],
            };
            dispatch(layer.isa, product);
            for m in 0..count {
                let r = first + m;
                let to = by_x.as_mut_ptr().offset(walk.at(r / batch, r % batch));
                let from = rows_of_x.add(m * row);
                for k in (0..input).step_by(V::LANES) {
                    let n = V::LANES.min(input - k);
                    let mut sum = V::load(from.add(k));
                    if d > 0 {
                        sum = sum.add(V::load_n(to.add(k), n));
                    }
                    sum.store_n(to.add(k), n);
                }
            }
        }
    }
}

/// What every step reads of what was handed in.
#[derive(Clone, Copy)]
struct Given<'a> {
    layer: &'a Recurrent,
    lengths: Option<&'a [usize]>,
    by_y: Option<&'a [f32]>,
}

impl Given<'_> {
    /// What the step before `s` will read: its gates, states, and gradients by its outputs.
    #[inline(always)]
    unsafe fn near<V: Vector, C: Gates<N>, const N: usize>(self, d: usize, s: usize, kept: Kept) -> [Near; 3] {
        let layer = self.layer;
        let (batch, hidden, width) = (layer.shape.batch, layer.shape.hidden, layer.width());
        let calls = calls_back::<V>(layer, batch, layer.panelled(hidden));
        let some = |n: usize| if s > 0 { n } else { 0 };
        let before = s.saturating_sub(1);
        let gates = kept.gates.wrapping_add(before * batch * SLOTS * V::LANES);
        let states = if C::HAS_CELL { kept.cell } else { kept.hidden };
        let walk = Walk::of_y(layer, d);
        let by_y = self.by_y.map_or(std::ptr::null(), <[f32]>::as_ptr);
        let rows = if self.by_y.is_some() { batch } else { 0 };
        [
            Near::new(
                gates,
                (layer.rows() * SLOTS * V::LANES) as isize,
                batch * SLOTS * V::LANES,
                some(layer.blocks()),
                calls,
            ),
            Near::new(states.wrapping_add(before * batch * width), 0, batch * width, some(1), calls),
            Near::new(by_y.wrapping_offset(walk.at(before, 0)), walk.row, hidden, some(rows), calls),
        ]
    }

    /// Gradients by the gates of a step, in their place; `by_hidden` becomes what doesn't go through their product, `by_cell` what the
    /// step before gets.
    #[inline(always)]
    unsafe fn step<V: Vector, C: Gates<N>, const N: usize>(self, d: usize, s: usize, kept: Kept, by_hidden: *mut f32, by_cell: *mut f32) {
        let layer = self.layer;
        let (batch, hidden, width) = (layer.shape.batch, layer.shape.hidden, layer.width());
        let panelled = layer.panelled(hidden);
        let walk = Walk::of_y(layer, d);
        let place = if layer.is_reverse(d) { layer.shape.steps - 1 - s } else { s };
        for j in 0..layer.blocks() {
            let lanes = V::LANES.min(hidden - j * V::LANES);
            let gates = kept.gates.add((j * layer.rows() + s * batch) * SLOTS * V::LANES);
            let sums = kept.sums.add(j * SLOTS * V::LANES);
            let mut by_bias = all::<V>(sums);
            for b in 0..batch {
                let gates = gates.add(b * SLOTS * V::LANES);
                let by_hidden = by_hidden.add(b * panelled + j * V::LANES);
                let by_cell = by_cell.add(b * width + j * V::LANES);
                if self.lengths.is_some_and(|lengths| place >= lengths[b]) {
                    for g in 0..SLOTS {
                        V::splat(0.0).store(gates.add(g * V::LANES));
                    }
                    continue;
                }
                let mut dh = V::load(by_hidden);
                if let Some(by_y) = self.by_y {
                    let from = by_y.as_ptr().offset(walk.at(s, b)).add(j * V::LANES);
                    dh = dh.add(if lanes == V::LANES { V::load(from) } else { V::load_n(from, lanes) });
                }
                let at = (s * batch + b) * width + j * V::LANES;
                let before = V::load(kept.hidden.add(at));
                let (cell, after) = if C::HAS_CELL {
                    (V::load(kept.cell.add(at)), V::load(kept.cell.add(at + batch * width)))
                } else {
                    (before, before)
                };
                let (by_gates, dh, dc) = C::gradient(gates, before, cell, after, dh, V::load(by_cell));
                for g in 0..SLOTS {
                    by_gates[g].store(gates.add(g * V::LANES));
                    by_bias[g] = by_bias[g].add(by_gates[g]);
                }
                dh.store(by_hidden);
                dc.store(by_cell);
            }
            for g in 0..SLOTS {
                by_bias[g].store(sums.add(g * V::LANES));
            }
        }
    }
}

/// Blocks whose columns are multiplied at once.
fn blocks_at_once<V: Vector>(layer: &Recurrent) -> usize {
    (COLUMNS / (layer.gates() * V::LANES)).max(1)
}

/// Tiles that [`BackThrough`] has.
fn calls_back<V: Vector>(layer: &Recurrent, count: usize, c_row: usize) -> usize {
    let panels = c_row / (TURNED * V::LANES);
    layer.blocks().div_ceil(blocks_at_once::<V>(layer)) * panels * count.div_ceil(most_rows::<V>(TURNED))
}

/// `c += a b` for `count` rows of gates, from their first register on, and turned weights; rows of `c` are `c_row` apart, whole panels.
/// A kernel of its own, so that it is compiled once.
struct BackThrough<'a> {
    layer: &'a Recurrent,
    a: *const f32,
    count: usize,
    b: *const f32,
    c: *mut f32,
    c_row: usize,
    near: &'a mut [Near],
}

impl Kernel for BackThrough<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self {
            layer,
            a,
            count,
            b,
            c,
            c_row,
            near,
        } = self;
        let (gates, blocks, panel) = (layer.gates(), layer.blocks(), TURNED * V::LANES);
        let block = layer.rows() * SLOTS * V::LANES;
        let rows = blocks * gates * V::LANES;
        let at_once = blocks_at_once::<V>(layer);
        for j in (0..blocks).step_by(at_once) {
            let some = at_once.min(blocks - j);
            for p in 0..c_row / panel {
                let b = b.add((p * rows + j * gates * V::LANES) * panel);
                for (first, m) in parts(count, most_rows::<V>(TURNED)) {
                    for near in near.iter_mut() {
                        near.bring::<V>();
                    }
                    let a = a.add(j * block + first * SLOTS * V::LANES);
                    let c = c.add(first * c_row + p * panel);
                    by_rows!(V, TURNED, m, M => back::<V, M>(a, block, some, gates, b, c, c_row));
                }
            }
        }
    }
}
