//! The pass back, but for the gradients by the weights.

use std::ops::Range;

use super::cell::{Gates, Gru, Lstm, all};
use super::forward::{Kept, MOST_ROWS, narrowed, widened};
use super::layout::TURNED;
use super::product::{Near, back, by_rows, most_rows, parts};
use super::{Backward, Cell, Recurrent, SLOTS, Walk};
use crate::Team;
use crate::buffer::Buffer;
use crate::isa::{Kernel, dispatch};
use crate::team::{Apart, cut, ranges};
use crate::vector::Vector;

/// Columns of gates that are multiplied before the next panel of turned weights is: their rows stay in the first cache.
const COLUMNS: usize = 256;

impl Recurrent {
    /// Rows of whole panels of turned weights.
    fn panelled(&self, width: usize) -> usize {
        width.next_multiple_of(TURNED * self.isa.lanes())
    }

    /// Values that all parts share, the turned weights of the hidden state and of the input, and that each of so many has: of the gradients
    /// by the hidden state and by the cell's, and of some rows of the gradient by x.
    pub(super) fn backward_scratch(&self, parts: usize) -> [usize; 2] {
        let own = self.backward_own(parts).iter().sum();
        [self.turned_lens().iter().sum(), own]
    }

    fn turned_lens(&self) -> [usize; 2] {
        [self.shape.hidden, self.shape.input].map(|k| Buffer::padded(self.turned_len(k)))
    }

    fn backward_own(&self, parts: usize) -> [usize; 3] {
        let share = self.shape.batch.div_ceil(parts);
        [
            share * self.panelled(self.shape.hidden),
            share * self.width(),
            MOST_ROWS * self.panelled(self.shape.input),
        ]
        .map(Buffer::padded)
    }
}

/// Rows of the batch don't know of each other: each part has its own. Every slice of `io` has the length that the layer asks for.
pub(super) fn run(layer: &Recurrent, team: &Team, mut io: Backward<'_>) {
    let parts = layer.parts(team);
    let mut scratch = io.scratch;
    let [recurrent, from_x] = layer.turned_lens().map(|len| cut(&mut scratch, len));
    let (read, write) = (
        |state: Option<&[f32]>| state.map_or(std::ptr::null(), <[f32]>::as_ptr),
        |state: &mut Option<&mut [f32]>| state.as_mut().map_or(std::ptr::null_mut(), |s| s.as_mut_ptr()),
    );
    let pass = Pass {
        given: Given {
            layer,
            lengths: io.lengths,
            by_y: io.by_y,
        },
        kept: io.kept.as_mut_ptr(),
        by_last: [read(io.by_last_hidden), read(io.by_last_cell)],
        by_initial: [write(&mut io.by_initial_hidden), write(&mut io.by_initial_cell)],
        by_x: write(&mut io.by_x),
        recurrent: recurrent.as_ptr(),
        from_x: from_x.as_ptr(),
        own: layer.backward_own(parts),
        // One part sums while the gradients are near.
        sums: parts == 1,
    };
    // SAFETY: parts write to rows or blocks of their own of everything; what they share is written before.
    let pass = unsafe { Apart::new(pass) };
    let of_part = layer.backward_scratch(parts)[1];
    for d in 0..layer.directions() {
        let turn = Turn {
            layer,
            weights: &io.weights[d * layer.blocks() * layer.block_len()..][..layer.blocks() * layer.block_len()],
            to: [&mut *recurrent, &mut *from_x],
            with_x: !pass.get().by_x.is_null(),
        };
        // SAFETY: every slice has the length that the shape asks for.
        unsafe { dispatch(layer.isa, turn) };
        let phases = [
            (Phase::Steps, layer.shape.batch),
            (Phase::Sums, if parts > 1 { layer.blocks() } else { 0 }),
            (Phase::ByX, if pass.get().by_x.is_null() { 0 } else { layer.rows() }),
        ];
        for (phase, n) in phases {
            let (mut rest, mut of_parts) = (&mut *scratch, Vec::new());
            for range in ranges(n, parts, 1) {
                of_parts.push((range, cut(&mut rest, of_part)));
            }
            team.each(of_parts, |(range, scratch)| {
                let part = Part {
                    pass: pass.get(),
                    d,
                    phase,
                    range,
                    scratch,
                };
                // SAFETY: as above.
                unsafe { dispatch(layer.isa, part) };
            });
        }
    }
}

