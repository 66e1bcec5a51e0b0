//! LSTM and GRU over sequences.
//!
//! What the input adds to the gates is one product over all steps. A step then adds the product of the hidden state, with all rows of
//! the batch at once over weights that stay in the cache, and its gates follow block by block, while the sums are still near. Backwards
//! the same, with weights that are turned once a call; the gradients by the weights are products over all steps at once.
//!
//! Gates lie in blocks of as many hidden units as a register has lanes: `[block][row][4][lanes]`, where a row is a step and a place in
//! the batch, in the order in which the steps run. The four registers are i, o, f and the candidate of an LSTM; candidate, z, r and the
//! candidate's recurrent part of a GRU, so that what the input adds to is the first three and what the hidden state adds to the last.
//!
//! # Source
//! ONNX's `docs/Operators.md`, LSTM and GRU; Hochreiter and Schmidhuber 1997, Cho et al. 2014.

mod backward;
mod cell;
mod forward;
mod layout;
mod product;
mod update;

use crate::Team;
use crate::buffer::Buffer;
use crate::isa::{Isa, dispatch};
use crate::team::{Apart, cut, ranges};

/// Registers of gates a row and block.
const SLOTS: usize = 4;

/// Which cell, with the activations that ONNX and PyTorch have by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// Gates in the order of ONNX: i, o, f, c.
    Lstm,
    /// Gates in the order of ONNX: z, r, h. It resets after its product (`linear_before_reset`), as PyTorch's does.
    Gru,
}

/// In which order the steps run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the first step on.
    Forward,
    /// From the last step on; outputs lie at the steps that they belong to.
    Reverse,
    /// Forward, then reverse, each with weights of its own.
    Both,
}

/// What a layer's sizes are; each at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Which cell.
    pub cell: Cell,
    /// In which order its steps run.
    pub direction: Direction,
    /// Of the longest sequence.
    pub steps: usize,
    /// Sequences.
    pub batch: usize,
    /// Values of x a step.
    pub input: usize,
    /// Values of a state.
    pub hidden: usize,
    /// Whether the batch comes before the steps (`layout` 1).
    pub batch_first: bool,
    /// Whether there is one; where not, none is updated.
    pub bias: bool,
}

/// A layer of known shape, for one instruction set.
///
/// # Shapes
/// With `d` directions: x `[steps, batch, input]`, y `[steps, d, batch, hidden]`, states `[d, batch, hidden]`; batch first
/// `[batch, steps, input]`, `[batch, steps, d, hidden]`, `[batch, d, hidden]`.
#[derive(Debug, Clone, Copy)]
pub struct Recurrent {
    isa: Isa,
    shape: Shape,
}

/// What a pass forward reads and writes.
#[derive(Debug)]
pub struct Forward<'a> {
    /// The input.
    pub x: &'a [f32],
    /// In this layer's own layout.
    pub weights: &'a [f32],
    /// Steps of each sequence, `[batch]`: beyond them outputs are zero and the state stays.
    pub lengths: Option<&'a [usize]>,
    /// States before the first step; zeros where there are none. An LSTM alone has one of its cells.
    pub initial_hidden: Option<&'a [f32]>,
    /// As above.
    pub initial_cell: Option<&'a [f32]>,
    /// The hidden states after every step.
    pub y: &'a mut [f32],
    /// States after the last step.
    pub last_hidden: Option<&'a mut [f32]>,
    /// As above.
    pub last_cell: Option<&'a mut [f32]>,
    /// [`Recurrent::kept_len`] values for [`Recurrent::backward`] and [`Recurrent::update`].
    pub kept: &'a mut [f32],
    /// [`Recurrent::scratch_len`] values for as many threads, as for the passes back; what is in them doesn't matter.
    pub scratch: &'a mut [f32],
}

/// What a pass back reads and writes. Gradients that are None are zero, those to be written not wanted.
#[derive(Debug)]
pub struct Backward<'a> {
    /// As they were on the way forward.
    pub weights: &'a [f32],
    /// As they were on the way forward.
    pub lengths: Option<&'a [usize]>,
    /// Gradient by the hidden states after every step.
    pub by_y: Option<&'a [f32]>,
    /// Gradient by the states after the last step.
    pub by_last_hidden: Option<&'a [f32]>,
    /// As above.
    pub by_last_cell: Option<&'a [f32]>,
    /// From the pass forward. Gates make place for their gradients: one pass back for each pass forward.
    pub kept: &'a mut [f32],
    /// Written, not added to, as are the others.
    pub by_x: Option<&'a mut [f32]>,
    /// Gradient by the states before the first step.
    pub by_initial_hidden: Option<&'a mut [f32]>,
    /// As above.
    pub by_initial_cell: Option<&'a mut [f32]>,
    /// As on the way forward.
    pub scratch: &'a mut [f32],
}

