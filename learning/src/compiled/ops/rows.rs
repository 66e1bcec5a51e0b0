//! Rows that are normalised.

use aimass_kernels::{Isa, rows};

use super::{Backward, Forward, Needs, Operation, in_parts};

/// Softmax or its logarithm.
#[derive(Debug)]
pub(in super::super) struct Softmax {
    pub(in super::super) shape: [usize; 3],
    pub(in super::super) log: bool,
}

impl Softmax {
    /// Of a part of so many values.
    fn part(&self, isa: Isa, values: usize) -> rows::Softmax {
        let [_, len, inner] = self.shape;
        rows::Softmax::new(isa, [values / (len * inner).max(1), len, inner], self.log)
    }
}

impl Operation for Softmax {
    fn needs(&self, _threads: usize) -> Needs {
        Needs {
            reads_outputs: vec![0],
            ..Needs::default()
        }
    }

    fn forward(&self, io: Forward<'_>) {
        let x = io.input(0);
        let [y, ..] = io.outputs;
        let [_, len, inner] = self.shape;
        in_parts(io.team, y, len * inner, |at, y| {
            self.part(io.isa, y.len()).forward(&x[at..at + y.len()], y);
        });
    }

    fn backward(&self, mut io: Backward<'_>) {
        let (y, dy) = (io.output(0), io.by_output(0));
        if let Some(dx) = io.by_inputs[0].take() {
            let [_, len, inner] = self.shape;
            in_parts(io.team, dx, len * inner, |at, dx| {
                let range = at..at + dx.len();
                self.part(io.isa, dx.len()).backward(&y[range.clone()], &dy[range], dx);
            });
        }
    }
}

/// Layer norm. Inputs: x, scale, and the bias where there is one.
#[derive(Debug)]
pub(in super::super) struct LayerNorm {
    pub(in super::super) norm: rows::RowNorm,
    pub(in super::super) bias: bool,
}

impl Operation for LayerNorm {
    fn needs(&self, _threads: usize) -> Needs {
        Needs {
            kept: self.norm.kept_len(),
            reads_inputs: vec![0, 1],
            ..Needs::default()
        }
    }

    fn forward(&self, io: Forward<'_>) {
        let (x, scale) = (io.input(0), io.input(1));
        let bias = self.bias.then(|| io.input(2));
        let [y, ..] = io.outputs;
        self.norm.forward(io.team, x, Some(scale), bias, y, io.kept);
    }

    fn backward(&self, mut io: Backward<'_>) {
        let (x, scale, dy) = (io.input(0), io.input(1), io.by_output(0));
        if let Some(dx) = io.by_inputs[0].take() {
            self.norm.backward_input(io.team, x, dy, Some(scale), io.kept, dx);
        }
        let [by_scale, by_bias] = [1, 2].map(|i| {
            let mut by = io.by_inputs[i].take();
            if let Some(by) = &mut by {
                by.fill(0.0);
            }
            by
        });
        if by_scale.is_some() || by_bias.is_some() {
            self.norm.backward_learned(x, dy, io.kept, 1.0, by_scale, by_bias);
        }
    }
}