/// What a pass reads and writes, each as long as the layer asks for; null where there is none.
#[derive(Clone, Copy)]
struct Pass<'a> {
    given: Given<'a>,
    kept: *mut f32,
    /// By hidden states, and by states of cells.
    by_last: [*const f32; 2],
    by_initial: [*mut f32; 2],
    by_x: *mut f32,
    recurrent: *const f32,
    from_x: *const f32,
    own: [usize; 3],
    sums: bool,
}

/// Turned weights of a direction.
struct Turn<'a> {
    layer: &'a Recurrent,
    weights: &'a [f32],
    to: [&'a mut [f32]; 2],
    with_x: bool,
}

impl Kernel for Turn<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let [recurrent, from_x] = self.to;
        self.layer.turn::<V>(1, self.weights, recurrent.as_mut_ptr());
        if self.with_x {
            self.layer.turn::<V>(0, self.weights, from_x.as_mut_ptr());
        }
    }
}

/// What is done after what.
#[derive(Clone, Copy)]
enum Phase {
    /// Gradients by gates and states, for rows of the batch.
    Steps,
    /// Their sums over all rows, for blocks.
    Sums,
    /// The gradient by x, for rows of all steps.
    ByX,
}

/// Some rows or blocks.
struct Part<'a> {
    pass: Pass<'a>,
    d: usize,
    phase: Phase,
    range: Range<usize>,
    scratch: &'a mut [f32],
}

impl Kernel for Part<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        match (self.phase, self.pass.given.layer.shape.cell) {
            (Phase::Steps, Cell::Lstm) => self.steps::<V, Lstm, 2>(),
            (Phase::Steps, Cell::Gru) => self.steps::<V, Gru, 3>(),
            (Phase::Sums, _) => self.sums::<V>(),
            (Phase::ByX, _) => self.by_x::<V>(),
        }
    }
}

