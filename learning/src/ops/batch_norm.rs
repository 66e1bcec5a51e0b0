//! Batch normalisation.

use burn_backend::tensor::FloatTensor;
use burn_backend::{Backend, Shape, TensorMetadata};

use super::Kernel;
use crate::program::{Mode, NodeView, Output, Planned, Problem, Source, refuse};

/// Batch normalisation.
///
/// # Source
/// Ioffe and Szegedy 2015, Batch Normalization (ICML), algorithms 1 and 2.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct BatchNorm {
    pub(crate) epsilon: f32,
    /// How much of the stored statistics stays when those of the batch move them; `None` where the stored ones are used.
    pub(crate) momentum: Option<f32>,
    /// Whether the statistics are outputs of the node too.
    pub(crate) names_statistics: bool,
}

/// While training it normalises with the statistics of the batch and moves the stored ones, whether the file was exported for training
/// or not, unless the stored ones are asked for; otherwise it uses the stored ones.
pub(super) fn batch_norm(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["epsilon", "momentum", "training_mode", "spatial", "is_test"])?;
    if node.int("spatial", 1) == 0 {
        return Err(refuse(
            "it normalises every position apart (spatial = 0)",
            "export the model for opset 13 or later",
        ));
    }
    let x = node.tensor(0)?;
    let mut operands = vec![x];
    for i in 1..5 {
        let per_channel = node.tensor(i)?;
        if x.rank() < 2 || per_channel.shape != [x.shape[1]] {
            let problem = format!(
                "its input {i} has the shape {:?} beside an input of {:?}",
                per_channel.shape, x.shape
            );
            return Err(refuse(problem, "it takes one value a channel"));
        }
        operands.push(per_channel);
    }
    let mut kernel = BatchNorm {
        epsilon: node.float("epsilon").unwrap_or(1e-5),
        momentum: None,
        names_statistics: node.names_output(1) || node.names_output(2),
    };
    let buffers = vec![operands[3].slot, operands[4].slot];
    let inputs = operands.into_iter().map(Source::from).collect();
    let statistics = || (0..2).map(|_| Output::float(vec![x.shape[1]]));
    let mut outputs = vec![Output::float(x.shape.clone())];
    if kernel.names_statistics {
        outputs.extend(statistics());
    }
    if node.mode == (Mode::Training { batch_statistics: true }) {
        if x.n_elements() / x.shape[1] < 2 {
            return Err(refuse(
                "a batch of one value a channel has no variance",
                "train with a larger batch, or with the stored statistics (batch_norm = \"stored\")",
            ));
        }
        kernel.momentum = Some(node.float("momentum").unwrap_or(0.9));
        outputs.extend(statistics());
        return Ok(Planned::Update {
            kernel: Kernel::BatchNorm(kernel),
            inputs,
            outputs,
            buffers,
        });
    }
    Ok(Planned::Run {
        kernel: Kernel::BatchNorm(kernel),
        inputs,
        outputs,
    })
}

impl BatchNorm {
    /// The output, the statistics where they are outputs of the node, and while training their new values. Folded into one factor and one
    /// term a channel, so that the large tensor is passed over as seldom as can be.
    pub(super) fn run<B: Backend>(self, [x, scale, bias, mean, variance]: [FloatTensor<B>; 5]) -> Vec<FloatTensor<B>> {
        let Some(momentum) = self.momentum else {
            let y = self.normalised::<B>(x, scale, bias, mean.clone(), variance.clone());
            return self.with_statistics::<B>(y, mean, variance, false);
        };
        let shape = x.shape();
        let (batch, channels) = (shape[0], shape[1]);
        let positions = shape.num_elements() / (batch * channels);
        let count = (batch * positions) as f32;
        let flat = B::float_reshape(x.clone(), Shape::new([batch, channels, positions]));
        let mean_of = |t: FloatTensor<B>| {
            let sums = B::float_sum_dim(B::float_sum_dim(t, 2), 0);
            B::float_mul_scalar(B::float_reshape(sums, Shape::new([channels])), (1.0 / count).into())
        };
        let batch_mean = mean_of(flat.clone());
        let centred = B::float_sub(flat, B::float_reshape(batch_mean.clone(), Shape::new([1, channels, 1])));
        let batch_variance = mean_of(B::float_mul(centred.clone(), centred.clone()));
        let deviation = B::float_sqrt(B::float_add_scalar(batch_variance.clone(), self.epsilon.into()));
        let factor = B::float_reshape(B::float_div(scale, deviation), Shape::new([1, channels, 1]));
        let y = B::float_add(B::float_mul(centred, factor), B::float_reshape(bias, Shape::new([1, channels, 1])));
        // PyTorch stores the unbiased variance.
        let unbiased = count / (count - 1.0);
        let moved = |old: FloatTensor<B>, new: FloatTensor<B>, scale: f32| {
            B::float_add(
                B::float_mul_scalar(old, momentum.into()),
                B::float_mul_scalar(B::float_detach(new), ((1.0 - momentum) * scale).into()),
            )
        };
        let (mean, variance) = (moved(mean, batch_mean, 1.0), moved(variance, batch_variance, unbiased));
        self.with_statistics::<B>(B::float_reshape(y, shape), mean, variance, true)
    }

    fn with_statistics<B: Backend>(
        self,
        y: FloatTensor<B>,
        mean: FloatTensor<B>,
        variance: FloatTensor<B>,
        moved: bool,
    ) -> Vec<FloatTensor<B>> {
        let times = usize::from(self.names_statistics) + usize::from(moved);
        let statistics = std::iter::repeat_n([mean, variance], times).flatten();
        std::iter::once(y).chain(statistics).collect()
    }

    fn normalised<B: Backend>(
        self,
        x: FloatTensor<B>,
        scale: FloatTensor<B>,
        bias: FloatTensor<B>,
        mean: FloatTensor<B>,
        variance: FloatTensor<B>,
    ) -> FloatTensor<B> {
        let x_shape = x.shape();
        let mut dims = vec![1; x_shape.num_dims()];
        dims[1] = x_shape[1];
        let deviation = B::float_sqrt(B::float_add_scalar(variance, self.epsilon.into()));
        let factor = B::float_div(scale, deviation);
        let term = B::float_sub(bias, B::float_mul(mean, factor.clone()));
        let y = B::float_mul(x, B::float_reshape(factor, Shape::from(dims.clone())));
        B::float_add(y, B::float_reshape(term, Shape::from(dims)))
    }
}

#[cfg(test)]
mod tests;
