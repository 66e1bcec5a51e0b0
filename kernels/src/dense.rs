//! Fully connected layers of few rows, and matrix products of any shape.
//!
//! A batch of some dozen rows is too low for the packing that a general product does: the weights are as large as everything else
//! together, and are met once. Here they are streamed as they lie, `[inputs, outputs padded to 16]`, and the backward pass reads each of
//! them once, for the gradient by the input and for their own update.

mod backward;
mod forward;
mod product;
#[cfg(test)]
mod tests;

pub use product::{Matrix, MatrixMut, product};

use crate::{Buffer, Isa, Target, Team, elements};

/// More rows than this go through [`product`].
pub const MOST_ROWS: usize = 64;

/// The shape of a layer `y = x w + b`, with or without a ReLU behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dense {
    /// Inputs a row.
    pub inputs: usize,
    /// Outputs a row.
    pub outputs: usize,
    /// Whether what is negative becomes 0.
    pub relu: bool,
}

/// What the backward pass reads.
#[derive(Debug, Clone, Copy)]
pub struct Pass<'a> {
    /// `[rows, inputs]`.
    pub x: &'a [f32],
    /// `[rows, outputs]`, where there is a ReLU; else it is not read.
    pub y: &'a [f32],
    /// The gradient by `y`.
    pub dy: &'a [f32],
}

impl Dense {
    /// Outputs with their padding: the length of a row of weights.
    pub fn stride(&self) -> usize {
        Buffer::padded(self.outputs)
    }

    /// Floats of the weights as the kernels have them.
    pub fn weights_len(&self) -> usize {
        elements(&[self.inputs, elements(&[self.outputs]).next_multiple_of(Buffer::LINE)])
    }

    /// Floats that a call needs for the moment.
    pub fn scratch_len(&self, rows: usize) -> usize {
        let transposed = Buffer::padded(self.inputs * rows);
        let gradients = 2 * rows * self.stride();
        transposed.max(gradients)
    }

    /// From ONNX's order, `[inputs, outputs]` or, transposed, `[outputs, inputs]`.
    pub fn lay_out(&self, weights: &[f32], transposed: bool, to: &mut [f32]) {
        self.check_layout(weights.len(), to.len());
        let stride = self.stride();
        to.fill(0.0);
        if !transposed {
            for (row, from) in to.chunks_exact_mut(stride).zip(weights.chunks_exact(self.outputs)) {
                row[..self.outputs].copy_from_slice(from);
            }
            return;
        }
        for (j, column) in weights.chunks_exact(self.inputs).enumerate() {
            for (i, &w) in column.iter().enumerate() {
                to[i * stride + j] = w;
            }
        }
    }

    /// Back to ONNX's order.
    pub fn read_out(&self, from: &[f32], transposed: bool, weights: &mut [f32]) {
        self.check_layout(weights.len(), from.len());
        let stride = self.stride();
        if !transposed {
            for (row, to) in from.chunks_exact(stride).zip(weights.chunks_exact_mut(self.outputs)) {
                to.copy_from_slice(&row[..self.outputs]);
            }
            return;
        }
        for (j, column) in weights.chunks_exact_mut(self.inputs).enumerate() {
            for (i, w) in column.iter_mut().enumerate() {
                *w = from[i * stride + j];
            }
        }
    }

    /// Into how many parts a pass is cut.
    fn parts(&self, team: &Team, rows: usize, most: usize) -> usize {
        team.parts(2 * rows * self.inputs * self.outputs, most)
    }

    fn check_layout(&self, plain: usize, laid_out: usize) {
        assert!(self.inputs > 0 && self.outputs > 0, "a layer has inputs and outputs");
        assert_eq!(plain, self.inputs * self.outputs, "the weights have inputs * outputs values");
        assert_eq!(laid_out, self.weights_len(), "laid out, the weights have inputs * stride values");
    }

    /// `y = x w + b`, then the ReLU. `x: [rows, inputs]`, `y: [rows, outputs]`, `bias: [outputs]`, `scratch` of [`Self::scratch_len`].
    ///
    /// # Panics
    /// For slices of other lengths, and no rows.
    pub fn forward(&self, team: &Team, isa: Isa, x: &[f32], weights: &[f32], bias: Option<&[f32]>, y: &mut [f32], scratch: &mut [f32]) {
        let rows = self.check_rows(x.len(), y.len(), weights.len(), scratch.len());
        assert!(bias.is_none_or(|b| b.len() == self.outputs), "the bias has one value an output");
        if rows > MOST_ROWS {
            return product::forward(team, isa, *self, rows, x, weights, bias, y);
        }
        forward::forward(team, isa, *self, rows, x, weights, bias, y, scratch);
    }

    /// Writes the gradient by `x` to `dx`, then adds those by the weights and by the bias to `target` and `bias`, where they are wanted.
    /// Without `weights` the target holds them: they are moved where they are.
    ///
    /// # Panics
    /// For slices of other lengths.
    pub fn backward(
        &self,
        team: &Team,
        isa: Isa,
        pass: Pass<'_>,
        weights: Option<&[f32]>,
        dx: Option<&mut [f32]>,
        target: Option<Target<'_>>,
        bias: Option<Target<'_>>,
        scratch: &mut [f32],
    ) {
        let len = weights.map(<[f32]>::len).or(target.as_ref().map(|t| t.values.len()));
        let Some(len) = len else {
            panic!("there are weights, or a target that holds them");
        };
        let rows = self.check_rows(pass.x.len(), pass.dy.len(), len, scratch.len());
        assert!(
            target.as_ref().is_none_or(|t| t.values.len() == len),
            "weights and target are of one length"
        );
        assert!(!self.relu || pass.y.len() == pass.dy.len(), "with a ReLU the output is needed");
        assert!(
            dx.as_ref().is_none_or(|dx| dx.len() == pass.x.len()),
            "x and its gradient are of one length"
        );
        assert!(
            bias.as_ref().is_none_or(|b| b.values.len() == self.outputs),
            "the bias has one value an output"
        );
        backward::backward(team, isa, *self, rows, pass, weights, dx, target, bias, scratch);
    }

    fn check_rows(&self, x: usize, y: usize, weights: usize, scratch: usize) -> usize {
        assert_eq!(weights, self.weights_len(), "laid out, the weights have inputs * stride values");
        let rows = y / self.outputs;
        assert!(rows > 0 && rows * self.outputs == y, "y has whole rows of outputs");
        assert_eq!(x, elements(&[rows, self.inputs]), "x has whole rows of inputs");
        assert!(scratch >= self.scratch_len(rows), "scratch is of scratch_len at least");
        rows
    }
}
