//! Pools.

use aimass_kernels::pool;

use super::{Backward, Forward, Needs, Operation};

/// The maximum of each window.
#[derive(Debug)]
pub(in super::super) struct MaxPool(pub(in super::super) pool::MaxPool);

impl Operation for MaxPool {
    fn needs(&self) -> Needs {
        Needs {
            kept_bytes: self.0.kept_len_bytes(),
            ..Needs::default()
        }
    }

    fn forward(&self, io: Forward<'_>) {
        let x = io.input(0);
        let [y, ..] = io.outputs;
        self.0.forward(x, y, io.kept_bytes);
    }

    fn backward(&self, mut io: Backward<'_>) {
        let dy = io.by_output(0);
        if let Some(dx) = io.by_inputs[0].take() {
            self.0.backward(dy, io.kept_bytes, dx);
        }
    }
}

/// The mean of each window.
#[derive(Debug)]
pub(in super::super) struct AveragePool(pub(in super::super) pool::AveragePool);

impl Operation for AveragePool {
    fn needs(&self) -> Needs {
        Needs::default()
    }

    fn forward(&self, io: Forward<'_>) {
        let x = io.input(0);
        let [y, ..] = io.outputs;
        self.0.forward(x, y);
    }

    fn backward(&self, mut io: Backward<'_>) {
        let dy = io.by_output(0);
        if let Some(dx) = io.by_inputs[0].take() {
            self.0.backward(dy, dx);
        }
    }
}
