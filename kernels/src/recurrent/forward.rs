//! The pass forward.

use std::ops::Range;

use super::cell::{Gates, Gru, Lstm};
use super::product::{self, Factors, Near, most_rows, parts};
use super::{Cell, Forward, Recurrent, SLOTS, Walk};
use crate::Team;
use crate::buffer::Buffer;
use crate::isa::{Kernel, dispatch};
use crate::team::{Apart, cut, ranges};
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

    /// Values that all parts share, the biases' sums, and that each of so many has: of the rows of x that are multiplied at once and of two
    /// hidden states.
    pub(super) fn forward_scratch(&self, parts: usize) -> [usize; 2] {
        let [x, state] = self.forward_own(parts);
        [Buffer::padded(SLOTS * self.width()), x + 2 * state]
    }

    fn forward_own(&self, parts: usize) -> [usize; 2] {
        let share = self.shape.batch.div_ceil(parts);
        let rows = if self.is_beside() { share } else { MOST_ROWS };
        [rows * self.shape.input.next_multiple_of(self.isa.lanes()), share * self.width()].map(Buffer::padded)
    }
}

/// Rows of the batch don't know of each other: each part has its own. Every slice of `io` has the length that the layer asks for.
pub(super) fn run(layer: &Recurrent, team: &Team, mut io: Forward<'_>) {
    let parts = layer.parts(team);
    let [of_bias, of_part] = layer.forward_scratch(parts);
    let mut scratch = io.scratch;
    let bias = cut(&mut scratch, of_bias).as_mut_ptr();
    let pass = Pass {
        layer,
        x: io.x.as_ptr(),
        weights: io.weights.as_ptr(),
        lengths: io.lengths,
        initial: [io.initial_hidden, io.initial_cell].map(|state| state.map_or(std::ptr::null(), <[f32]>::as_ptr)),
        last: [&mut io.last_hidden, &mut io.last_cell].map(|state| state.as_mut().map_or(std::ptr::null_mut(), |s| s.as_mut_ptr())),
        y: io.y.as_mut_ptr(),
        kept: io.kept.as_mut_ptr(),
        bias,
        x_len: layer.forward_own(parts)[0],
        state_len: layer.forward_own(parts)[1],
    };
    // SAFETY: parts write to rows of their own of everything; what they share is written before.
    let pass = unsafe { Apart::new(pass) };
    for d in 0..layer.directions() {
        // SAFETY: every slice has the length that the shape asks for.
        unsafe { dispatch(layer.isa, Biases(pass.get(), d)) };
        let phases = [(layer.rows(), true), (layer.shape.batch, false)];
        for (n, before) in phases.into_iter().skip(usize::from(layer.is_beside())) {
            let (mut rest, mut of_parts) = (&mut *scratch, Vec::new());
            for range in ranges(n, parts, 1) {
                of_parts.push((range, cut(&mut rest, of_part)));
            }
            team.each(of_parts, |(range, scratch)| {
                let part = Part {
                    pass: pass.get(),
                    d,
                    range,
                    scratch,
                };
                // SAFETY: as above.
                unsafe {
                    if before {
                        dispatch(layer.isa, Inputs(part));
                    } else {
                        dispatch(layer.isa, Steps(part));
                    }
                }
            });
        }
    }
}

/// What a pass reads and writes, each as long as the layer asks for; null where there is none.
#[derive(Clone, Copy)]
struct Pass<'a> {
    layer: &'a Recurrent,
    x: *const f32,
    weights: *const f32,
    lengths: Option<&'a [usize]>,
    /// Hidden states, and states of cells.
    initial: [*const f32; 2],
    last: [*mut f32; 2],
    y: *mut f32,
    kept: *mut f32,
    bias: *mut f32,
    /// Values of the rows of x that are multiplied at once, and of a hidden state.
    x_len: usize,
    state_len: usize,
}

/// Some rows of it.
struct Part<'a> {
    pass: Pass<'a>,
    d: usize,
    range: Range<usize>,
    scratch: &'a mut [f32],
}

/// The sums of the biases.
struct Biases<'a>(Pass<'a>, usize);

