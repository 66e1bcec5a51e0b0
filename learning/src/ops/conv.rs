//! Convolutions over one and two spatial dimensions.

use burn_backend::Backend;
use burn_backend::ops::ConvOptions;
use burn_backend::tensor::FloatTensor;

use super::{Kernel, window};
use crate::program::{NodeView, Planned, Problem, refuse};

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Conv {
    axes: Vec<window::Axis>,
    groups: usize,
}

pub(super) fn conv(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"])?;
    let (x, w, bias) = (node.tensor(0)?, node.tensor(1)?, node.optional_tensor(2)?);
    if !matches!(x.rank(), 3 | 4) {
        return Err(refuse(
            format!("its input has {} dimensions", x.rank()),
            "convolutions over 1 or 2 spatial dimensions are supported",
        ));
    }
    let groups = usize::try_from(node.int("group", 1)).ok().filter(|&g| g > 0);
    let groups = groups.ok_or_else(|| refuse(format!("its `group` is {}", node.int("group", 1)), "use 1 or more"))?;
    let (channels, features) = (x.shape[1], w.shape.first().copied().unwrap_or(0));
    let fits = w.rank() == x.rank()
        && !w.shape.contains(&0)
        && w.shape[1].checked_mul(groups) == Some(channels)
        && features.is_multiple_of(groups);
    if !fits {
        let problem = format!(
            "weights of shape {:?} in {groups} groups do not fit an input of shape {:?}",
            w.shape, x.shape
        );
        return Err(refuse(problem, "correct the shapes"));
    }
    let kernel = &w.shape[2..];
    if let Some(said) = node.int_list("kernel_shape")
        && !said.iter().copied().eq(kernel.iter().map(|&k| k as i64))
    {
        return Err(refuse(
            format!("its `kernel_shape` is {said:?}, its weights have {kernel:?}"),
            "correct the attribute",
        ));
    }
    let mut operands = vec![x, w];
    if let Some(bias) = bias {
        if bias.shape != [features] {
            return Err(refuse(
                format!("its bias has the shape {:?}, {features} features need [{features}]", bias.shape),
                "correct the shape",
            ));
        }
        operands.push(bias);
    }
    let axes = window::axes(node, &x.shape[2..], kernel, false)?;
    let shape = [x.shape[0], features].into_iter().chain(axes.iter().map(|a| a.output)).collect();
    Planned::run(Kernel::Conv(Conv { axes, groups }), &operands, shape)
}

impl Conv {
    pub(super) fn run<B: Backend>(&self, x: FloatTensor<B>, w: FloatTensor<B>, bias: Option<FloatTensor<B>>) -> FloatTensor<B> {
        match self.axes[..] {
            [a] => B::conv1d(
                x,
                w,
                bias,
                ConvOptions::new_with_padding([a.stride], [a.pads], [a.dilation], self.groups),
            ),
            [a, b] => {
                let (strides, dilations) = ([a.stride, b.stride], [a.dilation, b.dilation]);
                B::conv2d(
                    x,
                    w,
                    bias,
                    ConvOptions::new_with_padding(strides, [a.pads, b.pads], dilations, self.groups),
                )
            }
            _ => unreachable!("the planner lets 1 or 2 spatial dimensions through"),
        }
    }
}
