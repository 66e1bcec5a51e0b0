//! Transposed convolutions over one to three spatial dimensions.

use burn_backend::ops::ConvTransposeOptions;
use burn_backend::tensor::FloatTensor;
use burn_backend::{Backend, Slice, TensorMetadata};

use super::{Kernel, scratch, window};
use crate::program::{NodeView, Planned, Problem, refuse};

/// One spatial dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Axis {
    stride: usize,
    dilation: usize,
    /// What is cut off both ends of the full output.
    padding: usize,
    /// What is added behind the full output: only the bias is there.
    behind: usize,
    /// What is cut off in front besides; then as much is left as `output` says.
    skip: usize,
    output: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ConvTranspose {
    axes: Vec<Axis>,
    groups: usize,
}

pub(super) fn conv_transpose(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&[
        "auto_pad",
        "dilations",
        "group",
        "kernel_shape",
        "output_padding",
        "output_shape",
        "pads",
        "strides",
    ])?;
    let (x, w) = (node.tensor(0)?, node.tensor(1)?);
    let rank = window::spatial_rank(x, 3)?;
    let groups = window::groups(node)?;
    let features = w.shape.get(1).and_then(|f| f.checked_mul(groups));
    let Some(features) = features.filter(|_| w.rank() == x.rank() && w.shape[0] == x.shape[1] && w.shape[0].is_multiple_of(groups)) else {
        let problem = format!(
            "weights of shape {:?} in {groups} groups do not fit an input of shape {:?}",
            w.shape, x.shape
        );
        return Err(refuse(problem, "correct the shapes"));
    };
    let kernel = &w.shape[2..];
    window::check_kernel(node, kernel)?;
    let strides = node.sizes("strides", rank, 1, 1)?;
    let dilations = node.sizes("dilations", rank, 1, 1)?;
    let behind = node.sizes("output_padding", rank, 0, 0)?;
    let mut computed = vec![x.shape[0], features];
    let axes = (0..rank)
        .map(|i| {
            let span = (kernel[i] - 1).checked_mul(dilations[i]);
            let full = (x.shape[2 + i] - 1).checked_mul(strides[i]);
            let full = full.zip(span).and_then(|(a, b)| a.checked_add(b)?.checked_add(1 + behind[i]));
            let full = full.ok_or_else(|| refuse("its output is too long", "correct its attributes"))?;
            let (pads, added) = pads(node, i, rank, full, x.shape[2 + i] * strides[i])?;
            let (full, behind) = (full + added, behind[i] + added);
            let Some(output) = full.checked_sub(pads.0.saturating_add(pads.1)).filter(|&n| n > 0) else {
                let problem = format!("its pads {pads:?} leave nothing of an output of {full}");
                return Err(refuse(problem, "use smaller pads"));
            };
            // Where both ends lose the same, the backend cuts; else the output is cut afterwards.
            let padding = if pads.0 == pads.1 { pads.0 } else { 0 };
            computed.push(if padding == 0 { full } else { output });
            Ok(Axis {
                stride: strides[i],
                dilation: dilations[i],
                padding,
                behind,
                skip: pads.0 - padding,
                output,
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    scratch::check(&computed)?;
    let shape = [x.shape[0], features].into_iter().chain(axes.iter().map(|a| a.output)).collect();
    let operands = window::operands(node, features)?;
    Planned::run(Kernel::ConvTranspose(ConvTranspose { axes, groups }), &operands, shape)
}

/// What the full output of dimension `i` loses in front and behind, and how much more than it there is to be. `same`: the length that
/// SAME_UPPER and SAME_LOWER ask for.
fn pads(node: &NodeView<'_>, i: usize, rank: usize, full: usize, same: usize) -> Result<((usize, usize), usize), Problem> {
    let auto = window::auto_pad(node)?;
    let given = node.int_list("output_shape").filter(|list| !list.is_empty());
    let wanted = match (given, &auto) {
        (Some(_), _) => Some(node.sizes("output_shape", rank, 1, 1)?[i]),
        (None, window::AutoPad::SameUpper | window::AutoPad::SameLower) => Some(same),
        (None, _) => None,
    };
    let Some(wanted) = wanted else {
        let explicit = node.sizes("pads", 2 * rank, 0, 0)?;
        let none = matches!(auto, window::AutoPad::Valid);
        return Ok((if none { (0, 0) } else { (explicit[i], explicit[i + rank]) }, 0));
    };
    let total = full.saturating_sub(wanted);
    let (half, rest) = (total / 2, total - total / 2);
    let upper = matches!(auto, window::AutoPad::SameUpper);
    Ok((if upper { (half, rest) } else { (rest, half) }, wanted.saturating_sub(full)))
}

impl ConvTranspose {
    pub(super) fn run<B: Backend>(&self, x: FloatTensor<B>, w: FloatTensor<B>, bias: Option<FloatTensor<B>>) -> FloatTensor<B> {
        let y = match self.axes[..] {
            [a] => B::conv_transpose1d(x, w, bias, options([a], self.groups)),
            [a, b] => B::conv_transpose2d(x, w, bias, options([a, b], self.groups)),
            [a, b, c] => B::conv_transpose3d(x, w, bias, options([a, b, c], self.groups)),
            _ => unreachable!("the planner lets 1 to 3 spatial dimensions through"),
        };
        let shape = y.shape();
        if self.axes.iter().zip(&shape[2..]).all(|(axis, &len)| axis.output == len) {
            return y;
        }
        let kept = self.axes.iter().map(|a| a.skip..a.skip + a.output);
        let slices: Vec<Slice> = [0..shape[0], 0..shape[1]].into_iter().chain(kept).map(Slice::from).collect();
        B::float_slice(y, &slices)
    }
}

fn options<const N: usize>(axes: [Axis; N], groups: usize) -> ConvTransposeOptions<N> {
    ConvTransposeOptions::new(
        axes.map(|a| a.stride),
        axes.map(|a| a.padding),
        axes.map(|a| a.behind),
        axes.map(|a| a.dilation),
        groups,
    )
}