impl Recurrent {
    /// Whether everything that a layer of this shape needs has fewer than 2^40 values together.
    pub fn fits(shape: &Shape) -> bool {
        let wide = |n: usize| n as u128 + 64;
        let [steps, batch, input, hidden] = [shape.steps, shape.batch, shape.input, shape.hidden].map(wide);
        let most = 16 * (steps * batch + hidden) * (input + 8 * hidden) + 16 * hidden * input;
        most < 1 << 40
    }

    /// A layer of this shape.
    ///
    /// # Panics
    /// Where a number is zero, or all together are beyond 2^40 values.
    pub fn new(isa: Isa, shape: Shape) -> Self {
        let Shape {
            steps,
            batch,
            input,
            hidden,
            ..
        } = shape;
        for n in [steps, batch, input, hidden] {
            assert!((1..=1 << 28).contains(&n), "a recurrent layer of {shape:?}");
        }
        assert!(Self::fits(&shape), "a recurrent layer of {shape:?} is too large");
        Self { isa, shape }
    }

    /// What it was made with.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// One or two.
    pub fn directions(&self) -> usize {
        if self.shape.direction == Direction::Both { 2 } else { 1 }
    }

    fn is_reverse(&self, d: usize) -> bool {
        match self.shape.direction {
            Direction::Forward => false,
            Direction::Reverse => true,
            Direction::Both => d == 1,
        }
    }

    /// Gates that a product yields.
    pub fn gates(&self) -> usize {
        match self.shape.cell {
            Cell::Lstm => 4,
            Cell::Gru => 3,
        }
    }

    fn has_cell(&self) -> bool {
        self.shape.cell == Cell::Lstm
    }

    fn blocks(&self) -> usize {
        self.shape.hidden.div_ceil(self.isa.lanes())
    }

    /// Steps and places in the batch.
    fn rows(&self) -> usize {
        self.shape.steps * self.shape.batch
    }

    /// Hidden units, as rows of states have them.
    fn width(&self) -> usize {
        self.blocks() * self.isa.lanes()
    }

    /// Values of what is kept of a direction: gates, hidden states, states of cells, and the sums of the gates' gradients.
    fn kept_parts(&self) -> [usize; 4] {
        let states = (self.shape.steps + 1) * self.shape.batch * self.width();
        [
            self.rows() * SLOTS * self.width(),
            states,
            if self.has_cell() { states } else { 0 },
            SLOTS * self.width(),
        ]
        .map(Buffer::padded)
    }

    fn kept_of_direction(&self) -> usize {
        self.kept_parts().iter().sum()
    }

    /// Values kept between the passes.
    pub fn kept_len(&self) -> usize {
        self.directions() * self.kept_of_direction()
    }

    /// Values that a pass by so many threads needs while it runs.
    pub fn scratch_len(&self, threads: usize) -> usize {
        let all = |[shared, own]: [usize; 2], parts: usize| shared + parts * own;
        let passes = |parts: usize| {
            all(self.forward_scratch(parts), parts)
                .max(all(self.backward_scratch(parts), parts))
                .max(parts * self.update_scratch().iter().sum::<usize>())
        };
        // Work that is little is not cut.
        passes(1).max(passes(threads.max(1)))
    }

    /// Into how many parts a pass is cut.
    fn parts(&self, team: &Team) -> usize {
        let Shape { input, hidden, .. } = self.shape;
        let operations = 2 * self.directions() * self.rows() * self.gates() * hidden * (input + hidden);
        // All or none: scratch is planned for both.
        if team.parts(operations, team.threads()) == team.threads() {
            team.threads()
        } else {
            1
        }
    }

    fn x_len(&self) -> usize {
        self.rows() * self.shape.input
    }

    fn y_len(&self) -> usize {
        self.directions() * self.rows() * self.shape.hidden
    }

    fn state_len(&self) -> usize {
        self.directions() * self.shape.batch * self.shape.hidden
    }

    /// Runs the steps.
    ///
    /// # Panics
    /// Where a slice has another length than the shape has, as the others.
    pub fn forward(&self, team: &Team, io: Forward<'_>) {
        check("x", io.x.len(), self.x_len());
        check("y", io.y.len(), self.y_len());
        check("weights", io.weights.len(), self.weights_len());
        check("kept", io.kept.len(), self.kept_len());
        check("scratch", io.scratch.len(), self.scratch_len(team.threads()));
        self.check_lengths(io.lengths);
        self.check_states(io.initial_hidden.map(<[f32]>::len), io.initial_cell.map(<[f32]>::len));
        self.check_states(io.last_hidden.as_ref().map(|s| s.len()), io.last_cell.as_ref().map(|s| s.len()));
        forward::run(self, team, io);
    }

