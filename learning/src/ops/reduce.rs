//! Sums, means, extremes and norms over axes.

use burn_backend::tensor::FloatTensor;
use burn_backend::{Backend, TensorMetadata, get_or_init_device_settings};

use super::{Kernel, dims, picks};
use crate::program::{NodeView, Planned, Problem, Tensor, refuse};

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum How {
    /// Times this, for a mean.
    Sum(f32),
    Prod,
    Max,
    Min,
    /// The sum of magnitudes.
    L1,
    /// The root of the sum of squares.
    L2,
    SumSquare,
    LogSum,
    LogSumExp,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reduce {
    /// Runs of neighbouring reduced axes are merged into one before reducing.
    pub(crate) merged: Vec<usize>,
    pub(crate) axes: Vec<usize>,
    pub(crate) how: How,
    shape: Vec<usize>,
}

pub(super) fn reduce(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["axes", "keepdims", "noop_with_empty_axes"])?;
    let x = node.tensor(0)?;
    let axes = picks::reduced(node, node.optional_ints(1)?, x.rank())?;
    let count: usize = axes.iter().map(|&a| x.shape[a]).product();
    let how = match node.op() {
        "ReduceSum" => How::Sum(1.0),
        "ReduceMean" => How::Sum(1.0 / count.max(1) as f32),
        "ReduceProd" => How::Prod,
        "ReduceMax" => How::Max,
        "ReduceMin" => How::Min,
        "ReduceL1" => How::L1,
        "ReduceL2" => How::L2,
        "ReduceSumSquare" => How::SumSquare,
        "ReduceLogSum" => How::LogSum,
        "ReduceLogSumExp" => How::LogSumExp,
        other => return Err(refuse(format!("`{other}` is no reduction"), "report this as a defect")),
    };
    if axes.is_empty() && matches!(how, How::Sum(_) | How::Prod | How::Max | How::Min) {
        return Planned::tensor(x);
    }
    planned(x, &axes, node.int("keepdims", 1) != 0, how)
}

/// A sum or a mean. `axes` ascending, without repeats.
pub(super) fn plan(x: &Tensor, axes: Vec<usize>, keep: bool, mean: bool) -> Result<Planned, Problem> {
    let count: usize = axes.iter().map(|&a| x.shape[a]).product();
    planned(x, &axes, keep, How::Sum(if mean { 1.0 / count.max(1) as f32 } else { 1.0 }))
}

fn planned(x: &Tensor, axes: &[usize], keep: bool, how: How) -> Result<Planned, Problem> {
    let reduced = |i: usize| axes.contains(&i);
    let shape = picks::reduced_shape(&x.shape, axes, keep);
    let (mut merged, mut merged_axes): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
    for (i, &d) in x.shape.iter().enumerate() {
        match merged.last_mut() {
            Some(last) if reduced(i) && reduced(i - 1) => *last *= d,
            _ => {
                if reduced(i) {
                    merged_axes.push(merged.len());
                }
                merged.push(d);
            }
        }
    }
    let kernel = Reduce {
        merged,
        axes: merged_axes,
        how,
        shape: shape.clone(),
    };
    Planned::run(Kernel::Reduce(kernel), &[x], shape)
}

impl Reduce {
    pub(super) fn run<B: Backend>(&self, x: FloatTensor<B>) -> FloatTensor<B> {
        let x = B::float_reshape(x, dims(&self.merged));
        let over = |x, one: fn(FloatTensor<B>, usize) -> FloatTensor<B>| self.axes.iter().fold(x, |x, &axis| one(x, axis));
        let sum = |x| over(x, B::float_sum_dim);
        let square = |x: FloatTensor<B>| B::float_mul(x.clone(), x);
        let y = match self.how {
            How::Sum(1.0) => sum(x),
            How::Sum(scale) => B::float_mul_scalar(sum(x), scale.into()),
            How::Prod => over(x, B::float_prod_dim),
            How::Max => over(x, B::float_max_dim),
            How::Min => over(x, B::float_min_dim),
            How::L1 => sum(B::float_abs(x)),
            How::L2 => {
                // The root has no gradient at 0; there it is 0, as PyTorch has it.
                let sums = sum(square(x));
                let dtype = get_or_init_device_settings::<B>(&sums.device()).bool_dtype;
                let zero = B::float_equal_elem(B::float_detach(sums.clone()), 0.0f32.into(), dtype);
                let root = B::float_sqrt(B::float_mask_fill(sums, zero.clone(), 1.0f32.into()));
                B::float_mask_fill(root, zero, 0.0f32.into())
            }
            How::SumSquare => sum(square(x)),
            How::LogSum => B::float_log(sum(x)),
            How::LogSumExp => {
                // Moved by the largest, so that nothing overflows; by 0 where that is not finite.
                let largest = over(B::float_detach(x.clone()), B::float_max_dim);
                let dtype = get_or_init_device_settings::<B>(&largest.device()).bool_dtype;
                let infinite = B::float_is_inf(largest.clone(), dtype);
                let largest = B::float_mask_fill(largest, infinite, 0.0f32.into());
                let sums = sum(B::float_exp(B::float_sub(x, largest.clone())));
                B::float_add(B::float_log(sums), largest)
            }
        };
        B::float_reshape(y, dims(&self.shape))
    }
}