impl Part<'_> {
    #[inline(always)]
    unsafe fn steps<V: Vector, C: Gates<N>, const N: usize>(self) {
        let (pass, d, given, layer) = (self.pass, self.d, self.pass.given, self.pass.given.layer);
        let (batch, first, count) = (layer.shape.batch, self.range.start, self.range.len());
        let kept = Kept::new(layer, d, pass.kept);
        let [of_hidden, ..] = pass.own;
        let panelled = layer.panelled(layer.shape.hidden);
        // Rows are counted from the batch's first.
        let by_hidden = self.scratch.as_mut_ptr().wrapping_sub(first * panelled);
        let by_cell = self
            .scratch
            .as_mut_ptr()
            .wrapping_add(of_hidden)
            .wrapping_sub(first * layer.width());
        let rows = || first..first + count;
        widened(layer, d, rows(), pass.by_last[0], by_hidden, panelled);
        widened(layer, d, rows(), pass.by_last[1], by_cell, layer.width());
        if pass.sums {
            std::ptr::write_bytes(kept.sums, 0, SLOTS * layer.width());
        }
        for s in (0..layer.shape.steps).rev() {
            given.step::<V, C, N>(d, s, rows(), kept, by_hidden, by_cell, pass.sums);
            if s > 0 || !pass.by_initial[0].is_null() {
                let a = kept.gates.add(((s * batch + first) * SLOTS + C::RECURRENT) * V::LANES);
                let mut near = given.near::<V, C, N>(d, s, rows(), kept);
                let product = BackThrough {
                    layer,
                    a,
                    count,
                    b: pass.recurrent,
                    c: by_hidden.wrapping_add(first * panelled),
                    c_row: panelled,
                    near: &mut near,
                };
                dispatch(layer.isa, product);
            }
        }
        narrowed(layer, d, rows(), by_hidden, panelled, pass.by_initial[0]);
        if C::HAS_CELL {
            narrowed(layer, d, rows(), by_cell, layer.width(), pass.by_initial[1]);
        }
    }

    /// In the order in which the steps go back.
    #[inline(always)]
    unsafe fn sums<V: Vector>(self) {
        let layer = self.pass.given.layer;
        let (batch, kept) = (layer.shape.batch, Kept::new(layer, self.d, self.pass.kept));
        for j in self.range {
            let mut sums = [V::splat(0.0); SLOTS];
            for s in (0..layer.shape.steps).rev() {
                for b in 0..batch {
                    let gates = all::<V>(kept.gates.add((j * layer.rows() + s * batch + b) * SLOTS * V::LANES));
                    for g in 0..SLOTS {
                        sums[g] = sums[g].add(gates[g]);
                    }
                }
            }
            for g in 0..SLOTS {
                sums[g].store(kept.sums.add((j * SLOTS + g) * V::LANES));
            }
        }
    }

    #[inline(always)]
    unsafe fn by_x<V: Vector>(self) {
        let (pass, d, layer) = (self.pass, self.d, self.pass.given.layer);
        let (batch, input, rows) = (layer.shape.batch, layer.shape.input, layer.rows());
        let kept = Kept::new(layer, d, pass.kept);
        let [of_hidden, of_cell, _] = pass.own;
        let rows_of_x = self.scratch.as_mut_ptr().add(of_hidden + of_cell);
        let (walk, row) = (Walk::of_x(layer, d), layer.panelled(input));
        for (first, count) in parts(self.range.len(), most_rows::<V>(TURNED)) {
            let first = self.range.start + first;
            std::ptr::write_bytes(rows_of_x, 0, count * row);
            let a = kept.gates.add(first * SLOTS * V::LANES);
            let next = count.min(self.range.end - first - count) * SLOTS * V::LANES;
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
                b: pass.from_x,
                c: rows_of_x,
                c_row: row,
                near: &mut [near],
            };
            dispatch(layer.isa, product);
            for m in 0..count {
                let r = first + m;
                let to = pass.by_x.offset(walk.at(r / batch, r % batch));
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
    unsafe fn near<V: Vector, C: Gates<N>, const N: usize>(self, d: usize, s: usize, rows: Range<usize>, kept: Kept) -> [Near; 3] {
        let layer = self.layer;
        let (first, count) = (rows.start, rows.len());
        let (batch, hidden, width) = (layer.shape.batch, layer.shape.hidden, layer.width());
        let calls = calls_back::<V>(layer, count, layer.panelled(hidden));
        let some = |n: usize| if s > 0 { n } else { 0 };
        let before = s.saturating_sub(1);
        let gates = kept.gates.wrapping_add((before * batch + first) * SLOTS * V::LANES);
        let states = if C::HAS_CELL { kept.cell } else { kept.hidden };
        let walk = Walk::of_y(layer, d);
        let by_y = self.by_y.map_or(std::ptr::null(), <[f32]>::as_ptr);
        let rows = if self.by_y.is_some() { count } else { 0 };
        [
            Near::new(
                gates,
                (layer.rows() * SLOTS * V::LANES) as isize,
                count * SLOTS * V::LANES,
                some(layer.blocks()),
                calls,
            ),
            Near::new(
                states.wrapping_add((before * batch + first) * width),
                0,
                count * width,
                some(1),
                calls,
            ),
            Near::new(by_y.wrapping_offset(walk.at(before, first)), walk.row, hidden, some(rows), calls),
        ]
    }

    /// Gradients by the gates of a step, in their place; `by_hidden` becomes what doesn't go through their product, `by_cell` what the
    /// step before gets.
    #[inline(always)]
    unsafe fn step<V: Vector, C: Gates<N>, const N: usize>(
        self,
        d: usize,
        s: usize,
        rows: Range<usize>,
        kept: Kept,
        by_hidden: *mut f32,
        by_cell: *mut f32,
        with_sums: bool,
    ) {
        let layer = self.layer;
        let (batch, hidden, width) = (layer.shape.batch, layer.shape.hidden, layer.width());
        let panelled = layer.panelled(hidden);
        let walk = Walk::of_y(layer, d);
        let place = if layer.is_reverse(d) { layer.shape.steps - 1 - s } else { s };
        for j in 0..layer.blocks() {
            let lanes = V::LANES.min(hidden - j * V::LANES);
            let gates = kept.gates.add((j * layer.rows() + s * batch) * SLOTS * V::LANES);
            let sums = kept.sums.add(j * SLOTS * V::LANES);
            let mut by_bias = if with_sums { all::<V>(sums) } else { [V::splat(0.0); SLOTS] };
            for b in rows.clone() {
                let gates = gates.add(b * SLOTS * V::LANES);
                let by_hidden = by_hidden.wrapping_add(b * panelled + j * V::LANES);
                let by_cell = by_cell.wrapping_add(b * width + j * V::LANES);
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
            if with_sums {
                for g in 0..SLOTS {
                    by_bias[g].store(sums.add(g * V::LANES));
                }
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