    /// The gradients by everything but the weights, for which it leaves in `kept` what [`Self::update`] needs.
    pub fn backward(&self, team: &Team, io: Backward<'_>) {
        check("weights", io.weights.len(), self.weights_len());
        check("kept", io.kept.len(), self.kept_len());
        check("scratch", io.scratch.len(), self.scratch_len(team.threads()));
        io.by_y.iter().for_each(|s| check("by_y", s.len(), self.y_len()));
        io.by_x.iter().for_each(|s| check("by_x", s.len(), self.x_len()));
        self.check_lengths(io.lengths);
        self.check_states(io.by_last_hidden.map(<[f32]>::len), io.by_last_cell.map(<[f32]>::len));
        let initial = [&io.by_initial_hidden, &io.by_initial_cell].map(|s| s.as_ref().map(|s| s.len()));
        self.check_states(initial[0], initial[1]);
        backward::run(self, team, io);
    }

    /// `target += alpha * gradient by the weights`, in the layer's own layout: the weights themselves, or a sum of gradients. `x` is
    /// that of the pass forward, `kept` what the pass back left.
    pub fn update(&self, team: &Team, x: &[f32], kept: &[f32], target: &mut [f32], alpha: f32, mut scratch: &mut [f32]) {
        check("x", x.len(), self.x_len());
        check("kept", kept.len(), self.kept_len());
        check("target", target.len(), self.weights_len());
        check("scratch", scratch.len(), self.scratch_len(team.threads()));
        let own = self.update_scratch().iter().sum();
        let mut parts = Vec::new();
        for blocks in ranges(self.blocks(), self.parts(team), 1) {
            parts.push((blocks, cut(&mut scratch, own)));
        }
        // SAFETY: each part writes to the weights of its own blocks.
        let target = unsafe { Apart::new(target.as_mut_ptr()) };
        team.each(parts, |(blocks, scratch)| {
            let pass = update::Pass {
                layer: self,
                blocks,
                x,
                kept,
                target: target.get(),
                alpha,
                scratch,
            };
            // SAFETY: every slice has the length that the shape asks for.
            unsafe { dispatch(self.isa, pass) };
        });
    }

    fn check_lengths(&self, lengths: Option<&[usize]>) {
        lengths.iter().for_each(|s| check("lengths", s.len(), self.shape.batch));
    }

    fn check_states(&self, hidden: Option<usize>, cell: Option<usize>) {
        assert!(cell.is_none() || self.has_cell(), "a GRU has no states of cells");
        hidden.iter().chain(&cell).for_each(|&len| check("a state", len, self.state_len()));
    }
}

fn check(what: &str, len: usize, needed: usize) {
    assert!(len == needed, "{what} has {len} values where the layer needs {needed}");
}

/// Where the row of a step and a place in the batch begins: `first + step * s + row * b`.
#[derive(Debug, Clone, Copy)]
struct Walk {
    first: isize,
    step: isize,
    row: isize,
}

impl Walk {
    /// Where steps lie `step` and rows of the batch `row` values apart, from `first` on.
    fn new(layer: &Recurrent, d: usize, first: usize, step: usize, row: usize) -> Self {
        let (first, step, row) = (first as isize, step as isize, row as isize);
        if layer.is_reverse(d) {
            let last = layer.shape.steps as isize - 1;
            return Self {
                first: first + last * step,
                step: -step,
                row,
            };
        }
        Self { first, step, row }
    }

    fn of_x(layer: &Recurrent, d: usize) -> Self {
        let Shape { steps, batch, input, .. } = layer.shape;
        if layer.shape.batch_first {
            Self::new(layer, d, 0, input, steps * input)
        } else {
            Self::new(layer, d, 0, batch * input, input)
        }
    }

    fn of_y(layer: &Recurrent, d: usize) -> Self {
        let Shape { steps, batch, hidden, .. } = layer.shape;
        let all = layer.directions();
        if layer.shape.batch_first {
            Self::new(layer, d, d * hidden, all * hidden, steps * all * hidden)
        } else {
            Self::new(layer, d, d * batch * hidden, all * batch * hidden, hidden)
        }
    }

    /// Of a state: all steps in one place.
    fn of_state(layer: &Recurrent, d: usize) -> Self {
        let Shape { batch, hidden, .. } = layer.shape;
        if layer.shape.batch_first {
            Self::new(layer, d, d * hidden, 0, layer.directions() * hidden)
        } else {
            Self::new(layer, d, d * batch * hidden, 0, hidden)
        }
    }

    #[inline(always)]
    fn at(self, s: usize, b: usize) -> isize {
        self.first + self.step * s as isize + self.row * b as isize
    }
}

#[cfg(test)]
mod tests;
