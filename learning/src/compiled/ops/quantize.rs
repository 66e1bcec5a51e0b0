//! Quantization that is simulated in floats.

use aimass_kernels::Buffer;
use aimass_kernels::elementwise::Function;

use super::{Backward, Forward, Needs, Operation, in_parts};

/// There and back again: `x` as its quantized values stand for it, with the straight-through estimator.
#[derive(Debug)]
pub(in super::super) struct FakeQuantize {
    /// One for all, or one for each place along an axis.
    pub(in super::super) functions: Vec<Function>,
    /// Values that lie behind one place of that axis.
    pub(in super::super) inner: usize,
}

impl FakeQuantize {
    /// Values that are a whole of something: parts are made of such.
    fn unit(&self) -> usize {
        if self.functions.len() == 1 { Buffer::LINE } else { self.inner }
    }

    /// Calls `each` for the stretches of `len` values from `at` on that one function is for.
    fn stretches(&self, at: usize, len: usize, mut each: impl FnMut(Function, std::ops::Range<usize>)) {
        if let [function] = self.functions[..] {
            return each(function, 0..len);
        }
        let inner = self.inner.max(1);
        for start in (0..len).step_by(inner) {
            let place = (at + start) / inner % self.functions.len();
            each(self.functions[place], start..len.min(start + inner));
        }
    }
}

impl Operation for FakeQuantize {
    fn needs(&self, _threads: usize) -> Needs {
        Needs {
            reads_inputs: vec![0],
            ..Needs::default()
        }
    }

    fn plan_bytes(&self) -> usize {
        size_of::<Function>() * self.functions.len()
    }

    fn forward(&self, io: Forward<'_>) {
        let x = io.input(0);
        let [y, ..] = io.outputs;
        in_parts(io.team, y, self.unit(), |at, y| {
            self.stretches(at, y.len(), |function, range| {
                function.forward(io.isa, &x[at..][range.clone()], &mut y[range]);
            });
        });
    }

    fn backward(&self, mut io: Backward<'_>) {
        let (x, dy) = (io.input(0), io.by_output(0));
        let Some(dx) = io.by_inputs[0].take() else { return };
        in_parts(io.team, dx, self.unit(), |at, dx| {
            self.stretches(at, dx.len(), |function, range| {
                function.backward(io.isa, &x[at..][range.clone()], &dy[at..][range.clone()], &mut dx[range]);
            });
        });
    }
}