/// What the input adds to the gates, for rows of all steps.
struct Inputs<'a>(Part<'a>);

/// The steps, for rows of the batch.
struct Steps<'a>(Part<'a>);

impl Kernel for Biases<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self(pass, d) = self;
        match pass.layer.shape.cell {
            Cell::Lstm => pass.biases::<V, Lstm, 2>(d),
            Cell::Gru => pass.biases::<V, Gru, 3>(d),
        }
    }
}

impl Kernel for Inputs<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        match self.0.pass.layer.shape.cell {
            Cell::Lstm => self.0.by_input::<V, Lstm, 2>(),
            Cell::Gru => self.0.by_input::<V, Gru, 3>(),
        }
    }
}

impl Kernel for Steps<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        match self.0.pass.layer.shape.cell {
            Cell::Lstm => self.0.steps::<V, Lstm, 2>(),
            Cell::Gru => self.0.steps::<V, Gru, 3>(),
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

/// Copies rows of a state to rows of `width` values, with zeros behind them, or zeros alone where it is null.
pub(super) unsafe fn widened(layer: &Recurrent, d: usize, rows: Range<usize>, state: *const f32, to: *mut f32, width: usize) {
    let walk = Walk::of_state(layer, d);
    let hidden = layer.shape.hidden;
    for b in rows {
        let to = to.wrapping_add(b * width);
        if state.is_null() {
            std::ptr::write_bytes(to, 0, hidden);
        } else {
            std::ptr::copy_nonoverlapping(state.offset(walk.at(0, b)), to, hidden);
        }
        std::ptr::write_bytes(to.add(hidden), 0, width - hidden);
    }
}

/// The opposite: copies `hidden` values of each row to a state, where it is wanted.
pub(super) unsafe fn narrowed(layer: &Recurrent, d: usize, rows: Range<usize>, from: *const f32, width: usize, state: *mut f32) {
    if state.is_null() {
        return;
    }
    let walk = Walk::of_state(layer, d);
    for b in rows {
        let to = state.offset(walk.at(0, b));
        std::ptr::copy_nonoverlapping(from.wrapping_add(b * width), to, layer.shape.hidden);
    }
}

impl Pass<'_> {
    /// The weights of a direction.
    unsafe fn weights(&self, d: usize) -> *const f32 {
        self.weights.add(d * self.layer.blocks() * self.layer.block_len())
    }

