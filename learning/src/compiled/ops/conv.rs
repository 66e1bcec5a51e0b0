//! Convolutions whose weights are a source, with a ReLU and a max pool behind them where there are.

use aimass_kernels::conv::{Conv, Shape};

use super::super::sources::{ConvWeights, Layout};
use super::{Backward, Forward, Needs, Operation};

/// Inputs: x, weights, and the bias where there is one.
#[derive(Debug)]
pub(in super::super) struct Convolution {
    pub(in super::super) conv: Conv,
    pub(in super::super) shape: Shape,
    pub(in super::super) bias: bool,
    pub(in super::super) relu: bool,
}

impl Operation for Convolution {
    fn needs(&self, threads: usize) -> Needs {
        let [forward, input, weights] = self.conv.scratch_lens(threads);
        Needs {
            kept_bytes: self.conv.kept_len_bytes(),
            scratch: forward,
            scratch_backward: input.max(weights),
            reads_inputs: vec![0, 1],
            reads_outputs: if self.relu { vec![0] } else { Vec::new() },
            ..Needs::default()
        }
    }

    fn plan_bytes(&self) -> usize {
        self.conv.plan_bytes()
    }

    fn layout(&self, input: usize) -> Option<Layout> {
        let weights = || ConvWeights {
            conv: self.conv.clone(),
            shape: self.shape,
        };
        (input == 1).then(|| Layout::Conv(Box::new(weights())))
    }

    fn accumulates(&self, input: usize) -> bool {
        input > 0
    }

    fn forward(&self, io: Forward<'_>) {
        let bias = self.bias.then(|| io.input(2));
        let (x, w) = (io.input(0), io.input(1));
        let [y, ..] = io.outputs;
        self.conv.forward(io.team, x, w, bias, y, io.kept_bytes, io.scratch);
    }

    fn backward(&self, mut io: Backward<'_>) {
        let (x, dy) = (io.input(0), io.by_output(0));
        let y = if self.relu { io.output(0) } else { &[] };
        let (weights, dx) = (io.weights(1), io.by_inputs[0].take());
        let (target, bias) = (io.targets[1].take(), io.targets[2].take());
        if let Some(dx) = dx {
            let w = weights.or(target.as_ref().map(|target| &*target.values)).unwrap_or_default();
            self.conv.backward_input(io.team, dy, y, io.kept_bytes, w, dx, io.scratch);
        }
        if let Some(target) = target {
            let bias = bias.map(|bias| bias.values);
            self.conv
                .backward_weights(io.team, x, dy, y, io.kept_bytes, target.alpha, target.values, bias, io.scratch);
        }
    }
}
