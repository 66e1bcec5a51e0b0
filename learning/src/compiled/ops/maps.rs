//! Functions of one and of two tensors, element by element.

use std::ops::Range;

use aimass_kernels::Buffer;
use aimass_kernels::elementwise::{Binary, Function, Operand, Reads, binary, binary_gradient};

use super::{Backward, Forward, Needs, Operation, in_parts};

/// A function of one tensor.
#[derive(Debug)]
pub(in super::super) struct Map(pub(in super::super) Function);

impl Operation for Map {
    fn needs(&self, _threads: usize) -> Needs {
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
        in_parts(io.team, y, Buffer::LINE, |at, y| self.0.forward(io.isa, &x[at..at + y.len()], y));
    }

    fn backward(&self, mut io: Backward<'_>) {
        let kept = match self.0.reads() {
            Reads::Nothing => &[],
            Reads::Input => io.input(0),
            Reads::Output => io.output(0),
        };
        let dy = io.by_output(0);
        if let Some(dx) = io.by_inputs[0].take() {
            in_parts(io.team, dx, Buffer::LINE, |at, dx| {
                let kept = if kept.is_empty() { kept } else { &kept[at..at + dx.len()] };
                self.0.backward(io.isa, kept, &dy[at..at + dx.len()], dx);
            });
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

/// Some of what the first axis counts.
struct Part {
    rows: Range<usize>,
    length: usize,
    rank: usize,
}

impl Part {
    fn shape(&self, shape: &[usize]) -> Vec<usize> {
        let mut shape = shape.to_vec();
        if let Some(first) = shape.first_mut() {
            *first = self.rows.len();
        }
        shape
    }

    /// Of an operand what belongs to it: all where it is broadcast along the axis.
    fn of<'a>(&self, values: &'a [f32], shape: &[usize]) -> (&'a [f32], Vec<usize>) {
        if shape.len() < self.rank || shape.first() != Some(&self.length) || self.rows.len() == self.length {
            return (values, shape.to_vec());
        }
        let rest = values.len() / self.length.max(1);
        (&values[self.rows.start * rest..self.rows.end * rest], self.shape(shape))
    }
}

impl Pair {
    /// The first axis, and values that lie behind one of its places.
    fn along(&self) -> (usize, usize) {
        let length = self.shape.first().copied().unwrap_or(1);
        (length, self.shape.iter().skip(1).product())
    }

    fn part(&self, rows: Range<usize>, length: usize) -> Part {
        Part {
            rows,
            length,
            rank: self.shape.len(),
        }
    }
}

impl Operation for Pair {
    fn needs(&self, _threads: usize) -> Needs {
        Needs {
            reads_inputs: if self.function.is_linear() { Vec::new() } else { vec![0, 1] },
            ..Needs::default()
        }
    }

    fn forward(&self, io: Forward<'_>) {
        let operands = [io.input(0), io.input(1)];
        let [y, ..] = io.outputs;
        let (length, rest) = self.along();
        in_parts(io.team, y, rest, |at, y| {
            let rows = at / rest.max(1)..(at + y.len()) / rest.max(1);
            let part = self.part(rows.clone(), length);
            let [a, b] = [0, 1].map(|i| part.of(operands[i], [&self.a, &self.b][i]));
            binary(io.isa, self.function, [a.0, b.0], [&a.1, &b.1], y, &part.shape(&self.shape));
        });
    }

    fn backward(&self, mut io: Backward<'_>) {
        let dy = io.by_output(0);
        let operands = if self.function.is_linear() {
            [&[][..], &[]]
        } else {
            [io.input(0), io.input(1)]
        };
        for (i, of) in [Operand::First, Operand::Second].into_iter().enumerate() {
            let Some(target) = io.by_inputs[i].take() else { continue };
            let shapes = [&self.a[..], &self.b];
            if shapes[i] != self.shape || self.function.is_linear() {
                binary_gradient(io.isa, self.function, of, dy, operands, shapes, &self.shape, target, false);
                continue;
            }
            // Nothing is summed.
            let (length, rest) = self.along();
            in_parts(io.team, target, rest, |at, target| {
                let part = self.part(at / rest.max(1)..(at + target.len()) / rest.max(1), length);
                let [a, b] = [0, 1].map(|i| part.of(operands[i], shapes[i]));
                let dy = &dy[at..at + target.len()];
                binary_gradient(
                    io.isa,
                    self.function,
                    of,
                    dy,
                    [a.0, b.0],
                    [&a.1, &b.1],
                    &part.shape(&self.shape),
                    target,
                    false,
                );
            });
        }
    }
}
