//! Normalisation by a norm: of vectors along an axis, and of each value by its neighbours in other channels.

use burn_backend::ops::PadMode;
use burn_backend::tensor::FloatTensor;
use burn_backend::{Backend, Shape, TensorMetadata, get_or_init_device_settings};

use super::elementwise::powf;
use super::{Kernel, scratch};
use crate::program::{NodeView, Planned, Problem, refuse};

/// Divides vectors by their norm; those of norm 0 stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LpNorm {
    axis: usize,
    /// 1 or 2.
    p: i64,
}

pub(super) fn lp_norm(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["axis", "p"])?;
    let x = node.tensor(0)?;
    let kernel = LpNorm {
        axis: node.axis(node.int("axis", -1), x.rank())?,
        p: node.int("p", 2),
    };
    if !matches!(kernel.p, 1 | 2) {
        return Err(refuse(format!("its `p` is {}", kernel.p), "use 1 or 2"));
    }
    Planned::run(Kernel::LpNorm(kernel), &[x], x.shape.clone())
}

impl LpNorm {
    pub(super) fn run<B: Backend>(self, x: FloatTensor<B>) -> FloatTensor<B> {
        let parts = if self.p == 1 {
            B::float_abs(x.clone())
        } else {
            B::float_mul(x.clone(), x.clone())
        };
        let sum = B::float_sum_dim(parts, self.axis);
        let bool_dtype = get_or_init_device_settings::<B>(&sum.device()).bool_dtype;
        let zero = B::float_equal_elem(sum.clone(), 0.0f32.into(), bool_dtype);
        let sum = B::float_mask_fill(sum, zero, 1.0f32.into());
        B::float_div(x, if self.p == 1 { sum } else { B::float_sqrt(sum) })
    }
}

/// `x / (bias + alpha / size * sum of squares over the neighbouring channels)^beta`
///
/// # Source
/// Krizhevsky et al. 2012, ImageNet Classification with Deep Convolutional Neural Networks (NeurIPS), section 3.3.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Lrn {
    /// Channels before and after that count, of those that there are.
    before: usize,
    after: usize,
    /// `alpha / size` times the window's length, which the mean over the window lacks.
    scale: f32,
    beta: f32,
    bias: f32,
}

pub(super) fn lrn(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["alpha", "beta", "bias", "size"])?;
    let x = node.tensor(0)?;
    let size = usize::try_from(node.int("size", 0)).unwrap_or(0);
    if x.rank() < 2 || size == 0 {
        return Err(refuse(
            format!("its `size` is {} for an input of shape {:?}", node.int("size", 0), x.shape),
            "use 1 or more, and an input with channels",
        ));
    }
    let others = x.shape[1].saturating_sub(1);
    let (before, after) = (((size - 1) / 2).min(others), (size / 2).min(others));
    let float = |name: &str, default: f32| node.float(name).unwrap_or(default);
    let kernel = Lrn {
        before,
        after,
        scale: float("alpha", 1e-4) / size as f32 * (before + 1 + after) as f32,
        beta: float("beta", 0.75),
        bias: float("bias", 1.0),
    };
    let rest: usize = x.shape[2..].iter().product();
    scratch::check(&[x.shape[0], x.shape[1] + before + after, rest])?;
    Planned::run(Kernel::Lrn(kernel), &[x], x.shape.clone())
}

impl Lrn {
    pub(super) fn run<B: Backend>(self, x: FloatTensor<B>) -> FloatTensor<B> {
        let shape = x.shape();
        let rest = shape.num_elements() / (shape[0] * shape[1]);
        let squares = B::float_reshape(B::float_mul(x.clone(), x.clone()), Shape::new([shape[0], 1, shape[1], rest]));
        let pads = [(0, 0), (0, 0), (self.before, self.after), (0, 0)];
        let padded = B::float_pad(squares, &pads, PadMode::Constant(0.0));
        let mean = B::avg_pool2d(padded, [self.before + 1 + self.after, 1], [1, 1], [0, 0], true, false);
        let base = B::float_add_scalar(B::float_mul_scalar(mean, self.scale.into()), self.bias.into());
        let factor = powf::<B>(base, -self.beta);
        B::float_mul(x, B::float_reshape(factor, shape))
    }
}
