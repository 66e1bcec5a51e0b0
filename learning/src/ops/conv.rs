//! Convolutions over one to three spatial dimensions.

use burn_backend::Backend;
use burn_backend::ops::{ConvOptions, PadMode};
use burn_backend::tensor::FloatTensor;

use super::{Kernel, scratch, window};
use crate::program::{NodeView, Planned, Problem, Tensor, refuse};

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Conv {
    pub(crate) axes: Vec<window::Axis>,
    pub(crate) groups: usize,
}

pub(super) fn conv(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"])?;
    let (kernel, shape) = planned(node, node.tensor(0)?, node.tensor(1)?)?;
    Planned::run(Kernel::Conv(kernel), &window::operands(node, shape[1])?, shape)
}

/// The convolution of `x` with the weights `w`, and the shape of what comes out.
pub(super) fn planned(node: &NodeView<'_>, x: &Tensor, w: &Tensor) -> Result<(Conv, Vec<usize>), Problem> {
    window::spatial_rank(x, 3)?;
    let groups = window::groups(node)?;
    let (channels, features) = (x.shape[1], w.shape.first().copied().unwrap_or(0));
    let fits = w.rank() == x.rank() && w.shape[1].checked_mul(groups) == Some(channels) && features.is_multiple_of(groups);
    if !fits {
        let problem = format!(
            "weights of shape {:?} in {groups} groups do not fit an input of shape {:?}",
            w.shape, x.shape
        );
        return Err(refuse(problem, "correct the shapes"));
    }
    let kernel = &w.shape[2..];
    window::check_kernel(node, kernel)?;
    let axes = window::axes(node, &x.shape[2..], kernel, false)?;
    let padded = axes.iter().zip(&x.shape[2..]).map(|(a, &len)| len + a.pads.0 + a.pads.1);
    scratch::check(&x.shape[..2].iter().copied().chain(padded).collect::<Vec<_>>())?;
    let shape = [x.shape[0], features].into_iter().chain(axes.iter().map(|a| a.output)).collect();
    Ok((Conv { axes, groups }, shape))
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
            [a, b, c] => {
                let axes = [a, b, c];
                let (x, pads) = if axes.iter().all(window::Axis::is_symmetric) {
                    (x, axes.map(|a| a.pads.0))
                } else {
                    let pads = [(0, 0), (0, 0), a.pads, b.pads, c.pads];
                    (B::float_pad(x, &pads, PadMode::Constant(0.0)), [0; 3])
                };
                let options = ConvOptions::new(axes.map(|a| a.stride), pads, axes.map(|a| a.dilation), self.groups);
                B::conv3d(x, w, bias, options)
            }
            _ => unreachable!("the planner lets 1 to 3 spatial dimensions through"),
        }
    }
}
