//! Batch normalisation, with a residual and a ReLU behind it where there are.

use aimass_kernels::batch_norm::{BatchNorm, Gradients, ScaleAndBias};

use super::{Backward, Forward, Needs, Operation};

/// Inputs: x, scale, bias, mean, variance, and what is added before the ReLU where something is. Outputs: y, and with the statistics of the
/// batch the new mean and variance.
#[derive(Debug)]
pub(in super::super) struct Normalisation {
    pub(in super::super) norm: BatchNorm,
    pub(in super::super) channels: usize,
    /// Elements of x.
    pub(in super::super) len: usize,
    /// Whether the gradient passes x; else what is made of it goes to scratch.
    pub(in super::super) tracks_x: bool,
    pub(in super::super) relu: bool,
    pub(in super::super) residual: bool,
    /// How much of the stored statistics stays; `None` where those are used.
    pub(in super::super) momentum: Option<f32>,
}

/// Which input is added.
const RESIDUAL: usize = 5;

impl Operation for Normalisation {
    fn needs(&self, _threads: usize) -> Needs {
        let dx = if self.tracks_x { 0 } else { self.len };
        Needs {
            kept: self.norm.kept_len(),
            // Gradients by scale and bias, where nobody wants them.
            scratch_backward: self.norm.scratch_len() + 2 * self.channels + dx,
            reads_inputs: vec![0],
            reads_outputs: if self.relu { vec![0] } else { Vec::new() },
            ..Needs::default()
        }
    }

    fn is_differentiable(&self, output: usize) -> bool {
        output == 0
    }

    fn forward(&self, io: Forward<'_>) {
        let learned = ScaleAndBias {
            scale: io.input(1),
            bias: io.input(2),
        };
        let (x, mean, variance) = (io.input(0), io.input(3), io.input(4));
        let residual = self.residual.then(|| io.input(RESIDUAL));
        let [y, new_mean, new_variance, ..] = io.outputs;
        let Some(momentum) = self.momentum else {
            return self
                .norm
                .forward_stored(io.team, x, learned, [mean, variance], residual, y, io.kept);
        };
        self.norm.forward(io.team, x, learned, residual, y, io.kept);
        if !new_mean.is_empty() && !new_variance.is_empty() {
            new_mean.copy_from_slice(mean);
            new_variance.copy_from_slice(variance);
            self.norm.move_statistics(momentum, io.kept, new_mean, new_variance);
        }
    }

    fn backward(&self, mut io: Backward<'_>) {
        let (x, dy) = (io.input(0), io.by_output(0));
        let y = if self.relu { io.output(0) } else { &[] };
        let (scratch, rest) = io.scratch.split_at_mut(self.norm.scratch_len());
        let (unwanted, dx) = rest.split_at_mut(2 * self.channels);
        let (scale, bias) = unwanted.split_at_mut(self.channels);
        let scale = io.by_inputs[1].take().unwrap_or(scale);
        let bias = io.by_inputs[2].take().unwrap_or(bias);
        scale.fill(0.0);
        bias.fill(0.0);
        let to = Gradients {
            x: io.by_inputs[0].take().unwrap_or(dx),
            residual: io.by_inputs[RESIDUAL].take(),
            alpha: 1.0,
            scale,
            bias,
        };
        if self.momentum.is_some() {
            self.norm.backward(io.team, x, y, dy, io.kept, to, scratch);
        } else {
            self.norm.backward_stored(io.team, x, y, dy, io.kept, to, scratch);
        }
    }
}
