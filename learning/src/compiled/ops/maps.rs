//! Functions of one and of two tensors, element by element.

use aimass_kernels::elementwise::{Binary, Function, Operand, Reads, binary, binary_gradient};

use super::{Backward, Forward, Needs, Operation};

/// A function of one tensor.
#[derive(Debug)]
pub(in super::super) struct Map(pub(in super::super) Function);

impl Operation for Map {
    fn needs(&self) -> Needs {
        let (mut reads_inputs, mut reads_outputs) = (Vec::new(), Vec::new());
        match self.0.reads() {
            Reads::Nothing => {}
            Reads::Input => reads_inputs.push(0),
            Reads::Output => reads_outputs.push(0),
        }
        Needs {
            reads_inputs,
            reads_outputs,
            ..Needs::default()
        }
    }

    fn forward(&self, io: Forward<'_>) {
        let x = io.input(0);
        let [y, ..] = io.outputs;
        self.0.forward(io.isa, x, y);
    }

    fn backward(&self, mut io: Backward<'_>) {
        let kept = match self.0.reads() {
            Reads::Nothing => &[],
            Reads::Input => io.input(0),
            Reads::Output => io.output(0),
        };
        let dy = io.by_output(0);
        if let Some(dx) = io.by_inputs[0].take() {
            self.0.backward(io.isa, kept, dy, dx);
        }
    }
}

/// A function of two tensors that broadcast.
#[derive(Debug)]
pub(in super::super) struct Pair {
    pub(in super::super) function: Binary,
    pub(in super::super) a: Vec<usize>,
    pub(in super::super) b: Vec<usize>,
    pub(in super::super) shape: Vec<usize>,
}

impl Operation for Pair {
    fn needs(&self) -> Needs {
        Needs {
            reads_inputs: if self.function.is_linear() { Vec::new() } else { vec![0, 1] },
            ..Needs::default()
        }
    }

    fn forward(&self, io: Forward<'_>) {
        let operands = [io.input(0), io.input(1)];
        let [y, ..] = io.outputs;
        binary(io.isa, self.function, operands, [&self.a, &self.b], y, &self.shape);
    }

    fn backward(&self, mut io: Backward<'_>) {
        let dy = io.by_output(0);
        let operands = if self.function.is_linear() {
            [&[][..], &[]]
        } else {
            [io.input(0), io.input(1)]
        };
        for (i, of) in [Operand::First, Operand::Second].into_iter().enumerate() {
            if let Some(target) = io.by_inputs[i].take() {
                let shapes = [&self.a[..], &self.b];
                binary_gradient(io.isa, self.function, of, dy, operands, shapes, &self.shape, target, false);
            }
        }
    }
}
