//! Fully connected layers whose weights are a source.

use aimass_kernels::dense::{Dense, Pass};

use super::super::sources::Layout;
use super::{Backward, Forward, Needs, Operation};

/// `y = x w + b`, then perhaps a ReLU. Inputs: x, w, and the bias where there is one.
#[derive(Debug)]
pub(in super::super) struct FullyConnected {
    pub(in super::super) rows: usize,
    pub(in super::super) layer: Dense,
    /// Whether the file has a row of weights an output.
    pub(in super::super) transposed: bool,
    pub(in super::super) bias: bool,
}

impl Operation for FullyConnected {
    fn needs(&self, _threads: usize) -> Needs {
        let scratch = self.layer.scratch_len(self.rows);
        Needs {
            scratch,
            scratch_backward: scratch,
            reads_inputs: vec![0, 1],
            reads_outputs: if self.layer.relu { vec![0] } else { Vec::new() },
            ..Needs::default()
        }
    }

    fn layout(&self, input: usize) -> Option<Layout> {
        (input == 1).then_some(Layout::Dense {
            // The layout is the same with and without.
            layer: Dense { relu: false, ..self.layer },
            transposed: self.transposed,
        })
    }

    fn accumulates(&self, input: usize) -> bool {
        input > 0
    }

    fn forward(&self, io: Forward<'_>) {
        let bias = self.bias.then(|| io.input(2));
        let (x, w) = (io.input(0), io.input(1));
        let [y, ..] = io.outputs;
        self.layer.forward(io.team, io.isa, x, w, bias, y, io.scratch);
    }

    fn backward(&self, mut io: Backward<'_>) {
        let pass = Pass {
            x: io.input(0),
            y: if self.layer.relu { io.output(0) } else { &[] },
            dy: io.by_output(0),
        };
        let (weights, dx) = (io.weights(1), io.by_inputs[0].take());
        let (target, bias) = (io.targets[1].take(), io.targets[2].take());
        self.layer.backward(io.team, io.isa, pass, weights, dx, target, bias, io.scratch);
    }
}