    /// Both biases of each block, where its sums begin.
    #[inline(always)]
    unsafe fn biases<V: Vector, C: Gates<N>, const N: usize>(&self, d: usize) {
        let layer = self.layer;
        let [of_input, of_hidden, of_bias, _] = layer.block_parts();
        for j in 0..layer.blocks() {
            let from = self.weights(d).add(j * layer.block_len() + of_input + of_hidden);
            let mut sums = [V::splat(0.0); SLOTS];
            for g in 0..C::TILES * N {
                sums[g] = sums[g].add(V::load(from.add(g * V::LANES)));
                sums[g + C::RECURRENT] = sums[g + C::RECURRENT].add(V::load(from.add(of_bias + g * V::LANES)));
            }
            for g in 0..SLOTS {
                sums[g].store(self.bias.add((j * SLOTS + g) * V::LANES));
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
            let from = self.x.offset(walk.at(r / batch, r % batch));
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
}

impl Part<'_> {
    #[inline(always)]
    unsafe fn steps<V: Vector, C: Gates<N>, const N: usize>(mut self) {
        let (layer, d) = (self.pass.layer, self.d);
        let (batch, width) = (layer.shape.batch, layer.width());
        let kept = Kept::new(layer, d, self.pass.kept);
        let (first, count) = (self.range.start, self.range.len());
        let x = self.scratch.as_mut_ptr();
        let mut now = x.add(self.pass.x_len);
        let mut next = now.add(self.pass.state_len);
        let rows = || first..first + count;
        widened(layer, d, rows(), self.pass.initial[0], kept.hidden, width);
        if C::HAS_CELL {
            widened(layer, d, rows(), self.pass.initial[1], kept.cell, width);
        }
        for j in 0..layer.blocks() {
            for b in 0..count {
                V::load(kept.hidden.add((first + b) * width + j * V::LANES)).store(now.add((j * count + b) * V::LANES));
            }
        }
        for s in 0..layer.shape.steps {
            if layer.is_beside() {
                self.pass.pack::<V>(d, s * batch + first, count, x);
            }
            self.step::<V, C, N>(s, kept, x, now, next);
            std::mem::swap(&mut now, &mut next);
        }
        let last = layer.shape.steps * batch * width;
        narrowed(layer, d, rows(), kept.hidden.add(last), width, self.pass.last[0]);
        if C::HAS_CELL {
            narrowed(layer, d, rows(), kept.cell.add(last), width, self.pass.last[1]);
        }
    }

    /// What the input and the biases add to the gates.
    #[inline(always)]
    unsafe fn by_input<V: Vector, C: Gates<N>, const N: usize>(self) {
        let (pass, layer) = (self.pass, self.pass.layer);
        let (input, rows) = (layer.shape.input, layer.rows());
        let to = Kept::new(layer, self.d, pass.kept).gates;
        let packed = self.scratch.as_mut_ptr();
        for (first, count) in parts(self.range.len(), most_rows::<V>(N)) {
            let first = self.range.start + first;
            pass.pack::<V>(self.d, first, count, packed);
            for j in 0..layer.blocks() {
                let block = pass.weights(self.d).add(j * layer.block_len());
                let bias = pass.bias.cast_const().add(j * SLOTS * V::LANES);
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
        s: usize,
        kept: Kept,
        x: *const f32,
        now: *const f32,
        next: *mut f32,
    ) {
        let (pass, layer, d) = (self.pass, self.pass.layer, self.d);
        let (weights, bias) = (pass.weights(d), pass.bias.cast_const());
        let (first, count) = (self.range.start, self.range.len());
        let (batch, hidden, width) = (layer.shape.batch, layer.shape.hidden, layer.width());
        let [of_input, ..] = layer.block_parts();
        let (is_beside, input) = (layer.is_beside(), layer.shape.input);
        let walk = Walk::of_y(layer, d);
        let place = if layer.is_reverse(d) { layer.shape.steps - 1 - s } else { s };
        for j in 0..layer.blocks() {
            let block = weights.add(j * layer.block_len());
            let sums = kept.gates.add((j * layer.rows() + s * batch + first) * SLOTS * V::LANES);
            // What the next step adds to.
            let len = count * SLOTS * V::LANES;
            let pieces = usize::from(s + 1 < layer.shape.steps && !is_beside);
            let mut near = Near::new(
                sums.wrapping_add(batch * SLOTS * V::LANES),
                0,
                len,
                pieces,
                C::TILES * count.div_ceil(most_rows::<V>(N)),
            );
            for tile in 0..C::TILES {
                let to = sums.add((tile * N + C::RECURRENT) * V::LANES);
                let row = SLOTS * V::LANES;
                let run = count * V::LANES;
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
                    count,
                    from,
                    from_row,
                    to,
                    near: &mut near,
                };
                dispatch(layer.isa, product);
            }
            let lanes = V::LANES.min(hidden - j * V::LANES);
            for b in 0..count {
                let at = (s * batch + first + b) * width + j * V::LANES;
                let after = at + batch * width;
                let mut h = V::load(kept.hidden.add(at));
                let mut c = if C::HAS_CELL { V::load(kept.cell.add(at)) } else { h };
                let mut y = V::splat(0.0);
                if pass.lengths.is_none_or(|lengths| place < lengths[first + b]) {
                    (h, c) = C::step(sums.add(b * SLOTS * V::LANES), h, c);
                    y = h;
                }
                h.store(kept.hidden.add(after));
                h.store(next.add((j * count + b) * V::LANES));
                if C::HAS_CELL {
                    c.store(kept.cell.add(after));
                }
                let to = pass.y.offset(walk.at(s, first + b)).add(j * V::LANES);
                if lanes == V::LANES {
                    y.store(to);
                } else {
                    y.store_n(to, lanes);
                }
            }
        }
    }
}
