//! Sums and means over axes.

use burn_backend::tensor::FloatTensor;
use burn_backend::{Backend, Shape};

use super::Kernel;
use crate::program::{NodeView, Planned, Problem, Tensor, Value};

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reduce {
    /// Runs of neighbouring reduced axes are merged into one before summing.
    merged: Vec<usize>,
    axes: Vec<usize>,
    /// 1 for a sum, 1 / elements for a mean.
    scale: f32,
    shape: Vec<usize>,
}

pub(super) fn reduce(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["axes", "keepdims", "noop_with_empty_axes"])?;
    let x = node.tensor(0)?;
    let given: Option<&[i64]> = match node.optional_ints(1)? {
        Some(ints) => Some(&ints.values),
        None => node.int_list("axes"),
    };
    let mut axes = given
        .unwrap_or_default()
        .iter()
        .map(|&a| node.axis(a, x.rank()))
        .collect::<Result<Vec<_>, _>>()?;
    axes.sort_unstable();
    axes.dedup();
    if axes.is_empty() {
        if node.flag("noop_with_empty_axes") {
            return Ok(Planned::Value(Value::Tensor(x.clone())));
        }
        axes = (0..x.rank()).collect();
    }
    plan(x, axes, node.int("keepdims", 1) != 0, node.op() == "ReduceMean")
}

/// `axes` ascending, without repeats.
pub(super) fn plan(x: &Tensor, axes: Vec<usize>, keep: bool, mean: bool) -> Result<Planned, Problem> {
    let reduced = |i: usize| axes.contains(&i);
    let count: usize = axes.iter().map(|&a| x.shape[a]).product();
    let dims = x.shape.iter().enumerate();
    let shape: Vec<usize> = dims
        .filter_map(|(i, &d)| if !reduced(i) { Some(d) } else { keep.then_some(1) })
        .collect();
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
    let scale = if mean { 1.0 / count.max(1) as f32 } else { 1.0 };
    Planned::run(
        Kernel::Reduce(Reduce {
            merged,
            axes: merged_axes,
            scale,
            shape: shape.clone(),
        }),
        &[x],
        shape,
    )
}

impl Reduce {
    pub(super) fn run<B: Backend>(&self, x: FloatTensor<B>) -> FloatTensor<B> {
        let mut y = B::float_reshape(x, Shape::from(self.merged.clone()));
        for &axis in &self.axes {
            y = B::float_sum_dim(y, axis);
        }
        if self.scale != 1.0 {
            y = B::float_mul_scalar(y, self.scale.into());
        }
        B::float_reshape(y, Shape::from(self.shape.clone()))
    }
}
